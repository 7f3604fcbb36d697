//! What a user would grant without holding it: the escalation check.

use std::collections::{HashMap, HashSet};

use super::{Rule, url_covers};

/// Combinations of verb and thing that one check looks at one by one. Real roles have hundreds of them, a rule of 2 KiB
/// can have 10^8: what is beyond is held as a whole, or missing as a whole.
const ATOMS_MAX: usize = 20_000;
/// Texts of wanted rules that one check compares with held rules. A user can hold, and want, tens of thousands of rules: what is beyond is missing
/// as a whole. A thousand rules of ten texts against a thousand others are half as many.
const LOOKS_MAX: usize = 20_000_000;

/// The smallest rules of `wanted` that no rule of `held` covers, merged by resource (`validation.Covers`, `CompactRules`).
pub fn missing(held: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let held: Vec<Held<'_>> = held.iter().map(Held::of).collect();
    let mut missing = Missing::default();
    let (mut left, mut looks) =
        (ATOMS_MAX, Looks { left: LOOKS_MAX, urls: held.iter().map(|held| held.urls.len()).sum() });
    for rule in wanted {
        // Most often one rule covers another whole, and nothing has to be taken apart.
        if looks.are_left(texts(rule), rule.urls.len(), held.len())
            && held.iter().any(|held| held.covers(rule))
        {
            continue;
        }
        let few = |count: &usize| looks.are_left(*count, rule.urls.len() * rule.verbs.len(), held.len());
        match count(rule).filter(few).and_then(|count| left.checked_sub(count)) {
            Some(rest) => {
                left = rest;
                for atom in atoms(rule).filter(|atom| !held.iter().any(|held| held.covers_atom(atom))) {
                    missing.add(atom);
                }
            }
            None => missing.rules.push(rule.clone()),
        }
    }
    missing.rules
}

/// Comparisons that one check may still make.
struct Looks {
    left: usize,
    /// Paths that are held, in all rules.
    urls: usize,
}

impl Looks {
    /// Whether so many texts, and so many paths, may be compared with so many rules; they count from now on.
    fn are_left(&mut self, texts: usize, urls: usize, rules: usize) -> bool {
        let cost = texts.saturating_mul(rules).saturating_add(urls.saturating_mul(self.urls));
        let left = self.left.checked_sub(cost);
        self.left = left.unwrap_or_default();
        left.is_some()
    }
}

fn texts(rule: &Rule) -> usize {
    rule.verbs.len() + rule.groups.len() + rule.resources.len() + rule.names.len()
}

/// One verb on one thing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Atom<'a> {
    verb: &'a str,
    thing: Thing<'a>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Thing<'a> {
    /// Objects of a resource: those of one name, or all.
    Resource {
        group: &'a str,
        resource: &'a str,
        name: Option<&'a str>,
    },
    Url(&'a str),
}

/// How many atoms a rule has; none if they cannot be counted.
fn count(rule: &Rule) -> Option<usize> {
    let names = rule.names.len().max(1);
    let things = rule.groups.len().checked_mul(rule.resources.len())?.checked_mul(names)?;
    things.checked_add(rule.urls.len())?.checked_mul(rule.verbs.len())
}

/// What a rule allows, one by one.
fn atoms(rule: &Rule) -> impl Iterator<Item = Atom<'_>> {
    rule.verbs.iter().flat_map(move |verb| {
        let pairs = rule.groups.iter().flat_map(move |group| {
            rule.resources.iter().map(move |resource| (group.as_str(), resource.as_str()))
        });
        let resources = pairs.flat_map(move |(group, resource)| {
            let all = rule.names.is_empty().then_some(None);
            let names = all.into_iter().chain(rule.names.iter().map(|name| Some(name.as_str())));
            names.map(move |name| Thing::Resource { group, resource, name })
        });
        let things = resources.chain(rule.urls.iter().map(|url| Thing::Url(url)));
        things.map(move |thing| Atom { verb, thing })
    })
}

/// A rule that is held, as it is asked.
struct Held<'a> {
    verbs: HashSet<&'a str>,
    groups: HashSet<&'a str>,
    resources: HashSet<&'a str>,
    /// Parts that are held of every resource: `*/scale`.
    parts: HashSet<&'a str>,
    /// None are all.
    names: HashSet<&'a str>,
    urls: &'a [String],
}

impl<'a> Held<'a> {
    fn of(rule: &'a Rule) -> Self {
        fn set(texts: &[String]) -> HashSet<&str> {
            texts.iter().map(String::as_str).collect()
        }
        Self {
            verbs: set(&rule.verbs),
            groups: set(&rule.groups),
            resources: set(&rule.resources),
            parts: rule.resources.iter().filter_map(|resource| resource.strip_prefix("*/")).collect(),
            names: set(&rule.names),
            urls: &rule.urls,
        }
    }

    /// Whether it allows everything that `rule` does.
    fn covers(&self, rule: &Rule) -> bool {
        let all = |held: &HashSet<&str>, wanted: &[String]| {
            held.contains("*") || wanted.iter().all(|text| held.contains(text.as_str()))
        };
        all(&self.verbs, &rule.verbs)
            && all(&self.groups, &rule.groups)
            && rule.resources.iter().all(|resource| self.has_resource(resource))
            && rule.urls.iter().all(|url| self.has_url(url))
            && (self.names.is_empty()
                || !rule.names.is_empty() && rule.names.iter().all(|name| self.names.contains(name.as_str())))
    }

    fn covers_atom(&self, atom: &Atom<'_>) -> bool {
        let has = |held: &HashSet<&str>, text: &str| held.contains("*") || held.contains(text);
        has(&self.verbs, atom.verb)
            && match atom.thing {
                Thing::Resource { group, resource, name } => {
                    has(&self.groups, group)
                        && self.has_resource(resource)
                        && (self.names.is_empty() || name.is_some_and(|name| self.names.contains(name)))
                }
                Thing::Url(url) => self.names.is_empty() && self.has_url(url),
            }
    }

    fn has_resource(&self, resource: &str) -> bool {
        self.resources.contains("*")
            || self.resources.contains(resource)
            || resource.split_once('/').is_some_and(|(_, part)| self.parts.contains(part))
    }

    fn has_url(&self, url: &str) -> bool {
        self.urls.iter().any(|own| url_covers(own, url))
    }
}

/// What is missing, with the verbs of one thing in one rule.
#[derive(Default)]
struct Missing<'a> {
    rules: Vec<Rule>,
    /// Where the rule of a thing is.
    places: HashMap<Thing<'a>, usize>,
    seen: HashSet<Atom<'a>>,
}

impl<'a> Missing<'a> {
    fn add(&mut self, atom: Atom<'a>) {
        if !self.seen.insert(atom) {
            return;
        }
        let Atom { verb, thing } = atom;
        let one = |text: &str| vec![text.to_owned()];
        let known = self.places.get(&thing).and_then(|at| self.rules.get_mut(*at));
        match (known, thing) {
            (Some(rule), _) => rule.verbs.push(verb.to_owned()),
            (None, Thing::Resource { group, resource, name }) => {
                self.places.insert(thing, self.rules.len());
                self.rules.push(Rule {
                    verbs: one(verb),
                    groups: one(group),
                    resources: one(resource),
                    names: name.map(one).unwrap_or_default(),
                    ..Rule::default()
                });
            }
            // Paths are told one by one.
            (None, Thing::Url(url)) => {
                self.rules.push(Rule { verbs: one(verb), urls: one(url), ..Rule::default() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn check(held: &Value, wanted: &Value, expect: &[&str]) {
        let rules = |value: &Value| Rule::of_role(&json!({"rules": value}));
        let found: Vec<_> = missing(&rules(held), &rules(wanted)).iter().map(ToString::to_string).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn what_is_missing_is_told_by_resource() {
        let held = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
        let wanted = json!([{"apiGroups": [""], "resources": ["pods", "secrets"], "verbs": ["get", "list"]}]);
        check(
            &held,
            &wanted,
            &[
                r#"{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list"]}"#,
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["list"]}"#,
            ],
        );
    }

    #[test]
    fn a_name_is_covered_by_all_names_but_not_the_other_way() {
        let named =
            json!([{"apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"], "verbs": ["get"]}]);
        let all = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
        check(&all, &named, &[]);
        check(&named, &all, &[r#"{APIGroups:["*"], Resources:["*"], Verbs:["*"]}"#]);
    }

    #[test]
    fn paths_are_covered_by_their_prefix() {
        let held = json!([{"nonResourceURLs": ["/api/*"], "verbs": ["get"]}]);
        let wanted = json!([{"nonResourceURLs": ["/api/v1", "/metrics"], "verbs": ["get"]}]);
        check(&held, &wanted, &[r#"{NonResourceURLs:["/metrics"], Verbs:["get"]}"#]);
    }

    #[test]
    fn verbs_on_one_thing_are_told_together_and_once() {
        let of = |groups: Value, verbs: Value| json!({"apiGroups": groups, "resources": ["pods"], "resourceNames": ["a"], "verbs": verbs});
        let (one, other) = (of(json!(["", ""]), json!(["get"])), of(json!([""]), json!(["get", "list"])));
        let expect = r#"{APIGroups:[""], Resources:["pods"], ResourceNames:["a"], Verbs:["get" "list"]}"#;
        check(&json!([]), &json!([one, other]), &[expect]);
    }

    #[test]
    fn rules_that_cover_only_together_cover() {
        let of = |resource: &str, verb: &str| json!({"apiGroups": ["apps"], "resources": [resource], "verbs": [verb]});
        let held = json!([of("*/scale", "get"), of("*/scale", "update"), of("deployments", "*")]);
        let wanted = json!([{
            "apiGroups": ["apps"],
            "resources": ["deployments/scale", "deployments"],
            "verbs": ["get", "update"],
        }]);
        check(&held, &wanted, &[]);
    }

    /// Four lists of 250 texts: 3.9 * 10^9 combinations, which no memory holds.
    fn vast() -> Rule {
        let texts = |letter: char| (0..250).map(|number| format!("{letter}{number}")).collect::<Vec<_>>();
        Rule {
            verbs: texts('v'),
            groups: texts('g'),
            resources: texts('r'),
            names: texts('n'),
            urls: Vec::new(),
        }
    }

    #[test]
    fn what_cannot_be_taken_apart_is_missing_as_a_whole() {
        let mut held = vast();
        held.names.pop();
        assert_eq!(missing(&[held], &[vast()]), [vast()]);
    }

    #[test]
    fn what_cannot_be_taken_apart_is_covered_as_a_whole() {
        let every = || vec!["*".to_owned()];
        let all = Rule { verbs: every(), groups: every(), resources: every(), ..Rule::default() };
        for held in [all, vast()] {
            assert!(missing(&[Rule::default(), held], &[vast(), vast()]).is_empty());
        }
    }

    #[test]
    fn the_bound_is_on_the_sum_of_all_rules() {
        let texts = |letter: char| (0..140).map(|number| format!("{letter}{number}")).collect::<Vec<_>>();
        let square =
            Rule { verbs: texts('v'), groups: vec![String::new()], resources: texts('r'), ..Rule::default() };
        let halves = [true, false].map(|first| {
            let mut half = square.clone();
            half.verbs.retain(|verb| (verb.len() < 3) == first);
            half
        });
        assert!(missing(&halves, std::slice::from_ref(&square)).is_empty());
        assert_eq!(missing(&halves, &[square.clone(), square.clone()]), [square]);
    }

    #[test]
    fn many_rules_against_as_many_are_held_or_missing_soon() {
        let rules = |verb: &str| -> Vec<Rule> {
            let one = |at: usize| json!({"apiGroups": [""], "resources": ["pods"], "resourceNames": [format!("p{at}")], "verbs": [verb]});
            Rule::of_role(&json!({"rules": (0..30_000).map(one).collect::<Vec<_>>()}))
        };
        let held = rules("get");
        assert_eq!(missing(&held, &held[..100]), []);
        assert_eq!(missing(&held, &rules("list")).len(), 30_000);
    }
}
