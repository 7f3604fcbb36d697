//! The truth table: what follows from one cluster's evidence, without memory.
//!
//! | heartbeats | its API server | data plane | verdict | rule |
//! |---|---|---|---|---|
//! | any | any | Down | DataPlaneDown | `QuorumFails` |
//! | silent | | Alone | DataPlaneDown | `SilentAndUnserved` |
//! | silent | | Split | Partitioned | `VotersDisagree` |
//! | silent | | Up | HubUnreachable | `UsersServed` |
//! | silent | | None | HubUnreachable | `NobodyElseLooks` |
//! | arrive | down | Split, Alone | Partitioned | `VotersDisagree` |
//! | arrive | down | Up | ApiDown | `UsersServed` |
//! | arrive | down | None | ApiDown | `AgentSaysSo` |
//! | arrive | ok | Split, Alone | Partitioned | `VotersDisagree` |
//! | arrive | ok | Up | Healthy | `AllWell` |
//! | arrive | ok | None | Healthy | `HeartbeatsArrive` |
//! | never yet | | anything but Down | Unknown | `NotHeardYet` |
//!
//! Silent heartbeats are a word of the hub's own: a single prober that fails agrees with them, while against heartbeats that arrive it is
//! one word against another. The table knows nothing of what was before: a cluster that survivors took for lost while the hub was away is
//! not Healthy before probers have judged it (`TakenOver`). What the words move is decided elsewhere: users leave a cluster that is DataPlaneDown, and nobody leaves
//! one where users are served or of which the voters disagree.

use std::fmt;

use crate::api::Verdict;

use super::Quorum;

/// Whether heartbeats come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Heartbeats {
    /// None was ever heard, and the grace is not over.
    Never,
    /// They come.
    Arrive,
    /// So many are missing that it is no accident.
    Silent,
}

/// What the agent says of its member's API server. Silent agents say nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ApiServer {
    /// It answers.
    Answers,
    /// So many heartbeats in a row said that it does not.
    Silent,
}

/// All that counts about one cluster at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Evidence {
    /// Of its agent.
    pub heartbeats: Heartbeats,
    /// Through its agent.
    pub api: ApiServer,
    /// What the probers say together.
    pub data: Quorum,
}

/// The row of the table that decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// No heartbeat was ever heard.
    #[default]
    NotHeardYet,
    /// Heartbeats arrive, the API server answers, users are served.
    AllWell,
    /// Heartbeats arrive and the API server answers; nobody probes.
    HeartbeatsArrive,
    /// Something is wrong, and users are served all the same.
    UsersServed,
    /// Heartbeats are silent, and nobody looks from elsewhere.
    NobodyElseLooks,
    /// The agent says that its API server does not answer, and nobody probes.
    AgentSaysSo,
    /// Probers disagree with each other, or the only one with the agent.
    VotersDisagree,
    /// The probers' quorum says that users are not served.
    QuorumFails,
    /// The only prober fails, and heartbeats are silent.
    SilentAndUnserved,
    /// Heartbeats arrive, and survivors took it for lost while the hub was away: they are not enough until probers have judged it.
    TakenOver,
    /// An earlier run of the controller left it so.
    Restored,
}

impl Rule {
    /// The row, for people.
    pub fn text(self) -> &'static str {
        match self {
            Self::NotHeardYet => "no heartbeat was ever heard: no verdict",
            Self::AllWell => "heartbeats arrive, its API server answers, users are served",
            Self::HeartbeatsArrive => "heartbeats arrive and its API server answers; nobody probes",
            Self::UsersServed => "something is wrong, and users are served all the same: nothing moves",
            Self::NobodyElseLooks => "heartbeats are silent, and nobody looks from elsewhere",
            Self::AgentSaysSo => "its agent says that its API server does not answer; nobody probes",
            Self::VotersDisagree => "probers disagree, or the only one with the agent: nothing moves",
            Self::QuorumFails => "the probers' quorum says that users are not served",
            Self::SilentAndUnserved => "heartbeats are silent, and the only prober sees users not served",
            Self::TakenOver => {
                "heartbeats arrive, but survivors took it for lost: no verdict before probers have judged it"
            }
            Self::Restored => "an earlier run of the controller left it so",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

/// The verdict that follows, and the rule that says so.
pub fn judge(evidence: Evidence) -> (Verdict, Rule) {
    let Evidence { heartbeats, api, data } = evidence;
    match (heartbeats, api, data) {
        (_, _, Quorum::Down) => (Verdict::DataPlaneDown, Rule::QuorumFails),
        (Heartbeats::Never, ..) => (Verdict::Unknown, Rule::NotHeardYet),
        (Heartbeats::Silent, _, Quorum::Alone) => (Verdict::DataPlaneDown, Rule::SilentAndUnserved),
        (Heartbeats::Silent, _, Quorum::Up) => (Verdict::HubUnreachable, Rule::UsersServed),
        (Heartbeats::Silent, _, Quorum::None) => (Verdict::HubUnreachable, Rule::NobodyElseLooks),
        (_, _, Quorum::Split | Quorum::Alone) => (Verdict::Partitioned, Rule::VotersDisagree),
        (Heartbeats::Arrive, ApiServer::Silent, Quorum::Up) => (Verdict::ApiDown, Rule::UsersServed),
        (Heartbeats::Arrive, ApiServer::Silent, Quorum::None) => (Verdict::ApiDown, Rule::AgentSaysSo),
        (Heartbeats::Arrive, ApiServer::Answers, Quorum::Up) => (Verdict::Healthy, Rule::AllWell),
        (Heartbeats::Arrive, ApiServer::Answers, Quorum::None) => (Verdict::Healthy, Rule::HeartbeatsArrive),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table above, written out: every combination stands in exactly one row.
    fn expected(evidence: Evidence) -> (Verdict, Rule) {
        use {ApiServer as A, Heartbeats as H, Quorum as Q, Rule as R, Verdict as V};
        type Row = (&'static [H], &'static [A], &'static [Q], V, R);
        const ALL: &[A] = &[A::Answers, A::Silent];
        let rows: [Row; 12] = [
            (&[H::Never, H::Arrive, H::Silent], ALL, &[Q::Down], V::DataPlaneDown, R::QuorumFails),
            (&[H::Silent], ALL, &[Q::Alone], V::DataPlaneDown, R::SilentAndUnserved),
            (&[H::Silent], ALL, &[Q::Split], V::Partitioned, R::VotersDisagree),
            (&[H::Silent], ALL, &[Q::Up], V::HubUnreachable, R::UsersServed),
            (&[H::Silent], ALL, &[Q::None], V::HubUnreachable, R::NobodyElseLooks),
            (&[H::Arrive], &[A::Silent], &[Q::Split, Q::Alone], V::Partitioned, R::VotersDisagree),
            (&[H::Arrive], &[A::Silent], &[Q::Up], V::ApiDown, R::UsersServed),
            (&[H::Arrive], &[A::Silent], &[Q::None], V::ApiDown, R::AgentSaysSo),
            (&[H::Arrive], &[A::Answers], &[Q::Split, Q::Alone], V::Partitioned, R::VotersDisagree),
            (&[H::Arrive], &[A::Answers], &[Q::Up], V::Healthy, R::AllWell),
            (&[H::Arrive], &[A::Answers], &[Q::None], V::Healthy, R::HeartbeatsArrive),
            (&[H::Never], ALL, &[Q::None, Q::Up, Q::Split, Q::Alone], V::Unknown, R::NotHeardYet),
        ];
        let holds = |row: &&Row| {
            row.0.contains(&evidence.heartbeats)
                && row.1.contains(&evidence.api)
                && row.2.contains(&evidence.data)
        };
        let found: Vec<_> = rows.iter().filter(holds).collect();
        assert_eq!(found.len(), 1, "{evidence:?} stands in {} rows", found.len());
        (found[0].3, found[0].4)
    }

    fn every_evidence() -> impl Iterator<Item = Evidence> {
        let heartbeats = [Heartbeats::Never, Heartbeats::Arrive, Heartbeats::Silent];
        heartbeats.into_iter().flat_map(|heartbeats| {
            [ApiServer::Answers, ApiServer::Silent].into_iter().flat_map(move |api| {
                let data = [Quorum::None, Quorum::Up, Quorum::Down, Quorum::Alone, Quorum::Split];
                data.into_iter().map(move |data| Evidence { heartbeats, api, data })
            })
        })
    }

    #[test]
    fn every_combination_of_votes_has_the_verdict_of_the_table() {
        assert_eq!(every_evidence().count(), 30);
        for evidence in every_evidence() {
            assert_eq!(judge(evidence), expected(evidence), "{evidence:?}");
        }
    }

    #[test]
    fn only_failing_probes_say_that_users_are_not_served() {
        for evidence in every_evidence() {
            let down = judge(evidence).0 == Verdict::DataPlaneDown;
            assert!(!down || matches!(evidence.data, Quorum::Down | Quorum::Alone), "{evidence:?}");
            // One prober alone moves nothing while the agent says that all is well.
            assert!(!down || evidence.heartbeats == Heartbeats::Silent || evidence.data == Quorum::Down);
        }
    }

    #[test]
    fn what_the_hub_cannot_see_is_not_down_while_users_are_served() {
        for evidence in every_evidence().filter(|evidence| evidence.data == Quorum::Up) {
            let (verdict, _) = judge(evidence);
            assert!(!matches!(verdict, Verdict::DataPlaneDown | Verdict::Partitioned), "{evidence:?}");
        }
    }
}
