//! What expressions mean, by example.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;

fn variables() -> Vec<(&'static str, Type, Value)> {
    let json = serde_json::json!({"replicas": 3, "name": "web", "ports": [80, 443], "labels": {"a": "1"}});
    let kind = Type::object([
        ("replicas".to_owned(), Type::Int),
        ("name".to_owned(), Type::String),
        ("ports".to_owned(), Type::List(Box::new(Type::Int))),
        ("labels".to_owned(), Type::Map(Box::new(Type::String), Box::new(Type::String))),
        ("missing".to_owned(), Type::String),
    ]);
    vec![("self", kind, Value::from_json(&json)), ("any", Type::Dyn, Value::from_json(&json))]
}

fn evaluate(source: &str) -> Result<Value, String> {
    let variables = variables();
    let types: Vec<_> = variables.iter().map(|(name, kind, _)| (*name, kind.clone())).collect();
    let values: Vec<_> = variables.iter().map(|(name, _, value)| (*name, value.clone())).collect();
    let program = Program::compile(source, &types).map_err(|error| error.to_string())?;
    program.evaluate(&values, &mut Budget::new(10_000)).map_err(|error| error.to_string())
}

#[track_caller]
fn holds(source: &str) {
    assert_eq!(evaluate(source), Ok(Value::Bool(true)), "{source}");
}

#[track_caller]
fn fails(source: &str, part: &str) {
    let error = evaluate(source).unwrap_err();
    assert!(error.contains(part), "{source}: {error}");
}

#[test]
fn the_language() {
    for source in [
        "1 + 2 * 3 == 7 && -(2) < 1 && 7 / 2 == 3 && -7 % 3 == -1",
        "self.replicas > 2 ? self.name == 'web' : false",
        "'a' in self.labels && !('b' in self.labels) && 80 in self.ports",
        "has(self.name) && !has(self.missing)",
        "self.ports.all(p, p > 10) && self.ports.exists(p, p == 443) && self.ports.exists_one(p, p == 80)",
        "self.ports.map(p, p * 2) == [160, 886] && self.ports.filter(p, p > 100).size() == 1",
        "self.ports.map(p, p > 100, string(p)) == ['443']",
        "self.labels.all(k, self.labels[k] == '1') && self.labels.all(k, v, v == '1')",
        "{'a': 1, 'b': 2}.transformList(k, v, v + 1) == [2, 3] && [1, 2].transformMap(i, v, v > 1, v)[1] == 2",
        "{'a': 1, 'b': 2}.transformMapEntry(k, v, v > 1, {string(v): k}) == {'2': 'b'}",
        "['x', 'y'].transformMapEntry(i, v, {v: i, v + v: i}) == {'x': 0, 'xx': 0, 'y': 1, 'yy': 1}",
        "cel.bind(n, self.replicas * 2, n + n == 12)",
        "self.?missing.orValue('none') == 'none' && self.?name.hasValue() && !self.labels[?'x'].hasValue()",
        "optional.of(3).optMap(x, x + 1).value() == 4 && optional.none().or(optional.of(1)).value() == 1",
        "false && any.nothing.here == 1 ? false : true",
        "any.nothing == 1 || true",
        "type(1) == int && type('a') == string && 1 == 1.0 && 1u == 1",
        "'\\u00e9' == 'é' && r'\\d' == '\\\\d' && b'ab' == bytes('ab') && '''a\nb'''.size() == 3",
        "duration('90s') == duration('1m30s') && timestamp('2026-01-01T00:00:00Z') + duration('24h') == timestamp('2026-01-02T00:00:00Z')",
        "timestamp('2026-11-24T20:00:00Z').getHours('+01:00') == 21 && timestamp('2026-11-24T20:00:00Z').getMonth() == 10",
        "int('12') == 12 && double('1.5') == 1.5 && string(12) == '12' && uint(3) == 3u",
        "0x10 == 16 && 1e3 == 1000.0 && -9223372036854775808 < 0",
    ] {
        holds(source);
    }
}

#[test]
fn the_libraries_of_kubernetes() {
    for source in [
        "'Hello'.lowerAscii() == 'hello' && 'a,b'.split(',') == ['a', 'b'] && ['a', 'b'].join('-') == 'a-b'",
        "'tacocat'.indexOf('c') == 2 && 'tacocat'.lastIndexOf('c') == 4 && 'tacocat'.substring(4) == 'cat' && 'tacocat'.charAt(1) == 'a'",
        "'a-b-c'.replace('-', '+', 1) == 'a+b-c' && '  x '.trim() == 'x'",
        "'%s is %d, %.2f and %s'.format(['a', 3, 1.5, [1, 'b']]) == 'a is 3, 1.50 and [1, \"b\"]'",
        "'abc123'.find('[0-9]+') == '123' && 'a1b2'.findAll('[0-9]') == ['1', '2'] && 'abc'.matches('^a.c$')",
        "[1, 2, 3].isSorted() && [1, 2].sum() == 3 && [3, 1].min() == 1 && [3, 1].max() == 3 && [1, 2, 1].lastIndexOf(1) == 2",
        "sets.contains([1, 2], [2]) && sets.equivalent([1, 2], [2, 1]) && !sets.intersects([1], [2])",
        "[[1], [2]].flatten() == [1, 2] && [1, 2, 3].slice(1, 3) == [2, 3] && [2, 1].sort() == [1, 2] && [1, 1].distinct() == [1]",
        "math.greatest(1, 3, 2) == 3 && math.least([4, 2]) == 2 && math.ceil(1.2) == 2.0 && math.abs(-3) == 3",
        "quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('500m').add(quantity('1500m')).asInteger() == 2 && !isQuantity('1x')",
        "url('https://a.example:8443/p?x=1&x=2').getHost() == 'a.example:8443' && url('https://a.example:8443/p?x=1').getPort() == '8443' && url('https://a/p?x=1').getQuery()['x'] == ['1'] && isURL('/abs') && !isURL('rel')",
        "ip('10.0.0.1').family() == 4 && isIP('::1') && !isIP('10.0.0') && ip('127.0.0.1').isLoopback() && ip.isCanonical('::1')",
        "cidr('10.0.0.0/8').containsIP('10.1.2.3') && cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8') && cidr('10.0.0.0/8').prefixLength() == 8",
        "!format.dns1123Label().validate('ok').hasValue() && format.named('dns1123Label').value().validate('No_').hasValue()",
        "base64.decode('aGk=') == b'hi' && base64.encode(b'hi') == 'aGk='",
    ] {
        holds(source);
    }
}

#[test]
fn texts_and_times_have_the_forms_that_kubernetes_reads() {
    for source in [
        "format.datetime().validate('20260102T030405Z').hasValue()",
        "!format.datetime().validate('2026-01-02t03:04:05z').hasValue()",
        "format.byte().validate('').hasValue() && !format.byte().validate('YR==').hasValue()",
        "!format.uuid().validate('00000000000040008000000000000000').hasValue()",
        "timestamp('2026-01-02T3:04:05,5Z') == timestamp('2026-01-02T03:04:05.5Z')",
    ] {
        holds(source);
    }
    for text in
        ["20260102T030405Z", "2026-01-02 03:04:05Z", "2026-01-02t03:04:05z", "2026-01-02T03:04:05+0100"]
    {
        fails(&format!("timestamp('{text}') == timestamp(0)"), "parsing time");
    }
}

#[test]
fn letters_are_found_and_split_as_in_kubernetes() {
    for source in [
        "'hello mellow'.indexOf('') == 0 && 'hello mellow'.indexOf('', 2) == 2 && 'ab'.indexOf('', 9) == 9",
        "'hello mellow'.indexOf('ello', 2) == 7 && 'hello mellow'.indexOf('ello', 20) == -1 && 'ab'.indexOf('b', 2) == -1",
        "'hello mellow'.lastIndexOf('') == 12 && 'hello mellow'.lastIndexOf('', 3) == 3",
        "'hello mellow'.lastIndexOf('ello', 6) == 1 && 'hello mellow'.lastIndexOf('ello', 7) == 7 && 'ab'.lastIndexOf('b', 2) == -1",
        "'éaéaé'.lastIndexOf('éa', 2) == 2 && 'éaéaé'.lastIndexOf('aé', 2) == 1 && 'éaéaé'.lastIndexOf('aéa', 9) == -1",
        "'abc'.split('', 2) == ['a', 'bc'] && 'abc'.split('', 9) == ['a', 'b', 'c'] && ''.split('', 2) == [] && 'abc'.split('', 1) == ['abc']",
        r#"strings.quote('é"\\\a\n\u0001') == '"é\\"\\\\\\a\\n\u0001"'"#,
        "string(1000000.0) == '1e+06' && string(1.5) == '1.5' && int(9223372036854774784.0) == 9223372036854774784",
        "timestamp('9999-12-31T23:59:59Z') > timestamp('9999-12-29T00:00:00Z')",
    ] {
        holds(source);
    }
    fails("'abc'.indexOf('a', -1) == 0", "index out of range: -1");
    fails("'abc'.lastIndexOf('a', -1) == 0", "index out of range: -1");
    fails("'abc'.substring(9, 1) == ''", "invalid substring range. start: 9, end: 1");
    fails("int(9223372036854775808.0) == 0", "integer overflow");
    fails("0u - 1u == 0u", "unsigned integer overflow");
    fails("timestamp('0000-12-31T00:00:00Z') == timestamp(0)", "timestamp overflow");
    fails("timestamp(253402300800) == timestamp(0)", "timestamp overflow");
}

#[test]
fn texts_that_stand_for_something_else_are_looked_at_where_they_are_written() {
    let refused = |source: &str| {
        let program = Program::compile(source, &[("self", Type::String)]).unwrap();
        program.refused(source).map(|error| error.to_string())
    };
    for source in [
        "self.matches('^a+$') && duration('1h') > duration('5s') && timestamp('9999-12-31T23:59:59Z') > timestamp(0)",
        "self.matches(self + '(')",
    ] {
        assert_eq!(refused(source), None, "{source}");
    }
    assert_eq!(
        refused("true && self.matches('(')").as_deref(),
        Some(
            "ERROR: <input>:1:22: invalid matches argument\n | true && self.matches('(')\n | .....................^"
        )
    );
    let told =
        refused("self.matches('(') || timestamp('x') > timestamp(duration('1') > duration('1d') ? 0 : 1)")
            .unwrap();
    let faults: Vec<_> = told.lines().filter(|line| line.starts_with("ERROR")).collect();
    assert_eq!(
        faults,
        [
            "ERROR: <input>:1:58: invalid duration argument",
            "ERROR: <input>:1:74: invalid duration argument",
            "ERROR: <input>:1:32: invalid timestamp argument",
            "ERROR: <input>:1:14: invalid matches argument",
        ]
    );
}

#[test]
fn items_of_different_types_are_refused_where_they_are_written() {
    let refused = |source: &str| {
        let program = Program::compile(source, &[("self", Type::Dyn)]).unwrap();
        program.refused(source).map(|error| error.to_string())
    };
    for source in [
        "[1, 2] == [3] && {'a': 1, 'b': 2}.size() == 2 && [[], [1]].size() == 2",
        "[1, self].size() == 2 && [?optional.of(1), 2].size() == 2",
        "'%s %s'.format([1, 'a']) == '1 a' && 'x'.format([[1, 'a'], {'a': 1, 2: 'b'}]) == ''",
    ] {
        assert_eq!(refused(source), None, "{source}");
    }
    let faults = |source: &str| -> Vec<String> {
        let told = refused(source).unwrap_or_default();
        told.lines().filter(|line| line.starts_with("ERROR")).map(str::to_owned).collect()
    };
    assert_eq!(
        faults("{'a': 1, 2: 'b'}.size() == 2 || [1, 'a', 2.0] == [['a'], [1]]"),
        [
            "ERROR: <input>:1:37: expected type 'int' but found 'string'",
            "ERROR: <input>:1:58: expected type 'list(string)' but found 'list(int)'",
            "ERROR: <input>:1:10: expected type 'string' but found 'int'",
            "ERROR: <input>:1:13: expected type 'int' but found 'string'",
        ]
    );
}

#[test]
fn lists_are_made_and_sorted() {
    for source in [
        "lists.range(3) == [0, 1, 2] && lists.range(0) == []",
        "['bbb', 'a', 'cc'].sortBy(s, size(s)) == ['a', 'cc', 'bbb']",
        "[3, 1, 2].sortBy(n, -n) == [3, 2, 1] && self.ports.sortBy(p, p)[0] == 80",
    ] {
        holds(source);
    }
    fails(
        "[1].sortBy(n, [n])",
        "found no matching overload for '@sortByAssociatedKeys' applied to 'list(int).(list(list(int)))'",
    );
    fails("{'a': 1}.sortBy(n, n) == []", "found no matching overload for '@sortByAssociatedKeys'");
    fails("dyn([1, 'a']).sortBy(n, n) == []", "list elements must have the same type");
    fails("dyn([[1], [2]]).sort() == []", "list elements must be comparable");
    fails("[1.0, 0.0 / 0.0].sort() == []", "list elements must be comparable");
}

#[test]
fn numbers_of_all_types_compare_by_what_they_are() {
    for source in [
        "9007199254740993 > 9007199254740992.0 && 9007199254740992 == 9007199254740992.0",
        "9007199254740993u != 9007199254740992.0 && 9007199254740993.0 == 9007199254740992u",
        "9223372036854775807 < 9223372036854775808.0 && 18446744073709551615u < 18446744073709551616.0",
        "-9223372036854775808 == -9223372036854775808.0 && -1 < -0.5 && 0u > -0.5 && 1 < 1.5 && -1 > -1.5",
        "1 < 1e300 && 1u > -1e300 && !(1 < 0.0 / 0.0) && !(0.0 / 0.0 == 1)",
        "[1.5, 0.5].sort() == [0.5, 1.5]",
    ] {
        holds(source);
    }
    // One order, whatever the types: a sort must not find contradictions.
    let made = |at: i64| match at % 3 {
        0 => Value::Int((1 << 53) + at % 5),
        1 => Value::Uint((1 << 53) + (at % 5) as u64),
        _ => Value::Double(((1_i64 << 53) + at % 5) as f64),
    };
    let many = Value::list((0..1000).map(made).collect());
    let known = [("many", Type::List(Box::new(Type::Dyn)))];
    let program = Program::compile("many.sort()", &known).unwrap();
    let error = program.evaluate(&[("many", many)], &mut Budget::new(1_000_000)).unwrap_err();
    assert_eq!(error.to_string(), "list elements must have the same type");
}

/// The steps that an expression takes; more than there are if it takes too many.
#[track_caller]
fn steps(source: &str, variables: &[(&str, Value)]) -> u64 {
    let known: Vec<_> = variables.iter().map(|(name, _)| (*name, Type::Dyn)).collect();
    let program = Program::compile(source, &known).unwrap();
    let mut budget = Budget::new(STEPS);
    match program.evaluate(variables, &mut budget) {
        Err(EvalError::Budget) => STEPS + 1,
        _ => STEPS - budget.left(),
    }
}

const STEPS: u64 = 1_000_000;

#[test]
fn sorting_costs_what_its_keys_weigh() {
    let texts = |count: usize, length: usize| {
        Value::list((0..count).map(|at| format!("{}{at:09}", "x".repeat(length)).into()).collect())
    };
    for source in ["l.sort() == []", "l.sortBy(t, t) == []"] {
        let of = |count, length| steps(source, &[("l", texts(count, length))]);
        assert!(of(1000, 0) > 10 * of(100, 0), "{source}: more than the length of the list");
        assert!(of(100, 1000) > 50 * of(100, 0), "{source}: the length of the texts counts");
        assert!(of(1000, 1000) > STEPS, "{source}");
    }
}

#[test]
fn what_is_within_values_costs_wherever_it_is_looked_through() {
    let long: Value = "x".repeat(100_000).into();
    let deep = Value::list(vec![Value::list((0..100_000).map(Value::Int).collect())]);
    for (source, value) in [
        ("lists.range(1000).map(i, l).join('') == ''", &long),
        ("'%s'.format([lists.range(1000).map(i, l)]) == ''", &long),
        ("l + 'y' in lists.range(1000).map(i, l + 'z')", &long),
        ("lists.range(1000).map(i, l + 'z').indexOf(l + 'y') == 0", &long),
        ("lists.range(1000).map(i, l + 'z').includes(l + 'y')", &long),
        ("sets.contains(lists.range(1000).map(i, l + 'z'), [l + 'y'])", &long),
        ("lists.range(1000).map(i, l).isSorted()", &long),
        ("lists.range(1000).map(i, l).max() == ''", &long),
        ("lists.range(1000).all(i, [l].includes(l))", &deep),
        ("lists.range(1000).map(i, l).flatten().size() > 0", &deep),
        ("lists.range(1000).all(i, l == l)", &deep),
    ] {
        assert!(steps(source, &[("l", value.clone())]) > STEPS, "{source}");
    }
    fails("['a', 'b'].sum() == 'ab'", "no such overload");
}

#[test]
fn values_that_hold_one_another_many_times_end_soon() {
    let twice = ".map(a, [a, a])".repeat(40);
    let both = |test: &str| format!("cel.bind(x, [0]{twice}, {test})");
    for test in
        ["dyn(x) == dyn([x])", "x[0] == x[0]", "'%s'.format([x]) == ''", "x.flatten(100) == []", "x in [x]"]
    {
        assert!(steps(&both(test), &[]) > STEPS, "{test}");
    }
    let program = Program::compile(&both("x"), &[]).unwrap();
    let made = program.evaluate(&[], &mut Budget::new(STEPS)).unwrap();
    assert_eq!(made.to_json(), Err(EvalError::Budget));
}

#[test]
fn what_kubernetes_does_not_have_is_only_for_what_is_stored() {
    let undeclared = |source: &str| {
        let program = Program::compile(source, &[]).unwrap();
        program.refused(source).map(|error| error.to_string()).unwrap_or_default()
    };
    let told = |source: &str, library: (usize, &str), function: (usize, &str)| {
        let fault = |(column, name): (usize, &str)| {
            let mark = ".".repeat(column - 1);
            format!(
                "ERROR: <input>:1:{column}: undeclared reference to '{name}' (in container '')\n | {source}\n | {mark}^"
            )
        };
        assert_eq!(undeclared(source), format!("{}\n{}", fault(library), fault(function)));
    };
    told("base64.encode(b'hi') == 'aGk='", (1, "base64"), (14, "encode"));
    told("1 == math.abs(-1)", (6, "math"), (14, "abs"));
    told("[1].all(x, cel.bind(n, x, math.abs(n) == n))", (12, "cel"), (20, "bind"));
    for source in ["[1].max() == 1", "sets.contains([1], [1])", "'a'.size() == 1"] {
        assert_eq!(undeclared(source), "", "{source}");
    }
}

#[test]
fn what_cannot_be_is_found_when_it_is_compiled() {
    fails("self.foo > 1", "ERROR: <input>:1:5: undefined field 'foo'\n | self.foo > 1\n | ....^");
    fails("self.replicas == 'a'", "found no matching overload for '_==_' applied to '(int, string)'");
    fails("self.name + 1", "found no matching overload for '_+_' applied to '(string, int)'");
    fails("other == 1", "undeclared reference to 'other' (in container '')");
    fails("self.name.foo()", "undeclared reference to 'foo'");
    let error = evaluate("none.such(other)").unwrap_err();
    assert_eq!(error.matches("ERROR").count(), 2, "no argument is looked at: {error}");
    fails("self.name.startsWith(1)", "found no matching overload for 'startsWith' applied to 'string.(int)'");
    fails("self.ports.all(p, p)", "found no matching overload");
    fails("[1].transformMapEntry(i, v, v).size() == 1", "found no matching overload for 'cel.@mapInsert'");
    fails("self.replicas.all(x, true)", "cannot be range of a comprehension");
    fails("1 +", "Syntax error: mismatched input '<EOF>'");
    fails("has(self)", "invalid argument to has() macro");
    let types = [("self", Type::Int)];
    let error = Program::compile_as("self + 1", &types, &Type::Bool).unwrap_err();
    assert_eq!(error.to_string(), "must evaluate to bool");
}

#[test]
fn errors_are_told() {
    fails("any.nothing == 1", "no such key: nothing");
    fails("self.ports[5] == 1", "index out of bounds: 5");
    let twice = "['a', 'a'].transformMapEntry(i, v, {v: i}).size() == 1";
    fails(twice, "insert failed: key a already exists");
    fails("1 / 0 == 1", "division by zero");
    fails("9223372036854775807 + 1 > 0", "overflow");
    fails("dyn('a') < dyn(1)", "no such overload");
    fails("'a'.matches('(')", "error parsing regexp");
    fails(
        "timestamp('2026-11-24T20:00:00Z').getHours('1:2147483647') == 1",
        "unknown time zone 1:2147483647",
    );
}

#[test]
fn nothing_runs_for_long() {
    let ten = "[1,2,3,4,5,6,7,8,9,10]";
    let nested = format!(
        "{ten}.all(a, {ten}.all(b, {ten}.all(c, {ten}.all(d, {ten}.all(e, a + b + c + d + e > 0)))))"
    );
    fails(&nested, "actual cost limit exceeded");
    holds(
        "lists.range(2000).distinct().size() == 2000 && [1, 1u, 2.0, 2, 'a', 'a', [1], [1.0]].distinct() == [1, 2, 'a', [1]]",
    );
    fails("lists.range(150).map(i, [i]).distinct().size() == 150", "actual cost limit exceeded");
    fails("[1, 2, 3].all(i, lists.range(4000).size() > i)", "actual cost limit exceeded");
    let doubling = "cel.bind(a, 'xxxxxxxxxxxxxxxxxxxx', cel.bind(b, a+a+a+a+a+a+a+a, cel.bind(c, b+b+b+b+b+b+b+b, cel.bind(d, c+c+c+c+c+c+c+c, cel.bind(e, d+d+d+d+d+d+d+d, e+e+e+e+e+e+e+e)))))";
    fails(&format!("{doubling} != ''"), "actual cost limit exceeded");
    let deep = format!("{}1{}", "(".repeat(1000), ")".repeat(1000));
    fails(&deep, "recursion limit exceeded");
    fails(&format!("1{} > 0", " + 1".repeat(1000)), "recursion limit exceeded");
    fails(&"!".repeat(70_000), "longer than");
}

#[test]
fn names_that_cel_does_not_take_are_escaped() {
    assert_eq!(
        ["a-b", "a.b", "a/b", "a__b", "namespace", "plain"].map(escape),
        ["a__dash__b", "a__dot__b", "a__slash__b", "a__underscores__b", "__namespace__", "plain"]
    );
}

#[test]
fn a_program_tells_what_it_mentions() {
    let types = [("self", Type::Dyn), ("oldSelf", Type::Dyn)];
    assert!(Program::compile("self == oldSelf", &types).unwrap().mentions("oldSelf"));
    assert!(!Program::compile("self.all(oldSelf, oldSelf)", &types).unwrap().mentions("oldSelf"));
}

#[test]
fn versions_are_compared_as_semver_does() {
    holds(
        "semver('1.2.3-rc.1').isLessThan(semver('1.2.3')) && semver('1.10.0').isGreaterThan(semver('1.9.9'))",
    );
    holds(
        "semver('1.2.3-alpha.9').compareTo(semver('1.2.3-alpha.10')) == -1 && semver('1.0.0+a') == semver('1.0.0+b')",
    );
    holds(
        "!isSemver('v1.0') && isSemver('v1.0', true) && semver('v01.0', true).major() == 1 && semver('1.2.3').patch() == 3",
    );
    fails("semver('1.02.0').minor() == 2", "is no semantic version");
}

#[test]
fn literals_leave_out_what_is_optional_and_absent() {
    holds("[?optional.none(), 1, ?optional.of(2)] == [1, 2]");
    holds("{?'a': optional.none(), 'b': 1, ?'c': optional.of(2)} == {'b': 1, 'c': 2}");
}

#[test]
fn objects_are_made_where_their_names_are_declared() {
    let types = [("Object", Type::Type), ("JSONPatch", Type::Type), ("any", Type::Dyn)];
    let make = |source: &str| {
        let program = Program::compile(source, &types).unwrap();
        program.evaluate(&[("any", Value::Null)], &mut Budget::new(1000)).unwrap()
    };
    let made = make("Object{spec: Object.spec{replicas: 1, ?paused: optional.none(), __namespace__: 'a'}}");
    assert_eq!(made.to_json().unwrap(), serde_json::json!({"spec": {"replicas": 1, "namespace": "a"}}));
    let patch = make("[JSONPatch{op: 'add', path: '/a/' + jsonpatch.escapeKey('b/c~d'), value: [1, 2.5]}]");
    assert_eq!(
        patch.to_json().unwrap(),
        serde_json::json!([{"op": "add", "path": "/a/b~1c~0d", "value": [1, 2.5]}])
    );
    let Value::Made(wrong) = make("Object{spec: {'a': [Object.other{}]}}") else {
        panic!("an object is made")
    };
    assert!(wrong.check_names().unwrap_err().contains("expected \"Object.spec\""));
    for (source, why) in [
        ("Other{}", "undeclared reference to 'Other'"),
        ("JSONPatch{op: 1}", "expected type of field 'op' is 'string'"),
        ("Object{a: 1", "mismatched input '<EOF>'"),
    ] {
        let error = Program::compile(source, &types).unwrap_err().to_string();
        assert!(error.contains(why), "{source}: {error}");
    }
    assert!(Program::compile("Object{}", &[]).is_err());
}

/// Allows what is asked of `pods`, once it was asked.
#[derive(Debug, Default)]
struct Pods(std::sync::Mutex<Vec<Check>>);

impl Authority for Pods {
    fn decide(&self, check: &Check) -> Option<Decision> {
        let mut asked = self.0.lock().unwrap();
        let known = asked.contains(check);
        asked.push(check.clone());
        known.then(|| Decision { allowed: check.resource == "pods", ..Default::default() })
    }
}

#[test]
fn the_authorizer_is_asked_and_waited_for() {
    let types = [("authorizer", Type::AUTHORIZER)];
    let request = Check { resource: "pods".to_owned(), ..Default::default() };
    let variable = Access::variable(Arc::new(Pods::default()), request);
    let source = "authorizer.requestResource.check('custom').allowed() && !authorizer.group('').resource('nodes').check('get').allowed()";
    let program = Program::compile_as(source, &types, &Type::Bool).unwrap();
    let run = || program.evaluate(&[("authorizer", variable.clone())], &mut Budget::new(50_000));
    assert!(run().is_err());
    assert_eq!(run().unwrap(), Value::Bool(true));
    assert!(Program::compile("authorizer.check('get')", &types).is_err());
}

#[test]
fn patterns_that_stand_in_an_expression_are_compiled_with_it() {
    let text = [("l", Value::from("aaa"))];
    for source in
        ["l.matches('^a+$')", "matches(l, '^a+$')", "l.find('^a+$') == l", "l.findAll('^a+$', 1) == [l]"]
    {
        assert_eq!(Program::compile(source, &[("l", Type::String)]).unwrap().patterns.len(), 1, "{source}");
        let each = format!("lists.range(1000).all(i, {source})");
        assert!(steps(&each, &text) < 20_000, "{source}");
        // What is made is compiled once, too, but not each time another one.
        let made = each.replace("'^a+$'", "'^a' + '+$'");
        assert!(steps(&made, &text) < 40_000, "{made}");
        let others = each.replace("'^a+$'", "'^a+(' + string(i) + ')?$'");
        assert!(steps(&others, &text) > STEPS, "{others}");
    }
    fails("'a'.matches('(')", "error parsing regexp");
}

#[test]
fn large_types_take_little_to_compare() {
    let wide = Type::object((0..20_000).map(|at| (format!("f{at}"), Type::String)));
    let listed = vec!["self"; 2000].join(", ");
    let source = format!("[{listed}].size() == 2000");
    assert!(Program::compile(&source, &[("self", wide)]).is_ok());
}

#[test]
fn many_faults_of_an_expression_take_little_to_tell() {
    let told = |count: usize| {
        let source = vec!["x"; count].join("||");
        Program::compile(&source, &[]).unwrap_err().to_string()
    };
    let some = told(102);
    assert!(some.starts_with("ERROR: <input>:1:1: undeclared reference to 'x'"), "{some}");
    assert!(some.ends_with("^\n2 more errors were truncated"), "{some}");
    let many = told(20_000);
    assert!(many.len() < 20_000 && many.ends_with("\n19900 more errors were truncated"), "{}", many.len());
    assert!(!many.contains(" | "), "a long line is not shown");
    assert!(told(5_000).len() < 200_000, "of lines that are nearly as long there are few");
}
