//! Types of a tree, before it is evaluated.

use crate::{
    Type, Value, access,
    ast::{Each, Expr, Item, Node, Walk},
    eval::type_named,
    functions::{self, Resolved},
};

/// The type of the operations of a JSON patch (RFC 6902); all others that can be made are parts of an object.
const PATCH: &str = "JSONPatch";

/// Faults of an expression: where, and what.
pub(crate) type Faults = Vec<(usize, String)>;

/// What is known of an expression.
pub(crate) struct Checked {
    /// The type of its result.
    pub(crate) result: Type,
    /// The literals in it whose items are of different types, which no new expression may have: where the first other item is, and what it is.
    pub(crate) mixed: Faults,
}

/// The type of an expression over variables of known types, or all that is wrong with it.
pub(crate) fn check(expr: &Expr, variables: &[(&str, Type)]) -> Result<Checked, Faults> {
    let names = variables.iter().map(|(name, kind)| (*name, kind.clone())).collect();
    let mut checker = Checker { names, faults: Vec::new(), mixed: Vec::new(), formatted: 0 };
    let result = checker.check(expr);
    if !checker.faults.is_empty() {
        return Err(checker.faults);
    }
    // cel-go looks at all lists, and then at all maps.
    checker.mixed.sort_by_key(|mixed| (mixed.in_map, mixed.literal));
    let mixed = checker.mixed.into_iter().map(|mixed| (mixed.at, mixed.what)).collect();
    Ok(Checked { result, mixed })
}

/// A literal whose items are of different types.
struct Mixed {
    in_map: bool,
    literal: usize,
    at: usize,
    what: String,
}

struct Checker<'a> {
    /// Innermost last.
    names: Vec<(&'a str, Type)>,
    faults: Faults,
    mixed: Vec<Mixed>,
    /// So many calls of `format` is this within, whose items may be of any types.
    formatted: usize,
}

impl<'a> Checker<'a> {
    fn fault(&mut self, at: usize, what: String) -> Type {
        self.faults.push((at, what));
        Type::Dyn
    }

    fn within(&mut self, names: Vec<(&'a str, Type)>, expr: &'a Expr) -> Type {
        let length = self.names.len();
        self.names.extend(names);
        let found = self.check(expr);
        self.names.truncate(length);
        found
    }

    fn expect(&mut self, expr: &'a Expr, wanted: &Type, name: &str) {
        let found = self.check(expr);
        if !found.fits(wanted) {
            self.fault(expr.at, format!("found no matching overload for '{name}' applied to '({found})'"));
        }
    }

    fn check(&mut self, expr: &'a Expr) -> Type {
        match &expr.node {
            Node::Literal(value) => literal(value),
            Node::Ident(name) => {
                let found = self.names.iter().rev().find(|(known, _)| known == name);
                match found {
                    Some((_, kind)) => kind.clone(),
                    None if type_named(name).is_some() => Type::Type,
                    None => {
                        self.fault(expr.at, format!("undeclared reference to '{name}' (in container '')"))
                    }
                }
            }
            Node::Select { operand, field, optional } => {
                let operand = self.check(operand);
                let found = self.field(expr.at, &operand, field);
                match (*optional, found) {
                    (true, Type::Optional(inner)) => Type::Optional(inner),
                    (true, found) => Type::Optional(Box::new(found)),
                    (false, found) => found,
                }
            }
            Node::Has { operand, field } => {
                let operand = self.check(operand);
                self.field(expr.at, &operand, field);
                Type::Bool
            }
            Node::Index { operand, index, optional } => self.index(expr.at, operand, index, *optional),
            Node::List(items) => {
                let kinds: Vec<_> = items.iter().map(|item| self.part(item)).collect();
                self.note_mixed(false, expr.at, items.iter().map(|item| item.value.at).zip(&kinds));
                Type::List(Box::new(kinds.into_iter().reduce(Type::join).unwrap_or(Type::Dyn)))
            }
            Node::Map(entries) => {
                let kinds: Vec<_> =
                    entries.iter().map(|(key, item)| (self.check(key), self.part(item))).collect();
                let (keys, values): (Vec<_>, Vec<_>) = kinds.into_iter().unzip();
                self.note_mixed(true, expr.at, entries.iter().map(|(key, _)| key.at).zip(&keys));
                self.note_mixed(true, expr.at, entries.iter().map(|(_, item)| item.value.at).zip(&values));
                let all =
                    |kinds: Vec<Type>| Box::new(kinds.into_iter().reduce(Type::join).unwrap_or(Type::Dyn));
                Type::Map(all(keys), all(values))
            }
            Node::Made { name, fields } => self.object(expr.at, name, fields),
            Node::Not(operand) => {
                self.expect(operand, &Type::Bool, "!_");
                Type::Bool
            }
            Node::Negate(operand) => match self.check(operand) {
                kind @ (Type::Int | Type::Double | Type::Duration | Type::Dyn) => kind,
                found => {
                    self.fault(expr.at, format!("found no matching overload for '-_' applied to '({found})'"))
                }
            },
            Node::And(operands) | Node::Or(operands) => {
                let name = if matches!(expr.node, Node::And(_)) { "_&&_" } else { "_||_" };
                for operand in operands {
                    self.expect(operand, &Type::Bool, name);
                }
                Type::Bool
            }
            Node::Conditional(parts) => {
                self.expect(&parts[0], &Type::Bool, "_?_:_");
                let (yes, no) = (self.check(&parts[1]), self.check(&parts[2]));
                if !yes.fits(&no) {
                    let what =
                        format!("found no matching overload for '_?_:_' applied to '(bool, {yes}, {no})'");
                    return self.fault(expr.at, what);
                }
                yes.join(no)
            }
            Node::Binary { operator, operands } => self.binary(expr.at, operator, &operands[0], &operands[1]),
            Node::Call { name, target, arguments } => self.call(expr.at, name, target.as_deref(), arguments),
            Node::Each(each) => self.walk(expr.at, each),
            Node::Bind { name, value, body } => {
                let value = self.check(value);
                self.within(vec![(name, value)], body)
            }
            Node::OptionalMap { operand, name, body, flat } => {
                let inner = match self.check(operand) {
                    Type::Optional(inner) => *inner,
                    _ => Type::Dyn,
                };
                let found = self.within(vec![(name, inner)], body);
                if *flat { found } else { Type::Optional(Box::new(found)) }
            }
        }
    }

    /// A part of a literal.
    fn part(&mut self, item: &'a Item) -> Type {
        match self.check(&item.value) {
            Type::Optional(inner) if item.optional => *inner,
            Type::Dyn if item.optional => Type::Dyn,
            found if item.optional => {
                self.fault(item.value.at, format!("expected type 'optional_type(dyn)' but found '{found}'"))
            }
            found => found,
        }
    }

    /// An object that is made: where the first part of its name is a type.
    fn object(&mut self, at: usize, name: &'a str, fields: &'a [(String, Item)]) -> Type {
        let root = name.split('.').next().unwrap_or_default();
        let known = self.names.iter().rev().find(|(known, _)| *known == root);
        let declared = known.is_some_and(|(_, kind)| *kind == Type::Type);
        let found: Vec<_> =
            fields.iter().map(|(field, item)| (field, item.value.at, self.part(item))).collect();
        if !declared || (root == PATCH && name != root) {
            return self.fault(at, format!("undeclared reference to '{name}' (in container '')"));
        }
        if root == PATCH {
            for (field, at, kind) in found {
                match field.as_str() {
                    "value" => {}
                    "op" | "path" | "from" if kind.fits(&Type::String) => {}
                    "op" | "path" | "from" => {
                        let what = format!(
                            "expected type of field '{field}' is 'string' but provided type is '{kind}'"
                        );
                        self.fault(at, what);
                    }
                    _ => {
                        self.fault(at, format!("undefined field '{field}'"));
                    }
                }
            }
        }
        Type::Made(name.into())
    }

    fn field(&mut self, at: usize, operand: &Type, field: &str) -> Type {
        match operand {
            Type::Dyn | Type::Made(_) => Type::Dyn,
            Type::Opaque(access::AUTHORIZER) if field == "requestResource" => Type::Opaque(access::RESOURCE),
            Type::Map(_, value) => Type::clone(value),
            Type::Object(object) => match object.fields.get(field) {
                Some(kind) => kind.clone(),
                None => self.fault(at, format!("undefined field '{field}'")),
            },
            Type::Optional(inner) => {
                let found = self.field(at, inner, field);
                Type::Optional(Box::new(found))
            }
            other => self.fault(at, format!("type '{other}' does not support field selection")),
        }
    }

    fn index(&mut self, at: usize, operand: &'a Expr, index: &'a Expr, optional: bool) -> Type {
        let (operand, index) = (self.check(operand), self.check(index));
        let (container, from_optional) = match &operand {
            Type::Optional(inner) => (&**inner, true),
            other => (other, false),
        };
        let found = match (container, &index) {
            (Type::Dyn, _) => Type::Dyn,
            (Type::List(item), index) if index.fits(&Type::Int) => Type::clone(item),
            (Type::Map(key, value), index) if index.fits(key) => Type::clone(value),
            (Type::Object(_), index) if index.fits(&Type::String) => Type::Dyn,
            _ => {
                let what = format!("found no matching overload for '_[_]' applied to '({operand}, {index})'");
                return self.fault(at, what);
            }
        };
        if optional || from_optional { Type::Optional(Box::new(found)) } else { found }
    }

    fn binary(&mut self, at: usize, operator: &str, left: &'a Expr, right: &'a Expr) -> Type {
        let (left, right) = (self.check(left), self.check(right));
        let number = |kind: &Type| matches!(kind, Type::Int | Type::Uint | Type::Double | Type::Dyn);
        let ordered = |kind: &Type| {
            matches!(kind, Type::Bool | Type::String | Type::Bytes | Type::Timestamp | Type::Duration)
        };
        let open = left == Type::Dyn || right == Type::Dyn;
        let result = match operator {
            "==" | "!=" => {
                let nullable = left == Type::Null || right == Type::Null;
                (left.fits(&right) || nullable || (number(&left) && number(&right))).then_some(Type::Bool)
            }
            "<" | "<=" | ">" | ">=" => {
                (open || (number(&left) && number(&right)) || (left == right && ordered(&left)))
                    .then_some(Type::Bool)
            }
            "in" => match &right {
                Type::Dyn => Some(Type::Bool),
                Type::List(item) => {
                    (left.fits(item) || (number(&left) && number(item))).then_some(Type::Bool)
                }
                Type::Map(key, _) => left.fits(key).then_some(Type::Bool),
                Type::Object(_) => left.fits(&Type::String).then_some(Type::Bool),
                _ => None,
            },
            "+" => match (&left, &right) {
                (Type::Dyn, Type::Dyn) => Some(Type::Dyn),
                (Type::Timestamp, Type::Duration) | (Type::Duration, Type::Timestamp) => {
                    Some(Type::Timestamp)
                }
                (Type::List(one), Type::List(other)) => {
                    one.fits(other).then(|| Type::List(Box::new(Type::clone(one).join(Type::clone(other)))))
                }
                (Type::String | Type::Bytes | Type::Duration, _)
                | (_, Type::String | Type::Bytes | Type::Duration) => {
                    left.fits(&right).then(|| if left == Type::Dyn { right.clone() } else { left.clone() })
                }
                _ if open => Some(Type::Dyn),
                _ => (number(&left) && left == right).then(|| left.clone()),
            },
            "-" => match (&left, &right) {
                (Type::Timestamp, Type::Timestamp) | (Type::Duration, Type::Duration) => Some(Type::Duration),
                (Type::Timestamp, Type::Duration) => Some(Type::Timestamp),
                _ if open => Some(Type::Dyn),
                _ => (number(&left) && left == right).then(|| left.clone()),
            },
            "%" if left == Type::Double => None,
            _ if open => Some(Type::Dyn),
            _ => (number(&left) && left == right).then(|| left.clone()),
        };
        match result {
            Some(kind) => kind,
            None => {
                let name = if operator == "in" { "@in".to_owned() } else { format!("_{operator}_") };
                self.fault(
                    at,
                    format!("found no matching overload for '{name}' applied to '({left}, {right})'"),
                )
            }
        }
    }

    /// Notes the first of some parts of a literal that is of another type than the one before all others (`homogeneousAggregateLiteralValidator`).
    fn note_mixed<'t>(
        &mut self,
        in_map: bool,
        literal: usize,
        mut parts: impl Iterator<Item = (usize, &'t Type)>,
    ) {
        let Some((_, wanted)) = parts.next().filter(|(_, kind)| self.formatted == 0 && kind.is_certain())
        else {
            return;
        };
        if let Some((at, found)) = parts.find(|(_, kind)| kind.is_certain() && *kind != wanted) {
            let what = format!("expected type '{wanted}' but found '{found}'");
            self.mixed.push(Mixed { in_map, literal, at, what });
        }
    }

    fn call(&mut self, at: usize, name: &str, target: Option<&'a Expr>, arguments: &'a [Expr]) -> Type {
        // Of a function that nobody knows no argument is looked at, only the target.
        if !functions::is_known(name) {
            if let Some(target) = target {
                self.check(target);
            }
            return self.fault(at, format!("undeclared reference to '{name}' (in container '')"));
        }
        let formats = usize::from(name == "format");
        self.formatted += formats;
        let kinds: Vec<_> =
            target.into_iter().chain(arguments).map(|argument| self.check(argument)).collect();
        self.formatted -= formats;
        match functions::resolve(name, target.is_some(), &kinds) {
            Resolved::Result(kind) => refine(name, kind, &kinds),
            Resolved::NoOverload => {
                let texts: Vec<_> = kinds.iter().map(ToString::to_string).collect();
                let shown = match target {
                    Some(_) => {
                        let rest = texts.get(1..).unwrap_or_default().join(", ");
                        format!("{}.({rest})", texts.first().map(String::as_str).unwrap_or_default())
                    }
                    None => format!("({})", texts.join(", ")),
                };
                self.fault(at, format!("found no matching overload for '{name}' applied to '{shown}'"))
            }
        }
    }

    fn walk(&mut self, at: usize, each: &'a Each) -> Type {
        let range = self.check(&each.range);
        let (key, value, keys) = match &range {
            Type::Dyn => (Type::Dyn, Type::Dyn, false),
            Type::List(item) => (Type::Int, Type::clone(item), false),
            Type::Map(key, value) => (Type::clone(key), Type::clone(value), true),
            Type::Object(_) => (Type::String, Type::Dyn, true),
            other => {
                let what = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                return self.fault(at, what);
            }
        };
        let item = if keys { key.clone() } else { value.clone() };
        let names: Vec<(&str, Type)> = match &each.second {
            Some(second) => vec![(&each.name, key.clone()), (second, value)],
            None => vec![(&each.name, item.clone())],
        };
        if let Some(condition) = &each.condition {
            let found = self.within(names.clone(), condition);
            if !found.fits(&Type::Bool) {
                self.fault(
                    condition.at,
                    format!("found no matching overload for '_?_:_' applied to '({found})'"),
                );
            }
        }
        let body = self.within(names, &each.body);
        let predicate = matches!(each.walk, Walk::All | Walk::Exists | Walk::ExistsOne | Walk::Filter);
        if predicate && !body.fits(&Type::Bool) {
            return self.fault(
                each.body.at,
                format!("found no matching overload for '_&&_' applied to '(bool, {body})'"),
            );
        }
        if each.walk == Walk::SortBy && (keys || !is_sortable(&body)) {
            let what = format!(
                "found no matching overload for '@sortByAssociatedKeys' applied to '{range}.(list({body}))'"
            );
            return self.fault(at, what);
        }
        match each.walk {
            Walk::All | Walk::Exists | Walk::ExistsOne => Type::Bool,
            Walk::Filter | Walk::SortBy => Type::List(Box::new(item)),
            Walk::Map | Walk::TransformList => Type::List(Box::new(body)),
            Walk::TransformMap => Type::Map(Box::new(key), Box::new(body)),
            Walk::TransformMapEntry => match body {
                Type::Map(..) => body,
                Type::Dyn | Type::Object(_) => Type::Map(Box::new(Type::Dyn), Box::new(Type::Dyn)),
                other => {
                    let what = format!(
                        "found no matching overload for 'cel.@mapInsert' applied to '(map(dyn, dyn), {other})'"
                    );
                    self.fault(each.body.at, what)
                }
            },
        }
    }
}

/// Whether values of a type have an order (`comparableTypes` of cel-go's lists).
fn is_sortable(kind: &Type) -> bool {
    let numeric = matches!(kind, Type::Int | Type::Uint | Type::Double);
    let other = matches!(kind, Type::Bool | Type::Duration | Type::Timestamp | Type::String | Type::Bytes);
    numeric || other || *kind == Type::Dyn
}

/// Results that depend on more than the signature says.
fn refine(name: &str, result: Type, arguments: &[Type]) -> Type {
    match (name, arguments) {
        ("dyn", _) => Type::Dyn,
        ("min" | "max" | "sum", [Type::List(item)]) => Type::clone(item),
        ("first" | "last", [Type::List(item)]) => Type::Optional(item.clone()),
        ("optional.of" | "optional.ofNonZeroValue", [inner]) => Type::Optional(Box::new(inner.clone())),
        ("value", [Type::Optional(inner)]) => Type::clone(inner),
        ("orValue", [Type::Optional(inner), other]) => Type::clone(inner).join(other.clone()),
        ("or", [one, _]) => one.clone(),
        ("format.named", _) => Type::Optional(Box::new(Type::Opaque("kubernetes.NamedFormat"))),
        ("validate", _) => Type::Optional(Box::new(Type::List(Box::new(Type::String)))),
        ("getQuery", _) => Type::Map(Box::new(Type::String), Box::new(Type::List(Box::new(Type::String)))),
        _ => result,
    }
}

fn literal(value: &Value) -> Type {
    match value {
        Value::Null => Type::Null,
        Value::Bool(_) => Type::Bool,
        Value::Int(_) => Type::Int,
        Value::Uint(_) => Type::Uint,
        Value::Double(_) => Type::Double,
        Value::String(_) => Type::String,
        Value::Bytes(_) => Type::Bytes,
        _ => Type::Dyn,
    }
}
