//! JSON web tokens with ES256 (RFC 7515, RFC 7518): one key signs them and verifies them.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
        UnparsedPublicKey,
    },
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// DER before the point of a P-256 public key: SubjectPublicKeyInfo of id-ecPublicKey, prime256v1 (RFC 5480).
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("cannot use the service account key {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file holds something else.
    #[error(
        "{} is not an ECDSA P-256 key in PKCS#8 PEM; remove it to have one made, which ends all tokens",
        path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// No key could be made.
    #[error("cannot make a service account key: the random source fails")]
    Generate,
}

/// A token is not one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is not three parts of base64 with JSON inside.
    #[error("not a JSON web token")]
    Format,
    /// Another key signed it, or it was changed.
    #[error("invalid signature")]
    Signature,
}

/// The key.
pub struct Key {
    pair: EcdsaKeyPair,
    id: String,
}

impl Key {
    /// Makes a key that is gone with this process.
    pub fn generate() -> Result<Self, KeyError> {
        let pair =
            EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| KeyError::Generate)?;
        Ok(Self::new(pair))
    }

    /// Reads the key of a file, or makes one there.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        let file = |source| KeyError::File { path: path.to_owned(), source };
        match fs::read_to_string(path) {
            Ok(pem) => {
                let der = from_pem(&pem).ok_or_else(|| KeyError::Format { path: path.to_owned() })?;
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der)
                    .map_err(|_| KeyError::Format { path: path.to_owned() })?;
                Ok(Self::new(pair))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = Self::generate()?;
                let der = key.pair.to_pkcs8v1().map_err(|_| KeyError::Generate)?;
                // Whole or not at all, and never readable for others.
                let fresh = path.with_extension("key.new");
                let mut options = fs::OpenOptions::new();
                options.write(true).create(true).truncate(true).mode(0o600);
                let mut out = options.open(&fresh).map_err(file)?;
                out.write_all(to_pem(der.as_ref()).as_bytes()).and_then(|()| out.sync_all()).map_err(file)?;
                fs::rename(&fresh, path).map_err(file)?;
                Ok(key)
            }
            Err(error) => Err(file(error)),
        }
    }

    fn new(pair: EcdsaKeyPair) -> Self {
        let mut spki = SPKI_PREFIX.to_vec();
        spki.extend_from_slice(pair.public_key().as_ref());
        // As kube-apiserver names its keys.
        Self { pair, id: URL_SAFE_NO_PAD.encode(Sha256::digest(spki)) }
    }

    /// Signs claims; none if the random source fails.
    pub fn sign(&self, claims: &Value) -> Option<String> {
        let header = json!({"alg": "ES256", "kid": self.id});
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", encode(&header), encode(claims));
        let signature = self.pair.sign(&SystemRandom::new(), message.as_bytes()).ok()?;
        Some(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// The claims of a token that this key signed.
    pub fn verify(&self, token: &str) -> Result<Value, TokenError> {
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Format)?;
        let (header, claims) = message.split_once('.').ok_or(TokenError::Format)?;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Format);
        let parse = |text: &str| -> Result<Value, TokenError> {
            serde_json::from_slice(&decode(text)?).map_err(|_| TokenError::Format)
        };
        // The algorithm is ours, whatever the header says; a header that says another one is not ours.
        if parse(header)?["alg"] != "ES256" {
            return Err(TokenError::Format);
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref())
            .verify(message.as_bytes(), &decode(signature)?)
            .map_err(|_| TokenError::Signature)?;
        parse(claims)
    }

    /// The public half as a JSON web key set (RFC 7517).
    pub fn public_set(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        // 0x04, then both coordinates.
        let (x, y) = point.get(1..).unwrap_or_default().split_at_checked(32).unwrap_or_default();
        json!({"keys": [{
            "use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        }]})
    }
}

fn to_pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = "-----BEGIN PRIVATE KEY-----\n".to_owned();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at_checked(64).unwrap_or((rest, ""));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    pem
}

fn from_pem(pem: &str) -> Option<Vec<u8>> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
    STANDARD.decode(body).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_key_signed_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sa.key");
        let token = Key::load_or_create(&path).unwrap().sign(&json!({"sub": "a"})).unwrap();
        let again = Key::load_or_create(&path).unwrap();
        assert_eq!(again.verify(&token).unwrap()["sub"], "a");
        let (message, signature) = token.rsplit_once('.').unwrap();
        let (header, _) = message.split_once('.').unwrap();
        let forged = format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(r#"{"sub":"b"}"#));
        assert_eq!(again.verify(&forged), Err(TokenError::Signature));
        assert_eq!(Key::generate().unwrap().verify(&token), Err(TokenError::Signature));
        let none = format!("{}.e30.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#));
        assert_eq!(again.verify(&none), Err(TokenError::Format));
        assert_eq!(again.verify("a.b"), Err(TokenError::Format));
    }
}
