//! Names of kinds that live as long as the process.
//!
//! A row of the table borrows its names from the program text, and a custom kind is a row like any other. Each distinct name
//! is kept once and never given back: validation bounds it to 253 bytes, and a definition has about ten of them, so even a server
//! that sees a hundred thousand different definitions in its life keeps less than they take in the store.

use std::{collections::HashSet, sync::LazyLock};

use parking_lot::Mutex;

static TEXTS: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);
static LISTS: LazyLock<Mutex<HashSet<&'static [&'static str]>>> = LazyLock::new(Mutex::default);
static PAIRS: LazyLock<Mutex<HashSet<Pairs>>> = LazyLock::new(Mutex::default);

type Pairs = &'static [(&'static str, &'static str)];

/// The one copy of a text.
pub(super) fn text(text: &str) -> &'static str {
    let mut known = TEXTS.lock();
    if let Some(found) = known.get(text) {
        return found;
    }
    let kept: &'static str = Box::leak(text.to_owned().into_boxed_str());
    known.insert(kept);
    kept
}

/// The one copy of a list of texts.
pub(super) fn list<'a>(texts: impl IntoIterator<Item = &'a str>) -> &'static [&'static str] {
    let texts: Vec<_> = texts.into_iter().map(text).collect();
    let mut known = LISTS.lock();
    if let Some(found) = known.get(texts.as_slice()) {
        return found;
    }
    let kept: &'static [&'static str] = Box::leak(texts.into_boxed_slice());
    known.insert(kept);
    kept
}

/// The one copy of a list of pairs.
pub(super) fn pairs(pairs: &[(String, String)]) -> Pairs {
    let pairs: Vec<_> = pairs.iter().map(|(one, other)| (text(one), text(other))).collect();
    let mut known = PAIRS.lock();
    if let Some(found) = known.get(pairs.as_slice()) {
        return found;
    }
    let kept: Pairs = Box::leak(pairs.into_boxed_slice());
    known.insert(kept);
    kept
}
