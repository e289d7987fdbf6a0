//! The road between nodes. A node hears its own messages by the same road as everybody else's.
//!
//! At most once, in any order, possibly late: rooms put entries in order and read the log when one is missing, so a lost
//! message costs time, never truth.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::log::{Entry, Gauge};
use super::relay::Relay;
use crate::failpoints;
use crate::ids::{NodeId, ShowId};
use crate::messenger::Messenger;

/// What a committed change says to rooms.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) show: ShowId,
    pub(super) epoch: Box<str>,
    pub(super) entries: Vec<Arc<Entry>>,
    pub(super) gauges: Vec<Gauge>,
}

/// One process, or many.
pub(super) enum Bus {
    Local(mpsc::Sender<Message>),
    Redis(Relay),
}

/// Messages that may wait for the one task that takes them further.
pub(super) const QUEUE: usize = 8_192;

impl Bus {
    /// The road, and where it ends: at the one task that hands messages to rooms.
    pub(super) fn open(messenger: Option<Messenger>, node: NodeId) -> (Bus, mpsc::Receiver<Message>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let bus = match messenger {
            Some(messenger) => Bus::Redis(Relay::start(messenger, node, sender)),
            None => Bus::Local(sender),
        };
        (bus, receiver)
    }

    /// This node has a room for the show now.
    pub(super) fn attend(&self, show: ShowId) {
        if let Bus::Redis(relay) = self {
            relay.attend(show);
        }
    }

    /// It has none any more.
    pub(super) fn leave(&self, show: ShowId) {
        if let Bus::Redis(relay) = self {
            relay.leave(show);
        }
    }

    /// Whether messages come back only for shows that are attended.
    pub(super) fn is_selective(&self) -> bool {
        matches!(self, Bus::Redis(_))
    }

    /// Sends a message if there is room; if not, rooms find the entries in the log within a second.
    pub(super) fn publish(&self, message: Message) {
        if failpoints::fires("bus_loses_message") {
            return;
        }
        let sent = match self {
            Bus::Local(sender) => sender.try_send(message).is_ok(),
            Bus::Redis(relay) => relay.send(message),
        };
        if !sent {
            metrics::counter!("showcart_bus_dropped_total").increment(1);
        }
    }
}
