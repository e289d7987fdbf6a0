import {
  type ConnectionState,
  connect,
  type Environment,
  type HoldId,
  type NewLine,
  type OrderId,
  type Pin,
  type Role,
  type Scene,
  type Show,
  type ShowId,
  type TokenFunction,
  type Unsubscribe,
} from "@showcart/sdk";
import { html, LitElement, nothing, type PropertyValues, type TemplateResult } from "lit";
import { untwisted } from "../design/bidi.js";
import { money } from "../design/format.js";
import { base, controls, tokens } from "../design/styles.js";
import { texts } from "../texts/en.js";
import { isRefusedHere, onForbidden, type Refusal } from "./allowed.js";
import { Announcer } from "./announcer.js";
import { Buying, type Checkout as OneCheckout } from "./buying.js";
import { productOf } from "./checkout.js";
import { Hearing } from "./hearing.js";
import { icons } from "./icons.js";
import { nameOf, type Offer } from "./offer.js";
import type { Room } from "./room.js";
import { lineup, sheets } from "./sheets.js";
import { styles } from "./show.styles.js";
import { bar, type Closed, connectionBadge, headline, type Notice, onScreen, refusal, top } from "./stage.js";
import "./video.js";
import type { Video } from "./video.js";

/** From this width on, the line-up stands beside the video. */
const WIDE_PX = 860;
/** On less height than this, what is pinned makes itself small for what else is on screen. */
const SHORT_PX = 640;
/** A result stays so long. */
const RESULT_MS = 15_000;
/** A word to the viewer, such as "Order confirmed", stays so long. */
const NOTICE_MS = 6_000;
/** A page's own script may say a moment later which show it is. */
const NAMELESS_MS = 1_500;

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
    isShort: { state: true },
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
  declare isShort: boolean;

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
  #notice: Notice | null = null;
  #checkout: HoldId | null = null;
  /** The tag flies to its place over what is around it. */
  #isSettling = false;
  #entrance: { readonly version: number; readonly until: number } | null = null;
  #timers = new Set<ReturnType<typeof setTimeout>>();
  readonly #announcer = new Announcer((text) => {
    // What lies outside of an open sheet is not there for those who listen, so each sheet has a mouth of its own.
    const region = this.renderRoot.querySelector("dialog[open] .voice") ?? this.renderRoot.querySelector("#voice");
    if (region !== null) region.textContent = text;
  });
  readonly #resized = new ResizeObserver(() => this.#measure());
  #watched: Element | null = null;

  constructor() {
    super();
    // The server that our script came from.
    this.server = new URL(import.meta.url).origin;
    this.show = "";
    this.token = null;
    this.video = null;
    this.theme = null;
    this.layout = "narrow";
    this.isShort = false;
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
    this.#watched = null;
    this.#shut();
    super.disconnectedCallback();
  }

  protected override willUpdate(changed: PropertyValues<this>): void {
    if (changed.has("server") || changed.has("show") || changed.has("token")) this.#open();
  }

  protected override updated(): void {
    this.#watchRoom();
    const dialog = this.#dialog("checkout");
    // A step that goes takes its focused button along: the sheet's heading gets the focus, and tells where we are.
    if (dialog?.open === true && this.shadowRoot?.activeElement === null) dialog.querySelector("h2")?.focus();
  }

  /** What is on screen comes with the first scene, and takes its room from the title. */
  #watchRoom(): void {
    const now = this.renderRoot.querySelector(".now");
    if (now === this.#watched) return;
    if (this.#watched !== null) this.#resized.unobserve(this.#watched);
    if (now !== null) this.#resized.observe(now);
    this.#watched = now;
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
      get revision() {
        return element.#revision;
      },
      announce: (text) => this.#announcer.say(text),
      goOn: (checkout) => this.#continue(checkout),
      want: (wanted) => this.#want(wanted),
      signIn: (why) => this.#signIn(why),
      vote: async (poll, choice) => {
        const counts = await show.vote(poll, choice);
        if (counts !== choice) this.#notify(texts.poll.already, "plain");
      },
    };
    const hearing = new Hearing(show, buying, this.#announcer, {
      scene: (scene, isFirst) => this.#seen(scene, isFirst),
      viewers: (viewers) => {
        this.#viewers = viewers;
        this.requestUpdate();
      },
      entered: (pin) => this.#enter(pin),
      notify: (text) => this.#notify(text, "plain"),
      result: (closed) => this.#pollClosed(closed),
    });
    this.#unsubscribe = [
      () => buying.stop(),
      () => hearing.stop(),
      show.connection.subscribe((state) => this.#connected(state)),
      onForbidden(this.server, () => {
        console.error(texts.connection.forbiddenByPage(this.server));
        this.#refuse("by_page");
      }),
    ];
  }

  #seen(scene: Scene | null, isFirst: boolean): void {
    this.#scene = scene;
    if (isFirst && scene !== null) {
      // Whoever comes while a pin enters sees the rest of its entrance.
      if (scene.pin !== null) this.#enter(scene.pin);
      const detail = { title: untwisted(scene.show.title) };
      this.dispatchEvent(new CustomEvent("showcart-ready", { detail, bubbles: true, composed: true }));
    }
    this.requestUpdate();
  }

  #pollClosed(closed: Closed | null): void {
    this.#closed = closed;
    if (closed !== null) {
      this.#later(RESULT_MS, () => {
        if (this.#closed === closed) this.#closed = null;
      });
    }
    this.requestUpdate();
  }

  #shut(): void {
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    this.#unsubscribe = [];
    this.#live?.close();
    this.#live = null;
    this.#room = null;
    this.#scene = null;
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

  /** Now by the server's clock. */
  readonly #now = (): number => this.#live?.serverNow() ?? 0;

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
    const { width, height } = this.getBoundingClientRect();
    this.layout = width >= WIDE_PX ? "wide" : "narrow";
    this.isShort = this.layout === "narrow" && height < SHORT_PX;
    this.#fitHeadline();
    if (this.layout === "wide") this.#dialog("lineup")?.close();
  }

  /** The title is read whole or not at all: small where it would be covered, and then not at all. */
  #fitHeadline(): void {
    const headline = this.renderRoot.querySelector<HTMLElement>(".headline");
    const [stage, now] = [this.renderRoot.querySelector(".stage"), this.renderRoot.querySelector(".now")];
    if (headline === null || stage === null || now === null) return;
    const end = this.layout === "wide" ? stage.getBoundingClientRect().bottom : now.getBoundingClientRect().top;
    for (const fit of ["large", "small", "none"]) {
      headline.dataset["fit"] = fit;
      if (headline.getBoundingClientRect().bottom <= end) return;
    }
  }

  #changed(): void {
    this.#revision += 1;
    this.requestUpdate();
  }

  #notify(text: string, tone: Notice["tone"]): void {
    const notice: Notice = { text, tone };
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

  // ---- What is drawn -----------------------------------------------------------------------------------------------

  protected override render(): TemplateResult {
    const [scene, room] = [this.#scene, this.#room];
    // The address of the stream is newer than some servers.
    const stream = this.video ?? (scene?.show as { readonly video_url?: string | null } | undefined)?.video_url ?? null;
    const isWide = this.layout === "wide";
    return html`<div class="app" role="region" aria-label=${texts.show.region}>
        <div class="stage ${stream !== null && scene !== null && scene.show.state !== "live" ? "dimmed" : ""}">
          ${stream === null ? html`<div class="still">${icons.tag}</div>` : html`<showcart-video .src=${this.#address(stream)} ?stopped=${scene?.show.state === "ended"} @showcart-video=${() => this.requestUpdate()}></showcart-video>`}
          ${this.#top(scene)} ${scene === null ? nothing : headline(scene, stream !== null)}
        </div>
        ${
          room === null || scene === null
            ? nothing
            : html`<div class="now ${this.#entrance === null && !this.#isSettling ? "" : "entering"}">
                ${onScreen(scene, room, { isWide, isShort: this.isShort, entering: this.#entrance?.version ?? null, closed: this.#closed, dismiss: () => this.#pollClosed(null) })}
              </div>
              ${isWide ? html`<div class="rail"><section class="list" aria-labelledby="lineup-title"><h2 id="lineup-title">${texts.lineup.title}</h2>${lineup(scene, room)}</section></div>` : bar(scene, room, () => this.#dialog("lineup")?.showModal())}`
        }
        ${refusal({ refused: this.#refused, isNameless: this.#isNameless, connection: this.#connection, server: this.server, signIn: () => this.#signIn("watch") })}
      </div>
      ${room === null || scene === null ? nothing : sheets(scene, room, { isWide, holdId: this.#checkout, checkoutClosed: () => this.#checkoutClosed() })}
      <div id="voice" class="spoken" role="status" aria-live="polite"></div>`;
  }

  #top(scene: Scene | null): TemplateResult {
    const hasConnection = this.#refused === null && this.show !== "";
    return top(scene, {
      video: this.#video,
      isDark: this.#isDark,
      viewers: this.#viewers,
      notice: this.#notice,
      badge: hasConnection ? connectionBadge(this.#connection, this.#wasOpen) : nothing,
      now: this.#now,
      toggleTheme: () => this.#toggleTheme(),
    });
  }

  #address(stream: string): string | null {
    try {
      const { protocol, href } = new URL(stream, this.server);
      return protocol === "https:" || protocol === "http:" || protocol === "blob:" ? href : null;
    } catch {
      return null;
    }
  }
}
customElements.define("showcart-show", ShowcartShow);
