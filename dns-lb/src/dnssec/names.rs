//! The position of a nonexistent name in the order of the zone's names.

use crate::wire::{LABELS_MAX, NAME_MAX, Name};

/// Names in canonical order (RFC 4034 section 6.1), to be searched without allocating.
///
/// Each is kept as a key whose octets sort as the names do: labels from the root on, each with a zero behind it; the octets 0 and 1 within
/// a label, which hardly ever occur, become two.
#[derive(Clone, Debug, Default)]
pub struct NextNames {
    // What all keys begin with: the names of a zone have much in common.
    front: Box<[u8]>,
    // The rest of each.
    keys: Box<[u8]>,
    ends: Box<[u32]>,
}

/// What sorts as a name does.
#[derive(Clone, Debug)]
pub struct NameKey {
    key: [u8; KEY_MAX],
    length: usize,
}

/// Every octet of a name doubled.
const KEY_MAX: usize = 2 * NAME_MAX;

impl NextNames {
    /// Of `names`, which must be in canonical order.
    pub fn new<'n>(names: impl Iterator<Item = &'n Name>) -> Self {
        let whole: Vec<Vec<u8>> = names
            .map(|name| {
                let starts: Vec<u8> = name.label_offsets().map(|at| at as u8).collect();
                let mut key = [0; KEY_MAX];
                let length = write_key(name.wire(), &starts, &mut key);
                key[..length].to_vec()
            })
            .collect();
        // What the first and the last begin with, all between do.
        let ends = whole.first().zip(whole.last());
        let common =
            ends.map_or(0, |(first, last)| first.iter().zip(last).take_while(|(a, b)| a == b).count());
        let front = whole.first().and_then(|key| key.get(..common)).unwrap_or_default();
        let (mut keys, mut ends) = (Vec::new(), Vec::new());
        for key in &whole {
            keys.extend_from_slice(key.get(common..).unwrap_or_default());
            ends.push(keys.len() as u32);
        }
        Self { front: front.into(), keys: keys.into(), ends: ends.into() }
    }

    /// The key of the lower-case wire name `name`, whose labels start at `starts`.
    #[inline]
    pub fn key(name: &[u8], starts: &[u8]) -> NameKey {
        let mut key = [0; KEY_MAX];
        let length = write_key(name, starts, &mut key);
        NameKey { key, length }
    }

    /// Index of the last name that is not behind the one with this key; 0 if there is none.
    pub fn find(&self, key: &NameKey) -> u32 {
        let key = key.key.get(..key.length).unwrap_or_default();
        let (mut low, mut high) = (0, self.ends.len());
        let Some(key) = key.strip_prefix(&*self.front) else {
            // Before all of them, or behind.
            return if *key < *self.front { 0 } else { high.saturating_sub(1) as u32 };
        };
        // Invariant: names before `low` are not behind it, those from `high` on are.
        while low < high {
            let middle = low.midpoint(high);
            if self.at(middle) <= key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low.saturating_sub(1) as u32
    }

    fn at(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(index).copied().unwrap_or(0);
        self.keys.get(start as usize..end as usize).unwrap_or_default()
    }
}

fn write_key(name: &[u8], starts: &[u8], key: &mut [u8; KEY_MAX]) -> usize {
    let mut at = 0;
    let mut put = |octet: u8| {
        if let Some(place) = key.get_mut(at) {
            *place = octet;
            at += 1;
        }
    };
    for &start in starts.iter().rev().take(LABELS_MAX) {
        let length = name.get(start as usize).copied().unwrap_or(0) as usize;
        let from = start as usize + 1;
        for &octet in name.get(from..from + length).unwrap_or_default() {
            if octet <= 1 {
                put(1);
                put(octet + 1);
            } else {
                put(octet);
            }
        }
        put(0);
    }
    at
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn find(names: &NextNames, name: &Name) -> u32 {
        let starts: Vec<u8> = name.label_offsets().map(|at| at as u8).collect();
        names.find(&NextNames::key(name.wire(), &starts))
    }

    /// RFC 4034 section 6.1, with `\001`, `*` and `\200` as labels.
    #[test]
    fn keys_sort_as_the_standard_says() {
        let wires: [&[u8]; 9] = [
            b"\x07example\x00",
            b"\x01a\x07example\x00",
            b"\x08yljkjljk\x01a\x07example\x00",
            b"\x01z\x01a\x07example\x00",
            b"\x04zabc\x01a\x07example\x00",
            b"\x01z\x07example\x00",
            b"\x01\x01\x01z\x07example\x00",
            b"\x01*\x01z\x07example\x00",
            b"\x01\xc8\x01z\x07example\x00",
        ];
        let names: Vec<Name> = wires.iter().map(|wire| Name::from_wire(wire).unwrap()).collect();
        assert!(names.is_sorted());
        let chain = NextNames::new(names.iter());
        for (index, name) in names.iter().enumerate() {
            assert_eq!(find(&chain, name), index as u32, "{name}");
        }
    }

    #[test]
    fn an_absent_name_is_found_behind_the_last_before_it() {
        let names: Vec<Name> =
            ["t.", "b.t.", "x.b.t.", "d.t."].iter().map(|text| Name::parse(text).unwrap()).collect();
        let chain = NextNames::new(names.iter());
        for (text, index) in
            [("a.t.", 0), ("*.t.", 0), ("a.b.t.", 1), ("z.b.t.", 2), ("c.t.", 2), ("e.d.t.", 3), ("z.t.", 3)]
        {
            assert_eq!(find(&chain, &Name::parse(text).unwrap()), index, "{text}");
        }
        for (text, index) in [("a.", 0), ("u.", 3), ("x.a.", 0), (".", 0)] {
            assert_eq!(find(&chain, &Name::parse(text).unwrap()), index, "{text}, which is in no zone t.");
        }
        let odd = Name::from_wire(b"\x02b\x00\x01t\x00").unwrap();
        assert_eq!(find(&chain, &odd), 2, "b\\000.t. is behind b.t. and all below it");
    }
}
