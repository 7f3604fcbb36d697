//! A drill's dead-man's switch at a DNS server: the zones to answer with if the hub disappears during a drill.

use std::time::Duration;

use federation_runtime::clock::Instant;
use proto::v1;

/// The way back, while a drill runs; see `ZoneUpdate.otherwise`.
#[derive(Debug, Default)]
pub(crate) struct Lease {
    otherwise: Option<(v1::ZoneUpdate, Duration)>,
    // Since when the hub is away.
    away: Option<Instant>,
}

impl Lease {
    /// Takes the way back out of an update that came.
    pub(crate) fn of(update: &mut v1::ZoneUpdate) -> Option<(v1::ZoneUpdate, Duration)> {
        let lease = Duration::from_millis(update.lease_ms.into());
        let mut otherwise = *update.otherwise.take()?;
        // The hub never sent it as what is to be served: after it, everything is asked for anew.
        otherwise.partial = true;
        Some((otherwise, lease))
    }

    /// An update is served: its way back counts, or that it has none.
    pub(crate) fn serve(&mut self, otherwise: Option<(v1::ZoneUpdate, Duration)>) {
        self.otherwise = otherwise;
    }

    /// The stream is up.
    pub(crate) fn connected(&mut self) {
        self.away = None;
    }

    /// The stream is down.
    pub(crate) fn disconnected(&mut self, now: Instant) {
        self.away.get_or_insert(now);
    }

    /// What is to be answered from now on, once, if the hub was away for too long.
    pub(crate) fn lapsed(&mut self, now: Instant) -> Option<v1::ZoneUpdate> {
        let away = now.saturating_duration_since(self.away?);
        self.otherwise.take_if(|(_, lease)| away >= *lease).map(|(otherwise, _)| otherwise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_is_taken_once_and_only_while_the_hub_is_away() {
        let start = Instant::now();
        let mut update = v1::ZoneUpdate {
            epoch: 7,
            lease_ms: 100,
            otherwise: Some(Box::new(v1::ZoneUpdate { epoch: 8, ..v1::ZoneUpdate::default() })),
            ..v1::ZoneUpdate::default()
        };
        let mut lease = Lease::default();
        lease.serve(Lease::of(&mut update));
        assert_eq!((update.otherwise, lease.lapsed(start)), (None, None));
        let late = start + Duration::from_millis(100);
        lease.disconnected(start);
        lease.connected();
        assert_eq!(lease.lapsed(late), None);
        lease.disconnected(start);
        assert_eq!(lease.lapsed(start + Duration::from_millis(99)), None);
        assert_eq!(lease.lapsed(late).map(|update| (update.epoch, update.partial)), Some((8, true)));
        assert_eq!(lease.lapsed(late), None);
    }
}
