//! The interlock: many clusters that go bad at once are rather a fault of who looks.

use std::collections::BTreeMap;

use super::member::Member;
use super::{Options, is_bad};
use crate::api::Verdict;

/// Nothing moves.
#[derive(Clone, Debug)]
pub(super) struct Freeze {
    pub(super) reason: String,
    pub(super) clusters: Vec<String>,
    well: usize,
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
        Some(Self { reason, clusters: down, well })
    }

    /// Whether so few are still bad, or about to be, that things may move again.
    pub(super) fn is_over(&self, members: &BTreeMap<String, Member>, options: &Options, now_ms: i64) -> bool {
        let is_down =
            |member: &Member| member.verdict != Verdict::Healthy || member.is_suspect(options, now_ms);
        let down = |name: &&String| members.get(*name).is_some_and(is_down);
        let down = self.clusters.iter().filter(down).count();
        !exceeds(down, self.well, options.mass_failure_share)
    }
}

fn exceeds(part: usize, whole: usize, share: f64) -> bool {
    part > 0 && part as f64 > share * whole as f64
}
