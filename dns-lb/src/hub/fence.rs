//! Which updates are applied: a pure decision.

use std::sync::Arc;

use proto::v1;

use crate::wire::Name;
use crate::zone::{Problems, Unfit, Zone, Zones};

/// Guards what is served.
#[derive(Clone, Debug, Default)]
pub struct Fence {
    /// An incarnation that the operator has named: its epochs are accepted whatever they are.
    pub adopt: Option<String>,
}

/// A zone whose new version is not applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its origin.
    pub origin: Name,
    /// Record sets that it would have lost.
    pub sets: usize,
}

/// What to do with an update.
#[derive(Debug, PartialEq)]
pub enum Offer {
    /// Serve these zones, and keep them on disk.
    Apply {
        /// With held zones as they were.
        zones: Zones,
        /// What is to be kept: the update, with held zones as they were.
        update: Box<v1::ZoneUpdate>,
        /// Zones that would have become empty.
        held: Vec<Held>,
    },
    /// It is what is served already: confirm it again.
    Current,
    /// Serve on as before.
    Refuse(Refused),
    /// Serve on as before, and ask for everything: it is a change of what is not served here, or it would empty a zone.
    Resync,
}

/// Why an update is not applied.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// An epoch that is past.
    #[error(
        "epoch {offered} is older than {served}, which is served: a paused or restored hub must not take answers back"
    )]
    Older {
        /// Of the update.
        offered: u64,
        /// Of what is served.
        served: u64,
    },
    /// Another store, whose epochs do not continue ours.
    #[error(
        "incarnation {offered:?} with epoch {epoch} is not the store {served:?} that is served at epoch {served_epoch}: if this is meant, \
         start with --adopt-incarnation {offered}"
    )]
    Incarnation {
        /// Of the update.
        offered: String,
        /// Its epoch.
        epoch: u64,
        /// Of what is served.
        served: String,
        /// Its epoch.
        served_epoch: u64,
    },
    /// Something in it is wrong.
    #[error("the update is not valid: {0}")]
    Invalid(#[from] Problems),
}

impl Fence {
    /// Judges `update` against what is served. `kept` gives the update that what is served came from.
    ///
    /// - Within one incarnation only a newer epoch is applied. The same epoch is [`Offer::Current`].
    /// - Another incarnation (the federation's store was restored or made anew) is applied only if its epoch is newer too: then
    ///   the fence still rises. Else only the operator can know that the old answers are worthless, and says so by `adopt`.
    /// - A zone that had records and would have none, or would be gone, is held as it was, and the rest is applied: nothing that
    ///   runs by itself may take a whole zone off the net. Only a zone that the update names as withdrawn goes.
    pub fn judge(
        &self,
        served: Option<&Zones>,
        kept: impl FnOnce() -> Option<v1::ZoneUpdate>,
        update: v1::ZoneUpdate,
    ) -> Offer {
        if let Some(served) = served {
            let adopted = self.adopt.as_ref() == Some(&update.incarnation);
            if update.incarnation == served.incarnation {
                if update.epoch == served.epoch {
                    return Offer::Current;
                }
                if update.epoch < served.epoch {
                    return Offer::Refuse(Refused::Older { offered: update.epoch, served: served.epoch });
                }
            } else if update.epoch <= served.epoch && !adopted {
                return Offer::Refuse(Refused::Incarnation {
                    offered: update.incarnation,
                    epoch: update.epoch,
                    served: served.incarnation.clone(),
                    served_epoch: served.epoch,
                });
            }
        }
        if update.base > 0 {
            return change(served, update);
        }
        let mut zones = match Zones::from_update(&update) {
            Ok(zones) => zones,
            Err(problems) => return Offer::Refuse(problems.into()),
        };
        let mut update = update;
        let mut held = Vec::new();
        for old in served.into_iter().flat_map(|served| &served.zones) {
            let sets = old.set_count();
            let new = zones.zones.iter().position(|zone| zone.origin == old.origin);
            let meant = withdraws(&update, &old.origin);
            if sets == 0 || meant || new.is_some_and(|new| zones.zones[new].set_count() > 0) {
                continue;
            }
            held.push(Held { origin: old.origin.clone(), sets });
        }
        if !held.is_empty() {
            update.partial = true;
            let kept = kept().unwrap_or_default();
            // Those that nobody keeps: there is no disk, or it failed.
            let mut unkept = Vec::new();
            for held in &held {
                let origin = held.origin.to_string();
                let same = |zone: &v1::Zone| zone.origin.eq_ignore_ascii_case(&origin);
                update.zones.retain(|zone| !same(zone));
                match kept.zones.iter().find(|zone| same(zone)) {
                    Some(wire) => update.zones.push(wire.clone()),
                    None => unkept.push(&held.origin),
                }
            }
            // The old zones once more from the wire: regions may have other indices in the new table.
            let anew = Zones::from_update(&update).and_then(|mut zones| {
                served.into_iter().try_for_each(|served| zones.keep(served, &unkept))?;
                Ok(zones)
            });
            zones = match anew {
                Ok(zones) => zones,
                Err(problems) => return Offer::Refuse(problems.into()),
            };
        }
        if let Some(served) = served {
            zones.share(served);
        }
        Offer::Apply { zones, update: Box::new(update), held }
    }
}

fn withdraws(update: &v1::ZoneUpdate, origin: &Name) -> bool {
    let origin = origin.to_string();
    update.withdrawn.iter().any(|withdrawn| withdrawn.eq_ignore_ascii_case(&origin))
}

/// Judges a change, whose epoch is newer than what is served.
fn change(served: Option<&Zones>, change: v1::ZoneUpdate) -> Offer {
    let Some(served) = served else { return Offer::Resync };
    if change.incarnation != served.incarnation || change.base > served.epoch {
        return Offer::Resync;
    }
    match served.after(&change) {
        Ok(zones) => {
            let emptied = |(old, new): (&Arc<Zone>, &Arc<Zone>)| {
                !Arc::ptr_eq(old, new) && new.is_bare() && !old.is_bare() && !withdraws(&change, &old.origin)
            };
            // What is held then is judged by the whole.
            if served.zones.iter().zip(&zones.zones).any(emptied) {
                return Offer::Resync;
            }
            Offer::Apply { zones, update: Box::new(change), held: Vec::new() }
        }
        Err(Unfit::Whole) => Offer::Resync,
        Err(Unfit::Invalid(problems)) => Offer::Refuse(problems.into()),
    }
}
