//! Takes the streams of DNS servers in, by gRPC.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::time::Duration;

use futures::{Stream as Items, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use federation_runtime::tasks;
use proto::v1;

use super::Zones;
use crate::hub::identity;

/// Updates that wait for one dns-lb: one is enough, since a newer update contains the older one.
const UPDATES: usize = 1;
/// Streams of dns-lbs at once, those included that have not said Hello. A federation has a handful; each stream costs a copy of the zones in
/// flight.
pub(super) const STREAMS: usize = 256;
/// Time within which a dns-lb says Hello: it is the first thing that it sends. Streams without one must not keep the others out.
const HELLO: Duration = Duration::from_secs(10);

impl Zones {
    /// Takes one more stream in.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if there are [`STREAMS`] already.
    fn admit(&self, peer: Option<IpAddr>) -> Result<Admission, Status> {
        let permit = self.0.admissions.clone().try_acquire_owned();
        let permit = permit.map_err(|_| Status::resource_exhausted("too many DNS servers are connected"))?;
        Ok(Admission { peer, hello_within: HELLO, _permit: permit })
    }

    /// One stream: the newest zones whenever they change, until either side ends.
    async fn serve(
        self,
        mut inbound: impl Items<Item = Result<v1::DnsMessage, Status>> + Unpin,
        outbound: mpsc::Sender<Result<v1::ZoneUpdate, Status>>,
        identity: String,
        admission: Admission,
    ) {
        let mut stream = self.open(identity);
        let mut silent = pin!(tasks::sleep(admission.hello_within));
        // What is left to send of the last update. Messages are read meanwhile: a dns-lb that waits to send does not read either.
        let mut unsent: VecDeque<v1::ZoneUpdate> = VecDeque::new();
        loop {
            tokio::select! {
                () = self.0.shutdown.wait() => break,
                message = inbound.next() => match message {
                    Some(Ok(message)) => stream.said(message, admission.peer),
                    Some(Err(_)) | None => break,
                },
                () = &mut silent, if stream.base.is_none() => {
                    // An error means that the client is gone, too.
                    let _ = outbound.try_send(Err(Status::deadline_exceeded("no Hello came")));
                    break;
                }
                room = outbound.reserve(), if !unsent.is_empty() => {
                    let Ok(room) = room else { break };
                    if let Some(message) = unsent.pop_front() {
                        room.send(Ok(message));
                    }
                }
                // An update that has begun is sent to its end: pieces of two updates do not fit together.
                changed = stream.newest.changed(), if stream.base.is_some() && unsent.is_empty() => {
                    if changed.is_err() {
                        break;
                    }
                    stream.newest.mark_changed();
                    if let Some(update) = stream.next() {
                        unsent = stream.messages(update).into();
                    }
                }
            }
        }
    }
}

/// A stream that was let in.
struct Admission {
    // Whom it comes from.
    peer: Option<IpAddr>,
    hello_within: Duration,
    _permit: OwnedSemaphorePermit,
}

#[tonic::async_trait]
impl v1::zones_server::Zones for Zones {
    type WatchStream = Pin<Box<dyn Items<Item = Result<v1::ZoneUpdate, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<Streaming<v1::DnsMessage>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let peer = identity::peer(&request)?;
        let subject = identity::dns(&peer)?;
        let admission = self.admit(request.remote_addr().map(|address| address.ip()))?;
        let (sender, receiver) = mpsc::channel(UPDATES);
        tokio::spawn(self.clone().serve(request.into_inner(), sender, subject.user, admission));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::zones::stream::tests::large;
    use crate::testing;

    #[tokio::test]
    async fn streams_count_from_the_first_moment_and_not_only_when_they_have_said_hello() {
        let zones = testing::machine().await.zones;
        let mut streams: Vec<Admission> =
            (0..STREAMS).map(|_| zones.admit(None).expect("there is room")).collect();
        let refused = zones.admit(None).err().expect("there is none");
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        streams.pop();
        assert!(zones.admit(None).is_ok(), "one has ended");
    }

    #[tokio::test]
    async fn a_stream_that_says_no_hello_is_ended_and_makes_room() {
        let zones = testing::machine().await.zones.clone();
        let admission =
            zones.admit(None).map(|admitted| Admission { hello_within: Duration::ZERO, ..admitted });
        let (sender, mut receiver) = mpsc::channel(UPDATES);
        let silent = futures::stream::pending();
        zones.clone().serve(silent, sender, "dns".into(), admission.expect("there is room")).await;
        let ended = receiver.recv().await.expect("it is told").expect_err("why it ends");
        assert_eq!(ended.code(), tonic::Code::DeadlineExceeded);
        assert_eq!(zones.0.admissions.available_permits(), STREAMS);
    }

    fn message(message: v1::dns_message::Message) -> v1::DnsMessage {
        v1::DnsMessage { message: Some(message) }
    }

    #[tokio::test]
    async fn a_dns_server_is_heard_while_it_does_not_read_and_a_shutdown_waits_for_none() {
        let machine = testing::machine().await;
        let zones = machine.zones.clone();
        zones.publish(large(7));
        let (votes, inbound) = mpsc::channel(1);
        let (outbound, mut pieces) = mpsc::channel(UPDATES);
        let admission = zones.admit(None).expect("there is room");
        let serving = tokio::spawn(zones.clone().serve(
            ReceiverStream::new(inbound),
            outbound,
            "dns".into(),
            admission,
        ));
        let hello = v1::DnsHello { instance: "a".into(), pieces: true, ..v1::DnsHello::default() };
        votes.send(Ok(message(v1::dns_message::Message::Hello(hello)))).await.expect("it is open");
        // It reads nothing before all of its votes are taken, and then one piece of several.
        let heard = async {
            for _ in 0..100 {
                let vote = v1::dns_message::Message::Votes(v1::ProbeVotes::default());
                votes.send(Ok(message(vote))).await.expect("it is open");
            }
            let piece = pieces.recv().await.expect("it is open").expect("a piece");
            assert!(piece.more, "there are several");
            votes.send(Ok(message(v1::dns_message::Message::Served(v1::ZoneServed { epoch: 3 })))).await
        };
        let heard = tokio::time::timeout(Duration::from_secs(20), heard).await;
        heard.expect("the hub reads although its pieces are not read").expect("it is open");
        testing::until(|| zones.status().servers.first().is_some_and(|server| server.epoch == 3)).await;
        // The next piece waits now for a dns-lb that has stopped reading.
        zones.0.shutdown.start();
        let ended = tokio::time::timeout(Duration::from_secs(20), serving).await;
        ended.expect("it ends although pieces are left").expect("it does not panic");
    }
}
