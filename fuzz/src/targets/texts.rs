//! What stands in queries, columns and fields as text.

use std::collections::BTreeMap;

use apimachinery::fields::FieldSelector;
use apimachinery::go_duration;
use apimachinery::jsonpath::{JsonPath, Looks};
use apimachinery::labels::Selector;
use apimachinery::quantity::Quantity;
use serde_json::{Value, json};

use super::{Case, same};
use crate::mutate;

pub(super) fn labels() -> Case {
    let samples = [
        "a=b,c!=d,e in (f,g),h notin (i),j,!k",
        "app.kubernetes.io/name==web",
        "size>3,size<9",
        "",
        "x in (),y",
    ];
    let words =
        ["in", "notin", "(", ")", ",", "=", "==", "!=", "!", "<", ">", " ", "a", "example.com/", "exists"];
    let objects: Vec<_> = [("a", "b"), ("j", ""), ("size", "5"), ("size", "x")]
        .map(|(key, value)| BTreeMap::from([(key.to_owned(), value.to_owned())]))
        .into();
    Box::new(move |dice| {
        let text = mutate::text(dice, &samples, &words);
        dice.show(|| format!("{text:?}"));
        let Ok(selector) = Selector::parse(&text) else { return Ok(()) };
        let again = Selector::parse(&selector.to_string())
            .map_err(|error| format!("{text:?} is printed as {selector}, which is refused: {error}"))?;
        objects.iter().try_for_each(|labels| {
            same("it selects otherwise once printed", &selector.matches(labels), &again.matches(labels))
        })
    })
}

pub(super) fn fields() -> Case {
    let samples = ["metadata.name=a,metadata.namespace!=b", r"spec.nodeName==x\,y\=z\\", "status.phase=", ""];
    let words = [",", "=", "==", "!=", "\\", "\\,", "metadata.name", "."];
    Box::new(move |dice| {
        let text = mutate::text(dice, &samples, &words);
        dice.show(|| format!("{text:?}"));
        let Ok(selector) = FieldSelector::parse(&text) else { return Ok(()) };
        let again = FieldSelector::parse(&selector.to_string())
            .map_err(|error| format!("{text:?} is printed as {selector}, which is refused: {error}"))?;
        same("another selector once printed", &selector, &again)
    })
}

pub(super) fn quantities() -> Case {
    let samples =
        ["100m", "1.5Gi", "-2e3", "0.000000001", "1E", "12E6", "+.5k", "9223372036854775807", "1n", "5."];
    let words = ["m", "k", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "E", "e", "n", "u", ".", "-", "+", "0", "999"];
    Box::new(move |dice| {
        let text = mutate::text(dice, &samples, &words);
        dice.show(|| format!("{text:?}"));
        let Ok(quantity) = text.parse::<Quantity>() else { return Ok(()) };
        let printed = quantity.to_string();
        let again: Quantity = printed
            .parse()
            .map_err(|error| format!("{text:?} is printed as {printed}, which is refused: {error}"))?;
        same(&format!("{text:?} is another amount once printed as {printed}"), &quantity, &again)?;
        same("it is printed otherwise the second time", &printed, &again.to_string())?;
        let _sum = quantity.saturating_add(again).saturating_add(quantity);
        same(
            "it is counted otherwise once printed",
            &(quantity.units(), quantity.millis()),
            &(again.units(), again.millis()),
        )
    })
}

pub(super) fn durations() -> Case {
    let samples = ["1h30m", "-1.5s", "500ms", "0", "1.0000000001h", "2562047h47m16.854775807s", "5µs3ns"];
    let words = ["h", "m", "s", "ms", "us", "µs", "ns", ".", "-", "+", "9223372036854775808"];
    Box::new(move |dice| {
        let text = mutate::text(dice, &samples, &words);
        dice.show(|| format!("{text:?}"));
        for flag in [go_duration::flag, go_duration::seconds, go_duration::milliseconds, go_duration::hours] {
            let _read = flag(&text);
        }
        let _whole = go_duration::whole_seconds(&text);
        let Some(nanoseconds) = go_duration::parse(&text) else { return Ok(()) };
        same(
            &format!("{text:?} once printed"),
            &go_duration::parse(&go_duration::text(nanoseconds)),
            &Some(nanoseconds),
        )
    })
}

pub(super) fn jsonpath() -> Case {
    let samples = [
        ".spec.replicas",
        r#".status.conditions[?(@.type=="Ready")].status"#,
        "{.items[*].metadata.name}",
        r".metadata.annotations.a\.b",
        ".list[-1]",
        "$.x['y'][0]",
    ];
    let words = [
        ".",
        "[",
        "]",
        "[*]",
        "[?(@",
        "==",
        "!=",
        "\"",
        "'",
        "{",
        "}",
        "..",
        "*",
        "@",
        "$",
        "\\.",
        "[-9223372036854775808]",
        "[1:2]",
    ];
    let object = json!({
        "spec": {"replicas": 3}, "list": [1, [2], {"x": null}], "x": {"y": [true]},
        "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": 5}]},
        "metadata": {"annotations": {"a.b": "c"}},
    });
    Box::new(move |dice| {
        let text = mutate::text(dice, &samples, &words);
        dice.show(|| format!("{text:?}"));
        let Ok(path) = JsonPath::parse(&text) else { return Ok(()) };
        let found = path.find(&object, &mut Looks::default());
        let first = path.first(&object, &mut Looks::default());
        same("the first that is found", &found.first().copied(), &first)
    })
}

pub(super) fn yaml() -> Case {
    let samples = [
        "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters:\n- name: a\n  cluster: {server: 'https://h:1'}\nusers: []\n",
        "a: &x {b: [1, 2.5, ~, true, 0x10, .inf]}\nc: *x\nd: |\n  text\n   more\ne: >-\n  folded\n",
        "- !!str 5\n- \"\\u00e9\\n\"\n- 2026-01-01\n- 1e3\n---\nsecond: true\n",
    ];
    let words = [
        "&a ",
        "*a",
        "<<: ",
        "- ",
        "\n",
        "\n  ",
        ": ",
        "{",
        "}",
        "[",
        "]",
        "|",
        ">",
        "'",
        "\"",
        "#",
        "!!binary ",
        "---\n",
        "? ",
        "\t",
    ];
    Box::new(move |dice| {
        let text = mutate::text(dice, &samples, &words);
        dice.show(|| text.clone());
        let _read: Result<Value, _> = serde_saphyr::from_str(&text);
        let _all: Result<Vec<Value>, _> = serde_saphyr::from_multiple(&text);
        Ok(())
    })
}
