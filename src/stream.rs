//! The GMV stream: the same events as a stream of Redis, for consumer groups of the shop.
//!
//! It is a sink (`sink.rs`) of which Redis is no more than the reader: its place stands in the database. While Redis is away
//! nothing is sent and the place stays; when it is back, each show goes on from there. At least once, in order for each show;
//! what comes twice has the same `id`. Redis keeps about as many events as `GMV_STREAM_MAX` says.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rand::RngExt;
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisResult};

use crate::app::App;
use crate::db::Turn;
use crate::error::Result;
use crate::failpoints;
use crate::gmv::{self, Event};
use crate::ids::ShowId;
use crate::messenger::Messenger;
use crate::sink::{self, Bounds, Lease};

/// The name of the place in the database.
const SINK: &str = "redis";
/// Shows at once: each is one round trip and one commit for a page.
const BOUNDS: Bounds = Bounds { per_sink: 4, all: 4 };
/// Events of one round trip.
const PAGE: i64 = 200;
/// Between two tries to reach Redis, at least and at most.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Runs until the process is asked to stop, and what was sent by then has ended; ends at once where there is no Redis.
pub async fn run(app: App) {
    let Some(messenger) = app.messenger.clone() else { return };
    let road = Arc::new(Road {
        key: messenger.name("gmv"),
        messenger,
        length_max: app.config.gmv_stream_max,
        state: Mutex::new(State { connection: None, tries: 0, again_at: Instant::now() }),
    });
    let sinks = |_| async { Ok(if road.is_open().await { vec![SINK.to_owned()] } else { Vec::new() }) };
    let tell = {
        let road = road.clone();
        move |app, lease| tell(app, road.clone(), lease)
    };
    sink::follow(&app, BOUNDS, sinks, tell).await;
}

/// Tells Redis what is news in a show.
async fn tell(app: App, road: Arc<Road>, mut lease: Lease) -> Result<()> {
    loop {
        let mut tx = app.db.read().await?;
        let page = gmv::page(&mut tx, lease.show, Some(&lease.epoch), lease.seq, PAGE).await?;
        drop(tx);
        if page.events.is_empty() {
            if page.next == lease.seq && page.epoch == lease.epoch {
                return lease.release(&app.db).await;
            }
            lease.pass(&page.epoch, page.next);
            continue;
        }
        if app.is_draining() || !lease.is_good() || !road.add(lease.show, &page.events).await {
            return lease.leave(&app.db).await;
        }
        failpoints::crash("after_stream_added");
        let mut tx = app.db.write(Turn::Sinks).await?;
        if !lease.advance(&mut tx, &page.epoch, page.next).await? {
            return Ok(());
        }
        tx.commit().await?;
    }
}

/// The road to Redis: one connection, shared by the shows.
struct Road {
    messenger: Messenger,
    key: String,
    length_max: u64,
    state: Mutex<State>,
}

struct State {
    connection: Option<MultiplexedConnection>,
    /// Since Redis last took something.
    tries: u32,
    /// Nobody tries before.
    again_at: Instant,
}

impl Road {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the state")
    }

    /// Whether there is a connection; makes one when it is time.
    async fn is_open(&self) -> bool {
        {
            let state = self.lock();
            if state.connection.is_some() || state.again_at > Instant::now() {
                return state.connection.is_some();
            }
        }
        match self.messenger.connect().await {
            Ok(connection) => {
                let mut state = self.lock();
                state.connection = Some(connection);
                metrics::gauge!("showcart_stream_connected").set(1.0);
                true
            }
            Err(error) => {
                self.lost(&error);
                false
            }
        }
    }

    /// Whether Redis has taken all of it; otherwise some of it may be there.
    async fn add(&self, show: ShowId, events: &[Event]) -> bool {
        let Some(mut connection) = self.lock().connection.clone() else { return false };
        let mut all = Pipeline::with_capacity(events.len());
        for it in events {
            all.cmd("XADD").arg(&self.key).arg("MAXLEN").arg("~").arg(self.length_max).arg("*");
            all.arg("id").arg(&it.id).arg("type").arg(&it.kind).arg("show").arg(show.to_string());
            all.arg("data").arg(&it.json).ignore();
        }
        let added: RedisResult<()> = all.query_async(&mut connection).await;
        match added {
            Ok(()) => {
                metrics::counter!("showcart_stream_events_total").increment(events.len() as u64);
                let tries = std::mem::take(&mut self.lock().tries);
                if tries > 0 {
                    tracing::info!("Redis takes the GMV stream again");
                }
                true
            }
            Err(error) => {
                self.lost(&error);
                false
            }
        }
    }

    /// Waits longer each time, and never as long as another node that lost its connection in the same moment.
    fn lost(&self, error: &redis::RedisError) {
        let mut state = self.lock();
        metrics::gauge!("showcart_stream_connected").set(0.0);
        // Several shows may have had the connection; it is lost once.
        if state.connection.take().is_none() && state.again_at > Instant::now() {
            return;
        }
        if state.tries == 0 {
            tracing::warn!(%error, "Redis does not take the GMV stream; it goes on from where it is");
        }
        let most = (PAUSE_MIN * 2_u32.saturating_pow(state.tries)).min(PAUSE_MAX);
        state.tries += 1;
        state.again_at = Instant::now() + most.mul_f64(rand::rng().random_range(0.5..1.0));
    }
}
