//! Each machine's own idea of time.

use std::time::Duration;

use federation_runtime::clock::{self, Time};

use crate::dice::Dice;

/// 2026-01-01.
const EPOCH_MS: i64 = 1_767_225_600_000;

/// One machine's clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    // Of the real speed.
    per_mille: u64,
    // What the calendar is off by.
    offset_ms: i64,
}

impl Clock {
    /// Clocks run up to 3 % too fast or too slow, and calendars are off by up to a minute.
    pub(crate) fn new(dice: &mut Dice) -> Self {
        Self { per_mille: dice.between(970, 1031), offset_ms: dice.between(0, 120_000) as i64 - 60_000 }
    }

    /// Somebody sets the calendar.
    pub(crate) fn jump(&mut self, by_ms: i64) {
        self.offset_ms += by_ms;
    }

    /// Milliseconds that the machine counts at the real time `now`.
    pub(crate) fn running(self, now: u64) -> u64 {
        now * self.per_mille / 1000
    }

    /// From here on this thread is that machine.
    pub(crate) fn enter(self, now: u64) {
        let running = self.running(now);
        let unix_ms = EPOCH_MS + running as i64 + self.offset_ms;
        clock::set(Some(Time { running: Duration::from_millis(running), unix_ms }));
    }
}
