//! The operators' view of verdicts, and the request that ends a freeze or confirms a restored store.

use tonic::{Code, Status};

use federation_core::health::{Outcome, Report, Voter};
use federation_runtime::pki::Peer;
use proto::v1;

use super::operations::Operations;
use crate::act::unfreezes::{self, Unfreeze};

/// Characters of a reason: a sentence or two.
const REASON_MAX: usize = 500;

/// Everything that was said of one cluster, or of all.
pub(super) async fn health(
    operations: &Operations,
    request: v1::HealthRequest,
) -> Result<v1::HealthResponse, Status> {
    let told = operations.health.told();
    let wanted = |name: &String| request.cluster.is_empty() || *name == request.cluster;
    let clusters: Vec<_> = told
        .reports
        .into_iter()
        .filter(|(name, _)| wanted(name))
        .map(|(name, report)| cluster(operations, name, report, told.now_ms))
        .collect();
    if clusters.is_empty() && !request.cluster.is_empty() {
        return Err(Status::not_found(format!("there is no cluster {:?}", request.cluster)));
    }
    // A word that cannot be read now is no reason to say nothing of the clusters.
    let last = unfreezes::last(&operations.client).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "the last unfreeze could not be read");
        None
    });
    Ok(v1::HealthResponse {
        clusters,
        frozen: told.frozen.unwrap_or_default(),
        frozen_clusters: told.frozen_clusters,
        last_unfreeze: last.map(wire),
        restored: operations.epochs.restored().unwrap_or_default(),
    })
}

/// Ends a freeze. Who, why and when are durable before anything moves.
pub(super) async fn unfreeze(
    operations: &Operations,
    peer: &Peer,
    request: v1::UnfreezeRequest,
) -> Result<v1::UnfreezeResponse, Status> {
    let reason = request.reason.trim();
    if reason.is_empty() || reason.chars().count() > REASON_MAX {
        let message = format!("say why, in at most {REASON_MAX} characters: --reason \"…\"");
        return Err(Status::invalid_argument(message));
    }
    let told = operations.health.told();
    // One word is about one thing: that a restored store is right, when nothing else is frozen.
    let restored = operations.epochs.restored().filter(|_| told.frozen.is_none());
    let Some(freeze) = told.frozen.or_else(|| restored.clone()) else {
        return Err(Status::new(Code::FailedPrecondition, "nothing is frozen"));
    };
    let unfreeze = Unfreeze {
        by: peer.user.clone(),
        reason: reason.to_owned(),
        at_ms: told.now_ms,
        freeze,
        clusters: told.frozen_clusters,
    };
    unfreezes::keep(&operations.client, &unfreeze)
        .await
        .map_err(|error| Status::unavailable(format!("who ended the freeze could not be kept: {error}")))?;
    if restored.is_some() {
        operations.epochs.confirm().await.map_err(|error| {
            Status::unavailable(format!("that the restored store is right could not be kept: {error}"))
        })?;
        operations.agent_events.look_at_all();
        tracing::warn!(by = unfreeze.by, reason, "an operator confirmed what the restored store says");
        return Ok(v1::UnfreezeResponse { unfreeze: Some(wire(unfreeze)) });
    }
    // It may have ended by itself meanwhile, which comes to the same.
    let named = operations.health.thaw().unwrap_or_else(|| unfreeze.clusters.clone());
    tracing::warn!(by = unfreeze.by, reason, clusters = named.join(","), "an operator ended the freeze");
    let message = format!("by {}: {reason}", unfreeze.by);
    for name in &named {
        if let Some(cluster) = operations.world.cluster(name) {
            operations.recorder.cluster(&cluster, "Normal", "Unfrozen", &message);
        }
    }
    Ok(v1::UnfreezeResponse { unfreeze: Some(wire(unfreeze)) })
}

fn wire(unfreeze: Unfreeze) -> v1::Unfreeze {
    let Unfreeze { by, reason, at_ms, freeze, clusters } = unfreeze;
    v1::Unfreeze { by, reason, at_ms, freeze, clusters }
}

fn cluster(operations: &Operations, name: String, report: Report, now_ms: i64) -> v1::ClusterHealth {
    let Report { view, agent, data, votes, penalty, held_down } = report;
    let member = operations.cluster_state.member(&name);
    let services = operations
        .world
        .services()
        .into_iter()
        .filter_map(|(template, reports)| {
            let state = reports.get(&name).filter(|report| report.uid == *template.uid)?.service.clone()?;
            Some(v1::OwnEndpoints {
                service: format!("{}/{}", template.key.namespace, template.key.name),
                ready: state.ready_endpoints,
                absent: state.absent,
            })
        })
        .collect();
    let vote = |said: federation_core::health::ReportedVote| v1::HealthVote {
        voter: said.voter.to_string(),
        counts: said.counts,
        vote: Some(v1::ProbeVote {
            service: said.service,
            cluster: name.clone(),
            state: match said.vote.outcome {
                Outcome::Unproven => v1::ProbeState::Unproven,
                Outcome::Up => v1::ProbeState::Up,
                Outcome::Down => v1::ProbeState::Down,
                Outcome::Doubted => v1::ProbeState::Doubted,
            }
            .into(),
            failures: said.vote.failures,
            age_ms: u32::try_from(said.age_ms).unwrap_or(u32::MAX),
            rtt_micros: said.vote.rtt_us,
            message: match (&said.voter, said.vote.outcome) {
                (Voter::Controller, Outcome::Down) if agent.missed >= 3 && said.counts => {
                    format!("{} (not counted while heartbeats are silent)", said.vote.message)
                }
                _ => said.vote.message,
            },
            certificate_not_after: said.vote.certificate_not_after.unwrap_or(0),
        }),
    };
    v1::ClusterHealth {
        verdict: format!("{:?}", view.verdict),
        rule: view.rule.to_string(),
        rule_text: view.rule.text().into(),
        reason: view.reason,
        since_ms_ago: u64::try_from(now_ms.saturating_sub(view.since_ms)).unwrap_or(0),
        epoch: member.verdict.map_or(0, |(_, epoch)| epoch),
        users_served: view.users_served,
        data_plane: format!("{data:?}"),
        votes: votes.into_iter().map(vote).collect(),
        agent: Some(v1::AgentWord {
            heard: agent.age_ms.is_some(),
            age_ms: agent.age_ms.and_then(|age| u64::try_from(age).ok()).unwrap_or(0),
            missed: agent.missed,
            api_ok: agent.api_ok,
            api_message: agent.api_message,
            services,
        }),
        penalty,
        held_down,
        cluster: name,
    }
}
