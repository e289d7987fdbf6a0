import assert from "node:assert/strict";
import { test } from "node:test";
import { address, PHONE, visit, type Watched } from "../../testing/browser.js";
import { Files } from "../../testing/files.js";
import { Host } from "../../testing/host.js";
import { stream } from "../../testing/pictures.js";
import { offer, type Setting, setting } from "./scene.js";

const LATE_MS = 8_000;
/** A viewer of a stream that is so late, whose picture is on screen and tells its time. */
async function lateViewer({ browser, server }: Setting, showId: string): Promise<Watched & { readonly files: Files }> {
  const token = await server.token("viewer", "ann");
  const files = await Files.serve({ extra: (await stream(browser, 40))(Date.now() - LATE_MS) });
  const words = { server: server.url, show: showId, token, video: `${files.url}/stage.m3u8` };
  const watched = await visit(browser, address(files.url, "/", words), PHONE);
  await watched.page.waitForFunction(() => {
    const video = document.querySelector("showcart-show")?.shadowRoot?.querySelector("showcart-video");
    return (video as (HTMLElement & { pictureTime(): Date | null }) | null | undefined)?.pictureTime() != null;
  });
  return { ...watched, files };
}

/** With pages that bring a stream of their own, at any address. */
const stage = setting({ allowedOrigins: ["*"] });

test(
  "a viewer whose video is 8 s late sees the pin when its picture does, and can buy at once",
  { timeout: 90_000 },
  async (t) => {
    const host = await Host.open(stage.server);
    const lamp = await host.product({ sku: "late", title: "Lamp", price_minor: 8900 });
    const { page, context, complaints, files } = await lateViewer(stage, host.showId);
    t.after(() => files.stop());
    const pictureTime = () =>
      page
        .locator("showcart-video")
        .evaluate((it) => (it as HTMLElement & { pictureTime(): Date | null }).pictureTime()?.getTime() ?? null);

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

test(
  "a poll that is over before its end is in the picture says that votes are counted, and takes none",
  { timeout: 90_000 },
  async (t) => {
    const host = await Host.open(stage.server);
    const { page, context, complaints, files } = await lateViewer(stage, host.showId);
    t.after(() => files.stop());
    await host.poll("By its time?", ["Ochre", "Moss"], LATE_MS + 3_000);
    const byHand = await host.poll("By hand?", ["Ochre", "Moss"]);
    const [timed, closed] = ["By its time?", "By hand?"].map((it) => page.locator("showcart-poll", { hasText: it }));
    assert.ok(timed !== undefined && closed !== undefined);
    const [ochre, moss] = [timed.getByRole("button", { name: "Ochre" }), closed.getByRole("button", { name: "Moss" })];
    await ochre.waitFor();
    assert.equal(await ochre.isDisabled(), false);

    // One that was closed by hand says so to whoever taps.
    await host.closePoll(byHand);
    await moss.click();
    await closed.getByText("The poll has closed.").waitFor();
    assert.equal(await moss.isDisabled(), true);

    await timed.getByText("Counting the last votes…").waitFor();
    assert.equal(await ochre.isDisabled(), true);
    for (const poll of [closed, timed]) await poll.getByText("Nobody voted").waitFor();
    assert.deepEqual(complaints, []);
    await context.close();
  },
);
