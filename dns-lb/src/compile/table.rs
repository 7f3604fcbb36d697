//! From a name in wire form to a node: open addressing over suffix hashes.

use crate::wire::{Name, SuffixHash};

/// Index of a node in [`super::Snapshot::nodes`].
pub(super) type NodeIndex = u32;

/// Every name of every zone, empty non-terminals included.
#[derive(Debug)]
pub struct Table {
    // A power of two, at most half full, so that an absent name is met by a free slot after one or two looks.
    slots: Box<[Slot]>,
    names: Box<[u8]>,
    // Labels of the longest name: what has more cannot be here.
    depth: usize,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    hash: SuffixHash,
    node: NodeIndex,
    name: u32,
    // 0: free. A name has at least its root's octet.
    length: u16,
}

const FREE: Slot = Slot { hash: SuffixHash::ROOT, node: 0, name: 0, length: 0 };

/// Where a name was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The name itself.
    Exact(NodeIndex),
    /// Not the name, but this closest ancestor (RFC 4592: the closest encloser).
    Below(NodeIndex),
    /// In no zone.
    Outside,
}

impl Table {
    /// A table of `names`; the index in the slice is the node.
    pub fn new(names: &[&Name]) -> Self {
        let size = (names.len() * 2).next_power_of_two().max(2);
        let mut table = Self { slots: vec![FREE; size].into(), names: Box::default(), depth: 0 };
        let mut bytes = Vec::new();
        for (node, name) in names.iter().enumerate() {
            let hash = SuffixHash::of(name);
            let slot = Slot {
                hash,
                node: node as NodeIndex,
                name: bytes.len() as u32,
                length: name.wire().len() as u16,
            };
            bytes.extend_from_slice(name.wire());
            table.depth = table.depth.max(name.label_count());
            let mut at = hash.index() as usize & (size - 1);
            while table.slots[at].length != 0 {
                at = (at + 1) & (size - 1);
            }
            table.slots[at] = slot;
        }
        table.names = bytes.into();
        table
    }

    /// Looks for the lower-case wire name `name`, whose labels start at `starts`, and for its ancestors if it is not here.
    #[inline]
    pub fn find(&self, name: &[u8], starts: &[u8]) -> Lookup {
        // Hashes of the suffixes, from the root leftwards; deeper ones than the deepest name need not be looked for.
        let mut hashes = [SuffixHash::ROOT; crate::wire::LABELS_MAX + 1];
        let reach = starts.len().min(self.depth);
        let mut hash = SuffixHash::ROOT;
        let mut end = name.len().saturating_sub(1);
        for (index, &start) in starts.iter().rev().take(reach).enumerate() {
            hash = hash.prepend(name.get(start as usize..end).unwrap_or_default());
            end = start as usize;
            if let Some(place) = hashes.get_mut(index + 1) {
                *place = hash;
            }
        }
        for labels in (0..=reach).rev() {
            let start = match labels {
                0 => name.len().saturating_sub(1),
                _ => starts.get(starts.len() - labels).map_or(0, |&start| start as usize),
            };
            let suffix = name.get(start..).unwrap_or_default();
            if let Some(node) = hashes.get(labels).and_then(|&hash| self.get(hash, suffix)) {
                return if labels == starts.len() { Lookup::Exact(node) } else { Lookup::Below(node) };
            }
        }
        Lookup::Outside
    }

    #[inline]
    fn get(&self, hash: SuffixHash, name: &[u8]) -> Option<NodeIndex> {
        let mask = self.slots.len() - 1;
        let mut at = hash.index() as usize & mask;
        loop {
            let slot = self.slots.get(at)?;
            if slot.length == 0 {
                return None;
            }
            if slot.hash == hash {
                let from = slot.name as usize;
                if self.names.get(from..from + slot.length as usize) == Some(name) {
                    return Some(slot.node);
                }
            }
            at = (at + 1) & mask;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn find(table: &Table, text: &str) -> Lookup {
        let name = Name::parse(text).unwrap();
        let starts: Vec<u8> = name.label_offsets().map(|at| at as u8).collect();
        table.find(name.wire(), &starts)
    }

    #[test]
    fn names_are_found_or_else_their_closest_ancestor() {
        let names: Vec<Name> = ["fed.test.", "a.fed.test.", "x.y.a.fed.test.", "other."]
            .iter()
            .map(|text| Name::parse(text).unwrap())
            .collect();
        let table = Table::new(&names.iter().collect::<Vec<_>>());
        assert_eq!(find(&table, "fed.test."), Lookup::Exact(0));
        assert_eq!(find(&table, "x.y.a.fed.test."), Lookup::Exact(2));
        assert_eq!(find(&table, "q.x.y.a.fed.test."), Lookup::Below(2));
        assert_eq!(find(&table, "y.a.fed.test."), Lookup::Below(1));
        assert_eq!(find(&table, &format!("{}fed.test.", "z.".repeat(100))), Lookup::Below(0));
        assert_eq!(find(&table, "test."), Lookup::Outside);
        assert_eq!(find(&table, "."), Lookup::Outside);
        assert_eq!(find(&Table::new(&[]), "a."), Lookup::Outside);
    }
}
