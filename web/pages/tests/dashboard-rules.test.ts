import assert from "node:assert/strict";
import { test } from "node:test";
import type { Point } from "../src/dashboard/api.js";
import { happened } from "../src/dashboard/acts.js";
import { Books } from "../src/dashboard/books.js";
import { csv } from "../src/dashboard/csv.js";
import { isolated } from "../src/design/bidi.js";
import { amount, decimals, decimalText, roundAmount } from "../src/design/money.js";
import { type Act, bands, lay, type Place } from "../src/dashboard/stage.js";
import { columns, figures, gmvPerMinute, gmvRates, inSteps, Points, POINTS_MAX, stepFor, Timeline } from "../src/dashboard/timeline.js";
import { parsed } from "./csv.js";

test("amounts become decimal texts exactly, by the decimals of ISO 4217", () => {
  const rows: [number, string, string][] = [
    [0, "EUR", "0.00"], [7, "EUR", "0.07"], [-1250, "EUR", "-12.50"], [123456789, "EUR", "1234567.89"], [9007199254740991, "EUR", "90071992547409.91"],
    [1250, "JPY", "1250"], [-5, "JPY", "-5"], [5, "KWD", "0.005"], [1234567, "KWD", "1234.567"], [250000, "HUF", "2500.00"],
  ];
  for (const [minor, currency, text] of rows) assert.equal(decimalText(minor, currency), text);
  // Hungarian prices have no fillér by custom, which must not make them a hundred times as much.
  assert.equal(decimals("HUF"), 2);
  assert.match(amount(250000, "HUF"), /2,500\.00/);
  assert.match(amount(9007199254740991, "EUR"), /90,071,992,547,409\.91/);
});

test("amounts at a glance have the decimals that they need, also where a currency has three", () => {
  const rows: [number, string, string][] = [
    [6205, "EUR", "€62.05"], [6200, "EUR", "€62"], [123_456, "EUR", "€1,235"], [4_820_000_00, "EUR", "€4.8M"],
    [4_505, "KWD", "KWD 4.505"], [500, "KWD", "KWD 0.500"], [5_000, "KWD", "KWD 5"], [1250, "JPY", "¥1,250"],
  ];
  for (const [minor, currency, text] of rows) assert.equal(roundAmount(minor, currency).replace("\u00A0", " "), text);
});

test("the best minute is that of the orders, whenever it was and however they lie to the clock", () => {
  const books = new Books();
  assert.equal(books.bestMinute(), null);
  const at = Date.parse("2026-03-01T20:00:30.000Z");
  const paid = (afterMs: number, gmv: number) =>
    books.take({ id: "", type: "order.paid", time: new Date(at + afterMs).toISOString(), data: { gmv_delta_minor: gmv } });
  for (const [afterMs, gmv] of [[0, 100], [59_999, 200], [60_000, 10], [61_000, 5], [300_000, 280]] as const) paid(afterMs, gmv);
  assert.deepEqual(books.bestMinute(), { gmv: 300, at });
  paid(359_000, 30);
  books.take({ id: "", type: "order.refunded", time: new Date(at).toISOString(), data: { gmv_delta_minor: -300 } });
  assert.deepEqual(books.bestMinute(), { gmv: 310, at: at + 300_000 });
  assert.deepEqual([books.paidSince(at + 300_000), books.paidSince(at + 299_999)], [30, 310]);
});

test("a text that turns letters round turns its own, and none of ours", () => {
  const evil = "\u202Edloc\u2069\u202E, tfos";
  assert.equal(isolated("Lamp, tall 70 × 240 – é"), "Lamp, tall 70 × 240 – é");
  assert.equal(isolated(evil), "dloc, tfos");
  assert.equal(isolated("\u05D0\u05D1"), "\u2068\u05D0\u05D1\u2069");
  const poll = { poll_id: "pol_1", question: "?", choices: [evil, "b"], opened_at: 1, closed_at: 2, counts: [3, 0], result: { total: 3, winner: 0 } };
  const [line] = happened({ marks: [], sales: [], polls: [poll], lineup: [], books: new Books() });
  assert.equal(line?.result, "dloc, tfos, 3 votes");
});

test("a CSV is read back as it was, whatever its texts hold", () => {
  const rows = [["plain", 'say "hi"', "one,two"], ["line\r\nbreak", "", "ünïcode €"], ["=1+1", " spaces ", '"']];
  assert.deepEqual(parsed(csv(rows)), rows);
  assert.equal(csv([["a", null, 1]]), "a,,1\r\n");
});

test("steps grow with the show, and never make more points than can be drawn", () => {
  const minute = 60_000;
  const rows: [number, number][] = [[1, 1], [25, 1], [26, 5], [125, 5], [180, 10], [600, 30], [24 * 60, 60], [5 * 24 * 60, 300]];
  for (const [minutes, seconds] of rows) assert.equal(stepFor(minutes * minute), seconds * 1000, `${minutes} min`);
  for (let minutes = 1; minutes < 7 * 24 * 60; minutes += 13) assert.ok((minutes * minute) / stepFor(minutes * minute) <= POINTS_MAX);
});

const point = (at: number, more: Partial<Point> = {}): Point => ({
  at, viewers: 1, viewers_behind: 0, granted: 0, refused: 0, failed: 0, wait_p50_ms: null, wait_p99_ms: null, provider_errors: 0, provider_line: 0,
  orders: 0, gmv_minor: 0, refunded_minor: 0, ...more,
});

test("seconds are added up as the server adds them up", () => {
  const seconds = [
    point(10_000, { viewers: 5, granted: 2, refused: 1, wait_p99_ms: 30, orders: 1, gmv_minor: 100 }),
    point(11_000, { viewers: 9, granted: 1, wait_p50_ms: 4, wait_p99_ms: 12, orders: 2, gmv_minor: 250 }),
    point(15_000, { viewers: 3, orders: 2, gmv_minor: 250 }),
  ];
  assert.deepEqual(inSteps(seconds, 5_000), [
    point(10_000, { viewers: 9, granted: 3, refused: 1, wait_p50_ms: 4, wait_p99_ms: 30, orders: 2, gmv_minor: 250 }),
    point(15_000, { viewers: 3, orders: 2, gmv_minor: 250 }),
  ]);
});

test("points that have grown replace what they were, and late ones find their place", () => {
  const points = new Points(1_000, [point(1_000), point(3_000)]);
  points.take([point(2_000, { viewers: 7 }), point(3_000, { viewers: 8 }), point(4_000)]);
  assert.deepEqual(points.all.map((it) => [it.at, it.viewers]), [[1_000, 1], [2_000, 7], [3_000, 8], [4_000, 1]]);
  points.forgetBefore(3_000);
  assert.deepEqual(points.between(0, 4_000).map((it) => it.at), [3_000]);
});

test("news make the steps that they touch anew, of all of their seconds", () => {
  const seconds = Array.from({ length: 100 }, (_, index) => point(index * 1_000, { granted: 1, orders: index }));
  const answer = { state: "ended", started_at: 0, ended_at: 100_000, currency: "EUR", marks: [], more: false } as const;
  const timeline = new Timeline({ ...answer, step_ms: 10_000, points: inSteps(seconds, 10_000) }, null);
  const news = [...seconds, point(100_000, { granted: 5, orders: 100 })].filter((it) => it.at >= timeline.newsFrom);
  timeline.take({ ...answer, step_ms: 1_000, points: news });
  assert.deepEqual(timeline.whole.all.map((it) => it.granted), [...Array.from({ length: 10 }, () => 10), 5]);
  assert.equal(timeline.whole.last?.orders, 100);
});

test("money per minute is that of the minute before, also where nobody watched, and refunds do not count against it", () => {
  const points = new Points(1_000, [
    point(0), point(10_000, { gmv_minor: 500, orders: 1 }), point(80_000, { gmv_minor: 300, refunded_minor: 200, orders: 1 }), point(81_000, { gmv_minor: 900, refunded_minor: 200, orders: 2 }),
  ]);
  const { at, gmv, orders, viewers } = columns(points, 0, 82_000);
  assert.equal(at.length, 82);
  assert.deepEqual([gmv[9], gmv[10], gmv[40], gmv[69], gmv[70], gmv[80], gmv[81]], [0, 500, 500, 500, 0, 0, 600]);
  assert.deepEqual([orders[10], orders[70], orders[81]], [1, 0, 1]);
  assert.deepEqual([viewers[10], viewers[11]], [1, null]);
  const late = new Points(1_000, [point(0, { viewers: 7 }), point(2_000, { viewers: 8 }), point(9_000)]);
  assert.deepEqual(columns(late, 0, 4_000).viewers, [7, 7, 8, null]);
});

test("where a window begins in the midst of a show, the rate of its first minute is not known", () => {
  const points = new Points(10_000, Array.from({ length: 9 }, (_, index) => point(1_000_000 + index * 10_000, { gmv_minor: 5_000 + index * 100 })));
  const rates = (startedAt: number) => gmvRates(points, 1_000_000, 1_090_000, startedAt);
  assert.deepEqual(rates(0), [null, null, null, null, null, null, 600, 600, 600]);
  assert.deepEqual(rates(990_000).slice(0, 2), [5_000, 5_100]);
});

test("where a window begins in the midst of a show, only what came since counts for its last minute", () => {
  const perMinute = (startedAt: number, amounts: readonly number[]) => {
    const points = amounts.map((it, index) => point(1_000_000 + index * 10_000, { gmv_minor: it }));
    const answer = { state: "live" as const, started_at: startedAt, ended_at: null, currency: "EUR", step_ms: 10_000, points, marks: [], more: false };
    return gmvPerMinute(new Timeline(answer, null), 1_000_000 + (amounts.length - 1) * 10_000);
  };
  assert.equal(perMinute(0, [5_000]), 0);
  assert.equal(perMinute(0, [5_000, 5_300]), 300);
  assert.equal(perMinute(990_000, [5_000]), 5_000);
});

test("a show that nobody has seen yet has figures", () => {
  const timeline = new Timeline({ state: "live", started_at: 1_795_307_580_520, ended_at: null, currency: "EUR", step_ms: 1_000, points: [], marks: [], more: false }, null);
  const { viewers, gmv, bestMinute } = figures(timeline, 1_795_307_581_000);
  assert.deepEqual([viewers, gmv, bestMinute], [0, 0, { gmv: 0, at: 0 }]);
});

test("sales that overlap are one band, which ends where time has come to", () => {
  const sale = (from: number, to: number | null): Act => ({ kind: "sale", text: "", from, to });
  assert.deepEqual(bands([sale(50, Number.POSITIVE_INFINITY), sale(10, 30), sale(20, 40), sale(60, 70)], 65), [{ from: 10, to: 40 }, { from: 50, to: 65 }]);
});

test("labels never overlap, however many pins there are", () => {
  const acts: Act[] = Array.from({ length: 300 }, (_, index) => {
    const from = (index * 7919) % 100_000;
    return { kind: "pin", text: `A product with a long name, number ${index}`, from, to: index % 3 === 0 ? from + 4_000 : null };
  });
  for (const width of [300, 900, 20_000]) {
    const place: Place = { from: 0, to: 100_000, edge: 100_000, width, measure: (text) => [...text].length * 7 };
    const placed = lay(acts, 3, place);
    assert.equal(placed.length, acts.length);
    for (const row of [0, 1, 2]) {
      const labels = placed.filter((it) => it.row === row && it.label !== "").sort((one, other) => one.labelLeft - other.labelLeft);
      labels.forEach((it, index) => {
        const next = labels[index + 1];
        assert.ok(it.labelLeft + it.labelWidth <= (next === undefined ? width : next.left), `"${it.label}" runs into "${next?.label}"`);
      });
    }
  }
});
