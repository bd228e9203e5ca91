//! Call tickets: a JWS that is good once, for the one call that was allowed.
//!
//! No token is one, and no ticket is a token: the types differ. What a ticket is good for stands in the broker's state;
//! here it says so to whoever carries it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{base64url, jwt};
use crate::domain::error::Error;
use crate::domain::id::InvocationId;
use crate::domain::invocation::Ticket;

/// The media type of a ticket.
pub const TYPE: &str = "belay-ticket+jwt";

/// What is signed: header and payload, each in base64url, with a dot between. A function of the record alone.
pub fn signing_input(ticket: &Ticket) -> String {
    let header = json!({ "typ": TYPE, "alg": "ES256", "kid": ticket.kid });
    let payload = json!({
        "iss": ticket.issuer.as_str(),
        "jti": ticket.id.to_string(),
        "iat": ticket.id.time().seconds(),
        "exp": ticket.expires_at.seconds(),
        "client_id": ticket.agent.as_str(),
        "grant": ticket.grant.to_string(),
        "call": ticket.call.to_string(),
        "destination": ticket.call.destination,
        "args": ticket.args.map(|digest| base64url(&digest.0)),
    });
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(payload.to_string()))
}

/// The call that a ticket is for, if one of these keys (key id and uncompressed P-256 point) signed it.
///
/// # Errors
/// `token_malformed`, `token_type`, `token_algorithm`, `key_unknown`, `signature`.
pub fn read(text: &str, keys: &[(String, Vec<u8>)]) -> Result<InvocationId, Error> {
    let ticket = jwt::parse_as(text, &[TYPE], "present a call ticket")?;
    let key = keys.iter().find(|(kid, _)| kid == ticket.kid());
    let (_, point) =
        key.ok_or_else(|| Error::denied("key_unknown", "the ticket is signed with a key that is not known here"))?;
    let claims = ticket.proven(point)?;
    let id = claims.get("jti").and_then(Value::as_str).and_then(|id| id.parse().ok());
    id.ok_or_else(|| Error::denied("token_malformed", "the ticket names no call"))
}
