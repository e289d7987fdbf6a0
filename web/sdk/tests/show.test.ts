/** A show on sockets that the test plays: what is said, when it is told to the page, and what is left of it. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { settle, World } from "./fake.js";
import * as say from "./scenes.js";
import { connect, RefusedError, UnansweredError } from "./sdk.js";
import { joined, watch } from "./watch.js";

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
