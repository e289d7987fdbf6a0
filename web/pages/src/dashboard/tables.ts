import { html, nothing, type TemplateResult } from "lit";
import { count } from "../design/format.js";
import { texts } from "../texts/dashboard.en.js";
import { begun, type Happened, lasted, type Stage, titleOf } from "./acts.js";
import type { Point } from "./api.js";
import { exactTime, stepText } from "./charts.js";
import { amount } from "../design/money.js";

/** A table that scrolls sideways where it must. */
const table = (id: string, title: string, head: readonly { text: string; isNumber?: boolean }[], body: unknown): TemplateResult =>
  html`<div class="table" tabindex="0" role="region" aria-labelledby=${`${id}-title`}>
    <table id=${id}>
      <caption id=${`${id}-title`}>${title}</caption>
      <thead><tr>${head.map((it) => html`<th scope="col" class=${it.isNumber ? "number" : ""}>${it.text}</th>`)}</tr></thead>
      ${body}
    </table>
  </div>`;

const number = (text: string): TemplateResult => html`<td class="number">${text}</td>`;

export function salesTable(stage: Stage, currency: string): TemplateResult {
  const words = texts.sales;
  const { books } = stage;
  const head = [
    { text: words.product }, { text: words.from }, ...[words.lasted, words.price, words.cap, words.units, words.soldOut, words.orders, words.gmv].map((text) => ({ text, isNumber: true })),
  ];
  const rows = begun(stage.sales).map((sale) => {
    const sold = books.sales.get(sale.sale_id) ?? { orders: 0, units: 0, gmv: 0 };
    const soldOut = books.soldOut.get(sale.sale_id);
    return html`<tr data-sale=${sale.sale_id}>
      <th scope="row">${titleOf(sale, stage)}</th><td>${exactTime(sale.starts_at)}</td>
      ${number(sale.ended_at === null ? words.running : lasted(sale.ended_at - sale.starts_at))}${number(amount(sale.price_minor, currency))}${number(count(sale.cap))}
      ${number(count(sold.units))}${number(soldOut === undefined ? "" : lasted(soldOut - sale.starts_at))}${number(count(sold.orders))}${number(amount(sold.gmv, currency))}
    </tr>`;
  });
  const listPrice = books.sales.get(null);
  if (rows.length === 0 && listPrice === undefined) return html`<section class="report"><h2>${words.title}</h2><p class="quiet">${words.none}</p></section>`;
  const units = [...books.sales.values()].reduce((sum, it) => sum + it.units, 0);
  return table("sales", words.title, head, html`<tbody>${rows}
      ${listPrice === undefined ? nothing : html`<tr><th scope="row">${words.listPrice}</th><td></td><td></td><td></td><td></td>${number(count(listPrice.units))}<td></td>${number(count(listPrice.orders))}${number(amount(listPrice.gmv, currency))}</tr>`}
      ${books.refunded === 0 ? nothing : html`<tr><th scope="row">${words.refunded}</th><td></td><td></td><td></td><td></td><td></td><td></td><td></td>${number(amount(-books.refunded, currency))}</tr>`}
    </tbody>
    <tfoot><tr><th scope="row">${words.total}</th><td></td><td></td><td></td><td></td>${number(count(units))}<td></td>${number(count(books.orders))}${number(amount(books.gmv, currency))}</tr></tfoot>`);
}

export function happenedTable(all: readonly Happened[], startedAt: number | null): TemplateResult {
  const words = texts.marks;
  if (all.length === 0) return html`<section class="report"><h2>${words.title}</h2><p class="quiet">${words.none}</p></section>`;
  const head = [{ text: words.time }, { text: words.into }, { text: words.what }, { text: words.text }, { text: words.result }];
  return table("marks", words.title, head, html`<tbody>${all.map(
    (it) => html`<tr><td class="time">${exactTime(it.at)}</td><td class="time">${startedAt === null || it.at < startedAt ? "" : lasted(it.at - startedAt)}</td><td>${it.what}</td><th scope="row">${it.text}</th><td>${it.result}</td></tr>`,
  )}</tbody>`);
}

export function pointsTable(points: readonly Point[], stepMs: number, currency: string): TemplateResult {
  const words = texts.points;
  const head = [{ text: words.time }, ...[words.viewers, words.gmv, words.orders, words.granted, words.refused, words.failed, words.p50, words.p99].map((text) => ({ text, isNumber: true }))];
  const ms = (it: number | null) => (it === null ? "" : texts.charts.ms(count(it)));
  return table("seen", words.caption(stepText(stepMs)), head, html`<tbody>${points.map(
    (it) => html`<tr><th scope="row" class="time">${exactTime(it.at)}</th>${number(count(it.viewers))}${number(amount(it.gmv_minor, currency))}${number(count(it.orders))}
      ${number(count(it.granted))}${number(count(it.refused))}${number(count(it.failed))}${number(ms(it.wait_p50_ms))}${number(ms(it.wait_p99_ms))}</tr>`,
  )}</tbody>`);
}
