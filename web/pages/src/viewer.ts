import type { ShowId } from "@showcart/sdk";
import { openEarly } from "@showcart/sdk/early";
import { read, THEME, write } from "./design/kept.js";
import { texts } from "./texts/broken.en.js";

// The address says everything behind the `#`, which browsers keep to themselves: show, token, and for development server and
// video.
const asked = new URLSearchParams(location.hash.slice(1));
addEventListener("hashchange", () => location.reload());

/** This script stands in its page, and runs before that is read. */
const parsed = new Promise<void>((resolve) => {
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", () => resolve(), { once: true });
  else resolve();
});

async function watch(showId: string): Promise<void> {
  const server = asked.get("server") ?? location.origin;
  const token = asked.get("token");
  // On a slow line, what it says is here when that which shows it is.
  const socket = openEarly({ server, showId, ...(token === null ? {} : { token }) });
  const { ShowcartShow } = await import("./viewer/show.js");
  const element = new ShowcartShow();
  element.socket = socket;
  element.server = server;
  element.show = showId as ShowId;
  element.token = token;
  element.video = asked.get("video");
  const theme = read("localStorage", THEME);
  if (theme === "light" || theme === "dark") element.theme = theme;
  new MutationObserver(() => write("localStorage", THEME, element.theme ?? "")).observe(element, { attributeFilter: ["theme"] });
  element.addEventListener("showcart-ready", (event) => {
    document.title = (event as CustomEvent<{ title: string }>).detail.title;
  });
  await parsed;
  document.body.replaceChildren(element);
}

async function enter(): Promise<void> {
  const show = asked.get("show") ?? "";
  if (show !== "") return watch(show);
  const { ask } = await import("./viewer/entrance.js");
  await parsed;
  ask();
}

try {
  await enter();
} catch (error) {
  // The line broke, or a newer version was put in place of what this page wants to load.
  await parsed;
  const main = document.createElement("main");
  main.className = "entrance";
  const again = document.createElement("button");
  again.className = "button money";
  again.textContent = texts.again;
  again.addEventListener("click", () => location.reload());
  main.append(texts.failed, again);
  document.body.replaceChildren(main);
  throw error;
}
