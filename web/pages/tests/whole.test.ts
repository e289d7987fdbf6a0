import assert from "node:assert/strict";
import { test } from "node:test";
import type { Page } from "playwright-core";
import { address, DESKTOP, visit, type Watched } from "../../testing/browser.js";
import { Host } from "../../testing/host.js";
import { Server } from "../../testing/server.js";
import { air, atDesk, counted, product } from "./desk.scene.js";
import { offer, setting, viewer } from "./scene.js";

const stage = setting({ settings: ["--web-dir", "../dist"] });

/** The dashboard of a show, which the server serves itself: it asks where it comes from. */
async function atDashboard(server: Server, host: Host): Promise<Watched> {
  const words = { show: host.showId, token: host.token };
  const watched = await visit(stage.browser, address(server.url, "/dashboard", words), DESKTOP);
  await watched.page.locator("#plot-wait canvas").waitFor();
  return watched;
}

const figure = (page: Page, id: string, text: string) =>
  page.locator(`#figure-${id} strong`).getByText(text, { exact: true });

test(
  "a sale, a purchase with a 3-D Secure step, the counter in the other viewer's page, and GMV in an open dashboard",
  { timeout: 90_000 },
  async () => {
    const host = await Host.open(stage.server);
    const lamp = await host.product({ sku: "whole-1", title: "Ridge table lamp", price_minor: 8900 });
    const ann = await viewer(stage, host.showId, { subject: "ann" });
    const ben = await viewer(stage, host.showId, { subject: "ben" });
    const desk = await atDesk(stage, host.showId, "hanna");
    const board = await atDashboard(stage.server, host);
    // Who works is not among those who watch.
    await figure(board.page, "viewers", "2").waitFor();
    await desk.page.locator("[data-number=viewers]", { hasText: /^2watching$/ }).waitFor();
    await figure(board.page, "gmv", "€0.00").waitFor();

    await host.pin(lamp, 0);
    const sale = await host.sale(lamp, { price_minor: 6200, cap: 5, duration_ms: 120_000 });
    for (const { page } of [ann, ben]) {
      await offer(page, sale).getByText("€62.00").waitFor();
      await offer(page, sale).getByText("5 left").waitFor();
    }
    await board.page.locator("#stage .sale title", { hasText: "Ridge table lamp" }).waitFor({ state: "attached" });

    await offer(ann.page, sale).getByRole("button", { name: "Buy Ridge table lamp for €62.00" }).click();
    await ann.page.getByRole("dialog").getByText("Reserved for you").waitFor();
    await offer(ben.page, sale).getByText("4 left").waitFor();
    await ann.page.getByRole("button", { name: "asks the bank" }).click();
    await ann.page.getByText("Do you approve this payment of €62.00?").waitFor();
    // Reserved is not paid, and no money yet.
    await figure(board.page, "gmv", "€0.00").waitFor();
    await counted(desk.page, sale, "in_checkout", "1");
    await ann.page.getByRole("button", { name: "Approve" }).click();
    await ann.page.getByRole("heading", { name: "Order confirmed" }).waitFor();

    await figure(board.page, "gmv", "€62.00").waitFor();
    await figure(board.page, "orders", "1").waitFor();
    await board.page.locator("#sales tfoot").getByText("€62.00").waitFor();
    await offer(ben.page, sale).getByText("4 left").waitFor();
    await counted(desk.page, sale, "sold", "1");
    await desk.page.locator("[data-number=gmv]", { hasText: "€62.00" }).waitFor();
    for (const { complaints, context } of [ann, ben, desk, board]) {
      assert.deepEqual(complaints, []);
      await context.close();
    }
  },
);

/** Notes down each thing that comes into a page as an element of this kind, by its text. */
async function notes(page: Page, root: string | null, kind: string): Promise<() => Promise<string[]>> {
  await page.evaluate(
    ([name, selector]) => {
      const seen: string[] = [];
      Object.assign(window, { seen });
      const at = document.querySelector("showcart-show, showcart-desk")?.shadowRoot ?? document;
      const within = (name === null ? null : at.querySelector(name)?.shadowRoot) ?? at;
      new MutationObserver((records) => {
        for (const { addedNodes } of records)
          for (const node of addedNodes)
            if (node instanceof HTMLElement && node.matches(selector)) seen.push(node.innerText.trim());
      }).observe(within, { childList: true, subtree: true });
    },
    [root, kind] as const,
  );
  return () => page.evaluate(() => (window as unknown as { seen: string[] }).seen);
}

test(
  "the server is killed and started again while two viewers, a control panel and a dashboard are there: nothing twice, nothing missing",
  { timeout: 120_000 },
  async () => {
    const host = await Host.open(stage.server);
    const lamp = await host.product({ sku: "whole-2", title: "Lamp", price_minor: 8900 });
    const jug = await host.product({ sku: "whole-3", title: "Jug", price_minor: 4200 });
    await host.pin(lamp, 0);
    const first = await host.sale(lamp, { price_minor: 6200, cap: 5 });
    const ann = await viewer(stage, host.showId, { subject: "ann" });
    const ben = await viewer(stage, host.showId, { subject: "ben" });
    const desk = await atDesk(stage, host.showId, "hanna");
    const board = await atDashboard(stage.server, host);
    await figure(board.page, "viewers", "2").waitFor();
    await host.buy("cy", first);
    await figure(board.page, "orders", "1").waitFor();
    await desk.page.locator("showcart-desk-orders [data-order]").waitFor();
    await desk.page.locator("showcart-desk-log [data-action='sale.start']").waitFor();

    const banners = [await notes(ann.page, null, "[data-banner]"), await notes(ben.page, null, "[data-banner]")];
    const orders = await notes(desk.page, "showcart-desk-orders", "[data-order]");
    await host.banner("Before");
    for (const { page } of [ann, ben]) await page.locator("[data-banner]", { hasText: "Before" }).waitFor();
    await air(desk.page).locator("[data-banner]", { hasText: "Before" }).waitFor();

    await stage.server.kill();
    for (const { page } of [ann, ben]) {
      await page.getByText("Reconnecting…").waitFor();
      // What is known stays.
      assert.equal(await offer(page, first).count(), 1);
    }
    await desk.page.locator("[data-problem=connection]").waitFor();
    assert.equal(await air(desk.page).locator(`[data-pinned="${lamp}"]`).count(), 1);
    await board.page.getByRole("status").getByText("No connection. Trying again…").waitFor();
    await figure(board.page, "gmv", "€62.00").waitFor();

    await stage.server.up();
    // Before the pages are back: they must hear of it all the same.
    await host.banner("While away");
    await host.pin(jug, 0);
    const second = await host.sale(jug, { price_minor: 2900, cap: 3 });
    await host.buy("dee", second);

    for (const { page } of [ann, ben]) {
      await page.getByText("Reconnecting…").waitFor({ state: "detached", timeout: 40_000 });
      await offer(page, second).getByText("2 left").waitFor();
      await offer(page, first).getByText("4 left").waitFor();
      await page.locator("[data-banner]", { hasText: "While away" }).waitFor();
    }
    await desk.page.locator("[data-problem=connection]").waitFor({ state: "detached", timeout: 40_000 });
    await air(desk.page).locator(`[data-pinned="${jug}"]`).waitFor();
    await counted(desk.page, second, "sold", "1");
    await counted(desk.page, first, "sold", "1");
    await air(desk.page).locator("[data-banner]", { hasText: "While away" }).waitFor();
    await desk.page.locator("showcart-desk-orders").getByText("dee").waitFor();
    await desk.page.locator("[data-number=gmv]", { hasText: "€91.00" }).waitFor();
    await board.page.getByRole("status").getByText("No connection").waitFor({ state: "detached", timeout: 40_000 });
    await figure(board.page, "gmv", "€91.00").waitFor();
    await figure(board.page, "orders", "2").waitFor();
    await figure(board.page, "viewers", "2").waitFor();
    await board.page.locator("#marks").getByText("Jug").first().waitFor();

    // They go on by themselves: a purchase by page, and what the desk does by key.
    await host.banner("After");
    await offer(ann.page, second).getByRole("button", { name: /^Buy/ }).click();
    await ann.page.getByRole("button", { name: "Pay with a good card" }).click();
    await ann.page.getByRole("heading", { name: "Order confirmed" }).waitFor();
    await offer(ben.page, second).getByText("Last one", { exact: true }).waitFor();
    await counted(desk.page, second, "sold", "2");
    await figure(board.page, "gmv", "€120.00").waitFor();
    await product(desk.page, lamp).waitFor();
    await desk.page.keyboard.press("u");
    await air(desk.page).getByText("No product is pinned.").waitFor();

    for (const { page } of [ann, ben]) await page.locator("[data-banner]", { hasText: "After" }).waitFor();
    for (const seen of banners) assert.deepEqual(await seen(), ["Before", "While away", "After"]);
    await air(desk.page).locator("[data-banner]").nth(2).waitFor();
    assert.equal(await air(desk.page).locator("[data-banner]").count(), 3);
    // Each order came in once: the one that was there is not made anew, and the others are two.
    await desk.page.locator("showcart-desk-orders [data-order]").nth(2).waitFor();
    assert.equal(await desk.page.locator("showcart-desk-orders [data-order]").count(), 3);
    assert.equal((await orders()).length, 2);
    const deeds = desk.page.locator("showcart-desk-log");
    for (const [action, times] of [["show.start", 1], ["sale.start", 2], ["banner.show", 3], ["pin.set", 2], ["pin.clear", 1]] as const) {
      await deeds.locator(`[data-action="${action}"]`).nth(times - 1).waitFor();
      assert.equal(await deeds.locator(`[data-action="${action}"]`).count(), times, action);
    }
    // The report of the stage has each act once.
    assert.equal(await board.page.locator("#stage .sale").count(), 2);
    assert.equal(await board.page.locator("#stage .pin").count(), 2);
    assert.equal(await board.page.locator("#sales [data-sale]").count(), 2);
    // A policy that was broken, or an error that nobody caught, would be told here.
    for (const { complaints, context } of [ann, ben, desk, board]) {
      assert.deepEqual(complaints, []);
      await context.close();
    }
  },
);
