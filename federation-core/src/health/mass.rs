//! The mass-failure interlock: when many clusters fail at once, the fault is more likely on the observer's side.

use std::collections::{BTreeMap, BTreeSet};

use super::member::Member;
use super::{Options, is_bad};
use crate::api::Verdict;

/// Nothing moves.
#[derive(Clone, Debug)]
pub(super) struct Freeze {
    pub(super) reason: String,
    pub(super) clusters: Vec<String>,
    well: usize,
    /// Those that were not only about to fall.
    fell: BTreeSet<String>,
    /// Since when few enough are down.
    few_since_ms: Option<i64>,
}

impl Freeze {
    /// Looks whether so many are bad that nothing may move.
    pub(super) fn found(members: &BTreeMap<String, Member>, options: &Options, now_ms: i64) -> Option<Self> {
        let since = now_ms.saturating_sub(options.mass_failure_window_ms);
        let (mut well, mut down) = (0, Vec::new());
        for (name, member) in members.iter().filter(|(_, member)| !member.given_up) {
            let fell = member.fell_ms.is_some_and(|fell| fell >= since);
            let suspect = !is_bad(member.verdict) && member.is_suspect(options, now_ms);
            // Who has been down for longer than the window is no part of what happens now.
            if fell || !is_bad(member.verdict) {
                well += 1;
            }
            if fell || suspect {
                down.push(name.clone());
            }
        }
        let truly_down = members.values().any(|member| !member.given_up && is_bad(member.verdict));
        if members.len() < 2 || !truly_down || !exceeds(down.len(), well, options.mass_failure_share) {
            return None;
        }
        let lost: Vec<&Member> = down.iter().filter_map(|name| members.get(name)).collect();
        let silent = lost.iter().filter(|member| member.is_silent(options, now_ms)).count();
        let served = lost.iter().filter(|member| member.users_served()).count();
        let mut reason = format!("{} of {well} clusters went bad at once: {}", down.len(), down.join(", "));
        if silent > 0 && served * 2 >= lost.len() {
            reason.push_str(&format!(
                "; {silent} fell silent while probes see users served in {served}: the hub's own link is suspect"
            ));
        }
        Some(Self { reason, clusters: down, well, fell: BTreeSet::new(), few_since_ms: None })
    }

    /// Forgets how much later than now it is.
    pub(super) fn not_after(&mut self, now_ms: i64) {
        self.few_since_ms = self.few_since_ms.map(|since_ms| since_ms.min(now_ms));
    }

    /// Whether so few are still bad, or about to be, that things may move again. Once one has come back from the fall, the others may be
    /// on their way: they are waited for a while, so that nobody is given up because he is the slower one.
    pub(super) fn is_over(
        &mut self,
        members: &BTreeMap<String, Member>,
        options: &Options,
        now_ms: i64,
    ) -> bool {
        let is_down =
            |member: &Member| member.verdict != Verdict::Healthy || member.is_suspect(options, now_ms);
        let is_down = |name: &&String| members.get(*name).is_some_and(is_down);
        let has_fallen = |name: &&String| members.get(*name).is_some_and(|member| is_bad(member.verdict));
        self.fell.extend(self.clusters.iter().filter(has_fallen).cloned());
        let down = self.clusters.iter().filter(is_down).count();
        if exceeds(down, self.well, options.mass_failure_share) {
            self.few_since_ms = None;
            return false;
        }
        let since_ms = *self.few_since_ms.get_or_insert(now_ms);
        let somebody_is_back = !self.fell.iter().all(|name| is_down(&name));
        down == 0 || !somebody_is_back || now_ms.saturating_sub(since_ms) >= options.thaw_hold_ms
    }
}

fn exceeds(part: usize, whole: usize, share: f64) -> bool {
    part > 0 && part as f64 > share * whole as f64
}
