//! One cluster: its evidence, and hysteresis and flap damping of its verdict.

use crate::api::Verdict;

use super::judge::{ApiServer, Evidence, Heartbeats, Rule, judge};
use super::view::{AgentWord, Report, ReportedVote, View};
use super::vote::Votes;
use super::{Options, Quorum, is_bad};

/// Milliseconds of silence before the soonest word of probers on it: a blip and a timeout, less what a message takes.
const SOONEST_MS: i64 = crate::probe::BLIP_MS + 500;

/// What is remembered of one cluster.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) verdict: Verdict,
    pub(super) rule: Rule,
    pub(super) since_ms: i64,
    pub(super) reason: String,
    pub(super) last_heartbeat_ms: Option<i64>,
    /// Silence counts from here: the last heartbeat, moved on by our own stalls; at first the end of the grace.
    pub(super) silent_from_ms: i64,
    /// Missed heartbeats that a lost session stands for.
    pub(super) head_start: u32,
    pub(super) good: u32,
    pub(super) api_bad: u32,
    pub(super) api_message: String,
    pub(super) votes: Votes,
    users_served: bool,
    /// When a quorum last said anything about its users.
    data_heard_ms: Option<i64>,
    /// When survivors said that they had taken over what ran here, unless probers have judged it since.
    doubted_ms: Option<i64>,
    /// Since when voters disagree.
    split_since_ms: Option<i64>,
    penalty: f64,
    penalty_at_ms: i64,
    held_down: bool,
    /// What is heard of it now is bad, whatever the verdict: one that is held down goes on flapping.
    unwell: bool,
    /// When it last turned from well to bad.
    pub(super) fell_ms: Option<i64>,
    /// An operator ended a freeze that named it: no freeze is found for it again until it has been well.
    pub(super) given_up: bool,
}

/// Where a verdict goes.
pub(super) struct Turn {
    pub(super) to: Verdict,
    pub(super) rule: Rule,
    pub(super) reason: String,
}

impl Member {
    pub(super) fn new(options: &Options, now_ms: i64) -> Self {
        Self {
            verdict: Verdict::Unknown,
            rule: Rule::NotHeardYet,
            since_ms: now_ms,
            reason: "no heartbeat yet".into(),
            last_heartbeat_ms: None,
            silent_from_ms: now_ms.saturating_add(options.startup_grace_ms),
            head_start: 0,
            good: 0,
            api_bad: 0,
            api_message: String::new(),
            votes: Votes::default(),
            users_served: false,
            data_heard_ms: None,
            doubted_ms: None,
            split_since_ms: None,
            penalty: 0.0,
            penalty_at_ms: now_ms,
            held_down: false,
            unwell: false,
            fell_ms: None,
            given_up: false,
        }
    }

    /// Forgets of every moment how much later than now it is. The grace of a new cluster may end later.
    pub(super) fn not_after(&mut self, options: &Options, now_ms: i64) {
        let clamp = |at_ms: &mut i64| *at_ms = now_ms.min(*at_ms);
        clamp(&mut self.since_ms);
        clamp(&mut self.penalty_at_ms);
        [
            &mut self.last_heartbeat_ms,
            &mut self.data_heard_ms,
            &mut self.doubted_ms,
            &mut self.split_since_ms,
            &mut self.fell_ms,
        ]
        .into_iter()
        .flatten()
        .for_each(clamp);
        let grace_ms = if self.last_heartbeat_ms.is_some() { 0 } else { options.startup_grace_ms };
        self.silent_from_ms = self.silent_from_ms.min(now_ms.saturating_add(grace_ms));
        self.votes.not_after(now_ms);
    }

    pub(super) fn view(&self) -> View {
        View {
            verdict: self.verdict,
            rule: self.rule,
            since_ms: self.since_ms,
            reason: self.reason.clone(),
            last_heartbeat_ms: self.last_heartbeat_ms,
            users_served: self.users_served,
        }
    }

    pub(super) fn report(&self, options: &Options, now_ms: i64) -> Report {
        let age = |at_ms: i64| now_ms.saturating_sub(at_ms).max(0);
        let evidence = self.evidence(options, now_ms);
        Report {
            view: self.view(),
            agent: AgentWord {
                age_ms: self.last_heartbeat_ms.map(age),
                missed: u32::try_from(self.missed(options, now_ms)).unwrap_or(u32::MAX),
                api_ok: self.last_heartbeat_ms.is_some() && self.api_bad == 0,
                api_message: self.api_message.clone(),
            },
            data: evidence.data,
            votes: self
                .votes
                .iter(now_ms)
                .map(|(service, voter, vote, counts)| ReportedVote {
                    service: service.to_owned(),
                    voter: voter.clone(),
                    vote: vote.clone(),
                    age_ms: age(vote.at_ms),
                    counts,
                })
                .collect(),
            penalty: self.decayed(options, now_ms),
            held_down: self.held_down,
        }
    }

    /// Whether so many heartbeats are missing that it is silence.
    pub(super) fn is_silent(&self, options: &Options, now_ms: i64) -> bool {
        self.missed(options, now_ms) >= i64::from(options.fall.max(1))
    }

    /// About to fall: all but one of the heartbeats that may be missed are, or it is silent for as long as probers need to say of another one
    /// that its users are not served; or nobody sees users served without a failure.
    pub(super) fn is_suspect(&self, options: &Options, now_ms: i64) -> bool {
        let beat_ms = options.heartbeat_ms;
        let nearly_ms = (i64::from(options.fall.max(1)) - 1).max(1) * beat_ms;
        let silence_ms = now_ms.saturating_sub(self.silent_from_ms) + i64::from(self.head_start) * beat_ms;
        silence_ms >= nearly_ms.min(SOONEST_MS.max(beat_ms + beat_ms / 2))
            || self.api_bad + 1 >= options.fall.max(2)
            || self.votes.wavers(now_ms)
    }

    pub(super) fn users_served(&self) -> bool {
        self.users_served
    }

    fn missed(&self, options: &Options, now_ms: i64) -> i64 {
        let silence = now_ms.saturating_sub(self.silent_from_ms);
        if silence < 0 {
            return 0;
        }
        silence / options.heartbeat_ms.max(1) + i64::from(self.head_start)
    }

    fn evidence(&self, options: &Options, now_ms: i64) -> Evidence {
        let silent = self.is_silent(options, now_ms);
        let heartbeats = match self.last_heartbeat_ms {
            _ if silent => Heartbeats::Silent,
            None => Heartbeats::Never,
            Some(_) => Heartbeats::Arrive,
        };
        let api = if self.api_bad >= options.fall.max(1) { ApiServer::Silent } else { ApiServer::Answers };
        Evidence { heartbeats, api, data: self.votes.together(silent, now_ms) }
    }

    /// Draws conclusions. What only others' words changed is noted without a turn.
    pub(super) fn conclude(&mut self, options: &Options, now_ms: i64) -> Option<Turn> {
        let evidence = self.evidence(options, now_ms);
        if evidence.heartbeats == Heartbeats::Silent {
            self.good = 0;
            // What was known of its API server is old now.
            self.api_bad = 0;
        }
        if !matches!(evidence.data, Quorum::None) {
            self.data_heard_ms = Some(now_ms);
        }
        let disagree = matches!(evidence.data, Quorum::Split | Quorum::Alone);
        self.split_since_ms = disagree.then(|| self.split_since_ms.unwrap_or(now_ms));
        let (to, rule) = match judge(evidence) {
            (Verdict::Healthy, _) if self.is_doubted(options, evidence.data, now_ms) => {
                (Verdict::Unknown, Rule::TakenOver)
            }
            judged => judged,
        };
        self.note_flap(to, options, now_ms);
        let may = match to {
            Verdict::Unknown => rule == Rule::TakenOver && !is_bad(self.verdict),
            Verdict::Healthy => self.may_rise(options, evidence.data, now_ms),
            Verdict::Partitioned => self.may_part(options, now_ms),
            Verdict::HubUnreachable | Verdict::ApiDown => {
                self.verdict != Verdict::DataPlaneDown
                    || (!self.holds_unseen(options, evidence.data, now_ms) && !self.is_held(options, now_ms))
            }
            Verdict::DataPlaneDown => true,
        };
        // While voters disagree, what they last agreed on holds.
        let served = match evidence.data {
            Quorum::Up => true,
            Quorum::Split => self.users_served,
            Quorum::None | Quorum::Down | Quorum::Alone => false,
        };
        let users_turned = std::mem::replace(&mut self.users_served, served) != served;
        if !may {
            return (users_turned && is_bad(self.verdict))
                .then(|| self.turn(self.verdict, self.rule, evidence, now_ms));
        }
        if to == self.verdict && !is_bad(to) {
            // From well to well nothing moves.
            if self.rule != rule {
                self.rule = rule;
                self.reason = self.reason(to, rule, evidence, now_ms);
            }
            return None;
        }
        (to != self.verdict || rule != self.rule || users_turned)
            .then(|| self.turn(to, rule, evidence, now_ms))
    }

    fn turn(&self, to: Verdict, rule: Rule, evidence: Evidence, now_ms: i64) -> Turn {
        Turn { to, rule, reason: self.reason(to, rule, evidence, now_ms) }
    }

    /// Takes a turn that [`Self::conclude`] gave; says what the verdict was.
    pub(super) fn take(
        &mut self,
        turn: &Turn,
        users_before: bool,
        options: &Options,
        now_ms: i64,
    ) -> Verdict {
        let from = std::mem::replace(&mut self.verdict, turn.to);
        self.rule = turn.rule;
        self.reason.clone_from(&turn.reason);
        // Users who were served until now need not move for what was bad before.
        if from != turn.to || users_before != self.users_served {
            self.since_ms = now_ms;
        }
        if turn.to == Verdict::Healthy {
            self.fell_ms = None;
            self.held_down = false;
        } else if is_bad(turn.to) && !is_bad(from) {
            self.fell_ms = Some(now_ms);
            self.punish(options, now_ms);
        }
        from
    }

    /// Whether good news are good enough.
    fn may_rise(&mut self, options: &Options, data: Quorum, now_ms: i64) -> bool {
        if self.verdict == Verdict::Healthy {
            return true;
        }
        let enough = if self.verdict == Verdict::Unknown { 1 } else { options.rise.max(1) };
        if self.good < enough || self.holds_unseen(options, data, now_ms) {
            return false;
        }
        !self.is_held(options, now_ms)
    }

    /// Whether it has flapped too much to be trusted yet.
    fn is_held(&self, options: &Options, now_ms: i64) -> bool {
        self.held_down && self.decayed(options, now_ms) > options.flap_reuse
    }

    /// Whether voters have disagreed long enough. Where users were not served, they must agree that they are.
    fn may_part(&self, options: &Options, now_ms: i64) -> bool {
        self.verdict != Verdict::DataPlaneDown
            && self.split_since_ms.is_some_and(|since| now_ms.saturating_sub(since) >= options.split_ms)
    }

    /// Users were not served when somebody last looked, and nobody has said since that they are.
    fn holds_unseen(&self, options: &Options, data: Quorum, now_ms: i64) -> bool {
        self.verdict == Verdict::DataPlaneDown
            && data != Quorum::Up
            && self.data_heard_ms.is_some_and(|heard| now_ms.saturating_sub(heard) < options.unseen_hold_ms)
    }

    /// The verdict is an earlier controller's: what it saw, somebody saw just before that one ended.
    pub(super) fn restored(&mut self, verdict: Verdict, since_ms: i64, now_ms: i64) {
        self.verdict = verdict;
        self.rule = Rule::Restored;
        self.since_ms = since_ms.min(now_ms);
        // Who was judged bad before the restart counts as fallen now: a freeze of before is found again.
        self.fell_ms = Some(now_ms);
        self.data_heard_ms = (verdict == Verdict::DataPlaneDown).then_some(now_ms);
        self.reason = "still as the controller left it".into();
    }

    /// Survivors agreed that users are not served here, while nobody judged it from the hub.
    pub(super) fn doubt(&mut self, now_ms: i64) {
        self.doubted_ms = Some(now_ms);
    }

    /// Whether heartbeats alone do not make it well: survivors took it for lost, and no quorum has said anything since.
    fn is_doubted(&mut self, options: &Options, data: Quorum, now_ms: i64) -> bool {
        let holds = |since: &i64| now_ms.saturating_sub(*since) < options.unseen_hold_ms;
        self.doubted_ms =
            self.doubted_ms.filter(|since| !matches!(data, Quorum::Up | Quorum::Down) && holds(since));
        self.doubted_ms.is_some()
    }

    fn reason(&self, verdict: Verdict, rule: Rule, evidence: Evidence, now_ms: i64) -> String {
        let silence = match self.last_heartbeat_ms {
            Some(last) => format!("no heartbeat for {} ms", now_ms.saturating_sub(last)),
            None => "no heartbeat since the start".to_owned(),
        };
        let wrong = match verdict {
            Verdict::ApiDown => format!("its API server does not answer its agent: {}", self.api_message),
            _ if evidence.heartbeats == Heartbeats::Silent => silence,
            _ => "heartbeats arrive".to_owned(),
        };
        match rule {
            Rule::NotHeardYet => "no heartbeat yet".into(),
            Rule::TakenOver => {
                "heartbeats arrive; survivors took over what ran here, and no quorum of probers has judged it since".into()
            }
            Rule::HeartbeatsArrive => wrong,
            Rule::AllWell => "heartbeats arrive, and probes see users served".into(),
            Rule::UsersServed if self.users_served => format!("{wrong}; but probes see users served"),
            Rule::UsersServed | Rule::NobodyElseLooks | Rule::AgentSaysSo => wrong,
            Rule::VotersDisagree | Rule::QuorumFails | Rule::SilentAndUnserved => {
                format!("{wrong}; {}", self.votes_in_words(now_ms))
            }
            Rule::Restored => self.reason.clone(),
        }
    }

    fn votes_in_words(&self, now_ms: i64) -> String {
        let counted: Vec<_> = self.votes.iter(now_ms).filter(|(.., counts)| *counts).collect();
        let failing: Vec<String> = counted
            .iter()
            .filter(|(_, _, vote, _)| vote.outcome == super::Outcome::Down)
            .map(|(service, voter, vote, _)| format!("{voter} on {service}: {}", vote.message))
            .collect();
        let first = failing.first().map(|first| format!(" ({first})")).unwrap_or_default();
        format!("{} of {} votes say that users are not served{first}", failing.len(), counted.len())
    }

    fn decayed(&self, options: &Options, now_ms: i64) -> f64 {
        let age = now_ms.saturating_sub(self.penalty_at_ms).max(0) as f64;
        self.penalty * (-age / options.flap_half_life_ms.max(1) as f64).exp2()
    }

    /// Falls count while it is held down, too (RFC 2439, section 4.4.2): it stays so until it has been quiet, and not until it has paid
    /// for the first falls. Voters that disagree are between well and bad.
    fn note_flap(&mut self, heard: Verdict, options: &Options, now_ms: i64) {
        let unwell = match heard {
            Verdict::Healthy => false,
            Verdict::DataPlaneDown | Verdict::HubUnreachable | Verdict::ApiDown => true,
            Verdict::Partitioned | Verdict::Unknown => return,
        };
        let fell = !std::mem::replace(&mut self.unwell, unwell) && unwell;
        if fell && self.held_down {
            self.punish(options, now_ms);
        }
    }

    fn punish(&mut self, options: &Options, now_ms: i64) {
        // Twice the limit is the most, so that a cluster is held down for a bounded time.
        self.penalty = (self.decayed(options, now_ms) + 1.0).min(options.flap_limit * 2.0);
        self.penalty_at_ms = now_ms;
        if self.penalty > options.flap_limit {
            self.held_down = true;
        }
    }

    pub(super) fn deadline_ms(&self, options: &Options) -> Option<i64> {
        let fall = i64::from(options.fall.max(1));
        let silent = (self.verdict != Verdict::HubUnreachable).then(|| {
            let beats = (fall - i64::from(self.head_start)).max(0);
            self.silent_from_ms.saturating_add(beats.saturating_mul(options.heartbeat_ms))
        });
        let reuse = (self.held_down && self.good > 0 && options.flap_reuse > 0.0).then(|| {
            let half_lives = (self.penalty / options.flap_reuse).log2().max(0.0);
            self.penalty_at_ms.saturating_add((half_lives * options.flap_half_life_ms as f64).ceil() as i64)
        });
        let split = self.split_since_ms.map(|since| since.saturating_add(options.split_ms));
        silent.into_iter().chain(reuse).chain(split).min()
    }
}
