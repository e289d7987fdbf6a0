import { css, html, LitElement, svg, type TemplateResult } from "lit";
import { base } from "./styles.js";

const WIDTH = 300;
const HEIGHT = 60;

/** A small chart of how something went. What it says stands beside it as text. */
export class Sparkline extends LitElement {
  static override properties = { values: { attribute: false }, tone: { reflect: true } };
  static override styles = [
    base,
    css`
      :host { display: block; height: 48px; border-bottom: 1px solid var(--sc-line-strong); }
      svg { width: 100%; height: 100%; overflow: visible; }
      .area { fill: var(--sc-ink); opacity: 0.08; }
      .line { fill: none; stroke: var(--sc-ink); stroke-width: 1.75; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
      :host([tone="money"]) .area { fill: var(--sc-money-fill); opacity: 0.16; }
      :host([tone="money"]) .line { stroke: var(--sc-money-fill); }
    `,
  ];
  /** The oldest first; null where nothing is known. */
  declare values: readonly (number | null)[];
  declare tone: "plain" | "money";

  constructor() {
    super();
    this.values = [];
    this.tone = "plain";
  }

  protected override render(): TemplateResult {
    const { values } = this;
    const most = Math.max(1, ...values.map((it) => it ?? 0));
    const x = (index: number) => (index / Math.max(1, values.length - 1)) * WIDTH;
    const y = (value: number) => HEIGHT - (value / most) * (HEIGHT - 4);
    return html`<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" aria-hidden="true">${this.#line(x, y)}</svg>`;
  }

  #line(x: (index: number) => number, y: (value: number) => number): TemplateResult {
    const known = this.values.flatMap((value, index) =>
      value === null ? [] : [`${x(index).toFixed(1)},${y(value).toFixed(1)}`],
    );
    const first = this.values.findIndex((it) => it !== null);
    // One moment alone has no line: it is drawn as a short one.
    if (known.length === 1) known.push(known[0]?.replace(/^[^,]+/, String(Number.parseFloat(known[0]) - 6)) ?? "");
    const area = known.length === 0 ? "" : `${x(first).toFixed(1)},${HEIGHT} ${known.join(" ")} ${WIDTH},${HEIGHT}`;
    return svg`<polygon class="area" points=${area}></polygon><polyline class="line" points=${known.join(" ")}></polyline>` as unknown as TemplateResult;
  }
}
customElements.define("showcart-sparkline", Sparkline);
