import {
  type Action as LatestAction,
  type Banner,
  type ConnectionState,
  connect,
  type EndReason,
  type Entry,
  type Order,
  type OrderId,
  type OverlayId,
  type PollId,
  type PollResult,
  type Problem,
  type ProductId,
  RefusedError,
  type Role,
  type Sale,
  type SaleId,
  type Scene,
  type Show,
  type ShowId,
  type Timer,
  UnansweredError,
  type Units,
  type Unsubscribe,
} from "@showcart/sdk";
import { whole } from "../dashboard/api.js";
import { gmvPerMinute, Points, Timeline } from "../dashboard/timeline.js";
import { isolated } from "../design/bidi.js";
import { count, money } from "../design/format.js";
import { desk as texts } from "../texts/desk.en.js";
import {
  type Action,
  Api,
  type DeskSale,
  type DeskShow,
  type Pinned,
  type ShowApi,
  type Waiting,
} from "./api.js";
import { Cell } from "./cell.js";
import { OverlayNames } from "./names.js";
import { Reading } from "./reading.js";

/** What is said at the place where somebody pressed. */
export interface Note {
  readonly tone: "done" | "stale" | "bad";
  readonly text: string;
}

/** What keeps a host from sleeping, told by entries; it stays until somebody says that it was seen. */
export interface Trouble {
  readonly type: "order.unfulfilled" | "refund.failed" | "payment.mismatch" | "payment.duplicate";
  readonly order: OrderId;
}

/** An order as the list shows it. */
export interface ListedOrder {
  readonly order: Order;
  /** The money came after the hold had ended. */
  readonly late: boolean;
}

/** Parts that are read over HTTP. */
export type Part = "sales" | "orders" | "actions" | "timeline" | "waiting" | "pin";

/** What the refusal of a late press says of what happened instead. */
interface Ended extends Problem {
  readonly reason?: EndReason;
  /** Who did it by hand. */
  readonly by?: string;
}

/** Refusals of whoever pressed on something that had changed or ended. */
const SOMEBODY_WAS_FIRST: ReadonlySet<string> = new Set([
  "version_conflict",
  "sale_ended",
  "poll_closed",
  "refund_too_large",
]);

export const worksAtDesk = (role: Role): boolean => ["host", "moderator", "analyst", "service"].includes(role);

/** What charts show, and the minute before it. */
const WINDOW_MS = 31 * 60_000;
/** So far back seconds are known one by one: the minute that GMV is said for, and steps that still grow. */
const SECONDS_MS = 90_000;
export const STEP_MS = 10_000;
const SECOND_MS = 1_000;
/** News may change what is so many steps old. */
const MINUTE_STEPS = 6;
const ACTIONS_MAX = 100;
const ORDERS_MAX = 200;
const WAITING_MS = 5_000;
/** A note that something went well leaves after this time; others stay until the next press. */
const DONE_MS = 6_000;
const STALE_MS = 20_000;

/**
 * A show as its desk sees it: the scene and gauges of the socket, what only HTTP says, and the commands. Elements follow its
 * cells; nothing here knows of elements.
 */
export class Desk {
  readonly api: Api;
  readonly show: Show;
  readonly at: ShowApi;
  readonly role = new Cell<Role | null>(null);
  readonly about = new Cell<DeskShow | null>(null);
  /** The pin with the version to name in the next command, also when nothing is pinned. */
  readonly pinned = new Cell<Pinned | null>(null);
  /** Sales with their versions, ended ones too. */
  readonly sales = new Cell<ReadonlyMap<SaleId, DeskSale>>(new Map());
  /** The latest first. */
  readonly orders = new Cell<readonly ListedOrder[]>([]);
  readonly ordersBefore = new Cell(0);
  /** The latest first. */
  readonly actions = new Cell<readonly Action[]>([]);
  /** The last half hour, and a minute more for the first rate of it. Another object whenever something has changed. */
  readonly points = new Cell<Points>(new Points(STEP_MS));
  readonly gmvPerMinute = new Cell(0);
  readonly waiting = new Cell<Waiting>({ units: 0, holds: [] });
  readonly troubles = new Cell<readonly Trouble[]>([]);
  readonly unread = new Cell<ReadonlySet<Part>>(new Set());
  /** What has been read at least once: of the rest nobody can say that there is none. */
  readonly hasRead = new Cell<ReadonlySet<Part>>(new Set());
  readonly notes = new Cell<ReadonlyMap<string, Note>>(new Map());
  readonly busy = new Cell<ReadonlySet<string>>(new Set());
  readonly lastPoll = new Cell<{
    readonly question: string;
    readonly choices: readonly string[];
    readonly result: PollResult;
  } | null>(null);
  /** The product of the line-up that keys and forms mean. */
  readonly chosen = new Cell<ProductId | null>(null);
  /** Is said aloud. */
  readonly voice = new Cell("");

  /** What ids of things that have left the stage were called, for the log. */
  readonly #names = new Map<string, string>();
  /** The caps that a sale has had, as far as we have heard of them; the latest last. */
  readonly #caps = new Map<SaleId, readonly { readonly at: number; readonly cap: number }[]>();
  readonly #overlays: OverlayNames;
  readonly #readings: Readonly<Record<Part, Reading>>;
  readonly #orders = new Map<OrderId, ListedOrder>();
  #timeline: Timeline | null = null;
  #ordersFrom: string | undefined;
  #nextPin: (() => Promise<void>) | null = null;
  readonly #unsubscribe: Unsubscribe[];
  readonly #timers = new Set<ReturnType<typeof setTimeout>>();
  #isClosed = false;

  constructor(api: Api, showId: ShowId) {
    this.api = api;
    this.at = api.at(showId);
    this.#overlays = new OverlayNames(showId);
    this.show = connect({ server: api.server, showId, token: api.token });
    const reading = (part: Part, soonMs: number, read: () => Promise<void>) => {
      const first = async () => {
        await read();
        if (!this.hasRead.get().has(part)) this.hasRead.set(new Set([...this.hasRead.get(), part]));
      };
      return new Reading(soonMs, first, (hasFailed) => {
        if (this.unread.get().has(part) === hasFailed) return;
        const unread = new Set(this.unread.get());
        if (hasFailed) unread.add(part);
        else unread.delete(part);
        this.unread.set(unread);
      });
    };
    this.#readings = {
      pin: reading("pin", 0, () => this.#readPin()),
      sales: reading("sales", 60, () => this.#readSales()),
      orders: reading("orders", 200, () => this.#readOrders()),
      actions: reading("actions", 250, () => this.#readActions()),
      timeline: reading("timeline", 1_000, () => this.#readTimeline()),
      waiting: reading("waiting", WAITING_MS, () => this.#readWaiting()),
    };
    this.#unsubscribe = [
      this.show.connection.subscribe((state) => this.#connected(state)),
      this.show.onEntry((entry) => this.#heard(entry)),
      this.show.gauge("action").subscribe((action) => this.#acted(action)),
      this.show.scene.subscribe((scene) => {
        if (scene === null) return;
        this.#remember(scene);
        if (this.chosen.get() === null) this.chosen.set(scene.pin?.product.product_id ?? listed(scene)[0] ?? null);
      }),
    ];
  }

  get canSell(): boolean {
    return this.role.get() === "host" || this.role.get() === "service";
  }

  get canStage(): boolean {
    return this.canSell || this.role.get() === "moderator";
  }

  get isLive(): boolean {
    return this.show.scene.get()?.show.state === "live";
  }

  get currency(): string {
    return this.about.get()?.currency ?? "EUR";
  }

  now = (): number => this.show.serverNow();

  close(): void {
    this.#isClosed = true;
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    for (const reading of Object.values(this.#readings)) reading.stop();
    for (const timer of this.#timers) clearTimeout(timer);
    this.show.close();
  }

  // ---- Commands ------------------------------------------------------------------------------------------------------

  /**
   * Does what somebody asked for at a place, and says there what came of it. `stale` says what happened instead when somebody
   * else was first; null means that all is as it was wanted.
   */
  async run<T>(
    place: string,
    command: () => Promise<T>,
    { done, stale }: { done?: (result: T) => string; stale?: (problem: Problem) => Promise<string | null> } = {},
  ): Promise<boolean> {
    if (this.busy.get().has(place)) return false;
    this.#busy(place, true);
    // What was said about things that have left the stage has no place of its own any more, and has been seen by now.
    for (const it of [place, ...this.homeless().map(([gone]) => gone)]) this.note(it, null);
    try {
      const result = await command();
      if (done !== undefined) this.note(place, { tone: "done", text: done(result) });
      return true;
    } catch (error) {
      return await this.#failed(place, error, stale);
    } finally {
      this.#busy(place, false);
    }
  }

  async #failed(
    place: string,
    error: unknown,
    stale: ((problem: Problem) => Promise<string | null>) | undefined,
  ): Promise<boolean> {
    if (error instanceof RefusedError && SOMEBODY_WAS_FIRST.has(error.problem.code) && stale !== undefined) {
      const text = await stale(error.problem).catch(() => error.problem.detail);
      if (text !== null) this.note(place, { tone: "stale", text });
      return text === null;
    }
    const text =
      error instanceof RefusedError
        ? error.problem.detail
        : error instanceof UnansweredError
          ? texts.said.unanswered
          : texts.said.network;
    this.note(place, { tone: "bad", text });
    return false;
  }

  /** What was said at places that are not on the page any more, because their thing has left the stage. */
  homeless(): readonly (readonly [place: string, note: Note])[] {
    const scene = this.show.scene.get();
    const stands: Readonly<Record<string, object>> = {
      sale: scene?.sales ?? {},
      poll: scene?.polls ?? {},
      timer: scene?.timers ?? {},
      banner: scene?.banners ?? {},
    };
    return [...this.notes.get()].filter(([place]) => {
      const [kind = "", id = ""] = place.split(":");
      const all = stands[kind];
      return all !== undefined && !(id in all);
    });
  }

  note(place: string, note: Note | null): void {
    if (note === null && !this.notes.get().has(place)) return;
    const notes = new Map(this.notes.get());
    if (note === null) notes.delete(place);
    else notes.set(place, note);
    this.notes.set(notes);
    if (note === null) return;
    this.say(note.text);
    // What went wrong stays until it is tried again; what has happened becomes old.
    if (note.tone !== "bad") {
      this.#later(note.tone === "done" ? DONE_MS : STALE_MS, () => {
        if (this.notes.get().get(place) === note) this.note(place, null);
      });
    }
  }

  say(text: string): void {
    this.voice.set(text);
  }

  /** Pins a product, or takes it off when it is the pinned one. `seen` is the pin that was on screen when the key was pressed. */
  async togglePin(product: ProductId): Promise<void> {
    const seen = this.pinned.get();
    if (!this.canStage || !this.isLive || seen === null) return;
    if (this.#waits(() => this.togglePin(product))) return;
    if (seen.pin?.product.product_id === product) return this.unpin();
    await this.#move(product, () => this.at.pin(product, seen.version));
  }

  async unpin(): Promise<void> {
    const seen = this.pinned.get();
    if (!this.canStage || !this.isLive || seen === null || this.#waits(() => this.unpin()) || seen.pin === null) return;
    await this.#move(null, () => this.at.unpin(seen.version));
  }

  /** A press while an earlier one is on its way is not lost: the latest of them comes next. */
  #waits(press: () => Promise<void>): boolean {
    const isBusy = this.busy.get().has("pin");
    if (isBusy) this.#nextPin = press;
    return isBusy;
  }

  async #move(wanted: ProductId | null, command: () => Promise<Pinned>): Promise<void> {
    const isDone = await this.run("pin", async () => this.#pinIs(await command()), {
      stale: () => this.#stalePin(wanted),
    });
    const next = this.#nextPin;
    this.#nextPin = null;
    // What was pressed before somebody could see what happened instead is not meant any more.
    if (isDone && next !== null) await next();
  }

  async endSale(sale: SaleId): Promise<void> {
    const seen = this.sales.get().get(sale);
    await this.run(`sale:${sale}`, async () => this.#saleIs(await this.at.endSale(sale, seen?.version)), {
      stale: (problem) => this.#staleSale(sale, seen, problem),
    });
  }

  async closePoll(poll: PollId): Promise<void> {
    await this.run(`poll:${poll}`, () => this.at.closePoll(poll), {
      stale: (problem) => this.#stalePoll(poll, problem),
    });
  }

  async hideBanner({ overlay_id, version }: Banner): Promise<void> {
    await this.run(`banner:${overlay_id}`, () => this.at.hideBanner(overlay_id, version), {
      stale: (problem) => this.#staleBanner(overlay_id, problem),
    });
  }

  async extendTimer(timer: Timer, byMs: number): Promise<void> {
    await this.#changeTimer(timer, () => this.at.extendTimer(timer.overlay_id, byMs, timer.version));
  }

  async stopTimer(timer: Timer): Promise<void> {
    await this.#changeTimer(timer, () => this.at.stopTimer(timer.overlay_id, timer.version));
  }

  async #changeTimer(timer: Timer, command: () => Promise<unknown>): Promise<void> {
    await this.run(`timer:${timer.overlay_id}`, command, { stale: (problem) => this.#staleTimer(timer, problem) });
  }

  /** Sends money back; says whether it is on its way. */
  async refund(order: Order, minor: number, restock: boolean): Promise<boolean> {
    const { order_id } = order;
    // What the button said, and nothing else, also where that was all and somebody has refunded a part meanwhile.
    return this.run(`order:${order_id}`, () => this.api.refund(order_id, { amount_minor: minor, restock }), {
      done: (refund) => texts.orders.sent(money(refund.amount_minor, refund.currency)),
      stale: (problem) => this.#staleRefund(order, problem),
    });
  }

  /** Ends what runs and leaves nothing for sale, whatever anybody changed meanwhile: therefore without versions. */
  async stopAll(): Promise<void> {
    const scene = this.show.scene.get();
    if (!this.canSell || scene === null) return;
    const sales = Object.keys(scene.sales) as SaleId[];
    await this.run(
      "red",
      async () => {
        const asked = [
          ...sales.map((it) => this.#endIfItRuns(it)),
          this.at.unpin().then((it) => this.#pinIs(it)),
        ];
        const failed = (await Promise.allSettled(asked)).find((it) => it.status === "rejected");
        await this.#takeUnitsAway();
        if (failed !== undefined) throw failed.reason;
        return sales.length;
      },
      { done: (ended) => (ended === 0 ? texts.red.nothing : texts.red.done(ended)) },
    );
  }

  async #endIfItRuns(sale: SaleId): Promise<void> {
    try {
      this.#saleIs(await this.at.endSale(sale));
    } catch (error) {
      // Somebody was first, or its time: it is over, as it was wanted.
      if (!(error instanceof RefusedError && error.problem.code === "sale_ended")) throw error;
    }
  }

  /** Units that nobody holds leave the show; buyers may take some between our look and our command, so it looks again. */
  async #takeUnitsAway(): Promise<void> {
    let failed: PromiseSettledResult<unknown> | undefined;
    for (let round = 0; round < 5; round += 1) {
      const left = (await this.at.lineup()).filter((it) => it.left > 0);
      if (left.length === 0) return;
      const asked = left.map((it) => this.at.list(it.product_id, it.held + it.sold, it.position));
      failed = (await Promise.allSettled(asked)).find((it) => it.status === "rejected");
    }
    if (failed?.status === "rejected") throw failed.reason;
  }

  seen(trouble: Trouble["type"]): void {
    this.troubles.set(this.troubles.get().filter((it) => it.type !== trouble));
  }

  async free(hold: Waiting["holds"][number]): Promise<void> {
    await this.run(`hold:${hold.hold_id}`, () => this.api.free(hold.hold_id));
    this.#readings.waiting.want(0);
  }

  // ---- Words ---------------------------------------------------------------------------------------------------------

  /** What an action was about, in words; `at` where its moment is known. */
  whatOf({ what, at }: { readonly what: string; readonly at?: number }): string {
    const set = capSet(what);
    if (set === null) return this.#named(what);
    const before = at === undefined ? undefined : this.#capBefore(set.sale, at);
    return texts.log.cap(isolated(this.#named(set.sale)), before === undefined ? null : count(before), count(set.cap));
  }

  /** From the sale, if we were there; else from who changed it before. */
  #capBefore(sale: SaleId, at: number): number | undefined {
    const heard = (this.#caps.get(sale) ?? []).filter((it) => it.at < at).at(-1)?.cap;
    const done = this.actions.get().find((it) => it.at < at && capSet(it.what)?.sale === sale);
    return heard ?? (done === undefined ? undefined : capSet(done.what)?.cap);
  }

  #named(what: string): string {
    return what.replace(
      /^(?:sal|ovl|pol|ord|hld|shw)_[0-9a-f]+/,
      (id) => this.#names.get(id) ?? this.#overlays.nameOf(id) ?? this.#saleNamed(id) ?? texts.log.unnamed[id.slice(0, 3)] ?? "",
    );
  }

  /** One that has left the stage is known by what it sold. */
  #saleNamed(id: string): string | undefined {
    const sale = this.sales.get().get(id as SaleId);
    return sale === undefined ? undefined : this.show.scene.get()?.lineup[sale.product_id]?.product.title;
  }

  nameOf(product: ProductId): string {
    return this.#names.get(product) ?? texts.orders.aProduct;
  }

  // ---- What we hear --------------------------------------------------------------------------------------------------

  #connected(state: ConnectionState): void {
    if (state.status !== "open") return;
    this.role.set(state.role);
    if (!worksAtDesk(state.role)) return;
    // Entries may have been missed: the snapshot does not say what the desk alone hears.
    this.#readings.pin.want();
    this.#readings.sales.want();
    this.#readings.actions.want();
    this.#readings.orders.want(0);
    this.#readings.timeline.want(0);
    this.#readings.waiting.want(0);
    void this.at.read().then(
      (it) => this.about.set(it),
      () => this.#later(2_000, () => this.#connected(state)),
    );
  }

  #heard(entry: Entry): void {
    switch (entry.type) {
      case "pin.set":
        return this.#pinIs({ version: entry.data.version, pin: entry.data, in_lineup: null });
      case "pin.cleared":
        return this.#pinIs({ version: entry.data.version, pin: null, in_lineup: null });
      case "show.started":
        return this.#readings.timeline.want(0);
      case "poll.opened":
        return this.lastPoll.set(null);
      case "poll.closed":
        return this.#pollClosed(entry.data);
      case "sale.armed":
      case "sale.started":
      case "sale.changed":
        this.#capIs(entry.data.sale_id, entry.at, entry.data.cap);
        return this.#readings.sales.want();
      case "sale.ended":
      case "sale.sold_out":
      case "sale.restocked":
        return this.#readings.sales.want();
      case "order.paid":
        return this.#paid(entry);
      case "order.refunded":
        return this.#look(entry.data.order_id);
      case "order.unfulfilled":
      case "refund.failed":
      case "payment.mismatch":
      case "payment.duplicate":
        this.troubles.set([...this.troubles.get(), { type: entry.type, order: entry.data.order_id }]);
        return this.#look(entry.data.order_id);
    }
  }

  #acted(action: LatestAction | undefined): void {
    if (action === undefined) return;
    this.#readings.actions.want();
    if (action.action === "video.set")
      void this.at.read().then(
        (it) => this.about.set(it),
        () => {},
      );
  }

  #remember(scene: Scene): void {
    for (const { product } of Object.values(scene.lineup)) this.#names.set(product.product_id, fullName(product));
    if (scene.pin !== null) this.#names.set(scene.pin.product.product_id, fullName(scene.pin.product));
    for (const sale of Object.values(scene.sales)) {
      this.#names.set(sale.sale_id, sale.product.title);
      // A snapshot tells of no moment: what it shows is so by now.
      if (this.#caps.get(sale.sale_id)?.at(-1)?.cap !== sale.cap) this.#capIs(sale.sale_id, this.now(), sale.cap);
    }
    for (const it of Object.values(scene.banners)) this.#overlays.know(it.overlay_id, it.text);
    for (const it of Object.values(scene.timers)) this.#overlays.know(it.overlay_id, it.label);
    for (const [id, it] of Object.entries(scene.polls)) {
      this.#names.set(id, it.question);
      this.#polls.set(it.poll_id, it);
    }
  }

  #capIs(sale: SaleId, at: number, cap: number): void {
    this.#caps.set(sale, [...(this.#caps.get(sale) ?? []).filter((it) => it.at < at), { at, cap }]);
  }

  readonly #polls = new Map<PollId, { readonly question: string; readonly choices: readonly string[] }>();

  #pollClosed(result: PollResult): void {
    const poll = this.#polls.get(result.poll_id);
    if (poll !== undefined) this.lastPoll.set({ ...poll, result });
  }

  /** The greatest version is the latest. */
  #pinIs(pinned: Pinned): void {
    const known = this.pinned.get();
    if (known === null || pinned.version > known.version) this.pinned.set(pinned);
    else if (pinned.version === known.version && pinned.in_lineup !== null) this.pinned.set(pinned);
  }

  #saleIs(sale: DeskSale): void {
    const known = this.sales.get().get(sale.sale_id);
    if (known !== undefined && known.version > sale.version) return;
    this.sales.set(new Map([...this.sales.get(), [sale.sale_id, sale]]));
  }

  async #stalePin(wanted: ProductId | null): Promise<string | null> {
    const [pinned, by] = await Promise.all([this.at.pinned(), this.#who((it) => it.action.startsWith("pin."))]);
    this.#pinIs(pinned);
    const product = pinned.pin?.product;
    // Ours went through and its answer was lost, or two of us wanted the same.
    if ((product?.product_id ?? null) === wanted) return null;
    return product === undefined ? texts.said.stale.unpinned(by) : texts.said.stale.pinned(isolated(product.title), by);
  }

  async #staleSale(id: SaleId, seen: DeskSale | undefined, problem: Ended): Promise<string | null> {
    if (problem.code === "sale_ended") {
      this.#readings.sales.want(0);
      if (problem.reason === "by_time") return texts.said.stale.saleOver;
      return texts.said.stale.saleEnded(problem.by === undefined ? "" : texts.said.stale.by(isolated(problem.by)));
    }
    const [sales, by] = await Promise.all([this.at.sales(), this.#who((it) => it.action.startsWith("sale."))]);
    const sale = sales.find((it) => it.sale_id === id);
    for (const it of sales) this.#saleIs(it);
    if (sale === undefined || sale.state === "ended") return texts.said.stale.saleEnded(by);
    if (seen?.state === "armed" && sale.state === "running") return texts.said.stale.saleStarted;
    return texts.said.stale.saleChanged(count(sale.cap), by);
  }

  async #stalePoll(id: PollId, { reason }: Ended): Promise<string> {
    if (reason === "by_time") return texts.said.stale.pollOver;
    return texts.said.stale.pollClosed(await this.#who((it) => it.action === "poll.close" && it.what === id));
  }

  async #staleBanner(id: OverlayId, { detail }: Problem): Promise<string> {
    const by = await this.#who((it) => it.action === "banner.hide" && it.what === id);
    // Nobody hid it: the server says how it ended.
    return by === "" ? detail : texts.said.stale.bannerHidden(by);
  }

  async #staleTimer({ overlay_id, label }: Timer, { detail }: Problem): Promise<string> {
    const isThere = (await this.at.timers()).some((it) => it.overlay_id === overlay_id);
    if (isThere)
      return texts.said.stale.timerExtended(await this.#who((it) => it.action === "timer.extend" && it.what === label));
    const by = await this.#who((it) => it.action === "timer.stop" && it.what === overlay_id);
    return by === "" ? detail : texts.said.stale.timerStopped(by);
  }

  async #staleRefund(seen: Order, { left_minor = 0 }: Problem): Promise<string> {
    const { order_id, amount_minor, refunded_minor, currency } = seen;
    this.#look(order_id);
    const by = await this.#who((it) => it.action === "order.refund" && it.what === order_id);
    if (left_minor === 0) return texts.said.stale.allRefunded(by);
    const meanwhile = money(amount_minor - refunded_minor - left_minor, currency);
    return texts.said.stale.refunded(meanwhile, by, money(left_minor, currency));
  }

  /** " by ben": who did the latest of such actions. */
  async #who(isOne: (action: Action) => boolean): Promise<string> {
    const { items } = await this.at.actions(20);
    const by = items.find(isOne)?.by;
    return by === undefined ? "" : texts.said.stale.by(isolated(by));
  }

  // ---- What we read --------------------------------------------------------------------------------------------------

  /** After a pause: another backup may count from a lower version again, so only what was heard meanwhile is newer. */
  async #readPin(): Promise<void> {
    const before = this.pinned.get();
    const pinned = await this.at.pinned();
    if (this.pinned.get() === before) this.pinned.set(pinned);
    else this.#pinIs(pinned);
  }

  async #readSales(): Promise<void> {
    this.sales.set(new Map((await this.at.sales()).map((it) => [it.sale_id, it])));
  }

  async #readActions(): Promise<void> {
    const { items } = await this.at.actions(ACTIONS_MAX);
    if (items.some(({ what }) => what.startsWith("pol_") && !this.#names.has(what)))
      for (const poll of await this.at.polls()) this.#names.set(poll.poll_id, poll.question);
    this.actions.set(items);
  }

  async #readWaiting(): Promise<void> {
    const waiting = await this.at.waiting();
    if (waiting.units > 0 || this.waiting.get().units > 0) this.waiting.set(waiting);
    this.#readings.waiting.want();
  }

  async #readTimeline(): Promise<void> {
    const ask = (stepMs: number) => (from: number) => this.at.timeline(from, stepMs);
    const now = this.now();
    const since = (ms: number) => Math.max(0, Math.floor((now - ms) / STEP_MS) * STEP_MS);
    if (this.#timeline === null) {
      const [steps, seconds] = await Promise.all([
        whole(ask(STEP_MS), since(WINDOW_MS)),
        whole(ask(SECOND_MS), since(SECONDS_MS)),
      ]);
      this.#timeline = new Timeline(steps, seconds);
    } else {
      const isEmpty = this.#timeline.whole.last === undefined;
      this.#timeline.take(await whole(ask(SECOND_MS), isEmpty ? since(SECONDS_MS) : this.#timeline.newsFrom));
    }
    this.gmvPerMinute.set(gmvPerMinute(this.#timeline, this.now()));
    this.#timeline.whole.forgetBefore(since(WINDOW_MS));
    const points = this.#timeline.whole.all;
    if (JSON.stringify(points.slice(-MINUTE_STEPS)) !== JSON.stringify(this.points.get().all.slice(-MINUTE_STEPS)))
      this.points.set(new Points(STEP_MS, points));
    if (this.isLive) this.#readings.timeline.want();
  }

  /** The list begins with the oldest, so all of it is read once, and later from the last page on. */
  async #readOrders(): Promise<void> {
    for (let cursor = this.#ordersFrom; ;) {
      const { items, next_cursor } = await this.at.orders(cursor);
      for (const order of items)
        this.#orders.set(order.order_id, { order, late: this.#orders.get(order.order_id)?.late ?? false });
      if (next_cursor === undefined) break;
      cursor = next_cursor;
      this.#ordersFrom = next_cursor;
    }
    this.#tellOrders();
  }

  #paid({ at, data }: Entry<"order.paid">): void {
    const known = this.#orders.get(data.order_id)?.order;
    const lines = data.lines.map((it) => ({ ...it, returned: 0 }));
    const { order_id, hold_id, buyer, amount_minor, currency, test } = data;
    const payment = {
      payment_id: "pay_",
      state: "succeeded",
      intent_id: null,
      client_secret: null,
      provider_url: "",
      deadline: null,
      line: null,
    } as const;
    const order: Order = {
      show_id: this.show.id as ShowId,
      payment,
      created_at: at,
      ...known,
      order_id,
      hold_id,
      buyer,
      state: "paid",
      lines,
      amount_minor,
      currency,
      refunded_minor: known?.refunded_minor ?? 0,
      paid_at: at,
      test,
    };
    this.#orders.set(order_id, { order, late: data.late });
    this.#tellOrders();
  }

  /** What an entry says too little of. */
  #look(id: OrderId): void {
    void this.api.order(id).then(
      (order) => {
        this.#orders.set(id, { order, late: this.#orders.get(id)?.late ?? false });
        this.#tellOrders();
      },
      () => this.#readings.orders.want(2_000),
    );
  }

  #telling = false;

  /** At most once in a frame: orders come in bursts. */
  #tellOrders(): void {
    if (this.#telling) return;
    this.#telling = true;
    this.#later(50, () => {
      this.#telling = false;
      for (const { order } of this.#orders.values())
        for (const id of [order.order_id, order.hold_id]) this.#names.set(id, order.buyer);
      const all = [...this.#orders.values()].filter(
        ({ order }) => order.state === "paid" || order.state === "unfulfilled",
      );
      all.sort(
        (one, other) => (other.order.paid_at ?? other.order.created_at) - (one.order.paid_at ?? one.order.created_at),
      );
      this.orders.set(all.slice(0, ORDERS_MAX));
      this.ordersBefore.set(Math.max(0, all.length - ORDERS_MAX));
    });
  }

  #busy(place: string, isBusy: boolean): void {
    const busy = new Set(this.busy.get());
    if (isBusy) busy.add(place);
    else busy.delete(place);
    this.busy.set(busy);
  }

  #later(ms: number, run: () => void): void {
    if (this.#isClosed) return;
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      run();
    }, ms);
    this.#timers.add(timer);
  }
}

/** A sale's new cap comes as "sal_…: 12". */
function capSet(what: string): { readonly sale: SaleId; readonly cap: number } | null {
  const [, sale, cap] = /^(sal_[0-9a-f]+): (\d+)$/.exec(what) ?? [];
  return sale === undefined ? null : { sale: sale as SaleId, cap: Number(cap) };
}

/** The line-up in its order. */
export function listed(scene: Scene): ProductId[] {
  const entries = Object.entries(scene.lineup) as [ProductId, Scene["lineup"][ProductId]][];
  return entries
    .sort(([one, a], [other, b]) => (a?.position ?? 0) - (b?.position ?? 0) || (one < other ? -1 : 1))
    .map(([id]) => id);
}

export function fullName({ title, variant }: { readonly title: string; readonly variant: string | null }): string {
  return variant === null ? title : `${title}, ${variant}`;
}

/** The sale of a product that has not ended; there is one at most. */
export function saleOf(scene: Scene | null, product: ProductId): Sale | null {
  return Object.values(scene?.sales ?? {}).find((it) => it.product.product_id === product) ?? null;
}

/** All units of a product in this show. */
export const allOf = ({ left, in_checkout, sold }: Units): number => left + in_checkout + sold;

export type { OverlayId };
