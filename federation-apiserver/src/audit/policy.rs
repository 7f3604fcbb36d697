//! Which requests are recorded, and how much of them: `audit.k8s.io/v1` Policy. Pure.

use std::path::{Path, PathBuf};

use apimachinery::rbac::Attributes;
use serde::Deserialize;

use crate::auth::User;

/// How much of a request is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Level {
    /// Nothing.
    #[default]
    None,
    /// Who, what and how it ended.
    Metadata,
    /// The request's object, too.
    Request,
    /// The answer's object, too.
    RequestResponse,
}

impl Level {
    /// Its name in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

/// When an event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Stage {
    /// The request is known, and nothing was done.
    RequestReceived,
    /// The head of a watch's answer was sent.
    ResponseStarted,
    /// The answer is complete.
    ResponseComplete,
    /// The request made the server panic.
    Panic,
}

impl Stage {
    /// Its name in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RequestReceived => "RequestReceived",
            Self::ResponseStarted => "ResponseStarted",
            Self::ResponseComplete => "ResponseComplete",
            Self::Panic => "Panic",
        }
    }
}

/// The policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file cannot be read.
    #[error("cannot read the audit policy {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is no policy.
    #[error("the audit policy is not an audit.k8s.io/v1 Policy: {0}")]
    Parse(String),
    /// It has no rules, so that nothing would ever be recorded.
    #[error("the audit policy has no rules: add at least one, such as `- level: Metadata`")]
    Empty,
}

/// The policy: the first rule that matches decides.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<Resources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

/// What the policy says of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// How much is recorded.
    pub level: Level,
    /// At which stages nothing is written.
    pub omit_stages: Vec<Stage>,
    /// Whether objects are recorded without their managed fields.
    pub omit_managed_fields: bool,
}

impl Policy {
    /// Reads a policy file.
    pub fn load(path: &Path) -> Result<Self, PolicyError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| PolicyError::Read { path: path.to_owned(), source })?;
        Self::parse(&text)
    }

    /// Parses a policy.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let policy: Self =
            serde_saphyr::from_str(text).map_err(|error| PolicyError::Parse(error.to_string()))?;
        if policy.api_version != "audit.k8s.io/v1" || policy.kind != "Policy" {
            let found = format!("it is {:?} {:?}", policy.api_version, policy.kind);
            return Err(PolicyError::Parse(found));
        }
        if policy.rules.is_empty() { Err(PolicyError::Empty) } else { Ok(policy) }
    }

    /// What to record of a request. Nothing if no rule matches.
    pub fn choose(&self, user: &User, asked: &Attributes<'_>) -> Choice {
        let Some(rule) = self.rules.iter().find(|rule| rule.matches(user, asked)) else {
            return Choice::default();
        };
        if rule.level == Level::None {
            return Choice::default();
        }
        Choice {
            level: rule.level,
            omit_stages: self.omit_stages.iter().chain(&rule.omit_stages).copied().collect(),
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
        }
    }
}

fn has(list: &[String], text: &str) -> bool {
    list.iter().any(|known| known == text)
}

impl Rule {
    /// `policy.ruleMatches`.
    fn matches(&self, user: &User, asked: &Attributes<'_>) -> bool {
        let among = |list: &[String], text: &str| list.is_empty() || has(list, text);
        if !among(&self.users, &user.name)
            || !self.user_groups.is_empty() && !user.groups.iter().any(|group| has(&self.user_groups, group))
            || !among(&self.verbs, asked.verb)
        {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return asked.path.is_none()
                && among(&self.namespaces, asked.namespace)
                && (self.resources.is_empty() || self.resources.iter().any(|part| part.matches(asked)));
        }
        if self.non_resource_urls.is_empty() {
            return true;
        }
        asked.path.is_some_and(|path| {
            self.non_resource_urls.iter().any(|rule| {
                rule == path || rule.ends_with('*') && path.starts_with(rule.trim_end_matches('*'))
            })
        })
    }
}

impl Resources {
    fn matches(&self, asked: &Attributes<'_>) -> bool {
        if self.group != asked.group {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        let named = self.resource_names.is_empty() || has(&self.resource_names, asked.name);
        named
            && self.resources.iter().any(|rule| match rule.split_once('/') {
                None if rule == "*" => true,
                None => asked.subresource.is_empty() && rule == asked.resource,
                Some(("*", subresource)) => !asked.subresource.is_empty() && subresource == asked.subresource,
                Some((resource, "*")) => resource == asked.resource,
                Some((resource, subresource)) => {
                    resource == asked.resource
                        && !asked.subresource.is_empty()
                        && subresource == asked.subresource
                }
            })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: None
  users: ["system:kube-proxy"]
  verbs: [watch]
  resources: [{group: "", resources: [endpoints, services]}]
- level: None
  nonResourceURLs: ["/healthz*", "/version"]
- level: Request
  resources: [{group: "", resources: ["pods/*"]}]
  namespaces: [kube-system]
- level: RequestResponse
  userGroups: [auditors]
  omitManagedFields: false
- level: Metadata
  resources: [{group: "", resources: [secrets], resourceNames: [key]}, {group: apps}]
"#;

    #[track_caller]
    fn check(user: &User, asked: Attributes<'_>, expect: Level) {
        assert_eq!(Policy::parse(POLICY).unwrap().choose(user, &asked).level, expect, "{asked:?}");
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let ann = User::new("ann", []);
        let auditor = User::new("joe", ["auditors".to_owned()]);
        let core = |verb, resource| Attributes { resource, ..Attributes::resource(verb) };
        check(&User::new("system:kube-proxy", []), core("watch", "services"), Level::None);
        check(&auditor, core("watch", "services"), Level::RequestResponse);
        check(&ann, core("watch", "services"), Level::None);
        check(&auditor, Attributes::path("get", "/healthz/ping"), Level::None);
        let exec = Attributes { subresource: "exec", namespace: "kube-system", ..core("create", "pods") };
        check(&ann, exec, Level::Request);
        check(&ann, Attributes { namespace: "demo", ..exec }, Level::None);
        check(&ann, Attributes { name: "key", ..core("get", "secrets") }, Level::Metadata);
        check(&ann, Attributes { name: "other", ..core("get", "secrets") }, Level::None);
        check(&ann, Attributes { group: "apps", ..core("list", "deployments") }, Level::Metadata);
    }

    #[test]
    fn a_rule_may_keep_managed_fields() {
        let policy = Policy::parse(POLICY).unwrap();
        let joe = User::new("joe", ["auditors".to_owned()]);
        let choice = policy.choose(&joe, &Attributes::resource("get"));
        assert!(!choice.omit_managed_fields);
        assert_eq!(choice.omit_stages, [Stage::RequestReceived]);
    }

    #[test]
    fn a_file_of_another_kind_is_refused() {
        assert!(Policy::parse("apiVersion: v1\nkind: Policy\nrules: [{level: None}]").is_err());
        assert!(matches!(
            Policy::parse("apiVersion: audit.k8s.io/v1\nkind: Policy"),
            Err(PolicyError::Empty)
        ));
    }
}
