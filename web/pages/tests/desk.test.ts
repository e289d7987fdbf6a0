import assert from "node:assert/strict";
import { test } from "node:test";
import type { WebSocketRoute } from "playwright-core";
import { address, DESKTOP, visit } from "../../testing/browser.js";
import { Host } from "../../testing/host.js";
import { air, atDesk, counted, log, product, sale } from "./desk.scene.js";
import { offer, setting, viewer } from "./scene.js";

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

test("of two hosts at once, the one who is late is told what happened instead", limit, async () => {
  const host = await Host.open(stage.server);
  const lamp = await host.product({ sku: "two-1", title: "The lamp", price_minor: 8900 });
  const vase = await host.product({ sku: "two-2", title: "The vase", price_minor: 4200 });
  const bowl = await host.product({ sku: "two-3", title: "The bowl", price_minor: 5600 });
  // What Ben's socket hears can be kept from him for a while.
  const late: { heldBack: (string | Buffer)[] | null; route: WebSocketRoute | null } = { heldBack: null, route: null };
  const hanna = await atDesk(stage, host.showId, "hanna");
  const ben = await atDesk(stage, host.showId, "ben", {
    prepare: async (context) => {
      await context.routeWebSocket(/\/live/, (route) => {
        late.route = route;
        route.connectToServer().onMessage((message) => {
          if (late.heldBack === null) route.send(message);
          else late.heldBack.push(message);
        });
      });
    },
  });
  for (const { page } of [hanna, ben]) await product(page, bowl).waitFor();
  await hanna.page.keyboard.press("1");
  // Both see each other's deeds at once.
  await air(ben.page).locator(`[data-pinned="${lamp}"]`).waitFor();
  await ben.page.locator("[data-latest]", { hasText: "hanna pinned The lamp" }).waitFor();

  late.heldBack = [];
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
  for (const message of late.heldBack) late.route?.send(message);
  late.heldBack = null;
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
    const late: { heldBack: (string | Buffer)[] | null; route: WebSocketRoute | null } = { heldBack: null, route: null };
    const ben = await atDesk(stage, host.showId, "ben", {
      // A phone, where a view fills the screen.
      options: { ...DESKTOP, viewport: { width: 390, height: 844 } },
      prepare: async (context) => {
        await context.routeWebSocket(/\/live/, (route) => {
          late.route = route;
          route.connectToServer().onMessage((message) => {
            if (late.heldBack === null) route.send(message);
            else late.heldBack.push(message);
          });
        });
      },
    });
    const { page } = ben;
    const told = page.locator("showcart-desk-notes [data-told]");
    const voice = page.locator("#voice");
    const catchUp = () => {
      for (const message of late.heldBack ?? []) late.route?.send(message);
      late.heldBack = null;
    };
    await host.poll("Which glaze next?", ["Ochre", "Moss"]);
    const poll = page.locator("showcart-desk-poll");
    await poll.waitFor();

    late.heldBack = [];
    await host.call("POST", `/sales/${id}/end`, {});
    await sale(page, id).getByRole("button", { name: "End the sale of The lamp" }).click();
    await sale(page, id).getByRole("button", { name: /^Sure/ }).click();
    await sale(page, id).getByText("Meanwhile the sale was ended by hanna.").waitFor();
    await voice.getByText("Meanwhile the sale was ended by hanna.").waitFor({ state: "attached" });
    catchUp();
    // Its card is gone, and what was said at it is still to be seen, on top of the page.
    await sale(page, id).waitFor({ state: "detached" });
    await told.getByText("Meanwhile the sale was ended by hanna.").waitFor();
    const box = await told.boundingBox();
    assert.ok(box !== null && box.y >= 0 && box.y + box.height <= 844, JSON.stringify(box));

    // By its key, while another view fills the screen.
    late.heldBack = [];
    const open = (await host.call("GET", "/polls")) as unknown as { poll_id: string }[];
    await host.closePoll(String(open[0]?.poll_id));
    await page.getByRole("navigation").getByRole("button", { name: "Line-up" }).click();
    await page.keyboard.press("c");
    await told.getByText("Meanwhile the poll was closed by hanna.").waitFor();
    await voice.getByText("Meanwhile the poll was closed by hanna.").waitFor({ state: "attached" });
    assert.equal(await told.count(), 1, "what was said before has made room");
    catchUp();
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

  running = await begin();
  await page.keyboard.down("x");
  await over(running);
  await page.keyboard.up("x");
  await context.close();
  await watching.context.close();
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
  await context.route("**/timeline?*", (route) => {
    const point = {
      at: Date.now(),
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

/** Everything that can be on the panel, with names that do not end. */
async function crowded(): Promise<Host> {
  const long = "Handwoven-undyed-Herdwick-wool-runner-with-a-name-that-does-not-end-in-a-long-time";
  const host = await Host.open(stage.server, { title: long });
  const one = await host.product({
    sku: `${long}-${host.showId}`,
    title: long,
    variant: "70 × 240 cm",
    price_minor: 12_345_600,
  });
  for (let number = 2; number <= 12; number += 1) {
    await host.product({ sku: `${number}-${host.showId}`, title: `Bowl ${number}`, price_minor: 100 * number });
  }
  await host.pin(one, 0);
  const id = await host.sale(one, { price_minor: 9_999_900, cap: 5, duration_ms: 100_000 });
  await host.banner(long, { style: "urgent", duration_ms: 100_000 });
  await host.timer(long, 60_000);
  await host.poll(long, [long.slice(0, 80), "B"], 60_000);
  await host.buy(long, id);
  return host;
}

test(
  "nothing flows over at 320, 390, 768 and 1280 px, and at 1280 × 800 nothing needs scrolling of the page",
  limit,
  async () => {
    const host = await crowded();
    for (const [width, height] of [
      [320, 568],
      [390, 844],
      [768, 1024],
      [1280, 800],
    ] as const) {
      const { page, context, complaints } = await atDesk(stage, host.showId, "hanna", {
        options: { ...DESKTOP, viewport: { width, height } },
      });
      const views = width < 700 ? ["On air", "Line-up", "Compose", "Orders"] : [null];
      await page.locator("showcart-desk-poll").waitFor({ state: "attached" });
      await page.locator("showcart-desk-orders [data-order]").waitFor({ state: "attached" });
      for (const view of views) {
        if (view !== null) await page.getByRole("navigation").getByRole("button", { name: view }).click();
        const wide = await page.evaluate(() => {
          const found: string[] = [];
          const look = (root: ParentNode) => {
            for (const element of root.querySelectorAll("*")) {
              const { right, left, width } = element.getBoundingClientRect();
              const isCut = element.closest(".one-line, .spoken, svg") !== null || width <= 1;
              // The line of problems scrolls by itself.
              const isLine = (element.getRootNode() as ShadowRoot).host?.tagName === "SHOWCART-DESK-SIGNAL";
              if (!isCut && !isLine && (right > innerWidth + 0.5 || left < -0.5))
                found.push(`${element.tagName}.${element.className} ${left} to ${right}`);
              if (element.shadowRoot !== null) look(element.shadowRoot);
            }
          };
          look(document);
          return found;
        });
        assert.deepEqual(wide, [], `${width} px, ${view}`);
        // What an order is of is read in whole.
        const things = page.locator("showcart-desk-orders .things p").first();
        if (await things.isVisible()) {
          const cut = await things.evaluate((it) => [it.scrollWidth - it.clientWidth, getComputedStyle(it).textOverflow]);
          assert.deepEqual(cut, [0, "clip"]);
        }
        assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= width);
      }
      if (width === 1280) assert.ok((await page.evaluate(() => document.documentElement.scrollHeight)) <= height);
      assert.deepEqual(complaints, []);
      await context.close();
    }
  },
);

test("everything that can be pressed or filled has a name, and can be reached by Tab", limit, async () => {
  const host = await crowded();
  const { page, context } = await atDesk(stage, host.showId, "hanna");
  await page.locator("showcart-desk-orders [data-order]").waitFor();
  const controls = await page.locator("button:visible, input:visible, select:visible, textarea:visible").all();
  assert.ok(controls.length > 50, String(controls.length));
  const tree = await page.locator("showcart-desk").ariaSnapshot();
  assert.doesNotMatch(tree, /^\s*- (button|textbox|combobox|spinbutton|checkbox)(:| \[|$)/m);
  const reached = new Set<string>();
  for (let press = 0; press < 150; press += 1) {
    await page.keyboard.press("Tab");
    const id = await page.evaluate(() => {
      let element = document.activeElement;
      while (element?.shadowRoot?.activeElement != null) element = element.shadowRoot.activeElement;
      return `${element?.tagName} ${element?.getAttribute("aria-label") ?? element?.textContent?.trim().slice(0, 40)}`;
    });
    reached.add(id.replace(/\s+/g, " "));
  }
  for (const wanted of [
    /Take the pin off/,
    /End the sale of/,
    /Close the poll/,
    /Stop the timer/,
    /Hide the banner/,
    /Pin Bowl 12/,
    /Prepare a sale of Bowl 12/,
    /Refund the order/,
    /Stop all sales/,
  ]) {
    assert.ok(
      [...reached].some((it) => wanted.test(it)),
      `${wanted} of ${[...reached].join("; ")}`,
    );
  }
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

test("hostile names and texts stay text, and break no policy", limit, async () => {
  const evil = `<img src=x onerror="window.hit=1"><script>window.hit=1</script>`;
  const host = await Host.open(stage.server, { title: evil });
  const lamp = await host.product({
    sku: "evil<b>",
    title: evil,
    variant: `"><b>bold</b>`,
    price_minor: 100,
    image_url: "https://127.0.0.1:1/nothing.png",
  });
  const { page, context, complaints } = await atDesk(stage, host.showId, "<i>hanna</i>");
  await host.pin(lamp, 0);
  const id = await host.sale(lamp, { price_minor: 50, cap: 5 });
  await host.banner(evil, { style: "urgent" });
  await host.timer(evil.slice(0, 60), 60_000);
  await host.poll(evil, ["<i>a</i>", "{{b}}"]);
  await host.buy("<u>ann</u>", id);
  await air(page).locator("[data-banner]", { hasText: evil }).waitFor();
  await page.locator("showcart-desk-orders").getByText("<u>ann</u>").waitFor();
  await log(page).getByText(evil).first().waitFor();
  assert.equal(await page.locator("i, b, u, showcart-picture img, script:not([type=module])").count(), 0);
  assert.equal(await page.evaluate(() => "hit" in window), false);
  assert.deepEqual(complaints, []);
  await context.close();
});
