//! The controller knows the federation's API as a client of Kubernetes only: a plain kube-apiserver does as well as our own.

use anyhow::Result;
use federation_tests::{Agent, Clusters, PlainFederation, SITES, eventually, manifests};

use crate::{PODS, SOON};

#[test]
fn a_plain_kube_apiserver_with_our_kinds_as_crds_is_a_federation() -> Result<()> {
    let clusters = Clusters::both()?;
    let federation = PlainFederation::start()?;
    let api = federation.api();
    let mut agents = Vec::new();
    for site in SITES {
        let join = federation.join_command()?;
        agents.push(Agent::join_with(federation.folder(), &clusters, site, site.name, &join)?);
    }
    for site in SITES {
        federation.wait_until_healthy(site.name);
    }

    let namespace = manifests::unique("plain");
    api.apply(
        &(manifests::namespace(&namespace)
            + &manifests::config_map(&namespace, "settings", "one")
            + &manifests::weights(&namespace, "Deployment", "web", 3, 1)
            + &manifests::deployment(&namespace, "web", 4)
            + &manifests::node_port(&namespace, "web", 30087)
            + &manifests::answer_with_all(&namespace, "web")),
    )?;
    for (site, wanted) in SITES.into_iter().zip([3, 1]) {
        let member = clusters.member(site);
        eventually(&format!("settings are in {}", site.name), SOON, || {
            member.has(&namespace, "configmap/settings")
        });
        eventually(&format!("{wanted} replicas are wanted in {}", site.name), SOON, || {
            Ok(member.replicas(&namespace, "deployment/web")? == wanted)
        });
    }
    // Statuses come back, and DNS answers, as over our own API server.
    eventually("kubectl rollout status tells that all is ready", PODS, || {
        Ok(api.field(&namespace, "deployment/web", "/status/readyReplicas")? == 4)
    });
    let host = format!("web.{namespace}.fed.svc.example.test");
    eventually("both places are answered", SOON, || Ok(federation.user().resolve(&host)?.len() == 2));

    // An update follows. A delete that asks nothing leaves the copies, without the federation's marks; a plain API server does not
    // tell the controller what kubectl asked for, so the policy's word counts.
    api.apply(&manifests::config_map(&namespace, "settings", "two"))?;
    for site in SITES {
        let member = clusters.member(site);
        eventually(&format!("the update is in {}", site.name), SOON, || {
            Ok(member.field(&namespace, "configmap/settings", "/data/key")? == "two")
        });
    }
    api.kubectl(&["-n", &namespace, "delete", "configmap", "settings", "--timeout=20s"])?;
    for site in SITES {
        let member = clusters.member(site);
        eventually(&format!("the copy in {} is released", site.name), SOON, || {
            let copy = member.existing(&namespace, "configmap/settings")?;
            Ok(copy.pointer("/metadata/labels/federation.rs~1managed").is_none())
        });
    }
    eventually("no Placement is left of it", SOON, || {
        Ok(!api.has(&namespace, "placements.federation.rs/configmaps.settings")?)
    });
    Ok(())
}
