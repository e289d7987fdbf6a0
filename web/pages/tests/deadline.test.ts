import assert from "node:assert/strict";
import { test } from "node:test";
import { Host } from "../../testing/host.js";
import { offer, setting, viewer } from "./scene.js";

/** Time enough to see what is on screen before it is over. */
const stage = setting({ settings: ["--hold-s", "5", "--payment-s", "5"] });

test("a reservation from another device runs out, and is offered to everybody again", { timeout: 60_000 }, async () => {
  const host = await Host.open(stage.server);
  const lamp = await host.product({ sku: "late-1", title: "Lamp", price_minor: 8900 });
  const sale = await host.sale(lamp, { price_minor: 6200, cap: 1 });
  const ben = await viewer(stage, host.showId, { subject: "ben" });
  const ann = await viewer(stage, host.showId, { subject: "ann" });
  await host.buy("ann", sale, { pay: false });
  await ann.page.reload();
  await ann.page.getByRole("button", { name: "Finish checkout", exact: true }).waitFor();
  await offer(ben.page, sale).getByText("The last one is in checkout").waitFor();

  await ann.page.getByRole("button", { name: "Finish checkout", exact: true }).waitFor({ state: "detached" });
  for (const { page } of [ann, ben]) await offer(page, sale).getByText("Last one", { exact: true }).waitFor();
  await offer(ben.page, sale).getByRole("button", { name: /^Buy/ }).waitFor();
  assert.deepEqual([...ann.complaints, ...ben.complaints], []);
  await ann.context.close();
  await ben.context.close();
});

test("who does not pay in time reads that nothing was charged, and can buy again", { timeout: 60_000 }, async () => {
  const host = await Host.open(stage.server);
  const jug = await host.product({ sku: "late-2", title: "Jug", price_minor: 4200 });
  const sale = await host.sale(jug, { price_minor: 2900, cap: 1 });
  const { page, context, complaints } = await viewer(stage, host.showId, { subject: "ann" });
  await offer(page, sale).getByRole("button", { name: /^Buy/ }).click();
  await page.getByRole("button", { name: "Pay with a good card" }).waitFor();
  await page.getByRole("heading", { name: "Payment cancelled" }).waitFor();
  await page.getByText("Nothing was charged, and the units are free again.", { exact: true }).waitFor();
  await page.getByRole("button", { name: "Keep watching" }).click();
  await offer(page, sale).getByRole("button", { name: /^Buy/ }).click();
  await page.getByRole("button", { name: "Pay with a good card" }).click();
  await page.getByRole("heading", { name: "Order confirmed" }).waitFor();
  assert.deepEqual(complaints, []);
  await context.close();
});
