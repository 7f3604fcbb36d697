//! Who somebody says to be.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use federation_apiserver::auth::jwt::Key;
use federation_runtime::pki::{Authority, Peer, Request, SpkiPin, Subject};
use serde_json::json;

use super::{Case, same};
use crate::mutate;

pub(super) fn tokens() -> Case {
    let claims = json!({
        "iss": "https://kubernetes.default.svc", "sub": "system:serviceaccount:demo:robot", "aud": ["a"], "exp": 4_000_000_000_u64,
        "kubernetes.io": {"namespace": "demo", "serviceaccount": {"name": "robot", "uid": "1"}},
    });
    let (key, other) = (Key::generate(), Key::generate());
    let signed =
        |key: &Result<Key, _>| key.as_ref().ok().and_then(|key| key.sign(&claims)).unwrap_or_default();
    let (token, foreign) = (signed(&key), signed(&other));
    let none = format!(
        "{}.{}.",
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#),
        token.split('.').nth(1).unwrap_or_default()
    );
    Box::new(move |dice| {
        let samples = [token.as_str(), token.as_str(), foreign.as_str(), none.as_str(), "a.b.c"];
        let text = mutate::text(dice, &samples, &[".", "=", "-", "_", "eyJ", "..", "AA"]);
        dice.show(|| format!("{text:?}"));
        let Ok(key) = &key else { return Err("there is no key".to_owned()) };
        match key.verify(&text) {
            Ok(read) => same("what nobody signed is believed", &read, &claims),
            Err(_) if text == token => Err("what was signed is not believed".to_owned()),
            Err(_) => Ok(()),
        }
    })
}

pub(super) fn certificates() -> Case {
    let made = || -> anyhow::Result<(String, String, Vec<u8>)> {
        let folder = tempfile::tempdir()?;
        let authority = Authority::load_or_create(folder.path())?;
        let identity = authority.load_or_issue(
            folder.path(),
            "agent",
            &Subject::agent("taiwan", "0a1b"),
            &["a.test".to_owned()],
        )?;
        let lines = |pem: &str| pem.lines().filter(|line| !line.starts_with('-')).collect::<String>();
        let der = STANDARD.decode(lines(&identity.certificate_pem))?;
        Ok((identity.certificate_pem, Request::generate()?.csr_pem, der))
    };
    let made = made();
    Box::new(move |dice| {
        let (pem, request, der) = made.as_ref().map_err(|error| format!("no certificate: {error:#}"))?;
        let damaged = mutate::octets(dice, der);
        let pem = mutate::text(
            dice,
            &[pem, request],
            &["-----BEGIN ", "-----END ", "CERTIFICATE-----", "\n", "=", "MII"],
        );
        dice.show(|| format!("{damaged:02x?}\n{pem}"));
        let (read, whole) =
            (Peer::from_der(&damaged), Peer::from_der(der).map_err(|error| error.to_string())?);
        let _pin = SpkiPin::of_certificate(&damaged);
        let (_read, _checked) = (Peer::from_pem(&pem), Authority::check_request(&pem));
        match read {
            Ok(peer) if damaged == *der => same("another identity", &peer, &whole),
            _ => Ok(()),
        }
    })
}
