//! Processes that are stopped for a while (SIGSTOP: a machine that swaps, a hypervisor that moves it) and go on: nothing goes back in time.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use federation_tests::{DnsServer, SITES, Settings, eventually, holds, manifests};
use serde_json::Value;

use crate::{PODS, SOON, World};

const PLACEMENT: &str = "placements.federation.rs/deployments.apps.web";
const EPOCH: &str = "dns_zone_epoch";
/// Longer than the hub waits for a server or an agent that says nothing.
const LONG: Duration = Duration::from_secs(13);

struct Zones {
    world: World,
    paused: DnsServer,
    other: DnsServer,
    host: String,
}

impl Zones {
    fn switch(&self, words: &[&str]) -> Result<()> {
        let namespace = ["--namespace", &self.world.namespace, "--reason", "test"];
        let words = [&["traffic", "set", "web"], words, &namespace].concat();
        self.world.federation.fedctl(&words).map(drop)
    }

    /// Changes the zone three times, each seen at the other server; the last answer is Tokyo's alone.
    fn change(&self) -> Result<()> {
        let [taiwan, tokyo]: [IpAddr; 2] = SITES.map(|site| site.address().parse().unwrap());
        let steps: [(&[&str], &[IpAddr]); 3] = [
            (&["taiwan=auto", "tokyo=off"], &[taiwan]),
            (&["taiwan=auto", "tokyo=auto"], &[taiwan, tokyo]),
            (&["taiwan=off", "tokyo=auto"], &[tokyo]),
        ];
        for (words, answer) in steps {
            self.switch(words)?;
            self.answered(&self.other, answer);
        }
        Ok(())
    }

    fn answered(&self, server: &DnsServer, answer: &[IpAddr]) {
        eventually(&format!("users are sent to {answer:?}"), SOON, || {
            let seen = server.user().resolve(&self.host)?;
            ensure!(seen == answer, "they are sent to {seen:?}");
            Ok(true)
        });
    }

    /// The paused server goes on; looks at its epochs until they are the other's, and says how they rose.
    fn resume(&self, before: f64) -> Result<Vec<f64>> {
        let mut epochs = vec![before];
        self.paused.process().signal("CONT")?;
        eventually("the server that was stopped serves what the other does", SOON, || {
            let epoch = self.paused.metric(EPOCH)?;
            if epochs.last() != Some(&epoch) {
                epochs.push(epoch);
            }
            Ok(epoch >= self.other.metric(EPOCH)?)
        });
        Ok(epochs)
    }
}

#[test]
fn a_dns_server_that_was_stopped_never_goes_back_and_catches_up() -> Result<()> {
    let world = World::joined("stopped-dns")?;
    let namespace = &world.namespace;
    world.api().apply(
        &(manifests::deployment(namespace, "web", 2)
            + &manifests::node_port(namespace, "web", 30093)
            + &manifests::answer_with_all(namespace, "web")),
    )?;
    world.ready("deployment/web", 2);
    let (paused, other) = (world.federation.dns_server("paused")?, world.federation.dns_server("other")?);
    let host = world.host("web");
    let zones = Zones { world, paused, other, host };
    let both: [IpAddr; 2] = SITES.map(|site| site.address().parse().unwrap());
    for server in [&zones.paused, &zones.other] {
        zones.answered(server, &both);
    }

    // For a moment, in which its stream lives: what it missed is in its socket. Then for so long that the hub gives it up.
    for long in [false, true] {
        zones.switch(&["taiwan=auto", "tokyo=auto"])?;
        zones.answered(&zones.other, &both);
        zones.answered(&zones.paused, &both);
        let before = zones.paused.metric(EPOCH)?;
        zones.paused.process().signal("STOP")?;
        zones.change()?;
        if long {
            eventually("the hub says that it is away", LONG * 2, || {
                let status = zones.world.federation.fedctl(&["dns", "status"])?;
                let line = status.lines().find(|line| line.trim_start().starts_with("paused"));
                ensure!(line.is_some_and(|line| line.contains(" no ")), "{status}");
                Ok(true)
            });
        } else {
            let status = zones.world.federation.fedctl(&["dns", "status"])?;
            let line = status.lines().find(|line| line.trim_start().starts_with("paused"));
            assert!(line.is_some_and(|line| !line.trim_end().ends_with("none")), "it is behind:\n{status}");
        }
        assert!(zones.paused.user().resolve(&zones.host).map_or(true, |answer| answer.is_empty()));
        let epochs = zones.resume(before)?;
        assert!(epochs.is_sorted(), "{epochs:?}");
        zones.answered(&zones.paused, &both[1..]);
        assert_eq!(zones.paused.metric("dns_updates_refused_total{reason=\"older\"}").unwrap_or(0.0), 0.0);
        zones.world.federation.fedctl(&["dns", "status"])?;
    }
    Ok(())
}

/// Epochs of what is in a member.
fn epoch_of(object: &Value) -> u64 {
    let text = object["metadata"]["annotations"]["federation.rs/epoch"].as_str().unwrap_or_default();
    text.parse().unwrap_or(0)
}

#[test]
fn an_agent_that_was_stopped_moves_nobody_and_catches_up() -> Result<()> {
    let settings = Settings { evict_after: Duration::from_secs(2), ..Settings::default() };
    let mut world = World::joined_with("stopped-agent", &settings)?;
    let namespace = world.namespace.clone();
    crate::health::probed(&world, "web", 30094)?;
    world.api().apply(&manifests::config_map(&namespace, "settings", "one"))?;
    world.in_both("configmap/settings");
    let (user, host) = (world.federation.user(), world.host("web"));
    eventually("the name is answered with both places", SOON, || Ok(user.resolve(&host)?.len() == 2));
    let planned = |world: &World| world.api().field(&namespace, PLACEMENT, "/spec/clusters");
    let before = planned(&world)?;
    let [(_, taiwan), _] = world.members();
    let epoch = epoch_of(&taiwan.existing(&namespace, "configmap/settings")?);

    world.agents[0].process().signal("STOP")?;
    for value in ["two", "three"] {
        world.api().apply(&manifests::config_map(&namespace, "settings", value))?;
    }
    world.federation.wait_for_verdict("taiwan", "HubUnreachable");
    // Longer than the hub keeps its stream, and several times evictAfter.
    holds("answers and placement stay as they were", LONG, || {
        Ok(user.resolve(&host)?.len() == 2 && planned(&world)? == before)
    });
    world.agents[0].process().signal("CONT")?;
    let mut seen = vec![epoch];
    eventually("Taiwan has the newest", SOON, || {
        let settings = taiwan.existing(&namespace, "configmap/settings")?;
        seen.push(epoch_of(&settings));
        Ok(settings["data"]["key"] == "three")
    });
    assert!(seen.is_sorted(), "{seen:?}");
    world.federation.wait_for_verdict("taiwan", "Healthy");
    assert_eq!(planned(&world)?, before);
    world.divided("deployment/web", [2, 2]);
    Ok(())
}

#[test]
fn a_control_plane_that_was_stopped_takes_its_own_silence_for_nobodys_death() -> Result<()> {
    let settings = Settings { evict_after: Duration::from_secs(2), ..Settings::default() };
    let mut world = World::joined_with("stopped-hub", &settings)?;
    let namespace = world.namespace.clone();
    crate::health::probed(&world, "web", 30095)?;
    let other = world.federation.dns_server("other")?;
    let (user, host) = (world.federation.user(), world.host("web"));
    for user in [user, other.user()] {
        eventually("the name is answered with both places", SOON, || Ok(user.resolve(&host)?.len() == 2));
    }
    let planned = |world: &World| world.api().field(&namespace, PLACEMENT, "/spec/clusters");
    let (before, epoch) = (planned(&world)?, other.metric(EPOCH)?);

    world.federation.process().signal("STOP")?;
    holds("the other DNS server answers as before", LONG, || Ok(other.user().resolve(&host)?.len() == 2));
    world.federation.process().signal("CONT")?;
    let mut verdicts = std::collections::BTreeSet::new();
    holds("answers and placement stay as they were", Duration::from_secs(8), || {
        for site in SITES {
            verdicts.insert(world.federation.verdict(site.name)?);
        }
        let answered = user.resolve(&host)?.len() == 2 && other.user().resolve(&host)?.len() == 2;
        Ok(answered && planned(&world)? == before)
    });
    assert!(!verdicts.contains("DataPlaneDown") && !verdicts.contains("Partitioned"), "{verdicts:?}");
    for site in SITES {
        world.federation.wait_for_verdict(site.name, "Healthy");
    }
    // And it works as before.
    world.api().apply(&manifests::config_map(&namespace, "after", "all"))?;
    world.in_both("configmap/after");
    eventually("the other DNS server follows again", PODS, || Ok(other.metric(EPOCH)? >= epoch));
    world.divided("deployment/web", [2, 2]);
    Ok(())
}
