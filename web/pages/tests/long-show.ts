import type { Page } from "playwright-core";
import type { Mark, Point } from "../src/dashboard/api.js";
import { inSteps } from "../src/dashboard/timeline.js";

const SECOND = 1_000;

/** A second of a show of three hours, the same each time: viewers come and go, and buy in rushes. */
function second(at: number, into: number, before: Point | undefined): Point {
  const rush = into % 900 > 240 && into % 900 < 300 ? (300 - (into % 900)) / 60 : 0;
  const granted = Math.round(rush * (6 + 5 * Math.sin(into)));
  const refused = into % 900 > 262 && into % 900 < 275 ? 14 : 0;
  const asked = granted + refused;
  const bought = Math.max(0, granted - (into % 5 === 0 ? 2 : 0));
  return {
    at,
    viewers: Math.round(1_900 * (1 - Math.exp(-into / 1_500)) + 140 * Math.sin(into / 310) + 260 * rush + 12 * Math.sin(into * 1.7)) + 20,
    viewers_behind: 0, granted, refused, failed: into % 4_000 === 1_262 ? 3 : 0,
    wait_p50_ms: asked === 0 ? null : 4 + Math.round(asked / 3),
    wait_p99_ms: asked === 0 ? null : 14 + asked * 3 + Math.round(9 * Math.sin(into * 2.3)),
    provider_errors: 0, provider_line: 0,
    orders: (before?.orders ?? 0) + bought,
    gmv_minor: (before?.gmv_minor ?? 0) + bought * (2_900 + 1_700 * (Math.floor(into / 900) % 3)),
    refunded_minor: 0,
  };
}

/**
 * Answers for the server as if the show had gone on for three hours: no test can wait for one. Everything else is the real
 * server's.
 */
export async function lastsThreeHours(page: Page): Promise<void> {
  const began = Math.floor(Date.now() / SECOND) * SECOND - 3 * 3_600 * SECOND;
  const seconds: Point[] = [];
  const marks: Mark[] = Array.from({ length: 36 }, (_, index) => ({ seq: index + 2, at: began + (index * 300 + 30) * SECOND, type: "pin.set", text: ["Ridge table lamp", "Stoneware jug, two litres", "Salad bowl in olive wood"][index % 3] ?? "" }));
  await page.route(/\/v1\/shows\/shw_\w+$/, async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, json: { ...((await response.json()) as object), started_at: began } });
  });
  await page.route(/\/timeline\?/, async (route) => {
    for (let at = began + seconds.length * SECOND; at < Date.now() - SECOND; at += SECOND) seconds.push(second(at, (at - began) / SECOND, seconds.at(-1)));
    const asked = new URL(route.request().url()).searchParams;
    const [from, step] = [Number(asked.get("from")), Number(asked.get("step_ms"))];
    const response = await route.fetch();
    const begin = Math.floor(from / step) * step;
    const points = inSteps(seconds.slice(Math.max(0, Math.ceil((begin - began) / SECOND))), step);
    await route.fulfill({ response, json: { ...((await response.json()) as object), started_at: began, points, marks: marks.filter((it) => it.at >= begin) } });
  });
}
