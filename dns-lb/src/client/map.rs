//! Maps an address to its region with a few memory loads.
//!
//! Prefixes may lie within each other; the map holds the disjoint pieces that they cut the address space into. The length of the
//! piece that an address falls into is the scope that RFC 7871 section 7.2.1 asks for: it never overlaps a piece with another answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Prefix, Region};

/// Bits of the first level of the IPv4 table.
const FIRST: u32 = 16;
/// Pieces that are read one after the other: a line of the cache.
const FEW: usize = 8;

/// Where every address is.
#[derive(Debug, Default)]
pub struct ClientMap {
    // Starts and places together: what is found is read at once.
    v4: Box<[(u32, Located)]>,
    // For each value of the first 16 bits, the piece that holds the lowest address with them; one more at the end. Empty: there
    // is but one piece.
    first: Box<[u32]>,
    v6: Pieces,
    // As given: for those clients that tell less than the piece's length.
    prefixes: Box<[(Prefix, Region)]>,
}

/// Disjoint prefixes that cover everything, in order.
#[derive(Debug, Default)]
struct Pieces {
    starts: Box<[u128]>,
    places: Box<[Located]>,
}

/// Where an address is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Located {
    /// Perhaps none.
    pub region: Region,
    /// As many leading bits decide it: every address that shares them is in the same region.
    pub scope: u8,
}

impl ClientMap {
    /// A map of `prefixes`: in order, each once.
    pub fn new(prefixes: Vec<(Prefix, Region)>) -> Self {
        debug_assert!(prefixes.is_sorted_by(|(left, _), (right, _)| left < right), "in order, each once");
        let split = prefixes.partition_point(|(prefix, _)| prefix.address().is_ipv4());
        let (v4, v6) = prefixes.split_at(split);
        let (mut low, mut high) = (Vec::new(), Vec::new());
        cut(v4, 0, 0, Region::NONE, &mut low);
        cut(v6, 0, 0, Region::NONE, &mut high);
        let v4: Box<[(u32, Located)]> = low.iter().map(|&(key, place)| ((key >> 96) as u32, place)).collect();
        let v6 = Pieces {
            starts: high.iter().map(|&(key, _)| key).collect(),
            places: high.iter().map(|&(_, place)| place).collect(),
        };
        let first = if v4.len() > 1 {
            let holding = |address: u32| v4.partition_point(|&(start, _)| start <= address) - 1;
            let mut first: Vec<u32> = (0..1 << FIRST).map(|top: u32| holding(top << FIRST) as u32).collect();
            first.push(v4.len() as u32 - 1);
            first.into()
        } else {
            Box::default()
        };
        Self { v4, first, v6, prefixes: prefixes.into() }
    }

    /// Where the clients are whose addresses begin with the first `length` bits of `address`.
    ///
    /// A scope greater than `length` says that these clients are not all in one place; the region is then that of the longest
    /// prefix that holds all of them.
    #[inline]
    pub fn locate(&self, address: IpAddr, length: u8) -> Located {
        let located = match address {
            IpAddr::V4(v4) => self.locate_v4(v4),
            IpAddr::V6(v6) => self.locate_v6(v6),
        };
        if located.scope <= length {
            return located;
        }
        Located { region: self.holding(address, length), ..located }
    }

    #[inline]
    fn locate_v4(&self, address: Ipv4Addr) -> Located {
        let address = address.to_bits();
        let top = (address >> FIRST) as usize;
        let (Some(&from), Some(&to)) = (self.first.get(top), self.first.get(top + 1)) else {
            return self.v4.first().map(|&(_, place)| place).unwrap_or_default();
        };
        let pieces = self.v4.get(from as usize..=to as usize).unwrap_or_default();
        // The first of them begins at the address or before it. They are few: at most those of 16 bits, and mostly one or two.
        let mut found = pieces.first().map(|&(_, place)| place).unwrap_or_default();
        if pieces.len() <= FEW {
            for &(start, place) in pieces.iter().skip(1) {
                if start <= address {
                    found = place;
                }
            }
            return found;
        }
        let at = pieces.partition_point(|&(start, _)| start <= address);
        pieces.get(at.wrapping_sub(1)).map(|&(_, place)| place).unwrap_or_default()
    }

    #[inline]
    fn locate_v6(&self, address: Ipv6Addr) -> Located {
        let at = self.v6.starts.partition_point(|&start| start <= address.to_bits());
        self.v6.places.get(at.wrapping_sub(1)).copied().unwrap_or_default()
    }

    #[cold]
    fn holding(&self, address: IpAddr, length: u8) -> Region {
        let given = (0..=length).rev().find_map(|length| {
            let wanted = Prefix::of(address, length);
            let at = self.prefixes.binary_search_by_key(&wanted, |&(prefix, _)| prefix).ok()?;
            self.prefixes.get(at).map(|&(_, region)| region)
        });
        given.unwrap_or(Region::NONE)
    }
}

fn key(prefix: Prefix) -> u128 {
    match prefix.address() {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// Cuts the space that begins with the first `length` bits of `start` along `prefixes`, all of which lie in it. Halves that turn out
/// alike are one again.
fn cut(
    prefixes: &[(Prefix, Region)],
    start: u128,
    length: u8,
    around: Region,
    pieces: &mut Vec<(u128, Located)>,
) {
    let (region, within) = match prefixes.split_first() {
        Some(((prefix, region), within)) if prefix.length() == length => (*region, within),
        _ => (around, prefixes),
    };
    if within.is_empty() {
        pieces.push((start, Located { region, scope: length }));
        return;
    }
    let middle = start | 1 << (127 - length);
    let (left, right) = within.split_at(within.partition_point(|&(prefix, _)| key(prefix) < middle));
    let before = pieces.len();
    cut(left, start, length + 1, region, pieces);
    cut(right, middle, length + 1, region, pieces);
    if let [(_, left), (_, right)] = pieces.get_mut(before..).unwrap_or_default()
        && left.region == right.region
    {
        left.scope = length;
        pieces.truncate(before + 1);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::zone::step;

    fn map(prefixes: &[(&str, u16)]) -> ClientMap {
        let mut prefixes: Vec<_> =
            prefixes.iter().map(|&(text, region)| (text.parse().unwrap(), Region(region))).collect();
        prefixes.sort_unstable();
        ClientMap::new(prefixes)
    }

    #[track_caller]
    fn check(map: &ClientMap, client: &str, region: u16, scope: u8) {
        let prefix: Prefix = client.parse().unwrap();
        assert_eq!(
            map.locate(prefix.address(), prefix.length()),
            Located { region: Region(region), scope },
            "{client}"
        );
    }

    #[test]
    fn the_scope_covers_no_client_of_another_region() {
        let map = map(&[("10.0.0.0/8", 1), ("10.1.0.0/16", 2), ("192.0.2.64/26", 3), ("2001:db8::/32", 4)]);
        check(&map, "10.1.2.0/24", 2, 16);
        // Beside 10.1.0.0/16, so not /8, though that is what matched.
        check(&map, "10.0.2.0/24", 1, 16);
        check(&map, "10.2.0.0/24", 1, 15);
        check(&map, "10.128.0.0/24", 1, 9);
        check(&map, "192.0.2.65/32", 3, 26);
        check(&map, "192.0.2.1/32", 0, 26);
        check(&map, "203.0.113.0/24", 0, 5);
        check(&map, "2001:db8:1::/48", 4, 32);
        check(&map, "2001:db9::/48", 0, 32);
        check(&map, "::1/128", 0, 3);
    }

    #[test]
    fn a_client_that_tells_too_little_is_placed_by_what_it_tells() {
        let map = map(&[("10.0.0.0/8", 1), ("10.1.0.0/16", 2), ("10.1.128.0/24", 3)]);
        check(&map, "10.1.0.0/16", 2, 17);
        check(&map, "10.0.0.0/8", 1, 16);
        check(&map, "10.0.0.0/7", 0, 16);
        check(&map, "0.0.0.0/0", 0, 5);
    }

    #[test]
    fn without_prefixes_nothing_decides() {
        for map in [map(&[]), ClientMap::default()] {
            check(&map, "10.0.0.0/8", 0, 0);
            check(&map, "::1/128", 0, 0);
        }
        // Halves of one region are one.
        let map = map(&[("0.0.0.0/1", 1), ("128.0.0.0/1", 1)]);
        check(&map, "10.0.0.0/24", 1, 0);
    }

    #[test]
    fn every_address_is_where_the_longest_prefix_says() {
        const SEED: u64 = 2026;
        let mut random = SEED;
        let mut next = || {
            random = step(random);
            random
        };
        for _ in 0..20 {
            let mut prefixes: Vec<(Prefix, Region)> = (0..200)
                .map(|_| {
                    let (bits, region) = (next(), Region((next() % 4) as u16));
                    // Few bits, so that many lie within each other.
                    let prefix = if bits & 1 == 0 {
                        Prefix::of(IpAddr::V4((bits as u32 & 0xe00f_f0ff).into()), (bits >> 40) as u8 % 33)
                    } else {
                        let high = (bits & 0xe000_0000_0000_f0ff) as u128;
                        Prefix::of(IpAddr::V6((high << 64).into()), (bits >> 40) as u8 % 129)
                    };
                    (prefix, region)
                })
                .collect();
            prefixes.sort_unstable();
            prefixes.dedup_by_key(|(prefix, _)| *prefix);
            let map = ClientMap::new(prefixes.clone());
            let truth = |address: IpAddr| {
                let holding = prefixes.iter().filter(|(prefix, _)| prefix.contains(address));
                holding.max_by_key(|(prefix, _)| prefix.length()).map_or(Region::NONE, |&(_, region)| region)
            };
            for _ in 0..500 {
                let bits = next();
                let address: IpAddr = if bits & 1 == 0 {
                    IpAddr::V4((bits as u32 & 0xe00f_f0ff).into())
                } else {
                    IpAddr::V6((u128::from(bits & 0xe000_0000_0000_f0ff) << 64).into())
                };
                let located = map.locate(address, 128);
                assert_eq!(located.region, truth(address), "{address}, seed {SEED}");
                // Whoever shares the scope shares the region.
                let piece = Prefix::of(address, located.scope);
                let inner = prefixes.iter().filter(|(prefix, _)| piece.contains(prefix.address()));
                assert!(inner.into_iter().all(|(prefix, _)| truth(prefix.address()) == located.region));
            }
        }
    }
}
