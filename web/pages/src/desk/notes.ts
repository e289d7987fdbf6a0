import type { Observable } from "@showcart/sdk";
import { css, html, type TemplateResult } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { base, controls } from "../design/styles.js";
import { desk as texts } from "../texts/desk.en.js";
import { icons } from "../viewer/icons.js";
import { parts } from "./desk.styles.js";
import { Part } from "./part.js";

const STAGE = /^(?:pin$|sale:|poll:|timer:|banner:)/;

/**
 * What would be said where nobody sees it, in a place that is always in view: at things that have left the stage; and, where one
 * view fills the screen, at what is on air while another view is open.
 */
export class Notes extends Part {
  static override properties = { elsewhere: { type: Boolean, reflect: true } };
  static override styles = [
    base,
    controls,
    parts,
    css`
      .row { padding: 2px var(--sc-2) 2px var(--sc-3); background: var(--sc-sunk); border-top: 1px solid var(--sc-line); }
      .note { flex: 1; min-width: 0; }
      .row.there { display: none; }
      @media (max-width: 699px) { :host([elsewhere]) .row.there { display: flex; } }
    `,
  ];
  declare elsewhere: boolean;

  constructor() {
    super();
    this.elsewhere = false;
  }

  protected sources(): readonly Observable<unknown>[] {
    return [this.desk.notes, this.desk.show.scene];
  }

  protected override render(): TemplateResult {
    const homeless = new Set(this.desk.homeless().map(([place]) => place));
    const all = [...this.desk.notes.get()].filter(([place]) => STAGE.test(place));
    return html`${repeat(
      all,
      ([place]) => place,
      ([place, { tone, text }]) => html`<div class="row ${homeless.has(place) ? "" : "there"}">
        <p class="note ${tone}" data-told=${place}>${text}</p>
        <button class="button icon bare" aria-label=${texts.said.dismiss(text)} @click=${() => this.desk.note(place, null)}>${icons.close}</button>
      </div>`,
    )}`;
  }
}
customElements.define("showcart-desk-notes", Notes);
