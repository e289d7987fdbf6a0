import assert from "node:assert/strict";
import { test } from "node:test";
import { DESKTOP } from "../../testing/browser.js";
import { Host } from "../../testing/host.js";
import { air, atDesk, counted, Ears, log, product, sale } from "./desk.scene.js";
import { offer, setting, viewer } from "./scene.js";

// What hosts do at the same time: who is late is told what happened instead.
const stage = setting();
const limit = { timeout: 60_000 };

test("of two hosts at once, the one who is late is told what happened instead", limit, async () => {
  const host = await Host.open(stage.server);
  const lamp = await host.product({ sku: "two-1", title: "The lamp", price_minor: 8900 });
  const vase = await host.product({ sku: "two-2", title: "The vase", price_minor: 4200 });
  const bowl = await host.product({ sku: "two-3", title: "The bowl", price_minor: 5600 });
  const ears = new Ears();
  const hanna = await atDesk(stage, host.showId, "hanna");
  const ben = await atDesk(stage, host.showId, "ben", { prepare: ears.prepare });
  for (const { page } of [hanna, ben]) await product(page, bowl).waitFor();
  await hanna.page.keyboard.press("1");
  // Both see each other's deeds at once.
  await air(ben.page).locator(`[data-pinned="${lamp}"]`).waitFor();
  await ben.page.locator("[data-latest]", { hasText: "hanna pinned The lamp" }).waitFor();

  ears.close();
  await hanna.page.keyboard.press("2");
  await air(hanna.page).locator(`[data-pinned="${vase}"]`).waitFor();
  assert.equal(await air(ben.page).locator(`[data-pinned="${lamp}"]`).count(), 1);
  await ben.page.keyboard.press("3");
  await air(ben.page).getByText("Meanwhile The vase was pinned by hanna.").waitFor();
  await air(ben.page).locator(`[data-pinned="${vase}"]`).waitFor();
  await air(hanna.page).locator(`[data-pinned="${vase}"]`).waitFor();
  // Now that Ben has seen it, the same press does what he means.
  await ben.page.keyboard.press("3");
  await air(hanna.page).locator(`[data-pinned="${bowl}"]`).waitFor();
  ears.open();
  await air(ben.page).locator(`[data-pinned="${bowl}"]`).waitFor();

  for (const { page } of [hanna, ben]) {
    await log(page).locator("[data-action='pin.set']", { hasText: "ben" }).waitFor();
    await log(page).locator("[data-action='pin.set']", { hasText: "hanna" }).first().waitFor();
  }
  assert.deepEqual([...hanna.complaints, ...ben.complaints], []);
  await hanna.context.close();
  await ben.context.close();
});

test(
  "of two hosts who end the same sale and close the same poll, the late one is told where it is seen, and aloud",
  limit,
  async () => {
    const host = await Host.open(stage.server);
    const lamp = await host.product({ sku: "race-1", title: "The lamp", price_minor: 8900 });
    const id = await host.sale(lamp, { price_minor: 6200, cap: 10 });
    const ears = new Ears();
    const ben = await atDesk(stage, host.showId, "ben", {
      // A phone, where a view fills the screen.
      options: { ...DESKTOP, viewport: { width: 390, height: 844 } },
      prepare: ears.prepare,
    });
    const { page } = ben;
    const told = page.locator("showcart-desk-notes [data-told]");
    const voice = page.locator("#voice");
    await host.poll("Which glaze next?", ["Ochre", "Moss"]);
    const poll = page.locator("showcart-desk-poll");
    await poll.waitFor();

    ears.close();
    await host.call("POST", `/sales/${id}/end`, {});
    await sale(page, id).getByRole("button", { name: "End the sale of The lamp" }).click();
    await sale(page, id).getByRole("button", { name: /^Sure/ }).click();
    await sale(page, id).getByText("Meanwhile the sale was ended by hanna.").waitFor();
    await voice.getByText("Meanwhile the sale was ended by hanna.").waitFor({ state: "attached" });
    ears.open();
    // Its card is gone, and what was said at it is still to be seen, on top of the page.
    await sale(page, id).waitFor({ state: "detached" });
    await told.getByText("Meanwhile the sale was ended by hanna.").waitFor();
    const box = await told.boundingBox();
    assert.ok(box !== null && box.y >= 0 && box.y + box.height <= 844, JSON.stringify(box));

    // By its key, while another view fills the screen.
    ears.close();
    const open = (await host.call("GET", "/polls")) as unknown as { poll_id: string }[];
    await host.closePoll(String(open[0]?.poll_id));
    await page.getByRole("navigation").getByRole("button", { name: "Line-up" }).click();
    await page.keyboard.press("c");
    await told.getByText("Meanwhile the poll was closed by hanna.").waitFor();
    await voice.getByText("Meanwhile the poll was closed by hanna.").waitFor({ state: "attached" });
    assert.equal(await told.count(), 1, "what was said before has made room");
    ears.open();
    await poll.waitFor({ state: "detached" });
    await told.getByText("Meanwhile the poll was closed by hanna.").waitFor();
    await page.getByRole("button", { name: /^Put away/ }).click();
    await told.waitFor({ state: "detached" });
    assert.deepEqual(ben.complaints, []);
    await ben.context.close();
  },
);

test("the red switch is done also when somebody else has just ended one of the sales", limit, async () => {
  const host = await Host.open(stage.server);
  const lamp = await host.product({ sku: "red-race", title: "The lamp", price_minor: 8900 });
  const id = await host.sale(lamp, { price_minor: 6200, cap: 10 });
  const { page, context } = await atDesk(stage, host.showId, "ben");
  await sale(page, id).waitFor();
  await context.route("**/sales/*/end", async (route) => {
    await host.call("POST", `/sales/${id}/end`, {});
    await route.continue();
  });
  for (let press = 0; press < 2; press += 1) await page.keyboard.press("x");
  await page.getByText("The sale is over, the pin is off, nothing is for sale.").first().waitFor();
  await context.close();
});

test("a stale press on a sale's end says that its cap was changed, and the next one ends it", limit, async () => {
  const host = await Host.open(stage.server);
  const lamp = await host.product({ sku: "cap-1", title: "The lamp", price_minor: 8900 });
  const id = await host.sale(lamp, { price_minor: 6200, cap: 10 });
  const { page, context } = await atDesk(stage, host.showId, "ben");
  await counted(page, id, "left", "10");
  // What is read over HTTP comes too late, so that Ben presses on what he saw before.
  let isBlind = true;
  await context.route("**/sales", (route) => (isBlind ? route.abort() : route.continue()));
  await context.route("**/sales/*/end", (route) => {
    isBlind = false;
    return route.continue();
  });
  await host.call("PUT", `/sales/${id}/cap`, { cap: 20 });
  await counted(page, id, "left", "20");
  const end = sale(page, id).getByRole("button", { name: "End the sale of The lamp" });
  await end.click();
  await sale(page, id).getByRole("button", { name: /^Sure/ }).click();
  await sale(page, id).getByText("Meanwhile the sale was changed by hanna: 20 units. Press again to end it.").waitFor();
  await end.click();
  await sale(page, id).getByRole("button", { name: /^Sure/ }).click();
  await sale(page, id).waitFor({ state: "detached" });
  // The focus did not fall off the page with the button.
  assert.equal(
    await page.evaluate(() => document.activeElement?.shadowRoot?.activeElement?.matches("section.air") ?? false),
    true,
  );
  await context.close();
});

test("a new cap is the same for who is there and for who comes later, and the log says from what to what", limit, async () => {
  const host = await Host.open(stage.server);
  const lamp = await host.product({ sku: "recap-1", title: "The lamp", price_minor: 8900, units: 90 });
  const id = await host.sale(lamp, { price_minor: 6200, cap: 50 });
  await host.pin(lamp, 0);
  for (const buyer of ["ann", "bo"]) await host.buy(buyer, id);
  const { page, context, complaints } = await atDesk(stage, host.showId, "ben");
  const early = await viewer(stage, host.showId);
  await counted(page, id, "left", "48");
  await offer(early.page, id).waitFor();
  // What is read over HTTP comes too late: the socket tells it.
  await context.route("**/sales", (route) => route.abort());

  await host.call("PUT", `/sales/${id}/cap`, { cap: 80 });
  await sale(page, id).locator("[data-count=left]", { hasText: "78left of 80" }).waitFor();
  await log(page).getByText("hanna changed cap of The lamp: 50 → 80 units").waitFor();
  await host.call("PUT", `/sales/${id}/cap`, { cap: 8 });
  await sale(page, id).locator("[data-count=left]", { hasText: "6left of 8" }).waitFor();
  await log(page).getByText("hanna changed cap of The lamp: 80 → 8 units").waitFor();

  const late = await viewer(stage, host.showId);
  const shares = [];
  for (const { page } of [early, late]) {
    await offer(page, id).getByText("6 left").waitFor();
    shares.push(await offer(page, id).locator("showcart-meter").evaluate((it) => (it as HTMLElement & { share: number }).share));
  }
  assert.deepEqual(shares, [6 / 8, 6 / 8]);
  // Who comes to the desk now knows what it became, though not what it was before all of that.
  const second = await atDesk(stage, host.showId, "mo", { role: "moderator" });
  await sale(second.page, id).locator("[data-count=left]", { hasText: "6left of 8" }).waitFor();
  await log(second.page).getByText("hanna changed cap of The lamp: 80 units").waitFor();
  await log(second.page).getByText("hanna changed cap of The lamp: 80 → 8 units").waitFor();
  assert.deepEqual([...complaints, ...early.complaints, ...late.complaints], []);
  for (const it of [context, early.context, late.context, second.context]) await it.close();
});

test("a late hide, stop, extension and refund say who did it first, not that something went wrong", limit, async () => {
  const host = await Host.open(stage.server);
  const lamp = await host.product({ sku: "late-1", title: "The lamp", price_minor: 8900 });
  const id = await host.sale(lamp, { price_minor: 6200, cap: 10, limit_per_buyer: 2 });
  const whole = await host.buy("ann", id);
  const part = await host.buy("bo", id, { quantity: 2 });
  const banner = await host.banner("Free shipping");
  const stopped = await host.timer("Doors close", 600_000);
  const extended = await host.timer("Draw", 600_000);
  const ears = new Ears();
  const { page, context, complaints } = await atDesk(stage, host.showId, "ben", { prepare: ears.prepare });
  const orders = page.locator("showcart-desk-orders");
  await orders.locator("[data-order]").nth(1).waitFor();
  await air(page).locator("[data-banner]").waitFor();

  ears.close();
  await host.call("DELETE", `/banners/${String(banner["overlay_id"])}?version=1`);
  await host.call("POST", `/timers/${String(stopped["overlay_id"])}/stop`, {});
  await host.call("POST", `/timers/${String(extended["overlay_id"])}/extend`, { by_ms: 30_000 });
  await host.refund(whole);
  await host.refund(part, 10_000);

  const said = async (place: string, words: string) => {
    const note = page.locator(`[data-note="${place}"]`, { hasText: words });
    await note.waitFor();
    assert.match((await note.getAttribute("class")) ?? "", /stale/, words);
  };
  await page.getByRole("button", { name: "Hide the banner: Free shipping" }).click();
  await said(`banner:${String(banner["overlay_id"])}`, "Meanwhile the banner was hidden by hanna.");
  await page.getByRole("button", { name: "30 seconds more: Doors close" }).click();
  await said(`timer:${String(stopped["overlay_id"])}`, "Meanwhile the timer was stopped by hanna.");
  await page.getByRole("button", { name: "Stop the timer: Draw" }).click();
  await said(`timer:${String(extended["overlay_id"])}`, "Meanwhile the timer was extended by hanna.");

  await orders.getByRole("button", { name: "Refund the order of ann" }).click();
  await page.getByRole("button", { name: "Send the money back" }).click();
  await page.getByRole("button", { name: /^Send €62.00/ }).click();
  await said(`order:${whole}`, "Meanwhile all of it was refunded by hanna.");
  // There is nothing left to send, and the row says so.
  await page.getByLabel("Amount, EUR").waitFor({ state: "detached" });

  await orders.getByRole("button", { name: "Refund the order of bo" }).click();
  await page.getByLabel("Amount, EUR").fill("120.00");
  await page.getByRole("button", { name: "Send the money back" }).click();
  await page.getByRole("button", { name: /^Send €120.00/ }).click();
  await said(`order:${part}`, "Meanwhile €100.00 was refunded by hanna: at most €24.00 can go back.");
  assert.deepEqual(complaints, []);
  await context.close();
});
