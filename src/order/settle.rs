//! Settling: what has to be asked of the payment provider, and what follows from its answers.
//!
//! Everything that is to be done stands in the database (payments that are not settled, refunds that were asked for, events
//! in the inbox, holds and sales that are due), so a process that dies leaves nothing undone: whoever looks next finds it.
//! Each step may be done twice and by two nodes at once: calls carry keys that are made of our ids, and the rules know what
//! was said before.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::app::App;
use crate::checkout::rules::{Answer, Command, PaymentState, Success};
use crate::clock::Millis;
use crate::db::{Turn, query, row};
use crate::error::{Code, Result, problem};
use crate::failpoints;
use crate::ids::{OrderId, PaymentId, RefundId, ShowId};
use crate::money::Currency;
use crate::payment::underway::{Opening, Work};
use crate::payment::{Intent, IntentStatus, ProviderError, ProviderRefund, RefundStatus, WebhookEvent, inbox};

/// Between two looks when nobody wakes us.
const LOOK: Duration = Duration::from_millis(500);
/// After each look, so that a thousand pieces of work that end do not make a thousand looks.
const BREATH: Duration = Duration::from_millis(20);
/// Rows of one kind in one look that are neither under way nor resting.
const LOOK_MAX: usize = 200;
/// Calls of one kind under way at once.
const CALLS_MAX: usize = 32;
/// Asking after open payments shares its line with asking because of an event, which matters more: few stand before it.
const POLLS_MAX: usize = 4;
/// No more payments than this are put into the line for the provider by looking; a request puts its own there.
const LINE_MAX: usize = 256;
/// A payment that is open for this long is asked for, should its event have been lost; and again after each such time.
const POLL: Duration = Duration::from_secs(15);
/// The same for a refund that the provider has taken on; banks take days.
const REFUND_POLL: Duration = Duration::from_secs(3_600);
/// After an answer that is unknown.
const RETRY: Duration = Duration::from_secs(1);
/// Past its deadline, a payment that the provider will not cancel is an alarm.
const ALARM: Duration = Duration::from_secs(30);
/// Providers keep idempotency keys for a day. A refund that was asked for before this is looked for before it is asked again.
const KEYS_KEPT: Duration = Duration::from_secs(20 * 3_600);

/// Brings a payment to the provider, through the line that its rate allows; resolves when that has ended. The work goes on
/// when the caller goes away.
pub(super) fn open_soon(app: &App, payment: PaymentId) -> impl Future<Output = ()> + Send + 'static {
    let ended = match app.underway.opening(payment) {
        Opening::Others(ended) => ended,
        Opening::Yours(yours) => {
            let ended = yours.subscribe();
            let app = app.clone();
            tokio::spawn(async move {
                if let Err(error) = open_at_provider(&app, payment).await {
                    tracing::warn!(payment.id = %payment, %error, "a payment was not opened; it is tried again");
                }
                app.underway.opened(payment);
                drop(yours);
            });
            ended
        }
    };
    async move {
        let mut ended = ended;
        // An error is the end that we wait for.
        ended.changed().await.ok();
    }
}

/// Runs until the process stops taking requests.
pub async fn run(app: App) {
    let hands = Hands::default();
    let mut timed_at = Instant::now();
    while !app.is_draining() {
        let looked = async {
            mark_acted_on(&app, &hands).await?;
            look_for_news(&app, &hands).await?;
            if timed_at <= Instant::now() {
                look_at_time(&app, &hands).await?;
                // Nobody is woken by time. Work that found no hand begins when one is free, which wakes us.
                timed_at = Instant::now() + if hands.are_short() { Duration::ZERO } else { LOOK };
            }
            Ok::<_, crate::error::Error>(())
        };
        if let Err(error) = looked.await {
            tracing::warn!(%error, "settling could not look; trying again");
        }
        tokio::time::sleep(BREATH).await;
        tokio::select! {
            () = app.underway.woken() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Who does the work: each kind has hands of its own, so that a thousand payments to ask for delay no refund. What finds
/// none free stays in the database until a hand is.
struct Hands {
    events: Arc<Semaphore>,
    cancels: Arc<Semaphore>,
    polls: Arc<Semaphore>,
    refunds: Arc<Semaphore>,
    /// Events that were acted on since the last look; each comes here once in a while, so it is never long.
    acted: Arc<Mutex<Vec<String>>>,
}

impl Default for Hands {
    fn default() -> Hands {
        let hands = |count| Arc::new(Semaphore::new(count));
        Hands {
            events: hands(CALLS_MAX),
            cancels: hands(CALLS_MAX),
            polls: hands(POLLS_MAX),
            refunds: hands(CALLS_MAX),
            acted: Arc::default(),
        }
    }
}

impl Hands {
    /// Whether some work of time may have found no hand.
    fn are_short(&self) -> bool {
        self.cancels.available_permits() == 0 || self.polls.available_permits() == 0
    }
}

row! {
    #[derive(Debug, Clone)]
    struct Unsettled {
        payment_id: PaymentId,
        show_id: ShowId,
        order_id: OrderId,
        state: PaymentState,
        attempt: i64,
        intent_id: Option<String>,
        amount_minor: i64,
        currency: Currency,
        queue_deadline: Millis,
        deadline: Option<Millis>,
    }
}

row! {
    #[derive(Debug, Clone)]
    struct Asked {
        refund_id: RefundId,
        show_id: ShowId,
        intent_id: Option<String>,
        amount_minor: i64,
        requested_at: Millis,
    }
}

/// Payments with what their orders cost, as [`Unsettled`].
macro_rules! unsettled {
    ($which:literal) => {
        concat!(
            "select p.payment_id, p.show_id, p.order_id, p.state, p.attempt, p.intent_id, o.amount_minor, o.currency,
                    p.queue_deadline, p.deadline
             from payment p join orders o on o.order_id = p.order_id ",
            $which
        )
    };
}

/// Refunds, as [`Asked`].
macro_rules! asked {
    ($which:literal) => {
        concat!("select refund_id, show_id, intent_id, amount_minor, requested_at from refund ", $which)
    };
}

// What a look asks, many times a second: each finds its rows in an index that holds no others.

const REQUESTED: &str = asked!("where state = 'requested' order by refund_id limit $1");
const PENDING: &str = asked!("where pending and requested_at <= $1 order by refund_id limit $2");
const CREATING: &str = "select payment_id from payment where state = 'creating' order by payment_id limit $1";
const OVERDUE: &str = unsettled!("where p.state = 'open' and p.deadline <= $1 order by p.payment_id limit $2");
const OPEN: &str =
    unsettled!("where p.state = 'open' and p.deadline > $1 and p.opened_at <= $2 order by p.payment_id limit $3");
/// Steps from show to show among the active holds, of which there may be a hundred thousand.
const DUE: &str = "with recursive holding (show_id) as (
         select min(show_id) from hold where state = 'active'
         union all
         select (select min(h.show_id) from hold h where h.state = 'active' and h.show_id > holding.show_id)
         from holding where holding.show_id is not null)
     select show_id from holding where exists (
         select 1 from hold h where h.show_id = holding.show_id and h.state = 'active' and h.expires_at <= $1)
     union
     select show_id from sale
     where state <> 'ended' and ((state = 'armed' and starts_at <= $1) or ends_at <= $1)";
const ALARMING: &str = "select (select count(*) from payment where state = 'creating' and queue_deadline <= $1)
          + (select count(*) from payment where state = 'open' and deadline <= $1)";
/// Charges for nothing whose refund has failed, and nobody has asked for another one.
const OWED: &str = "select count(*) from (
         select r.order_id from refund r
         where r.reason <> 'requested' and r.order_id in (select f.order_id from refund f where f.state = 'failed')
         group by r.order_id, r.intent_id
         having sum(case when r.state = 'failed' then 0 else r.amount_minor end) < max(r.amount_minor)) as charge";

/// How many rows to read: those that are under way or rest come first again and again, so they are read in addition, and
/// nothing hides behind them.
fn limit(app: &App, kind: fn(&Work) -> bool) -> i64 {
    i64::try_from(LOOK_MAX + app.underway.busy(kind)).unwrap_or(i64::MAX)
}

/// Begins what somebody wakes us for and what is not under way, the oldest first.
async fn look_for_news(app: &App, hands: &Hands) -> Result<()> {
    let mut tx = app.db.read().await?;
    let now = tx.now().await?;
    let events = inbox::pending(&mut tx, limit(app, |it| matches!(it, Work::Event(_)))).await?;
    let refunds: Vec<Asked> =
        query(REQUESTED).bind(limit(app, |it| matches!(it, Work::Refund(_)))).all(&mut tx).await?;
    drop(tx);

    for event in events {
        let work = Work::Event(event.id.clone());
        let acted = hands.acted.clone();
        start(app, &hands.events, work, move |app| async move {
            act_on(&app, &event).await?;
            acted.lock().expect("nothing panics while it holds the list").push(event.id);
            // It rests until that is written down, and begins again only if that fails.
            Ok(Some(RETRY))
        });
    }
    for refund in refunds {
        let work = Work::Refund(refund.refund_id);
        let old = now.since(refund.requested_at) > KEYS_KEPT;
        start(app, &hands.refunds, work, move |app| async move {
            refund_at_provider(&app, &refund, old).await.map(|()| None)
        });
    }
    Ok(())
}

/// Begins what time has brought, or left behind, and what is not under way, the oldest first.
async fn look_at_time(app: &App, hands: &Hands) -> Result<()> {
    let mut tx = app.db.read().await?;
    let now = tx.now().await?;
    let creating: Vec<(PaymentId,)> =
        query(CREATING).bind(limit(app, |it| matches!(it, Work::Open(_)))).all(&mut tx).await?;
    let overdue: Vec<Unsettled> =
        query(OVERDUE).bind(now).bind(limit(app, |it| matches!(it, Work::Cancel(_)))).all(&mut tx).await?;
    let open: Vec<Unsettled> =
        query(OPEN).bind(now).bind(now - POLL).bind(limit(app, |it| matches!(it, Work::Ask(_)))).all(&mut tx).await?;
    let pending: Vec<Asked> = query(PENDING)
        .bind(now - REFUND_POLL)
        .bind(limit(app, |it| matches!(it, Work::Refund(_))))
        .all(&mut tx)
        .await?;
    let due: Vec<(ShowId,)> = query(DUE).bind(now).all(&mut tx).await?;
    let (alarming,): (i64,) = query(ALARMING).bind(now - ALARM).one(&mut tx).await?;
    let (owed,): (i64,) = query(OWED).one(&mut tx).await?;
    drop(tx);

    metrics::gauge!("showcart_payments_overdue").set(alarming as f64);
    metrics::gauge!("showcart_refunds_owed").set(owed as f64);
    for (show,) in due {
        app.checkout.nudge(show);
    }
    for (payment_id,) in creating {
        if app.budgets.create.waiting() >= LINE_MAX {
            break;
        }
        let work = Work::Open(payment_id);
        if app.underway.begin(&work) {
            app.underway.end(&work, Some(RETRY));
            drop(open_soon(app, payment_id));
        }
    }
    for payment in overdue {
        let work = Work::Cancel(payment.payment_id);
        let alarm = payment.deadline.is_some_and(|it| now.since(it) > ALARM);
        start(app, &hands.cancels, work, move |app| async move {
            if alarm {
                tracing::warn!(payment.id = %payment.payment_id, "units wait for the provider past the payment's deadline");
            }
            cancel_at_provider(&app, &payment).await
        });
    }
    for payment in open {
        let work = Work::Ask(payment.payment_id);
        start(app, &hands.polls, work, move |app| async move { ask(&app, &payment).await.map(|()| Some(POLL)) });
    }
    for refund in pending {
        let work = Work::Refund(refund.refund_id);
        start(app, &hands.polls, work, move |app| async move {
            ask_for_refund(&app, &refund).await.map(|()| Some(REFUND_POLL))
        });
    }
    Ok(())
}

/// Writes down which events were acted on since the last look, all at once: a transaction for each would be the dearest part
/// of many a purchase.
async fn mark_acted_on(app: &App, hands: &Hands) -> Result<()> {
    let acted = std::mem::take(&mut *hands.acted.lock().expect("nothing panics while it holds the list"));
    if acted.is_empty() {
        return Ok(());
    }
    let mut tx = app.db.write(Turn::Control).await?;
    let now = tx.now().await?;
    inbox::done(&mut tx, &acted, now).await?;
    tx.commit().await?;
    for event_id in acted {
        app.underway.end(&Work::Event(event_id), None);
    }
    Ok(())
}

/// Runs a piece of work beside the others, if a hand is free; what fails is looked at again after a while, what says when,
/// then.
fn start<F: Future<Output = Result<Option<Duration>>> + Send>(
    app: &App,
    hands: &Arc<Semaphore>,
    work: Work,
    run: impl FnOnce(App) -> F + Send + 'static,
) {
    let Ok(hand) = hands.clone().try_acquire_owned() else { return };
    if !app.underway.begin(&work) {
        return;
    }
    let app = app.clone();
    tokio::spawn(async move {
        let mut doing = Doing { app: &app, work, again: Some(RETRY), hand: Some(hand) };
        assert!(!failpoints::fires("settling_panics"), "a test asked for it");
        match run(app.clone()).await {
            Ok(again) => doing.again = again,
            Err(error) => tracing::warn!(work = ?doing.work, %error, "settling failed; it is tried again"),
        }
    });
}

/// Work that runs; dropping it ends it, also when it panicked: otherwise nobody would ever begin it again.
struct Doing<'a> {
    app: &'a App,
    work: Work,
    again: Option<Duration>,
    hand: Option<OwnedSemaphorePermit>,
}

impl Drop for Doing<'_> {
    fn drop(&mut self) {
        self.app.underway.end(&self.work, self.again);
        // First the hand, then the look that may need it.
        self.hand.take();
        self.app.underway.wake();
    }
}

/// What came of a payment's turn in the line.
enum Turned {
    /// The provider knows it.
    Created(Unsettled, Intent),
    /// Nobody had to call any more, or the provider will never take it: then the order has been given up, and its units are
    /// free.
    Past(Unsettled),
}

/// The payment at the provider, whatever of it was done before: the same key is the same intent.
async fn create(app: &App, payment_id: PaymentId) -> Result<Turned> {
    app.budgets.create.take().await;
    // Read behind the line, which takes up to ten minutes: it may have been given up, or opened by another node.
    let payment = unsettled(app, payment_id).await?;
    if payment.state != PaymentState::Creating {
        app.budgets.create.put_back().await;
        return Ok(Turned::Past(payment));
    }
    let key = format!("pi:{}:{}", payment.order_id, payment.attempt);
    let call = app.provider.create_intent(&key, payment.amount_minor, payment.currency, payment.order_id, payment_id);
    let created = app.budgets.create.heed(call.await).await;
    failpoints::crash("after_create_intent");
    match created {
        Ok(intent) => Ok(Turned::Created(payment, intent)),
        // Nobody has been told how to pay it, so it cannot be paid, even if an earlier call of ours had made it.
        Err(ProviderError::Refused { code, message, .. }) => {
            tracing::error!(payment.id = %payment_id, code, message, "the provider will not take a payment");
            metrics::counter!("showcart_payments_refused_total").increment(1);
            app.checkout.control(payment.show_id, Command::PaymentAbandoned { payment_id }).await?;
            Ok(Turned::Past(unsettled(app, payment_id).await?))
        }
        Err(error) => Err(unreachable(app, error)),
    }
}

async fn open_at_provider(app: &App, payment_id: PaymentId) -> Result<()> {
    let Turned::Created(payment, intent) = create(app, payment_id).await? else { return Ok(()) };
    let payment = Unsettled { intent_id: Some(intent.id.clone()), ..payment };
    if app.clock.now() >= payment.queue_deadline {
        // Nobody waits that long; and now that the provider knows it, it has to forget it before the units are free.
        cancel_at_provider(app, &payment).await?;
        return Ok(());
    }
    let command =
        Command::PaymentOpened { payment_id, intent_id: intent.id.into(), client_secret: intent.client_secret.into() };
    let answer = app.checkout.control(payment.show_id, command).await?;
    failpoints::crash("after_payment_opened");
    if matches!(&answer, Answer::Payment(it) if it.state == PaymentState::Canceled) {
        // Given up meanwhile: the provider need not keep what nobody was told how to pay.
        cancel_at_provider(app, &payment).await?;
    }
    Ok(())
}

async fn unsettled(app: &App, payment: PaymentId) -> Result<Unsettled> {
    let row: Option<Unsettled> =
        query(unsettled!("where p.payment_id = $1")).bind(payment).optional(&mut app.db.read().await?).await?;
    row.ok_or_else(|| problem(Code::NotFound, format!("There is no payment {payment}.")))
}

/// Stops a payment because the buyer gave it up.
///
/// # Errors
/// `provider_unavailable`: it may still be paid; nothing was freed.
pub(super) async fn cancel(app: &App, payment_id: PaymentId) -> Result<()> {
    let mut payment = unsettled(app, payment_id).await?;
    if payment.state == PaymentState::Creating {
        payment = match create(app, payment_id).await? {
            Turned::Created(payment, intent) => Unsettled { intent_id: Some(intent.id), ..payment },
            Turned::Past(payment) => payment,
        };
    }
    match payment.state {
        PaymentState::Creating | PaymentState::Open => cancel_at_provider(app, &payment).await.map(|_| ()),
        // Settled since it was asked for: the next look at the hold says how.
        PaymentState::Succeeded | PaymentState::Canceled => Ok(()),
    }
}

/// Cancels before anything is released: only the provider's word frees the units, or says that it was paid after all. Says
/// when to look again.
async fn cancel_at_provider(app: &App, payment: &Unsettled) -> Result<Option<Duration>> {
    let intent_id = payment.intent_id.as_deref().context("a payment has its intent before it is cancelled")?;
    let canceled = app.budgets.cancel.call(app.provider.cancel(intent_id)).await;
    failpoints::crash("after_cancel");
    let intent = match canceled {
        Ok(intent) => intent,
        // The buyer was faster, or the bank still thinks: the intent says which.
        Err(ProviderError::Refused { intent: Some(intent), .. }) => *intent,
        Err(error) => return Err(unreachable(app, error)),
    };
    let settled = intent.status.is_final();
    follow(app, payment.show_id, payment.payment_id, intent).await?;
    Ok(if settled { None } else { Some(POLL) })
}

async fn ask(app: &App, payment: &Unsettled) -> Result<()> {
    let intent_id = payment.intent_id.as_deref().context("an open payment has its intent")?;
    let intent = app.budgets.read.call(app.provider.intent(intent_id)).await.map_err(|it| unreachable(app, it))?;
    follow(app, payment.show_id, payment.payment_id, intent).await
}

/// Makes true here what is true at the provider.
async fn follow(app: &App, show: ShowId, payment_id: PaymentId, intent: Intent) -> Result<()> {
    let command = match intent.status {
        IntentStatus::Succeeded => Command::PaymentSucceeded(Success {
            payment_id,
            intent_id: intent.id.into(),
            amount_received_minor: intent.amount_received_minor,
            currency: intent.currency,
            refund_id: RefundId::new(),
        }),
        IntentStatus::Canceled => Command::PaymentCanceled { payment_id },
        IntentStatus::RequiresPaymentMethod | IntentStatus::RequiresAction | IntentStatus::Processing => return Ok(()),
    };
    match app.checkout.control(show, command).await? {
        Answer::Unfulfilled(_) | Answer::Duplicate(_) | Answer::NeedsReview(_) => app.underway.wake(),
        _ => {}
    }
    failpoints::crash("after_settled");
    Ok(())
}

/// Acts on an event: it is only a reason to ask, so late, doubled and reordered ones do no harm.
async fn act_on(app: &App, event: &WebhookEvent) -> Result<()> {
    if let Some(refund) = &event.refund_id {
        refund_event(app, refund, event.intent_id.as_deref()).await?;
    } else if let Some(intent_id) = &event.intent_id {
        let intent = match app.budgets.read.call(app.provider.intent(intent_id)).await {
            Ok(intent) => Some(intent),
            // The provider does not know it: nothing of ours depends on it.
            Err(ProviderError::Refused { .. }) => None,
            Err(error) => return Err(unreachable(app, error)),
        };
        if let Some(intent) = intent {
            match show_of(app, &intent).await? {
                Some((show, payment_id)) => follow(app, show, payment_id, intent).await?,
                None => {
                    metrics::counter!("showcart_events_unknown_total").increment(1);
                    tracing::error!(event.id = %event.id, intent.id = %intent.id, "an event about a payment that is not ours");
                }
            }
        }
    }
    Ok(())
}

async fn show_of(app: &App, intent: &Intent) -> Result<Option<(ShowId, PaymentId)>> {
    let Some(payment_id) = intent.payment_id else { return Ok(None) };
    let row: Option<(ShowId, PaymentId)> = query("select show_id, payment_id from payment where payment_id = $1")
        .bind(payment_id)
        .optional(&mut app.db.read().await?)
        .await?;
    Ok(row)
}

async fn refund_at_provider(app: &App, refund: &Asked, old: bool) -> Result<()> {
    let refund_id = refund.refund_id;
    let intent_id = refund.intent_id.as_deref().context("a refund gives back a charge that the provider knows")?;
    // The provider may have forgotten the key, and the same call would give the money back a second time.
    let mut made = if old { refund_made(app, refund_id, intent_id).await? } else { None };
    if made.is_none() {
        let call = app.provider.refund(refund_id, intent_id, refund.amount_minor);
        let answered = app.budgets.refund.call(call).await;
        failpoints::crash("after_refund");
        made = match answered {
            Ok(it) => Some(it),
            Err(ProviderError::Refused { code, message, .. }) => {
                tracing::error!(refund.id = %refund_id, code, message, "the provider will not refund");
                // Unless an earlier call of ours has done it, whose key the provider has forgotten by now.
                refund_made(app, refund_id, intent_id).await?
            }
            Err(error) => return Err(unreachable(app, error)),
        };
    }
    match made {
        Some(it) => follow_refund(app, refund.show_id, refund_id, it).await,
        None => refund_failed(app, refund.show_id, refund_id).await,
    }
}

/// Asks how a refund stands that the provider has taken on, should its event have been lost.
async fn ask_for_refund(app: &App, refund: &Asked) -> Result<()> {
    let intent_id = refund.intent_id.as_deref().context("a refund gives back a charge that the provider knows")?;
    match refund_made(app, refund.refund_id, intent_id).await? {
        Some(it) => follow_refund(app, refund.show_id, refund.refund_id, it).await,
        None => Ok(()),
    }
}

/// Makes true here what is true of a refund at the provider.
async fn follow_refund(app: &App, show: ShowId, refund_id: RefundId, it: ProviderRefund) -> Result<()> {
    let pending = match it.status {
        RefundStatus::Pending => true,
        RefundStatus::Succeeded => false,
        RefundStatus::Failed => return refund_failed(app, show, refund_id).await,
    };
    let command = Command::RefundAccepted { refund_id, provider_refund_id: it.id.into(), pending };
    app.checkout.control(show, command).await?;
    Ok(())
}

/// The refund at the provider that an earlier call of ours has made: it carries our id.
async fn refund_made(app: &App, refund_id: RefundId, intent_id: &str) -> Result<Option<ProviderRefund>> {
    let known = app.budgets.read.call(app.provider.refunds(intent_id)).await.map_err(|it| unreachable(app, it))?;
    Ok(known.into_iter().find(|it| it.refund_id == Some(refund_id)))
}

/// The provider says something about a refund. It may come before the answer to our call, which then tells what was true
/// before; so it is our id that says whose refund it is, and a failed refund stays failed.
async fn refund_event(app: &App, provider_refund_id: &str, intent_id: Option<&str>) -> Result<()> {
    let Some(intent_id) = intent_id else { return Ok(()) };
    let known = match app.budgets.read.call(app.provider.refunds(intent_id)).await {
        Ok(known) => known,
        // The provider does not know the intent: nothing of ours depends on it.
        Err(ProviderError::Refused { .. }) => return Ok(()),
        Err(error) => return Err(unreachable(app, error)),
    };
    let Some(it) = known.into_iter().find(|it| it.id == provider_refund_id) else { return Ok(()) };
    // Without our id somebody gave the money back by hand, at the provider.
    let Some(refund_id) = it.refund_id else { return Ok(()) };
    let row: Option<(ShowId,)> = query("select show_id from refund where refund_id = $1")
        .bind(refund_id)
        .optional(&mut app.db.read().await?)
        .await?;
    match row {
        Some((show,)) => follow_refund(app, show, refund_id, it).await,
        None => Ok(()),
    }
}

async fn refund_failed(app: &App, show: ShowId, refund_id: RefundId) -> Result<()> {
    metrics::counter!("showcart_refunds_failed_total").increment(1);
    app.checkout.control(show, Command::RefundFailed { refund_id }).await?;
    Ok(())
}

fn unreachable(app: &App, error: ProviderError) -> crate::error::Error {
    metrics::counter!("showcart_provider_errors_total").increment(1);
    app.pulse.provider_failed();
    tracing::debug!(%error, "the provider");
    problem(Code::ProviderUnavailable, format!("The payment provider: {error}"))
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};

    use super::*;

    /// Years of settled payments must not be read at every look: what is read whole is an index of what is to be done, or
    /// what a statement has made itself.
    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "the plan is SQLite's, and asked of SQLite alone")]
    async fn a_look_reads_nothing_that_is_settled() {
        let mut db = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        for (_, _, sql) in crate::app::MIGRATIONS {
            sqlx::raw_sql(*sql).execute(&mut db).await.unwrap();
        }
        let partial = "select name from sqlite_master where type = 'index' and sql like '% where %'";
        let partial: Vec<(String,)> = sqlx::query_as(partial).fetch_all(&mut db).await.unwrap();
        for sql in [REQUESTED, PENDING, CREATING, OVERDUE, OPEN, DUE, ALARMING, OWED, inbox::PENDING] {
            let plan =
                sqlx::query(AssertSqlSafe(format!("explain query plan {sql}"))).fetch_all(&mut db).await.unwrap();
            for step in plan.iter().map(|it| it.get::<String, _>("detail")) {
                let of_open = step.split_whitespace().any(|word| partial.iter().any(|(name,)| name == word));
                let own = ["SCAN holding", "SCAN charge", "SCAN CONSTANT ROW"].contains(&&*step);
                assert!(!step.starts_with("SCAN") || of_open || own, "{step}: {sql}");
            }
        }
    }
}
