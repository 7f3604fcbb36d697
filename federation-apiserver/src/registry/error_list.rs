//! Validation errors of an object.

use std::ops::Deref;

use apimachinery::{FieldError, field::FAULTS_MAX};

/// Bytes that those take that are kept: each may print a value of megabytes.
const BYTES_MAX: usize = 8 << 20;

/// Collects the errors of an object: the first ones, if there are too many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorList {
    errors: Vec<FieldError>,
    /// What their texts take.
    bytes: usize,
}

impl ErrorList {
    /// None yet.
    pub const fn new() -> Self {
        Self { errors: Vec::new(), bytes: 0 }
    }

    /// Keeps an error, if there is room.
    pub fn push(&mut self, error: FieldError) {
        if !self.is_full() {
            self.bytes += size(&error);
            self.errors.push(error);
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
        self.errors.len() >= FAULTS_MAX || self.bytes >= BYTES_MAX
    }

    /// Drops those that are not wanted.
    pub fn retain(&mut self, wanted: impl FnMut(&FieldError) -> bool) {
        self.errors.retain(wanted);
        self.bytes = self.errors.iter().map(size).sum();
    }

    /// Drops all.
    pub fn clear(&mut self) {
        self.errors.clear();
        self.bytes = 0;
    }
}

fn size(error: &FieldError) -> usize {
    error.field.len() + error.message.len()
}

impl Deref for ErrorList {
    type Target = [FieldError];

    fn deref(&self) -> &[FieldError] {
        &self.errors
    }
}

impl Extend<FieldError> for ErrorList {
    fn extend<T: IntoIterator<Item = FieldError>>(&mut self, errors: T) {
        let mut errors = errors.into_iter();
        while !self.is_full()
            && let Some(error) = errors.next()
        {
            self.push(error);
        }
    }
}

impl From<Vec<FieldError>> for ErrorList {
    fn from(errors: Vec<FieldError>) -> Self {
        errors.into_iter().collect()
    }
}

impl FromIterator<FieldError> for ErrorList {
    fn from_iter<T: IntoIterator<Item = FieldError>>(errors: T) -> Self {
        let mut all = Self::new();
        all.extend(errors);
        all
    }
}

impl IntoIterator for ErrorList {
    type Item = FieldError;
    type IntoIter = std::vec::IntoIter<FieldError>;

    fn into_iter(self) -> Self::IntoIter {
        self.errors.into_iter()
    }
}

impl<'a> IntoIterator for &'a ErrorList {
    type Item = &'a FieldError;
    type IntoIter = std::slice::Iter<'a, FieldError>;

    fn into_iter(self) -> Self::IntoIter {
        self.errors.iter()
    }
}

#[cfg(test)]
mod tests {
    use apimachinery::FieldPath;

    use super::*;

    #[test]
    fn the_first_are_kept() {
        let error = |index: usize| FieldError::required(&FieldPath::new("a").index(index), "");
        let mut errors = ErrorList::new();
        errors.extend((0..10).map(error));
        assert!(!errors.is_full());
        errors.extend((10..FAULTS_MAX * 2).map(error));
        errors.push(error(0));
        assert_eq!(errors.len(), FAULTS_MAX);
        assert_eq!(errors.last(), Some(&error(FAULTS_MAX - 1)));
    }

    #[test]
    fn those_are_kept_that_there_is_room_for() {
        let large = || FieldError::invalid(&FieldPath::new("a"), "x".repeat(BYTES_MAX / 4), "");
        let mut errors = ErrorList::new();
        errors.extend(std::iter::repeat_with(large));
        assert_eq!((errors.len(), errors.is_full()), (4, true));
        errors.push(large());
        assert_eq!(errors.len(), 4);
        let mut left = 1;
        errors.retain(|_| std::mem::take(&mut left) == 1);
        assert_eq!((errors.len(), errors.is_full()), (1, false));
    }
}
