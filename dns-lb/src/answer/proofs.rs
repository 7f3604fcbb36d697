//! Which NSEC records an answer needs, collected while it is written.

use super::hot::{Body, Truncated, put};
use super::parse::Question;
use crate::compile::{Denial, Node, Proof, Records, Set, Sink, ZoneAnswers};
use crate::zone::CHAIN_MAX;

/// At most one for each link of a chain of aliases, and two for its end.
const MAX: usize = CHAIN_MAX + 3;

/// Entries of a zone's chain, each once. Nothing is collected where the client does not want it, or the zone is not signed.
pub(super) struct Proofs<'s> {
    /// Whose names are asked for.
    pub(super) zone: &'s ZoneAnswers,
    denial: Option<&'s Denial>,
    entries: [u32; MAX],
    count: usize,
    // Instead of an entry, where it is not true for everybody.
    own: Option<&'s Proof>,
}

impl<'s> Proofs<'s> {
    #[inline]
    pub(super) fn new(question: &Question<'_>, zone: &'s ZoneAnswers) -> Self {
        let wanted = question.edns.is_some_and(|edns| edns.dnssec_ok);
        let denial = if wanted { zone.denial.as_deref() } else { None };
        Self { zone, denial, entries: [0; MAX], count: 0, own: None }
    }

    /// Whether signatures go with the answer.
    #[inline]
    pub(super) fn wanted(&self) -> bool {
        self.denial.is_some()
    }

    /// The entry at this index.
    #[inline]
    pub(super) fn add(&mut self, entry: u32) {
        if self.denial.is_some()
            && !self.entries[..self.count].contains(&entry)
            && let Some(place) = self.entries.get_mut(self.count)
        {
            *place = entry;
            self.count += 1;
        }
    }

    /// The entry in whose gap the question's name falls.
    #[inline]
    pub(super) fn absent(&mut self, question: &Question<'_>) {
        if let Some(denial) = self.denial {
            self.add(denial.find(question.name, question.starts));
        }
    }

    /// What shows that `node` answers nothing from `set`.
    #[inline]
    pub(super) fn nothing(&mut self, node: &Node, set: Option<&'s Set>) {
        match set.and_then(|set| set.nothing.as_deref()) {
            Some(own) => self.own = Some(own),
            None => self.add(node.proof),
        }
    }

    /// Copies the signatures of what was just copied, if they are wanted.
    #[inline]
    pub(super) fn sign(
        &self,
        signature: &Records,
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
        if negative {
            put(&self.zone.negative, sink, origin, body)?;
            body.authorities += 1;
        }
        let Some(denial) = self.denial else { return Ok(()) };
        if negative {
            put(&denial.negative, sink, origin, body)?;
            body.authorities += denial.negative.count();
        }
        let entries = self.entries[..self.count].iter().filter_map(|&entry| denial.proof(entry));
        for proof in entries.chain(self.own) {
            let owner = sink.at as u16;
            put(&proof.nsec, sink, owner, body)?;
            put(&proof.signature, sink, owner, body)?;
            body.authorities += proof.nsec.count() + proof.signature.count();
        }
        Ok(())
    }
}
