//! Which DNSRecordSets are served: a pure decision. One that is wrong hurts no other, and no name that a Service has.

use std::collections::{BTreeMap, BTreeSet};

use proto::v1;

use super::dress::Static;
use federation_core::dns::{Data, Name, RECORDS_MAX, TEXT_MAX, Type};

/// Whether `name` is `origin` or below it.
pub(super) fn within(name: &str, origin: &str) -> bool {
    name == origin || name.strip_suffix(origin).is_some_and(|rest| rest.ends_with('.'))
}

/// Puts each record set into its zone, the oldest first. Returns why the others are not served, by object.
pub(super) fn place(sets: &[Static], apex: &str, zones: &mut [v1::Zone]) -> BTreeMap<String, String> {
    let mut refused = BTreeMap::new();
    // What is at each name: looked up for every set, so found once.
    let mut taken: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for record in zones.iter().flat_map(|zone| &zone.records) {
        taken.entry(record.name.clone()).or_default().insert(record.r#type.clone());
    }
    // A DS stands beside a delegation, whichever of the two is older.
    let beside = |set: &&Static| Type::of_zone(&set.kind) == Some(Type::DS);
    let others = sets.iter().filter(|set| !beside(set));
    for set in others.chain(sets.iter().filter(beside)) {
        match check(set, apex, zones, &taken) {
            Ok((at, record)) => {
                taken.entry(record.name.clone()).or_default().insert(record.r#type.clone());
                if let Some(zone) = zones.get_mut(at) {
                    zone.records.push(record);
                }
            }
            Err(why) => {
                refused.insert(set.object.clone(), why);
            }
        }
    }
    refused
}

fn check(
    set: &Static,
    apex: &str,
    zones: &[v1::Zone],
    taken: &BTreeMap<String, BTreeSet<String>>,
) -> Result<(usize, v1::RecordSet), String> {
    let origin = set.zone.as_deref().map_or_else(|| apex.to_owned(), qualified);
    let at = zones.iter().position(|zone| zone.origin == origin);
    let at = at.ok_or_else(|| format!("spec.zone: {origin} is not served: make a DNSZone of that name"))?;
    let name = match set.name.as_str() {
        "@" => origin.clone(),
        absolute if absolute.ends_with('.') => absolute.to_ascii_lowercase(),
        relative => format!("{}.{origin}", relative.to_ascii_lowercase()),
    };
    Name::parse(&name).map_err(|error| format!("spec.name: {error}"))?;
    if !within(&name, &origin) {
        return Err(format!("spec.name: {name} is not within {origin}"));
    }
    let kind =
        Type::of_zone(&set.kind).ok_or_else(|| format!("spec.type: {:?} is not a record type", set.kind))?;
    let here = taken.get(&name);
    let has = |kind: Type| here.is_some_and(|types| types.contains(&kind.to_string()));
    if kind == Type::NS && name == origin {
        return Err(
            "spec.name: the zone's own name servers are set with the controller's --dns-nameserver".into()
        );
    }
    if kind == Type::NS && name.starts_with('*') {
        return Err("spec.name: a wildcard cannot delegate (RFC 4592 section 4.2)".into());
    }
    if has(kind) {
        return Err(format!(
            "spec.type: {name} has {kind} records already, of a Service or an older DNSRecordSet"
        ));
    }
    let any = here.is_some_and(|types| !types.is_empty()) || name == origin;
    if (kind == Type::CNAME && any) || has(Type::CNAME) {
        return Err(format!("spec.type: a CNAME must be the only record of its name, and {name} has others"));
    }
    let delegating = [Type::NS, Type::DS, Type::A, Type::AAAA];
    if kind == Type::NS {
        let other = here.is_some_and(|types| {
            types.iter().any(|other| !delegating.iter().any(|allowed| allowed.to_string() == *other))
        });
        // A delegation takes everything below it away: what Services have there would be gone.
        let balanced = zones.iter().flat_map(|zone| &zone.records).any(|record| {
            // Whatever it is answered with now.
            within(&record.name, &name) && !record.service.is_empty()
        });
        if other || balanced {
            return Err(format!(
                "spec.type: {name} cannot be delegated, for names at or below it are answered here"
            ));
        }
    }
    if kind == Type::DS && !has(Type::NS) {
        return Err(format!(
            "spec.type: a DS stands beside the NS records of a delegation, which {name} has not"
        ));
    }
    if has(Type::NS) && name != origin && !delegating.contains(&kind) {
        return Err(format!(
            "spec.type: {name} is delegated to other servers, who answer its {kind} records"
        ));
    }
    if set.data.is_empty() {
        return Err("spec.records: must hold at least one record".into());
    }
    if kind == Type::CNAME && set.data.len() > 1 {
        return Err("spec.records: an alias has one target".into());
    }
    if set.data.len() > RECORDS_MAX || set.data.iter().map(String::len).sum::<usize>() > TEXT_MAX {
        return Err(format!("spec.records: at most {RECORDS_MAX} records of {TEXT_MAX} octets in all"));
    }
    for (index, text) in set.data.iter().enumerate() {
        Data::parse(kind, text).map_err(|error| format!("spec.records[{index}]: {error}"))?;
    }
    let choice = v1::Choice { data: set.data.clone(), weight: 1, cluster: String::new() };
    let record = v1::RecordSet {
        name,
        ttl: set.ttl,
        r#type: kind.to_string(),
        selection: v1::Selection::All.into(),
        tiers: vec![v1::Tier { choices: vec![choice] }],
        ..v1::RecordSet::default()
    };
    Ok((at, record))
}

fn qualified(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.').to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zones() -> Vec<v1::Zone> {
        // Nobody serves: it is a page that says sorry.
        let balanced = v1::RecordSet {
            name: "www.fed.test.".into(),
            r#type: "A".into(),
            service: "shop/web".into(),
            tiers: vec![v1::Tier {
                choices: vec![v1::Choice {
                    data: vec!["192.0.2.1".into()],
                    weight: 1,
                    cluster: String::new(),
                }],
            }],
            ..v1::RecordSet::default()
        };
        vec![v1::Zone { origin: "fed.test.".into(), records: vec![balanced], ..v1::Zone::default() }]
    }

    fn set(name: &str, kind: &str, data: &[&str]) -> Static {
        Static {
            object: format!("default/{name}-{kind}"),
            zone: None,
            name: name.into(),
            kind: kind.into(),
            ttl: 0,
            data: data.iter().map(ToString::to_string).collect(),
        }
    }

    #[track_caller]
    fn refused(sets: &[Static], why: &str) {
        let refused = place(sets, "fed.test.", &mut zones());
        let last = sets.last().and_then(|set| refused.get(&set.object));
        assert!(last.is_some_and(|said| said.contains(why)), "{last:?}");
        assert!(sets.len() == 1 || refused.len() == 1, "{refused:?}");
    }

    #[test]
    fn sets_that_can_be_served_go_into_their_zone() {
        let sets = [
            set("@", "MX", &["10 mail.fed.test."]),
            set("www", "TXT", &["\"beside the balanced address\""]),
            set("sub", "NS", &["ns.sub.fed.test."]),
            set(
                "sub.fed.test.",
                "DS",
                &["1 13 2 0000000000000000000000000000000000000000000000000000000000000000"],
            ),
            set("*.pages", "CNAME", &["www.fed.test."]),
        ];
        let mut zones = zones();
        assert_eq!(place(&sets, "fed.test.", &mut zones), BTreeMap::new());
        let names: Vec<&str> = zones[0].records[1..].iter().map(|set| set.name.as_str()).collect();
        assert_eq!(
            names,
            ["fed.test.", "www.fed.test.", "sub.fed.test.", "*.pages.fed.test.", "sub.fed.test."],
            "a DS comes behind its delegation"
        );
    }

    #[test]
    fn a_delegation_that_was_made_anew_is_as_secure_as_it_was() {
        let ds = "1 13 2 0000000000000000000000000000000000000000000000000000000000000000";
        // The DS is older now.
        let sets = [set("sub", "DS", &[ds]), set("sub", "NS", &["ns.sub.fed.test."])];
        let mut zones = zones();
        assert_eq!(place(&sets, "fed.test.", &mut zones), BTreeMap::new());
        assert_eq!(zones[0].records.len(), 3);
    }

    #[test]
    fn one_that_is_wrong_is_refused_with_the_field_and_hurts_no_other() {
        refused(&[set("www", "A", &["192.0.2.9"])], "spec.type: www.fed.test. has A records already");
        refused(&[set("www", "CNAME", &["a.test."])], "a CNAME must be the only record");
        refused(&[set("@", "CNAME", &["a.test."])], "a CNAME must be the only record");
        refused(
            &[set("a", "CNAME", &["b.test."]), set("a", "TXT", &["x"])],
            "a CNAME must be the only record",
        );
        refused(&[set("@", "NS", &["a.test."])], "--dns-nameserver");
        refused(&[set("*.x", "NS", &["a.test."])], "a wildcard cannot delegate");
        refused(&[set("www", "NS", &["a.test."])], "cannot be delegated");
        refused(&[set("x", "DS", &["1 13 2 00"])], "beside the NS");
        refused(&[set("x", "NS", &["a.test."]), set("x", "MX", &["1 a.test."])], "is delegated");
        refused(&[set("x.other.", "A", &["192.0.2.1"])], "spec.name: x.other. is not within fed.test.");
        refused(&[set("a b", "A", &["192.0.2.1"])], "spec.name:");
        refused(&[set("x", "RRSIG", &["1"])], "spec.type: \"RRSIG\"");
        refused(
            &[set("x", "A", &["192.0.2.1", "nonsense"])],
            "spec.records[1]: \"nonsense\" is not an IPv4 address",
        );
        refused(&[set("x", "A", &[])], "spec.records: must hold");
        refused(&[Static { zone: Some("other.test".into()), ..set("x", "A", &["192.0.2.1"]) }], "spec.zone");
    }
}
