import type { Point } from "./api.js";
import { decimalText } from "../design/money.js";

/** RFC 4180: lines end with CRLF, and what has a comma, a quote or a line break stands in quotes. */
export function csv(rows: readonly (readonly (string | number | null)[])[]): string {
  const field = (value: string | number | null) => {
    const text = value === null ? "" : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return rows.map((row) => row.map(field).join(",") + "\r\n").join("");
}

/** One line for each point; the column names say the units. Sums so far are of the whole show up to the end of the step. */
export function pointsCsv(points: readonly Point[], stepMs: number, currency: string): string {
  const header = [
    "time_utc", "time_unix_ms", "step_ms", "viewers_max", "viewers_behind_max", "requests_granted", "requests_refused", "requests_failed",
    "wait_p50_ms", "wait_p99_ms", "provider_errors", "provider_line_max", "orders_so_far", `gmv_so_far_${currency}`, `refunded_so_far_${currency}`,
  ];
  const row = (it: Point) => [
    new Date(it.at).toISOString(), it.at, stepMs, it.viewers, it.viewers_behind, it.granted, it.refused, it.failed, it.wait_p50_ms, it.wait_p99_ms,
    it.provider_errors, it.provider_line, it.orders, decimalText(it.gmv_minor, currency), decimalText(it.refunded_minor, currency),
  ];
  return csv([header, ...points.map(row)]);
}
