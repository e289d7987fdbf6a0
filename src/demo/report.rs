//! What the demo found: figures counted outside the server, the invariants they must keep, and a page about them for people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::books::Books;
use super::buyer::Story;
use super::viewer::{Seen, Viewer};
use crate::check;
use crate::clock::Millis;
use crate::live::{Audience, Entry, Event, Gauge};
use crate::money::Currency;

/// Everything that was written down outside the server, and what the database says about the same.
pub(super) struct Evidence {
    pub(super) title: &'static str,
    pub(super) currency: Currency,
    pub(super) seconds: u32,
    pub(super) units: i64,
    /// As many as there are units, or buyers for them.
    pub(super) expected_paid: u64,
    pub(super) product: String,
    pub(super) sale_price_minor: i64,
    pub(super) allocated: i64,
    pub(super) buyers: u32,
    pub(super) viewers: Vec<Viewer>,
    pub(super) desk: Viewer,
    /// Somebody who came when all was over, and so has the server's own picture of the end.
    pub(super) late: Viewer,
    pub(super) books: Arc<Mutex<Books>>,
    pub(super) log: Vec<Entry>,
    pub(super) gauges: Vec<Gauge>,
    pub(super) stories: Vec<Story>,
    /// The paged list of orders.
    pub(super) orders: Vec<Value>,
    /// What `showcart check` says about the database.
    pub(super) checked: Vec<check::Line>,
}

impl Evidence {
    /// Whether everything that must arrive has arrived.
    pub(super) fn is_settled(&self) -> bool {
        let books = self.books.lock().expect("nothing panics while it holds the books");
        let booked = self.log.iter().rev().find(|it| &*it.kind == "show.ended").is_none_or(|it| books.upto >= it.seq.0);
        drop(books);
        booked
            && self.late.look(|seen| seen.scene.is_some())
            && self.everybody().all(|(viewer, desk)| {
                viewer.look(|seen| self.lost(seen, desk) == 0 && self.stale_gauges(seen, desk).is_empty())
            })
    }

    /// Viewers, and whether they are the desk.
    fn everybody(&self) -> impl Iterator<Item = (&Viewer, bool)> {
        self.viewers.iter().map(|it| (it, false)).chain([(&self.desk, true)])
    }

    /// Entries of the export for this audience behind the first snapshot that never came.
    fn lost(&self, seen: &Seen, desk: bool) -> u64 {
        let Some(first) = seen.first else { return 0 };
        let got: BTreeSet<i64> = seen.entries.iter().copied().collect();
        let meant = self.log.iter().filter(|it| match it.audience {
            Audience::All => true,
            Audience::Desk => desk,
            Audience::Own(_) => false,
        });
        meant.filter(|it| it.seq.0 > first && !got.contains(&it.seq.0)).count() as u64
    }

    /// Gauges whose last value here is not the one in the database.
    fn stale_gauges(&self, seen: &Seen, desk: bool) -> Vec<&str> {
        let meant = self.gauges.iter().filter(|it| desk || !it.desk_only);
        let same = |it: &&Gauge| {
            let parse = |text: &str| serde_json::from_str::<Value>(text).ok();
            seen.gauges.get(&*it.name).is_some_and(|(_, value)| parse(value) == parse(&it.value))
        };
        meant.filter(|it| !same(it)).map(|it| &*it.name).collect()
    }
}

/// One thing that must be true.
struct Invariant {
    name: &'static str,
    ok: bool,
    /// What was found.
    found: String,
}

pub(super) struct Report {
    title: &'static str,
    product: String,
    currency: Currency,
    seconds: u32,
    units: i64,
    sale_price_minor: i64,
    allocated: i64,
    viewers: usize,
    buyers: u32,
    events_delivered: u64,
    events_lost: u64,
    gauges_delivered: u64,
    entry_ms: Percentiles,
    gauge_ms: Percentiles,
    answer_ms: Percentiles,
    requests: u64,
    retries: u64,
    requests_unanswered: u64,
    granted: u64,
    refusals: BTreeMap<String, u64>,
    orders_paid: u64,
    units_oversold: i64,
    declined: u64,
    second_looks: u64,
    let_go: u64,
    gmv_orders_minor: i64,
    gmv_events_minor: i64,
    gmv_gauge_minor: i64,
    event_deliveries: u64,
    events: usize,
    event_connections: u32,
    /// (milliseconds since the start of the sale, what)
    time_line: Vec<(i64, String)>,
    /// Paid orders in each second of the sale.
    paid_by_second: Vec<u64>,
    votes: u64,
    invariants: Vec<Invariant>,
}

#[derive(Default, Clone, Copy)]
struct Percentiles {
    p50: i64,
    p99: i64,
}

impl Percentiles {
    fn of(mut values: Vec<i64>) -> Percentiles {
        values.sort_unstable();
        let at = |percent: usize| values.get((values.len() * percent / 100).min(values.len().saturating_sub(1)));
        Percentiles { p50: at(50).copied().unwrap_or(0), p99: at(99).copied().unwrap_or(0) }
    }
}

impl Report {
    pub(super) fn of(it: &Evidence) -> Report {
        let sum = |of: fn(&Story) -> u64| it.stories.iter().map(of).sum::<u64>();
        let mut refusals: BTreeMap<String, u64> = BTreeMap::new();
        for (code, count) in it.stories.iter().flat_map(|it| &it.refusals) {
            *refusals.entry(code.clone()).or_default() += count;
        }
        let mut events_delivered = 0;
        let mut gauges_delivered = 0;
        let (mut entry_ms, mut gauge_ms) = (Vec::new(), Vec::new());
        for viewer in &it.viewers {
            viewer.look(|seen| {
                events_delivered += seen.entries.len() as u64;
                gauges_delivered += seen.gauges_taken;
                entry_ms.extend_from_slice(&seen.entry_ms);
                gauge_ms.extend_from_slice(&seen.gauge_ms);
            });
        }
        let events_lost = it.everybody().map(|(viewer, desk)| viewer.look(|seen| it.lost(seen, desk))).sum();
        let orders_paid = it.stories.iter().filter(|it| it.paid.is_some()).count() as u64;
        let number = |order: &Value, name: &str| order[name].as_i64().unwrap_or(0);
        let paid_orders = it.orders.iter().filter(|it| it["state"] == "paid");
        let gmv_orders_minor = paid_orders.map(|it| number(it, "amount_minor") - number(it, "refunded_minor")).sum();
        let gauge = it.gauges.iter().find(|it| &*it.name == "gmv");
        let gauge = gauge.and_then(|it| serde_json::from_str::<Value>(&it.value).ok()?["gmv_minor"].as_i64());
        let books = it.books.lock().expect("nothing panics while it holds the books");
        let gmv_events_minor = books.events.values().map(|it| it.delta_minor).sum();
        let (time_line, paid_by_second) = time_line(it);
        let mut report = Report {
            title: it.title,
            product: it.product.clone(),
            currency: it.currency,
            seconds: it.seconds,
            units: it.units,
            sale_price_minor: it.sale_price_minor,
            allocated: it.allocated,
            viewers: it.viewers.len(),
            buyers: it.buyers,
            events_delivered,
            events_lost,
            gauges_delivered,
            entry_ms: Percentiles::of(entry_ms),
            gauge_ms: Percentiles::of(gauge_ms),
            answer_ms: Percentiles::of(it.stories.iter().flat_map(|it| it.answer_ms.clone()).collect()),
            requests: sum(|it| it.requests),
            retries: sum(|it| it.retries),
            requests_unanswered: sum(|it| it.unanswered),
            granted: sum(|it| it.granted),
            refusals,
            orders_paid,
            units_oversold: (i64::try_from(orders_paid).unwrap_or(i64::MAX) - it.units).max(0),
            declined: sum(|it| it.declined),
            second_looks: sum(|it| it.second_looks),
            let_go: sum(|it| it.let_go),
            gmv_orders_minor,
            gmv_events_minor,
            gmv_gauge_minor: gauge.unwrap_or(0),
            event_deliveries: books.deliveries,
            events: books.events.len(),
            event_connections: books.connections,
            time_line,
            paid_by_second,
            votes: it.viewers.iter().map(|it| it.look(|seen| seen.votes)).sum(),
            invariants: Vec::new(),
        };
        report.invariants = report.check(it, &books);
        report
    }

    /// Everything that must be true, each with what was found. Further checks add their lines here.
    fn check(&self, it: &Evidence, books: &Books) -> Vec<Invariant> {
        let must = |name, ok, found| Invariant { name, ok, found };
        let joined = it.viewers.iter().filter(|it| it.look(|seen| seen.first.is_some())).count();
        let faults: Vec<String> =
            it.everybody().flat_map(|(viewer, _)| viewer.look(|seen| seen.faults.clone())).collect();
        let stale: BTreeSet<String> = it
            .everybody()
            .flat_map(|(viewer, desk)| {
                viewer.look(|seen| it.stale_gauges(seen, desk).into_iter().map(str::to_owned).collect::<Vec<_>>())
            })
            .collect();
        let last = it.late.look(|seen| seen.scene.clone());
        let same = it.everybody().filter(|(viewer, _)| viewer.look(|seen| seen.scene == last)).count();
        let paid: BTreeSet<&str> = it.stories.iter().filter_map(|it| Some(&*it.paid.as_ref()?.order_id)).collect();
        let listed: BTreeSet<&str> =
            it.orders.iter().filter(|it| it["state"] == "paid").filter_map(|it| it["order_id"].as_str()).collect();
        let booked: Vec<&str> = books
            .events
            .values()
            .filter(|it| it.kind == "order.paid")
            .filter_map(|it| it.order_id.as_deref())
            .collect();
        let booked_once: BTreeSet<&str> = booked.iter().copied().collect();
        let charged_minor: i64 = it.stories.iter().filter_map(|it| Some(it.paid.as_ref()?.amount_minor)).sum();
        let troubles: Vec<&str> = it.stories.iter().filter_map(|it| it.trouble.as_deref()).collect();
        let everybody = self.viewers + 1;
        let closings = it.log.iter().filter(|it| &*it.kind == "poll.closed").filter_map(|it| it.event().ok());
        let tallied: i64 = closings.map(|it| if let Event::PollClosed(it) = it { it.total } else { 0 }).sum();
        let broken: Vec<String> = it
            .checked
            .iter()
            .filter(|it| matches!(it.outcome, check::Outcome::Broken(_)))
            .map(ToString::to_string)
            .collect();
        vec![
            must(
                "every vote counts once",
                u64::try_from(tallied) == Ok(self.votes),
                format!("{} votes were taken, the final tally has {tallied}", self.votes),
            ),
            must(
                "the database agrees with itself",
                broken.is_empty(),
                first_of(&broken, &format!("{} checks, the provider's ledger among them", it.checked.len())),
            ),
            must(
                "everyone sees the show",
                joined == self.viewers,
                format!("{joined} of {} got a picture", self.viewers),
            ),
            must("nothing is lost", self.events_lost == 0, format!("{} entries never arrived", self.events_lost)),
            must("everything is in order", faults.is_empty(), first_of(&faults, "no gap and no disorder")),
            must(
                "gauges end at their last value",
                stale.is_empty(),
                match stale.iter().next() {
                    Some(name) => format!("{name} stayed behind for somebody"),
                    None => format!("{} gauges, {everybody} screens", it.gauges.len()),
                },
            ),
            must(
                "every screen ends the same",
                last.is_some() && same == everybody,
                format!("{same} of {everybody} screens show what a newcomer sees"),
            ),
            must(
                "no unit is sold twice",
                self.units_oversold == 0 && self.allocated == self.units,
                format!("{} paid, {} allocated", self.orders_paid, self.allocated),
            ),
            must(
                "every unit is paid for",
                self.orders_paid == it.expected_paid,
                format!("{} of {} paid", self.orders_paid, it.expected_paid),
            ),
            must(
                "every request is answered",
                self.requests_unanswered == 0,
                format!("{} of {} without an answer", self.requests_unanswered, self.requests),
            ),
            must("every payment ends well", troubles.is_empty(), first_of(&troubles, "nobody was left waiting")),
            must(
                "who paid has an order",
                paid == listed,
                format!("{} buyers paid, {} orders are paid", paid.len(), listed.len()),
            ),
            must(
                "each paid order is one event",
                booked_once == listed && booked.len() == listed.len(),
                format!("{} events for {} orders", booked.len(), listed.len()),
            ),
            must(
                "GMV agrees",
                self.gmv_events_minor == self.gmv_orders_minor
                    && self.gmv_gauge_minor == self.gmv_orders_minor
                    && charged_minor >= self.gmv_orders_minor,
                format!(
                    "events {}, orders {}, gauge {}",
                    self.money(self.gmv_events_minor),
                    self.money(self.gmv_orders_minor),
                    self.money(self.gmv_gauge_minor)
                ),
            ),
        ]
    }

    pub(super) fn is_good(&self) -> bool {
        self.invariants.iter().all(|it| it.ok)
    }

    pub(super) fn currency(&self) -> Currency {
        self.currency
    }

    fn money(&self, minor: i64) -> String {
        format!("{} {}", self.currency.format_minor(minor), self.currency)
    }

    /// One object, for machines.
    pub(super) fn json(&self) -> Value {
        let invariants = self.invariants.iter().map(|it| json!({ "name": it.name, "ok": it.ok, "found": it.found }));
        json!({
            "viewers": self.viewers,
            "buyers": self.buyers,
            "events_delivered": self.events_delivered,
            "events_lost": self.events_lost,
            "entry_p50_ms": self.entry_ms.p50,
            "entry_p99_ms": self.entry_ms.p99,
            "gauges_delivered": self.gauges_delivered,
            "gauge_p50_ms": self.gauge_ms.p50,
            "gauge_p99_ms": self.gauge_ms.p99,
            "units_allocated": self.allocated,
            "orders_paid": self.orders_paid,
            "units_oversold": self.units_oversold,
            "requests": self.requests,
            "requests_unanswered": self.requests_unanswered,
            "answer_p50_ms": self.answer_ms.p50,
            "answer_p99_ms": self.answer_ms.p99,
            "granted": self.granted,
            "refusals": self.refusals,
            "gmv_orders_minor": self.gmv_orders_minor,
            "gmv_events_minor": self.gmv_events_minor,
            "currency": self.currency,
            "invariants_ok": self.is_good(),
            "invariants": invariants.collect::<Vec<_>>(),
        })
    }

    /// A page for people.
    pub(super) fn text(&self) -> String {
        let mut page = Page::default();
        page.title(&format!("{} · {} s", self.title, self.seconds));
        page.section("Viewers");
        page.row("screens", &count(self.viewers as u64), "over WebSockets, every second one a guest");
        let latency = |it: Percentiles| format!("p50 {} ms · p99 {} ms", it.p50, it.p99);
        page.row("entries delivered", &count(self.events_delivered), &latency(self.entry_ms));
        page.row("lost on the way", &count(self.events_lost), "compared with the export of the log");
        page.row("gauge values", &count(self.gauges_delivered), &latency(self.gauge_ms));

        page.section(&format!(
            "The sale: {} units of {} at {}",
            self.units,
            self.product,
            self.money(self.sale_price_minor)
        ));
        for (at_ms, what) in &self.time_line {
            page.line(&format!("{:>+9.3} s   {what}", *at_ms as f64 / 1_000.0));
        }
        if let Some(most) = self.paid_by_second.iter().copied().max().filter(|it| *it > 0) {
            page.line("");
            for (second, paid) in self.paid_by_second.iter().enumerate() {
                let bar = "█".repeat((paid * 30).div_ceil(most) as usize);
                page.line(&format!("{second:>7} s   {bar:<30} {paid} paid"));
            }
        }

        page.section("Buyers");
        page.row("wanted one", &count(u64::from(self.buyers)), "all in the same second");
        page.row("requests", &count(self.requests), &format!("taps answered in {}", latency(self.answer_ms)));
        page.row("sent again", &count(self.retries), "with the same key");
        page.row("without an answer", &count(self.requests_unanswered), "");
        page.row("granted a unit", &count(self.granted), "");
        for (code, times) in &self.refusals {
            page.row(&format!("told {code}"), &count(*times), "");
        }
        page.row("card declined first", &count(self.declined), "");
        page.row("asked by their bank", &count(self.second_looks), "");
        page.row("let their unit go", &count(self.let_go), "so that others could have it");
        page.row("paid", &count(self.orders_paid), "");

        page.section("Money");
        page.row("orders", &self.money(self.gmv_orders_minor), "the list of orders, page by page");
        let heard = format!(
            "{} events in {} deliveries over {} connections",
            self.events, self.event_deliveries, self.event_connections
        );
        page.row("events", &self.money(self.gmv_events_minor), &heard);
        page.row("the desk's gauge", &self.money(self.gmv_gauge_minor), "");

        page.section("What must be true");
        for it in &self.invariants {
            page.line(&format!("  {} {:<32} {}", if it.ok { "✓" } else { "✗" }, it.name, it.found));
        }
        page.0
    }
}

fn first_of(found: &[impl AsRef<str>], none: &str) -> String {
    match found {
        [] => none.to_owned(),
        [one] => one.as_ref().to_owned(),
        [first, ..] => format!("{} (and {} more)", first.as_ref(), found.len() - 1),
    }
}

/// The sale from its arming to its end, in milliseconds from its start: what the log says, and what buyers were told.
fn time_line(it: &Evidence) -> (Vec<(i64, String)>, Vec<u64>) {
    let at = |kind: &str| it.log.iter().find(|entry| &*entry.kind == kind).map(|entry| entry.at);
    let Some(start) = at("sale.started") else { return Default::default() };
    let mut moments: Vec<(Millis, String)> = Vec::new();
    let mut mark = |moment: Option<Millis>, what: &str| moments.extend(moment.map(|it| (it, what.to_owned())));
    mark(at("sale.armed"), "armed");
    mark(Some(start), "started");
    mark(it.stories.iter().filter_map(|it| it.first_granted_at).min(), "the first buyer has a unit");
    let mut paid: Vec<Millis> = it.stories.iter().filter_map(|it| Some(it.paid.as_ref()?.at)).collect();
    paid.sort_unstable();
    mark(paid.first().copied(), "the first order is paid");
    mark(paid.last().copied(), "the last order is paid");
    mark(at("sale.sold_out"), "sold out");
    mark(at("sale.ended"), "ended");
    moments.sort_by_key(|it| it.0);
    let mut by_second = Vec::new();
    for moment in &paid {
        let second = usize::try_from((moment.0 - start.0).max(0) / 1_000).unwrap_or(0);
        by_second.resize(by_second.len().max(second + 1), 0);
        by_second[second] += 1;
    }
    (moments.into_iter().map(|(moment, what)| (moment.0 - start.0, what)).collect(), by_second)
}

/// 12345 as 12,345.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn title(&mut self, text: &str) {
        self.line(&format!("\n{text}\n{}", "═".repeat(text.chars().count())));
    }

    fn section(&mut self, text: &str) {
        self.line(&format!("\n{text}"));
    }

    fn row(&mut self, name: &str, figure: &str, note: &str) {
        self.line(format!("  {name:<22} {figure:>14}   {note}").trim_end());
    }

    fn line(&mut self, text: &str) {
        writeln!(self.0, "{text}").expect("text can always be written into memory");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_at_a_glance() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        let it = Percentiles::of((0..200).rev().collect());
        assert_eq!((it.p50, it.p99), (100, 198));
        assert_eq!(Percentiles::of(Vec::new()).p99, 0);
    }
}
