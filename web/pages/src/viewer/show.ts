import {
  type Banner,
  type ConnectionState,
  connect,
  type Environment,
  type HoldId,
  type MyOrder,
  type NewLine,
  type OrderId,
  type Pin,
  type Poll,
  type PollId,
  type PollResult,
  type Role,
  type Sale,
  type Scene,
  type Show,
  type ShowId,
  type TokenFunction,
  type Unsubscribe,
} from "@showcart/sdk";
import { html, LitElement, nothing, type PropertyValues, type TemplateResult } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { isolated, untwisted } from "../design/bidi.js";
import "../design/countdown.js";
import { count, money, secondsLeft, shortCount } from "../design/format.js";
import { base, controls, tokens } from "../design/styles.js";
import { texts } from "../texts/en.js";
import { isRefusedHere, onForbidden, type Refusal } from "./allowed.js";
import { Announcer } from "./announcer.js";
import { Buying, type Checkout as OneCheckout } from "./buying.js";
import "./checkout.js";
import { productOf } from "./checkout.js";
import { icons } from "./icons.js";
import { nameOf, type Offer } from "./offer.js";
import { verdict } from "./poll.js";
import type { Room } from "./room.js";
import { styles } from "./show.styles.js";
import "./video.js";
import type { Video } from "./video.js";

/** From this width on, the line-up stands beside the video. */
const WIDE_PX = 860;
/** A result stays so long. */
const RESULT_MS = 15_000;
/** A word to the viewer, such as "Order confirmed", stays so long. */
const NOTICE_MS = 6_000;
const LOOK_MS = 250;
/** A line-up of so many products does not fit on a screen. */
const LONG_LIST = 6;
/** A page's own script may say a moment later which show it is. */
const NAMELESS_MS = 1_500;

interface Closed {
  readonly poll: Poll;
  readonly result: PollResult;
}

/**
 * A live show: its video with everything that can be bought, voted and counted over it.
 *
 * Attributes: `server`, `show`, `token`, `video` (another stream than the show's), `theme` (`light` or `dark`, else the
 * system's). As a property, `token` may be a function that gives a fresh one.
 *
 * Events, which bubble: `showcart-ready` (`detail.title`) when there is something to see; `showcart-order` (`detail`: `order_id`, `hold_id`, `amount_minor`, `currency`) when an order is paid;
 * `showcart-signin` (`detail.why`: `buy`, `vote` or `watch`) when somebody must sign in: call `preventDefault()` and do it.
 */
export class ShowcartShow extends LitElement {
  static override properties = {
    server: {},
    show: {},
    token: {},
    video: {},
    theme: { reflect: true },
    layout: { reflect: true },
  };
  static override styles = [tokens, base, controls, styles];

  declare server: string;
  declare show: ShowId | "";
  declare token: string | TokenFunction | null;
  declare video: string | null;
  declare theme: "light" | "dark" | null;
  /** Opens sockets in place of the browser: `openEarly` of the SDK gives one, for a first picture that comes sooner. */
  socket: Environment["socket"] | null = null;
  /** By our own width, not the window's: a shop may give us a column. */
  declare layout: "narrow" | "wide";

  #live: Show | null = null;
  #room: Room | null = null;
  #unsubscribe: Unsubscribe[] = [];
  #scene: Scene | null = null;
  #connection: ConnectionState = { status: "connecting", reason: null };
  #wasOpen = false;
  #role: Role | null = null;
  #viewers: number | undefined;
  #refused: Refusal | null = null;
  /** Nobody has said which show. */
  #isNameless = false;
  /** Counts what the buyer's parts should render for. */
  #revision = 0;
  #closed: Closed | null = null;
  #notice: { readonly text: string; readonly tone: "money" | "plain" } | null = null;
  #checkout: HoldId | null = null;
  /** The tag flies to its place over what is around it. */
  #isSettling = false;
  #entrance: { readonly version: number; readonly until: number } | null = null;
  #timers = new Set<ReturnType<typeof setTimeout>>();
  #look: ReturnType<typeof setInterval> | undefined;
  readonly #announcer = new Announcer((text) => {
    // What lies outside of an open sheet is not there for those who listen, so each sheet has a mouth of its own.
    const region = this.renderRoot.querySelector("dialog[open] .voice") ?? this.renderRoot.querySelector("#voice");
    if (region !== null) region.textContent = text;
  });
  readonly #resized = new ResizeObserver(() => this.#measure());

  constructor() {
    super();
    // The server that our script came from.
    this.server = new URL(import.meta.url).origin;
    this.show = "";
    this.token = null;
    this.video = null;
    this.theme = null;
    this.layout = "narrow";
  }

  override connectedCallback(): void {
    super.connectedCallback();
    this.#measure();
    this.#resized.observe(this);
    void this.updateComplete.then(() => {
      const top = this.renderRoot.querySelector(".top");
      if (top !== null && this.isConnected) this.#resized.observe(top);
    });
    if (this.hasUpdated) this.#open();
  }

  override disconnectedCallback(): void {
    this.#resized.disconnect();
    this.#shut();
    super.disconnectedCallback();
  }

  protected override willUpdate(changed: PropertyValues<this>): void {
    if (changed.has("server") || changed.has("show") || changed.has("token")) this.#open();
  }

  protected override updated(): void {
    const dialog = this.#dialog("checkout");
    // A step that goes takes its focused button along: the sheet's heading gets the focus, and tells where we are.
    if (dialog?.open === true && this.shadowRoot?.activeElement === null) dialog.querySelector("h2")?.focus();
  }

  // ---- What we hear ------------------------------------------------------------------------------------------------

  #open(): void {
    this.#shut();
    this.#refused = null;
    this.#isNameless = false;
    if (this.show === "") return this.#later(NAMELESS_MS, () => (this.#isNameless = true));
    const show = connect({
      server: this.server,
      showId: this.show,
      pictureTime: () => this.#video?.pictureTime() ?? null,
      ...(this.token === null ? {} : { token: this.token }),
      ...(this.socket === null ? {} : { environment: { socket: this.socket } }),
    });
    this.#live = show;
    const buying = new Buying(show, {
      changed: () => this.#changed(),
      said: (text) => this.#announcer.say(text),
      reserved: (checkout) => this.#reserved(checkout),
      confirmed: (checkout, orderId) => this.#confirmed(checkout, orderId),
      refunded: (_order, amount, currency) => this.#notify(texts.orders.refundedText(money(amount, currency)), "money"),
    });
    const element = this;
    this.#room = {
      show,
      buying,
      get role() {
        return element.#role;
      },
      get isLive() {
        return element.#scene?.show.state === "live";
      },
      now: () => show.serverNow(),
      announce: (text) => this.#announcer.say(text),
      want: (wanted) => this.#want(wanted),
      signIn: (why) => this.#signIn(why),
      vote: async (poll, choice) => {
        const counts = await show.vote(poll, choice);
        if (counts !== choice) this.#notify(texts.poll.already, "plain");
      },
    };
    let isFirst = true;
    this.#unsubscribe = [
      () => buying.stop(),
      show.connection.subscribe((state) => this.#connected(state)),
      show.gauge("viewers").subscribe((viewers) => {
        this.#viewers = viewers;
        this.requestUpdate();
      }),
      show.scene.subscribe((scene) => {
        const before = this.#scene;
        this.#scene = scene;
        // Whoever comes while a pin enters sees the rest of its entrance.
        if (isFirst && scene?.pin != null) this.#enter(scene.pin);
        if (isFirst && scene !== null) {
          this.dispatchEvent(
            new CustomEvent("showcart-ready", { detail: { title: untwisted(scene.show.title) }, bubbles: true, composed: true }),
          );
          isFirst = false;
        }
        if (before !== null && scene !== null) this.#forget(before, scene);
        this.requestUpdate();
      }),
      show.on("pin.set", ({ data }) => {
        this.#enter(data);
        const sale = this.#saleOf(data.product.product_id);
        this.#announcer.say(
          texts.offer.spokenPin(
            nameOf(data.product),
            money(sale?.price_minor ?? data.product.price_minor, data.product.currency),
          ),
        );
      }),
      show.on("sale.started", ({ data }) =>
        this.#announcer.say(texts.offer.spokenSale(nameOf(data.product), money(data.price_minor, data.currency))),
      ),
      show.on("sale.sold_out", ({ data }) => {
        const product = this.#scene?.sales[data.sale_id]?.product;
        if (product !== undefined) this.#announcer.say(texts.offer.spokenSoldOut(nameOf(product)));
      }),
      show.on("sale.restocked", ({ data }) => {
        const product = this.#scene?.sales[data.sale_id]?.product;
        if (product !== undefined) this.#notify(texts.offer.restocked(nameOf(product)), "plain");
      }),
      show.on("poll.opened", ({ data }) => {
        this.#closed = null;
        this.#announcer.say(texts.poll.opened(isolated(data.question)));
      }),
      show.on("banner.shown", ({ data }) => this.#announcer.say(isolated(data.text))),
      show.on("poll.closed", ({ data }) => this.#pollClosed(data)),
      onForbidden(this.server, () => {
        console.error(texts.connection.forbiddenByPage(this.server));
        this.#refuse("by_page");
      }),
    ];
    this.#look = setInterval(() => this.#announceCountdowns(), LOOK_MS);
  }

  #shut(): void {
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    for (const timer of this.#timers) clearTimeout(timer);
    clearInterval(this.#look);
    this.#timers.clear();
    this.#unsubscribe = [];
    this.#announcer.stop();
    this.#live?.close();
    this.#live = null;
    this.#room = null;
    this.#scene = null;
    this.#polls.clear();
  }

  #connected(state: ConnectionState): void {
    const before = this.#connection;
    this.#connection = state;
    if (state.status === "open") {
      this.#role = state.role;
      if (this.#wasOpen && before.status !== "open") this.#announcer.say(texts.connection.back);
      if (!this.#wasOpen && state.role === "viewer") void this.#room?.buying.resume();
      this.#wasOpen = true;
    } else if (before.status === "open") {
      this.#announcer.say(state.status === "offline" ? texts.connection.offline : texts.connection.lost);
    }
    if (state.status === "waiting" && !this.#wasOpen) void this.#askWhetherAllowed();
    this.requestUpdate();
  }

  /** Browsers tell a page nothing of why its socket was refused. */
  async #askWhetherAllowed(): Promise<void> {
    const show = this.#live;
    if (!(await isRefusedHere(this.server)) || show !== this.#live || this.#wasOpen) return;
    this.#refuse("by_server");
  }

  #refuse(why: Refusal): void {
    this.#refused = why;
    this.#shut();
    this.requestUpdate();
  }

  /** Polls as they were when they were open: the result names them only. */
  readonly #polls = new Map<PollId, Poll>();

  #pollClosed(result: PollResult): void {
    const poll = this.#polls.get(result.poll_id);
    if (poll === undefined) return;
    this.#closed = { poll, result };
    this.#announcer.say(texts.poll.result(isolated(poll.question), verdict(poll, result)));
    this.#later(RESULT_MS, () => {
      if (this.#closed?.result === result) this.#closed = null;
    });
    this.requestUpdate();
  }

  /** What an offer says is about a sale as it was. */
  #forget(before: Scene, now: Scene): void {
    for (const poll of Object.values(now.polls)) this.#polls.set(poll.poll_id, poll);
    if (before.sales === now.sales) return;
    for (const [id, sale] of Object.entries(before.sales))
      if (now.sales[sale.sale_id] !== sale) this.#room?.buying.forget(id);
  }

  #enter(pin: Pin): void {
    // By the picture's time: the entrance belongs to what the viewer sees.
    const left = pin.animate_until - (this.#live?.stageNow() ?? 0);
    if (left <= 0 || matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    this.#entrance = { version: pin.version, until: pin.animate_until };
    this.#later(left, () => void this.#settle(pin.version));
    void this.updateComplete.then(() => this.#slideIn());
  }

  /** The one big moment: from below, into the lower third, … */
  #slideIn(): void {
    this.#pinned?.animate(
      [
        { transform: "translateY(60%)", opacity: 0 },
        { transform: "none", opacity: 1 },
      ],
      {
        duration: 250,
        easing: "cubic-bezier(0.2, 0.8, 0.2, 1)",
      },
    );
  }

  /** … and from there into its small place. */
  async #settle(version: number): Promise<void> {
    if (this.#entrance?.version !== version) return;
    const from = this.#pinned?.getBoundingClientRect();
    this.#entrance = null;
    this.#isSettling = true;
    this.#later(300, () => (this.#isSettling = false));
    this.requestUpdate();
    await this.updateComplete;
    const element = this.#pinned;
    await element?.updateComplete;
    const to = element?.getBoundingClientRect();
    if (element === null || from === undefined || to === undefined || to.width === 0) return;
    const shift = `translate(${from.left - to.left}px, ${from.bottom - to.bottom}px) scale(${from.width / to.width})`;
    element.animate(
      [
        { transform: shift, transformOrigin: "0 100%", opacity: 0.2 },
        { transform: "none", transformOrigin: "0 100%", opacity: 1 },
      ],
      {
        duration: 250,
        easing: "cubic-bezier(0.2, 0.8, 0.2, 1)",
      },
    );
  }

  #announceCountdowns(): void {
    const [scene, show] = [this.#scene, this.#live];
    if (scene === null || show === null) return;
    const now = show.serverNow();
    const { left, over, saleEnds, saleStarts, reservation, spoken } = texts.timer;
    const one = (key: string, until: number | null, label: string) =>
      until === null
        ? []
        : [
            {
              key,
              seconds: secondsLeft(until, now),
              words: (seconds: number) => (seconds === 0 ? over(label) : left(label, spoken(seconds))),
            },
          ];
    this.#announcer.look([
      ...Object.values(scene.timers).flatMap((it) => one(`${it.overlay_id}:${it.ends_at}`, it.ends_at, isolated(it.label))),
      ...Object.values(scene.sales).flatMap((it) => {
        if (it.sold_out) return [];
        if (it.state === "armed") return one(`${it.sale_id}:armed`, it.starts_at, saleStarts(nameOf(it.product)));
        return one(it.sale_id, it.ends_at, saleEnds(nameOf(it.product)));
      }),
      ...(this.#room?.buying.open ?? []).flatMap((it) => one(it.holdId, it.until, reservation)),
    ]);
  }

  // ---- What the viewer does ----------------------------------------------------------------------------------------

  #want(wanted: NewLine): void {
    const room = this.#room;
    if (room === null) return;
    if (this.#role === "guest") return this.#signIn("buy");
    const begun = room.buying.openFor(wanted);
    if (begun === null) return void room.buying.buy(wanted);
    this.#continue(begun);
  }

  #continue(checkout: OneCheckout): void {
    if (checkout.step.name === "preparing" || checkout.step.name === "problem")
      void this.#room?.buying.prepare(checkout.holdId);
    this.#openCheckout(checkout.holdId);
  }

  #signIn(why: "buy" | "vote" | "watch"): void {
    const event = new CustomEvent("showcart-signin", {
      detail: { why },
      bubbles: true,
      composed: true,
      cancelable: true,
    });
    if (this.dispatchEvent(event)) this.#notify(why === "vote" ? texts.poll.guests : texts.show.signInHow, "plain");
  }

  #reserved(checkout: OneCheckout): void {
    const [line] = checkout.lines;
    const product = line === undefined || this.#scene === null ? null : productOf(this.#scene, line);
    this.#announcer.say(texts.checkout.spokenReserved(product === null ? "" : nameOf(product)));
    this.#openCheckout(checkout.holdId);
  }

  #confirmed(checkout: OneCheckout, orderId: OrderId): void {
    const { holdId: hold_id, amountMinor: amount_minor, currency } = checkout;
    this.#announcer.say(
      `${texts.checkout.confirmedTitle}. ${texts.checkout.confirmedText(money(amount_minor, currency))}`,
    );
    if (this.#checkout !== hold_id) this.#notify(texts.checkout.confirmedTitle, "money");
    const detail = { order_id: orderId, hold_id, amount_minor, currency };
    this.dispatchEvent(new CustomEvent("showcart-order", { detail, bubbles: true, composed: true }));
  }

  #openCheckout(holdId: HoldId): void {
    this.#checkout = holdId;
    this.#dialog("lineup")?.close();
    this.requestUpdate();
    void this.updateComplete.then(() => {
      const dialog = this.#dialog("checkout");
      if (dialog?.open === false) dialog.showModal();
    });
  }

  #checkoutClosed(): void {
    if (this.#checkout !== null) this.#room?.buying.dismiss(this.#checkout);
    this.#checkout = null;
    this.#changed();
  }

  #toggleTheme(): void {
    this.theme = this.#isDark ? "light" : "dark";
  }

  get #isDark(): boolean {
    return this.theme === null ? matchMedia("(prefers-color-scheme: dark)").matches : this.theme === "dark";
  }

  // ---- Little things -----------------------------------------------------------------------------------------------

  get #video(): Video | null {
    return this.renderRoot.querySelector("showcart-video");
  }

  get #pinned(): Offer | null {
    return this.renderRoot.querySelector<Offer>("showcart-offer.pinned");
  }

  #dialog(id: "checkout" | "lineup"): HTMLDialogElement | null {
    return this.renderRoot.querySelector<HTMLDialogElement>(`dialog#${id}`);
  }

  #measure(): void {
    // What is announced stays readable above what is on screen.
    const [app, top] = [this.renderRoot.querySelector<HTMLElement>(".app"), this.renderRoot.querySelector(".top")];
    if (app !== null && top !== null) app.style.setProperty("--top", `${Math.ceil(top.getBoundingClientRect().height)}px`);
    this.layout = this.getBoundingClientRect().width >= WIDE_PX ? "wide" : "narrow";
    if (this.layout === "wide") this.#dialog("lineup")?.close();
  }

  #changed(): void {
    this.#revision += 1;
    this.requestUpdate();
  }

  #notify(text: string, tone: "money" | "plain"): void {
    const notice = { text, tone };
    this.#notice = notice;
    this.#announcer.say(text);
    this.#later(NOTICE_MS, () => {
      if (this.#notice === notice) this.#notice = null;
    });
    this.requestUpdate();
  }

  #later(ms: number, run: () => void): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      run();
      this.requestUpdate();
    }, ms);
    this.#timers.add(timer);
  }

  /** The sale of a product: one that runs goes before one that is announced. */
  #saleOf(productId: string): Sale | null {
    const sales = Object.values(this.#scene?.sales ?? {}).filter((it) => it.product.product_id === productId);
    return sales.find((it) => it.state === "running") ?? sales[0] ?? null;
  }

  // ---- What is drawn -----------------------------------------------------------------------------------------------

  protected override render(): TemplateResult {
    const [scene, room] = [this.#scene, this.#room];
    // The address of the stream is newer than some servers.
    const stream = this.video ?? (scene?.show as { readonly video_url?: string | null } | undefined)?.video_url ?? null;
    const isWide = this.layout === "wide";
    return html`<div class="app" role="region" aria-label=${texts.show.region}>
        <div class="stage ${stream !== null && scene !== null && scene.show.state !== "live" ? "dimmed" : ""}">
          ${stream === null ? html`<div class="still">${icons.tag}</div>` : html`<showcart-video .src=${this.#address(stream)} ?stopped=${scene?.show.state === "ended"} @showcart-video=${() => this.requestUpdate()}></showcart-video>`}
          ${this.#top(scene)} ${scene === null ? nothing : this.#headline(scene, stream !== null)}
        </div>
        ${
          room === null || scene === null
            ? nothing
            : html`<div class="now ${this.#entrance === null && !this.#isSettling ? "" : "entering"}">${this.#now(scene, room)}</div>
              ${isWide ? html`<div class="rail"><section class="list" aria-labelledby="lineup-title"><h2 id="lineup-title">${texts.lineup.title}</h2>${this.#lineup(scene, room)}</section></div>` : this.#bar(scene, room)}`
        }
        ${this.#refusal()}
      </div>
      ${room === null || scene === null ? nothing : this.#sheets(scene, room)}
      <div id="voice" class="spoken" role="status" aria-live="polite"></div>`;
  }

  #address(stream: string): string | null {
    try {
      const { protocol, href } = new URL(stream, this.server);
      return protocol === "https:" || protocol === "http:" || protocol === "blob:" ? href : null;
    } catch {
      return null;
    }
  }

  #top(scene: Scene | null): TemplateResult {
    const { state, muted } = this.#video ?? { state: "none", muted: true };
    const isDark = this.#isDark;
    const viewers = this.#viewers;
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
        ${this.#connectionBadge()}
      </div>
      <div class="tools">
        ${
          state === "none" || state === "failed"
            ? nothing
            : html`<button class="button icon tool" aria-label=${muted ? texts.video.soundOn : texts.video.soundOff} @click=${() => this.#video?.toggleSound()}>${muted ? icons.soundOff : icons.soundOn}</button>`
        }
        <button class="button icon tool" aria-label=${isDark ? texts.theme.toLight : texts.theme.toDark} @click=${() => this.#toggleTheme()}>${isDark ? icons.light : icons.dark}</button>
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
          <showcart-countdown .until=${it.ends_at} .now=${() => this.#live?.serverNow() ?? 0}></showcart-countdown></p>`,
        )}
        ${this.#notice === null ? nothing : html`<p class="notice ${this.#notice.tone}">${this.#notice.text}</p>`}
        ${state === "failed" ? html`<p class="notice plain">${texts.video.failed}</p>` : nothing}
      </div>`
      }
    </div>`;
  }

  #connectionBadge(): TemplateResult | typeof nothing {
    const { status } = this.#connection;
    if (status === "open" || status === "closed" || this.#refused !== null || this.show === "") return nothing;
    const text =
      status === "offline"
        ? texts.connection.offline
        : this.#wasOpen
          ? texts.connection.reconnecting
          : texts.connection.connecting;
    return html`<span class="badge ${this.#wasOpen ? "scarce" : "over"} line">${text}</span>`;
  }

  /** Without a picture the show's title is what there is to see; before the show and after it, what to expect. */
  #headline(scene: Scene, hasVideo: boolean): TemplateResult | typeof nothing {
    const { state, title } = scene.show;
    if (state === "live") return html`<div class="headline"><h1 class=${hasVideo ? "spoken" : ""} dir="auto">${untwisted(title)}</h1></div>`;
    const [head, text] =
      state === "ended" ? [texts.show.endedTitle, texts.show.endedText] : [untwisted(title), texts.show.scheduledText];
    return html`<div class="headline"><h1 dir="auto">${head}</h1><p>${text}</p></div>`;
  }

  #now(scene: Scene, room: Room): TemplateResult {
    const { pin } = scene;
    const pinnedSale = pin === null ? null : this.#saleOf(pin.product.product_id);
    const sales = Object.values(scene.sales).filter((it) => it.sale_id !== pinnedSale?.sale_id);
    const polls: Closed["poll"][] = Object.values(scene.polls);
    const votes = room.show.mine.get()?.votes ?? {};
    const closed = this.#closed;
    const isWide = this.layout === "wide";
    const isEntering = pin !== null && this.#entrance?.version === pin.version;
    return html`
      ${repeat(
        polls,
        (it) => it.poll_id,
        (it) => html`<showcart-poll .room=${room} .poll=${it} .voted=${votes[it.poll_id]}></showcart-poll>`,
      )}
      ${
        closed === null || scene.polls[closed.poll.poll_id] !== undefined
          ? nothing
          : html`<showcart-poll .room=${room} .poll=${closed.poll} .result=${closed.result} .voted=${votes[closed.poll.poll_id]} @showcart-dismiss=${() => this.#dismissResult()}></showcart-poll>`
      }
      ${repeat(
        sales,
        (it) => it.sale_id,
        (it) =>
          html`<showcart-offer .room=${room} .product=${it.product} .sale=${it} .look=${isWide || pin === null ? "tag" : "mini"} .revision=${this.#revision}></showcart-offer>`,
      )}
      ${
        pin === null
          ? nothing
          : html`<showcart-offer
            class="pinned ${isEntering ? "entrance" : ""}"
            .room=${room}
            .product=${{ ...pin.product, price_minor: scene.lineup[pin.product.product_id]?.product.price_minor ?? pin.product.price_minor }}
            .sale=${pinnedSale}
            .look=${isEntering ? "entrance" : "tag"}
            .revision=${this.#revision}
          ></showcart-offer>`
      }
      ${pin === null && sales.length === 0 && isWide ? html`<p class="quiet empty">${texts.show.nothingOnAir}</p>` : nothing}
      ${isWide ? this.#orders(scene, room) : nothing}`;
  }

  #dismissResult(): void {
    this.#closed = null;
    this.requestUpdate();
  }

  /** On narrow screens: the way to the line-up, and to what is reserved. */
  #bar(scene: Scene, room: Room): TemplateResult {
    const [first] = room.buying.open;
    const listed = Object.keys(scene.lineup).length;
    return html`<div class="bar">
      <button class="button over" aria-haspopup="dialog" aria-label=${texts.lineup.open(count(listed))} @click=${() => this.#dialog("lineup")?.showModal()}>
        ${icons.list}<span class="short">${texts.lineup.short}</span><span class="figures">${count(listed)}</span>
      </button>
      ${
        first === undefined
          ? nothing
          : html`<button class="button money" aria-haspopup="dialog" aria-label=${texts.offer.finish} @click=${() => this.#continue(first)}>
            <span>${texts.checkout.reservedChip}</span>${first.until === null ? nothing : html`<showcart-countdown .until=${first.until} .now=${room.now}></showcart-countdown>`}
          </button>`
      }
    </div>`;
  }

  #lineup(scene: Scene, room: Room): TemplateResult {
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
            .sale=${this.#saleOf(product.product_id)}
            .onAir=${scene.pin?.product.product_id === product.product_id}
            .revision=${this.#revision}
          ></showcart-offer>
        </li>`,
      )}
    </ul>`;
  }

  /** In a long list, what is on screen is found by one tap. */
  #wayToPinned({ pin, lineup }: Scene): TemplateResult | typeof nothing {
    const id = pin?.product.product_id;
    if (id === undefined || lineup[id] === undefined || Object.keys(lineup).length < LONG_LIST) return nothing;
    return html`<button class="button way" @click=${() => this.#showPinned()}>${texts.lineup.toPinned}</button>`;
  }

  #showPinned(): void {
    const row = [...this.renderRoot.querySelectorAll<Offer>("dialog#lineup showcart-offer")].find((it) => it.onAir);
    row?.scrollIntoView({ block: "center" });
    row?.renderRoot.querySelector("article")?.focus({ preventScroll: true });
  }

  #orders(scene: Scene, room: Room): TemplateResult | typeof nothing {
    const { orders, open } = room.buying;
    const pending = open.filter((it) => !orders.some((order) => order.hold_id === it.holdId));
    if (orders.length === 0 && pending.length === 0) return nothing;
    const name = (lines: OneCheckout["lines"]) => lines.map((line) => isolated(productOf(scene, line)?.title ?? "")).join(", ");
    return html`<section class="orders" aria-labelledby="orders-title">
      <h2 id="orders-title">${texts.orders.title}</h2>
      <ul>
        ${pending.map((it) => html`<li><span class="what">${name(it.lines)}</span><button class="button" @click=${() => this.#continue(it)}>${texts.orders.continue}</button></li>`)}
        ${orders.map((it) => {
          const checkout = open.find((other) => other.holdId === it.hold_id);
          return html`<li>
            <span class="what">${name(it.lines)}<br /><span class="quiet">${standing(it)}</span></span>
            ${checkout === undefined ? html`<span class="figures">${money(it.amount_minor, it.currency)}</span>` : html`<button class="button" @click=${() => this.#continue(checkout)}>${texts.orders.continue}</button>`}
          </li>`;
        })}
      </ul>
    </section>`;
  }

  #sheets(scene: Scene, room: Room): TemplateResult {
    const checkout = this.#checkout === null ? null : room.buying.checkout(this.#checkout);
    return html`<dialog id="lineup" class="sheet" aria-labelledby="lineup-sheet" @click=${closeOutside}>
        <div class="paper">
          <div class="spoken voice" role="status" aria-live="polite"></div>
          ${sheetHead("lineup-sheet", texts.lineup.title, texts.lineup.close, this.#wayToPinned(scene))}
          ${this.layout === "wide" ? nothing : html`${this.#orders(scene, room)}<section class="list">${this.#lineup(scene, room)}</section>`}
        </div>
      </dialog>
      <dialog id="checkout" class="sheet side" aria-labelledby="checkout-sheet" @close=${() => this.#checkoutClosed()} @click=${closeOutside}>
        <div class="paper">
          <div class="spoken voice" role="status" aria-live="polite"></div>
          ${sheetHead("checkout-sheet", texts.checkout.title, texts.checkout.close)}
          ${
            checkout === null
              ? nothing
              : html`<showcart-checkout .room=${room} .scene=${scene} .checkout=${checkout} @showcart-done=${() => this.#dialog("checkout")?.close()}></showcart-checkout>`
          }
        </div>
      </dialog>`;
  }

  /** Why there is nothing to see, when it will stay so. */
  #refusal(): TemplateResult | typeof nothing {
    if (this.#refused !== null) {
      const { notAllowedTitle, notAllowed, forbiddenByPage } = texts.connection;
      const text = this.#refused === "by_page" ? forbiddenByPage(this.server) : notAllowed(location.origin, this.server);
      return html`<div class="refusal" role="alert"><h2>${notAllowedTitle}</h2><p>${text}</p></div>`;
    }
    if (this.#isNameless) {
      const { namelessTitle, nameless } = texts.connection;
      return html`<div class="refusal" role="alert"><h2>${namelessTitle}</h2><p>${nameless}</p></div>`;
    }
    if (this.#connection.status !== "closed") return nothing;
    const { reason } = this.#connection;
    const { closed } = texts.connection;
    const text = reason in closed ? closed[reason as keyof typeof closed] : closed.other;
    const needsToken = reason === "bad_token" || reason === "token_expired" || reason === "forbidden";
    return html`<div class="refusal" role="alert"><p>${text}</p>
      ${needsToken ? html`<button class="button signal" @click=${() => this.#signIn("watch")}>${texts.connection.signIn}</button>` : nothing}</div>`;
  }
}
customElements.define("showcart-show", ShowcartShow);

function banner({ overlay_id, text, style, link }: Banner): TemplateResult {
  const address = link !== null && link.startsWith("https://") ? link : null;
  return html`<p class="banner ${style}" data-banner=${overlay_id}>
    ${address === null ? html`<span dir="auto">${untwisted(text)}</span>` : html`<a href=${address} target="_blank" rel="noopener noreferrer"><span dir="auto">${untwisted(text)}</span>${icons.arrow}</a>`}
  </p>`;
}

function sheetHead(id: string, title: string, close: string, way: TemplateResult | typeof nothing = nothing): TemplateResult {
  return html`<header>
    <h2 id=${id} tabindex="-1" autofocus>${title}</h2>
    ${way}
    <button class="button icon bare" aria-label=${close} @click=${(event: Event) => (event.currentTarget as Element).closest("dialog")?.close()}>${icons.close}</button>
  </header>`;
}

/** How an order stands, in words. */
function standing({ state, amount_minor, refunded_minor, currency }: MyOrder): string {
  if (refunded_minor === 0) return texts.orders[state];
  return refunded_minor < amount_minor ? texts.orders.partlyRefunded(money(refunded_minor, currency)) : texts.orders.refunded;
}

/** A tap beside the sheet's paper closes it. */
function closeOutside(event: Event): void {
  if (event.target === event.currentTarget) (event.currentTarget as HTMLDialogElement).close();
}
