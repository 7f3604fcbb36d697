//! The grammar of `k8s.io/apimachinery/pkg/labels`, with its error texts.

use std::collections::BTreeSet;

use super::lexer::{Token, tokens};
use super::{Operator, Requirement};
use crate::names;

struct Parser {
    tokens: Vec<Token>,
    position: usize,
}

/// Parses the whole selector.
pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, String> {
    let mut parser = Parser { tokens: tokens(text), position: 0 };
    let mut requirements = Vec::new();
    loop {
        match parser.peek() {
            Token::Identifier(_) | Token::DoesNotExist => {
                let requirement =
                    parser.requirement().map_err(|error| format!("unable to parse requirement: {error}"))?;
                requirements.push(requirement);
                match parser.next() {
                    Token::End => return Ok(requirements),
                    Token::Comma => match parser.peek() {
                        Token::Identifier(_) | Token::DoesNotExist => {}
                        other => {
                            return Err(format!(
                                "found '{}', expected: identifier after ','",
                                other.literal()
                            ));
                        }
                    },
                    other => {
                        return Err(format!("found '{}', expected: ',' or 'end of string'", other.literal()));
                    }
                }
            }
            Token::End => return Ok(requirements),
            other => {
                return Err(format!(
                    "found '{}', expected: !, identifier, or 'end of string'",
                    other.literal()
                ));
            }
        }
    }
}

impl Parser {
    fn peek(&self) -> Token {
        self.tokens.get(self.position).cloned().unwrap_or(Token::End)
    }

    fn next(&mut self) -> Token {
        let token = self.peek();
        self.position += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let absent = self.peek() == Token::DoesNotExist;
        if absent {
            self.next();
        }
        let key = match self.next() {
            Token::Identifier(key) => key,
            other => return Err(format!("found '{}', expected: identifier", other.literal())),
        };
        checked(names::label_key(&key), || format!("<nil>: Invalid value: {key:?}"))?;
        if absent {
            return Ok(Requirement { key, operator: Operator::DoesNotExist });
        }
        if matches!(self.peek(), Token::End | Token::Comma) {
            return Ok(Requirement { key, operator: Operator::Exists });
        }
        let operator = self.operator(&key)?;
        Ok(Requirement { key, operator })
    }

    fn operator(&mut self, key: &str) -> Result<Operator, String> {
        let token = self.next();
        match &token {
            Token::Identifier(word) if word == "in" => Ok(Operator::In(self.values(key)?)),
            Token::Identifier(word) if word == "notin" => Ok(Operator::NotIn(self.values(key)?)),
            Token::Equals | Token::DoubleEquals => Ok(Operator::In(BTreeSet::from([self.value(key)?]))),
            Token::NotEquals => Ok(Operator::NotIn(BTreeSet::from([self.value(key)?]))),
            Token::GreaterThan => Ok(Operator::GreaterThan(self.bound(key)?)),
            Token::LessThan => Ok(Operator::LessThan(self.bound(key)?)),
            other => Err(format!("found '{}', expected: in, notin, =, ==, !=, gt, lt", other.literal())),
        }
    }

    /// One value; nothing before a comma or the end is the empty value.
    fn value(&mut self, key: &str) -> Result<String, String> {
        if matches!(self.peek(), Token::End | Token::Comma) {
            return Ok(String::new());
        }
        match self.next() {
            Token::Identifier(value) => {
                check_value(key, 0, &value)?;
                Ok(value)
            }
            other => Err(format!("found '{}', expected: identifier", other.literal())),
        }
    }

    fn bound(&mut self, key: &str) -> Result<i64, String> {
        let text = self.value(key)?;
        text.parse().map_err(|_| {
            format!(
                "values[0]: Invalid value: {text:?}: for 'Gt', 'Lt' operators, the value must be an integer"
            )
        })
    }

    fn values(&mut self, key: &str) -> Result<BTreeSet<String>, String> {
        match self.next() {
            Token::OpenParen => {}
            other => return Err(format!("found '{}' expected: '('", other.literal())),
        }
        let mut values = BTreeSet::new();
        let mut expects_value = true;
        loop {
            match self.next() {
                Token::Identifier(value) if expects_value => {
                    check_value(key, values.len(), &value)?;
                    values.insert(value);
                    expects_value = false;
                }
                Token::Comma => {
                    if expects_value {
                        values.insert(String::new());
                    }
                    expects_value = true;
                }
                Token::CloseParen => {
                    if expects_value {
                        values.insert(String::new());
                    }
                    return Ok(values);
                }
                other => {
                    let expected = if expects_value { "',', ')' or identifier" } else { "',' or ')'" };
                    return Err(format!("found '{}', expected: {expected}", other.literal()));
                }
            }
        }
    }
}

fn check_value(key: &str, index: usize, value: &str) -> Result<(), String> {
    checked(names::label_value(value), || format!("values[{index}][{key}]: Invalid value: {value:?}"))
}

fn checked(faults: Vec<String>, what: impl FnOnce() -> String) -> Result<(), String> {
    if faults.is_empty() { Ok(()) } else { Err(format!("{}: {}", what(), faults.join("; "))) }
}
