//! Probe votes, split into messages of limited size.

use std::collections::HashMap;

use proto::v1;

/// Votes in one message: with the longest messages for people under a quarter of a MiB.
const VOTES_MAX: usize = 500;

/// What was sent to the hub on this stream.
#[derive(Default)]
pub(super) struct SentVotes(HashMap<(String, String), (i32, bool)>);

impl SentVotes {
    /// What changed since it was sent, or failed first: this does not wait.
    pub(super) fn changed(&mut self, votes: Vec<v1::ProbeVote>) -> Vec<v1::ProbeVotes> {
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
    fn only_what_changed_is_sent_between_two_repetitions() {
        let vote = |cluster: &str, failures| v1::ProbeVote {
            cluster: cluster.into(),
            state: v1::ProbeState::Up.into(),
            failures,
            ..v1::ProbeVote::default()
        };
        let mut sent = SentVotes::default();
        assert_eq!(sent.all(vec![vote("taiwan", 0), vote("tokyo", 0)])[0].votes.len(), 2);
        assert_eq!(sent.changed(vec![vote("taiwan", 1), vote("tokyo", 0)])[0].votes, [vote("taiwan", 1)]);
        assert!(sent.changed(vec![vote("taiwan", 2), vote("tokyo", 0)]).is_empty());
        let many: Vec<_> = (0..1200).map(|number| vote(&number.to_string(), 0)).collect();
        assert_eq!(sent.all(many).len(), 3);
    }
}
