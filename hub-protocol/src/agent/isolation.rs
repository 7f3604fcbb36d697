//! Isolation in a drill: the agent's half of the dead-man's switch.
//!
//! The hub tells the agent that a drill isolates it, and the agent disconnects. To stay away it needs repeated confirmation from the hub: it
//! comes back when the hub says that the drill is over, and also when the hub does not answer.

/// Maximum lease in milliseconds, whatever the hub says.
const LEASE_MAX_MS: u64 = 30_000;
/// One drill cuts an agent off for so long at most, milliseconds: more than a drill may last.
const ISOLATED_MAX_MS: u64 = 2 * 3_600_000;

#[derive(Debug)]
struct Held {
    drill: String,
    /// When the lease lapses.
    until: u64,
    /// When it ends, renewed or not.
    end: u64,
}

/// Whether the agent is cut off.
#[derive(Debug, Default)]
pub(super) struct Isolation(Option<Held>);

impl Isolation {
    /// The drill that cuts it off.
    pub(super) fn drill(&self) -> Option<&str> {
        self.0.as_ref().map(|held| held.drill.as_str())
    }

    pub(super) fn begin(&mut self, now: u64, drill: String, lease_ms: u64) {
        let end = now.saturating_add(ISOLATED_MAX_MS);
        self.0 = Some(Held { drill, until: now.saturating_add(lease_ms.min(LEASE_MAX_MS)), end });
    }

    /// The hub's answer: the lease, or that there is none any more. An answer about another drill says nothing.
    pub(super) fn answered(&mut self, now: u64, drill: &str, lease_ms: Option<u64>) {
        let Some(held) = self.0.as_mut().filter(|held| held.drill == drill) else { return };
        held.until = match lease_ms {
            // A late answer does not shorten what a newer one gave.
            Some(lease_ms) => held.until.max(now.saturating_add(lease_ms.min(LEASE_MAX_MS))),
            None => now,
        };
    }

    /// Ends it when its time has come; says which drill it was.
    pub(super) fn over(&mut self, now: u64) -> Option<String> {
        let ends = self.deadline().is_some_and(|at| at <= now);
        if ends { self.0.take().map(|held| held.drill) } else { None }
    }

    /// When it ends if nothing is heard.
    pub(super) fn deadline(&self) -> Option<u64> {
        self.0.as_ref().map(|held| held.until.min(held.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_and_a_word_end_it_alike() {
        let mut isolation = Isolation::default();
        isolation.begin(100, "one".into(), 5000);
        assert_eq!((isolation.over(5099), isolation.drill()), (None, Some("one")));
        isolation.answered(4000, "one", Some(5000));
        isolation.answered(4000, "two", None);
        assert_eq!((isolation.over(8999), isolation.deadline()), (None, Some(9000)));
        assert_eq!(isolation.over(9000), Some("one".into()));
        isolation.begin(10_000, "two".into(), 5000);
        isolation.answered(10_500, "two", None);
        assert_eq!((isolation.over(10_500), isolation.drill()), (Some("two".into()), None));
    }

    #[test]
    fn no_hub_cuts_an_agent_off_for_ever() {
        let mut isolation = Isolation::default();
        isolation.begin(0, "one".into(), u64::MAX);
        assert_eq!(isolation.deadline(), Some(LEASE_MAX_MS));
        let mut now = 0;
        while isolation.over(now).is_none() {
            now += 1000;
            isolation.answered(now, "one", Some(u64::MAX));
            assert!(now <= ISOLATED_MAX_MS);
        }
        assert_eq!(now, ISOLATED_MAX_MS);
    }
}
