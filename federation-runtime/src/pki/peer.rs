//! What a presented certificate says.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::subject::UID;
use super::{Error, LIFE_OF_AGENTS};

/// The identity in a certificate. Whether the certificate is to be believed is TLS's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// CN; empty if there is none.
    pub user: String,
    /// Every O.
    pub groups: Vec<String>,
    /// uid of the Cluster that it was issued for; empty if it names none.
    pub uid: String,
    /// Unix seconds.
    pub not_before: i64,
    /// Unix seconds.
    pub not_after: i64,
}

impl Peer {
    /// Reads a DER certificate.
    ///
    /// # Errors
    /// When it is not an X.509 certificate.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        let (_, certificate) = X509Certificate::from_der(der)
            .map_err(|error| Error::Parse { what: "certificate", message: error.to_string() })?;
        let subject = certificate.subject();
        let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            value.as_str().map(ToOwned::to_owned).unwrap_or_default()
        };
        let names = certificate.subject_alternative_name().ok().flatten();
        let uid = names.iter().flat_map(|names| &names.value.general_names).find_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix(UID),
            _ => None,
        });
        Ok(Self {
            uid: uid.unwrap_or_default().to_owned(),
            user: subject.iter_common_name().next().map(text).unwrap_or_default(),
            groups: subject.iter_organization().map(text).collect(),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
        })
    }

    /// Reads the first certificate of a PEM text.
    ///
    /// # Errors
    /// When there is none.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| Error::Parse { what: "PEM certificate", message: error.to_string() })?;
        Self::from_der(&der)
    }

    /// The cluster's name, if this is an agent's certificate.
    pub fn agent(&self) -> Option<&str> {
        let cluster = self.user.strip_prefix("federation:agent:")?;
        self.in_group("federation:agents").then_some(cluster)
    }

    /// Unix seconds at which an agent's certificate was signed. What it is valid from says less: that is earlier, by more or less.
    pub fn agent_signed_at(&self) -> i64 {
        self.not_after - LIFE_OF_AGENTS.as_secs() as i64
    }

    /// Whether the certificate names the group.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// Unix seconds at which two thirds of its life are over: the time to renew it.
    pub fn renew_at(&self) -> i64 {
        self.not_before + (self.not_after - self.not_before) / 3 * 2
    }
}
