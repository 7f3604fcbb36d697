//! Files that tell a server whom to believe and whom to ask, and the tokens of those whom it believes.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use federation_apiserver::auth::{
    authz_config,
    jwt::Key,
    oidc::{self, Configuration},
    token_webhook::{self, TokenWebhook},
};
use federation_apiserver::store;
use federation_runtime::pki::{Authority, Subject};
use serde_json::{Value, json};

use super::{Case, same};
use crate::mutate;

/// Where files are, and what looks up who is meant by them.
struct Place {
    folder: tempfile::TempDir,
    storage: store::Storage,
    runtime: tokio::runtime::Runtime,
}

impl Place {
    fn new() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let folder = tempfile::tempdir()?;
        let storage = runtime.block_on(store::Storage::open(store::Options::new(folder.path())))?;
        Ok(Self { folder, storage, runtime })
    }

    /// What a reader says of a text in a file: nothing, or why it takes it not.
    fn said<E: std::fmt::Display>(
        &self,
        text: &str,
        read: impl Fn(std::path::PathBuf) -> Result<(), E>,
    ) -> Result<Result<(), String>, String> {
        let _within = self.runtime.enter();
        let path = self.folder.path().join("file.yaml");
        std::fs::write(&path, text).map_err(|error| format!("no file: {error}"))?;
        let said = || read(path.clone()).map_err(|error| error.to_string());
        let first = said();
        same("read twice", &first, &said())?;
        Ok(first)
    }
}

const PLAIN: &str = "clusters: [{name: c, cluster: {server: 'https://192.0.2.1', insecure-skip-tls-verify: true}}]\n\
                         users: [{name: u, user: {token: secret}}]\ncontexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n";

pub(super) fn kubeconfigs() -> Case {
    let made = || -> anyhow::Result<(Place, String)> {
        let place = Place::new()?;
        let authority = Authority::load_or_create(place.folder.path())?;
        let subject = Subject::agent("taiwan", "0a1b");
        let identity = authority.load_or_issue(place.folder.path(), "caller", &subject, &[])?;
        let [authority, certificate, key] =
            [&authority.certificate_pem, &identity.certificate_pem, &identity.key_pem]
                .map(|pem| STANDARD.encode(pem));
        let whole = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts:\n- name: a\n  context: {{cluster: a, user: a}}\n\
             clusters:\n- name: a\n  cluster: {{server: 'https://hook.test:8443/x?y=z', certificate-authority-data: {authority}}}\n\
             users:\n- name: a\n  user: {{client-certificate-data: {certificate}, client-key-data: {key}}}\n"
        );
        Ok((place, whole))
    };
    let made = made();
    let words = [
        "current-context",
        "contexts",
        "clusters",
        "users",
        "server: ",
        "https://",
        "http://",
        "name: ",
        "token: ",
        "tokenFile: ",
        "-data",
        "certificate-authority: ",
        "client-certificate-data: ",
        "insecure-skip-tls-verify: ",
        "[]",
        "{}",
        "null",
        "- ",
        ": ",
        "\n",
        "'",
        "://[::1]:99999",
        "@",
        "#",
    ];
    Box::new(move |dice| {
        let (place, whole) = made.as_ref().map_err(|error| format!("no kubeconfig: {error:#}"))?;
        let samples = [PLAIN, whole.as_str(), PLAIN];
        let text = mutate::text(dice, &samples, &words);
        dice.show(|| text.clone());
        let read = |path| {
            let flags = token_webhook::Flags {
                authentication_token_webhook_config_file: Some(path),
                ..token_webhook::Flags::default()
            };
            TokenWebhook::from_flags(&flags, &place.storage).map(drop)
        };
        match place.said(&text, read)? {
            Err(why) if samples.contains(&text.as_str()) => Err(format!("what is good is refused: {why}")),
            _ => Ok(()),
        }
    })
}

const ISSUERS: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n\
                       - issuer: {url: 'https://issuer.test', audiences: [a, b], audienceMatchPolicy: MatchAny}\n  \
                       claimValidationRules:\n  - {claim: hd, requiredValue: x}\n  - {expression: 'claims.exp - claims.nbf <= 86400', message: long}\n  \
                       claimMappings:\n    username: {claim: sub, prefix: 'oidc:'}\n    groups: {expression: claims.groups}\n    uid: {claim: sub}\n    \
                       extra: [{key: a.test/b, valueExpression: claims.sub}]\n  \
                       userValidationRules: [{expression: \"!user.username.startsWith('system:')\", message: no}]\n\
                       anonymous: {enabled: true, conditions: [{path: /livez}]}\n";
const AUTHORIZERS: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n\
                           - {type: RBAC, name: rbac}\n- {type: AlwaysDeny, name: last}\n";

/// Who issuers say somebody is: the configuration of issuers, their keys, and their tokens.
pub(super) fn issuers() -> Case {
    let claims = json!({"iss": "https://issuer.test", "sub": "jane", "aud": ["a"], "exp": 4_000_000_000_u64, "nbf": 3_999_990_000_u64,
        "hd": "x", "groups": ["g", "h"], "jti": "1", "email": "j@x.test", "email_verified": true});
    let samples = [claims.clone()];
    let made = || -> Option<(Place, [(String, Value); 2])> {
        let signed = || {
            let key = Key::generate().ok()?;
            Some((key.sign(&claims)?, key.public_set()))
        };
        Some((Place::new().ok()?, [signed()?, signed()?]))
    };
    let made = made();
    let names = [
        "sub", "aud", "exp", "nbf", "hd", "groups", "email", "keys", "kty", "alg", "kid", "crv", "x", "y",
        "n", "e", "RS256", "none", "",
    ];
    let words = [
        "claim: ",
        "expression: ",
        "claims.",
        "user.",
        "prefix: ''",
        "username",
        "groups",
        "extra",
        "key: ",
        "valueExpression: ",
        "url: ",
        "https://",
        "audiences",
        "- ",
        ": ",
        "\n",
        "{",
        "}",
        "[]",
        "null",
        "v1beta1",
        "discoveryURL: ",
        "claims.sub.",
        "type: Webhook",
        "webhook: ",
    ];
    Box::new(move |dice| {
        let Some((place, signers)) = &made else { return Err("nothing is signed".to_owned()) };
        // A token is believed only with the key that signed it.
        let [(token, keys), (foreign, other_keys)] = signers;
        let text = mutate::text(dice, &[token, token, foreign], &[".", "=", "-", "_", "eyJ", "..", "AA"]);
        let odd_keys = mutate::value(dice, &[keys.clone(), other_keys.clone()], &names);
        let read = oidc::signed_claims(&text, keys);
        if let Some(read) = &read {
            same("what nobody signed is believed", read, &claims)?;
        } else if text == *token {
            return Err("what was signed is not believed".to_owned());
        }
        let _by_others = oidc::signed_claims(token, &odd_keys);
        same("a key that did not sign", &oidc::signed_claims(token, other_keys), &None)?;
        // What configurations make of claims.
        let config = mutate::text(dice, &[ISSUERS, ISSUERS, AUTHORIZERS], &words);
        let said = mutate::value(dice, &samples, &names);
        dice.show(|| format!("{text:?}\n{odd_keys}\n{config}\n{said}"));
        let authorizers = place.said(&config, |path| authz_config::load(&path, &place.storage).map(drop))?;
        let users = place.said(&config, |path| {
            let flags = oidc::Flags { authentication_config: Some(path), ..oidc::Flags::default() };
            let configuration =
                Configuration::from_flags(&flags, "https://own.test").map_err(|error| error.to_string())?;
            let user = configuration.user(&said).transpose()?;
            match user.filter(|user| !user.groups.iter().any(|group| group == "system:authenticated")) {
                Some(user) => Err(format!("WRONG: {user:?} is not authenticated")),
                None => Ok(()),
            }
        })?;
        match (config.as_str(), users, authorizers) {
            (_, Err(why), _) if why.starts_with("WRONG") => Err(why),
            (ISSUERS, Err(why), _) if said == claims => Err(format!("what is good is refused: {why}")),
            (AUTHORIZERS, _, Err(why)) => Err(format!("what is good is refused: {why}")),
            _ => Ok(()),
        }
    })
}
