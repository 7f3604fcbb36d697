//! Cleans up: deletes HeldRemovals that no longer hold anything, and Trash whose grace period is over.

use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Api, DeleteParams, ListParams};
use kube::{Client, ResourceExt as _};

use federation_core::api::{HeldRemoval, Trash};
use federation_runtime::shutdown::Shutdown;

use crate::decide::removal::Gate;
use crate::hub::sessions::Sessions;

/// A HeldRemoval stands in the list so long, at most, after its end.
const LOOK_AT_HELD: Duration = Duration::from_secs(5);
/// Trash may stay this much longer than its grace. In looks at what is held.
const LOOKS_TO_TRASH: u32 = 12;
/// Objects in one page of a list.
const PAGE: u32 = 500;

/// Works until `shutdown`.
pub(crate) async fn run(client: Client, gate: Gate, sessions: Sessions, shutdown: Shutdown) {
    let held: Api<HeldRemoval> = Api::all(client.clone());
    let trash: Api<Trash> = Api::all(client);
    let mut looks = 0_u32;
    loop {
        tokio::select! {
            () = shutdown.wait() => return,
            () = tokio::time::sleep(LOOK_AT_HELD) => {}
        }
        let ended = if sessions.is_complete() { gate.ended() } else { Vec::new() };
        for id in ended {
            if let Err(error) = held.delete(&id, &DeleteParams::default()).await
                && !is_gone(&error)
            {
                tracing::warn!(%error, id, "a HeldRemoval that is over could not be deleted");
            }
        }
        looks = looks.wrapping_add(1);
        if looks.is_multiple_of(LOOKS_TO_TRASH)
            && let Err(error) = empty(&trash).await
        {
            tracing::warn!(%error, "the trash could not be emptied: again in a minute");
        }
    }
}

async fn empty(trash: &Api<Trash>) -> Result<(), kube::Error> {
    let now = Timestamp::now();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = trash.list(&page).await?;
        for kept in &list.items {
            // What cannot be read as a time is kept: a person wrote it.
            if kept.spec.expires.parse::<Timestamp>().is_ok_and(|expires| expires <= now) {
                match trash.delete(&kept.name_any(), &DeleteParams::default()).await {
                    Ok(_) => {}
                    Err(error) if is_gone(&error) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(()),
        }
    }
}

fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}
