//! One way of a stream.

use std::collections::VecDeque;

/// Messages with their time of arrival, in order.
pub(super) struct Pipe<T> {
    pub(super) queue: VecDeque<(u64, T)>,
    pub(super) stalled_until: u64,
}

impl<T> Default for Pipe<T> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), stalled_until: 0 }
    }
}

impl<T> Pipe<T> {
    pub(super) fn send(&mut self, at: u64, message: T) {
        let at = self.queue.back().map_or(at, |(last, _)| at.max(*last));
        self.queue.push_back((at, message));
    }

    pub(super) fn receive(&mut self, now: u64) -> Option<T> {
        if now < self.stalled_until || self.queue.front()?.0 > now {
            return None;
        }
        self.queue.pop_front().map(|(_, message)| message)
    }
}
