//! `fedctl health [CLUSTER]` and `fedctl unfreeze --reason`: verdicts, and every word that they follow from.

use anyhow::Result;
use proto::v1;
use serde_json::{Value, json};

use super::answers::{Hub, said, seconds, time};
use super::output::{self, Printed};

/// Options of `fedctl health`.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    hub: Hub,
    /// One cluster; all if not given.
    #[arg(default_value = "", hide_default_value = true)]
    cluster: String,
    #[command(flatten)]
    output: output::Flag,
}

/// Options of `fedctl unfreeze`.
#[derive(clap::Args, Debug)]
pub(crate) struct Unfreeze {
    #[command(flatten)]
    hub: Hub,
    /// Why; recorded together with who and when.
    #[arg(long)]
    reason: String,
}

pub(crate) async fn run(options: Options) -> Result<()> {
    let request = v1::HealthRequest { cluster: options.cluster };
    let found = options.hub.client().await?.health(request).await.map_err(said)?.into_inner();
    options.output.print(&found)
}

impl Printed for v1::HealthResponse {
    fn text(&self) -> String {
        text(self)
    }

    fn value(&self) -> Result<Value> {
        Ok(as_json(self))
    }

    fn names(&self) -> Option<Vec<String>> {
        Some(self.clusters.iter().map(|cluster| cluster.cluster.clone()).collect())
    }
}

pub(crate) async fn unfreeze(options: Unfreeze) -> Result<()> {
    let request = v1::UnfreezeRequest { reason: options.reason };
    let done = options.hub.client().await?.unfreeze(request).await.map_err(said)?.into_inner();
    let named = done.unfreeze.unwrap_or_default();
    if named.clusters.is_empty() {
        println!("confirmed by {}: removals that the restored store asks for happen from now on", named.by);
    } else {
        println!(
            "unfrozen by {}: users and replicas leave those of {} that are down",
            named.by,
            named.clusters.join(", ")
        );
    }
    Ok(())
}

fn text(found: &v1::HealthResponse) -> String {
    let mut text = String::new();
    if found.frozen.is_empty() {
        text.push_str("not frozen\n");
    } else {
        text.push_str(&format!(
            "FROZEN, nothing moves: {}\n  it names {}; it ends when they recover, or by `fedctl unfreeze --reason …`\n",
            found.frozen,
            found.frozen_clusters.join(", ")
        ));
    }
    if !found.restored.is_empty() {
        text.push_str(&format!("RESTORED, nothing is taken away: {}\n", found.restored));
    }
    if let Some(last) = &found.last_unfreeze {
        text.push_str(&format!("last unfreeze: by {} at {}: {}", last.by, time(last.at_ms), last.reason));
        // None where what was confirmed is a store that was restored.
        if !last.clusters.is_empty() {
            text.push_str(&format!(" ({})", last.clusters.join(", ")));
        }
        text.push('\n');
    }
    for cluster in &found.clusters {
        text.push_str(&of_cluster(cluster));
    }
    text
}

fn of_cluster(cluster: &v1::ClusterHealth) -> String {
    let mut text = format!(
        "\n{}: {} for {}, epoch {}\n  rule    {}: {}\n  reason  {}\n",
        cluster.cluster,
        cluster.verdict,
        seconds(cluster.since_ms_ago),
        cluster.epoch,
        cluster.rule,
        cluster.rule_text,
        cluster.reason
    );
    let served = if cluster.users_served { "users are served" } else { "nobody is seen to be served" };
    text.push_str(&format!("  probes  {}: {served}\n", cluster.data_plane));
    if cluster.held_down {
        text.push_str(&format!(
            "  held    down for flapping: the penalty is {:.1} falls, and decays\n",
            cluster.penalty
        ));
    }
    let mut table = output::table(["  VOTER", "ABOUT", "SAYS", "COUNTS", "AGE", "REASON"]);
    let agent = cluster.agent.clone().unwrap_or_default();
    let (says, reason) = match (agent.heard, agent.missed, agent.api_ok) {
        (false, ..) => ("Nothing", "never heard".to_owned()),
        (true, 0, _) => ("Alive", String::new()),
        (true, missed, _) => ("Silent", format!("{missed} heartbeats are missing")),
    };
    let own = format!("  agent/{}", cluster.cluster);
    let age = if agent.heard { seconds(agent.age_ms) } else { "-".to_owned() };
    table.add_row([own.as_str(), "heartbeats", says, "yes", &age, &reason]);
    let api = if agent.api_ok { "Up" } else { "Down" };
    if agent.heard {
        table.add_row([own.as_str(), "API server", api, "yes", &age, &agent.api_message]);
    }
    for service in &agent.services {
        let says = if service.absent { "Absent".to_owned() } else { format!("{} ready", service.ready) };
        table.add_row([own.as_str(), &service.service, &says, "answers", "-", "as seen from within"]);
    }
    for vote in &cluster.votes {
        let Some(word) = &vote.vote else { continue };
        table.add_row([
            format!("  {}", vote.voter).as_str(),
            &word.service,
            state(word),
            if vote.counts { "yes" } else { "no" },
            &seconds(word.age_ms.into()),
            &why(word),
        ]);
    }
    text.push_str(&format!("{table}\n"));
    text
}

fn state(vote: &v1::ProbeVote) -> &'static str {
    match vote.state() {
        v1::ProbeState::Unproven => "Unproven",
        v1::ProbeState::Up => "Up",
        v1::ProbeState::Down => "Down",
        v1::ProbeState::Doubted => "Doubted",
    }
}

fn why(vote: &v1::ProbeVote) -> String {
    let mut parts = Vec::new();
    if vote.failures > 0 {
        parts.push(format!("{} failures: {}", vote.failures, vote.message));
    } else if vote.rtt_micros > 0 {
        parts.push(format!("{:.1} ms", f64::from(vote.rtt_micros) / 1000.0));
    }
    if vote.certificate_not_after != 0 {
        parts.push(format!("certificate until {}", time(vote.certificate_not_after.saturating_mul(1000))));
    }
    parts.join("; ")
}

/// Field names as in the API: camelCase, with units.
fn as_json(found: &v1::HealthResponse) -> Value {
    let vote = |vote: &v1::HealthVote| {
        let word = vote.vote.clone().unwrap_or_default();
        json!({
            "voter": vote.voter, "service": word.service, "says": state(&word), "counts": vote.counts,
            "ageMillis": word.age_ms, "failures": word.failures, "rttMicros": word.rtt_micros,
            "message": word.message,
            "certificateNotAfter": (word.certificate_not_after != 0)
                .then(|| time(word.certificate_not_after.saturating_mul(1000))),
        })
    };
    let cluster = |cluster: &v1::ClusterHealth| {
        let agent = cluster.agent.clone().unwrap_or_default();
        let services = agent.services.iter().map(|service| {
            json!({"service": service.service, "readyEndpoints": service.ready, "absent": service.absent})
        });
        json!({
            "cluster": cluster.cluster, "verdict": cluster.verdict, "rule": cluster.rule,
            "ruleText": cluster.rule_text, "reason": cluster.reason, "sinceMillis": cluster.since_ms_ago,
            "epoch": cluster.epoch, "usersServed": cluster.users_served, "dataPlane": cluster.data_plane,
            "penalty": cluster.penalty, "heldDown": cluster.held_down,
            "agent": {
                "heard": agent.heard, "ageMillis": agent.age_ms, "missed": agent.missed, "apiOk": agent.api_ok,
                "apiMessage": agent.api_message, "services": services.collect::<Vec<_>>(),
            },
            "votes": cluster.votes.iter().map(vote).collect::<Vec<_>>(),
        })
    };
    let unfreeze = found.last_unfreeze.as_ref().map(|last| {
        json!({"by": last.by, "reason": last.reason, "at": time(last.at_ms), "freeze": last.freeze, "clusters": last.clusters})
    });
    json!({
        "frozen": (!found.frozen.is_empty()).then_some(&found.frozen),
        "frozenClusters": found.frozen_clusters,
        "restored": (!found.restored.is_empty()).then_some(&found.restored),
        "lastUnfreeze": unfreeze,
        "clusters": found.clusters.iter().map(cluster).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> v1::HealthResponse {
        let vote = v1::ProbeVote {
            service: "default/web".into(),
            state: v1::ProbeState::Down.into(),
            failures: 2,
            age_ms: 400,
            message: "connection refused".into(),
            ..v1::ProbeVote::default()
        };
        v1::HealthResponse {
            clusters: vec![v1::ClusterHealth {
                cluster: "taiwan".into(),
                verdict: "DataPlaneDown".into(),
                rule: "QuorumFails".into(),
                rule_text: "the probers' quorum says that users are not served".into(),
                agent: Some(v1::AgentWord { heard: true, api_ok: true, ..v1::AgentWord::default() }),
                votes: vec![v1::HealthVote { voter: "dns/one".into(), vote: Some(vote), counts: true }],
                ..v1::ClusterHealth::default()
            }],
            frozen: "2 of 2 clusters went bad at once: taiwan, tokyo".into(),
            frozen_clusters: vec!["taiwan".into(), "tokyo".into()],
            restored: "the store was restored from a backup".into(),
            last_unfreeze: None,
        }
    }

    #[test]
    fn the_text_says_verdict_rule_votes_and_freeze() {
        let text = text(&found());
        for part in [
            "FROZEN, nothing moves: 2 of 2",
            "taiwan: DataPlaneDown",
            "QuorumFails: the probers' quorum",
            "dns/one",
            "default/web",
            "400 ms",
            "2 failures: connection refused",
        ] {
            assert!(text.contains(part), "{part:?} is not in:\n{text}");
        }
    }

    #[test]
    fn the_json_has_every_vote_with_its_age() {
        let json = as_json(&found());
        assert_eq!(json["clusters"][0]["votes"][0]["ageMillis"], 400);
        assert_eq!(json["clusters"][0]["votes"][0]["says"], "Down");
        assert_eq!(json["frozenClusters"][1], "tokyo");
        assert!(json["lastUnfreeze"].is_null());
    }
}
