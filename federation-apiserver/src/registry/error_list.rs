//! Validation errors of an object.

use std::ops::Deref;

use apimachinery::FieldError;

/// Errors that are kept. More than are ever told, so that the first are told in any case; a body of 3 MiB can have millions, of hundreds of
/// bytes each.
const ERRORS_MAX: usize = 4096;

/// Collects the errors of an object: the first ones, if there are too many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorList(Vec<FieldError>);

impl ErrorList {
    /// None yet.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Keeps an error, if there is room.
    pub fn push(&mut self, error: FieldError) {
        if !self.is_full() {
            self.0.push(error);
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
        self.0.len() >= ERRORS_MAX
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

impl Deref for ErrorList {
    type Target = [FieldError];

    fn deref(&self) -> &[FieldError] {
        &self.0
    }
}

impl Extend<FieldError> for ErrorList {
    fn extend<T: IntoIterator<Item = FieldError>>(&mut self, errors: T) {
        let room = ERRORS_MAX.saturating_sub(self.0.len());
        self.0.extend(errors.into_iter().take(room));
    }
}

impl From<Vec<FieldError>> for ErrorList {
    fn from(mut errors: Vec<FieldError>) -> Self {
        errors.truncate(ERRORS_MAX);
        Self(errors)
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
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a ErrorList {
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
        let error = |index: usize| FieldError::required(&FieldPath::new("a").index(index), "");
        let mut errors = ErrorList::new();
        errors.extend((0..10).map(error));
        assert!(!errors.is_full());
        errors.extend((10..ERRORS_MAX * 2).map(error));
        errors.push(error(0));
        assert_eq!(errors.len(), ERRORS_MAX);
        assert_eq!(errors.last(), Some(&error(ERRORS_MAX - 1)));
    }
}
