//! DNS cookies (RFC 7873), with the server cookies that RFC 9018 makes the same on all servers of a name.

use std::net::IpAddr;

/// Seconds for which a server cookie is good (RFC 9018 section 4.3).
const GOOD: u32 = 3600;
/// Seconds that a server cookie may be ahead of this server's clock (RFC 9018 section 4.3).
const AHEAD: u32 = 300;
/// Seconds after which a good server cookie is made anew (RFC 9018 section 4.3).
const FRESH: u32 = 1800;

/// A query's COOKIE option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// The client's part, sent back as it is.
    pub client: [u8; 8],
    /// The server's part, if it has the form of ours.
    pub server: Option<[u8; 16]>,
}

/// Secrets of server cookies: the first makes them, all are accepted, so that they can be rolled in stages (RFC 9018 section 5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets(pub Vec<[u8; 16]>);

/// What becomes of a query's cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Whether the client has shown that it receives what is sent to its address.
    pub known: bool,
    /// The server's part of the answer's cookie.
    pub server: [u8; 16],
}

impl Cookie {
    /// Reads the option's data. None: malformed (RFC 7873 section 5.2.2).
    #[inline]
    pub fn read(data: &[u8]) -> Option<Self> {
        let (client, server) = data.split_first_chunk::<8>()?;
        match server.len() {
            0 | 8..=32 => Some(Self { client: *client, server: server.try_into().ok() }),
            _ => None,
        }
    }

    /// Checks the server's part, at `now` (seconds since 1970), for a client at `address`. None: there is no secret.
    #[inline]
    pub fn check(&self, secrets: &Secrets, address: IpAddr, now: u32) -> Option<Checked> {
        let newest = secrets.0.first()?;
        if let Some(server) = self.server {
            let [version, _, _, _, t1, t2, t3, t4, hash @ ..] = server;
            // RFC 1982 arithmetic: the clock goes round in 2106.
            let age = now.wrapping_sub(u32::from_be_bytes([t1, t2, t3, t4]));
            let timely = age <= GOOD || age.wrapping_neg() <= AHEAD;
            let made = |secret: &[u8; 16]| self.hash(secret, address, server.first_chunk()) == hash;
            if version == 1 && timely && secrets.0.iter().any(made) {
                let young = age <= FRESH || age > GOOD;
                let server = if young && made(newest) { server } else { self.make(newest, address, now) };
                return Some(Checked { known: true, server });
            }
        }
        Some(Checked { known: false, server: self.make(newest, address, now) })
    }

    #[inline]
    fn make(&self, secret: &[u8; 16], address: IpAddr, now: u32) -> [u8; 16] {
        let mut server = [0; 16];
        server[0] = 1;
        server[4..8].copy_from_slice(&now.to_be_bytes());
        let hash = self.hash(secret, address, server.first_chunk());
        server[8..].copy_from_slice(&hash);
        server
    }

    // Of client cookie, version, reserved, timestamp and address (RFC 9018 section 4.4).
    #[inline]
    fn hash(&self, secret: &[u8; 16], address: IpAddr, head: Option<&[u8; 8]>) -> [u8; 8] {
        let mut input = [0; 32];
        input[..8].copy_from_slice(&self.client);
        input[8..16].copy_from_slice(head.unwrap_or(&[0; 8]));
        let length = match address {
            IpAddr::V4(v4) => {
                input[16..20].copy_from_slice(&v4.octets());
                20
            }
            IpAddr::V6(v6) => {
                input[16..].copy_from_slice(&v6.octets());
                32
            }
        };
        siphash(secret, &input[..length]).to_le_bytes()
    }
}

/// SipHash-2-4 (Aumasson and Bernstein 2012).
#[inline]
fn siphash(key: &[u8; 16], message: &[u8]) -> u64 {
    let word = |octets: &[u8]| octets.iter().rev().fold(0_u64, |word, &octet| word << 8 | u64::from(octet));
    let (k0, k1) = (word(&key[..8]), word(&key[8..]));
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let (chunks, rest) = message.as_chunks::<8>();
    let last = (message.len() as u64) << 56 | word(rest);
    for m in chunks.iter().map(|chunk| u64::from_le_bytes(*chunk)).chain([last]) {
        v[3] ^= m;
        round(&mut v);
        round(&mut v);
        v[0] ^= m;
    }
    v[2] ^= 0xff;
    for _ in 0..4 {
        round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

#[inline]
fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn octets(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn secrets(hex: &[&str]) -> Secrets {
        Secrets(hex.iter().map(|hex| octets(hex).try_into().unwrap()).collect())
    }

    const SECRET: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";

    #[test]
    fn siphash_is_the_papers() {
        let key: [u8; 16] = std::array::from_fn(|n| n as u8);
        let message: Vec<u8> = (0..15).collect();
        assert_eq!(siphash(&key, &message), 0xa129_ca61_49be_45e5);
        assert_eq!(siphash(&key, &[]).to_le_bytes().to_vec(), octets("310e0edd47db6f72"));
    }

    /// RFC 9018 appendix A.
    #[test]
    fn cookies_are_those_of_the_rfc() {
        let (old, new) = ("dd3bdf9344b678b185a6f5cb60fca715", "445536bcd2513298075a5d379663c962");
        for (secret, address, now, query, known, answer) in [
            (
                vec![SECRET],
                "198.51.100.100",
                1_559_731_985,
                "2464c4abcf10c957",
                false,
                "010000005cf79f111f8130c3eee29480",
            ),
            (
                vec![SECRET],
                "198.51.100.100",
                1_559_734_385,
                "2464c4abcf10c957010000005cf79f111f8130c3eee29480",
                true,
                "010000005cf7a871d4a564a1442aca77",
            ),
            (
                vec![new, old],
                "2001:db8:220:1:59de:d0f4:8769:82b8",
                1_559_741_961,
                "22681ab97d52c298010000005cf7c57926556bd0934c72f8",
                true,
                "010000005cf7c609a6bb79d16625507a",
            ),
        ] {
            let cookie = Cookie::read(&octets(query)).unwrap();
            let checked = cookie.check(&secrets(&secret), address.parse().unwrap(), now).unwrap();
            assert_eq!((checked.known, checked.server.to_vec()), (known, octets(answer)), "{query}");
        }
    }

    #[test]
    fn a_cookie_is_good_for_its_client_and_its_hour_only() {
        const MADE: u32 = 1_559_731_985;
        let (whole, address) = ("2464c4abcf10c957010000005cf79f111f8130c3eee29480", "198.51.100.100");
        let known = |octets: &[u8], secret: &str, address: &str, now: u32| {
            let cookie = Cookie::read(octets).unwrap();
            cookie.check(&secrets(&[secret]), address.parse().unwrap(), now).unwrap().known
        };
        let good = octets(whole);
        for now in [MADE, MADE + 3600, MADE - 300] {
            assert!(known(&good, SECRET, address, now));
        }
        for now in [MADE + 3601, MADE - 301] {
            assert!(!known(&good, SECRET, address, now));
        }
        assert!(!known(&good, SECRET, "198.51.100.101", MADE));
        assert!(!known(&good, "00000000000000000000000000000000", address, MADE));
        for at in 0..good.len() {
            let mut other = good.clone();
            other[at] ^= 1;
            assert!(!known(&other, SECRET, address, MADE), "octet {at}");
        }
        assert_eq!(
            Cookie::read(&good).unwrap().check(&Secrets::default(), [192, 0, 2, 1].into(), MADE),
            None
        );
        for malformed in [0, 7, 9, 15, 41] {
            assert_eq!(Cookie::read(&vec![0; malformed]), None, "{malformed} octets");
        }
    }
}
