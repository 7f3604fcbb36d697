//! `fedctl dns lookup` and `fedctl dns status`: what users get, and why.

use anyhow::{Context as _, Result};
use federation_runtime::pki::HUB_NAME;
use jiff::Timestamp;
use proto::v1;
use proto::v1::operations_client::OperationsClient;
use serde_json::{Value, json};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use super::output::{self, Printed};
use crate::connect::Connection;

/// Longer than a hub that answers takes, shorter than people wait.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(10);

/// Commands on answers.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Command {
    /// Explains an answer: policy, region, tiers, and why each cluster is in it or not.
    Lookup {
        #[command(flatten)]
        hub: Hub,
        /// The DNS name, such as web.default.svc.fed.example.test.
        name: String,
        /// Address or prefix of the client.
        #[arg(long, value_name = "PREFIX", default_value = "")]
        from: String,
        #[command(flatten)]
        output: output::Flag,
    },
    /// Shows which epoch each DNS server serves, and how far it is behind.
    Status {
        #[command(flatten)]
        hub: Hub,
        #[command(flatten)]
        output: output::Flag,
    },
}

/// Where the hub is, and who asks.
#[derive(clap::Args, Debug)]
pub(crate) struct Hub {
    #[command(flatten)]
    connection: Connection,
    /// Address of the hub; the one that the federation announces if not given.
    #[arg(long, value_name = "HOST:PORT")]
    hub: Option<String>,
}

impl Hub {
    /// A client of the hub.
    pub(crate) async fn client(&self) -> Result<OperationsClient<Channel>> {
        let address = match &self.hub {
            Some(address) => address.clone(),
            None => federation_controller::announce::announced(self.connection.client().await?)
                .await?
                .hub
                .context("the federation does not say where its hub is: name it with --hub HOST:PORT")?,
        };
        let (authority, identity) = self.connection.identity()?;
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(authority))
            .identity(tonic::transport::Identity::from_pem(identity.certificate_pem, identity.key_pem))
            .domain_name(HUB_NAME);
        let channel = Endpoint::from_shared(format!("https://{address}"))?
            .tls_config(tls)?
            .connect_timeout(LIMIT)
            .timeout(LIMIT)
            .connect()
            .await
            .with_context(|| format!("connecting to the hub at {address}"))?;
        Ok(OperationsClient::new(channel))
    }
}

pub(crate) async fn run(command: Command) -> Result<()> {
    match command {
        Command::Lookup { hub, name, from, output } => {
            let request = v1::LookupRequest { name: name.clone(), from };
            let found = hub.client().await?.lookup(request).await.map_err(said)?.into_inner();
            output.print(&Lookup { name, found })
        }
        Command::Status { hub, output } => {
            let status =
                hub.client().await?.dns_status(v1::DnsStatusRequest {}).await.map_err(said)?.into_inner();
            output.print(&status)
        }
    }
}

struct Lookup {
    name: String,
    found: v1::LookupResponse,
}

impl Printed for Lookup {
    fn text(&self) -> String {
        explain(&self.name, &self.found)
    }

    fn value(&self) -> Result<Value> {
        Ok(explained(&self.name, &self.found))
    }

    fn names(&self) -> Option<Vec<String>> {
        None
    }
}

impl Printed for v1::DnsStatusResponse {
    fn text(&self) -> String {
        table(self)
    }

    fn value(&self) -> Result<Value> {
        let servers = self.servers.iter().map(|server| {
            json!({
                "instance": server.instance, "connected": server.connected, "epoch": server.epoch,
                "heardMillisAgo": server.heard_ms_ago, "lagMillis": server.lag_ms,
            })
        });
        Ok(json!({
            "epoch": self.epoch, "publishedMillisAgo": self.published_ms_ago,
            "servers": servers.collect::<Vec<_>>(),
        }))
    }

    fn names(&self) -> Option<Vec<String>> {
        Some(self.servers.iter().map(|server| server.instance.clone()).collect())
    }
}

/// What the hub said, without gRPC's words around it.
pub(crate) fn said(status: tonic::Status) -> anyhow::Error {
    match status.code() {
        tonic::Code::NotFound
        | tonic::Code::InvalidArgument
        | tonic::Code::FailedPrecondition
        | tonic::Code::PermissionDenied => {
            anyhow::anyhow!("{}", status.message())
        }
        _ => status.into(),
    }
}

fn explain(name: &str, found: &v1::LookupResponse) -> String {
    let mut text = format!("{name} in zone {} at epoch {}\n", found.zone, found.epoch);
    if found.region.is_empty() {
        add(&mut text, "client", "of no region that is known".into());
    } else {
        add(&mut text, "client", format!("of region {} (scope /{})", found.region, found.scope));
    }
    match (found.service.as_str(), found.policy.as_str()) {
        ("", _) if found.records.is_empty() => {}
        ("", _) => add(&mut text, "service", "none: a static name".into()),
        (service, "") => add(&mut text, "service", format!("{service}, without a TrafficPolicy")),
        (service, policy) => add(&mut text, "service", format!("{service}, by TrafficPolicy {policy}")),
    }
    if !found.frozen.is_empty() {
        add(&mut text, "frozen", found.frozen.clone());
    }
    for record in &found.records {
        let how = match v1::Selection::try_from(record.selection) {
            // An alias has one target.
            Ok(v1::Selection::All) if record.r#type == "CNAME" => "1 of the first tier".into(),
            Ok(v1::Selection::Weighted) if record.r#type == "CNAME" => "1 of the first tier by weight".into(),
            Ok(v1::Selection::Weighted) => format!("{} of the first tier by weight", record.picks.max(1)),
            Ok(v1::Selection::Sticky) => "1 of the first tier, by weight and client".into(),
            _ => "all of the first tier".into(),
        };
        add(&mut text, &record.r#type, format!("TTL {} s, {how}", record.ttl));
        for (index, tier) in record.tiers.iter().enumerate() {
            let sum: u64 = tier.choices.iter().map(|choice| u64::from(choice.weight)).sum();
            for choice in &tier.choices {
                let share = u64::from(choice.weight) * 1000 / sum.max(1);
                let data = if choice.data.is_empty() { "no address".into() } else { choice.data.join(" ") };
                let cluster = if choice.cluster.is_empty() { "(static)" } else { &choice.cluster };
                let line =
                    format!("  tier {} {:>3}.{} % {cluster} {data}\n", index + 1, share / 10, share % 10);
                text.push_str(&line);
            }
        }
    }
    for note in &found.notes {
        add(&mut text, "note", note.clone());
    }
    let mut table = output::table(["CLUSTER", "ANSWERED", "TIER", "VERDICT", "RULE", "MESSAGE"]);
    for reason in &found.reasons {
        table.add_row([
            reason.cluster.as_str(),
            if reason.answered { "yes" } else { "no" },
            if reason.tier == 0 { "-".to_owned() } else { reason.tier.to_string() }.as_str(),
            &reason.verdict,
            &reason.rule,
            &reason.message,
        ]);
    }
    if !found.reasons.is_empty() {
        text.push_str(&format!("{table}\n"));
    }
    text
}

/// Field names as in the API: camelCase, with units.
fn explained(name: &str, found: &v1::LookupResponse) -> Value {
    let choice = |choice: &v1::Choice| json!({"cluster": choice.cluster, "weight": choice.weight, "data": choice.data});
    let records = found.records.iter().map(|record| {
        let tiers = record.tiers.iter().map(|tier| tier.choices.iter().map(choice).collect::<Vec<_>>());
        let selection = match v1::Selection::try_from(record.selection) {
            Ok(v1::Selection::Weighted) => "Weighted",
            Ok(v1::Selection::Sticky) => "Sticky",
            _ => "All",
        };
        json!({
            "type": record.r#type, "ttlSeconds": record.ttl, "selection": selection, "picks": record.picks,
            "tiers": tiers.collect::<Vec<_>>(),
        })
    });
    let reasons = found.reasons.iter().map(|reason| {
        json!({
            "cluster": reason.cluster, "answered": reason.answered, "tier": reason.tier,
            "verdict": reason.verdict, "rule": reason.rule, "message": reason.message,
        })
    });
    json!({
        "name": name, "zone": found.zone, "epoch": found.epoch, "region": found.region, "scope": found.scope,
        "service": found.service, "policy": found.policy,
        "frozen": (!found.frozen.is_empty()).then_some(&found.frozen),
        "records": records.collect::<Vec<_>>(), "notes": found.notes, "reasons": reasons.collect::<Vec<_>>(),
    })
}

fn add(text: &mut String, what: &str, value: String) {
    text.push_str(&format!("{what:<9}{value}\n"));
}

fn table(status: &v1::DnsStatusResponse) -> String {
    let mut table = output::table(["INSTANCE", "CONNECTED", "EPOCH", "HEARD", "LAG"]);
    for server in &status.servers {
        table.add_row([
            server.instance.clone(),
            if server.connected { "yes" } else { "no" }.to_owned(),
            server.epoch.to_string(),
            format!("{} ago", seconds(server.heard_ms_ago)),
            if server.lag_ms == 0 { "none".to_owned() } else { seconds(server.lag_ms) },
        ]);
    }
    format!(
        "newest zones: epoch {}, published {} ago\n{table}\n",
        status.epoch,
        seconds(status.published_ms_ago)
    )
}

/// A moment of the hub's, by its milliseconds since 1970.
pub(crate) fn time(ms: i64) -> String {
    Timestamp::from_millisecond(ms)
        .map(|time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
        .unwrap_or_default()
}

pub(crate) fn seconds(ms: u64) -> String {
    if ms < 1000 { format!("{ms} ms") } else { format!("{} s", ms / 1000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_says_region_policy_shares_and_reasons() {
        let choice = |cluster: &str, weight| v1::Choice {
            data: vec!["192.0.2.1".into()],
            weight,
            cluster: cluster.into(),
        };
        let found = v1::LookupResponse {
            epoch: 7,
            zone: "fed.example.test.".into(),
            region: "asia-east".into(),
            scope: 24,
            service: "shop/web".into(),
            policy: "web".into(),
            records: vec![v1::RecordSet {
                ttl: 5,
                r#type: "A".into(),
                selection: v1::Selection::Weighted.into(),
                tiers: vec![v1::Tier { choices: vec![choice("taiwan", 1), choice("tokyo", 3)] }],
                ..v1::RecordSet::default()
            }],
            reasons: vec![v1::AnswerReason {
                cluster: "osaka".into(),
                rule: "NoEndpoints".into(),
                message: "no endpoint is ready".into(),
                ..v1::AnswerReason::default()
            }],
            ..v1::LookupResponse::default()
        };
        let alias = v1::LookupResponse {
            records: vec![v1::RecordSet {
                r#type: "CNAME".into(),
                tiers: vec![v1::Tier { choices: vec![choice("taiwan", 1)] }],
                ..v1::RecordSet::default()
            }],
            notes: vec!["it cannot be one there".into()],
            ..v1::LookupResponse::default()
        };
        let text = explain("web", &alias);
        for part in ["CNAME    TTL 0 s, 1 of the first tier", "note     it cannot be one there"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        let json = explained("web", &found);
        assert_eq!(json["records"][0]["tiers"][0][1]["weight"], 3);
        assert_eq!(json["reasons"][0]["rule"], "NoEndpoints");
        let text = explain("web", &found);
        for part in [
            "epoch 7",
            "asia-east (scope /24)",
            "TrafficPolicy web",
            "25.0 % taiwan",
            "75.0 % tokyo",
            "NoEndpoints",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}
