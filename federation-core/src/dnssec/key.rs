//! A zone's public key as resolvers and parents see it.

use sha2::{Digest, Sha256};

/// Algorithm ECDSAP256SHA256 (RFC 6605).
pub const ALGORITHM: u8 = 13;
/// Flags of every key: it signs the zone, and is the zone's secure entry point (RFC 4034 section 2.1.1). One key does both: a combined
/// signing key.
pub const FLAGS: u16 = 257;
/// Digest type SHA-256 (RFC 4509).
pub const DIGEST: u8 = 2;

/// A P-256 key: the curve point's two coordinates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(pub [u8; 64]);

impl PublicKey {
    /// Data of the DNSKEY record (RFC 4034 section 2.1), and of the CDNSKEY record.
    pub fn dnskey(&self) -> Vec<u8> {
        let [high, low] = FLAGS.to_be_bytes();
        [&[high, low, 3, ALGORITHM], &self.0[..]].concat()
    }

    /// RFC 4034 appendix B.
    pub fn tag(&self) -> u16 {
        let sum: u32 = self
            .dnskey()
            .iter()
            .enumerate()
            .map(|(index, &octet)| u32::from(octet) << if index % 2 == 0 { 8 } else { 0 })
            .sum();
        (sum + (sum >> 16)) as u16
    }

    /// Data of the DS record that the parent of `owner` holds (RFC 4034 section 5.1), and of the CDS record. `owner` is in wire form and
    /// lower case.
    pub fn ds(&self, owner: &[u8]) -> Vec<u8> {
        let digest = Sha256::new().chain_update(owner).chain_update(self.dnskey()).finalize();
        let [high, low] = self.tag().to_be_bytes();
        [&[high, low, ALGORITHM, DIGEST], &digest[..]].concat()
    }

    /// The DS record in presentation format, without its owner: `TAG 13 2 DIGEST`. None: `zone` is no domain name.
    pub fn ds_text(&self, zone: &str) -> Option<String> {
        use std::fmt::Write as _;
        let mut owner = Vec::new();
        for label in zone.trim_end_matches('.').split('.').filter(|_| !zone.trim_end_matches('.').is_empty())
        {
            if !(1..=63).contains(&label.len()) {
                return None;
            }
            owner.push(label.len() as u8);
            owner.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
        }
        owner.push(0);
        let ds = self.ds(&owner);
        let mut text = format!("{} {ALGORITHM} {DIGEST} ", self.tag());
        for octet in ds.get(4..).unwrap_or_default() {
            // Writing to a String does not fail.
            let _ = write!(text, "{octet:02X}");
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6605 section 6.1.
    #[test]
    fn tag_and_ds_are_those_of_the_standards_example() {
        let key = PublicKey(
            base64(
                "GojIhhXUN/u4v54ZQqGSnyhWJwaubCvTmeexv7bR6edbkrSqQpF64cYbcB7wNcP+e+MAnLr+Wi9xMWyQLc8NAA==",
            )
            .try_into()
            .unwrap_or([0; 64]),
        );
        assert_eq!(key.tag(), 55648);
        assert_eq!(
            key.ds_text("example.net.").as_deref(),
            Some("55648 13 2 B4C8C1FE2E7477127B27115656AD6256F424625BF5C1E2770CE6D6E37DF61D17")
        );
    }

    fn base64(text: &str) -> Vec<u8> {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default()
    }
}
