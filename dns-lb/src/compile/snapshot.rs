//! What the sockets answer from: immutable, swapped whole.

use std::sync::Arc;

use super::denial::{Denial, Proof};
use super::encode::Records;
use super::picks::Picks;
use super::referral::Referral;
use super::table::{NodeIndex, Table};
use crate::answer::Secrets;
use crate::client::{ClientMap, Region};
use crate::metrics::ClusterSlot;
use crate::wire::{Name, Type};
use crate::zone::{AliasTable, Ticket, Zones};

/// Every answer at one epoch.
#[derive(Debug)]
pub struct Snapshot {
    /// The model, for the cold path.
    pub zones: Arc<Zones>,
    /// Whether these zones are old news: the hub has been away for longer than the operator finds right. Answers then say so to
    /// clients that speak EDNS (RFC 8914, code 3).
    pub stale: bool,
    /// Where clients are.
    pub clients: Arc<ClientMap>,
    /// Of server cookies; none: no cookies are made.
    pub secrets: Secrets,
    /// Names to nodes.
    pub table: Table,
    /// One for each name.
    pub nodes: Box<[Node]>,
    /// One for each name and type, its variants right behind it.
    pub sets: Box<[Set]>,
    /// By [`Set::by_region`], for each region: how many places behind the set its variant is; 0 is the set itself.
    pub layouts: Box<[Box<[u8]>]>,
    /// One for each zone.
    pub answers: Box<[ZoneAnswers]>,
    /// One for each zone cut.
    pub referrals: Box<[Referral]>,
}

/// Answers that belong to a zone as a whole.
#[derive(Debug)]
pub struct ZoneAnswers {
    /// Octets of the origin's name.
    pub origin_length: u16,
    /// For the question.
    pub soa: Records,
    /// For the authority section: with the TTL of negative answers.
    pub negative: Records,
    /// For ANY.
    pub hinfo: Records,
    /// Proofs and signatures, if the zone is signed.
    pub denial: Option<Box<Denial>>,
}

/// One name.
#[derive(Debug)]
pub struct Node {
    /// Index of its zone.
    pub zone: u32,
    /// Whether it is the zone's origin, which has the SOA.
    pub apex: bool,
    /// Its types, few enough to be read one after the other. None: an empty non-terminal.
    pub types: Box<[(Type, u32)]>,
    /// The alias, which answers any type that is not here.
    pub alias: Option<u32>,
    /// The wildcard right below it.
    pub wildcard: Option<NodeIndex>,
    /// The delegation that it is at or below, in [`Snapshot::referrals`].
    pub referral: Option<u32>,
    /// In a signed zone, the entry of [`Denial`] that tells its types; of an empty non-terminal, the one before it. The same entry shows that
    /// there is no wildcard right below it, since `*` comes before every other label that zones hold.
    pub proof: u32,
}

/// One name and type.
#[derive(Debug)]
pub struct Set {
    /// How much is answered.
    pub pick: Pick,
    /// What there is to answer. Empty: all choices are withdrawn.
    pub choices: Box<[Choices]>,
    /// Index of the layout of its variants; 0: it has none.
    pub by_region: u32,
    /// In a signed zone, of all records, where an answer has all of them.
    pub signature: Records,
    /// In a signed zone, where an answer has several choices, and not all.
    pub picks: Option<Box<Picks>>,
    /// In a signed zone, where this set answers nothing, and another region's does: what shows that it does not here.
    pub nothing: Option<Box<Proof>>,
}

/// How much of a set is answered.
#[derive(Debug)]
pub enum Pick {
    /// Everything, from a place that rotates.
    All,
    /// One, by weight.
    One(AliasTable),
    /// So many, by weight.
    Some(AliasTable, u16),
    /// The one whose ticket wins for the client.
    Sticky(Box<[Ticket]>),
    /// Nothing.
    None,
}

/// Records that are answered together.
#[derive(Debug)]
pub struct Choices {
    /// Encoded.
    pub records: Records,
    /// In a signed zone, of these records, where they are an answer by themselves.
    pub signature: Records,
    /// Whose counter goes up.
    pub cluster: ClusterSlot,
    /// Of an alias: where it leads.
    pub target: Target,
    /// Of an alias: the name that it leads to.
    pub(super) alias_target: Option<Name>,
}

/// Where an alias leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// This is no alias, or it leads out of the zone: the answer ends here.
    End,
    /// To a name of the zone, perhaps by a wildcard; then the second is the entry of [`Denial`] that shows that the name itself is not
    /// there.
    Node(NodeIndex, Option<u32>),
    /// To a name that the zone does not have, as these entries of [`Denial`] show.
    Missing([u32; 2]),
}

impl Snapshot {
    /// What `region` is answered from: the set at `index`, or one of its variants.
    #[inline]
    pub fn set(&self, index: u32, region: Region) -> Option<&Set> {
        let set = self.sets.get(index as usize)?;
        if set.by_region == 0 {
            return Some(set);
        }
        let layout = self.layouts.get(set.by_region as usize)?;
        let variant = layout.get(region.0 as usize).copied().unwrap_or(0);
        self.sets.get(index as usize + variant as usize)
    }

    /// How many variants the set at `index` has.
    pub(super) fn variants(&self, index: u32) -> usize {
        let set = self.sets.get(index as usize);
        let layout = set.and_then(|set| self.layouts.get(set.by_region as usize));
        layout.and_then(|layout| layout.iter().max()).copied().unwrap_or(0) as usize
    }

    /// Where an alias to `name` leads.
    pub(super) fn target(&self, name: &Name) -> Target {
        let starts: Vec<u8> = name.label_offsets().map(|at| at as u8).collect();
        let found = self.table.find(name.wire(), &starts);
        let (super::Lookup::Exact(at) | super::Lookup::Below(at)) = found else { return Target::End };
        let Some(node) = self.nodes.get(at as usize) else { return Target::End };
        // Resolvers go on by themselves from a name that others answer for.
        if node.referral.is_some() {
            return Target::End;
        }
        if let super::Lookup::Exact(_) = found {
            return Target::Node(at, None);
        }
        let denial = self.answers.get(node.zone as usize).and_then(|zone| zone.denial.as_deref());
        let gap = denial.map(|denial| denial.find(name.wire(), &starts));
        match node.wildcard {
            Some(wildcard) => Target::Node(wildcard, gap),
            None => Target::Missing([gap.unwrap_or(0), node.proof]),
        }
    }
}

impl Node {
    /// The set of `kind`.
    #[inline]
    pub fn set(&self, kind: Type) -> Option<u32> {
        self.types.iter().find(|(of, _)| *of == kind).map(|&(_, set)| set)
    }
}
