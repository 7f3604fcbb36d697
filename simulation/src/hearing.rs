//! How long each voter has not heard the hub, as seen from outside.

/// A hub is away when nothing was heard of it for 10 s on the voter's own clock, which may run 3 % too fast.
const AWAY_MS: u64 = 9_600;
/// What a voter said counts for 12 s after it was heard, and takes up to 3 s to be.
const WORD_MS: u64 = 16_000;

/// When a voter heard the hub.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hearing {
    last: u64,
    silence_ended: Option<u64>,
}

impl Hearing {
    /// It hears it now.
    pub(crate) fn note(&mut self, now: u64) {
        if now - self.last >= AWAY_MS {
            self.silence_ended = Some(now);
        }
        self.last = now;
    }

    /// Whether a word of it that counts now may say that the hub is away.
    pub(crate) fn missed_it(&self, now: u64) -> bool {
        now - self.last >= AWAY_MS || self.silence_ended.is_some_and(|at| now - at < WORD_MS)
    }
}
