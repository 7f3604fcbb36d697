//! A drill that cuts an agent off for real, on real clusters: users move, and come back however the drill ends.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use federation_tests::{DnsServer, Process, SITES, Settings, User, eventually};
use serde_json::Value;

use crate::{SOON, World};

/// A hub that is gone is noticed after at most 10 s where its stream does not end, and what it took is given back 5 s later.
const GIVEN_BACK: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_secs(60);

struct Rehearsal {
    world: World,
    /// One beside the hub's process, which outlives it.
    other: DnsServer,
    host: String,
    addresses: [IpAddr; 2],
}

impl Rehearsal {
    fn prepare(what: &str, port: u16) -> Result<Self> {
        let world = World::joined_with(what, &Settings::default())?;
        crate::health::probed(&world, "web", port)?;
        let other = world.federation.dns_server("other")?;
        let host = world.host("web");
        let addresses = SITES.map(|site| site.address().parse().unwrap());
        let rehearsal = Self { world, other, host, addresses };
        rehearsal.answered_everywhere(&rehearsal.addresses, SOON);
        Ok(rehearsal)
    }

    fn answered(&self, user: User, addresses: &[IpAddr], limit: Duration) {
        eventually(&format!("users are sent to {addresses:?}"), limit, || {
            let seen = user.resolve(&self.host)?;
            anyhow::ensure!(seen == addresses, "they are sent to {seen:?}");
            Ok(true)
        });
    }

    fn answered_everywhere(&self, addresses: &[IpAddr], limit: Duration) {
        for user in [self.world.federation.user(), self.other.user()] {
            self.answered(user, addresses, limit);
        }
    }

    /// `fedctl drill run` with Taiwan's agent cut off; running when this returns, with all users in Tokyo.
    fn run(&self, name: &str, duration: &str) -> Result<Process> {
        let namespace = &self.world.namespace;
        let words = ["drill", "run", "--lose", "taiwan", "--app", "web", "--namespace", namespace];
        let further = ["--scope", "isolate", "--name", name, "--duration", duration];
        // No hypothesis that a slow machine could break.
        let command =
            self.world.federation.fedctl_process(name, &[words.as_slice(), &further].concat(), &[])?;
        self.answered_everywhere(&self.addresses[1..], AGAIN);
        Ok(command)
    }

    fn status(&self, name: &str) -> Result<Value> {
        self.world.api().field("default", &format!("failoverdrill/{name}"), "/status")
    }

    /// All as before: the agent's session, the verdict, both addresses in every answer, replicas, copies.
    fn restored(&self) {
        self.world.federation.wait_for_verdict("taiwan", "Healthy");
        self.answered_everywhere(&self.addresses, AGAIN);
        self.world.divided("deployment/web", [2, 2]);
    }
}

#[test]
fn an_isolated_site_loses_its_users_until_the_drill_is_over() -> Result<()> {
    let rehearsal = Rehearsal::prepare("isolate", 30091)?;
    let mut command = rehearsal.run("cut", "15s")?;
    let verdict = rehearsal.world.federation.verdict("taiwan")?;
    assert_ne!(verdict, "Healthy");
    let ended = command.end(AGAIN)?;
    let status = rehearsal.status("cut")?;
    assert!(ended.success() && status["phase"] == "Passed", "{ended:?} {status:#}\n{}", command.log());
    let stages = status["stages"].as_array().cloned().unwrap_or_default();
    for name in ["Detected", "Decided", "DNSChangedEverywhere", "UsersRecovered", "Restored"] {
        assert!(stages.iter().any(|stage| stage["name"] == name), "{name} in {status:#}");
    }
    // Users look from everywhere where somebody is: beside the hub, in the site that is not lost, and where the command runs.
    let users = status["users"].as_object().cloned().unwrap_or_default();
    for vantage in ["agent/tokyo", "fedctl", "hub"] {
        assert!(
            users.get(vantage).is_some_and(|seen| seen["requests"].as_u64() > Some(0)),
            "{vantage} in {status:#}"
        );
    }
    rehearsal.restored();

    // Ctrl-C long before the time is up.
    let mut command = rehearsal.run("stopped", "10m")?;
    command.signal("INT")?;
    let ended = command.end(AGAIN)?;
    let status = rehearsal.status("stopped")?;
    assert!(!ended.success(), "whoever stops a drill is not told that it passed");
    assert_eq!((&status["phase"], &status["reason"]), (&"Aborted".into(), &"Stopped".into()), "{status:#}");
    rehearsal.restored();
    Ok(())
}

#[test]
fn a_hub_that_dies_gives_an_isolated_site_back() -> Result<()> {
    let mut rehearsal = Rehearsal::prepare("orphan", 30092)?;
    let _command = rehearsal.run("orphan", "10m")?;
    rehearsal.world.federation.kill()?;
    // Nobody is there to tell it, and it answers with both again by itself.
    rehearsal.answered(rehearsal.other.user(), &rehearsal.addresses, GIVEN_BACK);
    rehearsal.world.federation.restart()?;
    rehearsal.restored();
    let status = rehearsal.status("orphan")?;
    assert_eq!(
        (&status["phase"], &status["reason"]),
        (&"Aborted".into(), &"HubRestarted".into()),
        "{status:#}"
    );
    Ok(())
}
