//! New versions take over from old ones, as processes, while clients ask.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use dns_lb::testing::hub::Disk;
use dns_lb::testing::takeover::Predecessor;
use hickory_proto::rr::RecordType;
use quinn::{ConnectionError, Endpoint, VarInt};
use tokio::time::timeout;

use crate::encrypted::{Files, HOST};
use crate::support::{Running, options, query, records, update};

const PATIENCE: Duration = Duration::from_secs(20);
const TAKEOVERS: usize = 10;

/// A dns-lb that is a process.
struct Process(Child);

impl Process {
    /// When it answers.
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("ready dns-lb"), "{line:?}");
        Self(child)
    }

    /// That it ends by itself, in order.
    fn ends(&mut self) {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.0.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the old one does not end");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(address: SocketAddr, directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dns-lb"));
    command.args(["--threads", "2", "--listen", &address.to_string(), "--data-dir"]).arg(directory);
    command
}

/// An address that is free for UDP and TCP.
fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// Asks over UDP, from ports that the kernel gives to both threads, one query each two milliseconds. Gives how many were sent, and how many of
/// them were not answered.
fn over_udp(address: SocketAddr, end: &AtomicBool) -> (usize, usize) {
    let sockets: Vec<UdpSocket> = (0..8)
        .map(|_| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(address).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        })
        .collect();
    let mut waiting = std::collections::HashSet::new();
    let mut sent = 0_usize;
    let hear = |waiting: &mut std::collections::HashSet<u16>| {
        let mut buffer = [0; 1500];
        for socket in &sockets {
            while let Ok(length) = socket.recv(&mut buffer) {
                assert!(
                    length > 12 && buffer[3].trailing_zeros() >= 4,
                    "an error: {:02x?}",
                    &buffer[..length]
                );
                waiting.remove(&u16::from_be_bytes([buffer[0], buffer[1]]));
            }
        }
    };
    let mut last = Instant::now();
    while !end.load(Relaxed) || last.elapsed() < Duration::from_secs(3) && !waiting.is_empty() {
        if !end.load(Relaxed) {
            let mut message = query("web.default.fed.example.test.", RecordType::A);
            message.metadata.id = sent as u16;
            sockets[sent % 8].send(&message.to_vec().unwrap()).unwrap();
            waiting.insert(sent as u16);
            sent += 1;
            last = Instant::now();
        }
        std::thread::sleep(Duration::from_millis(2));
        hear(&mut waiting);
    }
    (sent, waiting.len())
}

/// Asks over TCP, two queries by each of connection after connection, the second some time after the first. An error is a lost query.
fn over_tcp(address: SocketAddr, end: &AtomicBool) -> (usize, usize) {
    let (mut sent, mut lost) = (0, 0);
    while !end.load(Relaxed) {
        sent += 2;
        lost += usize::from(two_over_tcp(address).is_err());
    }
    (sent, lost)
}

/// Asks twice over one connection.
fn two_over_tcp(address: SocketAddr) -> std::io::Result<()> {
    let octets = query("web.default.fed.example.test.", RecordType::A).to_vec().unwrap();
    let framed = [&(octets.len() as u16).to_be_bytes(), &octets[..]].concat();
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    for pause in [0, 20] {
        std::thread::sleep(Duration::from_millis(pause));
        stream.write_all(&framed)?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        stream.read_exact(&mut vec![0; u16::from_be_bytes(length) as usize])?;
    }
    Ok(())
}

#[test]
fn ten_takeovers_lose_no_query() {
    let directory = tempfile::tempdir().unwrap();
    Disk::new(directory.path()).store(&update(7, records())).unwrap();
    let (address, path) = (free(), directory.path().join("takeover.sock"));
    let start = || {
        let mut command = command(address, directory.path());
        command.arg("--takeover").arg(&path);
        Process::start(command)
    };
    let mut serving = start();
    let end = Arc::new(AtomicBool::new(false));
    let clients = [over_udp, over_tcp, over_tcp].map(|client| {
        let end = end.clone();
        std::thread::spawn(move || client(address, &end))
    });
    for _ in 0..TAKEOVERS {
        let next = start();
        serving.ends();
        serving = next;
    }
    end.store(true, Relaxed);
    let [udp, tcp, more] = clients.map(|client| client.join().unwrap());
    println!("{TAKEOVERS} takeovers: {} queries over UDP, {} over TCP", udp.0, tcp.0 + more.0);
    assert!(udp.0 > 100 && tcp.0 > 20, "{udp:?} {tcp:?}");
    assert_eq!((udp.1, tcp.1, more.1), (0, 0, 0), "lost");
}

/// Asks over QUIC, by one connection after the other, each as long as it lasts, and counts those by which it was answered. Gives how connections
/// ended.
async fn over_quic(
    endpoint: Endpoint,
    address: SocketAddr,
    answering: Arc<AtomicUsize>,
    end: Arc<AtomicBool>,
) -> Vec<ConnectionError> {
    let mut message = query("web.default.fed.example.test.", RecordType::A);
    message.metadata.id = 0;
    let octets = message.to_vec().unwrap();
    let framed = [&(octets.len() as u16).to_be_bytes(), &octets[..]].concat();
    let mut ends = Vec::new();
    while !end.load(Relaxed) {
        // What was sent to the one that does not know of it is sent again.
        let connecting = endpoint.connect(address, HOST).unwrap();
        let connection = match timeout(PATIENCE, connecting).await.expect("nobody shakes hands") {
            Ok(connection) => connection,
            Err(error) => {
                ends.push(error);
                continue;
            }
        };
        let ask = || async {
            let (mut send, mut receive) = connection.open_bi().await.ok()?;
            send.write_all(&framed).await.ok()?;
            send.finish().ok()?;
            let reply = receive.read_to_end(1 << 16).await.ok()?;
            (reply.len() > 14 && reply[5].trailing_zeros() >= 4).then_some(())
        };
        let mut first = true;
        while !end.load(Relaxed) {
            if timeout(PATIENCE, ask()).await.expect("nobody answers").is_none() {
                ends.push(connection.closed().await);
                break;
            }
            answering.fetch_add(usize::from(std::mem::take(&mut first)), Relaxed);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    ends
}

#[tokio::test(flavor = "multi_thread")]
async fn quic_clients_are_told_to_go_and_are_answered_by_the_next_one() {
    const TAKEOVERS: usize = 3;
    let (directory, files) = (tempfile::tempdir().unwrap(), Files::new());
    Disk::new(directory.path()).store(&update(7, records())).unwrap();
    let (address, path) = (free(), directory.path().join("takeover.sock"));
    let doq = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let start = || {
        let mut command = command(address, directory.path());
        command.arg("--takeover").arg(&path).args(["--doq-listen", &doq.to_string()]);
        command.arg("--tls-cert").arg(files.certificate()).arg("--tls-key").arg(files.key());
        tokio::task::spawn_blocking(move || Process::start(command))
    };
    let mut serving = start().await.unwrap();
    let end = Arc::new(AtomicBool::new(false));
    let counts: [Arc<AtomicUsize>; 3] = Default::default();
    let clients =
        counts.clone().map(|answering| tokio::spawn(over_quic(files.quic(), doq, answering, end.clone())));
    // Each client is answered by one connection more than there were takeovers, at least.
    let answered = async |takeovers: usize| {
        let begun = Instant::now();
        while counts.iter().any(|count| count.load(Relaxed) <= takeovers) {
            assert!(begun.elapsed() < PATIENCE, "after {takeovers}: {counts:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        begun.elapsed()
    };
    answered(0).await;
    for takeover in 1..=TAKEOVERS {
        let next = start().await.unwrap();
        tokio::task::spawn_blocking(move || serving.ends()).await.unwrap();
        serving = next;
        println!(
            "takeover {takeover}: all are answered {:?} after the old one's end",
            answered(takeover).await
        );
    }
    end.store(true, Relaxed);
    for client in clients {
        let ends = client.await.unwrap();
        // DOQ_NO_ERROR (RFC 9250 section 4.3), each time.
        let in_order = |end: &ConnectionError| matches!(end, ConnectionError::ApplicationClosed(closed) if closed.error_code == VarInt::from_u32(0));
        assert!(ends.len() >= TAKEOVERS && ends.iter().all(in_order), "{ends:?}");
    }
}

#[test]
fn a_successor_that_cannot_serve_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    Disk::new(directory.path()).store(&update(7, records())).unwrap();
    let (address, path) = (free(), directory.path().join("takeover.sock"));
    let with = |more: &[&str]| {
        let mut command = command(address, directory.path());
        command.arg("--takeover").arg(&path).args(more);
        command
    };
    let mut serving = Process::start(with(&[]));
    let end = Arc::new(AtomicBool::new(false));
    let client = std::thread::spawn({
        let end = end.clone();
        move || over_udp(address, &end)
    });
    for _ in 0..3 {
        // It has the sockets already when it finds that there is no such database.
        let status = with(&["--geo-database", "/nowhere"]).stderr(Stdio::null()).status().unwrap();
        assert!(!status.success());
        assert!(serving.0.try_wait().unwrap().is_none(), "the old one has ended");
    }
    // And one that can is served as ever.
    let next = Process::start(with(&[]));
    serving.ends();
    end.store(true, Relaxed);
    let (sent, lost) = client.join().unwrap();
    assert!(sent > 20 && lost == 0, "{lost} of {sent}");
    drop(next);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_disk_is_behind_nobody_succeeds() {
    let directory = tempfile::tempdir().unwrap();
    let (path, whole) = (directory.path().join("takeover.sock"), directory.path().join("zones"));
    let options = dns_lb::Options {
        data_dir: Some(directory.path().into()),
        takeover: Some(path.clone()),
        ..options()
    };
    let server = Running::start(options).await;
    let meets = || {
        let path = path.clone();
        tokio::task::spawn_blocking(move || Predecessor::meet(&path).map(|met| met.is_some()))
    };
    // Nothing can be written where a directory is.
    std::fs::create_dir(&whole).unwrap();
    server.state.offer(update(7, records())).await;
    let start = Instant::now();
    while meets().await.unwrap().is_ok_and(|met| !met) {
        assert!(start.elapsed() < PATIENCE, "it does not listen");
    }
    assert!(meets().await.unwrap().is_err());
    std::fs::remove_dir(&whole).unwrap();
    server.state.offer(update(8, records())).await;
    assert!(meets().await.unwrap().unwrap());
    server.stop().await;
}

#[test]
fn sockets_of_systemd_are_answered_on() {
    let directory = tempfile::tempdir().unwrap();
    Disk::new(directory.path()).store(&update(7, records())).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let socket = UdpSocket::bind(address).unwrap();
    // Asked before anybody runs: the sockets keep it.
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send(&query("web.default.fed.example.test.", RecordType::A).to_vec().unwrap()).unwrap();
    // As systemd does: descriptors from 3 on, and LISTEN_PID of the process that is begun.
    let script = format!(
        "exec 30<&{} 31<&{}; exec 3<&30 4<&31 30<&- 31<&-; export LISTEN_FDS=2 LISTEN_PID=$$; exec \"$@\"",
        socket.as_raw_fd(),
        listener.as_raw_fd()
    );
    let mut shell = Command::new("bash");
    let served = command(address, directory.path());
    shell.args(["-c", &script, "bash"]).arg(served.get_program()).args(served.get_args());
    inherit(&mut shell, [socket.as_raw_fd(), listener.as_raw_fd()]);
    let process = Process::start(shell);
    let mut buffer = [0; 1500];
    assert!(client.recv(&mut buffer).unwrap() > 12);
    for number in 0..10 {
        assert!(two_over_tcp(address).is_ok(), "connection {number}");
    }
    drop(process);
}

/// Has the child keep these descriptors open.
#[allow(unsafe_code)]
fn inherit(command: &mut Command, descriptors: [i32; 2]) {
    // SAFETY: only fcntl is called between fork and exec, which is safe there (signal-safety(7)), on descriptors that are open.
    unsafe {
        command.pre_exec(move || {
            for descriptor in descriptors {
                libc::fcntl(descriptor, libc::F_SETFD, 0);
            }
            Ok(())
        });
    }
}
