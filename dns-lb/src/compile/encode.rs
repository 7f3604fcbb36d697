//! Records in wire form, with the places to patch.

use crate::wire::{Class, Name, Type};
use crate::zone::{Data, SOA_EXPIRE, SOA_REFRESH, SOA_RETRY, Zone};

/// Records with one owner, ready to be copied into a message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records {
    bytes: Vec<u8>,
    count: u16,
    // Where a record starts whose first two octets become a pointer to the owner.
    starts: Vec<u16>,
    // Where a pointer to the zone's origin goes.
    origins: Vec<u16>,
    /// Where the data of the last record starts; an alias's target is there.
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

impl Records {
    /// How many records there are.
    pub fn count(&self) -> u16 {
        self.count
    }

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
        self.name(origin, owner);
        self.fixed(kind, ttl);
        self.bytes.extend_from_slice(&(data.len() as u16).to_be_bytes());
        self.bytes.extend_from_slice(data);
    }

    /// The data of the zone's SOA in canonical form.
    pub fn soa_data(zone: &Zone) -> Vec<u8> {
        let mut data = [zone.primary.wire(), zone.hostmaster.wire()].concat();
        for number in [zone.serial, SOA_REFRESH, SOA_RETRY, SOA_EXPIRE, zone.negative_ttl] {
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
        for number in [zone.serial, SOA_REFRESH, SOA_RETRY, SOA_EXPIRE, zone.negative_ttl] {
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
        self.starts.push(self.bytes.len() as u16);
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

    /// Copies the records to `sink`, owned by the name at offset `owner`. Gives the offset of the last record's data.
    #[inline]
    pub fn write(&self, sink: &mut Sink<'_>, owner: u16) -> Result<u16, Full> {
        let end = sink.at + self.bytes.len();
        if end > sink.limit {
            return Err(Full);
        }
        let place = sink.buffer.get_mut(sink.at..end).ok_or(Full)?;
        place.copy_from_slice(&self.bytes);
        patch(place, &self.starts, owner);
        patch(place, &self.origins, sink.origin);
        let data = sink.at as u16 + self.data;
        sink.at = end;
        Ok(data)
    }
}

#[inline]
fn patch(place: &mut [u8], offsets: &[u16], target: u16) {
    let pointer = (POINTER | target).to_be_bytes();
    for &offset in offsets {
        if let Some(two) = place.get_mut(offset as usize..offset as usize + 2) {
            two.copy_from_slice(&pointer);
        }
    }
}
