//! `fedctl traffic set|clear|show`

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use apimachinery::go_duration;
use federation_core::api::{SwitchState, TrafficOverride, TrafficPolicy};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::existing;
use super::output::{self, Printed, word};
use crate::connect::Connection;

/// Commands on the traffic of Services.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Command {
    /// Overrides by hand which clusters are answered for a Service, for example `web taiwan=off`.
    Set {
        #[command(flatten)]
        of: Of,
        /// NAME=on, NAME=off, or NAME=auto to return the cluster to automatic control.
        #[arg(required = true, value_name = "CLUSTER=on|off|auto", value_parser = switch)]
        switches: Vec<(String, Option<SwitchState>)>,
        /// Why; recorded in the policy.
        #[arg(long)]
        reason: Option<String>,
        /// How long, as 30m, 2h or 1h30m; until it is set to auto if not given.
        #[arg(long = "for", value_name = "DURATION", value_parser = life)]
        life: Option<Duration>,
        /// Allows switching off the last answered cluster.
        #[arg(long)]
        force: bool,
    },
    /// Shows for each cluster whether it is answered for a Service, and why.
    Show {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        output: output::Flag,
    },
}

/// Whose traffic.
#[derive(clap::Args, Debug)]
pub(crate) struct Of {
    #[command(flatten)]
    connection: Connection,
    /// Namespace of the Service.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Name of the TrafficPolicy or of the Service.
    name: String,
}

pub(crate) async fn run(command: Command) -> Result<()> {
    match command {
        Command::Set { of, switches, reason, life, force } => {
            let client = of.connection.client().await?;
            let by = of.connection.user().unwrap_or_default();
            let api: Api<TrafficPolicy> = Api::namespaced(client.clone(), &of.namespace);
            let policy = match find(&api, &of.name).await? {
                Some(policy) => policy,
                None => create(&client, &api, &of).await?,
            };
            let switches: BTreeMap<String, Option<SwitchState>> = switches.into_iter().collect();
            // A name that is mistyped would switch nothing, and look as if it had. What is switched of one that has left can be taken away.
            for (name, _) in switches.iter().filter(|(_, state)| state.is_some()) {
                is_there(&client, name).await?;
            }
            if !force {
                refuse_the_last(&policy, &switches)?;
            }
            let overrides = written(&switches, reason.as_deref(), life, &by, Timestamp::now())?;
            let patch = json!({"spec": {"overrides": overrides}});
            api.patch(policy.name(), &PatchParams::default(), &Patch::Merge(&patch)).await?;
            for (cluster, state) in &switches {
                let state = state.map_or_else(|| "auto".to_owned(), |state| word(&state).to_lowercase());
                println!("trafficpolicy/{} {cluster}={state}", policy.name());
            }
            Ok(())
        }
        Command::Show { of, output } => {
            let api: Api<TrafficPolicy> = Api::namespaced(of.connection.client().await?, &of.namespace);
            let Some(policy) = find(&api, &of.name).await? else {
                bail!(
                    "there is no TrafficPolicy {0} in {1}, and none for a Service of that name; \
                     `fedctl dns lookup` explains names without one",
                    of.name,
                    of.namespace
                );
            };
            output.print(&Shown(policy))
        }
    }
}

/// Whether there is a cluster of that name. Who may write TrafficPolicies of his namespace alone cannot see that, and switches all the same.
async fn is_there(client: &Client, name: &str) -> Result<()> {
    match existing(&Api::all(client.clone()), name).await {
        Err(error) if matches!(error.downcast_ref(), Some(kube::Error::Api(status)) if status.code == 403) => {
            eprintln!("Warning: whether there is a cluster {name:?} could not be checked: {error}");
            Ok(())
        }
        found => found.map(drop),
    }
}

/// The policy of that name, or the oldest for a Service of that name.
async fn find(api: &Api<TrafficPolicy>, name: &str) -> Result<Option<TrafficPolicy>> {
    if let Some(policy) = api.get_opt(name).await? {
        return Ok(Some(policy));
    }
    let mut of_service: Vec<TrafficPolicy> = api
        .list(&Default::default())
        .await?
        .items
        .into_iter()
        .filter(|policy| policy.spec.service == name)
        .collect();
    of_service.sort_by_key(|policy| policy.metadata.creation_timestamp.as_ref().map(|time| time.0));
    Ok(of_service.into_iter().next())
}

/// A policy that says nothing but whose it is, to hold the switches of a Service that has none.
async fn create(client: &Client, api: &Api<TrafficPolicy>, of: &Of) -> Result<TrafficPolicy> {
    let services: Api<k8s_openapi::api::core::v1::Service> = Api::namespaced(client.clone(), &of.namespace);
    if services.get_opt(&of.name).await?.is_none() {
        bail!("there is neither a TrafficPolicy nor a Service {} in {}", of.name, of.namespace);
    }
    let spec = federation_core::api::TrafficPolicySpec { service: of.name.clone(), ..Default::default() };
    api.create(&PostParams::default(), &TrafficPolicy::new(&of.name, spec))
        .await
        .with_context(|| format!("making a TrafficPolicy for the Service {}", of.name))
}

/// A name without any address helps nobody: it has to be asked for.
fn refuse_the_last(policy: &TrafficPolicy, switches: &BTreeMap<String, Option<SwitchState>>) -> Result<()> {
    let off = |cluster: &String| switches.get(cluster) == Some(&Some(SwitchState::Off));
    let Some(status) = &policy.status else { return Ok(()) };
    let answered: Vec<&String> =
        status.clusters.iter().filter(|cluster| cluster.answered).map(|cluster| &cluster.name).collect();
    let comes = switches.values().any(|state| *state == Some(SwitchState::On));
    if !answered.is_empty() && !comes && answered.iter().all(|cluster| off(cluster)) {
        bail!(
            "no cluster would be left in the answers for {}: use --force to do it anyway",
            policy.spec.service
        );
    }
    Ok(())
}

/// The overrides as a merge patch; null takes one away.
fn written(
    switches: &BTreeMap<String, Option<SwitchState>>,
    reason: Option<&str>,
    life: Option<Duration>,
    by: &str,
    now: Timestamp,
) -> Result<Value> {
    let mut overrides = serde_json::Map::new();
    for (cluster, state) in switches {
        let Some(state) = state else {
            overrides.insert(cluster.clone(), Value::Null);
            continue;
        };
        let Some(reason) = reason.filter(|reason| !reason.trim().is_empty()) else {
            bail!("say why with --reason, for those who find {cluster} switched later");
        };
        let until = life.map(|life| now.saturating_add(life)).transpose()?;
        let switch = TrafficOverride {
            state: *state,
            reason: reason.to_owned(),
            by: by.to_owned(),
            since: Some(Time(now)),
            until: until.map(Time),
        };
        let mut value = serde_json::to_value(switch)?;
        // A merge patch: what an older switch said and this one does not is taken away.
        if life.is_none() {
            value["until"] = Value::Null;
        }
        overrides.insert(cluster.clone(), value);
    }
    Ok(Value::Object(overrides))
}

struct Shown(TrafficPolicy);

impl Printed for Shown {
    fn text(&self) -> String {
        text(&self.0)
    }

    fn value(&self) -> Result<Value> {
        Ok(serde_json::to_value(&self.0)?)
    }

    fn names(&self) -> Option<Vec<String>> {
        Some(vec![self.0.name().to_owned()])
    }
}

fn text(policy: &TrafficPolicy) -> String {
    let status = policy.status.clone().unwrap_or_default();
    let mut text = format!(
        "Service:   {}\nPolicy:    {} ({}, proximity {})\nAnswering: {}\n",
        policy.spec.service,
        policy.name(),
        word(&policy.spec.strategy),
        word(&policy.spec.proximity),
        status.answering.join(", ")
    );
    if let Some(epoch) = status.epoch {
        text.push_str(&format!("Epoch:     {epoch}\n"));
    }
    for problem in &status.problems {
        text.push_str(&format!("Problem:   {problem}\n"));
    }
    let mut table = output::table(["CLUSTER", "ANSWERED", "RULE", "SWITCHED", "BY", "UNTIL", "MESSAGE"]);
    let mut rows: BTreeMap<&str, (Option<&federation_core::api::ClusterAnswer>, Option<&TrafficOverride>)> =
        status.clusters.iter().map(|cluster| (cluster.name.as_str(), (Some(cluster), None))).collect();
    for (cluster, switch) in &policy.spec.overrides {
        rows.entry(cluster).or_default().1 = Some(switch);
    }
    for (name, (cluster, switch)) in rows {
        table.add_row([
            name.to_owned(),
            cluster.map_or("", |cluster| if cluster.answered { "yes" } else { "no" }).to_owned(),
            cluster.map(|cluster| cluster.rule.clone()).unwrap_or_default(),
            switch.map(|switch| word(&switch.state)).unwrap_or_default(),
            switch.map(|switch| switch.by.clone()).unwrap_or_default(),
            switch
                .and_then(|switch| switch.until.as_ref())
                .map(|until| until.0.to_string())
                .unwrap_or_default(),
            cluster.map_or_else(
                || switch.map(|switch| switch.reason.clone()).unwrap_or_default(),
                |cluster| cluster.message.clone(),
            ),
        ]);
    }
    text.push_str(&format!("{table}\n"));
    text
}

fn switch(text: &str) -> Result<(String, Option<SwitchState>), String> {
    let wrong = || format!("{text:?} must be CLUSTER=on, CLUSTER=off or CLUSTER=auto");
    let (cluster, state) =
        text.split_once('=').filter(|(cluster, _)| !cluster.is_empty()).ok_or_else(wrong)?;
    let state = match state {
        "on" => Some(SwitchState::On),
        "off" => Some(SwitchState::Off),
        "auto" => None,
        _ => return Err(wrong()),
    };
    Ok((cluster.to_owned(), state))
}

/// Reads how long a switch lives. A number needs its unit: nobody means two seconds by 2.
fn life(text: &str) -> Result<Duration, String> {
    match go_duration::flag(text)? {
        Duration::ZERO => Err(format!("{text:?}: it must be longer than nothing")),
        life => Ok(life),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use kube::client::Body;

    use super::*;

    #[tokio::test]
    async fn who_may_not_see_clusters_may_switch_them() {
        let client = |code: u16| {
            let answer = move |_: http::Request<Body>| async move {
                let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
                    "reason": "Forbidden", "message": "clusters is forbidden"});
                let text = Body::from(status.to_string().into_bytes());
                http::Response::builder().status(code).body(text)
            };
            Client::new(tower::service_fn(answer), "default")
        };
        assert!(is_there(&client(403), "taiwan").await.is_ok());
        assert!(is_there(&client(500), "taiwan").await.is_err(), "it may not be there");
    }

    #[test]
    fn switches_and_times_are_read() {
        assert_eq!(switch("taiwan=off").unwrap(), ("taiwan".into(), Some(SwitchState::Off)));
        assert_eq!(switch("taiwan=auto").unwrap(), ("taiwan".into(), None));
        for wrong in ["taiwan", "=on", "taiwan=maybe"] {
            assert!(switch(wrong).is_err(), "{wrong}");
        }
        assert_eq!(life("1h30m").unwrap(), Duration::from_secs(5400));
        for wrong in ["", "2", "h", "2d", "0s", "99999999999999999h"] {
            assert!(life(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_switch_says_who_why_and_until_when() {
        let now = "2026-11-24T20:00:00Z".parse().unwrap();
        let switches =
            BTreeMap::from([("taiwan".to_owned(), Some(SwitchState::Off)), ("tokyo".to_owned(), None)]);
        let life = Some(Duration::from_secs(7200));
        let patch = written(&switches, Some("maintenance"), life, "alice", now).unwrap();
        assert_eq!(
            patch,
            json!({"tokyo": null, "taiwan": {"state": "Off", "reason": "maintenance", "by": "alice",
                "since": "2026-11-24T20:00:00Z", "until": "2026-11-24T22:00:00Z"}})
        );
        assert!(written(&switches, Some(" "), None, "alice", now).is_err());
    }

    #[test]
    fn the_last_cluster_is_not_switched_off_by_accident() {
        let policy: TrafficPolicy = serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": {"service": "web"},
            "status": {"clusters": [{"name": "taiwan", "answered": true}, {"name": "tokyo", "answered": false}]}}))
        .unwrap();
        let set = |states: &[(&str, Option<SwitchState>)]| {
            states.iter().map(|(name, state)| ((*name).to_owned(), *state)).collect::<BTreeMap<_, _>>()
        };
        let off = Some(SwitchState::Off);
        assert!(refuse_the_last(&policy, &set(&[("taiwan", off)])).is_err());
        assert!(refuse_the_last(&policy, &set(&[("taiwan", off), ("tokyo", Some(SwitchState::On))])).is_ok());
        assert!(refuse_the_last(&policy, &set(&[("tokyo", off)])).is_ok());
    }
}
