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

impl<T: Clone> Shelf<T> {
    /// Keeps an object, or forgets it if it is gone.
    pub(crate) fn set(&mut self, namespace: String, name: String, object: Option<T>) {
        self.all = OnceLock::new();
        match object {
            Some(object) => self.objects.insert((namespace, name), object),
            None => self.objects.remove(&(namespace, name)),
        };
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
            shelf.set(namespace, name, object);
        };
        set(&mut shelf, "b", Some(1));
        set(&mut shelf, "a", Some(2));
        let first = shelf.all();
        assert_eq!(*first, [2, 1]);
        assert!(Arc::ptr_eq(&first, &shelf.all()));
        set(&mut shelf, "b", Some(3));
        set(&mut shelf, "a", None);
        assert_eq!((&**first, &**shelf.all()), (&[2, 1][..], &[3][..]), "who reads is not disturbed");
    }
}
