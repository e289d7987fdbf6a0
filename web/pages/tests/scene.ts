import { after, before } from "node:test";
import type { Browser, BrowserContext, BrowserContextOptions, Page } from "playwright-core";
import { address, launch, PHONE, visit, type Watched } from "../../testing/browser.js";
import { Files, type FilesOptions } from "../../testing/files.js";
import { Server } from "../../testing/server.js";

/** What each test file has: a browser, the built pages, and a real server that lets these pages call. */
export interface Setting {
  readonly browser: Browser;
  readonly files: Files;
  readonly server: Server;
}

/** Sets up before the first test of a file, and clears away after the last one. */
export function setting({
  allowedOrigins = [],
  settings = [],
  files = {},
}: { allowedOrigins?: readonly string[]; settings?: readonly string[]; files?: FilesOptions } = {}): Setting {
  const it: { browser?: Browser; files?: Files; server?: Server } = {};
  before(async () => {
    it.browser = await launch();
    it.files = await Files.serve(files);
    it.server = await Server.start({ allowedOrigins: [it.files.url, ...allowedOrigins], settings });
  });
  after(async () => {
    await it.browser?.close();
    await it.files?.stop();
    await it.server?.stop();
  });
  const there = <T>(part: T | undefined): T => {
    if (part === undefined) throw new Error("The setting is there only while tests run.");
    return part;
  };
  return {
    get browser() {
      return there(it.browser);
    },
    get files() {
      return there(it.files);
    },
    get server() {
      return there(it.server);
    },
  };
}

export interface ViewerOptions {
  /** The buyer's name at the shop; a guest without it. */
  readonly subject?: string;
  readonly options?: BrowserContextOptions;
  readonly prepare?: (context: BrowserContext) => Promise<void>;
}

/** A viewer, whose page has shown the show for the first time. */
export async function viewer(
  { browser, files, server }: Setting,
  showId: string,
  { subject, options = PHONE, prepare }: ViewerOptions = {},
): Promise<Watched> {
  const words: Record<string, string> = { server: server.url, show: showId };
  if (subject !== undefined) words["token"] = await server.token("viewer", subject);
  const watched = await visit(browser, address(files.url, "/", words), options, prepare);
  await watched.page.locator(".now").waitFor({ state: "attached" });
  return watched;
}

/** The offer of a sale, or of a product at its list price, where it is on screen. */
export const offer = (page: Page, id: string) => page.locator(`.now [data-offer="${id}"]`);

/** What is said aloud from now on. */
export interface Voice {
  /** How often these words were said. */
  times(words: string): Promise<number>;
  /** Waits until something with these words has been said. */
  heard(words: string): Promise<void>;
}

export async function listen(page: Page): Promise<Voice> {
  await page.evaluate(() => {
    const said: string[] = [];
    Object.assign(window, { said });
    const region = document.querySelector("showcart-show")?.shadowRoot?.querySelector("#voice");
    if (region == null) throw new Error("There is no live region.");
    new MutationObserver(() => void said.push(region.textContent ?? "")).observe(region, {
      childList: true,
      characterData: true,
      subtree: true,
    });
  });
  const said = () => page.evaluate(() => (window as unknown as { said: string[] }).said);
  return {
    times: async (words) => (await said()).join(" ").split(words).length - 1,
    heard: async (words) => {
      await page.waitForFunction(
        (it) => (window as unknown as { said: string[] }).said.some((text) => text.includes(it)),
        words,
      );
    },
  };
}
