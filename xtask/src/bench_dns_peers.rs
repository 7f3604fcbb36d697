//! The servers that `bench dns` measures, each set up for the same zone with one thread that answers.

use std::path::Path;

use anyhow::Result;

/// Names of the zone, as the engine asks for them.
pub(crate) const NAMES: usize = 100;

/// One server.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    /// Debian's, that it comes in.
    pub(crate) package: &'static str,
    pub(crate) command: Vec<String>,
    pub(crate) port: u16,
    /// Queries that it can answer.
    pub(crate) kinds: &'static [&'static str],
}

/// The echo and dns-lb.
pub(crate) fn own(qps: &Path) -> Vec<Server> {
    let serve = |name, what: &str, port: u16| Server {
        name,
        package: "",
        command: vec![qps.display().to_string(), "serve".into(), what.into(), port.to_string()],
        port,
        kinds: &["plain", "edns", "geo", "dnssec"],
    };
    vec![serve("echo", "echo", 5301), serve("dns-lb", "dns", 5302)]
}

/// The others; their files are written to `directory`.
pub(crate) fn others(directory: &Path) -> Result<Vec<Server>> {
    let zone: String = std::iter::once(
        "$TTL 10\n@ SOA ns.example.net. hostmaster.example.net. 1 3600 600 604800 5\n@ NS ns.example.net.\n"
            .to_owned(),
    )
    .chain((0..NAMES).map(|n| format!("web{n:02}.default A 192.0.2.{n}\n")))
    .collect();
    let at = directory.display();
    let write = |path: &str, text: &str| -> Result<()> {
        let path = directory.join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        Ok(std::fs::write(path, text)?)
    };
    write("zone", &format!("$ORIGIN fed.example.test.\n{zone}"))?;
    write(
        "nsd.conf",
        &format!(
            "server:\n ip-address: 127.0.0.1@5303\n server-count: 1\n username: \"\"\n chroot: \"\"\n database: \"\"\n zonesdir: \"{at}\"\n \
             pidfile: \"\"\n xfrdfile: \"{at}/nsd.xfrd\"\n xfrdir: \"{at}\"\n zonelistfile: \"{at}/nsd.list\"\n minimal-responses: yes\n \
             rrl-ratelimit: 0\nremote-control:\n control-enable: no\nzone:\n name: fed.example.test\n zonefile: \"{at}/zone\"\n"
        ),
    )?;
    write(
        "knot.conf",
        &format!(
            "server:\n  listen: 127.0.0.1@5304\n  rundir: {at}/knot\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n\
             database:\n  storage: {at}/knot\nzone:\n  - domain: fed.example.test\n    file: {at}/zone\n    zonefile-load: whole\n    \
             zonefile-sync: -1\n    journal-content: none\n"
        ),
    )?;
    std::fs::create_dir_all(directory.join("knot"))?;
    write(
        "gdnsd/config",
        &format!(
            "options => {{ listen => 127.0.0.1:5305, udp_threads => 1, tcp_threads => 1, run_dir => {at}/gdnsd/run, \
             state_dir => {at}/gdnsd/state }}\n"
        ),
    )?;
    write("gdnsd/zones/fed.example.test", &zone)?;
    for sub in ["run", "state"] {
        std::fs::create_dir_all(directory.join("gdnsd").join(sub))?;
    }
    write(
        "pdns/pdns.conf",
        &format!(
            "launch=bind\nbind-config={at}/pdns/named.conf\nlocal-address=127.0.0.1\nlocal-port=5306\nsocket-dir={at}/pdns\ndaemon=no\n\
             guardian=no\nreceiver-threads=1\ndistributor-threads=1\nmax-cache-entries=100000\ncache-ttl=60\nzone-cache-refresh-interval=0\n"
        ),
    )?;
    write(
        "pdns/named.conf",
        &format!("zone \"fed.example.test\" {{ type native; file \"{at}/zone\"; }};\n"),
    )?;
    write(
        "named.conf",
        &format!(
            "options {{ directory \"{at}\"; listen-on port 5307 {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; recursion no; \
             pid-file none; session-keyfile none; minimal-responses yes; dnssec-validation no; }};\ncontrols {{ }};\n\
             zone \"fed.example.test\" {{ type primary; file \"{at}/zone\"; }};\n"
        ),
    )?;
    let server = |name, package, port, words: &[&str]| Server {
        name,
        package,
        command: words.iter().map(|word| word.replace("DIR", &at.to_string())).collect(),
        port,
        kinds: &["plain", "edns"],
    };
    Ok(vec![
        server("nsd", "nsd", 5303, &["nsd", "-d", "-c", "DIR/nsd.conf"]),
        server("knot", "knot", 5304, &["knotd", "-c", "DIR/knot.conf"]),
        server("gdnsd", "gdnsd", 5305, &["gdnsd", "-c", "DIR/gdnsd", "start"]),
        server("pdns", "pdns-backend-bind", 5306, &["pdns_server", "--config-dir=DIR/pdns"]),
        server("bind", "bind9", 5307, &["named", "-f", "-n", "1", "-c", "DIR/named.conf"]),
    ])
}
