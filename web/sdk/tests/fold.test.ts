import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { emptyScene } from "./scenes.js";
import { type Entry, fold, type Scene } from "./sdk.js";

interface Case {
  readonly name: string;
  readonly scene: Partial<Scene>;
  readonly entries: readonly Entry[];
  readonly expected: Partial<Scene>;
}

const vectors = new URL("../../../tests/vectors/fold.json", import.meta.url);
const cases = JSON.parse(readFileSync(vectors, "utf8")) as Case[];
/** The vectors leave out what is empty. */
const whole = (scene: Partial<Scene>): Scene => ({ ...emptyScene, ...scene });

assert.ok(cases.length > 10, "the vectors are there");
for (const { name, scene, entries, expected } of cases) {
  test(`the fold: ${name}`, () => {
    const before = structuredClone(whole(scene));
    const start = whole(scene);
    assert.deepEqual(entries.reduce(fold, start), whole(expected));
    assert.deepEqual(start, before, "the scene before is not changed");
  });
}

test("what an entry does not touch stays the same object", () => {
  const pinned = fold(emptyScene, cases.flatMap((it) => it.entries).find((it) => it.type === "pin.set") as Entry);
  assert.notEqual(pinned, emptyScene);
  assert.equal(pinned.lineup, emptyScene.lineup);
  const sale_id = "sal_0198f2a4c6d87a3eb1f05a6c7d8e9f31" as const;
  const gone = { seq: 9, at: 0, type: "sale.changed", data: { sale_id, product_id: "prd_1", cap: 80 } } as const;
  assert.equal(fold(pinned, gone), pinned, "a sale that has ended");
  const unknown = { seq: 9, at: 0, type: "fireworks.lit", data: {} } as unknown as Entry;
  assert.equal(fold(pinned, unknown), pinned);
});
