import assert from "node:assert/strict";
import { test } from "node:test";
import { address, PHONE, visit } from "../../testing/browser.js";
import { Files } from "../../testing/files.js";
import { Host } from "../../testing/host.js";
import { stream } from "../../testing/pictures.js";
import { offer, setting } from "./scene.js";

const LATE_MS = 8_000;
/** With pages that bring a stream of their own, at any address. */
const stage = setting({ allowedOrigins: ["*"] });

test("a viewer whose video is 8 s late sees the pin when its picture does, and can buy at once", { timeout: 90_000 }, async () => {
  const { browser, server } = stage;
  const host = await Host.open(server);
  const lamp = await host.product({ sku: "late", title: "Lamp", price_minor: 8900 });
  const token = await server.token("viewer", "ann");
  const files = await Files.serve({ extra: (await stream(browser, 40))(Date.now() - LATE_MS) });
  const words = { server: server.url, show: host.showId, token, video: `${files.url}/stage.m3u8` };
  const { page, context, complaints } = await visit(browser, address(files.url, "/", words), PHONE);
  page.on("console", (m) => console.log(m.text())); await page.waitForTimeout(4000); console.log(await page.evaluate(() => { const v = document.querySelector("showcart-show")?.shadowRoot?.querySelector("showcart-video") as any; const e = v?.shadowRoot.querySelector("video"); return [v?.state, v?.src, e?.currentTime, e?.readyState, String(e?.error?.message), e?.paused, e?.src, v?.pictureTime()]; }));
  const pictureTime = () =>
    page.locator("showcart-video").evaluate((it) => (it as HTMLElement & { pictureTime(): Date | null }).pictureTime()?.getTime() ?? null);
  await page.waitForFunction(() => {
    const video = document.querySelector("showcart-show")?.shadowRoot?.querySelector("showcart-video");
    return (video as (HTMLElement & { pictureTime(): Date | null }) | null | undefined)?.pictureTime() != null;
  });

  const { pin } = (await host.pin(lamp)) as { pin: { pinned_at: number } };
  const late = pin.pinned_at - ((await pictureTime()) ?? 0);
  assert.ok(late > LATE_MS - 2_000, `the picture is ${late} ms late`);
  await page.locator("showcart-offer.entrance").waitFor();
  const shown = ((await pictureTime()) ?? 0) - pin.pinned_at;
  assert.ok(Math.abs(shown) <= 500, `the pin came ${shown} ms after its picture`);
  await page.locator("showcart-offer.pinned:not(.entrance)").waitFor();

  // What decides about buying waits for no picture.
  const sale = await host.sale(lamp, { price_minor: 6200, cap: 5 });
  const told = Date.now();
  await offer(page, sale).waitFor();
  assert.ok(Date.now() - told < 2_000);
  assert.deepEqual(complaints, []);
  await context.close();
  await files.stop();
});
