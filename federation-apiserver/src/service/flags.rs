//! The options as `/flagz` shows them: each flag with its value, defaults included, in the notation of Go's flags.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use clap::ValueEnum;

use super::Options;

/// The flags of a server, by name.
pub(super) fn flags(options: &Options) -> BTreeMap<String, String> {
    let Options { audit_webhook: audit, authz_webhook: authz, oidc, token_webhook: tokens, .. } = options;
    let all = [
        ("advertise-address", shown(options.advertise_address.as_ref())),
        ("api-audiences", list(&options.api_audiences)),
        ("audit-log-maxage", options.audit_log_maxage.to_string()),
        ("audit-log-maxbackup", options.audit_log_maxbackup.to_string()),
        ("audit-log-maxsize", options.audit_log_maxsize.to_string()),
        ("audit-log-mode", choice(&options.audit_log_mode)),
        ("audit-log-path", path(options.audit_log_path.as_ref())),
        ("audit-policy-file", path(options.audit_policy_file.as_ref())),
        ("audit-webhook-batch-buffer-size", audit.audit_webhook_batch_buffer_size.to_string()),
        ("audit-webhook-batch-max-size", audit.audit_webhook_batch_max_size.to_string()),
        ("audit-webhook-batch-max-wait", duration(audit.audit_webhook_batch_max_wait)),
        ("audit-webhook-config-file", path(audit.audit_webhook_config_file.as_ref())),
        ("audit-webhook-initial-backoff", duration(audit.audit_webhook_initial_backoff)),
        ("audit-webhook-mode", choice(&audit.audit_webhook_mode)),
        ("authentication-config", path(oidc.authentication_config.as_ref())),
        ("authentication-token-webhook-cache-ttl", duration(tokens.authentication_token_webhook_cache_ttl)),
        (
            "authentication-token-webhook-config-file",
            path(tokens.authentication_token_webhook_config_file.as_ref()),
        ),
        ("authentication-token-webhook-version", tokens.authentication_token_webhook_version.clone()),
        ("authorization-config", path(options.authorization_config.as_ref())),
        ("authorization-mode", list(options.authorization_mode.iter().map(choice))),
        (
            "authorization-webhook-cache-authorized-ttl",
            duration(authz.authorization_webhook_cache_authorized_ttl),
        ),
        (
            "authorization-webhook-cache-unauthorized-ttl",
            duration(authz.authorization_webhook_cache_unauthorized_ttl),
        ),
        ("authorization-webhook-config-file", path(authz.authorization_webhook_config_file.as_ref())),
        ("authorization-webhook-version", authz.authorization_webhook_version.clone()),
        ("cert-dns-name", list(&options.cert_dns_names)),
        ("data-dir", options.data_dir.display().to_string()),
        ("encryption-provider-config", path(options.encryption_provider_config.as_ref())),
        ("etcd-compaction-interval", duration(options.etcd_compaction_interval)),
        ("listen", options.listen.to_string()),
        ("oidc-ca-file", path(oidc.oidc_ca_file.as_ref())),
        ("oidc-client-id", shown(oidc.oidc_client_id.as_ref())),
        ("oidc-groups-claim", shown(oidc.oidc_groups_claim.as_ref())),
        ("oidc-groups-prefix", shown(oidc.oidc_groups_prefix.as_ref())),
        ("oidc-issuer-url", shown(oidc.oidc_issuer_url.as_ref())),
        ("oidc-required-claim", pairs(&oidc.oidc_required_claim)),
        ("oidc-signing-algs", list(&oidc.oidc_signing_algs)),
        ("oidc-username-claim", oidc.oidc_username_claim.clone()),
        ("oidc-username-prefix", shown(oidc.oidc_username_prefix.as_ref())),
        ("service-account-issuer", list([&options.service_account_issuer])),
        ("service-cluster-ip-range", options.service_cluster_ip_range.to_string()),
        ("service-node-port-range", shown(options.service_node_port_range.as_ref())),
        ("token-auth-file", path(options.token_auth_file.as_ref())),
    ];
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A value, or the empty text of a flag that is not given.
fn shown<T: ToString>(value: Option<&T>) -> String {
    value.map(T::to_string).unwrap_or_default()
}

fn path(value: Option<&PathBuf>) -> String {
    value.map(|path| path.display().to_string()).unwrap_or_default()
}

fn list(values: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let mut text = String::from("[");
    for (index, value) in values.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(value.as_ref());
    }
    text + "]"
}

fn pairs(values: &[(String, String)]) -> String {
    values.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

fn choice(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// As Go writes durations of whole seconds: `5m0s`; others in seconds.
fn duration(value: Duration) -> String {
    let seconds = value.as_secs();
    if value.subsec_nanos() > 0 {
        return format!("{}s", value.as_secs_f64());
    }
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Args as _;

    use super::*;

    #[test]
    fn every_flag_is_shown() {
        let shown = flags(&Options::new("/data"));
        let command = Options::augment_args(clap::Command::new("federation-apiserver"));
        let mut known: Vec<_> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
        known.sort_unstable();
        assert_eq!(shown.keys().map(String::as_str).collect::<Vec<_>>(), known);
        for (name, value) in [
            ("authorization-mode", "[AlwaysAllow]"),
            ("authorization-webhook-cache-authorized-ttl", "5m0s"),
            ("data-dir", "/data"),
            ("oidc-issuer-url", ""),
            ("service-node-port-range", "30000-32767"),
        ] {
            assert_eq!(shown[name], value, "{name}");
        }
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        let texts = [0, 59, 300, 7322].map(|seconds| duration(Duration::from_secs(seconds)));
        assert_eq!(texts, ["0s", "59s", "5m0s", "2h2m2s"]);
        assert_eq!(duration(Duration::from_millis(1500)), "1.5s");
    }
}
