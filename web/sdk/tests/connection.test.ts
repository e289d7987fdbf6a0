/** A connection on sockets that the test plays: with which token it comes in, when it is dead, and how it comes back. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { settle, tokenOf, World } from "./fake.js";
import * as say from "./scenes.js";
import { ClosedError } from "./sdk.js";
import { joined, watch } from "./watch.js";

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
