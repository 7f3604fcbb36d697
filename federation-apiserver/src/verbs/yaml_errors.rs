//! What is wrong with YAML, in the words of Go's parser.

/// The error of go-yaml where the parser of this server says `told`: `error: line 5 column 3: …`.
pub(super) fn translated(told: &str, text: &str) -> String {
    let told = told.lines().next().unwrap_or_default();
    let (line, column, what) = place(told).unwrap_or((0, 0, told));
    let lines = text.matches('\n').count();
    let has = |part: &str| what.contains(part);
    // Go counts lines from zero, and from one where it breaks a text into tokens; it does not name the first.
    let token = |line: usize, what: &str| at(if line > 1 { line } else { 0 }, what);
    let node = |line: usize, what: &str| at(line.saturating_sub(1), what);
    if has("unclosed bracket") && text.trim_end().ends_with(['[', '{', ',']) {
        return at(lines, "did not find expected node content");
    }
    if has("unclosed bracket") {
        let close = if has("'['") { ']' } else { '}' };
        return at(lines, &format!("did not find expected ',' or '{close}'"));
    }
    if has("unclosed quote") {
        return at(lines + 1, "found unexpected end of stream");
    }
    if has("unknown anchor") {
        return format!("yaml: unknown anchor '{}' referenced", anchor(text, line, column));
    }
    if has("recursive references") {
        return format!("yaml: anchor '{}' value contains itself", anchor(text, line, column));
    }
    if has("non-finite float") {
        let sign = if has("`-") { "-Inf" } else { "+Inf" };
        let value = if has(".nan") || has(".NaN") || has(".NAN") { "NaN" } else { sign };
        return format!("json: unsupported value: {value}");
    }
    if has("simple key expected ':'") {
        return token(line + 1, "could not find expected ':'");
    }
    if has("found a tab") {
        return token(line + 1, "found a tab character that violates indentation");
    }
    let of_tokens = [
        ("mapping values are not allowed", "mapping values are not allowed in this context"),
        ("block sequence entries are not", "block sequence entries are not allowed in this context"),
        ("unexpected character", "found character that cannot start any token"),
        ("tabs disallowed", "found character that cannot start any token"),
        ("unknown escape character", "found unknown escape character"),
        ("expected hexadecimal number", "did not find expected hexdecimal number"),
        ("did not find expected comment or line break", "did not find expected comment or line break"),
    ];
    if let Some((_, go)) = of_tokens.iter().find(|(known, _)| has(known)) {
        return token(line, go);
    }
    let of_nodes = [
        ("did not find expected key", "did not find expected key"),
        ("trailing content", "did not find expected key"),
        ("wrongly indented", "did not find expected key"),
        ("misplaced bracket", "did not find expected node content"),
        ("unexpected EOF while parsing", "did not find expected node content"),
    ];
    if let Some((_, go)) = of_nodes.iter().find(|(known, _)| has(known)) {
        return node(line, go);
    }
    if has("!!binary") {
        return "yaml: !!binary value contains invalid base64 data".to_owned();
    }
    if what.starts_with("unsupported map key") {
        return what.to_owned();
    }
    token(line, what)
}

fn at(line: usize, what: &str) -> String {
    if line == 0 { format!("yaml: {what}") } else { format!("yaml: line {line}: {what}") }
}

/// Line and column, both from 1, and the rest.
fn place(told: &str) -> Option<(usize, usize, &str)> {
    let told = told.strip_prefix("error: ").unwrap_or(told);
    let (line, rest) = told.strip_prefix("line ")?.split_once(" column ")?;
    let (column, what) = rest.split_once(": ")?;
    Some((line.parse().ok()?, column.parse().ok()?, what))
}

/// The name of the anchor that is referred to at a place.
fn anchor(text: &str, line: usize, column: usize) -> String {
    let line = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let name = line.chars().skip(column.saturating_sub(1)).skip_while(|letter| *letter == '*');
    name.take_while(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_')).collect()
}

#[cfg(test)]
mod tests {
    use crate::verbs::yaml::{Unreadable, parse};

    #[test]
    fn broken_yaml_is_told_as_go_tells_it() {
        let check = |text: &str, expect: &str| {
            let found = match parse(text.as_bytes()) {
                Err(Unreadable::Text(error)) => error,
                Err(Unreadable::Refused(error)) => error.message,
                Ok(value) => value.to_string(),
            };
            assert_eq!(found, expect, "{text}");
        };
        check("a: b: c\n", "yaml: mapping values are not allowed in this context");
        check("a:\n  b: c: d\n", "yaml: line 2: mapping values are not allowed in this context");
        check("a: [1, 2\n", "yaml: line 1: did not find expected ',' or ']'");
        check("a: [", "yaml: did not find expected node content");
        check("b: 1\na: {x\n", "yaml: line 2: did not find expected ',' or '}'");
        check("a: \"x\n", "yaml: line 2: found unexpected end of stream");
        check("b: 1\n- a\n", "yaml: line 1: did not find expected key");
        check("b: 1\na\n", "yaml: line 3: could not find expected ':'");
        check("a: *x\n", "yaml: unknown anchor 'x' referenced");
        check("a: &x [*x]\n", "yaml: anchor 'x' value contains itself");
        check("a:\n\tb: 1\n", "yaml: line 2: found character that cannot start any token");
        check("a: @x\n", "yaml: found character that cannot start any token");
        check("a: - b\n", "yaml: block sequence entries are not allowed in this context");
        check("a: \"\\z\"\n", "yaml: found unknown escape character");
        check("a: ]\n", "yaml: did not find expected node content");
        check("a: \"b\" c\n", "yaml: did not find expected key");
        check("a: -.inf\n", "json: unsupported value: -Inf");
        check("a: .nan\n", "json: unsupported value: NaN");
        check("a: !!binary xx\n", "yaml: !!binary value contains invalid base64 data");
    }
}
