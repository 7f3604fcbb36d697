//! Regular expressions, each compiled once: those that stand in an expression as they are when they are first needed, and those that it makes
//! once for each evaluation.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::OnceLock,
};

use regex::Regex;

use crate::{
    EvalError, Value,
    ast::{Expr, Node},
    functions,
};

/// So many patterns of one expression are kept.
const KEPT_MAX: usize = 100;
/// So many that an evaluation makes are kept: a loop asks for the same again, and each may take a megabyte.
const MADE_MAX: usize = 8;

/// The patterns of an expression.
#[derive(Debug, Default)]
pub(crate) struct Patterns(HashMap<Box<str>, OnceLock<Result<Regex, EvalError>>>);

impl Patterns {
    pub(crate) fn of(expr: &Expr) -> Self {
        let mut found = Self::default();
        found.find(expr);
        found
    }

    fn find(&mut self, expr: &Expr) {
        if let Node::Call { name, target, arguments } = &expr.node
            && functions::SEARCHES.contains(&name.as_str())
            && let Some(argument) = arguments.get(usize::from(target.is_none()))
            && let Node::Literal(Value::String(pattern)) = &argument.node
            && self.0.len() < KEPT_MAX
        {
            self.0.entry((&**pattern).into()).or_default();
        }
        expr.children(&mut |child| self.find(child));
    }

    /// A pattern as it is compiled; none if it does not stand in the expression.
    pub(crate) fn get(&self, pattern: &str) -> Option<&Result<Regex, EvalError>> {
        self.0.get(pattern).map(|compiled| compiled.get_or_init(|| functions::compile(pattern)))
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// The patterns that an evaluation has made.
#[derive(Debug, Default)]
pub(crate) struct MadePatterns(HashMap<Box<str>, Regex>);

impl MadePatterns {
    pub(crate) fn has(&self, pattern: &str) -> bool {
        self.0.contains_key(pattern)
    }

    /// A pattern as it is compiled.
    pub(crate) fn get(&mut self, pattern: &str) -> Result<&Regex, EvalError> {
        if self.0.len() >= MADE_MAX && !self.has(pattern) {
            self.0.clear();
        }
        match self.0.entry(pattern.into()) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(place) => Ok(place.insert(functions::compile(pattern)?)),
        }
    }
}
