//! Picking of many: by weight in constant time (the alias method; Walker 1977, Vose 1991), or by client (weighted rendezvous hashing;
//! Thaler and Ravishankar 1998).

use std::sync::Arc;

use super::RECORDS_MAX;

/// Picks an index with the probability that its weight is of the sum of all weights.
/// Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AliasTable(Arc<[Column]>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Column {
    // Of 2^32: below it the column itself is picked, else its alias, which for a full column is itself.
    threshold: u32,
    alias: u32,
}

const FULL: u128 = 1 << 32;

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
            (0..weights.len() as u32).map(|alias| Column { threshold: u32::MAX, alias }).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..weights.len()).partition(|&index| left[index] < sum);
        while let (Some(&low), Some(&high)) = (small.last(), large.last()) {
            small.pop();
            let threshold = (left[low] * FULL / sum) as u32;
            columns[low] = Column { threshold, alias: high as u32 };
            left[high] -= sum - left[low];
            if left[high] < sum {
                large.pop();
                small.push(high);
            }
        }
        Some(Self(columns.into()))
    }

    /// The index that `random`, 64 evenly distributed bits, falls on.
    #[inline]
    pub fn pick(&self, random: u64) -> usize {
        let index = scale(random, self.0.len());
        match self.0.get(index) {
            Some(column) if (random >> 32) as u32 >= column.threshold => column.alias as usize,
            _ => index,
        }
    }
}

/// A number below `count` from the low half of `random`.
#[inline]
pub fn scale(random: u64, count: usize) -> usize {
    (((random & 0xffff_ffff) * count as u64) >> 32) as usize
}

/// Random bits for the next step of one answer, so that the picks along a chain of aliases are independent (SplitMix64).
#[inline]
pub fn step(random: u64) -> u64 {
    let mut z = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// Which of at most [`RECORDS_MAX`] were drawn.
#[derive(Debug, Default)]
pub struct Drawn([u64; RECORDS_MAX / 64]);

impl Drawn {
    /// Whether `index` was not drawn before; now it is.
    #[inline]
    fn first(&mut self, index: usize) -> bool {
        let Some(word) = self.0.get_mut(index / 64) else { return false };
        let bit = 1 << (index % 64);
        let first = *word & bit == 0;
        *word |= bit;
        first
    }
}

/// Draws that may hit what was drawn already, before the rest is taken in order: with weights so uneven that this many miss, what is
/// left has next to no weight.
const MISSES_MAX: usize = 64;

/// Draws `picks` distinct ones of the `count` that `table` is of, and calls `take` with each.
///
/// # Errors
/// The first of `take`, with which it ends.
#[inline]
pub fn draw<E>(
    table: &AliasTable,
    count: usize,
    picks: usize,
    random: u64,
    mut take: impl FnMut(usize) -> Result<(), E>,
) -> Result<(), E> {
    if picks == 1 {
        return take(table.pick(random));
    }
    if picks >= count {
        let first = scale(random, count);
        return (first..count).chain(0..first).try_for_each(take);
    }
    let (mut random, mut left, mut drawn) = (random, picks, Drawn::default());
    // A draw that hits what is drawn already is no draw: the next one is in proportion to the weights that are left.
    for _ in 0..picks + MISSES_MAX {
        if left == 0 {
            return Ok(());
        }
        let index = table.pick(random);
        random = step(random);
        if drawn.first(index) {
            take(index)?;
            left -= 1;
        }
    }
    for index in 0..count {
        if left == 0 {
            break;
        }
        if drawn.first(index) {
            take(index)?;
            left -= 1;
        }
    }
    Ok(())
}

/// What one choice brings to a rendezvous.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// See [`seed`].
    pub seed: u64,
    /// Never 0.
    pub weight: u32,
}

/// The hash of the choice `identity` in the set called `name`: alike on every server.
pub fn seed(name: &[u8], identity: &[u8]) -> u64 {
    // FNV-1a over the two, set apart by an octet that no name has at this place; the rounds of SplitMix64 even it out.
    let octets = name.iter().chain(&[0xff]).chain(identity);
    step(octets.fold(0xcbf2_9ce4_8422_2325, |hash: u64, &octet| {
        (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3)
    }))
}

/// Whose ticket wins for `client`: the greatest weight / -ln(u), u being the even hash of ticket and client.
#[inline]
pub fn sticky(tickets: &[Ticket], client: u64) -> Option<usize> {
    let mut best: Option<(usize, u64, u32)> = None;
    for (index, ticket) in tickets.iter().enumerate() {
        let exponent = minus_log2(step(ticket.seed ^ client));
        let wins = best.is_none_or(|(_, least, weight)| {
            u128::from(exponent) * u128::from(weight) < u128::from(least) * u128::from(ticket.weight)
        });
        if wins {
            best = Some((index, exponent, ticket.weight));
        }
    }
    best.map(|(index, ..)| index)
}

/// -log2(hash / 2^64) in units of 2^-32. Whole numbers, so that every server comes to the same.
#[inline]
fn minus_log2(hash: u64) -> u64 {
    let hash = hash | 1;
    let zeros = hash.leading_zeros();
    // The mantissa beyond its leading one; log2 between two points of the table is a straight line within 2^-18.
    let mantissa = hash << zeros << 1;
    let (at, rest) = ((mantissa >> 56) as usize, mantissa >> 24 & 0xffff_ffff);
    let (low, high) = (LOG2[at & 0xff], LOG2[(at & 0xff) + 1]);
    let log2 = low + (((high - low) * rest) >> 32);
    ((u64::from(zeros) + 1) << 32) - log2
}

/// log2(1 + n/256) in units of 2^-32.
static LOG2: [u64; 257] = log2_table();

const fn log2_table() -> [u64; 257] {
    let mut table = [0; 257];
    let mut n = 0;
    while n <= 256 {
        // Bit by bit: squaring doubles the logarithm. The value is between 1 and 2 in units of 2^-62.
        let mut value: u128 = (256 + n as u128) << 54;
        let mut bits = 0;
        let mut log = 0_u64;
        if n == 256 {
            log = 1 << 32;
            bits = 32;
        }
        while bits < 32 {
            value = (value * value) >> 62;
            log <<= 1;
            if value >= 1 << 63 {
                value >>= 1;
                log |= 1;
            }
            bits += 1;
        }
        table[n] = log;
        n += 1;
    }
    table
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
        let mut random = 42;
        for _ in 0..ROUNDS {
            random = step(random);
            seen[table.pick(random)] += 1;
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
    fn several_picks_are_distinct_and_follow_the_weights_that_are_left() {
        const ROUNDS: u32 = 100_000;
        let table = AliasTable::new(&[2, 1, 1]).unwrap();
        let (mut random, mut orders) = (42, std::collections::BTreeMap::<Vec<usize>, u32>::new());
        for _ in 0..ROUNDS {
            random = step(random);
            let mut drawn = Vec::new();
            draw(&table, 3, 2, random, |index| {
                drawn.push(index);
                Ok::<(), ()>(())
            })
            .unwrap();
            *orders.entry(drawn).or_default() += 1;
        }
        for (order, expected) in
            [([0, 1], 0.25), ([0, 2], 0.25), ([1, 0], 1.0 / 6.0), ([1, 2], 1.0 / 12.0), ([2, 1], 1.0 / 12.0)]
        {
            let got = f64::from(orders[order.as_slice()]) / f64::from(ROUNDS);
            assert!((got - expected).abs() < 0.006, "{order:?}: {got} for {expected}");
        }
        // Weights so uneven that the second is hardly ever drawn.
        let table = AliasTable::new(&[u32::MAX, 1, 1]).unwrap();
        let mut drawn = Vec::new();
        let taken = draw(&table, 3, 2, 7, |index| {
            drawn.push(index);
            Ok::<(), ()>(())
        });
        assert_eq!((taken, drawn.len()), (Ok(()), 2));
    }

    fn tickets(choices: &[(&str, u32)]) -> Vec<Ticket> {
        choices
            .iter()
            .map(|(name, weight)| Ticket { seed: seed(b"web", name.as_bytes()), weight: *weight })
            .collect()
    }

    #[test]
    fn sticky_shares_follow_the_weights() {
        const CLIENTS: u64 = 200_000;
        let tickets = tickets(&[("taiwan", 1), ("tokyo", 2), ("osaka", 5)]);
        let mut counts = [0_u32; 3];
        for client in 0..CLIENTS {
            counts[sticky(&tickets, step(client)).unwrap()] += 1;
        }
        for (count, weight) in counts.into_iter().zip([1.0, 2.0, 5.0]) {
            let share = f64::from(count) / CLIENTS as f64;
            assert!((share - weight / 8.0).abs() < 0.005, "{counts:?}");
        }
    }

    #[test]
    fn a_choice_that_goes_moves_only_its_own_clients() {
        let (all, less) = (tickets(&[("a", 3), ("b", 2), ("c", 2)]), tickets(&[("a", 3), ("c", 2)]));
        for client in 0..10_000 {
            let client = step(client);
            match sticky(&all, client).unwrap() {
                0 => assert_eq!(sticky(&less, client), Some(0)),
                2 => assert_eq!(sticky(&less, client), Some(1)),
                _ => {}
            }
        }
        assert_eq!(sticky(&[], 1), None);
    }

    #[test]
    fn logarithms_are_right() {
        for hash in [1, 2, 3, 1 << 40, u64::MAX / 3, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
            let got = minus_log2(hash) as f64 / 4_294_967_296.0;
            let expected = 64.0 - ((hash | 1) as f64).log2();
            assert!((got - expected).abs() < 1e-5, "{hash}: {got} for {expected}");
        }
    }

    #[test]
    fn nothing_can_be_picked_where_all_weights_are_zero() {
        assert_eq!(AliasTable::new(&[]), None);
        assert_eq!(AliasTable::new(&[0, 0]), None);
    }
}
