import { type Browser, type BrowserContext, type BrowserContextOptions, chromium, type Page } from "playwright-core";

const EXECUTABLE = process.env["CHROMIUM"] ?? "/usr/bin/chromium";

export function launch(): Promise<Browser> {
  return chromium.launch({
    executablePath: EXECUTABLE,
    args: ["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"],
  });
}

export const PHONE: BrowserContextOptions = {
  viewport: { width: 390, height: 844 },
  deviceScaleFactor: 2,
  hasTouch: true,
  locale: "en-GB",
};
export const SMALL: BrowserContextOptions = {
  viewport: { width: 320, height: 640 },
  deviceScaleFactor: 2,
  hasTouch: true,
  locale: "en-GB",
};
export const DESKTOP: BrowserContextOptions = { viewport: { width: 1280, height: 800 }, locale: "en-GB" };

/** A page that keeps what must not happen in any: errors that nobody caught, and violations of the content policy. */
export interface Watched {
  readonly page: Page;
  readonly context: BrowserContext;
  readonly complaints: string[];
}

/** A browser of its own, as far as storage and sockets go. */
export async function visit(
  browser: Browser,
  address: string,
  options: BrowserContextOptions = PHONE,
  prepare?: (context: BrowserContext) => Promise<void>,
): Promise<Watched> {
  const context = await browser.newContext(options);
  const complaints: string[] = [];
  // Through the console, because the page's own listeners would not see violations before its scripts run.
  context.on("console", (message) => {
    if (/Content Security Policy|Content-Security-Policy/i.test(message.text())) complaints.push(message.text());
  });
  context.on("weberror", (error) => complaints.push(String(error.error())));
  await prepare?.(context);
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  await page.goto(address);
  return { page, context, complaints };
}

/** The address of the viewer page, or of another one with the same words behind the `#`. */
export function address(files: string, path: string, words: Readonly<Record<string, string>>): string {
  return `${files}${path}#${new URLSearchParams(words).toString()}`;
}
