//! Types of records (IANA "Domain Name System Parameters"), those with a mnemonic here.

use std::fmt;

/// A resource record type.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Type(pub u16);

impl Type {
    /// An IPv4 address.
    pub const A: Self = Self(1);
    /// A name server.
    pub const NS: Self = Self(2);
    /// An alias.
    pub const CNAME: Self = Self(5);
    /// Start of authority.
    pub const SOA: Self = Self(6);
    /// Host information; what ANY is answered with (RFC 8482).
    pub const HINFO: Self = Self(13);
    /// A name for an address (RFC 1035 section 3.3.12).
    pub const PTR: Self = Self(12);
    /// A mail exchange (RFC 1035 section 3.3.9).
    pub const MX: Self = Self(15);
    /// Text.
    pub const TXT: Self = Self(16);
    /// An IPv6 address (RFC 3596).
    pub const AAAA: Self = Self(28);
    /// A service's place (RFC 2782).
    pub const SRV: Self = Self(33);
    /// EDNS(0) (RFC 6891).
    pub const OPT: Self = Self(41);
    /// Which keys a delegated zone is signed with (RFC 4034 section 5).
    pub const DS: Self = Self(43);
    /// A signature (RFC 4034 section 3).
    pub const RRSIG: Self = Self(46);
    /// The next name, and which types there are (RFC 4034 section 4).
    pub const NSEC: Self = Self(47);
    /// A zone's key (RFC 4034 section 2).
    pub const DNSKEY: Self = Self(48);
    /// The DS that the parent is to have (RFC 7344).
    pub const CDS: Self = Self(59);
    /// The key that the parent is to have a DS for (RFC 7344).
    pub const CDNSKEY: Self = Self(60);
    /// How a service is reached (RFC 9460).
    pub const SVCB: Self = Self(64);
    /// How a web server is reached (RFC 9460).
    pub const HTTPS: Self = Self(65);
    /// In the NSEC record of a name that does not exist, and nowhere else (RFC 9824).
    pub const NXNAME: Self = Self(128);
    /// Who may issue certificates (RFC 8659).
    pub const CAA: Self = Self(257);
    /// Incremental transfer (RFC 1995).
    pub const IXFR: Self = Self(251);
    /// Zone transfer (RFC 5936).
    pub const AXFR: Self = Self(252);
    /// Any type (RFC 8482).
    pub const ANY: Self = Self(255);

    /// The type that a zone update calls `text`, if zones may hold it: a mnemonic, or `TYPE` and the number (RFC 3597 section 5).
    /// What the server makes by itself, and what are no types of data (RFC 6895 section 3.1), cannot be held.
    pub fn of_zone(text: &str) -> Option<Self> {
        let named = NAMED.iter().find(|(_, mnemonic)| *mnemonic == text).map(|&(kind, _)| kind);
        let kind = named.or_else(|| text.strip_prefix("TYPE")?.parse().ok().map(Self))?;
        let made = [Self::SOA, Self::OPT, Self::RRSIG, Self::NSEC, Self::DNSKEY, Self::CDS, Self::CDNSKEY];
        // KEY, SIG, NXT, NSEC3 and NSEC3PARAM mean something to resolvers that this server does not do; DNAME would have to be followed.
        let meaning = [24, 25, 30, 39, 50, 51];
        let data = !made.contains(&kind) && !meaning.contains(&kind.0) && !matches!(kind.0, 0 | 128..=255);
        data.then_some(kind)
    }
}

/// Types with a mnemonic here.
const NAMED: &[(Type, &str)] = &[
    (Type::A, "A"),
    (Type::NS, "NS"),
    (Type::CNAME, "CNAME"),
    (Type::SOA, "SOA"),
    (Type::PTR, "PTR"),
    (Type::MX, "MX"),
    (Type::TXT, "TXT"),
    (Type::AAAA, "AAAA"),
    (Type::SRV, "SRV"),
    (Type::DS, "DS"),
    (Type::RRSIG, "RRSIG"),
    (Type::NSEC, "NSEC"),
    (Type::DNSKEY, "DNSKEY"),
    (Type::CDS, "CDS"),
    (Type::CDNSKEY, "CDNSKEY"),
    (Type::SVCB, "SVCB"),
    (Type::HTTPS, "HTTPS"),
    (Type::CAA, "CAA"),
];

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMED.iter().find(|(kind, _)| kind == self) {
            Some((_, mnemonic)) => f.write_str(mnemonic),
            None => write!(f, "TYPE{}", self.0),
        }
    }
}

impl fmt::Debug for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
