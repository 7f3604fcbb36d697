//! Applies an incremental change to zones, validating only what the change contains.

use std::collections::BTreeSet;
use std::sync::Arc;

use federation_core::probe::Target;
use proto::v1;

use super::packed::{Packed, Sets};
use super::validate::{
    DEFAULT_NEGATIVE_TTL, DEFAULT_TTL, Problem, Problems, Sink, beside, hostmaster, named, record_set,
    servers, signing, ttl,
};
use super::{MADE, Zone, Zones};
use crate::client::RegionNames;
use crate::wire::{Name, Type};

/// Why a change cannot be applied.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is not of these zones, or changes what all sets of a zone depend on.
    #[error("only a whole update can change this")]
    Whole,
    /// Something in it is wrong.
    #[error(transparent)]
    Invalid(#[from] Problems),
}

impl Zones {
    /// These zones after `change`: as [`Zones::from_update`] has them of the whole update that it stands for.
    ///
    /// # Errors
    /// When it does not fit, or is not valid; then nothing of it counts.
    pub fn after(&self, change: &v1::ZoneUpdate) -> Result<Self, Unfit> {
        let mut sink = Sink(Problems::default());
        let mut names = self.regions.names.clone();
        let mut zones = self.zones.clone();
        for described in &change.zones {
            let origin = named("origin", &described.origin).map_err(|_| Unfit::Whole)?;
            let zone = zones.iter_mut().find(|zone| zone.origin == origin).ok_or(Unfit::Whole)?;
            match after(zone, described, &mut names, &mut sink) {
                Ok(next) => *zone = Arc::new(next.ok_or(Unfit::Whole)?),
                Err(problem) => sink.add(&described.origin, problem),
            }
        }
        if !sink.0.0.is_empty() {
            return Err(sink.0.into());
        }
        let mut regions = self.regions.clone();
        if names != regions.names {
            Arc::make_mut(&mut regions).names = names;
        }
        let incarnation = change.incarnation.clone();
        Ok(Self {
            epoch: change.epoch,
            incarnation,
            zones,
            regions,
            cookie_secrets: self.cookie_secrets.clone(),
            probes: self.probes_after(change),
        })
    }
}

impl Zones {
    /// In the order of Services and clusters, as [`Zones::from_update`] has them.
    fn probes_after(&self, change: &v1::ZoneUpdate) -> Arc<Vec<Target>> {
        if change.probes.is_empty() && change.gone_probes.is_empty() {
            return self.probes.clone();
        }
        let gone: BTreeSet<(&str, &str)> = change
            .gone_probes
            .iter()
            .map(|gone| (gone.name.as_str(), gone.kind.as_str()))
            .chain(change.probes.iter().map(|probe| (probe.service.as_str(), probe.cluster.as_str())))
            .collect();
        let stays = |target: &&Target| !gone.contains(&(&*target.key.service, &*target.key.cluster));
        let mut probes: Vec<Target> = self.probes.iter().filter(stays).cloned().collect();
        probes.extend(federation_prober::targets(&change.probes));
        probes.sort_by(|a, b| a.key.cmp(&b.key));
        Arc::new(probes)
    }
}

/// None: only a whole update can say this.
fn after(
    old: &Zone,
    described: &v1::Zone,
    regions: &mut RegionNames,
    sink: &mut Sink,
) -> Result<Option<Zone>, Problem> {
    let default_ttl = ttl(described.default_ttl, DEFAULT_TTL)?;
    if default_ttl != old.default_ttl || signing(described)?.as_ref() != old.signing.as_deref() {
        return Ok(None);
    }
    let (primary, apex) = servers(described, default_ttl)?;
    let mut names = old.names.clone();
    let mut touched: BTreeSet<(Name, Type)> = BTreeSet::new();
    let mut put = |name: Name, kind: Type, set: Option<Packed>| {
        let sets = names.get(&name).cloned().unwrap_or_default().with(kind, set);
        if sets.is_empty() {
            names.remove(&name)
        } else {
            names.insert(name, sets)
        };
    };
    // What is made from the zone's fields at its apex, which records do not replace.
    let made = |name: &Name, kind| {
        old.signing.is_some() && *name == old.origin && kind != Type::NS && MADE.contains(&kind)
    };
    for gone in &described.gone {
        let name = named("gone", &gone.name)?;
        let kind = Type::of_zone(&gone.kind).ok_or_else(|| Problem::Type(gone.kind.clone()))?;
        if made(&name, kind) {
            continue;
        }
        let servers = name == old.origin && kind == Type::NS;
        touched.insert((name.clone(), kind));
        put(name, kind, servers.then(|| Packed::new(&apex)));
    }
    for described in &described.records {
        let at = format_args!("{} {}", described.name, described.r#type).to_string();
        match record_set(described, &old.origin, default_ttl, regions) {
            Ok((name, kind, _)) if !touched.insert((name.clone(), kind)) => sink.add(at, Problem::Twice),
            Ok((name, kind, _)) if made(&name, kind) => {}
            Ok((name, kind, set)) => put(name, kind, Some(Packed::new(&set))),
            Err(problem) => sink.add(at, problem),
        }
    }
    for name in touched.iter().map(|(name, _)| name).collect::<BTreeSet<_>>() {
        let kinds: Vec<Type> = names.get(name).into_iter().flat_map(Sets::kinds).collect();
        beside(&old.origin, name, &kinds, sink);
    }
    Ok(Some(Zone {
        origin: old.origin.clone(),
        serial: described.serial,
        default_ttl,
        negative_ttl: ttl(described.negative_ttl, DEFAULT_NEGATIVE_TTL)?,
        primary,
        hostmaster: hostmaster(described)?,
        signing: old.signing.clone(),
        names,
    }))
}
