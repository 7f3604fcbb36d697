//! Addresses of mail, as Go's `net/mail` reads them (RFC 5322).

use std::net::IpAddr;

/// Whether a text is one address, with or without a name: `a@b`, `A B <a@b>`. A group may hold that one address.
pub(super) fn is_address(text: &str) -> bool {
    let mut reader = Reader(text);
    reader.address(true).is_some() && reader.skip_comments().is_some() && reader.0.is_empty()
}

/// What has not been read of a text. Its parts are `None` if the text has none there.
struct Reader<'a>(&'a str);

impl Reader<'_> {
    fn skip_space(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }

    fn takes(&mut self, letter: char) -> bool {
        let rest = self.0.strip_prefix(letter);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn take(&mut self, letter: char) -> Option<()> {
        self.takes(letter).then_some(())
    }

    fn skip_comments(&mut self) -> Option<()> {
        self.skip_space();
        while self.0.starts_with('(') {
            self.comment()?;
            self.skip_space();
        }
        Some(())
    }

    fn comment(&mut self) -> Option<()> {
        let mut depth = 0;
        let mut letters = self.0.char_indices();
        while let Some((at, letter)) = letters.next() {
            match letter {
                '\\' => _ = letters.next()?,
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                self.0 = self.0.get(at + 1..)?;
                return Some(());
            }
        }
        None
    }

    fn address(&mut self, may_be_group: bool) -> Option<()> {
        self.skip_space();
        let before = self.0;
        if self.plain().is_some() {
            return Some(());
        }
        self.0 = before;
        if !self.0.starts_with('<') {
            self.phrase()?;
        }
        self.skip_space();
        if may_be_group && self.takes(':') {
            self.skip_comments()?;
            self.address(false)?;
            self.skip_comments()?;
            return self.take(';');
        }
        self.take('<')?;
        self.plain()?;
        self.take('>')
    }

    /// `a@b`.
    fn plain(&mut self) -> Option<()> {
        self.skip_space();
        if self.0.starts_with('"') {
            // An empty one names nobody.
            (self.quoted()? > 0).then_some(())?;
        } else {
            self.dotted()?;
        }
        self.take('@')?;
        self.skip_space();
        if self.takes('[') {
            let (address, rest) = self.0.split_once(']')?;
            self.0 = rest;
            return address.parse::<IpAddr>().ok().map(|_| ());
        }
        self.dotted()
    }

    /// Words in front of an address.
    fn phrase(&mut self) -> Option<()> {
        let mut words = 0;
        loop {
            self.skip_space();
            let found =
                if self.0.starts_with('"') { self.quoted().map(|_| ()) } else { self.atom(true).map(|_| ()) };
            match found {
                Some(()) => words += 1,
                None => return (words > 0).then_some(()),
            }
        }
    }

    /// A text in quotes; its length.
    fn quoted(&mut self) -> Option<usize> {
        let mut letters = self.0.strip_prefix('"')?.char_indices();
        while let Some((at, letter)) = letters.next() {
            let letter = match letter {
                '"' => {
                    self.0 = self.0.get(at + 2..)?;
                    return Some(at);
                }
                '\\' => letters.next()?.1,
                other => other,
            };
            if letter.is_ascii_control() && letter != '\t' {
                return None;
            }
        }
        None
    }

    fn dotted(&mut self) -> Option<()> {
        let atom = self.atom(false)?;
        atom.split('.').all(|part| !part.is_empty()).then_some(())
    }

    /// Letters up to one that separates; within names, some of these do not.
    fn atom(&mut self, in_name: bool) -> Option<&str> {
        let ends = |letter: char| match letter {
            '<' | '>' | '"' | ':' => true,
            '(' | ')' | '[' | ']' | ';' | '@' | '\\' | ',' => !in_name,
            _ => letter.is_ascii() && !letter.is_ascii_graphic(),
        };
        let (atom, rest) = self.0.split_at_checked(self.0.find(ends).unwrap_or(self.0.len()))?;
        self.0 = rest;
        (!atom.is_empty()).then_some(atom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_have_a_name() {
        for good in [
            "a@b",
            "A <a@b.c>",
            "\"q q\"@b.c",
            "<a@b>",
            "a@b.c (comment)",
            "A B <a@b>",
            "\"A, B\" <a@b>",
            "g: a@b;",
            "é@b.c",
            "a@é",
            " a@b ",
            "A.B <a@b>",
            "=?utf-8?q?x?= <a@b>",
            "A, B <a@b>",
            "A<a@b>",
            "a@[1.2.3.4]",
        ] {
            assert!(is_address(good), "{good}");
        }
        for bad in [
            "",
            "a",
            "a b@c",
            "a@",
            "@b",
            "a..b@c",
            ".a@b",
            "a.@b",
            "a@b, c@d",
            "<@x:a@b>",
            "a@b>",
            "(c) a@b",
            "a\t@b",
            "a@b c",
            "<a@b",
            "\"\"@b",
            "a@b.",
            "A <a@b> x",
            "a@b\n",
            "a@[x]",
            "g: g: a@b;;",
            "\"a@b",
        ] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
