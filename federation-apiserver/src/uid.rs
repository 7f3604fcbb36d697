//! Uids: random UUIDs (RFC 9562, version 4).

/// A new one. It comes from this thread's generator, which the system seeds: to ask the system each time takes a call of it for each write and each request.
pub(crate) fn random() -> String {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string()
}
