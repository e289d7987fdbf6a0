import type { Observable } from "@showcart/sdk";
import { css, html, type TemplateResult } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { timeOfDay } from "../design/moments.js";
import { base } from "../design/styles.js";
import { desk as texts } from "../texts/desk.en.js";
import type { Action } from "./api.js";
import type { Desk } from "./desk.js";
import { parts } from "./desk.styles.js";
import { Part } from "./part.js";

/** Who did what, the latest first. */
export class Log extends Part {
  static override styles = [
    base,
    parts,
    css`
      .empty { padding: var(--sc-3) var(--sc-4); color: var(--sc-quiet); }
      li { display: grid; grid-template-columns: auto minmax(0, 1fr); gap: var(--sc-3); padding: 4px var(--sc-4); border-bottom: 1px solid var(--sc-line); }
      time { color: var(--sc-quiet); font-variant-numeric: tabular-nums; }
      p { overflow-wrap: anywhere; }
    `,
  ];

  protected sources(): readonly Observable<unknown>[] {
    // They bring the names of things.
    return [this.desk.actions, this.desk.hasRead, this.desk.show.scene, this.desk.sales, this.desk.orders];
  }

  protected override render(): TemplateResult {
    const actions = this.desk.actions.get();
    if (actions.length === 0)
      return html`<p class="empty">${this.desk.hasRead.get().has("actions") ? texts.log.none : texts.loading}</p>`;
    return html`<ol>${repeat(
      actions,
      (it) => it.number,
      (it) => html`<li data-action=${it.action}><time>${timeOfDay(it.at)}</time><p>${sentence(this.desk, it)}</p></li>`,
    )}</ol>`;
  }
}
customElements.define("showcart-desk-log", Log);

/** The latest one is told by the socket without its moment. */
type Deed = Pick<Action, "by" | "action" | "what"> & Partial<Pick<Action, "at">>;

/** The same for ears. */
export const spoken = (desk: Desk, action: Deed): string =>
  `${action.by} ${texts.log.actions[action.action] ?? action.action} ${desk.whatOf(action)}`;

/** "hanna pinned The lamp". An action that is newer than this page is told by the server's word. */
export function sentence(desk: Desk, action: Deed): TemplateResult {
  return html`<strong><bdi>${action.by}</bdi></strong> <span class="quiet">${texts.log.actions[action.action] ?? action.action}</span> <bdi>${desk.whatOf(action)}</bdi>`;
}
