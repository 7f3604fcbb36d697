//! Resource usage of the process, under the names of Prometheus' client libraries. Read from `/proc` at each scrape; without `/proc` there
//! are no such metrics.

use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

/// Clock ticks of a second, as Linux tells times of processes everywhere (`USER_HZ`).
const TICKS: f64 = 100.0;

/// The collector of them.
#[derive(Debug)]
pub(crate) struct Usage;

impl Collector for Usage {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(read) = Read::now() else { return Ok(()) };
        let name = "process_cpu_seconds";
        let help = "Total user and system CPU time spent in seconds";
        let cpu = ConstCounter::new(read.cpu);
        cpu.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        for (name, help, value) in [
            (
                "process_start_time_seconds",
                "Start time of the process since unix epoch in seconds",
                read.started,
            ),
            ("process_resident_memory_bytes", "Resident memory size in bytes", read.resident),
            ("process_virtual_memory_bytes", "Virtual memory size in bytes", read.virtual_size),
            ("process_open_fds", "Number of open file descriptors", read.open_files),
            ("process_max_fds", "Maximum number of open file descriptors", read.files_max),
        ] {
            if let Some(value) = value {
                encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }
}

/// One look.
#[derive(Debug)]
struct Read {
    cpu: f64,
    started: Option<f64>,
    resident: Option<f64>,
    virtual_size: Option<f64>,
    open_files: Option<f64>,
    files_max: Option<f64>,
}

impl Read {
    fn now() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The name of the command may have spaces and brackets itself. Fields are counted from 3 behind it (proc_pid_stat(5)).
        let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kibibytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim_start_matches(':').trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? * 1024.0)
        };
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let files_max = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        let booted = fs::read_to_string("/proc/stat").unwrap_or_default();
        let booted = booted.lines().find_map(|line| line.strip_prefix("btime "));
        let booted = booted.and_then(|seconds| seconds.trim().parse::<f64>().ok());
        Some(Self {
            cpu: (field(14)? + field(15)?) / TICKS,
            started: booted.zip(field(22)).map(|(booted, since)| booted + since / TICKS),
            resident: kibibytes("VmRSS"),
            virtual_size: kibibytes("VmSize"),
            open_files: fs::read_dir("/proc/self/fd").ok().map(|all| all.count() as f64),
            files_max: files_max.and_then(|line| line.split_whitespace().next()?.parse().ok()),
        })
    }
}

#[cfg(all(test, target_os = "linux"))]
#[allow(clippy::panic)]
mod tests {
    use crate::endpoints::Metrics;

    #[test]
    fn a_process_tells_what_it_uses() {
        let text = Metrics::new().encode();
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.split(' ').next() == Some(name));
            line.and_then(|line| line.split(' ').nth(1)?.parse().ok())
                .unwrap_or_else(|| panic!("{name} in {text}"))
        };
        assert!(value("process_cpu_seconds_total") >= 0.0);
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
        assert!((2.0..=value("process_max_fds")).contains(&value("process_open_fds")));
        let now = crate::clock::unix_ms() as f64 / 1000.0;
        assert!((now - value("process_start_time_seconds")) < 86_400.0, "{text}");
    }
}
