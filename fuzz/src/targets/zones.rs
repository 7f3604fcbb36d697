//! What DNS servers are told, and zone files.

use std::sync::Arc;

use dns_lb::testing::compile::Snapshot;
use dns_lb::testing::dnssec::Signatures;
use dns_lb::testing::metrics::ClusterSlots;
use dns_lb::testing::zone::Zones;
use federation_core::dns::{Name, parse_master};
use hub_protocol::zones::{Pieces, apply, change, cut, join};
use prost::Message as _;
use proto::v1;

use super::{Case, same};
use crate::mutate;

fn set(name: &str, kind: &str, data: &[&str]) -> v1::RecordSet {
    let choice = v1::Choice {
        data: data.iter().map(|text| (*text).to_owned()).collect(),
        weight: 1,
        cluster: "taiwan".into(),
    };
    v1::RecordSet {
        name: name.into(),
        r#type: kind.into(),
        ttl: 5,
        tiers: vec![v1::Tier { choices: vec![choice] }],
        ..v1::RecordSet::default()
    }
}

fn update(epoch: u64) -> v1::ZoneUpdate {
    let zone = v1::Zone {
        origin: "fed.example.test.".into(),
        serial: epoch as u32,
        default_ttl: 30,
        negative_ttl: 5,
        nameservers: vec!["ns1.fed.example.test.".into()],
        hostmaster: "hostmaster.fed.example.test.".into(),
        records: vec![
            set("fed.example.test.", "TXT", &["\"v=spf1 -all\""]),
            set("ns1.fed.example.test.", "A", &["192.0.2.53"]),
            set("web.default.fed.example.test.", "A", &["192.0.2.1", "192.0.2.2"]),
            set("*.wild.fed.example.test.", "AAAA", &["2001:db8::1"]),
            set("alias.fed.example.test.", "CNAME", &["web.default.fed.example.test."]),
            set("sub.fed.example.test.", "NS", &["ns.sub.fed.example.test."]),
            set("_http._tcp.fed.example.test.", "SRV", &["1 2 80 web.default.fed.example.test."]),
            set("mail.fed.example.test.", "MX", &["10 mx.example.test."]),
            set("svc.fed.example.test.", "HTTPS", &["1 . alpn=h2 ipv4hint=192.0.2.1"]),
        ],
        ..v1::Zone::default()
    };
    v1::ZoneUpdate {
        epoch,
        incarnation: "store-1".into(),
        zones: vec![zone],
        cookie_secrets: vec![vec![7; 16].into()],
        ..v1::ZoneUpdate::default()
    }
}

const FILES: &[&str] = &[
    "$ORIGIN fed.example.test.\n$TTL 1h\n@ IN SOA ns1 host ( 1 2h 3m 4w 5 )\n  NS ns1\nns1 300 IN A 192.0.2.1\nweb CNAME ns1\n",
    "a 5 IN TXT \"x\\\"y\" \"\\065\" ; text\n*.b IN MX 10 a\n_s._tcp SRV 1 2 3 a\nc AAAA 2001:db8::1\nd TYPE65280 \\# 3 010203\n",
];

pub(super) fn zones() -> Case {
    let (first, second) = (update(7), update(8));
    let origin = Name::parse("fed.example.test.");
    let words = [
        "$ORIGIN ",
        "$TTL ",
        "$INCLUDE ",
        "(",
        ")",
        ";",
        "\"",
        "\\",
        "\\# 4",
        "IN",
        "CH",
        "TYPE1",
        "@",
        "*",
        ".",
        "\n",
        "1w2d",
        "SOA",
        "CAA 0",
    ];
    Box::new(move |dice| {
        let sample = if dice.one_in(2) { first.encode_to_vec() } else { second.encode_to_vec() };
        let octets = mutate::message(dice, &sample);
        let file = mutate::text(dice, FILES, &words);
        dice.show(|| format!("{:?}\n{file}", v1::ZoneUpdate::decode(octets.as_slice())));
        if let Ok(origin) = &origin {
            let _entries = parse_master(&file, origin).map(|entries| entries.len());
        }
        let Ok(told) = v1::ZoneUpdate::decode(octets.as_slice()) else { return Ok(()) };
        if let Ok(zones) = Zones::from_update(&told) {
            let mut signatures = Signatures::default();
            let _snapshot =
                Snapshot::compile(Arc::new(zones), dice.one_in(2), &ClusterSlots::default(), &mut signatures);
        }
        let mut whole = first.clone();
        let _applied = apply(&mut whole, &told);
        let _joined = join(&told, &second);
        if let Some(change) = change(&first, &told) {
            let mut whole = first.clone();
            if apply(&mut whole, &change) && Zones::from_update(&told).is_ok() {
                same("after what differs", &sorted(whole), &sorted(told.clone()))?;
            }
        }
        let mut pieces = Pieces::default();
        for piece in cut(told, 1 + dice.below(400)) {
            if pieces.take(piece).is_err() {
                break;
            }
        }
        Ok(())
    })
}

/// The order of sets means nothing.
fn sorted(mut update: v1::ZoneUpdate) -> (u64, Vec<v1::RecordSet>) {
    let mut sets: Vec<_> =
        update.zones.iter_mut().flat_map(|zone| std::mem::take(&mut zone.records)).collect();
    sets.sort_by(|one, other| (&one.name, &one.r#type).cmp(&(&other.name, &other.r#type)));
    (update.epoch, sets)
}
