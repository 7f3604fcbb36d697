//! Regular expressions that stand in an expression as they are: compiled once, when they are first needed, and not at each evaluation.

use std::{collections::HashMap, sync::OnceLock};

use regex::Regex;

use crate::{
    EvalError, Value,
    ast::{Expr, Node},
    functions,
};

/// So many patterns of one expression are kept.
const KEPT_MAX: usize = 100;

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
