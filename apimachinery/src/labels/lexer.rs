//! Tokens of the string form of a label selector.

/// A token; `Identifier` covers keys, values and the words `in` and `notin`, told apart by the parser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Identifier(String),
    OpenParen,
    CloseParen,
    Comma,
    Equals,
    DoubleEquals,
    NotEquals,
    DoesNotExist,
    GreaterThan,
    LessThan,
    /// Characters of operators that form none, such as `=!`.
    Error(String),
    End,
}

impl Token {
    /// The token as it stood in the text.
    pub(super) fn literal(&self) -> &str {
        match self {
            Self::Identifier(text) | Self::Error(text) => text,
            Self::OpenParen => "(",
            Self::CloseParen => ")",
            Self::Comma => ",",
            Self::Equals => "=",
            Self::DoubleEquals => "==",
            Self::NotEquals => "!=",
            Self::DoesNotExist => "!",
            Self::GreaterThan => ">",
            Self::LessThan => "<",
            Self::End => "",
        }
    }
}

fn is_special(c: char) -> bool {
    "=!(),<>".contains(c)
}

/// Splits a selector into tokens; the last is `End`.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let Some(first) = rest.chars().next() else { break };
        if !is_special(first) {
            let end = rest.find(|c: char| is_special(c) || " \t\r\n".contains(c)).unwrap_or(rest.len());
            let (word, tail) = rest.split_at(end);
            tokens.push(Token::Identifier(word.to_owned()));
            rest = tail;
            continue;
        }
        let (token, length) = match first {
            '(' => (Token::OpenParen, 1),
            ')' => (Token::CloseParen, 1),
            ',' => (Token::Comma, 1),
            '=' if rest.starts_with("==") => (Token::DoubleEquals, 2),
            '!' if rest.starts_with("!=") => (Token::NotEquals, 2),
            '=' => (Token::Equals, 1),
            '!' => (Token::DoesNotExist, 1),
            '>' => (Token::GreaterThan, 1),
            '<' => (Token::LessThan, 1),
            other => (Token::Error(other.to_string()), other.len_utf8()),
        };
        tokens.push(token);
        rest = rest.get(length..).unwrap_or_default();
    }
    tokens.push(Token::End);
    tokens
}
