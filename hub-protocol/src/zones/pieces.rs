//! Large updates in pieces: a message on the wire has a limit, and a federation with many names outgrows it.

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use proto::v1;

/// Maximum size in octets of a message with an update, or a piece of one. A whole update of 10,000 names in 8 regions has some 7 MiB.
pub const MESSAGE_MAX: usize = 64 << 20;
/// Maximum size in octets of an update that comes in pieces: some 700,000 names in 8 regions. A dns-lb holds it twice while it reads it.
pub const UPDATE_MAX: usize = 512 << 20;
/// Octets in a piece.
pub const PIECE: usize = 16 << 20;

/// Why pieces do not become an update.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PieceError {
    /// More octets than [`UPDATE_MAX`].
    #[error("an update in pieces is larger than {UPDATE_MAX} octets")]
    TooLarge,
    /// The pieces together are not an encoded update.
    #[error("pieces of an update do not fit together: {0}")]
    Decode(#[from] prost::DecodeError),
}

/// How many octets an update has on the wire.
pub fn size(update: &v1::ZoneUpdate) -> usize {
    update.encoded_len()
}

/// The update as messages: itself, if it has no more octets than a piece.
pub fn cut(update: v1::ZoneUpdate, piece: usize) -> Vec<v1::ZoneUpdate> {
    if size(&update) <= piece {
        return vec![update];
    }
    let mut left = Bytes::from(update.encode_to_vec());
    let mut pieces = Vec::new();
    while !left.is_empty() {
        let part = left.split_to(piece.min(left.len()));
        pieces.push(v1::ZoneUpdate { part, more: !left.is_empty(), ..v1::ZoneUpdate::default() });
    }
    pieces
}

/// The pieces of an update that have come so far on one stream.
#[derive(Debug, Default)]
pub struct Pieces {
    gathered: BytesMut,
    // The update was too large: what is left of it is no beginning of another one.
    skips: bool,
}

impl Pieces {
    /// Takes a message in; the update, when it is all there.
    ///
    /// # Errors
    /// When the pieces are too many, or not those of an update. They are dropped, and so is the rest of an update that is too large.
    pub fn take(&mut self, message: v1::ZoneUpdate) -> Result<Option<v1::ZoneUpdate>, PieceError> {
        self.take_up_to(UPDATE_MAX, message)
    }

    fn take_up_to(
        &mut self,
        most: usize,
        message: v1::ZoneUpdate,
    ) -> Result<Option<v1::ZoneUpdate>, PieceError> {
        if message.part.is_empty() {
            // An update in one message. What is left of another one will never be whole.
            *self = Self::default();
            return Ok(Some(message));
        }
        if self.skips {
            self.skips = message.more;
            return Ok(None);
        }
        if self.gathered.len() + message.part.len() > most {
            *self = Self { gathered: BytesMut::new(), skips: message.more };
            return Err(PieceError::TooLarge);
        }
        self.gathered.extend_from_slice(&message.part);
        if message.more {
            return Ok(None);
        }
        Ok(Some(v1::ZoneUpdate::decode(std::mem::take(&mut self.gathered).freeze())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(names: usize) -> v1::ZoneUpdate {
        let record = |n: usize| v1::RecordSet { name: format!("n{n}."), ttl: 5, ..v1::RecordSet::default() };
        let records = (0..names).map(record).collect();
        let zone = v1::Zone { origin: ".".into(), records, ..v1::Zone::default() };
        let otherwise = Some(Box::new(v1::ZoneUpdate { epoch: 8, ..v1::ZoneUpdate::default() }));
        v1::ZoneUpdate { epoch: 7, zones: vec![zone], otherwise, ..v1::ZoneUpdate::default() }
    }

    #[test]
    fn an_update_in_pieces_is_the_same_update() {
        let whole = update(1000);
        for piece in [1000, size(&whole) - 1] {
            let sent = cut(whole.clone(), piece);
            assert!(sent.len() > 1 && sent.iter().all(|message| size(message) < piece + 16));
            let mut pieces = Pieces::default();
            let last = sent.len() - 1;
            for (n, message) in sent.into_iter().enumerate() {
                let taken = pieces.take(message).expect("they fit");
                assert_eq!(taken, (n == last).then(|| whole.clone()));
            }
        }
    }

    #[test]
    fn a_small_update_is_one_message() {
        assert_eq!(cut(update(10), PIECE), [update(10)]);
        assert_eq!(Pieces::default().take(update(10)), Ok(Some(update(10))));
    }

    #[test]
    fn pieces_of_an_update_that_never_ends_are_dropped() {
        let part = Bytes::from(vec![0; 10]);
        let piece = v1::ZoneUpdate { part, more: true, ..v1::ZoneUpdate::default() };
        let mut pieces = Pieces::default();
        for _ in 0..3 {
            assert_eq!(pieces.take_up_to(30, piece.clone()), Ok(None));
        }
        assert_eq!(pieces.take_up_to(30, piece), Err(PieceError::TooLarge));
        assert_eq!(pieces.take(update(1)), Ok(Some(update(1))), "what comes whole is taken");
    }

    #[test]
    fn the_rest_of_an_update_that_is_too_large_is_dropped_and_the_next_one_is_taken() {
        let (large, small) = (update(100), update(4));
        let (sent, next) = (cut(large.clone(), 50), cut(small.clone(), 50));
        let most = size(&small);
        // Its last piece may be the one that is too many.
        for most in [most, size(&large) - 1] {
            let mut pieces = Pieces::default();
            let mut errors = 0;
            for message in sent.clone() {
                match pieces.take_up_to(most, message) {
                    Ok(taken) => assert_eq!(taken, None, "a part of it is no update"),
                    Err(error) => {
                        assert_eq!(error, PieceError::TooLarge);
                        errors += 1;
                    }
                }
            }
            assert_eq!(errors, 1, "said once");
            let taken: Vec<_> = next
                .iter()
                .filter_map(|message| pieces.take_up_to(most, message.clone()).transpose())
                .collect();
            assert_eq!(taken, [Ok(small.clone())]);
        }
    }

    #[test]
    fn pieces_that_are_no_update_are_refused() {
        let message = v1::ZoneUpdate { part: Bytes::from_static(&[0xff]), ..v1::ZoneUpdate::default() };
        assert!(matches!(Pieces::default().take(message), Err(PieceError::Decode(_))));
    }
}
