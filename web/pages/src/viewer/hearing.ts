import type { Pin, Poll, PollId, PollResult, SaleId, Scene, Show, Unsubscribe } from "@showcart/sdk";
import { isolated } from "../design/bidi.js";
import { money, secondsLeft } from "../design/format.js";
import { texts } from "../texts/en.js";
import type { Announcer } from "./announcer.js";
import type { Buying } from "./buying.js";
import { nameOf, saleOf } from "./offer.js";
import { verdict } from "./poll.js";
import type { Closed } from "./stage.js";

/** Between two looks at the countdowns. */
const LOOK_MS = 250;

/** What the page wants to know of what was heard; what is said aloud is not its business. */
export interface HearingListener {
  scene(scene: Scene | null, isFirst: boolean): void;
  viewers(viewers: number | undefined): void;
  entered(pin: Pin): void;
  /** Something to be seen and heard for a moment. */
  notify(text: string): void;
  /** A poll has ended; null when another one has begun. */
  result(closed: Closed | null): void;
}

/** What of a show is subscribed to, and what of it is said aloud. */
export class Hearing {
  readonly #show: Show;
  readonly #buying: Buying;
  readonly #announcer: Announcer;
  readonly #listener: HearingListener;
  readonly #unsubscribe: Unsubscribe[];
  readonly #look: ReturnType<typeof setInterval>;
  #scene: Scene | null = null;
  /** Polls as they were when they were open: the result names them only. */
  readonly #polls = new Map<PollId, Poll>();

  constructor(show: Show, buying: Buying, announcer: Announcer, listener: HearingListener) {
    this.#show = show;
    this.#buying = buying;
    this.#announcer = announcer;
    this.#listener = listener;
    const say = (text: string) => announcer.say(text);
    const productOf = (saleId: SaleId) => this.#scene?.sales[saleId]?.product;
    this.#unsubscribe = [
      show.gauge("viewers").subscribe((viewers) => listener.viewers(viewers)),
      show.scene.subscribe((scene) => this.#changed(scene)),
      show.on("pin.set", ({ data }) => {
        listener.entered(data);
        const { product } = data;
        const price = saleOf(this.#scene, product.product_id)?.price_minor ?? product.price_minor;
        say(texts.offer.spokenPin(nameOf(product), money(price, product.currency)));
      }),
      show.on("sale.started", ({ data }) =>
        say(texts.offer.spokenSale(nameOf(data.product), money(data.price_minor, data.currency))),
      ),
      show.on("sale.sold_out", ({ data }) => {
        const product = productOf(data.sale_id);
        if (product !== undefined) say(texts.offer.spokenSoldOut(nameOf(product)));
      }),
      show.on("sale.restocked", ({ data }) => {
        const product = productOf(data.sale_id);
        if (product !== undefined) listener.notify(texts.offer.restocked(nameOf(product)));
      }),
      show.on("poll.opened", ({ data }) => {
        listener.result(null);
        say(texts.poll.opened(isolated(data.question)));
      }),
      show.on("banner.shown", ({ data }) => say(isolated(data.text))),
      show.on("poll.closed", ({ data }) => this.#pollClosed(data)),
    ];
    this.#look = setInterval(() => this.#announceCountdowns(), LOOK_MS);
  }

  stop(): void {
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    clearInterval(this.#look);
    this.#announcer.stop();
  }

  #changed(scene: Scene | null): void {
    const before = this.#scene;
    this.#scene = scene;
    this.#listener.scene(scene, before === null && scene !== null);
    if (before !== null && scene !== null) this.#forget(before, scene);
  }

  /** What an offer says is about a sale as it was. */
  #forget(before: Scene, now: Scene): void {
    for (const poll of Object.values(now.polls)) this.#polls.set(poll.poll_id, poll);
    if (before.sales === now.sales) return;
    for (const [id, sale] of Object.entries(before.sales))
      if (now.sales[sale.sale_id] !== sale) this.#buying.forget(id);
  }

  #pollClosed(result: PollResult): void {
    const poll = this.#polls.get(result.poll_id);
    if (poll === undefined) return;
    this.#listener.result({ poll, result });
    this.#announcer.say(texts.poll.result(isolated(poll.question), verdict(poll, result)));
  }

  #announceCountdowns(): void {
    const scene = this.#scene;
    if (scene === null) return;
    const now = this.#show.serverNow();
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
      ...this.#buying.open.flatMap((it) => one(it.holdId, it.until, reservation)),
    ]);
  }
}
