//! From the claims of a token to its user. Pure.

use std::collections::BTreeMap;

use kube_cel::{Budget, Program, Value as Cel};
use serde_json::Value;

use super::config::{Issuer, Mapping, Rule};
use crate::auth::{AUTHENTICATED, CREDENTIAL_ID, User};

/// `RuntimeCELCostBudget` of an authentication expression.
const STEPS_MAX: u64 = 10_000_000;

/// The user that claims make. The error is kube-apiserver's.
pub(super) fn user(issuer: &Issuer, claims: &Value) -> Result<User, String> {
    let cel = [("claims", Cel::from_json(claims))];
    let name = username(&issuer.username, claims, &cel)?;
    let mut user = User { name, ..User::default() };
    if let Some(mapping) = &issuer.groups {
        user.groups = groups(mapping, claims, &cel)?;
    }
    user.groups.push(AUTHENTICATED.to_owned());
    if let Some(mapping) = &issuer.uid {
        user.uid = match mapping {
            Mapping::Claim { name, .. } => {
                text(claims, name).map_err(|why| format!("oidc: parse uid claim {name:?}: {why}"))?
            }
            Mapping::Expression(program) => expect_text(program, &cel)
                .map_err(|why| format!("oidc: error evaluating uid claim expression: {why}"))?,
        };
    }
    let mut extra = BTreeMap::new();
    for (key, program) in &issuer.extra {
        let values = evaluate(program, &cel).and_then(strings);
        let values = values.map_err(|why| format!("oidc: error evaluating extra claim expression: {why}"))?;
        if !values.is_empty() {
            extra.insert(key.clone(), values);
        }
    }
    if let Some(id) = claims["jti"].as_str().filter(|id| !id.is_empty()) {
        extra.insert(CREDENTIAL_ID.to_owned(), vec![format!("JTI={id}")]);
    }
    user.extra = extra;
    for rule in &issuer.claim_rules {
        check_claims(rule, claims, &cel)?;
    }
    let shown = [("user", Cel::from_json(&shown(&user)))];
    for rule in &issuer.user_rules {
        if let Rule::Expression { program, message } = rule {
            let holds = evaluate(program, &shown);
            let holds =
                holds.map_err(|why| format!("oidc: error evaluating user info validation rule: {why}"))?;
            if !matches!(holds, Cel::Bool(true)) {
                return Err(format!(
                    "oidc: error evaluating user info validation rule: validation expression '{}' failed: {message}",
                    program_source(rule)
                ));
            }
        }
    }
    Ok(user)
}

fn program_source(rule: &Rule) -> &str {
    match rule {
        Rule::Expression { program, .. } => &program.source,
        Rule::Required { claim, .. } => claim,
    }
}

/// A user as rules see one.
fn shown(user: &User) -> Value {
    serde_json::json!({"username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra})
}

fn username(mapping: &Mapping, claims: &Value, cel: &[(&str, Cel)]) -> Result<String, String> {
    let (name, prefix) = match mapping {
        Mapping::Expression(program) => {
            let name = expect_text(program, cel)
                .map_err(|why| format!("oidc: error evaluating username claim expression: {why}"))?;
            if name.is_empty() {
                return Err("oidc: username claim expression evaluated to an empty string".to_owned());
            }
            return Ok(name);
        }
        Mapping::Claim { name, prefix } => (name, prefix),
    };
    let found = text(claims, name).map_err(|why| format!("oidc: parse username claims {name:?}: {why}"))?;
    // An address that nobody has checked is anybody's.
    if name == "email" {
        match &claims["email_verified"] {
            Value::Null | Value::Bool(true) => {}
            Value::Bool(false) => return Err("oidc: email not verified".to_owned()),
            _ => return Err("oidc: parse 'email_verified' claim: it is no boolean".to_owned()),
        }
    }
    Ok(format!("{prefix}{found}"))
}

fn groups(mapping: &Mapping, claims: &Value, cel: &[(&str, Cel)]) -> Result<Vec<String>, String> {
    match mapping {
        Mapping::Expression(program) => evaluate(program, cel)
            .and_then(strings)
            .map_err(|why| format!("oidc: error evaluating group claim expression: {why}")),
        Mapping::Claim { name, prefix } => {
            let found = match &claims[name.as_str()] {
                Value::Null => Vec::new(),
                Value::String(one) => vec![one.clone()],
                Value::Array(many) if many.iter().all(Value::is_string) => {
                    many.iter().filter_map(|group| group.as_str().map(str::to_owned)).collect()
                }
                _ => {
                    return Err(format!(
                        "oidc: parse groups claim {name:?}: json: cannot unmarshal into Go value of type []string"
                    ));
                }
            };
            Ok(found.into_iter().map(|group| format!("{prefix}{group}")).collect())
        }
    }
}

fn check_claims(rule: &Rule, claims: &Value, cel: &[(&str, Cel)]) -> Result<(), String> {
    match rule {
        Rule::Required { claim, value } => {
            let Some(found) = claims.get(claim.as_str()) else {
                return Err(format!("oidc: required claim {claim} not present in ID token"));
            };
            let Some(found) = found.as_str() else {
                return Err(format!(
                    "oidc: parse claim {claim}: json: cannot unmarshal into Go value of type string"
                ));
            };
            if found != value {
                return Err(format!(
                    "oidc: required claim {claim} value does not match. Got = {found}, want = {value}"
                ));
            }
            Ok(())
        }
        Rule::Expression { program, message } => {
            let holds = evaluate(program, cel)
                .map_err(|why| format!("oidc: error evaluating claim validation expression: {why}"))?;
            if matches!(holds, Cel::Bool(true)) {
                return Ok(());
            }
            Err(format!(
                "oidc: error evaluating claim validation expression: validation expression '{}' failed: {message}",
                program.source
            ))
        }
    }
}

fn text(claims: &Value, name: &str) -> Result<String, String> {
    match claims.get(name) {
        None => Err("claim not present".to_owned()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err("json: cannot unmarshal into Go value of type string".to_owned()),
    }
}

fn expect_text(program: &super::config::Expression, known: &[(&str, Cel)]) -> Result<String, String> {
    match evaluate(program, known)? {
        Cel::String(text) => Ok(text.to_string()),
        other => Err(format!("expected a string, got {}", other.type_name())),
    }
}

fn evaluate(expression: &super::config::Expression, known: &[(&str, Cel)]) -> Result<Cel, String> {
    let program: &Program = &expression.program;
    program.evaluate(known, &mut Budget::new(STEPS_MAX)).map_err(|error| error.to_string())
}

/// A text, or a list of texts; nothing is none.
fn strings(value: Cel) -> Result<Vec<String>, String> {
    match value {
        Cel::Null => Ok(Vec::new()),
        Cel::String(one) if one.is_empty() => Ok(Vec::new()),
        Cel::String(one) => Ok(vec![one.to_string()]),
        Cel::List(many) => many
            .iter()
            .map(|item| match item {
                Cel::String(text) => Ok(text.to_string()),
                other => Err(format!("expected a string, got {}", other.type_name())),
            })
            .filter(|item| !matches!(item, Ok(text) if text.is_empty()))
            .collect(),
        other => Err(format!("expected a string or a list of strings, got {}", other.type_name())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::oidc::{Configuration, Flags};

    fn issuer(change: impl Fn(&mut Flags)) -> Issuer {
        let mut flags = Flags {
            oidc_issuer_url: Some("https://id.example.com".to_owned()),
            oidc_client_id: Some("fed".to_owned()),
            ..Flags::default()
        };
        change(&mut flags);
        Configuration::from_flags(&flags, "https://self").expect("they are good").issuers.remove(0)
    }

    #[test]
    fn names_have_the_issuer_before_them_unless_they_are_addresses_or_told_otherwise() {
        let claims = json!({"sub": "1", "email": "a@example.com", "email_verified": true, "nick": "ann"});
        let name = |change: fn(&mut Flags)| user(&issuer(change), &claims).map(|user| user.name);
        assert_eq!(name(|_| {}), Ok("https://id.example.com#1".to_owned()));
        assert_eq!(name(|flags| flags.oidc_username_claim = "email".into()), Ok("a@example.com".to_owned()));
        assert_eq!(
            name(|flags| flags.oidc_username_claim = "nick".into()),
            Ok("https://id.example.com#ann".to_owned())
        );
        assert_eq!(name(|flags| flags.oidc_username_prefix = Some("-".into())), Ok("1".to_owned()));
        assert_eq!(name(|flags| flags.oidc_username_prefix = Some("x:".into())), Ok("x:1".to_owned()));
        assert_eq!(
            name(|flags| flags.oidc_username_claim = "no".into()),
            Err("oidc: parse username claims \"no\": claim not present".to_owned())
        );
        let unverified = json!({"email": "a@example.com", "email_verified": false});
        let by_email = issuer(|flags| flags.oidc_username_claim = "email".into());
        assert_eq!(user(&by_email, &unverified), Err("oidc: email not verified".to_owned()));
    }

    #[test]
    fn groups_come_from_a_claim_and_required_claims_must_be_there() {
        let groups = |claim: Value| {
            let issuer = issuer(|flags| {
                flags.oidc_groups_claim = Some("groups".into());
                flags.oidc_groups_prefix = Some("id:".into());
            });
            user(&issuer, &json!({"sub": "1", "groups": claim})).map(|user| user.groups)
        };
        assert_eq!(groups(json!(["a", "b"])), Ok(vec!["id:a".into(), "id:b".into(), AUTHENTICATED.into()]));
        assert_eq!(groups(json!("a")), Ok(vec!["id:a".into(), AUTHENTICATED.into()]));
        assert_eq!(groups(Value::Null), Ok(vec![AUTHENTICATED.into()]));
        assert!(groups(json!(7)).is_err());
        let required = issuer(|flags| flags.oidc_required_claim = vec![("hd".into(), "example.com".into())]);
        assert_eq!(
            user(&required, &json!({"sub": "1"})).expect_err("it is not there"),
            "oidc: required claim hd not present in ID token"
        );
        assert_eq!(
            user(&required, &json!({"sub": "1", "hd": "x"})).expect_err("it is another"),
            "oidc: required claim hd value does not match. Got = x, want = example.com"
        );
    }
}
