//! What a gauge shows. A number past its range is shown as the greatest: nobody reads off a gauge by how much.

/// A number of things, or of milliseconds.
pub(crate) fn count(number: impl TryInto<u32>) -> f64 {
    f64::from(number.try_into().unwrap_or(u32::MAX))
}
