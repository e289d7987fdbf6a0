import type { Card, Scene } from "@showcart/sdk";
import { css, html, LitElement, nothing, type TemplateResult } from "lit";
import "../design/countdown.js";
import { count, money } from "../design/format.js";
import "../design/picture.js";
import { base, controls } from "../design/styles.js";
import { texts } from "../texts/en.js";
import { type Checkout as OneCheckout, hasEnded, type Step } from "./buying.js";
import { icons } from "./icons.js";
import { nameOf } from "./offer.js";
import type { Room } from "./room.js";

/** What stands in the checkout's sheet: what is reserved, for how long, and the payment step by step. */
export class Checkout extends LitElement {
  static override properties = {
    room: { attribute: false },
    checkout: { attribute: false },
    scene: { attribute: false },
  };
  declare room: Room;
  declare checkout: OneCheckout;
  declare scene: Scene;

  static override styles = [
    base,
    controls,
    css`
      :host { display: grid; gap: var(--sc-4); }
      .deadline { display: flex; align-items: baseline; justify-content: space-between; gap: var(--sc-3); padding-bottom: var(--sc-3); border-bottom: 1px solid var(--sc-line); }
      .deadline showcart-countdown { font-size: var(--sc-size-5); line-height: 1; color: var(--sc-money-text); }
      .line { display: grid; grid-template-columns: 64px minmax(0, 1fr) auto; gap: var(--sc-3); align-items: center; }
      .line .title { font-weight: 700; line-height: 1.25; overflow-wrap: anywhere; }
      .total { display: flex; justify-content: space-between; align-items: baseline; padding-top: var(--sc-3); border-top: 1px solid var(--sc-line); }
      .total .figures { font-size: var(--sc-size-5); line-height: 1; }
      .ways { display: grid; gap: var(--sc-2); }
      .said { padding: var(--sc-3); border-left: 4px solid var(--sc-signal); background: var(--sc-sunk); }
      .waiting { display: grid; gap: var(--sc-1); min-height: 72px; align-content: center; padding: var(--sc-3); background: var(--sc-sunk); }
      .bank { display: grid; gap: var(--sc-3); padding: var(--sc-4); border: 1px solid var(--sc-ink); }
      .bank .ways { grid-template-columns: 1fr 1fr; }
      .bank h3 { font-size: var(--sc-size-3); }
      .end { display: grid; gap: var(--sc-3); }
      .end h3 { display: flex; align-items: center; gap: var(--sc-3); font-size: var(--sc-size-5); letter-spacing: -0.025em; line-height: 1.1; }
      .end.good h3 { color: var(--sc-money-text); }
      .seal { flex: none; display: grid; place-items: center; width: 44px; height: 44px; border-radius: 50%; background: var(--sc-money-fill); color: var(--sc-money-on); }
      .seal svg { width: 26px; height: 26px; }
      .give-up { justify-self: center; color: var(--sc-quiet); font-weight: 600; }
    `,
  ];

  protected override render(): TemplateResult {
    const { checkout, room } = this;
    const { step, until } = checkout;
    const hasDeadline = until !== null && !hasEnded(checkout) && step.name !== "settling";
    return html`${
      hasDeadline
        ? html`<p class="deadline"><span class="label">${texts.checkout.reserved}</span><showcart-countdown .until=${until} .now=${room.now}></showcart-countdown></p>`
        : nothing
    }
      ${step.name === "confirmed" ? this.#step(step) : nothing}
      ${checkout.lines.map((line) => {
        const product = productOf(this.scene, line);
        return html`<div class="line">
          <showcart-picture .src=${product?.image_url ?? null}></showcart-picture>
          <div><p class="title" dir="auto">${product === null ? nothing : nameOf(product)}</p><p class="quiet figures">${texts.checkout.quantity(count(line.quantity))}</p></div>
          <span class="figures">${money(line.unit_price_minor * line.quantity, checkout.currency)}</span>
        </div>`;
      })}
      <p class="total"><span class="label">${texts.checkout.total}</span><span class="figures">${money(checkout.amountMinor, checkout.currency)}</span></p>
      ${step.name === "confirmed" ? this.#done() : this.#step(step)}`;
  }

  #step(step: Step): TemplateResult {
    const { checkout, room } = this;
    const { holdId } = checkout;
    const { buying } = room;
    const amount = money(checkout.amountMinor, checkout.currency);
    switch (step.name) {
      case "preparing":
        return html`<div class="waiting"><p>${texts.checkout.preparing}</p>
            ${step.line === null || step.line === 0 ? nothing : html`<p class="quiet">${texts.checkout.line(step.line, count(step.line))}</p>`}</div>
          ${this.#giveUp()}`;
      case "choosing":
        return html`${step.failed === null ? nothing : html`<p class="said">${step.failed}</p>`}
          <div class="ways">
            <p class="quiet">${texts.checkout.sandbox}</p>
            <button class="button money wide" aria-disabled=${step.busy} @click=${() => void buying.pay(holdId, "tok_success")}>${step.busy ? texts.checkout.paying : texts.checkout.cardOk}</button>
            <button class="button wide" aria-disabled=${step.busy} @click=${() => void buying.pay(holdId, "tok_3ds")}>${texts.checkout.card3ds}</button>
            <button class="button wide" aria-disabled=${step.busy} @click=${() => void buying.pay(holdId, "tok_decline")}>${texts.checkout.cardDeclined}</button>
          </div>
          ${this.#giveUp()}`;
      case "bank":
        return html`<div class="bank" role="group" aria-labelledby="bank">
            <h3 id="bank">${texts.checkout.bankTitle}</h3>
            <p>${texts.checkout.bankText(amount)}</p>
            <div class="ways">
              <button class="button money" aria-disabled=${step.busy} @click=${() => void buying.answerBank(holdId, "pass")}>${texts.checkout.approve}</button>
              <button class="button" aria-disabled=${step.busy} @click=${() => void buying.answerBank(holdId, "fail")}>${texts.checkout.reject}</button>
            </div>
          </div>
          ${this.#giveUp()}`;
      case "settling":
        return html`<div class="waiting"><p>${step.processing ? texts.checkout.processing : texts.checkout.confirming}</p></div>`;
      case "releasing":
        return html`<div class="waiting"><p>${texts.checkout.givingUp}</p></div>`;
      case "confirmed":
        return html`<div class="end good"><h3><span class="seal">${icons.check}</span>${texts.checkout.confirmedTitle}</h3><p>${texts.checkout.confirmedText(amount)}</p></div>`;
      case "expired":
        return this.#ended(texts.checkout.expiredTitle, texts.checkout.expiredText);
      case "canceled":
        return this.#ended(texts.checkout.canceledTitle, texts.checkout.canceledText);
      case "released":
        return this.#ended(texts.checkout.releasedTitle, texts.checkout.releasedText);
      case "unfulfilled":
        return this.#ended(texts.checkout.unfulfilledTitle, texts.checkout.unfulfilledText(amount));
      case "problem":
        return html`<p class="said"><strong>${texts.checkout.problemTitle}</strong><br />${step.isOutOfReach ? texts.checkout.outOfReachText : texts.checkout.problemText}</p>
          <button class="button wide money" @click=${() => void buying.prepare(holdId)}>${texts.checkout.tryAgain}</button>
          ${this.#giveUp()}`;
    }
  }

  #ended(title: string, text: string): TemplateResult {
    return html`<div class="end"><h3>${title}</h3><p>${text}</p></div>${this.#done()}`;
  }

  #done(): TemplateResult {
    return html`<button class="button wide" @click=${() => this.dispatchEvent(new Event("showcart-done"))}>${texts.checkout.keepShopping}</button>`;
  }

  #giveUp(): TemplateResult {
    return html`<button class="button bare give-up" @click=${() => void this.room.buying.giveUp(this.checkout.holdId)}>${texts.checkout.giveUp}</button>`;
  }
}
customElements.define("showcart-checkout", Checkout);

/** What a line is of: it stands in the line-up, also when it is not on screen any more. */
export function productOf(scene: Scene, { product_id, sale_id }: OneCheckout["lines"][number]): Card | null {
  const sale = sale_id === null ? undefined : scene.sales[sale_id];
  return sale?.product ?? scene.lineup[product_id]?.product ?? null;
}
