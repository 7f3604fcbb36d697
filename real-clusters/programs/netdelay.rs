//! A point-to-point link between two network namespaces with delay, jitter, loss, rate and a cut switch: for kernels
//! without netem. Std only, built with plain rustc.
//!
//!   netdelay --a wan:tw0 --b taiwan:wan0 --delay-ms 17.5 [--jitter-ms 0] [--loss 0] [--rate-mbit 0] [--ctl SOCKET]
//!
//! Makes TUN device tw0 in netns `wan` and wan0 in netns `taiwan` (the name `-` means the namespace it was started in), and
//! carries IP packets between them. --delay-ms is one way. On --ctl (a unix stream socket) it takes lines: delay-ms 40 |
//! jitter-ms 5 | loss 10 | rate-mbit 20 | cut | heal | stats, and answers each with its settings and counters. The devices
//! vanish when it ends.

use std::collections::VecDeque;
use std::ffi::CString;
use std::io::{BufRead, BufReader, Write};
use std::os::raw::{c_char, c_int, c_short, c_ulong, c_void};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

unsafe extern "C" {
    fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    fn ioctl(fd: c_int, req: c_ulong, ...) -> c_int;
    fn setns(fd: c_int, kind: c_int) -> c_int;
    fn read(fd: c_int, buf: *mut c_void, n: usize) -> isize;
    fn write(fd: c_int, buf: *const c_void, n: usize) -> isize;
    fn prctl(op: c_int, ...) -> c_int;
}
const O_RDWR: c_int = 2;
const O_RDONLY: c_int = 0;
const CLONE_NEWNET: c_int = 0x4000_0000;
const TUNSETIFF: c_ulong = 0x4004_54ca;
const IFF_TUN: c_short = 1;
const IFF_NO_PI: c_short = 0x1000;
const PR_SET_TIMERSLACK: c_int = 29;

#[repr(C)]
struct IfReq {
    name: [u8; 16],
    flags: c_short,
    pad: [u8; 22],
}

#[derive(Default)]
struct Set {
    delay_us: AtomicU64,
    jitter_us: AtomicU64,
    loss_ppm: AtomicU64,
    rate_bps: AtomicU64,
    cut: AtomicBool,
    sent: [AtomicU64; 2],
    dropped: [AtomicU64; 2],
}

fn fail(what: &str) -> ! {
    eprintln!("netdelay: {}: {}", what, std::io::Error::last_os_error());
    std::process::exit(1)
}

fn c(s: &str) -> CString {
    CString::new(s).unwrap()
}

// A TUN device belongs to the namespace its fd was opened in, so enter, open, and come back.
fn tun(ns: &str, dev: &str) -> c_int {
    unsafe {
        let home = open(c("/proc/thread-self/ns/net").as_ptr(), O_RDONLY);
        if ns != "-" {
            let f = open(c(&format!("/run/netns/{}", ns)).as_ptr(), O_RDONLY);
            if f < 0 || setns(f, CLONE_NEWNET) != 0 {
                fail(&format!("enter netns {}", ns))
            }
        }
        let fd = open(c("/dev/net/tun").as_ptr(), O_RDWR);
        if fd < 0 {
            fail("open /dev/net/tun")
        }
        let mut r = IfReq { name: [0; 16], flags: IFF_TUN | IFF_NO_PI, pad: [0; 22] };
        r.name[..dev.len()].copy_from_slice(dev.as_bytes());
        if ioctl(fd, TUNSETIFF, &mut r as *mut IfReq) != 0 {
            fail(&format!("TUNSETIFF {}", dev))
        }
        if ns != "-" && setns(home, CLONE_NEWNET) != 0 {
            fail("return to own netns")
        }
        fd
    }
}

fn rnd(s: &mut u64) -> u64 {
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    *s
}

fn pump(dir: usize, from: c_int, to: c_int, set: Arc<Set>) {
    const CAP: usize = 20_000; // packets in flight
    let q: Arc<(Mutex<VecDeque<(Instant, Vec<u8>)>>, Condvar)> =
        Arc::new((Mutex::new(VecDeque::new()), Condvar::new()));
    let (q2, set2) = (q.clone(), set.clone());
    std::thread::spawn(move || {
        unsafe { prctl(PR_SET_TIMERSLACK, 1 as c_ulong) };
        loop {
            let (due, pkt) = {
                let mut g = q2.0.lock().unwrap();
                loop {
                    if let Some(x) = g.pop_front() {
                        break x;
                    }
                    g = q2.1.wait(g).unwrap();
                }
            };
            let now = Instant::now();
            if due > now {
                std::thread::sleep(due - now)
            }
            if set2.cut.load(Relaxed) {
                set2.dropped[dir].fetch_add(1, Relaxed);
                continue;
            } // what is in flight is lost too
            let n = unsafe { write(to, pkt.as_ptr() as *const c_void, pkt.len()) };
            if n >= 0 {
                set2.sent[dir].fetch_add(1, Relaxed);
            } else {
                set2.dropped[dir].fetch_add(1, Relaxed);
            }
        }
    });
    std::thread::spawn(move || {
        let mut buf = vec![0u8; 65536];
        let mut seed = 0x9E37_79B9_7F4A_7C15u64 ^ ((dir as u64 + 1) << 32) ^ std::process::id() as u64;
        let (mut last, mut free) = (Instant::now(), Instant::now());
        loop {
            let n = unsafe { read(from, buf.as_mut_ptr() as *mut c_void, buf.len()) };
            if n < 0 {
                // EIO/EBADFD while the device is down
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            let now = Instant::now();
            if set.cut.load(Relaxed) || rnd(&mut seed) % 1_000_000 < set.loss_ppm.load(Relaxed) {
                set.dropped[dir].fetch_add(1, Relaxed);
                continue;
            }
            let mut at = now;
            let bps = set.rate_bps.load(Relaxed);
            if bps > 0 {
                if free < now {
                    free = now
                }
                free += Duration::from_nanos(n as u64 * 8 * 1_000_000_000 / bps);
                at = free;
            }
            let j = set.jitter_us.load(Relaxed);
            let mut d = set.delay_us.load(Relaxed);
            if j > 0 {
                d = (d + rnd(&mut seed) % (2 * j + 1)).saturating_sub(j)
            }
            let mut due = at + Duration::from_micros(d);
            if due < last {
                due = last
            } // keep the order
            last = due;
            let mut g = q.0.lock().unwrap();
            if g.len() >= CAP {
                set.dropped[dir].fetch_add(1, Relaxed);
                continue;
            }
            g.push_back((due, buf[..n as usize].to_vec()));
            q.1.notify_one();
        }
    });
}

fn apply(set: &Set, k: &str, v: f64) -> bool {
    match k {
        "delay-ms" => set.delay_us.store((v * 1000.0) as u64, Relaxed),
        "jitter-ms" => set.jitter_us.store((v * 1000.0) as u64, Relaxed),
        "loss" => set.loss_ppm.store((v * 10_000.0) as u64, Relaxed),
        "rate-mbit" => set.rate_bps.store((v * 1e6) as u64, Relaxed),
        "cut" => set.cut.store(true, Relaxed),
        "heal" => set.cut.store(false, Relaxed),
        "stats" => {}
        _ => return false,
    }
    true
}

fn main() {
    let set = Arc::new(Set::default());
    let (mut a, mut b, mut ctl) = (String::new(), String::new(), String::new());
    let mut it = std::env::args().skip(1);
    while let Some(k) = it.next() {
        let v = it.next().unwrap_or_default();
        match k.trim_start_matches("--") {
            "a" => a = v,
            "b" => b = v,
            "ctl" => ctl = v,
            k => {
                if !apply(&set, k, v.parse().unwrap_or(0.0)) {
                    eprintln!("netdelay: unknown flag {}", k);
                    std::process::exit(2)
                }
            }
        }
    }
    let part = |s: &str| {
        s.split_once(':').map(|(x, y)| (x.to_string(), y.to_string())).unwrap_or_else(|| {
            eprintln!("netdelay: want NETNS:DEV");
            std::process::exit(2)
        })
    };
    let ((na, da), (nb, db)) = (part(&a), part(&b));
    let (fa, fb) = (tun(&na, &da), tun(&nb, &db));
    pump(0, fa, fb, set.clone());
    pump(1, fb, fa, set.clone());
    if ctl.is_empty() {
        loop {
            std::thread::park()
        }
    }
    let _ = std::fs::remove_file(&ctl);
    let l = UnixListener::bind(&ctl).unwrap_or_else(|e| {
        eprintln!("netdelay: {}: {}", ctl, e);
        std::process::exit(1)
    });
    for s in l.incoming().flatten() {
        let mut w = match s.try_clone() {
            Ok(w) => w,
            Err(_) => continue,
        };
        for line in BufReader::new(s).lines().map_while(Result::ok) {
            let mut f = line.split_whitespace();
            let (k, v) = (f.next().unwrap_or(""), f.next().and_then(|v| v.parse().ok()).unwrap_or(0.0));
            let ok = apply(&set, k, v);
            let _ = writeln!(
                w,
                "{} delay-ms={} jitter-ms={} loss={} rate-mbit={} cut={} a-to-b={}/{} b-to-a={}/{}",
                if ok { "ok" } else { "what?" },
                set.delay_us.load(Relaxed) as f64 / 1000.0,
                set.jitter_us.load(Relaxed) as f64 / 1000.0,
                set.loss_ppm.load(Relaxed) as f64 / 10_000.0,
                set.rate_bps.load(Relaxed) as f64 / 1e6,
                set.cut.load(Relaxed),
                set.sent[0].load(Relaxed),
                set.dropped[0].load(Relaxed),
                set.sent[1].load(Relaxed),
                set.dropped[1].load(Relaxed)
            );
        }
    }
}
