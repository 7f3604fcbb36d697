//! Who somebody says to be.

use apimachinery::names;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use federation_apiserver::auth::jwt::Key;
use federation_runtime::pki::{Authority, LIFE_OF_AGENTS, Peer, Request, SpkiPin, Subject};
use prost::Message as _;
use proto::v1;
use serde_json::json;

use super::{Case, same, sessions::decoded};
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

/// Certificates are signed for whom the hub says, whatever the request for them says.
pub(super) fn enrollment() -> Case {
    let made = || -> anyhow::Result<_> {
        let folder = tempfile::tempdir()?;
        let authority = Authority::load_or_create(folder.path())?;
        let csr_pem = Request::generate()?.csr_pem;
        let profile = v1::ClusterProfile {
            region: "asia".into(),
            zone: "asia-1".into(),
            provider: "own".into(),
            labels: [("tier".to_owned(), "one".to_owned())].into(),
        };
        let join = v1::JoinRequest {
            token: "abc123.0123456789abcdef".into(),
            cluster: "taiwan".into(),
            csr_pem: csr_pem.clone(),
            profile: Some(profile),
        };
        let certificate_pem =
            authority.sign_request(&csr_pem, &Subject::agent("taiwan", "0a1b"), LIFE_OF_AGENTS)?;
        let answer = v1::JoinResponse { certificate_pem, ca_pem: authority.certificate_pem.clone() };
        let messages =
            [join.encode_to_vec(), v1::RenewRequest { csr_pem }.encode_to_vec(), answer.encode_to_vec()];
        Ok((authority, messages))
    };
    let made = made();
    Box::new(move |dice| {
        let (authority, [join, renew, answer]) =
            made.as_ref().map_err(|error| format!("no authority: {error:#}"))?;
        let asked = match dice.below(3) {
            0 => decoded::<v1::JoinRequest>(dice, std::slice::from_ref(join))?
                .map(|it| (it.cluster, it.csr_pem)),
            1 => decoded::<v1::RenewRequest>(dice, std::slice::from_ref(renew))?
                .map(|it| ("taiwan".to_owned(), it.csr_pem)),
            _ => {
                if let Some(answer) = decoded::<v1::JoinResponse>(dice, std::slice::from_ref(answer))? {
                    let _read = (Peer::from_pem(&answer.certificate_pem), Peer::from_pem(&answer.ca_pem));
                }
                None
            }
        };
        // The hub has looked at the name before.
        let Some((cluster, csr_pem)) = asked.filter(|(cluster, _)| names::dns1123_label(cluster).is_empty())
        else {
            return Ok(());
        };
        let csr_pem = mutate::text(dice, &[&csr_pem], &["-----BEGIN ", "\n", "=", "MII", "AA"]);
        dice.show(|| format!("{cluster:?}\n{csr_pem}"));
        let good = Authority::check_request(&csr_pem).is_ok();
        let signed = authority.sign_request(&csr_pem, &Subject::agent(&cluster, "0a1b"), LIFE_OF_AGENTS);
        same("what is looked at is what is signed", &good, &signed.is_ok())?;
        let Ok(signed) = signed else { return Ok(()) };
        let peer =
            Peer::from_pem(&signed).map_err(|error| format!("what was signed cannot be read: {error}"))?;
        same("it is signed for somebody else", &peer.agent(), &Some(cluster.as_str()))
    })
}
