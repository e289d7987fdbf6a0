import assert from "node:assert/strict";
import { test } from "node:test";
import { Host } from "../../testing/host.js";
import { offer, setting, viewer } from "./scene.js";

const stage = setting();

test(
  "the server is killed and started again: pages recover, nothing twice, nothing missing",
  { timeout: 120_000 },
  async () => {
    const host = await Host.open(stage.server);
    const lamp = await host.product({ sku: "rec-1", title: "Lamp", price_minor: 8900 });
    const jug = await host.product({ sku: "rec-2", title: "Jug", price_minor: 4200 });
    await host.pin(lamp, 0);
    const ann = await viewer(stage, host.showId, { subject: "ann" });
    const guest = await viewer(stage, host.showId);
    for (const { page } of [ann, guest]) {
      await offer(page, lamp).waitFor();
      await page.evaluate(() => {
        const element = document.querySelector("showcart-show");
        const seen: string[] = [];
        Object.assign(window, { seen });
        // Each card that comes on stage, by what it is.
        new MutationObserver((records) => {
          for (const { addedNodes } of records)
            for (const node of addedNodes)
              if (node instanceof HTMLElement && node.matches("[data-banner]"))
                seen.push(node.textContent?.trim() ?? "");
        }).observe(element?.shadowRoot ?? document, { childList: true, subtree: true });
      });
    }
    await host.banner("Before");
    for (const { page } of [ann, guest]) await page.getByText("Before").first().waitFor();

    await stage.server.kill();
    for (const { page } of [ann, guest]) {
      await page.getByText("Reconnecting…").waitFor();
      // What is known stays.
      assert.equal(await offer(page, lamp).count(), 1);
      assert.equal(await page.locator("[data-banner]").count(), 1);
    }
    await stage.server.up();
    // Before the pages are back: they must hear of it all the same.
    await host.banner("While away");
    await host.pin(jug, 0);
    const sale = await host.sale(jug, { price_minor: 2900, cap: 3 });

    for (const { page } of [ann, guest]) {
      // After a short outage nobody waits for more than 4 s before the next try.
      await page.getByText("Reconnecting…").waitFor({ state: "detached", timeout: 10_000 });
      await offer(page, sale).getByText("3 left").waitFor();
      await page.locator("[data-banner]", { hasText: "While away" }).waitFor();
    }
    await host.banner("After");
    for (const { page } of [ann, guest]) {
      await page.locator("[data-banner]", { hasText: "After" }).waitFor();
      const seen = await page.evaluate(() => (window as unknown as { seen: string[] }).seen);
      assert.deepEqual(seen, ["Before", "While away", "After"]);
      assert.equal(await page.locator(".now showcart-offer").count(), 1);
    }
    // And they can buy.
    await offer(ann.page, sale).getByRole("button", { name: /^Buy/ }).click();
    await ann.page.getByRole("button", { name: "Pay with a good card" }).click();
    await ann.page.getByRole("heading", { name: "Order confirmed" }).waitFor();
    await offer(guest.page, sale).getByText("2 left").waitFor();
    assert.deepEqual([...ann.complaints, ...guest.complaints], []);
    await ann.context.close();
    await guest.context.close();
  },
);
