//! The claims of a token whose signature was checked, each of its type.
//!
//! A claim of another type is refused, never taken as absent (CVE-2026-25537). What is said twice must
//! agree: the parts of a scope with its text, the holder with the last link of the chain.

use serde_json::Value;

use super::parse::malformed;
use super::{Act, Detail, Payload};
use crate::domain::agent::Kind;
use crate::domain::confirmation::Confirmation;
use crate::domain::error::Error;
use crate::domain::grant::Link;
use crate::domain::id::{GrantId, TaskId, TokenId};
use crate::domain::name::{Audience, Line};
use crate::domain::scope::Scopes;
use crate::domain::status::StatusPlace;
use crate::domain::time::Timestamp;
use crate::format::claims::GrantClaims;
use crate::format::spiffe::SpiffeId;

/// The last second of the year 9999: a later moment is a mistake, or an attempt at overflow.
const END_OF_TIME: i64 = 253_402_300_799;

/// What a token says, signed by the broker. Whether it still holds is for the caller to ask.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims {
    /// `jti`.
    pub id: TokenId,
    /// `iss`: the broker.
    pub issuer: Audience,
    /// `aud`: whom it is for; exactly one.
    pub audience: Audience,
    /// `sub`: on whose behalf, else the root holder's SPIFFE ID.
    pub subject: Line,
    /// `client_id`: the holder's SPIFFE ID.
    pub client_id: String,
    /// `iat`, whole seconds.
    pub issued_at: Timestamp,
    /// `exp`, whole seconds, exclusive.
    pub expires_at: Timestamp,
    /// The grant it was issued under.
    pub grant: GrantId,
    /// The task.
    pub task: TaskId,
    /// What it allows.
    pub scopes: Scopes,
    /// The ledger's sequence at which it was issued.
    pub seq: u64,
    /// The ledger's epoch.
    pub epoch: String,
    /// Root first, 1 to 16 links; the last is this grant and its holder.
    pub chain: Vec<Link>,
    /// `cnf`: what whoever presents it has to hold.
    pub confirmation: Confirmation,
    /// Where its status is to be found; tokens of before there were lists say nothing of it.
    pub status: Option<StatusPlace>,
    /// The key that signed it.
    pub kid: String,
    /// Every claim, as written.
    pub json: Value,
}

impl Claims {
    /// Reads the claims of a token whose signature holds.
    pub(super) fn read(kid: String, json: Value) -> Result<Self, Error> {
        let payload: Payload = serde_json::from_value(json.clone()).map_err(|error| {
            let shown = error.to_string().replace(char::is_control, "?");
            malformed(&format!("its claims are not those of an access token: {:.160}", shown))
        })?;
        let confirmation = payload.cnf.confirmation();
        let GrantClaims { grant, task, seq, epoch, chain } = payload.under.checked().map_err(malformed)?;
        is_held(&chain, &payload.client_id)?;
        let status = payload.status.map(|status| status.place(&payload.iss).ok_or_else(elsewhere)).transpose()?;
        is_acted(payload.act.as_ref(), payload.sub.as_str(), &payload.client_id)?;
        Ok(Self {
            id: payload.jti,
            issuer: payload.iss,
            audience: payload.aud,
            subject: payload.sub,
            client_id: payload.client_id,
            issued_at: moment("iat", payload.iat)?,
            expires_at: moment("exp", payload.exp)?,
            grant,
            task,
            scopes: scopes(payload.authorization_details)?,
            seq,
            epoch,
            chain,
            confirmation: confirmation.ok_or_else(|| malformed("its `cnf` is not the base64url of 32 bytes"))?,
            status,
            kid,
            json,
        })
    }
}

fn elsewhere() -> Error {
    malformed("its `status` is not in a list of its issuer")
}

fn is_held(chain: &[Link], client_id: &str) -> Result<(), Error> {
    let party = client_id.parse::<SpiffeId>().ok().and_then(|id| id.party());
    let holder = chain.last().map(|link| &link.agent);
    if party.is_some_and(|(kind, name)| kind == Kind::Agent && Some(&name) == holder) {
        Ok(())
    } else {
        Err(malformed("its `client_id` is not the last holder of its `chain`"))
    }
}

fn is_acted(act: Option<&Act>, subject: &str, client_id: &str) -> Result<(), Error> {
    match act {
        Some(act) if act.sub == client_id => Ok(()),
        None if subject == client_id => Ok(()),
        _ => Err(malformed("its `act` does not name its `client_id`")),
    }
}

fn moment(claim: &str, seconds: i64) -> Result<Timestamp, Error> {
    match seconds {
        0..=END_OF_TIME => Ok(Timestamp::from_seconds(seconds)),
        _ => Err(malformed(&format!("`{claim}` is not a moment between 1970 and 9999"))),
    }
}

fn scopes(details: Vec<Detail>) -> Result<Scopes, Error> {
    let scopes: Vec<_> = details.into_iter().map(|detail| detail.scope).collect();
    Scopes::try_from(scopes).map_err(|error| malformed(&error.message))
}

#[cfg(test)]
mod tests {
    use super::super::sample::{ISSUED, Key, token, trust_domain};
    use super::super::{parse, signing_input};
    use super::*;
    use crate::domain::digest::Digest;
    use crate::domain::grant::Token;

    fn read(change: impl FnOnce(String) -> String) -> Result<Claims, Error> {
        let key = Key::new();
        parse(&key.token_with(change))?.verify(key.point())
    }

    #[test]
    fn claims_are_what_was_recorded() {
        let (claims, token) = (read(|same| same).unwrap(), token());
        assert_eq!((claims.id, claims.grant, claims.task, claims.seq), (token.id, token.grant, token.task, token.seq));
        assert_eq!((claims.issuer, claims.audience, claims.subject), (token.issuer, token.audience, token.subject));
        assert_eq!((claims.issued_at, claims.expires_at), (ISSUED, token.expires_at));
        assert_eq!((claims.scopes, claims.chain, claims.epoch), (token.scopes, token.chain, token.epoch));
        assert_eq!(
            (claims.confirmation, claims.client_id.as_str()),
            (token.confirmation, "spiffe://td.example/agent/coder")
        );
        assert_eq!((claims.status, token.status.is_some()), (token.status, true));
        assert_eq!(claims.json["act"]["act"]["sub"], "spiffe://td.example/agent/planner");
    }

    #[test]
    fn a_token_says_the_key_that_it_is_bound_to() {
        let bound = Token { confirmation: Confirmation::Key(Digest([9; 32])), ..token() };
        let key = Key::new();
        let claims = parse(&key.sign(&signing_input(&bound, &trust_domain()))).unwrap().verify(key.point()).unwrap();
        assert_eq!(claims.confirmation, bound.confirmation);
        assert_eq!(claims.json["cnf"], serde_json::json!({ "jkt": "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk" }));
    }

    #[test]
    fn an_unknown_claim_is_tolerated() {
        assert!(read(|claims| claims.replacen('{', r#"{"color":{"idx":1},"#, 1)).is_ok());
    }

    #[test]
    fn a_claim_of_another_type_is_refused_and_never_absent() {
        for claim in [
            "iss", "sub", "aud", "client_id", "iat", "exp", "jti", "act", "authorization_details", "cnf", "grant",
            "task", "seq", "epoch", "chain", "status",
        ] {
            for value in [
                "null", "true", "7.5", "1e400", "-1", "[]", "{}", "\"\"", "\"1795000900\"", "9223372036854775808",
                "1e3", "[\"a\"]",
            ] {
                let set = |claims: String| {
                    let mut json: Value = serde_json::from_str(&claims).unwrap();
                    json[claim] = "PLACE".into();
                    json.to_string().replace("\"PLACE\"", value)
                };
                // A logical name may look like anything; so may a subject and an epoch. An issuer is that of its lists.
                let text = value.len() > 3 && value.starts_with('"') && ["sub", "aud", "epoch", "seq"].contains(&claim);
                assert_eq!(read(set).is_ok(), text, "{claim} {value}");
            }
        }
    }

    #[test]
    fn a_missing_claim_is_refused() {
        for claim in [
            "iss", "sub", "aud", "client_id", "iat", "exp", "jti", "authorization_details", "cnf", "grant", "task",
            "seq", "epoch", "chain", "act",
        ] {
            let without = |claims: String| {
                let mut json: Value = serde_json::from_str(&claims).unwrap();
                json.as_object_mut().unwrap().remove(claim).unwrap();
                json.to_string()
            };
            assert_eq!(read(without).unwrap_err().reason, "token_malformed", "{claim}");
        }
    }

    #[test]
    fn what_is_said_twice_agrees() {
        let swaps = [
            ("\"resource\":\"db/orders/*\"", "\"resource\":\"db/**\""),
            ("\"actions\":[\"select\"]", "\"actions\":[\"select\",\"drop\"]"),
            ("\"tool\":\"postgres\"", "\"tool\":\"shell\""),
            ("urn:belay:tool-call", "urn:other:type"),
            ("\"tool\":\"postgres\"", "\"tool\":\"postgres\",\"constraints\":{}"),
            ("\"x5t#S256\"", "\"jkt\":\"x\",\"x5t#S256\""),
            ("Bwc\"},\"status", "Bwc\",\"jkt\":\"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc\"},\"status"),
            ("\"x5t#S256\":\"Bw", "\"jkt\":\"BwBw"),
            ("\"x5t#S256\"", "\"jwk\""),
            ("\"x5t#S256\":\"Bw", "\"x5t#S256\":\"BwBw"),
            ("Bwc\"}", "Bwd\"}"),
            ("agent/coder\",\"iat\"", "agent/planner\",\"iat\""),
            (
                "\"act\":{\"sub\":\"spiffe://td.example/agent/coder\"",
                "\"act\":{\"sub\":\"spiffe://td.example/agent/other\"",
            ),
            ("\"agent\":\"coder\"", "\"agent\":\"planner\""),
            ("\"owner\":\"team-b\"", "\"owner\":\"team-b\",\"subject\":null"),
            ("\"idx\":61", "\"idx\":65536"),
            ("\"idx\":61", "\"idx\":61,\"x\":1"),
            ("statuslists/510577664\"}", "statuslists/510577664\"},\"status_assertion\":1"),
            ("https://broker.example/statuslists", "https://other.example/statuslists"),
            ("statuslists/510577664", "statuslists/0510577664"),
            ("statuslists/510577664", "statuslists/-1"),
            ("\"seq\":\"9", "\"seq\":\"09"),
            ("\"seq\":\"9", "\"seq\":\"+9"),
            ("\"exp\":1795000900", "\"exp\":253402300800"),
            ("\"epoch\":\"e1\"", "\"epoch\":\"e1\",\"epoch\":\"e2\""),
        ];
        for (from, to) in swaps {
            let swap = |claims: String| {
                assert!(claims.contains(from), "{from}");
                claims.replacen(from, to, 1)
            };
            assert_eq!(read(swap).unwrap_err().reason, "token_malformed", "{to}");
        }
    }

    #[test]
    fn a_chain_has_one_to_sixteen_links_and_ends_in_the_grant() {
        let links = |count: usize| {
            read(|claims| {
                let mut json: Value = serde_json::from_str(&claims).unwrap();
                let (root, last) = (json["chain"][0].clone(), json["chain"][1].clone());
                json["chain"] = vec![root; count - 1].into_iter().chain([last]).collect();
                json.to_string()
            })
        };
        assert!(links(1).is_ok() && links(16).is_ok() && links(17).is_err());
        let elsewhere = |claims: String| {
            let mut json: Value = serde_json::from_str(&claims).unwrap();
            json["chain"][1]["grant"] = json["chain"][0]["grant"].clone();
            json.to_string()
        };
        assert!(read(elsewhere).is_err());
        assert!(read(|claims| claims.replace("agent/coder", "operator/coder")).is_err());
    }
}
