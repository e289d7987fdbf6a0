//! Whoever asks again where nothing is left: their first answer may have been lost, and the units be theirs. They are looked
//! up together, up to a thousand in one read per tick, so that a crowd that tries again and again costs the lane nothing.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::store;
use crate::db::{Db, Result};
use crate::ids::{BuyerId, ShowId};
use crate::lane::{Batch, Ran};

pub(super) struct AskedAgain {
    pub(super) buyer: BuyerId,
    pub(super) key: Arc<str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// The buyer has units, or had them by this key.
    Units,
    Nothing,
    /// The database did not answer.
    Unclear,
}

pub(super) struct Looker {
    db: Db,
    show: ShowId,
    tick: Duration,
    /// When the last look began.
    began: Option<Instant>,
}

impl Looker {
    pub(super) fn new(db: Db, show: ShowId, tick: Duration) -> Looker {
        Looker { db, show, tick, began: None }
    }

    async fn look(&self, asked: &[AskedAgain]) -> Result<HashSet<BuyerId>> {
        let asked: Vec<Value> =
            asked.iter().map(|it| json!({ "show_id": self.show, "buyer_id": it.buyer, "key": it.key })).collect();
        let known = store::known_buyers(&mut self.db.read().await?, &asked).await?;
        Ok(known.into_iter().map(|it| it.0).collect())
    }
}

impl Batch for Looker {
    type Command = AskedAgain;
    type Answer = Found;

    async fn run(&mut self, asked: Vec<AskedAgain>) -> Ran<Found> {
        if let Some(began) = self.began {
            tokio::time::sleep_until((began + self.tick).into()).await;
        }
        self.began = Some(Instant::now());
        let answers = match self.look(&asked).await {
            Ok(known) => {
                let of = |it: &AskedAgain| if known.contains(&it.buyer) { Found::Units } else { Found::Nothing };
                asked.iter().map(of).collect()
            }
            Err(error) => {
                tracing::warn!(show.id = %self.show, %error, "those who ask again could not be looked up");
                asked.iter().map(|_| Found::Unclear).collect()
            }
        };
        Ran { answers, wake_at: None }
    }
}
