//! A client that has shown one DNS server who it is has shown them all.

use std::net::SocketAddr;
use std::process::Command;

use crate::federation::{Federation, Settings, until};

/// The cookie of an answer to a query with this one, or with a client's half alone.
fn cookie(server: SocketAddr, with: &str) -> Option<String> {
    let output = Command::new("dig")
        .args([&format!("@{}", server.ip()), "-p", &server.port().to_string()])
        .args(["+tries=1", "+time=2", &format!("+cookie={with}"), "fed.example.test.", "SOA"])
        .output()
        .expect("dig: apt-get install bind9-dnsutils");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = text.lines().find_map(|line| line.strip_prefix("; COOKIE: "))?;
    Some(told.split(' ').next()?.to_owned()).filter(|_| text.contains("status: NOERROR"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cookie_of_one_server_is_good_at_the_other() {
    let federation = Federation::start(Settings::default()).await;
    let (one, other) = (federation.dns().await, federation.dns().await);
    until("the servers give the same cookie", || async {
        let first = cookie(one, "0123456789abcdef")?;
        // A good one comes back as it was.
        (first.len() == 48 && cookie(other, &first)? == first).then_some(())
    })
    .await;
}
