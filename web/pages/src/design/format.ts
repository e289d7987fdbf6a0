/** How amounts, counts and times are written: by `Intl`, in the viewer's language. Nobody else formats anything. */

const locale = (): string => globalThis.navigator?.language || "en";

export { amount as money } from "./money.js";

const counts = new Intl.NumberFormat(locale());
const shortCounts = new Intl.NumberFormat(locale(), { notation: "compact", maximumFractionDigits: 1 });
const percents = new Intl.NumberFormat(locale(), { style: "percent" });

export const count = (value: number): string => counts.format(value);
/** A count for narrow places: 12.4K. */
export const shortCount = (value: number): string =>
  value < 10_000 ? counts.format(value) : shortCounts.format(value);
export const percent = (share: number): string => percents.format(share);

/** Whole seconds left until a moment, such as 0:42 or 1:05:00. Never below zero. */
export function clock(seconds: number): string {
  const two = (value: number) => String(value).padStart(2, "0");
  const [hours, minutes, rest] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return hours > 0 ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

/** Seconds that are left, begun ones counted: a countdown shows 0 when it is over and not before. */
export const secondsLeft = (until: number, now: number): number => Math.max(0, Math.ceil((until - now) / 1000));
