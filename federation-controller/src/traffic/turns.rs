//! Clusters that come into the answers of a Service, or go out of them: told to people, and counted.

use std::collections::{BTreeMap, BTreeSet};

use federation_core::traffic::Explanation;

use crate::act::events::Recorder;
use crate::metrics::{AnswerLabel, Metrics};
use crate::observe::{KINDS, Key, World};

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

    /// Tells of those that turned: an Event on the Service, and the counter. This waits for nothing: every decision is looked at.
    pub(super) fn tell(
        &mut self,
        world: &World,
        metrics: &Metrics,
        recorder: &Recorder,
        explanations: &[Explanation],
    ) {
        let mut counted = BTreeSet::new();
        for why in self.turned(explanations) {
            let to = if why.answered { "on" } else { "off" };
            // A Service is one, however many policies it has; and what is counted of a cluster is forgotten when it leaves.
            if counted.insert((&why.object, &why.cluster, to)) && world.cluster(&why.cluster).is_some() {
                metrics.answers.get_or_create(&AnswerLabel { cluster: why.cluster.clone(), to }).inc();
            }
            let (namespace, name) = why.object.split_once('/').unwrap_or_default();
            let Some(service) = KINDS.iter().find(|kind| kind.is_service()) else { continue };
            let Some(template) = world.template(&Key::new(service, namespace, name)) else {
                continue;
            };
            let (kind, reason, word) = if why.answered {
                ("Normal", "ClusterAnswered", "users are sent to")
            } else {
                ("Warning", "ClusterWithdrawn", "no users are sent any more to")
            };
            let message = format!("{word} {}: {}: {}", why.cluster, why.rule, why.message);
            recorder.tell(&template, kind, reason, &message, &why.cluster);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::observe::Template;
    use crate::testing;

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

    #[tokio::test]
    async fn a_turn_is_an_event_on_the_service_and_counts_once_for_a_cluster_that_is_there() {
        let world = testing::machine().await.world;
        let taiwan = json!({"apiVersion": "federation.rs/v1alpha1", "kind": "Cluster",
            "metadata": {"name": "taiwan", "uid": "c"}, "spec": {}});
        world.put_cluster(serde_json::from_value(taiwan).expect("a cluster"));
        let service = KINDS.iter().find(|kind| kind.is_service()).expect("a kind");
        let object = json!({"metadata": {"namespace": "shop", "name": "web", "uid": "u"}});
        world.put_template(Template::read(service, object));
        let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
        let (recorder, mut told) = Recorder::heard();
        let mut turns = Turns::default();
        // By two policies, of two clusters, one of which has left.
        let all = |answered: bool| -> Vec<Explanation> {
            let of = |policy: &str, cluster| Explanation { policy: policy.into(), ..why(cluster, answered) };
            ["a", "b"].iter().flat_map(|policy| [of(policy, "taiwan"), of(policy, "left")]).collect()
        };
        turns.tell(&world, &metrics, &recorder, &all(true));
        turns.tell(&world, &metrics, &recorder, &all(false));
        let mut events = Vec::new();
        while let Some(event) = told() {
            events.push(event);
        }
        let event = |cluster: &str| {
            let message = format!("no users are sent any more to {cluster}: ProbesFail: ");
            ("shop/web".to_owned(), "ClusterWithdrawn".to_owned(), message)
        };
        assert_eq!(events, ["taiwan", "left", "taiwan", "left"].map(event));
        let count = |cluster: &str| {
            let label = AnswerLabel { cluster: cluster.into(), to: "off" };
            metrics.answers.get(&label).map(|count| count.get())
        };
        assert_eq!((count("taiwan"), count("left")), (Some(1), None));
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
