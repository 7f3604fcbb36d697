//! Users against a DNS server and web servers of a few lines.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use web_users::{Fetch, Site, Step};

/// Answers every question with 127.0.0.N and a TTL of a second.
async fn dns(last: Arc<AtomicU8>) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has ports");
    let address = socket.local_addr().expect("it is bound");
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let mut message = Message::from_vec(&buffer[..length]).expect("a resolver sends messages");
            let name = message.queries[0].name().clone();
            let data = RData::A(A(Ipv4Addr::new(127, 0, 0, last.load(Ordering::SeqCst))));
            message.metadata.message_type = MessageType::Response;
            message.add_answer(Record::from_rdata(name, 1, data));
            let bytes = message.to_vec().expect("it is small");
            socket.send_to(&bytes, from).await.expect("loopback takes it");
        }
    });
    address
}

async fn web(listener: TcpListener, answer: &'static str) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut request = [0; 1024];
        // What the user does with it is for the user to say.
        let _ = stream.read(&mut request).await;
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}

async fn until(fetches: &mut mpsc::UnboundedReceiver<Fetch>, what: &str, holds: impl Fn(&Fetch) -> bool) {
    let wait = async {
        while let Some(fetch) = fetches.recv().await {
            if holds(&fetch) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect(what);
}

#[tokio::test]
async fn users_follow_the_name_and_say_which_step_failed() {
    let last = Arc::new(AtomicU8::new(1));
    let good = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has ports");
    let port = good.local_addr().expect("it is bound").port();
    let bad = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), port)).await.expect("another address is free");
    tokio::spawn(web(good, "HTTP/1.1 200 OK\r\n\r\nhello"));
    tokio::spawn(web(bad, "HTTP/1.1 503 Service Unavailable\r\n\r\n"));
    let site = Site {
        dns: dns(last.clone()).await,
        name: Name::from_ascii("web.example.test.").expect("a name"),
        port,
        ports: [(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), port)].into(),
        path: "/".into(),
    };
    let (sender, mut fetches) = mpsc::unbounded_channel();
    let seen = Arc::new(move |fetch: Fetch| {
        // The test has ended.
        let _ = sender.send(fetch);
    });
    let stop = CancellationToken::new();
    web_users::start(3, &site, Duration::from_millis(20), seen, &stop);
    until(&mut fetches, "a page comes", |fetch| {
        fetch.outcome.as_ref().is_ok_and(|page| page.text.ends_with("hello") && page.address.is_loopback())
    })
    .await;
    last.store(2, Ordering::SeqCst);
    until(&mut fetches, "the second server's refusal is told", |fetch| {
        fetch.outcome.as_ref().is_err_and(|failure| {
            failure.step == Step::Fetch && failure.message.contains("503 Service Unavailable")
        })
    })
    .await;
    last.store(3, Ordering::SeqCst);
    until(&mut fetches, "that nobody is there is told", |fetch| {
        fetch.outcome.as_ref().is_err_and(|failure| failure.step == Step::Connect)
    })
    .await;
    stop.cancel();
    until(&mut fetches, "the users stop", |_| false).await;
}
