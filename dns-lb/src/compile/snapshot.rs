//! What the sockets answer from: immutable; the next one shares with it what it has in common.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::denial::{Denial, Proof};
use super::encode::Records;
use super::picks::Picks;
use super::referral::Referral;
use super::table::Table;
use crate::answer::Secrets;
use crate::client::{ClientMap, Region};
use crate::dnssec::Made;
use crate::metrics::ClusterSlot;
use crate::wire::{Name, SuffixHash, Type};
use crate::zone::{AliasTable, Ticket, Zones};

/// Every answer at one epoch. Cheap to clone.
#[derive(Clone, Debug, Default)]
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
    /// One for each zone.
    pub answers: Box<[Arc<ZoneAnswers>]>,
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
    /// The names that are delegated.
    pub(super) cuts: Arc<BTreeSet<Name>>,
}

/// One name.
#[derive(Debug)]
pub struct Node {
    /// Which.
    pub name: Name,
    /// Of the name.
    pub hash: SuffixHash,
    /// Index of its zone.
    pub zone: u32,
    /// Whether it is the zone's origin, which has the SOA.
    pub apex: bool,
    /// Whether there is a wildcard right below it.
    pub wildcard: bool,
    /// Octets of the name of the zone cut that it is at or below; 0: it is not.
    pub cut: u16,
    /// Its types, few enough to be read one after the other, and where their sets are. None: an empty non-terminal, or below a cut.
    pub types: Box<[(Type, u32)]>,
    /// One for each type, its variants right behind it.
    pub sets: Box<[Set]>,
    /// The alias, which answers any type that is not here.
    pub alias: Option<u32>,
    /// The delegation, at a cut.
    pub referral: Option<Box<Referral>>,
    /// In a signed zone, what tells its types; none at names without records and below cuts. It shows too that there is no wildcard right
    /// below it, since `*` comes before every other label that zones hold.
    pub proof: Option<Proof>,
    pub(super) made: Option<Box<Made>>,
}

/// One name and type.
#[derive(Debug)]
pub struct Set {
    /// How much is answered.
    pub pick: Pick,
    /// What there is to answer. Empty: all choices are withdrawn.
    pub choices: Box<[Choices]>,
    /// For each region, how many places behind the set its variant is; 0, and beyond the end, is the set itself. None: it has no
    /// variants.
    pub layout: Option<Arc<[u8]>>,
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
    /// Of an alias that leads to a name of its zone, or where one would be.
    pub alias: Option<Box<Alias>>,
}

/// Where an alias leads.
#[derive(Debug)]
pub struct Alias {
    /// The target.
    pub target: Name,
    /// Where its labels start.
    pub starts: Box<[u8]>,
}

impl Alias {
    /// To `target`.
    pub(super) fn to(target: &Name) -> Self {
        Self { target: target.clone(), starts: target.label_offsets().map(|at| at as u8).collect() }
    }
}

impl Node {
    /// What `region` is answered from: the set at `index`, or one of its variants.
    #[inline]
    pub fn set_for(&self, index: u32, region: impl FnOnce() -> Region) -> Option<&Set> {
        let set = self.sets.get(index as usize)?;
        let Some(layout) = &set.layout else { return Some(set) };
        let variant = layout.get(region().0 as usize).copied().unwrap_or(0);
        self.sets.get(index as usize + variant as usize)
    }

    /// The set of `kind`.
    #[inline]
    pub fn set(&self, kind: Type) -> Option<u32> {
        self.types.iter().find(|(of, _)| *of == kind).map(|&(_, set)| set)
    }
}
