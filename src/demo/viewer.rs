//! A viewer as a front-end would write one, by the protocol page: it applies what it may, comes back with its position when
//! something is missing, and writes down everything it got and when.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use crate::clock::{Clock, Millis};
use crate::ids::{PollId, ShowId};
use crate::live::Event;
use crate::scene::Scene;

/// How many units are to be had, as the counter on screen says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Counter {
    pub(super) left: i64,
    pub(super) in_checkout: i64,
    pub(super) sold: i64,
}

/// Whose screen it is.
#[derive(Clone)]
pub(super) struct Seat {
    pub(super) authority: String,
    pub(super) show: ShowId,
    /// Guests have none.
    pub(super) token: Option<String>,
    pub(super) clock: Clock,
    /// Which of a poll's choices this viewer likes, as a number of any size; none does not vote.
    pub(super) taste: Option<usize>,
}

/// What a viewer got, from its first snapshot on.
#[derive(Default)]
pub(super) struct Seen {
    /// The place in the log of the first snapshot; absent until it came.
    pub(super) first: Option<i64>,
    epoch: String,
    pub(super) position: i64,
    pub(super) scene: Option<Scene>,
    /// Places in the log of the entries that came, in order.
    pub(super) entries: Vec<i64>,
    /// The latest version and value of each gauge.
    pub(super) gauges: BTreeMap<String, (i64, Box<str>)>,
    pub(super) gauges_taken: u64,
    pub(super) entry_ms: Vec<i64>,
    pub(super) gauge_ms: Vec<i64>,
    /// What a client that goes by the protocol must not see.
    pub(super) faults: Vec<String>,
    pub(super) connections: u32,
    /// Votes that the server said it took.
    pub(super) votes: u64,
    /// Polls that opened since the last look, and how many choices they have.
    polls: Vec<(PollId, usize)>,
    connected_at: Millis,
    guest_token: Option<String>,
}

/// A viewer that is watching; its task ends when `stop` is dropped.
pub(super) struct Viewer {
    pub(super) seen: Arc<Mutex<Seen>>,
}

/// A message; what is not needed is not read.
#[derive(Deserialize)]
struct Said<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    epoch: Option<String>,
    resumed: Option<bool>,
    guest_token: Option<String>,
    seq: Option<i64>,
    after: Option<i64>,
    upto: Option<i64>,
    scene: Option<Scene>,
    #[serde(borrow)]
    entries: Option<Vec<SaidEntry<'a>>>,
    #[serde(borrow)]
    gauges: Option<BTreeMap<String, (i64, &'a RawValue, Millis)>>,
}

#[derive(Deserialize)]
struct SaidEntry<'a> {
    seq: i64,
    at: Millis,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// The server says something every heartbeat.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const RECONNECT: Duration = Duration::from_millis(250);
const FAULTS_MAX: usize = 10;

impl Viewer {
    /// Watches until `stop` changes or is gone. `counter` hears the counter of the sale.
    pub(super) fn watch(seat: Seat, counter: Option<watch::Sender<Counter>>, stop: watch::Receiver<()>) -> Viewer {
        let seen = Arc::new(Mutex::new(Seen::default()));
        tokio::spawn(run(seat, seen.clone(), counter, stop));
        Viewer { seen }
    }

    /// Looks at what it has got so far.
    pub(super) fn look<T>(&self, at: impl FnOnce(&Seen) -> T) -> T {
        at(&self.seen.lock().expect("nothing panics while it holds what was seen"))
    }
}

async fn run(
    seat: Seat,
    seen: Arc<Mutex<Seen>>,
    counter: Option<watch::Sender<Counter>>,
    mut stop: watch::Receiver<()>,
) {
    loop {
        tokio::select! {
            () = connection(&seat, &seen, counter.as_ref()) => {}
            _ = stop.changed() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(RECONNECT) => {}
            _ = stop.changed() => return,
        }
    }
}

/// One connection, until it is lost or has left something out.
async fn connection(seat: &Seat, seen: &Mutex<Seen>, counter: Option<&watch::Sender<Counter>>) {
    let lock = || seen.lock().expect("nothing panics while it holds what was seen");
    let url = {
        let mut seen = lock();
        seen.connected_at = seat.clock.now();
        let token = seat.token.as_ref().or(seen.guest_token.as_ref()).map(|it| format!("token={it}"));
        let since = seen.scene.is_some().then(|| format!("since={}.{}", seen.epoch, seen.position));
        let query: Vec<String> = token.into_iter().chain(since).collect();
        format!("ws://{}/v1/shows/{}/live?{}", seat.authority, seat.show, query.join("&"))
    };
    let Ok((mut socket, _)) = connect_async(url).await else { return };
    lock().connections += 1;
    while let Ok(Some(Ok(message))) = tokio::time::timeout(SILENCE_MAX, socket.next()).await {
        let Message::Text(text) = message else { continue };
        let now = seat.clock.now();
        let opened = {
            let mut seen = lock();
            if !seen.hear(&text, now) {
                return;
            }
            std::mem::take(&mut seen.polls)
        };
        for (poll_id, choices) in opened {
            let Some(taste) = seat.taste else { break };
            let vote = json!({ "type": "vote", "poll_id": poll_id, "choice": taste % choices });
            if socket.send(Message::text(vote.to_string())).await.is_err() {
                return;
            }
        }
        let seen = lock();
        if let Some(counter) = counter
            && let Some((_, (_, value))) = seen.gauges.iter().find(|(name, _)| name.starts_with("units:"))
            && let Ok(shown) = serde_json::from_str::<Counter>(value)
        {
            counter.send_if_modified(|it| std::mem::replace(it, shown) != shown);
        }
    }
}

impl Seen {
    /// Takes a message; false when the viewer must connect again.
    fn hear(&mut self, text: &str, now: Millis) -> bool {
        let said: Said = match serde_json::from_str(text) {
            Ok(it) => it,
            Err(error) => {
                self.fault(format!("a message cannot be read: {error}"));
                return true;
            }
        };
        match said.kind {
            "hello" => {
                self.guest_token = said.guest_token.or(self.guest_token.take());
                if said.resumed != Some(true) {
                    self.epoch = said.epoch.unwrap_or_default();
                }
            }
            "snapshot" => {
                let (Some(epoch), Some(seq), Some(scene)) = (said.epoch, said.seq, said.scene) else {
                    self.fault("a snapshot without its scene".into());
                    return true;
                };
                self.first.get_or_insert(seq);
                (self.epoch, self.position, self.scene) = (epoch, seq, Some(scene));
                self.gauges.clear();
                self.take_gauges(said.gauges.unwrap_or_default(), now);
            }
            "frame" => return self.take_frame(said, now),
            "voted" => self.votes += 1,
            "problem" => self.fault(format!("a vote was refused: {text}")),
            _ => {}
        }
        true
    }

    fn take_frame(&mut self, said: Said, now: Millis) -> bool {
        let (Some(after), Some(upto)) = (said.after, said.upto) else {
            self.fault("a frame without its places".into());
            return true;
        };
        if after > self.position {
            self.fault(format!("a gap: a frame begins behind {after}, the viewer is at {}", self.position));
            return false;
        }
        let mut last = after;
        for entry in said.entries.unwrap_or_default() {
            if entry.seq <= last || entry.seq > upto {
                self.fault(format!("entry {} stands behind {last} in a frame up to {upto}", entry.seq));
            }
            last = entry.seq;
            if entry.seq <= self.position {
                continue;
            }
            self.entries.push(entry.seq);
            self.entry_ms.push(now.0 - entry.at.0);
            let event = format!(r#"{{"type":"{}","data":{}}}"#, entry.kind, entry.data.get());
            match (serde_json::from_str::<Event>(&event), &mut self.scene) {
                (Ok(event), Some(scene)) => {
                    scene.apply(&event);
                    if let Event::PollOpened(poll) = event {
                        self.polls.push((poll.poll_id, poll.choices.len()));
                    }
                }
                (Err(error), _) => self.fault(format!("entry {} cannot be read: {error}", entry.seq)),
                (_, None) => self.fault("entries before the first snapshot".into()),
            }
        }
        self.position = self.position.max(upto);
        self.take_gauges(said.gauges.unwrap_or_default(), now);
        true
    }

    fn take_gauges(&mut self, gauges: BTreeMap<String, (i64, &RawValue, Millis)>, now: Millis) {
        for (name, (version, value, at)) in gauges {
            if self.gauges.get(&name).is_some_and(|(known, _)| *known >= version) {
                continue;
            }
            self.gauges_taken += 1;
            // What is older than this connection was not late, the viewer was.
            if at >= self.connected_at {
                self.gauge_ms.push(now.0 - at.0);
            }
            self.gauges.insert(name, (version, value.get().into()));
        }
    }

    fn fault(&mut self, what: String) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(what);
        }
    }
}
