//! Which members' agents probe a target.

use super::Key;

/// Agents that probe one target: with the DNS servers and the controller enough for a quorum, few enough to be borne.
pub const PEERS_MAX: usize = 3;

/// The members that probe `key`, of `members`: never its own cluster, and the same as long as they stay (highest hash first, so that
/// one that comes or goes changes little).
pub fn peers<'m>(key: &Key, members: impl IntoIterator<Item = &'m str>) -> Vec<&'m str> {
    let mut ranked: Vec<(u64, &str)> = members
        .into_iter()
        .filter(|member| *member != key.cluster)
        .map(|member| (hash([member, &key.service, &key.cluster]), member))
        .collect();
    ranked.sort_unstable_by(|a, b| b.cmp(a));
    ranked.into_iter().take(PEERS_MAX).map(|(_, member)| member).collect()
}

/// FNV-1a of the parts, with a final mix: FNV alone spreads short names badly in its high bits.
fn hash(parts: [&str; 3]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in parts.iter().flat_map(|part| part.bytes().chain([0])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_others_probe_and_one_that_leaves_is_replaced_by_one() {
        let names: Vec<String> = (0..20).map(|number| format!("member-{number}")).collect();
        let key = Key { service: "default/web".into(), cluster: "member-7".into() };
        let chosen = peers(&key, names.iter().map(String::as_str));
        assert_eq!(chosen.len(), PEERS_MAX);
        assert!(!chosen.contains(&"member-7"));
        let gone = chosen[0];
        let later = peers(&key, names.iter().map(String::as_str).filter(|name| *name != gone));
        assert_eq!(later.iter().filter(|name| chosen.contains(name)).count(), PEERS_MAX - 1);
        assert!(peers(&key, ["member-7"]).is_empty());
    }

    #[test]
    fn the_work_is_spread() {
        let names: Vec<String> = (0..10).map(|number| format!("member-{number}")).collect();
        let mut work = vec![0; names.len()];
        for service in 0..1000 {
            let key = Key { service: format!("default/web-{service}"), cluster: "elsewhere".into() };
            for peer in peers(&key, names.iter().map(String::as_str)) {
                work[names.iter().position(|name| name == peer).unwrap_or_default()] += 1;
            }
        }
        assert!(work.iter().all(|count| (200..400).contains(count)), "{work:?}");
    }
}
