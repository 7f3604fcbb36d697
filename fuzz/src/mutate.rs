//! How well-formed input is damaged.

use serde_json::{Map, Number, Value, json};

use crate::dice::Dice;

/// A text that began as one of `samples`, with words of `words` and other damage in it.
pub(crate) fn text(dice: &mut Dice, samples: &[&str], words: &[&str]) -> String {
    let mut letters: Vec<char> = dice.pick(samples).chars().collect();
    for _ in 0..dice.below(6) {
        let at = dice.below(letters.len() + 1);
        let end = (at + dice.below(8)).min(letters.len());
        match dice.below(7) {
            0 => drop(letters.drain(at..end)),
            1 => insert(&mut letters, at, dice.pick(words).chars()),
            2 => insert(&mut letters, at, [letter(dice)]),
            3 => {
                let copy: Vec<char> = letters[at..end].to_vec();
                let to = dice.below(letters.len() + 1);
                for _ in 0..=dice.below(3) {
                    insert(&mut letters, to, copy.iter().copied());
                }
            }
            4 => {
                let other: Vec<char> = dice.pick(samples).chars().collect();
                let from = dice.below(other.len() + 1);
                letters.truncate(at);
                letters.extend(&other[from..]);
            }
            5 => {
                if let Some(letter) = letters.get_mut(at) {
                    *letter = self::letter(dice);
                }
            }
            _ if dice.one_in(20) => {
                // Deep, or long.
                let word = *dice.pick(words);
                let times = dice.below(400);
                insert(&mut letters, at, word.repeat(times).chars());
            }
            _ => insert(
                &mut letters,
                at,
                dice.pick(&["0", "9223372036854775807", "-1", "1e400", "0.1"]).chars(),
            ),
        }
    }
    letters.into_iter().collect()
}

fn insert<T>(into: &mut Vec<T>, at: usize, what: impl IntoIterator<Item = T>) {
    let at = at.min(into.len());
    into.splice(at..at, what);
}

fn letter(dice: &mut Dice) -> char {
    match dice.below(8) {
        0 => *dice.pick(&['\0', '\n', '\u{7f}', 'µ', 'é', '\u{2028}', '漢', '\u{1F600}', '\u{FEFF}']),
        1 | 2 => *dice.pick(&[
            '"', '\'', '\\', '/', '.', ',', ':', ';', '=', '!', '(', ')', '[', ']', '{', '}', '<', '>', '-',
            '+', '*', '~', '|', '&', '?', '@', '#', '$', '%', '^', '`', ' ', '\t', '_',
        ]),
        _ => char::from(b' ' + dice.below(95) as u8),
    }
}

/// Octets that began as these.
pub(crate) fn octets(dice: &mut Dice, sample: &[u8]) -> Vec<u8> {
    let mut octets = sample.to_vec();
    for _ in 0..dice.below(6) {
        let at = dice.below(octets.len() + 1);
        let end = (at + dice.below(16)).min(octets.len());
        match dice.below(6) {
            0 => drop(octets.drain(at..end)),
            1 => insert(&mut octets, at, [dice.roll() as u8]),
            2 => {
                let copy = octets[at..end].to_vec();
                let to = dice.below(octets.len() + 1);
                insert(&mut octets, to, copy);
            }
            3 => octets.truncate(octets.len() - dice.below(octets.len().min(8) + 1)),
            4 => {
                if let Some(octet) = octets.get_mut(at) {
                    *octet ^= 1 << dice.below(8);
                }
            }
            _ => {
                if let Some(octet) = octets.get_mut(at) {
                    *octet = *dice.pick(&[0, 1, 0x7f, 0x80, 0xff]);
                }
            }
        }
    }
    octets
}

/// A protobuf message that began as this one: its fields are left out, said twice, put elsewhere, and damaged, those of messages inside it
/// as well.
pub(crate) fn message(dice: &mut Dice, sample: &[u8]) -> Vec<u8> {
    if dice.one_in(8) {
        return octets(dice, sample);
    }
    let Some(mut fields) = fields(sample) else { return octets(dice, sample) };
    for _ in 0..=dice.below(3) {
        let at = dice.below(fields.len());
        match dice.below(8) {
            0 if !fields.is_empty() => drop(fields.remove(at)),
            1 if !fields.is_empty() => fields.push(fields[at].clone()),
            2 if !fields.is_empty() => {
                let other = dice.below(fields.len());
                fields.swap(at, other);
            }
            3 => fields.push((1 + dice.below(24) as u64, number(dice))),
            4 => fields.push((1 + dice.below(24) as u64, Wire::Octets(dice.pick(&SHORT).to_vec()))),
            5 if !fields.is_empty() => fields[at].0 = 1 + dice.below(24) as u64,
            _ => match fields.get_mut(at) {
                Some((_, Wire::Octets(inside))) => *inside = message(dice, inside),
                Some((_, wire)) => *wire = number(dice),
                None => {}
            },
        }
    }
    let mut octets = Vec::new();
    for (field, wire) in fields {
        wire.put(field, &mut octets);
    }
    octets
}

const SHORT: [&[u8]; 6] = [b"", b"a", b"\xff\xfe", b"web.fed.example.test.", b"192.0.2.1", b"\x0a\x00"];

#[derive(Clone)]
enum Wire {
    Number(u64),
    Eight([u8; 8]),
    Octets(Vec<u8>),
    Four([u8; 4]),
}

fn number(dice: &mut Dice) -> Wire {
    match dice.below(4) {
        0 => Wire::Eight(f64::to_le_bytes(*dice.pick(&[0.0, -1.0, f64::NAN, f64::INFINITY, 1e300]))),
        1 => Wire::Four([0xff; 4]),
        _ => Wire::Number(*dice.pick(&[
            0,
            1,
            2,
            127,
            1 << 31,
            u64::from(u32::MAX),
            i64::MAX as u64,
            1 << 63,
            u64::MAX,
        ])),
    }
}

impl Wire {
    fn put(&self, field: u64, into: &mut Vec<u8>) {
        let kind = match self {
            Self::Number(_) => 0,
            Self::Eight(_) => 1,
            Self::Octets(_) => 2,
            Self::Four(_) => 5,
        };
        varint(field << 3 | kind, into);
        match self {
            Self::Number(number) => varint(*number, into),
            Self::Eight(octets) => into.extend(octets),
            Self::Octets(octets) => {
                varint(octets.len() as u64, into);
                into.extend(octets);
            }
            Self::Four(octets) => into.extend(octets),
        }
    }
}

fn varint(mut number: u64, into: &mut Vec<u8>) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

fn read_varint(octets: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = octets.split_first()?;
        *octets = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn fields(mut octets: &[u8]) -> Option<Vec<(u64, Wire)>> {
    let mut fields = Vec::new();
    while !octets.is_empty() {
        let tag = read_varint(&mut octets)?;
        let wire = match tag & 7 {
            0 => Wire::Number(read_varint(&mut octets)?),
            1 => Wire::Eight(octets.split_off(..8)?.try_into().ok()?),
            2 => {
                let length = usize::try_from(read_varint(&mut octets)?).ok()?;
                Wire::Octets(octets.split_off(..length)?.to_vec())
            }
            5 => Wire::Four(octets.split_off(..4)?.try_into().ok()?),
            _ => return None,
        };
        fields.push((tag >> 3, wire));
    }
    Some(fields)
}

/// A value that began as one of `samples`: members of it are left out, put elsewhere, taken from others, and replaced by what does not
/// belong there; texts in it are damaged with `words`.
pub(crate) fn value(dice: &mut Dice, samples: &[Value], words: &[&str]) -> Value {
    let mut value = dice.pick(samples).clone();
    for _ in 0..dice.below(5) {
        let donor = dice.pick(samples);
        let part = part_of(dice, donor).clone();
        if let Some(place) = place_in(&mut value, dice) {
            damage(dice, place, part, words);
        }
    }
    value
}

/// Somewhere in the value.
fn place_in<'v>(mut value: &'v mut Value, dice: &mut Dice) -> Option<&'v mut Value> {
    loop {
        let count = match &*value {
            Value::Object(members) => members.len(),
            Value::Array(items) => items.len(),
            _ => 0,
        };
        if count == 0 || dice.one_in(5) {
            return Some(value);
        }
        let at = dice.below(count);
        value = match value {
            Value::Object(members) => members.values_mut().nth(at)?,
            Value::Array(items) => items.get_mut(at)?,
            other => return Some(other),
        };
    }
}

fn part_of<'v>(dice: &mut Dice, mut value: &'v Value) -> &'v Value {
    loop {
        let next = match value {
            Value::Object(members) => members.values().nth(dice.below(members.len())),
            Value::Array(items) => items.get(dice.below(items.len())),
            _ => None,
        };
        match next {
            Some(next) if !dice.one_in(4) => value = next,
            _ => return value,
        }
    }
}

fn damage(dice: &mut Dice, place: &mut Value, part: Value, words: &[&str]) {
    match (dice.below(6), &mut *place) {
        (0, Value::Object(members)) => {
            let name = members.keys().nth(dice.below(members.len())).cloned();
            drop(name.and_then(|name| members.remove(&name)));
        }
        (0, Value::Array(items)) if !items.is_empty() => drop(items.remove(dice.below(items.len()))),
        (1, Value::Object(members)) => {
            let name = if dice.one_in(2) { *dice.pick(words) } else { "name" };
            members.insert(name.to_owned(), part);
        }
        (1 | 2, Value::Array(items)) => {
            let copy = items.get(dice.below(items.len())).cloned();
            items.push(copy.filter(|_| dice.one_in(2)).unwrap_or(part));
        }
        (2 | 3, Value::String(text)) => *text = self::text(dice, &[text.as_str(), ""], words),
        (2, Value::Object(members)) => {
            // A member under another name.
            let name = members.keys().nth(dice.below(members.len())).cloned();
            if let Some(moved) = name.and_then(|name| members.remove(&name)) {
                members.insert((*dice.pick(words)).to_owned(), moved);
            }
        }
        (3, _) => *place = part,
        _ => *place = odd(dice, words),
    }
}

fn odd(dice: &mut Dice, words: &[&str]) -> Value {
    match dice.below(12) {
        0 => Value::Null,
        1 => json!({}),
        2 => json!([]),
        3 => Value::Bool(dice.one_in(2)),
        4 => json!(0),
        5 => json!(-1),
        6 => json!(i64::MAX),
        7 => json!(u64::MAX),
        8 => {
            Number::from_f64(*dice.pick(&[0.5, -0.0, 1e300, 1e-300, 1.0])).map_or(Value::Null, Value::Number)
        }
        9 => json!([null]),
        10 => Value::Object(Map::from_iter([((*dice.pick(words)).to_owned(), Value::Null)])),
        _ => json!(dice.pick(words)),
    }
}
