import type { ShowId } from "@showcart/sdk";
import { read, THEME, write } from "./design/kept.js";
import { texts } from "./texts/en.js";
import "./viewer/show.js";
import type { ShowcartShow } from "./viewer/show.js";

// The address says everything behind the `#`, which browsers keep to themselves: show, token, and for development server and video.
const asked = new URLSearchParams(location.hash.slice(1));
addEventListener("hashchange", () => location.reload());

function watch(show: string): void {
  const element = document.createElement("showcart-show") as ShowcartShow;
  element.server = asked.get("server") ?? location.origin;
  element.show = show as ShowId;
  element.token = asked.get("token");
  element.video = asked.get("video");
  const theme = read("localStorage", THEME);
  if (theme === "light" || theme === "dark") element.theme = theme;
  new MutationObserver(() => write("localStorage", THEME, element.theme ?? "")).observe(element, { attributeFilter: ["theme"] });
  element.addEventListener("showcart-ready", (event) => {
    document.title = (event as CustomEvent<{ title: string }>).detail.title;
  });
  document.body.replaceChildren(element);
}

function ask(): void {
  const template = document.querySelector("template");
  if (template === null) return;
  document.body.append(template.content.cloneNode(true));
  for (const element of document.querySelectorAll("[data-text]")) {
    const key = element.getAttribute("data-text") as keyof typeof texts.entrance;
    element.textContent = texts.entrance[key];
  }
  document.querySelector("form")?.addEventListener("submit", (event) => {
    event.preventDefault();
    const fields = new URLSearchParams();
    for (const { name, value } of document.querySelectorAll("input"))
      if (value.trim() !== "") fields.set(name, value.trim());
    location.hash = fields.toString();
  });
}

const show = asked.get("show");
if (show === null) ask();
else watch(show);
