//! The names of a signed zone in canonical order (RFC 4034 section 6.1), in pieces that snapshots share.

use std::sync::Arc;

use super::Node;
use crate::dnssec::NextNames;
use crate::wire::{LABELS_MAX, Name};

/// Names in a piece when it is cut.
const PIECE: usize = 64;

/// Those names that have an NSEC record. Cheap to clone, and to change by one name.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    // The first name of each piece.
    firsts: NextNames,
    pieces: Box<[Arc<Piece>]>,
}

#[derive(Debug)]
struct Piece {
    names: NextNames,
    // Never empty.
    nodes: Box<[Arc<Node>]>,
    // The earliest of the nodes'.
    renewal: Option<u32>,
}

impl Chain {
    /// The chain with these nodes in place of those of the same names, or without those names. `changes` are in canonical order.
    #[must_use]
    pub(super) fn with(&self, changes: &[(&Name, Option<&Arc<Node>>)]) -> Self {
        if changes.is_empty() {
            return self.clone();
        }
        let mut pieces = Vec::with_capacity(self.pieces.len() + changes.len() / PIECE + 1);
        let mut left = changes;
        for (index, piece) in self.pieces.iter().enumerate() {
            let here = left.partition_point(|(name, _)| {
                index + 1 == self.pieces.len() || (find(&self.firsts, name) as usize) <= index
            });
            let (own, rest) = left.split_at(here);
            left = rest;
            if own.is_empty() {
                pieces.push(piece.clone());
            } else {
                cut(merge(&piece.nodes, own), &mut pieces);
            }
        }
        if self.pieces.is_empty() {
            cut(merge(&[], left), &mut pieces);
        }
        // Names that went leave small pieces behind: they are put together before they are many.
        let names: usize = pieces.iter().map(|piece| piece.nodes.len()).sum();
        if pieces.len() > 8 + 4 * names / PIECE {
            let nodes = pieces.iter().flat_map(|piece| piece.nodes.iter().cloned()).collect();
            pieces = Vec::new();
            cut(nodes, &mut pieces);
        }
        let firsts =
            NextNames::new(pieces.iter().filter_map(|piece| piece.nodes.first()).map(|node| &node.name));
        Self { firsts, pieces: pieces.into() }
    }

    /// The name whose proof shows that the lower-case wire name `name`, whose labels start at `starts`, is or is not there: itself, or
    /// the one in whose gap it falls.
    #[inline]
    pub fn find(&self, name: &[u8], starts: &[u8]) -> Option<&Node> {
        let key = NextNames::key(name, starts);
        let piece = self.pieces.get(self.firsts.find(&key) as usize)?;
        piece.nodes.get(piece.names.find(&key) as usize).map(|node| &**node)
    }

    /// The same for a name of ours.
    pub fn find_name(&self, name: &Name) -> Option<&Node> {
        let mut starts = [0; LABELS_MAX];
        let mut count = 0;
        for (place, at) in starts.iter_mut().zip(name.label_offsets()) {
            *place = at as u8;
            count += 1;
        }
        self.find(name.wire(), starts.get(..count)?)
    }

    /// When the first signature is to be renewed, seconds since 1970.
    pub(super) fn renewal(&self) -> Option<u32> {
        self.pieces.iter().filter_map(|piece| piece.renewal).min()
    }

    /// The names of which a signature is to be renewed at `now`.
    pub(super) fn due(&self, now: u32) -> impl Iterator<Item = &Name> {
        let due = move |renewal: Option<u32>| renewal.is_some_and(|renewal| renewal <= now);
        let pieces = self.pieces.iter().filter(move |piece| due(piece.renewal));
        pieces
            .flat_map(|piece| piece.nodes.iter())
            .filter(move |node| due(node.renewal))
            .map(|node| &node.name)
    }
}

fn find(names: &NextNames, name: &Name) -> u32 {
    let starts: Vec<u8> = name.label_offsets().map(|at| at as u8).collect();
    names.find(&NextNames::key(name.wire(), &starts))
}

fn merge(nodes: &[Arc<Node>], changes: &[(&Name, Option<&Arc<Node>>)]) -> Vec<Arc<Node>> {
    let mut merged = Vec::with_capacity(nodes.len() + changes.len());
    let mut nodes = nodes.iter().peekable();
    for (name, change) in changes {
        while let Some(node) = nodes.next_if(|node| node.name < **name) {
            merged.push(node.clone());
        }
        nodes.next_if(|node| node.name == **name);
        merged.extend(change.cloned());
    }
    merged.extend(nodes.cloned());
    merged
}

/// Cuts `nodes` into pieces of [`PIECE`], but for one that is not much larger.
fn cut(nodes: Vec<Arc<Node>>, pieces: &mut Vec<Arc<Piece>>) {
    let size = if nodes.len() <= 2 * PIECE { 2 * PIECE } else { PIECE };
    pieces.extend(nodes.chunks(size).map(|nodes| {
        let names = NextNames::new(nodes.iter().map(|node| &node.name));
        let renewal = nodes.iter().filter_map(|node| node.renewal).min();
        Arc::new(Piece { names, nodes: nodes.into(), renewal })
    }));
}
