//! Tokens: JWT ES256 in the shape of RFC 9068, built from what was recorded and read back strictly.
//!
//! The signing input is a function of the recorded token alone, byte for byte, so that a lost token can
//! be signed again. Reading has two steps, and only the second, with a key, gives claims to act on.

mod claims;
#[cfg(test)]
mod foreign;
mod parse;
#[cfg(test)]
pub(crate) mod sample;
mod status;

pub use claims::Claims;
pub(crate) use parse::parse_as;
pub use parse::{Unverified, parse};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::claims::{GrantClaims, given};
use super::spiffe::SpiffeId;
use super::{base64url, from_base64url};
use crate::domain::agent::Kind;
use crate::domain::confirmation::Confirmation;
use crate::domain::digest::Digest;
use crate::domain::grant::{Link, Token};
use crate::domain::id::TokenId;
use crate::domain::name::{Audience, Line, TrustDomain};
use crate::domain::scope::Scope;
use status::Status;

/// The one algorithm.
const ALGORITHM: &str = "ES256";
/// Room for a dot and a signature: 64 bytes in base64url.
const SIGNATURE: usize = 1 + 86 + 8;
/// The media type of an access token, and its long form (RFC 9068, section 2.1).
const TYPES: [&str; 2] = ["at+jwt", "application/at+jwt"];
/// The one type of authorization detail (RFC 9396, section 2).
const TOOL_CALL: &str = "urn:belay:tool-call";

/// What is signed for `token`: header and payload, each in base64url, with a dot between.
pub fn signing_input(token: &Token, trust_domain: &TrustDomain) -> String {
    let header = json(&Header { typ: TYPES[0].to_owned(), alg: ALGORITHM.to_owned(), kid: token.kid.clone() });
    let payload = json(&Payload::of(token, trust_domain));
    let mut input = String::with_capacity((header.len() + payload.len()).div_ceil(3) * 4 + SIGNATURE);
    URL_SAFE_NO_PAD.encode_string(header, &mut input);
    input.push('.');
    URL_SAFE_NO_PAD.encode_string(payload, &mut input);
    input
}

fn json(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1024);
    serde_json::to_writer(&mut bytes, value).expect("strings, numbers and lists of them always have a JSON form");
    bytes
}

// The order of the fields below is the order in the token: what was signed once must come out again.

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    typ: String,
    alg: String,
    kid: String,
}

#[derive(Serialize, Deserialize)]
struct Payload {
    iss: Audience,
    sub: Line,
    aud: Audience,
    client_id: String,
    iat: i64,
    exp: i64,
    jti: TokenId,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    act: Option<Act>,
    authorization_details: Vec<Detail>,
    cnf: Cnf,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    status: Option<Status>,
    #[serde(flatten)]
    under: GrantClaims,
}

/// RFC 8693, section 4.1: who acts now, and within it who acted before.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Act {
    sub: String,
    iss: Audience,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    act: Option<Box<Act>>,
}

/// One scope, whole as text, and in its parts for whoever reads only these.
#[derive(Serialize, Deserialize)]
#[serde(try_from = "serde_json::Value")]
struct Detail {
    r#type: String,
    tool: String,
    actions: Vec<String>,
    resource: String,
    scope: Scope,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    closed: bool,
}

/// RFC 8705, section 3.1, and RFC 9449, section 6.1: one of them, since a second binding would be one that nobody checks.
#[derive(Serialize, Deserialize)]
enum Cnf {
    #[serde(rename = "x5t#S256")]
    Certificate(String),
    #[serde(rename = "jkt")]
    Key(String),
}

impl Cnf {
    fn of(confirmation: &Confirmation) -> Self {
        match confirmation {
            Confirmation::Certificate(digest) => Self::Certificate(base64url(&digest.0)),
            Confirmation::Key(digest) => Self::Key(base64url(&digest.0)),
        }
    }

    fn confirmation(&self) -> Option<Confirmation> {
        let digest = |text: &str| from_base64url(text).and_then(|bytes| Digest::from_slice(&bytes));
        match self {
            Self::Certificate(text) => digest(text).map(Confirmation::Certificate),
            Self::Key(text) => digest(text).map(Confirmation::Key),
        }
    }
}

impl Payload {
    fn of(token: &Token, trust_domain: &TrustDomain) -> Self {
        let actors = actors(&token.chain, trust_domain);
        Self {
            iss: token.issuer.clone(),
            sub: token.subject.clone(),
            aud: token.audience.clone(),
            client_id: actors.last().cloned().unwrap_or_default(),
            iat: token.issued_at.seconds(),
            exp: token.expires_at.seconds(),
            jti: token.id,
            act: Act::of(token.subject.as_str(), actors, &token.issuer),
            authorization_details: token.scopes.iter().map(Detail::of).collect(),
            cnf: Cnf::of(&token.confirmation),
            status: token.status.map(|place| Status::of(place, &token.issuer)),
            under: GrantClaims {
                grant: token.grant,
                task: token.task,
                seq: token.seq,
                epoch: token.epoch.clone(),
                chain: token.chain.clone(),
            },
        }
    }
}

/// The SPIFFE IDs of the holders, root first; an agent that delegates to itself is one actor.
fn actors(chain: &[Link], trust_domain: &TrustDomain) -> Vec<String> {
    let id = |link: &Link| SpiffeId::of(trust_domain, Kind::Agent, &link.agent).to_string();
    let mut actors: Vec<String> = chain.iter().map(id).collect();
    actors.dedup();
    actors
}

impl Act {
    /// The actors, root first, as nested claims, holder outermost; none when the holder is the subject.
    fn of(subject: &str, actors: Vec<String>, issuer: &Audience) -> Option<Self> {
        if actors.last().is_none_or(|holder| holder == subject) {
            return None;
        }
        // The root acts in its own name when it is the subject: it is no actor of itself.
        let nest = |before: Option<Self>, sub| Some(Self { sub, iss: issuer.clone(), act: before.map(Box::new) });
        actors.into_iter().skip_while(|actor| actor == subject).fold(None, nest)
    }
}

impl Detail {
    fn of(scope: &Scope) -> Self {
        Self {
            r#type: TOOL_CALL.to_owned(),
            tool: scope.tool().to_owned(),
            actions: vec![scope.action().to_string()],
            resource: scope.resource().to_string(),
            scope: scope.clone(),
            args: scope.bounds().args_json().map(|json| {
                RawValue::from_string(json).expect("the text of constraints is JSON, as reading it again needs")
            }),
            closed: scope.bounds().is_closed(),
        }
    }
}

impl TryFrom<serde_json::Value> for Detail {
    type Error = &'static str;

    /// The text of the scope is what counts, since its numbers are exact. All other members follow from it: one that
    /// does not, or that this version does not know, may be a bound, and is refused and never ignored.
    fn try_from(json: serde_json::Value) -> Result<Self, Self::Error> {
        let scope = json["scope"].as_str().and_then(|text| text.parse().ok()).ok_or("a detail has no scope")?;
        let detail = Self::of(&scope);
        let same = serde_json::to_value(&detail).is_ok_and(|expected| expected == json);
        same.then_some(detail).ok_or("a detail has another type, or does not agree with its own scope")
    }
}

#[cfg(test)]
mod tests {
    use super::sample::{token, trust_domain};
    use super::*;

    fn payload(token: &Token) -> String {
        let input = signing_input(token, &trust_domain());
        let (_, payload) = input.split_once('.').unwrap();
        String::from_utf8(from_base64url(payload).unwrap()).unwrap()
    }

    #[test]
    fn no_token_weighs_less_than_its_claims() {
        let line = |byte: &str| byte.repeat(256).parse::<crate::domain::name::Line>().unwrap();
        let mut heavy = token();
        heavy.subject = line("\\");
        heavy.chain = vec![heavy.chain[0].clone(); 16];
        for (at, link) in heavy.chain.iter_mut().enumerate() {
            link.agent = format!("{at:0>63}").parse().unwrap();
            (link.owner, link.subject) = (line("\""), Some(line("\u{10348}")));
        }
        let far: TrustDomain = "d".repeat(160).parse().unwrap();
        for token in [token(), heavy] {
            let (_, payload) =
                signing_input(&token, &far).split_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
            let claims = from_base64url(&payload).unwrap().len();
            assert!(claims <= token.weight(), "{claims} bytes weigh {}", token.weight());
        }
    }

    #[test]
    fn the_signing_input_is_fixed_byte_for_byte() {
        let input = signing_input(&token(), &trust_domain());
        let (header, _) = input.split_once('.').unwrap();
        assert_eq!(from_base64url(header).unwrap(), br#"{"typ":"at+jwt","alg":"ES256","kid":"k1"}"#);
        let expected = concat!(
            r#"{"iss":"https://broker.example","sub":"user:ana","aud":"https://tool.example","#,
            r#""client_id":"spiffe://td.example/agent/coder","iat":1795000000,"exp":1795000900,"#,
            r#""jti":"tok_01m7q5cqg0eywb8wmw6ewpz246","#,
            r#""act":{"sub":"spiffe://td.example/agent/coder","iss":"https://broker.example","#,
            r#""act":{"sub":"spiffe://td.example/agent/planner","iss":"https://broker.example"}},"#,
            r#""authorization_details":[{"type":"urn:belay:tool-call","tool":"postgres","actions":["select"],"#,
            r#""resource":"db/orders/*","scope":"postgres:select@db/orders/*"},"#,
            r#"{"type":"urn:belay:tool-call","tool":"github","actions":["issues.*"],"#,
            r#""resource":"org/repo","scope":"github:issues.*@org/repo"}],"#,
            r#""cnf":{"x5t#S256":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc"},"#,
            r#""status":{"status_list":{"idx":61,"uri":"https://broker.example/statuslists/510577664"}},"#,
            r#""grant":"grt_01m7q5cqg0evnbtv8scssxcq3d","task":"tsk_01m7q5cqg0fzhr5gfq4fh1gdcz","#,
            r#""seq":"9007199254740993","epoch":"e1","#,
            r#""chain":[{"grant":"grt_01m7q5cqg0exqr87y1k7vjt3sh","agent":"planner","owner":"team-a","#,
            r#""subject":"user:ana"},"#,
            r#"{"grant":"grt_01m7q5cqg0evnbtv8scssxcq3d","agent":"coder","owner":"team-b"}]}"#,
        );
        assert_eq!(payload(&token()), expected);
    }

    #[test]
    fn constraints_stand_in_the_detail_and_weigh_what_they_weigh() {
        let texts: Vec<String> = (0..16)
            .map(|at| {
                let values = format!("\\\"{at}\\\\").repeat(60);
                format!("bank:send.x{at}@**{{\"args\":{{\"amount\":{{\"max\":9007199254740993.5}},\"to\":{{\"eq\":\"{values}\"}}}},\"closed\":true}}")
            })
            .collect();
        let heavy = Token { scopes: crate::domain::scope::Scopes::parse(&texts).unwrap(), ..token() };
        let claims = payload(&heavy);
        assert!(claims.len() <= heavy.weight(), "{} bytes weigh {}", claims.len(), heavy.weight());
        assert!(claims.contains(r#""args":{"amount":{"max":9007199254740993.5},"to":{"eq":""#), "{claims:.600}");
        let json: serde_json::Value = serde_json::from_str(&claims).unwrap();
        assert!(json["scope"].is_null(), "a space-separated scope claim cannot hold quotes");
        let read: Vec<Detail> = serde_json::from_value(json["authorization_details"].clone()).unwrap();
        assert_eq!(read.into_iter().map(|detail| detail.scope).collect::<Vec<_>>(), Vec::from(heavy.scopes));
    }

    #[test]
    fn a_detail_that_does_not_say_its_own_constraints_is_refused() {
        let scope: Scope = r#"bank:send@**{"args":{"amount":{"max":100}},"closed":true}"#.parse().unwrap();
        let good = serde_json::to_string(&Detail::of(&scope)).unwrap();
        assert!(serde_json::from_str::<Detail>(&good).is_ok());
        for (from, to) in [
            (r#","args":{"amount":{"max":100}}"#, ""),
            (r#"{"max":100}},"closed""#, r#"{"max":101}},"closed""#),
            (r#"{"max":100}},"closed""#, r#"{"max":100,"min":1}},"closed""#),
            (r#","closed":true}"#, "}"),
            (r#","closed":true}"#, r#","closed":false}"#),
            (r#","closed":true}"#, r#","closed":true,"limit":1}"#),
            (r#"\"closed\":true"#, r#"\"args\":{}"#),
            ("urn:belay:tool-call", "urn:other"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{from}");
            assert!(serde_json::from_str::<Detail>(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn actors_are_named_when_the_subject_is_another() {
        let act = |subject: &str, chain: &[&str]| {
            let actors = chain.iter().map(|actor| (*actor).to_owned()).collect();
            serde_json::to_value(Act::of(subject, actors, &"i".parse().unwrap())).unwrap()
        };
        assert_eq!(act("a", &["a"]), serde_json::Value::Null);
        assert_eq!(act("a", &["a", "b", "a"]), serde_json::Value::Null);
        assert_eq!(act("ana", &["a"]), serde_json::json!({ "sub": "a", "iss": "i" }));
        assert_eq!(act("a", &["a", "b"]), serde_json::json!({ "sub": "b", "iss": "i" }));
        let nested = serde_json::json!({ "sub": "c", "iss": "i", "act": { "sub": "b", "iss": "i" } });
        assert_eq!(act("a", &["a", "b", "c"]), nested);
    }

    #[test]
    fn an_agent_that_delegates_to_itself_is_one_actor() {
        let mut chain = token().chain;
        chain.insert(0, chain[0].clone());
        chain.push(chain[2].clone());
        let actors = actors(&chain, &trust_domain());
        assert_eq!(actors, ["spiffe://td.example/agent/planner", "spiffe://td.example/agent/coder"]);
    }
}
