import { css, html, LitElement, type PropertyValues, type TemplateResult } from "lit";
import { clock, secondsLeft } from "./format.js";
import { base } from "./styles.js";

/**
 * Counts down to a moment of the server's clock. It says nothing aloud: a screen reader would hear a number each second, so the
 * page announces thresholds.
 *
 * `showcart-over` tells when zero is reached; what becomes of it then is said by the server.
 */
export class Countdown extends LitElement {
  static override properties = { until: { type: Number }, now: { attribute: false }, left: { state: true } };
  static override styles = [
    base,
    css`
      :host { display: inline-block; }
      .soon { color: var(--sc-signal-text); }
    `,
  ];
  declare until: number;
  /** The server's clock. */
  declare now: () => number;
  declare left: number;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor() {
    super();
    this.until = 0;
    this.now = () => Date.now();
    this.left = 0;
  }

  override connectedCallback(): void {
    super.connectedCallback();
    if (this.until > 0) this.#tick();
  }

  override disconnectedCallback(): void {
    clearTimeout(this.#timer);
    super.disconnectedCallback();
  }

  protected override willUpdate(changed: PropertyValues<this>): void {
    if (changed.has("until") || changed.has("now")) this.#tick();
  }

  protected override render(): TemplateResult {
    return html`<span class="figures" role="timer" aria-live="off">${clock(this.left)}</span>`;
  }

  #tick(): void {
    clearTimeout(this.#timer);
    const ms = this.until - this.now();
    const left = secondsLeft(this.until, this.until - ms);
    const wasRunning = this.left > 0;
    this.left = left;
    if (left > 0) {
      // At the next change of what is shown; in between the clock may have been corrected, so not later than that.
      this.#timer = setTimeout(() => this.#tick(), Math.min(ms - (left - 1) * 1000 + 5, 250));
    } else if (wasRunning) {
      this.dispatchEvent(new Event("showcart-over"));
    }
  }
}
customElements.define("showcart-countdown", Countdown);
