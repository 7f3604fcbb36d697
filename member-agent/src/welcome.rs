//! The check `hub` of `/readyz`: it fails until the hub has welcomed this agent for the first time.
//!
//! An agent that was welcomed once works without its hub, so a hub that is away later is no reason to be unready.

use federation_runtime::endpoints::Health;

/// Name of the check.
pub(crate) const CHECK: &str = "hub";

/// Whether there was a welcome.
pub(crate) struct Welcome {
    health: Health,
    came: bool,
}

impl Welcome {
    pub(crate) fn new(health: Health) -> Self {
        Self { health, came: false }
    }

    /// The hub has welcomed this agent.
    pub(crate) fn came(&mut self) {
        if !self.came {
            self.came = true;
            self.health.ready(CHECK);
        }
    }

    /// The hub could not be reached, or ended the stream. An agent that was never welcomed says why, since that is where its operator looks first.
    pub(crate) fn failed(&self, reason: &str) {
        if !self.came {
            self.health.wait_for(CHECK, reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Why the check fails.
    fn why(health: &Health) -> Option<String> {
        health.checks().into_iter().find(|(name, _)| *name == CHECK).and_then(|(_, why)| why)
    }

    #[test]
    fn an_agent_that_was_never_welcomed_says_why() {
        let health = Health::new();
        health.wait_for(CHECK, "not connected yet");
        let mut welcome = Welcome::new(health.clone());
        welcome.failed("no route to host");
        assert_eq!(why(&health).as_deref(), Some("no route to host"));
        welcome.came();
        assert_eq!(why(&health), None);
    }

    #[test]
    fn a_hub_that_is_away_later_fails_no_check_though_another_one_does() {
        let health = Health::new();
        let mut welcome = Welcome::new(health.clone());
        welcome.came();
        health.wait_for("watches", "it panicked");
        welcome.failed("no route to host");
        assert_eq!(why(&health), None);
    }
}
