//! Reads what stands in the braces of a JSONPath, character by character as client-go's parser does.

use serde_json::Value;

use super::{JsonPath, Operator, Slice, Step};

/// Parses the inside of a pair of braces.
pub(super) fn parse(text: &str) -> Result<JsonPath, String> {
    let mut parser = Parser { rest: text, steps: Vec::new() };
    parser.action()?;
    Ok(JsonPath(parser.steps))
}

struct Parser<'t> {
    rest: &'t str,
    steps: Vec<Step>,
}

impl<'t> Parser<'t> {
    fn action(&mut self) -> Result<(), String> {
        loop {
            if let Some(rest) = self.rest.strip_prefix("[?(") {
                self.rest = rest;
                self.filter()?;
                continue;
            }
            if let Some(rest) = self.rest.strip_prefix("..") {
                if self.steps.last() == Some(&Step::Recursive) {
                    return Err("invalid multiple recursive descent".to_owned());
                }
                self.rest = rest;
                self.steps.push(Step::Recursive);
                if self.rest.starts_with(is_word) {
                    self.field();
                }
                continue;
            }
            let Some(first) = self.rest.chars().next() else { return Ok(()) };
            match first {
                // What comes behind the braces is nobody's.
                '}' => return Ok(()),
                '\r' | '\n' => return Err("unclosed action".to_owned()),
                ' ' | '@' | '$' => self.skip(1),
                '[' => self.array()?,
                '"' | '\'' => self.quote(first)?,
                '.' => {
                    self.skip(1);
                    self.field();
                }
                '+' | '-' => self.number()?,
                digit if digit.is_numeric() => self.number()?,
                letter if is_word(letter) => self.word(),
                other => {
                    let code = u32::from(other);
                    return Err(format!("unrecognized character in action: U+{code:04X} '{other}'"));
                }
            }
        }
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    /// Takes a number of bytes.
    fn take(&mut self, bytes: usize) -> &'t str {
        let (taken, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    /// A name up to the next step, where a backslash takes its meaning from what follows it.
    fn field(&mut self) {
        let mut chars = self.rest.char_indices();
        let mut end = self.rest.len();
        while let Some((at, c)) = chars.next() {
            if c == '\\' {
                chars.next();
            } else if is_terminator(c) {
                end = at;
                break;
            }
        }
        let step = match self.take(end) {
            "*" => Step::Every,
            name => Step::Field(name.replace('\\', "")),
        };
        self.steps.push(step);
    }

    fn word(&mut self) {
        let end = self.rest.find(is_terminator).unwrap_or(self.rest.len());
        let step = match self.take(end) {
            "true" => Step::Literal(true.into()),
            "false" => Step::Literal(false.into()),
            _ => Step::Unknown,
        };
        self.steps.push(step);
    }

    fn number(&mut self) -> Result<(), String> {
        let sign = usize::from(self.rest.starts_with(['+', '-']));
        let digits = self.rest.get(sign..).unwrap_or_default();
        let length = digits.find(|c: char| c != '.' && !c.is_numeric()).unwrap_or(digits.len());
        let text = self.take(sign + length);
        let number = match text.parse::<i64>() {
            Ok(number) => Some(Value::from(number)),
            Err(_) => text
                .parse::<f64>()
                .ok()
                .filter(|_| text.contains(|c: char| c.is_ascii_digit()))
                .map(Value::from),
        };
        self.steps.push(Step::Literal(number.ok_or_else(|| format!("cannot parse number {text}"))?));
        Ok(())
    }

    fn quote(&mut self, mark: char) -> Result<(), String> {
        let unclosed = || "unterminated quoted string".to_owned();
        let inside = self.rest.get(1..).unwrap_or_default();
        let (mut text, mut escaped) = (String::new(), false);
        for (at, c) in inside.char_indices() {
            match c {
                '\n' => return Err(unclosed()),
                'n' if escaped => text.push('\n'),
                't' if escaped => text.push('\t'),
                '\\' if !escaped => {
                    escaped = true;
                    continue;
                }
                c if c == mark && !escaped => {
                    self.skip(1 + at + 1);
                    self.steps.push(Step::Text(text.into()));
                    return Ok(());
                }
                c => text.push(c),
            }
            escaped = false;
        }
        Err(unclosed())
    }

    fn array(&mut self) -> Result<(), String> {
        let end = self
            .rest
            .find([']', '\n'])
            .filter(|end| self.rest.get(*end..).is_some_and(|rest| rest.starts_with(']')));
        let end = end.ok_or("unterminated array")?;
        let text = self.rest.get(1..end).unwrap_or_default();
        self.skip(end + 1);
        if text.contains(',') {
            let of = |text: &str| parse(&format!("[{}]", text.trim_matches(' ')));
            self.steps.push(Step::Union(text.split(',').map(of).collect::<Result<_, _>>()?));
            return Ok(());
        }
        let quoted = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
        if let Some(key) = quoted.filter(|key| !key.contains('\'')) {
            self.steps.extend(parse(&format!(".{key}"))?.0);
            return Ok(());
        }
        self.steps.push(slice(if text == "*" { ":" } else { text })?);
        Ok(())
    }

    fn filter(&mut self) -> Result<(), String> {
        let mut mark = None;
        let (mut closed, mut before) = (false, ' ');
        let mut end = None;
        for (at, c) in self.rest.char_indices() {
            match c {
                '\n' => break,
                '"' | '\'' if mark.is_none() => mark = Some(c),
                c if mark == Some(c) && before != '\\' => closed = true,
                ')' if mark.is_some() == closed => {
                    end = Some(at);
                    break;
                }
                _ => {}
            }
            before = c;
        }
        let end = end.ok_or("unterminated filter")?;
        let text = self.rest.get(..end).unwrap_or_default();
        self.skip(end + 1);
        self.rest = self.rest.strip_prefix(']').ok_or("unclosed array expect ]")?;
        let is_operator = |c: char| matches!(c, '!' | '<' | '>' | '=');
        let compared = text.find(is_operator).filter(|at| *at > 0).and_then(|at| {
            let (left, rest) = text.split_at_checked(at)?;
            let length = rest.find(|c: char| !is_operator(c))?;
            let (operator, right) = rest.split_at_checked(length)?;
            Some((left, operator, right))
        });
        self.steps.push(match compared {
            None => Step::Exists(parse(text)?),
            Some((left, operator, right)) => {
                let operator = match operator {
                    "==" => Operator::Equal,
                    "!=" => Operator::NotEqual,
                    "<" => Operator::Less,
                    "<=" => Operator::LessOrEqual,
                    ">" => Operator::Greater,
                    ">=" => Operator::GreaterOrEqual,
                    _ => Operator::Unknown,
                };
                Step::Filter { left: parse(left)?, operator, right: parse(right)? }
            }
        });
        Ok(())
    }
}

/// `0`, `-1:`, `1:5:2`
fn slice(text: &str) -> Result<Step, String> {
    let parts: Vec<_> = text.split(':').collect();
    let is_number =
        |part: &&str| part.strip_prefix('-').unwrap_or(part).bytes().all(|byte| byte.is_ascii_digit());
    if parts.len() > 3 || !parts.iter().all(is_number) {
        return Err(format!("invalid array index {text}"));
    }
    let number = |at: usize| match parts.get(at) {
        None | Some(&"") => Ok(None),
        Some(part) => part.parse().map(Some).map_err(|_| format!("array index {part} is not a number")),
    };
    let (from, to, step) = (number(0)?, number(1)?, number(2)?);
    let one = parts.len() == 1;
    let to = if one { from.unwrap_or(0_i64).checked_add(1) } else { to };
    Ok(Step::Slice(Slice { from, to, step, one }))
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn is_terminator(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n' | '.' | ',' | '[' | ']' | '$' | '@' | '{' | '}')
}
