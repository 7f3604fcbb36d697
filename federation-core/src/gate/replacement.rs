//! Whether another copy replaces one that is removed.

use crate::api::Verdict;

use super::Replacement;

/// Another copy of the same object, as its member last said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Other {
    /// On its cluster.
    pub verdict: Verdict,
    /// Generation of the template that the copy is of, if its agent has said so since it last connected: what it said before may have been
    /// so before the cluster was lost.
    pub applied: Option<i64>,
    /// The last answer was that the member does not take what is wanted.
    pub refused: bool,
    /// Whether pods run where the copy is to run them, by its own status; `None` for kinds whose status does not tell.
    pub runs: Option<bool>,
}

impl Replacement {
    /// Whether one of `others` stands in for a copy: it is of the generation that is wanted now, in a cluster that is well, its agent says
    /// so of the present, and where its kind's status tells whether it runs, it does. Of other kinds that it is there is all that is asked.
    pub fn among(others: impl IntoIterator<Item = Other>, wanted: i64) -> Self {
        let stands_in = |other: Other| {
            other.verdict == Verdict::Healthy
                && !other.refused
                && other.runs != Some(false)
                && other.applied.is_some_and(|generation| generation >= wanted)
        };
        if others.into_iter().any(stands_in) { Self::Ready } else { Self::Missing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Other = Other { verdict: Verdict::Healthy, applied: Some(3), refused: false, runs: None };

    #[test]
    fn only_a_copy_that_is_there_now_as_it_is_wanted_stands_in_for_another() {
        for (others, replacement) in [
            (vec![], Replacement::Missing),
            (vec![WELL], Replacement::Ready),
            (vec![Other { applied: Some(4), ..WELL }], Replacement::Ready),
            (vec![Other { applied: Some(2), ..WELL }], Replacement::Missing),
            (vec![Other { applied: None, ..WELL }], Replacement::Missing),
            (vec![Other { refused: true, ..WELL }], Replacement::Missing),
            (vec![Other { runs: Some(false), ..WELL }], Replacement::Missing),
            (vec![Other { runs: Some(true), ..WELL }], Replacement::Ready),
            (vec![Other { verdict: Verdict::HubUnreachable, ..WELL }], Replacement::Missing),
            (vec![Other { verdict: Verdict::Unknown, ..WELL }, WELL], Replacement::Ready),
        ] {
            assert_eq!(Replacement::among(others.clone(), 3), replacement, "{others:?}");
        }
    }
}
