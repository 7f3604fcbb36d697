//! Looks up a name in the published zones as a DNS server does, with delegations, wildcards and empty names.

use proto::v1;

/// Where a name leads.
#[derive(Debug)]
pub(super) struct Place<'u> {
    pub(super) zone: &'u v1::Zone,
    /// The name that the sets have: the one that was asked for, the wildcard that stands for it, or the one that is delegated.
    pub(super) owner: String,
    pub(super) sets: Vec<&'u v1::RecordSet>,
    /// What is to be said of it.
    pub(super) note: Option<String>,
}

/// Finds `name` among the zones of `update`.
///
/// # Errors
/// In words, when it is in no zone, or does not exist.
pub(super) fn find<'u>(update: &'u v1::ZoneUpdate, name: &str) -> Result<Place<'u>, String> {
    let name = format!("{}.", name.trim_end_matches('.').to_ascii_lowercase());
    let zone = update.zones.iter().find(|zone| within(&name, &zone.origin)).ok_or_else(|| {
        let origins: Vec<&str> = update.zones.iter().map(|zone| zone.origin.as_str()).collect();
        format!("{name} is in none of the federation's zones: {}", origins.join(", "))
    })?;
    let sets = |owner: &str| -> Vec<&v1::RecordSet> {
        zone.records.iter().filter(|set| set.name.eq_ignore_ascii_case(owner)).collect()
    };
    let place = |owner: &str, note: Option<String>| {
        Ok(Place { zone, owner: owner.to_owned(), sets: sets(owner), note })
    };
    // From the name upwards, as far as the zone goes.
    let above: Vec<&str> =
        std::iter::successors(Some(name.as_str()), |name| name.split_once('.').map(|(_, rest)| rest))
            .take_while(|name| *name != zone.origin)
            .collect();
    let delegates = |owner: &&&str| sets(owner).iter().any(|set| set.r#type == "NS");
    if let Some(cut) = above.iter().rev().find(delegates) {
        return place(cut, Some(format!("{cut} is delegated: other servers answer for {name}")));
    }
    if name == zone.origin {
        return place(&name, Some("its SOA and NS records are the zone's own".into()));
    }
    if !sets(&name).is_empty() {
        return place(&name, None);
    }
    let exists = |name: &str| name == zone.origin || zone.records.iter().any(|set| within(&set.name, name));
    if exists(&name) {
        return place(&name, Some(format!("{name} has no records, but names below it do (NODATA)")));
    }
    let encloser = above.iter().copied().chain([zone.origin.as_str()]).find(|name| exists(name));
    let wildcard = format!("*.{}", encloser.unwrap_or(&zone.origin));
    if sets(&wildcard).is_empty() {
        return Err(format!("{name} does not exist in {} (NXDOMAIN)", zone.origin));
    }
    let note = format!("the wildcard {wildcard} stands for {name}");
    place(&wildcard, Some(note))
}

fn within(name: &str, origin: &str) -> bool {
    name == origin || name.strip_suffix(origin).is_some_and(|rest| rest.ends_with('.'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn update() -> v1::ZoneUpdate {
        let set = |(name, kind): &(&str, &str)| v1::RecordSet {
            name: format!("{name}fed.test."),
            r#type: (*kind).into(),
            ..v1::RecordSet::default()
        };
        let records = [
            ("", "MX"),
            ("www.", "A"),
            ("www.", "TXT"),
            ("*.shop.", "A"),
            ("a.b.shop.", "A"),
            ("sub.", "NS"),
            ("ns.sub.", "A"),
        ];
        let zone = v1::Zone {
            origin: "fed.test.".into(),
            records: records.iter().map(set).collect(),
            ..v1::Zone::default()
        };
        v1::ZoneUpdate { zones: vec![zone], ..v1::ZoneUpdate::default() }
    }

    #[track_caller]
    fn check(name: &str, owner: &str, kinds: &[&str], note: &str) {
        let update = update();
        let place = find(&update, name).unwrap();
        let found: Vec<&str> = place.sets.iter().map(|set| set.r#type.as_str()).collect();
        assert_eq!((place.owner.as_str(), found.as_slice()), (owner, kinds));
        assert!(place.note.unwrap_or_default().contains(note));
    }

    #[test]
    fn a_name_is_found_as_dns_servers_find_it() {
        check("WWW.fed.test", "www.fed.test.", &["A", "TXT"], "");
        check("fed.test.", "fed.test.", &["MX"], "SOA and NS");
        check(
            "x.y.shop.fed.test",
            "*.shop.fed.test.",
            &["A"],
            "the wildcard *.shop.fed.test. stands for x.y.shop",
        );
        check("shop.fed.test", "shop.fed.test.", &[], "NODATA");
        check("b.shop.fed.test", "b.shop.fed.test.", &[], "NODATA");
        check("ns.sub.fed.test", "sub.fed.test.", &["NS"], "is delegated");
        check("sub.fed.test", "sub.fed.test.", &["NS"], "is delegated");
        for (name, why) in [
            ("nothing.fed.test", "does not exist in fed.test. (NXDOMAIN)"),
            // The closest name above it that exists has no wildcard.
            ("x.b.shop.fed.test", "NXDOMAIN"),
            ("fed.example", "in none of the federation's zones: fed.test."),
            ("xfed.test", "in none"),
        ] {
            let said = find(&update(), name).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }
}
