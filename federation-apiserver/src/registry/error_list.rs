//! Validation errors of an object.

use std::ops::Deref;

use apimachinery::FieldError;

/// Faults that are kept. More than are ever told, so that the first are told in any case; a body of 3 MiB can have millions, of hundreds of
/// bytes each.
const FAULTS_MAX: usize = 4096;

/// Collects the faults of an object: the first ones, if there are too many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(Vec<FieldError>);

impl Faults {
    /// None yet.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Keeps a fault, if there is room.
    pub fn push(&mut self, fault: FieldError) {
        if !self.is_full() {
            self.0.push(fault);
        }
    }

    /// Keeps what others find.
    pub fn gather(&mut self, find: impl FnOnce(&mut Vec<FieldError>)) {
        let mut found = Vec::new();
        find(&mut found);
        self.extend(found);
    }

    /// Whether there may be more than are kept.
    pub fn is_full(&self) -> bool {
        self.0.len() >= FAULTS_MAX
    }

    /// Drops those that are not wanted.
    pub fn retain(&mut self, wanted: impl FnMut(&FieldError) -> bool) {
        self.0.retain(wanted);
    }

    /// Drops all.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl Deref for Faults {
    type Target = [FieldError];

    fn deref(&self) -> &[FieldError] {
        &self.0
    }
}

impl Extend<FieldError> for Faults {
    fn extend<T: IntoIterator<Item = FieldError>>(&mut self, faults: T) {
        let room = FAULTS_MAX.saturating_sub(self.0.len());
        self.0.extend(faults.into_iter().take(room));
    }
}

impl From<Vec<FieldError>> for Faults {
    fn from(mut faults: Vec<FieldError>) -> Self {
        faults.truncate(FAULTS_MAX);
        Self(faults)
    }
}

impl FromIterator<FieldError> for Faults {
    fn from_iter<T: IntoIterator<Item = FieldError>>(faults: T) -> Self {
        let mut all = Self::new();
        all.extend(faults);
        all
    }
}

impl IntoIterator for Faults {
    type Item = FieldError;
    type IntoIter = std::vec::IntoIter<FieldError>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a FieldError;
    type IntoIter = std::slice::Iter<'a, FieldError>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use apimachinery::FieldPath;

    use super::*;

    #[test]
    fn the_first_are_kept() {
        let fault = |index: usize| FieldError::required(&FieldPath::new("a").index(index), "");
        let mut faults = Faults::new();
        faults.extend((0..10).map(fault));
        assert!(!faults.is_full());
        faults.extend((10..FAULTS_MAX * 2).map(fault));
        faults.push(fault(0));
        assert_eq!(faults.len(), FAULTS_MAX);
        assert_eq!(faults.last(), Some(&fault(FAULTS_MAX - 1)));
    }
}
