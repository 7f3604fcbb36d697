//! Zones as data: what is sent to the DNS servers.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// One zone, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// Fully qualified, lower case, with the final dot.
    pub origin: String,
    /// See [`serial`].
    pub serial: u32,
    /// Seconds.
    pub default_ttl: u32,
    /// Seconds; SOA minimum.
    pub negative_ttl: u32,
    /// Host names of the zone's servers.
    pub nameservers: Vec<String>,
    /// SOA RNAME.
    pub hostmaster: String,
    /// Ordered by name and type.
    pub records: Vec<RecordSet>,
}

impl Zone {
    /// Whether both say the same, whatever their serials are.
    pub fn says_the_same(&self, other: &Self) -> bool {
        let Self { origin, serial: _, default_ttl, negative_ttl, nameservers, hostmaster, records } = self;
        *origin == other.origin
            && *default_ttl == other.default_ttl
            && *negative_ttl == other.negative_ttl
            && *nameservers == other.nameservers
            && *hostmaster == other.hostmaster
            && *records == other.records
    }
}

/// The answers to one question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordSet {
    /// Fully qualified, lower case.
    pub name: String,
    /// Seconds.
    pub ttl: u32,
    /// Type of the records.
    #[serde(rename = "type")]
    pub rtype: RecordType,
    /// `namespace/name` of the Service whose users ask; empty for static records.
    pub service: String,
    /// How a tier answers.
    pub selection: Selection,
    /// Choices in one answer, for [`Selection::Weighted`].
    pub picks: u32,
    /// Tried in order.
    pub tiers: Vec<Tier>,
    /// What the clients of some regions get instead.
    pub variants: Vec<Variant>,
}

impl RecordSet {
    /// The tiers for clients of a region.
    pub fn tiers_for(&self, region: Option<&str>) -> &[Tier] {
        region
            .and_then(|region| {
                self.variants.iter().find(|variant| variant.regions.iter().any(|of| of == region))
            })
            .map_or(&self.tiers, |variant| &variant.tiers)
    }
}

/// What the clients of some regions get.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variant {
    /// Never empty; no region is in two variants of one set.
    pub regions: Vec<String>,
    /// Tried in order.
    pub tiers: Vec<Tier>,
}

/// Types of records that the federation makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RecordType {
    /// IPv4 address.
    A,
    /// IPv6 address.
    #[serde(rename = "AAAA")]
    Aaaa,
    /// Where the name's records are: a name that stands in for it.
    #[serde(rename = "CNAME")]
    Cname,
    /// How a web server is spoken to (RFC 9460).
    #[serde(rename = "HTTPS")]
    Https,
    /// The same for other schemes.
    #[serde(rename = "SVCB")]
    Svcb,
    /// Where a port of a Service is (RFC 2782).
    #[serde(rename = "SRV")]
    Srv,
    /// Text.
    #[serde(rename = "TXT")]
    Txt,
}

impl RecordType {
    /// As in a zone file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Cname => "CNAME",
            Self::Https => "HTTPS",
            Self::Svcb => "SVCB",
            Self::Srv => "SRV",
            Self::Txt => "TXT",
        }
    }

    /// The type whose records hold the address.
    pub fn of(address: &IpAddr) -> Self {
        if address.is_ipv4() { Self::A } else { Self::Aaaa }
    }
}

/// How a tier answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Selection {
    /// With every choice.
    All,
    /// With [`RecordSet::picks`] choices, by weight.
    Weighted,
    /// With one choice, by weight and the client's network.
    Sticky,
}

/// Choices of one rank.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tier {
    /// Never empty.
    pub choices: Vec<Choice>,
}

/// What one cluster answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// Presentation format of the records' data; empty where the name is to exist without any.
    pub data: Vec<String>,
    /// At least 1.
    pub weight: u32,
    /// The cluster; empty for static records.
    pub cluster: String,
}

/// The SOA serial of an epoch: its low 32 bits. Epochs only rise, and by less than 2^31 between two transfers, so that serials
/// compare as RFC 1982 wants. 0 is left out, because some secondaries take it for "none".
pub fn serial(epoch: u64) -> u32 {
    let low = (epoch & u64::from(u32::MAX)) as u32;
    low.max(1)
}
