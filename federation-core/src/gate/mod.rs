//! The gate: the one function that permits a removal.
//!
//! Every removal of a member's copy, a Namespace's included, must be permitted here, whether the federation makes it by itself or on a user's
//! behalf. The rules are few and each has a name. A refusal names the rule and becomes an Event and a metric; it is never skipped silently.
//!
//! Changes that can be undone in seconds do not pass the gate, so that failover never waits for it. They are limited where they are decided:
//! replicas by [`crate::placement`] (no more leave than are ready elsewhere, none while frozen), DNS answers by [`crate::traffic`] (the last
//! one stays, and a policy's `safety` limits automation, also at a DNS server that acts without the hub). A cluster leaves the federation only
//! when a person asks for it, and its copies are removed through the gate.

pub mod accounts;
mod replacement;

use std::fmt;

use thiserror::Error;

pub use replacement::Other;

/// What is to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Where.
    pub cluster: String,
    /// `Kind namespace/name`, for messages.
    pub object: String,
    /// Why.
    pub cause: Cause,
    /// Epoch of the decision that wants it.
    pub epoch: u64,
}

/// Why something is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// A user deleted the template, and asked for the copies to go.
    Deleted,
    /// A policy no longer selects the cluster.
    Unselected,
    /// The cluster leaves the federation.
    Unjoined,
}

impl Cause {
    /// Whether a person asked for the object itself to be deleted, so that nothing needs to replace it.
    fn asked(self) -> bool {
        self == Self::Deleted
    }
}

/// How current the controller's view is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// All lists are complete and their watches are running.
    Synced {
        /// Milliseconds since the most silent watch was last heard.
        age_ms: i64,
    },
    /// A list is not complete: an object that is absent may not have been read yet.
    Unsynced,
}

/// Whether something replaces the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replacement {
    /// Other healthy copies are there.
    NotLast,
    /// It is the last healthy copy, and its replacement is ready.
    Ready,
    /// It is the last healthy copy, and nothing replaces it yet.
    Missing,
}

/// What one cause has removed within its window, what it still wants to remove, and its limit, in copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Copies removed in this window.
    pub used: u64,
    /// Copies still to be removed, this one included.
    pub wanted: u64,
    /// Maximum of both together; `None` for no limit.
    pub limit: Option<u64>,
    /// `used` and `wanted` together exceed the limit, or did once, and nobody has decided since.
    pub over: bool,
    /// A person has confirmed the removals.
    pub confirmed: bool,
    /// The counting period of a new cause is over.
    pub settled: bool,
}

impl Budget {
    /// The budget of an object that a user deleted by its own name.
    pub const UNBOUNDED: Self =
        Self { used: 0, wanted: 1, limit: None, over: false, confirmed: false, settled: true };
}

/// Everything that the gate's decision depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// Why nothing may move, if the federation is frozen or its store was restored.
    pub frozen: Option<String>,
    /// The newest epoch.
    pub epoch: u64,
    /// How current the controller's view is.
    pub source: Source,
    /// A view older than this counts as none, in milliseconds.
    pub max_source_age_ms: i64,
    /// Whether something replaces the copy.
    pub replacement: Replacement,
    /// The budget of the cause.
    pub budget: Budget,
    /// Increases with each question to the gate in this process; part of the permit's id.
    pub sequence: u64,
}

/// A removal that may be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    /// Epoch of the decision; the agent refuses an older one than it has seen.
    pub epoch: u64,
    /// Distinguishes permits of one epoch.
    pub sequence: u64,
    /// For people.
    pub reason: String,
}

impl Permit {
    /// `<epoch>-<sequence>`.
    pub fn id(&self) -> String {
        format!("{}-{}", self.epoch, self.sequence)
    }

    /// The same permit with a newer epoch. The caller must make sure that no freeze began between the question and the moment when that epoch
    /// was taken.
    #[must_use]
    pub fn under(self, epoch: u64) -> Self {
        Self { epoch: self.epoch.max(epoch), ..self }
    }
}

/// A removal that may not be made now.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{rule}: {message}")]
pub struct Refusal {
    /// The first rule that refused.
    pub rule: Rule,
    /// For people.
    pub message: String,
}

/// The rules, in the order in which they are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// Nothing moves.
    Frozen,
    /// The source is not synced.
    Unsynced,
    /// The source is too old.
    Stale,
    /// The decision is not the newest.
    OldEpoch,
    /// The last healthy copy has no ready replacement.
    LastCopy,
    /// Other removals of the same cause are still being counted.
    Counting,
    /// The cause exceeds its budget, and no person has decided yet.
    Budget,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Permits a removal, or says which rule refuses it.
pub fn permit(removal: &Removal, world: &Circumstances) -> Result<Permit, Refusal> {
    let refuse = |rule: Rule, message: String| Err(Refusal { rule, message });
    let what = format!("{} in {}", removal.object, removal.cluster);
    if let Some(reason) = &world.frozen {
        return refuse(Rule::Frozen, format!("{what} stays: nothing moves: {reason}"));
    }
    match world.source {
        Source::Unsynced => {
            return refuse(
                Rule::Unsynced,
                format!("{what} stays: the federation has not been read to its end yet"),
            );
        }
        Source::Synced { age_ms } if age_ms > world.max_source_age_ms => {
            return refuse(Rule::Stale, format!("{what} stays: what is known is {age_ms} ms old"));
        }
        Source::Synced { .. } => {}
    }
    if removal.epoch < world.epoch {
        return refuse(
            Rule::OldEpoch,
            format!("{what} stays: the decision of epoch {} is older than {}", removal.epoch, world.epoch),
        );
    }
    if world.replacement == Replacement::Missing && !removal.cause.asked() {
        return refuse(
            Rule::LastCopy,
            format!("{what} stays: it is the last healthy copy, and nothing replaces it yet"),
        );
    }
    let budget = world.budget;
    if let Some(limit) = budget.limit.filter(|_| !budget.confirmed) {
        if !budget.settled {
            return refuse(Rule::Counting, format!("{what} stays for a second: counting what else would go"));
        }
        if budget.over {
            return refuse(
                Rule::Budget,
                format!(
                    "{what} stays: {} copies would go besides {} that went, and {limit} may without a person's word",
                    budget.wanted, budget.used
                ),
            );
        }
    }
    Ok(Permit { epoch: removal.epoch, sequence: world.sequence, reason: format!("{:?}", removal.cause) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every combination of what the gate asks for, with the rules written a second time, as one table.
    #[test]
    fn in_every_small_world_the_first_violated_rule_speaks() {
        let causes = [Cause::Deleted, Cause::Unselected, Cause::Unjoined];
        let sources = [
            Source::Unsynced,
            Source::Synced { age_ms: 0 },
            Source::Synced { age_ms: 10 },
            Source::Synced { age_ms: 11 },
        ];
        let replacements = [Replacement::NotLast, Replacement::Ready, Replacement::Missing];
        let mut budgets = Vec::new();
        for limit in [None, Some(2)] {
            for over in [false, true] {
                for confirmed in [false, true] {
                    for settled in [false, true] {
                        budgets.push(Budget { used: 1, wanted: 1, limit, over, confirmed, settled });
                    }
                }
            }
        }
        let mut worlds = 0;
        let mut permitted = 0;
        for cause in causes {
            for frozen in [None, Some("mass failure".to_owned())] {
                for source in sources {
                    for (own, newest) in [(5, 5), (5, 4), (5, 6)] {
                        for replacement in replacements {
                            for &budget in &budgets {
                                let removal = Removal {
                                    cluster: "taiwan".into(),
                                    object: "Deployment shop/web".into(),
                                    cause,
                                    epoch: own,
                                };
                                let world = Circumstances {
                                    frozen: frozen.clone(),
                                    epoch: newest,
                                    source,
                                    max_source_age_ms: 10,
                                    replacement,
                                    budget,
                                    sequence: 7,
                                };
                                let asked = cause == Cause::Deleted;
                                let violated = [
                                    (Rule::Frozen, frozen.is_some()),
                                    (Rule::Unsynced, source == Source::Unsynced),
                                    (Rule::Stale, source == Source::Synced { age_ms: 11 }),
                                    (Rule::OldEpoch, newest > own),
                                    (Rule::LastCopy, replacement == Replacement::Missing && !asked),
                                    (
                                        Rule::Counting,
                                        budget.limit.is_some() && !budget.confirmed && !budget.settled,
                                    ),
                                    (
                                        Rule::Budget,
                                        budget.limit.is_some() && !budget.confirmed && budget.over,
                                    ),
                                ];
                                let expect =
                                    violated.iter().find(|(_, violated)| *violated).map(|(rule, _)| *rule);
                                let answer = permit(&removal, &world);
                                assert_eq!(
                                    answer.as_ref().err().map(|refusal| refusal.rule),
                                    expect,
                                    "{removal:?} {world:?}"
                                );
                                worlds += 1;
                                permitted += usize::from(answer.is_ok());
                            }
                        }
                    }
                }
            }
        }
        assert_eq!(worlds, 3 * 2 * 4 * 3 * 3 * 16);
        // 2 sources, 2 epochs; 8 budgets without a limit, 4 confirmed, 1 that is settled and not over; 3 replacements for what was
        // asked for, 2 for the rest.
        assert_eq!(permitted, 4 * 13 * (3 + 2 * 2));
    }

    #[test]
    fn a_permit_names_the_epoch_and_the_cause() {
        let removal = Removal {
            cluster: "taiwan".into(),
            object: "Secret shop/s".into(),
            cause: Cause::Deleted,
            epoch: 12,
        };
        let mut world = Circumstances {
            frozen: None,
            epoch: 12,
            source: Source::Synced { age_ms: 0 },
            max_source_age_ms: 1000,
            replacement: Replacement::Missing,
            budget: Budget::UNBOUNDED,
            sequence: 3,
        };
        let expect = Permit { epoch: 12, sequence: 3, reason: "Deleted".into() };
        assert_eq!(permit(&removal, &world), Ok(expect.clone()));
        assert_eq!((expect.id().as_str(), expect.under(15).id().as_str()), ("12-3", "15-3"));
        world.frozen = Some("2 of 2 clusters went bad at once".into());
        assert_eq!(
            permit(&removal, &world).map_err(|refusal| refusal.to_string()),
            Err("Frozen: Secret shop/s in taiwan stays: nothing moves: 2 of 2 clusters went bad at once"
                .into())
        );
    }
}
