//! The authority, its identities, and TLS between them.
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use federation_runtime::pki::{
    Authority, ClientUsages, Error, HUB_NAME, Identity, LIFE_OF_AGENTS, Peer, Request, SpkiPin, Subject,
};
use federation_runtime::tls::{self, Clients};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn now() -> i64 {
    time::OffsetDateTime::now_utc().unix_timestamp()
}

#[test]
fn an_authority_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let first = Authority::load_or_create(dir.path()).unwrap();
    let second = Authority::load_or_create(dir.path()).unwrap();
    assert_eq!(first.certificate_pem, second.certificate_pem);
    assert_eq!(first.pin().unwrap(), second.pin().unwrap());
}

#[test]
fn half_an_authority_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    Authority::load_or_create(dir.path()).unwrap();
    std::fs::remove_file(dir.path().join("ca.key")).unwrap();
    assert!(matches!(Authority::load_or_create(dir.path()), Err(Error::HalfAuthority { .. })));
}

#[test]
fn an_identity_is_issued_anew_when_a_name_is_added_or_the_authority_changes() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::load_or_create(dir.path()).unwrap();
    let names = |more: &[&str]| {
        [&["localhost", "127.0.0.1"], more].concat().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let load = |authority: &Authority, names: &[String]| {
        authority
            .load_or_issue(dir.path(), "apiserver", &Subject::apiserver(), names)
            .unwrap()
            .certificate_pem
    };
    let first = load(&authority, &names(&[]));
    assert_eq!(first, load(&authority, &names(&[])));
    let wider = load(&authority, &names(&["10.0.0.1"]));
    assert_ne!(first, wider);
    let other = tempfile::tempdir().unwrap();
    let other = Authority::load_or_create(other.path()).unwrap();
    assert_ne!(wider, load(&other, &names(&["10.0.0.1"])));
}

/// Stores `next` in place of `former` until the file `stops_at` cannot be replaced, as if the machine went down there.
fn interrupted(stops_at: &str, former: Option<&Identity>, next: &Identity) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(stops_at);
    if let Some(former) = former {
        former.store(dir.path(), "agent").unwrap();
    }
    let kept = std::fs::read(&file).ok();
    let _ = std::fs::remove_file(&file);
    // Nothing can be renamed over a folder.
    std::fs::create_dir_all(file.join("in the way")).unwrap();
    next.store(dir.path(), "agent").unwrap_err();
    std::fs::remove_dir_all(&file).unwrap();
    if let Some(kept) = kept {
        std::fs::write(&file, kept).unwrap();
    }
    dir
}

#[test]
fn a_pair_that_fits_is_there_wherever_a_renewal_is_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::load_or_create(dir.path()).unwrap();
    let issue = || authority.issue(&Subject::agent("taiwan", ""), &[], LIFE_OF_AGENTS).unwrap();
    let (former, next) = (issue(), issue());
    for (stops_at, kept) in [("agent.key", &former), ("agent.crt", &next)] {
        let dir = interrupted(stops_at, Some(&former), &next);
        let loaded = Identity::load(dir.path(), "agent").unwrap();
        assert_eq!(loaded.certificate_pem, kept.certificate_pem, "{stops_at}");
        tls::client(Some(&loaded), &authority.certificate_pem, &[]).unwrap();
        // The next renewal leaves nothing behind.
        let last = issue();
        last.store(dir.path(), "agent").unwrap();
        assert_eq!(Identity::load(dir.path(), "agent").unwrap().key_pem, last.key_pem);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "{stops_at}");
    }
    // The first of all, for which a token was used up.
    for stops_at in ["agent.key", "agent.crt"] {
        let dir = interrupted(stops_at, None, &next);
        assert!(Identity::is_stored(dir.path(), "agent"));
        assert_eq!(Identity::load(dir.path(), "agent").unwrap().key_pem, next.key_pem, "{stops_at}");
    }
}

#[test]
fn a_key_of_another_certificate_is_refused_with_advice() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::load_or_create(dir.path()).unwrap();
    let issue = || authority.issue(&Subject::agent("taiwan", ""), &[], LIFE_OF_AGENTS).unwrap();
    issue().store(dir.path(), "agent").unwrap();
    std::fs::write(dir.path().join("agent.key"), issue().key_pem).unwrap();
    let refused = Identity::load(dir.path(), "agent").unwrap_err();
    assert!(refused.to_string().contains("agent.key is not the key of agent.crt"), "{refused}");
}

#[test]
fn a_signed_request_carries_our_subject_and_not_the_askers() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::load_or_create(dir.path()).unwrap();
    let request = Request::generate().unwrap();
    Authority::check_request(&request.csr_pem).unwrap();
    let subject = Subject::agent("taiwan", "0b6f8f5c-3d3e-4b0c-9c5c-5d1c1f0a7e11");
    let before = now();
    let pem = authority.sign_request(&request.csr_pem, &subject, LIFE_OF_AGENTS).unwrap();
    let peer = Peer::from_pem(&pem).unwrap();
    assert_eq!((peer.agent(), peer.uid.as_str()), (Some("taiwan"), subject.uid.as_str()));
    assert!((before..=now()).contains(&peer.agent_signed_at()));
    // Certificates of earlier versions name no uid.
    let pem =
        authority.sign_request(&request.csr_pem, &Subject::agent("taiwan", ""), LIFE_OF_AGENTS).unwrap();
    assert_eq!(Peer::from_pem(&pem).unwrap().uid, "");
    assert!(peer.renew_at() < peer.not_after);
    Authority::check_request("garbage").unwrap_err();
    assert!(authority.sign_request("garbage", &Subject::agent("taiwan", ""), LIFE_OF_AGENTS).is_err());
}

#[test]
fn a_pin_is_read_as_it_is_printed() {
    let dir = tempfile::tempdir().unwrap();
    let pin = Authority::load_or_create(dir.path()).unwrap().pin().unwrap();
    assert_eq!(pin.to_string().parse::<SpkiPin>().unwrap(), pin);
    for wrong in ["", "sha256:", "sha256:zz", "md5:00", &pin.to_string()[..70]] {
        assert!(wrong.parse::<SpkiPin>().is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn both_sides_of_a_connection_are_proven() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::load_or_create(dir.path()).unwrap();
    let hub = authority.issue(&Subject::controller(), &[HUB_NAME.into()], LIFE_OF_AGENTS).unwrap();
    let agent = authority.issue(&Subject::agent("tokyo", "9d4c"), &[], LIFE_OF_AGENTS).unwrap();
    let ca = &authority.certificate_pem;
    let acceptor =
        tokio_rustls::TlsAcceptor::from(Arc::new(tls::server(&hub, ca, Clients::Required, &["h2"]).unwrap()));
    let connector =
        tokio_rustls::TlsConnector::from(Arc::new(tls::client(Some(&agent), ca, &["h2"]).unwrap()));
    let (near, far) = tokio::io::duplex(4096);
    let server = tokio::spawn(async move {
        let mut stream = acceptor.accept(far).await.unwrap();
        let peer = Peer::from_der(&stream.get_ref().1.peer_certificates().unwrap()[0]).unwrap();
        stream.write_all(peer.agent().unwrap().as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let mut stream = connector.connect(HUB_NAME.try_into().unwrap(), near).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "tokyo");
    server.await.unwrap();
}

/// Of CN=jane and, in one RDN as Go writes it, O=dev and O=ops, with the DNS name federation-hub.
const OF_JANE: &str = "-----BEGIN CERTIFICATE REQUEST-----\n\
MIIBEDCBtwIBADApMRgwCgYDVQQKDANkZXYwCgYDVQQKDANvcHMxDTALBgNVBAMM\n\
BGphbmUwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAR5tNFBEz7/oNiSVDJcTYPX\n\
wcUArvrT6jq9d8IqCXrzKCmHytObgOAf1ojnZd42RW9icJZKbJsbwrfb9bZQ4PpO\n\
oCwwKgYJKoZIhvcNAQkOMR0wGzAZBgNVHREEEjAQgg5mZWRlcmF0aW9uLWh1YjAK\n\
BggqhkjOPQQDAgNIADBFAiAUA5UbYDvTiprqDDfuELEt9L6ZHZgs5C6XVI+SNv4c\n\
zwIhAKxsl1pGJ7fCsLnen1hvHfCY8znXkrk+dOrQIzYH+5Ki\n\
-----END CERTIFICATE REQUEST-----
";
/// Of CN=x, O=federation:agents.
const OF_A_PART: &str = "-----BEGIN CERTIFICATE REQUEST-----\n\
MIHiMIGKAgEAMCgxGjAYBgNVBAoMEWZlZGVyYXRpb246YWdlbnRzMQowCAYDVQQD\n\
DAF4MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEebTRQRM+/6DYklQyXE2D18HF\n\
AK760+o6vXfCKgl68ygph8rTm4DgH9aI52XeNkVvYnCWSmybG8K32/W2UOD6TqAA\n\
MAoGCCqGSM49BAMCA0cAMEQCIEEBRAiGRVHC9uTG/ed0lFdPDOUzSpYopHW77dAG\n\
Tkm0AiB9OrzRd2i4H+OmLl1tylG8n04+QF3fUjKXgkWvuOtKPg==\n\
-----END CERTIFICATE REQUEST-----
";

#[test]
fn a_client_gets_the_subject_that_it_asks_for_and_no_other_name() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::load_or_create(dir.path()).unwrap();
    let usages = ClientUsages { digital_signature: true, key_encipherment: false };
    let hour = std::time::Duration::from_hours(1);
    let pem = authority.sign_client(OF_JANE, usages, hour).unwrap();
    let peer = Peer::from_pem(&pem).unwrap();
    assert_eq!((peer.user.as_str(), &peer.groups[..]), ("jane", &["dev".to_owned(), "ops".to_owned()][..]));
    assert!((now() + 3590..=now() + 3600).contains(&peer.not_after), "{}", peer.not_after - now());
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
    let (_, ca) = x509_parser::pem::parse_x509_pem(authority.certificate_pem.as_bytes()).unwrap();
    certificate.verify_signature(Some(ca.parse_x509().unwrap().public_key())).unwrap();
    assert!(certificate.subject_alternative_name().unwrap().is_none());
    let other = authority.sign_client(OF_JANE, usages, hour).unwrap();
    let other = CertificateDer::from_pem_slice(other.as_bytes()).unwrap();
    assert_ne!(certificate.raw_serial(), x509_parser::parse_x509_certificate(&other).unwrap().1.raw_serial());
    let extended = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.client_auth && !extended.server_auth);
    // None outlives the authority.
    let century = authority.sign_client(OF_JANE, usages, 876_000 * hour).unwrap();
    assert_eq!(Peer::from_pem(&century).unwrap().not_after, authority.not_after().unwrap());
}

#[test]
fn nobody_gets_the_certificate_of_a_part_for_the_asking() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::load_or_create(dir.path()).unwrap();
    let sign =
        |csr: &str| authority.sign_client(csr, ClientUsages::default(), std::time::Duration::from_hours(1));
    let refused = sign(OF_A_PART).unwrap_err();
    assert!(matches!(&refused, Error::Reserved { name } if name == "federation:agents"), "{refused}");
    // Another subject under a signature that was made for this one.
    let block = x509_parser::pem::parse_x509_pem(OF_JANE.as_bytes()).unwrap().1;
    let mut forged = block.contents;
    let at = forged.windows(4).position(|part| part == b"jane").unwrap();
    forged[at..at + 4].copy_from_slice(b"root");
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, forged);
    let forged = format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n");
    assert!(matches!(sign(&forged).unwrap_err(), Error::Parse { .. }));
    assert!(matches!(sign("nothing").unwrap_err(), Error::Parse { .. }));
}

#[test]
fn a_key_that_was_torn_is_made_anew_with_its_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::load_or_create(dir.path()).unwrap();
    let issue = || authority.load_or_issue(dir.path(), "dns-lb", &Subject::dns(), &[]).unwrap();
    let first = issue();
    assert_eq!(issue().key_pem, first.key_pem);
    std::fs::write(dir.path().join("dns-lb.key"), &first.key_pem[..40]).unwrap();
    let second = issue();
    assert_ne!(second.key_pem, first.key_pem);
    assert_eq!(std::fs::read_to_string(dir.path().join("dns-lb.key")).unwrap(), second.key_pem);
}

#[test]
fn an_authority_that_cannot_be_read_is_named_by_its_file() {
    for (file, what) in [("ca.key", "private key"), ("ca.crt", "certificate of an authority")] {
        let dir = tempfile::tempdir().unwrap();
        drop(Authority::load_or_create(dir.path()).unwrap());
        std::fs::write(dir.path().join(file), "junk").unwrap();
        let error = Authority::load_or_create(dir.path()).err().unwrap().to_string();
        assert!(error.contains(&format!("{file} holds no {what}: restore it")), "{error}");
    }
}

#[test]
fn what_cannot_be_written_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    // A folder stands where the file is to be.
    std::fs::create_dir_all(dir.path().join("file/inside")).unwrap();
    let access = federation_runtime::files::Access::Private;
    assert!(federation_runtime::files::replace(&dir.path().join("file"), b"text", access).is_err());
    let left: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["file"]);
}
