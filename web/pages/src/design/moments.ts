/** Moments and amounts as people at a desk write and read them; beside `format.ts`, by `Intl` too. */

import { decimals } from "./money.js";

const locale = (): string => globalThis.navigator?.language || "en";
const times = new Intl.DateTimeFormat(locale(), { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const days = new Intl.DateTimeFormat(locale(), { dateStyle: "medium", timeStyle: "short" });

/** A moment of today, such as 20:14:03. */
export const timeOfDay = (moment: number): string => times.format(moment);
/** A moment of any day. */
export const dayAndTime = (moment: number): string => days.format(moment);

/** What somebody typed, such as "62.5" or "62,50", in minor units; null when it is no amount of this currency. */
export function minorOf(text: string, currency: string): number | null {
  const places = decimals(currency);
  const [, whole, fraction = ""] = /^\s*(\d{1,12})(?:[.,](\d*))?\s*$/.exec(text) ?? [];
  if (whole === undefined || fraction.length > places) return null;
  return Number(whole + fraction.padEnd(places, "0"));
}

export { decimalText as typed } from "./money.js";
