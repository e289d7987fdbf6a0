import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeClock } from "./fake.js";
import { Alignment, type PictureTime } from "./sdk.js";

/** A video that is `lag` ms behind the stage, and a stage whose time is the fake clock's. */
function setUp(options: { lag?: number; pictureTime?: PictureTime | null; limitMs?: number } = {}) {
  const clock = new FakeClock();
  const video = { lag: options.lag ?? 8_000 };
  const released: { item: string; after: number }[] = [];
  const errors: unknown[] = [];
  const alignment = new Alignment<string>({
    pictureTime: options.pictureTime === undefined ? () => clock.now() - video.lag : options.pictureTime,
    limitMs: options.limitMs ?? 15_000,
    clock,
    serverNow: () => clock.now(),
    release: (items) => released.push(...items.map((item) => ({ item, after: clock.monotonic() }))),
    reportError: (error) => void errors.push(error),
  });
  const happens = (...items: string[]) => alignment.add(items.map((item) => ({ item, at: clock.now() })));
  return { clock, video, alignment, happens, released, errors, names: () => released.map((it) => it.item) };
}

test("something is released when the picture shows its moment", async () => {
  const { clock, happens, released } = setUp({ lag: 8_000 });
  happens("pin");
  await clock.advance(7_900);
  assert.equal(released.length, 0);
  await clock.advance(400);
  assert.equal(released.length, 1);
  assert.ok(Math.abs((released[0]?.after ?? 0) - 8_000) <= 100, JSON.stringify(released));
});

test("without a picture time everything is released at once", () => {
  for (const pictureTime of [null, () => null, () => Number.NaN, () => new Date(Number.NaN)]) {
    const { happens, names } = setUp({ pictureTime });
    happens("pin");
    assert.deepEqual(names(), ["pin"]);
  }
});

test("a picture time that throws is reported, and nothing waits for it", () => {
  const mistake = new Error("no video");
  const { happens, names, errors } = setUp({
    pictureTime: () => {
      throw mistake;
    },
  });
  happens("pin");
  assert.deepEqual([names(), errors], [["pin"], [mistake]]);
});

test("a picture that is far behind holds nothing longer than the limit", async () => {
  const { clock, happens, released } = setUp({ lag: 60_000, limitMs: 5_000 });
  happens("pin");
  await clock.advance(20_000);
  assert.ok(Math.abs((released[0]?.after ?? 0) - 5_000) <= 100, JSON.stringify(released));
});

test("what is late already waits only for the rest of the limit", async () => {
  const { clock, alignment, released } = setUp({ lag: 60_000, limitMs: 5_000 });
  alignment.add([
    { item: "old", at: clock.now() - 4_000 },
    { item: "older", at: clock.now() - 6_000 },
  ]);
  // It came behind `old` and is due: order is kept, so `old` comes with it.
  assert.deepEqual(
    released.map((it) => it.item),
    ["old", "older"],
  );
});

test("a picture that stands still holds things until the limit", async () => {
  const clock = new FakeClock();
  const stopped = clock.now() - 2_000;
  const { happens, released, clock: inner } = setUp({ pictureTime: () => stopped, limitMs: 5_000 });
  happens("pin");
  await inner.advance(4_800);
  assert.equal(released.length, 0);
  await inner.advance(400);
  assert.equal(released.length, 1);
});

test("a picture that jumps, to and fro, releases everything at once", async () => {
  for (const jump of [20_000, -6_000]) {
    const { clock, video, happens, names } = setUp({ lag: 8_000 });
    happens("pin", "poll");
    await clock.advance(1_000);
    assert.deepEqual(names(), []);
    video.lag += jump;
    await clock.advance(150);
    assert.deepEqual(names(), ["pin", "poll"]);
  }
});

test("a picture that disappears releases everything at once", async () => {
  let picture: number | null = 1_795_307_570_000;
  const { clock, happens, names } = setUp({ pictureTime: () => picture });
  happens("pin");
  await clock.advance(500);
  assert.deepEqual(names(), []);
  picture = null;
  await clock.advance(150);
  assert.deepEqual(names(), ["pin"]);
});

test("order is kept, also when an entry tells of an earlier moment than the one before it", async () => {
  const { clock, alignment, names } = setUp({ lag: 3_000 });
  alignment.add([
    { item: "later", at: clock.now() },
    { item: "earlier", at: clock.now() - 2_000 },
  ]);
  await clock.advance(2_000);
  assert.deepEqual(names(), [], "the second one waits behind the first");
  await clock.advance(1_200);
  assert.deepEqual(names(), ["later", "earlier"]);
});

test("no more is held than there is room for; the oldest goes first", () => {
  const { happens, names } = setUp();
  happens(...Array.from({ length: 5_002 }, (_, index) => String(index)));
  assert.deepEqual(names(), ["0", "1"]);
});

test("the moment that is seen is the picture's, within the limit, and never ahead of the stage", () => {
  for (const [lag, seen] of [
    [8_000, 8_000],
    [60_000, 15_000],
    [-5_000, 0],
  ] as const) {
    const { clock, alignment } = setUp({ lag });
    assert.equal(clock.now() - alignment.now(), seen);
  }
  const { clock, alignment } = setUp({ pictureTime: () => null });
  assert.equal(alignment.now(), clock.now());
});

test("after it was stopped nothing comes", async () => {
  const { clock, alignment, happens, names } = setUp();
  happens("pin");
  alignment.stop();
  await clock.advance(20_000);
  assert.deepEqual(names(), []);
});
