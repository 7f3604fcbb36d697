//! One question to a resolver, and how its answer is read.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

/// Links of a chain of aliases that are followed: more than resolvers do.
const CHAIN_MAX: usize = 16;

/// Addresses that a name has, perhaps none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) addresses: Vec<IpAddr>,
    /// Seconds that it counts; 0 where there is none.
    pub(crate) ttl: u32,
}

impl Said {
    /// What is said of both families.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.ttl = match (self.addresses.is_empty(), other.addresses.is_empty()) {
            (false, false) => self.ttl.min(other.ttl),
            _ => self.ttl.max(other.ttl),
        };
        self.addresses.extend(other.addresses);
        self
    }
}

/// A question, with an identifier of its own.
pub(crate) struct Question {
    id: u16,
    asked: Query,
    octets: Vec<u8>,
}

impl Question {
    /// For the records of this kind.
    pub(crate) fn new(name: &Name, kind: RecordType) -> Self {
        // The standard library's keys for hash maps are random.
        let id = RandomState::new().hash_one(kind) as u16;
        let asked = Query::query(name.clone(), kind);
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(asked.clone());
        // A question of a name that is one can be written.
        Self { id, asked, octets: message.to_vec().unwrap_or_default() }
    }

    pub(crate) fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// None: it is not the answer to this question. Of the answer, none: it is cut, and to be had by TCP.
    pub(crate) fn read(&self, octets: &[u8]) -> Option<Result<Option<Said>, String>> {
        let answer = Message::from_vec(octets).ok()?;
        let heard = &answer.metadata;
        if heard.id != self.id
            || heard.message_type != MessageType::Response
            || answer.queries != [self.asked.clone()]
        {
            return None;
        }
        match heard.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => {}
            code => return Some(Err(format!("it answered {code}"))),
        }
        if heard.truncation {
            return Some(Ok(None));
        }
        let (mut owner, mut ttl) = (self.asked.name.clone(), u32::MAX);
        for _ in 0..CHAIN_MAX {
            let alias = answer.answers.iter().filter(|record| record.name == owner).find_map(|record| {
                if let RData::CNAME(target) = &record.data {
                    Some((record.ttl, target.0.clone()))
                } else {
                    None
                }
            });
            let Some((of_alias, target)) = alias else { break };
            (ttl, owner) = (ttl.min(of_alias), target);
        }
        let mut addresses = Vec::new();
        for record in answer.answers.iter().filter(|record| record.name == owner) {
            addresses.push(match &record.data {
                RData::A(address) => IpAddr::V4(address.0),
                RData::AAAA(address) => IpAddr::V6(address.0),
                _ => continue,
            });
            ttl = ttl.min(record.ttl);
        }
        let ttl = if addresses.is_empty() { 0 } else { ttl };
        Some(Ok(Some(Said { addresses, ttl })))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::{A, CNAME};

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn answer(
        question: &Question,
        change: impl FnOnce(&mut Message),
    ) -> Option<Result<Option<Said>, String>> {
        let mut message = Message::from_vec(question.octets()).unwrap();
        message.metadata.message_type = MessageType::Response;
        change(&mut message);
        question.read(&message.to_vec().unwrap())
    }

    #[test]
    fn addresses_are_read_along_aliases_with_the_shortest_life() {
        let question = Question::new(&name("lb.example.net."), RecordType::A);
        let record = |owner: &str, ttl, data| Record::from_rdata(name(owner), ttl, data);
        let address = |last| RData::A(A::new(192, 0, 2, last));
        let said = answer(&question, |message| {
            message.add_answer(record("b.example.net.", 30, address(1)));
            message.add_answer(record("b.example.net.", 40, address(2)));
            message.add_answer(record("other.example.net.", 1, address(3)));
            message.add_answer(record("LB.example.net.", 20, RData::CNAME(CNAME(name("b.example.net.")))));
        });
        let addresses = [[192, 0, 2, 1], [192, 0, 2, 2]].map(IpAddr::from).to_vec();
        assert_eq!(said, Some(Ok(Some(Said { addresses, ttl: 20 }))));
        let circle = |message: &mut Message| {
            message.add_answer(record("lb.example.net.", 9, RData::CNAME(CNAME(name("lb.example.net.")))));
        };
        assert_eq!(answer(&question, circle), Some(Ok(Some(Said { addresses: Vec::new(), ttl: 0 }))));
    }

    #[test]
    fn there_is_no_such_name_is_a_word_and_a_failure_is_none() {
        let question = Question::new(&name("lb.example.net."), RecordType::AAAA);
        let code = |code| answer(&question, |message| message.metadata.response_code = code);
        let nothing = Said { addresses: Vec::new(), ttl: 0 };
        assert_eq!(code(ResponseCode::NXDomain), Some(Ok(Some(nothing.clone()))));
        assert_eq!(code(ResponseCode::NoError), Some(Ok(Some(nothing))));
        for failure in [ResponseCode::ServFail, ResponseCode::Refused] {
            assert!(matches!(code(failure), Some(Err(_))), "{failure}");
        }
        assert_eq!(answer(&question, |message| message.metadata.truncation = true), Some(Ok(None)));
    }

    #[test]
    fn what_is_no_answer_to_the_question_is_not_heard() {
        let question = Question::new(&name("lb.example.net."), RecordType::A);
        assert_eq!(answer(&question, |message| message.metadata.id ^= 1), None);
        assert_eq!(answer(&question, |message| message.metadata.message_type = MessageType::Query), None);
        assert_eq!(answer(&question, |message| message.queries[0].name = name("evil.example.net.")), None);
        assert_eq!(answer(&question, |message| message.queries.clear()), None);
        assert_eq!(question.read(&[]), None);
        assert_eq!(question.read(&[0; 12]), None);
    }
}
