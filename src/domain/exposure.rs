//! How long a credential could still work after a cut, by who looks at it.

use super::time::Span;

/// For how long a node may answer from what it last folded: the cut of another node is known to it after that.
pub const HOLD: Span = Span::millis(500);
/// How old a certificate revocation list can be that is still in its time.
pub const CRL_AGE: Span = Span::seconds(60);
/// How old a status list can be that is still in its time.
pub const STATUS_LIST_AGE: Span = Span::seconds(15);
