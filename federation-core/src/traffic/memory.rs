//! What is kept from one decision to the next, over restarts too.

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
