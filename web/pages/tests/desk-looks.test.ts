import assert from "node:assert/strict";
import { test } from "node:test";
import { DESKTOP } from "../../testing/browser.js";
import { Host } from "../../testing/host.js";
import { air, atDesk, log } from "./desk.scene.js";
import { setting } from "./scene.js";

// The panel with everything on it: nothing flows over, everything has a name, and other people's words stay words.
const stage = setting();
const limit = { timeout: 60_000 };

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
          // A long name is lines, not a tower of letters.
          const who = await page.locator("showcart-desk-orders .who").first().boundingBox();
          assert.ok(who !== null && who.width >= 190 && who.height <= 120, JSON.stringify(who));
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
