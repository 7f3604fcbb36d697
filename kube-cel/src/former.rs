//! What this library has beyond Kubernetes. Its environment of expressions has neither encoders nor math nor `cel.bind` (`environment/base.go`),
//! and refuses them where an expression is written; only expressions that select devices have `cel.bind`. What is stored may have been written
//! before that, and goes on to be evaluated: as in Kubernetes, the environment for what is stored has more than the one for what is new.

use crate::{
    CompileError, Program,
    ast::{Expr, Node},
};

/// Libraries all of whose functions are left out.
const LIBRARIES: [&str; 2] = ["base64", "math"];

impl Program {
    /// What Kubernetes says of an expression that names something which only this library has; none if it names nothing of that sort.
    pub fn undeclared(&self, source: &str) -> Option<CompileError> {
        let mut faults = Vec::new();
        find(&self.expr, &mut faults);
        (!faults.is_empty()).then(|| CompileError::new(source, &faults))
    }
}

fn find(expr: &Expr, faults: &mut Vec<(usize, String)>) {
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
