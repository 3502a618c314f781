//! The values of CEL.

use std::{cmp::Ordering, collections::BTreeMap, net::IpAddr, sync::Arc};

use time::{Duration, OffsetDateTime};

/// A value.
#[derive(Debug, Clone)]
pub enum Value {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number that is not negative.
    Uint(u64),
    /// A floating-point number.
    Double(f64),
    /// Text.
    Text(Arc<str>),
    /// A span of time.
    Duration(Duration),
    /// A moment.
    Timestamp(OffsetDateTime),
    /// An address.
    Address(IpAddr),
    /// Values in a row.
    List(Arc<[Value]>),
    /// Values by text.
    Map(Arc<BTreeMap<String, Value>>),
}

impl Value {
    pub(super) fn text(text: impl Into<Arc<str>>) -> Self {
        Self::Text(text.into())
    }

    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::Duration(_) => "duration",
            Self::Timestamp(_) => "timestamp",
            Self::Address(_) => "ipaddress",
            Self::List(_) => "list",
            Self::Map(_) => "map",
        }
    }

    /// The order of two values, where they have one. Numbers have one whatever their types.
    pub(super) fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(one), Self::Bool(other)) => Some(one.cmp(other)),
            (Self::Text(one), Self::Text(other)) => Some(one.cmp(other)),
            (Self::Duration(one), Self::Duration(other)) => Some(one.cmp(other)),
            (Self::Timestamp(one), Self::Timestamp(other)) => Some(one.cmp(other)),
            (Self::Double(one), Self::Double(other)) => one.partial_cmp(other),
            (Self::Double(one), other) => other.whole().and_then(|other| against_whole(*one, other)),
            (one, Self::Double(other)) => one.whole().and_then(|one| against_whole(*other, one)).map(Ordering::reverse),
            (one, other) => Some(one.whole()?.cmp(&other.whole()?)),
        }
    }

    fn whole(&self) -> Option<i128> {
        match self {
            Self::Int(number) => Some(i128::from(*number)),
            Self::Uint(number) => Some(i128::from(*number)),
            _ => None,
        }
    }

    /// Whether two values that hold no others are the same. Values of different types are not, except that a number is a number.
    pub(super) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Address(one), Self::Address(other)) => one == other,
            _ => self.order(other) == Some(Ordering::Equal),
        }
    }

    /// How much it costs to look at or to copy: about one for each 64 bytes, and one for each value that it holds, but not what that
    /// one holds in its turn. Who looks deeper takes more.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Text(text) => 1 + text.len() / 64,
            Self::List(list) => 1 + list.len(),
            Self::Map(map) => 1 + map.len(),
            _ => 1,
        }
    }
}

/// The order of a floating-point number and a whole one, exactly.
fn against_whole(double: f64, whole: i128) -> Option<Ordering> {
    /// Beyond it every whole number of 64 bits lies on one side.
    const EDGE: f64 = 1e30;
    if double.is_nan() {
        return None;
    }
    if double.abs() > EDGE {
        return Some(if double > 0.0 { Ordering::Greater } else { Ordering::Less });
    }
    #[expect(clippy::cast_possible_truncation, reason = "within the edge, and the fraction is compared after it")]
    let floor = double.floor() as i128;
    Some(floor.cmp(&whole).then(if double.fract() == 0.0 { Ordering::Equal } else { Ordering::Greater }))
}
