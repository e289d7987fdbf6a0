// One page for a viewer and a host. It keeps the scene by the rules of docs/PROTOCOL.md: snapshot, then entries in order;
// a frame that begins behind our position means that something is missing, and then it comes back and resumes.

const $ = (id) => document.getElementById(id);
const params = new URLSearchParams(location.hash.slice(1));
const show = params.get("show");
const tokens = { viewer: params.get("viewer"), host: params.get("host"), guest: sessionStorage.getItem("guest") };

const model = { scene: null, gauges: {}, epoch: null, position: 0, mine: null, ownSeqs: new Set(), votes: {}, offset: 0, trip: Infinity };
const pending = new Map(); // what the buyer has under way, by sale

// ---- Little things ---------------------------------------------------------------------------------------------------

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((it) => it !== null && it !== undefined));
  return node;
}

function money(minor, currency) {
  const format = new Intl.NumberFormat(navigator.language, { style: "currency", currency });
  return format.format(minor / 10 ** format.resolvedOptions().maximumFractionDigits);
}

const serverNow = () => Date.now() + model.offset;

function left(until) {
  const seconds = Math.max(0, Math.ceil((until - serverNow()) / 1000));
  return `${String(Math.floor(seconds / 60)).padStart(2, "0")}:${String(seconds % 60).padStart(2, "0")}`;
}

// A countdown is the absolute moment; every second it is written anew from the server's clock.
const clock = (until) => el("span", { className: "clock", ariaLabel: "time left" }, Object.assign(document.createTextNode(left(until)), { until }));
setInterval(() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) if (node.until) node.data = left(node.until);
}, 250);

function say(text, bad = false) {
  $("line").textContent = text;
  $("line").className = bad ? "bad" : "quiet";
}

// ---- HTTP ------------------------------------------------------------------------------------------------------------

async function call(method, path, body, { token = tokens.host, key, again } = {}) {
  const headers = { authorization: `Bearer ${token}` };
  if (method === "POST") headers["idempotency-key"] = key ?? crypto.randomUUID();
  if (again) headers["idempotency-retry"] = "true";
  if (body !== undefined) headers["content-type"] = "application/json";
  const response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw Object.assign(new Error(answer.detail ?? response.statusText), { answer, status: response.status });
  return answer;
}

// Runs what somebody clicked, and says what went wrong.
async function act(what, run) {
  try {
    await run();
    say(what);
  } catch (error) {
    say(error.message, true);
  }
  if (tokens.host) refreshDesk();
}

// ---- The socket ------------------------------------------------------------------------------------------------------

let socket;
let attempts = 0;

function connect() {
  const query = new URLSearchParams();
  if (model.scene && model.epoch) query.set("since", `${model.epoch}.${model.position}`);
  const token = tokens.viewer ?? tokens.host ?? tokens.guest;
  const protocols = token ? ["showcart.v1", `token.${token}`] : ["showcart.v1"];
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/shows/${show}/live?${query}`, protocols);
  const mine = socket;
  let timer;
  const heard = (ms) => {
    clearTimeout(timer);
    timer = setTimeout(() => mine.close(), ms);
  };
  heard(15_000);
  let silence = 40_000;
  let delay = 1_000;
  socket.onmessage = ({ data }) => {
    heard(silence);
    const message = JSON.parse(data);
    if (message.type === "hello") {
      attempts = 0;
      silence = message.heartbeat_ms + 10_000;
      delay = message.reconnect_ms;
      if (!message.resumed && message.epoch !== model.epoch) model.scene = null;
      model.epoch = message.epoch;
      if (message.guest_token) {
        tokens.guest = message.guest_token;
        sessionStorage.setItem("guest", message.guest_token);
      }
      say(`watching as ${message.role}`);
      for (const wait of [0, 500, 1500]) setTimeout(() => mine.readyState === 1 && mine.send(JSON.stringify({ type: "time", echo: performance.now() })), wait);
    } else if (message.type === "bye") {
      setTimeout(() => mine.close(), message.delay_ms);
    } else {
      hear(message);
    }
  };
  socket.onclose = ({ code, reason }) => {
    clearTimeout(timer);
    if (mine !== socket) return;
    if (code >= 4000 && code < 4100) return say(`closed: ${reason || code}`, true);
    // Full jitter: a crowd that lost its node does not come back in one second.
    const wait = Math.random() * Math.min(20_000, delay * 2 ** attempts++);
    say(`not connected, again in ${Math.ceil(wait / 1000)} s`, true);
    setTimeout(connect, wait);
  };
}

function hear(message) {
  switch (message.type) {
    case "time": {
      const trip = performance.now() - message.echo;
      if (trip < model.trip) {
        model.trip = trip;
        model.offset = message.t + trip / 2 - Date.now();
      }
      return;
    }
    case "snapshot":
      model.scene = message.scene;
      model.epoch = message.epoch;
      model.position = message.seq;
      model.gauges = {};
      takeGauges(message.gauges);
      break;
    case "frame":
      if (!model.scene) return;
      if (message.after > model.position) return socket.close(); // Something is missing: come back and resume.
      for (const entry of message.entries ?? []) {
        if (entry.seq > model.position) apply(entry);
      }
      model.position = Math.max(model.position, message.upto);
      takeGauges(message.gauges);
      if (Object.keys(message.gauges ?? {}).some((name) => name !== "viewers")) refreshSoon();
      break;
    case "mine":
      model.mine = message;
      Object.assign(model.votes, message.votes ?? {});
      break;
    case "own":
      for (const entry of message.entries) {
        if (entry.seq <= (model.mine?.seq ?? 0) || model.ownSeqs.has(entry.seq)) continue;
        model.ownSeqs.add(entry.seq);
        own(entry);
      }
      break;
    case "voted":
      model.votes[message.poll_id] = message.choice;
      break;
    case "problem":
      say(message.problem.detail, true);
      break;
  }
  draw();
}

function takeGauges(gauges) {
  for (const [name, gauge] of Object.entries(gauges ?? {})) {
    if (!model.gauges[name] || model.gauges[name][0] < gauge[0]) model.gauges[name] = gauge;
  }
}

function apply({ type, data, at }) {
  const scene = model.scene;
  for (const name of ["sales", "polls", "banners", "timers"]) scene[name] ??= {};
  switch (type) {
    case "show.started": Object.assign(scene.show, { state: "live", started_at: data.started_at }); break;
    case "show.ended":
      Object.assign(scene.show, { state: "ended", ended_at: data.ended_at });
      Object.assign(scene, { banners: {}, timers: {}, polls: {} });
      break;
    case "pin.set": scene.pin = data; break;
    case "pin.cleared": scene.pin = null; break;
    case "sale.armed": scene.sales[data.sale_id] = { ...data, state: "armed", sold_out: false }; break;
    case "sale.started": scene.sales[data.sale_id] = { ...data, state: "running", sold_out: false }; break;
    case "sale.changed": if (scene.sales[data.sale_id]) scene.sales[data.sale_id].cap = data.cap; break;
    case "sale.ended": delete scene.sales[data.sale_id]; break;
    case "sale.sold_out": if (scene.sales[data.sale_id]) scene.sales[data.sale_id].sold_out = true; break;
    case "sale.restocked": if (scene.sales[data.sale_id]) scene.sales[data.sale_id].sold_out = false; break;
    case "banner.shown": scene.banners[data.overlay_id] = data; break;
    case "banner.hidden": delete scene.banners[data.overlay_id]; break;
    case "timer.started":
    case "timer.changed": scene.timers[data.overlay_id] = data; break;
    case "timer.stopped": delete scene.timers[data.overlay_id]; break;
    case "poll.opened": scene.polls[data.poll_id] = data; break;
    case "poll.closed": delete scene.polls[data.poll_id]; break;
  }
}

function own({ type, data }) {
  if (type === "order.confirmed") {
    say(`order confirmed: ${money(data.amount_minor, data.currency)}`);
    for (const [sale, it] of pending) if (it.hold_id === data.hold_id) pending.set(sale, { done: true });
    model.mine?.orders.push({ order_id: data.order_id, amount_minor: data.amount_minor, currency: data.currency, state: "paid" });
  }
  if (type === "hold.expired") {
    say("your hold has run out", true);
    for (const [sale, it] of pending) if (it.hold_id === data.hold_id) pending.delete(sale);
  }
}

// ---- The stage -------------------------------------------------------------------------------------------------------

let pinVersion;

function draw() {
  const scene = model.scene;
  if (!scene) return;
  $("title").textContent = scene.show.title;
  $("state").textContent = scene.show.state;
  $("state").className = `tag ${scene.show.state}`;
  const viewers = model.gauges.viewers?.[1];
  $("viewers").textContent = viewers === undefined ? "" : `${viewers} watching`;

  $("banners").replaceChildren(...Object.values(scene.banners ?? {}).map((it) => el("div", { className: "card" }, el("strong", {}, it.text))));
  $("timers").replaceChildren(...Object.values(scene.timers ?? {}).map((it) => el("div", { className: "card row" }, el("span", {}, it.label), clock(it.ends_at))));
  if (scene.pin?.version !== pinVersion || !scene.pin) drawPin(scene.pin);
  $("sales").replaceChildren(...Object.values(scene.sales ?? {}).map(sale));
  $("polls").replaceChildren(...Object.values(scene.polls ?? {}).map(poll));
  const orders = model.mine?.orders ?? [];
  $("mine").replaceChildren(...(orders.length ? [el("div", { className: "card" }, el("h3", {}, "Your orders"),
    ...orders.map((it) => el("p", {}, `${money(it.amount_minor, it.currency)} — ${it.state}`)))] : []));
  const gmv = model.gauges.gmv?.[1];
  if (gmv) $("gmv").textContent = `${money(gmv.gmv_minor, gmv.currency)} in ${gmv.orders} orders`;
}

function drawPin(pin) {
  pinVersion = pin?.version;
  if (!pin) return $("pin").replaceChildren();
  const { product } = pin;
  const entering = pin.animate_until > serverNow();
  $("pin").replaceChildren(el("article", { className: `card ${entering ? "entering" : ""}` },
    el("span", { className: "quiet" }, "on screen now"),
    el("h3", {}, product.variant ? `${product.title}, ${product.variant}` : product.title),
    el("p", {}, el("span", { className: "price" }, money(product.price_minor, product.currency)),
      product.compare_at_minor ? el("span", { className: "was" }, money(product.compare_at_minor, product.currency)) : null)));
}

function sale(it) {
  const counts = model.gauges[`units:${it.sale_id}`]?.[1];
  const under = pending.get(it.sale_id);
  let line = "";
  if (it.sold_out) line = "sold out";
  else if (counts?.left > 0) line = `${counts.left} left`;
  else if (counts) line = `all ${counts.in_checkout} in checkout; some may come back`;
  const buttons = [];
  if (tokens.viewer && it.state === "running" && !it.sold_out && !under) buttons.push(el("button", { onclick: () => buy(it) }, "Buy"));
  if (under?.order) {
    buttons.push(el("button", { onclick: () => confirmPayment(it, "tok_success") }, "Pay"),
      el("button", { className: "small", onclick: () => confirmPayment(it, "tok_decline") }, "Pay with a card that is declined"),
      el("button", { className: "small stop", onclick: () => letGo(it) }, "Let go"));
  }
  return el("article", { className: "card" },
    el("h3", {}, it.product.title),
    el("p", {}, el("span", { className: "price" }, money(it.price_minor, it.currency)),
      el("span", { className: "was" }, money(it.product.price_minor, it.currency))),
    el("p", { className: it.sold_out ? "bad" : "" }, line),
    it.state === "armed" ? el("p", {}, "starts in ", clock(it.starts_at)) : it.ends_at ? el("p", {}, "ends in ", clock(it.ends_at)) : null,
    under?.deadline ? el("p", {}, "yours until ", clock(under.deadline)) : null,
    under?.waiting ? el("p", { className: "quiet" }, under.waiting) : null,
    under?.done ? el("p", { className: "good" }, "order confirmed") : null,
    el("div", { className: "row" }, ...buttons));
}

function poll(it) {
  const tally = model.gauges[`poll:${it.poll_id}`]?.[1];
  const counts = tally?.counts ?? tally ?? [];
  const total = counts.reduce((sum, count) => sum + count, 0);
  const mine = model.votes[it.poll_id];
  return el("article", { className: "card" },
    el("h3", {}, it.question),
    ...it.choices.map((choice, index) => {
      const share = total ? Math.round(100 * (counts[index] ?? 0) / total) : 0;
      const fill = el("i");
      fill.style.width = `${share}%`;
      return el("button", { className: `bar ${mine === index ? "mine" : ""}`, disabled: mine !== undefined, onclick: () => vote(it, index) },
        fill, el("span", {}, choice, el("span", {}, `${share} %`)));
    }),
    el("p", { className: "quiet" }, `${total} votes`, it.ends_at ? el("span", {}, ", closes in ", clock(it.ends_at)) : null));
}

const vote = (it, choice) => socket.send(JSON.stringify({ type: "vote", poll_id: it.poll_id, choice }));

// ---- Buying ----------------------------------------------------------------------------------------------------------

async function buy(it) {
  // The key survives a reload, so that a tap whose answer was lost is the same tap when it is repeated.
  const name = `key:${it.sale_id}`;
  const again = sessionStorage.getItem(name) !== null;
  const key = sessionStorage.getItem(name) ?? crypto.randomUUID();
  sessionStorage.setItem(name, key);
  pending.set(it.sale_id, { waiting: "asking…" });
  draw();
  try {
    const body = { lines: [{ sale_id: it.sale_id, quantity: 1 }], seen: { price_minor: it.price_minor, position: model.position } };
    const hold = await call("POST", `/v1/shows/${show}/holds`, body, { token: tokens.viewer, key, again });
    pending.set(it.sale_id, { hold_id: hold.hold_id, deadline: hold.expires_at, waiting: "yours; bringing the payment to the provider…" });
    draw();
    let order = await call("POST", "/v1/orders", { hold_id: hold.hold_id }, { token: tokens.viewer });
    while (order.payment.state === "creating") {
      pending.set(it.sale_id, { hold_id: hold.hold_id, waiting: `in line for the payment provider: ${order.payment.line} before you` });
      draw();
      await new Promise((resolve) => setTimeout(resolve, 1000));
      order = await call("GET", `/v1/orders/${order.order_id}`, undefined, { token: tokens.viewer });
    }
    pending.set(it.sale_id, { hold_id: hold.hold_id, order, deadline: order.payment.deadline });
  } catch (error) {
    pending.delete(it.sale_id);
    sessionStorage.removeItem(name);
    const wait = error.answer?.retry_after_ms;
    say(wait ? `${error.message} Try again in ${Math.ceil(wait / 1000)} s.` : error.message, true);
  }
  draw();
}

async function confirmPayment(it, method) {
  const { order } = pending.get(it.sale_id);
  const { provider_url, intent_id, client_secret } = order.payment;
  const response = await fetch(`${provider_url}/v1/payment_intents/${intent_id}/confirm`, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ client_secret, payment_method: method }),
  });
  const answer = await response.json();
  say(response.ok ? "paid; waiting for the confirmation" : `${answer.message} The sandbox moves no real money.`, !response.ok);
  if (response.ok) {
    sessionStorage.removeItem(`key:${it.sale_id}`);
    pending.set(it.sale_id, { hold_id: order.hold_id, waiting: "paid; waiting for the confirmation" });
    draw();
  }
}

async function letGo(it) {
  const { hold_id } = pending.get(it.sale_id);
  await act("let go", () => call("DELETE", `/v1/holds/${hold_id}`, undefined, { token: tokens.viewer }));
  sessionStorage.removeItem(`key:${it.sale_id}`);
  pending.delete(it.sale_id);
  draw();
}

// ---- The desk --------------------------------------------------------------------------------------------------------

let refreshing;

// What moves the counters moves the desk's tables too; a burst of it is one look.
function refreshSoon() {
  if (!tokens.host || refreshing) return;
  refreshing = setTimeout(() => {
    refreshing = undefined;
    refreshDesk();
  }, 500);
}

async function refreshDesk() {
  try {
    const [lineup, sales, orders] = await Promise.all([
      call("GET", `/v1/shows/${show}/lineup`), call("GET", `/v1/shows/${show}/sales`), call("GET", `/v1/shows/${show}/orders?limit=500`),
    ]);
    const running = sales.filter((it) => it.state !== "ended");
    $("lineup").replaceChildren(el("table", {}, ...lineup.map((it) => el("tr", {},
      el("td", {}, it.title, el("br"), el("span", { className: "quiet" }, `${it.left} left, ${it.held} held, ${it.sold} sold`)),
      el("td", {}, el("button", { className: "small", onclick: () => act("pinned", () => call("PUT", `/v1/shows/${show}/pin`, { product_id: it.product_id })) }, "Pin"))))),
      el("div", { className: "row" }, el("button", { className: "small", onclick: () => act("unpinned", () => call("DELETE", `/v1/shows/${show}/pin`)) }, "Take the pin off")),
      ...running.map((it) => el("p", {}, `sale at ${money(it.price_minor, lineup[0]?.currency ?? "EUR")}: ${it.sold} of ${it.cap} sold `,
        el("button", { className: "small stop", onclick: () => act("sale ended", () => call("POST", `/v1/shows/${show}/sales/${it.sale_id}/end`, { version: it.version })) }, "End"))));
    const select = $("new-sale").elements.product_id;
    const chosen = select.value;
    select.replaceChildren(...lineup.map((it) => el("option", { value: it.product_id }, it.title)));
    if (chosen) select.value = chosen;
    $("orders").replaceChildren(el("table", {}, ...orders.items.slice(-10).reverse().map((it) => el("tr", {},
      el("td", {}, `${it.buyer}`, el("br"), el("span", { className: "quiet" }, `${money(it.amount_minor, it.currency)} ${it.state}`)),
      el("td", {}, it.state === "paid" && it.refunded_minor === 0
        ? el("button", { className: "small", onclick: () => act("refunded", () => call("POST", `/v1/orders/${it.order_id}/refunds`, { restock: true })) }, "Refund") : "")))));
  } catch (error) {
    say(error.message, true);
  }
}

function desk() {
  $("desk").hidden = false;
  for (const button of document.querySelectorAll("[data-do]")) {
    button.addEventListener("click", () => act(`show ${button.dataset.do}ed`, () => call("POST", `/v1/shows/${show}/${button.dataset.do}`, {})));
  }
  const form = (id, submit) => $(id).addEventListener("submit", (event) => {
    event.preventDefault();
    const fields = Object.fromEntries(new FormData(event.target, event.submitter));
    submit(fields);
  });
  form("new-sale", ({ product_id, percent_off, cap, limit_per_buyer, seconds }) => act("sale started", () => call("POST", `/v1/shows/${show}/sales`, {
    product_id, percent_off: Number(percent_off), cap: Number(cap), limit_per_buyer: Number(limit_per_buyer), duration_ms: Number(seconds) * 1000,
  })));
  form("new-poll", ({ question, choices, seconds }) => act("poll opened", () => call("POST", `/v1/shows/${show}/polls`, {
    question, choices: choices.split("\n").map((it) => it.trim()).filter(Boolean), duration_ms: Number(seconds) * 1000,
  })));
  form("new-banner", ({ kind, text, seconds }) => act("on screen", () => call("POST", `/v1/shows/${show}/${kind}`,
    kind === "banners" ? { text, duration_ms: Number(seconds) * 1000 } : { label: text, duration_ms: Number(seconds) * 1000 })));
  refreshDesk();
}

// ---- Coming in -------------------------------------------------------------------------------------------------------

window.addEventListener("hashchange", () => location.reload());
if (show) {
  $("watch").hidden = false;
  $("watch").classList.toggle("alone", !tokens.host);
  if (tokens.host) desk();
  connect();
} else {
  $("entrance").hidden = false;
  $("enter").addEventListener("submit", (event) => {
    event.preventDefault();
    const fields = new FormData(event.target);
    location.hash = new URLSearchParams([...fields].filter(([, value]) => value)).toString();
  });
}
