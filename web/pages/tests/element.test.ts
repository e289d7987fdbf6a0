import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { address, DESKTOP, visit } from "../../testing/browser.js";
import { Files } from "../../testing/files.js";
import { Host } from "../../testing/host.js";
import { setting } from "./scene.js";

const stage = setting();
/** A page of somebody whom the server does not know. */
let stranger: Files;
before(async () => {
  stranger = await Files.serve();
});
after(() => stranger?.stop());

test(
  "the element on a shop's page: works where the server allows it, says so where it does not",
  { timeout: 60_000 },
  async () => {
    const { browser, files, server } = stage;
    const host = await Host.open(server);
    const lamp = await host.product({ sku: "el-1", title: "Lamp", price_minor: 8900 });
    await host.pin(lamp, 0);
    const words = { server: server.url, show: host.showId, token: await server.token("viewer", "ann") };

    const allowed = await visit(browser, address(files.url, "/embed", words), DESKTOP);
    await allowed.page.locator(`.now [data-offer="${lamp}"]`).getByRole("button", { name: /^Buy/ }).click();
    await allowed.page.getByRole("button", { name: "Pay with a good card" }).click();
    await allowed.page.getByRole("heading", { name: "Order confirmed" }).waitFor();
    await allowed.page.getByText(/The shop heard of the order ord_/).waitFor();
    assert.deepEqual(allowed.complaints, []);

    const refused = await visit(browser, address(stranger.url, "/embed", words), DESKTOP);
    await refused.page.getByText("Not allowed here").waitFor();
    await refused.page.getByText(stranger.url).first().waitFor();
    assert.equal(await refused.page.locator("showcart-offer").count(), 0);

    await allowed.context.close();
    await refused.context.close();
  },
);

test("a guest on a shop's page is the shop's to sign in", { timeout: 60_000 }, async () => {
  const { browser, files, server } = stage;
  const host = await Host.open(server);
  const lamp = await host.product({ sku: "el-2", title: "Lamp", price_minor: 8900 });
  await host.pin(lamp, 0);
  const { page, context } = await visit(
    browser,
    address(files.url, "/embed", { server: server.url, show: host.showId }),
    DESKTOP,
  );
  await page.locator(".now").getByRole("button", { name: "Sign in to buy" }).click();
  await page.getByText("The shop would open its sign-in now.").waitFor();
  assert.equal(await page.locator(".notice").count(), 0);
  await context.close();
});
