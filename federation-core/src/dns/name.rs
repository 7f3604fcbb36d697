//! Domain names in lower-case wire form.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use super::{LABELS_MAX, NAME_MAX};

/// A fully qualified name: labels with their length octets, lower case, and the final zero.
///
/// Ordered canonically (RFC 4034 section 6.1), so that everything below a name follows it at once.
/// Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name(Arc<[u8]>);

/// Why a text is not a name that a zone may hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No final dot.
    #[error("{0:?} is not fully qualified: end it with a dot")]
    Relative(String),
    /// Two dots together, or one in front.
    #[error("{0:?} has an empty label")]
    EmptyLabel(String),
    /// A label of more than 63 octets.
    #[error("{0:?} has a label longer than 63 octets")]
    LongLabel(String),
    /// More than 255 octets.
    #[error("{0:?} is longer than 255 octets")]
    Long(String),
    /// A character that host names and service labels do not have.
    #[error(
        "{name:?} has {character:?}: letters, digits, '-' and '_' may stand in a label, '*' alone as the first"
    )]
    Character {
        /// The whole text.
        name: String,
        /// What may not stand there.
        character: char,
    },
}

impl Name {
    /// Reads presentation format. Upper case becomes lower case; escapes are not taken, for no name here needs one.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let Some(labels) = text.strip_suffix('.') else {
            return Err(NameError::Relative(text.into()));
        };
        let mut wire = Vec::with_capacity(text.len() + 1);
        if !labels.is_empty() {
            for (index, label) in labels.split('.').enumerate() {
                match label.len() {
                    0 => return Err(NameError::EmptyLabel(text.into())),
                    1..=63 => {}
                    _ => return Err(NameError::LongLabel(text.into())),
                }
                let wildcard = index == 0 && label == "*";
                let refused = label.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')));
                if let (Some(character), false) = (refused, wildcard) {
                    return Err(NameError::Character { name: text.into(), character });
                }
                wire.push(label.len() as u8);
                wire.extend(label.bytes().map(|b| b.to_ascii_lowercase()));
            }
        }
        wire.push(0);
        if wire.len() > NAME_MAX {
            return Err(NameError::Long(text.into()));
        }
        Ok(Self(wire.into()))
    }

    /// The name that `wire` is, if it is whole, uncompressed and within the limits of RFC 1035.
    pub fn from_wire(wire: &[u8]) -> Option<Self> {
        if wire.len() > NAME_MAX {
            return None;
        }
        let mut rest = wire;
        loop {
            let (&length, tail) = rest.split_first()?;
            match length {
                0 if tail.is_empty() => return Some(Self(wire.to_ascii_lowercase().into())),
                1..=63 => rest = tail.get(length as usize..)?,
                _ => return None,
            }
        }
    }

    /// The wire form.
    pub fn wire(&self) -> &[u8] {
        &self.0
    }

    /// Offsets of the labels in the wire form, leftmost first, without the root.
    pub fn label_offsets(&self) -> impl Iterator<Item = usize> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let length = *self.0.get(at)? as usize;
            if length == 0 {
                return None;
            }
            let offset = at;
            at += 1 + length;
            Some(offset)
        })
    }

    /// How many labels there are, without the root.
    pub fn label_count(&self) -> usize {
        self.label_offsets().count()
    }

    /// The name without its leftmost label; the root has no parent.
    pub fn parent(&self) -> Option<Self> {
        let length = *self.0.first()? as usize;
        (length > 0).then(|| Self(self.0.get(1 + length..).unwrap_or(&[0]).into()))
    }

    /// The wildcard right below this name, if it is not too long.
    pub fn wildcard(&self) -> Option<Self> {
        let wire = [b"\x01*", &*self.0].concat();
        (wire.len() <= NAME_MAX).then(|| Self(wire.into()))
    }

    /// Whether the leftmost label is `*` (RFC 4592).
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with(b"\x01*")
    }

    /// Whether this name is `other` or below it.
    pub fn is_within(&self, other: &Self) -> bool {
        let Some(from) = self.0.len().checked_sub(other.0.len()) else {
            return false;
        };
        self.0.get(from..) == Some(other.wire())
            && (from + 1 == self.0.len() || from == 0 || self.label_offsets().any(|at| at == from))
    }

    /// Its labels without their lengths, from the root on.
    pub fn labels_from_root(&self) -> Vec<&[u8]> {
        let mut labels: Vec<&[u8]> = self
            .label_offsets()
            .filter_map(|at| {
                let length = *self.0.get(at)? as usize;
                self.0.get(at + 1..at + 1 + length)
            })
            .collect();
        labels.reverse();
        labels
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        let (mine, theirs) = (Labels::of(self), Labels::of(other));
        for back in 1..=mine.count.min(theirs.count) {
            match mine.get(self, back).cmp(theirs.get(other, back)) {
                Ordering::Equal => {}
                unequal => return unequal,
            }
        }
        mine.count.cmp(&theirs.count)
    }
}

/// Where a name's labels start, without allocating: zones are sorted by comparing names.
struct Labels {
    starts: [u8; LABELS_MAX],
    count: usize,
}

impl Labels {
    fn of(name: &Name) -> Self {
        let mut labels = Self { starts: [0; LABELS_MAX], count: 0 };
        for (place, at) in labels.starts.iter_mut().zip(name.label_offsets()) {
            *place = at as u8;
            labels.count += 1;
        }
        labels
    }

    /// The label that is `back` from the root, 1 being the one next to it.
    fn get<'n>(&self, name: &'n Name, back: usize) -> &'n [u8] {
        let at = self
            .count
            .checked_sub(back)
            .and_then(|index| self.starts.get(index))
            .map_or(0, |&at| at as usize);
        let length = name.0.get(at).map_or(0, |&length| length as usize);
        name.0.get(at + 1..at + 1 + length).unwrap_or_default()
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() == 1 {
            return f.write_str(".");
        }
        for label in self.labels_from_root().iter().rev() {
            for &byte in *label {
                match byte {
                    b'.' | b'\\' => write!(f, "\\{}", byte as char)?,
                    0x21..=0x7e => write!(f, "{}", byte as char)?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
            f.write_str(".")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn names_are_read_in_lower_case_and_written_back() {
        assert_eq!(name("Web.Fed.EXAMPLE.test.").to_string(), "web.fed.example.test.");
        assert_eq!(name(".").wire(), &[0]);
        assert_eq!(name("*.a.").to_string(), "*.a.");
    }

    #[test]
    fn names_that_a_zone_cannot_hold_are_refused() {
        assert!(matches!(Name::parse("web"), Err(NameError::Relative(_))));
        assert!(matches!(Name::parse("a..b."), Err(NameError::EmptyLabel(_))));
        assert!(matches!(Name::parse(""), Err(NameError::Relative(_))));
        assert!(matches!(Name::parse("a b."), Err(NameError::Character { character: ' ', .. })));
        assert!(matches!(Name::parse("a.*."), Err(NameError::Character { character: '*', .. })));
        assert!(matches!(Name::parse(&format!("{}.", "a".repeat(64))), Err(NameError::LongLabel(_))));
        assert!(matches!(Name::parse(&"a.".repeat(128)), Err(NameError::Long(_))));
    }

    #[test]
    fn being_within_respects_label_borders() {
        assert!(name("a.b.test.").is_within(&name("b.test.")));
        assert!(name("b.test.").is_within(&name("b.test.")));
        assert!(name("b.test.").is_within(&name(".")));
        assert!(!name("ab.test.").is_within(&name("b.test.")));
        // The octets of the suffix stand inside a label here.
        assert!(!Name(b"\x04a\x01bc\x00".to_vec().into()).is_within(&Name(b"\x01bc\x00".to_vec().into())));
    }

    #[test]
    fn descendants_follow_their_ancestor() {
        let mut names = ["z.test.", "b.a.test.", "a.test.", "test.", "c.a.test.", "a-b.test."].map(name);
        names.sort();
        assert_eq!(
            names.map(|n| n.to_string()),
            ["test.", "a.test.", "b.a.test.", "c.a.test.", "a-b.test.", "z.test."]
        );
    }
}
