//! The rules' refusals as problems: the same code and the same words wherever a command came from.

use serde_json::json;

use crate::checkout::rules::{Allowed, EndReason, Item, Refusal};
use crate::checkout::{Failed, NoAnswer};
use crate::error::{Code, Error, Problem, invalid};

/// Why the rules said no.
pub fn refused(refusal: Refusal) -> Error {
    let problem = match refusal {
        Refusal::ShowNotLive => Problem::new(Code::ShowNotLive, "The show has not started."),
        Refusal::ShowEnded => Problem::new(Code::ShowEnded, "The show has ended."),
        Refusal::NotInLineup { product_id } => {
            Problem::new(Code::NotInLineup, "Put the product into the show's line-up first.")
                .with("product_id", json!(product_id))
        }
        Refusal::UnknownSale { sale_id } => {
            Problem::new(Code::NotFound, format!("There is no sale {sale_id} in this show."))
        }
        Refusal::NotStarted { sale_id, in_ms } => Problem::new(Code::NotStarted, "The sale has not started yet.")
            .with("sale_id", json!(sale_id))
            .with("in_ms", in_ms),
        Refusal::SaleEnded { sale_id } => {
            Problem::new(Code::SaleEnded, "The sale has ended.").with("sale_id", json!(sale_id))
        }
        Refusal::SoldOut { item } => named(Problem::new(Code::SoldOut, "Every unit is sold."), item),
        Refusal::AllHeld { item, in_checkout, retry_after_ms } => {
            named(Problem::new(Code::AllHeld, "Every unit is in somebody's checkout; some may come back."), item)
                .with("in_checkout", json!(in_checkout))
                .with("retry_after_ms", retry_after_ms)
        }
        Refusal::NotEnough { item, available } => {
            named(Problem::new(Code::NotEnough, format!("Only {available} are left.")), item)
                .with("available", json!(available))
        }
        Refusal::LimitReached { sale_id, limit, used } => {
            Problem::new(Code::LimitReached, format!("A buyer may have {limit} in this sale, and has {used}."))
                .with("sale_id", json!(sale_id))
                .with("limit", json!(limit))
                .with("used", json!(used))
        }
        Refusal::HoldOpen { hold_id } => {
            Problem::new(Code::HoldOpen, "Pay for or release the hold that is open.").with("hold_id", json!(hold_id))
        }
        Refusal::KeyReused => Problem::new(Code::KeyReused, "Use a new Idempotency-Key for a new request."),
        Refusal::HoldEnded => Problem::new(Code::HoldEnded, "The hold has ended; ask for a new one."),
        Refusal::NotFound => Problem::new(Code::NotFound, "There is no such thing in this show."),
        Refusal::Conflict => Problem::new(Code::Conflict, "It is in a state that does not allow this."),
        Refusal::VersionConflict { version } => {
            Problem::new(Code::VersionConflict, "Somebody changed it first.").with("version", version)
        }
        Refusal::SaleOver { sale_id, ended_at, reason, by } => {
            let happened = match (reason, &by) {
                (EndReason::ByHand, Some(by)) => format!("{by} ended the sale"),
                (EndReason::ByHand, None) => "The sale was ended by hand".into(),
                (EndReason::ByTime, _) => "The sale ended by its time".into(),
                (EndReason::ShowEnded, _) => "The sale ended with the show".into(),
            };
            let over = Problem::new(Code::SaleEnded, format!("{happened} at {}.", ended_at.rfc3339()))
                .with("sale_id", json!(sale_id))
                .with("ended_at", json!(ended_at))
                .with("reason", json!(reason));
            if let Some(by) = by { over.with("by", &*by) } else { over }
        }
        Refusal::SaleOnProduct { sale_id } => {
            Problem::new(Code::Conflict, "The product has a sale that has not ended.").with("sale_id", json!(sale_id))
        }
        Refusal::Invalid { field, allowed } => return invalid(field, advice(allowed)),
        Refusal::UnitsCommitted { committed } => {
            Problem::new(Code::UnitsCommitted, format!("{committed} units are held or sold already."))
                .with("committed", json!(committed))
        }
        Refusal::StockShort { available } => {
            Problem::new(Code::StockShort, format!("Only {available} units can be had."))
                .with("available", json!(available))
        }
        Refusal::RefundTooLarge { left_minor } => {
            Problem::new(Code::RefundTooLarge, "More than what is left to refund.").with("left_minor", left_minor)
        }
        Refusal::TooEarly { in_ms } => {
            Problem::new(Code::Conflict, "The provider still has time to answer.").with("in_ms", in_ms)
        }
    };
    problem.into()
}

fn advice(allowed: Allowed) -> String {
    match allowed {
        Allowed::Between(low, high) => format!("Give a number from {} to {}.", grouped(low), grouped(high)),
        Allowed::UpToListPrice(list) => {
            format!("A sale asks no more than the line-up does: at most {} minor units.", grouped(list))
        }
        Allowed::AfterStart => "A sale ends after it starts.".into(),
        Allowed::AnyLine => "Name at least one line.".into(),
        Allowed::NoRestock => "Nothing was sold, so nothing can go back on sale; leave it out.".into(),
    }
}

/// A number as people read it, like 1,000,000.
fn grouped(number: i64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn named(problem: Problem, item: Item) -> Problem {
    match item {
        Item::Product(product_id) => problem.with("product_id", json!(product_id)),
        Item::Sale(sale_id) => problem.with("sale_id", json!(sale_id)),
    }
}

impl From<Failed> for Error {
    fn from(it: Failed) -> Error {
        let problem = match it {
            Failed::Unavailable => {
                Problem::new(Code::Busy, "The database does not answer; try again with the same key.")
            }
            Failed::Internal => Problem::new(Code::Internal, "The cause is in the server's log."),
            Failed::NoShow => Problem::new(Code::NotFound, "There is no such show."),
        };
        problem.into()
    }
}

impl From<NoAnswer> for Error {
    fn from(it: NoAnswer) -> Error {
        match it {
            NoAnswer::Busy => Problem::new(Code::Busy, "Too many buyers at once; try again with the same key.").into(),
            NoAnswer::Failed(it) => it.into(),
        }
    }
}
