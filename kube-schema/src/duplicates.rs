//! Fields that stand twice in one JSON object: parsing keeps the last one and forgets, so the text itself is read.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fmt::{self, Write as _};

use apimachinery::field::quoted;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::bounds::{MOST_TOLD, step};

/// So many faults are described; those that were told before are told no more, and a path may be long.
const MOST_DESCRIBED: usize = 10 * MOST_TOLD;

/// Paths of duplicate fields in a JSON text (fieldValidation Strict and Warn say `duplicate field "spec.replicas"`).
/// The first hundred are told, each once.
/// Malformed JSON is an error, as it is for the parser that reads the object.
pub fn duplicate_fields(json: &[u8]) -> Result<Vec<String>, serde_json::Error> {
    Ok(walk(json, &[])?.into_iter().map(|fault| fault.path).collect())
}

/// What Go's strict decoder says of a JSON text of a kind, in the order of the text, where the fields at the paths `unknown` are not of
/// the kind: the first hundred of them count. Such a field is unknown and nothing else, however often it stands there and whatever it has
/// within. Of all faults the first hundred are told, each once.
pub fn strict_faults(json: &[u8], unknown: &[String]) -> Result<Vec<String>, serde_json::Error> {
    let faults = walk(json, unknown.get(..MOST_TOLD).unwrap_or(unknown))?;
    Ok(faults
        .into_iter()
        .map(|Fault { path, unknown }| {
            let what = if unknown { "unknown" } else { "duplicate" };
            format!("{what} field {}", quoted(&path))
        })
        .collect())
}

#[derive(PartialEq, Eq)]
struct Fault {
    path: String,
    /// Else it stands there twice.
    unknown: bool,
}

/// What a walk has found.
#[derive(Default)]
struct Found {
    faults: Vec<Fault>,
    described: usize,
}

fn walk(json: &[u8], paths: &[String]) -> Result<Vec<Fault>, serde_json::Error> {
    let (found, mut unknown) = (RefCell::default(), HashMap::<_, Vec<_>>::new());
    for path in paths {
        unknown.entry(PathHash::default().with(path)).or_default().push(&**path);
    }
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    Walk { place: &Place::Top, outer: PathHash::default(), unknown: &unknown, found: &found }
        .deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(found.into_inner().faults)
}

/// The FNV-1a of a path, to which a step is added in the time that the step takes.
#[derive(Clone, Copy, PartialEq, Eq, std::hash::Hash)]
struct PathHash(u64);

impl Default for PathHash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl PathHash {
    fn with(mut self, step: impl fmt::Display) -> Self {
        _ = write!(self, "{step}");
        self
    }
}

impl fmt::Write for PathHash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        Ok(())
    }
}

/// Where the walk is. It becomes text only where a field is at fault.
enum Place<'a> {
    Top,
    Field(&'a Self, &'a str),
    Item(&'a Self, usize),
}

impl Place<'_> {
    /// Whether a path leads here, as paths are written: with as much of each name as they show.
    fn is(&self, path: &str) -> bool {
        match self {
            Self::Top => path.is_empty(),
            Self::Field(Self::Top, name) => path == step(name),
            Self::Field(outer, name) => path
                .strip_suffix(step(name))
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|rest| outer.is(rest)),
            Self::Item(outer, at) => path
                .strip_suffix(']')
                .and_then(|rest| rest.rsplit_once('['))
                .is_some_and(|(rest, number)| number.parse() == Ok(*at) && outer.is(rest)),
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Field(outer, _) | Self::Item(outer, _) = self {
            write!(f, "{outer}")?;
        }
        Last(self).fmt(f)
    }
}

/// The last step to a place.
struct Last<'a>(&'a Place<'a>);

impl fmt::Display for Last<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Place::Top => Ok(()),
            Place::Field(Place::Top, name) => f.write_str(step(name)),
            Place::Field(_, name) => write!(f, ".{}", step(name)),
            Place::Item(_, at) => write!(f, "[{at}]"),
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
    /// The hash of the place around it.
    outer: PathHash,
    unknown: &'a HashMap<PathHash, Vec<&'a str>>,
    found: &'a RefCell<Found>,
}

impl Walk<'_> {
    /// The hash of the place, which is of use only if anything is looked for.
    fn hash(&self) -> PathHash {
        if self.unknown.is_empty() { self.outer } else { self.outer.with(Last(self.place)) }
    }

    /// Whether a place within this one, which has this hash, is unknown.
    fn is_unknown(&self, hash: PathHash, place: &Place<'_>) -> bool {
        !self.unknown.is_empty()
            && self
                .unknown
                .get(&hash.with(Last(place)))
                .is_some_and(|paths| paths.iter().any(|path| place.is(path)))
    }

    /// Each fault is told once.
    fn tell(&self, place: &Place<'_>, unknown: bool) {
        let mut found = self.found.borrow_mut();
        if found.faults.len() >= MOST_TOLD || found.described >= MOST_DESCRIBED {
            return;
        }
        found.described += 1;
        let fault = Fault { path: place.to_string(), unknown };
        if !found.faults.contains(&fault) {
            found.faults.push(fault);
        }
    }
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
        let (mut seen, mut told) = (Seen::default(), Seen::default());
        let outer = self.hash();
        while let Some(Name(name)) = map.next_key()? {
            let place = Place::Field(self.place, &name);
            let unknown = self.is_unknown(outer, &place);
            let twice = seen.has(&name);
            // What was told of this very object need not be described again.
            let news = (unknown || twice) && !told.has(&name);
            if news {
                self.tell(&place, unknown);
            }
            if unknown {
                map.next_value::<IgnoredAny>()?;
            } else {
                map.next_value_seed(Walk { place: &place, outer, ..self })?;
            }
            if news {
                told.insert(name.clone());
            }
            if !twice {
                seen.insert(name);
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let outer = self.hash();
        for at in 0_usize.. {
            let place = Place::Item(self.place, at);
            if items.next_element_seed(Walk { place: &place, outer, ..self })?.is_none() {
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
        let below = |members: String| format!(r#"{{"{}":{{{members}"z":1}}}}"#, "n".repeat(1 << 20));
        let twice = |at: usize| format!(r#""a{at}":1,"a{at}":1,"#);
        let text = below((0..50_000).map(twice).collect());
        let found = duplicate_fields(text.as_bytes()).unwrap();
        assert_eq!(found.len(), MOST_TOLD);
        assert!(found.iter().all(|path| path.len() < 2048 && path.contains(".a")));
        let text = below(r#""a":1,"#.repeat(100_000));
        assert_eq!(duplicate_fields(text.as_bytes()).unwrap().len(), 1);
        // The same path again and again, each time in an object of its own.
        let text = below(r#""a":{"b":1,"b":1},"#.repeat(100_000));
        assert_eq!(duplicate_fields(text.as_bytes()).unwrap().len(), 2);
    }

    #[test]
    fn what_is_unknown_is_not_told_as_a_duplicate() {
        let text = br#"{"b": 1, "spec": {"u": {"x": 1, "x": 2}, "u": 2, "a": 1, "a": 2, "a": 3, "l": [{"v": 1, "w": 1, "w": 2}]}}"#;
        let unknown = ["spec.l[0].v", "spec.u", "b"].map(str::to_owned);
        assert_eq!(
            strict_faults(text, &unknown).unwrap(),
            [
                r#"unknown field "b""#,
                r#"unknown field "spec.u""#,
                r#"duplicate field "spec.a""#,
                r#"unknown field "spec.l[0].v""#,
                r#"duplicate field "spec.l[0].w""#,
            ]
        );
        assert_eq!(strict_faults(br#"{"a": 1, "a": 2}"#, &[]).unwrap(), [r#"duplicate field "a""#]);
    }

    #[test]
    fn a_long_name_that_is_unknown_is_found_by_what_paths_show_of_it() {
        let name = "n".repeat(1 << 12);
        let shown = step(&name).to_owned();
        let text = format!(r#"{{"spec":{{"{name}":{{"x":1,"x":1}}}}}}"#);
        let unknown = [format!("spec.{shown}")];
        let told = strict_faults(text.as_bytes(), &unknown).unwrap();
        assert_eq!(told, [format!("unknown field \"spec.{shown}\"")]);
    }

    #[test]
    fn many_unknown_fields_of_one_name_take_little_to_find() {
        let owners = |count: usize| format!(r#"{{"m":{{"l":[{}{{}}]}}}}"#, r#"{"q":1},"#.repeat(count));
        let unknown: Vec<_> = (0..MOST_TOLD).map(|at| format!("m.l[{at}].q")).collect();
        let told = strict_faults(owners(300_000).as_bytes(), &unknown).unwrap();
        assert_eq!(told.len(), MOST_TOLD);
        assert_eq!(told[99], r#"unknown field "m.l[99].q""#);
        // One of them again and again below names that are told in part.
        let name = "n".repeat(2000);
        let text = format!(r#"{{"{name}":[{{{}"z":1}}]}}"#, r#""q":1,"#.repeat(300_000));
        let unknown: Vec<_> = (0..MOST_TOLD).map(|at| format!("{}[{at}].q", step(&name))).collect();
        assert_eq!(strict_faults(text.as_bytes(), &unknown).unwrap().len(), 1);
    }

    #[test]
    fn paths_are_quoted_as_go_quotes_them() {
        let unknown = ["a\"b\n".to_owned()];
        assert_eq!(
            strict_faults(br#"{"a\"b\n": 1, "\u200b": 1, "\u200b": 2}"#, &unknown).unwrap(),
            [r#"unknown field "a\"b\n""#, r#"duplicate field "\u200b""#]
        );
    }

    #[test]
    fn malformed_json_is_an_error() {
        assert!(duplicate_fields(b"{\"a\": ").is_err());
        assert!(duplicate_fields(&b"[".repeat(100_000)).is_err());
    }
}
