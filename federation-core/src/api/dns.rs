//! The kinds DNSZone and DNSRecordSet: DNSSEC settings of a zone, and records that do not come from a Service.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::resource::kind;

kind! {
    /// Settings of one DNS zone. The object's name is the zone's, in lower case and without the final dot.
    DNSZone, "dnszones", k8s_openapi::ClusterResourceScope, DNSZoneSpec, DNSZoneStatus
}

kind! {
    /// Records of one name and type that do not depend on any Service.
    DNSRecordSet, "dnsrecordsets", k8s_openapi::NamespaceResourceScope, DNSRecordSetSpec, DNSRecordSetStatus
}

/// Settings of one DNS zone. A zone that the federation does not have otherwise is served, too, with the DNSRecordSets in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DNSZoneSpec {
    /// Signing; the zone is not signed if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dnssec: Option<Dnssec>,
}

/// How a zone is signed: with one ECDSA P-256 key, made and rolled by the controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Dnssec {
    /// Whether the zone is signed. Before switching it off, remove the DS record from the parent and wait for that record's TTL.
    pub enabled: bool,
    /// Number of key rollovers since the zone was first signed: increase it by one to start a rollover.
    #[serde(skip_serializing_if = "is_zero")]
    pub rolls: u32,
    /// Tag of the key whose DS record the parent publishes. A rollover continues only when this is the new key's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_has: Option<u16>,
    /// TTL of the DS in the parent zone, seconds; a day if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604_800))]
    pub parent_ds_ttl_seconds: Option<u32>,
    /// Validity of signatures in seconds; 14 days if unset. They are renewed after half of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 86_400, max = 31_536_000))]
    pub signature_validity_seconds: Option<u32>,
    /// How it is proven that a name does not exist.
    #[serde(skip_serializing_if = "is_chain")]
    pub denial: Denial,
    /// For Compact: the maximum number of signatures that each DNS server makes per second; 500 if unset, a small part of one core.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub compact_signatures_per_second: Option<u32>,
}

impl Dnssec {
    /// See [`Self::compact_signatures_per_second`].
    pub const COMPACT_SIGNATURES: u32 = 500;

    /// Signatures a second for compact denial; 0 where the chain denies.
    pub fn compact_signatures(&self) -> u32 {
        match self.denial {
            Denial::Chain => 0,
            Denial::Compact => self.compact_signatures_per_second.unwrap_or(Self::COMPACT_SIGNATURES),
        }
    }
}

/// How it is proven that a name does not exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Denial {
    /// With a chain of all names (NSEC), signed in advance: two records per answer, and a flood of queries costs no signatures.
    #[default]
    Chain,
    /// With one record that is signed on request (RFC 9824): shorter answers that reveal no other name. Beyond the limit of signatures, and
    /// for names that exist, the chain is used. So a flood is still answered, and the zone's names are not secret.
    Compact,
}

/// State of a zone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DNSZoneStatus {
    /// Generation that the controller last read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Stable`, `Introducing`, `Swapping` or `Retiring`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub step: String,
    /// Number of rollovers that were started.
    #[serde(skip_serializing_if = "is_zero")]
    pub rolls: u32,
    /// The keys that are published, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<DNSKeyStatus>,
    /// `Signed`: whether keys are published, and what a rollover waits for. `Served`: whether the zone is answered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<serde_json::Map<String, serde_json::Value>>")]
    pub conditions: Vec<Condition>,
}

/// A key of a zone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DNSKeyStatus {
    /// RFC 4034 appendix B.
    pub tag: u16,
    /// Data of the DS record for the parent: `TAG 13 2 DIGEST`.
    pub ds: String,
    /// Whether the parent should publish it now.
    pub wanted_at_parent: bool,
}

/// Records of one name and type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DNSRecordSetSpec {
    /// The zone; the federation's own if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The name; absolute with a final dot, else relative to the zone. `@` is the zone itself.
    pub name: String,
    /// `A`, `AAAA`, `CAA`, `CNAME`, `DS`, `HTTPS`, `MX`, `NS` (delegates), `PTR`, `SRV`, `SVCB`, `TXT`, or `TYPE` and a number.
    #[serde(rename = "type")]
    pub type_: String,
    /// Seconds; the zone's default if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604_800))]
    pub ttl_seconds: Option<u32>,
    /// Each record's data as in a zone file (RFC 1035 section 5.1; RFC 3597 for unknown types). Names in it end with a dot.
    pub records: Vec<String>,
}

/// Whether a record set is served.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DNSRecordSetStatus {
    /// Generation that the controller last read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`: whether it is served; if not, why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<serde_json::Map<String, serde_json::Value>>")]
    pub conditions: Vec<Condition>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_chain(denial: &Denial) -> bool {
    *denial == Denial::Chain
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}
