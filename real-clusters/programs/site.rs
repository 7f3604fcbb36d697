//! The one program inside the test images, built as a static binary.
//!
//! `site pause` waits for ever and reaps nothing: a pod's sandbox. `site web` serves HTTP on $PORT (8080): `/` answers with
//! cluster, pod and node; `/ready` answers 200, or 503 once `/fail` was asked and until `/ok` is.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

static FAILED: AtomicBool = AtomicBool::new(false);

unsafe extern "C" {
    fn signal(number: i32, handler: usize) -> usize;
    fn _exit(status: i32) -> !;
}

extern "C" fn end(_: i32) {
    // SAFETY: _exit is async-signal-safe.
    unsafe { _exit(0) }
}

fn main() {
    // The first process of a container gets no default action for signals: it must handle them itself.
    // SAFETY: `end` is a valid handler that calls only async-signal-safe functions.
    unsafe {
        signal(15, end as *const () as usize);
        signal(2, end as *const () as usize);
    }
    if std::env::args().nth(1).as_deref() == Some("pause") {
        loop {
            std::thread::park();
        }
    }
    let port: u16 = std::env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080);
    let listener = TcpListener::bind(("0.0.0.0", port)).expect("the port is free in a pod's own namespace");
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || {
            let _ = serve(stream);
        });
    }
}

fn serve(stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let mut close = false;
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
                break;
            }
            close |= header.to_ascii_lowercase().starts_with("connection: close");
        }
        let path = request.split_whitespace().nth(1).unwrap_or("/");
        let (status, body) = match path {
            "/ready" if FAILED.load(Ordering::Relaxed) => {
                ("503 Service Unavailable", "not ready\n".to_owned())
            }
            "/ready" => ("200 OK", "ok\n".to_owned()),
            "/fail" | "/ok" => {
                FAILED.store(path == "/fail", Ordering::Relaxed);
                ("200 OK", "done\n".to_owned())
            }
            _ => ("200 OK", whoami()),
        };
        write!(
            writer,
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Type: text/plain\r\n\r\n{body}",
            body.len()
        )?;
        if close {
            return Ok(());
        }
    }
}

fn whoami() -> String {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    format!(
        "cluster={} pod={} node={} version={}\n",
        variable("CLUSTER"),
        variable("HOSTNAME"),
        variable("NODE"),
        variable("VERSION")
    )
}
