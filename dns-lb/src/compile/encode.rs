//! Records in wire form, with the places to patch.

use crate::wire::{Class, Name, Type};
use crate::zone::{Data, SOA_EXPIRE, SOA_REFRESH, SOA_RETRY, Zone};

/// Records with one owner, ready to be copied into a message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records {
    bytes: Vec<u8>,
    // Where each record starts: its first two octets become a pointer to the owner.
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
        self.starts.len() as u16
    }

    /// Adds a record of `data`, in the zone with `origin`.
    pub fn push(&mut self, origin: &Name, ttl: u32, data: &Data) {
        self.begin(data.kind(), ttl);
        let length = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.data = self.bytes.len() as u16;
        match data {
            Data::A(address) => self.bytes.extend_from_slice(&address.octets()),
            Data::Aaaa(address) => self.bytes.extend_from_slice(&address.octets()),
            Data::Cname(name) | Data::Ns(name) => self.name(origin, name),
            Data::Txt(strings) => {
                for string in strings {
                    self.bytes.push(string.len() as u8);
                    self.bytes.extend_from_slice(string);
                }
            }
            Data::Srv { priority, weight, port, target } => {
                for number in [priority, weight, port] {
                    self.bytes.extend_from_slice(&number.to_be_bytes());
                }
                // Not compressed (RFC 2782).
                self.bytes.extend_from_slice(target.wire());
            }
        }
        self.finish(length);
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
        self.starts.push(self.bytes.len() as u16);
        self.bytes.extend_from_slice(&[0, 0]);
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
