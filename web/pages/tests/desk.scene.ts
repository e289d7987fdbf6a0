import type { BrowserContext, BrowserContextOptions, Page, WebSocketRoute } from "playwright-core";
import { address, DESKTOP, visit, type Watched } from "../../testing/browser.js";
import type { Role } from "../../testing/server.js";
import type { Setting } from "./scene.js";

export interface DeskOptions {
  readonly role?: Role;
  readonly options?: BrowserContextOptions;
  readonly prepare?: (context: BrowserContext) => Promise<void>;
}

/** Somebody at the control panel of a show, who sees it. */
export async function atDesk(
  { browser, files, server }: Setting,
  showId: string,
  name: string,
  { role = "host", options = DESKTOP, prepare }: DeskOptions = {},
): Promise<Watched> {
  const words = { server: server.url, show: showId, token: await server.token(role, name) };
  const watched = await visit(browser, address(files.url, "/desk", words), options, prepare);
  await watched.page.locator("showcart-desk-head [data-state]").waitFor();
  return watched;
}

/** What a page's socket hears can be kept from it for a while, so that its host presses on what was. */
export class Ears {
  #route: WebSocketRoute | null = null;
  #heldBack: (string | Buffer)[] | null = null;

  /** Goes into the page's context before the page is opened. */
  readonly prepare = (context: BrowserContext): Promise<void> =>
    context.routeWebSocket(/\/live/, (route) => {
      this.#route = route;
      route.connectToServer().onMessage((message) => {
        if (this.#heldBack === null) route.send(message);
        else this.#heldBack.push(message);
      });
    });

  close(): void {
    this.#heldBack = [];
  }

  /** The page hears what it has missed, and from now on everything at once. */
  open(): void {
    for (const message of this.#heldBack ?? []) this.#route?.send(message);
    this.#heldBack = null;
  }
}

/** What is on air, by the desk. */
export const air = (page: Page) => page.locator("showcart-desk-air");
export const product = (page: Page, id: string) => page.locator(`[data-product="${id}"]`);
export const sale = (page: Page, id: string) => page.locator(`showcart-desk-air [data-sale="${id}"]`);
export const log = (page: Page) => page.locator("showcart-desk-log");
/** A number of the sale that is shown, such as 40 of "40 left of 50". */
export const counted = (page: Page, id: string, what: "left" | "in_checkout" | "sold", count: string) =>
  sale(page, id)
    .locator(`[data-count=${what}]`, { hasText: new RegExp(`^\\s*${count}\\s*(left|in|sold)`) })
    .waitFor();
