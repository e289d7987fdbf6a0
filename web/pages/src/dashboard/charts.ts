import uPlot from "uplot";
import { texts } from "../texts/dashboard.en.js";
import { decimals, roundAmount } from "../design/money.js";
import { type Act, bands } from "./stage.js";
import type { Columns } from "./timeline.js";

/** Colours of a theme, or of ink on paper. */
export interface Palette {
  readonly ink: string;
  readonly quiet: string;
  readonly line: string;
  readonly money: string;
  readonly scarce: string;
  readonly signal: string;
  /** How much of its colour the band of a sale has; little on a dark ground, where more would drown the lines of the chart. */
  readonly band: number;
  readonly font: string;
}

/** On paper everything is ink; what a colour says elsewhere is said by how dark it is. */
export const paper = (font: string): Palette => ({ ink: "#000000", quiet: "#444444", line: "#CCCCCC", money: "#333333", scarce: "#A6A6A6", signal: "#666666", band: 0.14, font });

export interface Frame {
  readonly columns: Columns;
  /** Milliseconds. */
  readonly from: number;
  readonly to: number;
  /** The end of what is known, between them. */
  readonly edge: number;
  /** When the last step began, while it still grows. */
  readonly unfinished: number | null;
  readonly currency: string;
  readonly acts: readonly Act[];
}

export type ChartName = "viewers" | "gmv" | "orders" | "requests" | "wait";
export const CHARTS: readonly ChartName[] = ["viewers", "gmv", "orders", "requests", "wait"];

export interface Hands {
  /** The cursor is at this step, or has left. */
  readonly point: (index: number | null) => void;
  readonly zoom: (from: number, to: number) => void;
}

/** Where the plot begins and ends within its row, the same for all of them and the lane above. */
export const insets = (isNarrow: boolean) => ({ left: isNarrow ? 48 : 58, right: isNarrow ? 8 : 14 });

const AXIS_HEIGHT = 24;
const COUNT_STEPS = stepsFrom(0);
const short = new Intl.NumberFormat(globalThis.navigator?.language || "en", { notation: "compact", maximumFractionDigits: 1 });

/** Distances of lines: 1, 2 and 5 of each power of ten, from one on. */
function stepsFrom(power: number): number[] {
  return Array.from({ length: 10 - power }, (_, index) => power + index).flatMap((it) => [1, 2, 5].map((digit) => Number(`${digit}e${it}`)));
}

/** Five charts that share their time axis and their cursor. */
export class Charts {
  readonly #plots = new Map<ChartName, uPlot>();
  readonly #holders: ReadonlyMap<ChartName, HTMLElement>;
  readonly #hands: Hands;
  #frame: Frame | null = null;
  #made = "";

  constructor(holders: ReadonlyMap<ChartName, HTMLElement>, hands: Hands) {
    this.#holders = holders;
    this.#hands = hands;
  }

  /** `scale` makes everything larger, for paper, where it is shown smaller again and therefore sharper. */
  draw(frame: Frame, size: { width: number; height: number; isNarrow: boolean; scale: number }, palette: Palette): void {
    this.#frame = frame;
    const made = JSON.stringify([size, palette, frame.currency]);
    const isNew = made !== this.#made;
    if (isNew) {
      this.clear();
      this.#made = made;
    }
    for (const name of CHARTS) {
      const data = this.#data(name, frame);
      const plot = this.#plots.get(name);
      if (plot !== undefined) {
        plot.setData(data);
        continue;
      }
      const holder = this.#holders.get(name);
      if (holder !== undefined) this.#plots.set(name, new uPlot(this.#options(name, size, palette, frame.currency), data, holder));
    }
  }

  clear(): void {
    for (const plot of this.#plots.values()) plot.destroy();
    this.#plots.clear();
    this.#made = "";
  }

  /** Puts the cursor of all charts at a step, or takes it away. */
  pointAt(index: number | null): void {
    const plot = this.#plots.get("viewers");
    const at = index === null ? undefined : plot?.data[0][index];
    if (plot === undefined) return;
    // The first step may have begun before the show did, left of the edge.
    const place = at === undefined ? { left: -10, top: -10 } : { left: Math.max(0, plot.valToPos(at, "x")), top: 10 };
    // What a program moves is not told to the others by itself.
    for (const one of this.#plots.values()) one.setCursor(place);
  }

  #data(name: ChartName, { columns, currency }: Frame): uPlot.AlignedData {
    const { at } = columns;
    const unit = 10 ** decimals(currency);
    switch (name) {
      case "viewers": return [at, columns.viewers];
      // For the curve alone; what is written comes from minor units.
      case "gmv": return [at, columns.gmv.map((it) => it / unit)];
      case "orders": return [at, columns.orders];
      case "requests": {
        // They lie upon each other, the highest behind.
        const answered = columns.granted.map((it, index) => it + (columns.refused[index] ?? 0));
        return [at, answered.map((it, index) => it + (columns.failed[index] ?? 0)), answered, columns.granted];
      }
      case "wait": return [at, columns.p99, columns.p50];
    }
  }

  #options(name: ChartName, { width, height, isNarrow, scale }: { width: number; height: number; isNarrow: boolean; scale: number }, palette: Palette, currency: string): uPlot.Options {
    const inset = insets(isNarrow);
    const hasAxis = isNarrow || name === "wait";
    const px = (value: number) => value * scale;
    const font = `${px(11)}px ${palette.font}`;
    return {
      width: px(width),
      height: px(height + (hasAxis ? AXIS_HEIGHT : 0)),
      padding: [px(8), px(inset.right), hasAxis ? 0 : px(4), 0],
      legend: { show: false },
      cursor: {
        y: false,
        points: { size: px(7) },
        drag: { x: true, y: false, setScale: false },
        sync: { key: "showcart", scales: ["x", null] },
        focus: { prox: -1 },
      },
      scales: {
        x: { time: true, range: () => [(this.#frame?.from ?? 0) / 1000, (this.#frame?.to ?? 1) / 1000] },
        // Small amounts fill the chart, too; of one viewer the line does not hang under the edge.
        y: { range: (_, __, most) => [0, name === "gmv" && (most ?? 0) > 0 ? (most ?? 0) * 1.12 : Math.max(2, (most ?? 0) * 1.12)] },
      },
      axes: [
        {
          show: hasAxis, size: px(AXIS_HEIGHT), font, stroke: palette.quiet, gap: px(5), space: px(isNarrow ? 72 : 90),
          grid: { stroke: palette.line, width: scale }, ticks: { show: false },
          // One that would run over the edge is left away.
          values: (plot, splits) => splits.map((it, index) => (plot.valToPos(it, "x") > plot.bbox.width / uPlot.pxRatio - px(26 - inset.right) ? "" : axisTime(it * 1000, (splits[1] ?? it) - (splits[0] ?? 0), index))),
        },
        {
          size: px(inset.left), font, stroke: palette.quiet, gap: px(6), space: px(26), ticks: { show: false },
          grid: { stroke: palette.line, width: scale },
          incrs: name === "gmv" ? stepsFrom(-decimals(currency)) : COUNT_STEPS,
          values: (_, splits) => (name === "gmv" ? axisAmounts(splits, currency, font, px(inset.left - 8)) : splits.map((it) => (name === "wait" ? texts.charts.ms(short.format(it)) : short.format(it)))),
        },
      ],
      series: [{}, ...this.#series(name, palette, scale)],
      hooks: {
        drawClear: [(plot) => this.#acts(plot, palette, scale)],
        draw: name === "requests" ? [(plot) => this.#fadeUnfinished(plot)] : [],
        setCursor: name === "viewers" ? [({ cursor }) => this.#hands.point(cursor.idx == null || (cursor.left ?? -1) < 0 ? null : cursor.idx)] : [],
        setSelect: name === "viewers" ? [(plot) => this.#select(plot)] : [],
      },
    };
  }

  #series(name: ChartName, palette: Palette, scale: number): uPlot.Series[] {
    const plain = { points: { show: false }, spanGaps: false } as const;
    const steps = uPlot.paths.stepped?.({ align: 1 });
    const filled = (fill: string): uPlot.Series => ({ ...plain, fill, width: 0, ...(steps === undefined ? {} : { paths: steps }) });
    switch (name) {
      case "viewers": return [{ ...plain, stroke: palette.ink, width: 1.75 * scale, points: { show: lonely } }];
      case "gmv": return [{ ...plain, stroke: palette.money, width: 1.75 * scale, fill: faint(palette.money, 0.18) }];
      case "orders": return [{ ...plain, stroke: palette.money, width: 1.75 * scale }];
      case "requests": return [filled(palette.signal), filled(palette.scarce), filled(palette.money)];
      case "wait": return [
        { ...plain, stroke: palette.scarce, width: 1.25 * scale, points: { show: true, size: 3.5 * scale, fill: palette.scarce, stroke: palette.scarce, width: 0 } },
        { ...plain, stroke: palette.ink, width: 1.25 * scale, points: { show: true, size: 3.5 * scale, fill: palette.ink, stroke: palette.ink, width: 0 } },
      ];
    }
  }

  /** Sales and polls as bands behind the curves, pins as lines. */
  #acts(plot: uPlot, palette: Palette, scale: number): void {
    const { ctx, bbox } = plot;
    const x = (at: number) => Math.min(bbox.left + bbox.width, Math.max(bbox.left, plot.valToPos(at / 1000, "x", true)));
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    const { acts = [], from: first = 0, to: last = 0, edge = 0 } = this.#frame ?? {};
    const seen = acts.filter(({ from, to }) => from <= last && (to ?? from) >= first);
    for (const [kind, colour] of [["sale", faint(palette.scarce, palette.band)], ["poll", faint(palette.quiet, 0.1)]] as const) {
      ctx.fillStyle = colour;
      for (const { from, to } of bands(seen.filter((it) => it.kind === kind), edge)) {
        ctx.fillRect(x(from), bbox.top, Math.max(uPlot.pxRatio, x(to) - x(from)), bbox.height);
      }
    }
    ctx.strokeStyle = palette.quiet;
    ctx.globalAlpha = 0.55;
    ctx.lineWidth = scale * uPlot.pxRatio;
    ctx.setLineDash([2 * scale * uPlot.pxRatio, 3 * scale * uPlot.pxRatio]);
    for (const { from, to } of seen) {
      if (to !== null) continue;
      ctx.beginPath();
      ctx.moveTo(x(from), bbox.top);
      ctx.lineTo(x(from), bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.restore();
  }

  /** Sums of a step that is not over are paler, so that nobody takes them for those of a whole one. */
  #fadeUnfinished(plot: uPlot): void {
    const { unfinished = null, to = 0 } = this.#frame ?? {};
    if (unfinished === null) return;
    const { ctx, bbox } = plot;
    const [left, right] = [plot.valToPos(unfinished / 1000, "x", true), plot.valToPos(to / 1000, "x", true)];
    ctx.save();
    ctx.globalCompositeOperation = "destination-out";
    ctx.globalAlpha = 0.55;
    ctx.fillRect(Math.max(bbox.left, left), bbox.top, right - left, bbox.height);
    ctx.restore();
  }

  #select(plot: uPlot): void {
    const { left, width } = plot.select;
    if (width < 4) return;
    const [from, to] = [plot.posToVal(left, "x") * 1000, plot.posToVal(left + width, "x") * 1000];
    // Every chart has drawn the selection.
    for (const one of this.#plots.values()) one.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.#hands.zoom(from, to);
  }
}

let ruler: CanvasRenderingContext2D | null = null;

/** Amounts beside the axis, alike: with their currency where all of them have room, else without, as the chart's number has it. */
function axisAmounts(splits: readonly number[], currency: string, font: string, room: number): string[] {
  ruler ??= document.createElement("canvas").getContext("2d");
  if (ruler !== null) ruler.font = font;
  const fits = (text: string) => (ruler?.measureText(text).width ?? 0) <= room;
  const full = splits.map((it) => roundAmount(Math.round(it * 10 ** decimals(currency)), currency));
  if (full.every(fits)) return full;
  const plain = new Intl.NumberFormat(locale(), { maximumFractionDigits: decimals(currency) });
  const bare = splits.map((it) => plain.format(it));
  return bare.every(fits) ? bare : splits.map((it) => short.format(it));
}

/** Shows the points of a curve only where one stands alone, which no line would show. */
const lonely: uPlot.Series.Points.Show = (plot, series) => [...(plot.data[series] as readonly (number | null)[])].filter((it) => it !== null).length === 1;

const faint = (hex: string, alpha: number): string => {
  const [, red, green, blue] = /^rgba?\((\d+), (\d+), (\d+)/.exec(hex) ?? [];
  return red === undefined ? hex + Math.round(alpha * 255).toString(16).padStart(2, "0") : `rgba(${red}, ${green}, ${blue}, ${alpha})`;
};

const locale = (): string => globalThis.navigator?.language || "en";
const hours = new Intl.DateTimeFormat(locale(), { hour: "2-digit", minute: "2-digit" });
const seconds = new Intl.DateTimeFormat(locale(), { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const days = new Intl.DateTimeFormat(locale(), { day: "numeric", month: "short" });

function axisTime(at: number, apartS: number, index: number): string {
  if (apartS >= 86_400) return days.format(at);
  if (apartS < 60) return seconds.format(at);
  return index > 0 && new Date(at).getHours() === 0 && new Date(at).getMinutes() === 0 ? `${days.format(at)}` : hours.format(at);
}

export const timeOfDay = (at: number): string => hours.format(at);
export const exactTime = (at: number): string => seconds.format(at);
/** A step's length. */
export const stepText = (stepMs: number): string => (stepMs < 60_000 ? texts.charts.steps.s(String(stepMs / 1000)) : texts.charts.steps.min(String(stepMs / 60_000)));
