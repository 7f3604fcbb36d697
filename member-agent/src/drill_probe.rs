//! A drill's vantage point at this member: fetches the application as web users do.
//!
//! The hub says each second what to look at; whoever hears it no more stops. What is seen goes back four times a second, beside the session.

use std::sync::Arc;
use std::time::{Duration, Instant};

use federation_core::api::DrillLook;
use parking_lot::Mutex;
use proto::v1::{self, agent_client::AgentClient};
use tonic::transport::Channel;
use web_users::Crowd;

use crate::identity::Membership;

/// Users for each DNS server: 20 pages a second.
const USERS: usize = 2;
/// Between two words about what is seen.
const TELL: Duration = Duration::from_millis(250);
/// A word of the hub counts for so long at most, whatever it says.
const LEASE_MAX: Duration = Duration::from_secs(30);
/// What is looked at, as JSON: some dozens of addresses for each of some hundred clusters.
const LOOK_MAX: usize = 1 << 20;

/// The users, while there are any. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct DrillProbe(Arc<Mutex<Option<Watching>>>);

struct Watching {
    drill: String,
    begun: bool,
    until: Instant,
    crowd: Crowd,
}

impl DrillProbe {
    /// The hub says what to look at. If that is new, returns what says what is seen, to be run beside the session.
    pub(crate) fn look(
        &self,
        order: v1::Look,
        membership: &Membership,
        hub: &str,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        let until = Instant::now() + Duration::from_millis(order.lease_ms.into()).min(LEASE_MAX);
        let mut watching = self.0.lock();
        let mut telling = None;
        if watching.as_ref().is_none_or(|watching| watching.drill != order.drill) {
            if order.look.len() > LOOK_MAX {
                return None;
            }
            let look: DrillLook = match serde_json::from_slice(&order.look) {
                Ok(look) => look,
                Err(error) => {
                    tracing::warn!(%error, "what a drill is to look at cannot be read");
                    return None;
                }
            };
            let crowd = Crowd::start(&look, USERS)?;
            tracing::info!(drill = order.drill, name = look.name, "looking as users do");
            let new = watching.replace(Watching { drill: order.drill.clone(), begun: false, until, crowd });
            // Its task ends with the drill that it was of.
            drop(new);
            telling = Some(tell(self.clone(), order.drill, membership.clone(), hub.to_owned()));
        }
        if let Some(watching) = watching.as_mut() {
            watching.until = until;
            if order.begun && !watching.begun {
                watching.begun = true;
                watching.crowd.begin(&order.lost);
            }
        }
        telling
    }

    /// What is to be told of a drill now; nothing where nobody was served before the loss, since what is seen from there is not the loss. `None`: its
    /// users are gone, as they are when nobody asked for them lately.
    fn said(&self, drill: &str) -> Option<Vec<u8>> {
        let mut watching = self.0.lock();
        let current = watching.as_ref().filter(|watching| watching.drill == drill)?;
        if Instant::now() >= current.until {
            *watching = None;
            return None;
        }
        let counts = current.begun && current.crowd.is_fit();
        Some(if counts {
            serde_json::to_vec(&current.crowd.figures()).unwrap_or_default()
        } else {
            Vec::new()
        })
    }
}

/// Says what is seen, until the drill's users are gone.
async fn tell(drill_probe: DrillProbe, drill: String, membership: Membership, hub: String) {
    let mut client: Option<AgentClient<Channel>> = None;
    loop {
        tokio::time::sleep(TELL).await;
        let Some(users) = drill_probe.said(&drill) else { return };
        if users.is_empty() {
            continue;
        }
        if client.is_none() {
            client = membership.dial(&hub).await.ok().map(AgentClient::new);
        }
        let Some(open) = &mut client else { continue };
        let request = v1::SawRequest { drill: drill.clone(), users: users.into() };
        // The next word says it all again.
        if let Err(status) = open.saw(request).await {
            tracing::debug!(message = status.message(), "what users see was not told");
            client = None;
        }
    }
}
