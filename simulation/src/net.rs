//! The network: who reaches whom.

use std::collections::BTreeMap;

use crate::dice::Dice;

/// A place in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Node {
    /// The controller, its hub and the API.
    Hub,
    /// A member with its agent.
    Site(usize),
    /// A DNS server.
    Server(usize),
}

/// The ways between nodes. A way may be shut in one direction only.
#[derive(Debug, Default)]
pub(crate) struct Net {
    // Until when.
    shut: BTreeMap<(Node, Node), u64>,
}

impl Net {
    pub(crate) fn shut(&mut self, from: Node, to: Node, until: u64) {
        let end = self.shut.entry((from, to)).or_default();
        *end = (*end).max(until);
    }

    pub(crate) fn heal(&mut self) {
        self.shut.clear();
    }

    pub(crate) fn is_open(&self, from: Node, to: Node, now: u64) -> bool {
        self.shut.get(&(from, to)).is_none_or(|until| now >= *until)
    }

    /// Whether a question gets its answer.
    pub(crate) fn talk(&self, one: Node, other: Node, now: u64) -> bool {
        self.is_open(one, other, now) && self.is_open(other, one, now)
    }
}

/// How long a message takes, milliseconds.
pub(crate) fn delay(dice: &mut Dice) -> u64 {
    // Mostly fast, now and then slow.
    if dice.chance(50) { dice.between(100, 1500) } else { dice.between(1, 120) }
}
