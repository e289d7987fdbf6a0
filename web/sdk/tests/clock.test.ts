import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeClock } from "./fake.js";
import { ServerClock } from "./sdk.js";

/** The server's clock is this much ahead of the monotonic one. */
const TRUE_OFFSET = 1_795_307_670_000;

function setUp() {
  const local = new FakeClock();
  const server = new ServerClock(local);
  const truth = () => local.monotonic() + TRUE_OFFSET;
  return {
    local,
    server,
    truth,
    error: () => Math.abs(server.now() - truth()),
    /** A question that takes `there` ms to the server, and its answer `back` ms. */
    ask(there: number, back: number) {
      const sentAt = local.monotonic();
      local.lapse(there);
      const t = truth();
      local.lapse(back);
      server.sample(t, sentAt);
    },
  };
}

test("without a word of the server it is the device's time", () => {
  const { local, server } = setUp();
  assert.equal(server.now(), local.now());
});

test("before there is a round trip, the largest t minus local time counts", () => {
  const { local, server, truth, error } = setUp();
  for (const late of [300, 40, 900]) {
    const t = truth();
    local.lapse(late);
    server.hear(t, local.monotonic());
  }
  assert.equal(error(), 40);
});

test("the shortest round trip counts, and half of it belongs to each way", () => {
  const { ask, error } = setUp();
  ask(500, 100);
  assert.equal(error(), 200);
  ask(20, 24);
  assert.equal(error(), 2);
  ask(10, 400);
  assert.equal(error(), 2, "a slower one changes nothing");
});

test("a message that says more than the best round trip is right: it cannot be early", () => {
  const { local, ask, error, server, truth } = setUp();
  ask(100, 300);
  assert.equal(error(), 100);
  server.hear(truth(), local.monotonic());
  assert.equal(error(), 0);
});

test("a device that slept is put right by the next message, and by the next round trip", () => {
  const { local, ask, error, server, truth } = setUp();
  ask(10, 10);
  // The server's clock goes on while the monotonic one stands still.
  const slept = 60_000;
  server.hear(truth() + slept, local.monotonic());
  assert.equal(Math.abs(server.now() - truth() - slept), 0);
  const sentAt = local.monotonic();
  local.lapse(80);
  server.sample(truth() + slept - 40, sentAt);
  assert.equal(error(), slept, "a slower round trip than the one before the sleep, and yet it counts");
});

test("somebody sets the device's clock: nothing moves", () => {
  const { local, ask, error } = setUp();
  ask(5, 5);
  local.wallOffset += 90_000;
  assert.equal(error(), 0);
});

test("a slower round trip replaces one that is old: clocks drift", () => {
  const { local, ask, error } = setUp();
  ask(5, 5);
  local.lapse(601_000);
  ask(50, 40);
  assert.equal(error(), 5);
});
