//! The service that agents dial.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use federation_runtime::shutdown::Shutdown;
use proto::v1;

use super::identity;
use super::sessions::{Listener, OUTBOUND, Sessions};
use crate::drill::{Drills, LEASE_MS};
use crate::observe::World;

/// The service.
#[derive(Clone)]
pub(crate) struct Agents {
    pub(crate) world: World,
    pub(crate) sessions: Sessions,
    pub(crate) drills: Drills,
    pub(crate) listener: Arc<dyn Listener>,
    pub(crate) shutdown: Shutdown,
}

#[tonic::async_trait]
impl v1::agent_server::Agent for Agents {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<v1::HubMessage, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let shown = identity::agent(&identity::peer(&request)?)?;
        self.world.member(&shown)?;
        let (sender, receiver) = mpsc::channel(OUTBOUND);
        tracing::info!(cluster = shown.cluster, "an agent connected");
        tokio::spawn(self.sessions.clone().drive(
            shown,
            request.into_inner(),
            sender,
            self.listener.clone(),
            self.shutdown.clone(),
        ));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn hold(&self, request: Request<v1::HoldRequest>) -> Result<Response<v1::HoldReply>, Status> {
        let shown = identity::agent(&identity::peer(&request)?)?;
        self.world.member(&shown)?;
        let held =
            self.drills.isolates(&shown.cluster).is_some_and(|loss| loss.drill == request.get_ref().drill);
        Ok(Response::new(v1::HoldReply { held, lease_ms: if held { LEASE_MS } else { 0 } }))
    }

    async fn saw(&self, request: Request<v1::SawRequest>) -> Result<Response<v1::SawReply>, Status> {
        let shown = identity::agent(&identity::peer(&request)?)?;
        self.world.member(&shown)?;
        let v1::SawRequest { drill, users } = request.into_inner();
        let users = serde_json::from_slice(&users)
            .map_err(|error| Status::invalid_argument(format!("users: {error}")))?;
        self.drills.saw(&shown.cluster, &drill, users);
        Ok(Response::new(v1::SawReply {}))
    }
}
