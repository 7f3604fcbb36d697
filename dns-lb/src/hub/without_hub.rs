//! What this server withdraws on its own while the hub is away.
//!
//! It goes on probing. What its own prober calls down (so many failures in a row, and something in another cluster answering meanwhile) is
//! withdrawn as far as the Service's policy lets it, and comes back when the prober calls it up. When the hub is back its word counts
//! again, after the time that it needs to hear what everybody sees.

use std::time::Duration;

use federation_prober::Probing;
use federation_runtime::shutdown::Shutdown;

use crate::state::State;
use crate::zone::Down;

/// The hub is away for good only after as long as it would take to see a member's death itself.
const AWAY: Duration = Duration::from_secs(3);
/// A hub that is back has heard of everybody after this: what was withdrawn stays so until then, if it is still down.
const BACK: Duration = Duration::from_secs(10);
/// How often it is looked at; a quarter of a probe's interval.
const INTERVAL: Duration = Duration::from_millis(250);

/// Withdraws and gives back, until `shutdown`.
pub(crate) async fn without_hub(state: State, probing: Probing, shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = shutdown.wait() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        review_withdrawals(&state, &probing);
    }
}

/// Withdraws and gives back what is to be now.
pub fn review_withdrawals(state: &State, probing: &Probing) {
    let before = state.down();
    let (connected, since) = state.hub();
    let now = decide(&before, connected, since, || seen(probing));
    if now != before {
        tracing::warn!(
            down = ?now.iter().flat_map(|(service, clusters)| {
                clusters.keys().map(move |cluster| format!("{service} in {cluster}"))
            }).collect::<Vec<_>>(),
            connected,
            "what this server withdraws by its own word changed"
        );
        state.withdraw(now);
    }
}

fn seen(probing: &Probing) -> Down {
    let mut down = Down::new();
    for target in probing.down() {
        let clusters = down.entry(target.key.service.clone()).or_default();
        clusters.insert(target.key.cluster.clone(), target.alone);
    }
    down
}

fn decide(before: &Down, connected: bool, since: Duration, seen: impl FnOnce() -> Down) -> Down {
    match (connected, since) {
        (false, since) if since >= AWAY => seen(),
        // Neither more nor longer than was seen.
        (false, _) => kept(before, &seen()),
        (true, since) if since < BACK && !before.is_empty() => kept(before, &seen()),
        (true, _) => Down::new(),
    }
}

fn kept(before: &Down, seen: &Down) -> Down {
    let still = |(service, clusters): (&String, &_)| {
        let seen = seen.get(service)?;
        let still: std::collections::BTreeMap<_, _> = std::collections::BTreeMap::iter(clusters)
            .filter(|(cluster, _)| seen.contains_key(*cluster))
            .map(|(cluster, alone)| (String::clone(cluster), *alone))
            .collect();
        (!still.is_empty()).then(|| (service.clone(), still))
    };
    before.iter().filter_map(still).collect()
}

#[cfg(test)]
mod tests {
    use federation_core::probe::Alone;

    use super::*;

    fn down(clusters: &[&str]) -> Down {
        let of = clusters.iter().map(|name| ((*name).to_owned(), Alone::default())).collect();
        if clusters.is_empty() { Down::new() } else { Down::from([("default/web".to_owned(), of)]) }
    }

    #[track_caller]
    fn check(before: &[&str], connected: bool, millis: u64, seen: &[&str], now: &[&str]) {
        let since = Duration::from_millis(millis);
        assert_eq!(decide(&down(before), connected, since, || down(seen)), down(now));
    }

    #[test]
    fn only_without_a_hub_for_a_while_does_it_act() {
        check(&[], true, 60_000, &["taiwan"], &[]);
        check(&[], false, 2_900, &["taiwan"], &[]);
        check(&[], false, 3_000, &["taiwan"], &["taiwan"]);
        check(&["taiwan"], false, 9_000, &[], &[]);
    }

    #[test]
    fn a_hub_that_is_back_is_given_time_to_see_the_same() {
        check(&["taiwan"], true, 1_000, &["taiwan", "tokyo"], &["taiwan"]);
        check(&["taiwan"], true, 1_000, &["tokyo"], &[]);
        check(&["taiwan"], true, 10_000, &["taiwan"], &[]);
        // Nor does a stream that breaks again at once lose it.
        check(&["taiwan"], false, 100, &["taiwan"], &["taiwan"]);
    }
}
