import { texts } from "../texts/dashboard.en.js";
import { isolated } from "../design/bidi.js";
import { count } from "../design/format.js";
import type { Listed, Mark, Poll, Sale } from "./api.js";
import type { Books } from "./books.js";
import type { Act } from "./stage.js";

/** What the stage saw: the marks of the time line, and for their ends and results the lists of sales and polls. */
export interface Stage {
  readonly marks: Iterable<Mark>;
  readonly sales: readonly Sale[];
  readonly polls: readonly Poll[];
  readonly lineup: readonly Listed[];
  readonly books: Books;
}

export function titleOf(sale: Sale, { lineup, marks }: Stage): string {
  const listed = lineup.find((it) => it.product_id === sale.product_id);
  if (listed !== undefined) return listed.variant === null ? listed.title : `${isolated(listed.title)}, ${isolated(listed.variant)}`;
  // It has left the line-up; when the sale began it had a title.
  const begun = [...marks].find((it) => it.type === "sale.started" && Math.abs(it.at - sale.starts_at) < 2_000);
  return begun?.text ?? sale.product_id;
}

/** Sales that have begun, in their order. */
export const begun = (sales: readonly Sale[]): Sale[] =>
  sales.filter((it) => it.state !== "armed" && (it.ended_at === null || it.ended_at >= it.starts_at)).sort((one, other) => one.starts_at - other.starts_at);

export function acts(stage: Stage): Act[] {
  const sales = begun(stage.sales).map((it): Act => ({ kind: "sale", text: titleOf(it, stage), from: it.starts_at, to: it.ended_at ?? Number.POSITIVE_INFINITY, soldOut: stage.books.soldOut.get(it.sale_id) }));
  const polls = stage.polls.map((it): Act => ({ kind: "poll", text: it.question, from: it.opened_at, to: it.closed_at ?? Number.POSITIVE_INFINITY }));
  const pins = [...stage.marks].filter((it) => it.type === "pin.set").map((it): Act => ({ kind: "pin", text: it.text ?? texts.marks.pin, from: it.at, to: null }));
  return [...sales, ...polls, ...pins];
}

/** What was on stage at a moment: of the pins, the latest. */
export function running(all: readonly Act[], at: number): Act[] {
  const pins = all.filter((it) => it.kind === "pin" && it.from <= at).sort((one, other) => one.from - other.from);
  return [...all.filter((it) => it.kind !== "pin" && it.from <= at && (it.to ?? it.from) >= at), ...pins.slice(-1)];
}

/** A line of the report. */
export interface Happened {
  readonly at: number;
  readonly what: string;
  readonly text: string;
  readonly result: string;
}

export function happened(stage: Stage): Happened[] {
  const { marks: words } = texts;
  const all: Happened[] = [];
  for (const { type, at, text } of stage.marks) {
    if (type === "show.started") all.push({ at, what: words.started, text: "", result: "" });
    if (type === "show.ended") all.push({ at, what: words.ended, text: "", result: "" });
    if (type === "pin.set") all.push({ at, what: words.pin, text: text ?? "", result: "" });
  }
  for (const sale of begun(stage.sales)) {
    const sold = stage.books.sales.get(sale.sale_id);
    const text = titleOf(sale, stage);
    all.push({ at: sale.starts_at, what: words.sale, text, result: words.units(count(sold?.units ?? 0), count(sale.cap)) });
    const at = stage.books.soldOut.get(sale.sale_id);
    if (at !== undefined) all.push({ at, what: words.soldOut, text, result: words.after(lasted(at - sale.starts_at)) });
  }
  for (const poll of stage.polls) {
    const total = poll.result?.total ?? poll.counts.reduce((sum, it) => sum + it, 0);
    const votes = words.votes(total, count(total));
    const winner = poll.result?.winner ?? null;
    const result = poll.result === null ? votes : winner !== null ? words.won(isolated(poll.choices[winner] ?? ""), votes) : total === 0 ? words.nobody : words.tied(votes);
    all.push({ at: poll.opened_at, what: words.poll, text: poll.question, result });
  }
  return all.sort((one, other) => one.at - other.at);
}

/** How long, such as 4:05 or 1:02:33. */
export function lasted(ms: number): string {
  const whole = Math.max(0, Math.round(ms / 1000));
  const two = (value: number) => String(value).padStart(2, "0");
  const [hours, minutes, seconds] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return hours > 0 ? `${hours}:${two(minutes)}:${two(seconds)}` : `${minutes}:${two(seconds)}`;
}
