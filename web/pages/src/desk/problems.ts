import type { Observable } from "@showcart/sdk";
import { css, html, nothing, type TemplateResult } from "lit";
import { repeat } from "lit/directives/repeat.js";
import "../design/countdown.js";
import { count } from "../design/format.js";
import { timeOfDay } from "../design/moments.js";
import { base, controls } from "../design/styles.js";
import { desk as texts } from "../texts/desk.en.js";
import type { WaitingHold } from "./api.js";
import { type Desk, STEP_MS, type Trouble } from "./desk.js";
import { parts } from "./desk.styles.js";
import { inOneGo, sentence } from "./log.js";
import { Part } from "./part.js";
import "./twice.js";

export interface Problem {
  readonly id: string;
  readonly text: string;
  /** `bad`: money or the connection; `odd`: worth a look. */
  readonly tone: "bad" | "odd";
  readonly trouble?: Trouble["type"];
}

/** Fewer waiting payments than this are the usual course. */
const LINE_MIN = 3;
const MINUTE_POINTS = 60_000 / STEP_MS;

/** What is wrong now, the worst first. */
export function problems(desk: Desk): readonly Problem[] {
  const found: Problem[] = [];
  const state = desk.show.connection.get();
  const add = (id: string, tone: Problem["tone"], text: string, trouble?: Trouble["type"]) =>
    found.push({ id, tone, text, ...(trouble === undefined ? {} : { trouble }) });
  if (state.status === "offline") add("connection", "bad", texts.problems.offline);
  else if (state.status === "closed") {
    const known: Readonly<Record<string, string>> = texts.problems.closed;
    add("connection", "bad", known[state.reason] ?? texts.problems.closed.other);
  } else if (state.status === "waiting" || (state.status === "connecting" && state.reason !== null))
    add("connection", "bad", texts.problems.waiting);
  const troubles = desk.troubles.get();
  for (const [type, text] of [
    ["order.unfulfilled", texts.problems.unfulfilled],
    ["refund.failed", texts.problems.refundFailed],
    ["payment.mismatch", texts.problems.mismatch],
    ["payment.duplicate", texts.problems.duplicate],
  ] as const) {
    const many = troubles.filter((it) => it.type === type).length;
    if (many > 0) add(type, "bad", text(many), type);
  }
  const last = desk.points.get().all.slice(-MINUTE_POINTS);
  const sum = (of: "failed" | "provider_errors") => last.reduce((all, it) => all + it[of], 0);
  if (desk.isLive) {
    if (sum("provider_errors") > 0)
      add("provider", "bad", texts.problems.providerErrors(count(sum("provider_errors"))));
    if (sum("failed") > 0) add("failed", "bad", texts.problems.failed(count(sum("failed"))));
    const line = Math.min(...last.slice(-2).map((it) => it.provider_line));
    if (last.length > 0 && line >= LINE_MIN) add("line", "odd", texts.problems.providerLine(count(line)));
    const behind = last.at(-1)?.viewers_behind ?? 0;
    if (behind > 0) add("behind", "odd", texts.problems.behind(behind, count(behind)));
  }
  const { units } = desk.waiting.get();
  if (units > 0) add("waiting", "odd", texts.problems.waitingUnits(units, count(units)));
  const unread = [...desk.unread.get()].map((it) => texts.problems.reads[it]);
  if (unread.length > 0 && state.status === "open") add("unread", "odd", texts.problems.unread(unread.join(", ")));
  return found;
}

export function problemSources(desk: Desk): readonly Observable<unknown>[] {
  return [desk.show.connection, desk.troubles, desk.points, desk.waiting, desk.unread, desk.show.part("show")];
}

/** One line at a place of its own: the problems, and when there is none, who did what last. */
export class SignalLine extends Part {
  static override styles = [
    base,
    controls,
    parts,
    css`
      .line { display: flex; align-items: center; gap: var(--sc-2); min-height: 36px; padding: 0 var(--sc-4); overflow-x: auto; scrollbar-width: none; white-space: nowrap; }
      button {
        flex: none; display: inline-flex; align-items: center; gap: var(--sc-2); min-height: 28px; padding: 2px 10px; border: 0; border-radius: var(--sc-radius); font-weight: 700; cursor: pointer;
        background: var(--sc-scarce-fill); color: var(--sc-scarce-on);
      }
      button.bad { background: var(--sc-signal-fill); color: var(--sc-signal-on); }
      time { color: var(--sc-quiet); font-variant-numeric: tabular-nums; }
      p { overflow: hidden; text-overflow: ellipsis; }
    `,
  ];

  #told: ReadonlySet<string> = new Set();

  protected sources(): readonly Observable<unknown>[] {
    return [...problemSources(this.desk), this.desk.actions, this.desk.orders];
  }

  protected override updated(): void {
    super.updated();
    const found = problems(this.desk);
    const news = found.find((it) => !this.#told.has(it.id));
    this.#told = new Set(found.map((it) => it.id));
    if (news !== undefined) this.desk.say(news.text);
  }

  protected override render(): TemplateResult {
    const found = problems(this.desk);
    const [latest] = inOneGo(this.desk.actions.get());
    return html`<div class="line" role="group" aria-label=${texts.problems.title}>
      ${repeat(
        found,
        (it) => it.id,
        (it) =>
          html`<button class=${it.tone} data-problem=${it.id} @click=${() => this.dispatchEvent(new Event("showcart-problems", { bubbles: true, composed: true }))}>${it.text}</button>`,
      )}
      ${found.length > 0 || latest === undefined ? nothing : html`<p data-latest><time>${timeOfDay(latest[0].at)}</time> ${sentence(this.desk, latest)}</p>`}
      ${found.length === 0 && latest === undefined && this.desk.show.connection.get().status !== "open" ? html`<p class="quiet">${texts.problems.connecting}</p>` : nothing}
    </div>`;
  }
}
customElements.define("showcart-desk-signal", SignalLine);

/** The problems one by one, and what can be done. */
export class Problems extends Part {
  static override styles = [
    base,
    controls,
    parts,
    css`
      :host { font-size: var(--sc-size-2); }
      li { display: grid; gap: var(--sc-2); padding: var(--sc-3) 0; border-top: 1px solid var(--sc-line); }
      li li { padding: var(--sc-2) 0; }
      .text { font-weight: 700; }
      .bad { color: var(--sc-signal-text); }
    `,
  ];

  protected sources(): readonly Observable<unknown>[] {
    const { role, notes, busy, voice } = this.desk;
    return [...problemSources(this.desk), role, notes, busy, voice];
  }

  protected override render(): TemplateResult {
    const found = problems(this.desk);
    // The page behind an open dialog is not read out.
    const voice = html`<p class="spoken" role="status">${this.desk.voice.get()}</p>`;
    if (found.length === 0) return html`<p>${texts.problems.none}</p>${voice}`;
    return html`${voice}<ul>${repeat(
      found,
      (it) => it.id,
      (it) => this.#problem(it),
    )}</ul>`;
  }

  #problem({ id, tone, text, trouble }: Problem): TemplateResult {
    const { desk } = this;
    return html`<li data-detail=${id}>
      <div class="row"><p class="text grow ${tone}">${text}</p>
        ${trouble === undefined ? nothing : html`<button class="button" @click=${() => desk.seen(trouble)}>${texts.problems.seen}</button>`}
        ${
          id === "connection" && desk.show.connection.get().status === "closed"
            ? html`<button class="button" @click=${() => this.dispatchEvent(new Event("showcart-leave", { bubbles: true, composed: true }))}>${texts.problems.signIn}</button>`
            : nothing
        }
      </div>
      ${
        trouble === undefined
          ? nothing
          : desk.troubles
              .get()
              .filter((it) => it.type === trouble)
              .map((it) => html`<p class="quiet">${texts.problems.order(it.order)}</p>`)
      }
      ${
        id === "waiting"
          ? html`<p class="quiet">${texts.problems.waitingHelp}</p><ul>${repeat(
              desk.waiting.get().holds,
              (it) => it.hold_id,
              (it) => this.#hold(it),
            )}</ul>`
          : nothing
      }
    </li>`;
  }

  #hold(hold: WaitingHold): TemplateResult {
    const { desk } = this;
    const place = `hold:${hold.hold_id}`;
    const mayFree = hold.may_free_at <= desk.now();
    return html`<li>
      <div class="row"><p class="grow">${texts.problems.unitsOf(count(hold.units), hold.buyer)}</p>
        ${
          !desk.canSell
            ? nothing
            : mayFree
              ? html`<showcart-twice label=${texts.problems.free} sure=${texts.problems.freeSure} named=${texts.problems.freeNamed(hold.buyer)} ?disabled=${this.isBusy(place)} @showcart-sure=${() => void desk.free(hold)}></showcart-twice>`
              : html`<p class="quiet">${texts.problems.freeIn} <showcart-countdown .until=${hold.may_free_at} .now=${desk.now} @showcart-over=${() => this.requestUpdate()}></showcart-countdown></p>`
        }
      </div>
      ${this.note(place)}
    </li>`;
  }
}
customElements.define("showcart-desk-problems", Problems);
