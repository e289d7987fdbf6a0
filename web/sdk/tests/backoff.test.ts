import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { type DisconnectReason, nextStep, reasonOf, WAIT_MAX_MS } from "./sdk.js";

test("what follows a close code", () => {
  const table: [code: number, reason: string, after: string][] = [
    [1006, "network", "0 to 1000"],
    [1000, "network", "0 to 1000"],
    [1012, "restarting", "0 to 1000"],
    [1002, "misunderstood", "2000 to 4000"],
    [1009, "misunderstood", "2000 to 4000"],
    [4001, "bad_token", "renew"],
    [4002, "token_expired", "renew"],
    [4003, "forbidden", "stop"],
    [4004, "no_such_show", "stop"],
    [4103, "unavailable", "2000 to 4000"],
    [4108, "too_slow", "2000 to 4000"],
    [4110, "too_many_messages", "2000 to 4000"],
    // Of the time to come.
    [4099, "forbidden", "stop"],
    [4199, "unavailable", "2000 to 4000"],
    [4201, "network", "0 to 1000"],
  ];
  for (const [code, reason, after] of table) {
    const step = nextStep(reasonOf(code), 1, 1_000, 0);
    const told = step.do === "wait" ? `${step.atLeastMs} to ${step.upToMs}` : step.do;
    assert.deepEqual([reasonOf(code), told], [reason, after], `close code ${code}`);
  }
});

const longest = (reason: DisconnectReason, failures: number, outageMs: number, reconnectMs = 1_000) => {
  const step = nextStep(reason, failures, reconnectMs, outageMs);
  return step.do === "wait" ? step.upToMs : null;
};

test("each failure doubles the wait, up to what the length of the outage allows", () => {
  const waits = (outageMs: number) => [1, 2, 3, 4, 5, 6, 100].map((failures) => longest("network", failures, outageMs));
  assert.deepEqual(waits(17_000), [1_000, 2_000, 4_000, 4_000, 4_000, 4_000, 4_000]);
  assert.deepEqual(waits(60_000), [1_000, 2_000, 4_000, 4_000, 4_000, 4_000, 4_000]);
  assert.deepEqual(waits(180_000), [1_000, 2_000, 4_000, 8_000, 12_000, 12_000, 12_000]);
  assert.deepEqual(waits(3_600_000), [1_000, 2_000, 4_000, 8_000, 16_000, WAIT_MAX_MS, WAIT_MAX_MS]);
});

test("a server that cannot read is back as soon; a client that was too slow waits longer each time", () => {
  assert.deepEqual(
    [1, 2, 3].map((failures) => longest("unavailable", failures, 17_000)),
    [4_000, 4_000, 4_000],
  );
  assert.deepEqual(
    [1, 2, 3].map((failures) => longest("too_slow", failures, 17_000)),
    [4_000, 8_000, 16_000],
  );
});

test("a server that wants its crowd spread over more time has it so", () => {
  assert.deepEqual(
    [1, 2].map((failures) => longest("network", failures, 0, 12_000)),
    [12_000, 12_000],
  );
});

test("every close code, entry and problem of the socket's schema is known here", () => {
  const read = (path: string) => readFileSync(new URL(path, import.meta.url), "utf8");
  const schema = read("../../../docs/socket.schema.json");
  const protocol = read("../src/protocol.ts");
  const backoff = read("../src/backoff.ts");
  interface Definitions {
    readonly Entry: { readonly oneOf: { readonly properties: { readonly type: { readonly const: string } } }[] };
    readonly Problem: { readonly properties: { readonly code: { readonly enum: string[] } } };
    readonly CloseCode: { readonly oneOf: { readonly const: number }[] };
  }
  const definitions = (JSON.parse(schema) as { readonly $defs: Definitions }).$defs;
  for (const { properties } of definitions.Entry.oneOf)
    assert.ok(protocol.includes(`"${properties.type.const}":`), properties.type.const);
  for (const code of definitions.Problem.properties.code.enum) assert.ok(protocol.includes(`"${code}"`), code);
  for (const code of definitions.CloseCode.oneOf)
    assert.ok(backoff.includes(`case ${code.const}:`), String(code.const));
});
