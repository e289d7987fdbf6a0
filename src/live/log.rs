//! The log of a show, its head and its gauges: the only writer of `show_head`, `entry`, `gauge` and `action`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::event::{Action, Audience, Event};
use crate::clock::Millis;
use crate::db::{Result, Tx, query, row};
use crate::ids::{BuyerId, ShowId};

/// A place in a show's log: 1 is the first entry, 0 stands before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(transparent)]
pub struct Seq(pub i64);

crate::db::bigint_column!(Seq);

impl Seq {
    pub(super) fn next(self) -> Seq {
        Seq(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The life of a show: `scheduled → live → ended`; one that never went live may end too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShowState {
    Scheduled,
    Live,
    Ended,
}

impl ShowState {
    pub fn as_str(self) -> &'static str {
        match self {
            ShowState::Scheduled => "scheduled",
            ShowState::Live => "live",
            ShowState::Ended => "ended",
        }
    }
}

impl fmt::Display for ShowState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ShowState {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<ShowState> {
        [ShowState::Scheduled, ShowState::Live, ShowState::Ended]
            .into_iter()
            .find(|it| it.as_str() == text)
            .ok_or_else(|| anyhow::anyhow!("no state of a show: {text}"))
    }
}

crate::db::text_column!(ShowState);

row! {
    /// The head of a show's log.
    #[derive(Debug, Clone)]
    pub struct Head {
        pub epoch: String,
        pub last_seq: Seq,
        pub state: ShowState,
    }
}

/// An entry as it travels and rests in rings: the wire text is made once.
#[derive(Debug)]
pub struct Entry {
    pub seq: Seq,
    pub audience: Audience,
    pub at: Millis,
    pub kind: Box<str>,
    /// `{"seq":…,"at":…,"type":…,"data":…}`
    pub json: Box<str>,
}

/// A number of which only the latest value matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gauge {
    pub name: Box<str>,
    pub desk_only: bool,
    /// Rises with every write; clients ignore what is not newer than what they have.
    pub version: i64,
    /// JSON.
    pub value: Box<str>,
    pub at: Millis,
}

/// An entry that has no place in the log yet.
pub(super) struct NewEntry {
    pub(super) audience: Audience,
    pub(super) event: Event,
    pub(super) at: Millis,
    pub(super) once: Option<String>,
}

/// Makes the head of a new show.
///
/// # Errors
/// The show has one, or the database cannot be reached.
pub async fn create_head(tx: &mut Tx, show: ShowId) -> Result<()> {
    query("insert into show_head (show_id, epoch, last_seq, state) values ($1, $2, 0, 'scheduled')")
        .bind(show)
        .bind(new_epoch())
        .run(tx)
        .await?;
    Ok(())
}

fn new_epoch() -> String {
    let mut epoch = uuid::Uuid::new_v4().simple().to_string();
    epoch.truncate(16);
    epoch
}

/// Gives every show a new epoch, because the database was restored: what viewers have seen is not what stands in it. Says
/// how many shows there are.
///
/// # Errors
/// The database cannot be reached.
pub async fn new_epochs(tx: &mut Tx) -> Result<usize> {
    #[derive(Serialize)]
    struct NewEpoch {
        show_id: ShowId,
        epoch: String,
    }
    let shows: Vec<(ShowId,)> = query("select show_id from show_head").all(tx).await?;
    let rows: Vec<NewEpoch> = shows.into_iter().map(|(show_id,)| NewEpoch { show_id, epoch: new_epoch() }).collect();
    query(
        "update show_head set epoch = value->>'epoch' from json_each($1)
         where show_head.show_id = value->>'show_id'",
    )
    .bind_json(&rows)
    .run(tx)
    .await?;
    Ok(rows.len())
}

/// Deletes entries of a show up to `upto`, the oldest first and at most `limit`; says how many.
///
/// # Errors
/// The database cannot be reached.
pub async fn forget_entries(tx: &mut Tx, show: ShowId, upto: Seq, limit: i64) -> Result<u64> {
    query(
        "delete from entry where show_id = $1 and seq in (
             select seq from entry where show_id = $1 and seq <= $2 order by seq limit $3)",
    )
    .bind(show)
    .bind(upto)
    .bind(limit)
    .run(tx)
    .await
}

/// Deletes what a show that is over has on its counters. Its `gmv` stays: a refund that comes late counts on from there.
///
/// # Errors
/// The database cannot be reached.
pub async fn forget_gauges(tx: &mut Tx, show: ShowId) -> Result<()> {
    query("delete from gauge where show_id = $1 and name <> 'gmv'").bind(show).run(tx).await?;
    super::presence::forget(tx, show).await
}

/// Deletes who did what in shows whose logs were pruned, at most `limit`; says how many.
///
/// # Errors
/// The database cannot be reached.
pub async fn forget_actions(tx: &mut Tx, limit: i64) -> Result<u64> {
    query(
        "delete from action where (show_id, number) in (
             select a.show_id, a.number from show s join action a on a.show_id = s.show_id
             where s.pruned_seq is not null limit $1)",
    )
    .bind(limit)
    .run(tx)
    .await
}

/// Locks the head until the transaction ends: its own statement, before anything else is read.
pub(super) async fn lock_head(tx: &mut Tx, show: ShowId) -> Result<Option<Head>> {
    tx.stand_in_line(&show.to_string()).await?;
    query("update show_head set last_seq = last_seq where show_id = $1 returning epoch, last_seq, state")
        .bind(show)
        .optional(tx)
        .await
}

/// Reads the head without locking it.
///
/// # Errors
/// The database cannot be reached.
pub async fn head(tx: &mut Tx, show: ShowId) -> Result<Option<Head>> {
    query("select epoch, last_seq, state from show_head where show_id = $1").bind(show).optional(tx).await
}

pub(super) async fn set_state(tx: &mut Tx, show: ShowId, state: ShowState) -> Result<()> {
    query("update show_head set state = $2 where show_id = $1").bind(show).bind(state.as_str()).run(tx).await?;
    Ok(())
}

#[derive(Serialize)]
struct EntryRow<'a> {
    seq: Seq,
    audience: &'static str,
    buyer_id: Option<&'a BuyerId>,
    kind: &'a str,
    at: Millis,
    data: &'a str,
    once: Option<&'a str>,
}

/// Writes entries behind the head, which the caller has locked.
pub(super) async fn append(tx: &mut Tx, show: ShowId, last: Seq, new: &[NewEntry]) -> Result<Vec<Arc<Entry>>> {
    let named: Vec<(String, String)> = new.iter().map(|it| parts(&it.event)).collect();
    let mut rows = Vec::with_capacity(new.len());
    let mut entries = Vec::with_capacity(new.len());
    let mut seq = last;
    for (it, (kind, data)) in new.iter().zip(&named) {
        seq = seq.next();
        let (audience, buyer_id) = match &it.audience {
            Audience::All => ("all", None),
            Audience::Desk => ("desk", None),
            Audience::Own(buyer) => ("own", Some(buyer)),
        };
        rows.push(EntryRow { seq, audience, buyer_id, kind, at: it.at, data, once: it.once.as_deref() });
        entries.push(Arc::new(Entry::new(seq, it.audience.clone(), it.at, kind, data)));
    }
    query("update show_head set last_seq = $2 where show_id = $1").bind(show).bind(seq).run(tx).await?;
    query(
        "insert into entry (show_id, seq, audience, buyer_id, type, at, data, once)
         select $1, cast(value->>'seq' as bigint), value->>'audience', value->>'buyer_id', value->>'kind',
                cast(value->>'at' as bigint), value->>'data', value->>'once'
         from json_each($2)",
    )
    .bind(show)
    .bind_json(&rows)
    .run(tx)
    .await?;
    Ok(entries)
}

/// The type of an event and its data as JSON.
fn parts(event: &Event) -> (String, String) {
    let mut value = serde_json::to_value(event).expect("events are plain structs with text keys");
    let kind = value["type"].as_str().expect("every event has a type").to_owned();
    (kind, value["data"].take().to_string())
}

impl Entry {
    fn new(seq: Seq, audience: Audience, at: Millis, kind: &str, data: &str) -> Entry {
        let json = format!(r#"{{"seq":{seq},"at":{at},"type":"{kind}","data":{data}}}"#);
        Entry { seq, audience, at, kind: kind.into(), json: json.into() }
    }

    /// What happened, read back from the wire text.
    ///
    /// # Errors
    /// The entry was written by a newer version of this program.
    pub fn event(&self) -> serde_json::Result<Event> {
        serde_json::from_str(&self.json)
    }
}

row! {
    struct StoredEntry {
        seq: Seq,
        audience: String,
        buyer_id: Option<BuyerId>,
        kind: String,
        at: Millis,
        data: String,
    }
}

impl From<StoredEntry> for Entry {
    fn from(it: StoredEntry) -> Entry {
        let audience = match (it.audience.as_str(), it.buyer_id) {
            ("own", Some(buyer)) => Audience::Own(buyer),
            ("desk", _) => Audience::Desk,
            // The table's check leaves nothing else.
            _ => Audience::All,
        };
        Entry::new(it.seq, audience, it.at, &it.kind, &it.data)
    }
}

/// The entries behind `after`, in order, at most `limit`.
///
/// # Errors
/// The database cannot be reached.
pub async fn since(tx: &mut Tx, show: ShowId, after: Seq, limit: i64) -> Result<Vec<Entry>> {
    let rows: Vec<StoredEntry> = query(
        "select seq, audience, buyer_id, type as kind, at, data from entry
         where show_id = $1 and seq > $2 order by seq limit $3",
    )
    .bind(show)
    .bind(after)
    .bind(limit)
    .all(tx)
    .await?;
    Ok(rows.into_iter().map(Entry::from).collect())
}

#[derive(Serialize)]
struct GaugeRow<'a> {
    name: &'a str,
    audience: &'static str,
    value: String,
}

row! {
    struct StoredGauge {
        name: String,
        audience: String,
        version: i64,
        value: String,
        at: Millis,
    }
}

impl From<StoredGauge> for Gauge {
    fn from(it: StoredGauge) -> Gauge {
        Gauge {
            name: it.name.into(),
            desk_only: it.audience == "desk",
            version: it.version,
            value: it.value.into(),
            at: it.at,
        }
    }
}

/// Writes the latest values: each row's own update raises its version, so versions rise whichever node writes.
pub(super) async fn set_gauges(
    tx: &mut Tx,
    show: ShowId,
    at: Millis,
    new: &[(String, bool, Value)],
) -> Result<Vec<Gauge>> {
    let rows: Vec<GaugeRow> = new
        .iter()
        .map(|(name, desk_only, value)| GaugeRow {
            name,
            audience: if *desk_only { "desk" } else { "all" },
            value: value.to_string(),
        })
        .collect();
    let stored: Vec<StoredGauge> = query(
        "insert into gauge (show_id, name, audience, version, value, at)
         select $1, value->>'name', value->>'audience', 1, value->>'value', $2 from json_each($3) where true
         on conflict (show_id, name) do update
         set version = gauge.version + 1, value = excluded.value, at = excluded.at
         returning name, audience, version, value, at",
    )
    .bind(show)
    .bind(at)
    .bind_json(&rows)
    .all(tx)
    .await?;
    Ok(stored.into_iter().map(Gauge::from).collect())
}

/// Writes down who did what, in a change that has locked the head; the last of it as the gauge says it.
pub(super) async fn record(tx: &mut Tx, show: ShowId, at: Millis, actions: &[Action]) -> Result<Option<Value>> {
    let Some(last) = actions.last() else { return Ok(None) };
    let rows: Vec<Value> = (1..).zip(actions).map(|(place, it)| json!({ "place": place, "action": it })).collect();
    query(
        "insert into action (show_id, number, at, by_whom, role, action, what)
         select $1, (select coalesce(max(number), 0) from action where show_id = $1) + cast(value->>'place' as bigint), $2,
                value->'action'->>'by', value->'action'->>'role', value->'action'->>'action', value->'action'->>'what'
         from json_each($3)",
    )
    .bind(show)
    .bind(at)
    .bind_json(&rows)
    .run(tx)
    .await?;
    Ok(Some(json!(last)))
}

/// All gauges of a show.
///
/// # Errors
/// The database cannot be reached.
pub async fn gauges(tx: &mut Tx, show: ShowId) -> Result<Vec<Gauge>> {
    let stored: Vec<StoredGauge> =
        query("select name, audience, version, value, at from gauge where show_id = $1 order by name")
            .bind(show)
            .all(tx)
            .await?;
    Ok(stored.into_iter().map(Gauge::from).collect())
}

row! {
    pub(super) struct HeadOf {
        pub(super) show_id: ShowId,
        pub(super) epoch: String,
        pub(super) last_seq: Seq,
    }
}

row! {
    struct GaugeOf {
        show_id: ShowId,
        name: String,
        audience: String,
        version: i64,
        value: String,
        at: Millis,
    }
}

#[derive(Serialize)]
pub(super) struct ShowKey {
    pub(super) show_id: ShowId,
}

/// Heads of many shows in one query.
pub(super) async fn heads_of(tx: &mut Tx, shows: &[ShowKey]) -> Result<Vec<HeadOf>> {
    query(
        "select show_id, epoch, last_seq from show_head
         where show_id in (select value->>'show_id' from json_each($1))",
    )
    .bind_json(&shows)
    .all(tx)
    .await
}

/// Gauges of many shows in one query.
pub(super) async fn gauges_of(tx: &mut Tx, shows: &[ShowKey]) -> Result<Vec<(ShowId, Gauge)>> {
    let stored: Vec<GaugeOf> = query(
        "select show_id, name, audience, version, value, at from gauge
         where show_id in (select value->>'show_id' from json_each($1))",
    )
    .bind_json(&shows)
    .all(tx)
    .await?;
    let gauge = |it: GaugeOf| {
        let GaugeOf { show_id, name, audience, version, value, at } = it;
        (show_id, StoredGauge { name, audience, version, value, at }.into())
    };
    Ok(stored.into_iter().map(gauge).collect())
}

/// JSON text that is known to be valid, embedded without being parsed again.
pub(super) fn raw(json: &str) -> &RawValue {
    serde_json::from_str(json).expect("gauge values and entries are JSON that this program wrote")
}
