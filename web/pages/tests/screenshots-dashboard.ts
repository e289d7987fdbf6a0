// Pictures of the dashboard, to be looked at: `npm run screenshots`. They land in web/screenshots, which is not kept.
//
// They need a show that has lasted a while, so this drives one for some minutes; MINUTES says how many.
import { mkdirSync } from "node:fs";
import { after, before, test } from "node:test";
import type { Browser, BrowserContextOptions } from "playwright-core";
import { DESKTOP, launch, PHONE, visit, type Watched } from "../../testing/browser.js";
import { call, Host } from "../../testing/host.js";
import { Server } from "../../testing/server.js";
import { Crowd } from "./crowd.js";
import { signedIn } from "./dashboard-scene.js";
import { lastsThreeHours } from "./long-show.js";

const OUT = "../screenshots";
const MINUTES = Number(process.env["MINUTES"] ?? 4);
let browser: Browser;
let server: Server;

before(async () => {
  mkdirSync(OUT, { recursive: true });
  browser = await launch();
  server = await Server.start({ settings: ["--web-dir", "../dist"] });
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

const looks: readonly { name: string; options: BrowserContextOptions }[] = [
  { name: "desktop-light", options: { ...DESKTOP, colorScheme: "light" } },
  { name: "desktop-dark", options: { ...DESKTOP, colorScheme: "dark" } },
  { name: "phone-light", options: { ...PHONE, colorScheme: "light" } },
  { name: "phone-dark", options: { ...PHONE, colorScheme: "dark" } },
];

/** Calls each of these at its share of the show. */
async function play(lengthMs: number, script: readonly (readonly [number, () => Promise<unknown>])[]): Promise<void> {
  const began = Date.now();
  const running: Promise<unknown>[] = [];
  for (const [share, act] of script) {
    // A show takes its time: nothing is waited for here but the clock.
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, began + share * lengthMs - Date.now())));
    running.push(act());
  }
  await Promise.all(running);
}

test("a show of three hours", { timeout: 60_000 }, async () => {
  const host = await Host.open(server, { title: "The long autumn evening" });
  const { page, context } = await visit(browser, `${server.url}/dashboard`, looks[0]?.options);
  await lastsThreeHours(page);
  await page.locator("[name=token]").fill(host.token);
  await page.locator("[name=show]").fill(host.showId);
  await page.getByRole("button", { name: "Open" }).click();
  await page.locator("#plot-wait canvas").waitFor();
  await page.screenshot({ path: `${OUT}/dashboard-three-hours.png` });
  await page.getByRole("button", { name: "Last 5 min" }).click();
  await page.screenshot({ path: `${OUT}/dashboard-last-five.png` });
  await host.end();
  await context.close();
});

test("a show of some minutes", { timeout: MINUTES * 60_000 + 180_000 }, async () => {
  const host = await Host.open(server, { title: "The autumn table" });
  await Host.open(server, { title: "Tomorrow at eight", start: false });
  const lamp = await host.product({ sku: "lamp", title: "Ridge table lamp", variant: "Ochre", price_minor: 8900, units: 200 });
  const jug = await host.product({ sku: "jug", title: "Stoneware jug, two litres", price_minor: 4200, units: 200 });
  const rug = await host.product({ sku: "rug", title: "Flat-weave runner, hand-loomed in undyed wool", price_minor: 124000, units: 9 });
  const bowl = await host.product({ sku: "bowl", title: "Salad bowl in olive wood", price_minor: 5600, units: 90 });
  const crowd = await Crowd.of(server, host.showId);
  let buyers = 0;
  /** Some buy; whoever comes too late is refused. */
  const rush = async (sale: Promise<string>, wanted: number, pay = true) => {
    const id = await sale;
    await Promise.all(Array.from({ length: wanted }, () => host.buy(`buyer-${(buyers += 1)}`, id, { pay }).catch(() => null)));
  };
  const vote = async (poll: Promise<string>, choices: readonly number[]) => {
    const id = await poll;
    await Promise.all(choices.map(async (choice, index) => call(server, await server.token("viewer", `voter-${index}`), "POST", `/v1/shows/${host.showId}/polls/${id}/votes`, { choice })));
    return id;
  };
  const sales: Promise<string>[] = [];
  const begin = (...given: Parameters<Host["sale"]>) => {
    const sale = host.sale(...given);
    sales.push(sale);
    return sale;
  };
  const again = (index: number, wanted: number, pay = true) => rush(sales[index] ?? Promise.reject(new Error("no such sale")), wanted, pay);
  const lengthMs = MINUTES * 60_000;
  const come = Array.from({ length: 46 }, (_, index): [number, () => Promise<unknown>] => [index / 110, () => crowd.come(Math.round(6 + 4 * Math.sin(index)) - (index % 7 === 6 ? 2 : 0))]);
  const sway = Array.from({ length: 40 }, (_, index): [number, () => Promise<unknown>] => [0.42 + index / 75, async () => (Math.sin(index * 1.7) > 0.15 ? crowd.leave(7) : crowd.come(5))]);
  let first: Promise<string> = Promise.resolve("");
  let second: Promise<string> = Promise.resolve("");
  const script: [number, () => Promise<unknown>][] = [
    [0.04, () => host.pin(lamp)],
    [0.1, () => (first = vote(host.poll("Which glaze next?", ["Ochre", "Moss", "Plain white"]), [0, 1, 1, 1, 0, 2, 1, 1]))],
    [0.18, async () => host.closePoll(await first)],
    [0.22, () => Promise.all([rush(begin(lamp, { price_minor: 6200, cap: 14, duration_ms: Math.round(lengthMs * 0.13) }), 18), crowd.come(55)])],
    [0.25, () => again(0, 14)],
    [0.29, () => again(0, 9)],
    [0.4, () => host.pin(jug)],
    [0.43, () => rush(begin(jug, { price_minor: 2900, cap: 40, duration_ms: Math.round(lengthMs * 0.25) }), 7)],
    [0.47, () => again(1, 4)],
    [0.5, () => Promise.all([again(1, 3), (second = vote(host.poll("Shall we open the kiln now, or wait for the second firing?", ["Now", "Wait"]), [0, 0, 1, 0, 1]))])],
    [0.55, () => again(1, 5, false)],
    [0.58, async () => Promise.all([again(1, 2), host.closePoll(await second)])],
    [0.62, () => again(1, 4)],
    [0.7, () => host.pin(bowl)],
    [0.74, () => Promise.all([host.pin(rug), rush(begin(rug, { percent_off: 20, cap: 3 }), 6), crowd.come(40)])],
    [0.78, () => rush(begin(bowl, { price_minor: 4500, cap: 12 }), 5)],
    [0.84, () => again(3, 4)],
    [0.9, () => again(3, 6)],
  ];
  await play(lengthMs, [...come, ...sway, ...script].sort(([one], [other]) => one - other));

  for (const look of looks) {
    const dashboard = await signedIn(browser, server, host, look.options);
    await dashboard.page.locator("#figure-orders strong").filter({ hasText: /[1-9]/ }).waitFor();
    await dashboard.page.screenshot({ path: `${OUT}/dashboard-live-${look.name}.png`, fullPage: look.name.startsWith("phone") });
    if (look.name === "desktop-light") await closer(dashboard);
    await dashboard.context.close();
  }
  await crowd.leave(60);
  await host.end();
  for (const look of looks) {
    const { page, context } = await signedIn(browser, server, host, look.options);
    await page.locator("#state").getByText("Report").waitFor();
    await page.locator("#sales tfoot").waitFor();
    await page.screenshot({ path: `${OUT}/dashboard-report-${look.name}.png`, fullPage: true });
    if (look.name === "desktop-dark") {
      await page.pdf({ path: `${OUT}/dashboard-report.pdf`, preferCSSPageSize: true });
      await page.setViewportSize({ width: 1032, height: 703 });
      await page.emulateMedia({ media: "print" });
      await page.locator("#plot-viewers canvas").waitFor();
      await page.screenshot({ path: `${OUT}/dashboard-print.png`, fullPage: true });
    }
    await context.close();
  }
  const door = await visit(browser, `${server.url}/dashboard`, looks[0]?.options);
  await door.page.screenshot({ path: `${OUT}/dashboard-door.png` });
  await door.context.close();
  await crowd.leave();
});

async function closer({ page }: Watched): Promise<void> {
  const plot = page.locator("#plot-gmv .u-over");
  const box = await plot.boundingBox();
  if (box === null) throw new Error("There is no chart.");
  await page.mouse.move(box.x + box.width * 0.3, box.y + 20);
  await page.screenshot({ path: `${OUT}/dashboard-cursor.png` });
  await page.mouse.move(box.x + box.width * 0.18, box.y + 20);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.45, box.y + 20, { steps: 4 });
  await page.screenshot({ path: `${OUT}/dashboard-drag.png` });
  await page.mouse.up();
  await page.screenshot({ path: `${OUT}/dashboard-zoom.png` });
  await page.getByRole("button", { name: "As a table" }).click();
  await page.screenshot({ path: `${OUT}/dashboard-table.png`, fullPage: true });
}
