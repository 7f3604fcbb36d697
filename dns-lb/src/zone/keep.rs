//! Zones that are kept although an update no longer contains them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::packed::Packed;
use super::{Problem, Problems, Sets, Zone, Zones};
use crate::client::{Region, RegionNames, RegionProblem};
use crate::wire::Name;

impl Zones {
    /// Takes the zones with these origins over from `served`, as they are there, whatever the regions are called by here.
    ///
    /// # Errors
    /// When one overlaps with a zone that is here, or there are too many regions.
    pub(crate) fn keep(&mut self, served: &Self, origins: &[&Name]) -> Result<(), Problems> {
        for zone in served.zones.iter().filter(|zone| origins.contains(&&zone.origin)) {
            let told = |problem: Problem| Problems(vec![format!("{}: {problem}", zone.origin)]);
            let overlap = self
                .zones
                .iter()
                .find(|other| zone.origin.is_within(&other.origin) || other.origin.is_within(&zone.origin));
            if let Some(other) = overlap {
                return Err(told(Problem::Overlap(other.origin.clone())));
            }
            let mut names = self.regions.names.clone();
            let kept =
                renamed(zone, &served.regions.names, &mut names).map_err(|problem| told(problem.into()))?;
            if names != self.regions.names {
                Arc::make_mut(&mut self.regions).names = names;
            }
            self.zones.push(kept);
        }
        Ok(())
    }
}

/// The zone with the indices that its regions have among `new`.
fn renamed(zone: &Arc<Zone>, old: &RegionNames, new: &mut RegionNames) -> Result<Arc<Zone>, RegionProblem> {
    if old == new {
        return Ok(zone.clone());
    }
    let mut indices: BTreeMap<Region, Region> = BTreeMap::new();
    let mut names = zone.names.clone();
    for (name, sets) in &zone.names {
        let mut packed = BTreeMap::new();
        let mut varies = false;
        for (kind, mut set) in sets.iter() {
            for variant in &mut set.variants {
                varies = true;
                for region in &mut variant.regions {
                    *region = match (indices.get(region), old.name(*region)) {
                        (Some(known), _) => *known,
                        (None, Some(name)) => {
                            let known = new.region(name)?;
                            indices.insert(*region, known);
                            known
                        }
                        (None, None) => *region,
                    };
                }
                variant.regions.sort_unstable();
            }
            packed.insert(kind, Packed::new(&set));
        }
        if varies {
            names.insert(name.clone(), Sets::of(&packed));
        }
    }
    Ok(Arc::new(Zone { names, ..zone.as_ref().clone() }))
}
