//! Assigned numbers (IANA "Domain Name System Parameters"), only those that this server handles specially.

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
    /// The client is to ask again with the cookie of this answer (RFC 7873).
    pub const BADCOOKIE: Self = Self(23);
    /// How many counters hold every code above.
    pub const COUNT: usize = 24;

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
            Self::BADCOOKIE => "BADCOOKIE",
            _ => "OTHER",
        }
    }
}
