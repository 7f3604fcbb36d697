//! Limits on what automation withdraws: a minimum number of clusters that stay, and a maximum share withdrawn per window.

use crate::api::SafetyRules;

use super::Withdrawal;

/// Seconds of the window if the policy says none.
const WINDOW_SECONDS: u32 = 60;

/// A cluster that automation wants out of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate<'a> {
    pub(super) cluster: &'a str,
    pub(super) weight: u32,
}

/// What the rules say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ruling<'a> {
    /// They stay because so many have to.
    pub(super) too_few: Vec<&'a str>,
    /// They stay because enough went in this window.
    pub(super) too_many: Vec<&'a str>,
    /// Withdrawals in the window, those of now included.
    pub(super) log: Vec<Withdrawal>,
    /// When some of [`Ruling::too_many`] may go, Unix milliseconds.
    pub(super) next_ms: Option<i64>,
}

/// `staying` is how many clusters are answered without the candidates, `answered` what is or was answered (candidates
/// included), `log` the withdrawals before, oldest first.
pub(super) fn rule<'a>(
    rules: &SafetyRules,
    candidates: &[Candidate<'a>],
    staying: usize,
    answered: &[Candidate<'_>],
    log: &[Withdrawal],
    now_ms: i64,
) -> Ruling<'a> {
    let window_ms = i64::from(rules.window_seconds.unwrap_or(WINDOW_SECONDS)) * 1000;
    let mut ruling = Ruling {
        log: log.iter().filter(|past| past.at_ms.saturating_add(window_ms) > now_ms).cloned().collect(),
        ..Ruling::default()
    };
    let mut going: Vec<Candidate<'a>> = candidates.to_vec();
    going.sort_by(|a, b| b.weight.cmp(&a.weight).then(a.cluster.cmp(b.cluster)));
    let missing = (rules.min_clusters.unwrap_or(0) as usize).saturating_sub(staying).min(going.len());
    // The heaviest stay.
    ruling.too_few = going.drain(..missing).map(|candidate| candidate.cluster).collect();

    if let Some(percent) = rules.max_withdrawn_percent {
        let mut base: u64 = answered.iter().map(|candidate| u64::from(candidate.weight)).sum();
        let mut counted: Vec<&str> = answered.iter().map(|candidate| candidate.cluster).collect();
        for past in &ruling.log {
            if !counted.contains(&past.cluster.as_str()) {
                counted.push(&past.cluster);
                base += u64::from(past.weight);
            }
        }
        let allowed = base * u64::from(percent) / 100;
        let mut used: u64 = ruling.log.iter().map(|past| u64::from(past.weight)).sum();
        going.retain(|candidate| {
            let fits = used + u64::from(candidate.weight) <= allowed;
            if fits {
                used += u64::from(candidate.weight);
            } else {
                ruling.too_many.push(candidate.cluster);
            }
            fits
        });
    }
    ruling.log.extend(going.iter().map(|candidate| Withdrawal {
        at_ms: now_ms,
        cluster: candidate.cluster.to_owned(),
        weight: candidate.weight,
    }));
    if !ruling.too_many.is_empty() {
        ruling.next_ms = ruling.log.first().map(|oldest| oldest.at_ms.saturating_add(window_ms));
    }
    ruling
}
