import type { Poll as OpenPoll, PollResult, Tally } from "@showcart/sdk";
import { css, html, LitElement, nothing, type TemplateResult } from "lit";
import { isolated, untwisted } from "../design/bidi.js";
import "../design/countdown.js";
import { Follow } from "../design/follow.js";
import { count, percent } from "../design/format.js";
import "../design/meter.js";
import { base, controls } from "../design/styles.js";
import { texts } from "../texts/en.js";
import { icons } from "./icons.js";
import type { Room } from "./room.js";

/** From so many choices on they do not go below each other on a narrow screen. */
const MANY = 5;

/** A poll: one tap votes, and then the bars say how it stands; closed, its result. */
export class Poll extends LitElement {
  static override properties = {
    room: { attribute: false },
    poll: { attribute: false },
    result: { attribute: false },
    voted: { attribute: false },
    said: { state: true },
    asking: { state: true },
    isLate: { state: true },
  };
  declare room: Room;
  declare poll: OpenPoll;
  /** How it ended; null while it takes votes. */
  declare result: PollResult | null;
  /** This viewer's choice; undefined before it. */
  declare voted: number | undefined;
  declare said: string | null;
  /** The choice whose vote is on its way. */
  declare asking: number | null;
  /** A tap was refused because the poll has closed: the picture has yet to show it. */
  declare isLate: boolean;
  readonly #tally = new Follow<Tally | undefined>(this);

  static override styles = [
    base,
    controls,
    css`
      :host { display: block; container-type: inline-size; color: var(--sc-ink); }
      section { display: grid; gap: var(--sc-2); padding: var(--sc-3) var(--sc-4) var(--sc-3); background: var(--sc-card); border: 1px solid var(--sc-line-strong); }
      header { display: flex; gap: var(--sc-3); align-items: start; justify-content: space-between; }
      h3 { font-size: var(--sc-size-3); overflow-wrap: anywhere; }
      .time { flex: none; font-size: var(--sc-size-3); line-height: 1.2; }
      ol { display: grid; gap: 6px; }
      .choice {
        position: relative; display: grid; grid-template-columns: minmax(0, 1fr) auto; gap: 2px var(--sc-3); align-items: center; width: 100%;
        min-height: var(--sc-touch); padding: 6px var(--sc-3); text-align: left; cursor: pointer; touch-action: manipulation;
        background: var(--sc-card); border: 1px solid var(--sc-line-strong); border-radius: var(--sc-radius);
        font-size: var(--sc-size-2); font-weight: 600; line-height: 1.2; overflow-wrap: anywhere;
        transition: background var(--sc-quick) var(--sc-ease);
      }
      button.choice:not([aria-disabled="true"]):hover { background: var(--sc-sunk); }
      .choice[aria-disabled="true"], div.choice { cursor: default; border-color: var(--sc-line); }
      .choice.mine { border-color: var(--sc-ink); box-shadow: inset 0 0 0 1px var(--sc-ink); }
      .choice.won { border-color: var(--sc-money-fill); box-shadow: inset 0 0 0 1px var(--sc-money-fill); }
      .choice showcart-meter { grid-column: 1 / -1; height: 6px; }
      .name { display: flex; align-items: center; gap: 6px; min-width: 0; }
      .name svg { flex: none; width: 16px; height: 16px; }
      .share { font-size: var(--sc-size-3); }
      footer { display: flex; flex-wrap: wrap; gap: 0 var(--sc-3); justify-content: space-between; font-size: var(--sc-size-1); color: var(--sc-quiet); }
      /* Many choices on a narrow screen: two beside each other, and what is still too much scrolls by itself. */
      @container (max-width: 480px) {
        section { max-height: max(60dvh, 240px); grid-template-rows: auto minmax(0, 1fr) auto; }
        ol { overflow-y: auto; overscroll-behavior: contain; scrollbar-width: thin; margin: 0 -4px; padding: 0 4px; }
        .many h3 { font-size: var(--sc-size-2); }
        .many ol { grid-template-columns: repeat(2, minmax(0, 1fr)); }
        .many .choice { height: 100%; padding: 4px var(--sc-2); align-content: center; }
        .many .name { grid-column: 1 / -1; }
        .many .choice showcart-meter { grid-area: 2 / 1; }
        .many .share { grid-area: 2 / 2; font-size: var(--sc-size-1); line-height: 1.1; }
      }
      .verdict { font-weight: 700; color: var(--sc-money-text); }
      .dismiss { margin: -10px -14px -10px 0; }
    `,
  ];

  constructor() {
    super();
    this.result = null;
    this.voted = undefined;
    this.said = null;
    this.asking = null;
    this.isLate = false;
  }

  protected override render(): TemplateResult {
    const { poll, room, result } = this;
    const live = this.#tally.to(poll.poll_id, () => room.show.gauge(`poll:${poll.poll_id}`));
    const tally: Tally = result ?? live ?? { counts: [], total: 0 };
    const isOver = this.#isOver();
    const showsBars = result !== null || isOver || this.voted !== undefined || room.role === "guest" || room.role === "host";
    return html`<section class=${poll.choices.length >= MANY ? "many" : ""} data-poll=${poll.poll_id} aria-label=${texts.poll.region}>
      <header>
        <h3 dir="auto">${untwisted(poll.question)}</h3>
        ${
          result !== null
            ? html`<button class="button icon bare dismiss" aria-label=${texts.poll.dismiss} @click=${() => this.dispatchEvent(new Event("showcart-dismiss"))}>${icons.close}</button>`
            : poll.ends_at === null
              ? nothing
              : html`<span class="time"><span class="spoken">${texts.poll.closesIn}</span><showcart-countdown .until=${poll.ends_at} .now=${room.now} @showcart-over=${() => this.#ended()}></showcart-countdown></span>`
        }
      </header>
      <ol>
        ${poll.choices.map((choice, index) => this.#choice(choice, index, tally, showsBars, isOver))}
      </ol>
      <footer>
        <span class="figures">${texts.poll.votes(tally.total, count(tally.total))}</span>
        <span class=${result === null ? "" : "verdict"}>${result !== null ? verdict(poll, result) : (this.said ?? (isOver ? texts.poll.closing : nothing))}</span>
      </footer>
    </section>`;
  }

  /** It takes no votes any more, and its result has yet to come: with a late picture that is some seconds away. */
  #isOver(): boolean {
    const { ends_at } = this.poll;
    return this.result === null && (this.isLate || (ends_at !== null && ends_at <= this.room.now()));
  }

  /** What was said about votes is about those that could still be given. */
  #ended(): void {
    this.said = null;
    this.requestUpdate();
  }

  #choice(
    choice: string,
    index: number,
    { counts, total }: Tally,
    showsBars: boolean,
    isOver: boolean,
  ): TemplateResult {
    const isMine = (this.asking ?? this.voted) === index;
    const share = total === 0 ? 0 : (counts[index] ?? 0) / total;
    const hasWon = this.result?.winner === index;
    const inside = html`<span class="name">${isMine ? html`${icons.check}<span class="spoken">${texts.poll.yours}: </span>` : nothing}<span dir="auto">${untwisted(choice)}</span></span>
      ${showsBars ? html`<span class="share figures">${percent(share)}</span><showcart-meter .share=${share} .tone=${hasWon ? "money" : "ink"}></showcart-meter>` : nothing}`;
    if (this.result !== null) return html`<li><div class="choice ${hasWon ? "won" : ""}">${inside}</div></li>`;
    const isDead = isOver || this.voted !== undefined || this.asking !== null;
    return html`<li>
      <button class="choice ${isMine ? "mine" : ""}" aria-pressed=${isMine} aria-disabled=${isDead} @click=${() => isDead || void this.#vote(index)}>${inside}</button>
    </li>`;
  }

  async #vote(choice: number): Promise<void> {
    this.said = null;
    this.asking = choice;
    try {
      await this.room.vote(this.poll.poll_id, choice);
    } catch (error) {
      const code = error instanceof Error && "code" in error ? error.code : null;
      if (code === "guests_may_not_vote") this.room.signIn("vote");
      this.isLate = code === "poll_closed";
      this.said =
        code === "guests_may_not_vote"
          ? texts.poll.guests
          : code === "poll_closed"
            ? texts.poll.late
            : code === "rate_limited"
              ? texts.poll.limited
              : texts.poll.refused;
      if (code !== "guests_may_not_vote") this.room.announce(this.said);
    } finally {
      this.asking = null;
    }
  }
}
customElements.define("showcart-poll", Poll);

/** How it ended, in words. */
export function verdict(poll: OpenPoll, { winner, total }: PollResult): string {
  if (winner !== null) return texts.poll.won(isolated(poll.choices[winner] ?? ""));
  return total === 0 ? texts.poll.nobody : texts.poll.tied;
}
