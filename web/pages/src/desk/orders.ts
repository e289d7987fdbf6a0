import type { Observable, Order, OrderId } from "@showcart/sdk";
import { css, html, nothing, type TemplateResult } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { isolated } from "../design/bidi.js";
import { count, money } from "../design/format.js";
import { minorOf, timeOfDay, typed } from "../design/moments.js";
import { base, controls } from "../design/styles.js";
import { desk as texts } from "../texts/desk.en.js";
import type { ListedOrder } from "./desk.js";
import { parts } from "./desk.styles.js";
import { Part } from "./part.js";
import "./twice.js";
import type { Twice } from "./twice.js";

/** A longer name has no room between the time and the amount. */
const NAME_MAX = 12;

/** Orders as they come, the latest first; the one that is opened can be refunded. */
export class Orders extends Part {
  static override properties = { opened: { state: true }, amount: { state: true } };
  static override styles = [
    base,
    controls,
    parts,
    css`
      .empty { padding: var(--sc-3) var(--sc-4); color: var(--sc-quiet); }
      li { border-bottom: 1px solid var(--sc-line); padding: 6px var(--sc-4); }
      li.open { background: var(--sc-sunk); }
      .head { display: grid; grid-template-columns: auto minmax(0, 1fr) auto 76px; gap: 0 var(--sc-3); align-items: baseline; }
      .head > :last-child { grid-area: 1 / 4 / 3 / 5; align-self: center; }
      .who, .things { min-width: 0; overflow-wrap: anywhere; }
      /* Whole, however long: what is packed is read from it. */
      .things { grid-area: 2 / 2 / 3 / 4; }
      /* A name that would be a tower of letters beside the amount has a line of its own. */
      .head.long { grid-template-columns: auto minmax(0, 1fr) 76px; row-gap: 2px; }
      .head.long > :is(.who, .things) { grid-column: 1 / 3; }
      .head.long > .who { grid-row: 2; }
      .head.long > .things { grid-row: 3; }
      .head.long > .amount { justify-self: end; }
      .head.long > :last-child { grid-area: 1 / 3 / 4 / 4; }
      .buyer { font-weight: 700; }
      .badge { min-height: 20px; padding: 0 6px; font-size: 0.75rem; }
      time { color: var(--sc-quiet); font-variant-numeric: tabular-nums; }
      .amount { font-size: var(--sc-size-2); }
      .back { color: var(--sc-quiet); font-weight: 400; }
      .head > .back { text-align: center; }
      form { display: grid; gap: var(--sc-2); padding: var(--sc-2) 0; }
      .fields { display: flex; gap: var(--sc-3); align-items: end; flex-wrap: wrap; }
      .fields > label:first-child { flex: 0 0 110px; }
      .note { margin-top: 6px; }
    `,
  ];
  declare opened: OrderId | null;
  declare amount: string;

  constructor() {
    super();
    this.opened = null;
    this.amount = "";
  }

  protected sources(): readonly Observable<unknown>[] {
    const { orders, ordersBefore, hasRead, notes, busy, role } = this.desk;
    return [orders, ordersBefore, hasRead, notes, busy, role];
  }

  protected override render(): TemplateResult {
    const orders = this.desk.orders.get();
    const older = this.desk.ordersBefore.get();
    if (orders.length === 0)
      return html`<p class="empty">${this.desk.hasRead.get().has("orders") ? texts.orders.none : texts.loading}</p>`;
    return html`<ol>${repeat(
      orders,
      (it) => it.order.order_id,
      (it) => this.#order(it),
    )}</ol>
      ${older === 0 ? nothing : html`<p class="empty">${texts.orders.older(count(older))}</p>`}`;
  }

  #order({ order, late }: ListedOrder): TemplateResult {
    const { desk } = this;
    const isOpen = this.opened === order.order_id;
    const place = `order:${order.order_id}`;
    const left = order.amount_minor - order.refunded_minor;
    const things = order.lines
      .map((it) => texts.orders.line(count(it.quantity), isolated(desk.nameOf(it.product_id))))
      .join(", ");
    const isLong = order.buyer.length > NAME_MAX;
    return html`<li class=${isOpen ? "open" : ""} data-order=${order.order_id}>
      <div class="head ${isLong ? "long" : ""}">
        <time>${timeOfDay(order.paid_at ?? order.created_at)}</time>
        <p class="who"><bdi class="buyer">${order.buyer}</bdi>
          ${order.state === "unfulfilled" ? html`<span class="badge off">${texts.orders.states.unfulfilled}</span>` : nothing}
          ${late ? html`<span class="badge scarce">${texts.orders.late}</span>` : nothing}</p>
        <div class="things">
          <p class="quiet">${things}</p>
          ${order.refunded_minor > 0 && left > 0 ? html`<p class="back">${texts.orders.refunded(money(order.refunded_minor, order.currency))}</p>` : nothing}
        </div>
        <p class="figures amount">${money(order.amount_minor, order.currency)}</p>
        ${
          desk.canSell && left > 0 && order.state === "paid"
            ? html`<button class="button" aria-expanded=${isOpen} aria-label=${texts.orders.refundNamed(order.buyer)} @click=${() => this.#open(order, isOpen)}>${texts.orders.refund}</button>`
            : html`<span class="back">${left === 0 ? texts.orders.allRefunded : nothing}</span>`
        }
      </div>
      ${isOpen && left > 0 ? this.#form(order, left) : nothing}
      ${this.note(place)}
    </li>`;
  }

  #open(order: Order, isOpen: boolean): void {
    this.opened = isOpen ? null : order.order_id;
    this.amount = typed(order.amount_minor - order.refunded_minor, order.currency);
    this.desk.note(`order:${order.order_id}`, null);
    if (!isOpen)
      void this.updateComplete.then(() => this.renderRoot.querySelector<HTMLInputElement>("form input")?.select());
  }

  #form(order: Order, left: number): TemplateResult {
    const minor = minorOf(this.amount, order.currency);
    const wrong =
      minor === null || minor === 0
        ? texts.orders.amountWrong
        : minor > left
          ? texts.orders.tooMuch(money(left, order.currency))
          : null;
    const twice = () => this.renderRoot.querySelector<Twice>("showcart-twice");
    return html`<form @submit=${(event: SubmitEvent) => {
      event.preventDefault();
      twice()?.press();
    }} @keydown=${(event: KeyboardEvent) => event.key === "Escape" && this.#close(order.order_id)}>
      <div class="fields">
        <label>${texts.orders.amount(order.currency)}<input name="amount" inputmode="decimal" autocomplete="off" .value=${this.amount} @input=${(event: Event) => (this.amount = (event.target as HTMLInputElement).value)} /></label>
        <label class="check"><input type="checkbox" name="restock" />${texts.orders.restock}</label>
      </div>
      ${wrong === null ? nothing : html`<p class="note bad">${wrong}</p>`}
      <div class="row">
        <showcart-twice tone="red" label=${texts.orders.go} sure=${texts.orders.sure(money(minor ?? 0, order.currency))} ?disabled=${wrong !== null || this.isBusy(`order:${order.order_id}`)}
          @showcart-sure=${() => void this.#refund(order, minor ?? 0)}></showcart-twice>
        <button class="button bare" type="button" @click=${() => this.#close(order.order_id)}>${texts.orders.cancel}</button>
      </div>
    </form>`;
  }

  #close(order: OrderId): void {
    this.opened = null;
    void this.updateComplete.then(() =>
      this.renderRoot.querySelector<HTMLElement>(`[data-order="${order}"] button`)?.focus(),
    );
  }

  async #refund(order: Order, minor: number): Promise<void> {
    const restock = this.renderRoot.querySelector<HTMLInputElement>("input[name=restock]")?.checked === true;
    const isDone = await this.desk.refund(order, minor, restock);
    if (isDone && this.opened === order.order_id) this.#close(order.order_id);
  }
}
customElements.define("showcart-desk-orders", Orders);
