import type { Observable, ProductId } from "@showcart/sdk";
import { css, html, nothing, type TemplateResult } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { count, money } from "../design/format.js";
import "../design/picture.js";
import { base, controls } from "../design/styles.js";
import { desk as texts } from "../texts/desk.en.js";
import { shares } from "./air.js";
import { allOf, fullName, listed, saleOf } from "./desk.js";
import { parts } from "./desk.styles.js";
import { Part } from "./part.js";

/** The products of the show, with their units. */
export class Lineup extends Part {
  static override styles = [
    base,
    controls,
    parts,
    css`
      .empty { padding: var(--sc-4); color: var(--sc-quiet); }
      .note { margin: 0 var(--sc-4); }
    `,
  ];

  protected sources(): readonly Observable<unknown>[] {
    const { show, chosen, pinned, role } = this.desk;
    return [show.scene, chosen, pinned, role];
  }

  protected override render(): TemplateResult {
    const scene = this.desk.show.scene.get();
    const products = scene === null ? [] : listed(scene);
    if (products.length === 0) return html`<p class="empty">${scene === null ? texts.loading : texts.lineup.empty}</p>`;
    return html`<ol @keydown=${(event: KeyboardEvent) => this.#keys(event)}>
      ${repeat(
        products,
        (it) => it,
        (it, index) =>
          html`<showcart-desk-product role="listitem" .desk=${this.desk} .product=${it} .place=${index + 1}></showcart-desk-product>`,
      )}
    </ol>`;
  }

  #keys(event: KeyboardEvent): void {
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    event.preventDefault();
    event.stopPropagation();
    this.move(event.key === "ArrowDown" ? 1 : -1);
  }

  /** Chooses the next product, or the one before, and puts the focus there. */
  move(by: 1 | -1): void {
    const scene = this.desk.show.scene.get();
    if (scene === null) return;
    const products = listed(scene);
    const at = products.indexOf(this.desk.chosen.get() ?? ("" as ProductId));
    const next = products[Math.min(products.length - 1, Math.max(0, at + by))];
    if (next === undefined) return;
    this.desk.chosen.set(next);
    void this.updateComplete.then(() => {
      const row = [...this.renderRoot.querySelectorAll("showcart-desk-product")].find(
        (it) => (it as Product).product === next,
      ) as Product | undefined;
      row?.scrollIntoView({ block: "nearest" });
      void row?.updateComplete.then(() => row.renderRoot.querySelector<HTMLElement>(".choose")?.focus());
    });
  }
}
customElements.define("showcart-desk-lineup", Lineup);

class Product extends Part {
  static override properties = { product: { attribute: false }, place: { type: Number } };
  static override styles = [
    base,
    controls,
    parts,
    css`
      .line {
        display: grid; grid-template-columns: 22px 40px minmax(0, 1fr) 140px auto; gap: 2px 10px; align-items: center; padding: 7px var(--sc-4) 7px var(--sc-3);
        border-bottom: 1px solid var(--sc-line);
      }
      .line.chosen { background: var(--sc-sunk); box-shadow: inset 4px 0 0 var(--sc-line-strong); }
      .line.pinned { box-shadow: inset 4px 0 0 var(--sc-signal); }
      showcart-picture { width: 40px; }
      .choose { display: grid; gap: 1px; padding: 2px 0; border: 0; background: none; text-align: left; cursor: pointer; min-height: 36px; align-content: center; min-width: 0; }
      .choose .name { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 4; overflow: hidden; line-height: 1.2; }
      .about { overflow-wrap: anywhere; }
      .units { display: grid; gap: 3px; }
      .units .rest { font-size: 0.75rem; white-space: nowrap; letter-spacing: -0.01em; }
      .units svg { width: 100%; height: 5px; }
      .units .sold { fill: var(--sc-money-fill); }
      .units .held { fill: var(--sc-scarce-fill); }
      .units rect.rest { fill: var(--sc-line); }
      .out { color: var(--sc-signal-text); font-weight: 700; }
      .do { display: flex; gap: 6px; }
      .do .button { padding-inline: var(--sc-1); width: 54px; }
      .do .pin { width: 72px; }
      .pin[aria-pressed="true"] { background: var(--sc-signal-fill); color: var(--sc-signal-on); border-color: transparent; }
      .pin[aria-pressed="true"]:hover:not([aria-disabled="true"]) { background: var(--sc-signal-fill); text-decoration: underline; }
      .pin[aria-pressed="true"][aria-disabled="true"] { background: var(--sc-sunk); color: var(--sc-quiet); border-color: var(--sc-line); }
      .place { color: var(--sc-quiet); text-align: center; }
      :host { container-type: inline-size; }
      @container (max-width: 489px) {
        .line { grid-template-columns: 22px 40px minmax(0, 1fr) auto; padding-right: var(--sc-3); }
        .units { grid-column: 3; grid-row: 2; }
        .do { grid-column: 4; grid-row: 1 / 3; display: grid; }
        .do .button, .do .pin { width: 76px; }
      }
    `,
  ];
  declare product: ProductId;
  declare place: number;

  protected sources(): readonly Observable<unknown>[] {
    const { show, pinned, chosen, busy, role } = this.desk;
    return [
      show.part("lineup"),
      show.part("sales"),
      show.part("show"),
      show.gauge(`stock:${this.product}`),
      pinned,
      chosen,
      busy,
      role,
    ];
  }

  protected override render(): TemplateResult {
    const { desk } = this;
    const scene = desk.show.scene.get();
    const card = scene?.lineup[this.product]?.product;
    if (card === undefined) return html``;
    const isPinned = desk.pinned.get()?.pin?.product.product_id === this.product;
    const isChosen = desk.chosen.get() === this.product;
    const sale = saleOf(scene, this.product);
    const units = desk.show.gauge(`stock:${this.product}`).get();
    const { left, in_checkout, sold } = units ?? { left: 0, in_checkout: 0, sold: 0 };
    const all = units === undefined ? 0 : allOf(units);
    return html`<div class="line ${isPinned ? "pinned" : ""} ${isChosen ? "chosen" : ""}" data-product=${this.product}>
      ${this.place <= 9 ? html`<kbd aria-hidden="true">${this.place}</kbd>` : html`<span class="place figures">${this.place}</span>`}
      <showcart-picture .src=${card.image_url}></showcart-picture>
      <button class="choose" aria-current=${isChosen} tabindex=${isChosen ? 0 : -1} @click=${() => desk.chosen.set(this.product)}>
        <span class="name">${fullName(card)}</span>
        <span class="about"><span class="figures">${money(sale?.state === "running" ? sale.price_minor : card.price_minor, card.currency)}</span>
          <span class="quiet">${sale === null ? nothing : html`${sale.state === "armed" ? texts.air.armed : texts.lineup.onSale} · `}${card.sku}</span></span>
      </button>
      <div class="units" data-units>
        <span class=${left === 0 && scene?.show.state !== "ended" ? "out" : ""}>${all === 0 ? texts.lineup.noUnits : texts.lineup.units(count(left), count(all))}</span>
        ${shares(sold, in_checkout, left)}
        <span class="rest quiet">${texts.lineup.rest(count(in_checkout), count(sold))}</span>
      </div>
      <div class="do">
        ${
          desk.canStage
            ? html`<button class="button pin" aria-pressed=${isPinned} aria-disabled=${!desk.isLive || this.isBusy("pin")} aria-label=${isPinned ? texts.lineup.unpinNamed(card.title) : texts.lineup.pinNamed(card.title)}
              @click=${() => void desk.togglePin(this.product)}>${isPinned ? texts.lineup.unpin : texts.lineup.pin}</button>`
            : nothing
        }
        ${
          desk.canSell && scene?.show.state !== "ended"
            ? html`<button class="button" aria-label=${texts.lineup.sellNamed(card.title)} @click=${() => this.#sell()}>${texts.lineup.sell}</button>`
            : nothing
        }
      </div>
    </div>`;
  }

  #sell(): void {
    this.desk.chosen.set(this.product);
    this.dispatchEvent(new CustomEvent("showcart-compose", { detail: "sale", bubbles: true, composed: true }));
  }
}
customElements.define("showcart-desk-product", Product);
