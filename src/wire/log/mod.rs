//! The stored form of a log entry: `belay.log.v1`.
//!
//! The two directions are each other's inverse: what is decoded encodes to the very bytes it came from.
//! So an unknown field, however deep, is found, and a log written by a newer Belay is never read by
//! halves. Nothing here judges whether an entry makes sense; that is the fold's to say.

mod approval;
mod call;
mod cut;
mod decode;
mod encode;

use prost::Message as _;

use super::pb;
use crate::domain::event::Entry;

/// Bytes that are not an entry of this version. The node stops: the log is damaged, or newer than it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("log entry cannot be read: {field}: {why}; the log is damaged or was written by a newer version")]
pub struct DecodeError {
    /// Where in the entry.
    pub field: &'static str,
    /// What is wrong there; one line.
    pub why: String,
}

/// The bytes of `entry` as they are stored, and hashed into the log's tree.
pub fn encode(entry: &Entry) -> Vec<u8> {
    pb::Entry::from(entry).encode_to_vec()
}

/// The entry that `bytes` hold.
///
/// # Errors
/// The bytes are not a message, a part is missing or malformed, or they hold something that this version
/// does not know.
pub fn decode(bytes: &[u8]) -> Result<Entry, DecodeError> {
    let broken = |why: String| DecodeError { field: "entry", why };
    let message = pb::Entry::decode(bytes).map_err(|error| broken(error.to_string()))?;
    let entry = Entry::try_from(message)?;
    // protobuf skips what it does not know, silently.
    if encode(&entry) != bytes {
        return Err(broken("it holds an unknown field, or a value in another form than it was written in".to_owned()));
    }
    Ok(entry)
}

#[cfg(test)]
mod tests;
