//! What expressions may have that were written earlier, and no new ones.
//!
//! Kubernetes' environment of expressions has neither encoders nor math nor `cel.bind` (`environment/base.go`), and refuses them where an
//! expression is written; only expressions that select devices have `cel.bind`. There, too, it looks at texts that stand for something else, and
//! at the items of lists and maps.
//! What is stored may have been written before that, and goes on to be evaluated: as in Kubernetes, the environment for what is stored has more
//! than the one for what is new.

use apimachinery::{
    go_duration,
    rfc3339::{Fraction, UnixTime},
};

use crate::{
    CompileError, Program, Value,
    ast::{Expr, Node},
    check::Faults,
    functions,
};

/// Libraries all of whose functions are left out.
const LIBRARIES: [&str; 2] = ["base64", "math"];
/// Functions whose first argument in parentheses is looked at if it is a text, in the order in which Kubernetes looks.
const CHECKED: [&str; 3] = ["duration", "timestamp", "matches"];

impl Program {
    /// Why Kubernetes refuses the expression where it is written, although this library evaluates it: it names something that only this library
    /// has, a text in it is no duration, time or regular expression although it must be one, or a list or a map in it has items of different types.
    /// None if it does not.
    pub fn refused(&self, source: &str) -> Option<CompileError> {
        let mut faults = Vec::new();
        find(&self.expr, &mut faults);
        // Texts are looked at where all names are known.
        if faults.is_empty() {
            for function in CHECKED {
                check(&self.expr, function, &mut faults);
            }
            faults.extend(self.mixed.iter().cloned());
        }
        (!faults.is_empty()).then(|| CompileError::new(source, &faults))
    }
}

fn find(expr: &Expr, faults: &mut Faults) {
    let library = match &expr.node {
        Node::Bind { .. } => Some(("cel", "bind")),
        Node::Call { name, target: None, .. } => {
            name.split_once('.').filter(|(library, _)| LIBRARIES.contains(library))
        }
        _ => None,
    };
    let Some((library, function)) = library else {
        expr.children(&mut |child| find(child, faults));
        return;
    };
    // A call begins at its dot. Its arguments are not looked at where nobody knows the function.
    let places = [(expr.at.saturating_sub(library.len()), library), (expr.at + 1 + function.len(), function)];
    faults
        .extend(places.map(|(at, name)| (at, format!("undeclared reference to '{name}' (in container '')"))));
}

/// Looks at the texts that a function is called with (`ValidateDurationLiterals` and the like).
fn check(expr: &Expr, function: &str, faults: &mut Faults) {
    if let Node::Call { name, arguments, .. } = &expr.node
        && name == function
        && let Some(argument) = arguments.first()
        && let Node::Literal(Value::String(text)) = &argument.node
    {
        let good = match function {
            "duration" => go_duration::parse(text).is_some(),
            "timestamp" => UnixTime::parse(text, Fraction::Any).is_ok(),
            _ => functions::compile(text).is_ok(),
        };
        if !good {
            faults.push((argument.at, format!("invalid {function} argument")));
        }
    }
    expr.children(&mut |child| check(child, function, faults));
}
