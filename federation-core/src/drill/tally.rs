//! What users at one vantage saw, in bounded memory.

use std::collections::BTreeMap;

use crate::api::{DrillBucket, DrillUsers};

/// Buckets of the course. When they are used up, two become one.
const BUCKETS_MAX: usize = 240;
/// The first width of a bucket.
const BUCKET_MS: i64 = 250;
/// Different errors that are told apart while counting.
const ERRORS_MAX: usize = 64;
/// Errors that are reported.
const ERRORS_TOLD: usize = 16;
/// Bytes of an error that are kept.
const ERROR_LENGTH: usize = 160;
/// Durations are kept to 1/16 of themselves.
const STEPS: u32 = 16;

/// How a page came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// The cluster that served it; empty if the page does not say.
    Served(&'a str),
    /// It did not come, and why.
    Failed(&'a str),
}

/// What a vantage says that is not this program: nothing of it is longer than what [`Tally::figures`] gives.
pub fn bounded(mut told: DrillUsers) -> DrillUsers {
    let clip = |map: BTreeMap<String, u64>| {
        map.into_iter().take(ERRORS_TOLD).map(|(name, count)| (clipped(&name), count)).collect()
    };
    told.errors = clip(told.errors);
    told.clusters = clip(told.clusters);
    told.buckets.truncate(BUCKETS_MAX);
    told.bucket_ms = told.bucket_ms.max(1);
    told
}

/// A running count.
#[derive(Clone, Debug)]
pub struct Tally {
    lost: Vec<String>,
    users: DrillUsers,
    errors: BTreeMap<String, u64>,
    // Of durations, by step; see `step_of`.
    histogram: BTreeMap<u32, u64>,
}

impl Tally {
    /// Counts from the start of a drill that loses these clusters.
    pub fn new(lost: &[String]) -> Self {
        let users = DrillUsers { bucket_ms: BUCKET_MS, ..DrillUsers::default() };
        Self { lost: lost.to_vec(), users, errors: BTreeMap::new(), histogram: BTreeMap::new() }
    }

    /// A page that was asked for `after_ms` after the start, and came or failed after `took_ms`.
    pub fn note(&mut self, after_ms: i64, took_ms: u32, outcome: Outcome<'_>) {
        let users = &mut self.users;
        users.requests += 1;
        users.max_ms = users.max_ms.max(took_ms);
        let ended_ms = after_ms.max(0).saturating_add(i64::from(took_ms));
        users.last_heard_ms = users.last_heard_ms.max(Some(ended_ms));
        let harmed = match outcome {
            Outcome::Served(cluster) => {
                *self.histogram.entry(step_of(took_ms)).or_default() += 1;
                if !cluster.is_empty() {
                    *users.clusters.entry(clipped(cluster)).or_default() += 1;
                }
                self.lost.iter().any(|lost| lost == cluster)
            }
            Outcome::Failed(why) => {
                users.failed += 1;
                let why = clipped(why);
                if self.errors.len() < ERRORS_MAX || self.errors.contains_key(&why) {
                    *self.errors.entry(why).or_default() += 1;
                }
                true
            }
        };
        if harmed {
            users.last_harm_ms = users.last_harm_ms.max(Some(ended_ms));
        }
        let bucket = self.bucket(after_ms.max(0));
        bucket.max_ms = bucket.max_ms.max(took_ms);
        match outcome {
            Outcome::Failed(_) => bucket.failed += 1,
            Outcome::Served(_) if harmed => bucket.from_lost += 1,
            Outcome::Served(_) => bucket.served += 1,
        }
    }

    fn bucket(&mut self, after_ms: i64) -> &mut DrillBucket {
        let users = &mut self.users;
        while after_ms / users.bucket_ms >= BUCKETS_MAX as i64 {
            let merge = |pair: &[DrillBucket]| {
                pair.iter().fold(DrillBucket::default(), |sum, one| DrillBucket {
                    served: sum.served + one.served,
                    from_lost: sum.from_lost + one.from_lost,
                    failed: sum.failed + one.failed,
                    max_ms: sum.max_ms.max(one.max_ms),
                })
            };
            users.buckets = users.buckets.chunks(2).map(merge).collect();
            users.bucket_ms = users.bucket_ms.saturating_mul(2);
        }
        let at = usize::try_from(after_ms / users.bucket_ms).unwrap_or(0).min(BUCKETS_MAX - 1);
        if users.buckets.len() <= at {
            users.buckets.resize(at + 1, DrillBucket::default());
        }
        &mut users.buckets[at]
    }

    /// The figures so far.
    pub fn figures(&self) -> DrillUsers {
        let mut users = self.users.clone();
        users.p50_ms = self.percentile(50);
        users.p95_ms = self.percentile(95);
        users.p99_ms = self.percentile(99);
        let mut errors: Vec<(&String, &u64)> = self.errors.iter().collect();
        errors.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        users.errors =
            errors.into_iter().take(ERRORS_TOLD).map(|(why, count)| (why.clone(), *count)).collect();
        users
    }

    /// The least duration within which so many percent of the pages came. Pages that did not come have none.
    fn percentile(&self, percent: u64) -> u32 {
        let all: u64 = self.histogram.values().sum();
        let rank = (all * percent).div_ceil(100).max(1);
        let mut seen = 0;
        for (step, count) in &self.histogram {
            seen += count;
            if seen >= rank {
                return most_of(*step).min(self.users.max_ms);
            }
        }
        0
    }
}

/// Exact below 32 ms, then 16 steps for each doubling.
fn step_of(ms: u32) -> u32 {
    if ms < 2 * STEPS {
        return ms;
    }
    let doublings = ms.ilog2() - STEPS.ilog2();
    doublings * STEPS + (ms >> doublings)
}

/// The longest duration in a step.
fn most_of(step: u32) -> u32 {
    if step < 2 * STEPS {
        return step;
    }
    let doublings = step / STEPS - 1;
    let least = u64::from(step - doublings * STEPS) << doublings;
    u32::try_from(least + (1 << doublings) - 1).unwrap_or(u32::MAX)
}

fn clipped(text: &str) -> String {
    let mut end = text.len().min(ERROR_LENGTH);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_kept_to_a_sixteenth() {
        for ms in (0..5000).chain([65_535, 65_536, 3_600_000, u32::MAX]) {
            let told = most_of(step_of(ms));
            assert!(told >= ms && told - ms <= ms / 16, "{ms} became {told}");
        }
    }

    #[test]
    fn harm_is_a_page_that_failed_or_came_from_what_is_lost() {
        let mut tally = Tally::new(&["taiwan".to_owned()]);
        tally.note(10, 5, Outcome::Served("taiwan"));
        tally.note(100, 1000, Outcome::Failed("no answer"));
        tally.note(1200, 7, Outcome::Served("tokyo"));
        let figures = tally.figures();
        assert_eq!((figures.requests, figures.failed), (3, 1));
        assert_eq!((figures.last_harm_ms, figures.last_heard_ms), (Some(1100), Some(1207)));
        assert_eq!((figures.p50_ms, figures.p99_ms, figures.max_ms), (5, 7, 1000));
        assert_eq!(figures.errors, BTreeMap::from([("no answer".to_owned(), 1)]));
        assert_eq!(figures.buckets[0], DrillBucket { served: 0, from_lost: 1, failed: 1, max_ms: 1000 });
    }

    #[test]
    fn what_another_vantage_says_is_bounded_too() {
        let many = || (0..1000).map(|index| (format!("{index} {}", "x".repeat(1000)), 1)).collect();
        let buckets = vec![DrillBucket::default(); 1000];
        let told = bounded(DrillUsers { errors: many(), clusters: many(), buckets, ..DrillUsers::default() });
        assert!(told.errors.len() <= ERRORS_TOLD && told.clusters.len() <= ERRORS_TOLD);
        assert!(told.errors.keys().all(|text| text.len() <= ERROR_LENGTH));
        assert!(told.buckets.len() <= BUCKETS_MAX && told.bucket_ms > 0);
    }

    #[test]
    fn memory_is_bounded_however_long_it_takes() {
        let mut tally = Tally::new(&[]);
        for index in 0..20_000_i64 {
            tally.note(index * 997, (index % 3000) as u32, Outcome::Failed(&format!("error {index}")));
        }
        let figures = tally.figures();
        assert_eq!(figures.requests, 20_000);
        assert!(figures.buckets.len() <= BUCKETS_MAX && figures.errors.len() <= ERRORS_TOLD);
        assert_eq!(figures.buckets.iter().map(|bucket| bucket.failed).sum::<u64>(), 20_000);
    }
}
