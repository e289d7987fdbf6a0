import assert from "node:assert/strict";
import { test } from "node:test";
import { unexpected } from "./fake.js";
import { Gauges, select, Value } from "./sdk.js";

test("a subscriber hears the present value at once, then each other one, until it ends its subscription", () => {
  const value = new Value(1, unexpected);
  const heard: number[] = [];
  const unsubscribe = value.subscribe((it) => heard.push(it));
  value.set(2);
  value.set(2);
  value.set(3);
  unsubscribe();
  unsubscribe();
  value.set(4);
  assert.deepEqual(heard, [1, 2, 3]);
  assert.equal(value.get(), 4);
});

test("what a subscriber throws is reported, and the others hear all the same", () => {
  const errors: unknown[] = [];
  const value = new Value("a", (error) => void errors.push(error));
  const heard: string[] = [];
  const mistake = new Error("a mistake of the page");
  value.subscribe(() => {
    throw mistake;
  });
  value.subscribe((it) => heard.push(it));
  value.set("b");
  assert.deepEqual(heard, ["a", "b"]);
  assert.deepEqual(errors, [mistake, mistake]);
});

test("a subscriber that is taken off by one before it hears nothing more", () => {
  const value = new Value(0, unexpected);
  const heard: number[] = [];
  let off = () => {};
  value.subscribe((it) => {
    if (it === 1) off();
  });
  off = value.subscribe((it) => heard.push(it));
  value.set(1);
  assert.deepEqual(heard, [0]);
});

test("a part is told of only when it is another one", () => {
  const scene = new Value<{ pin: string; polls: number }>({ pin: "lamp", polls: 0 }, unexpected);
  const heard: string[] = [];
  select(scene, (it) => it.pin).subscribe((it) => heard.push(it));
  scene.set({ pin: "lamp", polls: 1 });
  scene.set({ pin: "pan", polls: 1 });
  assert.deepEqual(heard, ["lamp", "pan"]);
});

test("a gauge takes only newer versions, and a snapshot replaces all", () => {
  const gauges = new Gauges(unexpected);
  const heard: (number | undefined)[] = [];
  gauges.observe("viewers").subscribe((it) => heard.push(it));
  gauges.take("viewers", [2, 20, 0]);
  gauges.take("viewers", [2, 21, 0]);
  gauges.take("viewers", [1, 10, 0]);
  gauges.take("viewers", [3, 30, 0]);
  gauges.take("viewers", [4, 30, 0]);
  gauges.replace({ viewers: [1, 5, 0] });
  gauges.take("viewers", [2, 6, 0]);
  gauges.replace({});
  assert.deepEqual(heard, [undefined, 20, 30, 5, 6, undefined]);
});
