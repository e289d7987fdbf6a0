// What a shop's own script does. Here the address names the show, so that the example can be tried with any.
import type { ShowcartShow } from "./viewer/show.js";

const asked = new URLSearchParams(location.hash.slice(1));
const element = document.querySelector("showcart-show") as ShowcartShow | null;
const said = document.querySelector("#said");

await customElements.whenDefined("showcart-show");
if (element !== null) {
  element.server = asked.get("server") ?? location.origin;
  element.video = asked.get("video");
  // A function is asked again whenever the token is about to end: a shop would fetch one from its back end.
  const token = asked.get("token");
  if (token !== null) element.token = () => token;
  element.show = (asked.get("show") ?? "") as ShowcartShow["show"];
  element.addEventListener("showcart-order", (event) => {
    if (said !== null)
      said.textContent = `The shop heard of the order ${(event as CustomEvent<{ order_id: string }>).detail.order_id}.`;
  });
  element.addEventListener("showcart-signin", (event) => {
    event.preventDefault();
    if (said !== null) said.textContent = "The shop would open its sign-in now.";
  });
}
