//! Regular expressions that stand in an expression as they are: compiled with it, once, and not at each evaluation.

use std::collections::HashMap;

use regex::Regex;

use crate::{
    Value,
    ast::{Expr, Node},
    functions,
};

/// So many patterns of one expression are kept.
const KEPT_MAX: usize = 100;

/// Those that are no regular expressions are left out: whoever evaluates them is told so.
pub(crate) type Patterns = HashMap<Box<str>, Regex>;

pub(crate) fn of(expr: &Expr) -> Patterns {
    let mut found = Patterns::new();
    find(expr, &mut found);
    found
}

fn find(expr: &Expr, found: &mut Patterns) {
    if let Node::Call { name, target, arguments } = &expr.node
        && functions::SEARCHES.contains(&name.as_str())
        && let Some(Node::Literal(Value::String(pattern))) =
            arguments.get(usize::from(target.is_none())).map(|argument| &argument.node)
        && found.len() < KEPT_MAX
        && !found.contains_key(&**pattern)
        && let Ok(regex) = functions::compile(pattern)
    {
        found.insert((&**pattern).into(), regex);
    }
    expr.children(&mut |child| find(child, found));
}
