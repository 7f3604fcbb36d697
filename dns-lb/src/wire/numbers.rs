//! Assigned numbers (IANA "Domain Name System Parameters"), only those that this server treats apart.

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
    /// Text.
    pub const TXT: Self = Self(16);
    /// An IPv6 address (RFC 3596).
    pub const AAAA: Self = Self(28);
    /// A service's place (RFC 2782).
    pub const SRV: Self = Self(33);
    /// EDNS(0) (RFC 6891).
    pub const OPT: Self = Self(41);
    /// Incremental transfer (RFC 1995).
    pub const IXFR: Self = Self(251);
    /// Zone transfer (RFC 5936).
    pub const AXFR: Self = Self(252);
    /// Any type (RFC 8482).
    pub const ANY: Self = Self(255);

    /// The type that a zone update calls `text`, if zones may hold it.
    pub fn of_zone(text: &str) -> Option<Self> {
        Some(match text {
            "A" => Self::A,
            "AAAA" => Self::AAAA,
            "CNAME" => Self::CNAME,
            "NS" => Self::NS,
            "SRV" => Self::SRV,
            "TXT" => Self::TXT,
            _ => return None,
        })
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::A => f.write_str("A"),
            Self::NS => f.write_str("NS"),
            Self::CNAME => f.write_str("CNAME"),
            Self::SOA => f.write_str("SOA"),
            Self::TXT => f.write_str("TXT"),
            Self::AAAA => f.write_str("AAAA"),
            Self::SRV => f.write_str("SRV"),
            Self(other) => write!(f, "TYPE{other}"),
        }
    }
}

impl fmt::Debug for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class(pub u16);

impl Class {
    /// The Internet.
    pub const IN: Self = Self(1);
    /// Chaos: where servers are asked about themselves (RFC 4892).
    pub const CH: Self = Self(3);
}

/// What kind of request a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opcode(pub u8);

impl Opcode {
    /// A standard query: the only one that this server answers.
    pub const QUERY: Self = Self(0);
}

/// A response code, the extended ones included (RFC 6891 section 6.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rcode(pub u8);

impl Rcode {
    /// An answer, perhaps an empty one.
    pub const NOERROR: Self = Self(0);
    /// The server cannot read the query.
    pub const FORMERR: Self = Self(1);
    /// The server has no state to answer from.
    pub const SERVFAIL: Self = Self(2);
    /// There is no such name.
    pub const NXDOMAIN: Self = Self(3);
    /// The server does not know this kind of request.
    pub const NOTIMP: Self = Self(4);
    /// The server will not answer this.
    pub const REFUSED: Self = Self(5);
    /// Signed with a key that the server does not know (RFC 8945).
    pub const NOTAUTH: Self = Self(9);
    /// An EDNS version that the server does not know (RFC 6891).
    pub const BADVERS: Self = Self(16);
    /// How many counters hold every code above.
    pub const COUNT: usize = 17;

    /// The mnemonic, as `dig` prints it.
    pub fn mnemonic(self) -> &'static str {
        match self {
            Self::NOERROR => "NOERROR",
            Self::FORMERR => "FORMERR",
            Self::SERVFAIL => "SERVFAIL",
            Self::NXDOMAIN => "NXDOMAIN",
            Self::NOTIMP => "NOTIMP",
            Self::REFUSED => "REFUSED",
            Self::NOTAUTH => "NOTAUTH",
            Self::BADVERS => "BADVERS",
            _ => "OTHER",
        }
    }
}
