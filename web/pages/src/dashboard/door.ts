import { html, type TemplateResult } from "lit";
import { texts } from "../texts/dashboard.en.js";
import type { Access } from "./access.js";

/** The sign-in, with a sentence that says why it is shown. */
export function door(said: string | null, enter: (access: Access) => void): TemplateResult {
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    const fields = new FormData(event.currentTarget as HTMLFormElement);
    const [token, show] = ["token", "show"].map((name) => String(fields.get(name) ?? "").trim());
    if (token !== undefined && token !== "") enter({ token, show: show === undefined || show === "" ? null : show });
  };
  const { title, help, token, show, open } = texts.door;
  return html`<main class="entrance">
    <h1>${title}</h1>
    <p>${help}</p>
    ${said === null ? null : html`<p class="said" role="alert">${said}</p>`}
    <form @submit=${submit}>
      <label><span>${token}</span><input name="token" type="password" required autocomplete="off" spellcheck="false" /></label>
      <label><span>${show}</span><input name="show" autocomplete="off" spellcheck="false" placeholder="shw_…" /></label>
      <button class="button money">${open}</button>
    </form>
  </main>`;
}
