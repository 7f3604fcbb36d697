//! Restarts a thread's loop when it panics.

use std::io;
use std::time::{Duration, Instant};

use federation_runtime::tasks;

/// A run that is shorter than this did nothing: what fails at once each time must not take a core.
const SHORT: Duration = Duration::from_millis(10);
/// First pause after a short run.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// Longest pause: the datagrams of so long fit into a socket's buffer, unless they are many.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Answers until the shutdown. One query that it cannot stand is the end of no thread: who sends more of them must not silence the server.
///
/// # Errors
/// Those of `answer`.
pub fn restarted(mut answer: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    let mut pauses = Pauses::default();
    loop {
        let begun = Instant::now();
        match tasks::caught_here("udp", &mut answer) {
            Ok(outcome) => return outcome,
            Err(panicked) => tracing::error!(%panicked, "queries were lost: the thread answers on"),
        }
        std::thread::sleep(pauses.after(begun.elapsed()));
    }
}

/// Pauses before the next run: none after one that has answered for a while, and twice the last one's after each that ended at once.
#[derive(Default)]
struct Pauses {
    last: Duration,
}

impl Pauses {
    fn after(&mut self, ran: Duration) -> Duration {
        self.last = if ran >= SHORT { Duration::ZERO } else { (self.last * 2).clamp(PAUSE_MIN, PAUSE_MAX) };
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panics_answers_on_and_one_whose_socket_fails_ends() {
        let mut runs = 0;
        let ended = restarted(|| {
            runs += 1;
            assert!(runs > 2, "run {runs} fails");
            Err(io::ErrorKind::BrokenPipe.into())
        });
        assert_eq!((ended.map_err(|error| error.kind()), runs), (Err(io::ErrorKind::BrokenPipe), 3));
    }

    #[test]
    fn what_fails_at_once_each_time_waits_ever_longer_up_to_a_bound_and_what_has_answered_does_not() {
        let mut pauses = Pauses::default();
        let mut after = |ran| pauses.after(Duration::from_millis(ran)).as_millis();
        assert_eq!([after(0), after(1), after(9), after(0)], [1, 2, 4, 8]);
        assert_eq!((0..10).map(|_| after(0)).max(), Some(100));
        assert_eq!([after(10), after(0), after(0)], [0, 1, 2]);
    }
}
