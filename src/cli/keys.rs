//! `belay keys`: what the broker signs with.

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::connect::{Global, answer};
use super::output::{Answer, given, note, pairs, rows, sparse};
use crate::client::{Identity, Refusal};
use crate::domain::key::Purpose as Signs;
use crate::wire::v1::keys_client::KeysClient;
use crate::wire::v1::{Key, ListKeysRequest, RotateKeyRequest, TaintKeyRequest, TaintKeyResponse};

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List all signing keys, with where each is in its life
    #[command(after_help = "Example:\n  belay keys list -o json")]
    List,
    /// Make a new key: shown to others now, in use after its notice
    #[command(after_help = "Example:\n  belay keys rotate token")]
    Rotate {
        /// What it signs
        purpose: Purpose,
        /// In use at once: whoever fetched the keys before does not know it yet
        #[arg(long)]
        now: bool,
    },
    /// Refuse everything under a key, at once and for good; one in use gets a successor
    #[command(after_help = "Example:\n  belay keys taint 5Zr6XvLzTqfmCkFQ5S3n2g --reason 'found in a core dump'")]
    Taint {
        /// The key, as `belay keys list` names it
        #[arg(allow_hyphen_values = true)]
        kid: String,
        /// Why, for the audit
        #[arg(long)]
        reason: String,
    },
}

/// What a key signs.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Purpose {
    /// Tokens
    Token,
    /// Certificates of agents and of the broker
    Authority,
    /// Certificates of operators
    Operator,
    /// Checkpoints of the log
    Log,
}

impl Command {
    /// Does it.
    pub async fn run(self, global: &Global) -> Answer {
        let mut keys = KeysClient::new(global.channel().await?);
        match self {
            Self::List => list(global, &answer(keys.list(ListKeysRequest {}).await)?.keys),
            Self::Rotate { purpose, now } => {
                let signs = Signs::from(purpose);
                let request = RotateKeyRequest { purpose: signs.to_string(), at_once: now };
                let rotated = answer(keys.rotate(request).await)?;
                learn(global, &rotated.authorities);
                let key = rotated.key.unwrap_or_default();
                let known = advice(signs, now, &key.use_from);
                let document = json!({ "key": document(&key), "note": known });
                global.printer().print(&document, || format!("{}\n{known}", table(&key)))
            }
            Self::Taint { kid, reason } => {
                let tainted = answer(keys.taint(TaintKeyRequest { kid, reason }).await)?;
                if tainted.caller_shut_out {
                    note(
                        "warning: your own identity was under this key and is refused now; get a new one: another \
                         operator runs `belay operator invite`, or whoever runs the broker `belay init --recover`",
                    );
                } else {
                    learn(global, &tainted.authorities);
                }
                let next = tainted.key.as_ref().and_then(|key| key.purpose.parse().ok()).map_or("", aftermath);
                let mut document = tainted_document(&tainted);
                document["note"] = next.into();
                global.printer().print(&document, || format!("{}\n{next}", tainted_table(&tainted)))
            }
        }
    }
}

/// The broker may be known by another authority from now on. It was asked over a connection that the old one vouched
/// for, so its word is good. What was asked for is done, whether or not this can be written down.
fn learn(global: &Global, authorities: &[Vec<u8>]) {
    let learnt = || -> Result<(), Refusal> {
        let directory = global.identity()?;
        let known = Identity::load(&directory)?;
        let same = known.authorities().iter().map(AsRef::as_ref).eq(authorities.iter().map(Vec::as_slice));
        if same || authorities.is_empty() {
            return Ok(());
        }
        Ok(Identity::trust(&directory, authorities)?)
    };
    if let Err(refusal) = learnt() {
        note(&format!("warning: your identity did not learn the broker's authorities: {}", refusal.message));
    }
}

/// What whoever rotates has to know.
fn advice(purpose: Signs, now: bool, use_from: &str) -> String {
    match (purpose, now) {
        (Signs::Token, false) => format!("signs from {use_from}; a service that checks tokens offline fetches the key set again before"),
        (Signs::Token, true) => "signs now; a service that checks tokens offline refuses new ones until it fetches the key set again".to_owned(),
        (Signs::Authority, false) => format!("signs from {use_from}; every agent and operator that renews its identity before learns it, and one that does not has to enroll again"),
        (Signs::Authority, true) => "signs now; the broker itself stays under the authority before it for a day, in which every agent and operator learns the new one as it renews".to_owned(),
        (Signs::Operator, false) => format!("signs from {use_from}; operators renew as ever"),
        (Signs::Operator, true) => "signs now; operators renew as ever".to_owned(),
        (Signs::Log, _) => "signs now; give the verifier key to whoever checks checkpoints".to_owned(),
    }
}

/// What is left to do after a taint.
fn aftermath(purpose: Signs) -> &'static str {
    match purpose {
        Signs::Token => {
            "agents issue new tokens; a service that checks tokens offline accepts the old ones until it fetches the key set again"
        }
        Signs::Authority => {
            "agents under it enroll again: `belay agent invite NAME`; other operators take ca.pem from this identity, or a new invitation"
        }
        Signs::Operator => "operators under it enroll again: `belay operator invite NAME`",
        Signs::Log => {
            "give the new verifier key to whoever checks checkpoints; those under the old one prove nothing any more"
        }
    }
}

/// A key as a document.
fn document(key: &Key) -> Value {
    sparse(json!({
        "kid": key.kid,
        "purpose": key.purpose,
        "phase": key.phase,
        "created_at": key.created_at,
        "use_from": key.use_from,
        "ends_at": given(&key.ends_at),
        "public": given(&key.public),
        "fingerprint": given(&key.fingerprint),
        "tainted_at": given(&key.tainted_at),
    }))
}

fn list(global: &Global, keys: &[Key]) -> Answer {
    let document = json!({ "keys": keys.iter().map(document).collect::<Vec<_>>() });
    global.printer().print(&document, || {
        let row = |key: &Key| [&key.kid, &key.purpose, &key.phase, &key.use_from, &key.ends_at].map(Clone::clone);
        rows(["KID", "PURPOSE", "PHASE", "USED FROM", "ENDS"], keys.iter().map(row))
    })
}

fn table(key: &Key) -> String {
    pairs([
        ("key", &key.kid),
        ("purpose", &key.purpose),
        ("phase", &key.phase),
        ("used from", &key.use_from),
        ("ends", &key.ends_at),
        ("public", &key.public),
        ("fingerprint", &key.fingerprint),
    ])
}

fn tainted_document(tainted: &TaintKeyResponse) -> Value {
    sparse(json!({
        "key": tainted.key.as_ref().map(document),
        "successor": tainted.successor.as_ref().map(document),
        "final": tainted.r#final,
        "cut": { "tokens": tainted.tokens, "certificates": tainted.certificates },
        "caller_shut_out": tainted.caller_shut_out,
    }))
}

fn tainted_table(tainted: &TaintKeyResponse) -> String {
    let kid = |key: &Option<Key>| key.as_ref().map_or_else(String::new, |key| key.kid.clone());
    pairs([
        ("tainted", &kid(&tainted.key)),
        ("signs now", &kid(&tainted.successor)),
        ("tokens", &tainted.tokens.to_string()),
        ("certificates", &tainted.certificates.to_string()),
    ])
}

impl From<Purpose> for Signs {
    fn from(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Token => Self::Token,
            Purpose::Authority => Self::Authority,
            Purpose::Operator => Self::Operator,
            Purpose::Log => Self::Log,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_keys_that_scripts_read() {
        let document = document(&Key { kid: "k".into(), public: "p".into(), ..Key::default() });
        for key in ["kid", "purpose", "phase", "created_at", "use_from", "public"] {
            assert!(document.get(key).is_some(), "{key}");
        }
        assert!(["ends_at", "fingerprint", "tainted_at"].iter().all(|key| document.get(key).is_none()));
        let tainted = tainted_document(&TaintKeyResponse { r#final: true, ..TaintKeyResponse::default() });
        assert_eq!((tainted["final"].as_bool(), tainted["cut"]["tokens"].as_u64()), (Some(true), Some(0)));
    }
}
