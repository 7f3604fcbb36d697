//! The Common Expression Language as Kubernetes speaks it: checked before, bounded while, and pure.
//!
//! A [`Program`] is compiled against the types of its variables, so that a field that does not exist, an operator between types that
//! do not go together, and a result of the wrong type are found when a rule is written, not when it is first needed. An
//! evaluation spends a [`Budget`]: every step costs one and every value what its size says, so an expression from the network ends
//! soon, whatever it is.
//!
//! The macros are those of CEL with its two-variable comprehensions and optional values; the libraries those of Kubernetes: strings, lists,
//! sets, regular expressions, URLs, IP addresses and CIDRs, quantities, named formats, semantic versions, JSON patches, and the authorizer,
//! whose answers the caller brings ([`Authority`]). Kubernetes has neither math nor encoders, and `cel.bind` for devices only: these are for
//! expressions that were stored earlier, and [`Program::refused`] finds them in new ones. Objects can be made by name where the caller
//! declares the name's first part as a type. How often loops go round can be told before an evaluation ([`Program::loops`]); a whole estimate of costs is
//! left out.
//!
//! ```
//! use kube_cel::{Budget, Program, Type, Value};
//! let program = Program::compile("self.size() < 5 && self.startsWith('a')", &[("self", Type::String)]).unwrap();
//! let found = program.evaluate(&[("self", Value::from("abc"))], &mut Budget::new(1000)).unwrap();
//! assert_eq!(found, Value::Bool(true));
//! let fault = Program::compile("self.foo", &[("self", Type::String)]).unwrap_err();
//! assert!(fault.to_string().contains("type 'string' does not support field selection"));
//! ```

mod access;
mod ast;
mod check;
mod cost;
mod error;
mod eval;
mod former;
mod functions;
mod lexer;
mod list;
mod parser;
mod patterns;
mod types;
mod value;

pub use access::{Access, Authority, Check, Decision};
pub use cost::Shape;
pub use error::{CompileError, EvalError};
pub use eval::Budget;
pub use functions::{Semver, parse_timestamp};
pub use list::{List, ListKind};
pub use types::{ObjectType, Type};
pub use value::{Key, Made, Url, Value};

use std::sync::Arc;

use ast::{Expr, Node};
use patterns::Patterns;

/// A compiled expression.
#[derive(Debug, Clone)]
pub struct Program {
    expr: Expr,
    result: Type,
    mixed: Arc<[(usize, String)]>,
    patterns: Arc<Patterns>,
}

impl Program {
    /// Parses an expression and checks it against the types of its variables.
    pub fn compile(source: &str, variables: &[(&str, Type)]) -> Result<Self, CompileError> {
        let expr =
            parser::parse(source).map_err(|error| CompileError::new(source, &[(error.at, error.what)]))?;
        let checked = check::check(&expr, variables).map_err(|faults| CompileError::new(source, &faults))?;
        let patterns = Arc::new(Patterns::of(&expr));
        Ok(Self { expr, result: checked.result, mixed: checked.mixed.into(), patterns })
    }

    /// The same, and refuses an expression whose result can never be of a type.
    pub fn compile_as(source: &str, variables: &[(&str, Type)], wanted: &Type) -> Result<Self, CompileError> {
        let program = Self::compile(source, variables)?;
        if program.result.fits(wanted) {
            Ok(program)
        } else {
            Err(CompileError::whole(format!("must evaluate to {wanted}")))
        }
    }

    /// The type of its result.
    pub fn result(&self) -> &Type {
        &self.result
    }

    /// Whether it names a variable.
    pub fn mentions(&self, variable: &str) -> bool {
        mentions(&self.expr, variable)
    }

    /// Evaluates it.
    pub fn evaluate(&self, variables: &[(&str, Value)], budget: &mut Budget) -> Result<Value, EvalError> {
        eval::evaluate(&self.expr, &self.patterns, variables, budget)
    }
}

/// The name of a field as expressions write it: what is no CEL name is escaped.
pub fn escape(name: &str) -> String {
    if parser::RESERVED.contains(&name) {
        return format!("__{name}__");
    }
    let mut escaped = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let (text, length) = match first {
            _ if rest.starts_with("__") => ("__underscores__", 2),
            '.' => ("__dot__", 1),
            '-' => ("__dash__", 1),
            '/' => ("__slash__", 1),
            _ => (rest.get(..first.len_utf8()).unwrap_or_default(), first.len_utf8()),
        };
        escaped.push_str(text);
        rest = rest.get(length..).unwrap_or_default();
    }
    escaped
}

/// Whether a text can name a variable.
pub fn is_identifier(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !parser::RESERVED.contains(&text)
}

/// The name of a field that expressions write escaped.
pub(crate) fn unescape(name: &str) -> String {
    let inner = name.strip_prefix("__").and_then(|rest| rest.strip_suffix("__"));
    if let Some(word) = inner
        && parser::RESERVED.contains(&word)
    {
        return word.to_owned();
    }
    let escapes = [("__dot__", "."), ("__dash__", "-"), ("__slash__", "/"), ("__underscores__", "__")];
    let mut plain = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let found = escapes.iter().find(|(escape, _)| rest.starts_with(escape));
        let (text, length) = found.map_or_else(
            || (rest.get(..first.len_utf8()).unwrap_or_default(), first.len_utf8()),
            |(escape, text)| (*text, escape.len()),
        );
        plain.push_str(text);
        rest = rest.get(length..).unwrap_or_default();
    }
    plain
}

fn mentions(expr: &Expr, variable: &str) -> bool {
    let inner = |expr: &Expr| mentions(expr, variable);
    match &expr.node {
        Node::Literal(_) => false,
        Node::Ident(name) => name == variable,
        Node::Select { operand, .. } | Node::Has { operand, .. } => inner(operand),
        Node::Index { operand, index, .. } => inner(operand) || inner(index),
        Node::List(items) => items.iter().any(|item| inner(&item.value)),
        Node::Made { fields, .. } => fields.iter().any(|(_, item)| inner(&item.value)),
        Node::And(operands) | Node::Or(operands) => operands.iter().any(inner),
        Node::Map(entries) => entries.iter().any(|(key, item)| inner(key) || inner(&item.value)),
        Node::Not(operand) | Node::Negate(operand) => inner(operand),
        Node::Conditional(parts) => parts.iter().any(inner),
        Node::Binary { operands, .. } => operands.iter().any(inner),
        Node::Call { target, arguments, .. } => {
            target.as_deref().is_some_and(inner) || arguments.iter().any(inner)
        }
        Node::Each(each) => {
            let shadowed = each.name == variable || each.second.as_deref() == Some(variable);
            let body = || inner(&each.body) || each.condition.as_ref().is_some_and(inner);
            inner(&each.range) || (!shadowed && body())
        }
        Node::Bind { name, value, body } => inner(value) || (name != variable && inner(body)),
        Node::OptionalMap { operand, name, body, .. } => inner(operand) || (name != variable && inner(body)),
    }
}

#[cfg(test)]
mod tests;
