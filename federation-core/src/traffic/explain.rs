//! Explains the answer for a name and a client, from the same data that the DNS servers get.

use std::fmt;

use thiserror::Error;

use super::{Places, Prefix, RecordSet, TrafficDecision, Zone};

/// An answer, explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup<'a> {
    /// The zone that the name is in.
    pub zone: &'a Zone,
    /// The record sets of the name.
    pub records: Vec<&'a RecordSet>,
    /// Region of the client; none if no prefix says one.
    pub region: Option<&'a str>,
    /// What the answer's EDNS Client Subnet option has for scope (RFC 7871): 0 where the name has no variants.
    pub scope: u8,
    /// `namespace/service`; empty for static names.
    pub service: &'a str,
    /// The TrafficPolicy that decides; empty if there is none.
    pub policy: &'a str,
    /// Cluster by cluster.
    pub reasons: Vec<Reason<'a>>,
    /// What cannot be answered at this name, and why.
    pub notes: Vec<&'a str>,
}

/// Why one cluster is answered, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason<'a> {
    /// The cluster.
    pub cluster: &'a str,
    /// Whether answers may hold it.
    pub answered: bool,
    /// Position of its tier for this client, from 0; none if it is in none.
    pub tier: Option<usize>,
    /// Its weight in that tier, and the sum of the tier's.
    pub share: (u64, u64),
    /// The rule that decided.
    pub rule: &'a str,
    /// For people.
    pub message: &'a str,
}

/// Why a name has no explanation.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LookupError {
    /// No zone holds it.
    #[error("{0} is in none of the federation's zones: {1}")]
    Outside(String, String),
    /// It does not exist.
    #[error("{0} does not exist in {1} (NXDOMAIN)")]
    Unknown(String, String),
}

/// Explains what a client gets for a name. `from` is its prefix, if it is known.
///
/// # Errors
/// When the name is in no zone, or does not exist.
pub fn lookup<'a>(
    decision: &'a TrafficDecision,
    places: &'a Places,
    name: &str,
    from: Option<Prefix>,
) -> Result<Lookup<'a>, LookupError> {
    let name = format!("{}.", name.trim_end_matches('.').to_ascii_lowercase());
    let holds = |zone: &&Zone| {
        name == zone.origin || name.strip_suffix(&zone.origin).is_some_and(|rest| rest.ends_with('.'))
    };
    let zone = decision.zones.iter().filter(holds).max_by_key(|zone| zone.origin.len()).ok_or_else(|| {
        let origins: Vec<&str> = decision.zones.iter().map(|zone| zone.origin.as_str()).collect();
        LookupError::Outside(name.clone(), origins.join(", "))
    })?;
    let records: Vec<&RecordSet> = zone.records.iter().filter(|record| record.name == name).collect();
    let Some(first) = records.first() else {
        return Err(LookupError::Unknown(name, zone.origin.clone()));
    };
    let region = from.and_then(|from| places.region_of(from)).map(|(region, _)| region);
    let located = records.iter().any(|record| !record.variants.is_empty());
    let scope = from.filter(|_| located).map_or(0, |from| places.scope_of(from));
    let owner = decision.owners.get(&name);
    let (service, policy) = owner.map_or(("", ""), |owner| (&owner.service, &owner.policy));
    let tiers = first.tiers_for(region);
    let reasons = decision
        .explanations
        .iter()
        .filter(|why| why.object == service && why.policy == policy && !why.cluster.is_empty())
        .map(|why| {
            let found = tiers.iter().enumerate().find_map(|(index, tier)| {
                let choice = tier.choices.iter().find(|choice| choice.cluster == why.cluster)?;
                let sum = tier.choices.iter().map(|choice| u64::from(choice.weight)).sum();
                Some((index, (u64::from(choice.weight), sum)))
            });
            Reason {
                cluster: &why.cluster,
                answered: why.answered,
                tier: found.map(|(tier, _)| tier),
                share: found.map_or((0, 0), |(_, share)| share),
                rule: why.rule,
                message: &why.message,
            }
        })
        .collect();
    let about = format!("{name} ");
    let notes = decision
        .explanations
        .iter()
        .filter(|why| why.cluster.is_empty() && why.message.starts_with(&about))
        .map(|why| why.message.as_str())
        .collect();
    Ok(Lookup { zone, records, region, scope, service, policy, reasons, notes })
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.answered { "answered" } else { "not answered" };
        write!(f, "{}: {verb}: {}: {}", self.cluster, self.rule, self.message)
    }
}
