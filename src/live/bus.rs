//! The road between nodes. A node hears its own messages by the same road as everybody else's.
//!
//! At most once, in any order, possibly late: rooms put entries in order and read the log when one is missing, so a lost
//! message costs time, never truth.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::log::{Entry, Gauge};
use crate::failpoints;
use crate::ids::ShowId;

/// What a committed change says to rooms.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) show: ShowId,
    pub(super) epoch: Box<str>,
    pub(super) entries: Vec<Arc<Entry>>,
    pub(super) gauges: Vec<Gauge>,
}

/// One process, or (with a second variant, once there are nodes) many.
pub(super) enum Bus {
    Local(mpsc::Sender<Message>),
}

/// Messages that may wait for the one task that hands them to rooms.
const QUEUE: usize = 8_192;

impl Bus {
    pub(super) fn local() -> (Bus, mpsc::Receiver<Message>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Bus::Local(sender), receiver)
    }

    /// Sends a message if there is room; if not, rooms find the entries in the log within a second.
    pub(super) fn publish(&self, message: Message) {
        if failpoints::fires("bus_loses_message") {
            return;
        }
        match self {
            Bus::Local(sender) => {
                if sender.try_send(message).is_err() {
                    metrics::counter!("showcart_bus_dropped_total").increment(1);
                }
            }
        }
    }
}
