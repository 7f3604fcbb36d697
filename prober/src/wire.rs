//! Targets and votes as messages.

use std::net::IpAddr;

use federation_core::dns::Name;
use federation_core::health::{Outcome, Vote};
use federation_core::probe::{Alone, Check, Get, Key, Protocol, Target};
use proto::v1;

/// Octets of a message for people: enough for an error, and 500 votes fit in any message.
const MESSAGE_MAX: usize = 200;

/// A target, as the hub tells it.
pub fn probe(target: &Target) -> v1::Probe {
    let check = &target.check;
    let mut spoken = v1::HealthCheck {
        interval_ms: check.interval_ms,
        timeout_ms: check.timeout_ms,
        rise: check.rise,
        fall: check.fall,
        ..v1::HealthCheck::default()
    };
    let put = |spoken: &mut v1::HealthCheck, get: &Get| {
        spoken.path.clone_from(&get.path);
        spoken.host.clone_from(&get.host);
        let range = |(low, high): &(u16, u16)| v1::StatusRange { low: (*low).into(), high: (*high).into() };
        spoken.statuses = get.statuses.iter().map(range).collect();
    };
    let protocol = match &check.protocol {
        Protocol::Tcp => v1::ProbeProtocol::Tcp,
        Protocol::Http(get) => {
            put(&mut spoken, get);
            v1::ProbeProtocol::Http
        }
        Protocol::Https { get, verify } => {
            put(&mut spoken, get);
            spoken.verify_certificate = *verify;
            v1::ProbeProtocol::Https
        }
        Protocol::Grpc { service, host } => {
            spoken.grpc_service.clone_from(service);
            spoken.host.clone_from(host);
            v1::ProbeProtocol::Grpc
        }
    };
    spoken.protocol = protocol.into();
    v1::Probe {
        service: target.key.service.clone(),
        cluster: target.key.cluster.clone(),
        addresses: target.addresses.iter().map(ToString::to_string).collect(),
        port: target.port.into(),
        check: Some(spoken),
        withdraw_without_hub: target.alone.may_withdraw,
        min_clusters: target.alone.min_clusters,
        max_withdrawn_percent: target.alone.max_withdrawn_percent,
        host: target.host.clone().unwrap_or_default(),
    }
}

/// The targets that the hub tells. What is not understood here is left out: nothing is said of it then.
pub fn targets(probes: &[v1::Probe]) -> Vec<Target> {
    probes.iter().filter_map(target).collect()
}

fn target(probe: &v1::Probe) -> Option<Target> {
    let addresses: Vec<IpAddr> = probe.addresses.iter().filter_map(|text| text.parse().ok()).collect();
    let check = probe.check.as_ref()?;
    let status = |status: u32| u16::try_from(status).ok();
    let get = || Get {
        path: check.path.clone(),
        host: check.host.clone(),
        statuses: check
            .statuses
            .iter()
            .filter_map(|range| Some((status(range.low)?, status(range.high)?)))
            .collect(),
    };
    let protocol = match v1::ProbeProtocol::try_from(check.protocol).ok()? {
        v1::ProbeProtocol::Tcp => Protocol::Tcp,
        v1::ProbeProtocol::Http => Protocol::Http(get()),
        v1::ProbeProtocol::Https => Protocol::Https { get: get(), verify: check.verify_certificate },
        v1::ProbeProtocol::Grpc => {
            Protocol::Grpc { service: check.grpc_service.clone(), host: check.host.clone() }
        }
    };
    Some(Target {
        key: Key { service: probe.service.clone(), cluster: probe.cluster.clone() },
        addresses,
        host: host(&probe.host),
        port: u16::try_from(probe.port).ok().filter(|port| *port > 0)?,
        check: Check {
            protocol,
            interval_ms: check.interval_ms.max(1),
            timeout_ms: check.timeout_ms.max(1),
            rise: check.rise,
            fall: check.fall,
        },
        alone: Alone {
            may_withdraw: probe.withdraw_without_hub,
            min_clusters: probe.min_clusters,
            max_withdrawn_percent: probe.max_withdrawn_percent,
        },
    })
}

/// Lower case and with the final dot, as the hub has it; nobody is looked up by what is no name.
fn host(told: &str) -> Option<String> {
    Name::parse(told).ok().filter(|name| name.label_count() > 1).map(|name| name.to_string())
}

/// What is said of a target.
pub(crate) fn said(key: &Key, vote: &Vote, now_ms: i64) -> v1::ProbeVote {
    let state = match vote.outcome {
        Outcome::Unproven => v1::ProbeState::Unproven,
        Outcome::Up => v1::ProbeState::Up,
        Outcome::Down => v1::ProbeState::Down,
        Outcome::Doubted => v1::ProbeState::Doubted,
    };
    v1::ProbeVote {
        service: key.service.clone(),
        cluster: key.cluster.clone(),
        state: state.into(),
        failures: vote.failures,
        age_ms: u32::try_from(now_ms.saturating_sub(vote.at_ms)).unwrap_or(u32::MAX),
        rtt_micros: vote.rtt_us,
        message: vote.message.chars().take(MESSAGE_MAX).collect(),
        certificate_not_after: vote.certificate_not_after.unwrap_or(0),
    }
}

/// A vote that arrived at `now_ms`. A state that is not known here is no vote.
pub fn vote(said: &v1::ProbeVote, now_ms: i64) -> Vote {
    let outcome = match v1::ProbeState::try_from(said.state) {
        Ok(v1::ProbeState::Up) => Outcome::Up,
        Ok(v1::ProbeState::Down) => Outcome::Down,
        Ok(v1::ProbeState::Doubted) => Outcome::Doubted,
        Ok(v1::ProbeState::Unproven) | Err(_) => Outcome::Unproven,
    };
    Vote {
        outcome,
        failures: said.failures,
        at_ms: now_ms.saturating_sub(said.age_ms.into()),
        rtt_us: said.rtt_micros,
        message: said.message.chars().take(MESSAGE_MAX).collect(),
        certificate_not_after: (said.certificate_not_after != 0).then_some(said.certificate_not_after),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_comes_back_as_it_was() {
        let get = Get { path: "/healthz".into(), host: "www".into(), statuses: vec![(200, 204)] };
        for protocol in [
            Protocol::Tcp,
            Protocol::Http(get.clone()),
            Protocol::Https { get, verify: true },
            Protocol::Grpc { service: "web".into(), host: "www".into() },
        ] {
            let target = Target {
                key: Key { service: "default/web".into(), cluster: "taiwan".into() },
                addresses: vec![IpAddr::from([192, 0, 2, 1])],
                host: None,
                port: 443,
                check: Check { protocol, ..Check::default() },
                alone: Alone { may_withdraw: true, min_clusters: 1, max_withdrawn_percent: 50 },
            };
            assert_eq!(targets(&[probe(&target)]), std::slice::from_ref(&target));
            let named =
                Target { addresses: Vec::new(), host: Some("lb-1.elb.example.net.".into()), ..target };
            assert_eq!(targets(&[probe(&named)]), [named]);
        }
    }

    #[test]
    fn a_vote_comes_back_with_its_age() {
        let key = Key { service: "default/web".into(), cluster: "taiwan".into() };
        let before = Vote { outcome: Outcome::Down, failures: 2, at_ms: 700, rtt_us: 9, ..Vote::default() };
        let said = said(&key, &before, 1_000);
        assert_eq!(vote(&said, 50_300), Vote { at_ms: 50_000, ..before });
    }
}
