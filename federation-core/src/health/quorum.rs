//! The quorum of several probers' votes.

/// What the probers that count say of a Service in a cluster, or of a cluster as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Quorum {
    /// Nobody says anything that counts.
    #[default]
    None,
    /// More than half say that users are served.
    Up,
    /// At least two, and more than half, say that they are not.
    Down,
    /// The only one says that they are not: one word is no quorum.
    Alone,
    /// Neither side has more than half.
    Split,
}

/// Counts heads.
pub fn tally(ups: usize, downs: usize) -> Quorum {
    match (ups, downs) {
        (0, 0) => Quorum::None,
        (0, 1) => Quorum::Alone,
        _ if ups > downs => Quorum::Up,
        _ if downs > ups => Quorum::Down,
        _ => Quorum::Split,
    }
}

/// What the Services of a cluster say of it together: where users of one Service are served, the failure of another is that other
/// Service's own. `None` where there is no Service, or none is probed.
pub(super) fn of_services(services: impl IntoIterator<Item = Quorum>) -> Quorum {
    let mut together = Quorum::None;
    for quorum in services {
        together = match (together, quorum) {
            (Quorum::Up, _) | (_, Quorum::Up) => return Quorum::Up,
            (said, Quorum::None) => said,
            (Quorum::None, said) => said,
            (Quorum::Split, _) | (_, Quorum::Split) => Quorum::Split,
            // The word of one about two Services is still the word of one.
            (Quorum::Alone, Quorum::Alone) => Quorum::Alone,
            (Quorum::Down | Quorum::Alone, Quorum::Down | Quorum::Alone) => Quorum::Down,
        };
    }
    together
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_withdrawn_on_the_word_of_one() {
        for ups in 0..6 {
            for downs in 0..6 {
                let quorum = tally(ups, downs);
                assert_eq!(quorum == Quorum::Down, downs >= 2 && downs > ups, "{ups} up, {downs} down");
                assert_eq!(quorum == Quorum::Up, ups > downs, "{ups} up, {downs} down");
                assert_eq!(quorum == Quorum::Alone, (ups, downs) == (0, 1));
                assert_eq!(quorum == Quorum::None, (ups, downs) == (0, 0));
            }
        }
    }

    #[test]
    fn a_cluster_serves_if_one_of_its_services_does() {
        use Quorum::{Alone, Down, None, Split, Up};
        for (services, whole) in [
            (vec![], None),
            (vec![None, None], None),
            (vec![Down, Up, Split], Up),
            (vec![Down, None], Down),
            (vec![Down, Split], Split),
            (vec![Alone, Alone], Alone),
            (vec![Alone, Down], Down),
        ] {
            assert_eq!(of_services(services.clone()), whole, "{services:?}");
            assert_eq!(of_services(services.into_iter().rev()), whole);
        }
    }
}
