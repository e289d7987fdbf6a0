import { css, html, LitElement, nothing, type TemplateResult } from "lit";
import { texts } from "../texts/en.js";
import { money, percent } from "./format.js";
import { base } from "./styles.js";

/** A price, with what it was before and by how much it fell. */
export class Price extends LitElement {
  static override properties = {
    minor: { type: Number },
    was: { type: Number },
    currency: {},
    size: { reflect: true },
    urgent: { type: Boolean, reflect: true },
  };
  static override styles = [
    base,
    css`
      :host { display: inline-flex; flex-wrap: wrap; align-items: baseline; column-gap: var(--sc-2); min-width: 0; }
      .amount { min-width: 0; font-size: var(--sc-size-4); line-height: 1.1; overflow-wrap: anywhere; }
      :host([size="small"]) .amount { font-size: var(--sc-size-3); }
      :host([size="large"]) .amount { font-size: clamp(1.875rem, 11.5cqi, var(--sc-size-6)); letter-spacing: -0.035em; }
      /* A large amount with many digits stays on its line. */
      :host([size="large"]) .amount.long { font-size: clamp(1.25rem, 8.6cqi, var(--sc-size-6)); }
      :host([urgent]) .amount { color: var(--sc-signal-text); }
      .was { font-size: var(--sc-size-1); color: var(--sc-quiet); font-variant-numeric: tabular-nums; text-decoration-thickness: 1px; }
      .before { display: inline-flex; align-items: baseline; gap: 6px; white-space: nowrap; }
      .off { font-size: var(--sc-size-1); color: var(--sc-signal-text); }
      :host([size="large"]) :is(.was, .off) { font-size: var(--sc-size-3); }
    `,
  ];
  declare minor: number;
  declare was: number | null;
  declare currency: string;
  declare size: "small" | "normal" | "large";
  declare urgent: boolean;

  constructor() {
    super();
    this.minor = 0;
    this.was = null;
    this.currency = "EUR";
    this.size = "normal";
    this.urgent = false;
  }

  protected override render(): TemplateResult {
    const now = money(this.minor, this.currency);
    const { was } = this;
    const amount = html`<span class="amount figures ${now.length > 8 ? "long" : ""}">${now}</span>`;
    if (was === null || was <= this.minor) return amount;
    const before = money(was, this.currency);
    const share = Math.round(((was - this.minor) / was) * 100);
    const off = percent(share / 100);
    return html`${amount}<span class="before"><s class="was" aria-hidden="true">${before}</s><span class="spoken">, ${texts.offer.was(before)}</span>${
        share < 1
          ? nothing
          : html`<span class="off figures" aria-hidden="true">${texts.offer.discount(off)}</span
            ><span class="spoken">, ${texts.offer.discountSpoken(off)}</span>`
      }</span>`;
  }
}
customElements.define("showcart-price", Price);
