//! What whoever presents a token has to hold: `cnf` (RFC 7800). A token has exactly one.

use serde::{Deserialize, Serialize};

use super::digest::Digest;

/// What a token is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Confirmation {
    /// `x5t#S256`: SHA-256 of a certificate, proven by a handshake (RFC 8705).
    Certificate(Digest),
    /// `jkt`: the JWK thumbprint (RFC 7638) of a key, proven by DPoP (RFC 9449).
    Key(Digest),
}

impl Confirmation {
    /// The certificate, if it is one.
    pub fn certificate(&self) -> Option<&Digest> {
        match self {
            Self::Certificate(thumbprint) => Some(thumbprint),
            Self::Key(_) => None,
        }
    }

    /// The key, if it is one.
    pub fn key(&self) -> Option<&Digest> {
        match self {
            Self::Key(thumbprint) => Some(thumbprint),
            Self::Certificate(_) => None,
        }
    }
}
