//! A line of the log of queries.

use hickory_proto::op::{Edns, Message};
use serde::Serialize;

use super::queue::{Entry, Outcome};

/// Records of an answer that are told; further ones are only counted.
const RECORDS_MAX: usize = 8;

/// Makes lines.
#[derive(Default)]
pub(super) struct Line(Vec<u8>);

#[derive(Serialize)]
struct Shown<'e> {
    /// RFC 3339, UTC.
    time: String,
    transport: &'static str,
    client: std::net::IpAddr,
    port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subnet: Option<String>,
    dnssec_ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    rcode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<&'e str>,
    answers: Vec<String>,
    answer_count: usize,
    truncated: bool,
    octets: usize,
    took_us: u64,
    #[serde(rename = "fate")]
    outcome: &'static str,
}

impl Line {
    /// Of `entry`, whose answer names addresses of `cluster`.
    pub(super) fn of(&mut self, entry: &Entry, cluster: Option<&str>) -> &[u8] {
        let query = Message::from_vec(&entry.query).ok();
        let answer = Message::from_vec(&entry.answer).ok();
        let question = query.as_ref().and_then(|query| query.queries.first());
        let answers = answer.as_ref().map(|answer| answer.answers.as_slice()).unwrap_or_default();
        let edns = query.as_ref().and_then(|query| query.edns.as_ref());
        let client = entry.client.ip().to_canonical();
        let shown = Shown {
            time: time(entry.asked),
            transport: entry.transport.label(),
            client,
            port: entry.client.port(),
            name: question.map(|question| question.name().to_string()),
            kind: question.map(|question| question.query_type().to_string()),
            subnet: edns.and_then(subnet),
            dnssec_ok: edns.is_some_and(|edns| edns.flags().dnssec_ok),
            rcode: answer.as_ref().map(|answer| {
                // With its high bits, which hickory-proto leaves in the OPT.
                let high = answer.edns.as_ref().map_or(0, Edns::rcode_high);
                let low = answer.metadata.response_code.low();
                crate::wire::Rcode((high << 4) | low).mnemonic().to_owned()
            }),
            cluster: cluster.filter(|name| !name.is_empty()),
            answers: answers
                .iter()
                .take(RECORDS_MAX)
                .map(|record| format!("{} {}", record.record_type(), record.data))
                .collect(),
            answer_count: answers.len(),
            truncated: answer.as_ref().is_some_and(|answer| answer.metadata.truncation),
            octets: entry.answer.len(),
            took_us: entry.answered.saturating_sub(entry.asked) / 1000,
            outcome: match entry.outcome {
                Outcome::Sent => "sent",
                Outcome::Cut => "cut",
                Outcome::Withheld => "withheld",
                Outcome::None => "none",
            },
        };
        self.0.clear();
        // Writing to memory does not fail, and all keys are strings.
        let _ = serde_json::to_writer(&mut self.0, &shown);
        &self.0
    }
}

fn subnet(edns: &Edns) -> Option<String> {
    use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
    match edns.option(EdnsCode::Subnet)? {
        EdnsOption::Subnet(subnet) => Some(format!("{}/{}", subnet.addr(), subnet.source_prefix())),
        _ => None,
    }
}

/// Nanoseconds since 1970 as RFC 3339, to the microsecond.
fn time(nanoseconds: u64) -> String {
    let (days, left) = (nanoseconds / 86_400_000_000_000, nanoseconds / 1000 % 86_400_000_000);
    let (year, month, day) = date(days as i64);
    let (seconds, micros) = (left / 1_000_000, left % 1_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// The date of a day counted since 1970, of the Gregorian calendar: years begin in March, so that leap days are last.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_rfc_3339_says() {
        assert_eq!(time(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(time(951_782_400_000_001_000), "2000-02-29T00:00:00.000001Z");
        assert_eq!(time(1_795_933_634_123_456_789), "2026-11-29T06:27:14.123456Z");
        assert_eq!(time(4_107_542_399_999_999_999), "2100-02-28T23:59:59.999999Z");
        assert_eq!(time(4_107_542_400_000_000_000), "2100-03-01T00:00:00.000000Z");
    }
}
