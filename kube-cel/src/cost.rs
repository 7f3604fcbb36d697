//! What an expression may cost, before it is evaluated: a bound from below.
//!
//! Kubernetes estimates what a rule costs on the largest object and refuses one that may cost too much. What is counted here is what no such
//! estimate leaves out: how often loops go round. So whatever is too much here is too much there.

use crate::{
    Program,
    ast::{Each, Expr, Item as Part, Node, Walk},
};

/// What is known of values before they are there.
pub trait Shape: Copy {
    /// A field of an object, or a value of a map.
    fn field(self, name: &str) -> Option<Self>;
    /// The items of a list, or the values of a map.
    fn item(self) -> Option<Self>;
    /// How many of them there are at most.
    fn most(self) -> u64;
}

impl Program {
    /// Steps that loops take on the largest values of these shapes, at least.
    pub fn loops<'a, S: Shape>(&'a self, variables: &[(&'a str, S)]) -> u64 {
        let names = variables.iter().map(|(name, shape)| (*name, Some(*shape))).collect();
        Counter { names }.count(&self.expr).0
    }
}

struct Counter<'a, S> {
    /// Innermost last.
    names: Vec<(&'a str, Option<S>)>,
}

type Counted<S> = (u64, Option<S>);

impl<'a, S: Shape> Counter<'a, S> {
    fn all(&mut self, exprs: impl IntoIterator<Item = &'a Expr>) -> u64 {
        exprs.into_iter().fold(0, |sum, expr| self.count(expr).0.saturating_add(sum))
    }

    fn items(&mut self, items: impl IntoIterator<Item = &'a Part>) -> u64 {
        self.all(items.into_iter().map(|item| &item.value))
    }

    fn within(&mut self, names: &[(&'a str, Option<S>)], expr: &'a Expr) -> Counted<S> {
        let length = self.names.len();
        self.names.extend(names);
        let found = self.count(expr);
        self.names.truncate(length);
        found
    }

    fn count(&mut self, expr: &'a Expr) -> Counted<S> {
        match &expr.node {
            Node::Literal(_) => (0, None),
            Node::Ident(name) => {
                let found = self.names.iter().rev().find(|(known, _)| known == name);
                (0, found.and_then(|(_, shape)| *shape))
            }
            Node::Select { operand, field, .. } => {
                let (cost, shape) = self.count(operand);
                (cost, shape.and_then(|shape| shape.field(&crate::unescape(field))))
            }
            Node::Has { operand, .. } => (self.count(operand).0, None),
            Node::Index { operand, index, .. } => {
                let (cost, shape) = self.count(operand);
                (cost.saturating_add(self.count(index).0), shape.and_then(S::item))
            }
            Node::List(items) => (self.items(items), None),
            Node::Made { fields, .. } => (self.items(fields.iter().map(|(_, item)| item)), None),
            Node::Map(entries) => {
                let keys = self.all(entries.iter().map(|(key, _)| key));
                (keys.saturating_add(self.items(entries.iter().map(|(_, item)| item))), None)
            }
            Node::Not(operand) | Node::Negate(operand) => (self.count(operand).0, None),
            Node::And(operands) | Node::Or(operands) => (self.all(operands), None),
            Node::Conditional(parts) => {
                let (yes, no) = (self.count(&parts[1]).0, self.count(&parts[2]).0);
                (self.count(&parts[0]).0.saturating_add(yes.max(no)), None)
            }
            Node::Binary { operands, .. } => (self.all(operands.iter()), None),
            Node::Call { target, arguments, .. } => {
                (self.all(target.as_deref().into_iter().chain(arguments)), None)
            }
            Node::Each(each) => self.each(each),
            Node::Bind { name, value, body } => {
                let (cost, shape) = self.count(value);
                let (inner, found) = self.within(&[(name, shape)], body);
                (cost.saturating_add(inner), found)
            }
            Node::OptionalMap { operand, name, body, .. } => {
                let (cost, shape) = self.count(operand);
                (cost.saturating_add(self.within(&[(name, shape)], body).0), None)
            }
        }
    }

    fn each(&mut self, each: &'a Each) -> Counted<S> {
        let (cost, range) = self.count(&each.range);
        let item = range.and_then(S::item);
        let names: Vec<(&str, Option<S>)> = match &each.second {
            Some(second) => vec![(&each.name, None), (second, item)],
            None => vec![(&each.name, item)],
        };
        let condition = each.condition.as_ref().map_or(0, |condition| self.within(&names, condition).0);
        let body = self.within(&names, &each.body).0.saturating_add(condition).max(1);
        let rounds = range.map_or(0, S::most).saturating_mul(body);
        // What is left of a list may be all of it.
        let left = range.filter(|_| each.walk == Walk::Filter);
        (cost.saturating_add(rounds), left)
    }
}
