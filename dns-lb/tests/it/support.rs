//! Zones, queries and servers for tests.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use dns_lb::testing::answer::{Context, CookiePolicy, Scratch, answer};
use dns_lb::testing::client::ClientMap;
use dns_lb::testing::compile::Snapshot;
use dns_lb::testing::dnssec::Signatures;
use dns_lb::testing::metrics::{ClusterSlots, Counters, Transport};
use dns_lb::testing::transport::EncryptedAddresses;
use dns_lb::testing::zone::Zones;
use dns_lb::{Options, Service};
use federation_runtime::endpoints::{Health, Metrics};
use federation_runtime::shutdown::Shutdown;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use proto::v1;

pub fn set(
    name: &str,
    kind: &str,
    selection: v1::Selection,
    tiers: &[&[(&[&str], u32, &str)]],
) -> v1::RecordSet {
    v1::RecordSet {
        name: name.into(),
        ttl: 10,
        r#type: kind.into(),
        selection: selection.into(),
        tiers: tiers
            .iter()
            .map(|choices| v1::Tier {
                choices: choices
                    .iter()
                    .map(|(data, weight, cluster)| v1::Choice {
                        data: data.iter().map(ToString::to_string).collect(),
                        weight: *weight,
                        cluster: (*cluster).into(),
                    })
                    .collect(),
            })
            .collect(),
        ..v1::RecordSet::default()
    }
}

/// What clients in `regions` are answered instead.
pub fn variant(regions: &[&str], selection: v1::Selection, tiers: &[&[(&[&str], u32, &str)]]) -> v1::Variant {
    v1::Variant {
        regions: regions.iter().map(ToString::to_string).collect(),
        selection: selection.into(),
        tiers: set("", "", selection, tiers).tiers,
        picks: 0,
    }
}

/// Asia around a piece of Europe, a private network, and the resolver at 192.0.2.7.
pub fn regions() -> v1::Regions {
    let prefix =
        |prefix: &str, region: &str| v1::ClientPrefix { prefix: prefix.into(), region: region.into() };
    v1::Regions {
        prefixes: vec![
            prefix("198.51.0.0/16", "asia"),
            prefix("198.51.100.0/24", "europe"),
            prefix("2001:db8:a::/48", "asia"),
            prefix("10.9.0.0/16", "nowhere"),
            prefix("192.0.2.0/28", "africa"),
        ],
        ..v1::Regions::default()
    }
}

pub fn fixed(name: &str, kind: &str, data: &[&str]) -> v1::RecordSet {
    set(name, kind, v1::Selection::All, &[&[(data, 0, "")]])
}

pub fn update(epoch: u64, records: Vec<v1::RecordSet>) -> v1::ZoneUpdate {
    v1::ZoneUpdate {
        epoch,
        incarnation: "store-1".into(),
        zones: vec![v1::Zone {
            origin: "fed.example.test.".into(),
            serial: epoch as u32,
            default_ttl: 30,
            negative_ttl: 5,
            nameservers: vec!["ns1.fed.example.test.".into(), "ns2.elsewhere.test.".into()],
            hostmaster: "hostmaster.fed.example.test.".into(),
            records,
            ..v1::Zone::default()
        }],
        regions: Some(regions()),
        cookie_secrets: vec![vec![7; 16].into()],
        ..v1::ZoneUpdate::default()
    }
}

/// Every feature once.
pub fn records() -> Vec<v1::RecordSet> {
    use v1::Selection::{All, Sticky, Weighted};
    let long: Vec<String> = (0..60).map(|n| format!("2001:db8::{n:x}")).collect();
    let long: Vec<&str> = long.iter().map(String::as_str).collect();
    let o = "fed.example.test.";
    vec![
        fixed(o, "A", &["192.0.2.1"]),
        fixed(o, "TXT", &["\"v=spf1 -all\""]),
        fixed(&format!("ns1.{o}"), "A", &["192.0.2.53"]),
        set(
            &format!("web.default.{o}"),
            "A",
            Weighted,
            &[&[(&["192.0.2.10", "192.0.2.11"], 3, "taiwan"), (&["198.51.100.10"], 1, "tokyo")]],
        ),
        fixed(&format!("web.default.{o}"), "AAAA", &["2001:db8::10"]),
        set(
            &format!("all.{o}"),
            "A",
            All,
            &[&[
                (&["192.0.2.21"], 0, "taiwan"),
                (&["192.0.2.22"], 0, "tokyo"),
                (&["192.0.2.23", "192.0.2.21"], 0, "osaka"),
            ]],
        ),
        set(&format!("tiers.{o}"), "A", Weighted, &[&[(&[], 1, "taiwan")], &[(&["192.0.2.31"], 1, "tokyo")]]),
        set(&format!("gone.{o}"), "A", Weighted, &[&[(&[], 1, "taiwan"), (&["192.0.2.32"], 0, "tokyo")]]),
        fixed(&format!("big.{o}"), "AAAA", &long),
        fixed(&format!("alias.{o}"), "CNAME", &[&format!("web.default.{o}")]),
        fixed(&format!("alias2.{o}"), "CNAME", &[&format!("alias.{o}")]),
        set(
            &format!("split.{o}"),
            "CNAME",
            Weighted,
            &[&[(&["alias.fed.example.test."], 1, "taiwan"), (&["out.elsewhere.test."], 1, "tokyo")]],
        ),
        fixed(&format!("dangling.{o}"), "CNAME", &[&format!("nothing.{o}")]),
        fixed(&format!("towild.{o}"), "CNAME", &[&format!("any.wild.{o}")]),
        fixed(&format!("circle.{o}"), "CNAME", &[&format!("circle.{o}")]),
        fixed(&format!("*.wild.{o}"), "A", &["192.0.2.40"]),
        fixed(&format!("*.cwild.{o}"), "CNAME", &[&format!("web.default.{o}")]),
        fixed(&format!("host.deep.wild.{o}"), "TXT", &["deep"]),
        fixed(&format!("_http._tcp.web.{o}"), "SRV", &[&format!("10 5 80 web.default.{o}")]),
        v1::RecordSet {
            variants: vec![
                variant(
                    &["asia"],
                    Weighted,
                    &[&[(&["192.0.2.51"], 1, "taiwan"), (&["192.0.2.52"], 2, "tokyo")]],
                ),
                variant(&["europe", "africa"], Weighted, &[&[(&["192.0.2.53"], 1, "paris")]]),
                variant(&["nowhere"], Weighted, &[&[(&[], 1, "atlantis")]]),
            ],
            ..fixed(&format!("geo.{o}"), "A", &["192.0.2.50"])
        },
        v1::RecordSet {
            variants: vec![variant(&["asia"], All, &[&[(&[&format!("stuck.{o}")], 1, "")]])],
            ..fixed(&format!("geoalias.{o}"), "CNAME", &[&format!("web.default.{o}")])
        },
        set(
            &format!("stuck.{o}"),
            "A",
            Sticky,
            &[&[
                (&["192.0.2.61"], 1, "taiwan"),
                (&["192.0.2.62"], 2, "tokyo"),
                (&["192.0.2.63"], 3, ""),
                (&["192.0.2.64"], 0, "osaka"),
            ]],
        ),
        v1::RecordSet {
            picks: 2,
            ..set(
                &format!("some.{o}"),
                "A",
                Weighted,
                &[&[
                    (&["192.0.2.71"], 1, "taiwan"),
                    (&["192.0.2.72"], 2, "tokyo"),
                    (&["192.0.2.73"], 5, "osaka"),
                ]],
            )
        },
    ]
}

pub fn zones(epoch: u64) -> Zones {
    Zones::from_update(&update(epoch, records())).unwrap()
}

pub fn snapshot(stale: bool) -> Snapshot {
    let zones = Arc::new(zones(7));
    let clients = Arc::new(ClientMap::new(zones.regions.prefixes.clone()));
    Snapshot::compile(zones, stale, &ClusterSlots::default(), &mut Signatures::default())
        .with_clients(clients)
}

/// Without the code of Client Subnet options, of which hickory-proto does not read all: their octets are compared.
pub fn shown(message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    let Some(opt) = message.windows(5).rposition(|window| window == [0, 0, 41, 4, 208]) else {
        return message;
    };
    let mut at = opt + 11;
    while let Some(&[c1, c2, l1, l2]) = message.get(at..at + 4).and_then(<[u8]>::first_chunk::<4>) {
        if [c1, c2] == [0, 8] {
            message[at..at + 2].fill(0xff);
        }
        at += 4 + u16::from_be_bytes([l1, l2]) as usize;
    }
    message
}

/// Asked by 192.0.2.7.
pub fn context(snapshot: &Snapshot, transport: Transport, random: u64) -> Context<'_> {
    let source = IpAddr::from([192, 0, 2, 7]);
    let cookies = CookiePolicy::Answer;
    Context {
        snapshot,
        instance: b"test-1",
        transport,
        source,
        now: 1_559_731_985,
        cookies,
        random,
        keys: None,
    }
}

/// Answers as a socket does.
pub fn ask(snapshot: &Snapshot, query: &[u8], transport: Transport, random: u64) -> Option<Vec<u8>> {
    let mut buffer = vec![0; if transport == Transport::Udp { 1232 } else { 65535 }];
    if query.len() > buffer.len() {
        return None;
    }
    buffer[..query.len()].copy_from_slice(query);
    let context = context(snapshot, transport, random);
    let counters = Counters::new(transport);
    let length = answer(&mut buffer, query.len(), &mut Scratch::default(), &context, &counters)?.length;
    Some(buffer[..length].to_vec())
}

pub fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

pub fn with_edns(mut message: Message, payload: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload);
    message.set_edns(edns);
    message
}

/// As it goes over TCP (RFC 1035 section 4.2.2).
pub fn framed(message: &Message) -> Vec<u8> {
    let octets = message.to_vec().unwrap();
    [&(octets.len() as u16).to_be_bytes(), &octets[..]].concat()
}

pub fn udp(name: &str, kind: RecordType) -> Message {
    let reply = ask(&snapshot(false), &query(name, kind).to_vec().unwrap(), Transport::Udp, 1).unwrap();
    Message::from_vec(&reply).unwrap()
}

/// A server on loopback.
pub struct Running {
    pub address: SocketAddr,
    pub encrypted: EncryptedAddresses,
    pub state: dns_lb::testing::state::State,
    pub health: Health,
    pub metrics: Metrics,
    shutdown: Shutdown,
    task: tokio::task::JoinHandle<Result<(), dns_lb::Error>>,
}

pub fn options() -> Options {
    Options {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        threads: std::num::NonZeroUsize::new(2),
        ..Options::default()
    }
}

impl Running {
    // Asynchronous, because it needs a runtime around it.
    #[allow(clippy::unused_async)]
    pub async fn start(options: Options) -> Self {
        let (health, metrics, shutdown) = (Health::new(), Metrics::new(), Shutdown::new());
        let service = Service::bind(options, health.clone(), metrics.clone()).unwrap();
        let (address, state) = (service.addresses()[0], service.state());
        let encrypted = service.encrypted().clone();
        let task = tokio::spawn(service.run(shutdown.clone()));
        Self { address, encrypted, state, health, metrics, shutdown, task }
    }

    pub async fn stop(self) {
        self.shutdown.start();
        self.task.await.unwrap().unwrap();
    }
}
