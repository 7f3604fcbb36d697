//! Zone files (master files, RFC 1035 section 5.1), as `fedctl dns import` reads them.

use std::iter::Peekable;
use std::str::Chars;

use super::{Name, Type};

/// One record of a master file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The owner.
    pub name: Name,
    /// Seconds; none if the file says nothing.
    pub ttl: Option<u32>,
    /// The type's mnemonic, in capitals.
    pub kind: String,
    /// Presentation format, with names made absolute.
    pub data: String,
}

/// Why a file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct MasterError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub what: String,
}

/// A word, and whether it was quoted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Word {
    text: String,
    quoted: bool,
}

/// A record or directive: where it begins, whether it begins with space, and its words.
struct Line {
    number: usize,
    indented: bool,
    words: Vec<Word>,
}

/// Reads a file whose names are relative to `origin` until it says otherwise.
///
/// # Errors
/// At the first line that cannot be read. `$INCLUDE` and `$GENERATE` are not followed.
pub fn parse(text: &str, origin: &Name) -> Result<Vec<Entry>, MasterError> {
    let (mut origin, mut default_ttl, mut owner) = (origin.clone(), None, None::<Name>);
    let mut entries = Vec::new();
    for Line { number, indented, words } in lines(text)? {
        let wrong = |what: String| MasterError { line: number, what };
        let mut words = words.into_iter().peekable();
        if !indented {
            let Some(first) = words.next() else { continue };
            match first.text.to_ascii_uppercase().as_str() {
                "$ORIGIN" => {
                    let name = words.next().ok_or_else(|| wrong("$ORIGIN needs a name".into()))?;
                    origin = absolute(&name.text, &origin).map_err(wrong)?;
                    continue;
                }
                "$TTL" => {
                    let ttl = words.next().and_then(|word| seconds(&word.text));
                    default_ttl =
                        Some(ttl.ok_or_else(|| wrong("$TTL needs seconds, or a time such as 1h".into()))?);
                    continue;
                }
                directive if directive.starts_with('$') => {
                    return Err(wrong(format!("{directive} is not followed: write its records out")));
                }
                _ => owner = Some(absolute(&first.text, &origin).map_err(wrong)?),
            }
        }
        let Some(name) = owner.clone() else { return Err(wrong("the first record has no name".into())) };
        // TTL and class stand in either order.
        let mut ttl = default_ttl;
        while let Some(word) = words.peek().filter(|word| !word.quoted) {
            if let Some(given) = seconds(&word.text) {
                ttl = Some(given);
            } else if !word.text.eq_ignore_ascii_case("IN") {
                break;
            }
            words.next();
        }
        let kind = words.next().ok_or_else(|| wrong("there is no type".into()))?.text.to_ascii_uppercase();
        let data = data(&kind, words.collect(), &origin).map_err(wrong)?;
        entries.push(Entry { name, ttl, kind, data });
    }
    Ok(entries)
}

/// Words by record: comments left out, parentheses joining lines.
fn lines(text: &str) -> Result<Vec<Line>, MasterError> {
    let mut lines = Vec::new();
    let mut line: Option<Line> = None;
    let mut open = 0_usize;
    for (number, source) in text.lines().enumerate().map(|(index, source)| (index + 1, source)) {
        let wrong = |what: &str| MasterError { line: number, what: what.into() };
        let line_now = line.get_or_insert_with(|| Line {
            number,
            indented: source.starts_with([' ', '\t']),
            words: Vec::new(),
        });
        let mut characters = source.chars().peekable();
        while let Some(&character) = characters.peek() {
            match character {
                ';' => break,
                '(' => {
                    characters.next();
                    open += 1;
                }
                ')' => {
                    characters.next();
                    open = open.checked_sub(1).ok_or_else(|| wrong("there is a ) without a ("))?;
                }
                space if space.is_whitespace() => {
                    characters.next();
                }
                '"' => {
                    characters.next();
                    line_now.words.push(quoted(&mut characters).map_err(wrong)?);
                }
                _ => line_now.words.push(unquoted(&mut characters).map_err(wrong)?),
            }
        }
        if open == 0
            && let Some(done) = line.take().filter(|line| !line.words.is_empty())
        {
            lines.push(done);
        }
    }
    match line {
        Some(line) => Err(MasterError { line: line.number, what: "its ( is not closed".into() }),
        None => Ok(lines),
    }
}

const UNCLOSED: &str = "a \" is not closed on its line";

/// A word up to its closing quote, whose opening one was read.
fn quoted(characters: &mut Peekable<Chars<'_>>) -> Result<Word, &'static str> {
    let mut text = String::new();
    loop {
        match characters.next().ok_or(UNCLOSED)? {
            '"' => return Ok(Word { text, quoted: true }),
            '\\' => {
                text.push('\\');
                text.extend(characters.next());
            }
            other => text.push(other),
        }
    }
}

/// A word up to a space, a comment or a parenthesis.
fn unquoted(characters: &mut Peekable<Chars<'_>>) -> Result<Word, &'static str> {
    let (mut text, mut inside) = (String::new(), false);
    while let Some(&character) = characters.peek() {
        if !inside && (character.is_whitespace() || matches!(character, ';' | '(' | ')')) {
            break;
        }
        characters.next();
        text.push(character);
        match character {
            // Within a word, as in alpn="h2,h3": what is quoted is part of it, with its quotes.
            '"' => inside = !inside,
            '\\' => text.extend(characters.next()),
            _ => {}
        }
    }
    if inside { Err(UNCLOSED) } else { Ok(Word { text, quoted: false }) }
}

fn absolute(text: &str, origin: &Name) -> Result<Name, String> {
    let name = match text {
        "@" => return Ok(origin.clone()),
        whole if whole.ends_with('.') => whole.to_owned(),
        relative if origin.wire().len() == 1 => format!("{relative}."),
        relative => format!("{relative}.{origin}"),
    };
    Name::parse(&name).map_err(|error| error.to_string())
}

/// `3600`, or BIND's `1h30m`.
fn seconds(text: &str) -> Option<u32> {
    if !text.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let (mut total, mut number, mut units) = (0_u32, 0_u32, false);
    for character in text.chars() {
        if let Some(digit) = character.to_digit(10) {
            number = number.checked_mul(10)?.checked_add(digit)?;
            units = false;
            continue;
        }
        let unit = match character.to_ascii_lowercase() {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(unit)?)?;
        (number, units) = (0, true);
    }
    if units { Some(total) } else { total.checked_add(number) }
}

/// The data's words put together, the names among them made absolute.
fn data(kind: &str, words: Vec<Word>, origin: &Name) -> Result<String, String> {
    // Which word is a name.
    let named = match Type::of_zone(kind) {
        Some(Type::CNAME | Type::NS | Type::PTR) => Some(0),
        Some(Type::MX | Type::SVCB | Type::HTTPS) => Some(1),
        Some(Type::SRV) => Some(3),
        _ => None,
    };
    let generic = words.first().is_some_and(|word| word.text == "\\#");
    let mut texts = Vec::with_capacity(words.len());
    for (index, word) in words.into_iter().enumerate() {
        texts.push(match word {
            // "." is the owner itself in SVCB and HTTPS, and nothing in MX.
            Word { text, quoted: false } if named == Some(index) && !generic && text != "." => {
                absolute(&text, origin)?.to_string()
            }
            Word { text, quoted: true } => format!("\"{text}\""),
            Word { text, .. } => text,
        });
    }
    if texts.is_empty() {
        return Err(format!("the {kind} record has no data"));
    }
    Ok(texts.join(" "))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::dns::Data;

    fn origin() -> Name {
        Name::parse("example.test.").unwrap()
    }

    #[test]
    fn a_file_with_every_habit_is_read() {
        let text = "$TTL 1h\n\
            @ IN SOA ns1 hostmaster ( 1 ; serial\n 3600 600\n 604800 5 )\n\
            \tNS ns1\n\
            ns1 300 IN A 192.0.2.53 ; the server\n\
            \tIN 300 AAAA 2001:db8::53\n\
            www CNAME host.elsewhere.test.\n\
            @ MX 10 mail\n\
            \n\
            $ORIGIN sub.example.test.\n\
            _http._tcp SRV 1 2 80 web\n\
            text TXT \"a; b\" c\\;d\n\
            svc HTTPS 1 . alpn=\"h2,h3\"\n\
            new TYPE65280 \\# 2 0a0b\n";
        let entries = parse(text, &origin()).unwrap();
        let lines: Vec<String> = entries
            .iter()
            .map(|e| format!("{} {} {} {}", e.name, e.ttl.unwrap_or_default(), e.kind, e.data))
            .collect();
        assert_eq!(
            lines[1..],
            [
                "example.test. 3600 NS ns1.example.test.",
                "ns1.example.test. 300 A 192.0.2.53",
                "ns1.example.test. 300 AAAA 2001:db8::53",
                "www.example.test. 3600 CNAME host.elsewhere.test.",
                "example.test. 3600 MX 10 mail.example.test.",
                "_http._tcp.sub.example.test. 3600 SRV 1 2 80 web.sub.example.test.",
                "text.sub.example.test. 3600 TXT \"a; b\" c\\;d",
                "svc.sub.example.test. 3600 HTTPS 1 . alpn= \"h2,h3\"",
                "new.sub.example.test. 3600 TYPE65280 \\# 2 0a0b",
            ]
            .map(|line| line.replace("alpn= \"h2,h3\"", "alpn=\"h2,h3\""))
        );
        for entry in &entries[1..] {
            let kind = Type::of_zone(&entry.kind).unwrap();
            Data::parse(kind, &entry.data).unwrap();
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_line() {
        for (text, line, what) in [
            (" A 192.0.2.1", 1, "no name"),
            ("a A 192.0.2.1\nb (\nA", 2, "not closed"),
            ("a A )", 1, "without a ("),
            ("\n$INCLUDE other", 2, "$INCLUDE is not followed"),
            ("a TXT \"open", 1, "not closed"),
            ("a..b A 192.0.2.1", 1, "empty label"),
            ("a A", 1, "no data"),
            ("$TTL soon", 1, "$TTL needs"),
        ] {
            let error = parse(text, &origin()).unwrap_err();
            assert!(error.line == line && error.what.contains(what), "{text:?}: {error}");
        }
    }
}
