import { after, before } from "node:test";
import type { Browser, BrowserContextOptions } from "playwright-core";
import { DESKTOP, launch, visit, type Watched } from "../../testing/browser.js";
import type { Host } from "../../testing/host.js";
import { Server } from "../../testing/server.js";

/** A browser, and a real server that serves the built pages itself, under its own policy. */
export function desk(): { readonly browser: Browser; readonly server: Server } {
  const it: { browser?: Browser; server?: Server } = {};
  before(async () => {
    it.browser = await launch();
    it.server = await Server.start({ settings: ["--web-dir", "../dist"] });
  });
  after(async () => {
    await it.browser?.close();
    await it.server?.stop();
  });
  const there = <T>(part: T | undefined): T => {
    if (part === undefined) throw new Error("The setting is there only while tests run.");
    return part;
  };
  return {
    get browser() { return there(it.browser); },
    get server() { return there(it.server); },
  };
}

/** A dashboard that has drawn its show. */
export async function signedIn(browser: Browser, server: Server, host: Host, options: BrowserContextOptions = DESKTOP): Promise<Watched> {
  const words = new URLSearchParams({ show: host.showId, token: host.token });
  const watched = await visit(browser, `${server.url}/dashboard#${words.toString()}`, options);
  await watched.page.locator("#plot-wait canvas").waitFor();
  return watched;
}
