//! Objects of one kind that are read all together, and change one at a time.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// The objects, by namespace and name. Whoever reads them gets a list that is made once after a change, so that a thousand changes in a row do
/// not make a thousand lists.
#[derive(Debug)]
pub(crate) struct Shelf<T> {
    objects: BTreeMap<(String, String), T>,
    all: OnceLock<Arc<Vec<T>>>,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), all: OnceLock::new() }
    }
}

impl<T: Clone + PartialEq> Shelf<T> {
    /// Keeps an object, or forgets it if it is gone. Says whether that changes anything: a list tells all again.
    pub(crate) fn set(&mut self, namespace: String, name: String, object: Option<T>) -> bool {
        let key = (namespace, name);
        if self.objects.get(&key) == object.as_ref() {
            return false;
        }
        self.all = OnceLock::new();
        match object {
            Some(object) => self.objects.insert(key, object),
            None => self.objects.remove(&key),
        };
        true
    }

    /// All of them, in order. The same list while nothing changes.
    pub(crate) fn all(&self) -> Arc<Vec<T>> {
        self.all.get_or_init(|| Arc::new(self.objects.values().cloned().collect())).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_made_anew_only_when_something_has_changed() {
        let mut shelf = Shelf::default();
        let key = |name: &str| ("shop".to_owned(), name.to_owned());
        let set = |shelf: &mut Shelf<u32>, name: &str, object| {
            let (namespace, name) = key(name);
            shelf.set(namespace, name, object)
        };
        assert!(!set(&mut shelf, "b", None));
        assert!(set(&mut shelf, "b", Some(1)));
        set(&mut shelf, "a", Some(2));
        let first = shelf.all();
        assert_eq!(*first, [2, 1]);
        assert!(!set(&mut shelf, "b", Some(1)) && Arc::ptr_eq(&first, &shelf.all()), "told again");
        set(&mut shelf, "b", Some(3));
        set(&mut shelf, "a", None);
        assert_eq!((&**first, &**shelf.all()), (&[2, 1][..], &[3][..]), "who reads is not disturbed");
    }
}
