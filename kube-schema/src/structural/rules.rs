//! `x-kubernetes-validations`: rules in the Common Expression Language.

use std::{cell::OnceCell, sync::Arc};

use apimachinery::{FieldError, FieldPath, FieldReason};
use kube_cel::{Budget, EvalError, Key, List, ListKind as CelListKind, Program, Value as CelValue, escape};
use serde_json::Value;

use super::{
    ListKind, Structural, Type,
    check::fault,
    compile::compile,
    format::numbers,
    former::{Former, unchanged},
    items::member,
};
use crate::bounds::{MOST_TOLD, tell};

/// Steps that all rules together may take for one object: about a second of work, a fifth of which no honest rule needs.
const STEPS_MAX: u64 = 5_000_000;
/// Bytes of a message that an expression makes (`MaxEvaluatedMessageExpressionSizeBytes`).
const MESSAGE_MAX: usize = 5 << 10;
/// Steps of one rule for one value.
const RULE_STEPS_MAX: u64 = 1_000_000;

/// One compiled rule.
#[derive(Debug)]
pub struct Rule {
    pub(super) program: Program,
    pub(super) message: Option<String>,
    pub(super) message_program: Option<Program>,
    pub(super) reason: FieldReason,
    pub(super) field_path: Option<String>,
    /// It compares with the state before.
    pub(super) transition: bool,
    /// `optionalOldSelf`: it is asked on create, too.
    pub(super) optional_old: bool,
    pub(super) source: String,
}

impl Rule {
    /// Steps that its loops take on the largest value of its schema, at least.
    pub(super) fn loops(&self, schema: &Structural) -> u64 {
        self.program.loops(&[("self", schema), ("oldSelf", schema)])
    }
}

/// What is wrong with a rule of a schema.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleFault {
    /// Where, below the schema's root: `.properties[spec].x-kubernetes-validations[0].rule`.
    pub path: String,
    /// The kind of fault.
    pub reason: FieldReason,
    /// The value that is at fault.
    pub value: Value,
    /// What is wrong.
    pub detail: String,
    /// Where a part of the schema begins that the detail ends with, in the form of the path.
    pub within: Option<String>,
    /// Whether the rule cannot do its work. Others are only refused when a definition is written.
    pub stops: bool,
}

impl Structural {
    /// Compiles the rules of this schema and all below it; the ones that are faulty are left out and told.
    pub fn compile_rules(&mut self) -> Vec<RuleFault> {
        let mut faults = Vec::new();
        compile(self, "", true, None, &mut faults);
        faults
    }

    /// Whether there are compiled rules at this node or below.
    pub fn has_rules(&self) -> bool {
        self.ruled
    }

    /// The faults that the rules find in an object, or in its change from `old`: all, or the first hundred. The object must have passed
    /// [`Structural::check`].
    pub fn check_rules(&self, object: &Value, old: Option<&Value>) -> RuleOutcome {
        let mut walk = Walk { left: STEPS_MAX, found: RuleOutcome::default() };
        if self.has_rules() {
            walk.value(self, object, old, None, Place { path: "", root: true, within: None });
        }
        walk.found
    }
}

/// What the rules find in an object.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RuleOutcome {
    /// What it is refused for.
    pub faults: Vec<FieldError>,
    /// What is wrong with values that are as they were before: they may stay, and whoever writes is warned.
    pub warnings: Vec<FieldError>,
}

/// A value as rules see it.
fn cel_value(schema: Option<&Structural>, value: &Value) -> CelValue {
    let Some(schema) = schema else { return CelValue::from_json(value) };
    match (schema.kind, value) {
        (Some(Type::Number), Value::Number(number)) => CelValue::Double(number.as_f64().unwrap_or(f64::NAN)),
        (Some(Type::Integer), Value::Number(number)) => number
            .as_i64()
            .or_else(|| number.as_f64().map(|number| number as i64))
            .map_or(CelValue::Null, CelValue::Int),
        (Some(Type::String), Value::String(text)) => with_format(schema, text),
        (_, Value::Array(list)) => {
            let items = list.iter().map(|item| cel_value(schema.items.as_deref(), item)).collect();
            CelValue::List(Arc::new(List::new(items, list_kind(schema))))
        }
        (_, Value::Object(map)) => {
            let keys_are_data = schema.additional.is_some();
            CelValue::map(map.iter().map(|(name, value)| {
                let key = if keys_are_data { name.clone() } else { escape(name) };
                (key, cel_value(schema.field(name), value))
            }))
        }
        _ => CelValue::from_json(value),
    }
}

fn list_kind(schema: &Structural) -> CelListKind {
    let key = |name: &String| Key::String(escape(name).into());
    match &schema.list {
        ListKind::Atomic => CelListKind::Plain,
        ListKind::Set => CelListKind::Set,
        ListKind::Map(keys) => CelListKind::Map(keys.iter().map(key).collect()),
    }
}

fn with_format(schema: &Structural, text: &str) -> CelValue {
    let typed = match schema.checks.format.as_deref() {
        Some("byte") => crate::validate::decode_base64(text).ok().map(|bytes| CelValue::Bytes(bytes.into())),
        Some("date") => text
            .parse::<jiff::civil::Date>()
            .ok()
            .and_then(|date| date.to_zoned(jiff::tz::TimeZone::UTC).ok())
            .map(|zoned| CelValue::Timestamp(zoned.timestamp())),
        Some("date-time") => kube_cel::parse_timestamp(text),
        Some("duration") => numbers::duration(text).map(CelValue::Duration),
        _ => None,
    };
    typed.unwrap_or_else(|| text.into())
}

/// A field of an object as rules see it.
fn inner(object: &CelValue, name: &str, keys_are_data: bool) -> Option<CelValue> {
    let CelValue::Map(map) = object else { return None };
    let key = if keys_are_data { name.to_owned() } else { escape(name) };
    map.get(&Key::String(key.into())).cloned()
}

struct Walk {
    left: u64,
    found: RuleOutcome,
}

/// Where a value stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    path: &'a str,
    root: bool,
    /// The nearest value around it of which is known what it was before.
    within: Option<&'a Change<'a>>,
}

/// A value and what it was before.
struct Change<'a> {
    schema: &'a Structural,
    value: &'a Value,
    old: &'a Value,
    none: OnceCell<bool>,
}

impl Change<'_> {
    /// Whether nothing changed.
    fn is_none(&self) -> bool {
        *self.none.get_or_init(|| unchanged(self.schema, self.value, self.old))
    }
}

impl Walk {
    /// Asks the rules of a value and below. `seen` is the value as rules see it, if what it is in was made into that already.
    fn value(
        &mut self,
        schema: &Structural,
        value: &Value,
        old: Option<&Value>,
        seen: Option<CelValue>,
        place: Place<'_>,
    ) {
        if !schema.ruled || self.is_over() {
            return;
        }
        let own_change = old.map(|old| Change { schema, value, old, none: OnceCell::new() });
        let change = own_change.as_ref().or(place.within);
        let path = place.path;
        let asked = !schema.compiled.is_empty() && !value.is_null();
        let seen = if asked { seen.or_else(|| Some(cel_value(Some(schema), value))) } else { seen };
        if asked && let Some(own) = &seen {
            self.rules(schema, value, old, own, (path, change));
        }
        match value {
            Value::Object(map) => {
                let keys_are_data = schema.additional.is_some();
                for (name, value) in map {
                    let implied = place.root && matches!(name.as_str(), "metadata" | "kind" | "apiVersion");
                    if let Some(field) = schema.field(name).filter(|field| !implied && field.ruled) {
                        let old = old.and_then(|old| old.get(name));
                        let seen = seen.as_ref().and_then(|seen| inner(seen, name, keys_are_data));
                        let path = &member(schema, path, name);
                        self.value(field, value, old, seen, Place { path, root: false, within: change });
                    }
                }
            }
            Value::Array(list) => {
                if let Some(element) = schema.items.as_deref().filter(|element| element.ruled) {
                    let former = Former::entries(&schema.list, old);
                    for (at, item) in list.iter().enumerate() {
                        let seen = match &seen {
                            Some(CelValue::List(items)) => items.get(at).cloned(),
                            _ => None,
                        };
                        let path = &format!("{path}[{at}]");
                        let place = Place { path, root: false, within: change };
                        self.value(element, item, former.of(item), seen, place);
                    }
                }
            }
            _ => {}
        }
    }

    fn is_over(&self) -> bool {
        self.left == 0 || self.found.faults.len() >= MOST_TOLD
    }

    /// Asks the rules of one value.
    fn rules(
        &mut self,
        schema: &Structural,
        value: &Value,
        old: Option<&Value>,
        own: &CelValue,
        place: (&str, Option<&Change<'_>>),
    ) {
        let compares = schema.compiled.iter().any(|rule| rule.transition);
        // A null before is as good as nothing.
        let before = old.filter(|old| compares && !old.is_null()).map(|old| cel_value(Some(schema), old));
        for rule in &schema.compiled {
            if self.is_over() {
                return;
            }
            self.rule(rule, (schema, value), own.clone(), before.clone(), place);
        }
    }

    fn rule(
        &mut self,
        rule: &Rule,
        (schema, value): (&Structural, &Value),
        own: CelValue,
        old: Option<CelValue>,
        (path, change): (&str, Option<&Change<'_>>),
    ) {
        let old = match (rule.optional_old, old) {
            (true, old) => CelValue::Optional(old.map(Arc::new)),
            (false, Some(old)) => old,
            (false, None) if rule.transition => return,
            (false, None) => CelValue::Null,
        };
        let variables = [("self", own), ("oldSelf", old)];
        let steps = RULE_STEPS_MAX.min(self.left);
        let mut budget = Budget::new(steps);
        let outcome = rule.program.evaluate(&variables, &mut budget);
        let text = || rule.message.clone().unwrap_or_else(|| format!("failed rule: {}", rule.source));
        let at = match &rule.field_path {
            Some(field) if path.is_empty() => field.trim_start_matches('.').to_owned(),
            Some(field) => format!("{path}{field}"),
            None => path.to_owned(),
        };
        let kind = schema.kind.map_or("", Type::as_str);
        match outcome {
            Ok(CelValue::Bool(true)) => {}
            Ok(CelValue::Bool(false)) => {
                let made = rule.message_program.as_ref().and_then(|program| {
                    match program.evaluate(&variables, &mut budget) {
                        Ok(CelValue::String(text)) => {
                            let text = text.trim();
                            let good = !text.is_empty() && !text.contains('\n') && text.len() <= MESSAGE_MAX;
                            good.then(|| text.to_owned())
                        }
                        _ => None,
                    }
                });
                // The value is told, unless it has parts.
                let value = Some(value).filter(|_| !matches!(schema.kind, Some(Type::Object | Type::Array)));
                let error = told(rule.reason, &at, value, &made.unwrap_or_else(text));
                // What did not change is no worse than before.
                if !rule.transition && change.is_some_and(Change::is_none) {
                    tell(&mut self.found.warnings, || error);
                } else {
                    self.found.faults.push(error);
                }
            }
            Ok(_) => {
                self.found.faults.push(fault(FieldReason::Invalid, &at, kind, "must evaluate to a bool"));
            }
            Err(EvalError::Budget) => {
                let detail = "validation failed due to running out of cost budget, no further validation rules will be run";
                self.found.faults.push(fault(FieldReason::Invalid, &at, kind, detail));
                self.left = 0;
                return;
            }
            Err(error) => {
                let named = rule.message.as_deref().unwrap_or(&rule.source).trim();
                let detail = format!("{error} evaluating rule: {named}");
                self.found.faults.push(fault(FieldReason::Invalid, &at, kind, &detail));
            }
        }
        self.left = self.left.saturating_sub(steps - budget.left());
    }
}

fn told(reason: FieldReason, path: &str, value: Option<&Value>, detail: &str) -> FieldError {
    let field = FieldPath::new(path);
    match reason {
        FieldReason::Forbidden => FieldError::forbidden(&field, detail),
        FieldReason::Required => FieldError::required(&field, detail),
        FieldReason::Duplicate => FieldError::new(reason, &field, value, ""),
        reason => FieldError::new(reason, &field, value, detail),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn faults(schema: Value, spec: Value, old: Option<Value>) -> Vec<String> {
        let schema = json!({"type": "object", "properties": {"spec": schema}});
        let mut schema = Structural::parse(&schema).unwrap();
        assert_eq!(schema.compile_rules(), []);
        let old = old.map(|spec| json!({"spec": spec}));
        let found = schema.check_rules(&json!({"spec": spec}), old.as_ref());
        found.faults.iter().map(ToString::to_string).collect()
    }

    fn scaled(rule: Value) -> Value {
        json!({"type": "object", "x-kubernetes-validations": [rule], "properties": {
            "min": {"type": "integer"}, "max": {"type": "integer"}, "name": {"type": "string"},
        }})
    }

    #[test]
    fn a_rule_that_fails_is_told_with_its_message_reason_and_field() {
        let plain = scaled(json!({"rule": "self.min <= self.max"}));
        assert!(faults(plain.clone(), json!({"min": 1, "max": 2}), None).is_empty());
        assert_eq!(
            faults(plain, json!({"min": 3, "max": 2}), None),
            ["spec: Invalid value: failed rule: self.min <= self.max"]
        );
        let full = scaled(json!({"rule": "self.min <= self.max", "message": "no",
            "messageExpression": "'min %d is above %d'.format([self.min, self.max])",
            "reason": "FieldValueForbidden", "fieldPath": ".min"}));
        assert_eq!(
            faults(full, json!({"min": 3, "max": 2}), None),
            ["spec.min: Forbidden: min 3 is above 2"]
        );
    }

    #[test]
    fn transition_rules_are_asked_of_changes() {
        let fixed = scaled(json!({"rule": "self.name == oldSelf.name", "message": "name is immutable"}));
        assert!(faults(fixed.clone(), json!({"name": "a"}), None).is_empty());
        assert_eq!(
            faults(fixed, json!({"name": "b"}), Some(json!({"name": "a"}))),
            ["spec: Invalid value: name is immutable"]
        );
        let once = scaled(
            json!({"rule": "!oldSelf.hasValue() || self.name == oldSelf.value().name", "optionalOldSelf": true}),
        );
        assert!(faults(once.clone(), json!({"name": "a"}), None).is_empty());
        assert_eq!(faults(once, json!({"name": "b"}), Some(json!({"name": "a"}))).len(), 1);
    }

    #[test]
    fn an_error_fails_the_rule() {
        let schema = scaled(json!({"rule": "self.min > 1"}));
        assert_eq!(
            faults(schema.clone(), json!({}), None),
            [r#"spec: Invalid value: "object": no such key: min evaluating rule: self.min > 1"#]
        );
        assert_eq!(faults(schema, json!({}), Some(json!({}))).len(), 1, "also where nothing changed");
    }

    #[test]
    fn what_did_not_change_may_stay_and_is_warned_of() {
        let short = json!({"type": "string", "x-kubernetes-validations": [{"rule": "self.size() < 3"}]});
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "list": {"type": "array", "items": short},
            "map": {"type": "object", "additionalProperties": short},
        }}}});
        let mut schema = Structural::parse(&schema).unwrap();
        assert_eq!(schema.compile_rules(), []);
        let told = |old: Value, new: Value| {
            let outcome = schema.check_rules(&json!({"spec": new}), Some(&json!({"spec": old})));
            let texts =
                |errors: Vec<FieldError>| errors.into_iter().map(|error| error.field).collect::<Vec<_>>();
            (texts(outcome.faults), texts(outcome.warnings))
        };
        let none: [&str; 0] = [];
        let old = json!({"list": ["long", "a"], "map": {"a": "long"}});
        let (faults, warnings) = told(old.clone(), old.clone());
        assert_eq!(faults, none);
        assert_eq!(warnings, ["spec.list[0]", "spec.map[a]"]);
        let (faults, warnings) =
            told(old, json!({"list": ["long", "b"], "map": {"a": "long", "b": "longer"}}));
        assert_eq!(faults, ["spec.list[0]", "spec.map[b]"]);
        assert_eq!(warnings, ["spec.map[a]"]);
    }

    #[test]
    fn faulty_rules_are_found_in_the_schema() {
        let schema = json!({"type": "object", "properties": {"spec": scaled(json!({"rule": "self.foo > 1"})),
            "list": {"type": "array", "items": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}},
            "atomic": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {
                "a": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]},
            }},
            "old": {"type": "string", "x-kubernetes-validations": [{"rule": "self != ''", "optionalOldSelf": false}]},
            "text": {"type": "string", "x-kubernetes-validations": [{"rule": "self + 'x'"}]}}});
        let found = Structural::parse(&schema).unwrap().compile_rules();
        let texts: Vec<_> = found.iter().map(|fault| format!("{}: {}", fault.path, fault.detail)).collect();
        let within: Vec<_> = found.iter().filter_map(|fault| fault.within.as_deref()).collect();
        assert_eq!(within, [".properties[atomic]", ".properties[list]"]);
        assert_eq!(
            texts,
            [
                ".properties[atomic].properties[a].x-kubernetes-validations[0].rule: oldSelf cannot be used on the uncorrelatable portion of the schema within ",
                ".properties[list].items.x-kubernetes-validations[0].rule: oldSelf cannot be used on the uncorrelatable portion of the schema within ",
                ".properties[old].x-kubernetes-validations[0].optionalOldSelf: may not be set if oldSelf is not used in rule",
                ".properties[spec].x-kubernetes-validations[0].rule: compilation failed: ERROR: <input>:1:5: undefined field 'foo'\n | self.foo > 1\n | ....^",
                ".properties[text].x-kubernetes-validations[0].rule: cel expression must evaluate to a bool",
            ]
        );
    }

    #[test]
    fn rules_that_may_cost_too_much_are_found_in_the_schema() {
        let told = |spec: Value| -> Vec<String> {
            let schema = json!({"type": "object", "properties": {"spec": spec}});
            let mut schema = Structural::parse(&schema).unwrap();
            assert_eq!(schema.compile_rules(), []);
            schema.expensive_rules().iter().map(|fault| format!("{}: {}", fault.path, fault.detail)).collect()
        };
        let list = |rule: &str, most: Value| json!({"type": "array", "maxItems": most, "items": {"type": "string"}, "x-kubernetes-validations": [{"rule": rule}]});
        let twice = "self.all(a, self.exists_one(b, a == b))";
        let found = told(list(twice, Value::Null));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with(".properties[spec].x-kubernetes-validations[0].rule: estimated rule cost exceeds budget by factor of more than 100x (try"), "{found:?}");
        assert!(told(list(twice, 1000.into())).is_empty());
        assert!(told(list("self.all(a, a.startsWith('x'))", Value::Null)).is_empty());
        let some = told(list(twice, 4000.into()));
        assert!(some[0].contains("by factor of 1.6x"), "{some:?}");
        // A rule of each item is asked for each item; without a bound there are as many as a request holds.
        let items = |most: Value| json!({"type": "array", "maxItems": most, "items": {"type": "object", "properties": {"names": list("self.all(a, self.all(b, a != b || b == a))", 300.into())}}});
        assert_eq!(told(items(Value::Null)).len(), 1);
        assert_eq!(told(items(200.into())).len(), 1);
        assert!(told(items(100.into())).is_empty());
        // Nothing is known of what is open, and nothing is refused for it.
        let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"x": {"type": "integer"}},
            "x-kubernetes-validations": [{"rule": "self.x > 0 || ['a', 'b'].all(c, c != '')"}]});
        assert!(told(open).is_empty());
    }

    #[test]
    fn rules_do_not_run_for_long() {
        let list = json!({"type": "array", "items": {"type": "integer"},
            "x-kubernetes-validations": [{"rule": "self.all(a, self.all(b, self.all(c, a + b + c >= 0)))"}]});
        let many: Vec<_> = (0..1000).collect();
        let found = faults(list, json!(many), None);
        assert!(found[0].contains("running out of cost budget"), "{found:?}");
    }

    #[test]
    fn texts_with_a_format_are_read_as_go_reads_them() {
        let rule = |format: &str, rule: &str| json!({"type": "string", "format": format, "x-kubernetes-validations": [{"rule": rule}]});
        let times = rule("date-time", "self.getFullYear() > 2000 && self == timestamp(string(self))");
        for time in ["2026-01-02T03:04:05.5+01:00", "2026-01-02T3:04:05,5Z"] {
            assert_eq!(faults(times.clone(), json!(time), None), [""; 0], "{time}");
        }
        let later = rule("date-time", "self > timestamp('9999-12-01T00:00:00Z')");
        assert_eq!(faults(later, json!("9999-12-31T23:59:59Z"), None), [""; 0]);
        assert_eq!(faults(rule("byte", "self == b'a'"), json!("YR=="), None), [""; 0]);
        assert_eq!(faults(rule("byte", "self == b'a'"), json!("YQ\n=="), None), [""; 0]);
    }

    #[test]
    fn lists_are_compared_and_joined_as_their_schema_tells_their_items_apart() {
        let item = json!({"type": "object", "properties": {"namespace": {"type": "string"}, "v": {"type": "integer"}}});
        let lists = json!({
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["namespace"], "items": item},
            "plain": {"type": "array", "items": {"type": "string"}},
        });
        let found = |rule: &str, old: Value, new: Value| {
            let schema =
                json!({"type": "object", "properties": lists, "x-kubernetes-validations": [{"rule": rule}]});
            faults(schema, new, Some(old)).is_empty()
        };
        let one = |name: &str, value: i64| json!({"namespace": name, "v": value});
        let old = json!({"set": ["a", "b"], "plain": ["a", "b"], "map": [one("a", 1), one("b", 2)]});
        let new = json!({"set": ["b", "a"], "plain": ["b", "a"], "map": [one("b", 2), one("a", 1)]});
        assert!(found("self.set == oldSelf.set && self.map == oldSelf.map", old.clone(), new.clone()));
        assert!(found("self.plain != oldSelf.plain", old.clone(), new.clone()));
        assert!(found(
            "(self.set + ['c', 'a']).size() == 3 && (self.plain + ['c', 'a']).size() == 4",
            old.clone(),
            new
        ));
        let changed = json!({"set": ["b", "c"], "plain": [], "map": [one("b", 3), one("a", 1)]});
        assert!(found("self.map != oldSelf.map && self.set != oldSelf.set", old.clone(), changed.clone()));
        assert!(found("(oldSelf.map + self.map).map(x, x.v) == [1, 3]", old, changed));
    }

    #[test]
    fn many_failed_rules_take_little_to_tell() {
        let list = json!({"type": "array", "items": {"type": "integer",
            "x-kubernetes-validations": [{"rule": "self < 0", "message": "m".repeat(100_000)}]}});
        assert_eq!(faults(list, json!(vec![0; 300_000]), None).len(), MOST_TOLD);
    }

    #[test]
    fn a_message_that_is_made_too_long_is_left_out() {
        let rule = |count: usize| {
            json!({"type": "string", "x-kubernetes-validations": [{"rule": "self == ''", "message": "plain",
            "messageExpression": format!("self.substring(0, {count})")}]})
        };
        let text = "x".repeat(6000);
        let told = |count| faults(rule(count), json!(text), None).remove(0);
        assert!(told(MESSAGE_MAX).ends_with(&text[..MESSAGE_MAX]));
        assert!(told(MESSAGE_MAX + 1).ends_with("plain"));
    }

    #[test]
    fn rules_at_each_level_see_a_value_that_is_made_once() {
        let rules = |name: &str| json!([{"rule": format!("has(self.{name})")}]);
        let mut schema = json!({"type": "object", "x-kubernetes-validations": [{"rule": "has(self.l)"}],
            "properties": {"l": {"type": "array", "items": {"type": "integer"}}}});
        let mut value = json!({"l": vec![1; 200_000]});
        for _ in 0..40 {
            schema = json!({"type": "object", "x-kubernetes-validations": rules("a__dash__b"), "properties": {"a-b": schema}});
            value = json!({"a-b": value});
        }
        let mut before = value.clone();
        before.as_object_mut().unwrap().insert("z".into(), 1.into());
        assert_eq!(faults(schema, value, Some(before)), [""; 0]);
    }
}
