//! `fedctl init`

use std::path::PathBuf;

use anyhow::Result;
use federation_runtime::kubeconfig;
use federation_runtime::pki::{Authority, Subject};

const API: &str = "127.0.0.1:6443";

/// Options of `fedctl init`.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// The federation's data directory.
    #[arg(long, env = "FEDERATION_DATA_DIR", default_value = "federation", value_name = "DIR")]
    data_dir: PathBuf,
    /// Address of the API, for the kubeconfig. If not given, an existing kubeconfig keeps its address, and a new one gets 127.0.0.1:6443.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address)]
    api_listen: Option<String>,
    /// Issues a certificate for the DNS server of this name, which gives it its own vote on cluster health; may be repeated.
    #[arg(long = "dns-server", value_name = "NAME", value_parser = name)]
    dns_servers: Vec<String>,
}

/// Where a server can be asked: a host and a port.
pub(crate) fn address(text: &str) -> Result<String, String> {
    let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let is_host = |host: &str| match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(ip) => ip.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        }
    };
    if parts.is_some_and(|(host, port)| is_host(host) && port > 0) {
        return Ok(text.into());
    }
    Err("must be a host and a port, such as 10.0.0.5:6443, [2001:db8::5]:6443 or hub.example.test:6443"
        .into())
}

/// A DNS label (RFC 1123) that fits a CN of 64 characters (RFC 5280, appendix A.1) behind its prefix.
fn name(text: &str) -> Result<String, String> {
    let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=40).contains(&text.len()) && text.bytes().all(inside) && !text.starts_with('-') {
        return Ok(text.into());
    }
    Err("must be 1 to 40 characters of a-z, 0-9 and '-'".into())
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let pki = options.data_dir.join("pki");
    let authority = Authority::load_or_create(&pki)?;
    let admin = authority.load_or_issue(&pki, "admin", &Subject::admin(), &[])?;
    // For a dns-lb that runs as a process of its own; `fedctl up` would make it too.
    authority.load_or_issue(&pki, "dns-lb", &Subject::dns(), &[])?;
    for name in &options.dns_servers {
        let file = format!("dns-lb-{name}");
        authority.load_or_issue(&pki, &file, &Subject::dns_named(name), &[])?;
        let at = pki.join(&file);
        eprintln!(
            "For the DNS server {name}:  dns-lb --ca {} --cert {1}.crt --key {1}.key",
            pki.join("ca.crt").display(),
            at.display()
        );
    }
    let path = options.data_dir.join("admin.conf");
    // Written anew where it is ours, since authority and certificate may have been made anew; one that somebody else wrote is left to them.
    let known = kubeconfig::server(&path);
    let asked = options.api_listen.as_ref().map(|api| format!("https://{api}"));
    if asked.is_some() || known.is_some() || !path.exists() {
        let server = asked.or(known).unwrap_or_else(|| format!("https://{API}"));
        kubeconfig::write(&path, &server, &authority.certificate_pem, "admin", &admin)?;
    }
    eprintln!(
        "The certificate authority is in {}. Keep ca.key safe: whoever has it controls the federation.",
        pki.display()
    );
    eprintln!("Start it with:  fedctl up --data-dir {}", options.data_dir.display());
    println!("{}", path.display());
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use federation_runtime::pki::Identity;

    use super::*;

    #[test]
    fn each_dns_server_that_is_named_gets_an_identity_of_its_own() {
        let data_dir = tempfile::tempdir().unwrap();
        let options = Options {
            data_dir: data_dir.path().into(),
            api_listen: Some("127.0.0.1:7443".into()),
            dns_servers: vec!["tokyo".into(), "osaka".into()],
        };
        run(&options).unwrap();
        let user = |file: &str| {
            let peer = Identity::load(&data_dir.path().join("pki"), file).unwrap().peer().unwrap();
            assert!(peer.in_group("federation:dns"));
            peer.user
        };
        assert_eq!(
            ["dns-lb", "dns-lb-tokyo", "dns-lb-osaka"].map(user),
            ["federation:dns-lb", "federation:dns-lb:tokyo", "federation:dns-lb:osaka"]
        );
        let text = || std::fs::read_to_string(data_dir.path().join("admin.conf")).unwrap();
        assert!(text().contains("https://127.0.0.1:7443"));
        let again = Options { api_listen: None, ..options };
        let before = text();
        run(&again).unwrap();
        assert_eq!(text(), before, "a server more does not lead administrators elsewhere");
        std::fs::remove_dir_all(data_dir.path().join("pki")).unwrap();
        run(&again).unwrap();
        assert!(text().contains("https://127.0.0.1:7443") && text() != before, "it trusts the new authority");
        for good in ["10.0.0.5:6443", "[2001:db8::5]:6443", "hub.example.test:6443"] {
            assert_eq!(address(good).as_deref(), Ok(good));
        }
        for bad in ["nonsense", "10.0.0.5", ":6443", "2001:db8::5:6443", "https://a:6443", "a:0", "a:65536"] {
            assert!(address(bad).is_err(), "{bad}");
        }
        assert!(name("To kyo").is_err() && name("").is_err() && name("a-1").is_ok());
    }
}
