//! `fedctl dns sign|ds|roll|import`

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use federation_core::api::{DNSRecordSet, DNSRecordSetSpec, DNSZone, Dnssec};
use federation_core::dns::{Data, Name, Type, parse_master};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::connect::Connection;

const MANAGER: &str = "fedctl-dns";

/// Commands on DNS zones.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Command {
    #[command(flatten)]
    Answers(super::answers::Command),
    /// Enables DNSSEC for a zone.
    Sign {
        #[command(flatten)]
        connection: Connection,
        /// The zone.
        zone: String,
    },
    /// Prints the DS records for the parent of a signed zone, in zone file format.
    Ds {
        #[command(flatten)]
        connection: Connection,
        /// The zone.
        zone: String,
    },
    /// Starts a key rollover, or confirms that the parent publishes the new DS record, so that the rollover continues.
    Roll {
        #[command(flatten)]
        connection: Connection,
        /// The zone.
        zone: String,
        /// Tag of the key whose DS record all servers of the parent now publish.
        #[arg(long, value_name = "TAG")]
        parent_has: Option<u16>,
    },
    /// Creates DNSRecordSets from a zone file, replacing those of the same name and type.
    Import {
        #[command(flatten)]
        connection: Connection,
        /// The zone for the records, and the origin of relative names.
        #[arg(long)]
        zone: String,
        /// Namespace of the DNSRecordSets.
        #[arg(long, short, default_value = "default")]
        namespace: String,
        /// Only checks the file.
        #[arg(long)]
        dry_run: bool,
        /// The zone file (RFC 1035 section 5).
        file: PathBuf,
    },
}

pub(crate) async fn run(command: Command) -> Result<()> {
    match command {
        Command::Answers(command) => super::answers::run(command).await,
        Command::Sign { connection, zone } => sign(&connection, &zone).await,
        Command::Ds { connection, zone } => ds(&connection, &zone).await,
        Command::Roll { connection, zone, parent_has } => roll(&connection, &zone, parent_has).await,
        Command::Import { connection, zone, namespace, dry_run, file } => {
            let text =
                std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let (sets, skipped) = record_sets(&text, &zone)?;
            for line in skipped {
                eprintln!("left out: {line}");
            }
            let api: Option<Api<DNSRecordSet>> =
                if dry_run { None } else { Some(Api::namespaced(connection.client().await?, &namespace)) };
            for (name, spec) in sets {
                if let Some(api) = &api {
                    let object = DNSRecordSet::new(&name, spec.clone());
                    api.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&object))
                        .await
                        .with_context(|| format!("{} {}", spec.name, spec.type_))?;
                }
                let done = if dry_run { "fits" } else { "applied" };
                println!(
                    "dnsrecordset/{name} {done}: {} {}, {} records",
                    spec.name,
                    spec.type_,
                    spec.records.len()
                );
            }
            Ok(())
        }
    }
}

fn plain(zone: &str) -> String {
    zone.trim_end_matches('.').to_ascii_lowercase()
}

async fn sign(connection: &Connection, zone: &str) -> Result<()> {
    let api: Api<DNSZone> = Api::all(connection.client().await?);
    let zone = plain(zone);
    let object = json!({
        "apiVersion": federation_core::api::API_VERSION,
        "kind": "DNSZone",
        "metadata": {"name": zone},
        "spec": {"dnssec": {"enabled": true}},
    });
    api.patch(&zone, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&object)).await?;
    println!(
        "dnszone/{zone} will be signed; then add the output of `fedctl dns ds {zone}` to the parent zone"
    );
    Ok(())
}

async fn signed(api: &Api<DNSZone>, zone: &str) -> Result<(DNSZone, Dnssec)> {
    match api.get_opt(zone).await? {
        Some(object) => match object.spec.dnssec.clone().filter(|dnssec| dnssec.enabled) {
            Some(dnssec) => Ok((object, dnssec)),
            None => bail!("the zone {zone} is not signed: start with `fedctl dns sign {zone}`"),
        },
        None => bail!("there is no DNSZone {zone:?}: start with `fedctl dns sign {zone}`"),
    }
}

async fn ds(connection: &Connection, zone: &str) -> Result<()> {
    let api: Api<DNSZone> = Api::all(connection.client().await?);
    let zone = plain(zone);
    let (object, _) = signed(&api, &zone).await?;
    let status = object.status.unwrap_or_default();
    let wanted: Vec<_> = status.keys.iter().filter(|key| key.wanted_at_parent).collect();
    if wanted.is_empty() {
        bail!("the zone {zone} has no key yet: is the controller running?");
    }
    for key in wanted {
        println!("{zone}. IN DS {}", key.ds);
    }
    for condition in status.conditions.iter().filter(|condition| !condition.message.is_empty()) {
        eprintln!("{}: {}", condition.reason, condition.message);
    }
    Ok(())
}

async fn roll(connection: &Connection, zone: &str, parent_has: Option<u16>) -> Result<()> {
    let api: Api<DNSZone> = Api::all(connection.client().await?);
    let zone = plain(zone);
    let (object, dnssec) = signed(&api, &zone).await?;
    let status = object.status.clone().unwrap_or_default();
    let change = match parent_has {
        Some(tag) if status.keys.iter().any(|key| key.tag == tag) => json!({"parentHas": tag}),
        Some(tag) => {
            let tags: Vec<String> = status.keys.iter().map(|key| key.tag.to_string()).collect();
            bail!("no key of {zone} has the tag {tag}: there are {}", tags.join(", "));
        }
        None if dnssec.rolls > status.rolls || status.step != "Stable" => {
            bail!(
                "a rollover of the zone {zone} is in progress ({}): see `fedctl dns ds {zone}`",
                status.step
            );
        }
        None => json!({"rolls": dnssec.rolls + 1}),
    };
    let patch = json!({
        "metadata": {"resourceVersion": object.metadata.resource_version},
        "spec": {"dnssec": change},
    });
    api.patch(&zone, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    match parent_has {
        Some(tag) => println!("dnszone/{zone}: the parent has the DS of key {tag}"),
        None => println!(
            "dnszone/{zone}: a new key will be created; `fedctl dns ds {zone}` shows when the parent needs its DS record"
        ),
    }
    Ok(())
}

/// Record sets by the names of their objects, and what is not taken over.
fn record_sets(text: &str, zone: &str) -> Result<(BTreeMap<String, DNSRecordSetSpec>, Vec<String>)> {
    let zone = plain(zone);
    let origin = Name::parse(&format!("{zone}."))?;
    let (mut sets, mut skipped) = (BTreeMap::<String, DNSRecordSetSpec>::new(), Vec::new());
    for entry in parse_master(text, &origin)? {
        let line = format!("{} {} {}", entry.name, entry.kind, entry.data);
        let Some(kind) = Type::of_zone(&entry.kind).filter(|kind| *kind != Type::NS || entry.name != origin)
        else {
            skipped.push(format!("{line}: the servers make it"));
            continue;
        };
        if !entry.name.is_within(&origin) {
            skipped.push(format!("{line}: is not within {origin}"));
            continue;
        }
        Data::parse(kind, &entry.data).with_context(|| line.clone())?;
        let spec = sets.entry(object_name(&entry.name, &entry.kind)).or_insert_with(|| DNSRecordSetSpec {
            zone: Some(zone.clone()),
            name: entry.name.to_string(),
            type_: entry.kind.clone(),
            ttl_seconds: entry.ttl.filter(|ttl| *ttl > 0),
            records: Vec::new(),
        });
        if !spec.records.contains(&entry.data) {
            spec.records.push(entry.data);
        }
    }
    Ok((sets, skipped))
}

/// `<name>.<type>`; a name that objects cannot have gets a hash in place of what they cannot.
fn object_name(name: &Name, kind: &str) -> String {
    let (name, kind) = (name.to_string(), kind.to_ascii_lowercase());
    let whole = format!("{}.{kind}", name.trim_end_matches('.'));
    if apimachinery::names::dns1123_subdomain(&whole).is_empty() {
        return whole;
    }
    let hash = hex::encode(&Sha256::digest(name.as_bytes())[..6]);
    format!("{hash}.{kind}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_file_becomes_record_sets() {
        let text = "$TTL 300\n@ SOA ns1 h 1 2 3 4 5\n@ NS ns1\n@ MX 10 mail\n@ MX 20 mail2\n*.pages CNAME www\n\
                    www.other. A 192.0.2.1\nsub NS ns.sub\n";
        let (sets, skipped) = record_sets(text, "Fed.Test").unwrap();
        assert_eq!(skipped.len(), 3, "{skipped:?}");
        assert_eq!(sets.len(), 3);
        let mx = &sets["fed.test.mx"];
        assert_eq!(mx.records, ["10 mail.fed.test.", "20 mail2.fed.test."]);
        assert_eq!((mx.ttl_seconds, mx.zone.as_deref()), (Some(300), Some("fed.test")));
        assert!(sets.values().any(|set| set.name == "*.pages.fed.test." && set.records == ["www.fed.test."]));
        assert!(
            record_sets("a A nonsense", "fed.test")
                .unwrap_err()
                .to_string()
                .contains("a.fed.test. A nonsense")
        );
    }
}
