//! What the control panel and the dashboard read beside the socket: who did what, and how a show goes, second by second.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::app::App;
use crate::auth::Caller;
use crate::clock::Millis;
use crate::db::{Turn, Tx, query, row};
use crate::error::{Code, Result, invalid, problem};
use crate::ids::ShowId;
use crate::live::ShowState;
use crate::money::Currency;
use crate::pulse::{self, Sample};
use crate::request::{Page, Paged, Path, Query};
use crate::show;

pub fn routes() -> Router<App> {
    Router::new()
        .route("/v1/shows/{show_id}/actions", get(actions))
        .route("/v1/shows/{show_id}/timeline", get(timeline))
}

row! {
    /// What somebody did.
    #[derive(Debug, Serialize)]
    struct Done {
        number: i64,
        at: Millis,
        by: String,
        role: String,
        action: String,
        what: String,
    }
}

/// Who did what, the latest first.
async fn actions(
    State(app): State<App>,
    caller: Caller,
    Path(show): Path<ShowId>,
    page: Page,
) -> Result<Json<Paged<Done>>> {
    caller.may_see_desk(show)?;
    let mut tx = app.db.read().await?;
    show::find(&mut tx, show).await?;
    let before = match page.after()?.as_str() {
        "" => i64::MAX,
        number => number.parse().map_err(|_| problem(Code::BadCursor, "Take the cursor from `next_cursor`."))?,
    };
    let rows: Vec<Done> = query(
        "select number, at, by_whom as by, role, action, what from action
         where show_id = $1 and number < $2 order by number desc limit $3",
    )
    .bind(show)
    .bind(before)
    .bind(page.limit() + 1)
    .all(&mut tx)
    .await?;
    Ok(Json(page.page(rows, |it| it.number.to_string(), std::convert::identity)))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Span {
    /// Milliseconds since 1970; everything, when absent.
    #[serde(default)]
    from: i64,
    /// How much time one point stands for.
    #[serde(default = "second")]
    step_ms: i64,
}

fn second() -> i64 {
    1_000
}

const STEP_MAX_MS: i64 = 600_000;
/// Samples of one answer: a show of three hours on four nodes, and the longest step on eighty.
const SAMPLES_MAX: i64 = 50_000;

/// How a show goes.
#[derive(Debug, Serialize)]
struct Timeline {
    state: ShowState,
    started_at: Option<Millis>,
    ended_at: Option<Millis>,
    currency: Currency,
    step_ms: i64,
    /// The last one may still grow: ask again from its `at`.
    points: Vec<Point>,
    /// What happened on stage, from `from` on.
    marks: Vec<Mark>,
    /// Whether there is more: ask from the `at` of the last point.
    more: bool,
}

/// What all nodes saw in one step.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Point {
    /// Its beginning.
    at: Millis,
    /// The most in one second.
    viewers: i64,
    viewers_behind: i64,
    granted: i64,
    refused: i64,
    failed: i64,
    /// The longest of the seconds and nodes.
    wait_p50_ms: Option<i64>,
    wait_p99_ms: Option<i64>,
    provider_errors: i64,
    provider_line: i64,
    /// So far in the show, at the end of the step.
    orders: i64,
    gmv_minor: i64,
    refunded_minor: i64,
}

row! {
    struct MarkRow {
        seq: i64,
        at: Millis,
        kind: String,
        data: String,
    }
}

/// Something that happened on stage.
#[derive(Debug, Serialize)]
struct Mark {
    seq: i64,
    at: Millis,
    #[serde(rename = "type")]
    kind: String,
    /// A title, a question; null where the type says it all.
    text: Option<String>,
}

async fn timeline(
    State(app): State<App>,
    caller: Caller,
    Path(show): Path<ShowId>,
    Query(span): Query<Span>,
) -> Result<Json<Timeline>> {
    caller.may_see_desk(show)?;
    if !(1_000..=STEP_MAX_MS).contains(&span.step_ms) {
        return Err(invalid("step_ms", format!("A step is 1000 to {STEP_MAX_MS} ms.")));
    }
    // From the beginning of a step, so that it is whole.
    let from = Millis(span.from.max(0) / span.step_ms * span.step_ms);
    let mut tx = app.db.read().await?;
    let found = show::find(&mut tx, show).await?;
    let samples = pulse::samples(&mut tx, show, from, SAMPLES_MAX).await?;
    let more = samples.len() as i64 == SAMPLES_MAX;
    let marks = marks(&mut tx, show, from).await?;
    Ok(Json(Timeline {
        state: found.state,
        started_at: found.started_at,
        ended_at: found.ended_at,
        currency: found.currency,
        step_ms: span.step_ms,
        points: points(&samples, span.step_ms)?,
        marks,
        more,
    }))
}

/// Adds up the samples of each step: first those of the nodes in one second, then the seconds.
fn points(samples: &[Sample], step_ms: i64) -> Result<Vec<Point>> {
    let mut points: Vec<Point> = Vec::new();
    for step in samples.chunk_by(|one, other| one.at.0 / step_ms == other.at.0 / step_ms) {
        let mut point = Point::empty(Millis(step[0].at.0 / step_ms * step_ms));
        for second in step.chunk_by(|one, other| one.at.0 / 1_000 == other.at.0 / 1_000) {
            let sum = |of: fn(&Sample) -> i64| second.iter().map(of).sum::<i64>();
            point.viewers = point.viewers.max(over_nodes(second, |it| it.viewers));
            point.viewers_behind = point.viewers_behind.max(over_nodes(second, |it| it.viewers_behind));
            point.granted += sum(|it| it.granted);
            point.refused += sum(|it| it.refused);
            point.failed += sum(|it| it.failed);
            point.provider_errors += sum(|it| it.provider_errors);
            // Every node counts the same payments.
            let line = second.iter().map(|it| it.provider_line).max();
            point.provider_line = point.provider_line.max(line.unwrap_or_default());
        }
        point.wait_p50_ms = step.iter().filter_map(|it| it.wait_p50_ms).max();
        point.wait_p99_ms = step.iter().filter_map(|it| it.wait_p99_ms).max();
        let totals = step.iter().rev().find_map(|it| it.totals.as_deref());
        let totals: Value =
            totals.map(serde_json::from_str).transpose().map_err(anyhow::Error::from)?.unwrap_or_default();
        let before = points.last();
        let so_far = |name: &str, before: Option<i64>| totals[name].as_i64().or(before).unwrap_or_default();
        point.orders = so_far("orders", before.map(|it| it.orders));
        point.gmv_minor = so_far("gmv_minor", before.map(|it| it.gmv_minor));
        point.refunded_minor = so_far("refunded_minor", before.map(|it| it.refunded_minor));
        points.push(point);
    }
    Ok(points)
}

/// The sum over the nodes; of a node that was late and wrote twice in one second, the larger number.
fn over_nodes(second: &[Sample], of: fn(&Sample) -> i64) -> i64 {
    let mut nodes: BTreeMap<&str, i64> = BTreeMap::new();
    for sample in second {
        let most = nodes.entry(&sample.node_id).or_default();
        *most = of(sample).max(*most);
    }
    nodes.values().sum()
}

impl Point {
    fn empty(at: Millis) -> Point {
        Point {
            at,
            viewers: 0,
            viewers_behind: 0,
            granted: 0,
            refused: 0,
            failed: 0,
            wait_p50_ms: None,
            wait_p99_ms: None,
            provider_errors: 0,
            provider_line: 0,
            orders: 0,
            gmv_minor: 0,
            refunded_minor: 0,
        }
    }
}

async fn marks(tx: &mut Tx, show: ShowId, from: Millis) -> Result<Vec<Mark>> {
    let rows: Vec<MarkRow> = query(
        "select seq, at, type as kind, data from entry
         where show_id = $1 and at >= $2 and audience = 'all'
               and type in ('show.started', 'show.ended', 'pin.set', 'poll.opened', 'poll.closed', 'sale.started', 'sale.ended', 'sale.sold_out')
         order by seq",
    )
    .bind(show)
    .bind(from)
    .all(tx)
    .await?;
    let mark = |row: MarkRow| {
        let data: Value = serde_json::from_str(&row.data).map_err(anyhow::Error::from)?;
        let text = data["product"]["title"].as_str().or(data["question"].as_str()).map(str::to_owned);
        Ok(Mark { seq: row.seq, at: row.at, kind: row.kind, text })
    };
    rows.into_iter().map(mark).collect()
}

const BEAT: Duration = Duration::from_secs(1);

/// Writes the pulse of this node's shows, until the process stops.
pub async fn run(app: App) {
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !app.is_draining() {
        beat.tick().await;
        if let Err(error) = write_pulse(&app).await {
            tracing::warn!(%error, "a second of the time line was not written");
        }
    }
}

async fn write_pulse(app: &App) -> Result<()> {
    let second = app.pulse.take(&app.live.watching());
    if second.is_empty() {
        return Ok(());
    }
    let written = async {
        let mut tx = app.db.write(Turn::Control).await?;
        let now = tx.now().await?;
        second.write(&mut tx, app.live.node(), now, app.live.viewers_behind()).await?;
        tx.commit().await
    };
    let written = written.await;
    if written.is_err() {
        // It goes into the next one: what failed while the database was away is what the time line has to show.
        app.pulse.give_back(second);
    }
    Ok(written?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: i64, node: &str, viewers: i64, granted: i64, totals: Option<&str>) -> Sample {
        Sample {
            at: Millis(at),
            node_id: node.into(),
            viewers,
            viewers_behind: 0,
            granted,
            refused: 1,
            failed: 0,
            wait_p50_ms: None,
            wait_p99_ms: Some(granted),
            provider_errors: 0,
            provider_line: 2,
            totals: totals.map(str::to_owned),
        }
    }

    #[test]
    fn a_point_adds_up_what_all_nodes_saw_and_keeps_the_totals_so_far() {
        let sold = r#"{"orders":3,"gmv_minor":300,"refunded_minor":0,"currency":"EUR"}"#;
        let samples = [
            sample(10_050, "a", 5, 1, None),
            sample(10_900, "b", 7, 2, None),
            sample(10_950, "b", 6, 0, None),
            sample(11_050, "a", 6, 4, Some(sold)),
            sample(14_050, "a", 2, 0, None),
        ];
        let points = points(&samples, 2_000).unwrap();
        let [first, second] = points.as_slice() else { panic!("{points:?}") };
        assert_eq!((first.at, first.viewers, first.granted, first.refused), (Millis(10_000), 12, 7, 4));
        assert_eq!((first.wait_p50_ms, first.wait_p99_ms, first.provider_line), (None, Some(4), 2));
        assert_eq!((first.orders, first.gmv_minor), (3, 300));
        assert_eq!((second.at, second.viewers, second.gmv_minor), (Millis(14_000), 2, 300));
    }
}
