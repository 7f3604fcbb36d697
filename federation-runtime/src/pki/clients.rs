//! Client certificates for users of the API, from PKCS #10 requests (RFC 2986).

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyUsagePurpose, SigningKey as _};
use time::OffsetDateTime;
use x509_parser::{
    asn1_rs::Any, certification_request::X509CertificationRequest, pem::parse_x509_pem, prelude::FromDer as _,
};

use super::{Authority, Error, Peer};

/// A certificate is valid from so long before it was made, as kube-controller-manager's are: clocks differ.
const BACKDATE: Duration = Duration::from_mins(5);
/// The group that may do everything.
const MASTERS: &str = "system:masters";
/// In front of the names and groups of the federation's own parts.
const PARTS: &str = "federation:";
/// Tags of DER values (X.690, section 8).
const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;

/// What a client's key may be used for beside `clientAuth` (RFC 5280, section 4.2.1.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientUsages {
    /// `digitalSignature`.
    pub digital_signature: bool,
    /// `keyEncipherment`.
    pub key_encipherment: bool,
}

impl Authority {
    /// A certificate for a client, PEM: subject and key of its request byte for byte, for `life` from now but not beyond the authority's own
    /// life. Other names and extensions of the request count for nothing, so nobody serves with it.
    ///
    /// # Errors
    /// When the request cannot be read or is not signed by its own key, and [`Error::Reserved`] when the certificate would pass for the one of
    /// an administrator or of a part of the federation.
    pub fn sign_client(&self, csr_pem: &str, usages: ClientUsages, life: Duration) -> Result<String, Error> {
        let (_, block) = parse_x509_pem(csr_pem.as_bytes()).map_err(unreadable)?;
        let (_, request) = X509CertificationRequest::from_der(&block.contents).map_err(unreadable)?;
        request.verify_signature().map_err(unreadable)?;
        let info = &request.certification_request_info;
        let asked = [info.subject.as_raw(), info.subject_pki.raw].concat();
        let model = self.client_params(usages, life)?.signed_by(self.key(), self.issuer())?;
        let der = self.with_subject_and_key(model.der(), &asked)?;
        // Read as whoever lets somebody in by it does.
        let peer = Peer::from_der(&der)?;
        match reserved(&peer) {
            Some(name) => Err(Error::Reserved { name: name.to_owned() }),
            None => Ok(pem(&der)),
        }
    }

    fn client_params(&self, usages: ClientUsages, life: Duration) -> Result<CertificateParams, Error> {
        let mut params = CertificateParams::default();
        let usage = |wanted: bool, usage| wanted.then_some(usage);
        params.key_usages = [
            usage(usages.digital_signature, KeyUsagePurpose::DigitalSignature),
            usage(usages.key_encipherment, KeyUsagePurpose::KeyEncipherment),
        ]
        .into_iter()
        .flatten()
        .collect();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        // Positive, and no other's (RFC 5280, section 4.1.2.2).
        let mut serial: [u8; 16] = rand::random();
        serial[0] = (serial[0] & 0x7f) | 0x40;
        params.serial_number = Some(serial.to_vec().into());
        let now = OffsetDateTime::now_utc();
        let end = OffsetDateTime::from_unix_timestamp(self.not_after()?).map_err(unreadable)?;
        params.not_before = now - BACKDATE;
        params.not_after = end.min(now + life);
        Ok(params)
    }

    /// The certificate with another subject and key, which stand side by side in it (RFC 5280, section 4.1), signed anew.
    fn with_subject_and_key(&self, der: &[u8], asked: &[u8]) -> Result<Vec<u8>, Error> {
        let [whole] = elements(der)?;
        let [signed, algorithm] = elements(content(whole)?)?;
        let [version, serial, same_algorithm, issuer, validity, _, _, extensions] =
            elements(content(signed)?)?;
        let signed =
            sequence(&[version, serial, same_algorithm, issuer, validity, asked, extensions].concat());
        let signature = self.key().sign(&signed)?;
        let bits = [&[BIT_STRING][..], &length(signature.len() + 1), &[0], &signature].concat();
        Ok(sequence(&[&signed, algorithm, &bits].concat()))
    }
}

/// What of a certificate's identity nobody gets by asking for it.
fn reserved(peer: &Peer) -> Option<&str> {
    let mut names = std::iter::once(&peer.user).chain(&peer.groups).map(String::as_str);
    names.find(|name| *name == MASTERS || name.starts_with(PARTS))
}

fn unreadable(error: impl std::fmt::Display) -> Error {
    Error::Parse { what: "certificate request", message: error.to_string() }
}

/// The first values of a run of DER values.
fn elements<const COUNT: usize>(run: &[u8]) -> Result<[&[u8]; COUNT], Error> {
    let mut rest = run;
    let mut found = [run; COUNT];
    for element in &mut found {
        let (after, _) = Any::from_der(rest).map_err(unreadable)?;
        (*element, rest) = rest.split_at(rest.len() - after.len());
    }
    Ok(found)
}

/// What a DER value holds.
fn content(value: &[u8]) -> Result<&[u8], Error> {
    Ok(Any::from_der(value).map_err(unreadable)?.1.data)
}

fn sequence(content: &[u8]) -> Vec<u8> {
    [&[SEQUENCE][..], &length(content.len()), content].concat()
}

/// Octets of a DER length (X.690, section 8.1.3).
fn length(length: usize) -> Vec<u8> {
    if let Ok(short @ ..0x80) = u8::try_from(length) {
        return vec![short];
    }
    let octets: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|octet| *octet == 0).collect();
    [&[0x80 | octets.len() as u8][..], &octets].concat()
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
