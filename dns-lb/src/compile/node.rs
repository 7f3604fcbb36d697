//! One name made ready to answer, from the model alone: whatever else changes, the same model makes the same node.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::denial::{Proof, nsec, signed};
use super::encode::Encoder;
use super::picks::Picks;
use super::records::{RecordArena, RecordsRef, StoredRecords, signatures};
use super::referral::Referral;
use super::snapshot::{Alias, Choice, Leads, Node, Pick, SHAPELESS, Set, Shape, SignedSet, Typed};
use crate::dnssec::{Made, RecordsOf, Signatures};
use crate::metrics::{ClusterSlot, ClusterSlots, NameSlot};
use crate::wire::{Name, SuffixHash, Type};
use crate::zone::{AliasTable, Data, How, RecordSet, Sets, Unit, Units, Zone, units};

/// What nodes are made with.
pub(super) struct Compiler<'w> {
    pub(super) clusters: &'w ClusterSlots,
    pub(super) signatures: &'w mut Signatures,
    /// How many regions there are.
    pub(super) regions: usize,
    /// Layouts that sets have in common.
    pub(super) layouts: BTreeMap<Box<[u8]>, Arc<[u8]>>,
    /// Tables that sets have in common, by their weights.
    pub(super) tables: BTreeMap<Vec<u32>, Option<AliasTable>>,
    /// Shapes that names have in common.
    pub(super) shapes: HashSet<Arc<Shape>>,
}

/// Distinct shapes that are remembered: a bound for zones where each name has its own.
const SHAPES_MAX: usize = 1024;

impl<'w> Compiler<'w> {
    /// One in which nothing was made yet.
    pub(super) fn new(clusters: &'w ClusterSlots, signatures: &'w mut Signatures, regions: usize) -> Self {
        let (layouts, tables) = (BTreeMap::new(), BTreeMap::new());
        Self { clusters, signatures, regions, layouts, tables, shapes: HashSet::new() }
    }

    /// `shape`, held once: as the name had it before, or as another name has it.
    fn shape(&mut self, shape: Shape, old: Option<&Arc<Shape>>) -> Arc<Shape> {
        if let Some(known) = self.shapes.get(&shape).or_else(|| old.filter(|old| ***old == shape)) {
            return known.clone();
        }
        if self.shapes.len() >= SHAPES_MAX {
            self.shapes.clear();
        }
        let shape = Arc::new(shape);
        self.shapes.insert(shape.clone());
        shape
    }
}

/// Distinct weights that are remembered, so that sets share their tables: a bound for zones where each has its own.
const TABLES_MAX: usize = 1024;

/// A node under construction.
struct Parts<'p, 'w> {
    zone: &'p Zone,
    owner: &'p Name,
    compiler: &'p mut Compiler<'w>,
    arena: RecordArena,
    choices: Vec<Choice>,
    aliases: Vec<Alias>,
}

impl Node {
    /// A name without records.
    pub(super) fn empty(name: Name, zone: u32) -> Self {
        Self {
            hash: SuffixHash::of(&name),
            zone,
            apex: false,
            wildcard: false,
            counter: NameSlot::NONE,
            cut: 0,
            shape: SHAPELESS.clone(),
            leads: None,
            proof: None,
            octets: Box::default(),
            digests: 0,
            renewal: None,
            name,
        }
    }

    /// Of `name` in `zone`, which has the index `index`; `old` is the node that it had, whose signatures are used again as far as they
    /// are of the same records. None: the name does not exist.
    pub(super) fn new(
        zone: &Zone,
        index: u32,
        name: &Name,
        old: Option<&Self>,
        compiler: &mut Compiler<'_>,
    ) -> Option<Self> {
        let by_type = zone.names.get(name);
        // Empty non-terminals exist (RFC 4592 section 2.2.2) and have no sets.
        if by_type.is_none() && !zone.has_below(name) {
            return None;
        }
        if zone.signing.is_some() {
            compiler.signatures.resume(old.into_iter().flat_map(Self::signatures));
        }
        let cut = zone.cut(name);
        let mut node = Self {
            apex: *name == zone.origin,
            wildcard: name.wildcard().is_some_and(|wildcard| zone.exists(&wildcard)),
            cut: cut.as_ref().map_or(0, |cut| cut.wire().len() as u16),
            ..Self::empty(name.clone(), index)
        };
        let below = cut.as_ref().is_some_and(|cut| cut != name);
        if let Some(by_type) = by_type.filter(|_| !below) {
            node.fill(zone, by_type, cut.is_some(), old, compiler);
        }
        Some(node)
    }

    fn fill(
        &mut self,
        zone: &Zone,
        by_type: &Sets,
        at_cut: bool,
        old: Option<&Self>,
        compiler: &mut Compiler<'_>,
    ) {
        let name = self.name.clone();
        let (arena, choices, aliases) = (RecordArena::default(), Vec::new(), Vec::new());
        let mut parts = Parts { zone, owner: &name, compiler, arena, choices, aliases };
        let mut present = if self.apex { vec![Type::SOA] } else { Vec::new() };
        let (mut types, mut sets) = (Vec::new(), Vec::new());
        // Set and type of what only some regions are answered.
        let mut silent: Vec<(usize, Type)> = Vec::new();
        for (kind, set) in by_type.iter() {
            if at_cut && kind != Type::DS {
                continue;
            }
            let place = sets.len();
            let tiers = (set.selection, &set.tiers);
            let variants = set.variants.iter().map(|variant| (variant.selection, &variant.tiers));
            let encoded = std::iter::once(tiers)
                .chain(variants)
                .map(|(selection, tiers)| parts.set(kind, set.ttl, &units(kind, selection, tiers)));
            sets.extend(encoded);
            types.push(Typed { kind, set: place as u32, layout: parts.layout(&set) });
            let encoded = || sets.iter().enumerate().skip(place);
            if encoded().any(|(_, set)| set.count > 0) {
                present.push(kind);
                // Some regions are answered and others not: these need a proof of their own.
                silent.extend(encoded().filter(|(_, set)| set.count == 0).map(|(at, _)| (at, kind)));
            }
        }
        let referral =
            at_cut.then(|| Referral::new(zone, &name, &mut parts.arena, parts.compiler.signatures));
        if at_cut {
            present.push(Type::NS);
        }
        if zone.signing.is_some() {
            let next = zone.next_in_chain(&name);
            for (set, kind) in silent {
                if let Some(set) = sets.get_mut(set) {
                    set.signed.get_or_insert_default().nothing = parts.proof(&present, Some(kind), next);
                }
            }
            self.proof = parts.proof(&present, None, next);
        }
        let (made, renewal) =
            if zone.signing.is_some() { parts.compiler.signatures.take() } else { (Vec::new(), None) };
        if parts.choices.iter().any(|choice| choice.cluster != ClusterSlot::STATIC) {
            self.counter = parts.compiler.clusters.name(&name);
        }
        let StoredRecords { octets, digests, commons, marks } =
            parts.arena.finish(made, self.proof.map(|proof| proof.signature));
        (self.octets, self.digests, self.renewal) = (octets, digests, renewal);
        if referral.is_some() || !parts.aliases.is_empty() {
            self.leads = Some(Box::new(Leads { aliases: parts.aliases.into(), referral }));
        }
        let shape =
            Shape { types: types.into(), sets: sets.into(), choices: parts.choices.into(), marks, commons };
        self.shape = parts.compiler.shape(shape, old.map(|old| &old.shape));
    }

    /// Its signatures.
    fn signatures(&self) -> impl Iterator<Item = Made> {
        let (records, digests) = self.octets.split_at_checked(self.digests as usize).unwrap_or_default();
        let own = self.proof.map(|proof| proof.signature);
        signatures(records, &self.shape.commons, digests, self.shape.marks.iter().copied().chain(own))
    }
}

impl Parts<'_, '_> {
    fn sign(&mut self, kind: Type, ttl: u32, units: &[&Unit]) -> RecordsRef {
        let Some(signing) = &self.zone.signing else { return RecordsRef::NONE };
        let data = units.iter().flat_map(|unit| &unit.data).map(|data| {
            let mut wire = Vec::new();
            data.wire(&mut wire);
            wire
        });
        let records = RecordsOf { owner: self.owner, kind, ttl, data: data.collect() };
        self.arena.put(&signed(self.zone, signing, records, ttl, self.compiler.signatures))
    }

    fn proof(&mut self, present: &[Type], without: Option<Type>, next: &Name) -> Option<Proof> {
        let signing = self.zone.signing.as_deref()?;
        let types: Vec<Type> = present.iter().copied().filter(|kind| Some(*kind) != without).collect();
        let (nsec, signature) = nsec(self.zone, signing, self.owner, types, next, self.compiler.signatures);
        Some(Proof { nsec: self.arena.put(&nsec), signature: self.arena.put(&signature) })
    }

    fn table(&mut self, weights: Vec<u32>) -> Option<AliasTable> {
        let tables = &mut self.compiler.tables;
        if tables.len() >= TABLES_MAX {
            tables.clear();
        }
        tables.entry(weights).or_insert_with_key(|weights| AliasTable::new(weights)).clone()
    }

    fn set(&mut self, kind: Type, ttl: u32, answering: &Units) -> Set {
        let units = &answering.units;
        let table = self.table(units.iter().map(|unit| unit.weight).collect());
        let pick = match (table, answering.how) {
            (None, _) => Pick::None,
            (Some(_), How::All) => Pick::All,
            (Some(table), How::Some(1)) => Pick::One(table),
            (Some(table), How::Some(picks)) => Pick::Some(table, picks),
            (Some(_), How::Sticky) => Pick::Sticky(answering.tickets().into()),
        };
        // What is answered together is signed together.
        let (signature, picks) = match pick {
            Pick::All => (self.sign(kind, ttl, &units.iter().collect::<Vec<_>>()), None),
            Pick::Some(_, picks) if self.zone.signing.is_some() => {
                (RecordsRef::NONE, Picks::new(units, picks as usize, |units| self.sign(kind, ttl, units)))
            }
            _ => (RecordsRef::NONE, None),
        };
        let alone = matches!(pick, Pick::One(_) | Pick::Sticky(_));
        let first = self.choices.len() as u32;
        for unit in units {
            let choice = self.choice(kind, ttl, unit, alone);
            self.choices.push(choice);
        }
        let signed = (signature != RecordsRef::NONE || picks.is_some())
            .then(|| Box::new(SignedSet { signature, picks, nothing: None }));
        Set { pick, first, count: units.len() as u16, signed }
    }

    fn choice(&mut self, kind: Type, ttl: u32, unit: &Unit, alone: bool) -> Choice {
        let mut records = Encoder::default();
        for data in &unit.data {
            records.push(&self.zone.origin, ttl, data);
        }
        let mut alias = 0;
        if let [Data::Cname(target)] = unit.data.as_slice()
            && target.is_within(&self.zone.origin)
        {
            let known = self.aliases.iter().position(|known| known.target == *target);
            let at = known.unwrap_or_else(|| {
                self.aliases.push(Alias::to(target));
                self.aliases.len() - 1
            });
            // Targets of one name are fewer: its CNAME set has at most 1,024 in each of 256 variants, far more than anybody has.
            alias = u16::try_from(at + 1).unwrap_or(0);
        }
        Choice {
            records: self.arena.put(&records),
            signature: if alone { self.sign(kind, ttl, &[unit]) } else { RecordsRef::NONE },
            cluster: self.compiler.clusters.slot(unit.cluster.as_deref()),
            alias,
        }
    }

    /// Which variant answers each region. None: everybody is answered from the set itself.
    fn layout(&mut self, set: &RecordSet) -> Option<Arc<[u8]>> {
        if set.variants.is_empty() {
            return None;
        }
        let mut layout = vec![0; self.compiler.regions];
        for (variant, number) in set.variants.iter().zip(1_u8..) {
            for region in &variant.regions {
                if let Some(place) = layout.get_mut(region.0 as usize) {
                    *place = number;
                }
            }
        }
        let layout: Box<[u8]> = layout.into();
        Some(self.compiler.layouts.entry(layout.clone()).or_insert_with(|| layout.into()).clone())
    }
}
