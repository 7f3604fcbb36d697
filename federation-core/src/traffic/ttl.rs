//! How long an answer may be cached: never longer than until it may have to change.

/// A TTL, and until when it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Seconds.
    pub ttl: u32,
    /// When a shorter one is due, Unix milliseconds.
    pub next_ms: Option<i64>,
}

/// The longest of `wanted`, `wanted/2`, `wanted/4`… that ends before `turn_ms`, and `floor` if none does. Halving keeps the number
/// of zones that a coming change costs at the logarithm of the TTL.
pub fn bounded(wanted: u32, floor: u32, now_ms: i64, turn_ms: Option<i64>) -> Bound {
    let floor = floor.clamp(1, wanted.max(1));
    let Some(turn_ms) = turn_ms else { return Bound { ttl: wanted.max(1), next_ms: None } };
    let left_ms = turn_ms.saturating_sub(now_ms);
    let mut ttl = wanted.max(1);
    while ttl > floor && i64::from(ttl) * 1000 > left_ms {
        ttl = (ttl / 2).max(floor);
    }
    // The first millisecond at which it would outlive the change.
    let next_ms = (ttl > floor).then(|| turn_ms.saturating_sub(i64::from(ttl) * 1000).saturating_add(1));
    Bound { ttl, next_ms }
}
