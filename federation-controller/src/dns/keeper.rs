//! The DNS loop: watches DNSZones and DNSRecordSets, advances key rollovers, writes statuses.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::Client;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

use federation_core::api::{
    API_VERSION, DNSKeyStatus, DNSRecordSet, DNSRecordSetStatus, DNSZone, DNSZoneStatus, Dnssec,
};
use federation_core::dnssec::{Keys, Next, Now, Step};
use federation_runtime::shutdown::Shutdown;
use proto::v1;

use super::cookies::Cookies;
use super::dress::{Extras, Static, ZoneExtras};
use super::keys::{self, Kept, Pair};
use crate::act::write::Writer;
use crate::observe::watch::{Change, Watch};

/// Changes on their way from one watch.
const CHANGES: usize = 64;
/// Keys are looked at this often at least: steps take minutes and days.
const AT_LEAST: Duration = Duration::from_secs(30);
/// After a Secret or a status could not be read or written.
const AGAIN: Duration = Duration::from_secs(2);
/// TTL of the parent's DS where nobody says, seconds.
const DS_TTL: u32 = 86_400;

/// What zones have besides the balanced names. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Dns(Arc<Inner>);

struct Inner {
    // None until every zone's keys are looked for: a signed zone published without its keys would be broken.
    extras: watch::Sender<Option<Arc<Extras>>>,
    published: Mutex<Seen>,
    // By origin: the keys that are published.
    spread: Mutex<BTreeMap<String, Spread>>,
    poke: Notify,
}

/// Keys of a zone on their way to the DNS servers.
struct Spread {
    keys: Vec<v1::DnsKey>,
    // The first that they were published with.
    epoch: u64,
    // When every DNS server was first seen to serve it, milliseconds since 1970.
    served: Option<i64>,
}

/// What came of the last publication.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    // What was put in.
    extras: Option<Arc<Extras>>,
    refused: BTreeMap<String, String>,
    // Longest TTL by origin, seconds.
    ttl: BTreeMap<String, u32>,
}

#[derive(Default)]
struct Objects {
    zones: BTreeMap<String, DNSZone>,
    records: BTreeMap<String, DNSRecordSet>,
    kept: BTreeMap<String, Kept>,
    // Why the keys of a zone are not known, or did not go on.
    wrong: BTreeMap<String, String>,
    cookies: Cookies,
    told: BTreeMap<String, Value>,
}

impl Dns {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner {
            extras: watch::Sender::new(None),
            published: Mutex::default(),
            spread: Mutex::default(),
            poke: Notify::new(),
        }))
    }

    /// What is to be put into the zones; none as long as that is not known.
    pub(crate) fn extras(&self) -> Option<Arc<Extras>> {
        self.0.extras.borrow().clone()
    }

    /// There are no objects of the DNS, and will be none.
    pub(crate) fn without() -> Self {
        let dns = Self::new();
        dns.0.extras.send_replace(Some(Arc::default()));
        dns
    }

    /// Puts it into the zones that are to be published with `epoch`, and remembers what could not be.
    pub(crate) fn dress(&self, extras: &Arc<Extras>, apex: &str, epoch: u64, zones: &mut Vec<v1::Zone>) {
        let refused = extras.dress(apex, zones);
        self.0.spread.lock().retain(|origin, _| zones.iter().any(|zone| zone.origin == *origin));
        for zone in zones.iter().filter(|zone| !zone.keys.is_empty()) {
            let mut spread = self.0.spread.lock();
            if spread.get(&zone.origin).is_none_or(|known| known.keys != zone.keys) {
                let new = Spread { keys: zone.keys.clone(), epoch, served: None };
                spread.insert(zone.origin.clone(), new);
            }
        }
        let ttl = zones.iter().map(|zone| {
            let longest = zone.records.iter().map(|record| record.ttl).max().unwrap_or_default();
            (zone.origin.clone(), longest.max(zone.default_ttl))
        });
        let seen = Seen { extras: Some(extras.clone()), refused, ttl: ttl.collect() };
        let mut published = self.0.published.lock();
        if *published != seen {
            *published = seen;
            self.0.poke.notify_one();
        }
    }

    /// Notes which zones' keys every DNS server serves now.
    fn note_served(&self, all_serve: &impl Fn(u64) -> bool) {
        for spread in self.0.spread.lock().values_mut().filter(|spread| spread.served.is_none()) {
            spread.served = all_serve(spread.epoch).then(|| Timestamp::now().as_millisecond());
        }
    }

    /// Keeps the extras up to date until `shutdown`; `changed` is called whenever they are other ones, and `all_serve` says whether every DNS
    /// server serves an epoch.
    pub(crate) async fn run(
        self,
        client: Client,
        writer: Writer,
        changed: impl Fn() + Send + 'static,
        all_serve: impl Fn(u64) -> bool + Send + 'static,
        shutdown: Shutdown,
    ) {
        let mut objects = Objects::default();
        let (mut zones, mut records) =
            (watched(&client, "dnszones", &shutdown), watched(&client, "dnsrecordsets", &shutdown));
        let (mut zones_known, mut records_known) = (false, false);
        let mut wait = AT_LEAST;
        loop {
            tokio::select! {
                () = shutdown.wait() => return,
                change = zones.next() => match change {
                    Some(change) => zones_known |= take(change, &mut objects.zones),
                    None => return,
                },
                change = records.next() => match change {
                    Some(change) => records_known |= take(change, &mut objects.records),
                    None => return,
                },
                () = self.0.poke.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
            // A burst is one change.
            while let Some(change) = zones.try_next() {
                zones_known |= take(change, &mut objects.zones);
            }
            while let Some(change) = records.try_next() {
                records_known |= take(change, &mut objects.records);
            }
            if !(zones_known && records_known) {
                continue;
            }
            self.note_served(&all_serve);
            let extras = self.decide(&client, &mut objects).await;
            let new = self.0.extras.send_if_modified(|now| {
                let new = now.as_deref() != Some(&extras);
                if new {
                    *now = Some(Arc::new(extras));
                }
                new
            });
            if new {
                changed();
            }
            let told = self.tell(&writer, &mut objects).await;
            wait = if told && objects.wrong.is_empty() { AT_LEAST } else { AGAIN };
        }
    }

    async fn decide(&self, client: &Client, objects: &mut Objects) -> Extras {
        let now = Timestamp::now().as_second().unsigned_abs();
        let cookie_secrets = objects.cookies.secrets(client, now).await;
        let mut extras = Extras { cookie_secrets, ..Extras::default() };
        let names: Vec<String> = objects.zones.keys().cloned().collect();
        for name in names {
            let Some(zone) = objects.zones.get(&name) else { continue };
            let origin = format!("{name}.");
            let made = zone.metadata.creation_timestamp.as_ref().map(|time| time.0.as_second());
            let mut of_zone = ZoneExtras { made, ..ZoneExtras::default() };
            if let Some(dnssec) = zone.spec.dnssec.clone().filter(|dnssec| dnssec.enabled) {
                let had_keys = zone.status.as_ref().is_some_and(|status| !status.keys.is_empty());
                let wrong = self.keys(client, &name, &dnssec, had_keys, &mut objects.kept).await.err();
                if let Some(error) = &wrong {
                    let error: &dyn std::error::Error = error;
                    tracing::error!(zone = name, error, "the zone's keys stay as they are");
                }
                note(&mut objects.wrong, &name, wrong.map(|error| error.to_string()));
                // One zone's keys hold up no other zone's answers.
                let kept = objects.kept.get(&name);
                of_zone.validity = dnssec.signature_validity_seconds.unwrap_or_default();
                of_zone.compact = dnssec.compact_signatures();
                of_zone.lost = kept.is_none();
                of_zone.keys = kept.map(|kept| published(&kept.keys)).unwrap_or_default();
            }
            extras.zones.insert(origin, of_zone);
        }
        objects.kept.retain(|name, _| objects.zones.contains_key(name));
        objects.wrong.retain(|name, _| objects.zones.get(name).is_some_and(signed));
        let mut sets: Vec<&DNSRecordSet> = objects.records.values().collect();
        sets.sort_by_key(|set| {
            let created = set.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (created.is_none(), created, set.metadata.namespace.clone(), set.metadata.name.clone())
        });
        extras.records = sets
            .into_iter()
            .map(|set| Static {
                object: object(set),
                zone: set.spec.zone.clone(),
                name: set.spec.name.clone(),
                kind: set.spec.type_.clone(),
                ttl: set.spec.ttl_seconds.unwrap_or_default(),
                data: set.spec.records.clone(),
            })
            .collect();
        extras
    }

    /// Has the zone's keys among `all` at the step that it is time for.
    async fn keys(
        &self,
        client: &Client,
        name: &str,
        dnssec: &Dnssec,
        had_keys: bool,
        all: &mut BTreeMap<String, Kept>,
    ) -> Result<(), keys::Error> {
        if !all.contains_key(name) {
            let mut kept = match keys::read(client, name).await? {
                Some(kept) => kept,
                // New keys would break the zone for everybody who has the parent's DS.
                None if had_keys => return Err(keys::Error::Lost(name.to_owned())),
                None => Kept::new(Keys::first(Pair::make()?)),
            };
            if kept.is_new() {
                keys::write(client, name, &mut kept).await?;
                tracing::info!(zone = name, "the zone has its first key");
            }
            all.insert(name.to_owned(), kept);
        }
        let Some(kept) = all.get(name) else { return Ok(()) };
        let now = Now {
            at: Timestamp::now().as_millisecond(),
            rolls: dnssec.rolls,
            parent_has: dnssec.parent_has,
            max_ttl: self.0.published.lock().ttl.get(&format!("{name}.")).copied().unwrap_or(DS_TTL),
            ds_ttl: dnssec.parent_ds_ttl_seconds.unwrap_or(DS_TTL),
            served: self.0.spread.lock().get(&format!("{name}.")).and_then(|spread| spread.served),
        };
        let mut next = kept.clone();
        match kept.keys.next(now, Pair::public) {
            Next::Wait(_) => return Ok(()),
            Next::NewKey => next.keys.introduce(Pair::beside(&kept.keys.keys)?, now),
            Next::Go(step) => next.keys.go(step),
        }
        // Kept before it is published, so that no restart forgets a key that somebody has seen.
        if let Err(error) = keys::write(client, name, &mut next).await {
            // Somebody else may have written: what there is now counts, if it can be read.
            if let Ok(Some(found)) = keys::read(client, name).await {
                all.insert(name.to_owned(), found);
            }
            return Err(error);
        }
        tracing::info!(zone = name, step = step_name(next.keys.step), "the zone's keys went on");
        all.insert(name.to_owned(), next);
        Ok(())
    }

    /// Writes statuses that changed. False: one could not be written.
    async fn tell(&self, writer: &Writer, objects: &mut Objects) -> bool {
        let Some(extras) = self.extras() else { return false };
        let published = self.0.published.lock().clone();
        let (refused, judged) = (published.refused, published.extras.as_ref() == Some(&extras));
        let mut statuses: Vec<(String, String, Value)> = Vec::new();
        for (name, zone) in &objects.zones {
            let kept = objects.kept.get(name).map(|kept| &kept.keys);
            let wrong = objects.wrong.get(name).map(String::as_str);
            let mut status = zone_status(name, zone, kept.filter(|_| signed(zone)), wrong);
            let before = zone.status.iter().flat_map(|status| &status.conditions);
            let before = || before.clone().find(|condition| condition.type_ == "Served").cloned();
            status.conditions.extend(if judged { Some(served(zone, refused.get(name))) } else { before() });
            statuses.push((format!("/apis/{API_VERSION}/dnszones"), name.clone(), json!(status)));
        }
        // Before the zones are published with them nobody knows.
        for set in objects.records.values().filter(|_| judged) {
            let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
            let status = record_status(set, refused.get(&object(set)));
            let collection = format!("/apis/{API_VERSION}/namespaces/{namespace}/dnsrecordsets");
            statuses.push((collection, set.name().to_owned(), json!(status)));
        }
        let mut all = true;
        let mut told = if judged { BTreeMap::new() } else { objects.told.clone() };
        for (collection, name, status) in statuses {
            let path = format!("{collection}/{name}");
            if objects.told.get(&path) != Some(&status) {
                match writer.put_status(&collection, &name, &status).await {
                    Ok(()) => {}
                    Err(error) => {
                        tracing::debug!(%error, path, "a status could not be written");
                        all = false;
                        continue;
                    }
                }
            }
            told.insert(path, status);
        }
        objects.told = told;
        all
    }
}

/// Remembers what is wrong with the keys of a zone, if anything is.
fn note(wrong: &mut BTreeMap<String, String>, zone: &str, what: Option<String>) {
    match what {
        Some(what) => wrong.insert(zone.to_owned(), what),
        None => wrong.remove(zone),
    };
}

fn signed(zone: &DNSZone) -> bool {
    zone.spec.dnssec.as_ref().is_some_and(|dnssec| dnssec.enabled)
}

fn object(set: &DNSRecordSet) -> String {
    format!("{}/{}", set.metadata.namespace.as_deref().unwrap_or_default(), set.name())
}

fn published(keys: &Keys<Pair>) -> Vec<v1::DnsKey> {
    keys.keys.iter().map(|key| key.wire(keys.wanted_at_parent() == Some(key))).collect()
}

fn step_name(step: Step) -> &'static str {
    match step {
        Step::Stable => "Stable",
        Step::Introducing { .. } => "Introducing",
        Step::Swapping { .. } => "Swapping",
        Step::Retiring { .. } => "Retiring",
    }
}

/// `wrong` is why the keys are not known, or did not go on.
fn zone_status(name: &str, zone: &DNSZone, keys: Option<&Keys<Pair>>, wrong: Option<&str>) -> DNSZoneStatus {
    let old = zone.status.clone().unwrap_or_default();
    let (signed, reason, message) = match (keys, wrong) {
        (None, Some(wrong)) => {
            (false, "KeysLost", format!("{wrong}; till then the zone is served as it was"))
        }
        (Some(_), Some(wrong)) => (true, "KeysStay", format!("the zone is signed on with its keys: {wrong}")),
        (None, None) => (false, "NotWanted", String::new()),
        (Some(keys), None) => {
            let new = keys.keys.last().map(|key| key.public().tag()).unwrap_or_default();
            let message = match keys.step {
                Step::Stable => String::new(),
                Step::Introducing { .. } => "every DNS server is to have the new key, and caches to forget what only the old one signed".into(),
                Step::Swapping { .. } => format!(
                    "put the new DS into the parent zone (fedctl dns ds {name}), then say so: fedctl dns roll {name} --parent-has {new}"
                ),
                Step::Retiring { .. } => "caches are to forget the old DS".into(),
            };
            (true, step_name(keys.step), message)
        }
    };
    let wanted = keys.and_then(Keys::wanted_at_parent);
    DNSZoneStatus {
        observed_generation: zone.metadata.generation,
        step: keys.map(|keys| step_name(keys.step).to_owned()).unwrap_or_default(),
        rolls: keys.map(|keys| keys.rolls).unwrap_or_default(),
        keys: match keys {
            // What there was, so that nobody makes new ones.
            None if wrong.is_some() => old.keys,
            _ => keys
                .into_iter()
                .flat_map(|keys| &keys.keys)
                .map(|key| DNSKeyStatus {
                    tag: key.public().tag(),
                    ds: key.public().ds_text(name).unwrap_or_default(),
                    wanted_at_parent: Some(key) == wanted,
                })
                .collect(),
        },
        conditions: vec![condition(
            &old.conditions,
            "Signed",
            signed,
            reason,
            message,
            zone.metadata.generation,
        )],
    }
}

/// Whether a zone is served.
fn served(zone: &DNSZone, refused: Option<&String>) -> Condition {
    let old = zone.status.clone().unwrap_or_default().conditions;
    let (reason, message) = refused.map_or(("Served", String::new()), |why| ("Refused", why.clone()));
    condition(&old, "Served", refused.is_none(), reason, message, zone.metadata.generation)
}

fn record_status(set: &DNSRecordSet, refused: Option<&String>) -> DNSRecordSetStatus {
    let old = set.status.clone().unwrap_or_default().conditions;
    let (reason, message) = refused.map_or(("Served", String::new()), |why| ("Refused", why.clone()));
    let generation = set.metadata.generation;
    DNSRecordSetStatus {
        observed_generation: generation,
        conditions: vec![condition(&old, "Accepted", refused.is_none(), reason, message, generation)],
    }
}

/// A condition whose time is that of its last turn.
fn condition(
    old: &[Condition],
    kind: &str,
    is: bool,
    reason: &str,
    message: String,
    generation: Option<i64>,
) -> Condition {
    let status = if is { "True" } else { "False" };
    let since = old.iter().find(|old| old.type_ == kind && old.status == status);
    Condition {
        type_: kind.into(),
        status: status.into(),
        reason: reason.into(),
        message,
        observed_generation: generation,
        last_transition_time: since
            .map_or_else(|| Time(Timestamp::now()), |old| old.last_transition_time.clone()),
    }
}

fn watched(client: &Client, plural: &str, shutdown: &Shutdown) -> Watch {
    let path = format!("/apis/{API_VERSION}/{plural}");
    let mut watch = Watch::new(client.clone(), path, CHANGES, shutdown.clone());
    watch.begin();
    watch
}

/// Takes a change in. True: the view is whole.
fn take<T: serde::de::DeserializeOwned>(change: Change, objects: &mut BTreeMap<String, T>) -> bool {
    let (object, present) = match change {
        Change::Synced => return true,
        Change::Untaken(_) | Change::Alive | Change::Broken | Change::NotServed => return false,
        Change::Present(object) => (object, true),
        Change::Gone(object) => (object, false),
    };
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
    let key = if namespace.is_empty() { name } else { format!("{namespace}/{name}") };
    if !present {
        objects.remove(&key);
        return false;
    }
    match serde_json::from_value(object) {
        Ok(object) => {
            objects.insert(key, object);
        }
        // Another version's object, which is left as it was.
        Err(error) => tracing::warn!(%error, key, "an object of the DNS could not be read"),
    }
    false
}

#[cfg(test)]
mod tests;
