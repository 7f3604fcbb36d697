//! The immutable snapshot that the sockets answer from. Consecutive snapshots share what is unchanged.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use super::denial::{Denial, Proof};
use super::encode::{Records, Stored};
use super::picks::Picks;
use super::records::RecordsRef;
use super::referral::Referral;
use super::table::Table;
use crate::answer::Secrets;
use crate::client::{ClientMap, Region};
use crate::metrics::{ClusterSlot, NameSlot};
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
    /// When it was made, seconds since 1970: its signatures are those of this time.
    pub made: u32,
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
    pub soa: Stored,
    /// For the authority section: with the TTL of negative answers.
    pub negative: Stored,
    /// For ANY.
    pub hinfo: Stored,
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
    /// Where its answers are counted, if it is balanced.
    pub counter: NameSlot,
    /// Octets of the name of the zone cut that it is at or below; 0: it is not.
    pub cut: u16,
    /// How it is answered.
    pub(super) shape: Arc<Shape>,
    /// Where it leads elsewhere, if it does.
    pub(super) leads: Option<Box<Leads>>,
    /// In a signed zone, what tells its types; none at names without records and below cuts. It shows too that there is no wildcard right
    /// below it, since `*` comes before every other label that zones hold.
    pub proof: Option<Proof>,
    // Every record and signature of the name, each once, and behind them which signatures these are.
    pub(super) octets: Box<[u8]>,
    // Where that begins.
    pub(super) digests: u32,
    pub(super) renewal: Option<u32>,
}

/// Where few names lead.
#[derive(Debug, Default)]
pub(super) struct Leads {
    /// The aliases of choices.
    pub(super) aliases: Box<[Alias]>,
    /// The delegation, at a cut.
    pub(super) referral: Option<Referral>,
}

/// What names have in common that are answered alike, with other records of the same sizes: most names of a federation, whose Services are in
/// the same clusters.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    /// Few enough to be read one after the other. None: an empty non-terminal, or below a cut.
    pub(super) types: Box<[Typed]>,
    /// One for each type, its variants right behind it.
    pub(super) sets: Box<[Set]>,
    /// Of all sets.
    pub(super) choices: Box<[Choice]>,
    /// Where the signatures are, but for those of a node's own proof.
    pub(super) marks: Box<[RecordsRef]>,
    /// What their records have in common.
    pub(super) commons: Box<[u8]>,
}

/// Of names without records.
pub(super) static SHAPELESS: LazyLock<Arc<Shape>> = LazyLock::new(Arc::default);

/// A type of a name.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Typed {
    /// Which.
    pub kind: Type,
    /// Index of its set.
    pub set: u32,
    /// For each region, how many places behind the set its variant is; 0, and beyond the end, is the set itself. None: it has no variants.
    pub layout: Option<Arc<[u8]>>,
}

/// One name and type.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Set {
    /// How much is answered.
    pub pick: Pick,
    /// Index among the node's choices of the first of what there is to answer.
    pub(super) first: u32,
    /// How many choices there are. 0: all are withdrawn.
    pub(super) count: u16,
    /// In a signed zone, what is signed of the set besides its choices, if anything is.
    pub(super) signed: Option<Box<SignedSet>>,
}

/// What is signed of a set besides its choices.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct SignedSet {
    pub(super) signature: RecordsRef,
    pub(super) picks: Option<Picks>,
    pub(super) nothing: Option<Proof>,
}

impl Default for SignedSet {
    fn default() -> Self {
        Self { signature: RecordsRef::NONE, picks: None, nothing: None }
    }
}

impl Set {
    /// In a signed zone, of all records, where an answer has all of them.
    #[inline]
    pub fn signature(&self) -> RecordsRef {
        self.signed.as_ref().map_or(RecordsRef::NONE, |signed| signed.signature)
    }

    /// In a signed zone, where an answer has several choices, and not all.
    #[inline]
    pub fn picks(&self) -> Option<&Picks> {
        self.signed.as_ref()?.picks.as_ref()
    }

    /// In a signed zone, where this set answers nothing, and another region's does: what shows that it does not here.
    #[inline]
    pub fn nothing(&self) -> Option<Proof> {
        self.signed.as_ref()?.nothing
    }
}

/// How much of a set is answered.
#[derive(Debug, PartialEq, Eq, Hash)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Choice {
    /// Encoded.
    pub records: RecordsRef,
    /// In a signed zone, of these records, where they are an answer by themselves.
    pub signature: RecordsRef,
    /// Whose counter goes up.
    pub cluster: ClusterSlot,
    // Of an alias that leads to a name of its zone, or where one would be: its place in the node's list, counted from 1.
    pub(super) alias: u16,
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
    /// Its types.
    #[inline]
    pub fn types(&self) -> &[Typed] {
        &self.shape.types
    }

    /// What the region is answered from: the set of this type, or one of its variants.
    #[inline]
    pub fn set(&self, typed: &Typed, region: impl FnOnce() -> Region) -> Option<&Set> {
        let variant = match &typed.layout {
            None => 0,
            Some(layout) => layout.get(region().0 as usize).copied().unwrap_or(0),
        };
        self.shape.sets.get(typed.set as usize + variant as usize)
    }

    /// The set of `kind`.
    #[inline]
    pub fn typed(&self, kind: Type) -> Option<&Typed> {
        self.types().iter().find(|typed| typed.kind == kind)
    }

    /// The choices of `set`.
    #[inline]
    pub fn choices(&self, set: &Set) -> &[Choice] {
        let first = set.first as usize;
        self.shape.choices.get(first..first + set.count as usize).unwrap_or_default()
    }

    /// Where the alias `choice` leads, if it leads to a name of its zone.
    #[inline]
    pub fn alias(&self, choice: &Choice) -> Option<&Alias> {
        self.leads.as_ref()?.aliases.get(usize::from(choice.alias).checked_sub(1)?)
    }

    /// The delegation, at a cut.
    #[inline]
    pub fn referral(&self) -> Option<&Referral> {
        self.leads.as_ref()?.referral.as_ref()
    }

    /// The records at `place`.
    #[inline]
    pub fn records(&self, place: RecordsRef) -> Records<'_> {
        Records::at(&self.octets, &self.shape.commons, place)
    }
}
