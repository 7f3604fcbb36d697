//! Names and numbers of the DNS wire format (RFC 1035 section 4).

mod hash;
mod numbers;
mod skip;

pub use federation_core::dns::{LABELS_MAX, NAME_MAX, Name, NameError, Type};
pub use hash::SuffixHash;
pub use numbers::{Class, Opcode, Rcode};
pub use skip::name_end;

/// Octets of a message's header.
pub const HEADER: usize = 12;
/// What we send over UDP at most, and what we say that we take: the value of the DNS flag day 2020, under which datagrams are not
/// fragmented anywhere.
pub const UDP_MAX: u16 = 1232;
/// What a client that sent no OPT can take over UDP (RFC 1035 section 2.3.4).
pub const UDP_PLAIN: u16 = 512;
