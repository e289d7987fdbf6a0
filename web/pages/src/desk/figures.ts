import type { Observable } from "@showcart/sdk";
import { css, html, type TemplateResult } from "lit";
import { count, money } from "../design/format.js";
import "../design/sparkline.js";
import { base } from "../design/styles.js";
import { desk as texts } from "../texts/desk.en.js";
import type { TimelinePoint } from "./api.js";
import { parts } from "./desk.styles.js";
import { Part } from "./part.js";

const MINUTE_MS = 60_000;
const MINUTES = 30;

/** How many watch, and how much is sold in a minute: the last half hour at a glance. */
export class Figures extends Part {
  static override styles = [
    base,
    parts,
    css`
      :host { display: grid; grid-template-columns: 1fr 1fr; gap: var(--sc-4); padding: var(--sc-3) var(--sc-4); }
      @media (max-width: 389px) { :host { grid-template-columns: 1fr; } }
      figcaption { display: flex; justify-content: space-between; gap: var(--sc-2); font-weight: 700; }
      .most { font-size: 0.75rem; color: var(--sc-quiet); display: flex; justify-content: space-between; margin-top: 2px; }
    `,
  ];

  protected sources(): readonly Observable<unknown>[] {
    return [this.desk.points, this.desk.about, this.desk.show.gauge("viewers")];
  }

  protected override render(): TemplateResult {
    const points = this.desk.points.get();
    const { currency } = this.desk;
    const viewers = byMinute(points, (all) => Math.max(...all.map((it) => it.viewers)));
    const gmv = gmvByMinute(points, this.desk.about.get()?.started_at ?? null);
    const most = (values: readonly (number | null)[]) => Math.max(0, ...values.map((it) => it ?? 0));
    // A point has the most of its ten seconds.
    const now = this.desk.show.gauge("viewers").get() ?? points.at(-1)?.viewers ?? 0;
    const mostViewers = Math.max(now, ...points.map((it) => it.viewers));
    const thisMinute = gmv.at(-1) ?? 0;
    return html`
      <figure aria-label=${texts.figures.audienceSpoken(count(now), count(mostViewers))} role="img">
        <figcaption><span>${texts.figures.audience}</span><span class="figures">${count(now)}</span></figcaption>
        <showcart-sparkline .values=${viewers}></showcart-sparkline>
        <p class="most"><span>${texts.figures.span}</span><span>${texts.figures.most(count(mostViewers))}</span></p>
      </figure>
      <figure aria-label=${texts.figures.gmvSpoken(money(thisMinute, currency), money(most(gmv), currency))} role="img">
        <figcaption><span>${texts.figures.gmv}</span><span class="figures">${money(thisMinute, currency)}</span></figcaption>
        <showcart-sparkline kind="bars" ?unfinished=${this.desk.isLive} .values=${gmv}></showcart-sparkline>
        <p class="most"><span>${texts.figures.span}</span><span>${texts.figures.most(money(most(gmv), currency))}</span></p>
      </figure>`;
  }
}
customElements.define("showcart-desk-figures", Figures);

/** The points of each of the last minutes, the oldest first; null where there are none. */
function byMinute(points: readonly TimelinePoint[], of: (all: readonly TimelinePoint[]) => number): (number | null)[] {
  const last = points.at(-1);
  if (last === undefined) return [];
  const minutes = new Map<number, TimelinePoint[]>();
  for (const point of points) {
    const minute = Math.floor(point.at / MINUTE_MS);
    minutes.set(minute, [...(minutes.get(minute) ?? []), point]);
  }
  const end = Math.floor(last.at / MINUTE_MS);
  return Array.from({ length: MINUTES }, (_, index) => minutes.get(end - MINUTES + 1 + index)).map((all) =>
    all === undefined ? null : of(all),
  );
}

/** Each minute's own part of what was sold so far. Refunds may make it negative; then nothing is drawn. */
export function gmvByMinute(points: readonly TimelinePoint[], startedAt: number | null): (number | null)[] {
  const totals = byMinute(points, (all) => all.at(-1)?.gmv_minor ?? 0);
  const first = points[0];
  // A window that begins with the show begins at zero; of another one, the first minute is not known.
  let before: number | null = first !== undefined && startedAt !== null && first.at <= startedAt + MINUTE_MS ? 0 : null;
  return totals.map((total) => {
    if (total === null) return null;
    const part = before === null ? null : Math.max(0, total - before);
    before = total;
    return part;
  });
}
