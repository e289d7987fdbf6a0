import { texts } from "../texts/entrance.en.js";

/** Asks for the show, and for the token of whoever has one. */
export function ask(): void {
  const template = document.querySelector("template");
  if (template === null) return;
  document.body.append(template.content.cloneNode(true));
  for (const element of document.querySelectorAll("[data-text]")) {
    const key = element.getAttribute("data-text") as keyof typeof texts;
    element.textContent = texts[key];
  }
  document.querySelector("form")?.addEventListener("submit", (event) => {
    event.preventDefault();
    const fields = new URLSearchParams();
    for (const { name, value } of document.querySelectorAll("input"))
      if (value.trim() !== "") fields.set(name, value.trim());
    location.hash = fields.toString();
  });
}
