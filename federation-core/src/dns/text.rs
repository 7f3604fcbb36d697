//! Character strings of presentation format (RFC 1035 section 5.1).

/// Character strings, quoted or bare; none if there is no string or one is not well formed.
pub(super) fn strings(text: &str) -> Option<Vec<Vec<u8>>> {
    let mut strings = Vec::new();
    let mut bytes = text.bytes().peekable();
    loop {
        while bytes.next_if(u8::is_ascii_whitespace).is_some() {}
        let Some(&first) = bytes.peek() else { break };
        let quoted = first == b'"';
        if quoted {
            bytes.next();
        }
        let mut string = Vec::new();
        loop {
            match bytes.next() {
                None if quoted => return None,
                None => break,
                Some(b'"') if quoted => break,
                Some(b'"') => return None,
                Some(byte) if !quoted && byte.is_ascii_whitespace() => break,
                Some(b'\\') => string.push(escaped(&mut bytes)?),
                Some(byte) => string.push(byte),
            }
        }
        if string.len() > 255 {
            return None;
        }
        strings.push(string);
    }
    (!strings.is_empty()).then_some(strings)
}

/// The octet that follows a backslash: itself, or three decimal digits.
pub(super) fn escaped(bytes: &mut impl Iterator<Item = u8>) -> Option<u8> {
    let first = bytes.next()?;
    if !first.is_ascii_digit() {
        return Some(first);
    }
    let mut value = u16::from(first - b'0');
    for _ in 0..2 {
        let digit = bytes.next().filter(u8::is_ascii_digit)?;
        value = value * 10 + u16::from(digit - b'0');
    }
    u8::try_from(value).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn text_is_split_into_strings() {
        assert_eq!(strings(r#""a b" c "\"\065""#).unwrap(), [&b"a b"[..], b"c", b"\"A"]);
        assert_eq!(strings(r#""""#).unwrap(), [b""]);
        for wrong in ["", "  ", r#""open"#, r"\2", r"\999", &"a".repeat(256)] {
            assert_eq!(strings(wrong), None, "{wrong}");
        }
    }
}
