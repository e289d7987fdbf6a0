//! `showcart check`: what must be true of every database, whatever has happened to it.
//!
//! Reads only, each invariant in a view of its own, so it runs beside a working server. An invariant is one statement that
//! finds what breaks it; the fold of the log, and the comparison with the payment provider's ledger, are small loops. The
//! rules' own tests ask the same of states in memory (`checkout/rules/check.rs`); here the database itself is asked.
//!
//! What is asked of votes stands in `ballot`, which writes them.

use std::collections::BTreeMap;
use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use crate::ballot;
use crate::db::{Db, Tx, query, row};
use crate::ids::ShowId;
use crate::live::{self, Audience, Seq};
use crate::payment::IntentStatus;
use crate::payment::sandbox::{Access, Client, LOOPBACK_API_KEY, LedgerIntent};
use crate::scene::Scene;
use crate::storage::Storage;
use crate::{show, viewer};

/// What the command is told.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    storage: Storage,
    /// Where the sandbox payment provider is: every success in its ledger must be an order.
    #[arg(long, env = "SANDBOX_URL", value_name = "URL")]
    ledger: Option<String>,
    /// What the sandbox wants to see with each call.
    #[arg(long, env = "SANDBOX_API_KEY", hide_env_values = true, default_value = LOOPBACK_API_KEY)]
    ledger_key: String,
}

/// Prints one line for each invariant. The process ends with 1 when one is broken, with 2 when that could not be found out.
pub async fn command(options: &Options) -> anyhow::Result<ExitCode> {
    let ledger = options.ledger.as_ref().map(|url| {
        let url = url.trim_end_matches('/').to_owned();
        // Nobody sends us events, so there is no secret to check them with.
        let (api_key, webhook_secret) = (options.ledger_key.clone(), String::new());
        Client::new(Access { public_url: url.clone(), url, api_key, webhook_secret })
    });
    let db = options.storage.open().await?;
    let lines = run(&db, ledger.as_ref()).await;
    db.close().await;
    let lines = lines?;
    for line in &lines {
        println!("{line}");
    }
    Ok(if lines.iter().all(Line::holds) { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// What was found about one invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub sentence: &'static str,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Holds,
    /// What breaks it; the first few, when there are many.
    Broken(Vec<String>),
    /// Why nobody looked.
    NotAsked(&'static str),
}

impl Line {
    /// Whether nothing was found that breaks it.
    pub fn holds(&self) -> bool {
        !matches!(self.outcome, Outcome::Broken(_))
    }

    fn of(sentence: &'static str, mut broken: Vec<String>) -> Line {
        if broken.is_empty() {
            return Line { sentence, outcome: Outcome::Holds };
        }
        if broken.len() > SHOWN_MAX {
            broken.truncate(SHOWN_MAX);
            broken.push("and more".into());
        }
        Line { sentence, outcome: Outcome::Broken(broken) }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::Holds => write!(f, "ok   {}", self.sentence),
            Outcome::Broken(what) => write!(f, "FAIL {}: {}", self.sentence, what.join("; ")),
            Outcome::NotAsked(why) => write!(f, "-    {}: not asked, {why}", self.sentence),
        }
    }
}

/// Examples of what breaks an invariant; statements ask for one more, to know whether there are more.
const SHOWN_MAX: usize = 5;

/// An invariant, and the statement that finds what breaks it: one column, `what`.
struct Rule {
    sentence: &'static str,
    sql: &'static str,
}

macro_rules! rule {
    ($sentence:literal, $($sql:tt)+) => {
        Rule {
            sentence: $sentence,
            sql: concat!("select what from (", $($sql)+, ") as found order by what limit 6"),
        }
    };
}

/// The lines of all holds, with the units that each of them holds or has sold.
macro_rules! hold_lines {
    () => {
        "select h.show_id, h.hold_id, h.buyer_id, l.value->>'product_id' as product_id, l.value->>'sale_id' as sale_id,
                case when h.state in ('active', 'paying') then cast(l.value->>'quantity' as bigint) else 0 end as held,
                case when h.state = 'committed'
                     then cast(l.value->>'quantity' as bigint) - cast(l.value->>'returned' as bigint) else 0 end as sold
         from hold h, json_each(h.lines) l"
    };
}

/// The gauges that count units.
macro_rules! counts {
    () => {
        "select g.show_id, g.name, cast(d.value->>'left' as bigint) as units_left,
                cast(d.value->>'in_checkout' as bigint) as held, cast(d.value->>'sold' as bigint) as sold
         from gauge g, json_each('[' || g.value || ']') d where g.name like 'units:%' or g.name like 'stock:%'"
    };
}

/// What moves a show's GMV, from all that says something about it: the log, the rows, the gauge. Test shows have none.
macro_rules! gmv {
    () => {
        "select e.show_id, d.value->>'currency' as currency, cast(d.value->>'gmv_delta_minor' as bigint) as logged, 0 as sold,
                0 as shown
         from entry e, json_each('[' || e.data || ']') d
         where e.type in ('order.paid', 'order.refunded', 'refund.failed')
           and cast(d.value->>'test' as text) not in ('1', 'true')
         union all
         select show_id, currency, 0, amount_minor, 0 from orders where state = 'paid' and not test
         union all
         select r.show_id, r.currency, 0, -r.amount_minor, 0 from refund r join orders o on o.order_id = r.order_id
         where r.state = 'accepted' and r.reason = 'requested' and not o.test
         union all
         select g.show_id, d.value->>'currency', 0, 0, cast(d.value->>'gmv_minor' as bigint)
         from gauge g, json_each('[' || g.value || ']') d where g.name = 'gmv'"
    };
}

const RULES: &[Rule] = &[
    // Units.
    rule!(
        "no show holds and sells more units of a product than it has",
        "select show_id || ' ' || product_id || ' has ' || allocated || ', holds ' || held || ', sold ' || sold as what
         from allocation where held + sold > allocated"
    ),
    rule!(
        "what shows have and have not sold is fenced, and on hand",
        "select p.product_id || ' has ' || coalesce(s.on_hand, 0) || ' on hand, ' || coalesce(s.fenced, 0)
                || ' fenced, shows have ' || coalesce(a.unsold, 0) as what
         from product p
         left join stock s on s.product_id = p.product_id
         left join (select product_id, cast(sum(allocated - sold) as bigint) as unsold from allocation group by product_id) a
                on a.product_id = p.product_id
         where coalesce(s.fenced, 0) <> coalesce(a.unsold, 0) or coalesce(s.fenced, 0) > coalesce(s.on_hand, 0)"
    ),
    rule!(
        "no sale holds and sells more units than its cap",
        "select sale_id || ' has ' || cap || ', holds ' || held || ', sold ' || sold as what
         from sale where held + sold > cap"
    ),
    rule!(
        "the line-up counts what its holds hold and have bought",
        "select coalesce(a.show_id, l.show_id) || ' ' || coalesce(a.product_id, l.product_id) || ' says ' || coalesce(a.held, 0)
                || ' held, ' || coalesce(a.sold, 0) || ' sold; its holds say ' || coalesce(l.held, 0) || ' and '
                || coalesce(l.sold, 0) as what
         from allocation a
         full join (select show_id, product_id, cast(sum(held) as bigint) as held, cast(sum(sold) as bigint) as sold
                    from (", hold_lines!(), ") as line group by show_id, product_id) l
                on l.show_id = a.show_id and l.product_id = a.product_id
         where coalesce(a.held, 0) <> coalesce(l.held, 0) or coalesce(a.sold, 0) <> coalesce(l.sold, 0)"
    ),
    rule!(
        "each sale counts what its holds hold and have bought",
        "select coalesce(s.sale_id, l.sale_id) || ' says ' || coalesce(s.held, 0) || ' held, ' || coalesce(s.sold, 0)
                || ' sold; its holds say ' || coalesce(l.held, 0) || ' and ' || coalesce(l.sold, 0) as what
         from sale s
         full join (select sale_id, cast(sum(held) as bigint) as held, cast(sum(sold) as bigint) as sold
                    from (", hold_lines!(), ") as line where sale_id is not null group by sale_id) l
                on l.sale_id = s.sale_id
         where coalesce(s.held, 0) <> coalesce(l.held, 0) or coalesce(s.sold, 0) <> coalesce(l.sold, 0)"
    ),
    rule!(
        "a hold costs what its lines cost",
        "select h.hold_id || ' says ' || h.amount_minor || ', its lines ' || coalesce(l.amount_minor, 0) as what
         from hold h
         left join (select i.hold_id, cast(sum(cast(l.value->>'quantity' as bigint)
                                               * cast(l.value->>'unit_price_minor' as bigint)) as bigint) as amount_minor
                    from hold i, json_each(i.lines) l group by i.hold_id) l on l.hold_id = h.hold_id
         where h.amount_minor <> coalesce(l.amount_minor, 0)"
    ),
    // Orders and money.
    rule!(
        "a paid order has one committed hold, and a committed hold one paid order",
        "select o.order_id || ' is paid, its hold ' || o.hold_id || ' is ' || coalesce(h.state, 'missing') as what
         from orders o left join hold h on h.hold_id = o.hold_id
         where o.state = 'paid' and coalesce(h.state, 'missing') <> 'committed'
         union all
         select h.hold_id || ' is committed and has ' || count(o.order_id) || ' paid orders'
         from hold h left join orders o on o.hold_id = h.hold_id and o.state = 'paid'
         where h.state = 'committed' group by h.hold_id having count(o.order_id) <> 1"
    ),
    rule!(
        "an order is about its hold, and waits or has ended as the hold has",
        "select o.order_id || ' is ' || o.state || ', its hold ' || h.hold_id || ' is ' || h.state as what
         from orders o join hold h on h.hold_id = o.hold_id
         where (o.state = 'pending') <> (h.state = 'paying')
            or (o.state in ('canceled', 'unfulfilled') and h.state <> 'released')
         union all
         select o.order_id || ' and its hold ' || h.hold_id || ' are not of one buyer, show and amount'
         from orders o join hold h on h.hold_id = o.hold_id
         where o.buyer_id <> h.buyer_id or o.show_id <> h.show_id or o.amount_minor <> h.amount_minor
            or o.currency <> h.currency
         union all
         select h.hold_id || ' is paying and has no order'
         from hold h left join orders o on o.hold_id = h.hold_id where h.state = 'paying' and o.order_id is null"
    ),
    rule!(
        "an order's state fits its payment's",
        "select o.order_id || ' is ' || o.state || ', its payment ' || coalesce(p.payment_id, '') || ' '
                || coalesce(p.state, 'missing') as what
         from orders o left join payment p on p.order_id = o.order_id
         where (o.state = 'pending' and coalesce(p.state, '') not in ('creating', 'open'))
            or (o.state = 'canceled' and coalesce(p.state, '') = 'succeeded')
            or (o.state in ('paid', 'unfulfilled') and coalesce(p.state, '') <> 'succeeded')
            or (o.state = 'paid') <> (o.paid_by is not null)
            or (o.paid_by is not null and o.paid_by <> coalesce(p.payment_id, ''))"
    ),
    // Whether it arrives is the next one's question.
    rule!(
        "money that was taken pays for an order or is to go back",
        "select p.payment_id || ' succeeded, ' || o.order_id || ' is ' || o.state || ', ' || coalesce(r.amount_minor, 0)
                || ' of ' || o.amount_minor || ' goes back' as what
         from payment p
         join orders o on o.order_id = p.order_id
         left join (select payment_id, cast(sum(amount_minor) as bigint) as amount_minor,
                           max(case when reason = 'mismatch' then 1 else 0 end) as mismatch
                    from refund where reason in ('unfulfilled', 'mismatch') group by payment_id) r
                on r.payment_id = p.payment_id
         where p.state = 'succeeded'
           and not (o.state = 'paid' and coalesce(o.paid_by, '') = p.payment_id)
           and not (o.state = 'unfulfilled' and (coalesce(r.mismatch, 0) = 1 or coalesce(r.amount_minor, 0) >= o.amount_minor))
           and not exists (
               select 1 from entry e, json_each('[' || e.data || ']') d
               where e.show_id = p.show_id and e.once = 'payment.mismatch ' || p.payment_id
                 and cast(d.value->>'received_minor' as bigint) <= 0)"
    ),
    // A charge for nothing, duplicates too: its first refund is all of it, what failed did not go back, and only the desk
    // can ask for it again.
    rule!(
        "a charge for nothing goes back whole, and a refund of it that failed is asked for again",
        "select r.order_id || ' was charged ' || max(r.amount_minor) || ' ' || max(r.currency) || ' for nothing, '
                || sum(case when r.state = 'failed' then 0 else r.amount_minor end) || ' goes back; '
                || max(case when r.state = 'failed' then r.refund_id else '' end) || ' has failed' as what
         from refund r where r.reason <> 'requested' group by r.order_id, r.intent_id
         having sum(case when r.state = 'failed' then 0 else r.amount_minor end) <> max(r.amount_minor)"
    ),
    rule!(
        "an order says what was refunded, and that is no more than it cost",
        "select o.order_id || ' cost ' || o.amount_minor || ' and says ' || o.refunded_minor || '; its refunds say '
                || coalesce(r.amount_minor, 0) as what
         from orders o
         left join (select order_id, cast(sum(amount_minor) as bigint) as amount_minor from refund
                    where state = 'accepted' and reason in ('requested', 'unfulfilled') group by order_id) r
                on r.order_id = o.order_id
         where o.refunded_minor <> coalesce(r.amount_minor, 0) or o.refunded_minor > o.amount_minor"
    ),
    // Buyers.
    rule!(
        "no buyer has more units of a sale than its limit",
        "select u.buyer_id || ' has ' || u.units || ' of ' || s.limit_per_buyer || ' in ' || s.sale_id as what
         from (select buyer_id, sale_id, cast(sum(held + sold) as bigint) as units
               from (", hold_lines!(), ") as line where sale_id is not null group by buyer_id, sale_id) u
         join sale s on s.sale_id = u.sale_id
         where u.units > s.limit_per_buyer"
    ),
    rule!(
        "no buyer has two open holds in a sale",
        "select buyer_id || ' has ' || count(distinct hold_id) || ' in ' || sale_id as what
         from (", hold_lines!(), ") as line
         where sale_id is not null and held > 0 group by buyer_id, sale_id having count(distinct hold_id) > 1"
    ),
    rule!(
        "no key was granted twice to a buyer",
        "select show_id || ' ' || buyer_id || ' was granted ' || key || ' ' || count(*) || ' times' as what
         from hold group by show_id, buyer_id, key having count(*) > 1"
    ),
    // The log. What was pruned stands in the archive, and the rest must follow on it.
    rule!(
        "each show's log runs from its first entry to its last without a hole",
        "select w.show_id || ' says ' || coalesce(h.last_seq, -1) || ' and has ' || coalesce(e.entries, 0) || ' entries from '
                || coalesce(e.first_seq, 0) || ' to ' || coalesce(e.last_seq, 0) as what
         from show w
         left join show_head h on h.show_id = w.show_id
         left join (select i.show_id, count(*) as entries, min(i.seq) as first_seq, max(i.seq) as last_seq
                    from entry i join show v on v.show_id = i.show_id
                    where i.seq > coalesce(v.pruned_seq, 0) or i.seq < 1 group by i.show_id) e on e.show_id = w.show_id
         where h.last_seq is null or h.last_seq <> coalesce(w.pruned_seq, 0) + coalesce(e.entries, 0)
            or h.last_seq <> coalesce(e.last_seq, w.pruned_seq, 0)
            or e.first_seq <> coalesce(w.pruned_seq, 0) + 1"
    ),
    rule!(
        "what may be said once was said once",
        "select show_id || ' says ' || once || ' ' || count(*) || ' times' as what
         from entry where once is not null group by show_id, once having count(*) > 1"
    ),
    // Who follows the log.
    rule!(
        "no sink was told more than the log says",
        "select k.sink || ' was told ' || k.show_id || ' up to ' || k.seq || ', it ends at ' || h.last_seq as what
         from sink_cursor k join show_head h on h.show_id = k.show_id and h.epoch = k.epoch
         where k.seq > h.last_seq or k.seq < 0"
    ),
    rule!(
        "what is on its way to a webhook was not passed over",
        "select d.delivery_id || ' is ' || d.seq || ' of ' || d.show_id || ', told up to ' || k.seq as what
         from webhook_delivery d
         join webhook w on w.webhook_id = d.webhook_id and w.deleted_at is null
         join sink_cursor k on k.sink = d.webhook_id and k.show_id = d.show_id
         where d.state = 'pending' and d.redelivery_id = '' and k.seq >= d.seq
           and d.message_id = k.show_id || '.' || k.epoch || '.' || d.seq
         union all
         select d.delivery_id || ' is ' || d.seq || ' of ' || d.show_id || ', told again up to ' || coalesce(r.after, d.seq)
         from webhook_delivery d
         join webhook w on w.webhook_id = d.webhook_id and w.deleted_at is null
         left join webhook_redelivery r on r.redelivery_id = d.redelivery_id
         where d.state = 'pending' and d.redelivery_id <> '' and (r.redelivery_id is null or r.after >= d.seq)"
    ),
    // Totals and counters.
    rule!(
        "the log's GMV is what was paid and not refunded",
        "select show_id || ' ' || currency || ': the log says ' || logged || ', the orders ' || sold as what
         from (select show_id, currency, cast(sum(logged) as bigint) as logged, cast(sum(sold) as bigint) as sold
               from (", gmv!(), ") as gmv group by show_id, currency) as total
         where logged <> sold and show_id not in (select show_id from show where pruned_seq is not null)"
    ),
    rule!(
        "the GMV that the desk sees is what was paid and not refunded",
        "select show_id || ' ' || currency || ': the desk sees ' || shown || ', the orders say ' || sold as what
         from (select show_id, currency, cast(sum(shown) as bigint) as shown, cast(sum(sold) as bigint) as sold
               from (", gmv!(), ") as gmv group by show_id, currency) as total
         where shown <> sold"
    ),
    rule!(
        "the counters that viewers see are what the line-up says",
        "select a.show_id || ' ' || a.product_id || ' shows ' || coalesce(g.units_left, -1) || ' left, ' || coalesce(g.held, -1)
                || ' in checkout, ' || coalesce(g.sold, -1) || ' sold' as what
         from allocation a
         join show w on w.show_id = a.show_id
         left join (", counts!(), ") as g on g.show_id = a.show_id and g.name = 'stock:' || a.product_id
         where (g.name is null and w.pruned_seq is null) or g.units_left <> a.allocated - a.held - a.sold or g.held <> a.held or g.sold <> a.sold"
    ),
    rule!(
        "the counters that viewers see are what the sales say",
        "select s.sale_id || ' shows ' || coalesce(g.units_left, -1) || ' left, ' || coalesce(g.held, -1) || ' in checkout, '
                || coalesce(g.sold, -1) || ' sold' as what
         from sale s
         join show w on w.show_id = s.show_id
         left join allocation a on a.show_id = s.show_id and a.product_id = s.product_id
         left join (", counts!(), ") as g on g.show_id = s.show_id and g.name = 'units:' || s.sale_id
         where (g.name is null and w.pruned_seq is null) or g.held <> s.held or g.sold <> s.sold
            or g.units_left <> case when s.state = 'ended' or a.product_id is null then 0
                                    when a.allocated - a.held - a.sold < s.cap - s.held - s.sold
                                    then a.allocated - a.held - a.sold
                                    else s.cap - s.held - s.sold end"
    ),
];

const VOTES: &str = "a vote counts once, and the final tally is what was accepted";
const FOLD: &str = "a viewer who heard the whole log sees what a viewer who joins now sees";
const LEDGER: &str = "every success at the payment provider is an order that is paid, or money that goes back";

/// Asks for every invariant. `ledger` is the sandbox whose successes must be orders.
///
/// # Errors
/// The database or the ledger cannot be read.
pub async fn run(db: &Db, ledger: Option<&Client>) -> anyhow::Result<Vec<Line>> {
    let mut lines = Vec::with_capacity(RULES.len() + 3);
    for rule in RULES {
        let found: Vec<(String,)> = query(rule.sql)
            .all(&mut db.read().await?)
            .await
            .with_context(|| format!("asking whether {}", rule.sentence))?;
        lines.push(Line::of(rule.sentence, found.into_iter().map(|it| it.0).collect()));
    }
    lines.push(Line::of(VOTES, ballot::violations(&mut db.read().await?).await?));
    lines.push(Line::of(FOLD, unfolded(db).await?));
    lines.push(match ledger {
        Some(ledger) => Line::of(LEDGER, unsettled(db, ledger).await?),
        None => Line { sentence: LEDGER, outcome: Outcome::NotAsked("no ledger was named") },
    });
    Ok(lines)
}

/// Rows of one page.
const PAGE: i64 = 1_000;

/// The shows whose log leads elsewhere than their snapshot. A log that was pruned leads nowhere from its beginning.
async fn unfolded(db: &Db) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut after = String::new();
    loop {
        let shows: Vec<(ShowId,)> =
            query("select show_id from show where show_id > $1 and pruned_seq is null order by show_id limit $2")
                .bind(&*after)
                .bind(PAGE)
                .all(&mut db.read().await?)
                .await?;
        let Some((last,)) = shows.last() else { return Ok(found) };
        after = last.to_string();
        for (show,) in shows {
            found.extend(difference(&mut db.read().await?, show).await?);
            if found.len() > SHOWN_MAX {
                return Ok(found);
            }
        }
    }
}

/// What is wrong with the log of one show, in one view.
async fn difference(tx: &mut Tx, show: ShowId) -> anyhow::Result<Option<String>> {
    if live::head(tx, show).await?.is_none() {
        return Ok(Some(format!("{show} has no head")));
    }
    let (_, _, seen) = viewer::scene(tx, show).await?;
    let mut heard = Scene::new(&show::find(tx, show).await?.title);
    // A show is made with its title and its picture; the log says when the picture becomes another one.
    heard.show.video_url = seen.show.video_url.clone();
    let mut after = Seq(0);
    loop {
        let entries = live::since(tx, show, after, PAGE).await?;
        let Some(last) = entries.last() else { break };
        after = last.seq;
        for entry in entries.iter().filter(|it| it.audience == Audience::All) {
            match entry.event() {
                Ok(event) => heard.apply(&event),
                Err(error) => return Ok(Some(format!("{show}: entry {} cannot be read: {error}", entry.seq))),
            }
        }
    }
    Ok((heard != seen).then(|| format!("{show}: the log leads to {heard:?}, the snapshot shows {seen:?}")))
}

#[derive(Serialize)]
struct Charge {
    intent_id: String,
    order_id: Option<String>,
}

row! {
    struct Unexplained {
        intent_id: String,
        order_id: Option<String>,
        state: Option<String>,
        waits: i64,
    }
}

/// A working server hears of a success by an event, or asks by itself within this.
const PATIENCE: Duration = Duration::from_secs(20);

/// Successes in the ledger that are neither a paid order nor on their way back.
async fn unsettled(db: &Db, ledger: &Client) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut waiting = Vec::new();
    let mut cursor = None;
    loop {
        let page = ledger.ledger(cursor.as_deref()).await.context("reading the payment provider's ledger")?;
        let took_money = |it: &LedgerIntent| it.status == IntentStatus::Succeeded && it.amount_received_minor > 0;
        let charges = page.intents.into_iter().filter(took_money).map(|it| charge(it.id, it.metadata)).collect();
        let (is_waiting, is_wrong): (Vec<_>, Vec<_>) =
            unexplained(db, &charges).await?.into_iter().partition(|it| it.waits > 0);
        waiting.extend(is_waiting);
        found.extend(is_wrong);
        cursor = page.next_cursor;
        if cursor.is_none() || found.len() > SHOWN_MAX {
            break;
        }
    }
    // What the server may only not have heard of yet is looked at again.
    for _ in 0..PATIENCE.as_secs() {
        if waiting.is_empty() || found.len() > SHOWN_MAX {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let charges = waiting.into_iter().map(|it| Charge { intent_id: it.intent_id, order_id: it.order_id }).collect();
        waiting = unexplained(db, &charges).await?;
    }
    found.extend(waiting);
    let sentence = |it: Unexplained| {
        let order = it.order_id.unwrap_or_else(|| "no order".into());
        format!("{} of {order}, which is {}", it.intent_id, it.state.unwrap_or_else(|| "unknown here".into()))
    };
    Ok(found.into_iter().map(sentence).collect())
}

fn charge(intent_id: String, mut metadata: BTreeMap<String, String>) -> Charge {
    Charge { intent_id, order_id: metadata.remove("order_id") }
}

async fn unexplained(db: &Db, charges: &Vec<Charge>) -> anyhow::Result<Vec<Unexplained>> {
    let found = query(
        "select c.value->>'intent_id' as intent_id, c.value->>'order_id' as order_id, o.state as state,
                (select count(*) from payment p
                 where p.order_id = o.order_id and p.state in ('creating', 'open')) as waits
         from json_each($1) c left join orders o on o.order_id = c.value->>'order_id'
         where not exists (select 1 from payment p
                           where p.payment_id = o.paid_by and p.intent_id = c.value->>'intent_id' and o.state = 'paid')
           and not exists (select 1 from refund r
                           where r.intent_id = c.value->>'intent_id' and r.order_id = o.order_id
                             and r.reason <> 'requested' and r.state <> 'failed')",
    )
    .bind_json(charges)
    .all(&mut db.read().await?)
    .await?;
    Ok(found)
}
