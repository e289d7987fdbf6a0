import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { address, DESKTOP, PHONE, visit, type Watched } from "../../testing/browser.js";
import { Files } from "../../testing/files.js";
import { call, Host } from "../../testing/host.js";
import { setting } from "./scene.js";

/** A shop's own page: its text, and the policy that it comes with. */
const pages: Record<string, string> = {};
const policies: Record<string, string> = {};
// The server has the pages too: the element's script comes from there, as a shop would load it.
const stage = setting({ settings: ["--web-dir", "../dist"], files: { extra: pages, policies } });
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

/** A shop's page with the element, which may reach `reaches` and runs the script of the server; `said` is its console. */
async function shop(
  host: Host,
  subject: string,
  reaches: readonly string[],
  screen = DESKTOP,
): Promise<Watched & { readonly said: readonly string[] }> {
  const { browser, files, server } = stage;
  const token = await server.token("viewer", subject);
  pages["/shop.html"] = `<!doctype html><html lang="en"><title>Shop</title>
    <script type="module" src="${server.url}/element.js"></script>
    <showcart-show server="${server.url}" show="${host.showId}" token="${token}"></showcart-show></html>`;
  policies["/shop.html"] = `default-src 'none'; script-src ${server.url}; connect-src ${reaches.join(" ")}`;
  const said: string[] = [];
  const watched = await visit(browser, `${files.url}/shop.html`, screen, async (context) => {
    context.on("console", (message) => void said.push(message.text()));
  });
  return { ...watched, said };
}

/** Where buyers pay: the sandbox inside of a server has an address that only its orders tell. */
async function bank(host: Host, sale: string): Promise<string> {
  const holdId = await host.buy("somebody", sale, { pay: false });
  const token = await host.server.token("viewer", "somebody");
  const order = await call(host.server, token, "POST", "/v1/orders", { hold_id: holdId });
  return String((order["payment"] as Record<string, unknown>)["provider_url"]);
}

const socketOf = (server: string) => server.replace("http", "ws");

test("a shop's page under a strict policy that names the server and the bank sells", { timeout: 60_000 }, async () => {
  const host = await Host.open(stage.server);
  const lamp = await host.product({ sku: "el-3", title: "Lamp", price_minor: 8900 });
  const sale = await host.sale(lamp, { price_minor: 6200, cap: 5 });
  const { url } = stage.server;
  const { page, context, complaints } = await shop(host, "ann", [url, socketOf(url), await bank(host, sale)]);
  await page.locator(`.now [data-offer="${sale}"]`).getByRole("button", { name: /^Buy/ }).click();
  await page.getByRole("button", { name: "asks the bank" }).click();
  await page.getByRole("button", { name: "Approve" }).click();
  await page.getByRole("heading", { name: "Order confirmed" }).waitFor();
  assert.deepEqual(complaints, []);
  await context.close();
});

test("a policy that does not name the bank is said at once, to the buyer and to the shop", { timeout: 60_000 }, async () => {
  const host = await Host.open(stage.server);
  const lamp = await host.product({ sku: "el-4", title: "Lamp", price_minor: 8900 });
  const sale = await host.sale(lamp, { price_minor: 6200, cap: 5 });
  const { url } = stage.server;
  const where = await bank(host, sale);
  const { page, context, said } = await shop(host, "ann", [url, socketOf(url)]);
  await page.locator(`.now [data-offer="${sale}"]`).getByRole("button", { name: /^Buy/ }).click();
  const pay = page.getByRole("button", { name: "Pay with a good card" });
  await pay.click();
  const words = page.locator(".said", { hasText: "The payment provider cannot be reached from this page." });
  await words.waitFor({ timeout: 5_000 });
  assert.ok(
    said.some((it) => it.includes(`This page may not reach ${where}: its Content-Security-Policy`)),
    said.join("\n"),
  );
  // The units are still reserved, and the same can be tried again.
  await page.getByRole("button", { name: "Try again" }).click();
  await pay.waitFor();
  await context.close();
});

test("a policy that does not name the server's socket is said instead of the show", { timeout: 60_000 }, async () => {
  const host = await Host.open(stage.server);
  const { url } = stage.server;
  const { page, context, said } = await shop(host, "ann", [url]);
  const words = `This page may not reach ${url}: its Content-Security-Policy`;
  await page.getByRole("alert").getByText(words).waitFor();
  assert.equal(await page.getByText("Connecting…").count(), 0);
  assert.ok(
    said.some((it) => it.includes(words)),
    said.join("\n"),
  );
  await context.close();
});

test("a page that names no show, and a token that is none, are told what is wrong", { timeout: 60_000 }, async () => {
  const { browser, files, server } = stage;
  const host = await Host.open(server);
  const nameless = await visit(browser, address(files.url, "/embed", { server: server.url }), DESKTOP);
  await nameless.page.getByRole("alert").getByText("This page does not say which show to open.").waitFor();
  assert.equal(await nameless.page.getByText("Connecting…").count(), 0);
  for (const path of ["/embed", "/"]) {
    const words = { server: server.url, show: host.showId, token: "not a token" };
    const { page, context, complaints } = await visit(browser, address(files.url, path, words), DESKTOP);
    await page.getByRole("alert").getByText("Your sign-in is not valid.").waitFor();
    assert.equal(await page.getByText("Connecting…").count(), 0);
    assert.deepEqual(complaints, []);
    await context.close();
  }
  await nameless.context.close();
});

test("where a shop's page gives the element no height, it is high enough to buy", { timeout: 60_000 }, async () => {
  const host = await Host.open(stage.server);
  const lamp = await host.product({ sku: "el-low", title: "Lamp", price_minor: 8900 });
  await host.pin(lamp, 0);
  const { server } = stage;
  const { page, context } = await shop(host, "ann", [server.url, socketOf(server.url)], PHONE);
  await page.locator(`.now [data-offer="${lamp}"]`).getByRole("button", { name: /^Buy/ }).click();
  await page.getByRole("heading", { name: "Checkout" }).waitFor();
  const [element, app] = [await page.locator("showcart-show").boundingBox(), await page.locator(".app").boundingBox()];
  assert.equal(element?.height, app?.height);
  assert.ok((app?.height ?? 0) >= 480);
  await context.close();
});
