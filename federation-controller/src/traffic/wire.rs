//! Zones as messages.

use std::collections::BTreeSet;
use std::time::Duration;

use federation_core::traffic::{Places, RecordSet, Selection, Tier, Zone};
use proto::v1;

use crate::dns::Extras;

/// Origins that had records once and have none now, told explicitly: a dns-lb takes no zone's absence for its end. `known` is every origin
/// that ever had records.
/// A zone whose keys are lost is absent, and not withdrawn.
pub(super) fn withdrawn_origins(
    known: &mut BTreeSet<String>,
    zones: &[v1::Zone],
    extras: &Extras,
) -> Vec<String> {
    let lost = |origin: &String| extras.zones.get(origin).is_some_and(|zone| zone.lost);
    let filled: BTreeSet<&str> =
        zones.iter().filter(|zone| !zone.records.is_empty()).map(|zone| zone.origin.as_str()).collect();
    known.extend(filled.iter().map(ToString::to_string));
    known.iter().filter(|origin| !filled.contains(origin.as_str()) && !lost(origin)).cloned().collect()
}

/// The longest time that an answer of these zones may be cached.
pub(super) fn max_ttl(zones: &[Zone]) -> Duration {
    let records = zones.iter().flat_map(|zone| zone.records.iter().map(|record| record.ttl));
    Duration::from_secs(u64::from(records.max().unwrap_or_default()))
}

/// A zone.
pub(super) fn zone(zone: &Zone) -> v1::Zone {
    v1::Zone {
        origin: zone.origin.clone(),
        serial: zone.serial,
        default_ttl: zone.default_ttl,
        negative_ttl: zone.negative_ttl,
        nameservers: zone.nameservers.clone(),
        hostmaster: zone.hostmaster.clone(),
        records: zone.records.iter().map(record_set).collect(),
        ..v1::Zone::default()
    }
}

/// Whether some name looks where clients are. What no answer depends on is no reason for a scope.
pub(super) fn is_located(zones: &[Zone]) -> bool {
    zones.iter().any(|zone| zone.records.iter().any(|record| !record.variants.is_empty()))
}

/// Where clients are.
pub(super) fn regions(places: &Places) -> v1::Regions {
    v1::Regions {
        prefixes: places
            .prefixes
            .iter()
            .map(|(prefix, region)| v1::ClientPrefix { prefix: prefix.to_string(), region: region.clone() })
            .collect(),
        countries: places.countries.clone().into_iter().collect(),
        continents: places.continents.clone().into_iter().collect(),
    }
}

fn record_set(record: &RecordSet) -> v1::RecordSet {
    let selection = selection(record.selection);
    v1::RecordSet {
        name: record.name.clone(),
        ttl: record.ttl,
        r#type: record.rtype.as_str().into(),
        selection: selection.into(),
        tiers: tiers(&record.tiers),
        service: record.service.clone(),
        picks: record.picks,
        variants: record
            .variants
            .iter()
            .map(|variant| v1::Variant {
                regions: variant.regions.clone(),
                selection: selection.into(),
                tiers: tiers(&variant.tiers),
                picks: record.picks,
            })
            .collect(),
    }
}

/// As the clients of a region get it.
pub(crate) fn for_region(record: &RecordSet, region: Option<&str>) -> v1::RecordSet {
    v1::RecordSet { tiers: tiers(record.tiers_for(region)), variants: Vec::new(), ..record_set(record) }
}

fn selection(selection: Selection) -> v1::Selection {
    match selection {
        Selection::All => v1::Selection::All,
        Selection::Weighted => v1::Selection::Weighted,
        Selection::Sticky => v1::Selection::Sticky,
    }
}

fn tiers(tiers: &[Tier]) -> Vec<v1::Tier> {
    tiers
        .iter()
        .map(|tier| v1::Tier {
            choices: tier
                .choices
                .iter()
                .map(|choice| v1::Choice {
                    data: choice.data.clone(),
                    weight: choice.weight,
                    cluster: choice.cluster.clone(),
                })
                .collect(),
        })
        .collect()
}
