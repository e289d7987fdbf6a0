//! The rules as a table: one line per command with its expected answer and, after `!`, what the log was told (`-` for
//! nothing; no `!`, not looked at). A line that begins with `&` belongs to the batch of the line above.
//!
//! ```text
//! stock mug 10 [other 3]                       a product; units that other shows have
//! tick 120s                                    time passes, nobody asks
//! start · end · sweep                          sweep is an empty batch
//! allocate mug 5 [at 1000]                     at: the list price, needed the first time
//! sale flash mug 700 cap 3 limit 1 [from 10s] [to 60s]
//! endsale flash [v2] [by ben] [key k1] · cap flash 5
//! hold ann/k1 flash*2 mug [ago 5s] [body b]    arrived 5 s ago; another fingerprint
//! pay ann/k1 [key x]                           another Idempotency-Key than its hold's name
//! open · cancel · abandon · release · free ann/k1
//! succeed ann/k1 [amount 1] [in USD] [intent x] [charge 2]
//! charge ann/k1                               the provider knows of a second payment, `charge 2` below
//! refund r1 ann/k1 [300] [restock] [for r0] · accepted r1 [pending] · failed r1 · accepted @ann/k1 [@2ann/k1: the second]
//! is mug 5/1/0 10/5                            allocated/held/sold, on hand/fenced
//! is flash 3/1/0                               cap/held/sold
//! gmv 1 700 0                                  orders, GMV, refunded
//! ```

use std::collections::HashMap;

use super::*;

struct Script {
    world: World,
    products: HashMap<String, ProductId>,
    sales: HashMap<String, SaleId>,
    holds: HashMap<String, HoldId>,
    refunds: HashMap<String, RefundId>,
}

fn play(text: &str) {
    play_in(World::new(false), text);
}

fn play_in(world: World, text: &str) {
    let mut script = Script {
        world,
        products: HashMap::new(),
        sales: HashMap::new(),
        holds: HashMap::new(),
        refunds: HashMap::new(),
    };
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|it| !it.is_empty()).collect();
    let mut at = 0;
    while at < lines.len() {
        let mut end = at + 1;
        while lines.get(end).is_some_and(|it| it.starts_with('&')) {
            end += 1;
        }
        script.batch(&lines[at..end]);
        at = end;
    }
}

fn millis(text: &str) -> i64 {
    match text.strip_suffix("ms") {
        Some(ms) => ms.parse().unwrap(),
        None => text.strip_suffix('s').unwrap().parse::<i64>().unwrap() * 1_000,
    }
}

/// The word after `name`, as in `cap 3`.
fn option<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words.iter().position(|it| *it == name).map(|it| words[it + 1])
}

fn units(text: &str) -> Units {
    Units(text.parse().unwrap())
}

impl Script {
    fn batch(&mut self, lines: &[&str]) {
        let mut commands = Vec::new();
        let mut expected = Vec::new();
        let mut news = None;
        for line in lines {
            let (line, said) = line.split_once('!').map_or((*line, None), |(it, said)| (it, Some(said.trim())));
            let (command, answer) = line.split_once("->").unwrap_or((line, ""));
            let words: Vec<&str> = command.trim_start_matches('&').split_whitespace().collect();
            news = said.or(news);
            if self.aside(&words, line) {
                return;
            }
            commands.extend(self.command(&words));
            if words != ["sweep"] {
                expected.push(answer.trim().to_owned());
            }
        }
        let names: Vec<Option<String>> = lines.iter().map(|it| self.granted_name(it)).collect();
        let decided = self.world.run(commands);
        for (answer, name) in decided.answers.iter().zip(names) {
            if let (Answer::Granted(hold), Some(name)) = (answer, name) {
                self.holds.insert(name, hold.hold_id);
            }
        }
        let answers: Vec<String> = decided.answers.iter().map(describe).collect();
        assert_eq!(answers, expected, "\nafter {lines:#?}");
        if let Some(news) = news {
            let said: Vec<String> = decided.effects.entries.iter().map(describe_entry).collect();
            let said = if said.is_empty() { "-".to_owned() } else { said.join(" ") };
            assert_eq!(said, news, "\nafter {lines:#?}");
        }
    }

    /// Lines that are no commands.
    fn aside(&mut self, words: &[&str], line: &str) -> bool {
        match words[0] {
            "stock" => {
                let others = option(words, "other").map_or(0, |it| it.parse().unwrap());
                let product_id = self.world.stock(words[2].parse().unwrap(), others);
                self.products.insert(words[1].into(), product_id);
            }
            "tick" => self.world.now = Millis(self.world.now.0 + millis(words[1])),
            "is" => {
                let is = match self.sales.get(words[1]) {
                    Some(sale_id) => {
                        let it = &self.world.rows.sales[sale_id];
                        format!("{}/{}/{}", it.cap, it.held, it.sold)
                    }
                    None => {
                        let it = &self.world.rows.allocations[&self.products[words[1]]];
                        let stock = &self.world.rows.stock[&it.product_id];
                        format!("{}/{}/{} {}/{}", it.allocated, it.held, it.sold, stock.on_hand, stock.fenced)
                    }
                };
                assert_eq!(is, words[2..].join(" "), "\nat {line}");
            }
            "gmv" => {
                let it = self.world.rows.totals;
                let is = format!("{} {} {}", it.orders, it.gmv_minor, it.refunded_minor);
                assert_eq!(is, words[1..].join(" "), "\nat {line}");
            }
            // A payment of the same order that our own code would not make: the provider knows of two.
            "charge" => {
                let payment = self.payment(words[1]);
                let mut other = self.world.rows.payments[&payment].clone();
                other.payment_id = self.world.id("pay_");
                other.attempt += 1;
                other.intent_id = None;
                other.state = PaymentState::Open;
                self.world.rows.payments.insert(other.payment_id, other);
            }
            _ => return false,
        }
        true
    }

    fn granted_name(&self, line: &str) -> Option<String> {
        let mut words = line.trim_start_matches('&').split_whitespace();
        (words.next() == Some("hold")).then(|| words.next().unwrap().to_owned())
    }

    fn product(&mut self, name: &str) -> ProductId {
        match self.products.get(name) {
            Some(it) => *it,
            None => self.world.id("prd_"),
        }
    }

    fn sale(&mut self, name: &str) -> SaleId {
        match self.sales.get(name) {
            Some(it) => *it,
            None => self.world.id("sal_"),
        }
    }

    fn hold(&mut self, name: &str) -> HoldId {
        match self.holds.get(name) {
            Some(it) => *it,
            None => self.world.id("hld_"),
        }
    }

    fn order(&mut self, name: &str) -> OrderId {
        let hold_id = self.hold(name);
        let found = self.world.rows.orders.values().find(|it| it.hold_id == hold_id).map(|it| it.order_id);
        found.unwrap_or_else(|| self.world.id("ord_"))
    }

    /// The first payment of the hold's order.
    fn payment(&mut self, name: &str) -> PaymentId {
        self.payments(name).first().copied().unwrap_or_else(|| self.world.id("pay_"))
    }

    fn payments(&mut self, name: &str) -> Vec<PaymentId> {
        let order_id = self.order(name);
        self.world.rows.payments.values().filter(|it| it.order_id == order_id).map(|it| it.payment_id).collect()
    }

    fn command(&mut self, words: &[&str]) -> Option<Command> {
        let now = self.world.now;
        let name = words.get(1).copied().unwrap_or_default();
        let buyer = || name.split('/').next().unwrap().parse::<BuyerId>().unwrap();
        Some(match words[0] {
            "sweep" => return None,
            "start" => Command::StartShow,
            "end" => Command::EndShow,
            "allocate" => Command::SetAllocation {
                product_id: self.product(name),
                allocated: units(words[2]),
                listing: option(words, "at").map(|it| Listing { list_price_minor: it.parse().unwrap(), position: 1 }),
            },
            "sale" => {
                let sale_id = self.sale(name);
                self.sales.insert(name.into(), sale_id);
                let later = |name| option(words, name).map(|it| Millis(now.0 + millis(it)));
                Command::ArmSale(NewSale {
                    sale_id,
                    product_id: self.product(words[2]),
                    price_minor: words[3].parse().unwrap(),
                    cap: units(option(words, "cap").unwrap()),
                    limit_per_buyer: units(option(words, "limit").unwrap()),
                    starts_at: later("from").unwrap_or(now),
                    ends_at: later("to"),
                })
            }
            "endsale" => {
                let version = words[2..].iter().find_map(|it| it.strip_prefix('v')).map(|it| it.parse().unwrap());
                let (by, key) = (option(words, "by").unwrap_or("hanna"), option(words, "key").unwrap_or("monday"));
                Command::EndSale(EndOfSale { sale_id: self.sale(name), version, by: by.into(), key: key.into() })
            }
            "cap" => Command::SetCap { sale_id: self.sale(name), cap: units(words[2]) },
            "hold" => {
                let items = words[2..].iter().take_while(|it| !["ago", "body"].contains(it));
                let mut lines = Vec::new();
                for item in items {
                    let (item, quantity) = item.split_once('*').unwrap_or((item, "1"));
                    let item = match self.products.get(item) {
                        Some(product_id) => Item::Product(*product_id),
                        None if item.starts_with('?') => Item::Product(self.product(item)),
                        None => Item::Sale(self.sale(item)),
                    };
                    lines.push(Wanted { item, quantity: units(quantity) });
                }
                Command::Hold(HoldRequest {
                    hold_id: self.world.id("hld_"),
                    buyer: buyer(),
                    key: name.split('/').nth(1).unwrap().into(),
                    fingerprint: option(words, "body").unwrap_or_default().into(),
                    lines,
                    arrived: Millis(now.0 - option(words, "ago").map_or(0, millis)),
                    seen: Some("seen".into()),
                    metadata: Some("{}".into()),
                })
            }
            "pay" => Command::Pay {
                hold_id: self.hold(name),
                buyer: option(words, "by").map_or_else(buyer, |it| it.parse().unwrap()),
                key: option(words, "key").unwrap_or(name).into(),
                order_id: self.world.id("ord_"),
                payment_id: self.world.id("pay_"),
            },
            "open" => Command::PaymentOpened {
                payment_id: self.payment(name),
                intent_id: format!("pi {name}").into(),
                client_secret: "secret".into(),
            },
            "succeed" => {
                let payments = self.payments(name);
                let payment_id = match option(words, "charge") {
                    Some(number) => payments[number.parse::<usize>().unwrap() - 1],
                    None => self.payment(name),
                };
                let order_id = self.order(name);
                let order_amount = self.world.rows.orders.get(&order_id).map_or(0, |it| it.amount_minor);
                Command::PaymentSucceeded(Success {
                    payment_id,
                    intent_id: option(words, "intent").map_or_else(|| format!("pi {name}"), str::to_owned).into(),
                    amount_received_minor: option(words, "amount").map_or(order_amount, |it| it.parse().unwrap()),
                    currency: option(words, "in").unwrap_or("EUR").parse().unwrap(),
                    refund_id: self.world.id("rfd_"),
                })
            }
            "cancel" => Command::PaymentCanceled { payment_id: self.payment(name) },
            "abandon" => Command::PaymentAbandoned { payment_id: self.payment(name) },
            "release" => Command::Release {
                hold_id: self.hold(name),
                buyer: option(words, "by").map_or_else(buyer, |it| it.parse().unwrap()),
            },
            "free" => Command::FreeByHost { hold_id: self.hold(name) },
            "refund" => {
                let refund_id = self.refund(name);
                self.refunds.insert(name.into(), refund_id);
                Command::Refund {
                    refund_id,
                    order_id: self.order(words[2]),
                    instead_of: option(words, "for").map(|it| self.refund(it)),
                    amount_minor: words.get(3).and_then(|it| it.parse().ok()),
                    restock: words.contains(&"restock"),
                }
            }
            "accepted" => Command::RefundAccepted {
                refund_id: self.refund(name),
                provider_refund_id: "re_1".into(),
                pending: words.contains(&"pending"),
            },
            "failed" => Command::RefundFailed { refund_id: self.refund(name) },
            other => panic!("{other} is no command"),
        })
    }

    /// By its name in the script; one that the rules made has none, `@ann/k1` is the first of that hold's order.
    fn refund(&mut self, name: &str) -> RefundId {
        if let Some(hold) = name.strip_prefix('@') {
            let order_id = self.order(hold.trim_start_matches('2'));
            let mut of_order = self.world.rows.refunds.values().filter(|it| it.order_id == order_id);
            return of_order.nth(usize::from(hold.starts_with('2'))).unwrap().refund_id;
        }
        match self.refunds.get(name) {
            Some(it) => *it,
            None => self.world.id("rfd_"),
        }
    }
}

fn describe(answer: &Answer) -> String {
    match answer {
        Answer::Granted(it) if it.state == HoldState::Active => format!("granted {}", it.amount_minor),
        Answer::Granted(it) => format!("granted, {} by now", it.state),
        Answer::Paying { order, .. } if order.state == OrderState::Pending => "paying".into(),
        Answer::Paying { order, .. } => format!("paying, {} by now", order.state),
        Answer::Payment(it) => it.state.to_string(),
        Answer::Paid(_) => "paid".into(),
        Answer::Unfulfilled(_) => "unfulfilled".into(),
        Answer::NeedsReview(_) => "needs_review".into(),
        Answer::Duplicate(_) => "duplicate".into(),
        Answer::Order(it) => it.state.to_string(),
        Answer::Hold(it) => it.state.to_string(),
        Answer::NeedsCancel { .. } => "needs_cancel".into(),
        Answer::Sale(it) => it.state.to_string(),
        Answer::Allocation(it) => format!("allocated {}", it.allocated),
        Answer::Show(it) => it.state.to_string(),
        Answer::Refund(it) => {
            let pending = if it.pending { ", pending" } else { "" };
            format!("{} {} {}{pending}", it.reason, it.state, it.amount_minor)
        }
        Answer::Refused(it) => describe_refusal(it),
    }
}

fn describe_refusal(refusal: &Refusal) -> String {
    match refusal {
        Refusal::ShowNotLive => "show_not_live".into(),
        Refusal::ShowEnded => "show_ended".into(),
        Refusal::NotInLineup { .. } => "not_in_lineup".into(),
        Refusal::UnknownSale { .. } => "unknown_sale".into(),
        Refusal::NotStarted { in_ms, .. } => format!("not_started {in_ms}ms"),
        Refusal::SaleEnded { .. } => "sale_ended".into(),
        Refusal::SoldOut { .. } => "sold_out".into(),
        Refusal::AllHeld { in_checkout, retry_after_ms, .. } => format!("all_held {in_checkout} {retry_after_ms}ms"),
        Refusal::NotEnough { available, .. } => format!("not_enough {available}"),
        Refusal::LimitReached { limit, used, .. } => format!("limit_reached {used} of {limit}"),
        Refusal::HoldOpen { .. } => "hold_open".into(),
        Refusal::KeyReused => "key_reused".into(),
        Refusal::HoldEnded => "hold_ended".into(),
        Refusal::NotFound => "not_found".into(),
        Refusal::Conflict => "conflict".into(),
        Refusal::VersionConflict { version } => format!("version_conflict v{version}"),
        Refusal::SaleOver { reason, by, .. } => {
            format!("sale_over {}{}", reason.as_str(), by.as_ref().map_or(String::new(), |it| format!(" by {it}")))
        }
        Refusal::SaleOnProduct { .. } => "sale_on_product".into(),
        Refusal::Invalid { field, .. } => format!("invalid {field}"),
        Refusal::UnitsCommitted { committed } => format!("units_committed {committed}"),
        Refusal::StockShort { available } => format!("stock_short {available}"),
        Refusal::RefundTooLarge { left_minor } => format!("refund_too_large {left_minor}"),
        Refusal::TooEarly { in_ms } => format!("too_early {in_ms}ms"),
    }
}

fn describe_entry(entry: &Entry) -> String {
    let audience = match &entry.audience {
        Audience::All => "all".to_owned(),
        Audience::Desk => "desk".to_owned(),
        Audience::Own(buyer) => buyer.to_string(),
    };
    format!("{audience}:{}", entry.news.kind())
}

#[test]
fn a_buyer_holds_pays_and_has_it() {
    play(
        "
        stock mug 10
        allocate mug 5 at 1000                    -> allocated 5 ! -
        start                                     -> live ! all:show.started
        start                                     -> live ! -
        sale flash mug 700 cap 3 limit 2          -> running ! all:sale.started
        hold ann/k1 flash*2                       -> granted 1400 ! -
        is mug 5/2/0 10/5
        is flash 3/2/0
        pay ann/k1                                -> paying ! -
        pay ann/k1                                -> paying ! -
        open ann/k1                               -> open ! -
        open ann/k1                               -> open ! -
        succeed ann/k1                            -> paid ! desk:order.paid ann:order.confirmed
        succeed ann/k1                            -> paid ! -
        is mug 5/0/2 8/3
        is flash 3/0/2
        gmv 1 1400 0
        pay ann/k1                                -> paying, paid by now ! -
        cancel ann/k1                             -> paid ! -
        release ann/k1                            -> committed ! -
        hold ann/k1 flash*2                       -> granted, committed by now ! -
        hold bob/k1 mug                           -> granted 1000
        ",
    );
}

#[test]
fn a_key_is_granted_once_and_a_refusal_is_not_kept() {
    play(
        "
        stock mug 1
        allocate mug 1 at 1000                    -> allocated 1
        start                                     -> live
        hold ann/k1 mug                           -> granted 1000
        hold ann/k1 mug                           -> granted 1000
        hold ann/k1 mug body other                -> key_reused
        hold bob/k1 mug                           -> all_held 1 120000ms
        tick 30s
        hold bob/k1 mug                           -> all_held 1 90000ms
        release ann/k1                            -> released ! -
        release ann/k1                            -> released
        hold bob/k1 mug                           -> granted 1000
        hold ann/k1 mug                           -> granted, released by now
        hold cid/a mug                            -> all_held 1 120000ms
        & hold cid/a mug body other               -> all_held 1 120000ms
        release bob/k1                            -> released
        & hold cid/a mug                          -> granted 1000
        & hold cid/a mug                          -> granted 1000
        & hold cid/a mug body other               -> key_reused
        is mug 1/1/0 1/1
        ",
    );
}

#[test]
fn sold_out_all_held_and_not_enough_are_different_answers() {
    play(
        "
        stock mug 10
        allocate mug 4 at 1000                    -> allocated 4
        start                                     -> live
        sale flash mug 700 cap 3 limit 3          -> running
        hold ann/k1 flash                         -> granted 700
        hold bob/k1 flash*3                       -> not_enough 2
        hold bob/k2 flash*2                       -> granted 1400
        hold cid/k1 flash                         -> all_held 3 120000ms
        hold cid/k2 mug                           -> granted 1000
        hold dan/k1 mug                           -> all_held 4 120000ms
        pay ann/k1                                -> paying
        & pay bob/k2                              -> paying
        & pay cid/k2                              -> paying
        & hold dan/k2 flash                       -> all_held 3 250ms
        succeed ann/k1                            -> paid ! desk:order.paid ann:order.confirmed
        hold dan/k3 flash                         -> all_held 2 250ms
        succeed bob/k2 -> paid ! desk:order.paid bob:order.confirmed all:sale.sold_out
        hold dan/k4 flash                         -> sold_out
        hold dan/k5 mug                           -> all_held 1 250ms
        cancel cid/k2                             -> canceled ! cid:order.canceled
        hold dan/k6 flash                         -> sold_out
        hold dan/k7 mug*2                         -> not_enough 1
        allocate mug 0                            -> units_committed 3
        allocate mug 3                            -> allocated 3
        hold dan/k8 mug                           -> sold_out
        ",
    );
}

#[test]
fn a_hold_runs_out_on_its_millisecond() {
    play(
        "
        stock mug 1
        allocate mug 1 at 1000                    -> allocated 1
        start                                     -> live
        hold ann/k1 mug                           -> granted 1000
        tick 119999ms
        sweep ! -
        hold bob/k1 mug                           -> all_held 1 250ms
        tick 1ms
        pay ann/k1                                -> hold_ended ! ann:hold.expired
        & hold bob/k1 mug                         -> granted 1000
        release ann/k1                            -> expired ! -
        tick 120s
        sweep ! bob:hold.expired
        is mug 1/0/0 1/1
        hold cid/k1 mug                           -> granted 1000
        tick 119s
        pay cid/k1                                -> paying
        tick 700s
        sweep ! -
        is mug 1/1/0 1/1
        ",
    );
}

#[test]
fn taps_count_at_their_arrival() {
    play(
        "
        stock mug 10
        allocate mug 5 at 1000                    -> allocated 5
        hold ann/k1 mug                           -> show_not_live
        start                                     -> live
        sale flash mug 700 cap 3 limit 1 from 10s to 60s -> armed ! all:sale.armed
        hold ann/k1 flash                         -> not_started 10000ms
        tick 9999ms
        hold ann/k1 flash                         -> not_started 1ms
        tick 2ms
        hold ann/k1 flash ago 2ms                 -> not_started 0ms ! all:sale.started
        hold ann/k1 flash ago 1ms                 -> granted 700
        tick 49999ms
        hold bob/k1 flash ago 1ms                 -> granted 700 ! all:sale.ended
        hold cid/k1 flash                         -> sale_ended
        is flash 3/2/0
        pay ann/k1                                -> paying
        & succeed bob/k1                          -> not_found
        open ann/k1                               -> open
        succeed ann/k1                            -> paid
        gmv 1 700 0
        endsale flash                             -> sale_over by_time ! -
        sale second mug 600 cap 3 limit 1 from 10s -> armed
        endsale second                            -> ended ! all:sale.ended
        hold dan/k1 second ago 5s                 -> sale_ended
        hold dan/k1 second                        -> sale_ended
        sale third mug 600 cap 2 limit 1          -> running
        tick 1s
        endsale third                             -> ended
        & hold dan/k1 third ago 1ms               -> granted 600
        & hold eve/k1 third                       -> sale_ended
        ",
    );
}

#[test]
fn sales_follow_the_clock_in_its_order() {
    play(
        "
        stock mug 10
        stock hat 10
        allocate mug 5 at 1000                    -> allocated 5
        allocate hat 5 at 1000                    -> allocated 5
        start                                     -> live
        sale a mug 700 cap 3 limit 1 from 10s to 40s -> armed
        sale b hat 700 cap 3 limit 1 from 20s to 30s -> armed
        tick 60s
        sweep ! all:sale.started all:sale.started all:sale.ended all:sale.ended
        sweep ! -
        ",
    );
}

#[test]
fn limits_count_held_and_bought_units_and_one_hold_is_open() {
    play(
        "
        stock mug 10
        allocate mug 9 at 1000                    -> allocated 9
        start                                     -> live
        sale flash mug 700 cap 9 limit 3          -> running
        hold ann/k1 flash*4                       -> limit_reached 0 of 3
        hold ann/k1 flash*2                       -> granted 1400
        hold ann/k2 flash                         -> hold_open
        pay ann/k1                                -> paying
        hold ann/k2 flash                         -> hold_open
        succeed ann/k1                            -> paid
        hold ann/k2 flash*2                       -> limit_reached 2 of 3
        hold ann/k2 flash flash                   -> limit_reached 2 of 3
        hold ann/k2 flash                         -> granted 700
        release ann/k2                            -> released
        hold ann/k3 flash                         -> granted 700
        & hold ann/k4 flash                       -> hold_open
        hold ann/k5 mug                           -> granted 1000
        hold ann/k6 mug                           -> granted 1000
        ",
    );
}

#[test]
fn carts_are_all_or_nothing() {
    play(
        "
        stock mug 10
        stock hat 1
        allocate mug 3 at 1000                    -> allocated 3
        allocate hat 1 at 500                     -> allocated 1
        start                                     -> live
        sale flash mug 700 cap 2 limit 2          -> running
        hold ann/k1 flash hat*2                   -> not_enough 1
        is mug 3/0/0 10/3
        hold ann/k1 flash*2 mug*2                 -> not_enough 3
        hold ann/k1 flash*2 mug hat               -> granted 2900
        is mug 3/3/0 10/3
        is hat 1/1/0 1/1
        is flash 2/2/0
        hold bob/k1 hat                           -> all_held 1 120000ms
        hold bob/k1                               -> invalid lines
        hold bob/k1 hat*0                         -> invalid quantity
        hold bob/k1 ?pen                          -> not_in_lineup
        hold bob/k1 nosale                        -> unknown_sale
        pay ann/k1                                -> paying
        succeed ann/k1 -> paid ! desk:order.paid ann:order.confirmed all:sale.sold_out
        is mug 3/0/3 7/0
        is hat 1/0/1 0/0
        gmv 1 2900 0
        ",
    );
}

#[test]
fn the_oldest_tap_comes_first_and_answers_keep_their_places() {
    play(
        "
        stock mug 10
        allocate mug 1 at 1000                    -> allocated 1
        start                                     -> live
        tick 10s
        hold ann/k1 mug                           -> all_held 1 120000ms
        & hold bob/k1 mug ago 2s                  -> granted 1000
        & hold cid/k1 mug ago 1s                  -> all_held 1 120000ms
        & allocate mug 2                          -> allocated 2
        & allocate mug 1                          -> allocated 1
        hold ann/k1 mug ago 1s                    -> granted 1000
        & hold cid/k1 mug                         -> all_held 1 120000ms
        & release bob/k1                          -> released
        is mug 1/1/0 10/1
        ",
    );
}

#[test]
fn two_lapsed_holds_put_a_buyer_behind_all_who_wait() {
    play(
        "
        stock mug 10
        allocate mug 1 at 1000                    -> allocated 1
        start                                     -> live
        sale flash mug 700 cap 1 limit 1          -> running
        hold ann/k1 flash                         -> granted 700
        tick 120s
        hold ann/k2 flash ago 1s                  -> granted 700
        & hold bob/k1 flash                       -> all_held 1 120000ms
        tick 120s
        hold ann/k3 flash ago 1s                  -> all_held 1 120000ms
        & hold bob/k1 flash                       -> granted 700
        release bob/k1                            -> released
        hold ann/k3 flash                         -> granted 700
        ",
    );
}

#[test]
fn paying_holds_wait_for_the_providers_word() {
    play(
        "
        stock mug 10
        allocate mug 2 at 1000                    -> allocated 2
        start                                     -> live
        hold ann/k1 mug                           -> granted 1000
        pay ann/k1 by bob                         -> not_found
        pay ann/k9                                -> not_found
        pay ann/k1                                -> paying
        release ann/k1 by bob                     -> not_found
        release ann/k1                            -> needs_cancel
        cancel ann/k1                             -> canceled ! ann:order.canceled
        cancel ann/k1                             -> canceled ! -
        abandon ann/k1                            -> canceled ! -
        is mug 2/0/0 10/2
        pay ann/k1                                -> hold_ended
        hold bob/k1 mug                           -> granted 1000
        pay bob/k1                                -> paying
        abandon bob/k1                            -> canceled ! bob:order.canceled
        open bob/k1                               -> canceled ! -
        open zoe/k1                               -> not_found
        succeed zoe/k1                            -> not_found
        cancel zoe/k1                             -> not_found
        ",
    );
}

#[test]
fn only_the_host_frees_units_of_a_silent_provider_and_only_late() {
    play(
        "
        stock mug 10
        allocate mug 1 at 1000                    -> allocated 1
        start                                     -> live
        hold ann/k1 mug                           -> granted 1000
        free ann/k1                               -> conflict
        free ann/k9                               -> not_found
        pay ann/k1                                -> paying
        free ann/k1                               -> too_early 2400000ms
        tick 100s
        open ann/k1                               -> open
        free ann/k1                               -> too_early 2100000ms
        tick 2099s
        free ann/k1                               -> too_early 1000ms
        tick 1s
        free ann/k1                               -> released ! ann:order.canceled
        free ann/k1                               -> released ! -
        hold bob/k1 mug                           -> granted 1000
        cancel ann/k1                             -> canceled ! -
        is mug 1/1/0 10/1
        pay bob/k1                                -> paying
        tick 2400s
        free bob/k1                               -> released
        open bob/k1                               -> open ! -
        succeed bob/k1 -> paid ! desk:order.paid bob:order.confirmed
        free bob/k1                               -> conflict
        gmv 1 1000 0
        ",
    );
}

#[test]
fn late_money_takes_a_free_unit_of_the_show_then_of_the_product_then_goes_back() {
    play(
        "
        stock mug 3
        allocate mug 2 at 1000                    -> allocated 2
        start                                     -> live
        hold ann/k1 mug                           -> granted 1000
        & hold bob/k1 mug                         -> granted 1000
        pay ann/k1                                -> paying
        & pay bob/k1                              -> paying
        cancel ann/k1                             -> canceled
        & cancel bob/k1                           -> canceled
        hold cid/k1 mug                           -> granted 1000
        succeed ann/k1                            -> paid ! desk:order.paid ann:order.confirmed
        is mug 2/1/1 2/1
        succeed bob/k1                            -> paid ! desk:order.paid bob:order.confirmed
        is mug 3/1/2 1/1
        pay cid/k1                                -> paying
        cancel cid/k1                             -> canceled
        hold dan/k1 mug                           -> granted 1000
        succeed cid/k1 -> unfulfilled ! desk:order.unfulfilled cid:order.unfulfilled
        succeed cid/k1                            -> unfulfilled ! -
        is mug 3/1/2 1/1
        gmv 2 2000 0
        accepted @cid/k1 -> unfulfilled accepted 1000 ! desk:order.refunded cid:refund.sent
        accepted @cid/k1                          -> unfulfilled accepted 1000 ! -
        failed @cid/k1                            -> unfulfilled failed 1000 ! desk:refund.failed
        gmv 2 2000 0
        refund r1 cid/k1                          -> unfulfilled requested 1000
        accepted r1                               -> unfulfilled accepted 1000
        failed r1                                 -> unfulfilled failed 1000
        refund r2 cid/k1 300                      -> unfulfilled requested 300
        accepted r2                               -> unfulfilled accepted 300
        refund r3 cid/k1 701                      -> refund_too_large 700
        gmv 2 2000 0
        ",
    );
}

#[test]
fn late_money_keeps_to_the_cap_and_to_the_limit() {
    play(
        "
        stock mug 10
        allocate mug 5 at 1000                    -> allocated 5
        start                                     -> live
        sale flash mug 700 cap 1 limit 1          -> running
        hold ann/k1 flash                         -> granted 700
        pay ann/k1                                -> paying
        cancel ann/k1                             -> canceled
        hold bob/k1 flash                         -> granted 700
        succeed ann/k1                            -> unfulfilled
        cap flash 2                               -> running
        pay bob/k1                                -> paying
        cancel bob/k1                             -> canceled
        hold bob/k2 flash                         -> granted 700
        succeed bob/k1                            -> unfulfilled
        is flash 2/1/0
        release bob/k2                            -> released
        hold cid/k1 flash                         -> granted 700
        pay cid/k1                                -> paying
        cancel cid/k1                             -> canceled
        & endsale flash                           -> ended
        succeed cid/k1                            -> paid
        is flash 2/0/1
        gmv 1 700 0
        ",
    );
}

#[test]
fn the_wrong_amount_is_never_silently_paid() {
    play(
        "
        stock mug 10
        allocate mug 2 at 1000                    -> allocated 2
        start                                     -> live
        hold ann/k1 mug                           -> granted 1000
        & hold bob/k1 mug                         -> granted 1000
        pay ann/k1                                -> paying
        & pay bob/k1                              -> paying
        succeed ann/k1 amount 999 -> needs_review ! desk:payment.mismatch desk:order.unfulfilled ann:order.unfulfilled
        succeed ann/k1 amount 999                 -> needs_review ! -
        is mug 2/1/0 10/2
        gmv 0 0 0
        accepted @ann/k1 -> mismatch accepted 999 ! desk:order.refunded ann:refund.sent
        gmv 0 0 0
        succeed bob/k1 in USD -> needs_review ! desk:payment.mismatch desk:order.unfulfilled bob:order.unfulfilled
        refund r1 bob/k1                          -> refund_too_large 0
        is mug 2/0/0 10/2
        failed @bob/k1                            -> mismatch failed 1000 ! desk:refund.failed
        refund r1 bob/k1 restock                  -> invalid restock
        refund r1 bob/k1 for r9                   -> not_found
        refund r1 bob/k1 1001                     -> refund_too_large 1000
        refund r1 bob/k1 400                      -> mismatch requested 400 ! -
        refund r1 bob/k1 400                      -> mismatch requested 400 ! -
        refund r2 bob/k1 for @bob/k1              -> mismatch requested 600
        refund r3 bob/k1                          -> refund_too_large 0
        refund r3 bob/k1 for r2                   -> conflict
        accepted r1                               -> mismatch accepted 400 ! desk:order.refunded bob:refund.sent
        failed r2                                 -> mismatch failed 600 ! desk:refund.failed
        refund r3 bob/k1 for r2                   -> mismatch requested 600
        gmv 0 0 0
        is mug 2/0/0 10/2
        ",
    );
}

#[test]
fn a_second_charge_goes_back() {
    play(
        "
        stock mug 10
        allocate mug 2 at 1000                    -> allocated 2
        start                                     -> live
        hold ann/k1 mug                           -> granted 1000
        pay ann/k1                                -> paying
        charge ann/k1
        succeed ann/k1                            -> paid
        succeed ann/k1 charge 2 intent pi2        -> duplicate ! desk:payment.duplicate
        succeed ann/k1 charge 2 intent pi2        -> duplicate ! -
        succeed ann/k1 intent pi3                 -> duplicate ! desk:payment.duplicate
        succeed ann/k1                            -> paid ! -
        is mug 2/0/1 9/1
        gmv 1 1000 0
        accepted @ann/k1 -> duplicate accepted 1000 ! desk:order.refunded ann:refund.sent
        gmv 1 1000 0
        refund r1 ann/k1                          -> requested requested 1000
        failed @2ann/k1                           -> duplicate failed 1000 ! desk:refund.failed
        refund r2 ann/k1                          -> refund_too_large 0
        refund r2 ann/k1 for @ann/k1              -> conflict
        refund r2 ann/k1 for @2ann/k1             -> duplicate requested 1000
        accepted r2                               -> duplicate accepted 1000
        refund r3 ann/k1 for @2ann/k1             -> refund_too_large 0
        gmv 1 1000 0
        accepted r1                               -> requested accepted 1000
        gmv 1 0 1000
        failed r1                                 -> requested failed 1000
        refund r3 ann/k1 for r1                   -> requested requested 1000
        ",
    );
}

#[test]
fn refunds_move_gmv_when_accepted_and_never_exceed_the_order() {
    play(
        "
        stock mug 10
        allocate mug 2 at 1000                    -> allocated 2
        start                                     -> live
        sale flash mug 700 cap 2 limit 2          -> running
        hold ann/k1 flash*2                       -> granted 1400
        refund r1 ann/k1                          -> not_found
        pay ann/k1                                -> paying
        refund r1 ann/k1                          -> conflict
        succeed ann/k1 -> paid ! desk:order.paid ann:order.confirmed all:sale.sold_out
        hold bob/k1 flash                         -> sold_out
        refund r1 ann/k1 0                        -> invalid amount_minor
        refund r1 ann/k1 1401                     -> refund_too_large 1400
        refund r1 ann/k1 400                      -> requested requested 400 ! -
        refund r1 ann/k1 400                      -> requested requested 400 ! -
        refund r2 ann/k1 1001                     -> refund_too_large 1000
        gmv 1 1400 0
        accepted r1 pending -> requested accepted 400, pending ! desk:order.refunded ann:refund.sent
        accepted r1 pending                       -> requested accepted 400, pending ! -
        accepted r1                               -> requested accepted 400 ! -
        accepted r1 pending                       -> requested accepted 400 ! -
        gmv 1 1000 400
        is mug 2/0/2 8/0
        refund r2 ann/k1 restock                  -> requested requested 1000
        refund r3 ann/k1                          -> refund_too_large 0
        accepted r2 pending -> requested accepted 1000, pending ! desk:order.refunded ann:refund.sent all:sale.restocked
        gmv 1 0 1400
        is mug 2/0/0 10/2
        is flash 2/0/0
        hold ann/k2 flash*2                       -> granted 1400
        failed r2                                 -> requested failed 1000 ! desk:refund.failed
        failed r2                                 -> requested failed 1000 ! -
        accepted r2                               -> requested failed 1000 ! -
        gmv 1 1000 400
        refund r4 ann/k1                          -> requested requested 1000
        failed r4                                 -> requested failed 1000 ! desk:refund.failed
        gmv 1 1000 400
        failed r9                                 -> not_found
        accepted r9                               -> not_found
        ",
    );
}

#[test]
fn the_end_of_a_show_gives_back_what_nobody_holds() {
    play(
        "
        stock mug 10 other 2
        allocate mug 5 at 1000                    -> allocated 5
        start                                     -> live
        sale flash mug 700 cap 5 limit 1          -> running
        hold ann/k1 flash                         -> granted 700
        & hold bob/k1 flash                       -> granted 700
        & hold cid/k1 mug                         -> granted 1000
        & hold dan/k1 mug                         -> granted 1000
        pay ann/k1                                -> paying
        & pay dan/k1                              -> paying
        is mug 5/4/0 10/7
        end                                       -> ended ! all:sale.ended all:show.ended
        end                                       -> ended ! -
        start                                     -> show_ended
        is mug 4/4/0 10/6
        release cid/k1                            -> released
        is mug 3/3/0 10/5
        succeed ann/k1                            -> paid ! desk:order.paid ann:order.confirmed
        is mug 3/2/1 9/4
        hold eve/k1 mug                           -> show_ended
        hold eve/k1 flash                         -> show_ended
        tick 120s
        sweep                                     ! bob:hold.expired
        is mug 2/1/1 9/3
        cancel dan/k1                             -> canceled
        is mug 1/0/1 9/2
        succeed dan/k1                            -> paid
        is mug 2/0/2 8/2
        refund r1 dan/k1 restock                  -> requested requested 1000
        accepted r1 -> requested accepted 1000 ! desk:order.refunded dan:refund.sent
        is mug 1/0/1 9/2
        allocate mug 5                            -> show_ended
        sale late mug 700 cap 1 limit 1           -> show_ended
        gmv 2 700 1000
        ",
    );
}

#[test]
fn a_tap_from_before_the_end_of_the_show_is_in_time() {
    play(
        "
        stock mug 10
        allocate mug 3 at 1000                    -> allocated 3
        start                                     -> live
        sale flash mug 700 cap 3 limit 1          -> running
        hold ann/k1 mug                           -> granted 1000
        tick 10s
        end                                       -> ended
        & hold bob/k1 flash ago 1ms               -> granted 700
        & hold cid/k1 mug                         -> show_ended
        is mug 2/2/0 10/2
        tick 1s
        hold cid/k1 mug ago 1s                    -> show_ended
        & hold dan/k1 mug*2 ago 2s                -> not_enough 1
        & hold dan/k2 mug ago 2s                  -> granted 1000
        & hold eve/k1 mug ago 2s                  -> all_held 3 109000ms
        is mug 3/3/0 10/3
        ",
    );
}

#[test]
fn a_show_that_never_went_live_sells_nothing() {
    play(
        "
        stock mug 10
        allocate mug 3 at 1000                    -> allocated 3
        sale flash mug 700 cap 3 limit 1          -> show_not_live
        tick 10s
        end                                       -> ended ! all:show.ended
        is mug 0/0/0 10/0
        hold ann/k1 mug ago 5s                    -> show_ended
        ",
    );
}

#[test]
fn hosts_change_allocations_and_caps_within_what_is_there() {
    play(
        "
        stock mug 10 other 4
        stock hat 5
        allocate mug 5                            -> not_in_lineup
        allocate ?nothing 5 at 1                  -> not_found
        allocate mug 7 at 1000                    -> stock_short 6
        allocate mug -1 at 1000                   -> invalid allocated
        allocate mug 6 at 1000                    -> allocated 6
        allocate mug 4                            -> allocated 4
        is mug 4/0/0 10/8
        start                                     -> live
        sale flash mug 700 cap 5 limit 1          -> stock_short 4
        sale flash hat 700 cap 1 limit 1          -> not_in_lineup
        sale flash mug 700 cap 0 limit 1          -> invalid cap
        sale flash mug 700 cap 1 limit 0          -> invalid limit_per_buyer
        sale flash mug -1 cap 1 limit 1           -> invalid price_minor
        sale flash mug 1001 cap 1 limit 1         -> invalid price_minor
        sale flash mug 700 cap 1 limit 1 from 10s to 10s -> invalid ends_at
        sale flash mug 700 cap 2 limit 1          -> running
        sale flash mug 700 cap 2 limit 1          -> conflict
        sale other mug 700 cap 2 limit 1          -> sale_on_product
        hold ann/k1 flash                         -> granted 700
        hold bob/k1 flash                         -> granted 700
        cap flash 1                               -> units_committed 2
        cap flash 0                               -> invalid cap
        cap flash 5                               -> stock_short 4
        cap flash 3                               -> running ! all:sale.changed
        cap flash 3                               -> running ! -
        allocate mug 2                            -> allocated 2
        hold cid/k1 flash                         -> all_held 2 120000ms
        cap flash 2                               -> running
        cap nosale 2                              -> unknown_sale
        endsale flash v1                          -> version_conflict v4
        endsale flash v4                          -> ended
        cap flash 3                               -> sale_over by_hand by hanna
        endsale nosale                            -> unknown_sale
        ",
    );
}

#[test]
fn who_ends_a_sale_that_has_ended_is_told_how_it_ended() {
    play(
        "
        stock mug 10
        allocate mug 5 at 1000                    -> allocated 5
        start                                     -> live
        sale flash mug 700 cap 3 limit 1          -> running
        endsale flash by ben key k1               -> ended ! all:sale.ended
        & endsale flash by hanna key k1           -> sale_over by_hand by ben
        & endsale flash by ben key k1             -> ended
        endsale flash v2 by ben key k1            -> ended ! -
        endsale flash v2 by ben key k2            -> sale_over by_hand by ben
        sale short mug 600 cap 2 limit 1 to 10s   -> running
        tick 10s
        endsale short                             -> sale_over by_time
        sale last mug 600 cap 2 limit 1           -> running
        end                                       -> ended
        endsale last v2                           -> sale_over show_ended
        ",
    );
}

#[test]
fn raising_a_cap_or_an_allocation_ends_sold_out() {
    play(
        "
        stock mug 10
        allocate mug 1 at 1000                    -> allocated 1
        start                                     -> live
        sale flash mug 700 cap 1 limit 1          -> running
        hold ann/k1 flash                         -> granted 700
        pay ann/k1                                -> paying
        succeed ann/k1 -> paid ! desk:order.paid ann:order.confirmed all:sale.sold_out
        allocate mug 3                            -> allocated 3 ! -
        cap flash 2                               -> running ! all:sale.changed all:sale.restocked
        & hold bob/k1 flash                       -> granted 700
        cap flash 3                               -> running ! all:sale.changed
        & allocate mug 2                          -> allocated 2
        pay bob/k1                                -> paying
        succeed bob/k1 -> paid ! desk:order.paid bob:order.confirmed all:sale.sold_out
        ",
    );
}

#[test]
fn test_shows_work_and_count_nothing() {
    play_in(
        World::new(true),
        "
        stock mug 10
        allocate mug 1 at 1000                    -> allocated 1
        start                                     -> live
        hold ann/k1 mug                           -> granted 1000
        pay ann/k1                                -> paying
        succeed ann/k1                            -> paid ! desk:order.paid ann:order.confirmed
        is mug 1/0/1 9/0
        refund r1 ann/k1 300                      -> requested requested 300
        accepted r1                               -> requested accepted 300
        failed r1                                 -> requested failed 300
        gmv 0 0 0
        ",
    );
}
