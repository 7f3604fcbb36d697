//! Validation of objects, in the words of kube-openapi's validators.

use apimachinery::{FieldError, FieldPath, FieldReason};
use serde_json::{Number, Value};

use super::{
    Checks, Structural, Type, composite, format,
    items::{self, Former},
    type_name,
};
use crate::bounds::{MOST_TOLD, step};

impl Structural {
    /// The faults of an API object: all, or a hundred at least. Values that are as they were in `old` are not looked at: a rule that
    /// came later must not stand in the way of other changes (KEP-4008, ratcheting).
    pub fn check(&self, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let mut faults = Vec::new();
        check(self, object, old, "", &mut faults);
        items::check(self, object, old, "", true, &mut faults);
        faults
    }
}

/// A fault at a path, which may be the object itself.
pub(super) fn fault(reason: FieldReason, path: &str, value: impl Into<Value>, detail: &str) -> FieldError {
    FieldError::new(reason, &FieldPath::new(path), Some(&value.into()), detail)
}

fn invalid(path: &str, value: impl Into<Value>, what: &str) -> FieldError {
    fault(FieldReason::Invalid, path, value, &format!("{path} in body {what}"))
}

/// The path of a field.
pub(super) fn below(path: &str, field: &str) -> String {
    let field = step(field);
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

/// Checks one value and all below it.
pub(super) fn check(
    schema: &Structural,
    value: &Value,
    old: Option<&Value>,
    path: &str,
    faults: &mut Vec<FieldError>,
) {
    if old == Some(value) || faults.len() >= MOST_TOLD {
        return;
    }
    // What has another type is looked at all the same, but of null nobody says more than whether it is listed.
    faults.extend(wrong_type(schema, value, path));
    if value.is_null() {
        enumerated(&schema.checks, value, path, faults);
        return;
    }
    composite::check(&schema.checks, value, path, faults);
    match value {
        Value::String(text) => string(&schema.checks, text, path, faults),
        Value::Number(_) => numeric(schema, value, path, faults),
        Value::Array(items) => {
            counted(&schema.checks, items, path, faults);
            if let Some(element) = &schema.items {
                let former = Former::places(&schema.list, old);
                for (at, item) in items.iter().enumerate() {
                    check(element, item, former.of(at, item), &format!("{path}[{at}]"), faults);
                }
            }
        }
        Value::Object(map) => {
            let old = old.and_then(Value::as_object);
            for (name, value) in map {
                if let Some(field) = schema.field(name) {
                    let old = old.and_then(|old| old.get(name));
                    check(field, value, old, &below(path, name), faults);
                }
            }
            properties(&schema.checks, map, path, faults);
        }
        Value::Null | Value::Bool(_) => {}
    }
    enumerated(&schema.checks, value, path, faults);
}

/// The fault of a value that has another JSON type than the schema asks for.
fn wrong_type(schema: &Structural, value: &Value, path: &str) -> Option<FieldError> {
    if value.is_null() && schema.nullable {
        return None;
    }
    let (good, expected) = match schema.kind {
        None if schema.int_or_string => (value.is_string() || value.as_i64().is_some(), "integer,string"),
        None => (true, ""),
        Some(kind) => {
            let good = match (kind, value) {
                (Type::Object, Value::Object(_))
                | (Type::Array, Value::Array(_))
                | (Type::String, Value::String(_))
                | (Type::Number, Value::Number(_))
                | (Type::Boolean, Value::Bool(_)) => true,
                (Type::Integer, Value::Number(number)) => is_integer(number),
                _ => false,
            };
            (good, kind.as_str())
        }
    };
    if good {
        return format::fault(schema, value, path);
    }
    let (expected, found) = match schema.checks.format.as_deref() {
        Some(format)
            if !value.is_null() && format::is_known(schema.kind.map_or("", Type::as_str), format) =>
        {
            match value {
                Value::String(_) | Value::Array(_)
                    if !matches!(schema.kind, Some(Type::Integer | Type::Number)) =>
                {
                    return None;
                }
                Value::String(_) | Value::Array(_) => (expected, type_name(value)),
                // Where there is a format, the formats are told apart.
                Value::Number(number) => (format, if number.is_f64() { "float64" } else { "int64" }),
                _ => (format, ""),
            }
        }
        _ => (expected, type_name(value)),
    };
    let detail = format!("{path} in body must be of type {expected}: {found:?}");
    Some(fault(FieldReason::TypeInvalid, path, found, &detail))
}

/// Whether a number is an integer: as Go reads numbers, 64 bits, or a float that is exact.
fn is_integer(number: &Number) -> bool {
    const EXACT: f64 = 9_007_199_254_740_991.0;
    let exact = |number: f64| number.fract() == 0.0 && number.abs() <= EXACT;
    number.is_i64() || number.as_f64().is_some_and(exact)
}

/// Only the first fault of a string is told.
fn string(checks: &Checks, text: &str, path: &str, faults: &mut Vec<FieldError>) {
    let length = text.chars().count() as u64;
    if let Some(max) = checks.max_length.filter(|max| length > *max) {
        faults.push(FieldError::too_long(&FieldPath::new(path), max as usize));
    } else if let Some(min) = checks.min_length.filter(|min| length < *min) {
        faults.push(invalid(path, text, &format!("should be at least {min} chars long")));
    } else if let Some(pattern) = checks.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
        faults.push(invalid(path, text, &format!("should match '{}'", pattern.as_str())));
    }
}

/// The faults of a number: whether there is room for it in what it shall be, and how it compares with the numbers that the schema names. Those
/// need room, too.
fn numeric(schema: &Structural, value: &Value, path: &str, faults: &mut Vec<FieldError>) {
    let Some(number) = value.as_f64() else { return };
    let checks = &schema.checks;
    let room = |what: &str, number: &Value| format::range(schema, number, what, path);
    let wrong = |what: String| [invalid(path, value.clone(), &what)];
    // Whole numbers are compared with a bound as Go converts it to one: its fraction is cut off.
    let whole = value.as_i64().is_some();
    let bound = |limit: f64, fits: bool| if whole && fits { limit.trunc() } else { limit };
    faults.extend(room("Checked", value));
    if let Some(divisor) = checks.multiple_of {
        faults.extend(room("MultipleOf", &divisor.into()));
        if divisor > 0.0 && !is_multiple(value, number, divisor) {
            faults.extend(wrong(format!("should be a multiple of {divisor}")));
        }
    }
    if let Some(min) = checks.minimum {
        let misfit = room("Minimum boundary", &min.into());
        let min = bound(min, misfit.is_none());
        faults.extend(misfit);
        if checks.exclusive_minimum && number <= min {
            faults.extend(wrong(format!("should be greater than {min}")));
        } else if number < min {
            faults.extend(wrong(format!("should be greater than or equal to {min}")));
        }
    }
    if let Some(max) = checks.maximum {
        let misfit = room("Maximum boundary", &max.into());
        let max = bound(max, misfit.is_none());
        faults.extend(misfit);
        if checks.exclusive_maximum && number >= max {
            faults.extend(wrong(format!("should be less than {max}")));
        } else if number > max {
            faults.extend(wrong(format!("should be less than or equal to {max}")));
        }
    }
}

/// Whether a number is a multiple of another (`MultipleOfNativeType`): of whole ones exactly, of others as near as their digits tell.
fn is_multiple(value: &Value, number: f64, divisor: f64) -> bool {
    /// Beyond this not every whole number is a double.
    const EXACT: f64 = 9_007_199_254_740_991.0;
    if let (Some(number), true) = (value.as_i64(), divisor.fract() == 0.0 && divisor <= EXACT) {
        return number % divisor as i64 == 0;
    }
    let quotient = if divisor < 1.0 { 1.0 / divisor * number } else { number / divisor };
    let whole = quotient.round();
    quotient.abs() <= EXACT && (quotient - whole).abs() <= 1e-9 * whole.abs()
}

fn counted(checks: &Checks, items: &[Value], path: &str, faults: &mut Vec<FieldError>) {
    let count = items.len() as u64;
    if let Some(min) = checks.min_items.filter(|min| count < *min) {
        faults.push(invalid(path, count, &format!("should have at least {min} items")));
    }
    if let Some(max) = checks.max_items.filter(|max| count > *max) {
        faults.push(FieldError::too_many(&FieldPath::new(path), items.len(), max as usize));
    }
    if checks.unique_items && items::first_duplicate(items).is_some() {
        faults.push(invalid(path, "", "shouldn't contain duplicates"));
    }
}

fn properties(
    checks: &Checks,
    map: &serde_json::Map<String, Value>,
    path: &str,
    faults: &mut Vec<FieldError>,
) {
    let count = map.len() as u64;
    if let Some(min) = checks.min_properties.filter(|min| count < *min) {
        // kube-apiserver tells how many there should be as the value.
        faults.push(invalid(path, min, &format!("should have at least {min} properties")));
    }
    if let Some(max) = checks.max_properties.filter(|max| count > *max) {
        faults.push(FieldError::too_many(&FieldPath::new(path), map.len(), max as usize));
    }
    for name in checks.required.iter().filter(|name| !map.contains_key(*name)) {
        faults.push(FieldError::required(&FieldPath::new(below(path, name)), ""));
    }
}

fn enumerated(checks: &Checks, value: &Value, path: &str, faults: &mut Vec<FieldError>) {
    // Null is never found in a list: Go has no type for it to compare.
    let lacks = |known: &&Vec<Value>| value.is_null() || !known.contains(value);
    let Some(known) = checks.enumeration.as_ref().filter(lacks) else { return };
    let names: Vec<_> = known
        .iter()
        .map(|known| known.as_str().map_or_else(|| known.to_string(), str::to_owned))
        .map(|name| format!("{name:?}"))
        .collect();
    let detail = format!("supported values: {}", names.join(", "));
    faults.push(fault(FieldReason::NotSupported, path, value.clone(), &detail));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn faults(spec_schema: Value, spec: Value, old: Option<Value>) -> Vec<String> {
        let schema = json!({"type": "object", "properties": {"spec": spec_schema}});
        let old = old.map(|spec| json!({"spec": spec}));
        let schema = Structural::parse(&schema).unwrap();
        schema.check(&json!({"spec": spec}), old.as_ref()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn texts_are_those_of_kube_apiserver() {
        let schema = json!({"type": "object", "required": ["need"], "properties": {
            "int": {"type": "integer", "minimum": 1, "maximum": 10},
            "text": {"type": "string", "maxLength": 3, "minLength": 2, "pattern": "^[a-z]+$"},
            "choice": {"type": "string", "enum": ["a", "b"]},
            "list": {"type": "array", "maxItems": 1, "items": {"type": "string"}},
            "port": {"x-kubernetes-int-or-string": true},
        }});
        let spec = json!({"int": "x", "text": "A", "choice": "c", "list": [1, 2], "port": true});
        assert_eq!(
            faults(schema.clone(), spec, None),
            [
                r#"spec.choice: Unsupported value: "c": supported values: "a", "b""#,
                r#"spec.int: Invalid value: "string": spec.int in body must be of type integer: "string""#,
                "spec.list: Too many: 2: must have at most 1 item",
                r#"spec.list[0]: Invalid value: "integer": spec.list[0] in body must be of type string: "integer""#,
                r#"spec.list[1]: Invalid value: "integer": spec.list[1] in body must be of type string: "integer""#,
                r#"spec.port: Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean""#,
                r#"spec.text: Invalid value: "A": spec.text in body should be at least 2 chars long"#,
                "spec.need: Required value",
            ]
        );
        assert_eq!(
            faults(schema, json!({"int": 11, "text": "abcd", "need": 1}), None),
            [
                "spec.int: Invalid value: 11: spec.int in body should be less than or equal to 10",
                "spec.text: Too long: may not be more than 3 bytes",
            ]
        );
    }

    #[test]
    fn numbers_fit_in_what_they_shall_be() {
        let told = |schema: Value, number: Value, old: Option<Value>| {
            let schema = json!({"type": "object", "properties": {"n": schema}});
            faults(schema, json!({"n": number}), old.map(|old| json!({"n": old})))
        };
        let int = json!({"type": "integer", "format": "int32"});
        assert_eq!(told(int.clone(), json!(2_147_483_647), None), [""; 0]);
        let large = json!(3_000_000_000_u32);
        let fault =
            r#"<nil>: Invalid value: "": Checked value must be of type integer with format int32 in spec.n"#;
        assert_eq!(told(int.clone(), large.clone(), None), [fault]);
        assert_eq!(told(int, large.clone(), Some(large)), [""; 0], "an older server took it");
        let bounded = json!({"type": "integer", "format": "int32", "maximum": 4_294_967_295_u32});
        assert_eq!(
            told(bounded, json!(1), None),
            [
                r#"<nil>: Invalid value: "": Maximum boundary value must be of type integer with format int32 in spec.n"#
            ]
        );
        let float = json!({"type": "number", "format": "float"});
        assert_eq!(told(float.clone(), json!(1.5), None), [""; 0]);
        assert_eq!(
            told(float, json!(1e39), None),
            [r#"<nil>: Invalid value: "": Checked value must be of type number with format float in spec.n"#]
        );
        let double = json!({"type": "number", "format": "double"});
        assert_eq!(told(double, json!(1e39), None), [""; 0]);
        let odd = json!({"type": "integer", "format": "uint8"});
        assert_eq!(told(odd, json!(300), None), [""; 0], "nobody knows this one");
    }

    #[test]
    fn whole_numbers_are_compared_with_bounds_without_their_fraction() {
        let told = |number: Value| {
            let schema = json!({"type": "object", "properties": {"n": {"type": "number", "minimum": 2.5}}});
            faults(schema, json!({"n": number}), None)
        };
        assert_eq!(told(json!(2)), [""; 0]);
        assert_eq!(told(json!(2.25)).len(), 1);
        assert_eq!(
            told(json!(1)),
            ["spec.n: Invalid value: 1: spec.n in body should be greater than or equal to 2"]
        );
    }

    #[test]
    fn what_has_the_wrong_type_is_no_listed_value_either() {
        let choice = json!({"type": "string", "enum": ["a", "b"]});
        let either = json!({
            "type": "object", "properties": {"b": {"type": "string"}, "c": {"type": "string"}},
            "oneOf": [{"required": ["b"]}, {"required": ["c"]}],
        });
        let mut or_null = choice.clone();
        or_null["nullable"] = true.into();
        let schema = json!({"type": "object", "properties": {"null": or_null}});
        assert_eq!(
            faults(schema, json!({"null": null}), None),
            [r#"spec.null: Unsupported value: null: supported values: "a", "b""#]
        );
        let schema = json!({"type": "object", "properties": {"choice": choice, "either": either}});
        assert_eq!(
            faults(schema, json!({"choice": 1, "either": 5}), None),
            [
                r#"spec.choice: Invalid value: "integer": spec.choice in body must be of type string: "integer""#,
                r#"spec.choice: Unsupported value: 1: supported values: "a", "b""#,
                r#"spec.either: Invalid value: "integer": spec.either in body must be of type object: "integer""#,
                r#"<nil>: Invalid value: "": "spec.either" must validate one and only one schema (oneOf). Found 2 valid alternatives"#,
            ]
        );
    }

    #[test]
    fn a_multiple_is_as_exact_as_its_digits() {
        let told = |divisor: Value, number: Value| {
            let schema =
                json!({"type": "object", "properties": {"n": {"type": "number", "multipleOf": divisor}}});
            faults(schema, json!({"n": number}), None).len()
        };
        for (divisor, number) in [
            (json!(0.01), json!(0.07)),
            (json!(0.01), json!(19.99)),
            (json!(0.01), json!(-0.07)),
            (json!(0.01), json!(3)),
            (json!(0.5), json!(1.5)),
            (json!(1.5), json!(4.5)),
            (json!(3), json!(9_007_199_254_740_993_i64)),
            (json!(3), json!(0)),
        ] {
            assert_eq!(told(divisor.clone(), number.clone()), 0, "{number} of {divisor}");
        }
        for (divisor, number) in [
            (json!(0.01), json!(0.075)),
            (json!(0.5), json!(1.25)),
            (json!(3), json!(9_007_199_254_740_992_i64)),
            (json!(0.01), json!(1e30)),
            (json!(0.01), json!(1e-12)),
        ] {
            assert_eq!(told(divisor.clone(), number.clone()), 1, "{number} of {divisor}");
        }
    }

    #[test]
    fn of_a_plain_list_what_stays_at_its_place_may_be_wrong() {
        let list = |kind: &str| {
            let items = json!({"type": "integer", "format": "int32"});
            let mut list = json!({"type": "array", "items": items});
            if !kind.is_empty() {
                list["x-kubernetes-list-type"] = kind.into();
            }
            json!({"type": "object", "properties": {"l": list}})
        };
        let (old, new) = (json!({"l": [3_000_000_000_u32, 1]}), json!({"l": [3_000_000_000_u32, 2]}));
        assert_eq!(faults(list(""), new.clone(), Some(old.clone())), [""; 0]);
        for kind in ["atomic", "set"] {
            assert_eq!(faults(list(kind), new.clone(), Some(old.clone())).len(), 1, "{kind}");
        }
    }

    #[test]
    fn names_of_kubernetes_are_formats() {
        let schema = json!({"type": "object", "properties": {
            "short": {"type": "string", "format": "k8s-short-name"},
            "long": {"type": "string", "format": "k8s-long-name"},
        }});
        assert_eq!(faults(schema.clone(), json!({"short": "a-b", "long": "a.b"}), None), [""; 0]);
        assert_eq!(
            faults(schema, json!({"short": "A_b", "long": "a..b"}), None),
            [
                r#"spec.long: Invalid value: "a..b": spec.long in body must be of type k8s-long-name: "a..b""#,
                r#"spec.short: Invalid value: "A_b": spec.short in body must be of type k8s-short-name: "A_b""#,
            ]
        );
    }

    #[test]
    fn many_faults_below_a_long_key_take_little_to_tell() {
        let schema =
            json!({"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}}});
        let told = faults(schema, json!({"k".repeat(1 << 20): vec![1; 100_000]}), None);
        assert_eq!(told.len(), MOST_TOLD);
        assert!(told.iter().all(|text| text.len() < 4096));
    }

    #[test]
    fn null_is_no_value_unless_it_is_said() {
        let schema = json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string", "nullable": true}}});
        assert_eq!(
            faults(schema, json!({"a": null, "b": null}), None),
            [r#"spec.a: Invalid value: "null": spec.a in body must be of type string: "null""#]
        );
    }

    #[test]
    fn what_was_wrong_before_may_stay() {
        let schema = json!({"type": "object", "properties": {
            "a": {"type": "integer", "maximum": 5}, "b": {"type": "integer"},
            "m": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer", "maximum": 5}}}},
        }});
        let old = json!({"a": 9, "b": 1, "m": [{"k": "x", "v": 9}]});
        let moved = json!({"a": 9, "b": 2, "m": [{"k": "y", "v": 1}, {"k": "x", "v": 9}]});
        assert!(faults(schema.clone(), moved, Some(old.clone())).is_empty());
        let worse = json!({"a": 8, "b": 2, "m": [{"k": "x", "v": 9}]});
        assert_eq!(faults(schema, worse, Some(old)).len(), 1);
    }

    #[test]
    fn alternatives_are_told_as_kube_openapi_tells_them() {
        let schema = json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
            "oneOf": [{"required": ["a"]}, {"required": ["b"]}]});
        assert_eq!(
            faults(schema.clone(), json!({}), None),
            [
                r#"<nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found none valid"#,
                "spec.a: Required value",
            ]
        );
        assert_eq!(
            faults(schema, json!({"a": "", "b": ""}), None),
            [
                r#"<nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found 2 valid alternatives"#
            ]
        );
    }

    #[test]
    fn sets_and_list_maps_have_no_duplicates() {
        let schema = json!({"type": "object", "properties": {
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "properties": {"k": {"type": "string"}}}},
        }});
        assert_eq!(
            faults(schema, json!({"set": ["a", "b", "a"], "map": [{"k": "x"}, {"k": "x"}]}), None),
            [r#"spec.map[1]: Duplicate value: {"k":"x"}"#, r#"spec.set[2]: Duplicate value: "a""#,]
        );
    }

    #[test]
    fn entries_of_long_lists_are_found_by_their_keys() {
        let schema = json!({"type": "object", "properties": {
            "m": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a", "b"],
                "items": {"type": "object", "x-kubernetes-validations": [{"rule": "self.v == oldSelf.v", "message": "it stays"}],
                    "properties": {"a": {"type": "string"}, "b": {"type": "integer"}, "v": {"type": "integer", "maximum": 5}}}},
        }});
        let entry = |at: usize| json!({"a": format!("a{at}"), "b": at % 7, "v": 9});
        let old: Vec<Value> = (0..50_000).map(entry).collect();
        let mut new: Vec<Value> = old.iter().rev().cloned().collect();
        new.push(json!({"a": "new", "v": 1}));
        let (old, new) = (json!({"m": old}), json!({"m": new}));
        assert_eq!(faults(schema.clone(), new.clone(), Some(old.clone())), [""; 0]);
        let schema = json!({"type": "object", "properties": {"spec": schema}});
        let mut schema = Structural::parse(&schema).unwrap();
        assert_eq!(schema.compile_rules(), []);
        let (old, mut new) = (json!({"spec": old}), json!({"spec": new}));
        assert_eq!(schema.check_rules(&new, Some(&old)), []);
        new["spec"]["m"][0]["v"] = 4.into();
        let told: Vec<_> = schema.check_rules(&new, Some(&old)).iter().map(ToString::to_string).collect();
        assert_eq!(told, ["spec.m[0]: Invalid value: it stays"]);
    }
}
