import type { Card, NewLine, Sale, Scene, Units } from "@showcart/sdk";
import { css, html, LitElement, nothing, type TemplateResult } from "lit";
import { isolated } from "../design/bidi.js";
import "../design/countdown.js";
import { Follow } from "../design/follow.js";
import { clock, count, money, secondsLeft } from "../design/format.js";
import "../design/meter.js";
import "../design/picture.js";
import "../design/price.js";
import { base, controls } from "../design/styles.js";
import { tag } from "../design/tag.js";
import { texts } from "../texts/en.js";
import { keyOf, type Note } from "./buying.js";
import type { Room } from "./room.js";

/** From so few units on it is scarce. */
const FEW = 10;

/**
 * Something that can be bought: a price tag for what is on screen (`tag`), large while it enters (`entrance`), a line in the
 * line-up (`row`), and a small tag for a sale beside what is on screen (`mini`).
 */
export class Offer extends LitElement {
  static override properties = {
    room: { attribute: false },
    product: { attribute: false },
    sale: { attribute: false },
    look: { reflect: true },
    onAir: { type: Boolean, attribute: false },
    revision: { attribute: false },
  };
  declare room: Room;
  declare product: Card;
  declare sale: Sale | null;
  declare look: "tag" | "entrance" | "mini" | "row";
  /** Marks a line of the line-up whose product is on screen. */
  declare onAir: boolean;
  /** Changes whenever anything of the buyer's has changed. */
  declare revision: number;
  readonly #units = new Follow<Units | undefined>(this);
  /** While seconds are counted on the button. */
  #again: ReturnType<typeof setTimeout> | undefined;

  static override styles = [
    base,
    controls,
    tag,
    css`
      :host { display: block; container-type: inline-size; color: var(--sc-ink); }
      article { display: grid; gap: var(--sc-2) var(--sc-3); grid-template-columns: auto minmax(0, 1fr) auto; align-items: center; }
      .tag { padding-block: var(--sc-3); padding-right: var(--sc-3); }
      showcart-picture { width: 76px; align-self: start; }
      .words { display: grid; gap: 3px; min-width: 0; align-self: center; }
      .title {
        font-size: var(--sc-size-2); line-height: 1.25; overflow-wrap: anywhere;
        display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 3; overflow: hidden; text-wrap: pretty;
      }
      .variant { font-weight: 400; color: var(--sc-quiet); }
      .left { font-size: var(--sc-size-1); font-weight: 700; font-variant-numeric: tabular-nums; color: var(--sc-quiet); }
      .left.few { color: var(--sc-scarce-text); }
      .left.gone { color: var(--sc-signal-text); }
      .act { display: grid; gap: var(--sc-1); justify-items: stretch; min-width: 84px; }
      .act .button { white-space: nowrap; }
      .time { display: grid; justify-items: end; line-height: 1.05; }
      .time .label { line-height: 1.2; }
      .time showcart-countdown { font-size: var(--sc-size-4); }
      .time.urgent showcart-countdown { color: var(--sc-signal-text); }
      .foot { grid-column: 1 / -1; display: grid; gap: var(--sc-2); }
      .said { font-size: var(--sc-size-1); line-height: 1.35; }
      .sold :is(showcart-picture, showcart-price) { opacity: 0.55; }

      .on-air {
        display: inline-flex; align-items: center; gap: 6px; font-size: var(--sc-size-1); font-weight: 700; color: var(--sc-signal-text);
      }
      .on-air::before { content: ""; width: 8px; height: 8px; border-radius: 50%; background: var(--sc-signal); }

      .long .act { grid-column: 1 / -1; grid-template-columns: 1fr; }
      .long .act:has(.time) { grid-template-columns: auto 1fr; align-items: center; gap: var(--sc-4); }
      .long .time { justify-items: start; }

      @container (max-width: 345px) {
        .tag { padding-left: 30px; padding-right: var(--sc-2); }
        article:not(.entrance) showcart-picture { width: 52px; }
        .tag.tag:not(.entrance, .mini) .act { grid-column: 1 / -1; grid-template-columns: 1fr; }
        .tag:not(.entrance, .mini) .act:has(.time) { grid-template-columns: auto 1fr; align-items: center; gap: var(--sc-4); }
        .tag:not(.entrance, .mini) .time { justify-items: start; }
        .row .act { min-width: 64px; }
        .row:not(.long) .act .button { padding-inline: var(--sc-2); white-space: normal; }
        article.mini showcart-picture { display: none; }
        .tag.entrance { grid-template-columns: 72px minmax(0, 1fr); }
        .tag.entrance .title { font-size: var(--sc-size-3); -webkit-line-clamp: 4; }
        .mini { grid-template-columns: minmax(0, 1fr) auto; }
      }

      .mini { padding-block: var(--sc-2); }
      .mini showcart-picture { width: 48px; align-self: center; }
      .mini .words { gap: 1px; }
      .mini .title { -webkit-line-clamp: 2; }
      .mini:not(.long) .act { grid-template-columns: auto auto; align-items: center; gap: var(--sc-2); }
      .mini .time .label { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
      .mini .time showcart-countdown { font-size: var(--sc-size-3); }

      .row { padding: var(--sc-3) 0; }
      .row showcart-picture { width: 56px; }
      .row .title { -webkit-line-clamp: 6; }
      .row .time { justify-items: stretch; text-align: right; }
      .row .time showcart-countdown { font-size: var(--sc-size-3); }

      .entrance { grid-template-columns: minmax(96px, 34%) minmax(0, 1fr); align-items: stretch; padding-block: var(--sc-4); padding-right: var(--sc-4); }
      .entrance showcart-picture { width: 100%; }
      .entrance .words { gap: var(--sc-2); align-content: center; }
      .entrance .title { font-size: var(--sc-size-4); line-height: 1.12; letter-spacing: -0.015em; -webkit-line-clamp: 4; }
      .entrance .act { grid-column: 1 / -1; grid-template-columns: 1fr; }
      .entrance .act:has(.time) { grid-template-columns: auto 1fr; align-items: center; gap: var(--sc-4); }
      .entrance .time { justify-items: start; }
      .entrance .button { font-size: var(--sc-size-3); min-height: 52px; }
    `,
  ];

  constructor() {
    super();
    this.sale = null;
    this.look = "tag";
    this.onAir = false;
    this.revision = 0;
  }

  protected override render(): TemplateResult {
    const { product, sale, room, look } = this;
    const name = sale === null ? (`stock:${product.product_id}` as const) : (`units:${sale.sale_id}` as const);
    const told = this.#units.to(name, () => room.show.gauge(name));
    // The end of a show takes back what was not sold: the counters say nothing of what there was.
    const units = room.isLive ? told : undefined;
    const wanted: NewLine =
      sale === null ? { product_id: product.product_id, quantity: 1 } : { sale_id: sale.sale_id, quantity: 1 };
    const isSoldOut = sale === null ? units !== undefined && units.left + units.in_checkout <= 0 : sale.sold_out;
    const noted = isSoldOut ? null : room.buying.note(wanted);
    // Units came back from somebody's checkout: whoever waits for them may tap at once.
    const note = noted?.kind === "all_held" && (units?.left ?? 0) > 0 ? null : noted;
    const price = sale?.price_minor ?? product.price_minor;
    const was = sale === null ? product.compare_at_minor : Math.max(product.price_minor, product.compare_at_minor ?? 0);
    const isRunning = sale?.state === "running";
    const button = this.#button(wanted, isSoldOut, note, price);
    // Words that are longer than "Buy" get a line of their own.
    const isLong = button !== null && button.text.length > 10;
    const classes = `${look === "row" ? "row" : "tag"} ${look} ${isSoldOut ? "sold" : ""} ${isLong ? "long" : ""}`;
    return html`<article class=${classes} data-offer=${keyOf(wanted)} aria-label=${nameOf(product)} tabindex=${this.onAir ? "-1" : nothing}>
      <showcart-picture .src=${product.image_url}></showcart-picture>
      <div class="words">
        ${this.onAir ? html`<span class="on-air">${texts.lineup.onAir}</span>` : nothing}
        <h3 class="title" dir="auto">${isolated(product.title)}${product.variant === null ? nothing : html` <span class="variant">${isolated(product.variant)}</span>`}</h3>
        <showcart-price
          .minor=${price}
          .was=${was}
          .currency=${sale?.currency ?? product.currency}
          .size=${look === "entrance" ? "large" : look === "tag" ? "normal" : "small"}
          .urgent=${isRunning && !isSoldOut}
        ></showcart-price>
        ${stock(note?.kind === "all_held" ? { left: 0, in_checkout: note.inCheckout, sold: 0 } : units, isSoldOut, sale)}
      </div>
      <div class="act">${this.#time(isSoldOut)} ${button === null ? nothing : this.#drawn(wanted, button)}</div>
      ${this.#foot(units, note, isSoldOut)}
    </article>`;
  }

  #time(isSoldOut: boolean): TemplateResult | typeof nothing {
    const { sale, room } = this;
    if (sale === null || isSoldOut) return nothing;
    const until = sale.state === "armed" ? sale.starts_at : sale.ends_at;
    if (until === null) return nothing;
    return html`<div class="time ${sale.state === "running" ? "urgent" : ""}">
      <span class="label">${sale.state === "armed" ? texts.offer.startsIn : texts.offer.endsIn}</span>
      <showcart-countdown .until=${until} .now=${room.now}></showcart-countdown>
    </div>`;
  }

  /** What the button says, and whether it does anything. Null where nothing can be bought. */
  #button(wanted: NewLine, isSoldOut: boolean, note: Note | null, price: number): Button | null {
    const { product, sale, room } = this;
    if (!room.isLive) return null;
    if (isSoldOut || note?.kind === "sold_out") return { text: texts.offer.soldOut, isDead: true };
    if (room.buying.openFor(wanted) !== null)
      return { text: texts.offer.finish, name: texts.offer.finishNamed(nameOf(product)) };
    if (sale?.state === "armed") return { text: texts.offer.buy, isDead: true };
    if (room.role === "guest") return { text: texts.offer.signIn };
    if (room.role !== "viewer") return null;
    if (note?.kind === "asking") return { text: texts.offer.asking, isDead: true };
    if (note?.kind === "all_held") {
      const seconds = secondsLeft(note.again, room.now());
      if (seconds === 0) return { text: texts.offer.tryAgain };
      this.#again ??= setTimeout(() => {
        this.#again = undefined;
        this.requestUpdate();
      }, 200);
      return {
        text: texts.offer.tryAgainIn(seconds < 60 ? texts.offer.seconds(count(seconds)) : clock(seconds)),
        isDead: true,
      };
    }
    return {
      text: texts.offer.buy,
      name: texts.offer.buyNamed(nameOf(product), money(price, sale?.currency ?? product.currency)),
    };
  }

  /** A button that does nothing keeps the focus that it had, so it is not disabled but says that it is. */
  #drawn(wanted: NewLine, { text, name, isDead }: Button): TemplateResult {
    return html`<button
      class="button money"
      aria-label=${name ?? nothing}
      aria-disabled=${isDead === true ? "true" : nothing}
      @click=${() => isDead === true || this.room.want(wanted)}
    >
      ${text}
    </button>`;
  }

  #foot(units: Units | undefined, note: Note | null, isSoldOut: boolean): TemplateResult | typeof nothing {
    const { sale, look } = this;
    const hasMeter =
      (look === "tag" || look === "entrance") && sale?.state === "running" && !isSoldOut && units !== undefined;
    const said = note?.kind === "said" ? note.text : null;
    if (!hasMeter && said === null) return nothing;
    const share = hasMeter ? units.left / sale.cap : 0;
    return html`<div class="foot">
      ${hasMeter ? html`<showcart-meter .share=${share} .tone=${isFew(units.left, sale) ? "scarce" : "ink"}></showcart-meter>` : nothing}
      ${said === null ? nothing : html`<p class="said">${said}</p>`}
    </div>`;
  }
}
customElements.define("showcart-offer", Offer);

interface Button {
  readonly text: string;
  /** For those who hear it without what stands around it. */
  readonly name?: string;
  readonly isDead?: boolean;
}

export const nameOf = (product: Card): string =>
  [product.title, ...(product.variant === null ? [] : [product.variant])].map(isolated).join(", ");

/** The sale of a product: one that runs goes before one that is announced. */
export function saleOf(scene: Scene | null, productId: string): Sale | null {
  const sales = Object.values(scene?.sales ?? {}).filter((it) => it.product.product_id === productId);
  return sales.find((it) => it.state === "running") ?? sales[0] ?? null;
}

const isFew = (left: number, sale: Sale | null): boolean => left <= FEW || (sale !== null && left <= sale.cap / 5);

function stock(units: Units | undefined, isSoldOut: boolean, sale: Sale | null): TemplateResult | typeof nothing {
  if (isSoldOut) return html`<p class="left gone">${texts.offer.soldOut}</p>`;
  if (units === undefined) return nothing;
  if (units.left > 0) {
    // Outside of a sale it is said only when it matters.
    if (sale === null && units.left > FEW) return nothing;
    return html`<p class="left ${isFew(units.left, sale) ? "few" : ""}">${texts.offer.left(units.left, count(units.left))}</p>`;
  }
  return html`<p class="left few">${texts.offer.inCheckout(units.in_checkout, count(units.in_checkout))}</p>`;
}
