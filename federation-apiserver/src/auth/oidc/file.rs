//! `apiserver.config.k8s.io` AuthenticationConfiguration (KEP-3331), as `pkg/apis/apiserver/validation` wants it. A field that nobody knows
//! is refused: what is misspelled would else be a rule that does not hold.

use apimachinery::{FieldError, FieldPath, field::aggregate, names};
use federation_runtime::tls;
use kube_cel::{Program, Type};
use serde::Deserialize;

use super::{
    super::config_kind,
    config::{ALGORITHMS, Anonymous, Configuration, Error, Expression, Issuer, Mapping, Rule, check_url},
};

/// Issuers of one configuration.
const ISSUERS_MAX: usize = 64;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    jwt: Vec<Jwt>,
    anonymous: Option<AnonymousPart>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnonymousPart {
    #[serde(default)]
    enabled: bool,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    path: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Jwt {
    issuer: IssuerPart,
    #[serde(default)]
    claim_validation_rules: Vec<ClaimRule>,
    #[serde(default)]
    claim_mappings: Mappings,
    #[serde(default)]
    user_validation_rules: Vec<UserRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct IssuerPart {
    #[serde(default)]
    url: String,
    #[serde(default, rename = "discoveryURL")]
    discovery_url: String,
    #[serde(default)]
    certificate_authority: String,
    #[serde(default)]
    audiences: Vec<String>,
    #[serde(default)]
    audience_match_policy: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ClaimRule {
    #[serde(default)]
    claim: String,
    #[serde(default)]
    required_value: String,
    #[serde(default)]
    expression: String,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserRule {
    #[serde(default)]
    expression: String,
    #[serde(default)]
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mappings {
    #[serde(default)]
    username: Prefixed,
    #[serde(default)]
    groups: Prefixed,
    #[serde(default)]
    uid: Plain,
    #[serde(default)]
    extra: Vec<Extra>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Prefixed {
    #[serde(default)]
    claim: String,
    prefix: Option<String>,
    #[serde(default)]
    expression: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    #[serde(default)]
    claim: String,
    #[serde(default)]
    expression: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Extra {
    #[serde(default)]
    key: String,
    #[serde(default)]
    value_expression: String,
}

type ErrorList = Vec<FieldError>;

/// Reads the file's text. `own` is the issuer of this server's own tokens, which nobody else's may have.
///
/// # Errors
/// When a field is wrong; all that are wrong are told.
pub(super) fn parse(text: &str, own: &str) -> Result<Configuration, Error> {
    let field = |field: &str, why: &str| Error::Field { field: field.to_owned(), why: why.to_owned() };
    let file: File = serde_saphyr::from_str(text)
        .map_err(|error| field("AuthenticationConfiguration", &error.to_string()))?;
    config_kind(&file.api_version, &file.kind, "AuthenticationConfiguration")
        .map_err(|why| field("apiVersion", &why))?;
    let (root, mut errors) = (FieldPath::new("jwt"), ErrorList::new());
    if file.jwt.len() > ISSUERS_MAX {
        errors.push(FieldError::too_many(&root, file.jwt.len(), ISSUERS_MAX));
    }
    let mut issuers: Vec<Issuer> = Vec::new();
    for (at, jwt) in file.jwt.into_iter().enumerate() {
        let path = root.index(at);
        let issuer = issuer(jwt, own, &path, &mut errors);
        if issuers.iter().any(|other| other.url == issuer.url) {
            errors.push(FieldError::duplicate(&path.child("issuer").child("url"), issuer.url.as_str()));
        }
        if let Some(url) = &issuer.discovery
            && issuers.iter().any(|other| other.discovery.as_ref() == Some(url))
        {
            errors.push(FieldError::duplicate(&path.child("issuer").child("discoveryURL"), url.as_str()));
        }
        issuers.push(issuer);
    }
    let anonymous = file.anonymous.map(|part| Anonymous {
        enabled: part.enabled,
        paths: part.conditions.into_iter().map(|condition| condition.path).collect(),
    });
    if let Some(part) = anonymous.as_ref().filter(|part| !part.enabled && !part.paths.is_empty()) {
        let message = "enabled should be set to true when conditions are defined";
        errors.push(FieldError::invalid(
            &FieldPath::new("anonymous.conditions"),
            part.paths.clone(),
            message,
        ));
    }
    if errors.is_empty() {
        Ok(Configuration { issuers, anonymous })
    } else {
        Err(Error::Invalid(aggregate(&errors)))
    }
}

fn issuer(jwt: Jwt, own: &str, path: &FieldPath, errors: &mut ErrorList) -> Issuer {
    let Jwt { issuer, claim_validation_rules, claim_mappings, user_validation_rules } = jwt;
    check_issuer(&issuer, own, &path.child("issuer"), errors);
    let claim_rules = claim_rules(&claim_validation_rules, &path.child("claimValidationRules"), errors);
    let at = path.child("claimMappings");
    check_addresses(&claim_mappings, &claim_validation_rules, &at, errors);
    let Mappings { username, groups, uid, extra } = claim_mappings;
    if username.claim.is_empty() && username.expression.is_empty() {
        errors.push(FieldError::required(&at.child("username"), "claim or expression is required"));
    }
    let username = prefixed(username, &at.child("username"), errors);
    let groups = prefixed(groups, &at.child("groups"), errors);
    let uid = plain(uid, &at.child("uid"), errors);
    let extra = extras(extra, &at.child("extra"), errors);
    Issuer {
        url: issuer.url,
        discovery: Some(issuer.discovery_url).filter(|url| !url.is_empty()),
        ca_pem: Some(issuer.certificate_authority).filter(|pem| !pem.is_empty()),
        audiences: issuer.audiences,
        // Whatever the issuer signs with.
        algorithms: ALGORITHMS.map(str::to_owned).to_vec(),
        // One that is not there has been told of, and comes no further.
        username: username.unwrap_or_else(|| Mapping::Claim { name: String::new(), prefix: String::new() }),
        groups,
        uid,
        extra,
        claim_rules,
        user_rules: user_rules(user_validation_rules, &path.child("userValidationRules"), errors),
    }
}

fn check_issuer(issuer: &IssuerPart, own: &str, path: &FieldPath, errors: &mut ErrorList) {
    let (url, discovery) = (&issuer.url, &issuer.discovery_url);
    let at = path.child("url");
    if url.is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else {
        check_url(url, Some(own), &at, errors);
    }
    let at = path.child("discoveryURL");
    if !discovery.is_empty() {
        if url.trim_end_matches('/') == discovery.trim_end_matches('/') {
            let message = "discoveryURL must be different from URL";
            errors.push(FieldError::invalid(&at, discovery.as_str(), message));
        }
        check_url(discovery, None, &at, errors);
    }
    let at = path.child("audiences");
    if issuer.audiences.is_empty() {
        errors.push(FieldError::required(&at, &format!("at least one {at} is required")));
    }
    for (place, audience) in issuer.audiences.iter().enumerate() {
        if audience.is_empty() {
            errors.push(FieldError::required(&at.index(place), ""));
        }
        if issuer.audiences[..place].contains(audience) {
            errors.push(FieldError::duplicate(&at.index(place), audience.as_str()));
        }
    }
    let policy = issuer.audience_match_policy.as_str();
    let wrong = match issuer.audiences.len() {
        0 => None,
        1 => (!["", "MatchAny"].contains(&policy))
            .then_some("audienceMatchPolicy must be empty or MatchAny for single audience"),
        _ => (policy != "MatchAny").then_some("audienceMatchPolicy must be MatchAny for multiple audiences"),
    };
    errors.extend(wrong.map(|why| FieldError::invalid(&path.child("audienceMatchPolicy"), policy, why)));
    if !issuer.certificate_authority.is_empty()
        && let Err(error) = tls::roots(&issuer.certificate_authority)
    {
        let at = path.child("certificateAuthority");
        errors.push(FieldError::invalid(&at, "<omitted>", &error.to_string()));
    }
}

/// An address that the issuer has not checked is anybody's: who takes it for a name must look whether it has.
fn check_addresses(mappings: &Mappings, rules: &[ClaimRule], path: &FieldPath, errors: &mut ErrorList) {
    let name = &mappings.username.expression;
    let mut all = rules
        .iter()
        .map(|rule| &rule.expression)
        .chain(mappings.extra.iter().map(|extra| &extra.value_expression))
        .chain([name]);
    if reads(name, "email") && !all.any(|source| reads(source, "email_verified")) {
        let message = "claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression";
        errors.push(FieldError::invalid(&path.child("username").child("expression"), name.as_str(), message));
    }
}

/// Whether an expression reads a claim, in whichever way it is written.
fn reads(source: &str, claim: &str) -> bool {
    let dense: String = source.chars().filter(|letter| !letter.is_whitespace()).collect();
    ["claims.", "claims.?", "claims['", "claims[\"", "claims[?'", "claims[?\""].iter().any(|begin| {
        dense.match_indices(&format!("{begin}{claim}")).any(|(at, found)| {
            let next = dense[at + found.len()..].chars().next();
            next.is_none_or(|letter| !letter.is_alphanumeric() && letter != '_')
        })
    })
}

fn claim_rules(rules: &[ClaimRule], path: &FieldPath, errors: &mut ErrorList) -> Vec<Rule> {
    let mut read = Vec::new();
    for (at, rule) in rules.iter().enumerate() {
        let (path, before) = (path.index(at), &rules[..at]);
        match (rule.claim.as_str(), rule.expression.as_str()) {
            ("", "") => errors.push(FieldError::required(&path, "claim or expression is required")),
            (claim, "") => {
                if !rule.message.is_empty() {
                    let message = "may not be specified when claim is set";
                    errors.push(FieldError::invalid(&path.child("message"), rule.message.as_str(), message));
                }
                if before.iter().any(|other| other.claim == claim) {
                    errors.push(FieldError::duplicate(&path.child("claim"), claim));
                }
                read.push(Rule::Required { claim: claim.to_owned(), value: rule.required_value.clone() });
            }
            ("", expression) => {
                if !rule.required_value.is_empty() {
                    let (at, value) = (path.child("requiredValue"), rule.required_value.as_str());
                    errors.push(FieldError::invalid(
                        &at,
                        value,
                        "may not be specified when expression is set",
                    ));
                }
                if before.iter().any(|other| other.expression == expression) {
                    errors.push(FieldError::duplicate(&path.child("expression"), expression));
                }
                let program = compile(expression, "claims", &Type::Bool, &path.child("expression"), errors);
                read.extend(
                    program.map(|program| Rule::Expression { program, message: rule.message.clone() }),
                );
            }
            (claim, _) => {
                errors.push(FieldError::invalid(&path, claim, "claim and expression can't both be set"));
            }
        }
    }
    read
}

fn user_rules(rules: Vec<UserRule>, path: &FieldPath, errors: &mut ErrorList) -> Vec<Rule> {
    let mut read: Vec<Rule> = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    for (at, rule) in rules.into_iter().enumerate() {
        let path = path.index(at).child("expression");
        if rule.expression.is_empty() {
            errors.push(FieldError::required(&path, ""));
            continue;
        }
        if seen.contains(&rule.expression) {
            errors.push(FieldError::duplicate(&path, rule.expression.as_str()));
        }
        let program = compile(&rule.expression, "user", &Type::Bool, &path, errors);
        read.extend(program.map(|program| Rule::Expression { program, message: rule.message }));
        seen.push(rule.expression);
    }
    read
}

fn prefixed(mapping: Prefixed, path: &FieldPath, errors: &mut ErrorList) -> Option<Mapping> {
    let Prefixed { claim, prefix, expression } = mapping;
    if let (Some(prefix), false) = (&prefix, expression.is_empty()) {
        let message = "may not be specified when expression is set";
        errors.push(FieldError::invalid(&path.child("prefix"), prefix.as_str(), message));
    }
    if prefix.is_none() && !claim.is_empty() && expression.is_empty() {
        let message =
            "prefix is required when claim is set. It can be set to an empty string to disable prefixing";
        errors.push(FieldError::required(&path.child("prefix"), message));
    }
    mapped(claim, prefix.unwrap_or_default(), &expression, path, errors)
}

fn plain(mapping: Plain, path: &FieldPath, errors: &mut ErrorList) -> Option<Mapping> {
    mapped(mapping.claim, String::new(), &mapping.expression, path, errors)
}

fn mapped(
    claim: String,
    prefix: String,
    expression: &str,
    path: &FieldPath,
    errors: &mut ErrorList,
) -> Option<Mapping> {
    match (claim.is_empty(), expression.is_empty()) {
        (true, true) => None,
        (false, true) => Some(Mapping::Claim { name: claim, prefix }),
        (true, false) => compile(expression, "claims", &Type::Dyn, &path.child("expression"), errors)
            .map(Mapping::Expression),
        (false, false) => {
            errors.push(FieldError::invalid(path, "", "claim and expression can't both be set"));
            None
        }
    }
}

fn extras(extras: Vec<Extra>, path: &FieldPath, errors: &mut ErrorList) -> Vec<(String, Expression)> {
    let mut read: Vec<(String, Expression)> = Vec::new();
    for (at, extra) in extras.into_iter().enumerate() {
        let path = path.index(at);
        check_key(&extra.key, &path.child("key"), errors);
        if read.iter().any(|(known, _)| *known == extra.key) {
            errors.push(FieldError::duplicate(&path.child("key"), extra.key.as_str()));
        }
        let at = path.child("valueExpression");
        if extra.value_expression.is_empty() {
            errors.push(FieldError::required(&at, ""));
            continue;
        }
        let program = compile(&extra.value_expression, "claims", &Type::Dyn, &at, errors);
        read.extend(program.map(|program| (extra.key, program)));
    }
    read
}

/// `IsDomainPrefixedPath`, in lower case, and not below Kubernetes' own domains.
fn check_key(key: &str, path: &FieldPath, errors: &mut ErrorList) {
    if key.is_empty() {
        return errors.push(FieldError::required(path, ""));
    }
    let mut wrong = |value: &str, why: &str| errors.push(FieldError::invalid(path, value, why));
    let Some((domain, _)) =
        key.split_once('/').filter(|(domain, rest)| !domain.is_empty() && !rest.is_empty())
    else {
        return wrong(key, "must be a domain-prefixed path (such as \"acme.io/foo\")");
    };
    for error in names::dns1123_subdomain(domain) {
        wrong(domain, &error);
    }
    if key != key.to_lowercase() {
        wrong(key, "must be lowercase");
    }
    if ["k8s.io", "kubernetes.io"].iter().any(|own| domain == *own || domain.ends_with(&format!(".{own}"))) {
        wrong(key, "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use");
    }
}

fn compile(
    source: &str,
    variable: &str,
    wanted: &Type,
    path: &FieldPath,
    errors: &mut ErrorList,
) -> Option<Expression> {
    match Program::compile_as(source, &[(variable, Type::Dyn)], wanted) {
        Ok(program) => Some(Expression { source: source.to_owned(), program }),
        Err(error) => {
            errors.push(FieldError::invalid(path, source, &error.to_string()));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn document(jwt: Value) -> Value {
        json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": [jwt]})
    }

    fn good() -> Value {
        json!({
            "issuer": {"url": "https://id.example.com", "audiences": ["fed"]},
            "claimMappings": {"username": {"claim": "sub", "prefix": "id:"}},
        })
    }

    #[track_caller]
    fn refused(document: &Value, expect: &str) {
        let told = parse(&document.to_string(), "https://self").err().map(|error| error.to_string());
        assert!(told.as_ref().is_some_and(|told| told.contains(expect)), "{told:?}");
    }

    #[track_caller]
    fn refused_with(change: impl Fn(&mut Value), expect: &str) {
        let mut jwt = good();
        change(&mut jwt);
        refused(&document(jwt), expect);
    }

    #[test]
    fn what_is_misspelled_is_no_rule_that_does_not_hold() {
        assert!(parse(&document(good()).to_string(), "https://self").is_ok());
        refused_with(
            |jwt| jwt["userValidationRules"] = json!([{"claim": "hd", "requiredValue": "x"}]),
            "claim",
        );
        refused_with(|jwt| jwt["claimValidationRule"] = json!([]), "claimValidationRule");
        let mut anonymous = document(good());
        anonymous["anonymous"] = json!({"enabled": true, "conditions": [{"paht": "/healthz"}]});
        refused(&anonymous, "paht");
        anonymous["anonymous"] = json!({"enabled": false, "conditions": [{"path": "/healthz"}]});
        refused(&anonymous, "enabled should be set to true when conditions are defined");
    }

    #[test]
    fn names_of_a_claim_need_a_prefix_to_be_told() {
        refused_with(
            |jwt| jwt["claimMappings"]["username"] = json!({"claim": "sub"}),
            "jwt[0].claimMappings.username.prefix: Required value: prefix is required when claim is set. It can be set to an empty string to disable prefixing",
        );
        refused_with(
            |jwt| jwt["claimMappings"]["username"] = json!({"expression": "claims.sub", "prefix": "x"}),
            "jwt[0].claimMappings.username.prefix: Invalid value: \"x\": may not be specified when expression is set",
        );
        refused_with(|jwt| jwt["claimMappings"] = json!({}), "jwt[0].claimMappings.username: Required value");
    }

    #[test]
    fn an_address_is_a_name_only_if_somebody_looks_whether_it_was_checked() {
        let by_address = |jwt: &mut Value| {
            jwt["claimMappings"]["username"] = json!({"expression": "claims[\"email\"]"});
        };
        refused_with(by_address, "claims.email_verified must be used in");
        let mut jwt = good();
        by_address(&mut jwt);
        jwt["claimValidationRules"] = json!([{"expression": "claims.email_verified == true"}]);
        assert!(parse(&document(jwt).to_string(), "https://self").is_ok());
        assert!(!reads("claims.emails", "email") && reads("claims . email + 'x'", "email"));
    }

    #[test]
    fn issuers_are_checked_as_kube_apiserver_checks_them() {
        refused_with(
            |jwt| jwt["issuer"]["url"] = "https://self".into(),
            "jwt[0].issuer.url: Invalid value: \"https://self\": URL must not overlap with disallowed issuers: [https://self]",
        );
        refused_with(|jwt| jwt["issuer"]["url"] = "http://a".into(), "URL scheme must be https");
        refused_with(
            |jwt| jwt["issuer"]["audiences"] = json!([]),
            "at least one jwt[0].issuer.audiences is required",
        );
        refused_with(
            |jwt| jwt["issuer"]["audiences"] = json!(["a", "b"]),
            "jwt[0].issuer.audienceMatchPolicy: Invalid value: \"\": audienceMatchPolicy must be MatchAny for multiple audiences",
        );
        refused_with(
            |jwt| {
                jwt["claimMappings"]["extra"] =
                    json!([{"key": "x.kubernetes.io/a", "valueExpression": "claims.a"}]);
            },
            "are reserved for Kubernetes use",
        );
        let mut twice = document(good());
        twice["jwt"] = json!([good(), good()]);
        refused(&twice, "jwt[1].issuer.url: Duplicate value: \"https://id.example.com\"");
    }
}
