//! Overlays: banners, and countdowns, which the API calls timers. They are put on stage by hand and leave it by hand, at
//! their moment (`stage_clock.rs`), or with the show. A countdown is a moment, `ends_at`: nobody is told that it ticks.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::auth::Caller;
use crate::clock::Millis;
use crate::db::{self, Turn, Tx, query, row};
use crate::error::{Code, Problem, Result, invalid, problem};
use crate::ids::{OverlayId, ShowId};
use crate::live::{Audience, Banner, BannerStyle, Change, EndReason, Event, Timer};
use crate::request::{Once, Path, Query, ahead, line};

pub fn routes() -> Router<App> {
    Router::new()
        .route("/v1/shows/{show_id}/banners", get(list_banners).post(show_banner))
        .route("/v1/shows/{show_id}/banners/{overlay_id}", delete(hide_banner))
        .route("/v1/shows/{show_id}/timers", get(list_timers).post(start_timer))
        .route("/v1/shows/{show_id}/timers/{overlay_id}/extend", post(extend_timer))
        .route("/v1/shows/{show_id}/timers/{overlay_id}/stop", post(stop_timer))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewBanner {
    text: String,
    /// Where a tap leads; https only.
    link: Option<String>,
    #[serde(default)]
    style: BannerStyle,
    /// Shown until it is hidden by hand when absent.
    duration_ms: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTimer {
    label: String,
    /// Or `duration_ms` from now.
    ends_at: Option<Millis>,
    duration_ms: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Extend {
    by_ms: i64,
    /// The version of the timer that the host sees; a stale click is refused.
    version: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Off {
    /// The version that the host sees; a stale click is refused.
    version: Option<i64>,
}

/// What has left the stage.
#[derive(Debug, Serialize)]
struct Ended {
    overlay_id: OverlayId,
    version: i64,
    ended_at: Millis,
    reason: EndReason,
}

const TEXT_MAX: usize = 300;
const LABEL_MAX: usize = 100;
const LINK_MAX: usize = 2_000;
/// Of each kind, at once.
const ON_STAGE_MAX: i64 = 10;
/// Nothing on stage is planned further ahead.
const AHEAD_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);
const DURATION_MAX_MS: i64 = AHEAD_MAX.as_millis() as i64;

async fn list_banners(State(app): State<App>, caller: Caller, Path(show): Path<ShowId>) -> Result<Json<Vec<Banner>>> {
    caller.may_watch(show)?;
    Ok(Json(banners(&mut app.db.read().await?, show).await?.into_values().collect()))
}

async fn show_banner(
    State(app): State<App>,
    caller: Caller,
    Path(show): Path<ShowId>,
    once: Once<NewBanner>,
) -> Result<Response> {
    caller.may_stage(show)?;
    let new = &once.body;
    let text = line("text", &new.text, TEXT_MAX)?;
    let link = new.link.as_deref().map(link).transpose()?;
    let duration = new.duration_ms.map(|it| duration("duration_ms", it)).transpose()?;
    let mut change = app.live.change(show, Turn::Host).await?;
    if let Some(answer) = once.replay(change.tx(), &caller).await? {
        return Ok(answer);
    }
    change.require_live()?;
    require_room(&mut change, Kind::Banner).await?;
    let shown_at = change.now();
    let banner = Banner {
        overlay_id: OverlayId::new(),
        version: 1,
        text,
        link,
        style: new.style,
        shown_at,
        ends_at: duration.map(|it| shown_at + it),
    };
    query(
        "insert into banner (overlay_id, show_id, version, text, link, style, shown_at, ends_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(banner.overlay_id)
    .bind(show)
    .bind(banner.version)
    .bind(&*banner.text)
    .bind(banner.link.clone())
    .bind(banner.style)
    .bind(banner.shown_at)
    .bind(banner.ends_at)
    .run(change.tx())
    .await?;
    change.emit(Audience::All, Event::BannerShown(banner.clone()));
    change.acted(caller.did("banner.show", &banner.text));
    let answer = once.keep(change.tx(), &caller, StatusCode::CREATED, &banner).await?;
    change.commit().await?;
    Ok(answer)
}

/// Hides a banner; one that is hidden already stays as it is.
async fn hide_banner(
    State(app): State<App>,
    caller: Caller,
    Path((show, overlay_id)): Path<(ShowId, OverlayId)>,
    Query(off): Query<Off>,
) -> Result<Json<Ended>> {
    caller.may_stage(show)?;
    let mut change = app.live.change(show, Turn::Host).await?;
    let state = standing(&mut change, Kind::Banner, overlay_id, off.version).await?;
    if let Some(ended) = state.ended() {
        return Ok(Json(ended));
    }
    change.require_live()?;
    let at = change.now();
    let ended = end(&mut change, Kind::Banner, &state, at, EndReason::ByHand).await?;
    change.acted(caller.did("banner.hide", overlay_id));
    change.commit().await?;
    Ok(Json(ended))
}

async fn list_timers(State(app): State<App>, caller: Caller, Path(show): Path<ShowId>) -> Result<Json<Vec<Timer>>> {
    caller.may_watch(show)?;
    Ok(Json(timers(&mut app.db.read().await?, show).await?.into_values().collect()))
}

async fn start_timer(
    State(app): State<App>,
    caller: Caller,
    Path(show): Path<ShowId>,
    once: Once<NewTimer>,
) -> Result<Response> {
    caller.may_stage(show)?;
    let new = &once.body;
    let label = line("label", &new.label, LABEL_MAX)?;
    let mut change = app.live.change(show, Turn::Host).await?;
    if let Some(answer) = once.replay(change.tx(), &caller).await? {
        return Ok(answer);
    }
    change.require_live()?;
    let started_at = change.now();
    let ends_at = match (new.ends_at, new.duration_ms) {
        (Some(ends_at), None) => ahead("ends_at", ends_at, started_at, AHEAD_MAX)?,
        (None, Some(ms)) => started_at + duration("duration_ms", ms)?,
        _ => return Err(invalid("ends_at", "Give `ends_at` or `duration_ms`.")),
    };
    require_room(&mut change, Kind::Timer).await?;
    let timer = Timer { overlay_id: OverlayId::new(), version: 1, label, started_at, ends_at };
    query(
        "insert into timer (overlay_id, show_id, version, label, started_at, ends_at) values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(timer.overlay_id)
    .bind(show)
    .bind(timer.version)
    .bind(&*timer.label)
    .bind(timer.started_at)
    .bind(timer.ends_at)
    .run(change.tx())
    .await?;
    change.emit(Audience::All, Event::TimerStarted(timer.clone()));
    change.acted(caller.did("timer.start", &timer.label));
    let answer = once.keep(change.tx(), &caller, StatusCode::CREATED, &timer).await?;
    change.commit().await?;
    Ok(answer)
}

async fn extend_timer(
    State(app): State<App>,
    caller: Caller,
    Path((show, overlay_id)): Path<(ShowId, OverlayId)>,
    once: Once<Extend>,
) -> Result<Response> {
    caller.may_stage(show)?;
    let by = duration("by_ms", once.body.by_ms)?;
    let mut change = app.live.change(show, Turn::Host).await?;
    if let Some(answer) = once.replay(change.tx(), &caller).await? {
        return Ok(answer);
    }
    let state = standing(&mut change, Kind::Timer, overlay_id, once.body.version).await?;
    change.require_live()?;
    if state.ended_at.is_some() || state.has_run_out(change.now()) {
        return Err(problem(Code::Conflict, "The timer has stopped; start a new one."));
    }
    let ends_at = state.ends_at.context("every timer has an end")? + by;
    ahead("by_ms", ends_at, change.now(), AHEAD_MAX)?;
    query("update timer set version = version + 1, ends_at = $2 where overlay_id = $1")
        .bind(overlay_id)
        .bind(ends_at)
        .run(change.tx())
        .await?;
    let timer = timers(change.tx(), show).await?.remove(&overlay_id).context("the timer is on stage")?;
    change.emit(Audience::All, Event::TimerChanged(timer.clone()));
    change.acted(caller.did("timer.extend", &timer.label));
    let answer = once.keep(change.tx(), &caller, StatusCode::OK, &timer).await?;
    change.commit().await?;
    Ok(answer)
}

/// Stops a timer; one that has stopped already stays as it is.
async fn stop_timer(
    State(app): State<App>,
    caller: Caller,
    Path((show, overlay_id)): Path<(ShowId, OverlayId)>,
    once: Once<Off>,
) -> Result<Response> {
    caller.may_stage(show)?;
    let mut change = app.live.change(show, Turn::Host).await?;
    if let Some(answer) = once.replay(change.tx(), &caller).await? {
        return Ok(answer);
    }
    let state = standing(&mut change, Kind::Timer, overlay_id, once.body.version).await?;
    let ended = match state.ended() {
        Some(it) => it,
        None => {
            change.require_live()?;
            let at = change.now();
            change.acted(caller.did("timer.stop", overlay_id));
            end(&mut change, Kind::Timer, &state, at, EndReason::ByHand).await?
        }
    };
    let answer = once.keep(change.tx(), &caller, StatusCode::OK, &ended).await?;
    change.commit().await?;
    Ok(answer)
}

fn duration(field: &str, ms: i64) -> Result<Duration> {
    match u64::try_from(ms) {
        Ok(it) if (1..=DURATION_MAX_MS).contains(&ms) => Ok(Duration::from_millis(it)),
        _ => Err(invalid(field, format!("Give 1 to {DURATION_MAX_MS} ms."))),
    }
}

fn link(text: &str) -> Result<String> {
    let is_https = |it: &Uri| it.scheme_str() == Some("https") && it.host().is_some_and(|host| !host.is_empty());
    if text.len() > LINK_MAX || !text.parse().is_ok_and(|it| is_https(&it)) {
        return Err(invalid("link", format!("A link is an https address of at most {LINK_MAX} characters.")));
    }
    Ok(text.to_owned())
}

/// The two kinds differ in what viewers see, and in nothing about how they come, stay and go.
#[derive(Clone, Copy)]
enum Kind {
    Banner,
    Timer,
}

impl Kind {
    const ALL: [Kind; 2] = [Kind::Banner, Kind::Timer];

    fn as_str(self) -> &'static str {
        match self {
            Kind::Banner => "banner",
            Kind::Timer => "timer",
        }
    }
}

/// A statement about the table of a kind, which stands at the `_`.
macro_rules! of_kind {
    ($kind:expr, $before:literal _ $after:literal) => {
        query(match $kind {
            Kind::Banner => concat!($before, " banner ", $after),
            Kind::Timer => concat!($before, " timer ", $after),
        })
    };
}

async fn require_room(change: &mut Change, kind: Kind) -> Result<()> {
    let (on_stage,): (i64,) = of_kind!(kind, "select count(*) from" _ "where show_id = $1 and ended_at is null")
        .bind(change.show())
        .one(change.tx())
        .await?;
    if on_stage >= ON_STAGE_MAX {
        let detail = format!("At most {ON_STAGE_MAX} {}s are on stage at once.", kind.as_str());
        return Err(problem(Code::StageFull, detail));
    }
    Ok(())
}

row! {
    /// What decides whether an overlay can be changed.
    struct Standing {
        overlay_id: OverlayId,
        version: i64,
        ends_at: Option<Millis>,
        ended_at: Option<Millis>,
        ended_reason: Option<EndReason>,
    }
}

impl Standing {
    fn ended(&self) -> Option<Ended> {
        let (ended_at, reason) = self.ended_at.zip(self.ended_reason)?;
        Some(Ended { overlay_id: self.overlay_id, version: self.version, ended_at, reason })
    }

    /// Its moment has come, whether or not the stage clock has written that down.
    fn has_run_out(&self, now: Millis) -> bool {
        self.ends_at.is_some_and(|it| it <= now)
    }

    fn require_version(&self, seen: Option<i64>, kind: Kind) -> Result<()> {
        if seen.is_none_or(|it| it == self.version) {
            return Ok(());
        }
        let happened = match self.ended_reason {
            Some(EndReason::ByHand) => "was taken off by hand".to_owned(),
            Some(EndReason::ByTime) => "ran out".to_owned(),
            Some(EndReason::ShowEnded) => "ended with the show".to_owned(),
            None => match self.ends_at {
                Some(it) => format!("was changed and ends at {}", it.rfc3339()),
                None => "was changed".to_owned(),
            },
        };
        let detail = format!("Meanwhile the {} {happened}.", kind.as_str());
        Err(Problem::new(Code::VersionConflict, detail).with("version", self.version).into())
    }
}

/// How an overlay of the change's show stands, for a host who sees this version of it.
async fn standing(change: &mut Change, kind: Kind, overlay_id: OverlayId, seen: Option<i64>) -> Result<Standing> {
    let state: Option<Standing> = of_kind!(
        kind,
        "select overlay_id, version, ends_at, ended_at, ended_reason from" _ "where show_id = $1 and overlay_id = $2"
    )
    .bind(change.show())
    .bind(overlay_id)
    .optional(change.tx())
    .await?;
    let state = state
        .ok_or_else(|| problem(Code::NotFound, format!("There is no {} {overlay_id} in this show.", kind.as_str())))?;
    state.require_version(seen, kind)?;
    Ok(state)
}

/// Takes an overlay off the stage that is on it, under the lock on the head.
async fn end(change: &mut Change, kind: Kind, it: &Standing, at: Millis, reason: EndReason) -> Result<Ended> {
    let (overlay_id, version) = (it.overlay_id, it.version + 1);
    of_kind!(
        kind,
        "update" _ "set version = $2, ended_at = $3, ended_reason = $4 where overlay_id = $1 and ended_at is null"
    )
    .bind(overlay_id)
    .bind(version)
    .bind(at)
    .bind(reason.as_str())
    .run(change.tx())
    .await?;
    let (event, once) = match kind {
        Kind::Banner => (Event::BannerHidden { overlay_id, version, reason }, format!("banner.hidden {overlay_id}")),
        Kind::Timer => (Event::TimerStopped { overlay_id, version, reason }, format!("timer.stopped {overlay_id}")),
    };
    change.emit_once(Audience::All, event, at, Some(once));
    Ok(Ended { overlay_id, version, ended_at: at, reason })
}

/// Overlays that will have to leave the stage until `until`: the show, and when they end or ended.
///
/// # Errors
/// The database cannot be reached.
pub async fn ending(tx: &mut Tx, until: Millis) -> db::Result<Vec<(ShowId, Millis)>> {
    query(
        "select b.show_id, coalesce(s.ended_at, b.ends_at) from banner b join show s on s.show_id = b.show_id
         where b.ended_at is null and coalesce(s.ended_at, b.ends_at) <= $1
         union all
         select t.show_id, coalesce(s.ended_at, t.ends_at) from timer t join show s on s.show_id = t.show_id
         where t.ended_at is null and coalesce(s.ended_at, t.ends_at) <= $1",
    )
    .bind(until)
    .all(tx)
    .await
}

/// Takes everything off the stage of the change's show that ended at `now` or before, by its time or with the show.
///
/// # Errors
/// The database cannot be reached.
pub async fn end_ended(change: &mut Change, now: Millis) -> Result<bool> {
    let show = change.show();
    let (show_ended_at,): (Option<Millis>,) =
        query("select ended_at from show where show_id = $1").bind(show).one(change.tx()).await?;
    let mut any = false;
    for kind in Kind::ALL {
        let on_stage: Vec<Standing> = of_kind!(
            kind,
            "select overlay_id, version, ends_at, ended_at, ended_reason from"
            _ "where show_id = $1 and ended_at is null order by overlay_id"
        )
        .bind(show)
        .all(change.tx())
        .await?;
        for it in &on_stage {
            let ended = EndReason::of(it.ends_at, show_ended_at).filter(|(at, _)| *at <= now);
            if let Some((at, reason)) = ended {
                end(change, kind, it, at, reason).await?;
                any = true;
            }
        }
    }
    Ok(any)
}

row! {
    struct BannerRow {
        overlay_id: OverlayId,
        version: i64,
        text: String,
        link: Option<String>,
        style: BannerStyle,
        shown_at: Millis,
        ends_at: Option<Millis>,
    }
}

/// The banners of a live show that are on stage.
///
/// # Errors
/// The database cannot be reached.
pub async fn banners(tx: &mut Tx, show: ShowId) -> Result<BTreeMap<OverlayId, Banner>> {
    let rows: Vec<BannerRow> = query(
        "select overlay_id, version, text, link, style, shown_at, ends_at from banner
         where show_id = $1 and ended_at is null",
    )
    .bind(show)
    .all(tx)
    .await?;
    let banner = |it: BannerRow| {
        let BannerRow { overlay_id, version, text, link, style, shown_at, ends_at } = it;
        (overlay_id, Banner { overlay_id, version, text, link, style, shown_at, ends_at })
    };
    Ok(rows.into_iter().map(banner).collect())
}

row! {
    struct TimerRow {
        overlay_id: OverlayId,
        version: i64,
        label: String,
        started_at: Millis,
        ends_at: Millis,
    }
}

/// The timers of a live show that run.
///
/// # Errors
/// The database cannot be reached.
pub async fn timers(tx: &mut Tx, show: ShowId) -> Result<BTreeMap<OverlayId, Timer>> {
    let rows: Vec<TimerRow> = query(
        "select overlay_id, version, label, started_at, ends_at from timer where show_id = $1 and ended_at is null",
    )
    .bind(show)
    .all(tx)
    .await?;
    let timer = |it: TimerRow| {
        let TimerRow { overlay_id, version, label, started_at, ends_at } = it;
        (overlay_id, Timer { overlay_id, version, label, started_at, ends_at })
    };
    Ok(rows.into_iter().map(timer).collect())
}
