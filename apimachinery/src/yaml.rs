//! YAML as `sigs.k8s.io/yaml` writes it, byte for byte: libyaml's emitter in block style, 80 columns wide.
//!
//! Only what JSON values need is here: no anchors, tags or flow collections but empty ones.

mod plain;
mod scalar;

use std::cmp::Ordering;

use serde_json::Value;

use crate::numbers;
use scalar::Style;

/// Writes a value as a YAML document.
///
/// ```
/// use serde_json::json;
/// let object = json!({"b": ["yes", "a: b", 1.5, null], "a": {}});
/// assert_eq!(apimachinery::yaml::to_string(&object), "a: {}\nb:\n- \"yes\"\n- 'a: b'\n- 1.5\n- null\n");
/// ```
pub fn to_string(value: &Value) -> String {
    let mut emitter =
        Emitter { out: String::new(), column: 0, indent: None, whitespace: true, indention: true };
    emitter.node(value, Context::Item);
    emitter.write_indent();
    emitter.out
}

/// Columns after which long texts go on in the next line.
const WIDTH: usize = 80;
/// Columns of one level.
const INDENT: usize = 2;
/// Bytes of a key that stands before its value in one line.
const SIMPLE_KEY_MAX: usize = 128;

/// Where a node stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Context {
    /// An item of a list, or the whole document.
    Item,
    /// A key that stands before its value.
    SimpleKey,
    /// A value, or a key that is no simple one.
    Mapping,
}

struct Emitter {
    out: String,
    column: usize,
    /// None before the first level.
    indent: Option<usize>,
    /// What was written last separates what comes next.
    whitespace: bool,
    /// Nothing but indentation was written in this line.
    indention: bool,
}

impl Emitter {
    fn node(&mut self, value: &Value, context: Context) {
        match value {
            Value::Null => self.plain("null", context),
            Value::Bool(flag) => self.plain(if *flag { "true" } else { "false" }, context),
            Value::Number(number) if number.is_f64() => {
                let text = number.as_f64().map(numbers::general).unwrap_or_default();
                self.plain(&text, context);
            }
            Value::Number(number) => self.plain(&number.to_string(), context),
            Value::String(text) => self.text(text, context),
            Value::Array(items) if items.is_empty() => self.empty("[", "]"),
            Value::Object(map) if map.is_empty() => self.empty("{", "}"),
            Value::Array(items) => {
                let outer = self.indent;
                self.increase_indent(false, context == Context::Mapping && !self.indention);
                for item in items {
                    self.write_indent();
                    self.indicator("-", true, false, true);
                    self.node(item, Context::Item);
                }
                self.indent = outer;
            }
            Value::Object(map) => {
                let outer = self.indent;
                self.increase_indent(false, false);
                let mut members: Vec<_> = map.iter().collect();
                sort(&mut members, |(a, _), (b, _)| key_order(a, b));
                for (key, value) in members {
                    self.write_indent();
                    if key.len() <= SIMPLE_KEY_MAX && !scalar::Analysis::of(key).multiline {
                        self.text(key, Context::SimpleKey);
                        self.indicator(":", false, false, false);
                    } else {
                        self.indicator("?", true, false, true);
                        self.text(key, Context::Mapping);
                        self.write_indent();
                        self.indicator(":", true, false, true);
                    }
                    self.node(value, Context::Mapping);
                }
                self.indent = outer;
            }
        }
    }

    fn empty(&mut self, open: &str, close: &str) {
        self.indicator(open, true, true, false);
        self.indicator(close, false, false, false);
    }

    fn plain(&mut self, text: &str, context: Context) {
        self.scalar(text, Style::Plain, context);
    }

    fn text(&mut self, text: &str, context: Context) {
        let style = if text.contains('\n') {
            Style::Literal
        } else if plain::is_text(text) {
            Style::Plain
        } else {
            Style::DoubleQuoted
        };
        self.scalar(text, style, context);
    }

    fn scalar(&mut self, text: &str, style: Style, context: Context) {
        let is_key = context == Context::SimpleKey;
        let style = scalar::Analysis::of(text).allowed(style, text, is_key);
        let outer = self.indent;
        self.increase_indent(true, false);
        match style {
            Style::Plain => self.write_plain(text, !is_key),
            Style::SingleQuoted => self.write_single_quoted(text, !is_key),
            Style::DoubleQuoted => self.write_double_quoted(text, !is_key),
            Style::Literal => self.write_literal(text),
        }
        self.indent = outer;
    }

    fn increase_indent(&mut self, flow: bool, indentless: bool) {
        self.indent = Some(match self.indent {
            None if flow => INDENT,
            None => 0,
            Some(indent) if indentless => indent,
            Some(indent) => indent + INDENT,
        });
    }

    fn put(&mut self, letter: char) {
        self.out.push(letter);
        self.column += 1;
    }

    fn put_break(&mut self, letter: char) {
        self.out.push(letter);
        self.column = 0;
    }

    fn write_indent(&mut self) {
        let indent = self.indent.unwrap_or_default();
        if !self.indention || self.column > indent || (self.column == indent && !self.whitespace) {
            self.put_break('\n');
        }
        while self.column < indent {
            self.put(' ');
        }
        self.whitespace = true;
        self.indention = true;
    }

    fn indicator(&mut self, indicator: &str, spaced: bool, is_whitespace: bool, is_indention: bool) {
        if spaced && !self.whitespace {
            self.put(' ');
        }
        indicator.chars().for_each(|letter| self.put(letter));
        self.whitespace = is_whitespace;
        self.indention = self.indention && is_indention;
    }
}

/// The order of keys: letters behind all else, and numbers by their value.
fn key_order(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(at) = a.iter().zip(&b).position(|(a, b)| a != b) else { return a.len().cmp(&b.len()) };
    let (mine, other) = (a[at], b[at]);
    match (mine.is_alphabetic(), other.is_alphabetic()) {
        (true, true) => return mine.cmp(&other),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    // Behind other digits a zero is one of them.
    let before = a[..at].iter().rev().take_while(|letter| letter.is_ascii_digit());
    let within = (mine == '0' || other == '0') && before.into_iter().any(|letter| *letter != '0');
    let number = |letters: &[char]| {
        let digits = letters[at..].iter().take_while(|letter| letter.is_ascii_digit());
        digits.fold((i64::from(within), at), |(number, end), letter| {
            let digit = i64::from(letter.to_digit(10).unwrap_or_default());
            (number.wrapping_mul(10).wrapping_add(digit), end + 1)
        })
    };
    number(&a).cmp(&number(&b)).then(mine.cmp(&other))
}

/// Sorts. The order of keys may run in circles, which the sort of the library does not bear.
fn sort<T: Copy>(items: &mut [T], order: impl Fn(&T, &T) -> Ordering + Copy) {
    let middle = items.len() / 2;
    if middle == 0 {
        return;
    }
    let mut sorted = Vec::with_capacity(items.len());
    let (left, right) = items.split_at_mut(middle);
    sort(left, order);
    sort(right, order);
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let from_right = order(b, a) == Ordering::Less;
        sorted.extend(if from_right { right.next() } else { left.next() });
    }
    sorted.extend(left.chain(right));
    items.copy_from_slice(&sorted);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(value: Value, expect: &str) {
        assert_eq!(to_string(&value), expect);
    }

    #[test]
    fn collections_are_blocks_and_lists_stand_below_their_keys() {
        check(json!({}), "{}\n");
        check(json!([]), "[]\n");
        check(json!("a"), "a\n");
        check(
            json!({"a": [[1, 2], {"b": [], "c": {}}], "d": {"e": {"f": 1}}}),
            "a:\n- - 1\n  - 2\n- b: []\n  c: {}\nd:\n  e:\n    f: 1\n",
        );
    }

    #[test]
    fn field_ownership_is_plain() {
        check(
            json!({"f:spec": {".": {}, "f:a": {}, "k:{\"n\":\"b\"}": {}, "v:\"x\"": {}}}),
            "f:spec:\n  .: {}\n  f:a: {}\n  k:{\"n\":\"b\"}: {}\n  v:\"x\": {}\n",
        );
    }

    #[test]
    fn texts_that_would_be_something_else_are_quoted() {
        check(
            json!([
                "",
                "y",
                "No",
                "~",
                "null",
                "1",
                "0x1f",
                "08",
                "1_000",
                "1e3",
                ".5",
                "12:30:45",
                "2001-01-02",
                "1.2.3",
                "0b2"
            ]),
            "- \"\"\n- \"y\"\n- \"No\"\n- \"~\"\n- \"null\"\n- \"1\"\n- \"0x1f\"\n- \"08\"\n- \"1_000\"\n- \"1e3\"\n- \".5\"\n- \"12:30:45\"\n- \"2001-01-02\"\n- 1.2.3\n- 0b2\n",
        );
        check(
            json!([
                "a: b",
                "a #b",
                " a",
                "- a",
                "*a",
                "it's",
                "'a",
                "a\tb",
                "é",
                "\u{1F600}",
                "---",
                "%a",
                "a:",
                "-"
            ]),
            "- 'a: b'\n- 'a #b'\n- ' a'\n- '- a'\n- '*a'\n- it's\n- '''a'\n- \"a\\tb\"\n- é\n- \"\\U0001F600\"\n- '---'\n- '%a'\n- 'a:'\n- '-'\n",
        );
    }

    #[test]
    fn texts_of_many_lines_are_blocks() {
        check(
            json!({"a": "x\ny\n", "b": "x\n\n", "c": " x\ny", "d": "x \ny", "e": "\n"}),
            "a: |\n  x\n  y\nb: |+\n  x\n\nc: |2-\n   x\n  y\nd: \"x \\ny\"\ne: |2+\n\n",
        );
        check(json!({"a\nb": 1}), "? |-\n  a\n  b\n: 1\n");
    }

    #[test]
    fn long_texts_go_on_in_the_next_line() {
        let words = ["word"; 40].join(" ");
        let text = to_string(&json!({"a": words, "b": format!("{words}: ")}));
        let longest = text.lines().map(str::len).max();
        assert!(longest.is_some_and(|longest| longest <= 85), "{text}");
        assert_eq!(text.lines().count(), 6, "{text}");
    }

    #[test]
    fn numbers_in_keys_are_in_their_order() {
        check(
            json!({"a10": 1, "a9": 2, "B": 3, "a": 4, "1": 5, "-": 6, "a-1": 7, "10": 8, "9": 9}),
            "'-': 6\n\"1\": 5\n\"9\": 9\n\"10\": 8\nB: 3\na: 4\na-1: 7\na9: 2\na10: 1\n",
        );
    }
}
