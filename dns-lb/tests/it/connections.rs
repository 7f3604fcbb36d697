//! TCP connections: pipelining, limits, and clients that hold on to what they have.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use dns_lb::Options;
use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;

use crate::support::{Running, options, query, records, update};

const PATIENCE: Duration = Duration::from_secs(20);

async fn with_server(options: Options, test: impl FnOnce(SocketAddr) + Send + 'static) {
    let server = Running::start(options).await;
    server.state.offer(update(7, records())).await;
    let address = server.address;
    tokio::task::spawn_blocking(move || test(address)).await.unwrap();
    server.stop().await;
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn framed(name: &str, kind: RecordType) -> Vec<u8> {
    let octets = query(name, kind).to_vec().unwrap();
    [&(octets.len() as u16).to_be_bytes(), &octets[..]].concat()
}

fn receive(stream: &mut TcpStream) -> std::io::Result<Message> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut reply = vec![0; u16::from_be_bytes(length) as usize];
    stream.read_exact(&mut reply)?;
    Ok(Message::from_vec(&reply).unwrap())
}

fn ask(stream: &mut TcpStream) -> std::io::Result<Message> {
    stream.write_all(&framed("ns1.fed.example.test.", RecordType::A))?;
    receive(stream)
}

/// Waits for the server's end of the connection.
fn closed(stream: &mut TcpStream) -> bool {
    loop {
        match stream.read(&mut [0; 4096]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::ConnectionReset,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_client_is_let_go_and_a_slow_one_too() {
    let options = Options { idle_timeout: Duration::from_millis(300), ..options() };
    with_server(options, |address| {
        let mut silent = connect(address);
        ask(&mut silent).unwrap();
        assert!(closed(&mut silent));
        // An octet at a time: each is a sign of life, and none finishes the query.
        let mut slow = connect(address);
        slow.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let (begun, mut sent) = (Instant::now(), 0);
        for octet in framed("ns1.fed.example.test.", RecordType::A).iter().cycle() {
            if slow.write_all(&[*octet]).is_err() {
                break;
            }
            sent += 1;
            match slow.read(&mut [0; 64]) {
                Ok(0) => break,
                Ok(_) => assert!(sent >= 40, "an answer before the query was whole"),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => break,
            }
            assert!(begun.elapsed() < PATIENCE, "it is still served");
        }
        assert!(sent < 40, "{sent} octets were taken");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_not_answered_on() {
    let options = Options { idle_timeout: Duration::from_millis(500), ..options() };
    with_server(options, |address| {
        let mut greedy = connect(address);
        let queries = framed("big.fed.example.test.", RecordType::AAAA).repeat(1000);
        let begun = Instant::now();
        // Some 2 kB of answer for each query: what the kernel buffers is soon full, and the server stops reading.
        while greedy.write_all(&queries).is_ok() {
            assert!(begun.elapsed() < PATIENCE, "the server takes ever more");
        }
        assert!(ask(&mut connect(address)).is_ok(), "others are served");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_has_a_share_of_the_connections_and_gets_it_back() {
    let options = Options { connections: 16, connections_per_client: 3, ..options() };
    with_server(options, |address| {
        let mut inside: Vec<TcpStream> = (0..3).map(|_| connect(address)).collect();
        for stream in &mut inside {
            ask(stream).unwrap();
        }
        assert!(ask(&mut connect(address)).is_err(), "a fourth is closed");
        for stream in &mut inside {
            ask(stream).unwrap();
        }
        inside.pop();
        let begun = Instant::now();
        while ask(&mut connect(address)).is_err() {
            assert!(begun.elapsed() < PATIENCE, "the place of who has left stays taken");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_house_lets_the_silent_go_soon() {
    // Alone a silent client would stay for 20 s.
    let options = Options { connections: 4, idle_timeout: Duration::from_millis(20_000), ..options() };
    with_server(options, |address| {
        let _silent: Vec<TcpStream> = (0..4).map(|_| connect(address)).collect();
        let begun = Instant::now();
        ask(&mut connect(address)).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    })
    .await;
}

/// Slow ones in all places, who come again when they are let go: others have their turn all the same.
#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_at_the_connection_limit_do_not_starve_others() {
    let options = Options { connections: 8, idle_timeout: Duration::from_millis(5_000), ..options() };
    with_server(options, |address| {
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..12 {
                scope.spawn(|| {
                    while !over.load(std::sync::atomic::Ordering::SeqCst) {
                        let Ok(mut slow) = TcpStream::connect(address) else { continue };
                        slow.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
                        // The length of a message that never comes.
                        let mut octets = [0, 200].iter().cycle();
                        while slow.write_all(&[*octets.next().unwrap()]).is_ok()
                            && !matches!(slow.read(&mut [0; 64]), Ok(0))
                            && !over.load(std::sync::atomic::Ordering::SeqCst)
                        {}
                    }
                });
            }
            let begun = Instant::now();
            for _ in 0..5 {
                while ask(&mut connect(address)).is_err() {
                    assert!(begun.elapsed() < PATIENCE, "the slow ones have every place");
                }
            }
            println!("5 answers in {:?}", begun.elapsed());
            over.store(true, std::sync::atomic::Ordering::SeqCst);
        });
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_before_a_shutdown_is_answered() {
    let server = Running::start(options()).await;
    server.state.offer(update(7, records())).await;
    let address = server.address;
    let mut stream = tokio::task::spawn_blocking(move || {
        let mut stream = connect(address);
        ask(&mut stream).unwrap();
        let queries = framed("big.fed.example.test.", RecordType::AAAA).repeat(50);
        stream.write_all(&queries).unwrap();
        stream
    })
    .await
    .unwrap();
    server.stop().await;
    tokio::task::spawn_blocking(move || {
        for _ in 0..50 {
            assert_eq!(receive(&mut stream).unwrap().answers.len(), 60);
        }
        assert!(closed(&mut stream));
    })
    .await
    .unwrap();
}
