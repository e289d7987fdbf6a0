import { css, html, LitElement, type TemplateResult } from "lit";
import { base, controls } from "../design/styles.js";

/** So long a first press waits for the second one. */
const ARMED_MS = 5_000;

/**
 * A button that is pressed twice: `label`, then `sure`. Both words have their room from the beginning, so that nothing moves
 * under the finger. `showcart-sure` says that it was pressed for the second time.
 */
export class Twice extends LitElement {
  static override properties = {
    label: {},
    sure: {},
    named: {},
    keyName: {},
    disabled: { type: Boolean },
    tone: { reflect: true },
    armed: { type: Boolean, reflect: true },
  };
  static override shadowRootOptions: ShadowRootInit = { ...LitElement.shadowRootOptions, delegatesFocus: true };
  static override styles = [
    base,
    controls,
    css`
      :host { display: inline-block; }
      .button { width: 100%; min-height: var(--desk-touch, 36px); padding: 4px var(--sc-3); font-size: var(--sc-size-1); }
      .words { display: grid; }
      .words > * { grid-area: 1 / 1; white-space: nowrap; }
      .words > [data-off] { visibility: hidden; }
      :host([armed]) .button { background: var(--sc-signal-fill); border-color: transparent; color: var(--sc-signal-on); }
      :host([armed]) .button:hover { background: var(--sc-signal-fill); }
      :host([tone="red"]) .button:not([aria-disabled="true"]) { border-color: var(--sc-signal-text); color: var(--sc-signal-text); }
      :host([tone="red"][armed]) .button:not([aria-disabled="true"]) { color: var(--sc-signal-on); border-color: transparent; }
      kbd {
        flex: none; display: inline-grid; place-items: center; min-width: 20px; height: 20px; padding: 0 5px; border: 1px solid currentColor; border-radius: var(--sc-radius);
        font: 700 0.75rem/1 var(--sc-font);
      }
      @media (hover: none), (max-width: 699px) { kbd { display: none; } }
    `,
  ];
  declare label: string;
  declare sure: string;
  /** What is said aloud in place of the label. */
  declare named: string;
  declare keyName: string;
  declare disabled: boolean;
  declare tone: "plain" | "red" | "start";
  declare armed: boolean;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor() {
    super();
    this.label = "";
    this.sure = "";
    this.named = "";
    this.keyName = "";
    this.disabled = false;
    this.tone = "plain";
    this.armed = false;
  }

  override disconnectedCallback(): void {
    this.#disarm();
    super.disconnectedCallback();
  }

  /** As a press does, for keys. */
  press(): void {
    if (this.disabled) return;
    if (this.armed) return this.fire();
    this.armed = true;
    this.#timer = setTimeout(() => this.#disarm(), ARMED_MS);
  }

  /** Without asking: the key was held. */
  fire(): void {
    this.#disarm();
    if (!this.disabled) this.dispatchEvent(new Event("showcart-sure"));
  }

  #disarm(): void {
    clearTimeout(this.#timer);
    this.armed = false;
  }

  protected override render(): TemplateResult {
    const name = this.named === "" ? this.label : this.named;
    return html`<button class="button" type="button" aria-disabled=${this.disabled} aria-label=${this.armed ? `${this.sure} ${name}` : name}
      @click=${() => this.press()} @keydown=${(event: KeyboardEvent) => event.key === "Escape" && this.#disarm()}>
      <span class="words"><span ?data-off=${this.armed}>${this.label}</span><span ?data-off=${!this.armed}>${this.sure}</span></span>
      ${this.keyName === "" ? "" : html`<kbd aria-hidden="true">${this.keyName}</kbd>`}
    </button>`;
  }
}
customElements.define("showcart-twice", Twice);
