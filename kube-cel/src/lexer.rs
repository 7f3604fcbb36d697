//! Tokens of an expression (CEL's language definition, "Syntax").

use crate::error::SyntaxError;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    Ident(String),
    Int(i64),
    /// 9223372036854775808, which is a number only behind a minus.
    IntMin,
    Uint(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    Mark(&'static str),
    End,
}

/// Marks, longest first.
const MARKS: [&str; 28] = [
    "==", "!=", "<=", ">=", "&&", "||", ".?", "[?", "{?", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":",
    ".", ",", "(", ")", "[", "]", "{", "}", ";",
];

/// Splits an expression into tokens and their places.
pub(crate) fn tokens(source: &str) -> Result<Vec<(usize, Token)>, SyntaxError> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(rest) = source.get(at..) {
        let Some(first) = rest.chars().next() else {
            break;
        };
        if first.is_whitespace() {
            at += first.len_utf8();
        } else if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else {
            let (token, length) = token(rest).map_err(|what| SyntaxError { at, what })?;
            found.push((at, token));
            at += length;
        }
    }
    found.push((source.len(), Token::End));
    Ok(found)
}

fn token(rest: &str) -> Result<(Token, usize), String> {
    let bytes = rest.as_bytes();
    let first = bytes.first().copied().unwrap_or_default();
    let prefix = rest.bytes().take_while(|byte| matches!(byte, b'r' | b'R' | b'b' | b'B')).count();
    if prefix <= 2 && matches!(bytes.get(prefix), Some(b'"' | b'\'')) {
        let kinds = rest[..prefix].to_ascii_lowercase();
        let raw = kinds.contains('r');
        let (content, length) = quoted(&rest[prefix..], raw, kinds.contains('b'))?;
        let token = if kinds.contains('b') {
            Token::Bytes(content)
        } else {
            Token::Text(String::from_utf8(content).map_err(|_| "a string is not UTF-8".to_owned())?)
        };
        return Ok((token, prefix + length));
    }
    if first.is_ascii_digit() || (first == b'.' && bytes.get(1).is_some_and(u8::is_ascii_digit)) {
        return number(rest);
    }
    if first.is_ascii_alphabetic() || first == b'_' {
        let length = rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
        return Ok((Token::Ident(rest[..length].to_owned()), length));
    }
    if first == b'`' {
        let end = rest[1..].find('`').ok_or("a quoted field name does not end")?;
        return Ok((Token::Ident(rest[1..=end].to_owned()), end + 2));
    }
    MARKS
        .iter()
        .find(|mark| rest.starts_with(**mark))
        // `[?` and `?` of a conditional are told apart by what stands before; `.?` never is a conditional.
        .map(|mark| (Token::Mark(mark), mark.len()))
        .ok_or_else(|| format!("token recognition error at: '{}'", rest.chars().next().unwrap_or_default()))
}

fn number(rest: &str) -> Result<(Token, usize), String> {
    let bytes = rest.as_bytes();
    if let Some(hex) = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X")) {
        let length = hex.bytes().take_while(u8::is_ascii_hexdigit).count();
        let value = u64::from_str_radix(&hex[..length], 16).map_err(|_| "invalid int literal".to_owned())?;
        return whole(value, bytes.get(length + 2), length + 2);
    }
    let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut end = digits(0);
    let mut real = false;
    if bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
        real = true;
        end += 1 + digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits((end + 1 + sign).min(bytes.len()));
        if exponent > 0 {
            real = true;
            end += 1 + sign + exponent;
        }
    }
    let text = &rest[..end];
    if real {
        return Ok((Token::Double(text.parse().map_err(|_| "invalid double literal".to_owned())?), end));
    }
    let value = text.parse::<u64>().map_err(|_| "invalid int literal".to_owned())?;
    whole(value, bytes.get(end), end)
}

fn whole(value: u64, next: Option<&u8>, length: usize) -> Result<(Token, usize), String> {
    if matches!(next, Some(b'u' | b'U')) {
        return Ok((Token::Uint(value), length + 1));
    }
    match i64::try_from(value) {
        Ok(value) => Ok((Token::Int(value), length)),
        Err(_) if value == 1 << 63 => Ok((Token::IntMin, length)),
        Err(_) => Err("invalid int literal".to_owned()),
    }
}

/// The content of a string literal and the bytes that it takes.
fn quoted(rest: &str, raw: bool, bytes: bool) -> Result<(Vec<u8>, usize), String> {
    let quote = rest.get(..1).unwrap_or_default();
    let triple = quote.repeat(3);
    let (mark, long) = if rest.starts_with(&triple) { (triple.as_str(), true) } else { (quote, false) };
    let mut content = Vec::new();
    let mut at = mark.len();
    loop {
        let rest = rest.get(at..).unwrap_or_default();
        if rest.starts_with(mark) {
            return Ok((content, at + mark.len()));
        }
        let Some(first) = rest.chars().next() else {
            return Err("a string does not end".to_owned());
        };
        if !long && matches!(first, '\n' | '\r') {
            return Err("a string does not end".to_owned());
        }
        if first == '\\' && !raw {
            at += escape(rest, bytes, &mut content)?;
        } else {
            content.extend_from_slice(&rest.as_bytes()[..first.len_utf8()]);
            at += first.len_utf8();
        }
    }
}

fn escape(rest: &str, bytes: bool, content: &mut Vec<u8>) -> Result<usize, String> {
    let invalid = || "invalid escape sequence".to_owned();
    let kind = rest.as_bytes().get(1).copied().ok_or_else(invalid)?;
    let simple = match kind {
        b'a' => 7,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 11,
        b'\\' | b'\'' | b'"' | b'`' | b'?' => kind,
        _ => 0,
    };
    if simple != 0 {
        content.push(simple);
        return Ok(2);
    }
    let (from, length, radix) = match kind {
        b'x' | b'X' => (2, 2, 16),
        b'u' => (2, 4, 16),
        b'U' => (2, 8, 16),
        b'0'..=b'3' => (1, 3, 8),
        _ => return Err(invalid()),
    };
    let digits = rest.get(from..from + length).ok_or_else(invalid)?;
    let code = u32::from_str_radix(digits, radix).map_err(|_| invalid())?;
    if bytes && length < 4 {
        content.push(u8::try_from(code).map_err(|_| invalid())?);
    } else {
        let letter = char::from_u32(code).ok_or_else(invalid)?;
        content.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Ok(from + length)
}
