//! Half of a site fails: its pods, or its way to the hub. Users are sent away from the former, and nothing moves for the latter.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use federation_tests::{SITES, Settings, eventually, holds, manifests};
use real_clusters::Site;
use serde_json::Value;

use crate::{SOON, World};

/// A rule in a site's own packet filter, taken out again when dropped.
struct Filter {
    site: Site,
    rule: Vec<String>,
}

impl Filter {
    fn insert(site: Site, rule: &str) -> Result<Self> {
        let filter = Self { site, rule: rule.split_whitespace().map(ToOwned::to_owned).collect() };
        filter.iptables("-I")?;
        Ok(filter)
    }

    fn iptables(&self, what: &str) -> Result<()> {
        let (table, rest) = self.rule.split_at(2);
        let status = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{}", self.site.name))
            .args(["iptables", "-w"])
            .args(table)
            .arg(what)
            .args(rest)
            .status()?;
        ensure!(status.success(), "iptables {what} {:?}", self.rule);
        Ok(())
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        let _ = self.iptables("-D");
    }
}

/// What `fedctl health` says of a site.
pub(crate) fn told(world: &World, site: Site) -> Result<Value> {
    let text = world.federation.fedctl(&["health", site.name, "-o", "json"])?;
    Ok(serde_json::from_str::<Value>(&text)?["clusters"][0].take())
}

/// A workload in both sites behind a Service `web`, and a Service of which the controller, the DNS server and the other site's agent see that users are served.
pub(crate) fn probed(world: &World, service: &str, port: u16) -> Result<()> {
    let namespace = &world.namespace;
    world.api().apply(
        &(manifests::deployment(namespace, "web", 4)
            + &manifests::node_port(namespace, "web", port)
            + &manifests::answer_with_all(namespace, "web")
            + &manifests::weights(namespace, "Deployment", "web", 1, 1)),
    )?;
    world.divided("deployment/web", [2, 2]);
    world.ready("deployment/web", 4);
    for site in SITES {
        eventually(&format!("three see users of {} served", site.name), SOON, || {
            let told = told(world, site)?;
            let votes = told["votes"].as_array().cloned().unwrap_or_default();
            let up = |vote: &&Value| {
                vote["says"] == "Up"
                    && vote["counts"] == true
                    && vote["service"] == format!("{namespace}/{service}").as_str()
            };
            let ups = votes.iter().filter(up).count();
            ensure!(ups >= 3, "{told:#}");
            Ok(true)
        });
    }
    Ok(())
}

#[test]
fn users_leave_a_site_whose_pods_are_out_of_reach_though_its_api_is_up() -> Result<()> {
    let [taiwan, tokyo] = SITES;
    let settings = Settings { evict_after: Duration::from_secs(4), ..Settings::default() };
    let world = World::joined_with("half-dead", &settings)?;
    let port = 30086;
    probed(&world, "web", port)?;
    let (user, host) = (world.federation.user(), world.host("web"));
    eventually("the name is answered with both places", SOON, || Ok(user.resolve(&host)?.len() == 2));

    let lost = Filter::insert(taiwan, &format!("-t mangle PREROUTING -p tcp --dport {port} -j DROP"))?;
    let detected = world.federation.wait_for_verdict("taiwan", "DataPlaneDown");
    eprintln!("  from the last packet to the verdict: {:.1} s", detected.as_secs_f64());
    let told = told(&world, taiwan)?;
    assert_eq!(
        (told["rule"].as_str(), told["agent"]["apiOk"].as_bool()),
        (Some("QuorumFails"), Some(true)),
        "{told:#}"
    );
    let address: std::net::IpAddr = tokyo.address().parse()?;
    eventually("the name is answered with Tokyo alone", SOON, || Ok(user.resolve(&host)? == [address]));
    assert!(user.browse(&host, port)?.contains("tokyo"));
    let placement = "placements.federation.rs/deployments.apps.web";
    eventually("Tokyo has all four replicas", Duration::from_secs(30), || {
        let clusters = world.api().field(&world.namespace, placement, "/spec/clusters")?;
        Ok(clusters
            .as_array()
            .is_some_and(|all| all.iter().any(|target| target["name"] == "tokyo" && target["replicas"] == 4)))
    });
    drop(lost);
    Ok(())
}

#[test]
fn a_site_that_the_hub_does_not_hear_keeps_its_users_and_its_replicas() -> Result<()> {
    let [taiwan, _] = SITES;
    let settings = Settings { evict_after: Duration::from_secs(2), ..Settings::default() };
    let world = World::joined_with("hub-cut", &settings)?;
    let port = 30087;
    probed(&world, "web", port)?;
    let (user, host) = (world.federation.user(), world.host("web"));
    eventually("the name is answered with both places", SOON, || Ok(user.resolve(&host)?.len() == 2));
    let placement = "placements.federation.rs/deployments.apps.web";
    let clusters = || world.api().field(&world.namespace, placement, "/spec/clusters");
    let before = clusters()?;

    let hub = world.federation.hub_listen.port();
    let cut = Filter::insert(taiwan, &format!("-t filter OUTPUT -p tcp --dport {hub} -j DROP"))?;
    world.federation.wait_for_verdict("taiwan", "HubUnreachable");
    // Several times evictAfter.
    holds("answers and placement stay as they were", Duration::from_secs(8), || {
        Ok(user.resolve(&host)?.len() == 2 && clusters()? == before)
    });
    let told = told(&world, taiwan)?;
    assert_eq!(
        (told["verdict"].as_str(), told["rule"].as_str(), told["usersServed"].as_bool()),
        (Some("HubUnreachable"), Some("UsersServed"), Some(true)),
        "{told:#}"
    );
    drop(cut);
    world.federation.wait_for_verdict("taiwan", "Healthy");
    assert_eq!(clusters()?, before);
    world.divided("deployment/web", [2, 2]);
    Ok(())
}
