//! The story itself.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use apimachinery::go_duration;
use federation_controller::tokens;
use federation_core::api::{Cluster, Verdict};
use federation_runtime::shutdown::Shutdown;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use super::directory::Directory;
use super::member::{Member, Settings};
use super::report::{Chapter, Report, Times, last_failure};
use super::screen::Screen;
use super::users::{self, Log, Site};
use super::{apply, watch};
use crate::commands::cordon::{Wanted, set};
use crate::commands::token::pin;
use crate::connect;
use crate::parts::{self, UpOptions};

const MANIFESTS: &str = include_str!("../../../examples/taiwan-tokyo/web.yaml");
/// Federation v1's name of the Service.
const NAME: &str = "web.default.fed.svc.example.test.";
const PORT: u16 = 8080;
/// Nothing in the story takes longer on a machine that is fit for it.
const LIMIT: Duration = Duration::from_secs(20);

/// Options of `fedctl demo`.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// Number of web users.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    users: u16,
    /// How long a cluster must have a bad verdict before its replicas are placed elsewhere.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = go_duration::seconds)]
    evict_after: Duration,
    /// Leaves everything running, and prints commands to look at it.
    #[arg(long)]
    keep: bool,
    /// Data directory; a temporary one if not given.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Also writes the summary's figures to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    figures: Option<PathBuf>,
    /// Pause between the steps of the demo.
    #[arg(long, alias = "calm-ms", value_name = "DURATION", default_value = "2.5s", value_parser = go_duration::milliseconds)]
    pause: Duration,
}

struct Stage {
    screen: Screen,
    client: Client,
    site: Site,
    log: Log,
    hub: String,
    ca_hash: String,
    data_dir: PathBuf,
    calm: Duration,
    evict_after: Duration,
}

/// Tells the story.
///
/// # Errors
/// When a part does not start, or the story did not hold.
pub async fn run(options: Options, shutdown: Shutdown) -> Result<()> {
    let directory = Directory::new(options.data_dir.clone())?;
    let ended = play(&options, directory.path(), &shutdown).await;
    directory.leave(options.keep, shutdown.started(), ended)
}

async fn play(options: &Options, data_dir: &Path, shutdown: &Shutdown) -> Result<()> {
    let screen = Screen::new();
    screen.chapter("A federation starts: API server, controller with its hub, DNS server");
    let up = UpOptions::local(data_dir, free_tcp()?, free_tcp()?, free_both()?, options.evict_after);
    let (api, hub, dns) = (up.api_listen(), up.hub_listen(), up.dns_listen());
    let control_plane = parts::ControlPlane::start(up, shutdown.child()).await?;
    screen.say(&format!("ready: API on {api}, hub on {hub}, DNS on {dns}"));

    let admin = data_dir.join("admin.conf");
    let ca = std::fs::read_to_string(data_dir.join("pki/ca.crt"))?;
    let stage = Stage {
        screen: screen.clone(),
        client: connect::client(&admin).await?,
        site: Site { dns, name: NAME.into(), port: PORT },
        log: Log::default(),
        hub: hub.to_string(),
        ca_hash: pin(&ca)?.to_string(),
        data_dir: data_dir.to_owned(),
        calm: options.pause,
        evict_after: options.evict_after,
    };
    let stop = CancellationToken::new();
    let mut report = Report::default();
    let told = tokio::select! {
        told = stage.tell(&mut report, usize::from(options.users), &stop) => told,
        () = shutdown.wait() => Err(anyhow::anyhow!("interrupted")),
    };
    stop.cancel();
    report.total = screen.elapsed();
    let tokyo = told?;
    println!("\n{report}");
    if let Some(file) = &options.figures {
        std::fs::write(file, report.figures().to_string())
            .with_context(|| format!("--figures {}", file.display()))?;
    }
    if options.keep {
        keep(&admin, &tokyo.kubeconfig, dns, data_dir);
        shutdown.wait().await;
    }
    drop(tokyo);
    control_plane.stop().await?;
    report.verdict()
}

impl Stage {
    /// Returns tokyo, which is left at the end.
    async fn tell(&self, report: &mut Report, users: usize, stop: &CancellationToken) -> Result<Member> {
        self.screen.chapter("Taiwan alone");
        let taiwan_settings = self.settings("taiwan", 1, "asia-east");
        let taiwan = self.join(&taiwan_settings).await?;
        apply::create_all(&self.client, MANIFESTS).await?;
        self.screen.say(
            "a Deployment of 4, a Service, a Secret, a ConfigMap and policies were posted to the federation",
        );
        self.replicas_ready(&[("taiwan", 4)]).await?;
        let begun = Instant::now();
        watch::until("the name to be answered", begun, LIMIT, || async {
            Ok(watch::addresses(&self.site, 1).await.is_ok())
        })
        .await?;
        self.screen.say(&format!("{NAME} is answered: {users} users begin to resolve and fetch"));
        users::start(users, &self.site, &self.log, stop)?;
        self.screen.follow(self.log.clone(), stop.clone());
        self.calm(report, "taiwan alone", Expect::NoFailure).await?;
        let of_taiwan = watch::addresses(&self.site, 8).await?;

        self.screen.chapter("Taiwan and Tokyo");
        let chapter = Instant::now();
        let tokyo = self.join(&self.settings("tokyo", 2, "asia-northeast")).await?;
        self.replicas_ready(&[("taiwan", 2), ("tokyo", 2)]).await?;
        self.screen.say("replicas are divided 2 : 2");
        self.calm_from(report, "taiwan and tokyo", chapter, Expect::NoFailure).await?;

        self.screen.chapter("Tokyo alone, by plan: taiwan is drained");
        let chapter = Instant::now();
        let clusters: Api<Cluster> = Api::all(self.client.clone());
        set(&clusters, "taiwan", Wanted::Drained).await?;
        let dns = watch::answers_without(&self.site, &of_taiwan, chapter, LIMIT).await?;
        self.screen.say(&format!("DNS answers without taiwan after {:.2} s", dns.as_secs_f64()));
        self.replicas_ready(&[("taiwan", 0), ("tokyo", 4)]).await?;
        let replicas = chapter.elapsed();
        self.screen.say(&format!("taiwan is empty after {:.2} s", replicas.as_secs_f64()));
        self.calm_from(report, "planned drain", chapter, Expect::NoFailure).await?;
        let users = last_failure(&self.log.since(chapter), chapter);
        report.drain = Times { detect: None, dns: Some(dns), applied: None, replicas: Some(replicas), users };

        self.screen.chapter("Taiwan comes back");
        let chapter = Instant::now();
        set(&clusters, "taiwan", Wanted::Open).await?;
        self.replicas_ready(&[("taiwan", 2), ("tokyo", 2)]).await?;
        self.calm_from(report, "taiwan back", chapter, Expect::NoFailure).await?;

        self.screen.chapter("Tokyo alone, by force: taiwan is killed");
        let killed = Instant::now();
        taiwan.kill().await?;
        report.kill = self.after_the_kill(killed, &of_taiwan, &tokyo).await?;
        self.calm_from(report, "taiwan killed", killed, Expect::Recovery).await?;
        report.kill.users = last_failure(&self.log.since(killed), killed);
        if let (Some(users), Some(dns)) = (report.kill.users, report.kill.dns)
            && users > dns + Duration::from_secs(3)
        {
            report.broken.push(format!("users still failed {:.2} s after the kill", users.as_secs_f64()));
        }
        Ok(tokyo)
    }

    async fn after_the_kill(
        &self,
        killed: Instant,
        of_taiwan: &std::collections::BTreeSet<std::net::IpAddr>,
        tokyo: &Member,
    ) -> Result<Times> {
        let clusters: Api<Cluster> = Api::all(self.client.clone());
        let detect = watch::until("the verdict", killed, LIMIT, || async {
            let status = clusters.get("taiwan").await?.status.unwrap_or_default();
            Ok(!matches!(status.verdict, Some(Verdict::Healthy) | None))
        });
        let dns = watch::answers_without(&self.site, of_taiwan, killed, LIMIT);
        let (detect, dns) = tokio::try_join!(detect, dns)?;
        self.screen.say(&format!(
            "detected after {:.2} s, DNS answers without taiwan after {:.2} s; replicas follow {} s later",
            detect.as_secs_f64(),
            dns.as_secs_f64(),
            self.evict_after.as_secs()
        ));
        let copies: Api<Deployment> = Api::namespaced(connect::client(&tokyo.kubeconfig).await?, "default");
        let applied =
            watch::until("tokyo to be told to run all", killed, self.evict_after + LIMIT, || async {
                let wanted = copies.get("web").await?.spec.replicas;
                Ok(wanted == Some(4))
            });
        let ready = self.wait_for_replicas(&[("tokyo", 4)], self.evict_after + LIMIT);
        let (applied, ()) = tokio::try_join!(applied, ready)?;
        let replicas = killed.elapsed();
        self.screen.say(&format!("tokyo runs all 4 replicas after {:.2} s", replicas.as_secs_f64()));
        Ok(Times {
            detect: Some(detect),
            dns: Some(dns),
            applied: Some(applied),
            replicas: Some(replicas),
            users: None,
        })
    }

    fn settings(&self, name: &'static str, index: u8, region: &'static str) -> Settings {
        Settings {
            name,
            index,
            region,
            hub: self.hub.clone(),
            data_dir: self.data_dir.join("members").join(name),
        }
    }

    async fn join(&self, settings: &Settings) -> Result<Member> {
        let request = tokens::Request { cluster: Some(settings.name.into()), ..tokens::Request::default() };
        let token = tokens::create_token(&self.client, &request).await?;
        let begun = Instant::now();
        let member = Member::start(settings, Some((token, self.ca_hash.clone()))).await?;
        let clusters: Api<Cluster> = Api::all(self.client.clone());
        watch::until("the cluster to be healthy", begun, LIMIT, || async {
            let cluster = clusters.get_opt(settings.name).await?;
            Ok(cluster
                .and_then(|cluster| cluster.status)
                .is_some_and(|status| status.verdict == Some(Verdict::Healthy)))
        })
        .await
        .with_context(|| {
            format!("the log of {} is {}", settings.name, settings.data_dir.join("log").display())
        })?;
        self.screen.say(&format!("{} joined with a one-time token", settings.name));
        Ok(member)
    }

    async fn replicas_ready(&self, wanted: &[(&str, i64)]) -> Result<()> {
        self.wait_for_replicas(wanted, LIMIT).await
    }

    /// Waits until the members' own ready replicas, as the Placement tells them, and the merged status agree with `wanted`.
    async fn wait_for_replicas(&self, wanted: &[(&str, i64)], limit: Duration) -> Result<()> {
        let placements: Api<federation_core::api::Placement> =
            Api::namespaced(self.client.clone(), "default");
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), "default");
        let what = wanted
            .iter()
            .map(|(cluster, count)| format!("{count} in {cluster}"))
            .collect::<Vec<_>>()
            .join(" and ");
        watch::until(&format!("ready replicas: {what}"), Instant::now(), limit, || async {
            let Some(placement) = placements.get_opt("deployments.apps.web").await? else { return Ok(false) };
            let status = placement.status.unwrap_or_default();
            let ready = |cluster: &str| {
                status
                    .clusters
                    .iter()
                    .find(|outcome| outcome.name == cluster)
                    .and_then(|outcome| outcome.ready_replicas)
                    .unwrap_or(0)
            };
            let merged =
                deployments.get("web").await?.status.and_then(|status| status.ready_replicas).unwrap_or(0);
            Ok(merged >= 4 && wanted.iter().all(|(cluster, count)| ready(cluster) == *count))
        })
        .await
        .map(drop)
    }

    async fn calm(&self, report: &mut Report, title: &'static str, expect: Expect) -> Result<()> {
        self.calm_from(report, title, Instant::now(), expect).await
    }

    /// Lets users go on for a while and closes the chapter that began at `from`.
    async fn calm_from(
        &self,
        report: &mut Report,
        title: &'static str,
        from: Instant,
        expect: Expect,
    ) -> Result<()> {
        tokio::time::sleep(self.calm).await;
        let fetches = self.log.since(from);
        let chapter = Chapter::of(title, &fetches);
        if expect == Expect::NoFailure && chapter.failures > 0 {
            let why =
                fetches.iter().find_map(|fetch| fetch.outcome.as_ref().err().cloned()).unwrap_or_default();
            report.broken.push(format!(
                "{} requests failed in the chapter \"{title}\", the first: {why}",
                chapter.failures
            ));
        }
        report.chapters.push(chapter);
        Ok(())
    }
}

/// What a chapter promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    NoFailure,
    Recovery,
}

fn keep(admin: &Path, tokyo: &Path, dns: SocketAddr, data_dir: &Path) {
    println!(
        "\nEverything is kept in {dir}. Ctrl-C ends it.\n\n  \
         kubectl --kubeconfig {admin} get deployments,services,secrets,placements,clusters\n  \
         kubectl --kubeconfig {tokyo} get pods\n  \
         dig @{ip} -p {port} {NAME}\n  \
         curl -s http://$(dig +short @{ip} -p {port} {NAME}):{PORT}/\n  \
         fedctl clusters --data-dir {dir}",
        dir = data_dir.display(),
        admin = admin.display(),
        tokyo = tokyo.display(),
        ip = dns.ip(),
        port = dns.port(),
    );
}

fn free_tcp() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

/// A port that is free for UDP and TCP alike.
fn free_both() -> Result<SocketAddr> {
    for _ in 0..50 {
        let address = UdpSocket::bind(("127.0.0.1", 0))?.local_addr()?;
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    anyhow::bail!("no port is free for both UDP and TCP")
}
