//! From tokens to a tree, macros included.

use crate::{
    Value,
    ast::{Each, Expr, Item, Node, Walk},
    error::SyntaxError,
    lexer::{Token, tokens},
};

/// Nested parentheses, calls and literals: each takes ten frames of this parser.
const NESTING_MAX: usize = 48;
/// Depth of the tree, which evaluation descends: chains of operators grow it without nesting.
const DEPTH_MAX: usize = 160;
/// Bytes of an expression.
const LENGTH_MAX: usize = 64 << 10;

/// Words that cannot be names.
pub(crate) const RESERVED: [&str; 21] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// Parses an expression.
pub(crate) fn parse(source: &str) -> Result<Expr, SyntaxError> {
    if source.len() > LENGTH_MAX {
        return Err(SyntaxError { at: 0, what: "expression is longer than 65536 bytes".to_owned() });
    }
    let mut parser = Parser { tokens: tokens(source)?, next: 0, nesting: 0 };
    let expr = parser.expression()?;
    if parser.peek() != &Token::End {
        return Err(parser.unexpected());
    }
    Ok(expr)
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    nesting: usize,
}

/// A parsed expression and the depth of its tree.
type Parsed = Result<(Expr, usize), SyntaxError>;

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |(_, token)| token)
    }

    fn at(&self) -> usize {
        self.tokens.get(self.next).map_or(0, |(at, _)| *at)
    }

    fn advance(&mut self) -> Token {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    fn take(&mut self, mark: &str) -> bool {
        let found = matches!(self.peek(), Token::Mark(found) if *found == mark);
        if found {
            self.next += 1;
        }
        found
    }

    fn expect(&mut self, mark: &str) -> Result<(), SyntaxError> {
        if self.take(mark) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn unexpected(&self) -> SyntaxError {
        let what = match self.peek() {
            Token::End => "mismatched input '<EOF>'".to_owned(),
            Token::Mark(mark) => format!("mismatched input '{mark}'"),
            Token::Ident(name) => format!("mismatched input '{name}'"),
            other => format!("mismatched input '{other:?}'"),
        };
        SyntaxError { at: self.at(), what: format!("Syntax error: {what}") }
    }

    fn expression(&mut self) -> Result<Expr, SyntaxError> {
        self.conditional().map(|(expr, _)| expr)
    }

    fn made(at: usize, node: Node, depth: usize) -> Parsed {
        if depth > DEPTH_MAX {
            return Err(SyntaxError {
                at,
                what: format!("expression recursion limit exceeded: {DEPTH_MAX}"),
            });
        }
        Ok((Expr { at, node }, depth))
    }

    fn conditional(&mut self) -> Parsed {
        self.nesting += 1;
        if self.nesting > NESTING_MAX {
            let what = format!("expression recursion limit exceeded: {NESTING_MAX}");
            return Err(SyntaxError { at: self.at(), what });
        }
        let (condition, depth) = self.any()?;
        let at = self.at();
        let result = if self.take("?") {
            let (yes, one) = self.any()?;
            self.expect(":")?;
            let (no, other) = self.conditional()?;
            Self::made(at, Node::Conditional(Box::new([condition, yes, no])), depth.max(one).max(other) + 1)
        } else {
            Ok((condition, depth))
        };
        self.nesting -= 1;
        result
    }

    fn any(&mut self) -> Parsed {
        self.chain("||", Self::every, Node::Or)
    }

    fn every(&mut self) -> Parsed {
        self.chain("&&", Self::relation, Node::And)
    }

    fn chain(&mut self, mark: &str, operand: fn(&mut Self) -> Parsed, node: fn(Vec<Expr>) -> Node) -> Parsed {
        let (first, mut depth) = operand(self)?;
        let at = self.at();
        let mut operands = vec![first];
        while self.take(mark) {
            let (next, own) = operand(self)?;
            depth = depth.max(own);
            operands.push(next);
        }
        match operands.len() {
            1 => Ok((operands.remove(0), depth)),
            _ => Self::made(at, node(operands), depth + 1),
        }
    }

    fn relation(&mut self) -> Parsed {
        self.binary(&["==", "!=", "<=", ">=", "<", ">", "in"], Self::sum)
    }

    fn sum(&mut self) -> Parsed {
        self.binary(&["+", "-"], Self::product)
    }

    fn product(&mut self) -> Parsed {
        self.binary(&["*", "/", "%"], Self::unary)
    }

    fn binary(&mut self, operators: &[&'static str], operand: fn(&mut Self) -> Parsed) -> Parsed {
        let (mut left, mut depth) = operand(self)?;
        loop {
            let at = self.at();
            let found = operators.iter().find(|operator| match self.peek() {
                Token::Mark(mark) => mark == *operator,
                Token::Ident(name) => name == "in" && **operator == "in",
                _ => false,
            });
            let Some(operator) = found.copied() else {
                return Ok((left, depth));
            };
            self.next += 1;
            let (right, own) = operand(self)?;
            let node = Node::Binary { operator, operands: Box::new([left, right]) };
            (left, depth) = Self::made(at, node, depth.max(own) + 1)?;
        }
    }

    fn unary(&mut self) -> Parsed {
        let at = self.at();
        if self.take("!") {
            let mut odd = true;
            while self.take("!") {
                odd = !odd;
            }
            let (operand, depth) = self.member()?;
            if !odd {
                return Ok((operand, depth));
            }
            return Self::made(at, Node::Not(Box::new(operand)), depth + 1);
        }
        if self.take("-") {
            match self.peek() {
                Token::IntMin => {
                    self.next += 1;
                    return Self::made(at, Node::Literal(Value::Int(i64::MIN)), 1);
                }
                Token::Int(value) => {
                    let value = -*value;
                    self.next += 1;
                    return Self::made(at, Node::Literal(Value::Int(value)), 1);
                }
                Token::Double(value) => {
                    let value = -*value;
                    self.next += 1;
                    return Self::made(at, Node::Literal(Value::Double(value)), 1);
                }
                _ => {}
            }
            let mut odd = true;
            while self.take("-") {
                odd = !odd;
            }
            let (operand, depth) = self.member()?;
            if !odd {
                return Ok((operand, depth));
            }
            return Self::made(at, Node::Negate(Box::new(operand)), depth + 1);
        }
        self.member()
    }

    fn member(&mut self) -> Parsed {
        let (mut expr, mut depth) = self.primary()?;
        loop {
            let at = self.at();
            let optional_field = self.take(".?");
            if optional_field || self.take(".") {
                let Token::Ident(name) = self.advance() else {
                    self.next -= 1;
                    return Err(self.unexpected());
                };
                let (next, own) = if !optional_field && self.take("(") {
                    let (arguments, own) = self.list(")")?;
                    let node = method(at, expr, name, arguments)?;
                    (node, own)
                } else {
                    (Node::Select { operand: Box::new(expr), field: name, optional: optional_field }, 0)
                };
                (expr, depth) = Self::made(at, next, depth.max(own) + 1)?;
                continue;
            }
            if matches!(self.peek(), Token::Mark("{" | "{?"))
                && let Some(name) = dotted(&expr.node)
            {
                let (fields, own) = self.fields()?;
                (expr, depth) = Self::made(at, Node::Made { name, fields }, own + 1)?;
                continue;
            }
            let optional = self.take("[?");
            if optional || self.take("[") {
                let (index, own) = self.conditional()?;
                self.expect("]")?;
                let node = Node::Index { operand: Box::new(expr), index: Box::new(index), optional };
                (expr, depth) = Self::made(at, node, depth.max(own) + 1)?;
                continue;
            }
            return Ok((expr, depth));
        }
    }

    /// Expressions up to a closing mark, and the greatest depth.
    fn list(&mut self, close: &str) -> Result<(Vec<Expr>, usize), SyntaxError> {
        let (mut items, mut depth) = (Vec::new(), 0);
        while !self.take(close) {
            if !items.is_empty() {
                self.expect(",")?;
            }
            let (item, own) = self.conditional()?;
            depth = depth.max(own);
            items.push(item);
        }
        Ok((items, depth))
    }

    fn primary(&mut self) -> Parsed {
        let at = self.at();
        let literal = |value| Self::made(at, Node::Literal(value), 1);
        match self.advance() {
            Token::Int(value) => literal(Value::Int(value)),
            Token::Uint(value) => literal(Value::Uint(value)),
            Token::Double(value) => literal(Value::Double(value)),
            Token::Text(text) => literal(Value::from(text.as_str())),
            Token::Bytes(bytes) => literal(Value::Bytes(bytes.into())),
            Token::Mark("(") => {
                let inner = self.conditional()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Mark(open @ ("[" | "[?")) => {
                let (items, depth) = self.items(open == "[?")?;
                Self::made(at, Node::List(items), depth + 1)
            }
            Token::Mark(open @ ("{" | "{?")) => self.map(at, open == "{?"),
            // A leading dot names the root, and there is no other place.
            Token::Mark(".") => self.primary(),
            Token::Ident(name) => match name.as_str() {
                "true" => literal(Value::Bool(true)),
                "false" => literal(Value::Bool(false)),
                "null" => literal(Value::Null),
                word if RESERVED.contains(&word) => {
                    self.next -= 1;
                    Err(SyntaxError { at, what: format!("reserved identifier: {word}") })
                }
                _ if self.take("(") => {
                    let (arguments, depth) = self.list(")")?;
                    Self::made(at, function(at, name, arguments)?, depth + 1)
                }
                _ => Self::made(at, Node::Ident(name), 1),
            },
            _ => {
                self.next -= 1;
                Err(self.unexpected())
            }
        }
    }

    /// One part of a literal.
    fn item(&mut self, optional: bool) -> Result<(Item, usize), SyntaxError> {
        let (value, depth) = self.conditional()?;
        Ok((Item { value, optional }, depth))
    }

    fn items(&mut self, mut optional: bool) -> Result<(Vec<Item>, usize), SyntaxError> {
        let (mut items, mut depth) = (Vec::new(), 0);
        while !self.take("]") {
            if !items.is_empty() {
                self.expect(",")?;
                if self.take("]") {
                    break;
                }
            }
            optional |= self.take("?");
            let (item, own) = self.item(optional)?;
            optional = false;
            depth = depth.max(own);
            items.push(item);
        }
        Ok((items, depth))
    }

    fn map(&mut self, at: usize, mut optional: bool) -> Parsed {
        let (mut entries, mut depth) = (Vec::new(), 0);
        while !self.take("}") {
            if !entries.is_empty() {
                self.expect(",")?;
                if self.take("}") {
                    break;
                }
            }
            optional |= self.take("?");
            let (key, one) = self.conditional()?;
            self.expect(":")?;
            let (value, other) = self.item(optional)?;
            optional = false;
            depth = depth.max(one).max(other);
            entries.push((key, value));
        }
        Self::made(at, Node::Map(entries), depth + 1)
    }

    /// The fields of an object that is made, from its brace on.
    fn fields(&mut self) -> Result<(Vec<(String, Item)>, usize), SyntaxError> {
        let mut optional = self.take("{?");
        if !optional {
            self.expect("{")?;
        }
        let (mut fields, mut depth) = (Vec::new(), 0);
        while !self.take("}") {
            if !fields.is_empty() {
                self.expect(",")?;
                if self.take("}") {
                    break;
                }
            }
            optional |= self.take("?");
            let Token::Ident(name) = self.advance() else {
                self.next -= 1;
                return Err(self.unexpected());
            };
            self.expect(":")?;
            let (value, own) = self.item(optional)?;
            optional = false;
            depth = depth.max(own);
            fields.push((crate::unescape(&name), value));
        }
        Ok((fields, depth))
    }
}

/// The name that a chain of plain selections spells; none for anything else.
fn dotted(node: &Node) -> Option<String> {
    match node {
        Node::Ident(name) => Some(name.clone()),
        Node::Select { operand, field, optional: false } => {
            Some(format!("{}.{}", dotted(&operand.node)?, crate::unescape(field)))
        }
        _ => None,
    }
}

fn function(at: usize, name: String, mut arguments: Vec<Expr>) -> Result<Node, SyntaxError> {
    if name == "has" {
        return match (arguments.len(), arguments.pop().map(|argument| argument.node)) {
            (1, Some(Node::Select { operand, field, optional: false })) => Ok(Node::Has { operand, field }),
            _ => Err(SyntaxError { at, what: "invalid argument to has() macro".to_owned() }),
        };
    }
    Ok(Node::Call { name, target: None, arguments })
}

/// A method call, or one of the macros that look like one.
fn method(at: usize, target: Expr, name: String, mut arguments: Vec<Expr>) -> Result<Node, SyntaxError> {
    let walk = match name.as_str() {
        "all" => Some((Walk::All, 2, 3)),
        "exists" => Some((Walk::Exists, 2, 3)),
        "exists_one" | "existsOne" => Some((Walk::ExistsOne, 2, 3)),
        "map" => Some((Walk::Map, 2, 3)),
        "filter" => Some((Walk::Filter, 2, 2)),
        "sortBy" => Some((Walk::SortBy, 2, 2)),
        "transformList" => Some((Walk::TransformList, 3, 4)),
        "transformMap" => Some((Walk::TransformMap, 3, 4)),
        "transformMapEntry" => Some((Walk::TransformMapEntry, 3, 4)),
        _ => None,
    };
    if let Some((walk, least, most)) = walk
        && (least..=most).contains(&arguments.len())
    {
        let body = arguments.pop().unwrap_or_else(|| target.clone());
        let two = match walk {
            Walk::TransformList | Walk::TransformMap | Walk::TransformMapEntry => true,
            Walk::Map | Walk::Filter | Walk::SortBy => false,
            Walk::All | Walk::Exists | Walk::ExistsOne => arguments.len() == 2,
        };
        let rest = arguments.split_off(if two { 2 } else { 1 }.min(arguments.len()));
        let mut names = arguments.into_iter().map(|argument| variable(at, argument));
        let name = names.next().transpose()?.unwrap_or_default();
        let second = names.next().transpose()?;
        let condition = rest.into_iter().next();
        return Ok(Node::Each(Box::new(Each { walk, range: target, name, second, condition, body })));
    }
    let is = |word: &str| matches!(&target.node, Node::Ident(found) if found == word);
    if name == "bind" && is("cel") && arguments.len() == 3 {
        let body = Box::new(arguments.pop().unwrap_or_else(|| target.clone()));
        let value = Box::new(arguments.pop().unwrap_or_else(|| target.clone()));
        let name = variable(at, arguments.pop().unwrap_or_else(|| target.clone()))?;
        return Ok(Node::Bind { name, value, body });
    }
    if matches!(name.as_str(), "optMap" | "optFlatMap") && arguments.len() == 2 {
        let flat = name == "optFlatMap";
        let body = Box::new(arguments.pop().unwrap_or_else(|| target.clone()));
        let name = variable(at, arguments.pop().unwrap_or_else(|| target.clone()))?;
        return Ok(Node::OptionalMap { operand: Box::new(target), name, body, flat });
    }
    // Libraries that are named like a variable: `math.greatest`, `sets.contains`, `optional.of`.
    if let Node::Ident(library) = &target.node
        && matches!(
            library.as_str(),
            "math" | "sets" | "optional" | "base64" | "format" | "strings" | "jsonpatch"
        )
    {
        return Ok(Node::Call { name: format!("{library}.{name}"), target: None, arguments });
    }
    // Of these two, which name functions or variables as well, only one function each.
    for (library, function) in [("ip", "isCanonical"), ("lists", "range")] {
        if is(library) && name == function {
            return Ok(Node::Call { name: format!("{library}.{function}"), target: None, arguments });
        }
    }
    Ok(Node::Call { name, target: Some(Box::new(target)), arguments })
}

fn variable(at: usize, argument: Expr) -> Result<String, SyntaxError> {
    match argument.node {
        Node::Ident(name) => Ok(name),
        _ => Err(SyntaxError { at, what: "argument must be a simple name".to_owned() }),
    }
}
