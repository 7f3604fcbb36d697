//! JSON web key sets (RFC 7517) and signatures with their keys (RFC 7518). Pure.

use aws_lc_rs::signature::{
    self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

/// Keys of one provider: beyond this many nobody has a use for them.
const KEYS_MAX: usize = 64;

/// A token about which nothing is known yet but what it says itself.
pub(super) struct Unverified {
    pub(super) algorithm: String,
    key_id: Option<String>,
    /// It asks for extensions to be understood; there are none here (RFC 7515, section 4.1.11).
    critical: bool,
    pub(super) claims: Value,
    message: String,
    signature: Vec<u8>,
}

/// A public key of a provider.
#[derive(Debug)]
struct Key {
    id: Option<String>,
    /// What it is said to be for; anything that fits if nothing is said.
    algorithm: Option<String>,
    public: Public,
}

#[derive(Debug)]
enum Public {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// The curve's name, and the point uncompressed.
    Ec {
        curve: String,
        point: Vec<u8>,
    },
}

/// The keys of a provider.
#[derive(Debug, Default)]
pub(super) struct KeySet(Vec<Key>);

impl Unverified {
    /// Takes a token apart; none if it is no JSON web token with an object inside.
    pub(super) fn parse(token: &str) -> Option<Self> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
        let parse = |text: &str| serde_json::from_slice::<Value>(&decode(text)?).ok();
        let header = parse(header)?;
        let claims = parse(claims).filter(Value::is_object)?;
        Some(Self {
            algorithm: header["alg"].as_str()?.to_owned(),
            key_id: header["kid"].as_str().map(str::to_owned),
            critical: header.get("crit").is_some(),
            claims,
            message: message.to_owned(),
            signature: decode(signature)?,
        })
    }

    /// Whether one of the keys signed it. A token that names its key is held to that.
    pub(super) fn is_signed_by(&self, keys: &KeySet) -> bool {
        let named = |key: &&Key| self.key_id.is_none() || key.id == self.key_id;
        !self.critical && keys.0.iter().filter(named).any(|key| self.verify(key))
    }

    fn verify(&self, key: &Key) -> bool {
        if key.algorithm.as_ref().is_some_and(|algorithm| *algorithm != self.algorithm) {
            return false;
        }
        let (message, signature) = (self.message.as_bytes(), self.signature.as_slice());
        match (&key.public, self.algorithm.as_str()) {
            (Public::Rsa { n, e }, algorithm) => rsa(algorithm).is_some_and(|parameters| {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }),
            (Public::Ec { curve, point }, algorithm) => ec(curve, algorithm).is_some_and(|algorithm| {
                UnparsedPublicKey::new(algorithm, point).verify(message, signature).is_ok()
            }),
        }
    }
}

fn rsa(algorithm: &str) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
        "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
        "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
        "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

fn ec(curve: &str, algorithm: &str) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match (curve, algorithm) {
        ("P-256", "ES256") => &signature::ECDSA_P256_SHA256_FIXED,
        ("P-384", "ES384") => &signature::ECDSA_P384_SHA384_FIXED,
        ("P-521", "ES512") => &signature::ECDSA_P521_SHA512_FIXED,
        _ => return None,
    })
}

impl KeySet {
    /// Reads a key set. Keys of other kinds, and those for encryption, are passed over.
    pub(super) fn parse(document: &Value) -> Option<Self> {
        let keys =
            document["keys"].as_array()?.iter().filter(|key| key["use"].is_null() || key["use"] == "sig");
        Some(Self(keys.filter_map(Key::parse).take(KEYS_MAX).collect()))
    }
}

impl Key {
    fn parse(key: &Value) -> Option<Self> {
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str()?.trim_end_matches('=')).ok();
        let public = match key["kty"].as_str()? {
            "RSA" => Public::Rsa { n: bytes("n")?, e: bytes("e")? },
            "EC" => {
                let curve = key["crv"].as_str()?.to_owned();
                let size: usize = match curve.as_str() {
                    "P-256" => 32,
                    "P-384" => 48,
                    "P-521" => 66,
                    _ => return None,
                };
                let mut point = vec![4];
                for part in [bytes("x")?, bytes("y")?] {
                    // Some leave out leading zeros.
                    point.resize(point.len() + size.checked_sub(part.len())?, 0);
                    point.extend(part);
                }
                Public::Ec { curve, point }
            }
            _ => return None,
        };
        let text = |name: &str| key[name].as_str().map(str::to_owned);
        Some(Self { id: text("kid"), algorithm: text("alg"), public })
    }
}
