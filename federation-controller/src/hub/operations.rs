//! The service for operators: explains DNS answers, and reports the state of DNS servers and clusters.

use kube::Client;
use tonic::{Request, Response, Status};

use federation_core::traffic::{Prefix, lookup};
use proto::v1;

use super::zones::Zones;
use super::{health, identity, names};
use crate::act::events::Recorder;
use crate::contingency::Contingency;
use crate::decide::agent_events::AgentEvents;
use crate::decide::cluster_state::ClusterState;
use crate::epoch::Epochs;
use crate::health::Health;
use crate::observe::World;
use crate::traffic::{Traffic, wire};

/// Answers them.
pub(crate) struct Operations {
    pub(crate) traffic: Traffic,
    pub(crate) zones: Zones,
    pub(crate) cluster_state: ClusterState,
    pub(crate) world: World,
    pub(crate) health: Health,
    pub(crate) epochs: Epochs,
    pub(crate) agent_events: AgentEvents,
    pub(crate) contingency: Contingency,
    pub(crate) recorder: Recorder,
    pub(crate) client: Client,
}

#[tonic::async_trait]
impl v1::operations_server::Operations for Operations {
    async fn lookup(
        &self,
        request: Request<v1::LookupRequest>,
    ) -> Result<Response<v1::LookupResponse>, Status> {
        identity::operator(&identity::peer(&request)?)?;
        let v1::LookupRequest { name, from } = request.into_inner();
        let from: Option<Prefix> = if from.is_empty() {
            None
        } else {
            Some(from.parse().map_err(|error| Status::invalid_argument(format!("from: {error}")))?)
        };
        let Some(last) = self.traffic.last() else {
            return Err(Status::unavailable("no zone was decided yet: the controller has just started"));
        };
        let zones = self.zones.newest();
        let zones = zones.ok_or_else(|| Status::unavailable("no zones were published yet"))?;
        let place = names::find(&zones, &name).map_err(Status::not_found)?;
        // What a Service makes of the name is explained; what else is there is shown.
        let found = lookup(&last.decision, &last.places, &place.owner, from).ok();
        let snapshot = self.cluster_state.snapshot();
        let verdict = |cluster: &str| {
            let view = snapshot.views.iter().find(|view| view.name == cluster);
            view.map(|view| format!("{:?}", view.verdict)).unwrap_or_default()
        };
        let reasons = found
            .iter()
            .flat_map(|found| &found.reasons)
            .map(|reason| v1::AnswerReason {
                cluster: reason.cluster.to_owned(),
                answered: reason.answered,
                tier: reason.tier.map_or(0, |tier| tier as u32 + 1),
                weight: reason.share.0,
                tier_weight: reason.share.1,
                rule: reason.rule.to_owned(),
                message: reason.message.to_owned(),
                verdict: verdict(reason.cluster),
            })
            .collect();
        let region = from.and_then(|from| last.places.region_of(from)).map(|(region, _)| region);
        let balanced = found.iter().flat_map(|found| &found.records);
        let mut records: Vec<v1::RecordSet> =
            balanced.map(|record| wire::for_region(record, region)).collect();
        let known = |set: &&v1::RecordSet| records.iter().all(|record| record.r#type != set.r#type);
        let others: Vec<v1::RecordSet> = place.sets.iter().copied().filter(known).cloned().collect();
        records.extend(others);
        let mut notes: Vec<String> = place.note.into_iter().collect();
        notes.extend(found.iter().flat_map(|found| &found.notes).map(ToString::to_string));
        if from.is_some() && region.is_none() && !last.places.countries.is_empty() {
            notes.push(
                "DNS servers with --geo-database know the client's country, which says where it is".into(),
            );
        }
        Ok(Response::new(v1::LookupResponse {
            epoch: last.epoch,
            zone: place.zone.origin.clone(),
            region: region.unwrap_or_default().to_owned(),
            scope: found.as_ref().map_or(0, |found| u32::from(found.scope)),
            service: found.as_ref().map_or("", |found| found.service).to_owned(),
            policy: found.as_ref().map_or("", |found| found.policy).to_owned(),
            records,
            reasons,
            frozen: snapshot.frozen.clone().unwrap_or_default(),
            notes,
        }))
    }

    async fn dns_status(
        &self,
        request: Request<v1::DnsStatusRequest>,
    ) -> Result<Response<v1::DnsStatusResponse>, Status> {
        identity::operator(&identity::peer(&request)?)?;
        Ok(Response::new(self.zones.status()))
    }

    async fn health(
        &self,
        request: Request<v1::HealthRequest>,
    ) -> Result<Response<v1::HealthResponse>, Status> {
        identity::operator(&identity::peer(&request)?)?;
        health::health(self, request.into_inner()).await.map(Response::new)
    }

    async fn plans(&self, request: Request<v1::PlansRequest>) -> Result<Response<v1::PlansResponse>, Status> {
        identity::operator(&identity::peer(&request)?)?;
        Ok(Response::new(self.contingency.told(&self.cluster_state)))
    }

    async fn unfreeze(
        &self,
        request: Request<v1::UnfreezeRequest>,
    ) -> Result<Response<v1::UnfreezeResponse>, Status> {
        let peer = identity::peer(&request)?;
        identity::operator(&peer)?;
        health::unfreeze(self, &peer, request.into_inner()).await.map(Response::new)
    }
}
