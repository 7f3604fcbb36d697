//! A zone's key.

use std::fmt;

use federation_core::dnssec::PublicKey;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};

/// A combined signing key. Whoever has its secret half signs with it.
#[derive(Clone)]
pub struct Key {
    public: PublicKey,
    secret: Option<SigningKey>,
    /// Whether the parent is asked to have a DS of it (RFC 7344).
    pub wanted_at_parent: bool,
}

/// Why octets are no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a scalar of P-256.
    #[error("private_key: must be the 32 octets of a P-256 scalar")]
    Secret,
    /// Not a point of P-256, or not the one of the secret half.
    #[error("public_key: must be the 64 octets of the P-256 point that belongs to the private key")]
    Public,
}

impl Key {
    /// From the point's coordinates, and the scalar if this key signs.
    ///
    /// # Errors
    /// When they are not of P-256, or do not belong together.
    pub fn new(public: &[u8], secret: &[u8], wanted_at_parent: bool) -> Result<Self, KeyError> {
        let public = PublicKey(public.try_into().map_err(|_| KeyError::Public)?);
        let secret = match secret {
            [] => None,
            scalar => Some(SigningKey::from_slice(scalar).map_err(|_| KeyError::Secret)?),
        };
        let own = secret.as_ref().map(|secret| secret.verifying_key().to_sec1_point(false));
        // The point's uncompressed form has one octet in front (SEC 1 section 2.3.3).
        if own.is_some_and(|own| own.as_bytes().get(1..) != Some(&public.0[..])) {
            return Err(KeyError::Public);
        }
        Ok(Self { public, secret, wanted_at_parent })
    }

    /// The half that everybody may know.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Whether it signs.
    pub fn signs(&self) -> bool {
        self.secret.is_some()
    }

    /// The signature of `message` as it stands in an RRSIG (RFC 6605 section 4); none if the key only stands there.
    pub(super) fn sign(&self, message: &[u8]) -> Option<[u8; 64]> {
        let signature: Signature = self.secret.as_ref()?.try_sign(message).ok()?;
        Some(signature.to_bytes().into())
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.public == other.public
            && self.signs() == other.signs()
            && self.wanted_at_parent == other.wanted_at_parent
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the secret half.
        write!(f, "Key {{ tag: {}, signs: {} }}", self.public.tag(), self.signs())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    /// RFC 6979 appendix A.2.5, P-256 with SHA-256.
    #[test]
    fn signatures_are_deterministic() {
        let secret = hex("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721");
        let public = hex("60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6\
             7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299");
        let key = Key::new(&public, &secret, true).unwrap();
        let expected = hex("EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716\
             F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8");
        assert_eq!(key.sign(b"sample").unwrap()[..], expected[..]);
        assert_eq!(Key::new(&public, &[], false).unwrap().sign(b"sample"), None);
        assert_eq!(Key::new(&public[1..], &secret, true), Err(KeyError::Public));
        assert_eq!(Key::new(&[9; 64], &secret, true), Err(KeyError::Public));
        assert_eq!(Key::new(&public, &[0; 32], true), Err(KeyError::Secret));
        assert!(!format!("{key:?}").contains("C9AF"));
    }
}
