//! (a) Joining, and every way in which it must not work.

use std::time::Duration;

use anyhow::Result;
use federation_tests::{Agent, Clusters, Federation, Join, SITES, Settings, eventually};

const LIMIT: Duration = Duration::from_secs(15);

/// Joins Taiwan's cluster so, which must fail, and returns what the agent said.
fn refusal(federation: &Federation, clusters: &Clusters, name: &str, join: &Join) -> Result<String> {
    let mut agent = Agent::join_with(federation.folder(), clusters, SITES[0], name, join)?;
    let mut status = None;
    eventually(&format!("the agent of {name} has given up"), LIMIT, || {
        status = agent.process().ended()?;
        Ok(status.is_some())
    });
    assert_eq!(status.unwrap().code(), Some(1));
    Ok(agent.process().log())
}

fn clusters_of(federation: &Federation) -> Result<Vec<String>> {
    let names = federation.fedctl(&["clusters", "--output", "name"])?;
    Ok(names.lines().map(ToOwned::to_owned).collect())
}

#[test]
fn both_sites_join_with_one_time_tokens_and_are_healthy() -> Result<()> {
    let clusters = Clusters::both()?;
    let federation = Federation::start(&Settings::default())?;
    let _agents = federation.join_both(&clusters)?;
    assert_eq!(clusters_of(&federation)?, ["taiwan", "tokyo"]);
    let cluster = federation.api().existing("default", "clusters.federation.rs/taiwan")?;
    assert_eq!(cluster["spec"]["region"], "taiwan");
    assert_eq!(cluster["spec"]["zone"], "a");
    assert_eq!(cluster["metadata"]["labels"]["site"], "taiwan");
    assert!(cluster["status"]["kubernetesVersion"].as_str().unwrap().contains("1.20"), "{cluster}");
    eventually("the federation knows Taiwan's one node", LIMIT, || {
        Ok(federation.api().field("default", "clusters.federation.rs/taiwan", "/status/readyNodes")? == 1)
    });
    let table = federation.fedctl(&["clusters"])?;
    assert!(table.contains("taiwan") && table.contains("Healthy"), "{table}");
    Ok(())
}

#[test]
fn a_wrong_token_a_wrong_authority_and_a_used_token_leave_no_half_joined_cluster() -> Result<()> {
    let clusters = Clusters::both()?;
    let federation = Federation::start(&Settings::default())?;
    let good = federation.join_command()?;

    let wrong = Join { token: "abcdef.0123456789abcdef".into(), ..good.clone() };
    let said = refusal(&federation, &clusters, "taiwan", &wrong)?;
    assert!(said.contains("token"), "{said}");
    assert!(said.contains("fedctl token create"), "it says what to do: {said}");

    let wrong = Join { ca_cert_hash: format!("sha256:{}", "0".repeat(64)), ..good.clone() };
    let said = refusal(&federation, &clusters, "taiwan", &wrong)?;
    assert!(said.contains("ca-cert-hash") && said.contains("Nothing was sent"), "{said}");
    assert_eq!(clusters_of(&federation)?, [""; 0]);

    // The token was shown to nobody and used by nobody, so it still works: once.
    let _taiwan = Agent::join_with(federation.folder(), &clusters, SITES[0], "taiwan", &good)?;
    federation.wait_for_verdict("taiwan", "Healthy");
    let said = refusal(&federation, &clusters, "other", &good)?;
    assert!(said.contains("token"), "{said}");
    assert_eq!(clusters_of(&federation)?, ["taiwan"]);
    Ok(())
}

#[test]
fn a_name_that_is_taken_is_refused_and_its_owner_goes_on() -> Result<()> {
    let clusters = Clusters::both()?;
    let federation = Federation::start(&Settings::default())?;
    let _taiwan = Agent::join(&federation, &clusters, SITES[0])?;
    federation.wait_for_verdict("taiwan", "Healthy");
    let uid = federation.api().field("default", "clusters.federation.rs/taiwan", "/metadata/uid")?;

    let join = federation.join_command()?;
    let said = refusal(&federation, &clusters, "taiwan", &join)?;
    assert!(said.contains("taken"), "{said}");
    assert_eq!(federation.api().field("default", "clusters.federation.rs/taiwan", "/metadata/uid")?, uid);
    assert_eq!(federation.verdict("taiwan")?, "Healthy");

    // The refusal did not use the token up.
    let _tokyo = Agent::join_with(federation.folder(), &clusters, SITES[1], "tokyo", &join)?;
    federation.wait_for_verdict("tokyo", "Healthy");
    Ok(())
}
