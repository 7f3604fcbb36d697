//! What a check of an object has found, and how much it may look at.

use apimachinery::FieldError;
use serde_json::Value;

use super::{Structural, check::check};
use crate::bounds::MOST_TOLD;

/// Values that are looked at of one object: a second's work or two. There is room in an object and in the alternatives of its schema for a million
/// times as many, and kube-apiserver would answer at some point that it took too long.
pub(super) const LOOKS_MAX: usize = 10_000_000;
/// Bytes of a text that count as a look.
pub(super) const LOOK_BYTES: usize = 64;

/// What is found of a value by an alternative.
pub(super) struct Outcome {
    /// How many checks count ([`check`]).
    pub(super) counted: u64,
    faults: Vec<FieldError>,
}

impl Outcome {
    pub(super) fn is_valid(&self) -> bool {
        self.faults.is_empty()
    }

    /// Whether more was checked, and found right: the faults of that alternative are told.
    pub(super) fn is_nearer(&self, other: &Self) -> bool {
        self.counted > other.counted
    }
}

/// What a walk has found, and how much it may still look at.
pub(super) struct Faults {
    found: Vec<FieldError>,
    looks: usize,
}

impl Faults {
    /// None yet.
    pub(super) fn new(looks: usize) -> Self {
        Self { found: Vec::new(), looks }
    }

    /// What was found; `None` if there was more to look at than there may be.
    pub(super) fn finish(self) -> Option<Vec<FieldError>> {
        (self.looks > 0).then_some(self.found)
    }

    /// Counts a look at a value; false if there is nothing more to be found.
    pub(super) fn look(&mut self, value: &Value) -> bool {
        self.spend(1 + value.as_str().map_or(0, |text| text.len() / LOOK_BYTES)) && !self.is_full()
    }

    /// Counts looks; false if there are no more.
    pub(super) fn spend(&mut self, looks: usize) -> bool {
        self.looks = self.looks.saturating_sub(looks);
        self.looks > 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.found.len() >= MOST_TOLD
    }

    pub(super) fn push(&mut self, fault: FieldError) {
        self.found.push(fault);
    }

    pub(super) fn extend(&mut self, faults: impl IntoIterator<Item = FieldError>) {
        self.found.extend(faults);
    }

    /// What is found of a value by another schema.
    pub(super) fn of(&mut self, schema: &Structural, value: &Value, path: &str) -> Outcome {
        let mut inner = Self::new(self.looks);
        let counted = check(schema, value, None, path, &mut inner);
        self.looks = inner.looks;
        Outcome { counted, faults: inner.found }
    }

    /// Takes in what was found so.
    pub(super) fn merge(&mut self, outcome: Outcome) {
        self.found.extend(outcome.faults);
    }
}
