//! Rolling a zone's key: what is published and what signs, step by step.
//!
//! There is one combined signing key. A new one takes over by double signatures (RFC 6781 section 4.1.3): at every moment each chain that
//! a resolver may hold together, from caches and fresh answers, is valid.
//!
//! | step | DNSKEY | signs | CDS | ends when |
//! |---|---|---|---|---|
//! | `Stable` | old | old | old | a roll is asked for |
//! | `Introducing` | old, new | both | old | every DNS server has the new key, and every cache has forgotten what only the old key signed: the longest TTL, and a margin |
//! | `Swapping` | old, new | both | new | somebody says that the parent has the new DS |
//! | `Retiring` | old, new | both | new | every cache has forgotten the old DS: its TTL, and a margin |
//! | `Stable` | new | new | new | |
//!
//! The parent is not asked by us: what it serves is seen differently from different places, and a wrong guess breaks the zone for all
//! validating resolvers. Until somebody says so nothing is taken away.

use serde::{Deserialize, Serialize};

use super::PublicKey;

/// Added to every wait, milliseconds: for servers that take a zone late, and for clocks.
pub const MARGIN_MS: i64 = 300_000;

/// Where a zone is in the life of its keys. Times are milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step")]
pub enum Step {
    /// One key.
    Stable,
    /// The second key is published, and signs too.
    Introducing {
        /// Since when.
        since: i64,
    },
    /// The parent is asked, by CDS and CDNSKEY, to replace the DS.
    Swapping {
        /// Since when.
        since: i64,
    },
    /// The parent has the new DS.
    Retiring {
        /// Since when that is known.
        since: i64,
    },
}

/// A zone's keys, oldest first: one when stable, else two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys<K> {
    /// Never empty.
    pub keys: Vec<K>,
    /// Where they are.
    pub step: Step,
    /// Rolls that have been begun.
    pub rolls: u32,
}

/// What the decision depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since 1970.
    pub at: i64,
    /// Rolls that have been asked for, ever.
    pub rolls: u32,
    /// Tag of the key that the operator has seen a DS of at the parent.
    pub parent_has: Option<u16>,
    /// Longest TTL of the zone, seconds, its DNSKEY's included.
    pub max_ttl: u32,
    /// TTL of the parent's DS, seconds.
    pub ds_ttl: u32,
    /// Since when every DNS server is known to answer with the keys as they are now, milliseconds since 1970; none: one of them may not.
    pub served: Option<i64>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing, before this time at the earliest; never by time alone if none.
    Wait(Option<i64>),
    /// Make a key and give it to [`Keys::introduce`].
    NewKey,
    /// Go to this step, by [`Keys::go`].
    Go(Step),
}

impl<K> Keys<K> {
    /// Of a zone that is signed from now on.
    pub fn first(key: K) -> Self {
        Self { keys: vec![key], step: Step::Stable, rolls: 0 }
    }

    /// Decides. Pure.
    pub fn next(&self, now: Now, public: impl Fn(&K) -> PublicKey) -> Next {
        let until = |since: i64, ttl: u32| since + i64::from(ttl) * 1000 + MARGIN_MS;
        match self.step {
            Step::Stable if now.rolls > self.rolls => Next::NewKey,
            Step::Stable => Next::Wait(None),
            // What a server that was cut off still answers would be worthless under the new DS alone.
            Step::Introducing { since } => {
                match now.served.map(|served| until(since.max(served), now.max_ttl)) {
                    None => Next::Wait(None),
                    Some(end) if now.at >= end => Next::Go(Step::Swapping { since: now.at }),
                    end => Next::Wait(end),
                }
            }
            Step::Swapping { .. } => {
                let new = self.keys.last().map(|key| public(key).tag());
                if new.is_some() && now.parent_has == new {
                    Next::Go(Step::Retiring { since: now.at })
                } else {
                    Next::Wait(None)
                }
            }
            Step::Retiring { since } => match until(since, now.ds_ttl) {
                end if now.at >= end => Next::Go(Step::Stable),
                end => Next::Wait(Some(end)),
            },
        }
    }

    /// Adds the key that [`Next::NewKey`] asked for.
    pub fn introduce(&mut self, key: K, now: Now) {
        self.keys.push(key);
        self.rolls += 1;
        self.step = Step::Introducing { since: now.at };
    }

    /// Takes the step that [`Next::Go`] named; the last one drops the old key.
    pub fn go(&mut self, step: Step) {
        if step == Step::Stable && self.keys.len() > 1 {
            self.keys.drain(..self.keys.len() - 1);
        }
        self.step = step;
    }

    /// The key that the parent is asked to have a DS of.
    pub fn wanted_at_parent(&self) -> Option<&K> {
        match self.step {
            Step::Stable | Step::Introducing { .. } => self.keys.first(),
            Step::Swapping { .. } | Step::Retiring { .. } => self.keys.last(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public(seed: &Seed) -> PublicKey {
        PublicKey([*seed as u8; 64])
    }

    // Stands for a key.
    type Seed = u128;

    const START: i64 = 1_000_000;

    fn at(at: i64, parent_has: Option<u16>) -> Now {
        Now { at, rolls: 1, parent_has, max_ttl: 60, ds_ttl: 3600, served: Some(START) }
    }

    #[test]
    fn a_key_rolls_in_four_steps_each_after_its_time() {
        let mut keys = Keys::first(1_u128);
        assert_eq!(keys.next(Now { rolls: 0, ..at(START, None) }, public), Next::Wait(None));
        assert_eq!(keys.next(at(START, None), public), Next::NewKey);
        keys.introduce(2, at(START, None));
        assert_eq!(keys.wanted_at_parent(), Some(&1));

        // A server that has not the new key yet is waited for, and so are the caches behind it.
        let swap = START + 60_000 + MARGIN_MS;
        assert_eq!(keys.next(Now { served: None, ..at(swap, None) }, public), Next::Wait(None));
        let later = Now { served: Some(START + 5), ..at(swap, None) };
        assert_eq!(keys.next(later, public), Next::Wait(Some(swap + 5)));
        assert_eq!(keys.next(at(swap - 1, None), public), Next::Wait(Some(swap)));
        let Next::Go(step) = keys.next(at(swap, None), public) else { unreachable!("it is time") };
        keys.go(step);
        assert_eq!((keys.wanted_at_parent(), keys.keys.len()), (Some(&2), 2));

        // Time alone ends nothing: the parent may never have taken the DS.
        let old = public(&1).tag();
        assert_eq!(keys.next(at(swap + 1_000_000_000, Some(old)), public), Next::Wait(None));
        let seen = swap + 5000;
        let Next::Go(step) = keys.next(at(seen, Some(public(&2).tag())), public) else {
            unreachable!("seen")
        };
        keys.go(step);

        let end = seen + 3_600_000 + MARGIN_MS;
        assert_eq!(keys.next(at(end - 1, None), public), Next::Wait(Some(end)));
        assert_eq!(keys.next(at(end, None), public), Next::Go(Step::Stable));
        keys.go(Step::Stable);
        assert_eq!((&keys.keys[..], keys.step, keys.rolls), (&[2][..], Step::Stable, 1));
        assert_eq!(keys.next(at(end, None), public), Next::Wait(None));
    }

    #[test]
    fn a_second_roll_waits_for_the_end_of_the_first() {
        let mut keys = Keys::first(1_u128);
        let twice = Now { rolls: 2, ..at(START, None) };
        keys.introduce(2, twice);
        assert!(matches!(keys.next(twice, public), Next::Wait(Some(_))));
        keys.go(Step::Stable);
        assert_eq!(keys.next(twice, public), Next::NewKey);
    }

    /// Every chain that caches can hold validates: whatever DS a resolver may still have, a published key with it signs everything.
    #[test]
    fn no_step_takes_away_what_a_cache_may_need() {
        let mut keys = Keys::first(1_u128);
        let mut now = at(START, None);
        // What caches may hold, with the time until which they may: DS sets, and sets of keys that signed.
        let mut ds: Vec<(Seed, i64)> = vec![(1, i64::MAX)];
        let mut signed: Vec<(Vec<Seed>, i64)> = Vec::new();
        for _ in 0..400 {
            for &(anchored, until) in &ds {
                assert!(until < now.at || keys.keys.contains(&anchored), "DS of {anchored:?} at {}", now.at);
            }
            for (signers, until) in &signed {
                let known = signers.iter().any(|key| keys.keys.contains(key));
                assert!(*until < now.at || known, "data signed by {signers:?} at {}", now.at);
            }
            signed.push((keys.keys.clone(), now.at + 60_000));
            // The parent takes what CDS says, some time later; its old DS lives on in caches.
            if let (Step::Swapping { since }, Some(&wanted)) = (keys.step, keys.wanted_at_parent())
                && now.at > since + 700_000
                && now.parent_has.is_none()
            {
                ds = vec![(1, now.at + 3_600_000), (wanted, i64::MAX)];
                now.parent_has = Some(public(&wanted).tag());
            }
            match keys.next(now, public) {
                Next::NewKey => keys.introduce(2, now),
                Next::Go(step) => keys.go(step),
                Next::Wait(_) => {}
            }
            now.at += 30_000;
        }
        assert_eq!(keys.keys, [2]);
    }
}
