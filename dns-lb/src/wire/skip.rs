//! Where things end in a message, without reading them.

/// The end of the name at `at`; a pointer ends it (RFC 1035 section 4.1.4). None: it is no name, or the message ends before it does.
pub fn name_end(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + length as usize,
            192.. => return Some(at + 2),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_at_its_root_or_its_pointer() {
        assert_eq!(name_end(b"\x01a\x02bc\0rest", 0), Some(6));
        assert_eq!(name_end(b"..\x01a\xc0\x0crest", 2), Some(6));
        assert_eq!(name_end(b"\0", 0), Some(1));
        for wrong in [&b"\x01a"[..], b"\x40a\0", b"\x05a\0", b""] {
            assert_eq!(name_end(wrong, 0), None, "{wrong:?}");
        }
    }
}
