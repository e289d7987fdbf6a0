//! What a batch has to say, in the words of the wire: entries of the log, and gauges.

use std::collections::BTreeMap;

use anyhow::Context;
use serde_json::{Value, json};

use super::rules::{self, Counts, Effects, Gauge, News, Paid, Refunded, SaleTerms, Totals};
use crate::error::Result;
use crate::ids::SaleId;
use crate::live::{Card, Change, Event, PaidLine, PaidOrder, RefundedOrder, SaleOnStage};

/// The gauge that holds a show's running totals.
pub(super) const GMV: &str = "gmv";

/// Says the entries and gauges of a batch in its change.
pub(super) fn say(change: &mut Change, effects: &Effects, cards: &BTreeMap<SaleId, Card>) -> Result<()> {
    for entry in &effects.entries {
        let event = event(entry, cards)?;
        change.emit_once(entry.audience.clone(), event, entry.at, entry.once.clone());
    }
    for gauge in &effects.gauges {
        match gauge {
            Gauge::Units { counts, .. } | Gauge::Stock { counts, .. } => {
                change.gauge(gauge.name(), counts_json(counts));
            }
            Gauge::Gmv { totals, currency } => {
                let Totals { orders, gmv_minor, refunded_minor } = totals;
                let value = json!({
                    "orders": orders, "gmv_minor": gmv_minor, "refunded_minor": refunded_minor, "currency": currency,
                });
                change.desk_gauge(gauge.name(), value);
            }
        }
    }
    Ok(())
}

/// Whether a gauge says that units of something are left.
pub(super) fn units_are_left(gauge: &str, value: &str) -> bool {
    Gauge::counts_units(gauge) && serde_json::from_str::<Value>(value).is_ok_and(|it| it["left"].as_i64() > Some(0))
}

/// Running totals, from the gauge that keeps them.
pub(super) fn read_totals(value: &str) -> anyhow::Result<Totals> {
    let value: Value = serde_json::from_str(value).context("the gmv gauge")?;
    let number = |name: &str| value[name].as_i64().with_context(|| format!("{name} in the gmv gauge"));
    Ok(Totals { orders: number("orders")?, gmv_minor: number("gmv_minor")?, refunded_minor: number("refunded_minor")? })
}

fn counts_json(counts: &Counts) -> Value {
    json!({ "left": counts.left, "in_checkout": counts.in_checkout, "sold": counts.sold })
}

fn event(entry: &rules::Entry, cards: &BTreeMap<SaleId, Card>) -> Result<Event> {
    let at = entry.at;
    Ok(match entry.news.clone() {
        News::ShowStarted => Event::ShowStarted { started_at: at },
        News::ShowEnded => Event::ShowEnded { ended_at: at },
        News::SaleArmed(it) => Event::SaleArmed(on_stage(it, cards)?),
        News::SaleStarted(it) => Event::SaleStarted(on_stage(it, cards)?),
        News::SaleChanged { sale_id, product_id, cap } => Event::SaleChanged { sale_id, product_id, cap },
        News::SaleEnded { sale_id, product_id, reason } => Event::SaleEnded { sale_id, product_id, reason },
        News::SaleSoldOut { sale_id, product_id } => Event::SaleSoldOut { sale_id, product_id },
        News::SaleRestocked { sale_id, product_id, left } => Event::SaleRestocked { sale_id, product_id, left },
        News::HoldExpired { hold_id } => Event::HoldExpired { hold_id },
        News::OrderPaid(it) => Event::OrderPaid(paid(it, entry.test)?),
        News::OrderConfirmed { order_id, hold_id, amount_minor, currency } => {
            Event::OrderConfirmed { order_id, hold_id, amount_minor, currency }
        }
        News::OrderCanceled { order_id, hold_id } => Event::OrderCanceled { order_id, hold_id },
        News::OrderUnfulfilled { order_id, hold_id, refund_id, amount_minor, currency } => {
            Event::OrderUnfulfilled { order_id, hold_id, refund_id, amount_minor, currency }
        }
        News::OrderRefunded(it) => Event::OrderRefunded(refunded(it, entry.test)),
        News::BuyerRefunded { order_id, refund_id, reason, amount_minor, currency } => {
            Event::BuyerRefunded { order_id, refund_id, reason: reason.as_str().into(), amount_minor, currency }
        }
        News::RefundFailed(it) => Event::RefundFailed(refunded(it, entry.test)),
        News::PaymentMismatch {
            order_id,
            payment_id,
            expected_minor,
            expected_currency,
            received_minor,
            received_currency,
        } => Event::PaymentMismatch {
            order_id,
            payment_id,
            expected_minor,
            expected_currency,
            received_minor,
            received_currency,
        },
        News::PaymentDuplicate { order_id, payment_id, refund_id, received_minor, received_currency } => {
            Event::PaymentDuplicate { order_id, payment_id, refund_id, received_minor, received_currency }
        }
    })
}

fn on_stage(it: SaleTerms, cards: &BTreeMap<SaleId, Card>) -> Result<SaleOnStage> {
    let product = cards.get(&it.sale_id).cloned().context("the store reads the card of each sale on stage")?;
    let SaleTerms { sale_id, price_minor, currency, cap, limit_per_buyer, starts_at, ends_at, .. } = it;
    Ok(SaleOnStage { sale_id, product, price_minor, currency, cap, limit_per_buyer, starts_at, ends_at })
}

fn paid(it: Paid, test: bool) -> Result<PaidOrder> {
    let opaque = |text: Option<std::sync::Arc<str>>| text.map(|it| serde_json::from_str(&it)).transpose();
    let lines = it.lines.into_iter().map(|it| PaidLine {
        product_id: it.line.product_id,
        sale_id: it.line.sale_id,
        quantity: it.line.quantity,
        unit_price_minor: it.line.unit_price_minor,
        price_from: it.window.map(|it| it.starts_at),
        price_until: it.window.and_then(|it| it.ends_at),
    });
    Ok(PaidOrder {
        order_id: it.order_id,
        hold_id: it.hold_id,
        buyer: it.buyer,
        lines: lines.collect(),
        amount_minor: it.amount_minor,
        currency: it.currency,
        gmv_delta_minor: it.gmv_delta_minor,
        late: it.late,
        test,
        seen: opaque(it.seen).context("`seen` was JSON when it was taken in")?,
        metadata: opaque(it.metadata).context("`metadata` was JSON when it was taken in")?,
    })
}

fn refunded(it: Refunded, test: bool) -> RefundedOrder {
    let Refunded { order_id, refund_id, reason, amount_minor, currency, gmv_delta_minor } = it;
    let reason = reason.as_str().into();
    RefundedOrder { order_id, refund_id, reason, amount_minor, currency, gmv_delta_minor, test }
}
