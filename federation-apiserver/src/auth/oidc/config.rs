//! Which issuers are believed, and how: `--oidc-…` flags, or `apiserver.config.k8s.io` AuthenticationConfiguration (KEP-3331).

use std::{
    io,
    path::{Path, PathBuf},
};

use apimachinery::{FieldError, FieldPath, field::aggregate};
use kube_cel::Program;

use super::file;

/// `AllValidSigningAlgorithms`.
pub(super) const ALGORITHMS: [&str; 9] =
    ["ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"];

/// Flags for one issuer.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Flags {
    /// Trusted issuer of ID tokens: an https URL with a discovery document.
    #[arg(long, value_name = "URL")]
    pub oidc_issuer_url: Option<String>,
    /// Client ID, which must be an audience of the token.
    #[arg(long, value_name = "ID")]
    pub oidc_client_id: Option<String>,
    /// Claim with the user name.
    #[arg(long, value_name = "CLAIM", default_value = "sub")]
    pub oidc_username_claim: String,
    /// Prefix of user names, to keep them distinct; - for none. If not given, the issuer and #, or none for the claim email.
    #[arg(long, value_name = "PREFIX")]
    pub oidc_username_prefix: Option<String>,
    /// Claim with the user's groups: a string or a list of strings.
    #[arg(long, value_name = "CLAIM")]
    pub oidc_groups_claim: Option<String>,
    /// Prefix of group names.
    #[arg(long, value_name = "PREFIX")]
    pub oidc_groups_prefix: Option<String>,
    /// Required claim, with its value. May be repeated.
    #[arg(long, value_name = "CLAIM=VALUE", value_delimiter = ',', value_parser = pair)]
    pub oidc_required_claim: Vec<(String, String)>,
    /// Certificate authorities for the issuer's server; those of this machine if not given.
    #[arg(long, value_name = "FILE")]
    pub oidc_ca_file: Option<PathBuf>,
    /// Accepted signature algorithms.
    #[arg(long, value_name = "ALGORITHMS", value_delimiter = ',', default_value = "RS256")]
    pub oidc_signing_algs: Vec<String>,
    /// An apiserver.config.k8s.io AuthenticationConfiguration, instead of the --oidc flags.
    #[arg(long, value_name = "FILE")]
    pub authentication_config: Option<PathBuf>,
}

impl Default for Flags {
    fn default() -> Self {
        Self {
            oidc_issuer_url: None,
            oidc_client_id: None,
            oidc_username_claim: "sub".to_owned(),
            oidc_username_prefix: None,
            oidc_groups_claim: None,
            oidc_groups_prefix: None,
            oidc_required_claim: Vec::new(),
            oidc_ca_file: None,
            oidc_signing_algs: vec!["RS256".to_owned()],
            authentication_config: None,
        }
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (claim, value) = text.split_once('=').ok_or("want CLAIM=VALUE")?;
    Ok((claim.to_owned(), value.to_owned()))
}

/// Why issuers cannot be believed as they are described.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Flags that go together.
    #[error("{0}")]
    Flags(&'static str),
    /// A field is wrong.
    #[error("{field}: {why}")]
    Field {
        /// Which.
        field: String,
        /// What is wrong with it.
        why: String,
    },
    /// Fields are wrong.
    #[error("{0}")]
    Invalid(String),
    /// The issuer cannot be asked.
    #[error("the issuer cannot be asked: {0}")]
    Server(String),
}

/// An expression with its source, for messages.
pub(super) struct Expression {
    pub(super) source: String,
    pub(super) program: Program,
}

/// Where a part of the user comes from.
pub(super) enum Mapping {
    Claim { name: String, prefix: String },
    Expression(Expression),
}

/// What must be true of claims, or of the user that they make.
pub(super) enum Rule {
    Required { claim: String, value: String },
    Expression { program: Expression, message: String },
}

/// One issuer.
pub(super) struct Issuer {
    pub(super) url: String,
    pub(super) discovery: Option<String>,
    pub(super) ca_pem: Option<String>,
    pub(super) audiences: Vec<String>,
    pub(super) algorithms: Vec<String>,
    pub(super) username: Mapping,
    pub(super) groups: Option<Mapping>,
    pub(super) uid: Option<Mapping>,
    pub(super) extra: Vec<(String, Expression)>,
    pub(super) claim_rules: Vec<Rule>,
    pub(super) user_rules: Vec<Rule>,
}

impl Issuer {
    /// Where it tells about itself.
    pub(super) fn discovery_url(&self) -> String {
        let own = || format!("{}/.well-known/openid-configuration", self.url.trim_end_matches('/'));
        self.discovery.clone().unwrap_or_else(own)
    }
}

/// All issuers, and whether nobody may come.
#[derive(Default)]
pub struct Configuration {
    pub(super) issuers: Vec<Issuer>,
    /// Whether requests without a credential are taken, and on which paths if not on all; none if nothing is said.
    pub anonymous: Option<Anonymous>,
}

/// `anonymous` of an AuthenticationConfiguration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anonymous {
    /// Whether there is such a user.
    pub enabled: bool,
    /// The only paths for him; all if none is named.
    pub paths: Vec<String>,
}

impl Anonymous {
    /// Whether a request without a credential is taken on a path.
    pub fn admits(&self, path: &str) -> bool {
        self.enabled && (self.paths.is_empty() || self.paths.iter().any(|own| own == path))
    }
}

impl Configuration {
    /// What flags say. `own` is the issuer of this server's own tokens, which nobody else's may have.
    ///
    /// # Errors
    /// When they contradict each other, or name a file that cannot be read, or that is wrong.
    pub fn from_flags(flags: &Flags, own: &str) -> Result<Self, Error> {
        if let Some(path) = &flags.authentication_config {
            if flags.oidc_issuer_url.is_some() || flags.oidc_client_id.is_some() {
                return Err(Error::Flags(
                    "--authentication-config and --oidc-issuer-url say the same: give one of them",
                ));
            }
            return file::parse(&read(path)?, own);
        }
        let (url, client) = match (&flags.oidc_issuer_url, &flags.oidc_client_id) {
            (None, None) => return Ok(Self::default()),
            (Some(url), Some(client)) => (url.clone(), client.clone()),
            _ => {
                return Err(Error::Flags(
                    "--oidc-issuer-url and --oidc-client-id need each other: give both or none",
                ));
            }
        };
        let mut errors = Vec::new();
        check_url(&url, Some(own), &FieldPath::new("--oidc-issuer-url"), &mut errors);
        if !errors.is_empty() {
            return Err(Error::Invalid(aggregate(&errors)));
        }
        for algorithm in &flags.oidc_signing_algs {
            check_algorithm(algorithm)?;
        }
        let claim = &flags.oidc_username_claim;
        let prefix = match flags.oidc_username_prefix.as_deref() {
            Some("-") => String::new(),
            Some(prefix) => prefix.to_owned(),
            None if claim == "email" => String::new(),
            None => format!("{url}#"),
        };
        let groups = flags.oidc_groups_claim.clone().map(|name| Mapping::Claim {
            name,
            prefix: flags.oidc_groups_prefix.clone().unwrap_or_default(),
        });
        let required = flags.oidc_required_claim.iter();
        let required =
            required.map(|(claim, value)| Rule::Required { claim: claim.clone(), value: value.clone() });
        let issuer = Issuer {
            url,
            discovery: None,
            ca_pem: flags.oidc_ca_file.as_deref().map(read).transpose()?,
            audiences: vec![client],
            algorithms: flags.oidc_signing_algs.clone(),
            username: Mapping::Claim { name: claim.clone(), prefix },
            groups,
            uid: None,
            extra: Vec::new(),
            claim_rules: required.collect(),
            user_rules: Vec::new(),
        };
        Ok(Self { issuers: vec![issuer], anonymous: None })
    }
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

/// Finds the errors of an issuer's URL; it must not be this server's `own`.
pub(super) fn check_url(url: &str, own: Option<&str>, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let mut wrong = |why: &str| errors.push(FieldError::invalid(path, url, why));
    if own == Some(url) {
        wrong(&format!("URL must not overlap with disallowed issuers: [{url}]"));
    }
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    if scheme != "https" {
        wrong("URL scheme must be https");
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    if rest.split('/').next().is_some_and(|authority| authority.contains('@')) {
        wrong("URL must not contain a username or password");
    }
    if !query.is_empty() {
        wrong("URL must not contain a query");
    }
    if !fragment.is_empty() {
        wrong("URL must not contain a fragment");
    }
}

fn check_algorithm(algorithm: &str) -> Result<(), Error> {
    if ALGORITHMS.contains(&algorithm) {
        return Ok(());
    }
    let why = format!("unsupported signing alg: {algorithm:?}, want one of {}", ALGORITHMS.join(", "));
    Err(Error::Field { field: "--oidc-signing-algs".to_owned(), why })
}
