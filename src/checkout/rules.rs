//! The rules: one pure function decides a batch of commands of one show.
//!
//! [`decide`] reads no clock, does no I/O and goes through sorted maps only, so that the same state, commands and time give
//! the same answers and effects on every node and both databases. It changes the [`State`] that the store loaded under the
//! lock of the show's head row, and its [`Effects`] say exactly which rows changed: writing them makes the database equal to
//! the state.
//!
//! A batch is decided in this order, whatever order its commands came in: what time has brought (due holds expire, due sales
//! start and end), payments, releases, the host's changes, and last the new holds by their arrival. So nobody who paid loses
//! to somebody who taps, and units that this batch frees go to the oldest tap in it.
//!
//! Which state may follow which stands at [`HoldState`], [`OrderState`], [`PaymentState`] and [`RefundState`].

mod batch;
mod check;
mod entry;
mod hold;
mod payment;
mod rows;
mod stage;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Millis;
use crate::config::{HOLD_S, PAYMENT_S};
use crate::ids::{BuyerId, HoldId, OrderId, PaymentId, ProductId, RefundId, SaleId};
use crate::money::Currency;
use crate::units::Units;
use batch::Batch;

pub use check::violations;
pub use entry::{Counts, Entry, Gauge, News, Paid, PaidLine, PriceWindow, Refunded, SaleTerms, Totals};
pub use rows::{
    Allocation, BadWord, Hold, HoldState, Line, Order, OrderState, Payment, PaymentState, Refund, RefundReason,
    RefundState, Sale, SaleState, Show, Stock,
};

pub use crate::live::{Audience, EndReason, ShowState};

/// Decides a batch. The commands' answers come back in the order in which the commands were given.
pub fn decide(state: &mut State, commands: Vec<Command>, now: Millis) -> Decided {
    let mut answers: Vec<Option<Answer>> = commands.iter().map(|_| None).collect();
    let mut batch = Batch::new(state, now);
    batch.expire_due_holds();
    batch.follow_the_clock();

    let mut control = Vec::new();
    let mut requests = Vec::new();
    for (index, command) in commands.into_iter().enumerate() {
        match command {
            Command::Hold(it) => requests.push((index, it)),
            other => control.push((index, other)),
        }
    }
    control.sort_by_key(|(_, command)| command.rank()); // Stable: those of one rank keep their order.
    let mut changed = vec![false; answers.len()];
    for (index, command) in control {
        let before = batch.changes();
        answers[index] = Some(batch.control(command));
        changed[index] = batch.changes() > before;
    }
    // Whose holds have lapsed is known by now, and no grant changes it.
    requests.sort_by_cached_key(|(index, it)| (batch.stands_behind(it), it.arrived, *index));
    for (index, request) in requests {
        let before = batch.changes();
        answers[index] = Some(batch.request(request));
        changed[index] = batch.changes() > before;
    }

    let (effects, wake_at) = batch.finish();
    let answers = answers.into_iter().map(|it| match it.expect("each command was given to one of the two loops") {
        // Whether it is sold out is known only now.
        Answer::Sale(it) => Answer::Sale(state.sales[&it.sale_id].clone()),
        other => other,
    });
    let answers = answers.collect();
    Decided { answers, changed, effects, wake_at }
}

/// The products whose stock a batch may move, so that the store locks and loads these rows and no others: a show that only
/// sells holds shares no lock with other shows of the same product. Ask with everything but `stock` loaded.
pub fn stock_wanted(state: &State, commands: &[Command]) -> BTreeSet<ProductId> {
    let mut wanted = BTreeSet::new();
    let of_order = |order_id: &OrderId| {
        let hold = state.orders.get(order_id).and_then(|it| state.holds.get(&it.hold_id));
        hold.into_iter().flat_map(|it| &it.lines).map(|it| it.product_id)
    };
    if state.show.state == ShowState::Ended {
        // Whatever ends now gives its units back, and a tap from before the end may take some.
        wanted.extend(state.holds.values().flat_map(|it| &it.lines).map(|it| it.product_id));
        if commands.iter().any(|it| matches!(it, Command::Hold(_))) {
            wanted.extend(state.allocations.values().filter(|it| it.spare > Units::ZERO).map(|it| it.product_id));
        }
    }
    for command in commands {
        match command {
            Command::PaymentSucceeded(it) => {
                wanted.extend(state.payments.get(&it.payment_id).into_iter().flat_map(|it| of_order(&it.order_id)));
            }
            Command::RefundAccepted { refund_id, .. } => {
                let refund = state.refunds.get(refund_id).filter(|it| it.restock);
                wanted.extend(refund.into_iter().flat_map(|it| of_order(&it.order_id)));
            }
            Command::SetAllocation { product_id, .. } => {
                wanted.insert(*product_id);
            }
            Command::EndShow => {
                wanted.extend(state.allocations.keys());
            }
            _ => {}
        }
    }
    wanted
}

/// What the store loads for one show, under the lock of its head row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    pub show: Show,
    pub terms: Terms,
    /// The whole line-up.
    pub allocations: BTreeMap<ProductId, Allocation>,
    /// At least what [`stock_wanted`] names.
    pub stock: BTreeMap<ProductId, Stock>,
    /// All sales of the show, ended ones too.
    pub sales: BTreeMap<SaleId, Sale>,
    /// Those that are due, those that a command names (by id, by its payment's or refund's order, by buyer and key), and
    /// the open ones that a [`Standing`] names; those of the loaded orders.
    pub holds: BTreeMap<HoldId, Hold>,
    /// Those of the loaded holds, and those that a command names (by id, by buyer and key).
    pub orders: BTreeMap<OrderId, Order>,
    /// All of the loaded orders.
    pub payments: BTreeMap<PaymentId, Payment>,
    /// All of the loaded orders.
    pub refunds: BTreeMap<RefundId, Refund>,
    /// Of each buyer who asks for units of a sale in this batch, or whose money may come late. A missing one is zero.
    pub standings: BTreeMap<(SaleId, BuyerId), Standing>,
    /// The earliest `expires_at` of the active holds that were not loaded.
    pub next_expiry: Option<Millis>,
    pub totals: Totals,
}

/// What a buyer has in a sale; sums over their holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// Units in active, paying and committed holds, without the returned ones.
    pub used: Units,
    /// The hold that is active or paying.
    pub open: Option<HoldId>,
    /// Holds that expired.
    pub lapsed: i64,
}

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    pub hold: Duration,
    /// From the moment the buyer can pay.
    pub payment: Duration,
    /// In our own line for the provider.
    pub payment_queue: Duration,
    /// After a payment's deadline, before the host may free its units without the provider's word.
    pub host_may_free_after: Duration,
    /// So many lapsed holds in a sale put a buyer behind all others who wait.
    pub lapsed_max: i64,
    /// Nobody is told to try again sooner.
    pub retry_min: Duration,
}

impl Default for Terms {
    fn default() -> Terms {
        Terms {
            hold: Duration::from_secs(HOLD_S),
            payment: Duration::from_secs(PAYMENT_S),
            payment_queue: Duration::from_secs(600),
            host_may_free_after: Duration::from_secs(1_800),
            lapsed_max: 2,
            retry_min: Duration::from_millis(250),
        }
    }
}

/// What is asked. Every new row's id is made by whoever asks, so that deciding again gives the same rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Hold(HoldRequest),
    /// The buyer goes to pay: the hold waits for the provider's word from here on.
    Pay {
        hold_id: HoldId,
        buyer: BuyerId,
        /// The client's: another hold under the same key is another request.
        key: Arc<str>,
        order_id: OrderId,
        payment_id: PaymentId,
    },
    /// The provider knows the payment: the buyer can pay.
    PaymentOpened {
        payment_id: PaymentId,
        intent_id: Arc<str>,
        client_secret: Arc<str>,
    },
    PaymentSucceeded(Success),
    /// The provider says that it is cancelled.
    PaymentCanceled {
        payment_id: PaymentId,
    },
    /// The provider will never take it, and nobody has been told how to pay it. One that was opened meanwhile stays.
    PaymentAbandoned {
        payment_id: PaymentId,
    },
    Release {
        hold_id: HoldId,
        buyer: BuyerId,
    },
    /// The host frees units that wait for a provider that does not answer.
    FreeByHost {
        hold_id: HoldId,
    },
    ArmSale(NewSale),
    EndSale(EndOfSale),
    SetCap {
        sale_id: SaleId,
        cap: Units,
    },
    SetAllocation {
        product_id: ProductId,
        allocated: Units,
        /// Needed to add a product to the line-up; none leaves price and place as they are.
        listing: Option<Listing>,
    },
    StartShow,
    EndShow,
    Refund {
        refund_id: RefundId,
        order_id: OrderId,
        /// One that failed, whose money is owed. None is a refund of what was bought, or, of an order that was never paid,
        /// of what it is owed.
        instead_of: Option<RefundId>,
        /// None is all that is left.
        amount_minor: Option<i64>,
        /// Returns every unit of the order that was not returned before, once the provider accepts.
        restock: bool,
    },
    RefundAccepted {
        refund_id: RefundId,
        provider_refund_id: Arc<str>,
        /// The provider has taken it on, and it may still fail.
        pending: bool,
    },
    RefundFailed {
        refund_id: RefundId,
    },
}

/// What a buyer asks for. Quantities are at least one; the door checks that, and that they are not absurd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldRequest {
    pub hold_id: HoldId,
    pub buyer: BuyerId,
    pub key: Arc<str>,
    pub fingerprint: Arc<str>,
    pub lines: Vec<Wanted>,
    /// In database time, stamped at the door.
    pub arrived: Millis,
    pub seen: Option<Arc<str>>,
    pub metadata: Option<Arc<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    pub item: Item,
    pub quantity: Units,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Item {
    /// At the list price.
    Product(ProductId),
    Sale(SaleId),
}

/// The provider took money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Success {
    pub payment_id: PaymentId,
    pub intent_id: Arc<str>,
    pub amount_received_minor: i64,
    pub currency: Currency,
    /// For the refund, should the money have to go back.
    pub refund_id: RefundId,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSale {
    pub sale_id: SaleId,
    pub product_id: ProductId,
    pub price_minor: i64,
    pub cap: Units,
    pub limit_per_buyer: Units,
    /// Now, or a moment that has passed already, starts it at once.
    pub starts_at: Millis,
    pub ends_at: Option<Millis>,
}

/// A host ends a sale. The sale keeps who and with which key: whoever comes later is told so, and the same request, repeated or
/// decided again because its commit was unknown, finds what it has done itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndOfSale {
    pub sale_id: SaleId,
    /// The version that the host saw, if that matters.
    pub version: Option<i64>,
    pub by: Arc<str>,
    pub key: Arc<str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listing {
    pub list_price_minor: i64,
    pub position: i64,
}

impl Command {
    fn rank(&self) -> Rank {
        match self {
            Command::Pay { .. }
            | Command::PaymentOpened { .. }
            | Command::PaymentSucceeded(_)
            | Command::PaymentCanceled { .. }
            | Command::PaymentAbandoned { .. }
            | Command::RefundAccepted { .. }
            | Command::RefundFailed { .. } => Rank::Payments,
            Command::Release { .. } | Command::FreeByHost { .. } => Rank::Releases,
            Command::ArmSale(_)
            | Command::EndSale(_)
            | Command::SetCap { .. }
            | Command::SetAllocation { .. }
            | Command::StartShow
            | Command::EndShow
            | Command::Refund { .. } => Rank::Stage,
            Command::Hold(_) => Rank::Requests,
        }
    }
}

/// Who comes first in a batch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Payments,
    Releases,
    Stage,
    Requests,
}

/// What somebody is told. A row in it is the row after the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To `Hold`: the units are promised, now or by an earlier request with the same key (its state may be any by now).
    Granted(Hold),
    /// To `Pay`: the order and its payment, new or from before.
    Paying {
        order: Order,
        payment: Payment,
    },
    /// To `PaymentOpened`.
    Payment(Payment),
    /// To `PaymentSucceeded`: the order is paid, now or since before.
    Paid(Order),
    /// To `PaymentSucceeded`: no unit was left, the money goes back.
    Unfulfilled(Order),
    /// To `PaymentSucceeded`: the wrong amount or currency; the order is not paid and the money goes back.
    NeedsReview(Order),
    /// To `PaymentSucceeded`: the order was settled by another charge, this one goes back.
    Duplicate(Order),
    /// To `PaymentCanceled` and `PaymentAbandoned`: the order as it stands, which may be a paid one.
    Order(Order),
    /// To `Release` and `FreeByHost`: the hold as it stands, which may have ended otherwise before.
    Hold(Hold),
    /// To `Release`: the buyer can still pay, so cancel at the provider first.
    NeedsCancel {
        payment_id: PaymentId,
    },
    /// To the commands that change a sale.
    Sale(Sale),
    /// To `SetAllocation`.
    Allocation(Allocation),
    /// To `StartShow` and `EndShow`.
    Show(Show),
    /// To the commands about a refund.
    Refund(Refund),
    Refused(Refusal),
}

/// Why not. A refusal changes nothing, and the same key may be granted later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    ShowNotLive,
    ShowEnded,
    NotInLineup {
        product_id: ProductId,
    },
    UnknownSale {
        sale_id: SaleId,
    },
    NotStarted {
        sale_id: SaleId,
        in_ms: i64,
    },
    SaleEnded {
        sale_id: SaleId,
    },
    /// Every unit is paid for.
    SoldOut {
        item: Item,
    },
    /// Every unit is paid for or in somebody's checkout.
    AllHeld {
        item: Item,
        in_checkout: Units,
        retry_after_ms: i64,
    },
    NotEnough {
        item: Item,
        available: Units,
    },
    LimitReached {
        sale_id: SaleId,
        limit: Units,
        used: Units,
    },
    /// One open hold per buyer and sale.
    HoldOpen {
        hold_id: HoldId,
    },
    /// The key was granted another request.
    KeyReused,
    HoldEnded,
    /// No such row in this show, or not this buyer's.
    NotFound,
    /// The thing is in a state that does not allow it.
    Conflict,
    VersionConflict {
        version: i64,
    },
    /// To the host, who would change a sale that has ended.
    SaleOver {
        sale_id: SaleId,
        ended_at: Millis,
        reason: EndReason,
        /// Who ended it by hand.
        by: Option<Arc<str>>,
    },
    /// The product has a sale that has not ended.
    SaleOnProduct {
        sale_id: SaleId,
    },
    /// A field has a value that is not allowed.
    Invalid {
        field: &'static str,
        allowed: Allowed,
    },
    /// More units are held and sold than would be left.
    UnitsCommitted {
        committed: Units,
    },
    /// There are fewer units to take from.
    StockShort {
        available: Units,
    },
    RefundTooLarge {
        left_minor: i64,
    },
    /// The provider has not had its time yet.
    TooEarly {
        in_ms: i64,
    },
}

/// What a field may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// A number, from the first to the second.
    Between(i64, i64),
    /// A price that is not above this, which the line-up asks.
    UpToListPrice(i64),
    /// A moment after the sale's start.
    AfterStart,
    /// One line at least.
    AnyLine,
    /// Nothing goes back on sale that was never sold.
    NoRestock,
}

/// The outcome of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// One per command, in the order given.
    pub answers: Vec<Answer>,
    /// Whether each command changed something; one that is repeated, or refused, did not.
    pub changed: Vec<bool>,
    pub effects: Effects,
    /// When time will bring something next: a hold runs out, a sale starts or ends. Decide an empty batch then; a moment
    /// that is not after `now` means that more holds are due than were loaded. Deadlines of payments are no part of it:
    /// they are for whoever asks the provider.
    pub wake_at: Option<Millis>,
}

/// Exactly what to write. Rows are whole; where new ones are not listed apart, an upsert by id does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Effects {
    pub show: Option<Show>,
    pub stock: Vec<Stock>,
    pub allocations: Vec<Allocation>,
    pub sales: Vec<Sale>,
    pub new_holds: Vec<Hold>,
    pub holds: Vec<Hold>,
    pub orders: Vec<Order>,
    pub payments: Vec<Payment>,
    pub refunds: Vec<Refund>,
    /// In the order in which they are to be said.
    pub entries: Vec<Entry>,
    /// Those whose value changed.
    pub gauges: Vec<Gauge>,
}

impl Effects {
    pub fn is_empty(&self) -> bool {
        *self == Effects::default()
    }
}
