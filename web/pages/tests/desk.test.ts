import assert from "node:assert/strict";
import { test } from "node:test";
import { address, DESKTOP, visit } from "../../testing/browser.js";
import { Host } from "../../testing/host.js";
import { air, atDesk, counted, log, product, sale } from "./desk.scene.js";
import { offer, setting, viewer } from "./scene.js";

// What one host does at the control panel, and what comes of it.
const stage = setting();
const limit = { timeout: 60_000 };

test(
  "a host signs in, makes a show, and starts and ends it; the token does not stay in the address",
  limit,
  async () => {
    const token = await stage.server.token("host", "hanna");
    const { page, context, complaints } = await visit(
      stage.browser,
      address(stage.files.url, "/desk", { server: stage.server.url }),
      DESKTOP,
    );
    await page.getByLabel("Token").fill(token);
    await page.keyboard.press("Enter");
    await page.getByLabel("Title").fill("Evening of lamps");
    await page.getByRole("button", { name: "Make it" }).click();
    await page.getByRole("heading", { name: "Evening of lamps" }).waitFor();
    assert.equal(new URL(page.url()).hash, "");

    await page.getByRole("button", { name: "Start the show" }).click();
    await page.locator("[data-state=live]").waitFor();
    // The session outlives a reload, and a show is not ended by one press.
    await page.reload();
    await page.getByRole("button", { name: "End the show" }).click();
    await page.locator("[data-state=live]").waitFor();
    await page.getByRole("button", { name: "End it for all?" }).click();
    await page.locator("[data-state=ended]").waitFor();
    await log(page).getByText("ended the show").waitFor();
    assert.deepEqual(complaints, []);
    await context.close();

    const linked = await visit(
      stage.browser,
      address(stage.files.url, "/desk", { server: stage.server.url, token }),
      DESKTOP,
    );
    await linked.page.getByRole("button", { name: "Show ended ones too" }).click();
    await linked.page.getByRole("button", { name: /Evening of lamps/ }).click();
    await linked.page.locator("[data-state=ended]").waitFor();
    assert.doesNotMatch(linked.page.url(), /token/);
    await linked.context.close();
  },
);

test("a product is pinned and taken off by one key, and viewers see it", limit, async () => {
  const host = await Host.open(stage.server);
  const lamp = await host.product({ sku: "pin-1", title: "The lamp", price_minor: 8900 });
  const vase = await host.product({ sku: "pin-2", title: "The vase", price_minor: 4200 });
  const { page, context, complaints } = await atDesk(stage, host.showId, "hanna");
  const watching = await viewer(stage, host.showId);
  await product(page, vase).waitFor();

  await page.keyboard.press("2");
  await offer(watching.page, vase).getByText("The vase").first().waitFor();
  await air(page).locator(`[data-pinned="${vase}"]`).waitFor();
  assert.equal(
    await product(page, vase)
      .getByRole("button", { name: "Take The vase off the screen" })
      .getAttribute("aria-pressed"),
    "true",
  );

  await page.keyboard.press("1");
  await offer(watching.page, lamp).getByText("The lamp").first().waitFor();
  await page.keyboard.press("1");
  await offer(watching.page, lamp).waitFor({ state: "detached" });
  await air(page).getByText("No product is pinned.").waitFor();

  // Presses come faster than answers, and none is lost.
  let bothPressed = () => {};
  const pressed = new Promise<void>((resolve) => (bothPressed = resolve));
  await context.route("**/pin*", async (route) => {
    await pressed;
    await route.continue();
  });
  for (const key of ["1", "2"]) await page.keyboard.press(key);
  bothPressed();
  await offer(watching.page, vase).getByText("The vase").first().waitFor();
  await air(page).locator(`[data-pinned="${vase}"]`).waitFor();
  await page.keyboard.press("u");
  await air(page).getByText("No product is pinned.").waitFor();

  // In a field a digit is a digit.
  await page.keyboard.press("b");
  await page.keyboard.type("2 for 1");
  await page.keyboard.press("Enter");
  await watching.page.locator("[data-banner]", { hasText: "2 for 1" }).waitFor();
  await air(page).getByText("No product is pinned.").waitFor();
  assert.deepEqual([...complaints, ...watching.complaints], []);
  await context.close();
  await watching.context.close();
});

test("after Escape from a field the arrows choose, and the next key is about what they chose", limit, async () => {
  const host = await Host.open(stage.server);
  await host.product({ sku: "esc-1", title: "The lamp", price_minor: 8900 });
  await host.product({ sku: "esc-2", title: "The vase", price_minor: 4200 });
  const { page, context, complaints } = await atDesk(stage, host.showId, "hanna");
  await page.locator("showcart-desk-product").nth(1).waitFor();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("b");
  await page.keyboard.type("Hello");
  await page.keyboard.press("Escape");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("p");
  await air(page).getByText("The vase").first().waitFor();
  assert.deepEqual(complaints, []);
  await context.close();
});

test("a token that cannot run the panel is refused at the door, also where the address names the show", limit, async () => {
  const host = await Host.open(stage.server);
  const other = await Host.open(stage.server);
  const buyer = await stage.server.token("viewer", "ann");
  const hanna = await stage.server.token("host", "hanna");
  const forged = `${hanna.slice(0, -6)}AAAAAA`;
  for (const [token, said] of [
    [buyer, "This token is for buyers and cannot run the control panel."],
    ["nonsense", "This is not a token"],
    [hanna.slice(0, 40), "This is not a token"],
    [forged, "The token is not valid."],
  ] as const) {
    const words = { server: stage.server.url, show: host.showId, token };
    const { page, context, complaints } = await visit(stage.browser, address(stage.files.url, "/desk", words), DESKTOP);
    await page.getByRole("alert").getByText(said).waitFor();
    assert.equal(await page.locator("showcart-desk").count(), 0);
    // It is not tried again, and another one is.
    await page.reload();
    await page.getByLabel("Token").fill(hanna);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByRole("heading", { name: "Choose a show" }).waitFor();
    assert.deepEqual(complaints, []);
    await context.close();
  }
  // A show that is not there leads to those that are.
  const words = { server: stage.server.url, show: other.showId.replace(/....$/, "0000"), token: hanna };
  const { page, context } = await visit(stage.browser, address(stage.files.url, "/desk", words), DESKTOP);
  await page.getByRole("alert").getByText("There is no such show.").waitFor();
  await page.getByRole("heading", { name: "Choose a show" }).waitFor();
  await context.close();
});

test("what is still being read is not said to be nothing", limit, async () => {
  const host = await Host.open(stage.server, { start: false });
  let goOn = () => {};
  const held = new Promise<void>((resolve) => (goOn = resolve));
  const { page, context } = await atDesk(stage, host.showId, "hanna", {
    prepare: async (context) => {
      for (const part of ["**/actions?*", "**/orders?*"])
        await context.route(part, async (route) => {
          await held;
          await route.continue();
        });
    },
  });
  const orders = page.locator("showcart-desk-orders");
  for (const part of [log(page), orders]) await part.getByText("Loading…").waitFor();
  for (const nothing of ["Nobody did anything yet.", "No orders yet."])
    assert.equal(await page.getByText(nothing).count(), 0);
  goOn();
  await log(page).getByText("Nobody did anything yet.").waitFor();
  await orders.getByText("No orders yet.").waitFor();
  await context.close();
});

test(
  "a sale is started from the form, and its units fall when somebody buys; the order comes and is refunded",
  limit,
  async () => {
    const host = await Host.open(stage.server);
    const lamp = await host.product({ sku: "sale-1", title: "The lamp", price_minor: 8900, units: 12 });
    const { page, context, complaints } = await atDesk(stage, host.showId, "hanna");
    await product(page, lamp).getByText("12 of 12 left").waitFor();
    await page.keyboard.press("s");
    await page.getByLabel("Price, EUR").fill("62.50");
    await page.getByLabel("Units", { exact: true }).fill("5");
    await page.getByLabel("Per buyer").fill("2");
    await page.getByLabel("Lasts, s").fill("300");
    await page.keyboard.press("Enter");
    await page.getByText("The lamp is on sale.").first().waitFor();
    const id = String(await page.locator("showcart-desk-air [data-sale]").getAttribute("data-sale"));
    await counted(page, id, "left", "5");

    await host.buy("ann", id, { quantity: 2, pay: false });
    await counted(page, id, "in_checkout", "2");
    await host.buy("bo", id);
    await counted(page, id, "sold", "1");
    await counted(page, id, "left", "2");
    await product(page, lamp).getByText("9 of 12 left").waitFor();
    await page.locator("[data-number=gmv]", { hasText: "€62.50" }).waitFor();

    const orders = page.locator("showcart-desk-orders");
    await orders.getByText("bo", { exact: true }).waitFor();
    await orders.getByRole("button", { name: "Refund the order of bo" }).click();
    await page.getByLabel("Amount, EUR").fill("12.50");
    await page.getByRole("button", { name: "Send the money back" }).click();
    await page.getByRole("button", { name: /^Send €12.50/ }).click();
    await orders.getByText("€12.50 is on its way back.").waitFor();
    await page.locator("[data-number=gmv]", { hasText: "€50.00" }).waitFor();
    await orders.getByText("€12.50 refunded").waitFor();

    await orders.getByRole("button", { name: "Refund the order of bo" }).click();
    assert.equal(await page.getByLabel("Amount, EUR").inputValue(), "50.00");
    await page.getByLabel("Put the units back on sale").check();
    await page.getByRole("button", { name: "Send the money back" }).click();
    await page.getByRole("button", { name: /^Send €50.00/ }).click();
    await page.locator("[data-number=gmv]", { hasText: "€0.00" }).waitFor();
    await counted(page, id, "left", "3");
    await orders.getByText("refunded", { exact: true }).waitFor();
    await log(page).getByText("refunded the order of bo").first().waitFor();
    assert.deepEqual(complaints, []);
    await context.close();
  },
);

test("a poll is opened, counted live and closed", limit, async () => {
  const host = await Host.open(stage.server);
  const { page, context, complaints } = await atDesk(stage, host.showId, "hanna");
  const watching = await viewer(stage, host.showId, { subject: "ann" });
  await page.keyboard.press("q");
  await page.getByLabel("Question").fill("Which glaze next?");
  await page.getByLabel("Choices, one a line").fill("Ochre\nMoss\n");
  await page.getByRole("button", { name: "Open the poll" }).click();
  await watching.page.getByRole("button", { name: "Moss" }).click();
  const poll = page.locator("showcart-desk-poll");
  await poll.getByText("1 vote", { exact: true }).waitFor();
  await poll.locator("li", { hasText: "Moss" }).getByText("100%").waitFor();
  await page.keyboard.press("Escape");
  await page.keyboard.press("c");
  await poll.waitFor({ state: "detached" });
  await air(page).locator("[data-result]", { hasText: "Moss won with 100%." }).waitFor();
  await watching.page.getByText("Moss wins").first().waitFor();
  assert.deepEqual(complaints, []);
  await context.close();
  await watching.context.close();
});

test("the red switch ends every sale and takes the pin off: a second press, or the held key", limit, async () => {
  const host = await Host.open(stage.server);
  const lamp = await host.product({ sku: "red-1", title: "The lamp", price_minor: 8900 });
  const vase = await host.product({ sku: "red-2", title: "The vase", price_minor: 4200 });
  const { page, context } = await atDesk(stage, host.showId, "hanna");
  const watching = await viewer(stage, host.showId);
  const begin = async () => {
    for (const it of [lamp, vase]) await host.call("PUT", `/lineup/${it}`, { allocated: 50 });
    await host.pin(lamp, 0);
    const running = await host.sale(lamp, { price_minor: 6200, cap: 10 });
    const armed = await host.sale(vase, { percent_off: 20, cap: 5, starts_at: Date.now() + 600_000 });
    for (const id of [running, armed]) await sale(page, id).waitFor();
    await offer(watching.page, running).waitFor();
    return running;
  };
  const over = async (running: string) => {
    for (const left of await page.locator("showcart-desk-air [data-sale]").all())
      await left.waitFor({ state: "detached" });
    await page.getByText("All sales are over (2), the pin is off, nothing is for sale.").first().waitFor();
    const units = (await host.call("GET", "/lineup")) as unknown as { left: number }[];
    assert.deepEqual(
      units.map((it) => it.left),
      [0, 0],
    );
    assert.equal(await page.locator("showcart-desk-air [data-sale]").count(), 0);
    await air(page).getByText("No product is pinned.").waitFor();
    await offer(watching.page, running).waitFor({ state: "detached" });
  };
  let running = await begin();
  await page.keyboard.press("x");
  await page.getByRole("button", { name: /^Press again/ }).waitFor();
  assert.equal(await page.locator("showcart-desk-air [data-sale]").count(), 2);
  await page.keyboard.press("x");
  await over(running);

  // In the log it is one line, which opens.
  const deed = log(page).locator("details").first();
  await deed.getByText("hanna ended 2 sales, took off The lamp, set units of 2 products").waitFor();
  assert.equal(await deed.getByText("set units of The vase: 0").isVisible(), false);
  await page.locator("[data-latest]", { hasText: "set units of 2 products" }).waitFor();
  await deed.locator("summary").click();
  for (const words of ["ended sale of The lamp", "ended sale of The vase", "took off The lamp", "set units of The lamp: 0", "set units of The vase: 0"])
    await deed.getByText(`hanna ${words}`, { exact: true }).waitFor();

  running = await begin();
  await page.keyboard.down("x");
  await over(running);
  await page.keyboard.up("x");
  await context.close();
  await watching.context.close();
});

test("the log calls things by their names, also after a reload and when they have left the stage", limit, async () => {
  const host = await Host.open(stage.server);
  const lamp = await host.product({ sku: "name-1", title: "The lamp", price_minor: 8900 });
  const id = await host.sale(lamp, { price_minor: 6200, cap: 10 });
  const order = await host.buy("ann", id);
  const banner = await host.banner("Free shipping");
  const timer = await host.timer("Doors close", 600_000);
  const poll = await host.poll("Which glaze next?", ["Ochre", "Moss"]);
  const { page, context, complaints } = await atDesk(stage, host.showId, "hanna");
  await air(page).locator("[data-banner]").waitFor();
  await host.call("DELETE", `/banners/${String(banner["overlay_id"])}?version=1`);
  await host.call("POST", `/timers/${String(timer["overlay_id"])}/stop`, {});
  await host.closePoll(poll);
  await host.call("POST", `/sales/${id}/end`, {});
  await host.refund(order);
  const told = [
    "hanna hid banner Free shipping",
    "hanna stopped timer Doors close",
    "hanna closed poll Which glaze next?",
    "hanna ended sale of The lamp",
    "hanna refunded the order of ann",
  ];
  for (const words of told) await log(page).getByText(words, { exact: true }).waitFor();
  await page.reload();
  for (const words of told) await log(page).getByText(words, { exact: true }).waitFor();

  // Who comes later can be told all but what banners and timers said.
  const late = await atDesk(stage, host.showId, "mo", { role: "moderator" });
  for (const words of told.slice(2)) await log(late.page).getByText(words, { exact: true }).waitFor();
  await log(late.page).getByText("hanna hid banner that is gone", { exact: true }).waitFor();
  assert.doesNotMatch(await log(late.page).innerText(), /…|_/);
  assert.deepEqual([...complaints, ...late.complaints], []);
  await context.close();
  await late.context.close();
});

test("a moderator is not offered what a moderator may not do", limit, async () => {
  const host = await Host.open(stage.server);
  const lamp = await host.product({ sku: "mod-1", title: "The lamp", price_minor: 8900 });
  const id = await host.sale(lamp, { price_minor: 6200, cap: 10 });
  await host.buy("ann", id);
  const { page, context, complaints } = await atDesk(stage, host.showId, "mo", { role: "moderator" });
  await counted(page, id, "sold", "1");
  await page.locator("showcart-desk-orders").getByText("ann").waitFor();
  for (const name of [/End/, /Stop all/, /Refund/, /Prepare a sale/])
    assert.equal(await page.getByRole("button", { name }).count(), 0, String(name));
  assert.deepEqual(
    await page
      .getByRole("tab")
      .allInnerTexts()
      .then((all) => all.map((it) => it.split(/\s/)[0])),
    ["Banner", "Timer", "Poll", "Picture"],
  );
  await page.keyboard.press("x");
  await page.keyboard.press("s");
  await page.keyboard.press("1");
  await air(page).locator(`[data-pinned="${lamp}"]`).waitFor();
  await sale(page, id).waitFor();

  const buyer = await visit(
    stage.browser,
    address(stage.files.url, "/desk", { server: stage.server.url, token: await stage.server.token("viewer", "ann") }),
    DESKTOP,
  );
  await buyer.page.getByText("This token is for buyers").waitFor();
  assert.deepEqual(complaints, []);
  await context.close();
  await buyer.context.close();
});

test("products come in by SKU, and units are set; a refusal is told at its place", limit, async () => {
  const host = await Host.open(stage.server);
  await host.product({ sku: "units-1", title: "The lamp", price_minor: 8900, units: 10 });
  const other = await Host.open(stage.server, { title: "Another show" });
  const jug = await other.product({ sku: "units-2", title: "The jug", price_minor: 4200, units: 0 });
  const { page, context } = await atDesk(stage, host.showId, "hanna");
  await page.keyboard.press("a");
  await page.getByLabel("SKU").fill("units-2");
  await page.getByRole("button", { name: "Add to the line-up" }).click();
  await product(page, jug).getByText("The jug").waitFor();
  // It is chosen, and has no stock.
  await page.getByLabel("Units in all").fill("5");
  await page.getByRole("button", { name: "Set units" }).click();
  await page.locator("[data-note='compose:units'].bad").waitFor();
  await page.getByLabel("SKU").fill("no-such");
  await page.getByRole("button", { name: "Add to the line-up" }).click();
  await page.locator("[data-note='compose:add'].bad").waitFor();
  await context.close();
});

test("a command whose answer is lost is sent again with its key, and happens once", limit, async () => {
  const host = await Host.open(stage.server);
  const { page, context } = await atDesk(stage, host.showId, "hanna");
  const keys: (string | null)[] = [];
  await context.route("**/banners", async (route) => {
    keys.push(await route.request().headerValue("idempotency-key"));
    const answer = await route.fetch();
    if (keys.length === 1) return route.abort("connectionreset");
    if (keys.length === 2)
      return route.fulfill({ status: 503, body: "{}", headers: { "access-control-allow-origin": "*" } });
    return route.fulfill({ response: answer });
  });
  await page.keyboard.press("b");
  await page.keyboard.type("Only once");
  await page.keyboard.press("Enter");
  await page.getByText("The banner is on screen.").first().waitFor();
  assert.equal(keys.length, 3);
  assert.equal(new Set(keys).size, 1);
  assert.equal(await air(page).locator("[data-banner]").count(), 1);
  await context.close();
});

test("problems show themselves, and units that wait for the provider can be freed", limit, async () => {
  const host = await Host.open(stage.server);
  const { page, context } = await atDesk(stage, host.showId, "hanna");
  await page.locator("[data-latest]", { hasText: "hanna started the show" }).waitFor();
  assert.equal(await page.locator("[data-problem]").count(), 0);

  // What a sick provider and slow viewers would be told like.
  const headers = { "access-control-allow-origin": "*" };
  const ids = { hold_id: "hld_0198f2a4c6d87a3eb1f05a6c7d8e9f21", order_id: "ord_0198f2a4c6d87a3eb1f05a6c7d8e9f22" };
  let freed: string | null = null;
  await context.route("**/waiting", (route) =>
    route.fulfill({
      headers,
      json:
        freed === null
          ? { units: 2, holds: [{ ...ids, buyer: "ann", units: 2, deadline: 1, may_free_at: 2 }] }
          : { units: 0, holds: [] },
    }),
  );
  await context.route("**/free", (route) => {
    freed = route.request().url();
    return route.fulfill({ headers, json: {} });
  });
  const at = Math.floor(Date.now() / 10_000) * 10_000;
  await context.route("**/timeline?*", (route) => {
    const point = {
      at,
      viewers: 30,
      viewers_behind: 4,
      granted: 0,
      refused: 0,
      failed: 0,
      provider_errors: 2,
      provider_line: 7,
      orders: 0,
      gmv_minor: 0,
      refunded_minor: 0,
    };
    return route.fulfill({
      headers,
      json: {
        state: "live",
        started_at: 1,
        ended_at: null,
        currency: "EUR",
        step_ms: 10_000,
        points: [point],
        marks: [],
        more: false,
      },
    });
  });
  for (const text of [
    "Payment provider: 2 failed calls in a minute",
    "7 buyers wait for the payment provider",
    "4 viewers get it late",
    "2 units wait for the provider",
  ]) {
    await page.getByRole("button", { name: text }).waitFor();
  }
  await page.keyboard.press("w");
  const dialog = page.getByRole("dialog", { name: "Problems" });
  await dialog.getByRole("button", { name: "Free the units of ann" }).click();
  await dialog.getByRole("button", { name: /^Free them/ }).click();
  await page.locator("[data-problem=waiting]").waitFor({ state: "detached" });
  assert.match(String(freed), new RegExp(`/v1/holds/${ids.hold_id}/free$`));
  await context.close();
});

test("the panel recovers when the server is killed and comes back, and says so meanwhile", limit, async () => {
  const host = await Host.open(stage.server);
  const lamp = await host.product({ sku: "kill-1", title: "The lamp", price_minor: 8900 });
  await host.pin(lamp, 0);
  const { page, context } = await atDesk(stage, host.showId, "hanna");
  await air(page).locator("[data-pinned]").waitFor();
  await stage.server.kill();
  await page.locator("[data-problem=connection]").waitFor();
  // What was on air is still to be seen.
  assert.equal(await air(page).locator("[data-pinned]").count(), 1);
  await stage.server.up();
  await page.locator("[data-problem=connection]").waitFor({ state: "detached" });
  await page.keyboard.press("u");
  await air(page).getByText("No product is pinned.").waitFor();
  await context.close();
});

test("single keys can be turned off", limit, async () => {
  const host = await Host.open(stage.server);
  const lamp = await host.product({ sku: "single-1", title: "The lamp", price_minor: 8900 });
  const { page, context } = await atDesk(stage, host.showId, "hanna");
  await product(page, lamp).waitFor();
  await page.keyboard.press("?");
  await page.getByRole("dialog", { name: "Keys" }).getByLabel("Use single keys").uncheck();
  await page.keyboard.press("Escape");
  await page.keyboard.press("1");
  await page.keyboard.press("b");
  assert.equal(await page.getByRole("tab", { name: "Banner" }).getAttribute("aria-selected"), "false");
  await page.getByRole("button", { name: "Keys", exact: true }).click();
  await page.getByLabel("Use single keys").check();
  await page.keyboard.press("Escape");
  await page.keyboard.press("b");
  await page.getByLabel("Text").waitFor();
  // What came before the check was no command.
  await air(page).getByText("No product is pinned.").waitFor();
  await context.close();
});
