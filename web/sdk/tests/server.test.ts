/** The SDK against the real server, through a proxy that cuts, delays, stalls and doubles. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { isDeepStrictEqual } from "node:util";
import WebSocket from "ws";
import { MemoryStorage } from "./fake.js";
import { soon, until } from "./patience.js";
import { CALM, Proxy, type Weather } from "./proxy.js";
import { type Random, seeded } from "./random.js";
import {
  ClosedError,
  connect,
  type Entry,
  type LocalClock,
  type Pin,
  type PollId,
  type ProductId,
  type SaleId,
  type Scene,
  type Show,
  type ShowId,
  type ShowOptions,
} from "./sdk.js";
import { Host, Server } from "./server.js";

/** Further seeds can be tried with SEEDS=7,8,9. */
const SEEDS = (process.env["SEEDS"] ?? "1,2").split(",").map(Number);
const STORM: Weather = { double: 0.2, delay: 0.15, delayMs: 80, cut: 0.04, stall: 0.01, lose: 0.25 };
const GUESTS = 3;
const BUYERS = 3;
const ROUNDS = 6;

let server: Server;
let host: Host;

before(async () => {
  // A heartbeat each second, so that a stalled line is noticed after two.
  server = await Server.start({ HEARTBEAT_S: "1" });
  host = new Host(server);
});

after(() => server.remove());

/** A browser that watches, and what its page heard. */
class Browser {
  readonly show: Show;
  readonly entries: Entry[] = [];
  readonly errors: unknown[] = [];
  /** How often it was connected. */
  connections = 0;
  /** What the server said, by type. */
  readonly heard: string[] = [];

  constructor(
    options: Omit<ShowOptions, "environment">,
    random: Random,
    storage = new MemoryStorage(),
    clock?: LocalClock,
  ) {
    this.show = connect({
      ...options,
      environment: {
        socket: (url, protocols) => {
          const socket = new WebSocket(url, protocols);
          socket.on("message", (data) => this.heard.push((JSON.parse(String(data)) as { type: string }).type));
          return socket;
        },
        storage,
        ...(clock === undefined ? {} : { clock }),
        // A tenth of the usual waits: the jitter is what is waited for.
        random: () => random() / 10,
        reportError: (error) => void this.errors.push(error),
      },
    });
    this.show.onEntry((entry) => this.entries.push(entry));
    this.show.connection.subscribe(({ status }) => {
      if (status === "open") this.connections += 1;
    });
  }

  /** Entries for everybody, by their place in the log. */
  get seqs(): number[] {
    return this.entries.map((it) => it.seq);
  }

  async hasScene(): Promise<Scene> {
    const scene = await until("the first snapshot", this.show.scene, (it) => it !== null);
    return scene ?? assert.fail("there is a scene");
  }
}

interface Stage {
  readonly showId: ShowId;
  readonly products: readonly ProductId[];
  readonly path: string;
}

/** A live show with two products. */
async function stage(title: string): Promise<Stage> {
  const { show_id: showId } = await host.call<{ show_id: ShowId }>("POST", "/v1/shows", {
    title,
    currency: "EUR",
    guests_vote: true,
  });
  const path = `/v1/shows/${showId}`;
  const products: ProductId[] = [];
  for (const sku of ["lamp", "pan"]) {
    const product = { title: `The ${sku}`, price_minor: 2_500, currency: "EUR", on_hand: 100 };
    const { product_id } = await host.call<{ product_id: ProductId }>("PUT", `/v1/products/${title}-${sku}`, product);
    await host.call("PUT", `${path}/lineup/${product_id}`, { allocated: 50 });
    products.push(product_id);
  }
  await host.call("POST", `${path}/start`);
  return { showId, products, path };
}

/** Starts a sale of the first product. */
async function startSale({ path, products }: Stage, cap: number): Promise<SaleId> {
  const sale = { product_id: products[0], percent_off: 30, cap, limit_per_buyer: 1 };
  return (await host.call<{ sale_id: SaleId }>("POST", `${path}/sales`, sale)).sale_id;
}

/** A banner that says that nothing follows. */
async function sayTheEnd({ path }: Stage, browsers: readonly Browser[]): Promise<void> {
  const { overlay_id } = await host.call<{ overlay_id: string }>("POST", `${path}/banners`, { text: "The end" });
  const isThere = (banners: Scene["banners"] | null) => banners !== null && overlay_id in banners;
  await Promise.all(
    browsers.map(({ show }, index) => until(`browser ${index} sees the end`, show.part("banners"), isThere)),
  );
}

for (const seed of SEEDS) {
  test(
    `through a storm every entry comes once, in order, and every vote and every purchase counts once (seed ${seed})`,
    { timeout: 120_000 },
    async (t) => {
      const random = seeded(seed);
      const set = await stage(`storm-${seed}`);
      const proxy = await Proxy.open(random, () => server.port);
      t.after(() => proxy.close());
      const guest = (address: string) => new Browser({ server: address, showId: set.showId }, random);
      const witness = guest(server.address);
      const buyers = Array.from({ length: BUYERS }, (_, index) => {
        const token = server.token("viewer", `buyer-${index}`);
        return new Browser({ server: proxy.address, showId: set.showId, token }, random);
      });
      const viewers = [...Array.from({ length: GUESTS }, () => guest(proxy.address)), ...buyers];
      const all = [witness, ...viewers];
      t.after(() => all.forEach(({ show }) => show.close()));
      await Promise.all(all.map((it) => it.hasScene()));

      proxy.weather = STORM;
      const votes = new Map<PollId, number[]>();
      const sales: SaleId[] = [];
      for (let round = 0; round < ROUNDS; round += 1) sales.push(await oneRound(set, round, viewers, buyers, votes));
      proxy.weather = CALM;
      await sayTheEnd(set, all);

      const fresh = guest(server.address);
      t.after(() => fresh.show.close());
      const truth = await fresh.hasScene();
      const reconnects = viewers.reduce((sum, it) => sum + it.connections - 1, 0);
      t.diagnostic(`${witness.entries.length} entries, ${reconnects} reconnects, ${JSON.stringify(proxy.counts)}`);
      assert.ok(
        reconnects > 0 && proxy.counts.doubled > 0 && proxy.counts.delayed > 0 && proxy.counts.lost > 0,
        "there was a storm",
      );
      for (const [index, viewer] of viewers.entries()) {
        assert.deepEqual(viewer.show.scene.get(), truth, `the scene of viewer ${index}`);
        assert.deepEqual(viewer.entries, witness.entries, `the entries of viewer ${index}`);
        assert.deepEqual(viewer.errors, []);
      }
      for (const saleId of sales) {
        const units = fresh.show.gauge(`units:${saleId}`).get();
        assert.equal(units?.in_checkout, BUYERS, "each buyer has one unit");
        for (const { show } of viewers)
          await until("the last value", show.gauge(`units:${saleId}`), (it) => isDeepStrictEqual(it, units));
      }
      assert.deepEqual(
        witness.seqs,
        [...new Set(witness.seqs)].sort((a, b) => a - b),
        "the witness heard each once, in order",
      );
      const results = witness.entries.filter((it) => it.type === "poll.closed").map(({ data }) => data);
      assert.equal(results.length, ROUNDS);
      for (const { poll_id, counts } of results) {
        const cast = votes.get(poll_id) ?? assert.fail(poll_id);
        assert.deepEqual(
          counts,
          [0, 1].map((choice) => cast.filter((it) => it === choice).length),
          poll_id,
        );
      }
    },
  );
}

/** What a host does in a few seconds, while everybody votes and some buy. */
async function oneRound(
  set: Stage,
  round: number,
  viewers: readonly Browser[],
  buyers: readonly Browser[],
  votes: Map<PollId, number[]>,
): Promise<SaleId> {
  const { path, products } = set;
  const { poll_id } = await host.call<{ poll_id: PollId }>("POST", `${path}/polls`, {
    question: `Round ${round}?`,
    choices: ["yes", "no"],
  });
  const cast = viewers.map(({ show }, index) =>
    soon(`a vote in round ${round}`, show.vote(poll_id, (index + round) % 2)),
  );
  await host.call("PUT", `${path}/pin`, { product_id: products[round % 2] });
  const banner = await host.call("POST", `${path}/banners`, { text: `Round ${round}` });
  const timer = await host.call("POST", `${path}/timers`, { label: `Round ${round}`, duration_ms: 600_000 });
  // One unit for each buyer, and not one more: who asks twice takes another one's.
  const saleId = await startSale(set, buyers.length);
  const bought = buyers.map(({ show }) =>
    soon(`a hold in round ${round}`, show.checkout.hold([{ sale_id: saleId, quantity: 1 }])),
  );
  await host.call("POST", `${path}/timers/${timer["overlay_id"]}/extend`, { by_ms: 60_000 });
  // One overlay of each round stays on stage.
  if (round % 2 === 0) await host.call("DELETE", `${path}/banners/${banner["overlay_id"]}`);
  else await host.call("POST", `${path}/timers/${timer["overlay_id"]}/stop`);
  votes.set(poll_id, await Promise.all(cast));
  assert.deepEqual(
    (await Promise.all(bought)).map((it) => it.status),
    buyers.map(() => "held"),
  );
  await host.call("POST", `${path}/sales/${saleId}/end`);
  if (round % 3 === 0) await host.call("DELETE", `${path}/pin`);
  await host.call("POST", `${path}/polls/${poll_id}/close`);
  return saleId;
}

test("a purchase whose answer was lost goes on after a reload: the same hold, paid once, and the counter falls", async (t) => {
  const random = seeded(3);
  const set = await stage("purchase");
  const saleId = await startSale(set, 5);
  const proxy = await Proxy.open(random, () => server.port);
  const other = new Browser({ server: server.address, showId: set.showId }, random);
  const desk = new Browser({ server: server.address, showId: set.showId, token: host.token }, random);
  const storage = new MemoryStorage();
  const token = server.token("viewer", "ann");
  const reload = () => new Browser({ server: proxy.address, showId: set.showId, token }, random, storage);
  const before = reload();
  t.after(() => {
    for (const { show } of [other, desk, before]) show.close();
    proxy.close();
  });
  await Promise.all([other, desk, before].map((it) => it.hasScene()));

  // The server grants the hold, and the buyer does not hear of it.
  const lines = [{ sale_id: saleId, quantity: 1 }];
  proxy.weather = { ...CALM, lose: 1 };
  const lost = assert.rejects(before.show.checkout.hold(lines), ClosedError);
  await until("the unit is in checkout", other.show.gauge(`units:${saleId}`), (it) => it?.in_checkout === 1);
  before.show.close();
  await lost;
  proxy.cutAll();
  proxy.weather = CALM;

  const page = reload();
  t.after(() => page.show.close());
  const { show } = page;
  const mine = await until("the buyer's own list", show.mine, (it) => it !== null);
  const pending = await show.checkout.unanswered();
  assert.deepEqual(
    pending.map((it) => it.lines),
    [lines],
  );
  const held = await soon("the hold again", show.checkout.hold(lines));
  assert.ok(held.status === "held", JSON.stringify(held));
  assert.deepEqual(
    mine?.holds.map((it) => it.hold_id),
    [held.hold.hold_id],
  );
  assert.deepEqual(await show.checkout.unanswered(), []);
  const sales = await host.call<{ sale_id: SaleId; held: number }[]>("GET", `${set.path}/sales`);
  assert.equal(sales.find((it) => it.sale_id === saleId)?.held, 1);

  // Another tap is another wish, and gets an answer that a page can show.
  const again = await soon("another tap", show.checkout.hold(lines));
  assert.deepEqual(again, { status: "hold_open", hold_id: held.hold.hold_id });

  // The bank asks, the buyer answers, the provider's word makes the order paid.
  const confirmed = new Promise<Entry<"order.confirmed">>((resolve) => show.on("order.confirmed", resolve));
  const paid = await soon("the order", show.checkout.pay(held.hold.hold_id));
  assert.ok(paid.status === "open", JSON.stringify(paid));
  assert.equal((await soon("a decline", show.sandbox.confirm(paid.order, "tok_decline"))).error?.code, "card_declined");
  assert.equal(
    (await soon("the bank's question", show.sandbox.confirm(paid.order, "tok_3ds"))).status,
    "requires_action",
  );
  assert.equal((await soon("the buyer's answer", show.sandbox.authenticate(paid.order, "pass"))).status, "succeeded");
  assert.equal((await soon("the confirmation", confirmed)).data.order_id, paid.order.order_id);
  await until("the order is paid", show.mine, (it) => it?.orders.some((order) => order.state === "paid") === true);
  await until(
    "the counter of the other viewer",
    other.show.gauge(`units:${saleId}`),
    (it) => it?.sold === 1 && it.left === 4,
  );
  const gmv = await until("the desk's gauge", desk.show.gauge("gmv"), (it) => it?.orders === 1);
  assert.equal(gmv?.gmv_minor, paid.order.amount_minor);
  const told = desk.entries.filter((it) => it.type === "order.paid");
  assert.deepEqual(
    told.map(({ data }) => [data.buyer, data.order_id]),
    [["ann", paid.order.order_id]],
  );
  assert.equal(other.entries.filter((it) => it.type.startsWith("order.")).length, 0, "nobody else hears of it");
  const { items } = await soon("the buyer's orders", show.checkout.myOrders({ limit: 10 }));
  assert.deepEqual(
    items.map((it) => [it.order_id, it.state]),
    [[paid.order.order_id, "paid"]],
  );
  assert.deepEqual(await show.checkout.release(held.hold.hold_id), { status: "already_paid" });
  assert.equal((await show.checkout.order(paid.order.order_id)).state, "paid");
  assert.deepEqual(page.errors, []);
});

test("the last unit: in somebody's checkout, then sold out", async (t) => {
  const random = seeded(4);
  const set = await stage("last-unit");
  const saleId = await startSale(set, 1);
  const buyer = (name: string) =>
    new Browser({ server: server.address, showId: set.showId, token: server.token("viewer", name) }, random);
  const [ann, bob] = [buyer("ann"), buyer("bob")];
  t.after(() => [ann, bob].forEach(({ show }) => show.close()));
  await Promise.all([ann.hasScene(), bob.hasScene()]);
  const lines = [{ sale_id: saleId, quantity: 1 }];
  const held = await soon("the hold", ann.show.checkout.hold(lines));
  assert.ok(held.status === "held");
  const refused = await soon("the refusal", bob.show.checkout.hold(lines));
  assert.ok(
    refused.status === "all_held" && refused.in_checkout === 1 && refused.retry_after_ms > 0,
    JSON.stringify(refused),
  );
  assert.equal((await soon("the release", ann.show.checkout.release(held.hold.hold_id))).status, "released");
  assert.deepEqual(ann.show.mine.get()?.holds, []);
  // Bob's next tap is another wish. The server may go on saying so for a moment.
  let second = await bob.show.checkout.hold(lines);
  for (let tries = 0; second.status === "all_held" && tries < 20; tries += 1) {
    await new Promise((resolve) =>
      setTimeout(resolve, second.status === "all_held" ? Math.min(second.retry_after_ms, 500) : 0),
    );
    second = await bob.show.checkout.hold(lines);
  }
  assert.ok(second.status === "held", JSON.stringify(second));
  const paid = await soon("the order", bob.show.checkout.pay(second.hold.hold_id));
  assert.ok(paid.status === "open");
  await bob.show.sandbox.confirm(paid.order, "tok_success");
  await until("sold out", ann.show.part("sales"), (it) => it?.[saleId]?.sold_out === true);
  assert.equal((await soon("a late tap", ann.show.checkout.hold(lines))).status, "sold_out");
});

test(
  "a server that is killed, and one that says goodbye: everybody is back by themselves, and nothing is missing",
  { timeout: 90_000 },
  async (t) => {
    const random = seeded(5);
    const set = await stage("restarts");
    const proxy = await Proxy.open(random, () => server.port);
    const browsers = Array.from(
      { length: 3 },
      () => new Browser({ server: proxy.address, showId: set.showId }, random),
    );
    const desk = new Browser({ server: proxy.address, showId: set.showId, token: host.token }, random);
    const all = [...browsers, desk];
    t.after(() => {
      all.forEach(({ show }) => show.close());
      proxy.close();
    });
    await Promise.all(all.map((it) => it.hasScene()));
    for (const signal of ["SIGKILL", "SIGTERM"] as const) {
      await host.call("PUT", `${set.path}/pin`, { product_id: set.products[0] });
      await server.end(signal);
      await server.restart();
      await host.call("PUT", `${set.path}/pin`, { product_id: set.products[1] });
      const isBack = (pin: Pin | null) => pin?.product.product_id === set.products[1];
      await Promise.all(all.map(({ show }) => until(`everybody is back after ${signal}`, show.part("pin"), isBack)));
    }
    await sayTheEnd(set, all);
    const types = ["pin.set", "pin.set", "pin.set", "pin.set", "banner.shown"];
    for (const { entries, show, connections } of all) {
      assert.deepEqual(
        entries.map((it) => it.type),
        types,
      );
      assert.equal(show.part("pin").get()?.product.product_id, set.products[1]);
      assert.ok(connections >= 3, `${connections} connections`);
    }
    const [first, ...others] = all.map(({ seqs }) => seqs);
    for (const seqs of others) assert.deepEqual(seqs, first);
  },
);

test("what the server refuses for good ends the connection, with its reason", async (t) => {
  const random = seeded(6);
  const nowhere = "shw_0198f2a4c6d87a3eb1f05a6c7d8e9f00";
  const lost = new Browser({ server: server.address, showId: nowhere }, random);
  const set = await stage("doors");
  const forged = new Browser({ server: server.address, showId: set.showId, token: "a.b.c" }, random);
  t.after(() => [lost, forged].forEach(({ show }) => show.close()));
  const [first, second] = await Promise.all(
    [lost, forged].map(({ show }) => until("it ends", show.connection, (it) => it.status === "closed")),
  );
  assert.deepEqual(first, { status: "closed", reason: "no_such_show" });
  assert.deepEqual(second, { status: "closed", reason: "bad_token" });
});

test("an open socket takes a newer token", async (t) => {
  const set = await stage("renewal");
  // The first token says that it ends in a minute, so it is renewed at once.
  const tokens = [server.token("viewer", "ann", 1), server.token("viewer", "ann", 10)];
  const browser = new Browser(
    { server: server.address, showId: set.showId, token: () => tokens.shift() ?? assert.fail("asked too often") },
    seeded(7),
  );
  t.after(() => browser.show.close());
  await browser.hasScene();
  await sayTheEnd(set, [browser]);
  assert.deepEqual([tokens.length, browser.connections, browser.errors], [0, 1, []]);
  assert.deepEqual(
    browser.heard.filter((it) => it === "token" || it === "problem"),
    ["token"],
  );
});

test("a video that is two seconds late, on a device whose clock is 90 s off", async (t) => {
  const set = await stage("late");
  const local = { now: () => Date.now() + 90_000, monotonic: () => performance.now(), after: systemTimer };
  const late: Browser = new Browser(
    { server: server.address, showId: set.showId, pictureTime: () => late.show.serverNow() - 2_000 },
    seeded(8),
    new MemoryStorage(),
    local,
  );
  t.after(() => late.show.close());
  await late.hasScene();
  // The server runs on this machine.
  const error = Math.abs(late.show.serverNow() - Date.now());
  assert.ok(error < 50, `${error} ms`);
  await host.call("PUT", `${set.path}/pin`, { product_id: set.products[0] });
  const pin = await until("the pin", late.show.part("pin"), (it) => it !== null);
  const lag = late.show.serverNow() - (pin?.pinned_at ?? 0);
  assert.ok(Math.abs(lag - 2_000) < 300, `${lag} ms after it was pinned`);
});

function systemTimer(ms: number, run: () => void): () => void {
  const timer = setTimeout(run, ms);
  return () => clearTimeout(timer);
}
