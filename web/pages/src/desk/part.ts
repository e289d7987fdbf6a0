import type { Observable, Unsubscribe } from "@showcart/sdk";
import { html, LitElement, nothing, type PropertyDeclarations, type TemplateResult } from "lit";
import type { Desk } from "./desk.js";
import { keepFocus } from "./focus.js";

/** An element of the control panel: rendered anew when one of its sources changes, and only then. */
export abstract class Part extends LitElement {
  static override properties: PropertyDeclarations = { desk: { attribute: false } };
  declare desk: Desk;
  #unsubscribe: Unsubscribe[] = [];

  /** What it shows; the same for as long as the element is on the page. */
  protected abstract sources(): readonly Observable<unknown>[];

  override connectedCallback(): void {
    super.connectedCallback();
    this.#unsubscribe = this.sources().map((it) => it.subscribe(() => this.requestUpdate()));
  }

  override disconnectedCallback(): void {
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    this.#unsubscribe = [];
    super.disconnectedCallback();
  }

  protected override updated(): void {
    keepFocus();
  }

  /** What is said at a place; the room for it is there all the time where `room` says so. */
  protected note(place: string): TemplateResult | typeof nothing {
    const note = this.desk.notes.get().get(place);
    return note === undefined ? nothing : html`<p class="note ${note.tone}" data-note=${place}>${note.text}</p>`;
  }

  protected isBusy(place: string): boolean {
    return this.desk.busy.get().has(place);
  }
}
