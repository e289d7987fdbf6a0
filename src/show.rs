//! Shows: created, scheduled, started, ended.

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use axum::routing::{get, post, put};
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::auth::Caller;
use crate::checkout::rules::{Answer, Command};
use crate::clock::Millis;
use crate::db::{self, Turn, Tx, query, row};
use crate::error::{Code, Result, invalid, problem};
use crate::ids::ShowId;
use crate::live::{self, Audience, Event, Seq, ShowState};
use crate::money::Currency;
use crate::refusal::refused;
use crate::request::{Body, Once, PLANNED_MAX, Page, Paged, Path, ahead};

row! {
    /// A show as the API tells it.
    #[derive(Debug, Serialize)]
    pub struct Show {
        pub show_id: ShowId,
        pub title: String,
        pub currency: Currency,
        pub test: bool,
        pub guests_vote: bool,
        pub state: ShowState,
        pub scheduled_at: Option<Millis>,
        pub started_at: Option<Millis>,
        pub ended_at: Option<Millis>,
        pub created_at: Millis,
        pub video_url: Option<String>,
    }
}

pub fn routes() -> Router<App> {
    Router::new()
        .route("/v1/shows", get(list).post(create))
        .route("/v1/shows/{show_id}", get(read))
        .route("/v1/shows/{show_id}/start", post(start))
        .route("/v1/shows/{show_id}/end", post(end))
        .route("/v1/shows/{show_id}/video", put(set_video))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewShow {
    title: String,
    currency: Currency,
    scheduled_at: Option<Millis>,
    #[serde(default)]
    test: bool,
    #[serde(default)]
    guests_vote: bool,
    video_url: Option<String>,
}

/// Where the picture comes from.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Video {
    /// None takes the picture away; it has to be said.
    #[serde(deserialize_with = "Option::deserialize")]
    video_url: Option<String>,
}

/// A body without members.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

const TITLE_MAX: usize = 200;
const VIDEO_URL_MAX: usize = 2_000;

async fn create(State(app): State<App>, caller: Caller, once: Once<NewShow>) -> Result<Response> {
    caller.may_manage()?;
    let mut tx = app.db.write(Turn::Host).await?;
    if let Some(answer) = once.replay(&mut tx, &caller).await? {
        return Ok(answer);
    }
    let new = &once.body;
    let title = new.title.trim();
    if title.is_empty() || title.chars().count() > TITLE_MAX {
        return Err(invalid("title", format!("A title has 1 to {TITLE_MAX} characters.")));
    }
    let now = tx.now().await?;
    playable(new.video_url.as_deref())?;
    let scheduled_at = new.scheduled_at.map(|it| ahead("scheduled_at", it, now, PLANNED_MAX)).transpose()?;
    let show_id = ShowId::new();
    query(
        "insert into show (show_id, title, currency, test, guests_vote, scheduled_at, created_at, video_url)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(show_id)
    .bind(title)
    .bind(new.currency)
    .bind(new.test)
    .bind(new.guests_vote)
    .bind(scheduled_at)
    .bind(now)
    .bind(new.video_url.clone())
    .run(&mut tx)
    .await?;
    live::create_head(&mut tx, show_id).await?;
    let show = find(&mut tx, show_id).await?;
    let answer = once.keep(&mut tx, &caller, StatusCode::CREATED, &show).await?;
    tx.commit().await?;
    Ok(answer)
}

async fn list(State(app): State<App>, caller: Caller, page: Page) -> Result<Json<Paged<Show>>> {
    caller.may_manage()?;
    let mut tx = app.db.read().await?;
    let rows: Vec<Show> = query(
        "select s.show_id, title, currency, test, guests_vote, state, scheduled_at, started_at, ended_at, created_at, video_url
         from show s join show_head h on h.show_id = s.show_id
         where s.show_id > $1 order by s.show_id limit $2",
    )
    .bind(page.after()?)
    .bind(page.limit() + 1)
    .all(&mut tx)
    .await?;
    Ok(Json(page.page(rows, |it| it.show_id.to_string(), std::convert::identity)))
}

async fn read(State(app): State<App>, caller: Caller, Path(show): Path<ShowId>) -> Result<Json<Show>> {
    caller.may_watch(show)?;
    Ok(Json(find(&mut app.db.read().await?, show).await?))
}

async fn start(
    State(app): State<App>,
    caller: Caller,
    Path(show): Path<ShowId>,
    once: Once<Nothing>,
) -> Result<Json<Show>> {
    change_life(&app, &caller, show, &once, Command::StartShow, ShowState::Scheduled).await
}

async fn end(
    State(app): State<App>,
    caller: Caller,
    Path(show): Path<ShowId>,
    once: Once<Nothing>,
) -> Result<Json<Show>> {
    change_life(&app, &caller, show, &once, Command::EndShow, ShowState::Live).await
}

/// Says where the picture comes from, before the show or in it.
async fn set_video(
    State(app): State<App>,
    caller: Caller,
    Path(show): Path<ShowId>,
    Body(video): Body<Video>,
) -> Result<Json<Show>> {
    caller.may_stage(show)?;
    playable(video.video_url.as_deref())?;
    let mut change = app.live.change(show, Turn::Host).await?;
    if change.state() == ShowState::Ended {
        return Err(problem(Code::ShowEnded, "The show has ended; its picture stays where it is."));
    }
    let now = find(change.tx(), show).await?;
    if now.video_url == video.video_url {
        return Ok(Json(now));
    }
    query("update show set video_url = $2 where show_id = $1")
        .bind(show)
        .bind(video.video_url.clone())
        .run(change.tx())
        .await?;
    let now = find(change.tx(), show).await?;
    change.acted(caller.did("video.set", video.video_url.as_deref().unwrap_or("none")));
    change.emit(Audience::All, Event::VideoSet { video_url: video.video_url });
    change.commit().await?;
    Ok(Json(now))
}

/// # Errors
/// `invalid`: browsers on pages of https play nothing else.
fn playable(video_url: Option<&str>) -> Result<()> {
    let Some(url) = video_url else { return Ok(()) };
    let is_path = |it: &Uri| it.host().is_none() && url.starts_with('/') && !url.starts_with("//");
    let is_https = |it: &Uri| it.scheme_str() == Some("https") && it.host().is_some_and(|host| !host.is_empty());
    if url.len() > VIDEO_URL_MAX || !url.parse().is_ok_and(|it| is_path(&it) || is_https(&it)) {
        let detail =
            format!("A video is an https address or a path of this server, of at most {VIDEO_URL_MAX} characters.");
        return Err(invalid("video_url", detail));
    }
    Ok(())
}

/// Starts and ends are decided with everything that buyers ask for, in the show's lane.
async fn change_life(
    app: &App,
    caller: &Caller,
    show: ShowId,
    once: &Once<Nothing>,
    command: Command,
    from: ShowState,
) -> Result<Json<Show>> {
    caller.may_host(show)?;
    let mut tx = app.db.write(Turn::Host).await?;
    let head = live::head(&mut tx, show).await?;
    let head = head.ok_or_else(|| problem(Code::NotFound, format!("There is no show {show}.")))?;
    // A repeated request finds the show in the state that the first one led to.
    if once.claim(&mut tx, caller).await? && head.state != from {
        return Err(match head.state {
            ShowState::Scheduled => problem(Code::ShowNotLive, "The show has not started."),
            ShowState::Live => problem(Code::Conflict, "The show is live already."),
            ShowState::Ended => problem(Code::ShowEnded, "The show has ended already."),
        });
    }
    tx.commit().await?;
    let action = if matches!(command, Command::StartShow) { "show.start" } else { "show.end" };
    match app.checkout.act(show, command, caller.did(action, show)).await? {
        Answer::Refused(it) => return Err(refused(it)),
        Answer::Show(_) => {}
        other => return Err(anyhow::anyhow!("not an answer to a show's change: {other:?}").into()),
    }
    Ok(Json(find(&mut app.db.read().await?, show).await?))
}

/// # Errors
/// `not_found`; the database cannot be reached.
pub async fn find(tx: &mut Tx, show: ShowId) -> Result<Show> {
    let row: Option<Show> = query(
        "select s.show_id, title, currency, test, guests_vote, state, scheduled_at, started_at, ended_at, created_at, video_url
         from show s join show_head h on h.show_id = s.show_id where s.show_id = $1",
    )
    .bind(show)
    .optional(tx)
    .await?;
    row.ok_or_else(|| problem(Code::NotFound, format!("There is no show {show}.")))
}

/// Says that the log up to `upto` stands in the archive, before it is deleted here.
///
/// # Errors
/// The database cannot be reached.
pub async fn mark_pruned(tx: &mut Tx, show: ShowId, upto: Seq) -> db::Result<()> {
    query("update show set pruned_seq = $2 where show_id = $1 and coalesce(pruned_seq, 0) < $2")
        .bind(show)
        .bind(upto)
        .run(tx)
        .await?;
    Ok(())
}

/// Whether there is such a show.
///
/// # Errors
/// The database cannot be reached.
pub async fn exists(tx: &mut Tx, show: ShowId) -> db::Result<bool> {
    let found: Option<(String,)> = query("select show_id from show where show_id = $1").bind(show).optional(tx).await?;
    Ok(found.is_some())
}
