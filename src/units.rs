//! Units: how many pieces of a product. A type of its own, so that a count is never taken for an amount of money.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub, SubAssign};

use serde::{Deserialize, Serialize};

/// A count of pieces.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Units(pub i64);

impl Units {
    pub const ZERO: Units = Units(0);
    /// No count that somebody gives is larger: sums of a billion of them still fit 64 bits.
    pub const MAX: Units = Units(1_000_000_000);

    /// What so many pieces cost. Prices and quantities are bounded at the door, so that this cannot overflow.
    pub fn at(self, unit_price_minor: i64) -> i64 {
        self.0 * unit_price_minor
    }
}

impl Add for Units {
    type Output = Units;

    fn add(self, it: Units) -> Units {
        Units(self.0 + it.0)
    }
}

impl Sub for Units {
    type Output = Units;

    fn sub(self, it: Units) -> Units {
        Units(self.0 - it.0)
    }
}

impl AddAssign for Units {
    fn add_assign(&mut self, it: Units) {
        self.0 += it.0;
    }
}

impl SubAssign for Units {
    fn sub_assign(&mut self, it: Units) {
        self.0 -= it.0;
    }
}

impl Sum for Units {
    fn sum<I: Iterator<Item = Units>>(all: I) -> Units {
        all.fold(Units::ZERO, Add::add)
    }
}

impl fmt::Display for Units {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Units {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

crate::db::bigint_column!(Units);
