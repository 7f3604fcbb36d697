//! Answers of several choices in a signed zone: each combination is a record set of its own, with a signature of its own.

use super::RecordsRef;
use crate::zone::{AliasTable, Unit};

/// Combinations that one set may have; each costs a signature. A set with more answers with fewer choices.
const COMBINATIONS_MAX: usize = 256;
/// Choices that an answer by combination may have: probabilities take 2^n steps.
const CHOICES_MAX: usize = 10;

/// The combinations of a set, drawn by the probability with which choices one after the other come to them.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Picks {
    /// Index by weight.
    pub table: AliasTable,
    /// In the order of the table.
    pub combinations: Box<[Combination]>,
}

/// Choices that are answered together.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Combination {
    /// Indices among the set's choices.
    pub choices: Box<[u16]>,
    /// Of all their records.
    pub signature: RecordsRef,
}

impl Picks {
    /// Of `picks` out of `units`; `sign` makes the signature of some of them.
    pub(super) fn new(
        units: &[Unit],
        picks: usize,
        mut sign: impl FnMut(&[&Unit]) -> RecordsRef,
    ) -> Option<Self> {
        if picks >= units.len() {
            // All of them: one combination, however many they are.
            let (all, choices) = (units.iter().collect::<Vec<_>>(), (0..units.len() as u16).collect());
            let combinations = [Combination { choices, signature: sign(&all) }].into();
            return Some(Self { table: AliasTable::new(&[1])?, combinations });
        }
        let mut picks = picks.min(CHOICES_MAX);
        while picks > 1 && count(units.len(), picks) > COMBINATIONS_MAX {
            picks -= 1;
        }
        let mut combinations = Vec::new();
        let mut weights = Vec::new();
        let whole: f64 = units.iter().map(|unit| f64::from(unit.weight)).sum();
        for choices in subsets(units.len(), picks) {
            let chosen: Vec<&Unit> = choices.iter().filter_map(|&at| units.get(at as usize)).collect();
            let of_each: Vec<f64> = chosen.iter().map(|unit| f64::from(unit.weight)).collect();
            // 2^30 parts: what is rarer than one is left out, as it would be with a die of 32 bits. All servers calculate alike (IEEE 754).
            weights.push((probability(&of_each, whole) * f64::from(1 << 30)) as u32);
            combinations.push(Combination { signature: sign(&chosen), choices: choices.into() });
        }
        Some(Self { table: AliasTable::new(&weights)?, combinations: combinations.into() })
    }

    /// The combination that `random` falls on.
    #[inline]
    pub fn pick(&self, random: u64) -> Option<&Combination> {
        self.combinations.get(self.table.pick(random))
    }
}

/// How many ways there are to take `k` of `n`; no further than is of interest.
fn count(n: usize, k: usize) -> usize {
    (0..k).fold(1, |count: usize, taken| count.saturating_mul(n - taken) / (taken + 1))
}

fn subsets(n: usize, k: usize) -> Vec<Vec<u16>> {
    let mut subsets = Vec::new();
    let mut chosen: Vec<u16> = (0..k as u16).collect();
    loop {
        subsets.push(chosen.clone());
        // The last one that can still go up, and everything behind it right after it.
        let Some(at) = (0..k).rfind(|&at| (chosen[at] as usize) < n - k + at) else { return subsets };
        chosen[at] += 1;
        for behind in at + 1..k {
            chosen[behind] = chosen[behind - 1] + 1;
        }
    }
}

/// That all of these weights, out of a `whole`, are drawn, one after the other without putting back, in any order.
fn probability(weights: &[f64], whole: f64) -> f64 {
    let sets = 1_usize << weights.len();
    let mut reached = vec![0.0; sets];
    reached[0] = 1.0;
    for set in 0..sets {
        let inside = |at: &usize| set >> at & 1 == 1;
        let left = whole - (0..weights.len()).filter(inside).map(|at| weights[at]).sum::<f64>();
        for (at, weight) in weights.iter().enumerate() {
            if set >> at & 1 == 0 {
                reached[set | 1 << at] += reached[set] * weight / left;
            }
        }
    }
    reached[sets - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combinations_are_as_likely_as_one_draw_after_the_other_makes_them() {
        // Of 3, 2 and 1, two: 3 then 2 or 2 then 3, and so on.
        let pair = |a: f64, b: f64| a / 6.0 * b / (6.0 - a) + b / 6.0 * a / (6.0 - b);
        for (a, b) in [(3.0, 2.0), (3.0, 1.0), (2.0, 1.0)] {
            assert!((probability(&[a, b], 6.0) - pair(a, b)).abs() < 1e-12);
        }
        assert!((probability(&[1.0; 4], 4.0) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn all_of_many_are_one_combination() {
        let unit = |weight| Unit { data: Vec::new(), weight, cluster: None, seed: 0 };
        let units: Vec<Unit> = (1..=40).map(unit).collect();
        let chosen = |picks| {
            let picks = Picks::new(&units, picks, |_| RecordsRef::NONE).expect("weights");
            picks.pick(7).map(|combination| (picks.combinations.len(), combination.choices.len()))
        };
        assert_eq!((chosen(40), chosen(1000)), (Some((1, 40)), Some((1, 40))));
        assert_eq!(chosen(39), Some((40, 1)), "of which there would be too many");
    }

    #[test]
    fn every_combination_is_there_once() {
        assert_eq!(subsets(4, 2), [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]);
        assert_eq!(subsets(3, 3), [[0, 1, 2]]);
        assert_eq!((count(8, 4), count(20, 2), count(9, 1)), (70, 190, 9));
    }
}
