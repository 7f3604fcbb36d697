//! The certificate authority.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use time::OffsetDateTime;

use super::subject::UID;
use super::{Error, Identity, Peer, SpkiPin, Subject};
use crate::errors::Chain;
use crate::files::{self, Access};

/// Life of an agent's certificate; it renews by itself at two thirds.
pub const LIFE_OF_AGENTS: Duration = Duration::from_hours(30 * 24);
/// Life of the certificates of the control plane's own parts; renewed at each start after two thirds.
pub const LIFE_OF_PARTS: Duration = Duration::from_hours(365 * 24);
/// Life of the authority itself.
const LIFE_OF_AUTHORITY: Duration = Duration::from_hours(10 * 365 * 24);
/// Clocks differ, sometimes by a lot: a certificate is valid from well before it was made.
const BACKDATE: Duration = Duration::from_hours(1);

/// The federation's certificate authority: `<directory>/ca.crt` and `ca.key`.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// PEM.
    pub certificate_pem: String,
    der: CertificateDer<'static>,
}

impl Authority {
    /// Reads the authority in `directory`, or makes one there if there is none at all.
    ///
    /// # Errors
    /// [`Error::HalfAuthority`] when only one of the two files is there; and when a file cannot be used.
    pub fn load_or_create(directory: &Path) -> Result<Self, Error> {
        let (crt, key) = (directory.join("ca.crt"), directory.join("ca.key"));
        match (crt.exists(), key.exists()) {
            (true, true) => Self::load(directory),
            (true, false) => Err(Error::HalfAuthority { present: crt, absent: key }),
            (false, true) => Err(Error::HalfAuthority { present: key, absent: crt }),
            (false, false) => Self::create(directory),
        }
    }

    /// Reads the authority in `directory`.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn load(directory: &Path) -> Result<Self, Error> {
        let read = |name: &str| {
            let path = directory.join(name);
            std::fs::read_to_string(&path).map_err(|source| Error::File { path, source })
        };
        let (certificate_pem, key_pem) = (read("ca.crt")?, read("ca.key")?);
        let content =
            |name: &str, what, message: String| Error::Content { path: directory.join(name), what, message };
        KeyPair::from_pem(&key_pem).map_err(|error| content("ca.key", "private key", error.to_string()))?;
        Self::from_pem(certificate_pem, &key_pem).map_err(|error| match error {
            Error::File { .. } => error,
            error => content("ca.crt", "certificate of an authority", Chain(&error).to_string()),
        })
    }

    fn create(directory: &Path) -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, "federation-ca");
        params.distinguished_name = name;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        set_life(&mut params, LIFE_OF_AUTHORITY);
        let certificate = params.self_signed(&key)?;
        for (file, text, access) in
            [("ca.key", key.serialize_pem(), Access::Private), ("ca.crt", certificate.pem(), Access::Public)]
        {
            let path = directory.join(file);
            files::replace(&path, text.as_bytes(), access).map_err(|source| Error::File { path, source })?;
        }
        Self::from_pem(certificate.pem(), &key.serialize_pem())
    }

    fn from_pem(certificate_pem: String, key_pem: &str) -> Result<Self, Error> {
        let key = KeyPair::from_pem(key_pem)?;
        let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|error| Error::Parse { what: "ca.crt", message: error.to_string() })?;
        let issuer = Issuer::from_ca_cert_der(&der, key)?;
        Ok(Self { issuer, certificate_pem, der })
    }

    /// Issues an identity that may serve under `names` (DNS names and literal IP addresses) and be a client.
    ///
    /// # Errors
    /// When a name is neither, or signing fails.
    pub fn issue(&self, subject: &Subject, names: &[String], life: Duration) -> Result<Identity, Error> {
        let key = KeyPair::generate()?;
        let certificate = params(subject, names, life)?.signed_by(&key, &self.issuer)?;
        Ok(Identity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// Reads the identity `name` from `directory`, or issues it when it is absent, past two thirds of its life, or not valid
    /// for all of `names` (an address may have changed since the last start).
    ///
    /// # Errors
    /// When files cannot be used, or signing fails.
    pub fn load_or_issue(
        &self,
        directory: &Path,
        name: &str,
        subject: &Subject,
        names: &[String],
    ) -> Result<Identity, Error> {
        if let Ok(identity) = Identity::load(directory, name)
            && let Ok(peer) = identity.peer()
            && OffsetDateTime::now_utc().unix_timestamp() < peer.renew_at()
            && peer.user == subject.user
            && peer.uid == subject.uid
            && covers(&identity.certificate_pem, names)
            && covers(&identity.certificate_pem, &subject.names())
            && self.signed(&identity.certificate_pem)
            // One that was torn is of no use to anybody: ours are all of a kind that can be read here.
            && KeyPair::from_pem(&identity.key_pem).is_ok()
        {
            return Ok(identity);
        }
        let identity = self.issue(subject, names, LIFE_OF_PARTS)?;
        identity.store(directory, name)?;
        Ok(identity)
    }

    /// Whether a certificate signing request can be signed, before anything is done for the asker.
    ///
    /// # Errors
    /// When the request cannot be read or its own signature is wrong.
    pub fn check_request(csr_pem: &str) -> Result<(), Error> {
        CertificateSigningRequestParams::from_pem(csr_pem)?;
        Ok(())
    }

    /// Signs a certificate signing request for `subject`. Only the request's public key is taken: what the asker writes as subject
    /// or extensions counts for nothing.
    ///
    /// # Errors
    /// When the request cannot be read or its own signature is wrong.
    pub fn sign_request(&self, csr_pem: &str, subject: &Subject, life: Duration) -> Result<String, Error> {
        let mut request = CertificateSigningRequestParams::from_pem(csr_pem)?;
        request.params = params(subject, &[], life)?;
        let certificate: Certificate = request.signed_by(&self.issuer)?;
        Ok(certificate.pem())
    }

    /// The pin that a join command carries.
    ///
    /// # Errors
    /// When the authority's own certificate cannot be parsed.
    pub fn pin(&self) -> Result<SpkiPin, Error> {
        SpkiPin::of_certificate(&self.der)
    }

    fn signed(&self, certificate_pem: &str) -> bool {
        use x509_parser::prelude::{FromDer as _, X509Certificate};
        let Ok(der) = CertificateDer::from_pem_slice(certificate_pem.as_bytes()) else { return false };
        let (Ok((_, certificate)), Ok((_, authority))) =
            (X509Certificate::from_der(&der), X509Certificate::from_der(&self.der))
        else {
            return false;
        };
        // The key identifier tells authorities of one name apart.
        let identifier = key_identifier(&authority);
        certificate.issuer() == authority.subject()
            && identifier.is_some()
            && authority_key_identifier(&certificate) == identifier
    }
}

fn key_identifier<'a>(certificate: &'a x509_parser::prelude::X509Certificate<'_>) -> Option<&'a [u8]> {
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    })
}

fn authority_key_identifier<'a>(
    certificate: &'a x509_parser::prelude::X509Certificate<'_>,
) -> Option<&'a [u8]> {
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        x509_parser::extensions::ParsedExtension::AuthorityKeyIdentifier(id) => {
            id.key_identifier.as_ref().map(|id| id.0)
        }
        _ => None,
    })
}

/// Whether a certificate is valid for every one of `names`.
fn covers(certificate_pem: &str, names: &[String]) -> bool {
    let Ok(der) = CertificateDer::from_pem_slice(certificate_pem.as_bytes()) else { return false };
    let Ok(certificate) = rustls::server::ParsedCertificate::try_from(&der) else { return false };
    names.iter().all(|name| {
        rustls_pki_types::ServerName::try_from(name.as_str())
            .is_ok_and(|server| rustls::client::verify_server_name(&certificate, &server).is_ok())
    })
}

fn params(subject: &Subject, names: &[String], life: Duration) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    for group in &subject.groups {
        name.push(DnType::OrganizationName, group.as_str());
    }
    name.push(DnType::CommonName, subject.user.as_str());
    params.distinguished_name = name;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let names = [names, subject.names().as_slice()].concat();
    if !names.is_empty() {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    for name in &names {
        params.subject_alt_names.push(match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.as_str().try_into()?),
        });
    }
    if !subject.uid.is_empty() {
        let uri = format!("{UID}{}", subject.uid);
        params.subject_alt_names.push(SanType::URI(uri.as_str().try_into()?));
    }
    params.use_authority_key_identifier_extension = true;
    set_life(&mut params, life);
    Ok(params)
}

fn set_life(params: &mut CertificateParams, life: Duration) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - BACKDATE;
    params.not_after = now + life;
}

impl Authority {
    pub(super) fn key(&self) -> &KeyPair {
        self.issuer.key()
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// SubjectPublicKeyInfo of the authority, DER.
    pub fn public_key(&self) -> Vec<u8> {
        self.issuer.key().subject_public_key_info()
    }

    /// The authority's certificate, DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// Expiry of the authority's certificate, Unix seconds.
    ///
    /// # Errors
    /// When the authority's own certificate cannot be parsed.
    pub fn not_after(&self) -> Result<i64, Error> {
        Ok(Peer::from_der(&self.der)?.not_after)
    }
}
