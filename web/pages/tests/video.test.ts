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

test(
  "a viewer whose video is 8 s late sees the pin when its picture does, and can buy at once",
  { timeout: 90_000 },
  async (t) => {
    const { browser, server } = stage;
    const host = await Host.open(server);
    const lamp = await host.product({ sku: "late", title: "Lamp", price_minor: 8900 });
    const token = await server.token("viewer", "ann");
    const files = await Files.serve({ extra: (await stream(browser, 40))(Date.now() - LATE_MS) });
    t.after(() => files.stop());
    const words = { server: server.url, show: host.showId, token, video: `${files.url}/stage.m3u8` };
    const { page, context, complaints } = await visit(browser, address(files.url, "/", words), PHONE);
    const pictureTime = () =>
      page
        .locator("showcart-video")
        .evaluate((it) => (it as HTMLElement & { pictureTime(): Date | null }).pictureTime()?.getTime() ?? null);
    await page.waitForFunction(() => {
      const video = document.querySelector("showcart-show")?.shadowRoot?.querySelector("showcart-video");
      return (video as (HTMLElement & { pictureTime(): Date | null }) | null | undefined)?.pictureTime() != null;
    });

    // Looked at in the page, frame by frame: which moment the picture shows when the pin comes.
    const shownAt = page.evaluate(
      () =>
        new Promise<number>((resolve) => {
          const root = document.querySelector("showcart-show")?.shadowRoot;
          const look = () => {
            const video = root?.querySelector<HTMLElement & { pictureTime(): Date | null }>("showcart-video");
            if (root?.querySelector("showcart-offer.entrance") != null) resolve(video?.pictureTime()?.getTime() ?? 0);
            else requestAnimationFrame(look);
          };
          look();
        }),
    );
    const { pin } = (await host.pin(lamp)) as { pin: { pinned_at: number } };
    const late = pin.pinned_at - ((await pictureTime()) ?? 0);
    assert.ok(late > LATE_MS - 2_000, `the picture is ${late} ms late`);
    const shown = (await shownAt) - pin.pinned_at;
    assert.ok(Math.abs(shown) <= 500, `the pin came ${shown} ms after its picture`);
    await page.locator("showcart-offer.pinned:not(.entrance)").waitFor();

    // What decides about buying waits for no picture.
    const sale = await host.sale(lamp, { price_minor: 6200, cap: 5 });
    const told = Date.now();
    await offer(page, sale).waitFor();
    assert.ok(Date.now() - told < 2_000);
    assert.deepEqual(complaints, []);
    await context.close();
  },
);
