//! The record sets of a name as they are held: packed, since there are tens of thousands, and each is read only when it changes or by
//! the cold path.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;

use super::{Choice, Data, RecordSet, Selection, Variant};
use crate::client::Region;
use crate::wire::Type;

/// The record sets of a name. Cheap to clone; two are equal if their sets are.
///
/// In two parts: the form, which most names have in common with others, and what is their own. The form has for each type its number, 2 octets, how
/// many octets of the form, 4, and of the rest its set has, 4, and the set. In it all numbers have 7 bits in an octet, the lowest first, with the 8th
/// where more follow.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Sets {
    form: Arc<[u8]>,
    own: Arc<[u8]>,
}

/// One record set, packed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Packed {
    form: Vec<u8>,
    own: Vec<u8>,
}

const HEAD: usize = 10;

/// Forms that are remembered, so that names share them: a bound for zones where each name has its own.
const FORMS_MAX: usize = 1024;
static FORMS: LazyLock<Mutex<HashSet<Arc<[u8]>>>> = LazyLock::new(Mutex::default);

/// `form`, held once.
fn shared(form: Vec<u8>) -> Arc<[u8]> {
    let mut forms = FORMS.lock();
    if let Some(known) = forms.get(form.as_slice()) {
        return known.clone();
    }
    if forms.len() >= FORMS_MAX {
        // Those that no name has any more; else those that are new are as good as those that are here.
        forms.retain(|form| Arc::strong_count(form) > 1);
        if forms.len() >= FORMS_MAX {
            forms.clear();
        }
    }
    let form: Arc<[u8]> = form.into();
    forms.insert(form.clone());
    form
}

impl Sets {
    /// Of these sets.
    pub(super) fn of(sets: &BTreeMap<Type, Packed>) -> Self {
        let (mut form, mut own) = (Vec::new(), Vec::new());
        for (kind, set) in sets {
            form.extend_from_slice(&kind.0.to_be_bytes());
            form.extend_from_slice(&(set.form.len() as u32).to_be_bytes());
            form.extend_from_slice(&(set.own.len() as u32).to_be_bytes());
            form.extend_from_slice(&set.form);
            own.extend_from_slice(&set.own);
        }
        Self { form: shared(form), own: own.into() }
    }

    /// The same with `set` in place of the one of type `kind`, or without one.
    pub(super) fn with(&self, kind: Type, set: Option<Packed>) -> Self {
        let mut sets: BTreeMap<Type, Packed> = self
            .packed()
            .map(|(kind, Reader { form, own })| (kind, Packed { form: form.to_vec(), own: own.to_vec() }))
            .collect();
        match set {
            Some(set) => sets.insert(kind, set),
            None => sets.remove(&kind),
        };
        Self::of(&sets)
    }

    fn packed(&self) -> impl Iterator<Item = (Type, Reader<'_>)> {
        let (mut forms, mut owns) = (&*self.form, &*self.own);
        std::iter::from_fn(move || {
            let (&[k0, k1, f0, f1, f2, f3, o0, o1, o2, o3], behind) = forms.split_first_chunk::<HEAD>()?;
            let [form, own] = [[f0, f1, f2, f3], [o0, o1, o2, o3]].map(|n| u32::from_be_bytes(n) as usize);
            let (form, behind) = behind.split_at_checked(form)?;
            let (own, rest) = owns.split_at_checked(own)?;
            (forms, owns) = (behind, rest);
            Some((Type(u16::from_be_bytes([k0, k1])), Reader { form, own }))
        })
    }

    /// Which types there are, in order.
    pub fn kinds(&self) -> impl Iterator<Item = Type> {
        self.packed().map(|(kind, _)| kind)
    }

    /// How many sets there are.
    pub fn len(&self) -> usize {
        self.kinds().count()
    }

    /// Whether there is none: such a name is not held.
    pub fn is_empty(&self) -> bool {
        self.form.is_empty()
    }

    /// Whether there is a set of type `kind`.
    pub fn has(&self, kind: Type) -> bool {
        self.kinds().any(|has| has == kind)
    }

    /// The set of type `kind`.
    pub fn get(&self, kind: Type) -> Option<RecordSet> {
        self.packed().find(|(has, _)| *has == kind)?.1.set(kind)
    }

    /// All sets, in the order of their types.
    pub fn iter(&self) -> impl Iterator<Item = (Type, RecordSet)> {
        self.packed().filter_map(|(kind, packed)| Some((kind, packed.set(kind)?)))
    }
}

impl fmt::Debug for Sets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Packed {
    /// Packs `set`.
    pub(super) fn new(set: &RecordSet) -> Self {
        let mut writer = Self::default();
        let mut clusters: Vec<&str> = Vec::new();
        let of_variants = set.variants.iter().flat_map(|variant| &variant.tiers);
        for choice in set.tiers.iter().chain(of_variants).flatten() {
            if let Some(cluster) = choice.cluster.as_deref().filter(|cluster| !clusters.contains(cluster)) {
                clusters.push(cluster);
            }
        }
        writer.number(u64::from(set.ttl));
        writer.own(set.service.as_deref().unwrap_or_default().as_bytes());
        writer.number(clusters.len() as u64);
        for cluster in &clusters {
            writer.number(cluster.len() as u64);
            writer.form.extend_from_slice(cluster.as_bytes());
        }
        writer.choices(set.selection, &set.tiers, &clusters);
        writer.number(set.variants.len() as u64);
        for variant in &set.variants {
            writer.number(variant.regions.len() as u64);
            for region in &variant.regions {
                writer.number(u64::from(region.0));
            }
            writer.choices(variant.selection, &variant.tiers, &clusters);
        }
        writer
    }

    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.form.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.form.push(number as u8);
    }

    fn own(&mut self, octets: &[u8]) {
        self.number(octets.len() as u64);
        self.own.extend_from_slice(octets);
    }

    fn choices(&mut self, selection: Selection, tiers: &[Vec<Choice>], clusters: &[&str]) {
        self.number(match selection {
            Selection::All => 0,
            Selection::Sticky => 1,
            Selection::Weighted(picks) => 2 + u64::from(picks),
        });
        self.number(tiers.len() as u64);
        let mut wire = Vec::new();
        for tier in tiers {
            self.number(tier.len() as u64);
            for choice in tier {
                self.number(u64::from(choice.weight));
                let cluster = choice.cluster.as_deref();
                let cluster = cluster.and_then(|name| clusters.iter().position(|known| *known == name));
                self.number(cluster.map_or(0, |at| at as u64 + 1));
                if selection == Selection::Sticky {
                    self.own.extend_from_slice(&choice.seed.to_be_bytes());
                }
                self.number(choice.data.len() as u64);
                for data in &choice.data {
                    wire.clear();
                    data.wire(&mut wire);
                    self.own(&wire);
                }
            }
        }
    }
}

/// Reads what [`Packed::new`] wrote; None is never met.
#[derive(Clone, Copy)]
struct Reader<'p> {
    form: &'p [u8],
    own: &'p [u8],
}

impl<'p> Reader<'p> {
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (&octet, rest) = self.form.split_first()?;
            self.form = rest;
            number |= u64::from(octet & 0x7f) << shift;
            if octet & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn count(&mut self) -> Option<usize> {
        Some(self.number()? as usize)
    }

    fn own(&mut self, length: usize) -> Option<&'p [u8]> {
        let (octets, rest) = self.own.split_at_checked(length)?;
        self.own = rest;
        Some(octets)
    }

    fn octets(&mut self) -> Option<&'p [u8]> {
        let length = self.count()?;
        self.own(length)
    }

    fn cluster(&mut self) -> Option<Arc<str>> {
        let length = self.count()?;
        let (octets, rest) = self.form.split_at_checked(length)?;
        self.form = rest;
        Some(Arc::from(std::str::from_utf8(octets).ok()?))
    }

    fn set(mut self, kind: Type) -> Option<RecordSet> {
        let ttl = self.number()? as u32;
        let service = Some(std::str::from_utf8(self.octets()?).ok()?).filter(|name| !name.is_empty());
        let service = service.map(Arc::from);
        let clusters: Vec<Arc<str>> = (0..self.count()?).map(|_| self.cluster()).collect::<Option<_>>()?;
        let (selection, tiers) = self.choices(kind, &clusters)?;
        let variants = (0..self.count()?)
            .map(|_| {
                let regions = (0..self.count()?).map(|_| Some(Region(self.number()? as u16)));
                let regions = regions.collect::<Option<_>>()?;
                let (selection, tiers) = self.choices(kind, &clusters)?;
                Some(Variant { regions, selection, tiers })
            })
            .collect::<Option<_>>()?;
        Some(RecordSet { ttl, selection, tiers, service, variants })
    }

    fn choices(&mut self, kind: Type, clusters: &[Arc<str>]) -> Option<(Selection, Vec<Vec<Choice>>)> {
        let selection = match self.number()? {
            0 => Selection::All,
            1 => Selection::Sticky,
            picks => Selection::Weighted((picks - 2) as u16),
        };
        let tiers = (0..self.count()?)
            .map(|_| (0..self.count()?).map(|_| self.choice(kind, selection, clusters)).collect())
            .collect::<Option<_>>()?;
        Some((selection, tiers))
    }

    fn choice(&mut self, kind: Type, selection: Selection, clusters: &[Arc<str>]) -> Option<Choice> {
        let weight = self.number()? as u32;
        let cluster = self.count()?.checked_sub(1).and_then(|at| clusters.get(at)).cloned();
        let mut seed = 0;
        if selection == Selection::Sticky {
            seed = u64::from_be_bytes(*self.own(size_of::<u64>())?.first_chunk()?);
        }
        let data = (0..self.count()?).map(|_| Data::of_wire(kind, self.octets()?)).collect::<Option<_>>()?;
        Some(Choice { data, weight, cluster, seed })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn selections() -> impl Strategy<Value = Selection> {
        prop_oneof![Just(Selection::All), Just(Selection::Sticky), any::<u16>().prop_map(Selection::Weighted)]
    }

    fn tiers(selection: Selection) -> impl Strategy<Value = Vec<Vec<Choice>>> {
        let choice = (
            prop::collection::vec(any::<[u8; 4]>().prop_map(|octets| Data::A(octets.into())), 0..3),
            any::<u32>(),
            prop::option::of("[a-c]{0,3}"),
            any::<u64>(),
        );
        let choice = choice.prop_map(move |(data, weight, cluster, seed)| Choice {
            data,
            weight,
            cluster: cluster.map(Arc::from),
            seed: if selection == Selection::Sticky { seed } else { 0 },
        });
        prop::collection::vec(prop::collection::vec(choice, 0..4), 0..3)
    }

    prop_compose! {
        fn parts()(selection in selections())(
            tiers in tiers(selection), selection in Just(selection), regions in prop::collection::vec(any::<u16>(), 0..3),
        ) -> Variant {
            Variant { regions: regions.into_iter().map(Region).collect(), selection, tiers }
        }
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(
            ttl in any::<u32>(), own in parts(), service in prop::option::of("[a-c]{1,3}/[a-c]{1,3}"),
            variants in prop::collection::vec(parts(), 0..4),
        ) {
            let service = service.map(Arc::from);
            let set = RecordSet { ttl, selection: own.selection, tiers: own.tiers, service, variants };
            let sets = Sets::of(&BTreeMap::from([(Type::A, Packed::new(&set))]));
            let unpacked = sets.get(Type::A);
            prop_assert_eq!(unpacked.as_ref(), Some(&set));
            let again = Sets::of(&BTreeMap::from([(Type::A, Packed::new(&set))]));
            prop_assert!(Arc::ptr_eq(&sets.form, &again.form), "a form is held once");
            prop_assert_eq!((sets.len(), sets.has(Type::A), sets.has(Type::AAAA)), (1, true, false));
        }
    }

    #[test]
    fn data_of_every_type_is_unpacked_as_it_was() {
        for (kind, text) in [
            (Type::AAAA, "2001:db8::1"),
            (Type::CNAME, "a.b."),
            (Type::NS, "a."),
            (Type::PTR, "a."),
            (Type::MX, "10 a."),
            (Type::TXT, "\"a\" \"\\255\""),
            (Type::SRV, "1 2 3 a."),
            (Type::CAA, "0 issue \"ca.test\""),
            (Type::HTTPS, "1 . alpn=h2"),
            (Type(65280), "\\# 0"),
        ] {
            let set = RecordSet::fixed(5, vec![Data::parse(kind, text).expect(text)]);
            let sets = Sets::of(&BTreeMap::from([(kind, Packed::new(&set))]));
            assert_eq!(sets.get(kind), Some(set.clone()), "{text}");
            let two = sets.with(Type(7), Some(Packed::new(&set)));
            assert_eq!((two.len(), two.with(Type(7), None) == sets), (2, true));
        }
    }
}
