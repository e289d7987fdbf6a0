import { css, html, LitElement, svg, type TemplateResult } from "lit";
import { base } from "./styles.js";

const WIDTH = 300;
const HEIGHT = 60;

/** A small chart of how something went: a line, or bars. What it says stands beside it as text. */
export class Sparkline extends LitElement {
  static override properties = { values: { attribute: false }, kind: { reflect: true }, unfinished: { type: Boolean } };
  static override styles = [
    base,
    css`
      :host { display: block; height: 48px; border-bottom: 1px solid var(--sc-line-strong); }
      svg { width: 100%; height: 100%; overflow: visible; }
      .area { fill: var(--sc-ink); opacity: 0.08; }
      .line { fill: none; stroke: var(--sc-ink); stroke-width: 1.75; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
      .bar { fill: var(--sc-money-fill); }
      .bar.unfinished { opacity: 0.5; }
    `,
  ];
  /** The oldest first; null where nothing is known. */
  declare values: readonly (number | null)[];
  declare kind: "line" | "bars";
  /** The last bar still grows. */
  declare unfinished: boolean;

  constructor() {
    super();
    this.values = [];
    this.kind = "line";
    this.unfinished = false;
  }

  protected override render(): TemplateResult {
    const { values } = this;
    const most = Math.max(1, ...values.map((it) => it ?? 0));
    const x = (index: number) => (index / Math.max(1, values.length - (this.kind === "line" ? 1 : 0))) * WIDTH;
    const y = (value: number) => HEIGHT - (value / most) * (HEIGHT - 4);
    const drawing = this.kind === "bars" ? this.#bars(x, y) : this.#line(x, y);
    return html`<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" aria-hidden="true">${drawing}</svg>`;
  }

  #bars(x: (index: number) => number, y: (value: number) => number): TemplateResult[] {
    const width = (WIDTH / Math.max(1, this.values.length)) * 0.7;
    return this.values.flatMap((value, index) =>
      value === null || value === 0
        ? []
        : [
            svg`<rect class="bar ${this.unfinished && index === this.values.length - 1 ? "unfinished" : ""}" x=${x(index)} y=${y(value)} width=${width} height=${HEIGHT - y(value)}></rect>` as unknown as TemplateResult,
          ],
    );
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
