//! Authorization: kube-apiserver's modes in order, each allowing or having no opinion.

use std::sync::Arc;

use apimachinery::{
    ApiError,
    rbac::{Attributes, Rule, Subject, Verdict},
    status::{Details, GroupResource, Reason},
};

use super::{
    AUTHENTICATED, MASTERS, User, authz_webhook::AuthorizationWebhook, impersonation::LastModes, rbac::Policy,
};
use crate::{
    http::info::{ResourcePath, Target},
    store::Storage,
};

/// Groups whose certificates come from the same authority but are for other doors: agents speak to the hub, dns-lb to the
/// traffic feed. Neither has business at the API, whatever the mode.
pub(crate) const NON_API_GROUPS: [&str; 2] = ["federation:agents", "federation:dns"];

/// `--authorization-always-allow-paths`: what probes ask, without a credential.
const PROBES: [&str; 3] = ["/healthz", "/livez", "/readyz"];

/// One way to decide who may do what. `system:masters` may do everything, whatever the modes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Every authenticated user may do everything.
    #[default]
    #[value(name = "AlwaysAllow")]
    AlwaysAllow,
    /// Nobody may do anything.
    #[value(name = "AlwaysDeny")]
    AlwaysDeny,
    /// Roles and bindings decide.
    #[value(name = "RBAC")]
    Rbac,
    /// Another server decides.
    #[value(name = "Webhook")]
    Webhook,
}

/// What authorization says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Allowed, and why; empty if the mode has no reasons.
    Allow(Arc<str>),
    /// Nobody allows it; what is known of why.
    NoOpinion(String),
    /// Refused whatever the modes say.
    Deny(String),
    /// Nobody allows it, and one who might could not be asked: why.
    Failed(String),
}

/// Decides, in the order of the modes.
pub struct Authorizer {
    modes: Vec<Mode>,
    /// One for each mode that is a webhook, in order.
    webhooks: Vec<AuthorizationWebhook>,
    policy: Policy,
    silent: Arc<str>,
    impersonations: LastModes,
}

impl Authorizer {
    /// An authorizer over the roles in a store, and the webhooks of modes that are webhooks.
    pub fn new(modes: Vec<Mode>, webhooks: Vec<AuthorizationWebhook>, storage: Storage) -> Self {
        let policy = Policy::new(storage);
        Self { modes, webhooks, policy, silent: "".into(), impersonations: LastModes::default() }
    }

    /// Whether roles and bindings count.
    pub fn uses_rbac(&self) -> bool {
        self.modes.contains(&Mode::Rbac)
    }

    /// The roles and bindings.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// How users acted as others.
    pub(super) fn impersonations(&self) -> &LastModes {
        &self.impersonations
    }

    /// Whether a request without a credential is looked at. As in kube-apiserver, not where everybody may do everything.
    pub fn admits_anonymous(&self) -> bool {
        !self.modes.contains(&Mode::AlwaysAllow)
    }

    /// Decides.
    pub async fn decide(&self, user: &User, asked: &Attributes<'_>) -> Decision {
        if user.is_in(MASTERS) {
            return Decision::Allow(Arc::clone(&self.silent));
        }
        if NON_API_GROUPS.iter().any(|group| user.is_in(group)) {
            return Decision::Deny(String::new());
        }
        let mut reasons = String::new();
        let mut failed = None;
        let mut webhooks = self.webhooks.iter();
        for mode in &self.modes {
            let reason = match mode {
                Mode::Webhook => {
                    let Some(webhook) = webhooks.next() else { continue };
                    match Box::pin(webhook.decide(user, asked)).await {
                        Decision::NoOpinion(reason) => reason,
                        Decision::Failed(why) => {
                            failed.get_or_insert(why);
                            continue;
                        }
                        decided => return decided,
                    }
                }
                Mode::AlwaysAllow => return Decision::Allow(Arc::clone(&self.silent)),
                Mode::AlwaysDeny => "Everything is forbidden.".to_owned(),
                Mode::Rbac => match self.policy.index().authorize(subject(user), asked) {
                    Verdict::Allowed(reason) => return Decision::Allow(reason),
                    Verdict::NoOpinion(reason) => reason,
                },
            };
            if !reasons.is_empty() && !reason.is_empty() {
                reasons.push('\n');
            }
            reasons.push_str(&reason);
        }
        failed.map_or(Decision::NoOpinion(reasons), Decision::Failed)
    }

    /// Decides on a request: why it is allowed, or the answer to refuse it with.
    pub async fn authorize(&self, user: &User, asked: &Attributes<'_>) -> Result<Arc<str>, ApiError> {
        if asked.path.is_some_and(|path| {
            PROBES.contains(&path)
                || !user.is_in(AUTHENTICATED) && path == "/version" && self.modes.contains(&Mode::AlwaysAllow)
        }) {
            return Ok(Arc::clone(&self.silent));
        }
        if !user.is_in(AUTHENTICATED) && !self.admits_anonymous() {
            return Err(ApiError::unauthorized());
        }
        match self.decide(user, asked).await {
            Decision::Allow(reason) => Ok(reason),
            Decision::Failed(why) => Err(ApiError::new(500, Reason::InternalError, why)),
            Decision::NoOpinion(reason) | Decision::Deny(reason) => Err(refuse(user, asked, &reason)),
        }
    }

    /// Every rule that a user holds in a namespace, as the modes tell them; what could not be told.
    pub fn rules(&self, user: &User, namespace: &str) -> (Vec<Rule>, Vec<Arc<str>>) {
        let (mut rules, mut errors) = (Vec::new(), Vec::new());
        let all = || vec!["*".to_owned()];
        for mode in &self.modes {
            match mode {
                Mode::AlwaysDeny => {}
                Mode::Webhook => {
                    errors.push("webhook authorizer does not support user rule resolution".into());
                }
                Mode::AlwaysAllow => {
                    rules.push(Rule { verbs: all(), groups: all(), resources: all(), ..Rule::default() });
                    rules.push(Rule { verbs: all(), urls: all(), ..Rule::default() });
                }
                Mode::Rbac => {
                    let (own, unknown) = self.policy.index().rules(subject(user), namespace);
                    rules.extend(own);
                    errors.extend(unknown);
                }
            }
        }
        (rules, errors)
    }
}

/// A user as RBAC knows one.
pub fn subject(user: &User) -> Subject<'_> {
    Subject { user: &user.name, groups: &user.groups }
}

/// What a request asks for; `name` is the object's, or the one that a field selector confines a collection to.
pub fn attributes<'a>(verb: &'a str, target: &'a Target, name: Option<&'a str>) -> Attributes<'a> {
    match target {
        Target::Path(path) => Attributes::path(verb, path),
        Target::Resource(path) => of_path(verb, path, name),
    }
}

/// The same of a resource.
pub fn of_path<'a>(verb: &'a str, path: &'a ResourcePath, name: Option<&'a str>) -> Attributes<'a> {
    Attributes {
        namespace: path.namespace.as_deref().unwrap_or_default(),
        group: &path.group,
        version: &path.version,
        resource: &path.resource,
        subresource: path.subresource.as_deref().unwrap_or_default(),
        name: path.name.as_deref().or(name).unwrap_or_default(),
        ..Attributes::resource(verb)
    }
}

/// kube-apiserver's 403, with `reason` if anybody gave one.
pub fn refuse(user: &User, asked: &Attributes<'_>, reason: &str) -> ApiError {
    let mut why = sentence(user, asked);
    if !reason.is_empty() {
        why.push_str(": ");
        why.push_str(reason);
    }
    if asked.path.is_some() {
        return ApiError::new(403, Reason::Forbidden, format!("forbidden: {why}"))
            .with_details(Details::default());
    }
    ApiError::forbidden(&GroupResource::new(asked.group, asked.resource), asked.name, &why)
}

/// `responsewriters.sanitizer`: the answer may be shown by a browser.
pub fn clean(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn sentence(user: &User, asked: &Attributes<'_>) -> String {
    let (name, verb) = (&user.name, asked.verb);
    if let Some(path) = asked.path {
        return clean(&format!("User {name:?} cannot {verb} path {path:?}"));
    }
    let resource = if asked.subresource.is_empty() {
        asked.resource.to_owned()
    } else {
        format!("{}/{}", asked.resource, asked.subresource)
    };
    let place = if asked.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {:?}", asked.namespace)
    };
    clean(&format!(
        "User {name:?} cannot {verb} resource {resource:?} in API group {:?} {place}",
        asked.group
    ))
}
