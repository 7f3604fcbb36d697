//! Expressions of admission policies, rules of custom kinds, and of claims.

use kube_cel::{Budget, Program, Type, Value};
use serde_json::json;

use super::{Case, same};
use crate::mutate;

const STEPS: u64 = 100_000;

/// Whether a value is of the type that its expression is said to have. Fields of objects are not looked at.
fn may_be(kind: &Type, value: &Value) -> bool {
    match (kind, value) {
        (Type::List(item), Value::List(items)) => items.iter().all(|value| may_be(item, value)),
        (Type::Map(_, kind), Value::Map(map)) => map.values().all(|value| may_be(kind, value)),
        (Type::Optional(inner), Value::Optional(value)) => {
            value.as_ref().is_none_or(|value| may_be(inner, value))
        }
        (Type::Bool, value) => matches!(value, Value::Bool(_)),
        (Type::Int, value) => matches!(value, Value::Int(_)),
        (Type::Uint, value) => matches!(value, Value::Uint(_)),
        (Type::Double, value) => matches!(value, Value::Double(_)),
        (Type::String, value) => matches!(value, Value::String(_)),
        (Type::Bytes, value) => matches!(value, Value::Bytes(_)),
        (Type::Null, value) => matches!(value, Value::Null),
        (Type::List(_) | Type::Map(..) | Type::Optional(_), _) => false,
        _ => true,
    }
}

pub(super) fn cel() -> Case {
    let samples = [
        "self.replicas <= self.max && has(self.name) && self.name.startsWith('a')",
        "self.list.all(x, x > 1) || self.list.exists_one(x, x == 2)",
        "self.list.map(x, x * 2).filter(x, x % 3 == 0).size() > 0 ? 'yes' : 'no'",
        "duration('1h30m') > duration('60s') && timestamp('2026-01-01T00:00:00Z').getFullYear() == 2026",
        "quantity('1Gi').isGreaterThan(quantity('1M')) && ip('10.0.0.1').family() == 4",
        "cidr('10.0.0.0/8').containsIP(ip('10.1.2.3')) && url('https://a:1/b?c=d').getHost() == 'a:1'",
        "self.name.matches('^[a-z]+$') && self.name.replace('a', 'b').split('').size() > 1",
        "b'\\x00\\xff' + b'a' == bytes('é') || \"\\u00e9\" in {'é': 1} || r'\\' == '\\\\'",
        "[1, 2u, 3.5, null, true][0] == 1 && {1: 'a', 'b': 2}.size() == 2 && -1 - -9223372036854775808 < 0",
        "semver('1.2.3').isLessThan(semver('2.0.0-rc.1')) && format.dns1123Label().validate('a').hasValue() == false",
        "cel.bind(x, self.list, x + x).sum() + int('5') + int(5.5) + self.list.sort().lastIndexOf(2)",
        "optional.of(1).orValue(2) == self.?name.hasValue() && [?self.?a, 1][?0] == 1",
        "'%s %d %.2f %x'.format(['a', 5, 2.5, 255]) == 'x' && dyn(self).a.b.c",
        "sets.contains([1, 2], [2]) && self.map.exists(k, v, v == k) && lists.range(5).size() == 5",
    ];
    let words = [
        "self",
        ".",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "&&",
        "||",
        "!",
        "?",
        ":",
        "+",
        "-",
        "*",
        "/",
        "%",
        "==",
        "<",
        "in",
        "has(",
        ".all(x, ",
        ".map(y, ",
        "'",
        "\"\"\"",
        "r'",
        "b'",
        "\\",
        "null",
        "true",
        "size(",
        "9223372036854775807",
        "18446744073709551615u",
        "1e308",
        "duration('",
        "timestamp('",
        ".matches('(a*)*",
        "cel.bind(",
        "optional.none()",
        "// ",
        "dyn(",
    ];
    let object = json!({
        "name": "abc", "replicas": 3, "max": 5, "list": [1, 2, 3], "map": {"a": "a"}, "ratio": 0.5, "empty": null,
    });
    let (text, number) = (|| Type::String, || Type::Int);
    let typed = Type::object([
        ("name".to_owned(), text()),
        ("replicas".to_owned(), number()),
        ("max".to_owned(), number()),
        ("list".to_owned(), Type::List(Box::new(number()))),
        ("map".to_owned(), Type::Map(Box::new(text()), Box::new(text()))),
        ("ratio".to_owned(), Type::Double),
        ("empty".to_owned(), Type::Dyn),
    ]);
    Box::new(move |dice| {
        let text = mutate::text(dice, &samples, &words);
        dice.show(|| format!("{text:?}"));
        let kind = if dice.one_in(2) { typed.clone() } else { Type::Dyn };
        let types = [("self", kind.clone()), ("oldSelf", kind)];
        let Ok(program) = Program::compile(&text, &types) else { return Ok(()) };
        let _refused = program.refused(&text);
        let value = Value::from_json(&object);
        let mut budget = Budget::new(STEPS);
        let variables = [("self", value.clone()), ("oldSelf", value)];
        let first = program.evaluate(&variables, &mut budget);
        let again = program.evaluate(&variables, &mut Budget::new(STEPS));
        // What is no number is not the same as itself, but printed the same.
        same("two results", &format!("{first:?}"), &format!("{again:?}"))?;
        if let Ok(value) = first {
            if !may_be(program.result(), &value) {
                return Err(format!("{text:?} is said to be {} and is {value:?}", program.result()));
            }
            let _json = value.to_json();
        }
        Ok(())
    })
}
