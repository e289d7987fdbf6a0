import { css, html, LitElement, type PropertyValues, type TemplateResult } from "lit";
import { base } from "./styles.js";

/** How much of something is left or taken, as a bar. What it says stands beside it as text. */
export class Meter extends LitElement {
  static override properties = { share: { type: Number }, tone: { reflect: true } };
  static override styles = [
    base,
    css`
      :host { display: block; height: 4px; background: var(--sc-line); overflow: hidden; }
      .fill {
        height: 100%; width: 100%; background: var(--sc-ink); transform-origin: left;
        transform: scaleX(var(--share, 0)); transition: transform var(--sc-calm) var(--sc-ease);
      }
      :host([tone="scarce"]) .fill { background: var(--sc-scarce-fill); }
      :host([tone="money"]) .fill { background: var(--sc-money-fill); }
      :host([tone="signal"]) .fill { background: var(--sc-signal); }
    `,
  ];
  declare share: number;
  declare tone: "ink" | "scarce" | "money" | "signal";

  constructor() {
    super();
    this.share = 0;
    this.tone = "ink";
  }

  protected override updated(changed: PropertyValues<this>): void {
    // Through the object model: a style attribute is refused by strict policies.
    if (changed.has("share")) this.style.setProperty("--share", String(Math.min(1, Math.max(0, this.share))));
  }

  protected override render(): TemplateResult {
    return html`<div class="fill" aria-hidden="true"></div>`;
  }
}
customElements.define("showcart-meter", Meter);
