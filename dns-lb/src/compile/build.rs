//! From the model to the snapshot: what did not change is the old snapshot's.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::change;
use super::denial::Denial;
use super::encode::Encoder;
use super::node::Compiler;
use super::parallel::Threads;
use super::snapshot::{Node, Snapshot, ZoneAnswers};
use super::table::Table;
use crate::answer::Secrets;
use crate::client::ClientMap;
use crate::dnssec::Signatures;
use crate::metrics::ClusterSlots;
use crate::wire::Name;
use crate::zone::{Zone, Zones};

/// Seconds by which a clock may be set back without consequence: signatures count from an hour before they are made, and resolvers' clocks take part of that.
const AHEAD_MAX: u32 = 300;

impl Snapshot {
    /// Encodes every answer of `zones`, and signs those of signed zones. No client is anywhere yet: see [`Snapshot::with_clients`].
    pub fn compile(
        zones: Arc<Zones>,
        stale: bool,
        clusters: &ClusterSlots,
        signatures: &mut Signatures,
    ) -> Self {
        Self::default().next(zones, stale, clusters, signatures)
    }

    /// The same as compiling `zones` anew, octet for octet, but for clients, who are where they were: only what is not the same in the
    /// zones of this snapshot is encoded and signed, and signatures whose time has come; or all, if the clock was set back.
    #[must_use]
    pub fn next(
        &self,
        zones: Arc<Zones>,
        stale: bool,
        clusters: &ClusterSlots,
        signatures: &mut Signatures,
    ) -> Self {
        let origins =
            |zones: &Zones| -> Vec<Name> { zones.zones.iter().map(|zone| zone.origin.clone()).collect() };
        // Nodes know their zone by its index.
        let same_zones = origins(&self.zones) == origins(&zones);
        // What was made by a clock that was ahead is made again.
        let kept = same_zones && !self.is_ahead(signatures.now());
        let mut table = if same_zones { self.table.clone() } else { Table::default() };
        let mut answers = Vec::with_capacity(zones.zones.len());
        let regions = zones.regions.names.count();
        let threads = Threads::new(!self.table.is_empty());
        let mut compiler = Compiler::new(clusters, signatures, regions);
        for (index, zone) in zones.zones.iter().enumerate() {
            let old = self.zones.zones.get(index).zip(self.answers.get(index)).filter(|_| same_zones);
            let frame = old.filter(|(old, _)| kept && change::same_frame(old, zone));
            let touched = match frame {
                Some((old, _)) if Arc::ptr_eq(old, zone) => BTreeSet::new(),
                Some((old, answers)) => {
                    change::touched(old, zone, &change::changed(old, zone), &answers.cuts)
                }
                None => {
                    let gone = old.map(|(old, _)| change::all(old)).unwrap_or_default();
                    change::all(zone).into_iter().chain(gone).collect()
                }
            };
            let answers_before = frame.map(|(_, answers)| answers);
            let mut touched = touched;
            if let Some(denial) = answers_before.and_then(|answers| answers.denial.as_deref()) {
                touched.extend(denial.chain.due(compiler.signatures.now()).cloned());
            }
            let names: Vec<&Name> = touched.iter().collect();
            let nodes = threads.nodes(zone, index as u32, &names, &self.table, &mut compiler);
            let changes: Vec<(&Name, Option<&Arc<Node>>)> =
                names.iter().copied().zip(nodes.iter().map(Option::as_ref)).collect();
            table = table.with(changes.iter().copied());
            answers.push(of_zone(zone, old, answers_before, &changes, &mut compiler));
        }
        Self {
            secrets: Secrets(zones.cookie_secrets.clone()),
            zones,
            stale,
            made: compiler.signatures.now(),
            clients: self.clients.clone(),
            table,
            answers: answers.into(),
        }
    }

    /// The same, for clients that are where `clients` says.
    #[must_use]
    pub fn with_clients(self, clients: Arc<ClientMap>) -> Self {
        Self { clients, ..self }
    }

    /// Whether it was made by a clock that was ahead of what it says now, so that some of its signatures do not count yet, and are not due for renewal
    /// before a time that is as far ahead.
    pub fn is_ahead(&self, now: u32) -> bool {
        self.made > now.saturating_add(AHEAD_MAX)
    }

    /// When the first signature is to be renewed, seconds since 1970. None: nothing is signed.
    pub fn renewal(&self) -> Option<u32> {
        let of_zone = |zone: &Arc<ZoneAnswers>| {
            let denial = zone.denial.as_deref()?;
            denial.chain.renewal().into_iter().chain(denial.renewal).min()
        };
        self.answers.iter().filter_map(of_zone).min()
    }
}

/// What belongs to the zone as a whole. `old` is what there was, `frame` too if it fits still.
fn of_zone(
    zone: &Arc<Zone>,
    old: Option<(&Arc<Zone>, &Arc<ZoneAnswers>)>,
    frame: Option<&Arc<ZoneAnswers>>,
    changes: &[(&Name, Option<&Arc<Node>>)],
    compiler: &mut Compiler<'_>,
) -> Arc<ZoneAnswers> {
    let old_denial = old.and_then(|(_, answers)| answers.denial.as_deref());
    let fresh = old_denial.is_none_or(|denial| !denial.due(compiler.signatures.now()));
    if let Some((before, _)) = old
        && let Some(frame) = frame
        && Arc::ptr_eq(before, zone)
        && changes.is_empty()
        && fresh
    {
        return frame.clone();
    }
    let mut cuts = frame.map(|frame| frame.cuts.clone()).unwrap_or_default();
    for (name, node) in changes {
        let is_cut = node.is_some_and(|node| node.referral().is_some());
        if is_cut != cuts.contains(*name) {
            let cuts = Arc::make_mut(&mut cuts);
            if is_cut {
                cuts.insert((*name).clone())
            } else {
                cuts.remove(*name)
            };
        }
    }
    let denial = zone.signing.as_deref().map(|signing| {
        let frame = frame.and_then(|frame| frame.denial.as_deref());
        let members: Vec<(&Name, Option<&Arc<Node>>)> =
            changes.iter().map(|(name, node)| (*name, node.filter(|node| node.proof.is_some()))).collect();
        let chain = frame.map(|denial| denial.chain.clone()).unwrap_or_default().with(&members);
        Denial::new(zone, signing, chain, old_denial, compiler.signatures)
    });
    Arc::new(ZoneAnswers {
        origin_length: zone.origin.wire().len() as u16,
        soa: Encoder::soa(zone, zone.default_ttl).store(),
        negative: Encoder::soa(zone, zone.soa_negative_ttl()).store(),
        hinfo: Encoder::hinfo(zone.default_ttl).store(),
        denial: denial.map(Box::new),
        cuts,
    })
}
