//! Names and numbers of the DNS wire format (RFC 1035 section 4).

mod name;
mod numbers;

pub use name::{Name, NameError, SuffixHash};
pub use numbers::{Class, Opcode, Rcode, Type};

/// Octets of a message's header.
pub const HEADER: usize = 12;
/// The longest name on the wire, with its final zero (RFC 1035 section 2.3.4).
pub const NAME_MAX: usize = 255;
/// Most labels that a name of [`NAME_MAX`] octets can have, without the root.
pub const LABELS_MAX: usize = 127;
/// What we send over UDP at most, and what we say that we take: the value of the DNS flag day 2020, under which datagrams are not
/// fragmented anywhere.
pub const UDP_MAX: u16 = 1232;
/// What a client that sent no OPT can take over UDP (RFC 1035 section 2.3.4).
pub const UDP_PLAIN: u16 = 512;
