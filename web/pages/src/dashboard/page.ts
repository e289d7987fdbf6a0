import { html, nothing, render, type TemplateResult } from "lit";
import { isolated } from "../design/bidi.js";
import { count, percent } from "../design/format.js";
import { texts } from "../texts/dashboard.en.js";
import { claimsOf } from "../design/claims.js";
import { read, THEME, write } from "../design/kept.js";
import { type Access, access, keep } from "./access.js";
import { acts, happened, lasted, running, type Stage } from "./acts.js";
import { Api, type Listed, type Poll, Refused, type Sale, type Show } from "./api.js";
import { Books } from "./books.js";
import { CHARTS, Charts, exactTime, type Frame, insets, type Palette, paper, stepText, timeOfDay } from "./charts.js";
import { pointsCsv } from "./csv.js";
import { door } from "./door.js";
import { amount, roundAmount } from "../design/money.js";
import { lane } from "./stage.js";
import { happenedTable, pointsTable, salesTable } from "./tables.js";
import { columns, figures, inSteps, type Points, stepFor, Timeline } from "./timeline.js";

const SECOND = 1_000;
/** A node writes a second down when it is over; asking a little more often than that, a change is drawn within two. */
const TICK_MS = 800;
const MINUTE = 60_000;
const RECENT_MS = 5 * MINUTE;
/** A show that is younger has its time still to come: an axis that ended now would grow under the curves with every second. */
const LIVE_SPAN_MS = 5 * MINUTE;
const ZOOM_MIN_MS = 20 * SECOND;
/** How often what is not on the time line is read again, in ticks. */
const BOOKS_TICKS = 5;
/** So many ticks are less than two seconds. */
const STAGE_TICKS = 2;
/** Payments may come in after the end: so long the report looks for them. */
const LATE_MS = 15 * MINUTE;
const RETRY_MAX_MS = 10_000;
const NARROW_PX = 720;
const PRINT = { width: 868, height: 76, isNarrow: false, scale: 2.5 };

type Range = "recent" | "whole" | { readonly from: number; readonly to: number };

/** What is known of the show that is looked at. */
interface Known {
  show: Show;
  timeline: Timeline;
  sales: readonly Sale[];
  polls: readonly Poll[];
  lineup: readonly Listed[];
  books: Books;
  now: number;
}

/** The page: asks for news each second while somebody looks, and draws when there are some. */
export class Dashboard {
  readonly #root: HTMLElement;
  #api: Api | null = null;
  #access: Access | null = null;
  #shows: readonly Show[] = [];
  #known: Known | null = null;
  #range: Range = "whole";
  #isPaused = false;
  #isAway = false;
  #hasTable = false;
  #isPrinting = false;
  #cursor: number | null = null;
  #frame: Frame | null = null;
  /** All that decides about what the charts look like, as they were drawn the last time. */
  #look = "";
  #charts: Charts | null = null;
  readonly #size = new ResizeObserver(() => {
    if (!this.#isPrinting) this.#draw();
  });
  #timer: ReturnType<typeof setTimeout> | undefined;
  #ticks = 0;
  #failures = 0;
  #lastAnswer = "";
  /** Each show that is opened; answers to questions of an earlier one are let go. */
  #visit = 0;
  /** Whose news are being asked for: an answer for a show that was left keeps nobody waiting. */
  #asking: number | null = null;

  constructor(root: HTMLElement) {
    this.#root = root;
    const theme = read("localStorage", THEME);
    if (theme === "light" || theme === "dark") document.documentElement.dataset["theme"] = theme;
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") this.#askSoon(0);
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
    const onPaper = matchMedia("print");
    const print = (isPrinting: boolean) => () => {
      this.#isPrinting = isPrinting;
      this.#draw();
    };
    addEventListener("beforeprint", print(true));
    addEventListener("afterprint", print(false));
    onPaper.addEventListener("change", () => print(onPaper.matches)());
  }

  open(): void {
    const found = access();
    if (found === null) this.#ask(null);
    else void this.#enter(found);
  }

  #ask(said: string | null): void {
    this.#stop();
    document.title = texts.title;
    render(door(said, (it) => void this.#enter(it)), this.#root);
  }

  #stop(): void {
    this.#visit += 1;
    clearTimeout(this.#timer);
    this.#size.disconnect();
    this.#charts?.clear();
    this.#charts = null;
    this.#known = null;
    this.#frame = null;
    this.#look = "";
  }

  async #enter(given: Access): Promise<void> {
    this.#access = given;
    this.#api = new Api(given.token);
    this.#shows = [];
    const own = claimsOf(given.token).show;
    try {
      if (own === null) this.#shows = await this.#api.shows();
    } catch (error) {
      // Analysts and moderators may not list shows; one that they name is theirs to see.
      if (!(error instanceof Refused && error.status === 403)) return this.#failed(error, () => void this.#enter(given));
    }
    const show = given.show ?? own ?? (this.#shows.find((it) => it.state === "live") ?? this.#shows[0])?.show_id;
    if (show === undefined) return this.#ask(this.#shows.length === 0 && own === null ? texts.door.wrongShow : texts.door.none);
    await this.#watch(show);
  }

  /** What to do about an error that ends what was tried. */
  #failed(error: unknown, again: () => void): void {
    if (error instanceof Refused && !error.isPassing) {
      if (error.status === 401) keep(null);
      this.#ask(error.status === 401 ? texts.door.expired : error.message);
      return;
    }
    this.#failures += 1;
    this.#setAway(true);
    this.#timer = setTimeout(again, Math.min(RETRY_MAX_MS, SECOND * 2 ** (this.#failures - 1)));
  }

  #setAway(isAway: boolean): void {
    if (!isAway) this.#failures = 0;
    if (this.#isAway === isAway) return;
    this.#isAway = isAway;
    if (this.#known !== null) this.#renderHead();
    else if (isAway) render(html`<main class="entrance"><p role="status">${texts.away}</p></main>`, this.#root);
  }

  async #watch(showId: string): Promise<void> {
    this.#stop();
    const visit = this.#visit;
    if (this.#access !== null) keep((this.#access = { ...this.#access, show: showId }));
    this.#range = "whole";
    this.#isPaused = false;
    render(html`<main class="entrance"><p role="status">${texts.loading}</p></main>`, this.#root);
    try {
      const known = await this.#load(showId);
      if (visit !== this.#visit) return;
      this.#known = known;
      [this.#isAway, this.#failures] = [false, 0];
    } catch (error) {
      if (visit === this.#visit) this.#failed(error, () => void this.#watch(showId));
      return;
    }
    this.#lastAnswer = "";
    render(this.#skeleton(), this.#root);
    this.#settle();
    this.#draw();
    this.#renderReport();
    try {
      await this.#readBooks();
    } catch (error) {
      if (visit === this.#visit) this.#failed(error, () => void this.#watch(showId));
      return;
    }
    if (visit === this.#visit) this.#askSoon(TICK_MS);
  }

  async #load(showId: string): Promise<Known> {
    const api = this.#api as Api;
    const { body: show, now } = await api.show(showId);
    const begin = show.started_at ?? now;
    const step = stepFor((show.ended_at ?? now) - begin);
    const [whole, recent, sales, polls, lineup] = await Promise.all([
      api.wholeTimeline(showId, 0, step),
      show.state === "ended" ? null : api.wholeTimeline(showId, Math.max(0, Timeline.recentFrom(now, step)), SECOND),
      api.sales(showId),
      api.polls(showId),
      api.lineup(showId),
    ]);
    const books = this.#known?.show.show_id === showId ? this.#known.books : new Books();
    return { show, timeline: new Timeline(whole.body, recent?.body ?? null), sales, polls, lineup, books, now: whole.now };
  }

  #askSoon(inMs: number): void {
    clearTimeout(this.#timer);
    const known = this.#known;
    const isOver = known?.timeline.state === "ended" && known.now - (known.timeline.endedAt ?? 0) > LATE_MS && known.books.isWhole;
    if (known === null || this.#isPaused || isOver || document.visibilityState !== "visible") return;
    this.#timer = setTimeout(() => void this.#tick(), inMs);
  }

  async #tick(): Promise<void> {
    if (this.#asking === this.#visit || this.#known === null || this.#api === null) return;
    const [visit, began] = [this.#visit, performance.now()];
    this.#asking = visit;
    try {
      await this.#news(this.#api, this.#known, visit);
      if (visit === this.#visit) this.#setAway(false);
    } catch (error) {
      if (visit === this.#visit) this.#failed(error, () => void this.#tick());
      return;
    } finally {
      if (this.#asking === visit) this.#asking = null;
    }
    if (visit === this.#visit) this.#askSoon(Math.max(100, TICK_MS - (performance.now() - began)));
  }

  async #news(api: Api, known: Known, visit: number): Promise<void> {
    const { timeline, show } = known;
    this.#ticks += 1;
    const before = timeline.state;
    const answer = await api.wholeTimeline(show.show_id, timeline.newsFrom, SECOND);
    if (visit !== this.#visit) return;
    known.now = answer.now;
    const isSame = answer.text === this.#lastAnswer;
    this.#lastAnswer = answer.text;
    if (timeline.state === "ended" || !isSame) {
      const orders = timeline.recent.last?.orders;
      const isMarked = timeline.take(answer.body);
      if (before !== "ended" && timeline.state !== before) return this.#reload(visit);
      if (timeline.isTooFine) return this.#reload(visit);
      if (isMarked || this.#isStageDue(known)) await this.#readStage(api, known);
      if (visit !== this.#visit) return;
      if (!this.#isPaused && !isSame) this.#draw();
      if (isMarked || timeline.recent.last?.orders !== orders || this.#ticks % BOOKS_TICKS === 0) await this.#readBooks();
    } else {
      // Nobody is there any more: the figures say so, and the charts stay as they are.
      this.#renderHead();
      if (this.#isStageDue(known)) await this.#readStage(api, known);
      if (visit !== this.#visit) return;
      if (this.#ticks % BOOKS_TICKS === 0) await this.#readBooks();
    }
  }

  /** Votes and caps leave no mark: while a poll is open or a sale is on, the stage is read by the clock. */
  #isStageDue({ sales, polls }: Known): boolean {
    const isMoving = polls.some((it) => it.closed_at === null) || sales.some((it) => it.state !== "ended");
    return isMoving && this.#ticks % STAGE_TICKS === 0;
  }

  /** The show has begun or ended, or has become too long for its steps. */
  async #reload(visit: number): Promise<void> {
    const known = await this.#load((this.#known as Known).show.show_id);
    if (visit !== this.#visit) return;
    const isOver = known.timeline.state === "ended";
    if (isOver) this.#range = "whole";
    this.#known = known;
    this.#lastAnswer = "";
    await this.#readBooks();
    this.#draw();
    this.#renderReport();
  }

  async #readStage(api: Api, known: Known): Promise<void> {
    const id = known.show.show_id;
    [known.sales, known.polls, known.lineup] = await Promise.all([api.sales(id), api.polls(id), api.lineup(id)]);
    this.#renderReport();
  }

  async #readBooks(): Promise<void> {
    const [known, visit] = [this.#known, this.#visit];
    if (known === null || this.#api === null) return;
    try {
      const isNew = await known.books.read(this.#api, known.show.show_id);
      if (visit !== this.#visit || !isNew) return;
      if (!this.#isPaused) this.#draw();
      // What stands beside the charts may come from the books although no curve has changed.
      this.#renderRows();
      this.#renderReport();
    } catch (error) {
      if (error instanceof Refused && !error.isPassing) throw error;
      // They are read again soon; the figures come from the time line until then.
      known.books.isWhole = false;
    }
  }

  // ---- What is drawn ----

  #view(known: Known): { from: number; to: number; points: Points } {
    const { timeline } = known;
    const { whole, recent, edge } = timeline;
    const start = timeline.startedAt ?? known.now - MINUTE;
    // To the end of the step that has begun, so that nothing moves until the next one.
    const end = timeline.endedAt ?? Math.ceil(edge / whole.stepMs) * whole.stepMs;
    const least = start + (timeline.state === "live" ? LIVE_SPAN_MS : MINUTE);
    if (this.#range === "whole") return { from: start, to: Math.max(end, least), points: whole };
    if (this.#range === "recent") return { from: edge - RECENT_MS, to: edge, points: recent.last === undefined ? whole : recent };
    const { from, to } = this.#range;
    const first = recent.all[0]?.at ?? Number.POSITIVE_INFINITY;
    return { from, to, points: from - MINUTE >= first ? recent : whole };
  }

  #draw(): void {
    const known = this.#known;
    if (known === null || this.#charts === null) return;
    const { from, to, points } = this.#view(known);
    const { timeline } = known;
    // What is to come has no curves yet.
    const edge = timeline.state === "live" ? Math.min(to, timeline.edge) : to;
    const drawn = columns(points, from, edge);
    const stage: Stage = { ...known, marks: timeline.marks.values() };
    const begun = (drawn.at.at(-1) ?? 0) * SECOND;
    const unfinished = timeline.state === "live" && begun + points.stepMs > timeline.edge ? begun : null;
    const frame: Frame = { columns: drawn, from, to, edge, unfinished, currency: known.show.currency, acts: acts(stage) };
    this.#renderHead();
    const holder = this.#root.querySelector<HTMLElement>("#stage");
    if (holder === null) return;
    const palette = this.#palette();
    const isNarrow = innerWidth < NARROW_PX;
    const width = holder.clientWidth;
    const height = isNarrow ? 116 : Math.round(Math.min(190, Math.max(80, (innerHeight - 412) / CHARTS.length)));
    const size = this.#isPrinting ? PRINT : { width, height, isNarrow, scale: 1 };
    if (size.width <= 0) return;
    // Second after second of a long show changes nothing that can be seen.
    const look = JSON.stringify([size, palette, frame]);
    if (look === this.#look) return;
    [this.#look, this.#frame] = [look, frame];
    this.#charts.draw(frame, size, palette);
    const inset = insets(size.isNarrow);
    const pen = document.createElement("canvas").getContext("2d");
    if (pen !== null) pen.font = `600 12px ${palette.font}`;
    const measure = (text: string) => pen?.measureText(text).width ?? text.length * 7;
    const place = { from, to, edge, width: size.width - inset.left - inset.right, measure };
    render(lane(frame.acts, place, inset), holder);
    this.#part("hint").textContent = points.last === undefined ? texts.waiting : texts.hint;
    this.#renderRows();
    if (this.#hasTable) this.#renderPoints();
  }

  #isDark(): boolean {
    return getComputedStyle(this.#part("head")).colorScheme === "dark" || (document.documentElement.dataset["theme"] === undefined && matchMedia("(prefers-color-scheme: dark)").matches);
  }

  #palette(): Palette {
    const { fontFamily: font } = getComputedStyle(this.#root);
    if (this.#isPrinting) return paper(font);
    const colour = (name: string) => getComputedStyle(this.#root.querySelector(`.palette .${name}`) ?? this.#root).color;
    const [ink, quiet, line, money, scarce, signal] = ["ink", "quiet-ink", "line-ink", "money-ink", "scarce-ink", "signal-ink"].map(colour) as [string, string, string, string, string, string];
    return { ink, quiet, line, money, scarce, signal, band: this.#isDark() ? 0.08 : 0.14, font };
  }

  /** What stays as long as the show is looked at; the parts that change are rendered by themselves. */
  #skeleton(): TemplateResult {
    return html`<div class="dashboard">
      <header id="head"></header>
      <section id="figures" aria-label=${texts.title}></section>
      <div id="bar"></div>
      <section class="rows" id="rows" tabindex="0" role="group" aria-label=${texts.hint} @keydown=${(event: KeyboardEvent) => this.#key(event)} @dblclick=${() => this.#setRange("whole")}>
        <div class="row"><div class="says" id="says-stage"></div><div class="plot" id="stage"></div></div>
        ${CHARTS.map((name) => html`<div class="row"><div class="says" id=${`says-${name}`}></div><div class="plot" id=${`plot-${name}`} role="img"></div></div>`)}
      </section>
      <p class="hint quiet" id="hint">${texts.hint}</p>
      <section id="points" hidden></section>
      <section id="report"></section>
      <div class="palette" aria-hidden="true">${["ink", "quiet-ink", "line-ink", "money-ink", "scarce-ink", "signal-ink"].map((it) => html`<i class=${it}></i>`)}</div>
    </div>`;
  }

  /** After the skeleton stands. */
  #settle(): void {
    const holders = new Map(CHARTS.map((name) => [name, this.#part(`plot-${name}`)] as const));
    this.#charts = new Charts(holders, {
      point: (index) => {
        if (index === this.#cursor) return;
        this.#cursor = index;
        this.#renderRows();
      },
      zoom: (from, to) => this.#zoomTo(from, to),
    });
    this.#size.observe(this.#part("rows"));
    this.#renderBar();
  }

  #part(id: string): HTMLElement {
    const found = this.#root.querySelector<HTMLElement>(`#${id}`);
    if (found === null) throw new Error(`the skeleton has no #${id}`);
    return found;
  }

  #renderHead(): void {
    const known = this.#known;
    if (known === null) return;
    const { show, timeline, now } = known;
    const { state, startedAt, endedAt } = timeline;
    document.title = texts.documentTitle(isolated(show.title));
    const date = startedAt === null ? "" : new Intl.DateTimeFormat(navigator.language, { dateStyle: "long" }).format(startedAt);
    const span = startedAt === null ? "" : endedAt === null ? timeOfDay(startedAt) + "–" : `${timeOfDay(startedAt)}–${timeOfDay(endedAt)}`;
    const isDark = this.#isDark();
    render(
      html`<div class="what">
          <h1>${show.title}</h1>
          <p>
            <span class="badge ${state === "live" ? "on-air" : ""}" id="state">${texts.state[state]}</span>
            ${startedAt === null ? nothing : html`<span class="figures" id="lasted">${lasted((endedAt ?? now) - startedAt)}</span> <span class="quiet">${date}, ${span}</span>`}
            ${show.test ? html`<span class="badge scarce">${texts.testShow}</span>` : nothing}
            <span role="status">${this.#isPaused ? html`<span class="badge scarce">${texts.paused}</span>` : nothing}
              ${this.#isAway ? html`<span class="badge off">${texts.away}</span>` : nothing}</span>
          </p>
        </div>
        <div class="tools">
          ${this.#shows.length > 1
            ? html`<label><span class="spoken">${texts.show}</span><select id="shows" @change=${(event: Event) => void this.#watch((event.target as HTMLSelectElement).value)}>
                ${this.#shows.map((it) => html`<option value=${it.show_id} ?selected=${it.show_id === show.show_id}>${it.title}</option>`)}</select></label>`
            : nothing}
          <button class="button bare" aria-label=${(isDark ? texts.light : texts.dark).spoken} title=${(isDark ? texts.light : texts.dark).spoken} @click=${() => this.#setTheme(isDark ? "light" : "dark")}>${(isDark ? texts.light : texts.dark).short}</button>
          <button class="button bare" @click=${() => this.#leave()}>${texts.signOut}</button>
        </div>`,
      this.#part("head"),
    );
    this.#renderFigures(known);
  }

  /** From the log, which has every order with its moment; the points have what a second saw, and none after the end. */
  #bestMinute({ books, show, timeline }: Known): { readonly gmv: number; readonly at: number } | null {
    const seen = (timeline.recent.last ?? timeline.whole.last)?.orders ?? 0;
    // A log that was pruned has lost its beginning.
    return books.isWhole && !show.test && books.orders >= seen ? books.bestMinute() : null;
  }

  #renderFigures(known: Known): void {
    const { timeline, books, show, now } = known;
    const words = texts.figures;
    const seen = figures(timeline, now);
    const bestMinute = this.#bestMinute(known) ?? seen.bestMinute;
    // The books know what was paid after the last second that somebody watched.
    const money = books.isWhole && books.orders >= seen.orders && !show.test ? books : seen;
    const { currency } = show;
    const isOver = timeline.state === "ended";
    const requests = seen.granted + seen.refused + seen.failed;
    const share = (part: number, whole: number) => percent(Math.round((part / whole) * 100) / 100);
    const figure = (id: string, name: string, value: string, beside: string, meaning = "") =>
      html`<div class="figure" id=${`figure-${id}`} title=${meaning === "" ? nothing : meaning}><dt>${name}</dt><dd><strong class="figures">${value}</strong><span class="quiet">${beside}</span></dd></div>`;
    const most = seen.peak.viewers === 0 ? "" : timeOfDay(seen.peak.at);
    // While nobody watches no second is written down; the log has what was paid all the same.
    const perMinute = show.test ? seen.gmvPerMinute : Math.max(seen.gmvPerMinute, books.paidSince(now - MINUTE));
    const best = bestMinute.gmv === 0 ? "" : timeOfDay(bestMinute.at);
    const bestAmount = roundAmount(Math.round(bestMinute.gmv), currency);
    render(
      html`<dl>
        ${isOver
          ? figure("viewers", words.peakOnly, count(seen.peak.viewers), most === "" ? "" : words.at(most))
          : figure("viewers", words.viewers, count(seen.viewers), most === "" ? "" : words.peak(count(seen.peak.viewers), most))}
        ${figure("gmv", words.gmv, amount(money.gmv, currency), money.refunded === 0 ? words.noRefunds : words.refunded(amount(money.refunded, currency)))}
        ${figure("orders", words.orders, count(money.orders), money.orders === 0 ? "" : words.average(amount(Math.round((money.gmv + money.refunded) / money.orders), currency)))}
        ${isOver
          ? figure("minute", words.bestMinute, bestAmount, best === "" ? "" : words.at(best), words.perMinuteMeans)
          : figure("minute", words.perMinute, roundAmount(perMinute, currency), best === "" ? "" : words.best(bestAmount, best), words.perMinuteMeans)}
        ${figure("refused", words.refused, count(seen.refused), requests === 0 ? words.noRequests : words.ofRequests(share(seen.refused, requests), count(requests)) + (seen.failed === 0 ? "" : words.failed(count(seen.failed))))}
        ${figure("conversion", words.conversion, seen.granted === 0 ? "–" : share(Math.min(money.orders, seen.granted), seen.granted), words.ofGrants(count(money.orders), count(seen.granted)))}
      </dl>`,
      this.#part("figures"),
    );
  }

  #renderBar(): void {
    const { timeline } = this.#known as Known;
    const isOver = timeline.state === "ended";
    const toggle = (range: "recent" | "whole", text: string) =>
      html`<button class="button" aria-pressed=${this.#range === range} @click=${() => this.#setRange(range)}>${text}</button>`;
    render(
      html`<div class="group" role="group" aria-label=${texts.range}>${toggle("recent", texts.recent)}${toggle("whole", texts.whole)}</div>
        <div class="group">
          <button class="button icon" aria-label=${texts.zoomOut} title=${texts.zoomOut} @click=${() => this.#zoom(2)}>−</button>
          <button class="button icon" aria-label=${texts.zoomIn} title=${texts.zoomIn} @click=${() => this.#zoom(0.5)}>+</button>
        </div>
        ${isOver ? nothing : html`<button class="button" id="pause" aria-pressed=${this.#isPaused} @click=${() => this.#setPaused(!this.#isPaused)}>${this.#isPaused ? texts.resume : texts.pause}</button>`}
        <div class="group last">
          <button class="button" id="table" aria-expanded=${this.#hasTable} aria-controls="points" @click=${() => this.#toggleTable()}>${texts.table}</button>
          <button class="button" id="csv" @click=${() => void this.#download()}>${texts.csv}</button>
          <button class="button" id="print" @click=${() => print()}>${texts.print}</button>
        </div>`,
      this.#part("bar"),
    );
  }

  /** What stands beside each chart: its name, and its numbers where the cursor is, else the latest. */
  #renderRows(): void {
    const frame = this.#frame;
    if (frame === null) return;
    const { columns: drawn, currency } = frame;
    const step = this.#view(this.#known as Known).points.stepMs;
    const last = drawn.at.length - 1;
    const at = this.#isPrinting || this.#cursor === null ? last : Math.min(this.#cursor, last);
    const isPointed = this.#cursor !== null && !this.#isPrinting;
    const timeAt = (drawn.at[at] ?? 0) * SECOND;
    const started = this.#known?.timeline.startedAt ?? timeAt;
    const value = (text: string, name = "", key = "") =>
      html`<span class="value">${key === "" ? nothing : html`<i class="key ${key}"></i>`}<strong class="figures">${text}</strong>${name === "" ? nothing : html` <span class="quiet">${name}</span>`}</span>`;
    const put = (name: string, title: string, ...values: TemplateResult[]) => {
      render(html`<h2>${title}</h2><div class="values">${values}</div>`, this.#part(`says-${name}`));
      if (name !== "stage") this.#part(`plot-${name}`).setAttribute("aria-label", texts.charts.spoken(title, exactTime(frame.from), exactTime(frame.to)));
    };
    const ms = (it: number | null | undefined) => (it == null ? "–" : texts.charts.ms(count(it)));
    const words = texts.charts;
    put("stage", words.stage, isPointed
      ? html`${value(exactTime(timeAt), `+${lasted(timeAt - started)}`)}${running(frame.acts, timeAt + step).map((it) => html`<span class="running"><i class="key ${it.kind}"></i>${it.text}</span>`)}`
      : html`<span class="quiet kinds"><span><i class="key sale"></i>${words.sales}</span><span><i class="key after"></i>${words.soldOut}</span><span><i class="key poll"></i>${words.polls}</span><span><i class="key pin"></i>${words.pins}</span></span>`);
    // A live show has a present; of one that is over the most is said.
    const isLatest = isPointed || this.#known?.timeline.state !== "ended";
    const one = (of: readonly (number | null)[]) => (isLatest ? of[at] : most(of));
    const name = isLatest ? "" : words.most;
    const viewers = one(drawn.viewers);
    put("viewers", words.viewers, value(viewers == null ? "–" : count(viewers), name));
    const bestMinute = isLatest || this.#range !== "whole" || this.#known === null ? null : this.#bestMinute(this.#known);
    put("gmv", words.gmv, value(roundAmount(Math.round(bestMinute?.gmv ?? one(drawn.gmv) ?? 0), currency), name));
    put("orders", words.orders, value(count(Math.round((one(drawn.orders) ?? 0) * 10) / 10), name));
    // Of the step under the cursor; else of all that is shown.
    const numbers = (of: readonly number[]) => count(isPointed ? (of[at] ?? 0) : of.reduce((sum, it) => sum + it, 0));
    const waits = (of: readonly (number | null)[]) => ms(isPointed ? of[at] : most(of));
    const side = isPointed ? "at" : "most";
    put("requests", words.requests(stepText(step)), value(numbers(drawn.granted), words.granted, "money"), value(numbers(drawn.refused), words.refused, "scarce"), value(numbers(drawn.failed), words.failed, "signal"));
    put("wait", words.wait, value(waits(drawn.p50), words.p50[side], "ink"), value(waits(drawn.p99), words.p99[side], "scarce"));
  }

  #renderReport(): void {
    const known = this.#known;
    if (known === null) return;
    // Iterators are read once; the report goes over the marks more often.
    const marks = [...known.timeline.marks.values()];
    const stage: Stage = { ...known, marks };
    render(html`${salesTable(stage, known.show.currency)}${happenedTable(happened(stage), known.timeline.startedAt)}`, this.#part("report"));
    this.#renderBar();
  }

  #renderPoints(): void {
    const known = this.#known as Known;
    const { from, to, points } = this.#view(known);
    const step = Math.max(points.stepMs, MINUTE * Math.max(1, Math.ceil((to - from) / MINUTE / 240)));
    const rows = to - from <= 10 * MINUTE ? points.between(from, to) : inSteps(points.between(from, to), step);
    render(this.#hasTable ? pointsTable(rows, to - from <= 10 * MINUTE ? points.stepMs : step, known.show.currency) : nothing, this.#part("points"));
    this.#part("points").hidden = !this.#hasTable;
  }

  // ---- What one can do ----

  #setRange(range: Range): void {
    this.#range = range;
    this.#renderBar();
    this.#draw();
  }

  /** Nothing is to be seen of what is still to come. */
  #zoomTo(from: number, to: number): void {
    const edge = this.#known?.timeline.edge ?? to;
    [from, to] = [Math.min(from, edge - ZOOM_MIN_MS), Math.min(to, edge)];
    if (to - from < ZOOM_MIN_MS) {
      const middle = (from + to) / 2;
      [from, to] = [middle - ZOOM_MIN_MS / 2, middle + ZOOM_MIN_MS / 2];
    }
    this.#setRange({ from, to });
  }

  /** Around the cursor, else around the middle. Beyond the whole show is the whole show. */
  #zoom(factor: number): void {
    const known = this.#known;
    if (known === null || this.#frame === null) return;
    const { from, to, columns: drawn } = this.#frame;
    const around = this.#cursor === null ? (from + to) / 2 : (drawn.at[this.#cursor] ?? 0) * SECOND;
    const [left, right] = [around - (around - from) * factor, around + (to - around) * factor];
    const start = known.timeline.startedAt ?? from;
    if (factor > 1 && left <= start && right >= known.timeline.edge) return this.#setRange("whole");
    this.#zoomTo(Math.max(left, start), right);
  }

  #setPaused(isPaused: boolean): void {
    this.#isPaused = isPaused;
    this.#renderBar();
    this.#renderHead();
    this.#askSoon(0);
  }

  #toggleTable(): void {
    this.#hasTable = !this.#hasTable;
    this.#renderBar();
    this.#renderPoints();
  }

  #key(event: KeyboardEvent): void {
    if (event.altKey || event.ctrlKey || event.metaKey || this.#frame === null) return;
    const last = this.#frame.columns.at.length - 1;
    const move = (by: number) => this.#charts?.pointAt(Math.min(last, Math.max(0, (this.#cursor ?? last) + by)));
    const far = event.shiftKey ? 20 : 1;
    const keys: Record<string, () => void> = {
      ArrowLeft: () => move(-far),
      ArrowRight: () => move(far),
      Home: () => this.#charts?.pointAt(0),
      End: () => this.#charts?.pointAt(last),
      "+": () => this.#zoom(0.5),
      "=": () => this.#zoom(0.5),
      "-": () => this.#zoom(2),
      Escape: () => {
        this.#charts?.pointAt(null);
        this.#setRange("whole");
      },
    };
    const act = keys[event.key];
    if (act === undefined) return;
    event.preventDefault();
    act();
  }

  #setTheme(theme: "light" | "dark"): void {
    document.documentElement.dataset["theme"] = theme;
    write("localStorage", THEME, theme);
    this.#draw();
    this.#renderHead();
  }

  #leave(): void {
    keep(null);
    this.#ask(null);
  }

  /** All seconds of the show, not only what is drawn. */
  async #download(): Promise<void> {
    const known = this.#known;
    if (known === null || this.#api === null) return;
    try {
      const { body } = await this.#api.wholeTimeline(known.show.show_id, 0, SECOND);
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([pointsCsv(body.points, body.step_ms, body.currency)], { type: "text/csv;charset=utf-8" }));
      link.download = `${known.show.show_id}.csv`;
      link.click();
      URL.revokeObjectURL(link.href);
    } catch (error) {
      this.#failed(error, () => this.#askSoon(0));
    }
  }
}

const most = (of: readonly (number | null)[]): number | null => of.reduce((best, it) => (it === null ? best : Math.max(best ?? 0, it)), null);
