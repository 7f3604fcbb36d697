//! `cargo xtask bench dns`: dns-lb beside an echo that reads nothing, and beside other servers.
//!
//! All servers run on one core and the client on another. In each repetition each of them is asked for a moment, in another order, and each
//! ratio is to the echo of the same repetition: the more often they take turns, the less it matters what else the machine does. The CPU time that the kernel counts for a server's threads is steadier than answers a second on a machine that does
//! other things too; it includes what the loopback interface charges the server for the client's side.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::bench_dns_peers::{self, Server};
use crate::test::cargo;

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(20);
/// The rate at which latencies are measured.
const PACE: u32 = 20_000;

/// Kinds of queries, as the engine calls them.
const KINDS: [&str; 4] = ["plain", "edns", "geo", "dnssec"];

/// How much is measured.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Repetitions; medians are told.
    #[arg(long, default_value_t = 20)]
    repetitions: usize,
    /// Seconds for each figure.
    #[arg(long, default_value_t = 0.4)]
    seconds: f64,
    /// Leave the other servers out.
    #[arg(long)]
    alone: bool,
}

/// What one server did with one kind of query, by repetition.
#[derive(Default)]
struct Figures {
    per_second: Vec<f64>,
    cpu_us: Vec<f64>,
}

type Table = BTreeMap<(String, String), Figures>;
/// Microseconds that half, and 99 of 100, of a server's answers took at most, by repetition.
type Latency = BTreeMap<&'static str, Vec<[f64; 2]>>;

/// An example of dns-lb, built in release with the server itself.
pub(crate) fn engine(name: &str) -> Result<PathBuf> {
    cargo(&["build", "--release", "-p", "dns-lb", "--bins", "--examples"])?;
    let this = std::env::current_exe()?;
    let target = this.parent().and_then(Path::parent).context("xtask is in no target folder")?;
    Ok(target.join("release/examples").join(name))
}

/// Measures.
pub(crate) fn run(options: &Options) -> Result<()> {
    let qps = engine("qps")?;
    let release = qps.parent().and_then(Path::parent).context("the engine is in no target folder")?;
    let directory = std::env::temp_dir().join(format!("bench-dns-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let outcome = measure(options, &qps, &release.join("dns-lb"), &directory);
    std::fs::remove_dir_all(&directory)?;
    outcome
}

fn measure(options: &Options, qps: &Path, dns_lb: &Path, directory: &Path) -> Result<()> {
    let mut servers = bench_dns_peers::own(qps);
    if !options.alone {
        for peer in bench_dns_peers::others(directory)? {
            if which(&peer.command[0]) {
                servers.push(peer);
            } else {
                eprintln!("{} is not installed: apt-get install {}", peer.command[0], peer.package);
            }
        }
    }
    let mut running = Vec::new();
    for server in &servers {
        match Running::start(server, directory) {
            Ok(started) => running.push((server, started)),
            Err(error) => eprintln!("{}: {error:#}", server.name),
        }
    }
    let (mut table, mut latency, mut dnsperf) = (Table::new(), Latency::new(), BTreeMap::new());
    for (server, running) in &running {
        if let Some(rate) = dnsperf_rate(directory, running)? {
            dnsperf.insert(server.name, rate);
        }
    }
    let seconds = options.seconds.to_string();
    for repetition in 0..options.repetitions {
        running.rotate_left(1);
        for kind in KINDS {
            for (server, running) in running.iter().filter(|(server, _)| server.kinds.contains(&kind)) {
                let before = running.cpu()?;
                let answer = ask(qps, &["ask", &running.address(), kind, &seconds])?;
                let cpu = running.cpu()? - before;
                let answers = answer["answers"].as_f64().unwrap_or(0.0);
                ensure!(
                    answers > 0.0 && answer["wrong"].as_f64() == Some(0.0),
                    "{} {kind}: {answer}",
                    server.name
                );
                let figures = table.entry((server.name.into(), kind.into())).or_default();
                figures.per_second.push(answer["per_second"].as_f64().unwrap_or(0.0));
                figures.cpu_us.push(cpu / 1e3 / answers);
            }
        }
        // Tails are the scheduler's as much as the server's: only many of them, in turn with the echo's, say anything.
        for (server, running) in &running {
            let paced = ask(qps, &["pace", &running.address(), "plain", &seconds, &PACE.to_string()])?;
            let paced = ["p50_us", "p99_us"].map(|key| paced[key].as_f64().unwrap_or(0.0));
            latency.entry(server.name).or_default().push(paced);
        }
        eprintln!("repetition {} of {} is done", repetition + 1, options.repetitions);
    }
    drop(running);
    let memory = memory(qps, dns_lb, directory)?;
    report(&servers, &table, &latency, &dnsperf, &memory);
    Ok(())
}

fn which(command: &str) -> bool {
    command.contains('/')
        || ["/usr/sbin", "/usr/bin", "/usr/local/bin"].iter().any(|at| Path::new(at).join(command).exists())
}

/// One server on core 0.
struct Running {
    process: Child,
    port: u16,
}

impl Running {
    fn start(server: &Server, directory: &Path) -> Result<Self> {
        let log = std::fs::File::create(directory.join(format!("{}.log", server.name)))?;
        let port = server.port;
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).args(&server.command).current_dir(directory);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = command.spawn().with_context(|| format!("starting {}", server.command.join(" ")))?;
        let mut running = Self { process, port };
        running.wait().with_context(|| {
            std::fs::read_to_string(directory.join(format!("{}.log", server.name))).unwrap_or_default()
        })?;
        Ok(running)
    }

    /// Until it answers.
    fn wait(&mut self) -> Result<()> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(SocketAddr::from(([127, 0, 0, 1], self.port)))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let query = b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x05web00\x07default\x03fed\x07example\x04test\x00\x00\x01\x00\x01";
        let start = Instant::now();
        let mut buffer = [0; 512];
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.process.try_wait()? {
                bail!("it ended: {status}");
            }
            let _ = socket.send(query);
            if socket.recv(&mut buffer).is_ok_and(|length| length > 3 && buffer[3].trailing_zeros() >= 4) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("it did not answer")
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Nanoseconds that its threads, and those of its children, have run.
    fn cpu(&self) -> Result<f64> {
        let mut sum = 0.0;
        for process in family(self.process.id())? {
            let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else { continue };
            for thread in threads.flatten() {
                let text = std::fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
                sum += text.split(' ').next().and_then(|first| first.parse::<f64>().ok()).unwrap_or(0.0);
            }
        }
        Ok(sum)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let family = family(self.process.id()).unwrap_or_default();
        let pids: Vec<String> = family.iter().map(ToString::to_string).collect();
        // Some of them fork, and the children do not all end with their parent.
        let _ = Command::new("kill").args(&pids).stderr(Stdio::null()).status();
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(3)
            && self.process.try_wait().is_ok_and(|end| end.is_none())
        {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = Command::new("kill").arg("-9").args(&pids).stderr(Stdio::null()).status();
        let _ = self.process.wait();
    }
}

/// A process and those that descend from it.
fn family(first: u32) -> Result<Vec<u32>> {
    let mut parents = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent =
            stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        parents.insert(pid, parent.unwrap_or(0));
    }
    let mut family = vec![first];
    let mut at = 0;
    while let Some(&parent) = family.get(at) {
        family.extend(parents.iter().filter(|(_, of)| **of == parent).map(|(&pid, _)| pid));
        at += 1;
    }
    Ok(family)
}

/// What the engine prints, on core 1.
fn ask(qps: &Path, arguments: &[&str]) -> Result<Value> {
    let output = Command::new("taskset").args(["-c", "1"]).arg(qps).args(arguments).output()?;
    ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// dnsperf's own figure, if it is there; it is the slower one of the two clients.
fn dnsperf_rate(directory: &Path, running: &Running) -> Result<Option<f64>> {
    if !which("dnsperf") {
        return Ok(None);
    }
    let file: PathBuf = directory.join("queries");
    let lines: Vec<String> =
        (0..bench_dns_peers::NAMES).map(|n| format!("web{n:02}.default.fed.example.test A")).collect();
    std::fs::write(&file, lines.join("\n"))?;
    let output = Command::new("taskset")
        .args(["-c", "1", "dnsperf", "-s", "127.0.0.1", "-p", &running.port.to_string(), "-l", "2"])
        .args(["-c", "8", "-q", "512", "-d"])
        .arg(&file)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.trim().strip_prefix("Queries per second:"));
    Ok(line.and_then(|rate| rate.trim().parse().ok()))
}

/// MiB of a dns-lb with 10,000 names of 8 views, open and signed, and milliseconds until a change is answered.
fn memory(qps: &Path, dns_lb: &Path, directory: &Path) -> Result<Value> {
    let mut figures = serde_json::Map::new();
    for signed in ["open", "signed"] {
        let data = directory.join(signed);
        let status = Command::new(qps).arg("disk").arg(&data).arg(signed).status()?;
        ensure!(status.success(), "the zones were not written");
        let mut server = Command::new(dns_lb)
            .args(["--listen", "127.0.0.1:0", "--threads", "1", "--data-dir"])
            .arg(&data)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = server.stdout.take() {
            std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)?;
        }
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.id()))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = resident.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
        figures.insert(format!("{signed}_resident_mib"), json!(kib.map(|kib| (kib / 102.4).round() / 10.0)));
        server.kill()?;
        server.wait()?;
    }
    let output = Command::new(qps).arg("update").output()?;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let figure: Value = serde_json::from_str(line)?;
        let signed = if figure["signed"] == json!(true) { "signed" } else { "open" };
        figures.insert(format!("{signed}_update_ms"), figure["update_ms"].clone());
    }
    Ok(Value::Object(figures))
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// The median over the repetitions.
fn percentile(paced: &[[f64; 2]], which: usize) -> f64 {
    median(&paced.iter().map(|of| of[which]).collect::<Vec<_>>())
}

fn rounded(figure: f64) -> Value {
    json!((figure * 1000.0).round() / 1000.0)
}

fn report(
    servers: &[Server],
    table: &Table,
    latency: &Latency,
    dnsperf: &BTreeMap<&str, f64>,
    memory: &Value,
) {
    println!(
        "{:<10} {:<7} {:>10} {:>7} {:>11} {:>10} {:>7} {:>7} {:>9}",
        "server", "query", "answers/s", "ratio", "CPU us", "CPU ratio", "p50 us", "p99 us", "dnsperf"
    );
    let mut line = serde_json::Map::new();
    for server in servers {
        for &kind in server.kinds {
            let of = |name: &str| table.get(&(name.to_owned(), kind.to_owned()));
            let (Some(own), Some(echo)) = (of(server.name), of("echo")) else { continue };
            // Of the same repetition, each.
            let ratios: Vec<f64> =
                own.per_second.iter().zip(&echo.per_second).map(|(own, echo)| own / echo).collect();
            let cpu: Vec<f64> = own.cpu_us.iter().zip(&echo.cpu_us).map(|(own, echo)| echo / own).collect();
            let first = kind == server.kinds[0];
            let paced = |which: usize| {
                let of = latency.get(server.name).filter(|_| first);
                of.map_or(String::new(), |of| format!("{:.0}", percentile(of, which)))
            };
            let perf =
                dnsperf.get(server.name).filter(|_| first).map_or(String::new(), |rate| format!("{rate:.0}"));
            println!(
                "{:<10} {kind:<7} {:>10.0} {:>7.3} {:>11.3} {:>10.3} {:>7} {:>7} {perf:>9}",
                server.name,
                median(&own.per_second),
                median(&ratios),
                median(&own.cpu_us),
                median(&cpu),
                paced(0),
                paced(1),
            );
            let prefix = match server.name {
                "echo" => continue,
                "dns-lb" => kind.to_owned(),
                peer => format!("{peer}_{kind}"),
            };
            line.insert(format!("{prefix}_ratio_to_echo"), rounded(median(&ratios)));
            line.insert(format!("{prefix}_cpu_ratio_to_echo"), rounded(median(&cpu)));
        }
    }
    for (name, paced) in latency {
        line.insert(format!("{name}_p50_us"), rounded(percentile(paced, 0)));
        line.insert(format!("{name}_p99_us"), rounded(percentile(paced, 1)));
        // What nothing else on the machine delayed.
        let least = paced.iter().map(|of| of[1]).fold(f64::INFINITY, f64::min);
        line.insert(format!("{name}_p99_least_us"), rounded(least));
    }
    if let (Some(own), Some(echo)) = (latency.get("dns-lb"), latency.get("echo")) {
        let ratios: Vec<f64> = own.iter().zip(echo).map(|(own, echo)| own[1] / echo[1].max(1.0)).collect();
        line.insert("p99_ratio_to_echo".into(), rounded(median(&ratios)));
    }
    for (name, rate) in dnsperf {
        line.insert(format!("{name}_dnsperf"), json!(rate.round()));
    }
    line.extend(memory.as_object().cloned().unwrap_or_default());
    println!("{}", Value::Object(line));
}
