//! A zone that others delegate to us: a signed parent on BIND or NSD, and resolvers that know nothing but the root's servers and its key.
//!
//! The parent is a root of our own. Everybody is on port 53 of loopback addresses that are this test's alone, as referrals want it.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use dns_lb::Options;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType as T;
use proto::v1;
use tempfile::TempDir;

use crate::dnssec::{ds, key};
use crate::support::{Running, fixed, options, query, set, with_edns};

const PATIENCE: Duration = Duration::from_secs(20);
const ORIGIN: &str = "fed.example.test.";

/// An address of 127.0.0.0/8 that nobody else has: of this process, and the next one of it.
fn address() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 128 | high & 0x7f, low, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// An address that the loopback interface has by name: BIND listens on no other.
struct Assigned(Ipv4Addr);

impl Assigned {
    fn new(address: Ipv4Addr) -> Self {
        assert!(Self::ip("add", address), "ip: apt-get install iproute2, and be root");
        Self(address)
    }

    fn ip(verb: &str, address: Ipv4Addr) -> bool {
        let address = format!("{address}/32");
        let words = ["address", verb, &address, "dev", "lo"];
        Command::new("ip").args(words).env("PATH", path()).status().is_ok_and(|status| status.success())
    }
}

impl Drop for Assigned {
    fn drop(&mut self) {
        Self::ip("delete", self.0);
    }
}

/// A program of somebody else, ended when it is dropped.
struct Daemon {
    process: Child,
    log: std::path::PathBuf,
}

impl Daemon {
    fn start(directory: &Path, package: &str, program: &str, arguments: &[&str]) -> Self {
        let log = directory.join(format!("{program}.log"));
        let file = std::fs::File::create(&log).unwrap();
        let process = Command::new(program)
            .args(arguments)
            .current_dir(directory)
            .env("PATH", path())
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: apt-get install {package}: {error}"));
        Self { process, log }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // SIGTERM, so that the children of the daemon go too.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}

fn path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// What `server` says, asked once.
fn try_ask(server: Ipv4Addr, name: &str, kind: T) -> Option<Message> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect((server, 53)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(1000))).unwrap();
    let mut sent = with_edns(query(name, kind), 1232);
    sent.metadata.authentic_data = true;
    socket.send(&sent.to_vec().unwrap()).ok()?;
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).ok()?;
    Message::from_vec(&buffer[..length]).ok()
}

/// Waits until `server` answers.
fn up(server: Ipv4Addr, daemon: &Daemon) {
    let start = Instant::now();
    while try_ask(server, ".", T::SOA).is_none() {
        assert!(start.elapsed() < PATIENCE, "no answer of {server}: {}", daemon.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A root zone with our zone's delegation, signed by BIND's tools.
struct Root {
    directory: TempDir,
    at: Ipv4Addr,
    /// The key that resolvers trust, as a line of a zone file.
    anchor: String,
}

impl Root {
    fn new(child: Ipv4Addr, digest: &str) -> Self {
        let (directory, at) = (tempfile::tempdir().unwrap(), address());
        let zone = format!(
            "$TTL 300\n. SOA a.root. hostmaster.root. 1 3600 600 604800 5\n. NS a.root.\na.root. A {at}\n\
             {ORIGIN} NS ns1.{ORIGIN}\n{ORIGIN} DS {digest}\nns1.{ORIGIN} A {child}\n\
             plain.test. NS ns1.{ORIGIN}\n"
        );
        std::fs::write(directory.path().join("root"), zone).unwrap();
        let tool = |program: &str, arguments: &[&str]| {
            let output = Command::new(program)
                .args(arguments)
                .current_dir(directory.path())
                .env("PATH", path())
                .output()
                .unwrap_or_else(|error| panic!("{program}: apt-get install bind9: {error}"));
            assert!(output.status.success(), "{program}: {output:?}");
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        tool("dnssec-keygen", &["-q", "-a", "ECDSAP256SHA256", "."]);
        let secure = tool("dnssec-keygen", &["-q", "-a", "ECDSAP256SHA256", "-f", "KSK", "."]);
        tool("dnssec-signzone", &["-S", "-q", "-o", ".", "-f", "root.signed", "root"]);
        let key = std::fs::read_to_string(directory.path().join(format!("{secure}.key"))).unwrap();
        let anchor = key.lines().find(|line| !line.starts_with(';')).unwrap().to_owned();
        Self { directory, at, anchor }
    }

    /// Its lines that begin with `file`.
    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.directory.path().join(file), text).unwrap();
    }

    fn run(&self, package: &str, program: &str, arguments: &[&str], at: Ipv4Addr) -> Daemon {
        let daemon = Daemon::start(self.directory.path(), package, program, arguments);
        up(at, &daemon);
        daemon
    }

    fn bind(&self) -> (Daemon, Assigned) {
        let assigned = Assigned::new(self.at);
        let text = format!(
            "options {{ directory \".\"; pid-file \"pid\"; session-keyfile \"session\"; listen-on {{ {}; }}; \
             listen-on-v6 {{ none; }}; recursion no; dnssec-validation no; }};\ncontrols {{ }};\n\
             zone \".\" {{ type primary; file \"root.signed\"; }};\n",
            self.at
        );
        self.write("named.conf", &text);
        (self.run("bind9", "named", &["-g", "-n", "1", "-c", "named.conf"], self.at), assigned)
    }

    fn nsd(&self) -> Daemon {
        let at = self.directory.path().display();
        let text = format!(
            "server:\n ip-address: {}\n username: \"\"\n chroot: \"\"\n zonesdir: \"{at}\"\n database: \"\"\n pidfile: \"{at}/pid\"\n \
             xfrdfile: \"{at}/xfrd\"\n xfrdir: \"{at}\"\n zonelistfile: \"{at}/list\"\n server-count: 1\n\
             remote-control:\n control-enable: no\nzone:\n name: \".\"\n zonefile: \"root.signed\"\n",
            self.at
        );
        self.write("nsd.conf", &text);
        self.run("nsd", "nsd", &["-d", "-c", "nsd.conf"], self.at)
    }

    fn unbound(&self) -> (Daemon, Ipv4Addr) {
        let at = address();
        self.write("hints", &format!(". 3600 NS a.root.\na.root. 3600 A {}\n", self.at));
        let text = format!(
            "server:\n interface: {at}\n access-control: 127.0.0.0/8 allow\n username: \"\"\n chroot: \"\"\n directory: \".\"\n pidfile: \"\"\n \
             use-syslog: no\n do-daemonize: no\n num-threads: 1\n do-not-query-localhost: no\n local-zone: \"test.\" nodefault\n \
             module-config: \"validator iterator\"\n root-hints: \"hints\"\n trust-anchor: \"{}\"\n val-log-level: 2\n \
             msg-cache-size: 1m\n rrset-cache-size: 1m\nremote-control:\n control-enable: no\n",
            self.anchor
        );
        self.write("unbound.conf", &text);
        (self.run("unbound", "unbound", &["-d", "-c", "unbound.conf"], at), at)
    }

    fn kresd(&self) -> (Daemon, Ipv4Addr) {
        let at = address();
        let text = format!(
            "net.ipv6 = false\nnet.listen('{at}', 53)\ncache.open(10 * MB, 'lmdb://cache')\nmodules.load('hints > iterate')\n\
             modules.unload('ta_signal_query')\nmodules.unload('ta_update')\nmodules.unload('priming')\n\
             option('ALLOW_LOCAL', true)\nhints.root({{ ['a.root.'] = '{}' }})\n\
             policy.add(policy.suffix(policy.PASS, policy.todnames({{ 'test.' }})))\n\
             trust_anchors.remove('.')\ntrust_anchors.add([[{}]])\n",
            self.at, self.anchor
        );
        self.write("kresd.conf", &text);
        (self.run("knot-resolver", "kresd", &["-n", "-c", "kresd.conf", "."], at), at)
    }

    /// What delv says, that validates by itself with the root's key.
    fn delv(&self, resolver: Ipv4Addr, name: &str, kind: &str) -> String {
        let words: Vec<&str> = self.anchor.split_whitespace().skip_while(|word| *word != "DNSKEY").collect();
        let anchor = format!(
            "trust-anchors {{ . static-key {} {} {} \"{}\"; }};",
            words[1],
            words[2],
            words[3],
            words[4..].concat()
        );
        self.write("anchor", &anchor);
        let output = Command::new("delv")
            .args(["-a", "anchor", &format!("@{resolver}"), name, kind])
            .current_dir(self.directory.path())
            .output()
            .expect("delv: apt-get install bind9-dnsutils");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }
}

/// Our zone: of every sort of answer one.
fn child(at: Ipv4Addr, web: &[&str], web6: &[&str]) -> v1::ZoneUpdate {
    let name = |name: &str| format!("{name}.{ORIGIN}");
    let of_taiwan: &[&[(&[&str], u32, &str)]] = &[&[(web, 1, "taiwan")]];
    v1::ZoneUpdate {
        epoch: 7,
        incarnation: "store-1".into(),
        zones: vec![v1::Zone {
            origin: ORIGIN.into(),
            serial: 7,
            default_ttl: 30,
            negative_ttl: 5,
            nameservers: vec![name("ns1")],
            records: vec![
                fixed(&name("ns1"), "A", &[&at.to_string()]),
                set(&name("web"), "A", v1::Selection::Weighted, of_taiwan),
                fixed(&name("web"), "AAAA", web6),
                fixed(&name("web"), "HTTPS", &["1 . alpn=h2 ipv4hint=192.0.2.1"]),
                fixed(&name("alias"), "CNAME", &[&name("web")]),
                fixed(&name("*.wild"), "A", &["192.0.2.40"]),
            ],
            keys: vec![key(1)],
            ..v1::Zone::default()
        }],
        ..v1::ZoneUpdate::default()
    }
}

async fn serving(at: Ipv4Addr, web: &[&str], web6: &[&str]) -> Running {
    let server = Running::start(Options { listen: vec![SocketAddr::from((at, 53))], ..options() }).await;
    server.state.offer(child(at, web, web6)).await;
    server
}

#[track_caller]
fn check(server: Ipv4Addr, daemon: &Daemon, name: &str, kind: T, expected: (ResponseCode, bool, usize)) {
    let start = Instant::now();
    let answer = loop {
        if let Some(answer) = try_ask(server, name, kind) {
            break answer;
        }
        assert!(start.elapsed() < PATIENCE, "{name} {kind}: no answer: {}", daemon.log());
    };
    let seen = (answer.metadata.response_code, answer.metadata.authentic_data, answer.answers.len());
    assert_eq!(seen, expected, "{name} {kind}: {answer:#?}\n{}", daemon.log());
}

/// Every sort of answer, validated from the root's key down.
fn check_all(resolver: Ipv4Addr, daemon: &Daemon) {
    use ResponseCode::{NXDomain, NoError};
    for (name, kind, code, answers) in [
        ("web", T::A, NoError, 1),
        ("web", T::AAAA, NoError, 1),
        ("web", T::HTTPS, NoError, 1),
        ("alias", T::A, NoError, 2),
        ("x.wild", T::A, NoError, 1),
        ("web", T::MX, NoError, 0),
        ("x.wild", T::MX, NoError, 0),
        ("nothing", T::A, NXDomain, 0),
        ("a.b.nothing", T::A, NXDomain, 0),
    ] {
        check(resolver, daemon, &format!("{name}.{ORIGIN}"), kind, (code, true, answers));
    }
    check(resolver, daemon, ORIGIN, T::DS, (NoError, true, 1));
    check(resolver, daemon, ORIGIN, T::SOA, (NoError, true, 1));
    check(resolver, daemon, "nothing.test.", T::A, (NXDomain, true, 0));
}

fn check_delv(root: &Root, resolver: Ipv4Addr) {
    for (name, kind, part) in [
        ("web", "A", "; fully validated"),
        ("x.wild", "A", "; fully validated"),
        ("nothing", "A", "; negative response, fully validated"),
        ("web", "MX", "; negative response, fully validated"),
    ] {
        let said = root.delv(resolver, &format!("{name}.{ORIGIN}"), kind);
        assert!(said.contains(part), "{name} {kind}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_of_a_signed_parent_on_bind_validates_by_the_roots_key_alone() {
    let at = address();
    let server = serving(at, &["192.0.2.1"], &["2001:db8::1"]).await;
    let asking = tokio::task::spawn_blocking(move || {
        let root = Root::new(at, &ds(ORIGIN, &key(1)));
        let _parent = root.bind();
        let (unbound, resolver) = root.unbound();
        check_all(resolver, &unbound);
        check_delv(&root, resolver);
    });
    asking.await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_of_a_signed_parent_on_nsd_validates_by_the_roots_key_alone() {
    let at = address();
    let server = serving(at, &["192.0.2.1"], &["2001:db8::1"]).await;
    let asking = tokio::task::spawn_blocking(move || {
        let root = Root::new(at, &ds(ORIGIN, &key(1)));
        let _parent = root.nsd();
        let (unbound, resolver) = root.unbound();
        check_all(resolver, &unbound);
        check_delv(&root, resolver);
        drop(unbound);
        // A parent that has the DS of another key: nobody takes our answers for true.
        let wrong = Root::new(at, &ds(ORIGIN, &key(9)));
        let _parent = wrong.nsd();
        let (unbound, resolver) = wrong.unbound();
        check(resolver, &unbound, &format!("web.{ORIGIN}"), T::A, (ResponseCode::ServFail, false, 0));
    });
    asking.await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn knot_resolver_validates_from_the_root_down() {
    let at = address();
    let server = serving(at, &["192.0.2.1"], &["2001:db8::1"]).await;
    let asking = tokio::task::spawn_blocking(move || {
        let root = Root::new(at, &ds(ORIGIN, &key(1)));
        let _parent = root.nsd();
        let (kresd, resolver) = root.kresd();
        check_all(resolver, &kresd);
        check_delv(&root, resolver);
    });
    asking.await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn knot_resolver_validates_compact_denial() {
    let at = address();
    let server = serving(at, &["192.0.2.1"], &["2001:db8::1"]).await;
    let mut compact = child(at, &["192.0.2.1"], &["2001:db8::1"]);
    (compact.epoch, compact.zones[0].compact_denial) = (8, 500);
    server.state.offer(compact).await;
    let asking = tokio::task::spawn_blocking(move || {
        let root = Root::new(at, &ds(ORIGIN, &key(1)));
        let _parent = root.nsd();
        let (kresd, resolver) = root.kresd();
        for name in ["nothing", "a.b.nothing", "zzz"] {
            check(resolver, &kresd, &format!("{name}.{ORIGIN}"), T::A, (ResponseCode::NoError, true, 0));
        }
        check(resolver, &kresd, &format!("web.{ORIGIN}"), T::A, (ResponseCode::NoError, true, 1));
        check(resolver, &kresd, &format!("web.{ORIGIN}"), T::MX, (ResponseCode::NoError, true, 0));
        check(resolver, &kresd, &format!("x.wild.{ORIGIN}"), T::A, (ResponseCode::NoError, true, 1));
    });
    asking.await.unwrap();
    server.stop().await;
}

/// Says over every connection by which address it came.
fn greeter(listener: TcpListener) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let said = stream.local_addr().map(|address| address.ip().to_string()).unwrap_or_default();
            let _ = stream.write_all(said.as_bytes());
        }
    });
}

/// `getaddrinfo` of the C library in a process of its own, whose resolv.conf names our resolver, and connections by its addresses in order,
/// a quarter of a second apart (RFC 8305).
const CLIENT: &str = "
import asyncio, socket, sys
name, ports = sys.argv[1], sys.argv[2:]
found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
print(' '.join(address[4][0] for address in found))
async def reach(port):
    reader, writer = await asyncio.open_connection(name, int(port), happy_eyeballs_delay=0.25)
    print((await reader.read()).decode())
    writer.close()
for port in ports:
    asyncio.run(reach(port))
";

#[tokio::test(flavor = "multi_thread")]
async fn programs_get_both_families_in_order_and_connect() {
    let (at, web) = (address(), address());
    let server = serving(at, &[&web.to_string()], &["::1"]).await;
    let asking = tokio::task::spawn_blocking(move || {
        let root = Root::new(at, &ds(ORIGIN, &key(1)));
        let _parent = root.nsd();
        let (_unbound, resolver) = root.unbound();
        // A server of both families, and one that has lost its IPv6.
        let both = TcpListener::bind(("::1", 0)).unwrap();
        let port = both.local_addr().unwrap().port();
        let second = TcpListener::bind((web, port)).unwrap();
        let half = TcpListener::bind((web, 0)).unwrap();
        let half_port = half.local_addr().unwrap().port();
        for listener in [both, second, half] {
            greeter(listener);
        }
        root.write("resolv.conf", &format!("nameserver {resolver}\noptions timeout:5 attempts:2 trust-ad\n"));
        root.write("client.py", CLIENT);
        let mut client = Command::new("unshare")
            .args([
                "--mount",
                "sh",
                "-ec",
                "mount --bind resolv.conf /etc/resolv.conf; exec python3 client.py \"$@\"",
                "sh",
            ])
            .args([&format!("web.{ORIGIN}"), &port.to_string(), &half_port.to_string()])
            .current_dir(root.directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("unshare: apt-get install util-linux");
        let (mut said, mut failed) = (String::new(), String::new());
        client.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        client.stderr.take().unwrap().read_to_string(&mut failed).unwrap();
        assert!(client.wait().unwrap().success(), "{failed}");
        let lines: Vec<&str> = said.lines().collect();
        // RFC 6724: the loopback address of IPv6 comes first. Who does not listen there is reached by the other.
        assert_eq!(lines, [format!("::1 {web}"), "::1".into(), web.to_string()]);
    });
    asking.await.unwrap();
    server.stop().await;
}
