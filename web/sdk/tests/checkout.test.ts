/** Buying against a server that the test plays: what is stored, what is sent again, what a page gets. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { settle, tokenOf, World } from "./fake.js";
import * as say from "./scenes.js";
import { ClosedError, connect, RefusedError, type Show, ShowcartError, UnansweredError } from "./sdk.js";

interface Request {
  readonly method: string;
  readonly path: string;
  readonly headers: Record<string, string>;
  readonly body: Record<string, unknown> | undefined;
}

/** What the server does with a request: answers, refuses, or says nothing. */
type Move =
  { readonly status: number; readonly body?: unknown; readonly retryAfter?: string } | "no network" | "no answer";

const LINES = [{ sale_id: say.SALE, quantity: 1 }] as const;

const hold = (more: object = {}) => ({
  hold_id: say.HOLD,
  state: "active",
  lines: [],
  amount_minor: 1_900,
  currency: "EUR",
  granted_at: say.T0,
  expires_at: say.T0 + 120_000,
  ...more,
});

const order = (payment: object, more: object = {}) => ({
  order_id: say.ORDER,
  show_id: say.SHOW,
  hold_id: say.HOLD,
  buyer: "ann",
  state: "pending",
  lines: [],
  amount_minor: 1_900,
  currency: "EUR",
  refunded_minor: 0,
  created_at: say.T0,
  paid_at: null,
  test: false,
  payment: {
    payment_id: "pay_1",
    state: "open",
    intent_id: "pi_1",
    client_secret: "secret",
    provider_url: "https://bank.example",
    deadline: say.T0 + 300_000,
    line: null,
    ...payment,
  },
  ...more,
});

const problem = (status: number, code: string, more: object = {}): Move => ({
  status,
  body: { code, detail: `It is ${code}.`, status, ...more },
});

function shop(world: World, ...moves: Move[]): Request[] {
  const requests: Request[] = [];
  world.fetch = (url, { method, headers, body }) => {
    const sent = typeof body === "string" ? (JSON.parse(body) as Record<string, unknown>) : undefined;
    requests.push({
      method: method ?? "GET",
      path: new URL(url).pathname,
      headers: { ...(headers as Record<string, string>) },
      body: sent,
    });
    const move = moves.shift();
    if (move === undefined) throw new Error(`nobody expects ${method} ${url}`);
    if (move === "no network") return Promise.reject(new TypeError("Failed to fetch"));
    if (move === "no answer") return new Promise<Response>(() => {});
    const answer = new Response(move.body === undefined ? null : JSON.stringify(move.body), { status: move.status });
    if (move.retryAfter !== undefined) answer.headers.set("retry-after", move.retryAfter);
    return Promise.resolve(answer);
  };
  return requests;
}

function enter(world = new World(), subject = "ann"): { world: World; show: Show } {
  const token = tokenOf({ sub: subject, role: "viewer" });
  return {
    world,
    show: connect({ server: "https://live.shop.example", showId: say.SHOW, token, environment: world.environment }),
  };
}

const keyOf = (request: Request | undefined) => request?.headers["idempotency-key"];

test("a hold is asked for with a key that is stored before the request goes, and forgotten with its answer", async () => {
  const { world, show } = enter();
  const requests = shop(world, { status: 201, body: hold() });
  const inner = world.fetch;
  world.fetch = (url, init) => {
    assert.match(
      [...world.storage.items.values()].join(),
      new RegExp(keyOf({ headers: init.headers } as unknown as Request) ?? "?"),
    );
    return inner(url, init);
  };
  assert.deepEqual(await show.checkout.hold(LINES, { seen: { price_minor: 1_900 } }), { status: "held", hold: hold() });
  assert.equal(requests[0]?.path, `/v1/shows/${say.SHOW}/holds`);
  assert.deepEqual(requests[0]?.body, { lines: [...LINES], seen: { price_minor: 1_900 } });
  assert.equal(requests[0]?.headers["idempotency-retry"], undefined);
  assert.equal(world.storage.items.size, 0);
  assert.deepEqual(
    show.mine.get()?.holds.map((it) => it.hold_id),
    [say.HOLD],
  );
});

test("no answer, no network, 503: the same key again, marked as a repetition, when Retry-After says", async () => {
  const { world, show } = enter();
  const requests = shop(
    world,
    "no answer",
    "no network",
    { status: 503, retryAfter: "7" },
    { status: 502 },
    { status: 201, body: hold() },
  );
  const result = show.checkout.hold(LINES);
  await world.clock.advance(12_000);
  assert.equal(requests.length, 1);
  await world.clock.advance(2_000);
  assert.equal(requests.length, 3);
  await world.clock.advance(6_000);
  assert.equal(requests.length, 3);
  await world.clock.advance(10_000);
  assert.equal((await result).status, "held");
  assert.equal(new Set(requests.map(keyOf)).size, 1);
  assert.deepEqual(
    requests.map((it) => it.headers["idempotency-retry"]),
    [undefined, "true", "true", "true", "true"],
  );
  assert.equal(new Set(requests.map((it) => JSON.stringify(it.body))).size, 1);
});

test("two taps are one wish", async () => {
  const { world, show } = enter();
  const requests = shop(world, { status: 201, body: hold() });
  const [first, second] = await Promise.all([show.checkout.hold(LINES), show.checkout.hold(LINES)]);
  assert.deepEqual(first, second);
  assert.equal(requests.length, 1);
});

test("a wish without an answer survives a reload: same key, same body", async () => {
  const { world, show } = enter();
  const before = shop(world, "no answer");
  const lost = assert.rejects(show.checkout.hold(LINES, { seen: { price_minor: 1_900 } }), ClosedError);
  await settle();
  show.close();
  await lost;

  const { show: reloaded } = enter(world);
  const after = shop(world, { status: 201, body: hold() });
  assert.deepEqual(
    (await reloaded.checkout.unanswered()).map((it) => it.lines),
    [[...LINES]],
  );
  assert.equal((await reloaded.checkout.hold(LINES, { seen: { price_minor: 2_500 } })).status, "held");
  assert.equal(keyOf(after[0]), keyOf(before[0]));
  assert.equal(after[0]?.headers["idempotency-retry"], "true");
  assert.deepEqual(after[0]?.body, before[0]?.body);
  assert.deepEqual(await reloaded.checkout.unanswered(), []);
});

test("a wish of another buyer, or of long ago, is nobody's", async () => {
  const { world, show } = enter();
  shop(world, "no answer");
  const lost = assert.rejects(show.checkout.hold(LINES), ClosedError);
  await settle();
  show.close();
  await lost;
  assert.deepEqual(await enter(world, "bob").show.checkout.unanswered(), []);
  world.clock.lapse(600_000);
  assert.deepEqual(await enter(world).show.checkout.unanswered(), []);
});

test("a wish that nobody answers is given up after a minute, and keeps its key", async () => {
  const { world, show } = enter();
  const requests = shop(world, ...Array.from({ length: 40 }, (): Move => "no network"));
  const result = assert.rejects(show.checkout.hold(LINES), UnansweredError);
  await world.clock.advance(60_000);
  await result;
  const again = shop(world, { status: 201, body: hold() });
  await show.checkout.hold(LINES);
  assert.equal(keyOf(again[0]), keyOf(requests[0]));
});

test("closing the show gives up what is on its way", async () => {
  const { world, show } = enter();
  const requests = shop(world, "no network");
  const result = assert.rejects(show.checkout.hold(LINES), ClosedError);
  await settle();
  show.close();
  await result;
  await world.clock.advance(60_000);
  assert.equal(requests.length, 1);
  assert.equal(world.storage.items.size, 1);
  await assert.rejects(show.checkout.hold(LINES), ClosedError);
});

test("an answer that is cut off is asked for again", async () => {
  const { world, show } = enter();
  const requests = shop(world, { status: 201 }, { status: 201, body: hold() });
  const result = show.checkout.hold(LINES);
  await world.clock.advance(1_000);
  assert.equal((await result).status, "held");
  assert.equal(requests.length, 2);
});

test("what a page must react to is a result", async () => {
  const table: [Move, object][] = [
    [problem(409, "sold_out", { sale_id: say.SALE }), { status: "sold_out", sale_id: say.SALE }],
    [
      problem(409, "all_held", { in_checkout: 5, retry_after_ms: 4_000 }),
      { status: "all_held", in_checkout: 5, retry_after_ms: 4_000 },
    ],
    [problem(409, "not_enough", { available: 1 }), { status: "not_enough", available: 1 }],
    [problem(409, "limit_reached", { limit: 2, used: 2 }), { status: "limit_reached", limit: 2, used: 2 }],
    [problem(409, "hold_open", { hold_id: say.HOLD }), { status: "hold_open", hold_id: say.HOLD }],
    [problem(409, "not_started", { in_ms: 900 }), { status: "not_started", in_ms: 900 }],
    [problem(409, "sale_ended"), { status: "sale_ended" }],
    [problem(409, "show_ended"), { status: "show_ended" }],
  ];
  for (const [move, expected] of table) {
    const { world, show } = enter();
    shop(world, move);
    assert.deepEqual(await show.checkout.hold(LINES), expected);
    assert.equal(world.storage.items.size, 0, "the next tap is another wish");
  }
});

test("what it cannot react to is an error with the code", async () => {
  for (const [status, code] of [
    [403, "forbidden"],
    [422, "invalid"],
  ] as const) {
    const { world, show } = enter();
    shop(world, problem(status, code));
    await assert.rejects(show.checkout.hold(LINES), (error) => error instanceof RefusedError && error.code === code);
  }
  const { world, show } = enter();
  shop(world, { status: 404 });
  await assert.rejects(show.checkout.hold(LINES), { name: "RefusedError", code: "http_404" });
});

test("a token that has ended is replaced, and the same request goes out again", async () => {
  const world = new World();
  const tokens = ["first", "second"];
  const token = () => tokens.shift() ?? "third";
  const show = connect({
    server: "https://live.shop.example",
    showId: say.SHOW,
    token,
    environment: world.environment,
  });
  await settle();
  const requests = shop(world, problem(401, "token_expired"), { status: 201, body: hold() });
  assert.equal((await show.checkout.hold(LINES)).status, "held");
  assert.deepEqual(
    requests.map((it) => it.headers["authorization"]),
    ["Bearer first", "Bearer second"],
  );
  assert.equal(keyOf(requests[0]), keyOf(requests[1]));
});

test("paying waits in the line for the provider, and says where it stands", async () => {
  const { world, show } = enter();
  const creating = (line: number) => order({ state: "creating", line, client_secret: null, intent_id: null });
  const requests = shop(
    world,
    { status: 202, body: creating(9) },
    { status: 200, body: creating(2) },
    { status: 200, body: order({}) },
  );
  const lines: (number | null)[] = [];
  const result = show.checkout.pay(say.HOLD, { onLine: (it) => lines.push(it.payment.line) });
  await world.clock.advance(2_000);
  assert.deepEqual(await result, { status: "open", order: order({}) });
  assert.deepEqual(lines, [9, 2]);
  assert.deepEqual(requests[0]?.body, { hold_id: say.HOLD });
  assert.deepEqual(
    show.mine.get()?.orders.map((it) => [it.order_id, it.deadline]),
    [[say.ORDER, say.T0 + 300_000]],
  );
  assert.equal(world.storage.items.size, 0);
});

test("a hold that ended cannot be paid for, and one that is paid for cannot be given back", async () => {
  const { world, show } = enter();
  shop(world, problem(409, "hold_ended"), problem(409, "already_paid"), {
    status: 200,
    body: hold({ state: "released" }),
  });
  assert.deepEqual(await show.checkout.pay(say.HOLD), { status: "hold_ended" });
  assert.deepEqual(await show.checkout.release(say.HOLD), { status: "already_paid" });
  assert.deepEqual(await show.checkout.release(say.HOLD), { status: "released", hold: hold({ state: "released" }) });
});

test("a list that was read before a purchase does not hide it", async () => {
  const { world, show } = enter();
  shop(world, { status: 201, body: hold() });
  await settle();
  world.socket.hear(say.hello());
  await show.checkout.hold(LINES);
  world.socket.hear(say.mine(10));
  assert.equal(show.mine.get()?.holds.length, 1);
  world.socket.hear({ ...say.mine(11), t: say.T0 + 5_000 });
  assert.equal(show.mine.get()?.holds.length, 0, "a list of later knows better");
});

test("the sandbox declines, asks the bank's question, and is found again at another address", async () => {
  const { world, show } = enter();
  const declined = { code: "card_declined", message: "The card was declined." };
  const refused = { ...declined, payment_intent: { status: "requires_payment_method", last_payment_error: declined } };
  const requests = shop(
    world,
    { status: 402, body: refused },
    "no network",
    { status: 200, body: order({ provider_url: "https://new-bank.example" }) },
    { status: 200, body: { status: "requires_action", last_payment_error: null } },
    {
      status: 409,
      body: { code: "intent_succeeded", payment_intent: { status: "succeeded", last_payment_error: null } },
    },
  );
  const open = order({}) as unknown as Parameters<typeof show.sandbox.confirm>[0];
  assert.deepEqual(await show.sandbox.confirm(open, "tok_decline"), {
    status: "requires_payment_method",
    error: declined,
  });
  const asked = show.sandbox.confirm(open, "tok_3ds");
  await world.clock.advance(1_000);
  assert.equal((await asked).status, "requires_action");
  // The answer to the first try was lost; what it did counts.
  assert.equal((await show.sandbox.authenticate(open, "pass")).status, "succeeded");
  assert.deepEqual(
    requests.map((it) => it.path.split("/").at(-1)),
    ["confirm", "confirm", say.ORDER, "confirm", "authenticate"],
  );
});

test("a bank that refuses at once, while our server answers, is told after some seconds; a slow line is waited for", async () => {
  const { world, show } = enter();
  const open = order({}) as unknown as Parameters<typeof show.sandbox.confirm>[0];
  const found = { status: 200, body: order({}) };
  shop(world, ...Array.from({ length: 5 }, () => ["no network", found] as const).flat());
  const refused = assert.rejects(
    show.sandbox.confirm(open, "tok_success"),
    (error) => error instanceof ShowcartError && error.code === "provider_unreachable",
  );
  await world.clock.advance(5_000);
  await refused;
  // Four refusals, and then it is there.
  const paid = { status: 200, body: { status: "succeeded", last_payment_error: null } };
  shop(world, ...Array.from({ length: 4 }, () => ["no network", found] as const).flat(), paid);
  const asked = show.sandbox.confirm(open, "tok_success");
  await world.clock.advance(5_000);
  assert.equal((await asked).status, "succeeded");
});

test("a call that the page's own policy refuses is not repeated; one that it only reports is", async () => {
  const page = new EventTarget();
  Object.assign(globalThis, { document: page, location: { href: "https://shop.example/" } });
  try {
    const { world, show } = enter();
    const violate = (disposition: string) =>
      page.dispatchEvent(
        Object.assign(new Event("securitypolicyviolation"), { blockedURI: "https://live.shop.example/v1", disposition }),
      );
    let tries = 0;
    world.fetch = () => {
      tries += 1;
      // As a browser does: the call fails first.
      setImmediate(() => violate("enforce"));
      return Promise.reject(new TypeError("Failed to fetch"));
    };
    const refused = assert.rejects(
      show.checkout.hold(LINES),
      (error) => error instanceof ShowcartError && error.code === "forbidden_by_page",
    );
    await world.clock.advance(1_000);
    await refused;
    assert.equal(tries, 1);
    world.fetch = () => {
      tries += 1;
      violate("report");
      return tries < 3 ? Promise.reject(new TypeError("Failed to fetch")) : Promise.resolve(Response.json(hold()));
    };
    const held = show.checkout.hold(LINES);
    await world.clock.advance(5_000);
    assert.equal((await held).status, "held");
    assert.equal(tries, 3);
    show.close();
  } finally {
    for (const name of ["document", "location"]) Reflect.deleteProperty(globalThis, name);
  }
});
