// Pictures of the control panel's main states, to be looked at: `npm run screenshots`. They land in web/screenshots.
import { mkdirSync } from "node:fs";
import { after, before, test } from "node:test";
import type { Browser, BrowserContext, BrowserContextOptions, Page } from "playwright-core";
import { address, DESKTOP, launch, PHONE, visit } from "../../testing/browser.js";
import { Files } from "../../testing/files.js";
import { Host } from "../../testing/host.js";
import { pictures } from "../../testing/pictures.js";
import { Server } from "../../testing/server.js";
import { Crowd } from "./crowd.js";
import { air, atDesk, log, product } from "./desk.scene.js";

const OUT = "../screenshots";
let browser: Browser;
let files: Files;
let server: Server;

before(async () => {
  mkdirSync(OUT, { recursive: true });
  browser = await launch();
  files = await Files.serve({ extra: pictures() });
  server = await Server.start({ allowedOrigins: [files.url] });
});
after(async () => {
  await browser?.close();
  await files?.stop();
  await server?.stop();
});

const looks: readonly { readonly name: string; readonly options: BrowserContextOptions }[] = [
  { name: "desk-wide-light", options: { ...DESKTOP, colorScheme: "light" } },
  { name: "desk-wide-dark", options: { ...DESKTOP, colorScheme: "dark" } },
  {
    name: "desk-tablet-light",
    options: { viewport: { width: 768, height: 1024 }, locale: "en-GB", colorScheme: "light" },
  },
  { name: "desk-phone-light", options: { ...PHONE, colorScheme: "light" } },
  { name: "desk-phone-dark", options: { ...PHONE, colorScheme: "dark" } },
];
const wanted = looks.filter(({ name }) =>
  (process.env["LOOKS"] ?? "").split(",").some((it) => name.includes(it.trim())),
);

async function shoot(page: Page, look: string, name: string, fullPage = false): Promise<void> {
  await page.evaluate(() => document.fonts.ready);
  // Bars grow into their place.
  await page.waitForTimeout(400);
  await page.screenshot({ path: `${OUT}/${look}-${name}.png`, fullPage });
}

const VIEWERS = 60;

/** A show of some minutes has no curve worth a picture: half an hour of a lively one, made up. */
async function halfAnHour(context: BrowserContext): Promise<void> {
  await context.route("**/timeline?*", (route) => {
    const end = Math.floor(Date.now() / 10_000) * 10_000;
    let gmv_minor = 0;
    const points = Array.from({ length: 180 }, (_, index) => {
      const lively = 0.5 + 0.5 * Math.sin(index / 17) ** 2;
      gmv_minor += index % 3 === 0 ? Math.round(6200 * lively * (1 + (index % 7))) : 0;
      const viewers = Math.round(VIEWERS * (1 - Math.exp(-index / 40)) * (0.86 + 0.14 * Math.sin(index / 9)));
      return {
        at: end - (179 - index) * 10_000,
        viewers,
        viewers_behind: 0,
        granted: 0,
        refused: 0,
        failed: 0,
        provider_errors: 0,
        provider_line: 0,
        orders: 0,
        gmv_minor,
        refunded_minor: 0,
      };
    });
    return route.fulfill({
      json: {
        state: "live",
        started_at: end - 1_790_000,
        ended_at: null,
        currency: "EUR",
        step_ms: 10_000,
        points,
        marks: [],
        more: false,
      },
      headers: { "access-control-allow-origin": "*" },
    });
  });
}

for (const look of wanted) {
  test(look.name, { timeout: 120_000 }, async () => {
    const stage = { browser, files, server };
    const host = await Host.open(server, { title: "Autumn lamps, live from the workshop", start: false });
    const image = (name: string) => `${files.url}/${name}.svg`;
    const sku = (name: string) => `${name}-${looks.indexOf(look) + 1}`;
    const lamp = await host.product({
      sku: sku("lamp"),
      title: "Ridge table lamp",
      variant: "Ochre",
      price_minor: 8900,
      compare_at_minor: 11900,
      units: 60,
      image_url: image("lamp"),
    });
    const jug = await host.product({
      sku: sku("jug"),
      title: "Stoneware jug, two litres",
      price_minor: 4200,
      units: 24,
      image_url: image("jug"),
    });
    const rug = await host.product({
      sku: sku("rug"),
      title: "Flat-weave runner, hand-loomed in undyed wool",
      variant: "70 × 240 cm",
      price_minor: 124000,
      compare_at_minor: 149000,
      units: 3,
      image_url: image("rug"),
    });
    await host.product({
      sku: sku("bowl"),
      title: "Salad bowl in olive wood",
      price_minor: 5600,
      units: 40,
      image_url: image("bowl"),
    });
    await host.product({
      sku: sku("cup"),
      title: "Cup without a handle",
      variant: "Set of four",
      price_minor: 3800,
      units: 8,
    });

    const door = await visit(browser, address(files.url, "/desk", { server: server.url }), look.options);
    await door.page.getByLabel("Token").waitFor();
    await shoot(door.page, look.name, "01-door");
    await door.page.getByLabel("Token").fill(host.token);
    await door.page.keyboard.press("Enter");
    await door.page.getByRole("heading", { name: "Choose a show" }).waitFor();
    await shoot(door.page, look.name, "02-shows");
    await door.context.close();

    const { page, context } = await atDesk(stage, host.showId, "hanna", { options: look.options, prepare: halfAnHour });
    await page.getByRole("button", { name: "Start the show" }).waitFor();
    await shoot(page, look.name, "03-before");
    await page.getByRole("button", { name: "Start the show" }).click();
    await page.locator("[data-state=live]").waitFor();
    const crowd = await Crowd.of(server, host.showId);
    await crowd.come(VIEWERS);
    await page.locator("[data-number=viewers]", { hasText: String(VIEWERS) }).waitFor();
    await host.pin(lamp);
    const running = await host.sale(lamp, { price_minor: 6200, cap: 40, duration_ms: 312_000, limit_per_buyer: 3 });
    await host.sale(jug, { percent_off: 30, cap: 10, starts_at: Date.now() + 95_000 });
    await host.poll("Which glaze shall we make next?", ["Ochre", "Moss", "Slate"], 90_000);
    await host.timer("Doors close", 600_000);
    await host.banner("Free shipping to Ireland tonight", { style: "highlight" });
    const polled = await page.locator("showcart-desk-poll [data-poll]").getAttribute("data-poll");
    for (const [buyer, choice] of [
      ["ann", 0],
      ["bo", 1],
      ["cy", 1],
      ["di", 2],
      ["eve", 1],
    ] as const) {
      await fetch(`${server.url}/v1/shows/${host.showId}/polls/${polled}/votes`, {
        method: "POST",
        headers: { authorization: `Bearer ${await server.token("viewer", buyer)}`, "content-type": "application/json" },
        body: JSON.stringify({ choice }),
      });
    }
    const orders = [];
    for (const [buyer, quantity] of [
      ["ann", 1],
      ["bo", 2],
      ["Fionnuala O’Brien", 1],
      ["di", 3],
    ] as const)
      orders.push(await host.buy(buyer.replace(/ /g, "."), running, { quantity }));
    await host.buy("eve", running, { quantity: 2, pay: false });
    await host.refund(orders[1] ?? "");
    await log(page).getByText("refunded the order of").first().waitFor({ state: "attached" });
    await page.waitForTimeout(1_500);
    await shoot(page, look.name, "04-on-air");
    await shoot(page, look.name, "04-on-air-full", true);

    if (look.name.includes("phone")) {
      for (const [view, name] of [
        ["Line-up", "05-lineup"],
        ["Compose", "06-compose"],
        ["Orders", "07-orders"],
      ] as const) {
        await page.getByRole("navigation").getByRole("button", { name: view }).click();
        await shoot(page, look.name, name);
      }
      await page
        .locator("showcart-desk-orders")
        .getByRole("button", { name: /Refund/ })
        .first()
        .click();
      await shoot(page, look.name, "08-refund");
      await crowd.leave();
      await context.close();
      return;
    }
    await product(page, rug)
      .getByRole("button", { name: /Prepare a sale/ })
      .click();
    await shoot(page, look.name, "05-sale-form");
    await page.keyboard.press("Escape");
    await page.keyboard.press("q");
    await shoot(page, look.name, "06-poll-form");
    await page.keyboard.press("Escape");
    await page
      .locator("showcart-desk-orders")
      .getByRole("button", { name: /Refund/ })
      .first()
      .click();
    await page.getByRole("button", { name: "Send the money back" }).click();
    await shoot(page, look.name, "07-refund");
    await page.keyboard.press("Escape");
    await page.keyboard.press("Escape");
    await page.keyboard.press("x");
    await shoot(page, look.name, "08-red");
    await page.keyboard.press("?");
    await shoot(page, look.name, "09-keys");
    await page.keyboard.press("Escape");
    await page.keyboard.press("a");
    await shoot(page, look.name, "10-units");
    await page.keyboard.press("Escape");

    const moderator = await atDesk(stage, host.showId, "mo", { role: "moderator", options: look.options });
    await air(moderator.page).locator("[data-pinned]").waitFor();
    await shoot(moderator.page, look.name, "11-moderator");
    await moderator.context.close();

    await crowd.leave();
    await context.setOffline(true);
    await server.kill();
    await page.locator("[data-problem=connection]").waitFor();
    await shoot(page, look.name, "12-offline");
    await context.setOffline(false);
    await server.up();
    await page.locator("[data-problem=connection]").waitFor({ state: "detached" });
    await host.end();
    await page.locator("[data-state=ended]").waitFor();
    await shoot(page, look.name, "13-ended");
    await context.close();
  });
}
