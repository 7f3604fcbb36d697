//! Zones, queries and servers for tests.

use std::net::SocketAddr;
use std::sync::Arc;

use dns_lb::answer::{Context, Scratch, answer};
use dns_lb::compile::Snapshot;
use dns_lb::dnssec::Signatures;
use dns_lb::metrics::{ClusterSlots, Counters, Transport};
use dns_lb::zone::Zones;
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
        ..v1::ZoneUpdate::default()
    }
}

/// Every feature once.
pub fn records() -> Vec<v1::RecordSet> {
    use v1::Selection::{All, Weighted};
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
    ]
}

pub fn zones(epoch: u64) -> Zones {
    Zones::from_update(&update(epoch, records())).unwrap()
}

pub fn snapshot(stale: bool) -> Snapshot {
    Snapshot::compile(Arc::new(zones(7)), stale, &ClusterSlots::default(), &mut Signatures::default())
}

/// Answers as a socket does.
pub fn ask(snapshot: &Snapshot, query: &[u8], transport: Transport, dice: u64) -> Option<Vec<u8>> {
    let mut buffer = vec![0; if transport == Transport::Udp { 1232 } else { 65535 }];
    if query.len() > buffer.len() {
        return None;
    }
    buffer[..query.len()].copy_from_slice(query);
    let context = Context { snapshot, instance: b"test-1", transport, asker: Default::default(), dice };
    let counters = Counters::new(transport);
    let length = answer(&mut buffer, query.len(), &mut Scratch::default(), &context, &counters)?;
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

pub fn udp(name: &str, kind: RecordType) -> Message {
    let reply = ask(&snapshot(false), &query(name, kind).to_vec().unwrap(), Transport::Udp, 1).unwrap();
    Message::from_vec(&reply).unwrap()
}

/// A server on loopback.
pub struct Running {
    pub address: SocketAddr,
    pub state: dns_lb::state::State,
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
    pub async fn start(options: Options) -> Self {
        let (health, metrics, shutdown) = (Health::new(), Metrics::new(), Shutdown::new());
        let service = Service::bind(options, health.clone(), metrics.clone()).await.unwrap();
        let (address, state) = (service.addresses()[0], service.state());
        let task = tokio::spawn(service.run(shutdown.clone()));
        Self { address, state, health, metrics, shutdown, task }
    }

    pub async fn stop(self) {
        self.shutdown.start();
        self.task.await.unwrap().unwrap();
    }
}
