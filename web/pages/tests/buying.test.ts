import assert from "node:assert/strict";
import { test } from "node:test";
import { Host } from "../../testing/host.js";
import { listen, offer, setting, viewer } from "./scene.js";

const stage = setting();

test(
  "a pin, a sale, and a purchase with a 3-D Secure step; the counter falls in the other viewer's page",
  { timeout: 90_000 },
  async () => {
    const host = await Host.open(stage.server);
    const lamp = await host.product({ sku: "buy-1", title: "Ridge table lamp", price_minor: 8900 });
    const ann = await viewer(stage, host.showId, { subject: "ann" });
    const ben = await viewer(stage, host.showId, { subject: "ben" });
    const said = await listen(ben.page);

    await host.pin(lamp, 1_000);
    await Promise.all([ann, ben].map(({ page }) => page.locator("showcart-offer.entrance").waitFor()));
    await Promise.all([ann, ben].map(({ page }) => page.locator("showcart-offer.pinned:not(.entrance)").waitFor()));

    const sale = await host.sale(lamp, { price_minor: 6200, cap: 5, duration_ms: 120_000 });
    for (const { page } of [ann, ben]) {
      await offer(page, sale).getByText("€62.00").waitFor();
      await offer(page, sale).getByText("5 left").waitFor();
    }

    const { page } = ann;
    const ordered = page.evaluate(
      () =>
        new Promise((resolve) =>
          document.addEventListener("showcart-order", (event) => resolve((event as CustomEvent).detail)),
        ),
    );
    await offer(page, sale).getByRole("button", { name: "Buy Ridge table lamp for €62.00" }).click();
    await page.getByRole("dialog").getByText("Reserved for you").waitFor();
    await offer(ben.page, sale).getByText("4 left").waitFor();
    await page.getByRole("button", { name: "asks the bank" }).click();
    await page.getByText("Do you approve this payment of €62.00?").waitFor();
    await page.getByRole("button", { name: "Approve" }).click();
    await page.getByRole("heading", { name: "Order confirmed" }).waitFor();
    const detail = (await ordered) as Record<string, unknown>;
    assert.equal(detail["amount_minor"], 6200);
    assert.match(String(detail["order_id"]), /^ord_/);
    assert.equal(await offer(ben.page, sale).getByText("4 left").count(), 1);

  // The shop gives the money back, and the buyer hears of it.
  await host.refund(String(detail["order_id"]));
  await page.locator(".notice", { hasText: "€62.00 is on its way back to you." }).waitFor();

    await said.heard("On screen now");
    assert.equal(await said.times("On screen now: Ridge table lamp, €89.00."), 1);
    assert.equal(await said.times("On screen now"), 1);
    assert.deepEqual([...ann.complaints, ...ben.complaints], []);
    await ann.context.close();
    await ben.context.close();
  },
);

test("a declined card can be tried again, and a hold given up is somebody else's", { timeout: 60_000 }, async () => {
  const host = await Host.open(stage.server);
  const jug = await host.product({ sku: "buy-2", title: "Jug", price_minor: 4200 });
  const sale = await host.sale(jug, { price_minor: 2900, cap: 1 });
  const ann = await viewer(stage, host.showId, { subject: "ann" });
  const ben = await viewer(stage, host.showId, { subject: "ben" });

  await offer(ann.page, sale).getByRole("button", { name: /^Buy/ }).click();
  await ann.page.getByRole("button", { name: "is declined" }).click();
  await ann.page.locator(".said", { hasText: "The card was declined" }).waitFor();
  await ann.page.locator("dialog .voice", { hasText: "The card was declined" }).waitFor();

  await offer(ben.page, sale).getByText("The last one is in checkout").waitFor();
  await offer(ben.page, sale).getByRole("button", { name: /^Buy/ }).click();
  await offer(ben.page, sale)
    .getByRole("button", { name: /^Try again/ })
    .waitFor();

  await ann.page.getByRole("button", { name: "Give the reservation up" }).click();
  await ann.page.getByRole("heading", { name: "Given up" }).waitFor();
  await offer(ben.page, sale).getByText("Last one", { exact: true }).waitFor();
  await offer(ben.page, sale).getByRole("button", { name: /^Buy/ }).click();
  await ben.page.getByRole("button", { name: "Pay with a good card" }).click();
  await ben.page.getByRole("heading", { name: "Order confirmed" }).waitFor();
  assert.deepEqual([...ann.complaints, ...ben.complaints], []);
  await ann.context.close();
  await ben.context.close();
});

test("a button that has the focus is never that of another product", { timeout: 60_000 }, async () => {
  const host = await Host.open(stage.server);
  const lamp = await host.product({ sku: "focus-1", title: "Lamp", price_minor: 8900 });
  const bowl = await host.product({ sku: "focus-2", title: "Bowl", price_minor: 4900 });
  const { page, context } = await viewer(stage, host.showId, { subject: "kim" });
  await host.pin(lamp, 0);
  await page.locator("showcart-offer.pinned").getByRole("button", { name: /^Buy Lamp/ }).focus();
  await host.pin(bowl, 0);
  await page.locator("showcart-offer.pinned").getByRole("button", { name: /^Buy Bowl/ }).waitFor();
  // What Enter would press now.
  const focused = await page.evaluate(() => {
    let element = document.activeElement;
    while (element?.shadowRoot?.activeElement != null) element = element.shadowRoot.activeElement;
    return element?.getAttribute("aria-label") ?? "";
  });
  assert.doesNotMatch(focused, /Bowl/);
  await context.close();
});

test("a refund, of a part or of all, is read in the list of orders, also after a reload", { timeout: 60_000 }, async () => {
  const host = await Host.open(stage.server);
  const jug = await host.product({ sku: "buy-back", title: "Jug", price_minor: 4200 });
  const sale = await host.sale(jug, { price_minor: 2900, cap: 2 });
  const order = await host.buy("ann", sale);
  const { page, context, complaints } = await viewer(stage, host.showId, { subject: "ann" });
  await page.getByRole("button", { name: /All products/ }).click();
  const line = page.locator(".orders li");
  await line.getByText("Confirmed", { exact: true }).waitFor();
  await host.refund(order, 900);
  await line.getByText("Confirmed, €9.00 refunded", { exact: true }).waitFor();
  await page.reload();
  await page.getByRole("button", { name: /All products/ }).click();
  await line.getByText("Confirmed, €9.00 refunded", { exact: true }).waitFor();
  await host.refund(order);
  await line.getByText("Refunded", { exact: true }).waitFor();
  await page.reload();
  await page.getByRole("button", { name: /All products/ }).click();
  await line.getByText("Refunded", { exact: true }).waitFor();
  assert.deepEqual(complaints, []);
  await context.close();
});

test("a reservation outlives a reload, and is paid for after it", { timeout: 60_000 }, async () => {
  const host = await Host.open(stage.server);
  const cup = await host.product({ sku: "buy-3", title: "Cup", price_minor: 1500 });
  await host.pin(cup, 0);
  const { page, context, complaints } = await viewer(stage, host.showId, { subject: "eve" });
  await offer(page, cup).getByRole("button", { name: /^Buy/ }).click();
  await page.getByRole("button", { name: "Pay with a good card" }).waitFor();
  await page.reload();
  await page.getByRole("button", { name: "Finish checkout", exact: true }).click();
  await page.getByRole("button", { name: "Pay with a good card" }).click();
  await page.getByRole("heading", { name: "Order confirmed" }).waitFor();
  assert.deepEqual(complaints, []);
  await context.close();
});

test("a reservation from one tab is paid for in another, which nobody told of it", { timeout: 60_000 }, async () => {
  const host = await Host.open(stage.server);
  const pot = await host.product({ sku: "buy-tabs", title: "Pot", price_minor: 3100 });
  const sale = await host.sale(pot, { price_minor: 2500, cap: 3 });
  const one = await viewer(stage, host.showId, { subject: "ann" });
  const other = await viewer(stage, host.showId, { subject: "ann" });
  await offer(one.page, sale).getByRole("button", { name: /^Buy/ }).click();
  await one.page.getByRole("button", { name: "Pay with a good card" }).waitFor();
  await offer(other.page, sale).getByRole("button", { name: /^Buy/ }).click();
  await other.page.getByRole("button", { name: "Pay with a good card" }).click();
  for (const { page } of [one, other]) await page.getByRole("heading", { name: "Order confirmed" }).waitFor();
  assert.deepEqual([...one.complaints, ...other.complaints], []);
  await one.context.close();
  await other.context.close();
});

test("sold out shows, is said once, and the button is dead", { timeout: 60_000 }, async () => {
  const host = await Host.open(stage.server);
  const rug = await host.product({ sku: "buy-4", title: "Runner", price_minor: 9900, units: 3 });
  await host.pin(rug, 0);
  const sale = await host.sale(rug, { price_minor: 8000, cap: 1 });
  const { page, context, complaints } = await viewer(stage, host.showId, { subject: "ann" });
  const said = await listen(page);
  await offer(page, sale).getByText("Last one").waitFor();
  const order = await host.buy("bo", sale);

  const button = offer(page, sale).getByRole("button", { name: "Sold out" });
  await button.waitFor();
  assert.equal(await button.isDisabled(), true);
  const asked: string[] = [];
  page.on("request", (request) => void asked.push(request.url()));
  await button.click({ force: true });
  await button.press("Enter");

  await host.refund(order);
  await page.getByText("Runner is back.").first().waitFor();
  await offer(page, sale).getByRole("button", { name: /^Buy/ }).waitFor();
  await said.heard("Runner is back.");
  assert.deepEqual(
    asked.filter((it) => it.includes("/holds")),
    [],
  );
  assert.equal(await said.times("Runner is sold out."), 1);
  assert.deepEqual(complaints, []);
  await context.close();
});

test("a guest is asked to sign in, and the page hears of it", { timeout: 60_000 }, async () => {
  const host = await Host.open(stage.server);
  const bowl = await host.product({ sku: "buy-5", title: "Bowl", price_minor: 5600 });
  await host.pin(bowl, 0);
  const { page, context, complaints } = await viewer(stage, host.showId);
  const why = page.evaluate(
    () =>
      new Promise((resolve) =>
        document.addEventListener("showcart-signin", (event) =>
          resolve((event as CustomEvent<{ why: string }>).detail.why),
        ),
      ),
  );
  await offer(page, bowl).getByRole("button", { name: "Sign in to buy" }).click();
  assert.equal(await why, "buy");
  await page.getByText("Open this show from your account").first().waitFor();
  assert.deepEqual(complaints, []);
  await context.close();
});

test("a whole purchase by keyboard", { timeout: 90_000 }, async () => {
  const host = await Host.open(stage.server);
  const lamp = await host.product({ sku: "buy-6", title: "Lamp", price_minor: 8900 });
  await host.pin(lamp, 0);
  const sale = await host.sale(lamp, { price_minor: 6200, cap: 5 });
  const { page, context, complaints } = await viewer(stage, host.showId, { subject: "kim" });
  await offer(page, sale).waitFor();

  /** Goes on with the tab key until what has the focus has this name. */
  const tabTo = async (name: RegExp): Promise<void> => {
    for (let step = 0; step < 30; step += 1) {
      await page.keyboard.press("Tab");
      const focused = await page.evaluate(() => {
        let element = document.activeElement;
        while (element?.shadowRoot?.activeElement != null) element = element.shadowRoot.activeElement;
        const outline = element === null ? "" : getComputedStyle(element).outlineStyle;
        return { name: element?.getAttribute("aria-label") ?? element?.textContent?.trim() ?? "", outline };
      });
      if (!name.test(focused.name)) continue;
      assert.equal(focused.outline, "solid", `the focus on ${focused.name} cannot be seen`);
      return;
    }
    assert.fail(`the tab key does not reach ${name}`);
  };
  await tabTo(/^Buy Lamp/);
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "asks the bank" }).waitFor();

  // Escape closes the sheet and gives the focus back; the way in is still there.
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "hidden" });
  await tabTo(/Finish checkout/);
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "asks the bank" }).waitFor();
  await tabTo(/asks the bank/);
  await page.keyboard.press("Space");
  await page.getByRole("button", { name: "Approve" }).waitFor();
  await tabTo(/^Approve$/);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Order confirmed" }).waitFor();
  await tabTo(/^Keep watching$/);
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor({ state: "hidden" });
  assert.deepEqual(complaints, []);
  await context.close();
});
