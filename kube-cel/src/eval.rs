//! Evaluation of a tree over values.

use std::{cmp::Ordering, sync::Arc};

use crate::{
    Value,
    ast::{Each, Expr, Item, Node, Walk},
    error::EvalError,
    functions::{self, overflow},
    patterns::{MadePatterns, Patterns},
    value::{Key, Made},
};

/// What evaluations may still cost. Several may share one.
#[derive(Debug, Clone)]
pub struct Budget {
    left: u64,
}

impl Budget {
    /// So many steps.
    pub fn new(steps: u64) -> Self {
        Self { left: steps }
    }

    /// What is left.
    pub fn left(&self) -> u64 {
        self.left
    }

    pub(crate) fn spend(&mut self, cost: u64) -> Result<(), EvalError> {
        self.left = self.left.checked_sub(cost).ok_or(EvalError::Budget).inspect_err(|_| self.left = 0)?;
        Ok(())
    }
}

/// What it costs to compile a regular expression that does not stand in the expression as it is: more where it may repeat, or name whole alphabets.
fn compiling_cost(pattern: &str) -> u64 {
    if pattern.contains(['{', '\\']) { 10_000 } else { 1_000 }
}

type Outcome = Result<Value, EvalError>;

/// What is known where an expression is evaluated.
struct Scope<'a> {
    /// Variables, innermost last.
    names: Vec<(&'a str, Value)>,
    patterns: &'a Patterns,
    made: MadePatterns,
}

pub(crate) fn evaluate(
    expr: &Expr,
    patterns: &Patterns,
    variables: &[(&str, Value)],
    budget: &mut Budget,
) -> Outcome {
    let names = variables.iter().map(|(name, value)| (*name, value.clone())).collect();
    eval(expr, &mut Scope { names, patterns, made: MadePatterns::default() }, budget)
}

/// Types are values, too.
pub(crate) fn type_named(name: &str) -> Option<&'static str> {
    ["bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type", "type"]
        .into_iter()
        .find(|known| *known == name)
}

fn eval<'a>(expr: &'a Expr, scope: &mut Scope<'a>, budget: &mut Budget) -> Outcome {
    budget.spend(1)?;
    match &expr.node {
        Node::Literal(value) => Ok(value.clone()),
        Node::Ident(name) => {
            let found = scope.names.iter().rev().find(|(known, _)| known == name);
            found
                .map(|(_, value)| value.clone())
                .or_else(|| type_named(name).map(Value::Type))
                .ok_or_else(|| EvalError::Unbound(name.clone()))
        }
        Node::Select { operand, field, optional } => {
            let operand = eval(operand, scope, budget)?;
            select(&operand, field, *optional)
        }
        Node::Has { operand, field } => match eval(operand, scope, budget)? {
            Value::Map(map) => Ok(Value::Bool(map.contains_key(&Key::String(field.as_str().into())))),
            Value::Made(made) => Ok(Value::Bool(made.fields.contains_key(field))),
            Value::Optional(None) => Ok(Value::Bool(false)),
            Value::Optional(Some(inner)) => match &*inner {
                Value::Map(map) => Ok(Value::Bool(map.contains_key(&Key::String(field.as_str().into())))),
                _ => Err(EvalError::NoSuchOverload),
            },
            _ => Err(EvalError::NoSuchOverload),
        },
        Node::Index { operand, index, optional } => {
            let (operand, index) = (eval(operand, scope, budget)?, eval(index, scope, budget)?);
            at_index(&operand, &index, *optional)
        }
        Node::List(items) => {
            let mut found = Vec::with_capacity(items.len());
            for item in items {
                found.extend(part(item, scope, budget)?);
            }
            Ok(Value::list(found))
        }
        Node::Made { name, fields } => {
            let mut made = Made { name: name.clone(), fields: std::collections::BTreeMap::new() };
            for (field, item) in fields {
                if let Some(value) = part(item, scope, budget)? {
                    made.fields.insert(field.clone(), value);
                }
            }
            Ok(Value::Made(Arc::new(made)))
        }
        Node::Map(entries) => map_literal(entries, scope, budget),
        Node::Not(operand) => match eval(operand, scope, budget)? {
            Value::Bool(flag) => Ok(Value::Bool(!flag)),
            _ => Err(EvalError::NoSuchOverload),
        },
        Node::Negate(operand) => match eval(operand, scope, budget)? {
            Value::Int(number) => number.checked_neg().map(Value::Int).ok_or_else(overflow),
            Value::Double(number) => Ok(Value::Double(-number)),
            Value::Duration(nanos) => nanos.checked_neg().map(Value::Duration).ok_or_else(overflow),
            _ => Err(EvalError::NoSuchOverload),
        },
        Node::And(operands) => logic(operands, false, scope, budget),
        Node::Or(operands) => logic(operands, true, scope, budget),
        Node::Conditional(parts) => match eval(&parts[0], scope, budget)? {
            Value::Bool(true) => eval(&parts[1], scope, budget),
            Value::Bool(false) => eval(&parts[2], scope, budget),
            _ => Err(EvalError::NoSuchOverload),
        },
        Node::Binary { operator, operands } => {
            let (left, right) = (eval(&operands[0], scope, budget)?, eval(&operands[1], scope, budget)?);
            binary(operator, &left, &right, budget)
        }
        Node::Call { name, target, arguments } => call(name, target.as_deref(), arguments, scope, budget),
        Node::Each(each) => walk(each, scope, budget),
        Node::Bind { name, value, body } => {
            let value = eval(value, scope, budget)?;
            within(scope, vec![(name, value)], |scope| eval(body, scope, budget))
        }
        Node::OptionalMap { operand, name, body, flat } => match eval(operand, scope, budget)? {
            Value::Optional(None) => Ok(Value::Optional(None)),
            Value::Optional(Some(inner)) => {
                let value = Arc::unwrap_or_clone(inner);
                let found = within(scope, vec![(name, value)], |scope| eval(body, scope, budget))?;
                Ok(if *flat { found } else { Value::some(found) })
            }
            _ => Err(EvalError::NoSuchOverload),
        },
    }
}

fn within<'a, T>(
    scope: &mut Scope<'a>,
    names: Vec<(&'a String, Value)>,
    work: impl FnOnce(&mut Scope<'a>) -> T,
) -> T {
    let length = scope.names.len();
    scope.names.extend(names.into_iter().map(|(name, value)| (name.as_str(), value)));
    let result = work(scope);
    scope.names.truncate(length);
    result
}

fn call<'a>(
    name: &str,
    target: Option<&'a Expr>,
    arguments: &'a [Expr],
    scope: &mut Scope<'a>,
    budget: &mut Budget,
) -> Outcome {
    let mut values = Vec::with_capacity(arguments.len() + 1);
    for expr in target.into_iter().chain(arguments) {
        values.push(eval(expr, scope, budget)?);
    }
    // Two long arguments may cost their product: comparing each item with each, a pattern at each place.
    let weights = values.iter().map(|value| value.weight().max(1));
    let cost = weights.fold(1, u64::saturating_mul).min(u64::MAX / 2);
    budget.spend(cost)?;
    let hidden = functions::hidden_cost(name, &values, budget.left);
    budget.spend(hidden)?;
    let found = match functions::pattern(name, &values) {
        Some(pattern) => match scope.patterns.get(pattern) {
            Some(regex) => functions::search(name, &values, regex.as_ref().map_err(EvalError::clone)?)?,
            None => {
                if !scope.made.has(pattern) {
                    budget.spend(compiling_cost(pattern))?;
                }
                functions::search(name, &values, scope.made.get(pattern)?)?
            }
        },
        None => functions::call(name, target.is_some(), &values)?,
    };
    // What it has made beyond that was work, too.
    budget.spend(found.weight().saturating_sub(cost).saturating_sub(hidden))?;
    Ok(found)
}

fn select(operand: &Value, field: &str, optional: bool) -> Outcome {
    let key = Key::String(field.into());
    match operand {
        Value::Map(map) => match map.get(&key) {
            Some(value) if optional => Ok(Value::some(value.clone())),
            Some(value) => Ok(value.clone()),
            None if optional => Ok(Value::Optional(None)),
            None => Err(EvalError::NoSuchKey(field.to_owned())),
        },
        Value::Made(made) => match made.fields.get(field) {
            Some(value) if optional => Ok(Value::some(value.clone())),
            Some(value) => Ok(value.clone()),
            None if optional => Ok(Value::Optional(None)),
            None => Err(EvalError::NoSuchKey(field.to_owned())),
        },
        Value::Access(access) if field == "requestResource" && !optional => {
            access.of_request().map(Value::Access).ok_or(EvalError::NoSuchOverload)
        }
        // A step from an optional value stays optional.
        Value::Optional(None) => Ok(Value::Optional(None)),
        Value::Optional(Some(inner)) => match &**inner {
            Value::Map(map) => Ok(Value::Optional(map.get(&key).cloned().map(Arc::new))),
            _ => Err(EvalError::NoSuchOverload),
        },
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn at_index(operand: &Value, index: &Value, optional: bool) -> Outcome {
    let found = match (operand, index) {
        (Value::Optional(None), _) => return Ok(Value::Optional(None)),
        (Value::Optional(Some(inner)), _) => return at_index(inner, index, true),
        (Value::List(items), Value::Int(at)) => {
            usize::try_from(*at).ok().and_then(|at| items.get(at)).cloned().ok_or(EvalError::OutOfBounds(*at))
        }
        (Value::Map(map), key) => {
            let key = key.key().ok_or(EvalError::NoSuchOverload)?;
            let shown = match &key {
                Key::String(text) => text.to_string(),
                other => format!("{other:?}"),
            };
            map.get(&key).cloned().ok_or(EvalError::NoSuchKey(shown))
        }
        _ => return Err(EvalError::NoSuchOverload),
    };
    match found {
        Ok(value) if optional => Ok(Value::some(value)),
        Err(_) if optional => Ok(Value::Optional(None)),
        found => found,
    }
}

/// The value of a part of a literal; none if it is optional and there is none.
fn part<'a>(item: &'a Item, scope: &mut Scope<'a>, budget: &mut Budget) -> Result<Option<Value>, EvalError> {
    let value = eval(&item.value, scope, budget)?;
    if !item.optional {
        return Ok(Some(value));
    }
    match value {
        Value::Optional(inner) => Ok(inner.map(Arc::unwrap_or_clone)),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn map_literal<'a>(entries: &'a [(Expr, Item)], scope: &mut Scope<'a>, budget: &mut Budget) -> Outcome {
    let mut map = std::collections::BTreeMap::new();
    for (key, value) in entries {
        let key = eval(key, scope, budget)?.key().ok_or(EvalError::NoSuchOverload)?;
        let Some(value) = part(value, scope, budget)? else { continue };
        if map.insert(key, value).is_some() {
            return Err(EvalError::failed("Failed with repeated key"));
        }
    }
    Ok(Value::Map(Arc::new(map)))
}

/// `&&` and `||` do not mind an error if another operand decides.
fn logic<'a>(operands: &'a [Expr], decisive: bool, scope: &mut Scope<'a>, budget: &mut Budget) -> Outcome {
    let mut failed = None;
    for operand in operands {
        match eval(operand, scope, budget) {
            Ok(Value::Bool(flag)) if flag == decisive => return Ok(Value::Bool(decisive)),
            Ok(Value::Bool(_)) => {}
            Ok(_) => failed = failed.or(Some(EvalError::NoSuchOverload)),
            Err(EvalError::Budget) => return Err(EvalError::Budget),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(Value::Bool(!decisive)), Err)
}

fn binary(operator: &str, left: &Value, right: &Value, budget: &mut Budget) -> Outcome {
    budget.spend(left.weight().saturating_add(right.weight()))?;
    let order = |holds: fn(Ordering) -> bool| match left.compare(right) {
        Some(order) => Ok(Value::Bool(holds(order))),
        None if matches!((left, right), (Value::Double(_), _) | (_, Value::Double(_))) => {
            Ok(Value::Bool(false))
        }
        None => Err(EvalError::NoSuchOverload),
    };
    match operator {
        "==" => Ok(Value::Bool(equal(left, right, budget)?)),
        "!=" => Ok(Value::Bool(!equal(left, right, budget)?)),
        "<" => order(Ordering::is_lt),
        "<=" => order(Ordering::is_le),
        ">" => order(Ordering::is_gt),
        ">=" => order(Ordering::is_ge),
        "in" => match right {
            Value::List(items) => {
                for item in items.iter() {
                    if equal(item, left, budget)? {
                        return Ok(Value::Bool(true));
                    }
                }
                Ok(Value::Bool(false))
            }
            Value::Map(map) => Ok(Value::Bool(left.key().is_some_and(|key| map.contains_key(&key)))),
            _ => Err(EvalError::NoSuchOverload),
        },
        _ => {
            // Items that are told apart by what they are must be looked through.
            if matches!(left, Value::List(items) if !items.is_plain()) {
                let extent = left.extent(budget.left).saturating_add(right.extent(budget.left));
                budget.spend(extent)?;
            }
            functions::arithmetic(operator, left, right)
        }
    }
}

/// Equality costs what both hold.
fn equal(left: &Value, right: &Value, budget: &mut Budget) -> Result<bool, EvalError> {
    // Two that are one value each cost nothing more.
    let cost = left.extent(budget.left.saturating_add(1));
    budget.spend(right.extent(cost).min(cost) - 1)?;
    Ok(left == right)
}

/// The items of a range: of a list with their indexes, of a map its keys with their values.
fn items(range: Value) -> Result<Vec<(Value, Value)>, EvalError> {
    match range {
        Value::List(items) => {
            Ok(items.iter().enumerate().map(|(at, item)| (Value::Int(at as i64), item.clone())).collect())
        }
        Value::Map(map) => {
            let key = |key: &Key| match key {
                Key::Bool(flag) => Value::Bool(*flag),
                Key::Int(number) => Value::Int(*number),
                Key::Uint(number) => Value::Uint(*number),
                Key::String(text) => Value::String(Arc::clone(text)),
            };
            Ok(map.iter().map(|(name, value)| (key(name), value.clone())).collect())
        }
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn walk<'a>(each: &'a Each, scope: &mut Scope<'a>, budget: &mut Budget) -> Outcome {
    let range = eval(&each.range, scope, budget)?;
    let keys = matches!(range, Value::Map(_));
    let items = items(range)?;
    budget.spend(items.len() as u64)?;
    let (mut list, mut map, mut failed, mut count) = (Vec::new(), std::collections::BTreeMap::new(), None, 0);
    let mut sorted = Vec::new();
    for (key, value) in items {
        let names = match &each.second {
            Some(second) => vec![(&each.name, key.clone()), (second, value.clone())],
            None => vec![(&each.name, if keys { key.clone() } else { value.clone() })],
        };
        let step = within(scope, names, |scope| {
            if let Some(condition) = &each.condition {
                match eval(condition, scope, budget)? {
                    Value::Bool(true) => {}
                    Value::Bool(false) => return Ok(None),
                    _ => return Err(EvalError::NoSuchOverload),
                }
            }
            eval(&each.body, scope, budget).map(Some)
        });
        let found = match (each.walk, step) {
            (_, Ok(None)) => continue,
            // One item may decide although another one fails.
            (Walk::All | Walk::Exists, Err(error)) if error != EvalError::Budget => {
                failed = failed.or(Some(error));
                continue;
            }
            (_, Err(error)) => return Err(error),
            (_, Ok(Some(found))) => found,
        };
        match (each.walk, found) {
            (Walk::Map | Walk::TransformList, found) => list.push(found),
            (Walk::SortBy, found) => sorted.push((found, value)),
            (Walk::TransformMap, found) => {
                map.insert(key.key().ok_or(EvalError::NoSuchOverload)?, found);
            }
            (Walk::TransformMapEntry, Value::Map(entries)) => {
                budget.spend(entries.len() as u64)?;
                for (key, value) in entries.iter() {
                    if map.insert(key.clone(), value.clone()).is_some() {
                        return Err(EvalError::Failed(format!("insert failed: key {key} already exists")));
                    }
                }
            }
            (Walk::All, Value::Bool(false)) => return Ok(Value::Bool(false)),
            (Walk::Exists, Value::Bool(true)) => return Ok(Value::Bool(true)),
            (Walk::ExistsOne, Value::Bool(true)) => count += 1,
            (Walk::Filter, Value::Bool(true)) => list.push(if keys { key } else { value }),
            (_, Value::Bool(_)) => {}
            _ => return Err(EvalError::NoSuchOverload),
        }
    }
    match each.walk {
        Walk::Map | Walk::TransformList | Walk::Filter => Ok(Value::list(list)),
        Walk::SortBy => {
            budget.spend(functions::sorting_cost(sorted.iter().map(|(key, _)| key)))?;
            functions::sort_by(&mut sorted, |(key, _)| key)?;
            Ok(Value::list(sorted.into_iter().map(|(_, item)| item).collect()))
        }
        Walk::TransformMap | Walk::TransformMapEntry => Ok(Value::Map(Arc::new(map))),
        Walk::ExistsOne => Ok(Value::Bool(count == 1)),
        Walk::All => failed.map_or(Ok(Value::Bool(true)), Err),
        Walk::Exists => failed.map_or(Ok(Value::Bool(false)), Err),
    }
}
