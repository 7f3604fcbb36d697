//! Thresholds of the health verdicts.

/// Thresholds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Milliseconds between heartbeats, as the hub tells its agents.
    pub heartbeat_ms: i64,
    /// Missed heartbeats in a row that make a cluster unreachable, at least 1.
    pub fall: u32,
    /// Good heartbeats in a row that make it healthy again, at least 1.
    pub rise: u32,
    /// Milliseconds after the start, or after a cluster joined, in which silence means nothing.
    pub startup_grace_ms: i64,
    /// Milliseconds for which voters must disagree before that is a verdict: their words about one event come one after the other.
    pub split_ms: i64,
    /// Milliseconds for which a cluster whose users were not served stays so when nobody probes it any more.
    pub unseen_hold_ms: i64,
    /// More than this share of the clusters down within the window freezes everything.
    pub mass_failure_share: f64,
    /// Milliseconds.
    pub mass_failure_window_ms: i64,
    /// Milliseconds for which a freeze lasts on when one of its clusters has come back and others have not.
    pub thaw_hold_ms: i64,
    /// Milliseconds in which a flapping cluster's penalty halves.
    pub flap_half_life_ms: i64,
    /// Penalty, in falls, above which a cluster is held down.
    pub flap_limit: f64,
    /// Penalty, in falls, below which it may rise again.
    pub flap_reuse: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            heartbeat_ms: 1000,
            fall: 3,
            rise: 2,
            startup_grace_ms: 10_000,
            // A prober with the default check is at most 1.1 + 0.7 s behind another one.
            split_ms: 2000,
            unseen_hold_ms: 300_000,
            mass_failure_share: 0.5,
            mass_failure_window_ms: 30_000,
            // Two heartbeats and two probes, and some more: links that heal together are not back at the same moment.
            thaw_hold_ms: 5_000,
            flap_half_life_ms: 60_000,
            flap_limit: 3.5,
            flap_reuse: 2.0,
        }
    }
}
