//! (l) DNS from outside: right answers, and packets that are no questions.

use std::net::UdpSocket;
use std::time::Duration;

use anyhow::Result;
use federation_tests::{Federation, Settings, ZONE};

use crate::World;

/// A small generator of its own, so that a failure can be repeated: splitmix64.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[test]
fn dig_gets_right_answers_over_udp_and_tcp() -> Result<()> {
    let world = World::joined("dig")?;
    let user = world.federation.user();
    for transport in ["+notcp", "+tcp"] {
        let soa = user.dig(&[ZONE, "SOA", transport])?;
        assert!(soa.contains("status: NOERROR") && soa.contains(" aa"), "{soa}");
        assert!(soa.contains("SOA"), "{soa}");
        let missing = user.dig(&[&format!("nothing.{ZONE}"), "A", transport])?;
        assert!(missing.contains("status: NXDOMAIN"), "{missing}");
        assert!(missing.contains("SOA"), "negative answers carry the SOA (RFC 2308): {missing}");
        let no_data = user.dig(&[ZONE, "TXT", transport])?;
        assert!(no_data.contains("status: NOERROR") && no_data.contains("ANSWER: 0"), "{no_data}");
        let outside = user.dig(&["example.com", "A", transport])?;
        assert!(outside.contains("status: REFUSED"), "{outside}");
    }
    Ok(())
}

#[test]
fn packets_that_are_no_questions_do_not_hurt() -> Result<()> {
    let mut federation = Federation::start_on("127.0.0.1", &Settings::default())?;
    let seed = u64::from(std::process::id());
    eprintln!("  seed {seed}");
    let mut noise = Noise(seed);
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(federation.dns_listen)?;
    // A question for the zone's SOA, to be spoilt.
    let mut question = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in ZONE.split('.') {
        question.push(label.len() as u8);
        question.extend_from_slice(label.as_bytes());
    }
    question.extend_from_slice(&[0, 0, 6, 0, 1]);
    for round in 0..5000u32 {
        let packet: Vec<u8> = match round % 4 {
            0 => (0..noise.next() % 600).map(|_| noise.next() as u8).collect(),
            1 => question.iter().take((noise.next() as usize) % question.len()).copied().collect(),
            2 => {
                let mut spoilt = question.clone();
                for _ in 0..=noise.next() % 4 {
                    let at = (noise.next() as usize) % spoilt.len();
                    spoilt[at] = noise.next() as u8;
                }
                spoilt
            }
            // A name that points at itself (RFC 1035, section 4.1.4).
            _ => {
                let mut looped = question[..12].to_vec();
                looped.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1]);
                looped
            }
        };
        // A full socket buffer is no failure.
        let _ = socket.send(&packet);
        if round % 64 == 0 {
            // What was sent so far has been read once a question after it is answered.
            answered(federation.dns_listen, &question)?;
        }
    }
    answered(federation.dns_listen, &question)?;
    assert!(federation.process().ended()?.is_none());
    assert!(!federation.process().log().contains("panicked"), "{}", federation.process().log());
    Ok(())
}

fn answered(server: std::net::SocketAddr, question: &[u8]) -> Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let mut answer = [0; 1500];
    for _ in 0..10 {
        socket.send(question)?;
        if let Ok(length) = socket.recv(&mut answer)
            && length > question.len()
        {
            return Ok(());
        }
    }
    anyhow::bail!("no answer to a plain question")
}
