// Pictures of the main states, to be looked at: `npm run screenshots`. They land in web/screenshots, which is not kept.
import { mkdirSync } from "node:fs";
import { after, before, test } from "node:test";
import type { Browser, BrowserContextOptions, Page } from "playwright-core";
import { address, DESKTOP, launch, PHONE, SMALL, visit } from "../../testing/browser.js";
import { Files } from "../../testing/files.js";
import { Host } from "../../testing/host.js";
import { Server } from "../../testing/server.js";
import { pictures, video } from "../../testing/pictures.js";

const OUT = "../screenshots";
let browser: Browser;
let files: Files;
let server: Server;

before(async () => {
  mkdirSync(OUT, { recursive: true });
  browser = await launch();
  files = await Files.serve({ extra: { ...pictures(), "/stage.webm": await video(browser) } });
  server = await Server.start({ allowedOrigins: [files.url] });
});
after(async () => {
  await browser?.close();
  await files?.stop();
  await server?.stop();
});

interface Look {
  readonly name: string;
  readonly options: BrowserContextOptions;
}
const looks: readonly Look[] = [
  { name: "phone-light", options: { ...PHONE, colorScheme: "light" } },
  { name: "phone-dark", options: { ...PHONE, colorScheme: "dark" } },
  { name: "small-light", options: { ...SMALL, colorScheme: "light" } },
  { name: "small-dark", options: { ...SMALL, colorScheme: "dark" } },
  { name: "desktop-light", options: { ...DESKTOP, colorScheme: "light" } },
  { name: "desktop-dark", options: { ...DESKTOP, colorScheme: "dark" } },
];
const wantedLooks = looks.filter(({ name }) =>
  (process.env["LOOKS"] ?? "").split(",").some((it) => name.startsWith(it.trim())),
);

interface Cast {
  readonly host: Host;
  readonly lamp: string;
  readonly jug: string;
  readonly rug: string;
}

let casts = 0;

async function cast(title: string, start = true): Promise<Cast> {
  const run = (casts += 1);
  const host = await Host.open(server, { title, start });
  const image = (name: string) => `${files.url}/${name}.svg`;
  const lamp = await host.product({
    sku: `lamp-${run}`,
    title: "Ridge table lamp",
    variant: "Ochre",
    price_minor: 8900,
    compare_at_minor: 11900,
    units: 60,
    image_url: image("lamp"),
  });
  const jug = await host.product({
    sku: `jug-${run}`,
    title: "Stoneware jug, two litres",
    price_minor: 4200,
    units: 24,
    image_url: image("jug"),
  });
  const rug = await host.product({
    sku: `rug-${run}`,
    title: "Flat-weave runner, hand-loomed in undyed wool",
    variant: "70 × 240 cm",
    price_minor: 124000,
    compare_at_minor: 149000,
    units: 3,
    image_url: image("rug"),
  });
  await host.product({
    sku: `bowl-${run}`,
    title: "Salad bowl in olive wood",
    price_minor: 5600,
    units: 40,
    image_url: image("bowl"),
  });
  await host.product({
    sku: `cup-${run}`,
    title: "Cup without a handle",
    variant: "Set of four",
    price_minor: 3800,
    units: 8,
  });
  return { host, lamp, jug, rug };
}

const open = async (host: Host, { options }: Look, words: Record<string, string> = {}) =>
  visit(
    browser,
    address(files.url, "/", { server: server.url, show: host.showId, video: `${files.url}/stage.webm`, ...words }),
    options,
  );

/** What moves has arrived, and pictures are there. */
async function shoot(page: Page, look: Look, name: string): Promise<void> {
  await page.waitForLoadState("networkidle");
  await page.evaluate(async () => {
    const roots = [document, document.querySelector("showcart-show")?.shadowRoot].filter((it) => it != null);
    await Promise.all(roots.flatMap((it) => it.getAnimations()).map((it) => it.finished.catch(() => null)));
  });
  await page.screenshot({ path: `${OUT}/${name}-${look.name}.png` });
}

for (const look of wantedLooks) {
  test(look.name, { timeout: 240_000 }, async () => {
    const ann = await server.token("viewer", `ann-${look.name}`);
    const { host, lamp, jug, rug } = await cast("The autumn table");
    const { page, context } = await open(host, look, { token: ann });
    const offer = (id: string) => page.locator(`.now [data-offer="${id}"]`);
    const isWide = look.name.startsWith("desktop");

    await host.pin(lamp, 3_000);
    await page.locator("showcart-offer.entrance").waitFor();
    await shoot(page, look, "1-entrance");
    await page.locator("showcart-offer.pinned:not(.entrance)").waitFor();
    await shoot(page, look, "2-pinned");

    const sale = await host.sale(lamp, { price_minor: 6200, cap: 40, duration_ms: 300_000 });
    await offer(sale).waitFor();
    await Promise.all(["u1", "u2", "u3"].map((it) => host.buy(`${it}-${look.name}`, sale)));
    await page.getByText("37 left").first().waitFor();
    await host.banner("Free shipping until midnight", { style: "highlight", link: "https://shop.example/shipping" });
    await host.timer("Next: the jug", 95_000);
    await page.getByText("Next: the jug").waitFor();
    await shoot(page, look, "3-sale");

    await host.poll("Which glaze next?", ["Ochre", "Moss", "Plain white, matt"]);
    await page.getByRole("button", { name: "Ochre", exact: true }).waitFor();
    await shoot(page, look, "4-poll");
    await page.getByRole("button", { name: "Moss", exact: true }).click();
    await page.getByText("Your vote").first().waitFor({ state: "attached" });
    await shoot(page, look, "5-poll-voted");
    const [poll] = Object.values(
      await page
        .locator("showcart-poll")
        .evaluateAll((all) => all.map((it) => (it as unknown as { poll: { poll_id: string } }).poll.poll_id)),
    );
    await host.closePoll(String(poll));
    await page.getByText("Moss wins").first().waitFor();
    await shoot(page, look, "6-poll-result");
    await page.getByRole("button", { name: "Dismiss" }).click();

    await offer(sale).getByRole("button", { name: /Buy/ }).click();
    await page.getByRole("button", { name: "Pay with a good card" }).waitFor();
    await shoot(page, look, "7-pay");
    await page.getByRole("button", { name: "declined" }).click();
    await page.locator(".said", { hasText: "The card was declined" }).waitFor();
    await shoot(page, look, "8-declined");
    await page.getByRole("button", { name: "asks the bank" }).click();
    await page.getByRole("button", { name: "Approve" }).waitFor();
    await shoot(page, look, "9-bank");
    await page.keyboard.press("Escape");
    await offer(sale).getByRole("button", { name: "Finish checkout" }).waitFor();
    await shoot(page, look, "10-reserved");
    await offer(sale).getByRole("button", { name: "Finish checkout" }).click();
    await page
      .getByRole("button", { name: "Pay with a good card" })
      .or(page.getByRole("button", { name: "Approve" }))
      .first()
      .waitFor();
    if (await page.getByRole("button", { name: "Approve" }).isVisible())
      await page.getByRole("button", { name: "Approve" }).click();
    else await page.getByRole("button", { name: "Pay with a good card" }).click();
    await page.getByRole("heading", { name: "Order confirmed" }).waitFor();
    await shoot(page, look, "11-confirmed");
    await page.getByRole("button", { name: "Keep watching" }).click();

    const armed = await host.sale(jug, { price_minor: 2900, cap: 2, starts_at: Date.now() + 42_000 });
    await offer(armed).waitFor();
    await host.pin(jug, 500);
    await page.locator("showcart-offer.pinned:not(.entrance)", { hasText: "jug" }).waitFor();
    await shoot(page, look, "12-armed");

    const few = await host.sale(rug, { price_minor: 99000, cap: 2 });
    await host.pin(rug, 500);
    await host.buy(`bo-${look.name}`, few, { pay: false });
    await host.buy(`cy-${look.name}`, few, { pay: false });
    await page.getByText("All 2 are in checkout").first().waitFor();
    await offer(few).getByRole("button").click();
    await page.getByText("Try again in").first().waitFor();
    await shoot(page, look, "13-all-in-checkout");

    if (!isWide) {
      await page.getByRole("button", { name: /All products/ }).click();
      await shoot(page, look, "14-lineup");
      await page.keyboard.press("Escape");
    }
    await context.setOffline(true);
    await server.kill();
    await page
      .getByText(/Reconnecting|offline/)
      .first()
      .waitFor();
    await shoot(page, look, "15-offline");
    await context.setOffline(false);
    await server.up();
    await context.close();

    const gone = await cast("Last pieces");
    const bare = await visit(
      browser,
      address(files.url, "/", { server: server.url, show: gone.host.showId, token: ann }),
      look.options,
    );
    await gone.host.pin(gone.rug, 0);
    const last = await gone.host.sale(gone.rug, { price_minor: 99000, cap: 1 });
    await gone.host.buy(`bo-${look.name}`, last);
    await bare.page.locator(".now").getByRole("button", { name: "Sold out" }).waitFor();
    await gone.host.banner("Back in ten minutes: we are changing the table", { style: "urgent" });
    await bare.page.getByText("Back in ten").first().waitFor();
    await shoot(bare.page, look, "16-sold-out");
    await gone.host.end();
    await bare.page.getByText("Thank you for watching").waitFor();
    await shoot(bare.page, look, "17-ended");
    await bare.context.close();

    const soon = await cast("Tomorrow at eight", false);
    const guest = await visit(
      browser,
      address(files.url, "/", { server: server.url, show: soon.host.showId, video: `${files.url}/stage.webm` }),
      look.options,
    );
    await guest.page.getByText("It begins by itself").waitFor();
    await shoot(guest.page, look, "18-scheduled");
    await soon.host.start();
    await soon.host.pin(soon.lamp, 0);
    await guest.page.getByRole("button", { name: "Sign in to buy" }).first().click();
    await shoot(guest.page, look, "19-guest");
    await guest.context.close();
  });
}

test("element and entrance", async () => {
  const look = { name: "desktop-light", options: { ...DESKTOP, colorScheme: "light" as const } };
  const { host, lamp } = await cast("Tonight from the workshop");
  await host.pin(lamp, 0);
  await host.sale(lamp, { price_minor: 6200, cap: 40, duration_ms: 300_000 });
  const token = await server.token("viewer", "eve");
  const shop = await visit(
    browser,
    address(files.url, "/embed", { server: server.url, show: host.showId, token, video: `${files.url}/stage.webm` }),
    look.options,
  );
  await shop.page.getByText("40 left").first().waitFor();
  await shoot(shop.page, look, "20-embed");
  await shop.context.close();
  const door = await visit(browser, `${files.url}/`, look.options);
  await shoot(door.page, look, "21-door");
  await door.context.close();
});
