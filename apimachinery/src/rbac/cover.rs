//! What a user would grant without holding it: the escalation check.

use super::{Rule, url_covers};

/// The smallest rules of `wanted` that no rule of `held` covers, merged by resource (`validation.Covers`, `CompactRules`).
pub fn missing(held: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let uncovered =
        wanted.iter().flat_map(atoms).filter(|atom| !held.iter().any(|rule| covers(rule, atom))).collect();
    compact(uncovered)
}

/// Rules of one verb on one thing.
fn atoms(rule: &Rule) -> Vec<Rule> {
    let one = |text: &String| vec![text.clone()];
    let mut all = Vec::new();
    for verb in &rule.verbs {
        for group in &rule.groups {
            for resource in &rule.resources {
                let atom = Rule {
                    verbs: one(verb),
                    groups: one(group),
                    resources: one(resource),
                    ..Rule::default()
                };
                if rule.names.is_empty() {
                    all.push(atom);
                } else {
                    all.extend(rule.names.iter().map(|name| Rule { names: one(name), ..atom.clone() }));
                }
            }
        }
        let urls = rule.urls.iter();
        all.extend(urls.map(|url| Rule { verbs: one(verb), urls: one(url), ..Rule::default() }));
    }
    all
}

/// Whether `held` allows everything that `atom` does.
fn covers(held: &Rule, atom: &Rule) -> bool {
    let all = |held: &[String], wanted: &[String]| {
        held.iter().any(|text| text == "*") || wanted.iter().all(|text| held.contains(text))
    };
    all(&held.verbs, &atom.verbs)
        && all(&held.groups, &atom.groups)
        && atom.resources.iter().all(|resource| resource_covered(&held.resources, resource))
        && atom.urls.iter().all(|url| held.urls.iter().any(|own| url_covers(own, url)))
        && (held.names.is_empty()
            || !atom.names.is_empty() && atom.names.iter().all(|name| held.names.contains(name)))
}

fn resource_covered(held: &[String], resource: &str) -> bool {
    let everywhere = resource.split_once('/').map(|(_, subresource)| format!("*/{subresource}"));
    held.iter().any(|own| own == "*" || own == resource || Some(own) == everywhere.as_ref())
}

/// Merges the verbs of rules on the same thing.
fn compact(atoms: Vec<Rule>) -> Vec<Rule> {
    let mut merged: Vec<Rule> = Vec::new();
    for atom in atoms {
        let same = merged.iter_mut().find(|rule| {
            rule.urls.is_empty()
                && atom.urls.is_empty()
                && (&rule.groups, &rule.resources, &rule.names)
                    == (&atom.groups, &atom.resources, &atom.names)
        });
        match same {
            Some(rule) => {
                for verb in atom.verbs {
                    if !rule.verbs.contains(&verb) {
                        rule.verbs.push(verb);
                    }
                }
            }
            None => merged.push(atom),
        }
    }
    merged
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
}
