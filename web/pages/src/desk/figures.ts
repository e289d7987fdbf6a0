import type { Observable } from "@showcart/sdk";
import { css, html, type TemplateResult } from "lit";
import { count, money } from "../design/format.js";
import "../design/sparkline.js";
import { base } from "../design/styles.js";
import { desk as texts } from "../texts/desk.en.js";
import type { Point } from "../dashboard/api.js";
import { gmvRates } from "../dashboard/timeline.js";
import { STEP_MS } from "./desk.js";
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
    return [this.desk.points, this.desk.gmvPerMinute, this.desk.about, this.desk.show.gauge("viewers")];
  }

  protected override render(): TemplateResult {
    const points = this.desk.points.get().all;
    const { currency } = this.desk;
    const viewers = byMinute(points, (all) => Math.max(...all.map((it) => it.viewers)));
    const end = (points.at(-1)?.at ?? 0) + STEP_MS;
    const gmv = gmvRates(this.desk.points.get(), end - MINUTES * MINUTE_MS, end, this.desk.about.get()?.started_at ?? null);
    // A point has the most of its ten seconds.
    const now = this.desk.show.gauge("viewers").get() ?? points.at(-1)?.viewers ?? 0;
    const mostViewers = Math.max(now, ...points.map((it) => it.viewers));
    const gmvNow = this.desk.gmvPerMinute.get();
    const mostGmv = Math.max(gmvNow, ...gmv.map((it) => it ?? 0));
    return html`
      <figure aria-label=${texts.figures.audienceSpoken(count(now), count(mostViewers))} role="img">
        <figcaption><span>${texts.figures.audience}</span><span class="figures">${count(now)}</span></figcaption>
        <showcart-sparkline .values=${viewers}></showcart-sparkline>
        <p class="most"><span>${texts.figures.span}</span><span>${texts.figures.most(count(mostViewers))}</span></p>
      </figure>
      <figure aria-label=${texts.figures.gmvSpoken(money(gmvNow, currency), money(mostGmv, currency))} role="img" title=${texts.figures.gmvMeans} data-figure="gmv">
        <figcaption><span>${texts.figures.gmv}</span><span class="figures">${money(gmvNow, currency)}</span></figcaption>
        <showcart-sparkline tone="money" .values=${gmv}></showcart-sparkline>
        <p class="most"><span>${texts.figures.span}</span><span>${texts.figures.most(money(mostGmv, currency))}</span></p>
      </figure>`;
  }
}
customElements.define("showcart-desk-figures", Figures);

/** The points of each of the last minutes, the oldest first; null where there are none. */
function byMinute(points: readonly Point[], of: (all: readonly Point[]) => number): (number | null)[] {
  const last = points.at(-1);
  if (last === undefined) return [];
  const minutes = new Map<number, Point[]>();
  for (const point of points) {
    const minute = Math.floor(point.at / MINUTE_MS);
    minutes.set(minute, [...(minutes.get(minute) ?? []), point]);
  }
  const end = Math.floor(last.at / MINUTE_MS);
  return Array.from({ length: MINUTES }, (_, index) => minutes.get(end - MINUTES + 1 + index)).map((all) =>
    all === undefined ? null : of(all),
  );
}
