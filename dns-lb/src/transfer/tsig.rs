//! Messages signed with a shared secret (RFC 8945), HMAC-SHA256 alone.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::wire::{HEADER, Name, Rcode, name_end};

/// The type of TSIG records.
const TSIG: u16 = 250;
/// `hmac-sha256.` on the wire.
const ALGORITHM: &[u8] = b"\x0bhmac-sha256\x00";
/// Seconds that clocks may differ (RFC 8945 section 10: "a fudge value of 300").
const FUDGE: u16 = 300;
/// TSIG errors (RFC 8945 section 3).
const BADSIG: u16 = 16;
const BADKEY: u16 = 17;
const BADTIME: u16 = 18;

/// A secret that two servers share.
pub struct Key {
    /// Its name, which both know too.
    pub name: Name,
    secret: hmac::Key,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why a line is not a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not three parts, or of another algorithm.
    #[error("line {0}: write hmac-sha256:NAME:SECRET, the secret in base64, as for dig -y")]
    Form(usize),
    /// The name is none.
    #[error("line {0}: the key's name is no domain name")]
    Name(usize),
    /// Too short to keep anybody out (RFC 8945 section 10).
    #[error("line {0}: a secret needs at least 16 octets")]
    Short(usize),
}

/// All keys, by name.
#[derive(Clone, Debug, Default)]
pub struct Keys(BTreeMap<Name, Arc<Key>>);

impl Keys {
    /// Reads lines `hmac-sha256:NAME:SECRET`; empty ones, and those behind `#`, are passed over.
    ///
    /// # Errors
    /// When a line is no key.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let mut keys = BTreeMap::new();
        for (line, number) in text.lines().map(str::trim).zip(1..) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut parts = line.splitn(3, ':');
            let (Some("hmac-sha256"), Some(name), Some(secret)) = (parts.next(), parts.next(), parts.next())
            else {
                return Err(KeyError::Form(number));
            };
            let name = format!("{}.", name.trim_end_matches('.').to_ascii_lowercase());
            let name = Name::parse(&name).map_err(|_| KeyError::Name(number))?;
            let secret = STANDARD.decode(secret).map_err(|_| KeyError::Form(number))?;
            if secret.len() < 16 {
                return Err(KeyError::Short(number));
            }
            let secret = hmac::Key::new(hmac::HMAC_SHA256, &secret);
            keys.insert(name.clone(), Arc::new(Key { name, secret }));
        }
        Ok(Self(keys))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key of this name.
    pub fn get(&self, name: &Name) -> Option<&Arc<Key>> {
        self.0.get(name)
    }
}

/// What came of looking for a signature.
#[derive(Debug)]
pub(crate) enum Opened {
    /// There is none.
    Plain,
    /// It is good: the message without it, and what signs the answer.
    Signed(Vec<u8>, Session),
    /// It is not: what to say.
    Refused(Vec<u8>),
    /// The records cannot be read, or the signature is not the last of them (RFC 8945 section 5.1).
    Malformed,
}

/// A conversation that is signed.
#[derive(Clone, Debug)]
pub struct Session {
    key: Arc<Key>,
    /// Of the message before.
    mac: Vec<u8>,
    /// Whether that was a message of ours: from the second on less is signed (RFC 8945 section 5.3.1).
    going_on: bool,
}

struct Record<'m> {
    /// Where it starts.
    start: usize,
    name: Name,
    algorithm: Vec<u8>,
    time: u64,
    fudge: u16,
    mac: &'m [u8],
    original_id: [u8; 2],
    error: u16,
    other: &'m [u8],
}

/// Looks for a signature on the request `message`, and at it. `now`: seconds since 1970.
pub(crate) fn open(message: &[u8], keys: &Keys, now: u64) -> Opened {
    let record = match find(message) {
        Ok(Some(record)) => record,
        Ok(None) => return Opened::Plain,
        Err(Malformed) => return Opened::Malformed,
    };
    let Some(mut bare) = message.get(..record.start).map(<[u8]>::to_vec) else { return Opened::Malformed };
    count(&mut bare, -1);
    let key = (record.algorithm == ALGORITHM).then(|| keys.get(&record.name)).flatten();
    let Some(key) = key else { return Opened::Refused(unsigned(&bare, &record, BADKEY)) };
    let mut signed = bare.clone();
    signed.get_mut(..2).into_iter().for_each(|id| id.copy_from_slice(&record.original_id));
    variables(&mut signed, &record.name, record.time, record.fudge, record.error, record.other);
    // In constant time. No truncated signatures (RFC 8945 section 5.2.2.1): the whole one must match.
    if hmac::verify(&key.secret, &signed, record.mac).is_err() {
        return Opened::Refused(unsigned(&bare, &record, BADSIG));
    }
    let mut session = Session { key: key.clone(), mac: record.mac.to_vec(), going_on: false };
    if now.abs_diff(record.time) > u64::from(record.fudge) {
        let mut answer = header(&bare, Rcode::NOTAUTH);
        // With the client's time, and ours in the data (RFC 8945 section 5.2.3).
        session.append(&mut answer, record.time, BADTIME, now.to_be_bytes().get(2..).unwrap_or_default());
        return Opened::Refused(answer);
    }
    Opened::Signed(bare, session)
}

impl Session {
    /// For a request of ours, which is yet to be signed.
    pub fn request(key: Arc<Key>) -> Self {
        Self { key, mac: Vec::new(), going_on: false }
    }

    /// Octets that a signature takes.
    pub fn room(&self) -> usize {
        self.key.name.wire().len() + 10 + ALGORITHM.len() + 16 + 32
    }

    /// Signs the next message of ours.
    pub fn sign(&mut self, message: &mut Vec<u8>, now: u64) {
        self.append(message, now, 0, &[]);
    }

    fn append(&mut self, message: &mut Vec<u8>, time: u64, error: u16, other: &[u8]) {
        let mut signed = Vec::with_capacity(message.len() + 128);
        if !self.mac.is_empty() {
            signed.extend_from_slice(&(self.mac.len() as u16).to_be_bytes());
            signed.extend_from_slice(&self.mac);
        }
        signed.extend_from_slice(message);
        if self.going_on {
            signed.extend_from_slice(time.to_be_bytes().get(2..).unwrap_or_default());
            signed.extend_from_slice(&FUDGE.to_be_bytes());
        } else {
            variables(&mut signed, &self.key.name, time, FUDGE, error, other);
        }
        self.mac = hmac::sign(&self.key.secret, &signed).as_ref().to_vec();
        self.going_on = true;
        let id = message.first_chunk::<2>().copied().unwrap_or_default();
        write(message, &self.key.name, ALGORITHM, time, &self.mac, id, error, other);
    }
}

/// RFC 8945 section 4.3.3: what is signed besides the message.
fn variables(signed: &mut Vec<u8>, name: &Name, time: u64, fudge: u16, error: u16, other: &[u8]) {
    signed.extend_from_slice(name.wire());
    // Class ANY, TTL 0.
    signed.extend_from_slice(&[0, 255, 0, 0, 0, 0]);
    signed.extend_from_slice(ALGORITHM);
    signed.extend_from_slice(time.to_be_bytes().get(2..).unwrap_or_default());
    for number in [fudge, error, other.len() as u16] {
        signed.extend_from_slice(&number.to_be_bytes());
    }
    signed.extend_from_slice(other);
}

/// A refusal without signature (RFC 8945 section 5.3.2).
fn unsigned(query: &[u8], record: &Record<'_>, error: u16) -> Vec<u8> {
    let mut answer = header(query, Rcode::NOTAUTH);
    let id = record.original_id;
    write(&mut answer, &record.name, &record.algorithm, record.time, &[], id, error, &[]);
    answer
}

/// The header and the question of an answer to `query`, with nothing else.
pub(crate) fn header(query: &[u8], rcode: Rcode) -> Vec<u8> {
    let question =
        if query.get(4..6) == Some(&[0, 1]) { name_end(query, HEADER).map(|end| end + 4) } else { None };
    let end = question.filter(|end| *end <= query.len());
    let mut answer = query.get(..end.unwrap_or(HEADER)).unwrap_or_default().to_vec();
    if let Some(header) = answer.first_chunk_mut::<HEADER>() {
        header[2] = 0x80 | header[2] & 0x79;
        header[3] = rcode.0 & 0x0f;
        header[4..].fill(0);
        header[5] = u8::from(end.is_some());
    }
    answer
}

#[allow(clippy::too_many_arguments)]
fn write(
    message: &mut Vec<u8>,
    name: &Name,
    algorithm: &[u8],
    time: u64,
    mac: &[u8],
    id: [u8; 2],
    error: u16,
    other: &[u8],
) {
    count(message, 1);
    message.extend_from_slice(name.wire());
    message.extend_from_slice(&TSIG.to_be_bytes());
    message.extend_from_slice(&[0, 255, 0, 0, 0, 0]);
    let length = algorithm.len() + 16 + mac.len() + other.len();
    message.extend_from_slice(&(length as u16).to_be_bytes());
    message.extend_from_slice(algorithm);
    message.extend_from_slice(time.to_be_bytes().get(2..).unwrap_or_default());
    message.extend_from_slice(&FUDGE.to_be_bytes());
    message.extend_from_slice(&(mac.len() as u16).to_be_bytes());
    message.extend_from_slice(mac);
    message.extend_from_slice(&id);
    message.extend_from_slice(&error.to_be_bytes());
    message.extend_from_slice(&(other.len() as u16).to_be_bytes());
    message.extend_from_slice(other);
}

/// Changes how many additional records the header tells.
fn count(message: &mut [u8], by: i16) {
    if let Some(place) = message.get_mut(10..12) {
        let count = u16::from_be_bytes([place[0], place[1]]).wrapping_add_signed(by);
        place.copy_from_slice(&count.to_be_bytes());
    }
}

struct Malformed;

/// The signature, which must be the last record.
fn find(message: &[u8]) -> Result<Option<Record<'_>>, Malformed> {
    let number = |at: usize| {
        let two = message.get(at..at + 2).and_then(<[u8]>::first_chunk);
        two.map(|two| u16::from_be_bytes(*two)).ok_or(Malformed)
    };
    let additional = number(10)?;
    if additional == 0 {
        return Ok(None);
    }
    let mut at = HEADER;
    for _ in 0..number(4)? {
        at = name_end(message, at).ok_or(Malformed)? + 4;
    }
    let records = u32::from(number(6)?) + u32::from(number(8)?) + u32::from(additional);
    for left in (0..records).rev() {
        let start = at;
        let fixed = name_end(message, at).ok_or(Malformed)?;
        let data = fixed + 10;
        at = data + number(fixed + 8)? as usize;
        if number(fixed)? == TSIG {
            if left > 0 || at != message.len() {
                return Err(Malformed);
            }
            return record(message, start, fixed, data).map(Some).ok_or(Malformed);
        }
    }
    Ok(None)
}

fn record(message: &[u8], start: usize, fixed: usize, data: usize) -> Option<Record<'_>> {
    let lower = |range: std::ops::Range<usize>| message.get(range).map(<[u8]>::to_ascii_lowercase);
    // Not compressed: neither is the algorithm's, by RFC 8945 section 4.2, and nobody compresses the key's.
    let name = Name::from_wire(&lower(start..fixed)?)?;
    let end = name_end(message, data)?;
    let algorithm = lower(data..end)?;
    let rest = message.get(end..)?;
    let (numbers, rest) = rest.split_first_chunk::<10>()?;
    let [t0, t1, t2, t3, t4, t5, f0, f1, m0, m1] = *numbers;
    let (mac, rest) = rest.split_at_checked(u16::from_be_bytes([m0, m1]) as usize)?;
    let (numbers, other) = rest.split_first_chunk::<6>()?;
    let [i0, i1, e0, e1, o0, o1] = *numbers;
    (other.len() == u16::from_be_bytes([o0, o1]) as usize).then_some(Record {
        start,
        name,
        algorithm,
        time: u64::from_be_bytes([0, 0, t0, t1, t2, t3, t4, t5]),
        fudge: u16::from_be_bytes([f0, f1]),
        mac,
        original_id: [i0, i1],
        error: u16::from_be_bytes([e0, e1]),
        other,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_500_000;

    fn keys() -> Keys {
        Keys::parse("# of the secondaries\n\nhmac-sha256:Xfer:MDEyMzQ1Njc4OWFiY2RlZg==\n").unwrap()
    }

    fn query() -> Vec<u8> {
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03fed\x04test\x00\x00\x06\x00\x01".to_vec()
    }

    fn signed(now: u64) -> Vec<u8> {
        let mut query = query();
        let keys = keys();
        let key = keys.get(&Name::parse("xfer.").unwrap()).unwrap();
        Session::request(key.clone()).sign(&mut query, now);
        query
    }

    #[test]
    fn what_we_sign_is_accepted_and_the_message_comes_back_as_it_was() {
        let Opened::Signed(bare, _) = open(&signed(NOW), &keys(), NOW + 299) else { panic!("refused") };
        assert_eq!(bare, query());
        assert!(matches!(open(&query(), &keys(), NOW), Opened::Plain));
    }

    #[test]
    fn a_relayed_message_keeps_its_signature_under_another_id() {
        let mut message = signed(NOW);
        message[0] ^= 0xff;
        assert!(matches!(open(&message, &keys(), NOW), Opened::Signed(..)));
    }

    #[test]
    fn no_octet_can_be_changed() {
        let message = signed(NOW);
        for at in 2..message.len() {
            let mut changed = message.clone();
            changed[at] ^= 1;
            // The case of names is not signed, and what nobody reads need not be.
            let opened = open(&changed, &keys(), NOW);
            let bare = if let Opened::Signed(bare, _) = &opened { Some(bare.clone()) } else { None };
            assert!(bare.is_none_or(|bare| bare == query()), "octet {at}: {opened:?}");
        }
    }

    #[test]
    fn refusals_say_why() {
        let error = |message: &[u8], keys: &Keys, now| {
            let Opened::Refused(answer) = open(message, keys, now) else { panic!("not refused") };
            assert_eq!((answer[3] & 0x0f, &answer[..2]), (9, &[0x12, 0x34][..]));
            let record = find(&answer).ok().flatten().unwrap();
            (record.error, record.mac.len(), record.other.len())
        };
        assert_eq!(error(&signed(NOW), &Keys::default(), NOW), (BADKEY, 0, 0));
        assert_eq!(error(&signed(NOW), &keys(), NOW + 301), (BADTIME, 32, 6));
        let mut forged = signed(NOW);
        forged[2] ^= 1;
        assert_eq!(error(&forged, &keys(), NOW), (BADSIG, 0, 0));
        let mut doubled = signed(NOW);
        doubled.push(0);
        assert!(matches!(open(&doubled, &keys(), NOW), Opened::Malformed));
    }

    #[test]
    fn lines_that_are_no_keys_are_named() {
        let error = |text| Keys::parse(text).map(|_| ()).unwrap_err();
        assert_eq!(error("\nhmac-md5:x:MDEyMzQ1Njc4OWFiY2RlZg=="), KeyError::Form(2));
        assert_eq!(error("hmac-sha256:x:MDEy"), KeyError::Short(1));
        assert_eq!(error("hmac-sha256:a..b:MDEyMzQ1Njc4OWFiY2RlZg=="), KeyError::Name(1));
    }
}
