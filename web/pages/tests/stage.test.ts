import assert from "node:assert/strict";
import { test } from "node:test";
import type { Page } from "playwright-core";
import { DESKTOP, PHONE, SMALL, type Watched } from "../../testing/browser.js";
import { Host } from "../../testing/host.js";
import { listen, offer, setting, viewer } from "./scene.js";

const stage = setting();

test("a poll is opened, voted and closed in two pages", { timeout: 60_000 }, async () => {
  const host = await Host.open(stage.server);
  const ann = await viewer(stage, host.showId, { subject: "ann" });
  const guest = await viewer(stage, host.showId);
  const said = await listen(guest.page);
  const poll = await host.poll("Which glaze next?", ["Ochre", "Moss"]);
  for (const { page } of [ann, guest]) await page.getByRole("button", { name: "Moss" }).waitFor();

  await ann.page.getByRole("button", { name: "Moss" }).click();
  await ann.page.locator("[data-poll] .choice.mine", { hasText: "100%" }).waitFor();
  await guest.page.getByText("1 vote", { exact: true }).waitFor();
  await guest.page.getByRole("button", { name: "Moss" }).click();
  for (const { page } of [ann, guest]) await page.getByText("2 votes", { exact: true }).waitFor();
  // A second tap changes nothing.
  assert.equal(await ann.page.getByRole("button", { name: "Ochre" }).isDisabled(), true);

  await host.closePoll(poll);
  for (const { page } of [ann, guest]) {
    await page.getByText("Moss wins").first().waitFor();
    await page.getByRole("button", { name: "Dismiss the result" }).click();
    await page.locator("showcart-poll").waitFor({ state: "detached" });
  }
  await said.heard("Moss wins");
  assert.equal(await said.times("Poll closed. Which glaze next? Moss wins."), 1);
  assert.equal(await said.times("Poll closed."), 1);
  assert.deepEqual([...ann.complaints, ...guest.complaints], []);
  await ann.context.close();
  await guest.context.close();
});

test("a countdown is the same within 200 ms although one device's clock is 90 s off", { timeout: 60_000 }, async () => {
  const host = await Host.open(stage.server);
  const right = await viewer(stage, host.showId);
  const wrong = await viewer(stage, host.showId, {
    prepare: async (context) => {
      await context.addInitScript(() => {
        const real = Date.now.bind(Date);
        Date.now = () => real() - 90_000;
      });
    },
  });
  await host.timer("Next", 12_000);
  /** When each number appeared, by the one clock that both pages share. */
  const appeared = (page: Page): Promise<Record<string, number>> =>
    page.locator(".timer showcart-countdown").evaluate(
      (countdown) =>
        new Promise((resolve) => {
          const moments: Record<string, number> = {};
          const look = () => {
            const text = countdown.shadowRoot?.textContent?.trim() ?? "";
            moments[text] ??= performance.timeOrigin + performance.now();
            if (Object.keys(moments).length === 6) resolve(moments);
            else requestAnimationFrame(look);
          };
          look();
        }),
    );
  const [one, other] = await Promise.all([appeared(right.page), appeared(wrong.page)]);
  // The first number stood there already when we began to look.
  const shared = Object.keys(one)
    .slice(1)
    .filter((it) => Object.keys(other).indexOf(it) > 0);
  assert.ok(shared.length >= 3, `${Object.keys(one)} and ${Object.keys(other)}`);
  for (const text of shared) {
    const apart = Math.abs((one[text] ?? 0) - (other[text] ?? Number.NaN));
    assert.ok(apart <= 200, `${text} appeared ${Math.round(apart)} ms apart`);
  }
  await right.context.close();
  await wrong.context.close();
});

test("countdowns are said at thresholds only", { timeout: 60_000 }, async () => {
  const host = await Host.open(stage.server);
  const { page, context } = await viewer(stage, host.showId);
  const said = await listen(page);
  await host.timer("Next", 11_500);
  await page.locator(".timer").waitFor();
  await page.locator(".timer").waitFor({ state: "detached" });
  await said.heard("Next: 10 seconds left.");
  assert.equal(await said.times("seconds"), 1);
  await context.close();
});

test("hostile names, texts and addresses stay text, and break no policy", { timeout: 60_000 }, async () => {
  const host = await Host.open(stage.server);
  const evil = `<img src=x onerror="window.hit=1"><script>window.hit=1</script>`;
  const ann = await viewer(stage, host.showId, { subject: "ann" });
  const { page } = ann;
  const lamp = await host.product({
    sku: "evil",
    title: evil,
    variant: `"><b>bold</b>`,
    price_minor: 100,
    image_url: "https://127.0.0.1:1/nothing.png",
  });
  await host.pin(lamp, 0);
  await host.banner(evil, { style: "urgent", link: "https://shop.example/?q=%22%3E" });
  await host.timer(evil.slice(0, 60), 60_000);
  await host.poll(evil, [`<i>a</i>`, `{{b}}\${c}`]);

  await offer(page, lamp).getByText(evil).waitFor();
  await page.locator("[data-banner]", { hasText: evil }).waitFor();
  await page.locator("[data-poll]", { hasText: "<i>a</i>" }).waitFor();
  // The picture cannot be loaded: a drawn one stands in its place.
  await offer(page, lamp).locator("showcart-picture svg").waitFor();
  assert.equal(await offer(page, lamp).locator("img").count(), 0);
  assert.equal(await page.locator("i, b, script:not([type=module])").count(), 0);
  assert.equal(await page.evaluate(() => "hit" in window), false);
  const link = page.locator("[data-banner] a");
  assert.equal(await link.getAttribute("rel"), "noopener noreferrer");
  assert.deepEqual(ann.complaints, []);
  await ann.context.close();
});

test("nothing flows over at 320 px, and what is shown can be reached", { timeout: 90_000 }, async () => {
  const host = await Host.open(stage.server);
  const long = "Handwoven-undyed-Herdwick-wool-runner-with-a-name-that-does-not-end";
  const rug = await host.product({
    sku: "wide",
    title: long,
    variant: "70 × 240 cm",
    price_minor: 12_345_600,
    compare_at_minor: 23_456_700,
  });
  await host.product({ sku: "wide-2", title: "Bowl", price_minor: 100 });
  await host.pin(rug, 400);
  const sale = await host.sale(rug, { price_minor: 9_999_900, cap: 5, duration_ms: 100_000 });
  await host.banner(long);
  await host.timer(long, 60_000);
  await host.poll(long, [long, "B"]);
  for (const options of [SMALL, PHONE, DESKTOP]) {
    // What slides in would be looked at half-way.
    const still = { ...options, reducedMotion: "reduce" as const };
    const { page, context, complaints } = await viewer(stage, host.showId, {
      subject: `w${options.viewport?.width}`,
      options: still,
    });
    await offer(page, sale).waitFor();
    const over = () =>
      page.evaluate(() => {
        const wide: string[] = [];
        const look = (root: ParentNode) => {
          for (const element of root.querySelectorAll("*")) {
            const { right, left, width } = element.getBoundingClientRect();
            const isHidden = element.closest(".spoken, .still") !== null || width <= 1;
            if (!isHidden && (right > innerWidth + 0.5 || left < -0.5))
              wide.push(`${element.tagName}.${element.className} ${left} to ${right}`);
            if (element.shadowRoot !== null) look(element.shadowRoot);
          }
        };
        look(document);
        return { wide, scroll: document.documentElement.scrollWidth, width: innerWidth };
      });
    const check = async () => {
      const { wide, scroll, width } = await over();
      assert.deepEqual(wide, []);
      assert.ok(scroll <= width, `${scroll} in ${width}`);
    };
    await check();
    await offer(page, sale).getByRole("button", { name: /^Buy/ }).click();
    await page.getByRole("button", { name: "Pay with a good card" }).waitFor();
    await check();
    await page.keyboard.press("Escape");
    if (options !== DESKTOP) {
      await page.getByRole("button", { name: /All products/ }).click();
      await page.getByRole("dialog").waitFor();
      await check();
    }
    assert.deepEqual(complaints, []);
    await context.close();
  }
});

test("a poll of six choices leaves room on a small phone: what is announced, and the way to all products", { timeout: 60_000 }, async () => {
  const host = await Host.open(stage.server);
  const rug = await host.product({ sku: "six", title: "Runner", price_minor: 12_345_600 });
  await host.pin(rug, 0);
  await host.banner("Free shipping until midnight");
  await host.timer("Next: the jug", 60_000);
  const choices = ["Ochre", "Moss green, matt", "Plain white", "Indigo, twice dipped", "Terracotta", "Unbleached"];
  await host.poll("Which of these six comes next?", choices);
  const options = { ...SMALL, viewport: { width: 320, height: 568 }, reducedMotion: "reduce" as const };
  const { page, context, complaints } = await viewer(stage, host.showId, { subject: "six", options });
  await page.locator("[data-poll]").waitFor();
  /** Whether the middle of it is what a finger would meet. */
  const isOnTop = (selector: string) =>
    page.locator(selector).evaluate((element) => {
      const { left, top, width, height } = element.getBoundingClientRect();
      const met = (element.getRootNode() as ShadowRoot).elementFromPoint(left + width / 2, top + height / 2);
      return met !== null && element.contains(met);
    });
  for (const selector of [".banner", ".timer", ".bar .button"]) assert.ok(await isOnTop(selector), `${selector} is covered`);
  const { height } = (await page.locator("[data-poll]").boundingBox()) ?? { height: Number.NaN };
  assert.ok(height <= 0.6 * 568 + 1, `the poll is ${height} px high`);
  // The last one is reached, by whatever scrolls, and voted for.
  await page.getByRole("button", { name: "Unbleached" }).click();
  await page.locator("[data-poll] .choice.mine", { hasText: "Unbleached" }).getByText("100%").waitFor();
  await offer(page, rug).getByRole("button", { name: /^Buy/ }).click();
  await page.getByRole("button", { name: "Pay with a good card" }).waitFor();
  assert.deepEqual(complaints, []);
  await context.close();
});

test("on a small phone with everything on stage, what is pinned can be bought without scrolling", { timeout: 60_000 }, async () => {
  const host = await Host.open(stage.server);
  const lamp = await host.product({ sku: "crowd-1", title: "Ridge table lamp", variant: "Ochre", price_minor: 8900 });
  const jug = await host.product({ sku: "crowd-2", title: "Stoneware jug, two litres", price_minor: 4200 });
  const pinned = await host.sale(lamp, { price_minor: 6200, cap: 40, duration_ms: 312_000 });
  const beside = await host.sale(jug, { percent_off: 30, cap: 10 });
  await host.banner("Free shipping to Ireland tonight");
  await host.timer("Doors close", 600_000);
  await host.poll("Which glaze shall we make next?", ["Ochre", "Moss", "Slate"]);
  const options = { ...SMALL, viewport: { width: 320, height: 568 }, reducedMotion: "reduce" as const };
  const { page, context, complaints } = await viewer(stage, host.showId, { subject: "crowd", options });
  /** Whether a finger would meet the middle of its button. */
  const isInSight = async (sale: string) => {
    const button = offer(page, sale).getByRole("button", { name: /^Buy/ });
    await button.waitFor();
    const box = await button.boundingBox();
    assert.ok(box !== null);
    return button.evaluate(
      (it, [x, y]) => it.contains((it.getRootNode() as ShadowRoot).elementFromPoint(x, y)),
      [box.x + box.width / 2, box.y + box.height / 2] as const,
    );
  };
  assert.ok(await isInSight(pinned), "without a pin, the first sale");
  await host.pin(lamp, 0);
  await page.locator("showcart-offer.pinned").waitFor();
  assert.ok(await isInSight(pinned), "the pinned sale");
  // The rest is reached by scrolling, and hides nothing then.
  await page.getByRole("button", { name: "Slate" }).click();
  await offer(page, beside).scrollIntoViewIfNeeded();
  assert.ok(await isInSight(beside), "the sale beside it");
  assert.ok(await isInSight(pinned), "the pinned sale, while the rest is scrolled");
  assert.deepEqual(complaints, []);
  await context.close();
});

test("without a picture the title is read whole or not at all", { timeout: 60_000 }, async () => {
  const host = await Host.open(stage.server, { title: "Autumn lamps, live from the workshop" });
  const lamp = await host.product({ sku: "title-1", title: "Ridge table lamp", price_minor: 8900 });
  const jug = await host.product({ sku: "title-2", title: "Stoneware jug", price_minor: 4200 });
  const widths = [SMALL, PHONE, DESKTOP].map((it) => ({ ...it, reducedMotion: "reduce" as const }));
  const pages: Watched[] = [];
  for (const options of widths) pages.push(await viewer(stage, host.showId, { options }));
  /** How the title stands to what is on screen. */
  const title = ({ page }: Watched) =>
    page.locator(".headline").evaluate((headline) => {
      const root = headline.getRootNode() as ShadowRoot;
      const now = root.querySelector(".now")?.getBoundingClientRect();
      const { bottom, right } = headline.querySelector("h1")?.getBoundingClientRect() ?? { bottom: 0, right: 0 };
      const isSeen = Number(getComputedStyle(headline).opacity) > 0;
      return { isSeen, isCovered: now !== undefined && bottom > now.top + 0.5 && right > now.left };
    });
  const look = async () => Promise.all(pages.map(title));
  for (const it of await look()) assert.deepEqual(it, { isSeen: true, isCovered: false });
  await host.pin(lamp, 0);
  await host.sale(lamp, { price_minor: 6200, cap: 40, duration_ms: 312_000 });
  await host.timer("Doors close", 600_000);
  await host.poll("Which glaze shall we make next?", ["Ochre", "Moss", "Slate"]);
  await host.sale(jug, { percent_off: 30, cap: 10 });
  await host.banner("Free shipping to Ireland tonight");
  for (const { page } of pages) {
    await page.locator(".banner").waitFor();
    await page.waitForFunction(() => {
      const root = document.querySelector("showcart-show")?.shadowRoot;
      const [headline, now] = [root?.querySelector(".headline"), root?.querySelector(".now")];
      if (headline == null || now == null) return false;
      const [title, cards] = [headline.getBoundingClientRect(), now.getBoundingClientRect()];
      return getComputedStyle(headline).opacity === "0" || title.bottom <= cards.top || title.right <= cards.left;
    });
  }
  assert.deepEqual(
    (await look()).map((it) => it.isSeen),
    [false, true, true],
  );
  for (const { context } of pages) await context.close();
});

test("a large amount and a long name are not cut while they enter", { timeout: 60_000 }, async () => {
  const host = await Host.open(stage.server);
  const title = "Donaudampfschifffahrtsgesellschaftskapitänsmütze";
  const rug = await host.product({ sku: "cut", title, price_minor: 9_999_900, compare_at_minor: 23_456_700 });
  for (const width of [320, 390]) {
    const options = { ...SMALL, viewport: { width, height: 640 } };
    const { page, context } = await viewer(stage, host.showId, { options });
    await host.pin(rug, 8_000);
    await page.locator("showcart-offer.entrance").waitFor();
    const { amount, line, article, clipped } = await offer(page, rug).evaluate((it) => {
      const [price, name] = [it.querySelector("showcart-price"), it.querySelector(".title")];
      const shown = price?.shadowRoot?.querySelector(".amount");
      if (shown == null || name === null) throw new Error("there is no amount");
      const size = Number.parseFloat(getComputedStyle(shown).fontSize);
      const { right, height } = shown.getBoundingClientRect();
      const { scrollHeight, clientHeight } = name;
      return { amount: right, line: height / size, article: it.getBoundingClientRect().right, clipped: scrollHeight > clientHeight + 1 };
    });
    assert.ok(amount <= article, `the amount ends at ${amount}, its tag at ${article}`);
    assert.ok(line < 1.6, "the amount stays on one line");
    assert.equal(clipped, false, "the name is shown whole");
    await host.unpin();
    await context.close();
  }
});

test("marks that turn letters around turn nobody else's, and a name from the right stays with itself", { timeout: 60_000 }, async () => {
  const host = await Host.open(stage.server, { title: "\u202EAutumn" });
  // Overrides that are never closed, and ends of isolates that were never begun.
  const evil = "\u202E\u2069\u2067Lamp";
  const lamp = await host.product({ sku: "rlo", title: evil, variant: "\u202EOchre", price_minor: 8900 });
  const arabic = await host.product({ sku: "rtl", title: "مصباح", variant: "XL", price_minor: 8900 });
  await host.pin(lamp, 0);
  const sales = [await host.sale(lamp, { cap: 9, price_minor: 6200 }), await host.sale(arabic, { cap: 9, price_minor: 6100 })];
  for (const sale of sales) await host.buy("rita", sale);
  await host.banner(evil, { link: "https://shop.example/" });
  await host.banner(evil);
  await host.timer(evil, 60_000);
  const { page, context } = await viewer(stage, host.showId, { subject: "rita" });
  const poll = await host.poll(evil, [evil, "Moss"]);
  await page.getByRole("button", { name: "Lamp", exact: true }).click();
  await page.locator("[data-poll] .choice.mine", { hasText: "Lamp" }).waitFor();
  /** Pairs of neighbours that stand the wrong way round: everything here but the Arabic name is written from the left. */
  const turned = () =>
    page.evaluate(() => {
      const wrong: string[] = [];
      let seen = 0;
      const look = (root: Node) => {
        const shadow = root instanceof Element ? root.shadowRoot : null;
        for (const child of [...(shadow?.childNodes ?? []), ...root.childNodes]) look(child);
        if (!(root instanceof Text) || root.parentElement?.closest("style") != null) return;
        for (const { index } of root.data.matchAll(/[a-z](?=[a-z])/gi)) {
          const [one, other] = [0, 1].map((step) => {
            const range = document.createRange();
            range.setStart(root, index + step);
            range.setEnd(root, index + step + 1);
            return range.getBoundingClientRect();
          });
          if (one === undefined || other === undefined || one.width === 0 || one.top !== other.top) continue;
          seen += 1;
          if (one.left > other.left) wrong.push(root.data);
        }
      };
      look(document.body);
      return { wrong, seen };
    });
  const first = await turned();
  assert.ok(first.seen > 30);
  assert.deepEqual(first.wrong, []);
  await host.closePoll(poll);
  await page.getByText("Lamp wins").first().waitFor();
  assert.deepEqual((await turned()).wrong, []);
  assert.equal(await page.title(), "Autumn");
  await page.getByRole("button", { name: /All products/ }).click();
  await page.locator(".orders li").nth(1).waitFor();
  assert.deepEqual((await turned()).wrong, []);
  await page.locator(".orders").getByText("مصباح").waitFor();
  await context.close();
});

test("in a line-up of 60 products, what is on screen is one tap away", { timeout: 60_000 }, async () => {
  const host = await Host.open(stage.server);
  const products: string[] = [];
  for (let number = 1; number <= 60; number += 1)
    products.push(await host.product({ sku: `many-${number}`, title: `Product ${number}`, price_minor: 100 * number }));
  const { page, context, complaints } = await viewer(stage, host.showId, { subject: "mia", options: SMALL });
  await host.pin(String(products[46]), 0);
  await offer(page, String(products[46])).waitFor();
  await page.getByRole("button", { name: /All products/ }).click();
  const row = page.getByRole("dialog").getByRole("article", { name: "Product 47" });
  await row.waitFor();
  assert.equal(await row.evaluate((it) => it.getBoundingClientRect().top > innerHeight), true);
  const way = page.getByRole("button", { name: "On screen now" });
  await way.waitFor();
  const tookMs = await way.evaluate(
    (button) =>
      new Promise<number>((resolve) => {
        const start = performance.now();
        (button as HTMLElement).click();
        requestAnimationFrame(() => requestAnimationFrame(() => resolve(performance.now() - start)));
      }),
  );
  assert.ok(tookMs < 250, `it took ${Math.round(tookMs)} ms`);
  const at = await row.evaluate((it) => {
    const { top, bottom } = it.getBoundingClientRect();
    return { top, bottom, height: innerHeight, isFocused: (it.getRootNode() as ShadowRoot).activeElement === it };
  });
  assert.ok(at.top > 0 && at.bottom < at.height, JSON.stringify(at));
  assert.equal(at.isFocused, true);
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Pay with a good card" }).waitFor();
  assert.deepEqual(complaints, []);
  await context.close();
});
