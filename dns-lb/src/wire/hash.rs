//! A hash of names for tables.

use super::Name;

/// A hash that grows from the root leftwards, so that one pass over a name gives the hash of every ancestor too.
///
/// It is not keyed: the table that it indexes is built from our own zones, so that a client can choose where it looks but not how
/// crowded it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuffixHash(u64);

impl SuffixHash {
    /// Of the root.
    pub const ROOT: Self = Self(0x9e37_79b9_7f4a_7c15);

    /// Of the name that has `label` (length octet included, lower case) in front of the name hashed so far.
    #[inline]
    #[must_use]
    pub fn prepend(self, label: &[u8]) -> Self {
        const K: u64 = 0x517c_c1b7_2722_0a95;
        let mut hash = self.0;
        let (chunks, rest) = label.as_chunks::<8>();
        for chunk in chunks {
            hash = (hash.rotate_left(5) ^ u64::from_le_bytes(*chunk)).wrapping_mul(K);
        }
        Self((hash.rotate_left(5) ^ few(rest)).wrapping_mul(K))
    }

    /// The bits that a table indexes by.
    #[inline]
    pub fn index(self) -> u32 {
        (self.0 ^ self.0 >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9).wrapping_shr(32) as u32
    }

    /// Of a whole name.
    pub fn of(name: &Name) -> Self {
        name.labels_from_root().iter().fold(Self::ROOT, |hash, label| {
            let mut with_length = Vec::with_capacity(64);
            with_length.push(label.len() as u8);
            with_length.extend_from_slice(label);
            hash.prepend(&with_length)
        })
    }
}

/// Fewer than eight octets in one number, by two loads that may overlap in place of one for each octet. Of one length, no two give the same.
#[inline]
fn few(octets: &[u8]) -> u64 {
    if let (Some(front), Some(back)) = (octets.first_chunk::<4>(), octets.last_chunk::<4>()) {
        u64::from(u32::from_le_bytes(*front)) | u64::from(u32::from_le_bytes(*back)) << 32
    } else if let (Some(front), Some(back)) = (octets.first_chunk::<2>(), octets.last_chunk::<2>()) {
        u64::from(u16::from_le_bytes(*front)) | u64::from(u16::from_le_bytes(*back)) << 32
    } else {
        octets.first().map_or(0, |&octet| u64::from(octet))
    }
}
