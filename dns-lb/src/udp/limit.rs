//! Response rate limiting: a server that answers strangers must not be a way to flood somebody.
//!
//! An attacker asks in the victim's name. What can be limited is what the victim would get: answers of the same subject (a name, the
//! absence of names in a zone, errors) to the same network. A client that shows a good cookie is no victim and is not limited.
//!
//! Each thread has a table of its own, of fixed size. The kernel sends a client's datagrams from one port to one thread, so that a
//! network with many ports gets up to the limit from each thread.

use std::net::IpAddr;

use crate::zone::step;

/// Pairs of network and subject in a thread's table: 256 KiB. A flood of more pairs than this in a second displaces those that
/// have used least, so that its own stay.
const BUCKETS: usize = 1 << 14;
/// Places where a pair may be.
const WAYS: usize = 4;
/// Bits of an IPv4 network.
const NETWORK_V4: u32 = 24;
/// Bits of an IPv6 network.
const NETWORK_V6: u32 = 56;
/// A second in the units that answers are counted in.
const SECOND: u32 = 1000;

/// How many answers one network gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Answers of one subject to one network in a second, and as many at once after a second of silence. 0: no limit.
    pub per_second: u32,
    /// One in so many of the answers beyond is not withheld but cut, so that a client that is real comes by TCP or shows a cookie.
    /// 0: all are withheld; 1: all are cut.
    pub slip: u32,
    /// Whether clients on the loopback interface, whose addresses nobody outside can forge, are limited too.
    pub loopback: bool,
}

impl Default for Limit {
    /// 200 and 2. A network's resolvers that share nothing (256 of them) ask for a name with a TTL of 5 s some 50 times a second.
    fn default() -> Self {
        Self { per_second: 200, slip: 2, loopback: false }
    }
}

/// What to do with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send it.
    Send,
    /// Cut it.
    Slip,
    /// Withhold it.
    Withhold,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(16))]
struct Bucket {
    // Of network and subject; 0: free.
    tag: u64,
    // Milliseconds, when `used` was right.
    at: u32,
    // Thousandths of answers that are not yet forgotten.
    used: u32,
}

/// One thread's limiter.
#[derive(Debug)]
pub struct Limiter {
    limit: Limit,
    seed: u64,
    beyond: u32,
    buckets: Box<[[Bucket; WAYS]]>,
}

impl Limiter {
    /// An empty table. Without the `seed` nobody can choose networks that displace each other.
    pub fn new(limit: Limit, seed: u64) -> Self {
        let sets = if limit.per_second == 0 { 0 } else { BUCKETS / WAYS };
        Self { limit, seed, beyond: 0, buckets: vec![[Bucket::default(); WAYS]; sets].into() }
    }

    /// Judges one more answer about `subject` to `client`, at `now` milliseconds of a clock that goes round.
    #[inline]
    pub fn judge(&mut self, client: IpAddr, subject: u64, now: u32) -> Verdict {
        if self.buckets.is_empty() || client.is_loopback() && !self.limit.loopback {
            return Verdict::Send;
        }
        let network = match client {
            IpAddr::V4(v4) => u64::from(v4.to_bits() >> (32 - NETWORK_V4)),
            IpAddr::V6(v6) => 1 << 63 | (v6.to_bits() >> (128 - NETWORK_V6)) as u64,
        };
        let tag = step(step(network ^ self.seed) ^ subject) | 1;
        let at = (tag >> 32) as usize & (self.buckets.len() - 1);
        let per_second = self.limit.per_second;
        let Some(ways) = self.buckets.get_mut(at) else { return Verdict::Send };
        // What a bucket still has used, now: it forgets `per_second` answers a second.
        let left = |bucket: &Bucket| {
            let forgotten = now.wrapping_sub(bucket.at).saturating_mul(per_second);
            bucket.used.saturating_sub(forgotten)
        };
        let own = ways.iter_mut().find(|bucket| bucket.tag == tag);
        let bucket = match own {
            Some(bucket) => {
                bucket.used = left(bucket);
                bucket
            }
            None => {
                let Some(bucket) = ways.iter_mut().min_by_key(|bucket| left(bucket)) else {
                    return Verdict::Send;
                };
                // It takes over what the displaced one has used at least: else a flood of pairs would start anew each time.
                let used = left(bucket);
                *bucket = Bucket { tag, at: now, used: used.min(per_second.saturating_mul(SECOND) / 2) };
                bucket
            }
        };
        bucket.at = now;
        if bucket.used.saturating_add(SECOND) <= per_second.saturating_mul(SECOND) {
            bucket.used += SECOND;
            return Verdict::Send;
        }
        self.beyond = self.beyond.wrapping_add(1);
        match self.limit.slip {
            0 => Verdict::Withhold,
            slip if self.beyond.is_multiple_of(slip) => Verdict::Slip,
            _ => Verdict::Withhold,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit { per_second: 10, slip: 2, loopback: false };

    fn sent(limiter: &mut Limiter, client: [u8; 4], subject: u64, now: u32, count: usize) -> usize {
        (0..count).filter(|_| limiter.judge(client.into(), subject, now) == Verdict::Send).count()
    }

    #[test]
    fn a_network_gets_so_many_answers_of_a_subject_in_a_second() {
        let mut limiter = Limiter::new(LIMIT, 1);
        assert_eq!(sent(&mut limiter, [192, 0, 2, 1], 7, 0, 100), 10);
        // Its neighbours are the same network; others, and other subjects, are not.
        assert_eq!(sent(&mut limiter, [192, 0, 2, 9], 7, 0, 100), 0);
        assert_eq!(sent(&mut limiter, [192, 0, 3, 1], 7, 0, 100), 10);
        assert_eq!(sent(&mut limiter, [192, 0, 2, 1], 8, 0, 100), 10);
        assert_eq!(sent(&mut limiter, [192, 0, 2, 1], 7, 500, 100), 5);
        assert_eq!(sent(&mut limiter, [192, 0, 2, 1], 7, 10_000, 100), 10);
        // The clock goes round.
        assert_eq!(sent(&mut limiter, [192, 0, 2, 1], 7, u32::MAX, 100), 10);
        assert_eq!(sent(&mut limiter, [192, 0, 2, 1], 7, 99, 100), 1);
    }

    #[test]
    fn every_second_answer_beyond_the_limit_is_cut() {
        let mut limiter = Limiter::new(LIMIT, 1);
        sent(&mut limiter, [192, 0, 2, 1], 7, 0, 10);
        let mut beyond = || limiter.judge([192, 0, 2, 1].into(), 7, 0);
        assert_eq!([beyond(), beyond(), beyond()], [Verdict::Withhold, Verdict::Slip, Verdict::Withhold]);
        let mut silent = Limiter::new(Limit { slip: 0, ..LIMIT }, 1);
        assert_eq!(sent(&mut silent, [192, 0, 2, 1], 7, 0, 100), 10);
        assert_eq!(silent.judge([192, 0, 2, 1].into(), 7, 0), Verdict::Withhold);
    }

    #[test]
    fn loopback_and_no_limit_are_not_limited() {
        let mut limiter = Limiter::new(LIMIT, 1);
        assert_eq!(sent(&mut limiter, [127, 0, 0, 1], 7, 0, 100), 100);
        let mut limiter = Limiter::new(Limit { per_second: 0, ..LIMIT }, 1);
        assert_eq!(sent(&mut limiter, [192, 0, 2, 1], 7, 0, 100), 100);
    }

    #[test]
    fn a_flood_from_everywhere_does_not_free_the_one_who_floods_most() {
        let mut limiter = Limiter::new(LIMIT, 1);
        sent(&mut limiter, [192, 0, 2, 1], 7, 0, 100);
        for network in 0..200_000_u32 {
            limiter.judge(IpAddr::V4((network << 8).into()), 7, 0);
        }
        assert!(sent(&mut limiter, [192, 0, 2, 1], 7, 0, 100) <= 5);
    }
}
