//! Watches what DNS answers, and what the API says, to the time.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use hickory_proto::rr::Name;

use super::users::{Site, resolve};

/// Between two looks. Also the resolution of every time in the report.
const LOOK: Duration = Duration::from_millis(10);

/// Waits until `condition` holds, and returns how long that took from `start`.
///
/// # Errors
/// When it does not hold `limit` after now, or fails.
pub(crate) async fn until<F, Fut>(
    what: &str,
    start: Instant,
    limit: Duration,
    mut condition: F,
) -> Result<Duration>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<bool>>,
{
    let begun = Instant::now();
    loop {
        if condition().await? {
            return Ok(start.elapsed());
        }
        if begun.elapsed() > limit {
            bail!("waited {} s in vain for {what}", limit.as_secs());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until none of `samples` answers in a row holds an address that `unwanted` names.
pub(crate) async fn answers_without(
    site: &Site,
    unwanted: &BTreeSet<IpAddr>,
    start: Instant,
    limit: Duration,
) -> Result<Duration> {
    // Weighted answers hold one address each: this many without it are no accident (one in 2^20 for two equal weights).
    const SAMPLES: u32 = 20;
    let name = Name::from_ascii(&site.name)?;
    let begun = Instant::now();
    let mut clean: Option<(u32, Duration)> = None;
    while begun.elapsed() < limit {
        let asked = start.elapsed();
        match resolve(site.dns, &name).await {
            Ok(answer) if !answer.addresses.iter().any(|address| unwanted.contains(address)) => {
                let (count, first) = clean.unwrap_or((0, asked));
                if count + 1 >= SAMPLES {
                    return Ok(first);
                }
                clean = Some((count + 1, first));
            }
            _ => clean = None,
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    bail!("after {} s DNS still answers with addresses of the cluster", limit.as_secs())
}

/// Every address seen in `count` answers.
pub(crate) async fn addresses(site: &Site, count: usize) -> Result<BTreeSet<IpAddr>> {
    let name = Name::from_ascii(&site.name)?;
    let mut seen = BTreeSet::new();
    for _ in 0..count {
        seen.extend(resolve(site.dns, &name).await?.addresses);
    }
    Ok(seen)
}
