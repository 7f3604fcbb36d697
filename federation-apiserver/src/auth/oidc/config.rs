//! Which issuers are believed, and how: `--oidc-…` flags, or `apiserver.config.k8s.io` AuthenticationConfiguration (KEP-3331).

use std::{
    io,
    path::{Path, PathBuf},
};

use kube_cel::{Program, Type};
use serde_json::Value;

/// `AllValidSigningAlgorithms`.
const ALGORITHMS: [&str; 9] =
    ["ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"];

/// Flags for one issuer.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Flags {
    /// Issuer of ID tokens that are believed: an https URL, whose discovery document and keys are fetched.
    #[arg(long, value_name = "URL")]
    pub oidc_issuer_url: Option<String>,
    /// For whom ID tokens must be.
    #[arg(long, value_name = "ID")]
    pub oidc_client_id: Option<String>,
    /// Claim that is the user's name.
    #[arg(long, value_name = "CLAIM", default_value = "sub")]
    pub oidc_username_claim: String,
    /// What stands before names, so that they are no others'; - for nothing. If not given, the issuer and #, but nothing before email.
    #[arg(long, value_name = "PREFIX")]
    pub oidc_username_prefix: Option<String>,
    /// Claim that is the user's groups: a text, or a list of texts.
    #[arg(long, value_name = "CLAIM")]
    pub oidc_groups_claim: Option<String>,
    /// What stands before groups.
    #[arg(long, value_name = "PREFIX")]
    pub oidc_groups_prefix: Option<String>,
    /// Claims that must have these values.
    #[arg(long, value_name = "CLAIM=VALUE", value_delimiter = ',', value_parser = pair)]
    pub oidc_required_claim: Vec<(String, String)>,
    /// Authorities of the issuer's certificate; those that this machine trusts if not given.
    #[arg(long, value_name = "FILE")]
    pub oidc_ca_file: Option<PathBuf>,
    /// Algorithms that tokens may be signed with.
    #[arg(long, value_name = "ALGORITHMS", value_delimiter = ',', default_value = "RS256")]
    pub oidc_signing_algs: Vec<String>,
    /// Issuers and what becomes of their claims: an apiserver.config.k8s.io AuthenticationConfiguration, instead of --oidc flags.
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
    /// What flags say.
    ///
    /// # Errors
    /// When they contradict each other, or name a file that cannot be read.
    pub fn from_flags(flags: &Flags) -> Result<Self, Error> {
        if let Some(path) = &flags.authentication_config {
            if flags.oidc_issuer_url.is_some() || flags.oidc_client_id.is_some() {
                return Err(Error::Flags(
                    "--authentication-config and --oidc-issuer-url say the same: give one of them",
                ));
            }
            return Self::parse(&read(path)?);
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
        check_url(&url, "--oidc-issuer-url")?;
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

    /// Reads an AuthenticationConfiguration.
    ///
    /// # Errors
    /// When a field is wrong.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let field = |field: &str, why: &str| Error::Field { field: field.to_owned(), why: why.to_owned() };
        let document: Value = serde_saphyr::from_str(text)
            .map_err(|error| field("AuthenticationConfiguration", &error.to_string()))?;
        let version = document["apiVersion"].as_str().unwrap_or_default();
        let known =
            ["v1", "v1beta1"].iter().any(|known| version == format!("apiserver.config.k8s.io/{known}"));
        if !known || document["kind"] != "AuthenticationConfiguration" {
            let why = "want apiserver.config.k8s.io/v1, Kind=AuthenticationConfiguration";
            return Err(field("apiVersion", why));
        }
        let issuers = document["jwt"].as_array().into_iter().flatten().enumerate();
        let issuers: Vec<Issuer> =
            issuers.map(|(at, jwt)| read_issuer(jwt, &format!("jwt[{at}]"))).collect::<Result<_, _>>()?;
        for (at, issuer) in issuers.iter().enumerate() {
            if issuers[..at].iter().any(|other| other.url == issuer.url) {
                return Err(field(&format!("jwt[{at}].issuer.url"), "Duplicate value"));
            }
        }
        let anonymous = &document["anonymous"];
        let anonymous = anonymous.is_object().then(|| Anonymous {
            enabled: anonymous["enabled"] == true,
            paths: anonymous["conditions"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|condition| condition["path"].as_str().map(str::to_owned))
                .collect(),
        });
        Ok(Self { issuers, anonymous })
    }
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

fn check_url(url: &str, field: &str) -> Result<(), Error> {
    let wrong = |why: &str| Err(Error::Field { field: field.to_owned(), why: why.to_owned() });
    if !url.starts_with("https://") {
        return wrong("URL scheme must be https");
    }
    if url.contains(['?', '#', '@']) {
        return wrong("URL must not contain a username, a query or a fragment");
    }
    Ok(())
}

fn check_algorithm(algorithm: &str) -> Result<(), Error> {
    if ALGORITHMS.contains(&algorithm) {
        return Ok(());
    }
    let why = format!("unsupported signing alg: {algorithm:?}, want one of {}", ALGORITHMS.join(", "));
    Err(Error::Field { field: "--oidc-signing-algs".to_owned(), why })
}

fn read_issuer(jwt: &Value, path: &str) -> Result<Issuer, Error> {
    let required =
        |field: &str| Error::Field { field: format!("{path}.{field}"), why: "Required value".to_owned() };
    let text = |pointer: &str| jwt.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let url = text("/issuer/url");
    check_url(&url, &format!("{path}.issuer.url"))?;
    let audiences = jwt["issuer"]["audiences"].as_array().into_iter().flatten();
    let audiences: Vec<String> =
        audiences.filter_map(|audience| audience.as_str().map(str::to_owned)).collect();
    if audiences.is_empty() {
        return Err(required("issuer.audiences"));
    }
    let optional = |pointer: &str| Some(text(pointer)).filter(|text| !text.is_empty());
    let mappings = &jwt["claimMappings"];
    let mapping =
        |name: &str| read_mapping(&mappings[name], &format!("{path}.claimMappings.{name}"), "claims");
    let username = mapping("username")?.ok_or_else(|| required("claimMappings.username"))?;
    let extra = mappings["extra"].as_array().into_iter().flatten().enumerate().map(|(at, extra)| {
        let path = format!("{path}.claimMappings.extra[{at}].valueExpression");
        let expression =
            compile(extra["valueExpression"].as_str().unwrap_or_default(), "claims", &Type::Dyn, &path)?;
        Ok((extra["key"].as_str().unwrap_or_default().to_owned(), expression))
    });
    let rules = |name: &str, variable: &str| {
        let rules = jwt[name].as_array().into_iter().flatten().enumerate();
        rules
            .map(|(at, rule)| read_rule(rule, &format!("{path}.{name}[{at}]"), variable))
            .collect::<Result<Vec<_>, _>>()
    };
    Ok(Issuer {
        discovery: optional("/issuer/discoveryURL"),
        ca_pem: optional("/issuer/certificateAuthority"),
        audiences,
        // Whatever the issuer signs with.
        algorithms: ALGORITHMS.map(str::to_owned).to_vec(),
        username,
        groups: mapping("groups")?,
        uid: mapping("uid")?,
        extra: extra.collect::<Result<_, Error>>()?,
        claim_rules: rules("claimValidationRules", "claims")?,
        user_rules: rules("userValidationRules", "user")?,
        url,
    })
}

fn read_mapping(mapping: &Value, path: &str, variable: &str) -> Result<Option<Mapping>, Error> {
    let text = |name: &str| mapping[name].as_str().unwrap_or_default();
    match (text("claim"), text("expression")) {
        ("", "") => Ok(None),
        (claim, "") => Ok(Some(Mapping::Claim { name: claim.to_owned(), prefix: text("prefix").to_owned() })),
        ("", expression) => compile(expression, variable, &Type::Dyn, &format!("{path}.expression"))
            .map(|program| Some(Mapping::Expression(program))),
        _ => Err(Error::Field {
            field: path.to_owned(),
            why: "claim and expression can't both be set".to_owned(),
        }),
    }
}

fn read_rule(rule: &Value, path: &str, variable: &str) -> Result<Rule, Error> {
    let text = |name: &str| rule[name].as_str().unwrap_or_default();
    if !text("expression").is_empty() {
        let program = compile(text("expression"), variable, &Type::Bool, &format!("{path}.expression"))?;
        return Ok(Rule::Expression { program, message: text("message").to_owned() });
    }
    if text("claim").is_empty() {
        return Err(Error::Field {
            field: path.to_owned(),
            why: "claim or expression is required".to_owned(),
        });
    }
    Ok(Rule::Required { claim: text("claim").to_owned(), value: text("requiredValue").to_owned() })
}

fn compile(source: &str, variable: &str, wanted: &Type, path: &str) -> Result<Expression, Error> {
    let program = Program::compile_as(source, &[(variable, Type::Dyn)], wanted)
        .map_err(|error| Error::Field { field: path.to_owned(), why: error.to_string() })?;
    Ok(Expression { source: source.to_owned(), program })
}
