//! Merges two lists of tolerations and drops those that others cover: `tolerations.MergeTolerations`.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::validation::text;

/// Those of `own` and of `given`, in their order, without those that others cover. Of equal ones the first stays.
pub(super) fn merged<'a>(
    own: impl Iterator<Item = &'a Value>,
    given: impl Iterator<Item = &'a Value>,
) -> Vec<&'a Value> {
    let all: Vec<_> = own.chain(given).map(|value| (value, Toleration::of(value))).collect();
    let mut later = Later::default();
    let mut covered_later: Vec<bool> = all
        .iter()
        .rev()
        .map(|(_, toleration)| {
            let covered = later.cover(toleration);
            later.add(*toleration);
            covered
        })
        .collect();
    covered_later.reverse();
    let (mut stay, mut kept) = (Vec::new(), Kept::default());
    for ((value, toleration), covered_later) in all.into_iter().zip(covered_later) {
        if !covered_later && !kept.cover(&toleration) {
            kept.add(toleration);
            stay.push(value);
        }
    }
    stay
}

/// One toleration. Two are equal where all of it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Toleration<'a> {
    key: &'a str,
    operator: &'a str,
    value: &'a str,
    effect: &'a str,
    seconds: Option<i64>,
}

/// For how long something is tolerated. One of a greater reach covers all that one of a smaller reach covers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Seconds(i64),
    Ever,
}

/// What some tolerations have in common but for their reach. For any value it is `None`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Class<'a> {
    key: &'a str,
    effect: &'a str,
    value: Option<&'a str>,
}

impl<'a> Toleration<'a> {
    fn of(value: &'a Value) -> Self {
        let of = |name| text(value, name);
        Self {
            key: of("key"),
            operator: of("operator"),
            value: of("value"),
            effect: of("effect"),
            seconds: value["tolerationSeconds"].as_i64(),
        }
    }

    /// Its class; none if it covers none but its equals, by an operator that compares numbers.
    fn class(&self) -> Option<Class<'a>> {
        let value = match self.operator {
            "" | "Equal" => Some(self.value),
            "Exists" => None,
            _ => return None,
        };
        Some(Class { key: self.key, effect: self.effect, value })
    }

    fn reach(&self) -> Reach {
        match self.seconds {
            Some(seconds) if self.effect == "NoExecute" => Reach::Seconds(seconds),
            _ => Reach::Ever,
        }
    }

    /// Whether one of a class that covers it covers it with this reach.
    fn is_within(&self, reach: Reach) -> bool {
        match reach {
            Reach::Ever => true,
            Reach::Seconds(most) => self.seconds.is_some_and(|seconds| seconds <= most),
        }
    }

    /// The classes of those that cover it, if they reach far enough: of its key or of all, of its effect or of all, of any value or of its own.
    fn covering(&self) -> impl Iterator<Item = Class<'a>> + use<'a> {
        let Self { key, effect, value, .. } = *self;
        let of_value = (self.operator == "Equal").then_some((key, Some(value)));
        [(key, None), ("", None)]
            .into_iter()
            .chain(of_value)
            .flat_map(move |(key, value)| [effect, ""].map(|effect| Class { key, effect, value }))
    }
}

/// Tolerations that stay.
#[derive(Default)]
struct Kept<'a> {
    all: HashSet<Toleration<'a>>,
    reaches: HashMap<Class<'a>, Reach>,
}

impl<'a> Kept<'a> {
    fn add(&mut self, toleration: Toleration<'a>) {
        self.all.insert(toleration);
        if let Some(class) = toleration.class() {
            let reach = toleration.reach();
            let known = self.reaches.entry(class).or_insert(reach);
            *known = reach.max(*known);
        }
    }

    fn cover(&self, one: &Toleration<'a>) -> bool {
        let mut reaches = one.covering().filter_map(|class| self.reaches.get(&class));
        self.all.contains(one) || reaches.any(|reach| one.is_within(*reach))
    }
}

/// Tolerations that come later. Of each class those two are known that reach farthest and are not equal, since none is covered by its equals.
#[derive(Default)]
struct Later<'a>(HashMap<Class<'a>, (Toleration<'a>, Option<Reach>)>);

impl<'a> Later<'a> {
    fn add(&mut self, toleration: Toleration<'a>) {
        let Some(class) = toleration.class() else { return };
        let (first, second) = self.0.entry(class).or_insert((toleration, None));
        if *first == toleration {
            return;
        }
        let reach = toleration.reach();
        if reach > first.reach() {
            *second = Some(first.reach());
            *first = toleration;
        } else {
            *second = (*second).max(Some(reach));
        }
    }

    fn cover(&self, one: &Toleration<'a>) -> bool {
        one.covering().filter_map(|class| self.0.get(&class)).any(|(first, second)| {
            let reach = if first == one { *second } else { Some(first.reach()) };
            reach.is_some_and(|reach| one.is_within(reach))
        })
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
    use serde_json::json;

    use super::*;

    fn merge(own: &Value, given: &Value) -> Value {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let (own, given) = (list(own), list(given));
        merged(own.iter(), given.iter()).into_iter().cloned().collect()
    }

    #[test]
    fn what_others_cover_is_not_tolerated_twice() {
        let stay = |seconds: u64| json!({"key": "n", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
        let (short, long) = (stay(5), stay(9));
        assert_eq!(merge(&json!([short, long]), &json!([short])), json!([long]));
        assert_eq!(merge(&json!([short]), &json!([long])), json!([long]));
        let all = json!({"operator": "Exists"});
        assert_eq!(merge(&json!([long]), &json!([all])), json!([all]));
        assert_eq!(merge(&json!([all]), &json!([long])), json!([all]));
        let of = |value: &str| json!({"key": "k", "operator": "Equal", "value": value});
        let two = json!([of("a"), of("b")]);
        assert_eq!(merge(&two, &two), two);
    }

    #[test]
    fn very_many_are_merged_at_once() {
        let of = |number: usize| json!({"key": "k", "operator": "Equal", "value": number.to_string()});
        let many: Value = (0..200_000).map(of).collect();
        assert_eq!(merge(&many, &many), many);
        let all = json!({"operator": "Exists"});
        assert_eq!(merge(&many, &json!([all])), json!([all]));
    }

    /// `isSuperset`, as Kubernetes defines it.
    fn covers(more: &Toleration<'_>, less: &Toleration<'_>) -> bool {
        if more == less {
            return true;
        }
        let of_all_keys = more.key.is_empty() && more.operator == "Exists";
        let other_key = less.key != more.key && !of_all_keys;
        let other_effect = !more.effect.is_empty() && less.effect != more.effect;
        let shorter = more.effect == "NoExecute"
            && more.seconds.is_some_and(|most| less.seconds.is_none_or(|seconds| seconds > most));
        !other_key
            && !other_effect
            && !shorter
            && match more.operator {
                "" | "Equal" => less.operator == "Equal" && less.value == more.value,
                operator => operator == "Exists",
            }
    }

    #[test]
    fn each_that_is_covered_by_an_earlier_or_a_later_one_goes() {
        let seed: u64 = rand::rng().random();
        println!("seed {seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        for _ in 0..3000 {
            let mut pick = |from: &[Value]| from[rng.random_range(0..from.len())].clone();
            let mut one = || {
                json!({
                    "key": pick(&[json!(""), json!("a"), json!("b")]),
                    "operator": pick(&[json!(""), json!("Equal"), json!("Exists"), json!("Lt")]),
                    "value": pick(&[json!(""), json!("x")]),
                    "effect": pick(&[json!(""), json!("NoExecute"), json!("NoSchedule")]),
                    "tolerationSeconds": pick(&[Value::Null, json!(1), json!(2), json!(3)]),
                })
            };
            let all: Vec<Value> = (0..7).map(|_| one()).collect();
            let mut expect: Vec<&Value> = Vec::new();
            for (at, value) in all.iter().enumerate() {
                let this = Toleration::of(value);
                let of = |other: &Value| covers(&Toleration::of(other), &this);
                let later = |other: &&Value| Toleration::of(other) != this;
                if !expect.iter().any(|other| of(other)) && !all[at + 1..].iter().filter(later).any(of) {
                    expect.push(value);
                }
            }
            assert_eq!(merged(all[..3].iter(), all[3..].iter()), expect, "of {all:?}");
        }
    }
}
