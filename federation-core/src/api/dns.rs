//! The kinds DNSZone and DNSRecordSet: how a zone is signed, and records that no Service makes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::resource::kind;

kind! {
    /// What is particular to one DNS zone. Its name is the zone's, in lower case and without the final dot.
    DNSZone, "dnszones", k8s_openapi::ClusterResourceScope, DNSZoneSpec, DNSZoneStatus
}

kind! {
    /// Records of one name and type that do not depend on any Service.
    DNSRecordSet, "dnsrecordsets", k8s_openapi::NamespaceResourceScope, DNSRecordSetSpec, DNSRecordSetStatus
}

/// What is particular to one DNS zone. A zone that the federation does not have by itself is served too, with the DNSRecordSets in it.
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
    /// Whether the zone is signed. Before it is switched off the parent must have dropped its DS, for as long as that DS may be cached.
    pub enabled: bool,
    /// How many times the key is to have been replaced since the zone was first signed: raise it by one to begin a roll.
    #[serde(skip_serializing_if = "is_zero")]
    pub rolls: u32,
    /// Tag of the key whose DS the parent zone is seen to have. A roll goes on only when this names the new key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_has: Option<u16>,
    /// TTL of the DS in the parent zone, seconds; a day if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604_800))]
    pub parent_ds_ttl_seconds: Option<u32>,
    /// How long a signature counts, seconds; 14 days if unset. It is renewed at half of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 86_400, max = 31_536_000))]
    pub signature_validity_seconds: Option<u32>,
    /// How it is proven that a name does not exist.
    #[serde(skip_serializing_if = "is_chain")]
    pub denial: Denial,
    /// For Compact: signatures that each DNS server makes in a second at most, whoever asks; 500 if unset, which is a small part of one core.
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
    /// By the chain of all names (NSEC), signed in advance: two records in an answer, and a flood of questions costs no signature.
    #[default]
    Chain,
    /// By one record that is made and signed when somebody asks (RFC 9824): shorter answers, and no other name is shown. Over the bound of
    /// signatures, and about names that exist, the chain speaks: a flood is answered, and who walks the zone slowly enough sees its names.
    Compact,
}

/// Where a zone is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DNSZoneStatus {
    /// Generation that the controller last read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Stable`, `Introducing`, `Swapping` or `Retiring`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub step: String,
    /// Rolls that were begun.
    #[serde(skip_serializing_if = "is_zero")]
    pub rolls: u32,
    /// The keys that are published, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<DNSKeyStatus>,
    /// `Signed`: whether keys are published, and what is waited for; `Served`: whether the zone is one that is answered.
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
    /// Whether the parent is to have it now.
    pub wanted_at_parent: bool,
}

/// Records of one name and type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DNSRecordSetSpec {
    /// The zone; the federation's own if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The name: with a final dot as it is, else relative to the zone; `@` is the zone itself.
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
