//! The members' reports about their copies of one template.

use std::collections::BTreeMap;
use std::sync::Arc;

use federation_core::placement;
use serde_json::Value;

use proto::v1;

/// The newest word of one member about its copy.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Report {
    /// uid of the template that the copy is of.
    pub(crate) uid: String,
    /// Template generation that the member holds.
    pub(crate) applied_generation: Option<i64>,
    /// It has said so in the agent's present session.
    pub(crate) applied_now: bool,
    /// `Applied`, or why not.
    pub(crate) reason: String,
    /// For people.
    pub(crate) message: String,
    /// The member refused this generation for good.
    pub(crate) refused_generation: Option<i64>,
    /// The copy's `.status`.
    pub(crate) status: Option<Arc<Value>>,
    /// Template generation of the copy that `status` is of.
    pub(crate) status_generation: i64,
    /// metadata.generation of the copy that `status` is of; 0 where the kind has none.
    pub(crate) member_generation: i64,
    /// Epoch of the manifest of the copy that `status` is of; 0 from agents that do not tell.
    pub(crate) status_epoch: u64,
    /// Since when the statuses say that no replica exists, Unix milliseconds of the hub's clock.
    pub(crate) down_since_ms: Option<i64>,
    /// Whether `status` came in the agent's present session: an older one is no observation of now.
    pub(crate) current: bool,
    /// Epoch of the manifest that was given when the copy might have been gone: words of a copy of an older one may be of before that.
    pub(crate) given_anew: u64,
    /// For Services: how the copy is reached.
    pub(crate) service: Option<v1::ServiceState>,
    /// Whether `service` came in the agent's present session.
    pub(crate) service_now: bool,
}

/// By cluster. Shared, because many read and one writes, and because a map's smallest node has room for eleven.
pub(crate) type Reports = BTreeMap<String, Arc<Report>>;

impl Report {
    /// Takes in an outcome; says whether anything changed that others see.
    pub(crate) fn applied(&mut self, applied: &v1::Applied) -> bool {
        let before = self.clone();
        self.start(&applied.uid);
        match applied.result() {
            v1::ApplyResult::Applied => {
                self.applied_generation = self.applied_generation.max(Some(applied.generation));
                self.refused_generation = None;
                self.reason =
                    if applied.reason.is_empty() { "Applied".into() } else { applied.reason.clone() };
                self.message.clone_from(&applied.message);
            }
            v1::ApplyResult::Refused => {
                self.refused_generation = Some(applied.generation);
                self.reason.clone_from(&applied.reason);
                self.message.clone_from(&applied.message);
            }
            v1::ApplyResult::Retrying | v1::ApplyResult::Unspecified => {
                self.reason.clone_from(&applied.reason);
                self.message.clone_from(&applied.message);
            }
        }
        let changed = *self != before;
        // Nothing that others see.
        self.applied_now |= applied.result() == v1::ApplyResult::Applied && self.is_of_now(applied.epoch);
        changed
    }

    /// The agent connected anew: what it said before is no observation of now.
    pub(crate) fn age(&mut self) {
        self.current = false;
        self.applied_now = false;
        self.service_now = false;
    }

    /// The copy may be gone, or go just now, and is given anew with a manifest of that epoch. Whether that changes how a Service is reached.
    pub(crate) fn give_anew(&mut self, uid: &str, epoch: u64) -> bool {
        self.start(uid);
        self.age();
        self.given_anew = epoch;
        self.service.take_if(|state| !placement::is_of_given(state.epoch, epoch)).is_some()
    }

    /// Whether words of a copy of that epoch's manifest are of the copy that there is to be.
    fn is_of_now(&self, epoch: u64) -> bool {
        placement::is_of_given(epoch, self.given_anew)
    }

    /// Takes in a status; says whether anything changed. `now_ms` is Unix time.
    pub(crate) fn status(&mut self, status: &v1::ObjectStatus, now_ms: i64) -> bool {
        let before = self.clone();
        self.start(&status.uid);
        match serde_json::from_slice::<Value>(&status.status) {
            Ok(value) => self.status = Some(Arc::new(value)),
            // A status that is no JSON is the member's mistake: the last good one stays.
            Err(error) => tracing::debug!(%error, "a member's status is no JSON"),
        }
        self.status_generation = status.generation;
        self.member_generation = status.member_generation;
        self.status_epoch = status.epoch;
        self.down_since_ms = self.says_down().then(|| self.down_since_ms.unwrap_or(now_ms));
        self.current = self.is_of_now(status.epoch);
        *self != before
    }

    /// The member's own controllers have seen the copy's spec, and run nothing for it.
    fn says_down(&self) -> bool {
        let Some(status) = &self.status else { return false };
        let number = |field: &str| status.get(field).and_then(Value::as_i64).unwrap_or_default();
        number("observedGeneration") >= self.member_generation && number("replicas") == 0
    }

    /// The manifest could not be rendered for this member.
    pub(crate) fn not_rendered(&mut self, uid: &str, message: &str) {
        self.start(uid);
        self.reason = "FailedRender".into();
        message.clone_into(&mut self.message);
    }

    /// Takes in a Service's state; says whether anything changed.
    pub(crate) fn service(&mut self, state: &v1::ServiceState) -> bool {
        self.start(&state.uid);
        if !self.is_of_now(state.epoch) {
            return false;
        }
        self.service_now = true;
        if self.service.as_ref() == Some(state) {
            return false;
        }
        self.service = Some(state.clone());
        true
    }

    /// The agent does not hold the copy of that uid (any more): how it was reached in an earlier session is of the past. Whether anything was
    /// known of that.
    pub(crate) fn unlisted(&mut self, uid: &str) -> bool {
        let of_the_past = self.uid == uid && !self.service_now;
        of_the_past && self.service.take().is_some()
    }

    /// Words about another object of that name are forgotten when the first word about a new one comes.
    fn start(&mut self, uid: &str) {
        if self.uid != uid {
            *self = Self { uid: uid.to_owned(), ..Self::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(uid: &str, generation: i64, result: v1::ApplyResult, reason: &str) -> v1::Applied {
        v1::Applied {
            uid: uid.into(),
            generation,
            result: result.into(),
            reason: reason.into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_refusal_keeps_the_generation_that_the_member_holds() {
        let mut report = Report::default();
        assert!(report.applied(&applied("u", 1, v1::ApplyResult::Applied, "")));
        assert!(report.applied(&applied("u", 2, v1::ApplyResult::Refused, "Invalid")));
        assert_eq!(report.applied_generation, Some(1));
        assert_eq!(report.refused_generation, Some(2));
        assert_eq!(report.reason, "Invalid");
    }

    #[test]
    fn an_object_made_anew_starts_without_its_predecessors_words() {
        let mut report = Report::default();
        report.applied(&applied("old", 7, v1::ApplyResult::Applied, ""));
        report.applied(&applied("new", 1, v1::ApplyResult::Retrying, "Unavailable"));
        assert_eq!(report.applied_generation, None);
    }

    #[test]
    fn what_was_applied_is_known_of_now_only_from_the_present_session() {
        let mut report = Report::default();
        report.applied(&applied("u", 1, v1::ApplyResult::Applied, ""));
        assert!(report.applied_now);
        report.age();
        assert_eq!((report.applied_now, report.applied_generation), (false, Some(1)));
        assert!(!report.applied(&applied("u", 1, v1::ApplyResult::Applied, "")), "others see nothing of it");
        assert!(report.applied_now);
    }

    #[test]
    fn words_of_a_copy_that_may_have_gone_since_are_none_of_the_one_that_is_given_anew() {
        let status =
            |epoch| v1::ObjectStatus { uid: "u".into(), epoch, status: "{}".into(), ..Default::default() };
        let is_applied = |epoch| v1::Applied { epoch, ..applied("u", 1, v1::ApplyResult::Applied, "") };
        let mut report = Report::default();
        report.status(&status(4), 1);
        report.give_anew("u", 6);
        // They were on their way.
        report.status(&status(4), 1);
        report.applied(&is_applied(4));
        assert!(!report.current && !report.applied_now);
        report.applied(&is_applied(6));
        report.status(&status(6), 1);
        assert!(report.current && report.applied_now);
    }

    #[test]
    fn how_a_service_was_reached_before_its_copy_is_given_anew_counts_no_more() {
        let state = |epoch| v1::ServiceState { uid: "u".into(), epoch, ..v1::ServiceState::default() };
        let mut report = Report::default();
        assert!(report.service(&state(4)));
        assert!(report.give_anew("u", 6) && report.service.is_none());
        // It was on its way.
        assert!(!report.service(&state(4)) && report.service.is_none() && !report.service_now);
        assert!(report.service(&state(6)) && report.service.is_some() && report.service_now);
    }

    #[test]
    fn an_agent_that_does_not_tell_whose_state_a_services_is_is_believed() {
        let state = v1::ServiceState { uid: "u".into(), ..v1::ServiceState::default() };
        let mut report = Report::default();
        assert!(report.service(&state));
        assert!(!report.give_anew("u", 6) && report.service.is_some());
        assert!(!report.service(&state) && report.service_now, "it is as it was");
    }

    #[test]
    fn how_a_service_was_reached_is_forgotten_when_a_new_session_does_not_hold_it() {
        let state = v1::ServiceState { uid: "u".into(), ready_endpoints: 2, ..v1::ServiceState::default() };
        let mut report = Report::default();
        assert!(report.service(&state));
        assert!(!report.unlisted("u") && report.service.is_some(), "it was said in this session");
        report.age();
        assert!(!report.unlisted("another's") && report.service.is_some());
        assert!(!report.service(&state) && !report.unlisted("u"), "it was said again: it is still there");
        report.age();
        assert!(report.unlisted("u") && report.service.is_none());
        assert!(!report.unlisted("u"), "and no more");
    }

    #[test]
    fn the_same_word_twice_changes_nothing() {
        let mut report = Report::default();
        assert!(report.applied(&applied("u", 1, v1::ApplyResult::Applied, "")));
        assert!(!report.applied(&applied("u", 1, v1::ApplyResult::Applied, "")));
    }
}
