import type { Banner, ConnectionState, Poll, PollResult, Sale, Scene } from "@showcart/sdk";
import { html, nothing, type TemplateResult } from "lit";
import { keyed } from "lit/directives/keyed.js";
import { repeat } from "lit/directives/repeat.js";
import { untwisted } from "../design/bidi.js";
import "../design/countdown.js";
import { count, shortCount } from "../design/format.js";
import { texts } from "../texts/en.js";
import type { Refusal } from "./allowed.js";
import { icons } from "./icons.js";
import { type Offer, saleOf } from "./offer.js";
import "./poll.js";
import type { Room } from "./room.js";
import { orders } from "./sheets.js";
import type { Video } from "./video.js";

/** A poll that has ended, as long as its result is shown. */
export interface Closed {
  readonly poll: Poll;
  readonly result: PollResult;
}

/** A word to the viewer, such as "Order confirmed". */
export interface Notice {
  readonly text: string;
  readonly tone: "money" | "plain";
}

export interface TopOptions {
  readonly video: Video | null;
  readonly isDark: boolean;
  readonly viewers: number | undefined;
  readonly notice: Notice | null;
  readonly badge: TemplateResult | typeof nothing;
  /** Now by the server's clock. */
  readonly now: () => number;
  readonly toggleTheme: () => void;
}

export interface OnScreenOptions {
  readonly isWide: boolean;
  /** There is room for a few things only. */
  readonly isShort: boolean;
  /** The version of the pin that is entering. */
  readonly entering: number | null;
  readonly closed: Closed | null;
  readonly dismiss: () => void;
}

export interface RefusalOptions {
  readonly refused: Refusal | null;
  readonly isNameless: boolean;
  readonly connection: ConnectionState;
  readonly server: string;
  readonly signIn: () => void;
}

/** Above everything: how the show stands, its tools, and what is announced. */
export function top(scene: Scene | null, { video, isDark, viewers, notice, badge, now, toggleTheme }: TopOptions): TemplateResult {
  const { state, muted } = video ?? { state: "none", muted: true };
  return html`<div class="top">
    <div class="status">
      ${
        scene === null
          ? nothing
          : scene.show.state === "live"
            ? html`<span class="badge on-air">${texts.show.live}</span>`
            : html`<span class="badge over">${scene.show.state === "ended" ? texts.show.ended : texts.show.scheduled}</span>`
      }
      ${viewers === undefined ? nothing : html`<span class="badge over viewers" aria-label=${texts.show.watching(count(viewers))}><span class="figures">${shortCount(viewers)}</span> <span class="word">${texts.show.watchingWord}</span></span>`}
      ${badge}
    </div>
    <div class="tools">
      ${
        state === "none" || state === "failed"
          ? nothing
          : html`<button class="button icon tool" aria-label=${muted ? texts.video.soundOn : texts.video.soundOff} @click=${() => video?.toggleSound()}>${muted ? icons.soundOff : icons.soundOn}</button>`
      }
      <button class="button icon tool" aria-label=${isDark ? texts.theme.toLight : texts.theme.toDark} @click=${toggleTheme}>${isDark ? icons.light : icons.dark}</button>
    </div>
    ${
      scene === null
        ? nothing
        : html`<div class="announced">
      ${repeat(
        Object.values(scene.banners),
        (it) => it.overlay_id,
        (it) => banner(it),
      )}
      ${repeat(
        Object.values(scene.timers),
        (it) => it.overlay_id,
        (it) => html`<p class="timer" data-timer=${it.overlay_id}><span dir="auto">${untwisted(it.label)}</span>
        <showcart-countdown .until=${it.ends_at} .now=${now}></showcart-countdown></p>`,
      )}
      ${notice === null ? nothing : html`<p class="notice ${notice.tone}">${notice.text}</p>`}
      ${state === "failed" ? html`<p class="notice plain">${texts.video.failed}</p>` : nothing}
    </div>`
    }
  </div>`;
}

/** Why what is seen may be old; nothing while it is not. */
export function connectionBadge({ status }: ConnectionState, wasOpen: boolean): TemplateResult | typeof nothing {
  if (status === "open" || status === "closed") return nothing;
  const text =
    status === "offline"
      ? texts.connection.offline
      : wasOpen
        ? texts.connection.reconnecting
        : texts.connection.connecting;
  return html`<span class="badge ${wasOpen ? "scarce" : "over"} line">${text}</span>`;
}

/** Without a picture the show's title is what there is to see; before the show and after it, what to expect. */
export function headline(scene: Scene, hasVideo: boolean): TemplateResult | typeof nothing {
  const { state, title } = scene.show;
  if (state === "live") return html`<div class="headline"><h1 class=${hasVideo ? "spoken" : ""} dir="auto">${untwisted(title)}</h1></div>`;
  const [head, text] =
    state === "ended" ? [texts.show.endedTitle, texts.show.endedText] : [untwisted(title), texts.show.scheduledText];
  return html`<div class="headline"><h1 dir="auto">${head}</h1><p>${text}</p></div>`;
}

/**
 * What is on screen now: polls, sales, what is pinned. Where it needs more room than there is, all scrolls but what can be bought:
 * the pinned product, else the first sale.
 */
export function onScreen(scene: Scene, room: Room, { isWide, isShort, entering, closed, dismiss }: OnScreenOptions): TemplateResult {
  const { pin } = scene;
  const pinnedSale = pin === null ? null : saleOf(scene, pin.product.product_id);
  const [sales, first] = salesBeside(scene, pinnedSale);
  const polls: Poll[] = Object.values(scene.polls);
  const votes = room.show.mine.get()?.votes ?? {};
  const isEntering = pin !== null && entering === pin.version;
  const result = closed === null || scene.polls[closed.poll.poll_id] !== undefined ? null : closed;
  const hasOthers = polls.length + sales.length > 0 || result !== null;
  const isCrowded = isShort && hasOthers;
  const saleTag = (it: Sale, look: Offer["look"]) =>
    html`<showcart-offer .room=${room} .product=${it.product} .sale=${it} .look=${look} .revision=${room.revision}></showcart-offer>`;
  const others = html`<div class="others">
    ${repeat(
      polls,
      (it) => it.poll_id,
      (it) => html`<showcart-poll .room=${room} .poll=${it} .voted=${votes[it.poll_id]}></showcart-poll>`,
    )}
    ${
      result === null
        ? nothing
        : html`<showcart-poll .room=${room} .poll=${result.poll} .result=${result.result} .voted=${votes[result.poll.poll_id]} @showcart-dismiss=${dismiss}></showcart-poll>`
    }
    ${repeat(
      sales,
      (it) => it.sale_id,
      (it) => saleTag(it, isWide ? "tag" : "mini"),
    )}
    </div>`;
  return html`
    ${hasOthers ? others : nothing}
    ${
      // A button that has the focus must not become that of another product under somebody's finger.
      keyed(
        pin?.product.product_id ?? first?.product.product_id,
        pin === null
          ? first === null
            ? nothing
            : saleTag(first, isCrowded ? "mini" : "tag")
          : html`<showcart-offer
          class="pinned ${isEntering ? "entrance" : ""}"
          .room=${room}
          .product=${{ ...pin.product, price_minor: scene.lineup[pin.product.product_id]?.product.price_minor ?? pin.product.price_minor }}
          .sale=${pinnedSale}
          .look=${isEntering ? "entrance" : isCrowded ? "mini" : "tag"}
          .revision=${room.revision}
        ></showcart-offer>`,
      )
    }
    ${pin === null && first === null && isWide ? html`<p class="quiet empty">${texts.show.nothingOnAir}</p>` : nothing}
    ${isWide ? orders(scene, room) : nothing}`;
}

/** The sales that are not the pinned product's; without a pin, the first of them by itself. */
function salesBeside({ pin, sales }: Scene, pinned: Sale | null): readonly [beside: readonly Sale[], first: Sale | null] {
  const all = Object.values(sales).filter((it) => it.sale_id !== pinned?.sale_id);
  return pin === null ? [all.slice(1), all[0] ?? null] : [all, null];
}

/** On narrow screens: the way to the line-up, and to what is reserved. */
export function bar(scene: Scene, room: Room, openLineup: () => void): TemplateResult {
  const [first] = room.buying.open;
  const listed = Object.keys(scene.lineup).length;
  return html`<div class="bar">
    <button class="button over" aria-haspopup="dialog" aria-label=${texts.lineup.open(count(listed))} @click=${openLineup}>
      ${icons.list}<span class="short">${texts.lineup.short}</span><span class="figures">${count(listed)}</span>
    </button>
    ${
      first === undefined
        ? nothing
        : html`<button class="button money" aria-haspopup="dialog" aria-label=${texts.offer.finish} @click=${() => room.goOn(first)}>
          <span>${texts.checkout.reservedChip}</span>${first.until === null ? nothing : html`<showcart-countdown .until=${first.until} .now=${room.now}></showcart-countdown>`}
        </button>`
    }
  </div>`;
}

/** Why there is nothing to see, when it will stay so. */
export function refusal({ refused, isNameless, connection, server, signIn }: RefusalOptions): TemplateResult | typeof nothing {
  if (refused !== null) {
    const { notAllowedTitle, notAllowed, forbiddenByPage } = texts.connection;
    const text = refused === "by_page" ? forbiddenByPage(server) : notAllowed(location.origin, server);
    return html`<div class="refusal" role="alert"><h2>${notAllowedTitle}</h2><p>${text}</p></div>`;
  }
  if (isNameless) {
    const { namelessTitle, nameless } = texts.connection;
    return html`<div class="refusal" role="alert"><h2>${namelessTitle}</h2><p>${nameless}</p></div>`;
  }
  if (connection.status !== "closed") return nothing;
  const { reason } = connection;
  const { closed } = texts.connection;
  const text = reason in closed ? closed[reason as keyof typeof closed] : closed.other;
  const needsToken = reason === "bad_token" || reason === "token_expired" || reason === "forbidden";
  return html`<div class="refusal" role="alert"><p>${text}</p>
    ${needsToken ? html`<button class="button signal" @click=${signIn}>${texts.connection.signIn}</button>` : nothing}</div>`;
}

function banner({ overlay_id, text, style, link }: Banner): TemplateResult {
  const address = link !== null && link.startsWith("https://") ? link : null;
  return html`<p class="banner ${style}" data-banner=${overlay_id}>
    ${address === null ? html`<span dir="auto">${untwisted(text)}</span>` : html`<a href=${address} target="_blank" rel="noopener noreferrer"><span dir="auto">${untwisted(text)}</span>${icons.arrow}</a>`}
  </p>`;
}
