//! How long an answer may be cached, read from its bytes.

use crate::wire::{HEADER, Rcode, Type, name_end};

/// Seconds for which HTTP caches may keep `answer` (RFC 8484 section 5.1): the least TTL of its answers, or for how long it is known
/// that there is none (RFC 2308 section 5). None: it must not be kept, as errors must not.
pub fn freshness(answer: &[u8]) -> Option<u32> {
    let number = |at: usize| Some(u16::from_be_bytes(*answer.get(at..)?.first_chunk()?));
    let truncated = answer.get(2)? & 0x02 != 0;
    let rcode = Rcode(answer.get(3)? & 0x0f);
    if truncated || !matches!(rcode, Rcode::NOERROR | Rcode::NXDOMAIN) {
        return None;
    }
    let mut at = HEADER;
    for _ in 0..number(4)? {
        at = name_end(answer, at)? + 4;
    }
    let (answers, authorities) = (number(6)?, number(8)?);
    let mut least = None;
    for index in 0..u32::from(answers) + u32::from(authorities) {
        let fixed = name_end(answer, at)?;
        let ttl = u32::from_be_bytes(*answer.get(fixed + 4..)?.first_chunk()?);
        let data = fixed + 10;
        let end = data + usize::from(number(fixed + 8)?);
        let soa = Type(number(fixed)?) == Type::SOA;
        if index < u32::from(answers) {
            least = Some(least.unwrap_or(u32::MAX).min(ttl));
        } else if soa {
            let minimum = u32::from_be_bytes(*answer.get(end.checked_sub(4)?..end)?.first_chunk()?);
            least = Some(least.unwrap_or(u32::MAX).min(ttl).min(minimum));
        }
        at = end;
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: [u8; 12] = [0, 0, 0x84, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    const QUESTION: [u8; 7] = [1, b'a', 0, 0, 1, 0, 1];

    fn message(rcode: u8, answers: &[u32], soa: Option<(u32, u32)>) -> Vec<u8> {
        let mut message = HEAD.to_vec();
        message[3] = rcode;
        message[7] = answers.len() as u8;
        message[9] = u8::from(soa.is_some());
        message.extend(QUESTION);
        for ttl in answers {
            message.extend([0xc0, 12, 0, 1, 0, 1]);
            message.extend(ttl.to_be_bytes());
            message.extend([0, 4, 192, 0, 2, 1]);
        }
        if let Some((ttl, minimum)) = soa {
            message.extend([0, 0, 6, 0, 1]);
            message.extend(ttl.to_be_bytes());
            message.extend([0, 22, 0, 0]);
            message.extend([0; 16]);
            message.extend(minimum.to_be_bytes());
        }
        message
    }

    #[test]
    fn the_least_ttl_of_the_answers_counts_and_of_none_the_soa() {
        assert_eq!(freshness(&message(0, &[30, 7, 60], None)), Some(7));
        assert_eq!(freshness(&message(3, &[], Some((30, 5)))), Some(5));
        assert_eq!(freshness(&message(0, &[3], Some((30, 5)))), Some(3));
    }

    #[test]
    fn errors_and_what_is_cut_are_not_kept() {
        assert_eq!(freshness(&message(5, &[], None)), None);
        assert_eq!(freshness(&message(2, &[30], None)), None);
        assert_eq!(freshness(&message(0, &[], None)), None, "a referral to nowhere");
        let whole = message(0, &[30], Some((30, 5)));
        for length in 0..whole.len() {
            assert_eq!(freshness(&whole[..length]), None, "{length} octets");
        }
        let mut cut = whole;
        cut[2] |= 2;
        assert_eq!(freshness(&cut), None);
    }
}
