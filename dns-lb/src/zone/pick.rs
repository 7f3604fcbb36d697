//! Picking one of many by weight in constant time (the alias method; Walker 1977, Vose 1991).

/// Picks an index with the probability that its weight is of the sum of all weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AliasTable(Box<[Column]>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Column {
    // Of 2^32: below it the column itself is picked, else its alias.
    threshold: u64,
    alias: u32,
}

const FULL: u64 = 1 << 32;

impl AliasTable {
    /// A table for `weights`; none if they are all 0 or there are none. The arithmetic is whole numbers, so that every server
    /// builds the same table.
    pub fn new(weights: &[u32]) -> Option<Self> {
        let sum: u128 = weights.iter().map(|&weight| u128::from(weight)).sum();
        if sum == 0 {
            return None;
        }
        let count = weights.len() as u128;
        // In units of 1/(count * sum), a full column is `sum`.
        let mut left: Vec<u128> = weights.iter().map(|&weight| u128::from(weight) * count).collect();
        let mut columns: Vec<Column> =
            (0..weights.len() as u32).map(|alias| Column { threshold: FULL, alias }).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..weights.len()).partition(|&index| left[index] < sum);
        while let (Some(&low), Some(&high)) = (small.last(), large.last()) {
            small.pop();
            let threshold = (left[low] * u128::from(FULL) / sum) as u64;
            columns[low] = Column { threshold, alias: high as u32 };
            left[high] -= sum - left[low];
            if left[high] < sum {
                large.pop();
                small.push(high);
            }
        }
        Some(Self(columns.into()))
    }

    /// The index that `dice`, 64 evenly distributed bits, falls on.
    #[inline]
    pub fn pick(&self, dice: u64) -> usize {
        let index = scale(dice, self.0.len());
        match self.0.get(index) {
            Some(column) if dice >> 32 >= column.threshold => column.alias as usize,
            _ => index,
        }
    }
}

/// A number below `count` from the low half of `dice`.
#[inline]
pub fn scale(dice: u64, count: usize) -> usize {
    (((dice & 0xffff_ffff) * count as u64) >> 32) as usize
}

/// The dice of the next step of one answer, so that the picks along a chain of aliases are independent (SplitMix64).
#[inline]
pub fn step(dice: u64) -> u64 {
    let mut z = dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(weights: &[u32]) {
        const ROUNDS: u32 = 200_000;
        let table = AliasTable::new(weights).unwrap();
        let mut seen = vec![0_u32; weights.len()];
        let mut dice = 42;
        for _ in 0..ROUNDS {
            dice = step(dice);
            seen[table.pick(dice)] += 1;
        }
        let sum: f64 = weights.iter().map(|&w| f64::from(w)).sum();
        for (&weight, &count) in weights.iter().zip(&seen) {
            let expected = f64::from(weight) / sum;
            let got = f64::from(count) / f64::from(ROUNDS);
            assert!((got - expected).abs() < 0.006, "{weights:?}: {got} for {expected}");
            assert!(weight > 0 || count == 0, "weight 0 was picked");
        }
    }

    #[test]
    fn picks_follow_the_weights() {
        check(&[1]);
        check(&[3, 1]);
        check(&[0, 1, 0]);
        check(&[1, 2, 3, 4, 90]);
        check(&[u32::MAX, u32::MAX, 1]);
        check(&[7; 100]);
    }

    #[test]
    fn nothing_can_be_picked_where_all_weights_are_zero() {
        assert_eq!(AliasTable::new(&[]), None);
        assert_eq!(AliasTable::new(&[0, 0]), None);
    }
}
