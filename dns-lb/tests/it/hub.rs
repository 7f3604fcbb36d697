//! A hub of gRPC over mutual TLS, and a dns-lb that watches it.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use federation_runtime::pki::Authority;
use federation_runtime::pki::Subject;
use parking_lot::Mutex;
use proto::v1;
use proto::v1::zones_server::{Zones, ZonesServer};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use crate::support::{Running, options, records, update};

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone)]
struct Hub {
    zones: watch::Receiver<v1::ZoneUpdate>,
    hellos: mpsc::Sender<v1::DnsHello>,
    served: mpsc::Sender<u64>,
    end: Arc<Mutex<tokio_util::sync::CancellationToken>>,
}

#[tonic::async_trait]
impl Zones for Hub {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::ZoneUpdate, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<Streaming<v1::DnsMessage>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let mut messages = request.into_inner();
        let (sender, receiver) = mpsc::channel(4);
        let (mut zones, hellos, served) = (self.zones.clone(), self.hellos.clone(), self.served.clone());
        let end = self.end.lock().clone();
        tokio::spawn(async move {
            zones.mark_changed();
            loop {
                tokio::select! {
                    () = end.cancelled() => return,
                    changed = zones.changed() => {
                        let update = zones.borrow().clone();
                        // Every second one as if it were a large one.
                        let piece = if update.epoch % 2 == 0 { 100 } else { usize::MAX };
                        if changed.is_err() {
                            return;
                        }
                        for message in hub_protocol::zones::cut(update, piece) {
                            if sender.send(Ok(message)).await.is_err() {
                                return;
                            }
                        }
                    }
                    message = messages.message() => match message {
                        Ok(Some(v1::DnsMessage { message: Some(message) })) => match message {
                            v1::dns_message::Message::Votes(_) => {}
                            v1::dns_message::Message::Hello(hello) => hellos.send(hello).await.unwrap(),
                            v1::dns_message::Message::Served(done) => served.send(done.epoch).await.unwrap(),
                        },
                        _ => return,
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn zones_come_from_the_hub_and_stay_when_it_goes() {
    let pki = tempfile::tempdir().unwrap();
    let data = tempfile::tempdir().unwrap();
    let authority = Authority::load_or_create(pki.path()).unwrap();
    let life = Duration::from_secs(3600);
    let subject = Subject::dns();
    authority.issue(&subject, &[], life).unwrap().store(pki.path(), "dns-lb").unwrap();
    let own = authority.issue(&Subject::controller(), &["federation-hub".into()], life).unwrap();

    let (zones, receiver) = watch::channel(update(7, records()));
    let (hello, mut hellos) = mpsc::channel(8);
    let (ack, mut served) = mpsc::channel(8);
    let end = Arc::new(Mutex::new(tokio_util::sync::CancellationToken::new()));
    let hub = Hub { zones: receiver, hellos: hello, served: ack, end: end.clone() };
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(&own.certificate_pem, &own.key_pem))
        .client_ca_root(Certificate::from_pem(&authority.certificate_pem));
    let hub_task = tokio::spawn(
        Server::builder()
            .tls_config(tls)
            .unwrap()
            .add_service(ZonesServer::new(hub))
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );

    let options = || dns_lb::Options {
        hub: Some(address.to_string()),
        pki: Some(pki.path().into()),
        data_dir: Some(data.path().into()),
        instance: "dns-1".into(),
        stale_after: Duration::ZERO,
        ..options()
    };
    let server = Running::start(options()).await;
    let first = tokio::time::timeout(PATIENCE, hellos.recv()).await.unwrap().unwrap();
    assert_eq!((first.instance.as_str(), first.epoch, first.pieces), ("dns-1", 0, true));
    assert_eq!(tokio::time::timeout(PATIENCE, served.recv()).await.unwrap(), Some(7));
    assert!(server.health.is_ready());
    zones.send(update(8, records())).unwrap();
    assert_eq!(tokio::time::timeout(PATIENCE, served.recv()).await.unwrap(), Some(8));
    // An older epoch is not acknowledged: the next that is, is the newer one.
    zones.send(update(5, records())).unwrap();
    zones.send(update(9, records())).unwrap();
    assert_eq!(tokio::time::timeout(PATIENCE, served.recv()).await.unwrap(), Some(9));

    // A change of what it has; and one of what it does not have, at which it asks for everything.
    let change =
        |from, to| hub_protocol::zones::change(&update(from, records()), &update(to, records())).unwrap();
    zones.send(change(9, 10)).unwrap();
    assert_eq!(tokio::time::timeout(PATIENCE, served.recv()).await.unwrap(), Some(10));
    zones.send(change(11, 12)).unwrap();
    let resync = tokio::time::timeout(PATIENCE, hellos.recv()).await.unwrap().unwrap();
    assert_eq!((resync.epoch, resync.changes), (0, true));
    zones.send(update(12, records())).unwrap();
    assert_eq!(tokio::time::timeout(PATIENCE, served.recv()).await.unwrap(), Some(12));

    // The stream ends: it is watched again, with what is served in the hello.
    let next = tokio_util::sync::CancellationToken::new();
    std::mem::replace(&mut *end.lock(), next).cancel();
    let again = tokio::time::timeout(PATIENCE, hellos.recv()).await.unwrap().unwrap();
    assert_eq!((again.epoch, again.incarnation.as_str()), (12, "store-1"));
    assert_eq!(tokio::time::timeout(PATIENCE, served.recv()).await.unwrap(), Some(12));

    // The hub is gone, and dns-lb starts anew: the disk answers, and says that it is old news.
    hub_task.abort();
    server.stop().await;
    let server = Running::start(options()).await;
    assert!(server.health.is_ready());
    assert_eq!(server.state.served().0, 12);
    tokio::time::timeout(PATIENCE, async {
        while !server.state.published().snapshot().stale {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    server.stop().await;
}
