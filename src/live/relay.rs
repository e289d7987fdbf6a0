//! The road between nodes: a channel of Redis for each show, heard while this node has a room for it.
//!
//! Two tasks, one that speaks and one that listens, each on a connection of its own, which comes back by itself. What is said
//! while Redis is away is dropped, and what is heard late is put in order: rooms find in the log what they miss, within 1.5 s
//! (`repair.rs`). So when Redis comes back, nothing is told again, and nobody has anything to catch up with.
//!
//! A subscription can be dead while its connection looks alive. Therefore each node also hears a channel of its own, on which
//! it says something every second by the other connection: when that does not come back, the listener begins anew.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures_util::StreamExt;
use rand::RngExt;
use redis::Pipeline;
use redis::aio::PubSubSink;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, timeout};

use super::bus::{Message, QUEUE};
use super::event::Audience;
use super::log::{Entry, Gauge, Seq};
use crate::clock::Millis;
use crate::ids::{BuyerId, NodeId, ShowId};
use crate::messenger::Messenger;

/// Messages that go out as one write.
const AT_ONCE: usize = 64;
/// Between two probes.
const BEAT: Duration = Duration::from_secs(1);
/// A listener that has not heard its own node for this long begins anew.
const DEAF: Duration = Duration::from_secs(4);
/// Between two tries to connect, at least and at most.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// This node's end of the road.
pub(super) struct Relay {
    outbox: mpsc::Sender<Said>,
    /// The shows that this node has rooms for.
    heard: watch::Sender<HashSet<ShowId>>,
}

enum Said {
    Message(Message),
    /// For our own ears.
    Probe,
}

impl Relay {
    /// Starts both tasks; what comes is put into `inbox`.
    pub(super) fn start(messenger: Messenger, node: NodeId, inbox: mpsc::Sender<Message>) -> Relay {
        let (outbox, said) = mpsc::channel(QUEUE);
        let (heard, shows) = watch::channel(HashSet::new());
        tokio::spawn(speak(messenger.clone(), node, said));
        let ear = Ear { messenger, node, shows, inbox, outbox: outbox.downgrade() };
        tokio::spawn(ear.run());
        Relay { outbox, heard }
    }

    /// False when there is no room for it.
    pub(super) fn send(&self, message: Message) -> bool {
        self.outbox.try_send(Said::Message(message)).is_ok()
    }

    pub(super) fn attend(&self, show: ShowId) {
        self.heard.send_if_modified(|shows| shows.insert(show));
    }

    pub(super) fn leave(&self, show: ShowId) {
        self.heard.send_if_modified(|shows| shows.remove(&show));
    }
}

fn show_channel(messenger: &Messenger, show: ShowId) -> String {
    messenger.name(&format!("show:{show}"))
}

fn probe_channel(messenger: &Messenger, node: NodeId) -> String {
    messenger.name(&format!("probe:{node}"))
}

/// Waits longer each time, and never as long as another node that lost its connection in the same moment.
async fn pause(tries: &mut u32) {
    let most = (PAUSE_MIN * 2_u32.saturating_pow(*tries)).min(PAUSE_MAX);
    *tries += 1;
    let part = rand::rng().random_range(0.5..1.0);
    tokio::time::sleep(most.mul_f64(part)).await;
}

/// Says to Redis what this node has to say, until the node ends.
async fn speak(messenger: Messenger, node: NodeId, mut outbox: mpsc::Receiver<Said>) {
    let mut tries = 0;
    loop {
        let said = async {
            let mut connection = messenger.connect().await?;
            // What was said before is old by now, and its rooms have read the log.
            let mut old = 0;
            while outbox.try_recv().is_ok() {
                old += 1;
            }
            count_dropped(old);
            let mut waiting = Vec::with_capacity(AT_ONCE);
            loop {
                if outbox.recv_many(&mut waiting, AT_ONCE).await == 0 {
                    return Ok(());
                }
                let mut all = Pipeline::with_capacity(waiting.len());
                for it in &waiting {
                    match it {
                        Said::Message(it) => match encode(it) {
                            Ok(bytes) => all.publish(show_channel(&messenger, it.show), bytes).ignore(),
                            Err(error) => {
                                tracing::error!(show.id = %it.show, %error, "a message is not JSON; rooms read the log");
                                count_dropped(1);
                                continue;
                            }
                        },
                        Said::Probe => all.publish(probe_channel(&messenger, node), "").ignore(),
                    };
                }
                let count = waiting.len() as u64;
                waiting.clear();
                if let Err(error) = all.query_async::<()>(&mut connection).await {
                    count_dropped(count);
                    return Err(error);
                }
                tries = 0;
            }
        };
        let Err(error) = said.await else { return };
        if tries == 0 {
            tracing::warn!(%error, "Redis does not take what this node says; viewers hear of it through the database");
        }
        if outbox.is_closed() {
            return;
        }
        pause(&mut tries).await;
    }
}

fn count_dropped(messages: u64) {
    metrics::counter!("showcart_bus_dropped_total").increment(messages);
}

/// Hears what is said about the shows of this node.
struct Ear {
    messenger: Messenger,
    node: NodeId,
    shows: watch::Receiver<HashSet<ShowId>>,
    inbox: mpsc::Sender<Message>,
    outbox: mpsc::WeakSender<Said>,
}

impl Ear {
    async fn run(mut self) {
        let mut tries = 0;
        loop {
            let Err(error) = self.listen(&mut tries).await else { return };
            metrics::gauge!("showcart_bus_connected").set(0.0);
            if tries == 0 {
                tracing::warn!(%error, "Redis tells this node nothing; its viewers hear through the database");
            }
            if self.inbox.is_closed() {
                return;
            }
            pause(&mut tries).await;
        }
    }

    /// Listens on one connection; ends well when the node ends.
    async fn listen(&mut self, tries: &mut u32) -> anyhow::Result<()> {
        let (mut sink, mut stream) = self.messenger.listen().await?.split();
        let own = probe_channel(&self.messenger, self.node);
        timeout(DEAF, sink.subscribe(&own)).await??;
        let mut subscribed = HashSet::new();
        self.shows.mark_changed();
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut heard_at, mut probed_at) = (Instant::now(), Instant::now());
        loop {
            tokio::select! {
                told = stream.next() => {
                    let told = told.context("the connection ended")?;
                    if told.get_channel_name() == own {
                        heard_at = Instant::now();
                        metrics::histogram!("showcart_bus_seconds").record(probed_at.elapsed().as_secs_f64());
                        if *tries > 0 {
                            tracing::info!("Redis is back");
                        }
                        *tries = 0;
                        metrics::gauge!("showcart_bus_connected").set(1.0);
                    } else if let Err(error) = self.take(told.get_channel_name(), told.get_payload_bytes()) {
                        tracing::warn!(%error, "a message of another node cannot be read");
                        metrics::counter!("showcart_bus_unreadable_total").increment(1);
                    }
                }
                changed = self.shows.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let wanted = self.shows.borrow_and_update().clone();
                    // Meanwhile nobody looks whether the connection still lives.
                    timeout(DEAF, self.follow(&mut sink, &mut subscribed, wanted)).await??;
                }
                _ = beat.tick() => {
                    let silent = heard_at.elapsed();
                    if silent > DEAF {
                        bail!("nothing of our own came back for {silent:.1?}");
                    }
                    probed_at = Instant::now();
                    // Without the other task there is nobody to speak; without room, others are being told things.
                    let Some(outbox) = self.outbox.upgrade() else { return Ok(()) };
                    outbox.try_send(Said::Probe).ok();
                }
            }
        }
    }

    /// Subscribes to what is wanted and to nothing else.
    async fn follow(
        &self,
        sink: &mut PubSubSink,
        subscribed: &mut HashSet<ShowId>,
        wanted: HashSet<ShowId>,
    ) -> anyhow::Result<()> {
        let channels = |shows: &mut dyn Iterator<Item = &ShowId>| -> Vec<String> {
            shows.map(|it| show_channel(&self.messenger, *it)).collect()
        };
        let new = channels(&mut wanted.difference(subscribed));
        if !new.is_empty() {
            sink.subscribe(&new).await?;
        }
        let old = channels(&mut subscribed.difference(&wanted));
        if !old.is_empty() {
            sink.unsubscribe(&old).await?;
        }
        *subscribed = wanted;
        Ok(())
    }

    fn take(&self, channel: &str, payload: &[u8]) -> anyhow::Result<()> {
        let (_, show) = channel.rsplit_once(':').context("a channel of ours")?;
        if self.inbox.try_send(decode(show.parse()?, payload)?).is_err() {
            count_dropped(1);
        }
        Ok(())
    }
}

/// A message as it travels; its show is the channel's. Members are only ever added: nodes of two versions work side by side.
#[derive(Serialize, Deserialize)]
struct Parcel<'a> {
    epoch: Cow<'a, str>,
    #[serde(borrow)]
    entries: Vec<EntryParcel<'a>>,
    #[serde(borrow)]
    gauges: Vec<GaugeParcel<'a>>,
}

#[derive(Serialize, Deserialize)]
struct EntryParcel<'a> {
    seq: i64,
    audience: Ears,
    /// Whose ears, when they are a buyer's.
    buyer: Option<BuyerId>,
    at: Millis,
    kind: Cow<'a, str>,
    #[serde(borrow)]
    json: &'a RawValue,
}

#[derive(Serialize, Deserialize)]
struct GaugeParcel<'a> {
    name: Cow<'a, str>,
    audience: Ears,
    version: i64,
    #[serde(borrow)]
    value: &'a RawValue,
    at: Millis,
}

#[derive(Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Ears {
    All,
    Desk,
    Own,
}

fn encode(message: &Message) -> serde_json::Result<Vec<u8>> {
    fn entry(it: &Entry) -> serde_json::Result<EntryParcel<'_>> {
        let (audience, buyer) = match &it.audience {
            Audience::All => (Ears::All, None),
            Audience::Desk => (Ears::Desk, None),
            Audience::Own(buyer) => (Ears::Own, Some(buyer.clone())),
        };
        let (kind, json) = ((&*it.kind).into(), serde_json::from_str(&it.json)?);
        Ok(EntryParcel { seq: it.seq.0, audience, buyer, at: it.at, kind, json })
    }
    fn gauge(it: &Gauge) -> serde_json::Result<GaugeParcel<'_>> {
        let audience = if it.desk_only { Ears::Desk } else { Ears::All };
        let (name, value) = ((&*it.name).into(), serde_json::from_str(&it.value)?);
        Ok(GaugeParcel { name, audience, version: it.version, value, at: it.at })
    }
    serde_json::to_vec(&Parcel {
        epoch: (&*message.epoch).into(),
        entries: message.entries.iter().map(|it| entry(it)).collect::<serde_json::Result<_>>()?,
        gauges: message.gauges.iter().map(gauge).collect::<serde_json::Result<_>>()?,
    })
}

fn decode(show: ShowId, bytes: &[u8]) -> anyhow::Result<Message> {
    let Parcel { epoch, entries, gauges } = serde_json::from_slice(bytes)?;
    let entry = |it: EntryParcel<'_>| {
        let audience = match (it.audience, it.buyer) {
            (Ears::All, _) => Audience::All,
            (Ears::Desk, _) => Audience::Desk,
            (Ears::Own, buyer) => Audience::Own(buyer.context("an entry for a buyer names one")?),
        };
        let (kind, json) = (it.kind.into(), it.json.get().into());
        Ok(Arc::new(Entry { seq: Seq(it.seq), audience, at: it.at, kind, json }))
    };
    let gauge = |it: GaugeParcel<'_>| Gauge {
        name: it.name.into(),
        desk_only: it.audience == Ears::Desk,
        version: it.version,
        value: it.value.get().into(),
        at: it.at,
    };
    Ok(Message {
        show,
        epoch: epoch.into(),
        entries: entries.into_iter().map(entry).collect::<anyhow::Result<_>>()?,
        gauges: gauges.into_iter().map(gauge).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_arrives_as_it_was_said() {
        let show = ShowId::new();
        let buyer: BuyerId = r#"ann"o\"#.parse().unwrap();
        let entry = |seq, audience| {
            let json = format!(r#"{{"seq":{seq},"at":5,"type":"x","data":{{"text":"a\"b\\\u00e9é"}}}}"#);
            Arc::new(Entry { seq: Seq(seq), audience, at: Millis(5), kind: "x".into(), json: json.into() })
        };
        let gauge = |desk_only| Gauge {
            name: "left:prd_1".into(),
            desk_only,
            version: 7,
            value: r#"{"left":3}"#.into(),
            at: Millis(6),
        };
        let said = Message {
            show,
            epoch: "8d6be6f3a0e74a00".into(),
            entries: vec![entry(1, Audience::All), entry(2, Audience::Desk), entry(3, Audience::Own(buyer))],
            gauges: vec![gauge(false), gauge(true)],
        };
        let heard = decode(show, &encode(&said).unwrap()).unwrap();
        assert_eq!(format!("{heard:?}"), format!("{said:?}"));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let nobodys = r#"{"epoch":"1","entries":[{"seq":1,"audience":"own","at":1,"kind":"x","json":{}}],"gauges":[]}"#;
        for bytes in ["", "{}", nobodys] {
            assert!(decode(ShowId::new(), bytes.as_bytes()).is_err(), "{bytes}");
        }
    }
}
