import type { Banner, Observable, Poll, Sale, Timer } from "@showcart/sdk";
import { css, html, nothing, type TemplateResult } from "lit";
import { repeat } from "lit/directives/repeat.js";
import "../design/countdown.js";
import { count, money, percent } from "../design/format.js";
import "../design/meter.js";
import "../design/picture.js";
import { base, controls } from "../design/styles.js";
import { desk as texts } from "../texts/desk.en.js";
import { fullName, saleOf } from "./desk.js";
import { parts } from "./desk.styles.js";
import { Part } from "./part.js";
import "./twice.js";

const card = css`
  article { display: grid; grid-template-columns: minmax(0, 1fr); gap: 6px; padding: 10px var(--sc-4); border-top: 1px solid var(--sc-line); }
  .kind { flex: none; min-width: 44px; font-weight: 700; color: var(--sc-quiet); }
  .kind.figures, .row > showcart-countdown:first-child { min-width: 44px; }
  showcart-countdown { font-size: var(--sc-size-3); line-height: 1.2; }
  .price { font-size: var(--sc-size-3); }
`;

/** What viewers see now, in the order of how much it matters when it is wrong. */
export class Air extends Part {
  static override styles = [
    base,
    controls,
    parts,
    card,
    css`
      .pin { padding-top: var(--sc-3); border-top: 0; }
      .pin .row { align-items: center; gap: var(--sc-3); }
      showcart-picture { width: 56px; flex: none; }
      .pin h3 { font-size: var(--sc-size-3); line-height: 1.15; letter-spacing: -0.015em; overflow-wrap: anywhere; }
      .empty { padding: var(--sc-4); color: var(--sc-quiet); }
      .result { padding: var(--sc-3) var(--sc-4); border-top: 1px solid var(--sc-line); }
      .now { display: flex; align-items: baseline; flex-wrap: wrap; gap: 0 var(--sc-2); }
      .was { color: var(--sc-quiet); text-decoration: line-through; }
    `,
  ];

  protected sources(): readonly Observable<unknown>[] {
    const { show, pinned, notes, busy, role, lastPoll } = this.desk;
    return [show.scene, pinned, notes, busy, role, lastPoll];
  }

  protected override render(): TemplateResult {
    const scene = this.desk.show.scene.get();
    if (scene === null) return html`<p class="empty">${texts.loading}</p>`;
    const sales = Object.values(scene.sales).sort((one, other) => one.starts_at - other.starts_at);
    const polls = Object.values(scene.polls);
    const timers = Object.values(scene.timers).sort((one, other) => one.ends_at - other.ends_at);
    const banners = Object.values(scene.banners);
    const { state } = scene.show;
    return html`
      ${state === "live" ? this.#pin() : html`<p class="empty">${state === "scheduled" ? texts.air.before : texts.air.after}</p>${this.note("pin")}`}
      ${repeat(
        sales,
        (it) => it.sale_id,
        (it) => html`<showcart-desk-sale .desk=${this.desk} .sale=${it}></showcart-desk-sale>`,
      )}
      ${repeat(
        polls,
        (it) => it.poll_id,
        (it) => html`<showcart-desk-poll .desk=${this.desk} .poll=${it}></showcart-desk-poll>`,
      )}
      ${this.#lastPoll()}
      ${repeat(
        timers,
        (it) => it.overlay_id,
        (it) => this.#timer(it),
      )}
      ${repeat(
        banners,
        (it) => it.overlay_id,
        (it) => this.#banner(it),
      )}
    `;
  }

  #pin(): TemplateResult {
    const scene = this.desk.show.scene.get();
    const pinned = this.desk.pinned.get();
    const product = pinned?.pin?.product;
    if (product === undefined)
      return html`<article class="pin"><p class="quiet">${texts.air.noPin}</p>${this.note("pin")}</article>`;
    const sale = saleOf(scene, product.product_id);
    const price = sale?.state === "running" ? sale.price_minor : product.price_minor;
    return html`<article class="pin" data-pinned=${product.product_id}>
      <div class="row">
        <showcart-picture .src=${product.image_url}></showcart-picture>
        <div class="grow">
          <h3>${fullName(product)}</h3>
          <p class="now"><span class="figures price">${money(price, product.currency)}</span>
            ${price === product.price_minor ? nothing : html`<span class="was">${money(product.price_minor, product.currency)}</span>`}
            ${scene?.lineup[product.product_id] === undefined ? html`<span>${texts.air.notListed}</span>` : nothing}</p>
        </div>
        ${
          this.desk.canStage
            ? html`<button class="button" aria-label=${texts.air.unpinNamed(product.title)} aria-disabled=${this.isBusy("pin")} @click=${() => void this.desk.unpin()}>${texts.air.unpin} <kbd aria-hidden="true">U</kbd></button>`
            : nothing
        }
      </div>
      ${this.note("pin")}
    </article>`;
  }

  #timer(timer: Timer): TemplateResult {
    const { desk } = this;
    const { overlay_id, label, ends_at } = timer;
    const place = `timer:${overlay_id}`;
    const isBusy = this.isBusy(place);
    return html`<article data-timer=${overlay_id}>
      <div class="row">
        <showcart-countdown .until=${ends_at} .now=${desk.now}></showcart-countdown>
        <span class="name grow">${label}</span>
        ${
          desk.canStage
            ? html`<button class="button" aria-label=${texts.air.moreNamed(label)} aria-disabled=${isBusy} @click=${() => void desk.extendTimer(timer, 30_000)}>${texts.air.more}</button>
              <button class="button" aria-label=${texts.air.stopNamed(label)} aria-disabled=${isBusy} @click=${() => void desk.stopTimer(timer)}>${texts.air.stop}</button>`
            : nothing
        }
      </div>
      ${this.note(place)}
    </article>`;
  }

  #banner(banner: Banner): TemplateResult {
    const { desk } = this;
    const { overlay_id, text, style, ends_at } = banner;
    const place = `banner:${overlay_id}`;
    return html`<article data-banner=${overlay_id}>
      <div class="row">
        <span class="badge ${{ info: "", highlight: "money", urgent: "off" }[style]}">${texts.air.banner}</span>
        <span class="grow name">${text}</span>
        ${ends_at === null ? nothing : html`<showcart-countdown .until=${ends_at} .now=${desk.now}></showcart-countdown>`}
        ${
          desk.canStage
            ? html`<button class="button" aria-label=${texts.air.hideNamed(text)} aria-disabled=${this.isBusy(place)} @click=${() => void desk.hideBanner(banner)}>${texts.air.hide}</button>`
            : nothing
        }
      </div>
      ${this.note(place)}
    </article>`;
  }

  #lastPoll(): TemplateResult | typeof nothing {
    const last = this.desk.lastPoll.get();
    if (last === null) return nothing;
    const { winner, total, counts } = last.result;
    const result =
      winner !== null
        ? texts.air.won(last.choices[winner] ?? "", percent((counts[winner] ?? 0) / total))
        : total === 0
          ? texts.air.nobody
          : texts.air.tied;
    return html`<p class="result" data-result><span class="quiet">${last.question}</span> <strong>${result}</strong></p>`;
  }
}
customElements.define("showcart-desk-air", Air);

/** A sale, armed or running: what is left, in checkout and sold, and the seconds left. */
class SaleCard extends Part {
  static override properties = { sale: { attribute: false } };
  static override styles = [
    base,
    controls,
    parts,
    card,
    css`
      .counts { display: grid; grid-template-columns: repeat(4, auto) 68px; justify-content: space-between; align-items: end; gap: var(--sc-2); }
      .counts .figures, .counts showcart-countdown { display: block; font-size: var(--sc-size-4); line-height: 1.1; }
      .counts .quiet { white-space: nowrap; }
      @media (max-width: 359px) { .counts { grid-template-columns: repeat(3, auto); } .counts showcart-twice { grid-column: 2 / -1; justify-self: end; } }
      svg { width: 100%; height: 6px; margin-bottom: 2px; }
      .sold { fill: var(--sc-money-fill); }
      .held { fill: var(--sc-scarce-fill); }
      .rest { fill: var(--sc-line); }
    `,
  ];
  declare sale: Sale;

  protected sources(): readonly Observable<unknown>[] {
    const { show, notes, busy, role } = this.desk;
    return [show.gauge(`units:${this.sale.sale_id}`), notes, busy, role];
  }

  protected override render(): TemplateResult {
    const { desk, sale } = this;
    const { left, in_checkout, sold } = desk.show.gauge(`units:${sale.sale_id}`).get() ?? {
      left: sale.cap,
      in_checkout: 0,
      sold: 0,
    };
    const place = `sale:${sale.sale_id}`;
    const ends = sale.state === "armed" ? sale.starts_at : sale.ends_at;
    return html`<article data-sale=${sale.sale_id}>
      <div class="row">
        <span class="badge ${sale.sold_out ? "off" : sale.state === "armed" ? "scarce" : "money"}">${sale.sold_out ? texts.air.soldOut : sale.state === "armed" ? texts.air.armed : texts.air.sale}</span>
        <span class="name grow">${sale.product.title}</span>
        <span class="figures price">${money(sale.price_minor, sale.currency)}</span>
      </div>
      <div class="counts">
        <p data-count="left"><span class="figures">${count(left)}</span><span class="quiet">${texts.air.left} ${texts.air.cap(count(sale.cap))}</span></p>
        <p data-count="in_checkout"><span class="figures">${count(in_checkout)}</span><span class="quiet">${texts.air.inCheckout}</span></p>
        <p data-count="sold"><span class="figures">${count(sold)}</span><span class="quiet">${texts.air.sold}</span></p>
        <p>${ends === null ? html`<span class="figures">–</span>` : html`<showcart-countdown .until=${ends} .now=${desk.now}></showcart-countdown>`}<span class="quiet">${ends === null ? texts.air.openEnd : sale.state === "armed" ? texts.air.startsIn : texts.air.endsIn}</span></p>
        ${
          desk.canSell
            ? html`<showcart-twice label=${texts.air.endSale} sure=${texts.air.endSaleSure} named=${texts.air.endSaleNamed(sale.product.title)}
              ?disabled=${this.isBusy(place)} @showcart-sure=${() => void desk.endSale(sale.sale_id)}></showcart-twice>`
            : nothing
        }
      </div>
      ${shares(sold, in_checkout, left)}
      ${this.note(place)}
    </article>`;
  }
}
customElements.define("showcart-desk-sale", SaleCard);

/** Sold, in checkout and left as one bar. What it says stands beside it. */
export function shares(sold: number, held: number, left: number): TemplateResult {
  const all = Math.max(1, sold + held + left);
  const [a, b] = [(sold / all) * 100, (held / all) * 100];
  return html`<svg viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
    <rect class="rest" width="100" height="6"></rect><rect class="sold" width=${a} height="6"></rect><rect class="held" x=${a} width=${b} height="6"></rect>
  </svg>`;
}

/** An open poll with its tally. */
class PollCard extends Part {
  static override properties = { poll: { attribute: false } };
  static override styles = [
    base,
    controls,
    parts,
    card,
    css`
      ol { display: grid; gap: 4px; }
      li { display: grid; grid-template-columns: minmax(0, 1fr) auto 6ch; gap: 2px var(--sc-2); align-items: baseline; }
      li showcart-meter { grid-column: 1 / -1; height: 6px; }
      .choice { overflow-wrap: anywhere; }
      .share { text-align: right; }
    `,
  ];
  declare poll: Poll;

  protected sources(): readonly Observable<unknown>[] {
    const { show, notes, busy, role } = this.desk;
    return [show.gauge(`poll:${this.poll.poll_id}`), notes, busy, role];
  }

  protected override render(): TemplateResult {
    const { desk, poll } = this;
    const { counts, total } = desk.show.gauge(`poll:${poll.poll_id}`).get() ?? { counts: [], total: 0 };
    const place = `poll:${poll.poll_id}`;
    return html`<article data-poll=${poll.poll_id}>
      <div class="row">
        <span class="kind">${texts.air.poll}</span>
        <span class="name grow">${poll.question}</span>
        ${poll.ends_at === null ? nothing : html`<showcart-countdown .until=${poll.ends_at} .now=${desk.now}></showcart-countdown>`}
      </div>
      <ol>
        ${poll.choices.map((choice, index) => {
          const votes = counts[index] ?? 0;
          const share = total === 0 ? 0 : votes / total;
          return html`<li><span class="choice">${choice}</span><span class="figures">${count(votes)}</span><span class="figures share">${percent(share)}</span>
            <showcart-meter .share=${share}></showcart-meter></li>`;
        })}
      </ol>
      <div class="row">
        <span class="quiet">${texts.air.votes(total, count(total))}</span>
        ${
          desk.canStage
            ? html`<button class="button push" aria-label=${texts.air.closePollNamed(poll.question)} aria-disabled=${this.isBusy(place)} @click=${() => void desk.closePoll(poll.poll_id)}>${texts.air.closePoll} <kbd aria-hidden="true">C</kbd></button>`
            : nothing
        }
      </div>
      ${this.note(place)}
    </article>`;
  }
}
customElements.define("showcart-desk-poll", PollCard);
