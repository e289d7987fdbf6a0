import type { Observable } from "@showcart/sdk";
import { css, html, LitElement, nothing, type TemplateResult } from "lit";
import { clock, count, money, shortCount } from "../design/format.js";
import { base, controls } from "../design/styles.js";
import { desk as texts } from "../texts/desk.en.js";
import { parts } from "./desk.styles.js";
import { Part } from "./part.js";
import type { Twice } from "./twice.js";
import "./twice.js";

/** One glance: is it on air, how many watch, what is sold; and the switches for all of it. */
export class Head extends Part {
  static override styles = [
    base,
    controls,
    parts,
    css`
      header { display: flex; align-items: center; gap: var(--sc-3) var(--sc-6); min-height: 60px; padding: var(--sc-2) var(--sc-4); }
      .show { display: grid; gap: 2px; min-width: 0; flex: 0 1 auto; }
      h1 { font-size: var(--sc-size-3); letter-spacing: -0.015em; line-height: 1.15; }
      .state { display: flex; align-items: center; gap: var(--sc-2); }
      .badge { min-height: 22px; }
      .numbers { display: flex; gap: var(--sc-6); margin-left: auto; }
      .numbers p { display: flex; align-items: baseline; gap: 6px; white-space: nowrap; }
      .numbers .figures { font-size: var(--sc-size-4); line-height: 1.1; }
      .switches { display: flex; align-items: center; gap: var(--sc-2); }
      @media (max-width: 1023px) {
        header { display: grid; grid-template-columns: minmax(0, 1fr) auto; }
        .numbers { grid-row: 2; grid-column: 1 / -1; margin: 0; }
      }
      @media (max-width: 699px) {
        header { grid-template-columns: minmax(0, 1fr); padding: var(--sc-2) var(--sc-3); gap: var(--sc-2); }
        .show { grid-template-columns: minmax(0, 1fr) auto; align-items: center; }
        .numbers { grid-row: auto; justify-content: space-between; gap: var(--sc-3); }
        .numbers .figures { font-size: var(--sc-size-3); }
        .switches { flex-wrap: wrap; justify-content: space-between; }
      }
      /* The word below its number. */
      @media (max-width: 389px) {
        .numbers p { display: grid; gap: 0; }
      }
    `,
  ];

  protected sources(): readonly Observable<unknown>[] {
    const { show, role, about, notes, busy } = this.desk;
    return [show.part("show"), show.part("sales"), show.gauge("viewers"), show.gauge("gmv"), role, about, notes, busy];
  }

  /** The red switch, for its key. */
  get red(): Twice | null {
    return this.renderRoot.querySelector<Twice>("#red");
  }

  protected override render(): TemplateResult {
    const { desk } = this;
    const stage = desk.show.part("show").get();
    const gmv = desk.show.gauge("gmv").get();
    const viewers = desk.show.gauge("viewers").get();
    return html`<header>
      <div class="show">
        <h1 class="one-line" title=${stage?.title ?? ""}>${stage?.title ?? ""}</h1>
        <p class="state">
          ${stage === null ? nothing : html`<span class="badge ${stage.state === "live" ? "on-air" : ""}" data-state=${stage.state}>${texts.state[stage.state]}</span>`}
          ${stage?.state === "live" && stage.started_at !== null ? html`<showcart-desk-elapsed .since=${stage.started_at} .now=${desk.now}></showcart-desk-elapsed>` : nothing}
          ${desk.about.get()?.test === true ? html`<span class="badge scarce">${texts.top.testShow}</span>` : nothing}
        </p>
      </div>
      <div class="numbers">
        <p data-number="viewers"><span class="figures">${viewers === undefined ? "–" : shortCount(viewers)}</span><span class="quiet">${texts.top.viewers}</span></p>
        <p data-number="gmv"><span class="figures">${gmv === undefined ? money(0, desk.currency) : money(gmv.gmv_minor, gmv.currency)}</span><span class="quiet">${texts.top.gmv}</span></p>
        <p data-number="orders"><span class="figures">${count(gmv?.orders ?? 0)}</span><span class="quiet">${texts.top.orders}</span></p>
      </div>
      ${desk.canSell ? this.#switches(stage?.state ?? null) : nothing}
    </header>`;
  }

  #switches(state: "scheduled" | "live" | "ended" | null): TemplateResult {
    const { desk } = this;
    if (state === "scheduled") {
      return html`<div class="switches"><button class="button signal" aria-disabled=${this.isBusy("show")} @click=${() => void desk.run("show", () => desk.at.start())}>
        ${this.isBusy("show") ? texts.top.starting : texts.top.start}</button></div>`;
    }
    if (state !== "live") return html``;
    return html`<div class="switches">
      <showcart-twice id="end" label=${texts.top.end} sure=${texts.top.endSure} ?disabled=${this.isBusy("show")} @showcart-sure=${() => void desk.run("show", () => desk.at.end())}></showcart-twice>
      <showcart-twice id="red" tone="red" keyName="X" label=${texts.red.label} sure=${texts.red.sure} title=${texts.red.help} ?disabled=${this.isBusy("red")} @showcart-sure=${() => void desk.stopAll()}></showcart-twice>
    </div>`;
  }
}
customElements.define("showcart-desk-head", Head);

/** Counts up from a moment. */
class Elapsed extends LitElement {
  static override properties = { since: { type: Number }, now: { attribute: false } };
  static override styles = [base];
  declare since: number;
  declare now: () => number;
  #timer: ReturnType<typeof setInterval> | undefined;

  override connectedCallback(): void {
    super.connectedCallback();
    this.#timer = setInterval(() => this.requestUpdate(), 1_000);
  }

  override disconnectedCallback(): void {
    clearInterval(this.#timer);
    super.disconnectedCallback();
  }

  protected override render(): TemplateResult {
    const seconds = Math.max(0, Math.floor((this.now() - this.since) / 1_000));
    return html`<span class="figures" role="timer" aria-live="off" aria-label=${texts.top.onAirFor}>${clock(seconds)}</span>`;
  }
}
customElements.define("showcart-desk-elapsed", Elapsed);
