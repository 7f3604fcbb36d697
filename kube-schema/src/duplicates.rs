//! Fields that stand twice in one JSON object: parsing keeps the last one and forgets, so the text itself is read.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::bounds::{step, tell};

/// Paths of duplicate fields in a JSON text (fieldValidation Strict and Warn say `duplicate field "spec.replicas"`).
/// The first hundred are told.
/// Malformed JSON is an error, as it is for the parser that reads the object.
pub fn duplicate_fields(json: &[u8]) -> Result<Vec<String>, serde_json::Error> {
    let found = RefCell::new(Vec::new());
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    Walk { place: &Place::Top, found: &found }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(found.into_inner())
}

/// Where the walk is. It becomes text only where a field stands twice.
enum Place<'a> {
    Top,
    Field(&'a Self, &'a str),
    Item(&'a Self, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Top => Ok(()),
            Self::Field(Self::Top, name) => f.write_str(step(name)),
            Self::Field(outer, name) => write!(f, "{outer}.{}", step(name)),
            Self::Item(outer, at) => write!(f, "{outer}[{at}]"),
        }
    }
}

/// A name, which most often needs no copy.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Names of up to so many members are compared one by one.
const FEW: usize = 16;

/// The names of an object that have passed.
#[derive(Default)]
struct Seen<'de> {
    few: Vec<Cow<'de, str>>,
    many: HashSet<Cow<'de, str>>,
}

impl<'de> Seen<'de> {
    fn has(&self, name: &str) -> bool {
        self.few.iter().any(|seen| seen == name) || self.many.contains(name)
    }

    fn insert(&mut self, name: Cow<'de, str>) {
        if self.few.len() < FEW {
            self.few.push(name);
        } else {
            self.many.insert(name);
        }
    }
}

#[derive(Clone, Copy)]
struct Walk<'a> {
    place: &'a Place<'a>,
    found: &'a RefCell<Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = Seen::default();
        while let Some(Name(name)) = map.next_key()? {
            let place = Place::Field(self.place, &name);
            map.next_value_seed(Walk { place: &place, found: self.found })?;
            if seen.has(&name) {
                tell(&mut self.found.borrow_mut(), || place.to_string());
            } else {
                seen.insert(name);
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        for at in 0_usize.. {
            let place = Place::Item(self.place, at);
            if items.next_element_seed(Walk { place: &place, found: self.found })?.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        IgnoredAny.visit_newtype_struct(deserializer).map(|_| ())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_are_named_with_their_path() {
        let text = br#"{"spec": {"a": 1, "list": [{"b": null, "b": 2.5}], "a": "x"}, "other": {"a": true}}"#;
        assert_eq!(duplicate_fields(text).unwrap(), ["spec.list[0].b", "spec.a"]);
    }

    #[test]
    fn many_duplicates_below_a_long_name_take_little_to_tell() {
        let text = format!(r#"{{"{}":{{{}"a":1}}}}"#, "n".repeat(1 << 20), r#""a":1,"#.repeat(100_000));
        let found = duplicate_fields(text.as_bytes()).unwrap();
        assert_eq!(found.len(), crate::bounds::MOST_TOLD);
        assert!(found.iter().all(|path| path.len() < 2048 && path.ends_with('a')));
    }

    #[test]
    fn malformed_json_is_an_error() {
        assert!(duplicate_fields(b"{\"a\": ").is_err());
        assert!(duplicate_fields(&b"[".repeat(100_000)).is_err());
    }
}
