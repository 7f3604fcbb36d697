//! The validity period of signatures.

/// How long a signature counts if the zone does not say, seconds: 14 days.
pub const VALIDITY_DEFAULT: u32 = 1_209_600;
/// Shortest validity that a zone may ask for, seconds: with it a server that cannot renew has half a day.
pub const VALIDITY_MIN: u32 = 86_400;
/// A signature begins to count this long before it is made, seconds: for resolvers whose clocks are behind.
const BEFORE: u32 = 3_600;

/// Inception and expiration of an RRSIG, seconds since 1970 (RFC 4034 section 3.1.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// When it begins to count.
    pub inception: u32,
    /// When it no longer does.
    pub expiration: u32,
    /// When the next window begins, whose signature is to be used from then on.
    pub renewal: u32,
}

impl Window {
    /// The window at `now` for what has this `seed`.
    ///
    /// Time is cut into pieces of half the validity; the seed shifts the cuts, so that a zone's signatures are renewed evenly over
    /// time. Whoever knows the seed finds the same window, whenever in the piece it looks. At least half the validity is left.
    pub fn at(now: u32, validity: u32, seed: u64) -> Self {
        let piece = (validity / 2).max(1);
        let shift = (seed % u64::from(piece)) as u32;
        let into = (u64::from(now) + u64::from(shift)) % u64::from(piece);
        let begin = now.saturating_sub(into as u32);
        Self {
            inception: begin.saturating_sub(BEFORE),
            expiration: begin.saturating_add(validity),
            renewal: begin.saturating_add(piece),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u32 = 1_795_500_000;

    #[test]
    fn half_the_validity_is_always_left() {
        for seed in 0..500_u64 {
            let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            for now in (NOW..NOW + 4_000_000).step_by(99_991) {
                let window = Window::at(now, VALIDITY_DEFAULT, seed);
                assert!(window.inception + BEFORE <= now && now < window.renewal);
                assert!(window.expiration - now > VALIDITY_DEFAULT / 2 - 1, "{window:?} at {now}");
                assert_eq!(
                    window,
                    Window::at(window.renewal - 1, VALIDITY_DEFAULT, seed),
                    "one window, one signature"
                );
                assert_eq!(
                    Window::at(window.renewal, VALIDITY_DEFAULT, seed).inception + BEFORE,
                    window.renewal
                );
            }
        }
    }

    #[test]
    fn renewals_are_spread() {
        let mut tenths = [0; 10];
        for seed in 0..1000_u64 {
            let window = Window::at(NOW, VALIDITY_DEFAULT, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            tenths[(window.renewal - NOW) as usize * 10 / (VALIDITY_DEFAULT as usize / 2 + 1)] += 1;
        }
        assert!(tenths.iter().all(|&tenth| tenth > 60), "{tenths:?}");
    }
}
