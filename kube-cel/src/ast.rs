//! The tree of an expression.

use crate::Value;

/// A node and where it begins in the source, in bytes.
#[derive(Debug, Clone)]
pub(crate) struct Expr {
    pub(crate) at: usize,
    pub(crate) node: Node,
}

/// What a node is.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    Literal(Value),
    Ident(String),
    /// `operand.field`; `operand.?field` if it is optional.
    Select {
        operand: Box<Expr>,
        field: String,
        optional: bool,
    },
    /// `has(operand.field)`.
    Has {
        operand: Box<Expr>,
        field: String,
    },
    /// `operand[index]`; `operand[?index]` if it is optional.
    Index {
        operand: Box<Expr>,
        index: Box<Expr>,
        optional: bool,
    },
    List(Vec<Item>),
    Map(Vec<(Expr, Item)>),
    /// `Object.spec{replicas: 1}`.
    Made {
        name: String,
        fields: Vec<(String, Item)>,
    },
    Not(Box<Expr>),
    Negate(Box<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Conditional(Box<[Expr; 3]>),
    Binary {
        operator: &'static str,
        operands: Box<[Expr; 2]>,
    },
    /// A function, or a method of its target.
    Call {
        name: String,
        target: Option<Box<Expr>>,
        arguments: Vec<Expr>,
    },
    /// A macro that walks a list or the keys of a map.
    Each(Box<Each>),
    /// `cel.bind(name, value, body)`.
    Bind {
        name: String,
        value: Box<Expr>,
        body: Box<Expr>,
    },
    /// `optional.optMap(name, body)`; flat if the body is an optional itself.
    OptionalMap {
        operand: Box<Expr>,
        name: String,
        body: Box<Expr>,
        flat: bool,
    },
}

impl Expr {
    /// Shows each expression directly below this one.
    pub(crate) fn children<'a>(&'a self, show: &mut impl FnMut(&'a Self)) {
        match &self.node {
            Node::Literal(_) | Node::Ident(_) => {}
            Node::Select { operand, .. } | Node::Has { operand, .. } => show(operand),
            Node::Index { operand, index, .. } => {
                show(operand);
                show(index);
            }
            Node::List(items) => items.iter().for_each(|item| show(&item.value)),
            Node::Map(entries) => {
                for (key, item) in entries {
                    show(key);
                    show(&item.value);
                }
            }
            Node::Made { fields, .. } => fields.iter().for_each(|(_, item)| show(&item.value)),
            Node::Not(operand) | Node::Negate(operand) => show(operand),
            Node::And(operands) | Node::Or(operands) => operands.iter().for_each(show),
            Node::Conditional(parts) => parts.iter().for_each(show),
            Node::Binary { operands, .. } => operands.iter().for_each(show),
            Node::Call { target, arguments, .. } => {
                target.as_deref().into_iter().chain(arguments).for_each(show);
            }
            Node::Each(each) => {
                show(&each.range);
                each.condition.iter().for_each(&mut *show);
                show(&each.body);
            }
            Node::Bind { value, body, .. } => {
                show(value);
                show(body);
            }
            Node::OptionalMap { operand, body, .. } => {
                show(operand);
                show(body);
            }
        }
    }
}

/// A part of a literal; `?` before an optional value that adds nothing when it is none.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) value: Expr,
    pub(crate) optional: bool,
}

/// The macros over collections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Walk {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
    /// The body is what items are sorted by.
    SortBy,
    TransformList,
    TransformMap,
    TransformMapEntry,
}

/// One macro over a collection.
#[derive(Debug, Clone)]
pub(crate) struct Each {
    pub(crate) walk: Walk,
    pub(crate) range: Expr,
    pub(crate) name: String,
    /// The second variable: the value beside the index or key.
    pub(crate) second: Option<String>,
    /// Only for these, in `map` and the transforms.
    pub(crate) condition: Option<Expr>,
    pub(crate) body: Expr,
}
