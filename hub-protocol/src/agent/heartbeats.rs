//! Heartbeats that the hub has not acknowledged yet.

use std::collections::VecDeque;

/// Unanswered heartbeats that are remembered. The oldest count, so that later ones are let go: of a burst of votes that turned each
/// is a heartbeat, and they are answered together.
const REMEMBERED: usize = 64;

/// The unanswered heartbeats of one stream. They are numbered from 1.
#[derive(Debug, Default)]
pub(super) struct Heartbeats {
    newest: u64,
    answered: u64,
    /// Number and time of sending, milliseconds, oldest first.
    unanswered: VecDeque<(u64, u64)>,
}

impl Heartbeats {
    /// The number of a heartbeat that is sent now.
    pub(super) fn next(&mut self, now: u64) -> u64 {
        self.newest += 1;
        if self.unanswered.len() < REMEMBERED {
            self.unanswered.push_back((self.newest, now));
        }
        self.newest
    }

    /// The hub answered `number`, and with it all before. The round trip in milliseconds, if that is known.
    pub(super) fn answer(&mut self, now: u64, number: u64) -> Option<u64> {
        self.answered = self.answered.max(number.min(self.newest));
        let mut round_trip = None;
        while let Some((of, sent)) = self.unanswered.front().copied().filter(|(of, _)| *of <= number) {
            self.unanswered.pop_front();
            round_trip = (of == number).then(|| now.saturating_sub(sent));
        }
        round_trip
    }

    /// Whether `count` heartbeats or more are unanswered, and the oldest for `age_ms` or longer. The number alone says little, since what
    /// turns is told at once; nor does the age, since this process may have slept.
    pub(super) fn are_lost(&self, now: u64, count: u32, age_ms: u64) -> bool {
        self.newest - self.answered >= u64::from(count)
            && self.unanswered.front().is_some_and(|(_, sent)| now >= sent + age_ms)
    }
}
