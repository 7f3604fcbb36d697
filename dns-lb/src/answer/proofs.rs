//! Which NSEC records an answer needs, collected while it is written.

use super::hot::{Body, Truncated, put};
use super::parse::Question;
use crate::compile::{Denial, Encoder, Node, Proof, Records, Set, Sink, ZoneAnswers};
use crate::dnssec::Nonexistence;
use crate::wire::{Rcode, Type};
use crate::zone::CHAIN_MAX;

/// At most one for each link of a chain of aliases, and two for its end.
const MAX: usize = CHAIN_MAX + 3;

/// Entries of a zone's chain, each once. Nothing is collected where the client does not want it, or the zone is not signed.
pub(super) struct Proofs<'s> {
    /// Whose names are asked for.
    pub(super) zone: &'s ZoneAnswers,
    denial: Option<&'s Denial>,
    // Nodes that have a proof.
    entries: [Option<&'s Node>; MAX],
    count: usize,
    // Instead of an entry, where it is not true for everybody.
    own: Option<(&'s Node, Proof)>,
    compact_ok: bool,
    now: u32,
    // In place of entries: that a name, which stands at this offset, does not exist.
    nonexistence: Option<(u16, Nonexistence)>,
}

impl<'s> Proofs<'s> {
    #[inline]
    pub(super) fn new(question: &Question<'_>, zone: &'s ZoneAnswers, now: u32) -> Self {
        let wanted = question.edns.is_some_and(|edns| edns.dnssec_ok);
        let denial = if wanted { zone.denial.as_deref() } else { None };
        let compact_ok = question.edns.is_some_and(|edns| edns.compact_ok);
        Self { zone, denial, entries: [None; MAX], count: 0, own: None, compact_ok, now, nonexistence: None }
    }

    /// Whether signatures go with the answer.
    #[inline]
    pub(super) fn wanted(&self) -> bool {
        self.denial.is_some()
    }

    #[inline]
    fn add(&mut self, node: Option<&'s Node>) {
        let Some(node) = node.filter(|node| node.proof.is_some()) else { return };
        if self.denial.is_some()
            && !self.entries().any(|known| std::ptr::eq(known, node))
            && let Some(place) = self.entries.get_mut(self.count)
        {
            *place = Some(node);
            self.count += 1;
        }
    }

    #[inline]
    fn entries(&self) -> impl Iterator<Item = &'s Node> {
        self.entries.iter().map_while(|entry| *entry)
    }

    /// What shows that the lower-case wire name `name`, whose labels start at `starts` and which stands at the offset `owner`, does not exist;
    /// `encloser` is its closest ancestor that does.
    #[inline]
    pub(super) fn missing(&mut self, name: &[u8], starts: &[u8], owner: u16, encloser: &'s Node) {
        if let Some(compact) = self.denial.and_then(|denial| denial.compact.as_ref())
            && let Some(made) = compact.nonexistence(name, starts.len(), self.now)
        {
            self.nonexistence = Some((owner, made));
            return;
        }
        self.absent(name, starts);
        self.closest(encloser);
    }

    /// The entry in whose gap the lower-case wire name `name` falls, whose labels start at `starts`.
    #[inline]
    pub(super) fn absent(&mut self, name: &[u8], starts: &[u8]) {
        if let Some(denial) = self.denial {
            self.add(denial.chain.find(name, starts));
        }
    }

    /// The entry of `node`, or the one in whose gap it falls.
    #[inline]
    pub(super) fn closest(&mut self, node: &'s Node) {
        let Some(denial) = self.denial else { return };
        self.add(
            Some(node).filter(|node| node.proof.is_some()).or_else(|| denial.chain.find_name(&node.name)),
        );
    }

    /// What shows that `node` answers nothing from `set`.
    #[inline]
    pub(super) fn nothing(&mut self, node: &'s Node, set: Option<&'s Set>) {
        match set.and_then(Set::nothing) {
            Some(own) => self.own = Some((node, own)),
            None => self.closest(node),
        }
    }

    /// Copies the signatures of what was just copied, if they are wanted.
    #[inline]
    pub(super) fn sign(
        &self,
        signature: Records<'_>,
        sink: &mut Sink<'_>,
        owner: u16,
        body: &Body,
    ) -> Result<u16, Truncated> {
        if !self.wanted() {
            return Ok(0);
        }
        put(signature, sink, owner, body)?;
        Ok(signature.count())
    }

    /// Copies everything that was collected to the authority section, behind the SOA if the answer is `negative`.
    #[inline]
    pub(super) fn write(
        &self,
        negative: bool,
        sink: &mut Sink<'_>,
        body: &mut Body,
    ) -> Result<(), Truncated> {
        let origin = sink.origin;
        if self.nonexistence.is_some() && !self.compact_ok {
            // It says that the name has no records at all (RFC 9824 section 3.2); who knows what that means wants the code too (section 5).
            body.rcode = Rcode::NOERROR;
        }
        if negative {
            put(self.zone.negative.records(), sink, origin, body)?;
            body.authorities += 1;
        }
        let Some(denial) = self.denial else { return Ok(()) };
        if negative {
            put(denial.negative.records(), sink, origin, body)?;
            body.authorities += denial.negative.records().count();
        }
        if let Some((owner, made)) = &self.nonexistence {
            let ttl = denial.compact.as_ref().map_or(0, |compact| compact.ttl);
            let mut records = Encoder::default();
            records.push_wire(Type::NSEC, ttl, &made.nsec);
            for signature in &made.signatures {
                records.push_wire(Type::RRSIG, ttl, signature);
            }
            let records = records.store();
            put(records.records(), sink, *owner, body)?;
            body.authorities += records.records().count();
        }
        let entries = self.entries().filter_map(|node| Some((node, node.proof?)));
        for (node, proof) in entries.chain(self.own) {
            let owner = sink.at as u16;
            let (nsec, signature) = (node.records(proof.nsec), node.records(proof.signature));
            put(nsec, sink, owner, body)?;
            let truncated = |_| Truncated { rcode: body.rcode, authoritative: body.authoritative };
            signature.write_of(sink, owner, &node.name).map_err(truncated)?;
            body.authorities += nsec.count() + signature.count();
        }
        Ok(())
    }
}
