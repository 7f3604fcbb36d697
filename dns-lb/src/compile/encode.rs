//! Records in wire form, with the places to patch.

use super::records::{LONG, RecordsRef, numbers};
use crate::wire::{Class, Name, Type};
use crate::zone::{Data, SOA_REFRESH, SOA_RETRY, Zone};

/// Records with one owner, ready to be copied into a message.
///
/// In one of two forms. The long one has four numbers of 2 octets each: the octets of the records, how many records there are, where the data of the last one starts, and how
/// many places there are that a pointer to the zone's origin goes to, with the top bit set if the owner is written out. Then those places,
/// 2 octets each, and the records. Each begins with 2 octets for a pointer to the owner, where that is not written out.
///
/// The short one is of a single record, or of RRSIGs alone. What they have in common with those of other names is elsewhere, as the long form is without
/// what is their own: the data, or, of each RRSIG, its inception and its signature. The inception there is 0, so that the expiration is for how long it
/// counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Records<'r> {
    octets: &'r [u8],
    // Of the short form.
    common: Option<&'r [u8]>,
}

/// Records that stand by themselves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stored(Box<[u8]>);

/// Records under construction.
#[derive(Clone, Debug, Default)]
pub struct Encoder {
    bytes: Vec<u8>,
    count: u16,
    // The owner is written out.
    owned: bool,
    // Where a pointer to the zone's origin goes.
    origins: Vec<u16>,
    // Where the data of the last record starts; an alias's target is there.
    data: u16,
}

/// Where records are copied to: a message under construction.
pub struct Sink<'b> {
    /// The message's buffer.
    pub buffer: &'b mut [u8],
    /// Where the next record goes.
    pub at: usize,
    /// Where the message must end.
    pub limit: usize,
    /// Offset of the origin's name within the question.
    pub origin: u16,
}

/// The records do not fit: the message is truncated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

const POINTER: u16 = 0xc000;
/// The greatest offset that a pointer can hold (RFC 1035 section 4.1.4).
const POINTER_MAX: u16 = 0x3fff;
pub(super) const HEAD: usize = 8;
/// Where the data of a record starts whose owner is a pointer, and where in an RRSIG's the times are (RFC 4034 section 3.1).
pub(super) const DATA: usize = 12;
pub(super) const TIMES: usize = DATA + 8;
/// Octets of the times, and of an ECDSA P-256 signature, which is at the end (RFC 6605 section 4).
pub(super) const TIMES_SIZE: usize = 8;
pub(super) const SIGNATURE: usize = 64;
const OWNED: u16 = 0x8000;

impl Encoder {
    /// Adds a record of `data`, in the zone with `origin`.
    pub fn push(&mut self, origin: &Name, ttl: u32, data: &Data) {
        self.begin(data.kind(), ttl);
        let length = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.data = self.bytes.len() as u16;
        match data {
            Data::Cname(name) | Data::Ns(name) | Data::Ptr(name) => self.name(origin, name),
            Data::Mx { preference, exchange } => {
                self.bytes.extend_from_slice(&preference.to_be_bytes());
                self.name(origin, exchange);
            }
            // Names in the data of newer types are not compressed (RFC 3597 section 4).
            other => other.wire(&mut self.bytes),
        }
        self.finish(length);
    }

    /// Adds a record with these octets of data.
    pub fn push_wire(&mut self, kind: Type, ttl: u32, data: &[u8]) {
        self.begin(kind, ttl);
        self.bytes.extend_from_slice(&(data.len() as u16).to_be_bytes());
        self.bytes.extend_from_slice(data);
    }

    /// Adds a record whose owner is `owner`, wherever the others' owner will be.
    pub fn push_owned(&mut self, origin: &Name, owner: &Name, kind: Type, ttl: u32, data: &[u8]) {
        self.count += 1;
        self.owned = true;
        self.name(origin, owner);
        self.fixed(kind, ttl);
        self.bytes.extend_from_slice(&(data.len() as u16).to_be_bytes());
        self.bytes.extend_from_slice(data);
    }

    /// The data of the zone's SOA in canonical form.
    pub fn soa_data(zone: &Zone) -> Vec<u8> {
        let mut data = [zone.primary.wire(), zone.hostmaster.wire()].concat();
        for number in [zone.serial, SOA_REFRESH, SOA_RETRY, zone.expire(), zone.negative_ttl] {
            data.extend_from_slice(&number.to_be_bytes());
        }
        data
    }

    /// The zone's SOA with this TTL; its owner is the origin.
    pub fn soa(zone: &Zone, ttl: u32) -> Self {
        let mut records = Self::default();
        records.begin(Type::SOA, ttl);
        let length = records.bytes.len();
        records.bytes.extend_from_slice(&[0, 0]);
        records.name(&zone.origin, &zone.primary);
        records.name(&zone.origin, &zone.hostmaster);
        for number in [zone.serial, SOA_REFRESH, SOA_RETRY, zone.expire(), zone.negative_ttl] {
            records.bytes.extend_from_slice(&number.to_be_bytes());
        }
        records.finish(length);
        records
    }

    /// The answer to ANY (RFC 8482 section 4.2).
    pub fn hinfo(ttl: u32) -> Self {
        let mut records = Self::default();
        records.begin(Type::HINFO, ttl);
        let length = records.bytes.len();
        records.bytes.extend_from_slice(b"\x00\x00\x07RFC8482\x00");
        records.finish(length);
        records
    }

    fn begin(&mut self, kind: Type, ttl: u32) {
        self.count += 1;
        self.bytes.extend_from_slice(&[0, 0]);
        self.fixed(kind, ttl);
    }

    fn fixed(&mut self, kind: Type, ttl: u32) {
        self.bytes.extend_from_slice(&kind.0.to_be_bytes());
        self.bytes.extend_from_slice(&Class::IN.0.to_be_bytes());
        self.bytes.extend_from_slice(&ttl.to_be_bytes());
    }

    fn finish(&mut self, length: usize) {
        let size = (self.bytes.len() - length - 2) as u16;
        self.bytes[length..length + 2].copy_from_slice(&size.to_be_bytes());
    }

    fn name(&mut self, origin: &Name, name: &Name) {
        if name.is_within(origin) && origin.wire().len() > 1 {
            let own = name.wire().len() - origin.wire().len();
            self.bytes.extend_from_slice(&name.wire()[..own]);
            self.origins.push(self.bytes.len() as u16);
            self.bytes.extend_from_slice(&[0, 0]);
        } else {
            self.bytes.extend_from_slice(name.wire());
        }
    }

    /// Packs them.
    pub fn pack(&self) -> Vec<u8> {
        if self.count == 0 {
            return Vec::new();
        }
        let mut packed = Vec::with_capacity(HEAD + 2 * self.origins.len() + self.bytes.len());
        let origins = self.origins.len() as u16 | if self.owned { OWNED } else { 0 };
        for number in [self.bytes.len() as u16, self.count, self.data, origins].iter().chain(&self.origins) {
            packed.extend_from_slice(&number.to_be_bytes());
        }
        packed.extend_from_slice(&self.bytes);
        packed
    }

    /// Packs them, to stand by themselves.
    pub fn store(&self) -> Stored {
        Stored(self.pack().into())
    }
}

impl Stored {
    /// The records.
    #[inline]
    pub fn records(&self) -> Records<'_> {
        Records { octets: &self.0, common: None }
    }
}

impl<'r> Records<'r> {
    /// Those at `place` among a node's `octets`, and what they have in common with others among its shape's `commons`.
    #[inline]
    pub(super) fn at(octets: &'r [u8], commons: &'r [u8], place: RecordsRef) -> Self {
        let common = if place.common == LONG { None } else { commons.get(place.common as usize..) };
        Self { octets: octets.get(place.at as usize..).unwrap_or_default(), common }
    }

    #[inline]
    fn head(octets: &[u8]) -> Option<([u16; 4], &[u8])> {
        let (head, rest) = octets.split_first_chunk::<HEAD>()?;
        let [l0, l1, c0, c1, d0, d1, o0, o1] = *head;
        Some(([[l0, l1], [c0, c1], [d0, d1], [o0, o1]].map(u16::from_be_bytes), rest))
    }

    /// How many records there are.
    #[inline]
    pub fn count(self) -> u16 {
        Self::head(self.common.unwrap_or(self.octets)).map_or(0, |([_, count, ..], _)| count)
    }

    /// Copies the records to `sink`, owned by the name at offset `owner`. Gives the offset of the last record's data.
    ///
    /// # Errors
    /// When they do not fit.
    #[inline]
    pub fn write(self, sink: &mut Sink<'_>, owner: u16) -> Result<u16, Full> {
        match self.common {
            Some(common) => self.short(common, sink, owner),
            None => self.long(sink, owner),
        }
    }

    #[inline]
    fn short(self, common: &[u8], sink: &mut Sink<'_>, owner: u16) -> Result<u16, Full> {
        let ([length, _, data, _], common) = Self::head(common).ok_or(Full)?;
        let end = sink.at + length as usize;
        if end > sink.limit {
            return Err(Full);
        }
        let place = sink.buffer.get_mut(sink.at..end).ok_or(Full)?;
        if common.get(2..4) == Some(&Type::RRSIG.0.to_be_bytes()) {
            signatures(place, common, self.octets, owner)?;
        } else {
            let (front, own) = place.split_at_mut_checked(DATA).ok_or(Full)?;
            front.copy_from_slice(common.get(..DATA).ok_or(Full)?);
            patch(front, 0, owner);
            own.copy_from_slice(self.octets.get(..own.len()).ok_or(Full)?);
        }
        let data = sink.at as u16 + data;
        sink.at = end;
        Ok(data)
    }

    /// The same, owned by `name`, which is written out if nothing can point to where it is: beyond 16 KiB of an answer by TCP.
    ///
    /// # Errors
    /// When they do not fit.
    #[inline]
    pub fn write_of(self, sink: &mut Sink<'_>, owner: u16, name: &Name) -> Result<(), Full> {
        if owner <= POINTER_MAX { self.write(sink, owner).map(drop) } else { self.far(sink, name) }
    }

    #[cold]
    fn far(self, sink: &mut Sink<'_>, name: &Name) -> Result<(), Full> {
        let mut room = vec![0; sink.limit.saturating_sub(sink.at)];
        let mut apart = Sink { limit: room.len(), buffer: &mut room, at: 0, origin: sink.origin };
        self.write(&mut apart, 0)?;
        let end = apart.at;
        let mut rest = room.get(..end).ok_or(Full)?;
        while let Some((head, behind)) = rest.split_first_chunk::<DATA>() {
            let (data, next) =
                behind.split_at_checked(u16::from_be_bytes([head[10], head[11]]).into()).ok_or(Full)?;
            for octets in [name.wire(), &head[2..], data] {
                let place = sink.buffer.get_mut(sink.at..sink.limit).ok_or(Full)?;
                place.get_mut(..octets.len()).ok_or(Full)?.copy_from_slice(octets);
                sink.at += octets.len();
            }
            rest = next;
        }
        Ok(())
    }

    #[inline]
    fn long(self, sink: &mut Sink<'_>, owner: u16) -> Result<u16, Full> {
        let Some(([length, count, data, origins], rest)) = Self::head(self.octets) else {
            return Ok(sink.at as u16);
        };
        let end = sink.at + length as usize;
        if end > sink.limit {
            return Err(Full);
        }
        let place = sink.buffer.get_mut(sink.at..end).ok_or(Full)?;
        let (offsets, rest) = rest.split_at_checked(2 * (origins & !OWNED) as usize).ok_or(Full)?;
        place.copy_from_slice(rest.get(..length as usize).ok_or(Full)?);
        if origins & OWNED == 0 {
            let mut at = 0;
            for left in (0..count).rev() {
                patch(place, at, owner);
                if left > 0 {
                    // Owner, type, class and TTL are behind, the data's length is next.
                    let size = place.get(at + 10..at + 12).and_then(<[u8]>::first_chunk).ok_or(Full)?;
                    at += 12 + u16::from_be_bytes(*size) as usize;
                }
            }
        }
        for &offset in offsets.as_chunks::<2>().0 {
            patch(place, u16::from_be_bytes(offset) as usize, sink.origin);
        }
        let data = sink.at as u16 + data;
        sink.at = end;
        Ok(data)
    }
}

/// Puts together RRSIGs, of one key or of several.
#[inline]
fn signatures(mut place: &mut [u8], mut common: &[u8], mut octets: &[u8], owner: u16) -> Result<(), Full> {
    while !place.is_empty() {
        let length = common.get(DATA - 2..).and_then(<[u8]>::first_chunk).ok_or(Full)?;
        let before = (DATA + u16::from_be_bytes(*length) as usize).checked_sub(SIGNATURE).ok_or(Full)?;
        let (front, rest) = place.split_at_mut_checked(before).ok_or(Full)?;
        let (signature, behind) = rest.split_at_mut_checked(SIGNATURE).ok_or(Full)?;
        let (fixed, next) = common.split_at_checked(before).ok_or(Full)?;
        front.copy_from_slice(fixed);
        patch(front, 0, owner);
        let times = front.get_mut(TIMES..).and_then(<[u8]>::first_chunk_mut::<TIMES_SIZE>).ok_or(Full)?;
        let (inception, own) = octets.split_first_chunk().ok_or(Full)?;
        let [counts, _] = numbers(*times);
        let [e0, e1, e2, e3] = u32::from_be_bytes(*inception).wrapping_add(counts).to_be_bytes();
        let [i0, i1, i2, i3] = *inception;
        *times = [e0, e1, e2, e3, i0, i1, i2, i3];
        let (own, left) = own.split_at_checked(SIGNATURE).ok_or(Full)?;
        signature.copy_from_slice(own);
        (place, common, octets) = (behind, next, left);
    }
    Ok(())
}

#[inline]
fn patch(place: &mut [u8], offset: usize, target: u16) {
    if let Some(two) = place.get_mut(offset..offset + 2) {
        two.copy_from_slice(&(POINTER | target).to_be_bytes());
    }
}
