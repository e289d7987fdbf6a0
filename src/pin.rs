//! The pin: the product on screen. It need not be in the line-up: hosts show what comes later. The answers say so, because
//! nobody can buy it before it is.

use std::time::Duration;

use axum::extract::State;
use axum::routing::put;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::auth::Caller;
use crate::db::{Turn, Tx, query};
use crate::error::{Code, Problem, Result, invalid};
use crate::ids::{ProductId, ShowId};
use crate::live::{Audience, Change, Event, Pin};
use crate::request::{Body, Path};
use crate::{lineup, product, show};

pub fn routes() -> Router<App> {
    Router::new().route("/v1/shows/{show_id}/pin", put(set).delete(clear).get(read))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPin {
    product_id: ProductId,
    /// How long clients animate the pin before it settles.
    #[serde(default = "animate_default_ms")]
    animate_ms: u64,
    /// The version of the pin that the host sees; a stale click is refused.
    version: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Unpin {
    version: Option<i64>,
}

/// What is pinned, and the version to name in the next command.
#[derive(Debug, Serialize)]
struct Pinned {
    version: i64,
    pin: Option<Pin>,
    /// Whether buyers can ask for it: it stands in the show's line-up. None when nothing is pinned.
    in_lineup: Option<bool>,
}

fn animate_default_ms() -> u64 {
    3_000
}

const ANIMATE_MAX_MS: u64 = 60_000;

async fn read(State(app): State<App>, caller: Caller, Path(show): Path<ShowId>) -> Result<Json<Pinned>> {
    caller.may_watch(show)?;
    let mut tx = app.db.read().await?;
    let (version, pin) = current(&mut tx, show).await?;
    let in_lineup = match &pin {
        Some(it) => Some(lineup::has(&mut tx, show, it.product.product_id).await?),
        None => None,
    };
    Ok(Json(Pinned { version, pin, in_lineup }))
}

async fn set(
    State(app): State<App>,
    caller: Caller,
    Path(show): Path<ShowId>,
    Body(new): Body<NewPin>,
) -> Result<Json<Pinned>> {
    caller.may_stage(show)?;
    if new.animate_ms > ANIMATE_MAX_MS {
        return Err(invalid("animate_ms", format!("A pin is animated for at most {ANIMATE_MAX_MS} ms.")));
    }
    let mut change = app.live.change(show, Turn::Host).await?;
    let version = next_version(&mut change, new.version).await?;
    let product = product::find(change.tx(), new.product_id).await?;
    product.must_be_in(show::find(change.tx(), show).await?.currency)?;
    let in_lineup = Some(lineup::has(change.tx(), show, product.product_id).await?);
    let pinned_at = change.now();
    let animate_until = pinned_at + Duration::from_millis(new.animate_ms);
    let pin = Pin { version, product: product.card(), pinned_at, animate_until };
    write(&mut change, version, Some(&pin)).await?;
    change.emit(Audience::All, Event::PinSet(pin.clone()));
    change.acted(caller.did("pin.set", &pin.product.title));
    change.commit().await?;
    Ok(Json(Pinned { version, pin: Some(pin), in_lineup }))
}

async fn clear(
    State(app): State<App>,
    caller: Caller,
    Path(show): Path<ShowId>,
    crate::request::Query(unpin): crate::request::Query<Unpin>,
) -> Result<Json<Pinned>> {
    caller.may_stage(show)?;
    let mut change = app.live.change(show, Turn::Host).await?;
    let version = next_version(&mut change, unpin.version).await?;
    // Nothing is pinned: there is nothing to say to anybody.
    let Some(pin) = current(change.tx(), show).await?.1 else {
        return Ok(Json(Pinned { version: version - 1, pin: None, in_lineup: None }));
    };
    write(&mut change, version, None).await?;
    change.emit(Audience::All, Event::PinCleared { version });
    change.acted(caller.did("pin.clear", pin.product.title));
    change.commit().await?;
    Ok(Json(Pinned { version, pin: None, in_lineup: None }))
}

/// The version that follows the current one, if that is the one the host has seen.
async fn next_version(change: &mut Change, seen: Option<i64>) -> Result<i64> {
    change.require_live()?;
    let show = change.show();
    let (version, pin) = current(change.tx(), show).await?;
    if seen.is_some_and(|it| it != version) {
        let detail = match &pin {
            Some(pin) => format!("Meanwhile {} was pinned.", pin.product.title),
            None => "Meanwhile the pin was taken off.".into(),
        };
        return Err(Problem::new(Code::VersionConflict, detail).with("version", version).into());
    }
    Ok(version + 1)
}

async fn write(change: &mut Change, version: i64, pin: Option<&Pin>) -> Result<()> {
    let pinned = pin.map(serde_json::to_string).transpose().map_err(anyhow::Error::from)?;
    let show = change.show();
    query(
        "insert into pin (show_id, version, pinned) values ($1, $2, $3)
         on conflict (show_id) do update set version = excluded.version, pinned = excluded.pinned",
    )
    .bind(show)
    .bind(version)
    .bind(pinned)
    .run(change.tx())
    .await?;
    Ok(())
}

/// The version of the pin, which counts its changes, and what is pinned.
///
/// # Errors
/// The database cannot be reached.
pub async fn current(tx: &mut Tx, show: ShowId) -> Result<(i64, Option<Pin>)> {
    let row: Option<(i64, Option<String>)> =
        query("select version, pinned from pin where show_id = $1").bind(show).optional(tx).await?;
    let Some((version, pinned)) = row else { return Ok((0, None)) };
    let pin = pinned.map(|it| serde_json::from_str(&it)).transpose().map_err(anyhow::Error::from)?;
    Ok((version, pin))
}
