//! Ids: a prefix that says what it names and a UUIDv7 that we make, text in every table and on the wire.
//!
//! A [`BuyerId`] is the exception: it is the subject of the shop's own token, so its text is the shop's.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// The text is no id of the kind that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an id of the form {0}… with 32 hexadecimal digits")]
pub struct BadId(pub &'static str);

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        #[allow(clippy::new_without_default)] // Each call names a new thing; a default would hide that.
        impl $name {
            pub const PREFIX: &'static str = $prefix;

            /// A new id; ids made later in one process sort later.
            pub fn new() -> $name {
                $name(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<$name, BadId> {
                let digits = text.strip_prefix($prefix).filter(|it| it.len() == 32).ok_or(BadId($prefix))?;
                Uuid::try_parse(digits).map($name).map_err(|_| BadId($prefix))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }

        crate::db::text_column!($name);
    )*};
}

ids! {
    ShowId = "shw_";
    ProductId = "prd_";
    /// A banner or a timer.
    OverlayId = "ovl_";
    PollId = "pol_";
    SaleId = "sal_";
    HoldId = "hld_";
    OrderId = "ord_";
    PaymentId = "pay_";
    RefundId = "rfd_";
    /// A catalogue that is brought in.
    ImportId = "imp_";
    /// An address of the shop to which events go.
    WebhookId = "whk_";
    /// One of the secrets that an endpoint has had.
    WebhookSecretId = "whs_";
    /// What became of bringing an event to an endpoint once.
    DeliveryId = "dlv_";
    /// A part of a log that is told to an endpoint again.
    RedeliveryId = "rdl_";
    /// One process of the server; new at every start.
    NodeId = "nod_";
    /// A browser without an account; signed by us, see `auth`.
    GuestId = "gst_";
}

/// Who buys, votes or watches: the `sub` of the shop's token, 1 to 128 visible characters; for guests a [`GuestId`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BuyerId(Arc<str>);

/// The text can not name a person.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("a subject has 1 to 128 printable characters and no spaces")]
pub struct BadSubject;

impl BuyerId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BuyerId {
    type Err = BadSubject;

    fn from_str(text: &str) -> Result<BuyerId, BadSubject> {
        let fits = (1..=128).contains(&text.len()) && !text.chars().any(|c| c.is_control() || c.is_whitespace());
        if fits { Ok(BuyerId(text.into())) } else { Err(BadSubject) }
    }
}

impl fmt::Display for BuyerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for BuyerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for BuyerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for BuyerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<BuyerId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

crate::db::text_column!(BuyerId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_their_text_and_refuse_others() {
        let id = ShowId::new();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("shw_123".parse::<ShowId>().is_err());
        assert!(SaleId::new().to_string().parse::<ShowId>().is_err());
        assert!("shw_{0190-0000-7000-8000-00000000}".parse::<ShowId>().is_err());
    }

    #[test]
    fn ids_of_one_process_sort_by_their_making() {
        let ids: Vec<HoldId> = (0..1_000).map(|_| HoldId::new()).collect();
        assert!(ids.is_sorted());
    }

    #[test]
    fn subjects_are_visible_text() {
        assert!("user-7|shop".parse::<BuyerId>().is_ok());
        assert!("".parse::<BuyerId>().is_err());
        assert!("a b".parse::<BuyerId>().is_err());
        assert!("x".repeat(129).parse::<BuyerId>().is_err());
    }
}
