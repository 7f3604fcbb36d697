//! What can be wrong with an expression, before and while it is evaluated.

/// An expression that cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) at: usize,
    pub(crate) what: String,
}

/// So many faults of an expression are shown, as cel-go shows them: a client chooses how many there are, and how long the line is that each is in.
const FAULTS_SHOWN: usize = 100;
/// No more are shown once they take so much.
const SHOWN_BYTES: usize = 1 << 16;
/// Longer lines are not shown.
const LINE_SHOWN_BYTES: usize = 16_384;

/// Why an expression does not compile: one or more faults, as cel-go prints them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CompileError(String);

impl CompileError {
    /// Prints faults with the line that they are in and a mark below it.
    pub(crate) fn new(source: &str, faults: &[(usize, String)]) -> Self {
        let (mut texts, mut bytes) = (Vec::new(), 0);
        for (at, what) in faults.iter().take(FAULTS_SHOWN) {
            if bytes > SHOWN_BYTES {
                break;
            }
            let text = snippet(source, *at, what);
            bytes += text.len();
            texts.push(text);
        }
        let more = faults.len() - texts.len();
        if more > 0 {
            texts.push(format!("{more} more errors were truncated"));
        }
        Self(texts.join("\n"))
    }

    /// A fault of the whole expression.
    pub(crate) fn whole(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

fn snippet(source: &str, at: usize, what: &str) -> String {
    let before = source.get(..at).unwrap_or(source);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before[start..].chars().count();
    let text = source.lines().nth(line - 1).unwrap_or_default();
    let head = format!("ERROR: <input>:{line}:{}: {what}", column + 1);
    if text.len() > LINE_SHOWN_BYTES {
        return head;
    }
    format!("{head}\n | {text}\n | {}^", ".".repeat(column))
}

/// Why an evaluation has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The budget is used up: the expression costs too much for this input.
    #[error("operation cancelled: actual cost limit exceeded")]
    Budget,
    /// A map or object does not have the key.
    #[error("no such key: {0}")]
    NoSuchKey(String),
    /// A list does not have the index.
    #[error("index out of bounds: {0}")]
    OutOfBounds(i64),
    /// No function takes these arguments.
    #[error("no such overload")]
    NoSuchOverload,
    /// A variable is not bound.
    #[error("no such attribute(s): {0}")]
    Unbound(String),
    /// An operation failed.
    #[error("{0}")]
    Failed(String),
}

impl EvalError {
    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self::Failed(text.into())
    }
}
