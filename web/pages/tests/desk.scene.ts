import type { BrowserContext, BrowserContextOptions, Page } from "playwright-core";
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
