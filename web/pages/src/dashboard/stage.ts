import { svg, type SVGTemplateResult } from "lit";

/** Something on stage: at a moment, or for a while. */
export interface Act {
  readonly kind: "sale" | "poll" | "pin";
  readonly text: string;
  readonly from: number;
  /** Null is a moment, and infinity is until further notice. */
  readonly to: number | null;
  /** When the last unit of a sale was paid for. */
  readonly soldOut?: number | undefined;
}

/** Where it is drawn, in pixels. */
export interface Placed {
  readonly act: Act;
  readonly row: number;
  readonly left: number;
  /** Of the bar; a moment has none. */
  readonly width: number;
  /** Of its width, what came after it was sold out. */
  readonly after: number;
  readonly label: string;
  readonly labelLeft: number;
  readonly labelWidth: number;
}

const GAP = 6;
/** Less tells nothing. */
const LABEL_MIN = 26;
/** With so much room a label is worth a row of its own. */
const LABEL_WANTED = 96;
const BAR_MIN = 3;

export interface Place {
  readonly from: number;
  readonly to: number;
  /** The end of what is known: nothing goes on beyond it. */
  readonly edge: number;
  readonly width: number;
  /** How wide a text is. */
  readonly measure: (text: string) => number;
}

/**
 * Puts acts of one kind into as few rows as possible, at most `rowsMax`. A label stands right of where its act begins and is
 * cut where the next act of its row begins, so that labels never overlap.
 */
export function lay(acts: readonly Act[], rowsMax: number, place: Place): Placed[] {
  const x = (at: number) => ((at - place.from) / (place.to - place.from)) * place.width;
  const seen = acts
    .filter((it) => it.from < place.to && (it.to ?? it.from) >= place.from)
    .sort((one, other) => one.from - other.from)
    .map((act) => {
      const left = Math.max(0, x(act.from));
      const width = act.to === null ? 0 : Math.max(BAR_MIN, Math.min(place.width, x(Math.min(act.to, place.edge))) - left);
      const after = act.soldOut === undefined ? 0 : Math.min(width, Math.max(0, left + width - x(act.soldOut)));
      return { act, left, width, after };
    });
  const rows: { ends: number; all: (typeof seen)[number][] }[] = [];
  for (const it of seen) {
    const wanted = it.left + Math.max(it.width, Math.min(LABEL_WANTED, place.measure(it.act.text)));
    // The first row that is free; else another one; else the one that is free the soonest.
    let row = rows.find(({ ends }) => ends + GAP <= it.left);
    if (row === undefined && rows.length < rowsMax) rows.push((row = { ends: 0, all: [] }));
    row ??= rows.reduce((best, one) => (one.ends < best.ends ? one : best));
    row.all.push(it);
    row.ends = Math.max(row.ends, wanted);
  }
  return rows.flatMap(({ all }, row) =>
    all.map(({ act, left, width, after }, index) => {
      const labelLeft = act.to === null ? left + 5 : left;
      const room = Math.min(all[index + 1]?.left ?? place.width, place.width) - GAP - labelLeft;
      const label = room < LABEL_MIN ? "" : cut(act.text, room, place.measure);
      return { act, row, left, width, after, label, labelLeft, labelWidth: label === "" ? 0 : place.measure(label) };
    }),
  );
}

/** Where one of these acts goes on, until the edge of what is known at most; those that overlap are one. */
export function bands(acts: readonly Act[], edge: number): { from: number; to: number }[] {
  const made: { from: number; to: number }[] = [];
  for (const { from, to } of [...acts].sort((one, other) => one.from - other.from)) {
    if (to === null) continue;
    const last = made.at(-1);
    if (last !== undefined && from <= last.to) last.to = Math.max(last.to, Math.min(to, edge));
    else made.push({ from, to: Math.min(to, edge) });
  }
  return made;
}

function cut(text: string, room: number, measure: (text: string) => number): string {
  if (measure(text) <= room) return text;
  const letters = [...text];
  let [low, high] = [0, letters.length];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (measure(letters.slice(0, middle).join("").trimEnd() + "…") <= room) low = middle;
    else high = middle - 1;
  }
  return low < 2 ? "" : letters.slice(0, low).join("").trimEnd() + "…";
}

const ROW = 23;
const STRIP = 4;
const ROWS_MAX = { sale: 3, poll: 2, pin: 2 } as const;

/** The lane above the charts: which sales, polls and pins there were when. Its words are in the table of marks for listeners. */
export function lane(acts: readonly Act[], place: Place, inset: { readonly left: number; readonly right: number }): SVGTemplateResult {
  const drawn: SVGTemplateResult[] = [];
  let top = 2;
  for (const kind of ["sale", "poll", "pin"] as const) {
    const placed = lay(acts.filter((it) => it.kind === kind), ROWS_MAX[kind], place);
    for (const it of placed) {
      const y = top + it.row * ROW;
      drawn.push(svg`<g class=${`act ${kind}`}><title>${it.act.text}</title>
        ${kind === "pin"
          ? svg`<path d=${`M${inset.left + it.left} ${y + 2}v${ROW - 2}`} class="tick"/>`
          : svg`<rect x=${inset.left + it.left} y=${y + ROW - STRIP - 2} width=${it.width} height=${STRIP}/><rect class="after" x=${inset.left + it.left + it.width - it.after} y=${y + ROW - STRIP - 2} width=${it.after} height=${STRIP}/>`}
        <text x=${inset.left + it.labelLeft} y=${y + 13}>${it.label}</text></g>`);
    }
    top += (placed.reduce((most, it) => Math.max(most, it.row), -1) + 1) * ROW;
  }
  const height = Math.max(ROW, top) + 2;
  return svg`<svg class="lane" width=${inset.left + place.width + inset.right} height=${height} aria-hidden="true">${drawn}</svg>`;
}
