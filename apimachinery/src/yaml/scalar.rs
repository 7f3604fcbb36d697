//! How texts are written: in which style, and on how many lines.

use super::{Emitter, INDENT, WIDTH};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    SingleQuoted,
    DoubleQuoted,
    Literal,
}

/// What a text has that styles cannot write.
pub(super) struct Analysis {
    pub(super) multiline: bool,
    plain: bool,
    single_quoted: bool,
    block: bool,
}

fn is_break(letter: char) -> bool {
    matches!(letter, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Letters beyond 16 bits are not printable to libyaml.
fn is_printable(letter: char) -> bool {
    matches!(letter, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}')
}

impl Analysis {
    pub(super) fn of(text: &str) -> Self {
        if text.is_empty() {
            return Self { multiline: false, plain: true, single_quoted: true, block: false };
        }
        let mut indicators = text.starts_with("---") || text.starts_with("...");
        let (mut line_breaks, mut special) = (false, false);
        let (mut leading, mut trailing_space, mut trailing_break) = (false, false, false);
        let (mut break_space, mut space_break) = (false, false);
        let (mut after_space, mut after_break, mut after_blank) = (false, false, true);
        let mut letters = text.chars().peekable();
        let mut is_first = true;
        while let Some(letter) = letters.next() {
            let next = letters.peek();
            let before_blank = next.is_none_or(|next| matches!(next, ' ' | '\t'));
            indicators |= match letter {
                '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@'
                | '`'
                    if is_first =>
                {
                    true
                }
                '?' | '-' if is_first => before_blank,
                ':' => before_blank,
                '#' => after_blank,
                _ => false,
            };
            special |= !is_printable(letter);
            let (space, breaks) = (letter == ' ', is_break(letter));
            leading |= is_first && (space || breaks);
            line_breaks |= breaks;
            trailing_space |= space && next.is_none();
            trailing_break |= breaks && next.is_none();
            break_space |= space && after_break;
            space_break |= breaks && after_space;
            (after_space, after_break) = (space, breaks);
            after_blank = matches!(letter, ' ' | '\t' | '\0') || breaks;
            is_first = false;
        }
        Self {
            multiline: line_breaks,
            plain: !(leading
                || trailing_space
                || trailing_break
                || break_space
                || space_break
                || special
                || line_breaks
                || indicators),
            single_quoted: !(break_space || space_break || special),
            block: !(trailing_space || space_break || special),
        }
    }

    /// The style in which the text can be written that comes nearest to the one that is wanted.
    pub(super) fn allowed(&self, wanted: Style, text: &str, is_key: bool) -> Style {
        let mut style = wanted;
        if is_key && self.multiline {
            style = Style::DoubleQuoted;
        }
        if style == Style::Plain && (!self.plain || text.is_empty() && is_key) {
            style = Style::SingleQuoted;
        }
        if style == Style::SingleQuoted && !self.single_quoted
            || style == Style::Literal && (!self.block || is_key)
        {
            style = Style::DoubleQuoted;
        }
        style
    }
}

impl Emitter {
    pub(super) fn write_plain(&mut self, text: &str, breaks: bool) {
        if !self.whitespace {
            self.put(' ');
        }
        self.flow(text, breaks, |_, _| true);
    }

    pub(super) fn write_single_quoted(&mut self, text: &str, breaks: bool) {
        self.indicator("'", true, false, false);
        // Neither at the beginning nor at the end.
        let last = text.len().saturating_sub(1);
        self.flow(text, breaks, |at, emitter| {
            if text[at..].starts_with('\'') {
                emitter.put('\'');
            }
            at > 0 && at < last
        });
        self.indicator("'", false, false, false);
    }

    /// Writes a text in lines. `begin` is asked at each letter, and tells whether the line may end there.
    fn flow(&mut self, text: &str, may_break: bool, begin: impl Fn(usize, &mut Self) -> bool) {
        let (mut spaces, mut breaks) = (false, false);
        for (at, letter) in text.char_indices() {
            if letter == ' ' {
                let inner = begin(at, self);
                let before_space = text[at + 1..].starts_with(' ');
                if may_break && inner && !spaces && self.column > WIDTH && !before_space {
                    self.write_indent();
                } else {
                    self.put(letter);
                }
                spaces = true;
            } else if is_break(letter) {
                if !breaks && letter == '\n' {
                    self.put_break('\n');
                }
                self.put_break(letter);
                self.indention = true;
                breaks = true;
            } else {
                if breaks {
                    self.write_indent();
                }
                begin(at, self);
                self.put(letter);
                self.indention = false;
                (spaces, breaks) = (false, false);
            }
        }
        self.whitespace = false;
        self.indention = false;
    }

    pub(super) fn write_double_quoted(&mut self, text: &str, may_break: bool) {
        self.indicator("\"", true, false, false);
        // Behind a byte order mark libyaml takes each letter for one.
        let marked = text.starts_with('\u{feff}');
        let mut spaces = false;
        for (at, letter) in text.char_indices() {
            if !is_printable(letter) || marked || is_break(letter) || matches!(letter, '"' | '\\') {
                self.escape(letter);
                spaces = false;
            } else if letter == ' ' {
                let inner = at > 0 && at < text.len() - 1;
                if may_break && !spaces && self.column > WIDTH && inner {
                    self.write_indent();
                    if text[at + 1..].starts_with(' ') {
                        self.put('\\');
                    }
                } else {
                    self.put(letter);
                }
                spaces = true;
            } else {
                self.put(letter);
                spaces = false;
            }
        }
        self.indicator("\"", false, false, false);
        self.whitespace = false;
        self.indention = false;
    }

    fn escape(&mut self, letter: char) {
        let code = u32::from(letter);
        let short = match letter {
            '\0' => '0',
            '\x07' => 'a',
            '\x08' => 'b',
            '\t' => 't',
            '\n' => 'n',
            '\x0b' => 'v',
            '\x0c' => 'f',
            '\r' => 'r',
            '\x1b' => 'e',
            '"' | '\\' => letter,
            '\u{85}' => 'N',
            '\u{a0}' => '_',
            '\u{2028}' => 'L',
            '\u{2029}' => 'P',
            _ => {
                let long = match code {
                    0..=0xff => format!("\\x{code:02X}"),
                    0x100..=0xffff => format!("\\u{code:04X}"),
                    _ => format!("\\U{code:08X}"),
                };
                long.chars().for_each(|letter| self.put(letter));
                return;
            }
        };
        self.put('\\');
        self.put(short);
    }

    pub(super) fn write_literal(&mut self, text: &str) {
        self.indicator("|", true, false, false);
        if text.starts_with(|letter| letter == ' ' || is_break(letter)) {
            self.indicator(&INDENT.to_string(), false, false, false);
        }
        let mut last = text.chars().rev();
        match (last.next(), last.next()) {
            (Some(end), _) if !is_break(end) => self.indicator("-", false, false, false),
            (None, _) => self.indicator("-", false, false, false),
            (_, before) if before.is_none_or(is_break) => self.indicator("+", false, false, false),
            _ => {}
        }
        self.put_break('\n');
        self.indention = true;
        self.whitespace = true;
        let mut breaks = true;
        for letter in text.chars() {
            if is_break(letter) {
                self.put_break(letter);
                self.indention = true;
                breaks = true;
            } else {
                if breaks {
                    self.write_indent();
                }
                self.put(letter);
                self.indention = false;
                breaks = false;
            }
        }
    }
}
