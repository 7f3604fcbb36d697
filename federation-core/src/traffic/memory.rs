//! State that is kept from one traffic decision to the next, and over restarts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Address;

/// What is answered: by `namespace/service`, by cluster, its addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Answers(pub BTreeMap<String, BTreeMap<String, Vec<Address>>>);

/// Everything that a decision has to know of those before it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// What was answered for each Service, by any of its names.
    #[serde(default)]
    pub answers: Answers,
    /// By `namespace/service/policy`; the policy is empty where a Service has none.
    #[serde(default)]
    pub fronts: BTreeMap<String, FrontMemory>,
}

/// What is kept of one Service under one policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontMemory {
    /// By cluster.
    pub clusters: BTreeMap<String, ClusterMemory>,
    /// What automation withdrew, oldest first, as far back as the policy's window goes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withdrawn: Vec<Withdrawal>,
    /// Whether there ever was an answer.
    #[serde(default)]
    pub answered: bool,
}

/// What is kept of one cluster under one policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterMemory {
    /// Whether it is answered.
    pub on: bool,
    /// Since when, Unix milliseconds; 0 if it was so from the beginning.
    pub since_ms: i64,
    /// When its users began to be sent elsewhere because it is drained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_ms: Option<i64>,
    /// Its addresses when they were last known.
    #[serde(default)]
    pub addresses: Vec<Address>,
}

/// A cluster that automation took out of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawal {
    /// Unix milliseconds.
    pub at_ms: i64,
    /// Which.
    pub cluster: String,
    /// Its weight then.
    pub weight: u32,
}

impl FrontMemory {
    /// The memory with nothing in it later than now; none if nothing is. A clock that was set back would make holds, drains and the
    /// window of withdrawals last for as long as it was set back: what it is not known how long it lasted, lasts from now.
    pub(super) fn not_after(&self, now_ms: i64) -> Option<Self> {
        let is_later = |at_ms: i64| at_ms > now_ms;
        let later = self.withdrawn.iter().any(|withdrawal| is_later(withdrawal.at_ms))
            || self
                .clusters
                .values()
                .any(|cluster| is_later(cluster.since_ms) || cluster.drain_ms.is_some_and(is_later));
        if !later {
            return None;
        }
        let mut memory = self.clone();
        for cluster in memory.clusters.values_mut() {
            cluster.since_ms = cluster.since_ms.min(now_ms);
            cluster.drain_ms = cluster.drain_ms.map(|drain_ms| drain_ms.min(now_ms));
        }
        for withdrawal in &mut memory.withdrawn {
            withdrawal.at_ms = withdrawal.at_ms.min(now_ms);
        }
        Some(memory)
    }

    /// From what is known to be answered for a Service whose policy is new.
    pub(super) fn seeded(answered: &BTreeMap<String, Vec<Address>>) -> Self {
        let clusters = answered
            .iter()
            .map(|(cluster, addresses)| {
                let memory =
                    ClusterMemory { on: true, since_ms: 0, drain_ms: None, addresses: addresses.clone() };
                (cluster.clone(), memory)
            })
            .collect();
        Self { clusters, withdrawn: Vec::new(), answered: !answered.is_empty() }
    }
}
