//! A snapshot made from the one before it answers as one compiled anew, octet for octet.

use std::collections::BTreeMap;
use std::sync::Arc;

use dns_lb::testing::client::ClientMap;
use dns_lb::testing::compile::Snapshot;
use dns_lb::testing::dnssec::Signatures;
use dns_lb::testing::metrics::{ClusterSlots, Transport};
use dns_lb::testing::udp::Rng;
use dns_lb::testing::zone::Zones;
use hickory_proto::rr::RecordType;
use proto::v1;

use crate::dnssec::key;
use crate::support::{ask, fixed, query, set, update, variant, with_edns};

const LABELS: &[&str] = &["a", "b", "c", "*", "ns"];
const REGIONS: &[&str] = &["asia", "europe", "africa", "nowhere"];
const KINDS: &[u16] = &[1, 2, 5, 6, 15, 16, 28, 43, 46, 47, 48, 255];
const NOW: u32 = 1_795_500_000;
const DAY: u32 = 86_400;
/// 192.0.2.7, 198.51.100.9 in Europe and 10.9.0.1 nowhere, as Client Subnets.
const SUBNETS: &[Option<[u8; 4]>] = &[None, Some([198, 51, 100, 9]), Some([10, 9, 0, 1])];

/// Zones that change by chance, always valid.
struct World {
    rng: Rng,
    origins: Vec<&'static str>,
    names: BTreeMap<String, Vec<v1::RecordSet>>,
    keys: Vec<v1::DnsKey>,
    // The regions' names get other numbers.
    turned: bool,
    ttl: u32,
    epoch: u64,
    now: u32,
}

impl World {
    fn new(seed: u64, signed: bool) -> Self {
        let keys = if signed { vec![key(1)] } else { Vec::new() };
        let origins = vec!["fed.example.test.", "other.test."];
        Self {
            rng: Rng::new(seed),
            origins,
            names: BTreeMap::new(),
            keys,
            turned: false,
            ttl: 30,
            epoch: 0,
            now: NOW,
        }
    }

    fn below(&mut self, count: usize) -> usize {
        (self.rng.next_u64() % count as u64) as usize
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// In one of the zones, or not there at all.
    fn name(&mut self) -> (usize, String) {
        let zone = self.below(self.origins.len());
        let mut name = self.origins[zone].to_owned();
        for _ in 0..self.below(4) {
            let labels = if name.starts_with('*') { &LABELS[..3] } else { LABELS };
            name = format!("{}.{name}", self.one_of(labels));
        }
        // The wildcard may stand in front only.
        let star = name[1..].contains('*');
        if star { self.name() } else { (zone, name) }
    }

    fn address(&mut self) -> String {
        format!("192.0.2.{}", self.below(250))
    }

    fn balanced(&mut self, name: &str) -> v1::RecordSet {
        use v1::Selection::{All, Sticky, Weighted};
        let addresses: Vec<String> = (0..4).map(|_| self.address()).collect();
        let one = [addresses[0].as_str()];
        let two = [addresses[1].as_str(), addresses[2].as_str()];
        let none: [&str; 0] = [];
        let tier: &[(&[&str], u32, &str)] = match self.below(4) {
            0 => &[(&one, 1, "taiwan"), (&two, 3, "tokyo")],
            1 => &[(&none, 1, "taiwan")],
            2 => &[(&one, 1, ""), (&one, 2, "tokyo"), (&two, 2, "osaka")],
            _ => &[(&two, 0, "paris")],
        };
        let selection = self.one_of(&[All, Sticky, Weighted]);
        let mut set = v1::RecordSet { picks: 2, ..set(name, "A", selection, &[tier]) };
        set.ttl = self.one_of(&[0, 5, 10]);
        for region in REGIONS {
            if self.below(3) == 0 {
                let selection = self.one_of(&[All, Sticky, Weighted]);
                let tier: &[(&[&str], u32, &str)] =
                    if self.below(3) == 0 { &[(&none, 1, "x")] } else { &[(&one, 1, "taiwan")] };
                set.variants.push(variant(&[region], selection, &[tier]));
            }
        }
        set
    }

    fn sets(&mut self, zone: usize, name: &str) -> Vec<v1::RecordSet> {
        let apex = name == self.origins[zone];
        match self.below(6) {
            0 if !apex => {
                let target = if self.below(3) == 0 { "out.elsewhere.".into() } else { self.name().1 };
                vec![fixed(name, "CNAME", &[&target])]
            }
            1 if !apex && !name.starts_with('*') => {
                let (first, second) = (self.name().1, self.name().1);
                let mut sets = vec![fixed(name, "NS", &[&first, "ns.elsewhere."])];
                if second != first {
                    sets[0].tiers[0].choices[0].data.push(second);
                }
                if self.below(2) == 0 {
                    let digest = "11".repeat(32);
                    sets.push(fixed(name, "DS", &[&format!("{} 13 2 {digest}", self.below(9))]));
                }
                if self.below(2) == 0 {
                    let address = self.address();
                    sets.push(fixed(name, "A", &[&address]));
                }
                sets
            }
            2 => vec![fixed(name, "TXT", &["\"text\""]), fixed(name, "MX", &["10 a.fed.example.test."])],
            3 => vec![fixed(name, "AAAA", &["2001:db8::1"]), self.balanced(name)],
            _ => vec![self.balanced(name)],
        }
    }

    /// One step, mostly small.
    fn change(&mut self) {
        self.epoch += 1;
        match self.below(40) {
            0 => self.ttl = self.one_of(&[30, 60, 3]),
            1 if !self.keys.is_empty() => {
                self.keys =
                    self.one_of(&[&[1_u8][..], &[2], &[1, 2]]).iter().map(|&seed| key(seed)).collect();
            }
            2 => self.origins.reverse(),
            3 => self.turned = !self.turned,
            4..8 => self.now += self.below(3 * DAY as usize) as u32,
            _ => {
                for _ in 0..=self.below(3) {
                    let (zone, name) = self.name();
                    if self.below(3) == 0 {
                        self.names.remove(&name);
                    } else {
                        let sets = self.sets(zone, &name);
                        self.names.insert(name, sets);
                    }
                }
            }
        }
    }

    fn update(&self) -> v1::ZoneUpdate {
        let mut update = update(self.epoch, Vec::new());
        if self.turned {
            update.regions.as_mut().unwrap().prefixes.reverse();
        }
        let zone = update.zones.remove(0);
        for origin in &self.origins {
            let own =
                self.names.iter().filter(|(name, _)| format!(".{name}").ends_with(&format!(".{origin}")));
            update.zones.push(v1::Zone {
                origin: (*origin).into(),
                default_ttl: self.ttl,
                keys: self.keys.clone(),
                records: own.flat_map(|(_, sets)| sets.clone()).collect(),
                ..zone.clone()
            });
        }
        update
    }

    fn query(&mut self) -> Vec<u8> {
        let (_, name) = self.name();
        let kind = self.one_of(KINDS);
        let mut message = query(&name, RecordType::from(kind));
        if self.below(4) > 0 {
            message = with_edns(message, 4096);
            let wanted = self.below(3) > 0;
            if let Some(edns) = &mut message.edns {
                edns.set_dnssec_ok(wanted);
            }
        }
        let mut octets = message.to_vec().unwrap();
        let has_opt = octets[11] == 1;
        if let Some(address) = self.one_of(SUBNETS).filter(|_| has_opt) {
            let at = octets.len();
            octets[at - 2..].copy_from_slice(&[0, 12]);
            octets.extend_from_slice(&[0, 8, 0, 8, 0, 1, 32, 0]);
            octets.extend_from_slice(&address);
        }
        octets
    }
}

fn check(seed: u64, signed: bool, steps: usize, queries: usize) {
    let mut world = World::new(seed, signed);
    let clusters = ClusterSlots::default();
    let (mut kept, mut signatures) = (Snapshot::default(), Signatures::default());
    let (mut signed_by_changes, mut signed_anew) = (0, 0);
    let (mut sent, mut changes): (Option<v1::ZoneUpdate>, _) = (None, 0);
    for step in 0..steps {
        world.change();
        let update = world.update();
        let change = sent.as_ref().and_then(|sent| hub_protocol::zones::change(sent, &update));
        let mut zones = match change.filter(|_| world.below(3) > 0) {
            Some(change) => {
                changes += 1;
                kept.zones.after(&change).unwrap_or_else(|unfit| panic!("seed {seed} step {step}: {unfit}"))
            }
            None => Zones::from_update(&update)
                .unwrap_or_else(|problems| panic!("seed {seed} step {step}: {problems}")),
        };
        sent = Some(update.clone());
        let clients = Arc::new(ClientMap::new(zones.regions.prefixes.clone()));
        if world.below(2) == 0 {
            zones.share(&kept.zones);
        }
        let zones = Arc::new(zones);
        let whole = Arc::new(Zones::from_update(&update).unwrap());
        let before = signatures.made();
        signatures.begin(world.now);
        kept = kept.next(zones, false, &clusters, &mut signatures).with_clients(clients);
        signed_by_changes += signatures.made() - before;
        let mut fresh = Signatures::default();
        fresh.begin(world.now);
        let clients = Arc::new(ClientMap::new(whole.regions.prefixes.clone()));
        let anew = Snapshot::compile(whole, false, &clusters, &mut fresh).with_clients(clients);
        signed_anew += fresh.made();
        assert_eq!(kept.table.len(), anew.table.len(), "seed {seed} step {step}: names");
        assert_eq!(kept.renewal(), anew.renewal(), "seed {seed} step {step}: renewal");
        for _ in 0..queries {
            let (sent, random) = (world.query(), world.rng.next_u64());
            let transport = world.one_of(&[Transport::Udp, Transport::Tcp]);
            let (answer, expected) =
                (ask(&kept, &sent, transport, random), ask(&anew, &sent, transport, random));
            assert_eq!(
                answer,
                expected,
                "seed {seed} step {step} signed {signed}: {sent:02x?}\n{:#?}",
                world.update()
            );
        }
    }
    assert!(changes * 3 > steps, "{changes} changes in {steps} steps");
    assert!(
        !signed || signed_by_changes * 4 < signed_anew,
        "{signed_by_changes} signatures of {signed_anew}"
    );
}

/// From `DNS_CHANGES_SEED`, or some that are always the same; by hand, with many.
#[test]
fn a_snapshot_made_by_changes_answers_as_one_made_anew() {
    let given = std::env::var("DNS_CHANGES_SEED").ok().and_then(|text| text.parse().ok());
    let seeds = given.map_or(0..2, |seed: u64| seed..seed + 200);
    for seed in seeds {
        check(seed, false, 80, 100);
        check(seed, true, 25, 200);
    }
}

/// Where there is much to sign, several threads do; little is signed by one.
#[test]
fn many_threads_make_what_one_makes() {
    let named = |n: usize| format!("n{n}.fed.example.test.");
    let records = |count: usize| {
        let record = |n: usize| fixed(&named(n), "A", &[&format!("192.0.2.{}", n % 250)]);
        (0..count).map(record).collect::<Vec<_>>()
    };
    let zones = |count: usize| {
        let mut update = update(7, records(count));
        update.zones[0].keys = vec![key(1)];
        Arc::new(Zones::from_update(&update).unwrap())
    };
    let slots = ClusterSlots::default();
    let mut by_many = Signatures::default();
    by_many.begin(NOW);
    let whole = Snapshot::compile(zones(300), false, &slots, &mut by_many);
    let (mut by_one, mut grown) = (Signatures::default(), Snapshot::default());
    for count in (30..=300).step_by(30) {
        by_one.begin(NOW);
        grown = grown.next(zones(count), false, &slots, &mut by_one);
    }
    assert!(by_many.made() > 600, "{} signatures: addresses, and the chain", by_many.made());
    for n in 0..300 {
        let mut message = with_edns(query(&named(n), RecordType::A), 1232);
        message.edns.as_mut().unwrap().set_dnssec_ok(true);
        for sent in [message.clone(), {
            message.queries[0].query_type = RecordType::MX;
            message
        }] {
            let sent = sent.to_vec().unwrap();
            assert_eq!(ask(&whole, &sent, Transport::Udp, 1), ask(&grown, &sent, Transport::Udp, 1), "{n}");
        }
    }
}
