//! Signed zones before real validators: unbound, with a trust anchor, in front of a dns-lb; and delv.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dns_lb::testing::compile::Snapshot;
use dns_lb::testing::dnssec::Signatures;
use dns_lb::testing::metrics::{ClusterSlots, Transport};
use dns_lb::testing::zone::Zones;
use federation_core::dnssec::PublicKey;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use p256::ecdsa::SigningKey;
use proto::v1;
use tempfile::TempDir;

use crate::support::{Running, ask, fixed, options, query, records, set, update, with_edns};

const PATIENCE: Duration = Duration::from_secs(20);
pub const ORIGIN: &str = "fed.example.test.";

/// A key that the tests know: any scalar will do.
pub fn key(seed: u8) -> v1::DnsKey {
    let secret = SigningKey::from_slice(&[seed; 32]).unwrap();
    let public = secret.verifying_key().to_sec1_point(false).as_bytes()[1..].to_vec();
    v1::DnsKey { public_key: public.into(), private_key: vec![seed; 32].into(), wanted_at_parent: true }
}

pub fn ds(zone: &str, key: &v1::DnsKey) -> String {
    PublicKey(key.public_key[..].try_into().unwrap()).ds_text(zone).unwrap()
}

/// Every feature, and delegations: to a signed zone, to one that is not, and to one whose DS is of another key.
pub fn signed(epoch: u64, keys: Vec<v1::DnsKey>) -> v1::ZoneUpdate {
    let mut records = records();
    let delegated = |name: &str, ds: Option<String>| {
        let name = format!("{name}.{ORIGIN}");
        let mut sets = vec![
            fixed(&name, "NS", &[&format!("ns.{name}")]),
            fixed(&format!("ns.{name}"), "A", &["127.0.0.1"]),
        ];
        sets.extend(ds.map(|ds| fixed(&name, "DS", &[&ds])));
        sets
    };
    records.extend(delegated("safe", Some(ds("safe.fed.example.test.", &key(2)))));
    records.extend(delegated("plain", None));
    records.extend(delegated("broken", Some(ds("broken.fed.example.test.", &key(3)))));
    records.extend([
        fixed(&format!("types.{ORIGIN}"), "MX", &["10 ns1.fed.example.test."]),
        fixed(&format!("types.{ORIGIN}"), "CAA", &["0 issue \"ca.example.net\""]),
        fixed(&format!("types.{ORIGIN}"), "HTTPS", &["1 . alpn=h2,h3 ipv4hint=192.0.2.1"]),
        fixed(&format!("types.{ORIGIN}"), "TYPE65280", &["\\# 3 0a0b0c"]),
        fixed(&format!("types.{ORIGIN}"), "PTR", &["web.default.fed.example.test."]),
        fixed(&format!("tosafe.{ORIGIN}"), "CNAME", &["www.safe.fed.example.test."]),
        set(
            &format!("tiered.{ORIGIN}"),
            "AAAA",
            v1::Selection::All,
            &[&[(&["2001:db8::1", "2001:db8::2"], 1, "taiwan")]],
        ),
    ]);
    // Two of three by weight, one for each client, and what only another region is answered.
    let three: &[&[(&[&str], u32, &str)]] =
        &[&[(&["192.0.2.61"], 1, "a"), (&["192.0.2.62"], 2, "b"), (&["192.0.2.63"], 3, "c")]];
    let two = set(&format!("two.{ORIGIN}"), "A", v1::Selection::Weighted, three);
    records.push(v1::RecordSet { picks: 2, ..two });
    records.push(set(&format!("sticky.{ORIGIN}"), "A", v1::Selection::Sticky, three));
    let regional = set(&format!("regional.{ORIGIN}"), "A", v1::Selection::Weighted, &[&[(&[], 1, "a")]]);
    let far = v1::Variant {
        regions: vec!["far".into()],
        selection: v1::Selection::All.into(),
        tiers: fixed("", "A", &["192.0.2.64"]).tiers,
        picks: 0,
    };
    records.push(v1::RecordSet { variants: vec![far], ..regional });
    let mut update = update(epoch, records);
    update.zones[0].keys = keys;
    update
}

fn child(name: &str, key: Option<v1::DnsKey>) -> v1::Zone {
    let origin = format!("{name}.{ORIGIN}");
    v1::Zone {
        serial: 1,
        nameservers: vec![format!("ns.{origin}")],
        records: vec![
            fixed(&format!("ns.{origin}"), "A", &["127.0.0.1"]),
            fixed(&format!("www.{origin}"), "A", &["192.0.2.77"]),
        ],
        keys: key.into_iter().collect(),
        origin,
        ..v1::Zone::default()
    }
}

fn children() -> v1::ZoneUpdate {
    v1::ZoneUpdate {
        epoch: 1,
        incarnation: "store-1".into(),
        zones: vec![child("safe", Some(key(2))), child("plain", None), child("broken", Some(key(4)))],
        ..v1::ZoneUpdate::default()
    }
}

/// A validating resolver that asks our servers.
pub struct Unbound {
    process: Child,
    address: SocketAddr,
    directory: TempDir,
}

impl Unbound {
    pub fn start(parent: SocketAddr, children: SocketAddr, anchor: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Free now; nothing else of this test asks for ports in between.
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let stub = |name: &str, at: SocketAddr| {
            format!("stub-zone:\n name: \"{name}\"\n stub-addr: {}@{}\n", at.ip(), at.port())
        };
        let configuration = format!(
            "server:\n interface: 127.0.0.1@{port}\n port: {port}\n username: \"\"\n chroot: \"\"\n directory: \"{at}\"\n \
             pidfile: \"\"\n use-syslog: no\n do-daemonize: no\n num-threads: 1\n do-not-query-localhost: no\n \
             local-zone: \"test.\" nodefault\n module-config: \"validator iterator\"\n trust-anchor: \"{ORIGIN} DS {anchor}\"\n \
             qname-minimisation: yes\n harden-below-nxdomain: yes\n aggressive-nsec: yes\n val-log-level: 2\n \
             max-udp-size: 4096\n msg-cache-size: 1m\n rrset-cache-size: 1m\n\
             remote-control:\n control-enable: no\n{}{}{}{}",
            stub(ORIGIN, parent),
            stub("safe.fed.example.test.", children),
            stub("plain.fed.example.test.", children),
            stub("broken.fed.example.test.", children),
            at = directory.path().display(),
        );
        let file = directory.path().join("unbound.conf");
        std::fs::write(&file, configuration).unwrap();
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let process = Command::new("unbound")
            .args(["-d", "-c"])
            .arg(&file)
            .env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("unbound: apt-get install unbound");
        let unbound = Self { process, address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), directory };
        let start = Instant::now();
        while unbound.try_ask("ready.invalid.", RecordType::A).is_none() {
            assert!(start.elapsed() < PATIENCE, "unbound does not answer");
        }
        unbound
    }

    fn try_ask(&self, name: &str, kind: RecordType) -> Option<Message> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut sent = with_edns(query(name, kind), 4096);
        sent.metadata.authentic_data = true;
        socket.send(&sent.to_vec().unwrap()).ok()?;
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).ok()?;
        Message::from_vec(&buffer[..length]).ok()
    }

    pub fn ask(&self, name: &str, kind: RecordType) -> Message {
        let start = Instant::now();
        loop {
            if let Some(answer) = self.try_ask(name, kind) {
                return answer;
            }
            assert!(start.elapsed() < PATIENCE, "{name} {kind}: no answer");
        }
    }

    #[track_caller]
    pub fn check(&self, name: &str, kind: RecordType, code: ResponseCode, authentic: bool, answers: usize) {
        let answer = self.ask(name, kind);
        let seen = (answer.metadata.response_code, answer.metadata.authentic_data, answer.answers.len());
        let log = || std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        assert_eq!(seen, (code, authentic, answers), "{name} {kind}: {answer:#?}\n{}", log());
    }
}

impl Drop for Unbound {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unbound_validates_every_kind_of_answer() {
    use RecordType as T;
    use ResponseCode::{NXDomain, NoError, ServFail};
    let (parent, below) = (Running::start(options()).await, Running::start(options()).await);
    parent.state.offer(signed(7, vec![key(1)])).await;
    below.state.offer(children()).await;
    let (at, below_at) = (parent.address, below.address);
    let asking = tokio::task::spawn_blocking(move || {
        let unbound = Unbound::start(at, below_at, &ds(ORIGIN, &key(1)));
        // Exact names, the apex, and one choice of several.
        unbound.check("ns1.fed.example.test.", T::A, NoError, true, 1);
        unbound.check(ORIGIN, T::SOA, NoError, true, 1);
        unbound.check(ORIGIN, T::NS, NoError, true, 2);
        unbound.check(ORIGIN, T::DNSKEY, NoError, true, 1);
        unbound.check(ORIGIN, T::CDS, NoError, true, 1);
        unbound.check(ORIGIN, T::CDNSKEY, NoError, true, 1);
        assert!(unbound.ask("web.default.fed.example.test.", T::A).metadata.authentic_data);
        unbound.check("all.fed.example.test.", T::A, NoError, true, 3);
        unbound.check("two.fed.example.test.", T::A, NoError, true, 2);
        unbound.check("sticky.fed.example.test.", T::A, NoError, true, 1);
        unbound.check("tiered.fed.example.test.", T::AAAA, NoError, true, 2);
        // Truncated, then by TCP.
        unbound.check("big.fed.example.test.", T::AAAA, NoError, true, 60);
        for kind in [T::MX, T::CAA, T::HTTPS, T::PTR, T::Unknown(65280)] {
            unbound.check("types.fed.example.test.", kind, NoError, true, 1);
        }
        unbound.check("_http._tcp.web.fed.example.test.", T::SRV, NoError, true, 1);
        // Wildcards, and chains of aliases into and out of them.
        unbound.check("x.wild.fed.example.test.", T::A, NoError, true, 1);
        unbound.check("x.y.wild.fed.example.test.", T::A, NoError, true, 1);
        unbound.check("alias2.fed.example.test.", T::AAAA, NoError, true, 3);
        unbound.check("towild.fed.example.test.", T::A, NoError, true, 2);
        unbound.check("*.wild.fed.example.test.", T::NSEC, NoError, true, 1);
        unbound.check("x.cwild.fed.example.test.", T::AAAA, NoError, true, 2);
        // NODATA: at a name, at a withdrawn one, at empty non-terminals, by a wildcard, behind an alias.
        unbound.check("ns1.fed.example.test.", T::MX, NoError, true, 0);
        unbound.check("gone.fed.example.test.", T::A, NoError, true, 0);
        unbound.check("regional.fed.example.test.", T::A, NoError, true, 0);
        unbound.check("default.fed.example.test.", T::A, NoError, true, 0);
        unbound.check("deep.wild.fed.example.test.", T::TXT, NoError, true, 0);
        unbound.check("z.wild.fed.example.test.", T::TXT, NoError, true, 0);
        unbound.check("alias.fed.example.test.", T::MX, NoError, true, 1);
        unbound.check("x.cwild.fed.example.test.", T::MX, NoError, true, 1);
        unbound.check(ORIGIN, T::MX, NoError, true, 0);
        unbound.check(ORIGIN, T::Unknown(65281), NoError, true, 0);
        // NXDOMAIN: before, between and behind names, below one, below a wildcard's child, behind an alias.
        for name in ["0", "nothing", "zzz", "below.ns1", "x.deep.wild", "a.b.c.d.e"] {
            unbound.check(&format!("{name}.fed.example.test."), T::A, NXDomain, true, 0);
        }
        unbound.check("dangling.fed.example.test.", T::A, NXDomain, true, 1);
        // Delegations: signed, unsigned (proven to be), and with a DS that is of another key.
        unbound.check("www.safe.fed.example.test.", T::A, NoError, true, 1);
        unbound.check("none.safe.fed.example.test.", T::A, NXDomain, true, 0);
        unbound.check("tosafe.fed.example.test.", T::A, NoError, true, 2);
        unbound.check("safe.fed.example.test.", T::DS, NoError, true, 1);
        unbound.check("plain.fed.example.test.", T::DS, NoError, true, 0);
        unbound.check("www.plain.fed.example.test.", T::A, NoError, false, 1);
        unbound.check("www.broken.fed.example.test.", T::A, ServFail, false, 0);

        let wrong = Unbound::start(at, below_at, &ds(ORIGIN, &key(9)));
        wrong.check("ns1.fed.example.test.", T::A, ServFail, false, 0);
        wrong.check("nothing.fed.example.test.", T::A, ServFail, false, 0);
    });
    asking.await.unwrap();
    parent.stop().await;
    below.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delv_validates_and_a_roll_keeps_it_so() {
    let server = Running::start(options()).await;
    let directory = tempfile::tempdir().unwrap();
    let anchor = |key: &v1::DnsKey| {
        let file = directory.path().join("anchor");
        let ds = ds(ORIGIN, key);
        let (head, digest) = ds.rsplit_once(' ').unwrap();
        std::fs::write(&file, format!("trust-anchors {{ {ORIGIN} static-ds {head} \"{digest}\"; }};"))
            .unwrap();
        file
    };
    let delv = |key: &v1::DnsKey, name: &str, kind: &str| {
        let output = Command::new("delv")
            .args(["-a"])
            .arg(anchor(key))
            .args([&format!("@{}", server.address.ip()), "-p", &server.address.port().to_string()])
            .args([&format!("+root={ORIGIN}"), name, kind])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    // The old key alone, both while one takes over, the new one alone.
    let (old, new) = (key(1), key(5));
    let steps = [
        (vec![old.clone()], vec![&old], vec![&new]),
        (vec![old.clone(), new.clone()], vec![&old, &new], vec![]),
        (vec![new.clone()], vec![&new], vec![&old]),
    ];
    for (epoch, (keys, anchors, wrong)) in (7..).zip(steps) {
        server.state.offer(signed(epoch, keys)).await;
        for anchor in anchors {
            for (name, kind, part) in [
                ("web.default.fed.example.test.", "A", "; fully validated"),
                ("x.wild.fed.example.test.", "A", "; fully validated"),
                ("nothing.fed.example.test.", "A", "; negative response, fully validated"),
                ("ns1.fed.example.test.", "MX", "; negative response, fully validated"),
            ] {
                let said = delv(anchor, name, kind);
                assert!(said.contains(part), "epoch {epoch}, {name} {kind}: {said}");
            }
        }
        for anchor in wrong {
            let said = delv(anchor, "web.default.fed.example.test.", "A");
            assert!(!said.contains("fully validated"), "epoch {epoch}: {said}");
        }
    }
    server.stop().await;
}

/// RFC 4592 section 4.8: what a wildcard has, the names have that it stands for.
#[test]
fn a_chain_record_asked_for_below_a_wildcard_is_owned_by_the_name_that_was_asked() {
    let snapshot = compiled(&signed(7, vec![key(1)]), &mut Signatures::default(), NOW);
    for (name, owner) in [
        ("x.wild.fed.example.test.", "x.wild.fed.example.test."),
        ("*.wild.fed.example.test.", "*.wild.fed.example.test."),
        ("ns1.fed.example.test.", "ns1.fed.example.test."),
        ("towild.fed.example.test.", "towild.fed.example.test."),
    ] {
        let reply = ask(&snapshot, &dnssec_ok(name, RecordType::NSEC), Transport::Udp, 1).unwrap();
        let message = Message::from_vec(&reply).unwrap();
        let kinds: Vec<RecordType> =
            message.answers.iter().map(hickory_proto::rr::Record::record_type).collect();
        assert_eq!(kinds, [RecordType::NSEC, RecordType::RRSIG], "{name}");
        assert!(message.answers.iter().all(|record| record.name.to_ascii() == owner), "{name}: {message:#?}");
    }
}

pub const NOW: u32 = 1_795_500_000;

pub fn compiled(update: &v1::ZoneUpdate, signatures: &mut Signatures, now: u32) -> Snapshot {
    next(&Snapshot::default(), update, signatures, now)
}

pub fn next(before: &Snapshot, update: &v1::ZoneUpdate, signatures: &mut Signatures, now: u32) -> Snapshot {
    let zones = std::sync::Arc::new(Zones::from_update(update).unwrap());
    signatures.begin(now);
    before.next(zones, false, &ClusterSlots::default(), signatures)
}

#[test]
fn a_proof_behind_a_long_answer_is_owned_by_its_own_name() {
    let long: Vec<String> = (0..200).map(|n| format!("\"{n:03} {}\"", "x".repeat(120))).collect();
    let long: Vec<&str> = long.iter().map(String::as_str).collect();
    let mut update = signed(7, vec![key(1)]);
    update.zones[0].records.push(fixed("*.long.fed.example.test.", "TXT", &long));
    let snapshot = compiled(&update, &mut Signatures::default(), NOW);
    let sent = dnssec_ok("a.long.fed.example.test.", RecordType::TXT);
    let reply = ask(&snapshot, &sent, Transport::Tcp, 1).unwrap();
    assert!(reply.len() > 16 << 10, "a pointer could still hold where the proof is");
    let message = Message::from_vec(&reply).unwrap();
    assert_eq!(message.answers.len(), 201);
    let of = |kind| message.authorities.iter().find(|record| record.record_type() == kind).unwrap();
    assert_eq!(of(RecordType::RRSIG).name, of(RecordType::NSEC).name);
}

fn dnssec_ok(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = with_edns(query(name, kind), 1232);
    message.metadata.checking_disabled = true;
    if let Some(edns) = message.edns.as_mut() {
        edns.set_dnssec_ok(true);
    }
    message.to_vec().unwrap()
}

#[test]
fn every_server_gives_the_same_octets_and_an_update_signs_what_it_changed() {
    let (mut first, mut second) = (Signatures::default(), Signatures::default());
    let one = compiled(&signed(7, vec![key(1)]), &mut first, NOW);
    // Started anew, days later, within the same windows for most.
    let other = compiled(&signed(7, vec![key(1)]), &mut second, NOW);
    for (name, kind) in [
        ("all.fed.example.test.", RecordType::A),
        ("nothing.fed.example.test.", RecordType::A),
        ("x.wild.fed.example.test.", RecordType::MX),
        ("www.safe.fed.example.test.", RecordType::A),
    ] {
        let sent = dnssec_ok(name, kind);
        let answer = |snapshot| ask(snapshot, &sent, Transport::Udp, 1).unwrap();
        assert_eq!(answer(&one), answer(&other), "{name}");
        let message = Message::from_vec(&answer(&one)).unwrap();
        let flags = message.metadata;
        assert!(
            !flags.authentic_data && flags.checking_disabled,
            "AD is the validator's to set, CD is echoed"
        );
    }
    let made = first.made();
    let mut changed = signed(8, vec![key(1)]);
    let web = changed.zones[0].records.iter_mut().find(|set| set.name == "web.default.fed.example.test.");
    web.unwrap().tiers[0].choices[1].data = vec!["198.51.100.11".into()];
    let one = next(&one, &changed, &mut first, NOW + 5);
    assert_eq!(first.made() - made, 2, "the SOA and the one choice");
    // A week and a little later every signature has been renewed once.
    let before = first.made();
    assert!(one.renewal().unwrap() > NOW);
    let one = next(&one, &changed, &mut first, NOW + 700_000);
    assert!(one.renewal().unwrap() > NOW + 700_000);
    assert!(first.made() - before > made - 4, "{} of {made}", first.made() - before);
}

/// A machine that starts with a wrong clock, and is set right when it has found the time.
#[test]
fn a_clock_that_was_ahead_leaves_no_signature_that_does_not_count_yet() {
    const AHEAD: u32 = 30 * 86_400;
    let update = signed(7, vec![key(1)]);
    let mut signatures = Signatures::default();
    let ahead = compiled(&update, &mut signatures, NOW + AHEAD);
    assert!(ahead.is_ahead(NOW) && !ahead.is_ahead(NOW + AHEAD - 10));
    assert!(ahead.renewal().unwrap() > NOW + AHEAD, "nothing is due before that");
    // The zones are the same ones, or others.
    for epoch in [7, 8] {
        let update = signed(epoch, vec![key(1)]);
        let right = next(&ahead, &update, &mut signatures, NOW);
        let anew = compiled(&update, &mut Signatures::default(), NOW);
        assert!(!right.is_ahead(NOW));
        assert_eq!(right.renewal(), anew.renewal());
        for (name, kind) in [
            ("all.fed.example.test.", RecordType::A),
            ("two.fed.example.test.", RecordType::A),
            ("fed.example.test.", RecordType::SOA),
            ("fed.example.test.", RecordType::DNSKEY),
            ("nothing.fed.example.test.", RecordType::A),
            ("x.wild.fed.example.test.", RecordType::MX),
            ("www.safe.fed.example.test.", RecordType::A),
        ] {
            let sent = dnssec_ok(name, kind);
            let answer = |snapshot| ask(snapshot, &sent, Transport::Udp, 1).unwrap();
            assert_eq!(answer(&right), answer(&anew), "{name} at epoch {epoch}");
        }
    }
}

#[test]
fn signatures_come_only_when_asked_for_and_what_does_not_fit_is_truncated() {
    let snapshot = compiled(&signed(7, vec![key(1)]), &mut Signatures::default(), NOW);
    let read = |octets: Option<Vec<u8>>| Message::from_vec(&octets.unwrap()).unwrap();
    let plain = with_edns(query("nothing.fed.example.test.", RecordType::A), 1232).to_vec().unwrap();
    let plain = read(ask(&snapshot, &plain, Transport::Udp, 1));
    assert_eq!((plain.answers.len(), plain.authorities.len()), (0, 1));
    let whole =
        read(ask(&snapshot, &dnssec_ok("nothing.fed.example.test.", RecordType::A), Transport::Udp, 1));
    let kinds: Vec<RecordType> =
        whole.authorities.iter().map(hickory_proto::rr::Record::record_type).collect();
    use RecordType::{NSEC, RRSIG, SOA};
    assert_eq!(kinds, [SOA, RRSIG, NSEC, RRSIG, NSEC, RRSIG]);
    // The negative TTL is of all of them (RFC 9077).
    assert!(whole.authorities.iter().all(|record| record.ttl == 5));
    let referral =
        read(ask(&snapshot, &dnssec_ok("www.safe.fed.example.test.", RecordType::A), Transport::Udp, 1));
    assert!(!referral.metadata.authoritative);
    let kinds: Vec<RecordType> =
        referral.authorities.iter().map(hickory_proto::rr::Record::record_type).collect();
    assert_eq!(kinds, [RecordType::NS, RecordType::DS, RRSIG], "the delegation is not signed, its DS is");
    assert_eq!(referral.additionals.len(), 1);
    let big = dnssec_ok("big.fed.example.test.", RecordType::AAAA);
    assert!(read(ask(&snapshot, &big, Transport::Udp, 1)).metadata.truncation);
    assert_eq!(read(ask(&snapshot, &big, Transport::Tcp, 1)).answers.len(), 61);
    // More than one additional record: the cold path answers with signatures too.
    let mut odd = Message::from_vec(&dnssec_ok("all.fed.example.test.", RecordType::A)).unwrap();
    odd.add_additional(hickory_proto::rr::Record::from_rdata(
        hickory_proto::rr::Name::root(),
        0,
        hickory_proto::rr::RData::A(Ipv4Addr::LOCALHOST.into()),
    ));
    assert_eq!(read(ask(&snapshot, &odd.to_vec().unwrap(), Transport::Udp, 1)).answers.len(), 4);
}
