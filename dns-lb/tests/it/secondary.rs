//! Secondaries that take our zones: dig, NSD and Knot.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dns_lb::Options;
use hickory_proto::op::Message;
use hickory_proto::rr::RecordType as T;
use tempfile::TempDir;

use crate::dnssec::{key, signed};
use crate::support::{Running, fixed, framed, options, query, records, update, with_edns};

const PATIENCE: Duration = Duration::from_secs(30);
const SECRET: &str = "c2VjcmV0IG9mIHRoZSBzZWNvbmRhcmllcw==";

fn with_keys(directory: &Path) -> Options {
    let file = directory.join("keys");
    std::fs::write(&file, format!("# for secondaries\nhmac-sha256:xfer.:{SECRET}\n")).unwrap();
    Options { tsig_key_file: Some(file), ..options() }
}

fn dig(server: SocketAddr, arguments: &[&str]) -> String {
    let output = Command::new("dig")
        .args([&format!("@{}", server.ip()), "-p", &server.port().to_string(), "+tries=1", "+time=20"])
        .args(arguments)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_goes_to_who_has_a_key_in_several_signed_messages() {
    let directory = tempfile::tempdir().unwrap();
    let server = Running::start(with_keys(directory.path())).await;
    let mut many = records();
    many.extend((0..2000).map(|n| fixed(&format!("host-{n}.fed.example.test."), "A", &["192.0.2.1"])));
    server.state.offer(update(7, many)).await;
    let at = server.address;
    tokio::task::spawn_blocking(move || {
        let key = format!("hmac-sha256:xfer.:{SECRET}");
        let whole = dig(at, &["-y", &key, "fed.example.test.", "AXFR"]);
        let soas = whole.lines().filter(|line| line.contains("\tIN\tSOA\t")).count();
        assert_eq!(soas, 2, "{whole}");
        assert_eq!(whole.matches("\nhost-").count(), 2000);
        let messages: usize =
            whole.split_once("(messages ").unwrap().1.split_once(',').unwrap().0.parse().unwrap();
        assert!(messages > 2, "{messages} messages");
        // dig says so if one of the signatures is not right.
        assert!(!whole.contains("verify") && !whole.contains("failed"), "{whole}");
        let incremental = dig(at, &["-y", &key, "fed.example.test.", "IXFR=3"]);
        assert_eq!(incremental.matches("\nhost-").count(), 2000);
        let same = dig(at, &["-y", &key, "fed.example.test.", &format!("IXFR={}", serial(at))]);
        assert!(same.contains("SOA") && !same.contains("host-"), "{same}");
        // Other signed queries are answered, signed.
        let soa = dig(at, &["+tcp", "-y", &key, "fed.example.test.", "SOA"]);
        assert!(soa.contains("NOERROR") && soa.contains("TSIG PSEUDOSECTION"), "{soa}");
        assert!(!soa.contains("Couldn't verify"), "{soa}");
        // Over UDP too, as secondaries ask first.
        let soa = dig(at, &["-y", &key, "fed.example.test.", "SOA"]);
        assert!(
            soa.contains("NOERROR") && soa.contains("TSIG PSEUDOSECTION") && soa.contains("(UDP)"),
            "{soa}"
        );
        assert!(!soa.contains("Couldn't verify") && soa.contains("ANSWER: 1"), "{soa}");
        let big = dig(at, &["-y", &key, "+bufsize=512", "+ignore", "big.fed.example.test.", "AAAA"]);
        assert!(big.contains(" tc ") && big.contains("TSIG PSEUDOSECTION"), "{big}");
        assert!(!big.contains("Couldn't verify"), "{big}");
        for other in [
            "hmac-sha256:xfer.:d3JvbmcgYnV0IGxvbmcgZW5vdWdo",
            "hmac-sha256:other.:c2VjcmV0IG9mIHRoZSBzZWNvbmRhcmllcw==",
            "hmac-sha512:xfer.:c2VjcmV0IG9mIHRoZSBzZWNvbmRhcmllcw==",
        ] {
            let refused = dig(at, &["-y", other, "fed.example.test.", "AXFR"]);
            assert!(!refused.contains("host-") && refused.contains("failed"), "{other}: {refused}");
            let refused = dig(at, &["-y", other, "fed.example.test.", "SOA"]);
            assert!(refused.contains("NOTAUTH") && refused.contains("ANSWER: 0"), "{other}: {refused}");
        }
        assert!(dig(at, &["fed.example.test.", "AXFR"]).contains("Transfer failed"));
        let missing = dig(at, &["-y", &key, "host-1.fed.example.test.", "AXFR"]);
        assert!(missing.contains("Transfer failed"), "{missing}");
    })
    .await
    .unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_goes_to_who_is_in_the_list_without_a_key() {
    let transfer_to = vec!["127.0.0.0/8".parse().unwrap()];
    let server = Running::start(Options { transfer_to, ..options() }).await;
    server.state.offer(update(7, records())).await;
    let at = server.address;
    tokio::task::spawn_blocking(move || {
        let whole = dig(at, &["fed.example.test.", "AXFR"]);
        for line in [
            "big.fed.example.test.\t10\tIN\tAAAA\t2001:db8::",
            "tiers.fed.example.test.\t10\tIN\tA\t192.0.2.31",
            "web.default.fed.example.test. 10 IN\tA\t192.0.2.11",
            "some.fed.example.test.\t10\tIN\tA\t192.0.2.73",
            "stuck.fed.example.test.\t10\tIN\tA\t192.0.2.63",
            "geo.fed.example.test.\t10\tIN\tA\t192.0.2.50",
        ] {
            assert!(whole.contains(line), "{line} is not in {whole}");
        }
        for line in ["gone.fed.example.test.", "192.0.2.64", "192.0.2.51"] {
            assert!(!whole.contains(line), "{line} is in {whole}");
        }
        // RFC 1995 section 2: of changes there are none to send, so all; and nothing but the serial for who is not behind.
        let ours = serial(at);
        for (has, all) in [(ours - 1, true), (ours, false), (ours + 1, false)] {
            let given = dig(at, &["fed.example.test.", &format!("IXFR={has}")]);
            assert!(given.contains(&format!(" {ours} ")), "{given}");
            assert_eq!(given.contains("192.0.2.73"), all, "IXFR={has} of {ours}: {given}");
        }
    })
    .await
    .unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_message_of_a_zone_speaks_edns_as_its_client_does() {
    let transfer_to = vec!["127.0.0.0/8".parse().unwrap()];
    let server = Running::start(Options { transfer_to, ..options() }).await;
    let mut many = records();
    many.extend((0..2000).map(|n| fixed(&format!("host-{n}.fed.example.test."), "A", &["192.0.2.1"])));
    server.state.offer(update(7, many)).await;
    let at = server.address;
    tokio::task::spawn_blocking(move || {
        let plain = query("fed.example.test.", T::AXFR);
        for (asked, speaks) in [(plain.clone(), false), (with_edns(plain, 1232), true)] {
            let mut stream = TcpStream::connect(at).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(&framed(&asked)).unwrap();
            let (mut messages, mut ends) = (Vec::new(), 0);
            while ends < 2 {
                let mut length = [0; 2];
                stream.read_exact(&mut length).unwrap();
                let mut octets = vec![0; u16::from_be_bytes(length).into()];
                stream.read_exact(&mut octets).unwrap();
                let message = Message::from_vec(&octets).unwrap();
                ends += message.answers.iter().filter(|record| record.record_type() == T::SOA).count();
                messages.push(message.edns.is_some());
            }
            assert!(messages.len() > 2, "{messages:?}");
            assert!(messages[0] == speaks && messages[1..].iter().all(|later| !later), "{messages:?}");
        }
    })
    .await
    .unwrap();
    server.stop().await;
}

/// A server of somebody else.
struct Daemon {
    process: Child,
    address: SocketAddr,
    directory: TempDir,
}

impl Daemon {
    fn start(program: &str, arguments: &[&str], directory: TempDir, address: SocketAddr, text: &str) -> Self {
        let file = directory.path().join("configuration");
        std::fs::write(&file, text).unwrap();
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let process = Command::new(program)
            .args(arguments)
            .arg(&file)
            .env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: apt-get install nsd knot: {error}"));
        Self { process, address, directory }
    }

    fn nsd(address: SocketAddr, primary: SocketAddr) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().display();
        let text = format!(
            "server:\n ip-address: 127.0.0.1@{}\n username: \"\"\n chroot: \"\"\n zonesdir: \"{at}\"\n database: \"\"\n \
             pidfile: \"{at}/pid\"\n xfrdfile: \"{at}/xfrd\"\n xfrdir: \"{at}\"\n zonelistfile: \"{at}/list\"\n server-count: 1\n \
             verbosity: 2\nremote-control:\n control-enable: no\nkey:\n name: \"xfer.\"\n algorithm: hmac-sha256\n secret: \"{SECRET}\"\n\
             zone:\n name: \"fed.example.test\"\n zonefile: \"zone\"\n allow-notify: 127.0.0.1 xfer.\n \
             request-xfr: AXFR 127.0.0.1@{} xfer.\n",
            address.port(),
            primary.port(),
        );
        Self::start("nsd", &["-d", "-c"], directory, address, &text)
    }

    fn knot(address: SocketAddr, primary: SocketAddr) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().display();
        let text = format!(
            "server:\n  rundir: \"{at}\"\n  listen: 127.0.0.1@{}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n\
             database:\n  storage: \"{at}/db\"\nlog:\n  - target: stderr\n    any: info\n\
             key:\n  - id: xfer.\n    algorithm: hmac-sha256\n    secret: {SECRET}\n\
             remote:\n  - id: primary\n    address: 127.0.0.1@{}\n    key: xfer.\n\
             acl:\n  - id: told\n    address: 127.0.0.1\n    key: xfer.\n    action: notify\n\
             zone:\n  - domain: fed.example.test.\n    storage: \"{at}\"\n    master: primary\n    acl: told\n",
            address.port(),
            primary.port(),
        );
        Self::start("knotd", &["-c"], directory, address, &text)
    }

    /// Until it has what `primary` has.
    fn follows(&self, primary: SocketAddr) {
        let start = Instant::now();
        let serial = serial(primary);
        loop {
            if ask(self.address, "fed.example.test.", T::SOA)
                .is_some_and(|reply| serial_of(&reply) == Some(serial))
            {
                return;
            }
            let log = || std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            assert!(start.elapsed() < PATIENCE, "serial {serial} does not come: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // SIGTERM, so that the children of the daemon go too.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}

fn serial_of(reply: &Message) -> Option<u32> {
    reply.answers.iter().find_map(|record| match &record.data {
        hickory_proto::rr::RData::SOA(soa) => Some(soa.serial),
        _ => None,
    })
}

fn serial(at: SocketAddr) -> u32 {
    serial_of(&ask(at, "fed.example.test.", T::SOA).unwrap()).unwrap()
}

fn ask(at: SocketAddr, name: &str, kind: T) -> Option<Message> {
    let mut message = with_edns(query(name, kind), 4096);
    message.edns.as_mut().unwrap().set_dnssec_ok(true);
    let octets = message.to_vec().unwrap();
    let mut stream = TcpStream::connect(at).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&[&(octets.len() as u16).to_be_bytes(), &octets[..]].concat()).ok()?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut reply = vec![0; u16::from_be_bytes(length) as usize];
    stream.read_exact(&mut reply).ok()?;
    Message::from_vec(&reply).ok()
}

/// What two servers of a zone must agree on; what they add to be kind they need not.
fn essence(message: &Message) -> (String, Vec<String>, Vec<String>) {
    let lines = |records: &[hickory_proto::rr::Record]| {
        let mut lines: Vec<String> = records.iter().map(ToString::to_string).collect();
        lines.sort();
        lines
    };
    let negative = message.answers.is_empty() && message.metadata.authoritative;
    let authorities = if negative { lines(&message.authorities) } else { Vec::new() };
    (message.metadata.response_code.to_string(), lines(&message.answers), authorities)
}

#[tokio::test(flavor = "multi_thread")]
async fn nsd_and_knot_follow_a_signed_zone_and_answer_alike() {
    // Free now; bound again at once.
    let free = || UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (nsd_at, knot_at) = (free(), free());
    let directory = tempfile::tempdir().unwrap();
    let notify = [nsd_at, knot_at].map(|address| format!("xfer@{address}").parse().unwrap()).to_vec();
    let server = Running::start(Options { notify, ..with_keys(directory.path()) }).await;
    server.state.offer(signed(7, vec![key(1)])).await;
    let at = server.address;
    let (secondaries, first) = tokio::task::spawn_blocking(move || {
        let secondaries = [Daemon::nsd(nsd_at, at), Daemon::knot(knot_at, at)];
        for secondary in &secondaries {
            secondary.follows(at);
        }
        (secondaries, serial(at))
    })
    .await
    .unwrap();
    let mut next = signed(8, vec![key(1)]);
    next.zones[0].records.push(fixed("new.fed.example.test.", "TXT", &["\"hello\""]));
    server.state.offer(next).await;
    let state = server.state.clone();
    tokio::task::spawn_blocking(move || {
        // They look by themselves after an hour: this is NOTIFY.
        assert_eq!(serial(at), first + 1);
        for secondary in &secondaries {
            secondary.follows(at);
        }
        for (name, kind) in [
            ("fed.example.test.", T::SOA),
            ("fed.example.test.", T::NS),
            ("fed.example.test.", T::DNSKEY),
            ("fed.example.test.", T::TXT),
            ("new.fed.example.test.", T::TXT),
            ("big.fed.example.test.", T::AAAA),
            ("all.fed.example.test.", T::A),
            ("alias.fed.example.test.", T::CNAME),
            ("any.wild.fed.example.test.", T::A),
            ("types.fed.example.test.", T::CAA),
            ("types.fed.example.test.", T::HTTPS),
            ("safe.fed.example.test.", T::DS),
            ("_http._tcp.web.fed.example.test.", T::SRV),
            // Not there: the type, the name, and what is between names.
            ("big.fed.example.test.", T::A),
            ("nothing.fed.example.test.", T::A),
            ("a.b.c.fed.example.test.", T::MX),
            ("_tcp.web.fed.example.test.", T::A),
        ] {
            let ours = essence(&ask(at, name, kind).unwrap());
            for secondary in &secondaries {
                let theirs = essence(&ask(secondary.address, name, kind).unwrap());
                assert_eq!(theirs, ours, "{name} {kind} at {}", secondary.address);
            }
        }
        // Eight days later nothing has changed, but every signature has been renewed: the serial has risen, and they have them.
        let old = essence(&ask(at, "all.fed.example.test.", T::A).unwrap());
        state.set_ahead(8 * 86_400);
        state.review();
        assert_eq!(serial(at), first + 1 + 8 * 4);
        let new = essence(&ask(at, "all.fed.example.test.", T::A).unwrap());
        assert_ne!(new, old);
        for secondary in &secondaries {
            secondary.follows(at);
            assert_eq!(essence(&ask(secondary.address, "all.fed.example.test.", T::A).unwrap()), new);
        }
        // That clock was wrong, and is set right: signatures that do not count yet are nowhere left.
        state.set_ahead(0);
        state.review();
        assert_eq!(serial(at), first + 2 + 8 * 4);
        for secondary in &secondaries {
            secondary.follows(at);
            assert_eq!(essence(&ask(secondary.address, "all.fed.example.test.", T::A).unwrap()), old);
        }
    })
    .await
    .unwrap();
    server.stop().await;
}
