//! Probe votes, split into messages of limited size.

use std::collections::HashMap;

use proto::v1;

/// Votes in one message: with the longest messages for people under a quarter of a MiB.
const VOTES_MAX: usize = 500;

/// Remembers what the hub was told on this stream.
#[derive(Default)]
pub(super) struct Told(HashMap<(String, String), (i32, bool)>);

impl Told {
    /// What turned since it was told, or failed first: this does not wait.
    pub(super) fn turned(&mut self, votes: Vec<v1::ProbeVote>) -> Vec<v1::ProbeVotes> {
        pieces(votes.into_iter().filter(|vote| self.note(vote)).collect())
    }

    /// Everything.
    pub(super) fn all(&mut self, votes: Vec<v1::ProbeVote>) -> Vec<v1::ProbeVotes> {
        self.0.clear();
        for vote in &votes {
            self.note(vote);
        }
        pieces(votes)
    }

    fn note(&mut self, vote: &v1::ProbeVote) -> bool {
        let says = (vote.state, vote.failures > 0);
        self.0.insert((vote.service.clone(), vote.cluster.clone()), says) != Some(says)
    }
}

fn pieces(votes: Vec<v1::ProbeVote>) -> Vec<v1::ProbeVotes> {
    votes.chunks(VOTES_MAX).map(|votes| v1::ProbeVotes { votes: votes.to_vec() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_turned_is_told_between_two_repetitions() {
        let vote = |cluster: &str, failures| v1::ProbeVote {
            cluster: cluster.into(),
            state: v1::ProbeState::Up.into(),
            failures,
            ..v1::ProbeVote::default()
        };
        let mut told = Told::default();
        assert_eq!(told.all(vec![vote("taiwan", 0), vote("tokyo", 0)])[0].votes.len(), 2);
        assert_eq!(told.turned(vec![vote("taiwan", 1), vote("tokyo", 0)])[0].votes, [vote("taiwan", 1)]);
        assert!(told.turned(vec![vote("taiwan", 2), vote("tokyo", 0)]).is_empty());
        let many: Vec<_> = (0..1200).map(|number| vote(&number.to_string(), 0)).collect();
        assert_eq!(told.all(many).len(), 3);
    }
}
