//! From a name in wire form to a node: open addressing over suffix hashes, in pieces that snapshots share.

use std::sync::Arc;

use super::Node;
use crate::wire::{LABELS_MAX, Name, SuffixHash};

/// Names in a piece, on average, when a table is made. A change copies the pieces of the names that it touches, and the list of pieces.
const PIECE: usize = 16;
/// Names in a piece, on average, beyond which the table is made anew with more pieces.
const CROWDED: usize = 8 * PIECE;
/// More labels than names have that somebody has thought of.
const FEW: usize = 12;
/// Slots are found by the low half of a hash's index, pieces by the high half.
const PIECES_MAX: usize = 1 << 16;

/// Every name of every zone, empty non-terminals included. Cheap to clone, and to change by one name.
#[derive(Clone, Debug)]
pub struct Table {
    // A power of two.
    pieces: Box<[Arc<[Slot]>]>,
    names: usize,
    // Labels of the longest name that ever was here: what has more cannot be.
    depth: usize,
}

#[derive(Clone, Debug)]
struct Slot {
    hash: SuffixHash,
    // None: free.
    node: Option<Arc<Node>>,
}

const FREE: Slot = Slot { hash: SuffixHash::ROOT, node: None };

/// Where a name was found.
#[derive(Clone, Copy, Debug)]
pub enum Lookup<'t> {
    /// The name itself.
    Exact(&'t Node),
    /// Not the name, but this closest ancestor (RFC 4592: the closest encloser).
    Below(&'t Node),
    /// In no zone.
    Outside,
}

impl Default for Table {
    fn default() -> Self {
        Self::with_room_for(0)
    }
}

impl Table {
    fn with_room_for(names: usize) -> Self {
        let pieces = (names / PIECE).next_power_of_two().min(PIECES_MAX);
        let empty: Arc<[Slot]> = Arc::new([FREE]);
        Self { pieces: vec![empty; pieces].into(), names: 0, depth: 0 }
    }

    /// The table with these nodes in place of those of the same names, or without those names.
    #[must_use]
    pub(super) fn with<'c>(
        &self,
        changes: impl ExactSizeIterator<Item = (&'c Name, Option<&'c Arc<Node>>)>,
    ) -> Self {
        let mut table = self.clone();
        table.make_room(self.names + changes.len());
        for (name, node) in changes {
            match node {
                Some(node) => table.insert(node.clone()),
                None => table.remove(name),
            }
        }
        table
    }

    fn make_room(&mut self, names: usize) {
        if names > self.pieces.len() * CROWDED && self.pieces.len() < PIECES_MAX {
            let old = std::mem::replace(self, Self::with_room_for(names));
            self.depth = old.depth;
            for node in old.pieces.iter().flat_map(|piece| piece.iter()).filter_map(|slot| slot.node.clone())
            {
                self.insert(node);
            }
        }
    }

    fn insert(&mut self, node: Arc<Node>) {
        self.depth = self.depth.max(node.name.label_count());
        let hash = node.hash;
        let Some(piece) = self.pieces.get_mut(piece(hash, self.pieces.len())) else { return };
        if let Some(at) = place(piece, hash, |known| known.name == node.name)
            && piece.get(at).is_some_and(|slot| slot.node.is_some())
        {
            if let Some(slot) = Arc::make_mut(piece).get_mut(at) {
                slot.node = Some(node);
            }
            return;
        }
        self.names += 1;
        let nodes: Vec<Arc<Node>> = piece.iter().filter_map(|slot| slot.node.clone()).chain([node]).collect();
        *piece = filled(&nodes);
    }

    fn remove(&mut self, name: &Name) {
        let hash = SuffixHash::of(name);
        let Some(piece) = self.pieces.get_mut(piece(hash, self.pieces.len())) else { return };
        let nodes: Vec<Arc<Node>> =
            piece.iter().filter_map(|slot| slot.node.clone()).filter(|node| node.name != *name).collect();
        if nodes.len() < piece.iter().filter(|slot| slot.node.is_some()).count() {
            self.names -= 1;
            *piece = filled(&nodes);
        }
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.names
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.names == 0
    }

    /// Looks for the lower-case wire name `name`, whose labels start at `starts`, and for its ancestors if it is not here.
    #[inline]
    pub fn find(&self, name: &[u8], starts: &[u8]) -> Lookup<'_> {
        // Deeper names than the deepest need not be looked for.
        let reach = starts.len().min(self.depth);
        // To clear a place for as many labels as there may be takes longer than all the rest.
        if reach < FEW {
            self.find_with(&mut [SuffixHash::ROOT; FEW], reach, name, starts)
        } else {
            self.find_with(&mut [SuffixHash::ROOT; LABELS_MAX + 1], reach, name, starts)
        }
    }

    /// Looks for the name from its `reach` last labels on; `hashes` has a place for each of them, and one more.
    #[inline]
    fn find_with(&self, hashes: &mut [SuffixHash], reach: usize, name: &[u8], starts: &[u8]) -> Lookup<'_> {
        // Hashes of the suffixes, from the root leftwards.
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
            let found =
                hashes.get(labels).and_then(|&hash| self.get(hash, |node| node.name.wire() == suffix));
            if let Some(node) = found {
                return if labels == starts.len() { Lookup::Exact(node) } else { Lookup::Below(node) };
            }
        }
        Lookup::Outside
    }

    /// The node called `name`.
    pub(super) fn node(&self, name: &Name) -> Option<&Arc<Node>> {
        self.get(SuffixHash::of(name), |node| node.name == *name)
    }

    /// The wildcard right below `encloser`, if there is one.
    #[inline]
    pub fn wildcard(&self, encloser: &Node) -> Option<&Node> {
        if !encloser.wildcard {
            return None;
        }
        let is_it = |node: &Node| node.name.wire().strip_prefix(b"\x01*") == Some(encloser.name.wire());
        self.get(encloser.hash.prepend(b"\x01*"), is_it).map(|node| &**node)
    }

    /// The zone cut that `node` is at or below, if it is.
    #[inline]
    pub fn cut(&self, node: &Node) -> Option<&Node> {
        let octets = node.cut as usize;
        let wire = node.name.wire();
        let suffix = wire.get(wire.len().checked_sub(octets)?..).filter(|_| octets > 0)?;
        let mut starts = [0; LABELS_MAX];
        let mut count = 0;
        let from = wire.len() - octets;
        for (place, at) in starts.iter_mut().zip(node.name.label_offsets().filter(|&at| at >= from)) {
            *place = (at - from) as u8;
            count += 1;
        }
        match self.find(suffix, starts.get(..count)?) {
            Lookup::Exact(cut) => Some(cut),
            _ => None,
        }
    }

    #[inline]
    fn get(&self, hash: SuffixHash, is_it: impl Fn(&Node) -> bool) -> Option<&Arc<Node>> {
        let piece = self.pieces.get(piece(hash, self.pieces.len()))?;
        piece.get(place(piece, hash, is_it)?)?.node.as_ref()
    }
}

#[inline]
fn piece(hash: SuffixHash, pieces: usize) -> usize {
    (hash.index() >> 16) as usize & (pieces - 1)
}

/// Where a node with this hash is, or would go.
#[inline]
fn place(piece: &[Slot], hash: SuffixHash, is_it: impl Fn(&Node) -> bool) -> Option<usize> {
    let mask = piece.len() - 1;
    let mut at = hash.index() as usize & mask;
    // At least one slot is free, or the piece has one.
    for _ in 0..piece.len() {
        let slot = piece.get(at)?;
        match &slot.node {
            None => return Some(at),
            Some(node) if slot.hash == hash && is_it(node) => return Some(at),
            Some(_) => at = (at + 1) & mask,
        }
    }
    None
}

/// At most half full, so that an absent name is met by a free slot after one or two looks.
fn filled(nodes: &[Arc<Node>]) -> Arc<[Slot]> {
    let mut slots = vec![FREE; (nodes.len() * 2).next_power_of_two()];
    for node in nodes {
        if let Some(at) = place(&slots, node.hash, |_| false)
            && let Some(slot) = slots.get_mut(at)
        {
            *slot = Slot { hash: node.hash, node: Some(node.clone()) };
        }
    }
    slots.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(text: &str) -> Arc<Node> {
        let name = Name::parse(text).expect("a name");
        Arc::new(Node::empty(name, 0))
    }

    fn table(nodes: &[Arc<Node>]) -> Table {
        Table::default().with(nodes.iter().map(|node| (&node.name, Some(node))))
    }

    fn find(table: &Table, text: &str) -> String {
        let name = Name::parse(text).expect("a name");
        let starts: Vec<u8> = name.label_offsets().map(|at| at as u8).collect();
        match table.find(name.wire(), &starts) {
            Lookup::Exact(node) => format!("exact {}", node.name),
            Lookup::Below(node) => format!("below {}", node.name),
            Lookup::Outside => "outside".into(),
        }
    }

    #[test]
    fn names_are_found_or_else_their_closest_ancestor() {
        let nodes = ["fed.test.", "a.fed.test.", "x.y.a.fed.test.", "other."].map(node);
        let table = table(&nodes);
        assert_eq!(find(&table, "fed.test."), "exact fed.test.");
        assert_eq!(find(&table, "x.y.a.fed.test."), "exact x.y.a.fed.test.");
        assert_eq!(find(&table, "q.x.y.a.fed.test."), "below x.y.a.fed.test.");
        assert_eq!(find(&table, "y.a.fed.test."), "below a.fed.test.");
        assert_eq!(find(&table, &format!("{}fed.test.", "z.".repeat(100))), "below fed.test.");
        assert_eq!(find(&table, "test."), "outside");
        assert_eq!(find(&table, "."), "outside");
        assert_eq!(find(&Table::default(), "a."), "outside");
    }

    #[test]
    fn a_table_grows_and_shrinks_by_changes_and_the_old_one_stays() {
        let nodes: Vec<Arc<Node>> = (0..5000).map(|n| node(&format!("n{n}.t."))).collect();
        let mut grown = Table::default();
        for chunk in nodes.chunks(7) {
            grown = grown.with(chunk.iter().map(|node| (&node.name, Some(node))));
        }
        assert_eq!(grown.len(), 5000);
        let half =
            grown.with(nodes.iter().step_by(2).collect::<Vec<_>>().iter().map(|node| (&node.name, None)));
        assert_eq!(half.len(), 2500);
        for (n, node) in nodes.iter().enumerate() {
            assert!(grown.node(&node.name).is_some_and(|found| Arc::ptr_eq(found, node)), "{n}");
            assert_eq!(half.node(&node.name).is_some(), n % 2 == 1, "{n}");
        }
        let again = half.with([(&nodes[1].name, Some(&nodes[1]))].into_iter());
        assert_eq!(again.len(), 2500, "a name that is there is replaced");
    }
}
