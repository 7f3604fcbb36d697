//! `cargo xtask cluster up|down|status|cut|heal|kubeconfig`: real Kubernetes clusters by hand.

use std::thread;

use anyhow::{Context as _, Result, bail};
use real_clusters::{Cluster, Kit, Mode, Network, Site};

const USAGE: &str = "cargo xtask cluster up [--control-plane] taiwan tokyo | down | status | cut SITE | heal SITE | kubeconfig SITE";

/// Runs one of the commands of the usage line.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["up", rest @ ..] => up(rest),
        ["down"] => down(),
        ["status"] => {
            let kit = Kit::ensure()?;
            for site in ALL {
                println!("{}:\n{}", site.name, Cluster::in_site(&kit, site).status());
            }
            Ok(())
        }
        ["cut", name] => Network::existing(&ALL).cut(site(name)?),
        ["heal", name] => Network::existing(&ALL).heal(site(name)?),
        ["kubeconfig", name] => {
            println!("{}", Cluster::in_site(&Kit::ensure()?, site(name)?).kubeconfig().display());
            Ok(())
        }
        _ => bail!("usage: {USAGE}"),
    }
}

const ALL: [Site; 2] = [Site::TAIWAN, Site::TOKYO];

fn site(name: &str) -> Result<Site> {
    Site::named(name).with_context(|| format!("there is no site {name:?}: use taiwan or tokyo"))
}

fn up(words: &[&str]) -> Result<()> {
    let mode = if words.contains(&"--control-plane") { Mode::ControlPlane } else { Mode::Full };
    let named: Vec<&&str> = words.iter().filter(|word| !word.starts_with("--")).collect();
    let sites = if named.is_empty() {
        ALL.to_vec()
    } else {
        named.into_iter().map(|name| site(name)).collect::<Result<_>>()?
    };
    let kit = Kit::ensure()?;
    for site in &sites {
        Cluster::in_site(&kit, *site).down()?;
    }
    Network::up(&kit, &ALL)?;
    let started = std::time::Instant::now();
    let kit = &kit;
    thread::scope(|scope| {
        let clusters: Vec<_> =
            sites.iter().map(|site| scope.spawn(move || Cluster::in_site(kit, *site).up(mode))).collect();
        clusters.into_iter().try_for_each(|cluster| {
            cluster.join().unwrap_or_else(|_| bail!("bringing a cluster up panicked"))
        })
    })?;
    eprintln!("up after {:.1} s", started.elapsed().as_secs_f64());
    for site in &sites {
        println!("export KUBECONFIG={}", Cluster::in_site(kit, *site).kubeconfig().display());
    }
    Ok(())
}

/// Takes clusters and network down.
pub(crate) fn down() -> Result<()> {
    let kit = Kit::ensure()?;
    for site in ALL {
        Cluster::in_site(&kit, site).down()?;
    }
    Network::existing(&ALL).down()
}
