//! One direction of a stream: messages arrive in order, or not at all.

use std::collections::VecDeque;

/// Messages under way, with the times of their arrival.
#[derive(Debug)]
pub(crate) struct Pipe<T>(VecDeque<(u64, T)>);

impl<T> Default for Pipe<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Pipe<T> {
    pub(crate) fn send(&mut self, at: u64, message: T) {
        let at = self.0.back().map_or(at, |(last, _)| at.max(*last));
        self.0.push_back((at, message));
    }

    /// What has arrived, unless the way is shut.
    pub(crate) fn receive(&mut self, now: u64, open: bool) -> Option<T> {
        if !open || self.0.front()?.0 > now {
            return None;
        }
        self.0.pop_front().map(|(_, message)| message)
    }

    /// Whatever was under way.
    pub(crate) fn take(&mut self) -> Vec<T> {
        self.0.drain(..).map(|(_, message)| message).collect()
    }
}
