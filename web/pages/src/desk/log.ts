import type { Observable } from "@showcart/sdk";
import { css, html, type TemplateResult } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { isolated } from "../design/bidi.js";
import { count } from "../design/format.js";
import { timeOfDay } from "../design/moments.js";
import { base } from "../design/styles.js";
import { desk as texts } from "../texts/desk.en.js";
import type { Action } from "./api.js";
import type { Desk } from "./desk.js";
import { parts } from "./desk.styles.js";
import { Part } from "./part.js";

/** Who did what, the latest first. */
export class Log extends Part {
  static override styles = [
    base,
    parts,
    css`
      /* Who is at the top stays there when something new comes. */
      ol { overflow-anchor: none; }
      .empty { padding: var(--sc-3) var(--sc-4); color: var(--sc-quiet); }
      li { display: grid; grid-template-columns: auto minmax(0, 1fr); gap: var(--sc-3); padding: 4px var(--sc-4); border-bottom: 1px solid var(--sc-line); }
      time { color: var(--sc-quiet); font-variant-numeric: tabular-nums; }
      p, summary { overflow-wrap: anywhere; }
      summary { cursor: pointer; }
      details li { display: block; padding: 2px 0 2px var(--sc-3); border: 0; }
    `,
  ];

  protected sources(): readonly Observable<unknown>[] {
    // They bring the names of things.
    return [this.desk.actions, this.desk.hasRead, this.desk.show.scene, this.desk.sales, this.desk.orders];
  }

  protected override render(): TemplateResult {
    const actions = this.desk.actions.get();
    if (actions.length === 0)
      return html`<p class="empty">${this.desk.hasRead.get().has("actions") ? texts.log.none : texts.loading}</p>`;
    return html`<ol>${repeat(
      inOneGo(actions),
      (all) => all.at(-1)?.number,
      (all) => html`<li data-action=${all[0].action}><time>${timeOfDay(all[0].at)}</time>${this.#deeds(all)}</li>`,
    )}</ol>`;
  }

  #deeds(all: InOneGo): TemplateResult {
    const text = sentence(this.desk, all);
    if (all.length === 1) return html`<p>${text}</p>`;
    return html`<details><summary>${text}</summary><ul>${all.map((it) => html`<li>${sentence(this.desk, [it])}</li>`)}</ul></details>`;
  }
}
customElements.define("showcart-desk-log", Log);

/** What one press of the red switch does is many commands. */
const OF_ONE_PRESS: ReadonlySet<string> = new Set(["sale.end", "pin.clear", "lineup.set"]);
/** Between them there is less time than this. */
const ONE_GO_MS = 5_000;
const ONE_GO_MIN = 3;

/** Deeds of one person that came in one go. */
export type InOneGo = readonly [Action, ...Action[]];

export function inOneGo(actions: readonly Action[]): readonly InOneGo[] {
  const runs: [Action, ...Action[]][] = [];
  for (const action of actions) {
    const run = runs.at(-1);
    const later = run?.at(-1);
    if (run !== undefined && later !== undefined && goOn(action, later)) run.push(action);
    else runs.push([action]);
  }
  return runs.flatMap((run): InOneGo[] => (run.length < ONE_GO_MIN ? run.map((it) => [it]) : [run]));
}

const goOn = (one: Action, next: Action): boolean =>
  one.by === next.by && next.at - one.at < ONE_GO_MS && OF_ONE_PRESS.has(one.action) && OF_ONE_PRESS.has(next.action);

/** The latest one is told by the socket without its moment. */
type Deed = Pick<Action, "by" | "action" | "what"> & Partial<Pick<Action, "at">>;

/** The same for ears. */
export const spoken = (desk: Desk, action: Deed): string =>
  `${action.by} ${texts.log.actions[action.action] ?? action.action} ${desk.whatOf(action)}`;

/**
 * "hanna pinned The lamp"; of many in one go, "hanna ended 2 sales, took off The lamp, set units of 12 products". An action that
 * is newer than this page is told by the server's word.
 */
export function sentence(desk: Desk, all: readonly [Deed, ...Deed[]]): TemplateResult {
  const [first] = all;
  const who = html`<strong><bdi>${first.by}</bdi></strong>`;
  if (all.length > 1) return html`${who} <span>${summary(desk, all)}</span>`;
  return html`${who} <span class="quiet">${texts.log.actions[first.action] ?? first.action}</span> <bdi>${desk.whatOf(first)}</bdi>`;
}

function summary(desk: Desk, all: readonly Deed[]): string {
  const of = (action: string) => all.filter((it) => it.action === action);
  const one = (it: Deed) => `${texts.log.actions[it.action] ?? it.action} ${isolated(desk.whatOf(it))}`;
  const many = (deeds: readonly Deed[], words: (formatted: string) => string) =>
    deeds.length > 1 ? [words(count(deeds.length))] : deeds.map(one);
  // A product is looked at again when buyers took some meanwhile.
  const products = new Set(of("lineup.set").map(({ what }) => what.replace(/: \d+$/, "")));
  return [
    ...many(of("sale.end"), texts.log.endedSales),
    ...of("pin.clear").map(one),
    ...(products.size > 1 ? [texts.log.setUnits(count(products.size))] : of("lineup.set").slice(0, 1).map(one)),
  ].join(", ");
}
