import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import type { Page } from "playwright-core";
import { address, DESKTOP, PHONE, SMALL, visit } from "../../testing/browser.js";
import { call, Host } from "../../testing/host.js";
import type { Point, TimelineAnswer } from "../src/dashboard/api.js";
import { decimalText } from "../src/design/money.js";
import { Crowd } from "./crowd.js";
import { parsed } from "./csv.js";
import { desk, signedIn } from "./dashboard-scene.js";
import { lastsThreeHours } from "./long-show.js";

const stage = desk();
const PAGE_MAX = 60 * 1024;
const LIVE_MS = 2_000;
/** Of one core, with canvases drawn in software. */
const BUSY_MAX = 0.08;

/** The figure with this text, since when by the page's own clock. */
const figure = (page: Page, id: string, text: string) => page.locator(`#figure-${id} strong`).getByText(text, { exact: true });

/** Whether something has been drawn in a chart in this colour, as its pixels say. */
const isDrawn = (page: Page, name: string, colour: string) =>
  page.locator(`#plot-${name} canvas`).evaluate((canvas: HTMLCanvasElement, token) => {
    const probe = document.querySelector(`.palette .${token}`);
    const [red = 0, green = 0, blue = 0] = getComputedStyle(probe as Element).color.match(/\d+/g)?.map(Number) ?? [];
    const { data } = (canvas.getContext("2d") as CanvasRenderingContext2D).getImageData(0, 0, canvas.width, canvas.height);
    for (let at = 0; at < data.length; at += 4) {
      if (data[at] === red && data[at + 1] === green && data[at + 2] === blue && data[at + 3] === 255) return true;
    }
    return false;
  }, colour);

test("the dashboard is at most 60 kB", async () => {
  const html = await readFile("../dist/dashboard.html", "utf8");
  const files = ["/dashboard.html", ...[...html.matchAll(/(?:href|src)="(\/[^"]+)"/g)].map((it) => String(it[1]))];
  const sizes = await Promise.all(files.map(async (it) => ({ name: it, size: gzipSync(await readFile(`../dist${it}`)).length })));
  const all = sizes.reduce((sum, { size }) => sum + size, 0);
  console.log(`dashboard: ${all} bytes of gzip (${sizes.map((it) => `${it.name} ${it.size}`).join(", ")})`);
  assert.ok(all <= PAGE_MAX, `${all} bytes`);
});

test("the desk and the dashboard mean the same by GMV per minute: what was paid for in 60 s, before refunds", { timeout: 90_000 }, async () => {
  const { browser, server } = stage;
  const host = await Host.open(server);
  const lamp = await host.product({ sku: "rate-1", title: "The lamp", price_minor: 8900 });
  const sale = await host.sale(lamp, { price_minor: 6200, cap: 5 });
  const dashboard = await signedIn(browser, server, host);
  const words = { show: host.showId, token: host.token };
  const panel = await visit(browser, address(server.url, "/desk", words), DESKTOP);
  const rate = panel.page.locator("[data-figure=gmv] figcaption .figures");
  const both = async (amount: string) => {
    await rate.getByText(`€${amount}.00`, { exact: true }).waitFor();
    await figure(dashboard.page, "minute", `€${amount}`).waitFor();
  };
  await both("0");
  const order = await host.buy("ann", sale);
  await both("62");
  await host.refund(order, 3000);
  await panel.page.locator("[data-number=gmv]", { hasText: "€32.00" }).waitFor();
  await host.buy("bo", sale);
  await both("124");
  assert.deepEqual([...dashboard.complaints, ...panel.complaints], []);
  await dashboard.context.close();
  await panel.context.close();
});

test("viewers and a purchase are seen within two seconds, and what is on stage is marked", { timeout: 90_000 }, async () => {
  const { browser, server } = stage;
  const host = await Host.open(server, { title: "Autumn lamps" });
  const lamp = await host.product({ sku: "live-1", title: "Ridge table lamp", price_minor: 8900 });
  const crowd = await Crowd.of(server, host.showId);
  await crowd.come(3);
  const { page, context, complaints } = await signedIn(browser, server, host);
  assert.equal(await page.evaluate(() => location.hash), "", "the token has left the address bar");
  await figure(page, "viewers", "3").waitFor();

  const sale = await host.sale(lamp, { price_minor: 6205, cap: 5 });
  await host.pin(lamp, 0);
  const poll = await host.poll("Which glaze next?", ["Ochre", "Moss"]);
  for (const [kind, text] of [["sale", "Ridge table lamp"], ["pin", "Ridge table lamp"], ["poll", "Which glaze next?"]] as const) {
    // A label is cut where the edge of what is known is near; its title is whole.
    await page.locator(`#stage .${kind} title`, { hasText: text }).waitFor({ state: "attached" });
  }
  await page.locator("#marks").getByText("Which glaze next?").waitFor();

  // The moment by the page, so that the way back from the browser does not count.
  const seen = page.evaluate(() =>
    new Promise<number>((resolve) => {
      const amount = document.querySelector("#figure-gmv strong");
      const look = new MutationObserver(() => {
        if (amount?.textContent === "€62.05") resolve(performance.timeOrigin + performance.now());
      });
      look.observe(amount as Element, { childList: true, characterData: true, subtree: true });
    }),
  );
  await host.buy("ann", sale);
  const bought = Date.now();
  const tookMs = (await seen) - bought;
  assert.ok(tookMs <= LIVE_MS, `${Math.round(tookMs)} ms`);
  console.log(`a purchase was seen after ${Math.round(tookMs)} ms`);
  await figure(page, "orders", "1").waitFor();
  await figure(page, "conversion", "100%").waitFor();
  await page.locator("#sales tfoot").getByText("€62.05").waitFor();
  await page.waitForFunction(() => document.querySelector("#says-gmv strong")?.textContent === "€62.05");
  assert.equal(await isDrawn(page, "gmv", "money-ink"), true);

  await crowd.come(2);
  await figure(page, "viewers", "5").waitFor();
  await crowd.leave();
  await figure(page, "viewers", "0").waitFor();
  await host.closePoll(poll);
  await page.locator("#marks").getByText("nobody voted").waitFor();
  assert.deepEqual(complaints, []);
  await context.close();
});

test("of a young show the curves end where its time has come to, and the viewers are said from the beginning", { timeout: 60_000 }, async () => {
  const { browser, server } = stage;
  const host = await Host.open(server, { title: "Just begun" });
  const lamp = await host.product({ sku: "young-1", title: "Lamp", price_minor: 8900 });
  const crowd = await Crowd.of(server, host.showId);
  await crowd.come(3);
  const { page, context, complaints } = await signedIn(browser, server, host);
  const opened = performance.now();
  await figure(page, "viewers", "3").waitFor();
  await page.locator("#says-viewers strong").getByText("3", { exact: true }).waitFor();
  assert.ok(performance.now() - opened < LIVE_MS);
  const sale = await host.sale(lamp, { price_minor: 6205, cap: 5 });
  await host.buy("ann", sale);
  await page.locator("#says-gmv strong").getByText("€62.05", { exact: true }).waitFor();
  assert.equal(await isDrawn(page, "gmv", "money-ink"), true);
  await page.locator("#says-orders strong").getByText("1", { exact: true }).waitFor();
  // The axis has minutes, and its right half is still empty: no curve, and no sale that goes on.
  const names = ["viewers", "gmv", "orders", "requests", "wait"];
  for (const name of names) {
    const inked = await page.locator(`#plot-${name} canvas`).evaluate((canvas: HTMLCanvasElement, tokens) => {
      const pen = canvas.getContext("2d") as CanvasRenderingContext2D;
      const from = Math.round(canvas.width * 0.6);
      const { data } = pen.getImageData(from, 0, canvas.width - from, Math.round(canvas.height * 0.7));
      const colours = tokens.map((it) => getComputedStyle(document.querySelector(`.palette .${it}`) as Element).color.match(/\d+/g)?.map(Number) ?? []);
      let found = 0;
      for (let at = 0; at < data.length; at += 4)
        if ((data[at + 3] ?? 0) > 20 && colours.some((it) => it.every((value, index) => Math.abs(value - (data[at + index] ?? 0)) < 8))) found += 1;
      return found;
    }, ["ink", "money-ink", "scarce-ink", "signal-ink"]);
    assert.equal(inked, 0, `${name} is drawn into time to come`);
  }
  assert.deepEqual(complaints, []);
  await crowd.leave();
  await context.close();
});

test("the best minute of the report has what was paid in the last moment", { timeout: 60_000 }, async () => {
  const { browser, server } = stage;
  const host = await Host.open(server, { title: "In the last moment" });
  const lamp = await host.product({ sku: "last-1", title: "Lamp", price_minor: 8900 });
  const sale = await host.sale(lamp, { price_minor: 6205, cap: 5 });
  await host.buy("ann", sale);
  await host.end();
  const { page, context } = await signedIn(browser, server, host);
  await page.locator("#state").getByText("Report").waitFor();
  await figure(page, "minute", "€62.05").waitFor();
  await page.locator("#says-gmv strong").getByText("€62.05", { exact: true }).waitFor();
  await context.close();
});

test("on the smallest phones nothing of the dashboard flows over, live and in the report", { timeout: 60_000 }, async () => {
  const { browser, server } = stage;
  const long = "Handwoven-undyed-Herdwick-wool-runner-with-a-name-that-does-not-end-in-a-long-time";
  const host = await Host.open(server, { title: long });
  const rug = await host.product({ sku: long, title: long, variant: "70 × 240 cm", price_minor: 99_999_900 });
  const crowd = await Crowd.of(server, host.showId);
  await crowd.come(2);
  await host.pin(rug, 0);
  const sale = await host.sale(rug, { price_minor: 98_765_400, cap: 5 });
  await host.poll(long, [long.slice(0, 80), "B"]);
  await host.buy("ann", sale);
  const { page, context, complaints } = await signedIn(browser, server, host, SMALL);
  const fits = async (when: string) => {
    const wide = await page.evaluate(() => {
      const scrolls = (it: Element | null): boolean => it !== null && (getComputedStyle(it).overflowX !== "visible" || scrolls(it.parentElement));
      const all = [...document.querySelectorAll("body *")].filter((it) => it.closest(".spoken, .palette, svg") === null);
      return all.filter((it) => !scrolls(it.parentElement?.closest(".table, .plot, .running") ?? null)).map((it) => ({ name: `${it.tagName}#${it.id}.${it.className}`, right: it.getBoundingClientRect().right })).filter((it) => it.right > innerWidth + 0.5);
    });
    assert.deepEqual(wide, [], when);
    assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 320, when);
  };
  await figure(page, "orders", "1").waitFor();
  await fits("live");
  await page.getByRole("button", { name: "As a table" }).click();
  await page.locator("#seen").waitFor();
  await fits("with its table");
  await host.end();
  await page.locator("#state").getByText("Report").waitFor();
  await fits("the report");
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Token", { exact: true }).waitFor();
  await fits("the door");
  assert.deepEqual(complaints, []);
  await crowd.leave();
  await context.close();
});

test("after the end the report has the sums of the orders, and its CSV the numbers of the time line", { timeout: 90_000 }, async () => {
  const { browser, server } = stage;
  const host = await Host.open(server, { title: "Last pieces" });
  const lamp = await host.product({ sku: "end-1", title: "Lamp, tall", price_minor: 8900 });
  const jug = await host.product({ sku: "end-2", title: "Jug", price_minor: 4200 });
  const crowd = await Crowd.of(server, host.showId);
  await crowd.come(2);
  const { page, context, complaints } = await signedIn(browser, server, host);
  const tall = await host.sale(lamp, { price_minor: 6203, cap: 2 });
  const few = await host.sale(jug, { price_minor: 2907, cap: 9, limit_per_buyer: 3 });
  const [, back] = await Promise.all([host.buy("ann", tall), host.buy("bo", tall), host.buy("cy", few, { quantity: 3 })]);
  await host.refund(back);
  await host.buy("dee", tall).catch(() => null);
  await figure(page, "orders", "4").or(figure(page, "orders", "3")).first().waitFor();
  // The last ones leave before the last purchase: no second of the time line sees it, the books do.
  await crowd.leave();
  await host.buy("eve", few);
  await host.end();
  await page.locator("#state").getByText("Report").waitFor();

  const orders: { state: string; amount_minor: number; refunded_minor: number; lines: { sale_id: string; quantity: number; unit_price_minor: number }[] }[] = [];
  for (let cursor = ""; ;) {
    const some = await call(server, host.token, "GET", `/v1/shows/${host.showId}/orders?limit=2${cursor}`);
    orders.push(...(some["items"] as typeof orders));
    if (some["next_cursor"] === undefined) break;
    cursor = `&cursor=${String(some["next_cursor"])}`;
  }
  const paid = orders.filter((it) => it.state === "paid");
  const gmv = paid.reduce((sum, it) => sum + it.amount_minor - it.refunded_minor, 0);
  const euros = (minor: number) => `${minor < 0 ? "-" : ""}€${decimalText(Math.abs(minor), "EUR")}`;
  await figure(page, "gmv", euros(gmv)).waitFor();
  await figure(page, "orders", String(paid.length)).waitFor();
  for (const sale of [tall, few]) {
    const sold = paid.flatMap((it) => it.lines).filter((it) => it.sale_id === sale).reduce((sum, it) => sum + it.quantity * it.unit_price_minor, 0);
    await page.locator(`[data-sale="${sale}"]`).getByText(euros(sold), { exact: true }).waitFor();
  }
  await page.locator("#sales tfoot").getByText(euros(gmv), { exact: true }).waitFor();
  await page.locator("#marks").getByText("Sold out").waitFor();
  await page.locator("#marks").getByText("Show ended").waitFor();

  const download = page.waitForEvent("download");
  await page.getByRole("button", { name: "Download CSV" }).click();
  const [header, ...rows] = parsed(await readFile(await (await download).path(), "utf8"));
  const line = (await call(server, host.token, "GET", `/v1/shows/${host.showId}/timeline`)) as unknown as TimelineAnswer;
  assert.ok(header !== undefined && line.points.length > 0);
  assert.equal(rows.length, line.points.length);
  /** The column's texts become minor units again by moving the point, without a float on the way. */
  const minor = (text: string) => Number(text.replace(".", ""));
  const named: Record<string, (it: Point) => number | null> = {
    time_unix_ms: (it) => it.at, viewers_max: (it) => it.viewers, requests_granted: (it) => it.granted, requests_refused: (it) => it.refused,
    requests_failed: (it) => it.failed, wait_p50_ms: (it) => it.wait_p50_ms, wait_p99_ms: (it) => it.wait_p99_ms, orders_so_far: (it) => it.orders,
  };
  line.points.forEach((point, index) => {
    const cell = (name: string) => rows[index]?.[header.indexOf(name)] ?? "no such cell";
    for (const [name, of] of Object.entries(named)) assert.equal(cell(name), String(of(point) ?? ""), `${name} of line ${index}`);
    assert.match(cell("gmv_so_far_EUR"), /^\d+\.\d\d$/);
    assert.equal(minor(cell("gmv_so_far_EUR")), point.gmv_minor);
    assert.equal(minor(cell("refunded_so_far_EUR")), point.refunded_minor);
    assert.equal(Date.parse(cell("time_utc")), point.at);
  });
  assert.deepEqual(complaints, []);
  await context.close();
});

test("hostile names stay text, and break no policy", { timeout: 60_000 }, async () => {
  const { browser, server } = stage;
  const evil = `<img src=x onerror="window.hit=1"><script>window.hit=1</script>`;
  const host = await Host.open(server, { title: evil });
  const lamp = await host.product({ sku: "evil", title: evil, variant: `"><b>bold</b>`, price_minor: 100 });
  const crowd = await Crowd.of(server, host.showId);
  await crowd.come(1);
  await host.pin(lamp, 0);
  const sale = await host.sale(lamp, { price_minor: 90, cap: 5 });
  const poll = await host.poll(evil, [`<i>a</i>`, "b"]);
  await host.buy("ann", sale);
  const { page, context, complaints } = await signedIn(browser, server, host);
  await page.getByRole("heading", { name: evil }).waitFor();
  await page.locator("#marks").getByText(evil).first().waitFor();
  await page.locator("#stage text").first().waitFor();
  await call(server, await server.token("viewer", "bo"), "POST", `/v1/shows/${host.showId}/polls/${poll}/votes`, { choice: 0 });
  await host.closePoll(poll);
  await page.locator("#marks").getByText("<i>a</i>").waitFor();
  await page.getByRole("button", { name: "As a table" }).click();
  await page.locator("#seen").waitFor();
  assert.equal(await page.locator("img, b, script:not([type=module])").count(), 0);
  assert.equal(await page.evaluate(() => "hit" in window), false);
  assert.deepEqual(complaints, []);
  await crowd.leave();
  await context.close();
});

test("the report is printed in ink, with charts and without controls", { timeout: 60_000 }, async () => {
  const { browser, server } = stage;
  const host = await Host.open(server, { title: "On paper" });
  const lamp = await host.product({ sku: "print-1", title: "Lamp", price_minor: 8900 });
  const crowd = await Crowd.of(server, host.showId);
  await crowd.come(2);
  const sale = await host.sale(lamp, { price_minor: 6200, cap: 5 });
  await host.buy("ann", sale);
  const { page, context, complaints } = await signedIn(browser, server, host, { ...DESKTOP, colorScheme: "dark" });
  await figure(page, "orders", "1").waitFor();
  await host.end();
  await page.locator("#state").getByText("Report").waitFor();

  const dark = await page.locator("#plot-viewers canvas").evaluate((it: HTMLCanvasElement) => it.width);
  await page.emulateMedia({ media: "print" });
  // On paper it is drawn larger and shown smaller.
  await page.waitForFunction((width) => (document.querySelector("#plot-viewers canvas") as HTMLCanvasElement).width > width, dark);
  assert.equal(await page.locator("button:visible, select:visible, .hint:visible").count(), 0);
  assert.equal(await page.locator("canvas:visible").count(), 5);
  assert.equal(await page.locator("#marks:visible, #sales:visible").count(), 2);
  const inks = await page.locator(".plot canvas").evaluateAll((all) =>
    all.map((canvas) => {
      const { width, height } = canvas as HTMLCanvasElement;
      const { data } = ((canvas as HTMLCanvasElement).getContext("2d") as CanvasRenderingContext2D).getImageData(0, 0, width, height);
      let [inked, coloured] = [0, 0];
      for (let at = 0; at < data.length; at += 4) {
        if ((data[at + 3] ?? 0) < 128) continue;
        inked += 1;
        if (Math.abs((data[at] ?? 0) - (data[at + 2] ?? 0)) > 12) coloured += 1;
      }
      return { inked, coloured };
    }),
  );
  for (const { inked, coloured } of inks) {
    assert.ok(inked > 500, `${inked} pixels of ink`);
    assert.equal(coloured, 0);
  }
  const wide = await page.evaluate(() => ({ scroll: document.documentElement.scrollWidth, inner: innerWidth }));
  assert.ok(wide.scroll <= wide.inner, `${wide.scroll} in ${wide.inner}`);
  await page.emulateMedia({ media: null });
  await page.waitForFunction((width) => (document.querySelector("#plot-viewers canvas") as HTMLCanvasElement).width === width, dark);
  const pdf = await page.pdf({ preferCSSPageSize: true });
  const pages = pdf.toString("latin1").match(/\/Type\s*\/Page\b/g)?.length ?? 0;
  assert.equal(pages, 2, "the charts on one page, the tables on the other");
  assert.match(pdf.toString("latin1"), /\/MediaBox\s*\[\s*0 0 84[12]/);
  assert.deepEqual(complaints, []);
  await crowd.leave();
  await context.close();
});

test("zoom by drag and by keyboard, pause, and nothing drawn while nothing changes", { timeout: 60_000 }, async () => {
  const { browser, server } = stage;
  const host = await Host.open(server);
  const crowd = await Crowd.of(server, host.showId);
  await crowd.come(1);
  const { page, context, complaints } = await signedIn(browser, server, host);
  await figure(page, "viewers", "1").waitFor();
  const span = () => page.locator("#plot-viewers").getAttribute("aria-label");
  const isWhole = () => page.getByRole("button", { name: "Whole show", pressed: true });

  const box = await page.locator("#plot-orders .u-over").boundingBox();
  assert.ok(box !== null);
  await page.mouse.move(box.x + 100, box.y + 20);
  await page.mouse.down();
  await page.mouse.move(box.x + 400, box.y + 20, { steps: 3 });
  await page.mouse.up();
  await isWhole().waitFor({ state: "detached" });
  const zoomed = await span();
  // The mouse and the keys move one cursor; the keys are next.
  await page.mouse.move(0, 0);
  await page.locator("#rows").focus();
  await page.keyboard.press("Escape");
  await isWhole().waitFor();
  assert.notEqual(await span(), zoomed);
  await page.keyboard.press("ArrowLeft");
  await page.locator("#says-stage strong").getByText(/\d\d:\d\d:\d\d/).waitFor();
  await page.keyboard.press("+");
  await isWhole().waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Last 5 min" }).click();
  await page.getByRole("button", { name: "Last 5 min", pressed: true }).waitFor();

  await page.getByRole("button", { name: "Pause" }).click();
  await page.getByRole("status").getByText("Paused").waitFor();
  await crowd.come(3);
  const asked: string[] = [];
  page.on("request", (request) => void asked.push(request.url()));
  // The server's own page would have asked by the second answer; a paused one does not ask at all.
  const { page: other, context: elsewhere } = await signedIn(browser, server, host);
  await figure(other, "viewers", "4").waitFor();
  assert.deepEqual(asked.filter((it) => it.includes("timeline")), []);
  assert.equal(await figure(page, "viewers", "1").count(), 1);
  await page.getByRole("button", { name: "Resume" }).click();
  await figure(page, "viewers", "4").waitFor();

  await crowd.leave();
  await host.end();
  await page.locator("#state").getByText("Report").waitFor();
  // Late payments are still looked for: answers come, and all are the same.
  for (let answers = 0; answers < 2; answers += 1) await page.waitForResponse((it) => it.url().includes("/timeline"));
  const drawn = await page.evaluate(() => {
    const counted = { strokes: 0 };
    const stroke = CanvasRenderingContext2D.prototype.stroke;
    CanvasRenderingContext2D.prototype.stroke = function (this: CanvasRenderingContext2D, ...given: unknown[]) {
      counted.strokes += 1;
      return Reflect.apply(stroke, this, given);
    };
    Object.assign(window, { counted });
    return counted.strokes;
  });
  for (let answers = 0; answers < 3; answers += 1) await page.waitForResponse((it) => it.url().includes("/timeline"));
  assert.equal(await page.evaluate(() => (window as unknown as { counted: { strokes: number } }).counted.strokes), drawn);
  assert.deepEqual(complaints, []);
  await context.close();
  await elsewhere.close();
});

test("an open dashboard of a show of three hours takes a few percent of a core, and draws no more points than can be seen", { timeout: 60_000 }, async () => {
  const { browser, server } = stage;
  const host = await Host.open(server);
  const { page, context, complaints } = await visit(browser, `${server.url}/dashboard`, DESKTOP);
  await lastsThreeHours(page);
  await page.locator("[name=token]").fill(host.token);
  await page.locator("[name=show]").fill(host.showId);
  await page.getByRole("button", { name: "Open" }).click();
  await page.locator("#plot-wait canvas").waitFor();
  // 10,800 seconds in steps of ten.
  await page.locator("#says-requests").getByText("Requests, each 10 s").waitFor();

  const session = await context.newCDPSession(page);
  await session.send("Performance.enable");
  const busyS = async () => (await session.send("Performance.getMetrics")).metrics.find((it) => it.name === "TaskDuration")?.value ?? Number.NaN;
  const [began, before] = [performance.now(), await busyS()];
  for (let answers = 0; answers < 10; answers += 1) await page.waitForResponse((it) => it.url().includes("/timeline"));
  const share = (await busyS() - before) / ((performance.now() - began) / 1000);
  console.log(`a dashboard of three hours takes ${(share * 100).toFixed(1)} % of a core`);
  assert.ok(share < BUSY_MAX, `${(share * 100).toFixed(1)} % of a core`);
  await page.getByRole("button", { name: "Last 5 min" }).click();
  await page.locator("#says-requests").getByText("Requests, each 1 s").waitFor();
  assert.deepEqual(complaints, []);
  await context.close();
});

test("one signs in by the form, too; a token that is not good is refused, and a reload keeps the show", { timeout: 60_000 }, async () => {
  const { browser, server } = stage;
  const host = await Host.open(server, { title: "By the form" });
  const { page, context, complaints } = await visit(browser, `${server.url}/dashboard`, PHONE);
  await page.getByLabel("Token", { exact: true }).fill("nothing");
  await page.getByRole("button", { name: "Open" }).click();
  await page.getByRole("alert").waitFor();
  // An analyst may not list shows, and names one.
  await page.getByLabel("Token", { exact: true }).fill(await server.token("analyst", "ana"));
  await page.getByRole("button", { name: "Open" }).click();
  await page.getByRole("alert").getByText("A show is needed").waitFor();
  await page.getByLabel("Token", { exact: true }).fill(await server.token("analyst", "ana"));
  await page.getByLabel(/^Show/).fill(host.showId);
  await page.getByRole("button", { name: "Open" }).click();
  await page.getByRole("heading", { name: "By the form" }).waitFor();
  await page.reload();
  await page.getByRole("heading", { name: "By the form" }).waitFor();
  const { scroll, inner } = await page.evaluate(() => ({ scroll: document.documentElement.scrollWidth, inner: innerWidth }));
  assert.ok(scroll <= inner, `${scroll} in ${inner}`);
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Token", { exact: true }).waitFor();
  await page.reload();
  await page.getByLabel("Token", { exact: true }).waitFor();
  assert.deepEqual(complaints, []);
  await context.close();
});
