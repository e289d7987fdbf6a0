import type { HoldId, MyOrder, Scene } from "@showcart/sdk";
import { html, nothing, type TemplateResult } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { isolated } from "../design/bidi.js";
import { money } from "../design/format.js";
import { texts } from "../texts/en.js";
import type { Checkout as OneCheckout } from "./buying.js";
import "./checkout.js";
import { productOf } from "./checkout.js";
import { icons } from "./icons.js";
import { type Offer, saleOf } from "./offer.js";
import type { Room } from "./room.js";

/** A line-up of so many products does not fit on a screen. */
const LONG_LIST = 6;

export interface SheetsOptions {
  /** The line-up stands beside the video. */
  readonly isWide: boolean;
  /** Whose checkout is open; null when none is. */
  readonly holdId: HoldId | null;
  readonly checkoutClosed: () => void;
}

/** The dialogs over the show: the line-up where there is no room for it beside the video, and the checkout of one hold. */
export function sheets(scene: Scene, room: Room, { isWide, holdId, checkoutClosed }: SheetsOptions): TemplateResult {
  const checkout = holdId === null ? null : room.buying.checkout(holdId);
  return html`<dialog id="lineup" class="sheet" aria-labelledby="lineup-sheet" @click=${closeOutside}>
      <div class="paper">
        <div class="spoken voice" role="status" aria-live="polite"></div>
        ${sheetHead("lineup-sheet", texts.lineup.title, texts.lineup.close, wayToPinned(scene))}
        ${isWide ? nothing : html`${orders(scene, room)}<section class="list">${lineup(scene, room)}</section>`}
      </div>
    </dialog>
    <dialog id="checkout" class="sheet side" aria-labelledby="checkout-sheet" @close=${checkoutClosed} @click=${closeOutside}>
      <div class="paper">
        <div class="spoken voice" role="status" aria-live="polite"></div>
        ${sheetHead("checkout-sheet", texts.checkout.title, texts.checkout.close)}
        ${
          checkout === null
            ? nothing
            : html`<showcart-checkout .room=${room} .scene=${scene} .checkout=${checkout} @showcart-done=${closeAround}></showcart-checkout>`
        }
      </div>
    </dialog>`;
}

/** What this buyer has ordered or reserved. */
export function orders(scene: Scene, room: Room): TemplateResult | typeof nothing {
  const { orders: all, open } = room.buying;
  const pending = open.filter((it) => !all.some((order) => order.hold_id === it.holdId));
  if (all.length === 0 && pending.length === 0) return nothing;
  const name = (lines: OneCheckout["lines"]) => lines.map((line) => isolated(productOf(scene, line)?.title ?? "")).join(", ");
  return html`<section class="orders" aria-labelledby="orders-title">
    <h2 id="orders-title">${texts.orders.title}</h2>
    <ul>
      ${pending.map((it) => html`<li><span class="what">${name(it.lines)}</span><button class="button" @click=${() => room.goOn(it)}>${texts.orders.continue}</button></li>`)}
      ${all.map((it) => {
        const checkout = open.find((other) => other.holdId === it.hold_id);
        return html`<li>
          <span class="what">${name(it.lines)}<br /><span class="quiet">${standing(it)}</span></span>
          ${checkout === undefined ? html`<span class="figures">${money(it.amount_minor, it.currency)}</span>` : html`<button class="button" @click=${() => room.goOn(checkout)}>${texts.orders.continue}</button>`}
        </li>`;
      })}
    </ul>
  </section>`;
}

/** The whole line-up, in the host's order. */
export function lineup(scene: Scene, room: Room): TemplateResult {
  const listed = Object.values(scene.lineup).sort(
    (a, b) => a.position - b.position || (a.product.product_id < b.product.product_id ? -1 : 1),
  );
  if (listed.length === 0) return html`<p class="quiet">${texts.lineup.empty}</p>`;
  return html`<ul>
    ${repeat(
      listed,
      (it) => it.product.product_id,
      ({ product }) => html`<li>
        <showcart-offer
          look="row"
          .room=${room}
          .product=${product}
          .sale=${saleOf(scene, product.product_id)}
          .onAir=${scene.pin?.product.product_id === product.product_id}
          .revision=${room.revision}
        ></showcart-offer>
      </li>`,
    )}
  </ul>`;
}

/** In a long list, what is on screen is found by one tap. */
function wayToPinned({ pin, lineup }: Scene): TemplateResult | typeof nothing {
  const id = pin?.product.product_id;
  if (id === undefined || lineup[id] === undefined || Object.keys(lineup).length < LONG_LIST) return nothing;
  return html`<button class="button way" @click=${showPinned}>${texts.lineup.toPinned}</button>`;
}

function showPinned(event: Event): void {
  const sheet = (event.currentTarget as Element).closest("dialog");
  const row = [...(sheet?.querySelectorAll<Offer>("showcart-offer") ?? [])].find((it) => it.onAir);
  row?.scrollIntoView({ block: "center" });
  row?.renderRoot.querySelector("article")?.focus({ preventScroll: true });
}

function sheetHead(id: string, title: string, close: string, way: TemplateResult | typeof nothing = nothing): TemplateResult {
  return html`<header>
    <h2 id=${id} tabindex="-1" autofocus>${title}</h2>
    ${way}
    <button class="button icon bare" aria-label=${close} @click=${closeAround}>${icons.close}</button>
  </header>`;
}

function closeAround(event: Event): void {
  (event.currentTarget as Element).closest("dialog")?.close();
}

/** A tap beside the sheet's paper closes it. */
function closeOutside(event: Event): void {
  if (event.target === event.currentTarget) (event.currentTarget as HTMLDialogElement).close();
}

/** How an order stands, in words. */
function standing({ state, amount_minor, refunded_minor, currency }: MyOrder): string {
  if (refunded_minor === 0) return texts.orders[state];
  return refunded_minor < amount_minor ? texts.orders.partlyRefunded(money(refunded_minor, currency)) : texts.orders.refunded;
}
