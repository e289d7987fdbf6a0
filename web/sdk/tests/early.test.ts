/** A socket that was opened before the program was there: nothing of what it said is lost, and nobody gets a stranger's. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { settle, World } from "./fake.js";
import * as say from "./scenes.js";
import { connect, openEarly } from "./sdk.js";

const WHERE = { server: "https://live.shop.example/", showId: say.SHOW };

test("what an early socket said is heard by whoever connects, and it is the only socket", async () => {
  const world = new World();
  const socket = openEarly({ ...WHERE, token: "a.b.c", environment: world.environment });
  world.socket.hear(say.hello());
  world.socket.hear(say.snapshot(10));
  const show = connect({ ...WHERE, token: "a.b.c", environment: { ...world.environment, socket } });
  await settle();
  assert.equal(world.sockets.length, 1);
  assert.equal(show.connection.get().status, "open");
  assert.notEqual(show.scene.get(), null);
  world.socket.hear(say.frame(10, 11, [say.pin(11)]));
  assert.notEqual(show.scene.get()?.pin, null);
  // The next one is new, and goes on where the first one was.
  world.socket.end();
  await world.clock.advance(5_000);
  assert.equal(world.sockets.length, 2);
  assert.match(world.socket.url, /\?since=/);
});

test("an early socket that ended is tried again, as any other", async () => {
  const world = new World();
  const socket = openEarly({ ...WHERE, environment: world.environment });
  world.socket.end();
  const show = connect({ ...WHERE, environment: { ...world.environment, socket } });
  await settle();
  assert.equal(show.connection.get().status, "waiting");
  await world.clock.advance(5_000);
  assert.equal(world.sockets.length, 2);
});

test("a guest comes early as the guest of before; for somebody else the early socket is closed", async () => {
  const world = new World();
  const before = connect({ ...WHERE, environment: world.environment });
  await settle();
  world.socket.hear(say.hello({ role: "guest", guest_token: "guest.of.day" }));
  before.close();
  const socket = openEarly({ ...WHERE, environment: world.environment });
  const early = world.socket;
  assert.deepEqual(early.protocols, ["showcart.v1", "token.guest.of.day"]);
  connect({ ...WHERE, token: "a.b.c", environment: { ...world.environment, socket } });
  await settle();
  assert.ok(early.isClosed);
  assert.deepEqual(world.socket.protocols, ["showcart.v1", "token.a.b.c"]);
});

test("what cannot be opened early is told by whoever connects", async () => {
  const world = new World();
  const refuse = () => {
    throw new SyntaxError("no address");
  };
  const socket = openEarly({ ...WHERE, environment: { ...world.environment, socket: refuse } });
  const show = connect({ ...WHERE, environment: { ...world.environment, socket } });
  await settle();
  assert.deepEqual(
    world.errors.map((it) => (it as Error).message),
    ["no address"],
  );
  assert.deepEqual(show.connection.get(), { status: "closed", reason: "unusable_address" });
});

test("what came early counts from when it came, so that the clock is not behind by what the program took to load", async () => {
  const world = new World();
  const socket = openEarly({ ...WHERE, token: "a.b.c", environment: world.environment });
  world.socket.hear(say.hello());
  await world.clock.advance(700);
  const show = connect({ ...WHERE, token: "a.b.c", environment: { ...world.environment, socket } });
  await settle();
  assert.equal(show.serverNow(), say.T0 + 700);
});
