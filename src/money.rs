//! Money: whole minor units and a currency. No floats, no rounding that nobody asked for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An ISO 4217 currency, like `EUR`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

/// The text is no ISO 4217 code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an ISO 4217 currency code such as EUR or USD")]
pub struct BadCurrency;

/// Why a decimal text is no amount of a currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAmount {
    #[error("expected a decimal number such as 12.50")]
    NotANumber,
    #[error("more decimals than the currency has")]
    TooFine,
    #[error("the amount is too large")]
    TooLarge,
}

/// The largest amount that is accepted anywhere, in minor units: sums of a hundred million of them still fit 64 bits.
pub const AMOUNT_MAX_MINOR: i64 = 100_000_000_000;

impl Currency {
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a currency is three ASCII letters, checked when it was parsed")
    }

    /// How many decimals the currency has: EUR 2, JPY 0, KWD 3.
    pub fn decimals(self) -> u32 {
        iso_currency::Currency::from_code(self.as_str()).and_then(|it| it.exponent()).map_or(0, u32::from)
    }

    /// Minor units of a decimal text: `"12.5"` EUR is 1250. Never through floats.
    ///
    /// # Errors
    /// A text that is no plain decimal number, has more decimals than the currency, or is above [`AMOUNT_MAX_MINOR`].
    pub fn parse_minor(self, text: &str) -> Result<i64, BadAmount> {
        let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
        let digits = |it: &str| it.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) || text.trim().ends_with('.') {
            return Err(BadAmount::NotANumber);
        }
        let decimals = self.decimals() as usize;
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > decimals {
            return Err(BadAmount::TooFine);
        }
        let minor: i64 = format!("{whole}{fraction:0<decimals$}").parse().map_err(|_| BadAmount::TooLarge)?;
        if minor > AMOUNT_MAX_MINOR { Err(BadAmount::TooLarge) } else { Ok(minor) }
    }

    /// A decimal text of minor units, for people and reports: 1250 EUR is `"12.50"`.
    pub fn format_minor(self, minor: i64) -> String {
        let decimals = self.decimals();
        let unit = 10_i64.pow(decimals);
        let sign = if minor < 0 { "-" } else { "" };
        let (whole, fraction) = (minor.abs() / unit, minor.abs() % unit);
        match decimals as usize {
            0 => format!("{sign}{whole}"),
            width => format!("{sign}{whole}.{fraction:0width$}"),
        }
    }
}

impl FromStr for Currency {
    type Err = BadCurrency;

    fn from_str(text: &str) -> Result<Currency, BadCurrency> {
        iso_currency::Currency::from_code(text).ok_or(BadCurrency)?;
        let code: [u8; 3] = text.as_bytes().try_into().map_err(|_| BadCurrency)?;
        Ok(Currency(code))
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Currency, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

crate::db::text_column!(Currency);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_exactly() {
        let (eur, jpy, kwd): (Currency, Currency, Currency) =
            ("EUR".parse().unwrap(), "JPY".parse().unwrap(), "KWD".parse().unwrap());
        for (currency, text, expected) in [
            (eur, "12.5", Ok(1_250)),
            (eur, " 0.07 ", Ok(7)),
            (eur, "12.500", Ok(1_250)),
            (eur, "12.505", Err(BadAmount::TooFine)),
            (eur, "1e3", Err(BadAmount::NotANumber)),
            (eur, "-1", Err(BadAmount::NotANumber)),
            (eur, "1.", Err(BadAmount::NotANumber)),
            (eur, "", Err(BadAmount::NotANumber)),
            (eur, "99999999999999999999", Err(BadAmount::TooLarge)),
            (jpy, "500", Ok(500)),
            (jpy, "500.5", Err(BadAmount::TooFine)),
            (kwd, "1.234", Ok(1_234)),
        ] {
            assert_eq!(currency.parse_minor(text), expected, "{currency} {text:?}");
        }
        assert_eq!((eur.format_minor(-1_205), jpy.format_minor(7)), ("-12.05".into(), "7".into()));
        assert!("eur".parse::<Currency>().is_err());
    }
}
