//! Three of five members are cut off at once: that is rather our fault than theirs, and nothing moves until they are back or somebody says
//! that they are gone.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use federation_tests::{Agent, LightMember, SITES, Settings, User, eventually, holds, manifests};
use real_clusters::Site;
use serde_json::Value;

use crate::{PODS, SOON, World};

const PLACEMENT: &str = "placements.federation.rs/deployments.apps.web";
const FURTHER: [Site; 3] = [Site::NAGOYA, Site::OSAKA, Site::SEOUL];
const CUT: [Site; 3] = [Site::TAIWAN, Site::NAGOYA, Site::OSAKA];
const EVICT_AFTER: Duration = Duration::from_secs(3);

struct Five {
    world: World,
    _agents: Vec<Agent>,
    _members: Vec<LightMember>,
    user: User,
    host: String,
}

impl Five {
    fn up() -> Result<Self> {
        let world =
            World::joined_with("mass", &Settings { evict_after: EVICT_AFTER, ..Settings::default() })?;
        let members = world.clusters.light(FURTHER)?;
        let agents: Result<Vec<Agent>> =
            FURTHER.iter().map(|site| Agent::join(&world.federation, &world.clusters, *site)).collect();
        let agents = agents?;
        // Pods run where there are nodes.
        world.api().apply(&format!(
            "apiVersion: federation.rs/v1alpha1
kind: PlacementPolicy
metadata: {{name: nodes, namespace: {}}}
spec:
  resourceSelectors:
  - {{apiVersion: apps/v1, kind: Deployment, name: web}}
  - {{apiVersion: v1, kind: Service, name: web}}
  clusters: {{names: [taiwan, tokyo]}}
---
",
            world.namespace
        ))?;
        crate::health::probed(&world, "web", 30097)?;
        world.api().apply(&manifests::config_map(&world.namespace, "settings", "one"))?;
        let five = Self {
            user: world.federation.user(),
            host: world.host("web"),
            world,
            _agents: agents,
            _members: members,
        };
        for site in FURTHER {
            five.world.federation.wait_for_verdict(site.name, "Healthy");
            eventually(&format!("{} has the ConfigMap", site.name), SOON, || {
                five.world.clusters.member(site).has(&five.world.namespace, "configmap/settings")
            });
        }
        eventually("the name is answered with both places", SOON, || Ok(five.answer()?.len() == 2));
        Ok(five)
    }

    fn answer(&self) -> Result<Vec<IpAddr>> {
        self.user.resolve(&self.host)
    }

    fn planned(&self) -> Result<Value> {
        self.world.api().field(&self.world.namespace, PLACEMENT, "/spec/clusters")
    }

    /// Why nothing moves, as the Cluster says; empty if things may.
    fn frozen(&self) -> Result<String> {
        let conditions =
            self.world.api().field("default", "clusters.federation.rs/taiwan", "/status/conditions")?;
        let frozen = conditions
            .as_array()
            .into_iter()
            .flatten()
            .find(|condition| condition["type"] == "Frozen" && condition["status"] == "True");
        Ok(frozen.and_then(|frozen| frozen["message"].as_str()).unwrap_or_default().to_owned())
    }

    fn cut(&self) -> Result<()> {
        CUT.iter().try_for_each(|site| self.world.clusters.network.cut(*site))?;
        eventually("it is frozen, and says why", SOON, || {
            let why = self.frozen()?;
            ensure!(why.contains("3 of 5 clusters went bad at once: nagoya, osaka, taiwan"), "{why:?}");
            Ok(true)
        });
        Ok(())
    }

    fn heal(&self) -> Result<()> {
        CUT.iter().try_for_each(|site| self.world.clusters.network.heal(*site))?;
        for site in CUT {
            self.world.federation.wait_for_verdict(site.name, "Healthy");
        }
        eventually("nothing is frozen any more", SOON, || Ok(self.frozen()?.is_empty()));
        Ok(())
    }
}

#[test]
fn three_of_five_members_cut_at_once_move_nothing_until_an_operator_says_that_they_are_gone() -> Result<()> {
    let five = Five::up()?;
    let [taiwan, tokyo]: [IpAddr; 2] = SITES.map(|site| site.address().parse().unwrap());
    let before = five.planned()?;

    // From the cut on, and not only once it is frozen.
    let done = AtomicBool::new(false);
    thread::scope(|scope| -> Result<()> {
        let looking = scope.spawn(|| -> Result<()> {
            while !done.load(Ordering::Relaxed) {
                let (answer, planned) = (five.answer()?, five.planned()?);
                ensure!(answer == [taiwan, tokyo], "users were sent to {answer:?}");
                ensure!(planned == before, "replicas were planned anew: {planned}");
            }
            Ok(())
        });
        let held = five.cut().and_then(|()| {
            holds("it stays frozen", EVICT_AFTER * 3, || Ok(!five.frozen()?.is_empty()));
            five.heal()
        });
        done.store(true, Ordering::Relaxed);
        looking.join().unwrap()?;
        held
    })?;
    assert_eq!(five.planned()?, before);

    // Once more, and this time they are gone for good.
    five.cut()?;
    // Verdicts go on telling the truth; it takes until those who were cut off as well have no vote any more.
    five.world.federation.wait_for_verdict("taiwan", "DataPlaneDown");
    five.world.federation.fedctl(&["unfreeze", "--reason", "the earth shook"])?;
    eventually("users are sent to Tokyo alone", SOON, || Ok(five.answer()? == [tokyo]));
    eventually("Tokyo was told to run all four", PODS, || {
        let [_, (_, tokyos)] = five.world.members();
        Ok(tokyos.replicas(&five.world.namespace, "deployment/web")? == 4)
    });
    let told = five.world.api().kubectl(&["-n", &five.world.namespace, "get", "placements"])?;
    eprintln!("{told}");

    five.heal()?;
    five.world.divided("deployment/web", [2, 2]);
    eventually("the name is answered with both places again", PODS, || Ok(five.answer()? == [taiwan, tokyo]));
    for site in FURTHER {
        assert!(five.world.clusters.member(site).has(&five.world.namespace, "configmap/settings")?);
    }
    Ok(())
}
