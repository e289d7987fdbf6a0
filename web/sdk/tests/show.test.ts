/** A show on sockets that the test plays: what is said, when it comes back, what is told to the page. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { settle, tokenOf, World } from "./fake.js";
import * as say from "./scenes.js";
import {
  ClosedError,
  connect,
  type ConnectionState,
  type Entry,
  RefusedError,
  type ShowOptions,
  UnansweredError,
} from "./sdk.js";

/** Begins to watch, and writes down what the page would hear. */
async function watch(options: Partial<ShowOptions> = {}, world = new World()) {
  const show = connect({
    server: "https://live.shop.example",
    showId: say.SHOW,
    environment: world.environment,
    ...options,
  });
  const entries: Entry[] = [];
  const states: ConnectionState[] = [];
  show.onEntry((entry) => entries.push(entry));
  show.connection.subscribe((state) => states.push(state));
  await settle();
  return {
    world,
    show,
    entries,
    seqs: () => entries.map((it) => it.seq),
    statuses: () =>
      states.map((it) => ("reason" in it && it.reason !== null ? `${it.status} ${it.reason}` : it.status)),
  };
}

/** Begins to watch, and has the snapshot at `seq`. */
async function joined(seq = 10, options: Partial<ShowOptions> = {}) {
  const watched = await watch(options);
  watched.world.socket.hear(say.hello());
  watched.world.socket.hear(say.snapshot(seq));
  return watched;
}

// ---- Coming in ----

test("a token travels as a subprotocol, never in the address", async () => {
  const { world } = await watch({ token: "a.b.c" });
  assert.equal(world.socket.url, `wss://live.shop.example/v1/shows/${say.SHOW}/live`);
  assert.deepEqual(world.socket.protocols, ["showcart.v1", "token.a.b.c"]);
});

test("a server may stand below a path", async () => {
  const { world } = await watch({ server: "http://127.0.0.1:8080/shop/" });
  assert.equal(world.socket.url, `ws://127.0.0.1:8080/shop/v1/shows/${say.SHOW}/live`);
});

test("a guest is the same guest the next time", async () => {
  const first = await watch();
  assert.deepEqual(first.world.socket.protocols, ["showcart.v1"]);
  first.world.socket.hear(say.hello({ role: "guest", guest_token: "guest.of.day" }));
  first.show.close();
  const { world } = await watch({}, first.world);
  assert.deepEqual(world.socket.protocols, ["showcart.v1", "token.guest.of.day"]);
  // After 30 days the server does not know the guest any more.
  world.socket.end(4002);
  await world.clock.advance(0);
  assert.deepEqual(world.socket.protocols, ["showcart.v1"]);
  assert.equal(world.storage.items.size, 0);
});

test("a browser without storage has guests all the same", async () => {
  const world = new World();
  const refuse = () => {
    throw new Error("SecurityError");
  };
  const storage = { getItem: refuse, setItem: refuse, removeItem: refuse };
  const { show } = await watch({ environment: { ...world.environment, storage } }, world);
  world.socket.hear(say.hello({ guest_token: "guest.of.day" }));
  world.socket.end();
  await world.clock.advance(1_000);
  assert.deepEqual(world.socket.protocols, ["showcart.v1", "token.guest.of.day"]);
  show.close();
  assert.deepEqual(world.errors, []);
});

test("the connection says how it stands", async () => {
  const { world, statuses, show } = await joined();
  world.socket.end(1012);
  await world.clock.advance(500);
  world.socket.hear(say.hello({ resumed: true }));
  show.close();
  assert.deepEqual(statuses(), [
    "connecting",
    "open",
    "waiting restarting",
    "connecting restarting",
    "open",
    "closed by_caller",
  ]);
});

// ---- The log ----

test("entries change the scene, and are told once and in order", async () => {
  const { world, show, seqs } = await joined(10);
  const pins: string[] = [];
  show.on("pin.set", ({ data }) =>
    pins.push(`${data.product.title}, and the scene has ${show.scene.get()?.pin?.product.title}`),
  );
  world.socket.hear(say.frame(10, 12, [say.timer(11), say.pin(12)]));
  world.socket.hear(say.frame(10, 12, [say.timer(11), say.pin(12)]));
  world.socket.hear(say.frame(11, 15, [say.pin(12), say.timer(15)]));
  assert.deepEqual(seqs(), [11, 12, 15]);
  assert.deepEqual(pins, ["The lamp, and the scene has The lamp"]);
  assert.deepEqual(Object.keys(show.part("timers").get() ?? {}), ["ovl_11", "ovl_15"]);
  world.socket.hear(say.frame(15, 16, [{ seq: 16, at: say.T0, type: "pin.cleared", data: { version: 17 } }]));
  world.socket.hear(say.frame(10, 12, [say.timer(11), say.pin(12)]));
  assert.equal(show.part("pin").get(), null, "an old frame does not bring the past back");
});

test("a gap leads back to the server, from the position before it", async () => {
  const { world, seqs } = await joined(10);
  world.socket.hear(say.frame(10, 11, [say.timer(11)]));
  world.socket.hear(say.frame(13, 14, [say.timer(14)]));
  assert.equal(world.socket.isClosed, true);
  await world.clock.advance(1_000);
  assert.match(world.socket.url, /\?since=8d6be6f3a0e74a00\.11$/);
  world.socket.hear(say.hello({ resumed: true }));
  world.socket.hear(say.frame(11, 14, [say.timer(13), say.timer(14)]));
  assert.deepEqual(seqs(), [11, 13, 14]);
});

test("a snapshot replaces everything, and one that is older than what was told tells nothing twice", async () => {
  const { world, show, seqs } = await joined(10);
  world.socket.hear(say.frame(10, 12, [say.timer(11), say.timer(12)], { viewers: [5, 50, say.T0] }));
  world.socket.hear(say.snapshot(11, { gauges: { viewers: [4, 40, say.T0] } }));
  assert.equal(show.gauge("viewers").get(), 40);
  assert.deepEqual(show.part("timers").get(), {});
  world.socket.hear(say.frame(11, 13, [say.timer(12), say.timer(13)]));
  assert.deepEqual(seqs(), [11, 12, 13]);
  assert.deepEqual(Object.keys(show.part("timers").get() ?? {}), ["ovl_12", "ovl_13"]);
});

test("another epoch makes positions and versions worthless", async () => {
  const { world, show, seqs } = await joined(10);
  world.socket.hear(say.frame(10, 12, [say.timer(12)], { viewers: [9, 90, say.T0] }));
  world.socket.end();
  await world.clock.advance(1_000);
  world.socket.hear(say.hello({ epoch: "another" }));
  world.socket.hear(say.frame(12, 13, [say.timer(13)]));
  world.socket.hear(say.snapshot(3, { epoch: "another" }));
  world.socket.hear(say.frame(3, 4, [say.timer(4)], { viewers: [1, 10, say.T0] }));
  assert.deepEqual(seqs(), [12, 4], "a frame before the snapshot is not ours");
  assert.equal(show.gauge("viewers").get(), 10);
  world.socket.end();
  await world.clock.advance(2_000);
  assert.match(world.socket.url, /since=another\.4$/);
});

test("messages and entries of the time to come do no harm", async () => {
  const { world, show, seqs } = await joined(10);
  const scene = show.scene.get();
  world.socket.hear({ type: "fireworks", t: say.T0 });
  world.socket.hear({ t: say.T0 });
  world.socket.hear(say.frame(10, 11, [{ seq: 11, at: say.T0, type: "fireworks.lit", data: {} }]));
  assert.deepEqual(seqs(), [11]);
  assert.equal(show.scene.get(), scene);
  assert.deepEqual(world.errors, []);
});

test("a listener that throws stops neither the scene nor the other listeners", async () => {
  const { world, show, seqs } = await joined(10);
  show.on("pin.set", () => {
    throw new Error("a mistake of the page");
  });
  const heard: number[] = [];
  show.on("pin.set", ({ seq }) => heard.push(seq));
  world.socket.hear(say.frame(10, 12, [say.pin(11), say.pin(12)]));
  assert.deepEqual([heard, seqs(), world.errors.length], [[11, 12], [11, 12], 2]);
});

test("entries for this buyer are told once, and not when the list contains them already", async () => {
  const { world, show, seqs } = await joined(10);
  const order = {
    order_id: say.ORDER,
    hold_id: say.HOLD,
    state: "pending",
    lines: [],
    amount_minor: 1_900,
    currency: "EUR",
    refunded_minor: 0,
    deadline: null,
  };
  const confirmed = (seq: number) => ({
    type: "own",
    t: say.T0,
    entries: [
      {
        seq,
        at: say.T0,
        type: "order.confirmed",
        data: { order_id: say.ORDER, hold_id: say.HOLD, amount_minor: 1_900, currency: "EUR" },
      },
    ],
  });
  world.socket.hear(say.mine(20, { orders: [order] }));
  world.socket.hear(confirmed(19));
  assert.equal(show.mine.get()?.orders[0]?.state, "pending");
  world.socket.hear(confirmed(21));
  world.socket.hear(confirmed(21));
  assert.deepEqual(seqs(), [21]);
  assert.equal(show.mine.get()?.orders[0]?.state, "paid");
  // A list that was read before the entry, and one of another socket that is older still.
  world.socket.hear(say.mine(20, { orders: [order] }));
  world.socket.hear(say.mine(15));
  assert.equal(show.mine.get()?.orders[0]?.state, "paid");
  world.socket.hear(say.frame(10, 11, [say.timer(11)]));
  assert.deepEqual(seqs(), [21, 11], "own entries do not move the position");
});

test("what refunds gave back is counted once, whatever tells of it and in whatever order", async () => {
  const { world, show } = await joined(10);
  const order = (refunded_minor: number, more: object = {}) => ({
    order_id: say.ORDER,
    hold_id: say.HOLD,
    state: "paid",
    lines: [],
    amount_minor: 1_900,
    currency: "EUR",
    refunded_minor,
    deadline: null,
    ...more,
  });
  const sent = (seq: number, amount_minor: number, reason = "requested") =>
    world.socket.hear({
      type: "own",
      t: say.T0,
      entries: [
        {
          seq,
          at: say.T0,
          type: "refund.sent",
          data: { order_id: say.ORDER, refund_id: `rfd_${seq}`, reason, amount_minor, currency: "EUR" },
        },
      ],
    });
  const refunded = () => show.mine.get()?.orders[0]?.refunded_minor;
  world.socket.hear(say.mine(20, { orders: [order(500)] }));
  assert.equal(refunded(), 500);
  sent(19, 500);
  assert.equal(refunded(), 500, "the list has it already");
  sent(25, 300);
  sent(25, 300);
  assert.equal(refunded(), 800);
  sent(26, 1_900, "duplicate");
  assert.equal(refunded(), 800, "a second charge is no part of the order");
  // A list of before the entry, and one of after it.
  world.socket.hear(say.mine(22, { orders: [order(500)] }));
  assert.equal(refunded(), 800);
  world.socket.hear(say.mine(30, { orders: [order(800)] }));
  assert.equal(refunded(), 800);
  // The answer of the API is faster than the entry.
  const answer = order(1_900, { created_at: say.T0, payment: { deadline: null } });
  world.fetch = () => Promise.resolve(Response.json(answer));
  await show.checkout.order(say.ORDER);
  sent(31, 1_100);
  assert.equal(refunded(), 1_900);
});

// ---- Coming back ----

test("waits grow with each failure, and begin anew after a connection that lasted", async () => {
  const { world } = await joined();
  const waits: number[] = [];
  world.chance = 0.999;
  for (let failure = 0; failure < 7; failure += 1) {
    world.socket.end();
    const before = world.clock.monotonic();
    const sockets = world.sockets.length;
    while (world.sockets.length === sockets) await world.clock.advance(100);
    waits.push(Math.round((world.clock.monotonic() - before) / 1_000));
  }
  assert.deepEqual(waits, [1, 2, 4, 4, 4, 4, 4]);
  world.socket.hear(say.hello({ resumed: true }));
  await world.clock.advance(10_000);
  world.socket.end();
  const sockets = world.sockets.length;
  await world.clock.advance(1_000);
  assert.equal(world.sockets.length, sockets + 1);
});

test("a node that stops hands over without a gap: the new line says hello before the old one ends", async () => {
  const { world, seqs, statuses } = await joined(10);
  const old = world.socket;
  old.hear({ type: "bye", t: say.T0, delay_ms: 700 });
  await world.clock.advance(699);
  assert.equal(world.sockets.length, 1);
  await world.clock.advance(1);
  const young = world.socket;
  assert.notEqual(young, old);
  old.hear(say.frame(10, 11, [say.timer(11)]));
  assert.equal(old.isClosed, false);
  young.hear(say.hello({ resumed: true }));
  assert.equal(old.isClosed, true);
  young.hear(say.frame(10, 12, [say.timer(11), say.timer(12)]));
  old.hear(say.frame(12, 13, [say.timer(13)]));
  old.end(1012);
  assert.deepEqual(seqs(), [11, 12]);
  assert.deepEqual(statuses(), ["connecting", "open"], "nobody saw anything of it");
});

test("a node that stops before its successor is there", async () => {
  const { world, statuses } = await joined(10);
  const old = world.socket;
  old.hear({ type: "bye", t: say.T0, delay_ms: 100 });
  await world.clock.advance(100);
  // The successor does not answer; it is asked again while the old line works.
  world.socket.end();
  await world.clock.advance(500);
  assert.equal(world.sockets.length, 3);
  old.end(1012);
  assert.deepEqual(statuses(), ["connecting", "open", "connecting restarting"]);
  world.socket.hear(say.hello({ resumed: true }));
  assert.equal(statuses().at(-1), "open");
});

test("what must not be retried is not", async () => {
  for (const code of [4003, 4004]) {
    const { world, show } = await joined();
    world.socket.end(code);
    await world.clock.advance(600_000);
    assert.equal(world.sockets.length, 1);
    assert.equal(show.connection.get().status, "closed");
    await assert.rejects(show.vote(say.POLL, 0), ClosedError);
  }
});

test("a token that is not taken is replaced by another one; the same one is not tried again", async () => {
  const tokens = ["first", "second", "second"];
  const { world, show } = await watch({
    token: () => Promise.resolve(tokens.shift() ?? assert.fail("asked too often")),
  });
  assert.deepEqual(world.socket.protocols, ["showcart.v1", "token.first"]);
  world.socket.end(4001);
  await world.clock.advance(0);
  assert.deepEqual(world.socket.protocols, ["showcart.v1", "token.second"]);
  world.socket.end(4001);
  await world.clock.advance(0);
  assert.deepEqual(show.connection.get(), { status: "closed", reason: "bad_token" });
});

test("a token without a function ends with it", async () => {
  const { world, show } = await watch({ token: "a.b.c" });
  world.socket.end(4002);
  await world.clock.advance(0);
  assert.deepEqual(show.connection.get(), { status: "closed", reason: "token_expired" });
});

test("a back end that gives no token is asked again", async () => {
  let isUp = false;
  const token = () => (isUp ? Promise.resolve("good") : Promise.reject(new Error("the shop is down")));
  const { world, statuses } = await watch({ token });
  assert.deepEqual(statuses(), ["connecting", "waiting no_token"]);
  assert.equal(world.errors.length, 1);
  isUp = true;
  await world.clock.advance(1_000);
  assert.deepEqual(world.socket.protocols, ["showcart.v1", "token.good"]);
});

test("a token function that gives no text has given no token; a line break is no part of one", async () => {
  const tokens: unknown[] = [undefined, "good\n"];
  const { world, statuses } = await watch({ token: () => tokens.shift() as string });
  assert.deepEqual(statuses(), ["connecting", "waiting no_token"]);
  await world.clock.advance(1_000);
  assert.deepEqual(world.socket.protocols, ["showcart.v1", "token.good"]);
});

test("a token that no socket can carry is a bad one, and an address that none can have is said", async () => {
  for (const token of ["a token", "tøken", "two\nlines", ""]) {
    const { world, show } = await watch({ token });
    assert.deepEqual(show.connection.get(), { status: "closed", reason: "bad_token" }, token);
    assert.equal(world.sockets.length, 0);
  }
  const { world } = await watch({ token: " a.b.c\n" });
  assert.deepEqual(world.socket.protocols, ["showcart.v1", "token.a.b.c"]);
  const odd = await watch({ showId: "shw_1 #2/?" });
  assert.equal(odd.world.socket.url, "wss://live.shop.example/v1/shows/shw_1%20%232%2F%3F/live");
});

test("a token function that never answers is given up", async () => {
  const { world, statuses } = await watch({ token: () => new Promise<string>(() => {}) });
  await world.clock.advance(30_000);
  assert.deepEqual(statuses(), ["connecting", "waiting no_token"]);
});

test("an open socket gets a newer token before the old one ends", async () => {
  const ends = (minutes: number) => say.T0 + minutes * 60_000;
  const token = (minutes: number) => tokenOf({ sub: "ann", exp: ends(minutes) / 1_000 });
  const tokens = [token(5), token(10)];
  const { world } = await watch({ token: () => tokens.shift() ?? assert.fail("asked too often") });
  world.socket.hear(say.hello({ expires_at: ends(5) }));
  world.socket.hear(say.snapshot(1));
  // The socket must not become silent in the meantime.
  for (let minute = 0; minute < 4; minute += 1) {
    assert.deepEqual(world.socket.saidOf("token"), []);
    for (let beat = 0; beat < 3; beat += 1) {
      await world.clock.advance(20_000);
      world.socket.hear(say.frame(1, 1, undefined, undefined, say.T0 + world.clock.monotonic()));
    }
  }
  assert.deepEqual(
    world.socket.saidOf("token").map((it) => it.token),
    [token(10)],
  );
  assert.equal(world.sockets.length, 1);
});

test("a token that is refused on the open socket leads to a new socket", async () => {
  const soon = tokenOf({ sub: "ann", exp: say.T0 / 1_000 + 61 });
  const tokens = [soon, "another-buyer"];
  const { world } = await watch({ token: () => tokens.shift() ?? "another-buyer" });
  world.socket.hear(say.hello({ expires_at: say.T0 + 61_000 }));
  await world.clock.advance(1_000);
  assert.equal(world.socket.saidOf("token").length, 1);
  world.socket.hear({
    type: "problem",
    t: say.T0,
    to: "token",
    problem: { status: 403, code: "forbidden", detail: "Another subject." },
  });
  await world.clock.advance(1_000);
  assert.deepEqual(world.socket.protocols, ["showcart.v1", "token.another-buyer"]);
});

test("silence for twice the heartbeat means that the connection is dead", async () => {
  const { world, statuses } = await joined();
  for (let beat = 0; beat < 5; beat += 1) {
    await world.clock.advance(25_000);
    world.socket.hear(say.frame(10, 10));
  }
  assert.equal(world.sockets.length, 1);
  await world.clock.advance(50_000);
  assert.equal(world.sockets[0]?.isClosed, true);
  assert.equal(statuses()[2], "waiting silent");
});

test("a socket that never says hello is given up", async () => {
  const { world, statuses } = await watch();
  await world.clock.advance(15_000);
  assert.deepEqual(statuses(), ["connecting", "waiting network"]);
  assert.equal(world.sockets[0]?.isClosed, true);
});

test("a tab that comes back to the front looks at the clock, not at its timers", async () => {
  const { world, statuses } = await joined();
  world.clock.lapse(30_000);
  world.signal("visible");
  assert.equal(statuses().at(-1), "open", "not long enough to be sure");
  world.clock.lapse(21_000);
  world.signal("visible");
  assert.equal(statuses().at(-1), "waiting silent");
  // The timer for the next try sleeps as well.
  world.clock.lapse(5_000);
  world.signal("visible");
  await settle();
  assert.equal(world.sockets.length, 2);
});

test("a tab that comes back to the front does not wait for the heartbeat of a dead line", async () => {
  const { world, statuses } = await joined();
  world.signal("visible");
  await world.clock.advance(5_000);
  assert.equal(statuses().at(-1), "waiting network");
});

test("without a network it waits for one; with one it is there at once", async () => {
  const { world, statuses } = await joined();
  world.isOnline = false;
  world.signal("offline");
  // A false alarm would be answered; this is none.
  await world.clock.advance(5_000);
  assert.equal(statuses().at(-1), "offline");
  await world.clock.advance(20_000);
  assert.equal(world.sockets.length, 1);
  world.isOnline = true;
  world.signal("online");
  await world.clock.advance(1_000);
  assert.equal(world.sockets.length, 2);
});

test("an outage of 17 s is over 4 s after the server is back, at the latest; one of an hour is not asked about all the time", async () => {
  const { world, show } = await joined();
  await world.clock.advance(10_000);
  world.socket.hear(say.frame(10, 10));
  world.chance = 0.999;
  const fails = async (ms: number): Promise<number> => {
    const end = world.clock.monotonic() + ms;
    let tries = 0;
    while (world.clock.monotonic() < end) {
      const sockets = world.sockets.length;
      if (show.connection.get().status !== "waiting") world.socket.end();
      await world.clock.advance(100);
      tries += world.sockets.length - sockets;
    }
    return tries;
  };
  await fails(17_000);
  const sockets = world.sockets.length;
  await world.clock.advance(4_000);
  assert.ok(world.sockets.length > sockets);
  world.socket.end();
  world.clock.lapse(3_600_000);
  await fails(100_000);
  const tries = await fails(300_000);
  assert.ok(tries <= 11, `${tries} tries in five minutes`);
});

test("a line that opens and breaks, again and again, is one long outage", async () => {
  const { world } = await joined();
  world.chance = 0.999;
  await world.clock.advance(10_000);
  let tries = 0;
  for (let step = 0; step < 6_000; step += 1) {
    const sockets = world.sockets.length;
    world.socket.hear(say.hello());
    world.socket.end();
    await world.clock.advance(100);
    tries += world.sockets.length - sockets;
  }
  assert.ok(tries < 60, `${tries} tries in ten minutes`);
});

test("a device that is offline says so at once, also with a line that does not know it yet", async () => {
  const { world, statuses } = await joined();
  world.isOnline = false;
  world.signal("offline");
  assert.equal(statuses().at(-1), "offline");
  // Another network: the old line does not answer, and its end is not waited for.
  world.isOnline = true;
  world.signal("online");
  await world.clock.advance(500);
  assert.equal(world.sockets.length, 2);
  world.socket.hear(say.hello({ resumed: true }));
  assert.deepEqual(statuses(), ["connecting", "open", "offline", "open"]);
  assert.equal(world.sockets[0]?.isClosed, true);
  await world.clock.advance(2_000);
  assert.equal(world.socket.saidOf("time").length, 3, "the clock is asked for on the new line");
});

test("a line that answers after an alarm stays the one", async () => {
  const { world, statuses } = await joined();
  world.isOnline = false;
  world.signal("offline");
  world.isOnline = true;
  world.signal("online");
  world.socket.hear(say.frame(10, 10));
  await world.clock.advance(5_000);
  assert.equal(world.sockets.length, 1);
  assert.deepEqual(statuses(), ["connecting", "open", "offline", "open"]);
});

test("who comes without a network reads so, and is there soon after it", async () => {
  const world = new World();
  world.isOnline = false;
  const { statuses } = await watch({}, world);
  assert.equal(statuses().at(-1), "offline");
  // This socket was begun without a network, and takes its time to notice.
  world.isOnline = true;
  world.signal("online");
  await world.clock.advance(500);
  assert.equal(world.sockets.length, 2);
  assert.equal(world.sockets[0]?.isClosed, true);
});

test("a tab that comes to the front does not wait to the end; where the server wants a pause, it does", async () => {
  for (const [code, tries] of [
    [1006, 1],
    [4103, 1],
    [4110, 0],
  ] as const) {
    const { world } = await joined();
    world.chance = 0.999;
    for (let failure = 0; failure < 5; failure += 1) {
      world.socket.end(code);
      const sockets = world.sockets.length;
      while (failure < 4 && world.sockets.length === sockets) await world.clock.advance(500);
    }
    const sockets = world.sockets.length;
    world.chance = 0.5;
    world.signal("visible");
    await world.clock.advance(500);
    assert.equal(world.sockets.length - sockets, tries, `after ${code}`);
  }
});

test("a false alarm about the network is taken back with the first word, on the same line", async () => {
  const { world, statuses } = await joined();
  world.isOnline = false;
  world.signal("offline");
  const probe = world.socket.saidOf("time").at(-1);
  world.socket.hear({ type: "time", t: say.T0, echo: probe?.echo });
  await world.clock.advance(6_000);
  assert.deepEqual(statuses(), ["connecting", "open", "offline", "open"]);
  assert.equal(world.sockets.length, 1);
});

test("a show that was closed is silent", async () => {
  const { world, show, seqs } = await joined(10);
  show.close();
  world.socket.hear(say.frame(10, 11, [say.timer(11)]));
  world.signal("online");
  world.signal("visible");
  await world.clock.advance(600_000);
  assert.deepEqual([seqs(), world.sockets.length, world.socket.isClosed], [[], 1, true]);
});

// ---- Time ----

test("the server's time is asked for: some times at once, then rarely", async () => {
  const { world, show } = await joined();
  await world.clock.advance(2_000);
  const asked = world.socket.saidOf("time");
  assert.equal(asked.length, 3);
  // The server is 90 s ahead of the device.
  world.socket.hear({ type: "time", t: say.T0 + world.clock.monotonic() + 90_000, echo: world.clock.monotonic() });
  assert.equal(show.serverNow() - world.clock.now(), 90_000);
  for (let beat = 0; beat < 20; beat += 1) {
    await world.clock.advance(30_000);
    world.socket.hear(say.frame(10, 10));
  }
  assert.equal(world.socket.saidOf("time").length, 5);
});

// ---- The picture ----

test("the scene follows the picture; what decides about buying does not wait", async () => {
  const world = new World();
  const { show, seqs } = await watch({ pictureTime: () => world.clock.now() - 8_000 }, world);
  world.socket.hear(say.hello());
  world.socket.hear(say.snapshot(10));
  const gauges = {
    [`units:${say.SALE}`]: [1, { left: 5, in_checkout: 0, sold: 0 }, say.T0],
    [`poll:${say.POLL}`]: [1, { counts: [1], total: 1 }, say.T0],
  };
  world.socket.hear(say.frame(10, 12, [say.pin(11), say.sale(12)], gauges));
  const shown = () => [seqs(), show.part("pin").get() !== null, show.gauge(`poll:${say.POLL}`).get() !== undefined];
  assert.equal(show.part("sales").get()?.[say.SALE]?.state, "running");
  assert.equal(show.gauge(`units:${say.SALE}`).get()?.left, 5);
  assert.deepEqual(shown(), [[12], false, false]);
  await world.clock.advance(7_800);
  assert.deepEqual(shown(), [[12], false, false]);
  await world.clock.advance(400);
  assert.deepEqual(shown(), [[12, 11], true, true]);
  const left = (show.part("pin").get()?.animate_until ?? 0) - show.stageNow();
  assert.ok(left > 2_500 && left <= 3_000, `${left} ms of the animation are left, though it is over on stage`);
  assert.equal(show.serverNow() - show.stageNow(), 8_000);
  // What is held has been heard: a new connection does not bring it again.
  world.socket.hear(say.frame(12, 13, [say.timer(13, world.clock.now())]));
  world.socket.end();
  await world.clock.advance(1_000);
  assert.match(world.socket.url, /\.13$/);
});

test("a snapshot shows the present at once, and what waited is told before it", async () => {
  const world = new World();
  const { show, seqs } = await watch({ pictureTime: () => world.clock.now() - 8_000 }, world);
  world.socket.hear(say.hello());
  world.socket.hear(say.snapshot(10));
  world.socket.hear(say.frame(10, 11, [say.timer(11)]));
  assert.deepEqual(seqs(), []);
  world.socket.hear(say.snapshot(14));
  assert.deepEqual(seqs(), [11]);
  assert.deepEqual(show.part("timers").get(), {});
});

// ---- Votes ----

test("a vote is sent again after busy, after a new connection and after silence, and its answer is what counts", async () => {
  const { world, show } = await joined();
  const vote = show.vote(say.POLL, 1);
  assert.equal(show.vote(say.POLL, 1) instanceof Promise, true);
  const problem = (more: object) => ({
    type: "problem",
    t: say.T0,
    to: "vote",
    problem: { status: 503, code: "busy", detail: "Busy.", ...more },
  });
  assert.equal(world.socket.saidOf("vote").length, 1);
  world.socket.hear(problem({ poll_id: say.POLL }));
  await world.clock.advance(2_000);
  assert.equal(world.socket.saidOf("vote").length, 2);
  world.socket.hear(problem({}));
  await world.clock.advance(2_000);
  assert.equal(world.socket.saidOf("vote").length, 3);
  await world.clock.advance(5_000);
  assert.equal(world.socket.saidOf("vote").length, 4);
  world.socket.end();
  await world.clock.advance(1_000);
  world.socket.hear(say.hello({ resumed: true }));
  assert.deepEqual(world.socket.saidOf("vote"), [{ type: "vote", poll_id: say.POLL, choice: 1 }]);
  world.socket.hear({ type: "voted", t: say.T0, poll_id: say.POLL, choice: 1 });
  assert.equal(await vote, 1);
  // A list that was read before the vote does not hide it.
  world.socket.hear(say.mine(10));
  assert.deepEqual(show.mine.get()?.votes, { [say.POLL]: 1 });
  await world.clock.advance(10_000);
  assert.equal(world.socket.saidOf("vote").length, 1);
});

test("a vote that was made before says which choice counts", async () => {
  const { world, show } = await joined();
  const vote = show.vote(say.POLL, 1);
  const problem = {
    status: 409,
    code: "already_voted",
    detail: "The vote for choice 0 counts.",
    poll_id: say.POLL,
    choice: 0,
  };
  world.socket.hear({ type: "problem", t: say.T0, to: "vote", problem });
  assert.equal(await vote, 0);
});

test("a vote that is refused is an error with the code", async () => {
  for (const code of ["poll_closed", "guests_may_not_vote", "rate_limited", "invalid", "not_found"]) {
    const { world, show } = await joined();
    const vote = show.vote(say.POLL, 1);
    world.socket.hear({ type: "problem", t: say.T0, to: "vote", problem: { status: 409, code, detail: "No.", poll_id: say.POLL } });
    await assert.rejects(vote, (error) => error instanceof RefusedError && error.code === code);
  }
});

test("a vote without any answer is given up after two minutes", async () => {
  const { world, show } = await watch();
  const vote = assert.rejects(show.vote(say.POLL, 1), UnansweredError);
  await world.clock.advance(120_000);
  await vote;
});

// ---- A long show ----

test("36,000 entries leave nothing behind", async () => {
  const world = new World();
  const options = { pictureTime: () => world.clock.now() - 2_000, environment: world.environment };
  const show = connect({ server: "https://live.shop.example", showId: say.SHOW, ...options });
  await settle();
  world.socket.hear(say.hello());
  world.socket.hear(say.snapshot(0));
  let heard = 0;
  show.onEntry(() => void (heard += 1));
  const collect = garbageCollector();
  let seq = 0;
  const run = async (seconds: number) => {
    for (let beat = 0; beat < seconds * 10; beat += 1) {
      // 200 entries a second, in ten frames.
      const entries = Array.from({ length: 20 }, () => ((seq += 1), say.pin(seq, world.clock.now())));
      world.socket.hear(
        say.frame(seq - 20, seq, entries, { viewers: [seq, seq, world.clock.now()] }, world.clock.now()),
      );
      world.clock.lapse(100);
      if (beat % 20 === 0) await world.clock.advance(0);
    }
    await world.clock.advance(5_000);
    collect();
    return process.memoryUsage().heapUsed;
  };
  const before = await run(30);
  const after = await run(150);
  assert.equal(heard, 36_000);
  assert.ok(after < before * 1.05, `${before} bytes before, ${after} after`);
});

/** Node gives it only to those who ask. */
function garbageCollector(): () => void {
  setFlagsFromString("--expose-gc");
  return runInNewContext("gc") as () => void;
}
