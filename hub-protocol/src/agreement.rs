//! Whether the survivors agree that the hub is away and that clusters are lost: a function of their words.
//!
//! The voters are the agents of all members and the DNS servers where they meet. Four rules, and the first that speaks decides:
//!
//! 1. *One who hears the hub is enough*: then it is not away, however many do not hear it.
//! 2. *More than half of all voters must be heard*, oneself included, those in lost clusters counted. So a minority, an agent that is
//!    cut off alone, and the smaller side of a partition never agree on anything, and no two sides ever do.
//! 3. *More than half of the clusters lost at once are none*: it is rather a fault of who looks.
//! 4. *A cluster is lost* when at least two, and more than half, of the others who probe it see that its users are not served. It counts
//!    as lost for as long as that many have seen it so without a break.
//!
//! Who meets others here has shown by that that it is not cut off: a prober's failures count although nothing else answers it.

use std::collections::BTreeMap;

use federation_core::contingency::is_mass_failure;
use federation_core::health::{Quorum, tally};
use proto::v1;

/// A word counts for so long, milliseconds: three rounds of those who hear the hub.
pub const WORD_LIFE_MS: u64 = 12_000;

/// A word, and when it was said on the clock of who asks.
#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    /// Milliseconds.
    pub at: u64,
    /// What was said.
    pub word: v1::Word,
}

/// What follows from the words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// The hub is not away: this voter hears it, or heard it just now.
    HubHeard {
        /// The voter.
        by: String,
    },
    /// Too few are heard to agree on anything.
    TooFew {
        /// Voters that are heard.
        heard: usize,
        /// Voters.
        of: usize,
    },
    /// So many clusters are lost that nobody acts.
    Frozen {
        /// Their names.
        lost: Vec<String>,
    },
    /// The hub is away. By cluster name, for how many milliseconds it has been lost; none if all are well.
    Lost(BTreeMap<String, u64>),
}

/// The name of an agent as a voter.
pub fn agent(cluster: &str) -> String {
    format!("agent/{cluster}")
}

/// The name of a DNS server as a voter.
pub fn server(instance: &str) -> String {
    format!("dns/{instance}")
}

/// Whether a word is one of the council's voters': of an agent, whether it speaks for the cluster that has the name now. A certificate of
/// an earlier version names no uid, and a server of one tells none: their word counts by the name.
pub fn is_voter(council: &v1::Council, word: &v1::Word) -> bool {
    let is_server = |point: &v1::MeetingPoint| server(&point.instance) == word.voter;
    match council.clusters.iter().position(|cluster| agent(cluster) == word.voter) {
        Some(at) => {
            let uid = council.uids.get(at).map(String::as_str).unwrap_or_default();
            uid.is_empty() || word.uid.is_empty() || uid == word.uid
        }
        None => council.servers.iter().any(is_server),
    }
}

/// What the words come to at `now`. Words of others than the council's voters count for nothing.
pub fn agree(council: &v1::Council, words: &BTreeMap<String, Heard>, now: u64) -> Agreement {
    let voters: Vec<String> = council
        .clusters
        .iter()
        .map(|cluster| agent(cluster))
        .chain(council.servers.iter().map(|point| server(&point.instance)))
        .collect();
    let fresh: BTreeMap<&str, &Heard> = voters
        .iter()
        .filter_map(|voter| {
            let heard = words.get(voter)?;
            (now.saturating_sub(heard.at) < WORD_LIFE_MS).then_some((voter.as_str(), heard))
        })
        .collect();
    let away_ms = u64::from(council.away_ms);
    if let Some((by, _)) = fresh.iter().find(|(_, heard)| heard.word.hub_silent_ms < away_ms) {
        return Agreement::HubHeard { by: (*by).to_owned() };
    }
    if fresh.len() * 2 <= voters.len() {
        return Agreement::TooFew { heard: fresh.len(), of: voters.len() };
    }
    let lost: BTreeMap<String, u64> = council
        .clusters
        .iter()
        .filter_map(|cluster| Some((cluster.clone(), lost_for(cluster, &fresh)?)))
        .collect();
    if is_mass_failure(lost.len(), council.clusters.len()) {
        return Agreement::Frozen { lost: lost.into_keys().collect() };
    }
    Agreement::Lost(lost)
}

/// For how long a quorum has seen that users are not served there; `None` if none does.
fn lost_for(cluster: &str, fresh: &BTreeMap<&str, &Heard>) -> Option<u64> {
    let own = agent(cluster);
    let mut ups = 0;
    let mut downs = Vec::new();
    for (voter, heard) in fresh {
        let Some(seen) = heard.word.seen.iter().find(|seen| seen.cluster == cluster) else { continue };
        if **voter == own {
            continue;
        }
        if seen.down {
            downs.push(seen.for_ms);
        } else {
            ups += 1;
        }
    }
    if tally(ups, downs.len()) != Quorum::Down {
        return None;
    }
    downs.sort_unstable_by(|a, b| b.cmp(a));
    // So many are needed for a quorum; the last of them has seen it for the shortest time.
    let needed = (ups + 1).max(2);
    downs.get(needed - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AWAY: u64 = 10_000;

    fn council(clusters: &[&str], servers: &[&str]) -> v1::Council {
        v1::Council {
            clusters: clusters.iter().map(|name| (*name).into()).collect(),
            servers: servers
                .iter()
                .map(|name| v1::MeetingPoint { instance: (*name).into(), addresses: vec![] })
                .collect(),
            away_ms: AWAY as u32,
            uids: clusters.iter().map(|name| format!("uid of {name}")).collect(),
        }
    }

    #[test]
    fn the_agent_of_a_cluster_that_has_left_votes_for_no_other_of_its_name() {
        let council = council(&["taiwan", "tokyo"], &["one"]);
        let counts = |voter: String, uid: &str| {
            is_voter(&council, &v1::Word { voter, uid: uid.into(), ..v1::Word::default() })
        };
        assert!(counts(agent("tokyo"), "uid of tokyo"));
        assert!(!counts(agent("tokyo"), "uid of taiwan"));
        assert!(!counts(agent("osaka"), "uid of tokyo"));
        assert!(counts(agent("tokyo"), ""), "of a certificate that names no uid");
        assert!(counts(server("one"), "") && !counts(server("two"), ""));
    }

    /// Who says it, since when the hub is silent, and what is seen: `-taiwan:5000` is down for 5 s.
    fn words(said: &[(&str, u64, &str)]) -> BTreeMap<String, Heard> {
        let seen = |text: &str| {
            let (name, for_ms) = text.split_once(':').unwrap_or((text, "0"));
            let cluster = name.trim_start_matches(['-', '+']).to_owned();
            v1::Seen { cluster, down: name.starts_with('-'), for_ms: for_ms.parse().unwrap_or(0) }
        };
        said.iter()
            .map(|(voter, hub_silent_ms, text)| {
                let seen = text.split_whitespace().map(seen).collect();
                let word = v1::Word {
                    voter: (*voter).into(),
                    hub_silent_ms: *hub_silent_ms,
                    seen,
                    ..v1::Word::default()
                };
                ((*voter).to_owned(), Heard { at: 100_000, word })
            })
            .collect()
    }

    fn lost(of: &[(&str, u64)]) -> Agreement {
        Agreement::Lost(of.iter().map(|(name, ms)| ((*name).to_owned(), *ms)).collect())
    }

    #[track_caller]
    fn check(council: &v1::Council, said: &[(&str, u64, &str)], expected: Agreement) {
        assert_eq!(agree(council, &words(said), 100_500), expected);
    }

    #[test]
    fn of_two_clusters_the_survivor_and_a_dns_server_agree() {
        let two = council(&["taiwan", "tokyo"], &["one"]);
        let tokyo = ("agent/tokyo", AWAY, "-taiwan:5000");
        check(&two, &[tokyo, ("dns/one", AWAY, "-taiwan:7000 +tokyo")], lost(&[("taiwan", 5000)]));
        // One who hears it, or who sees the cluster, is enough.
        check(
            &two,
            &[tokyo, ("dns/one", 0, "-taiwan:7000 +tokyo")],
            Agreement::HubHeard { by: "dns/one".into() },
        );
        check(&two, &[tokyo, ("dns/one", AWAY, "+taiwan +tokyo")], lost(&[]));
        check(&two, &[("agent/tokyo", AWAY, ""), ("dns/one", AWAY, "-taiwan:7000")], lost(&[]));
        // Nobody acts alone.
        check(&two, &[tokyo], Agreement::TooFew { heard: 1, of: 3 });
        check(&council(&["taiwan", "tokyo"], &[]), &[tokyo], Agreement::TooFew { heard: 1, of: 2 });
    }

    #[test]
    fn what_the_lost_clusters_own_agent_sees_of_it_is_no_word() {
        let two = council(&["taiwan", "tokyo"], &["one"]);
        let said = [
            ("agent/taiwan", AWAY, "+taiwan -tokyo:9000"),
            ("agent/tokyo", AWAY, "-taiwan:1000"),
            ("dns/one", AWAY, "-taiwan:900"),
        ];
        check(&two, &said, lost(&[("taiwan", 900)]));
    }

    #[test]
    fn a_loss_lasts_as_long_as_a_quorum_has_seen_it() {
        let three = council(&["osaka", "taiwan", "tokyo"], &["one", "two"]);
        let said = [
            ("agent/tokyo", AWAY, "-taiwan:50000"),
            ("agent/osaka", AWAY, "+taiwan"),
            ("dns/one", AWAY, "-taiwan:40000"),
            ("dns/two", AWAY, "-taiwan:10"),
        ];
        check(&three, &said, lost(&[("taiwan", 40_000)]));
        check(&three, &said[..3], lost(&[("taiwan", 40_000)]));
        check(&three, &said[..2], Agreement::TooFew { heard: 2, of: 5 });
    }

    #[test]
    fn more_than_half_lost_is_frozen() {
        let three = council(&["osaka", "taiwan", "tokyo"], &["one", "two"]);
        let all = "-taiwan:9000 -osaka:100";
        let said = [("agent/tokyo", AWAY, all), ("dns/one", AWAY, all), ("dns/two", AWAY, all)];
        check(&three, &said, Agreement::Frozen { lost: vec!["osaka".into(), "taiwan".into()] });
    }

    #[test]
    fn words_that_are_old_or_of_strangers_are_none() {
        let two = council(&["taiwan", "tokyo"], &["one"]);
        let mut said = words(&[("agent/tokyo", AWAY, "-taiwan:1"), ("dns/two", AWAY, "-taiwan:1")]);
        assert_eq!(agree(&two, &said, 100_000), Agreement::TooFew { heard: 1, of: 3 });
        said.insert("dns/one".into(), Heard { at: 100_000 - WORD_LIFE_MS, ..said["dns/two"].clone() });
        assert_eq!(agree(&two, &said, 100_000), Agreement::TooFew { heard: 1, of: 3 });
        assert_eq!(agree(&two, &said, 99_999), lost(&[("taiwan", 1)]));
    }

    /// Whatever each voter can hear, two of them never agree from disjoint sides, and nobody agrees while a voter whom it hears hears the hub.
    #[test]
    fn no_two_sides_of_a_partition_agree() {
        for (clusters, servers) in [(2, 1), (2, 2), (3, 1), (3, 2), (4, 1)] {
            let clusters: Vec<String> = (0..clusters).map(|number| format!("c{number}")).collect();
            let servers: Vec<String> = (0..servers).map(|number| format!("s{number}")).collect();
            let of = |names: &[String]| -> Vec<&'static str> {
                names.iter().map(|name| &*name.clone().leak()).collect()
            };
            let council = council(&of(&clusters), &of(&servers));
            let voters: Vec<String> = clusters
                .iter()
                .map(|name| agent(name))
                .chain(servers.iter().map(|name| server(name)))
                .collect();
            for side in 0_u32..1 << voters.len() {
                let agrees = |bits: u32| {
                    let here: Vec<(&str, u64, &str)> = voters
                        .iter()
                        .enumerate()
                        .filter(|(at, _)| bits >> at & 1 == 1)
                        .map(|(_, voter)| (voter.as_str(), AWAY, "-c0:99"))
                        .collect();
                    matches!(agree(&council, &words(&here), 100_000), Agreement::Lost(lost) if !lost.is_empty())
                };
                let other = !side & ((1 << voters.len()) - 1);
                assert!(!(agrees(side) && agrees(other)), "both {side:b} and {other:b} of {voters:?}");
            }
        }
    }
}
