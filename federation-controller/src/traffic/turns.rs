//! Clusters that come into the answers of a Service, or go out of them: told to people, and counted.

use std::collections::BTreeMap;

use federation_core::traffic::Explanation;

use super::TrafficContext;
use crate::metrics::AnswerLabel;
use crate::observe::{KINDS, Key};

/// Whether users of a Service (`namespace/service`) by a policy are sent to a cluster.
type Answered = BTreeMap<(String, String, String), bool>;

/// What the answers were when they were last looked at.
#[derive(Default)]
pub(super) struct Turns(Answered);

impl Turns {
    /// Those that turned. What was not there before turns nothing: its first answer is no failover.
    fn turned<'e>(&mut self, explanations: &'e [Explanation]) -> Vec<&'e Explanation> {
        let now = explanations.iter().filter(|why| !why.cluster.is_empty());
        let mut seen = Answered::new();
        let mut turned = Vec::new();
        for why in now {
            let of = (why.object.clone(), why.policy.clone(), why.cluster.clone());
            if self.0.get(&of).is_some_and(|before| *before != why.answered) {
                turned.push(why);
            }
            seen.insert(of, why.answered);
        }
        self.0 = seen;
        turned
    }

    /// Tells of those that turned: an Event on the Service, and the counter.
    pub(super) fn tell(&mut self, context: &TrafficContext, explanations: &[Explanation]) {
        for why in self.turned(explanations) {
            let to = if why.answered { "on" } else { "off" };
            context.metrics.answers.get_or_create(&AnswerLabel { cluster: why.cluster.clone(), to }).inc();
            let (namespace, name) = why.object.split_once('/').unwrap_or_default();
            let Some(service) = KINDS.iter().find(|kind| kind.is_service()) else { continue };
            let Some(template) = context.world.template(&Key::new(service, namespace, name)) else {
                continue;
            };
            let (kind, reason, word) = if why.answered {
                ("Normal", "ClusterAnswered", "users are sent to")
            } else {
                ("Warning", "ClusterWithdrawn", "no users are sent any more to")
            };
            let message = format!("{word} {}: {}: {}", why.cluster, why.rule, why.message);
            context.recorder.tell(&template, kind, reason, &message, &why.cluster);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(cluster: &str, answered: bool) -> Explanation {
        Explanation {
            object: "shop/web".into(),
            policy: String::new(),
            cluster: cluster.into(),
            answered,
            rule: if answered { "Serving" } else { "ProbesFail" },
            message: String::new(),
        }
    }

    #[test]
    fn what_turns_is_told_once_and_what_is_new_is_not() {
        let mut turns = Turns::default();
        let clusters = |turned: Vec<&Explanation>| -> Vec<(String, bool)> {
            turned.into_iter().map(|why| (why.cluster.clone(), why.answered)).collect()
        };
        assert!(turns.turned(&[why("taiwan", true), why("tokyo", false)]).is_empty());
        let lost = [why("taiwan", false), why("tokyo", true), why("osaka", true)];
        assert_eq!(clusters(turns.turned(&lost)), [("taiwan".to_owned(), false), ("tokyo".to_owned(), true)]);
        assert!(turns.turned(&lost).is_empty());
        assert!(turns.turned(&[]).is_empty());
        assert!(turns.turned(&lost).is_empty(), "a Service that is made anew");
    }
}
