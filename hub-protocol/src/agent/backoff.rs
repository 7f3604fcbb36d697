//! Waiting times between attempts to reach the hub.

/// Decorrelated jitter: each wait is drawn between the base and three times the last one, and capped. A thousand agents that
/// lost one hub at the same moment come back spread out, and the first of them within the base.
#[derive(Clone, Debug)]
pub struct Backoff {
    base_ms: u64,
    cap_ms: u64,
    last_ms: u64,
}

impl Backoff {
    /// Waits between `base_ms` and `cap_ms`.
    pub fn new(base_ms: u64, cap_ms: u64) -> Self {
        Self { base_ms, cap_ms: cap_ms.max(base_ms), last_ms: base_ms }
    }

    /// The next wait in milliseconds, from a random number.
    pub fn next(&mut self, random: u64) -> u64 {
        let span = (self.last_ms * 3).saturating_sub(self.base_ms).max(1);
        self.last_ms = (self.base_ms + random % span).min(self.cap_ms);
        self.last_ms
    }

    /// The last attempt succeeded.
    pub fn reset(&mut self) {
        self.last_ms = self.base_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_between_base_and_cap_and_grow_under_bad_luck() {
        let mut backoff = Backoff::new(100, 5_000);
        for random in [0, 1, u64::MAX, 12_345, 77_777] {
            let wait = backoff.next(random);
            assert!((100..=5_000).contains(&wait), "{wait}");
        }
        let mut unlucky = Backoff::new(100, 5_000);
        let waits: Vec<u64> = (0..6)
            .map(|_| {
                let span = unlucky.last_ms * 3 - 100;
                unlucky.next(span - 1)
            })
            .collect();
        assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]), "{waits:?}");
        assert_eq!(waits.last(), Some(&5_000));
        unlucky.reset();
        assert!(unlucky.next(u64::MAX) <= 300);
    }
}
