//! Join tokens: how a new party learns where the broker is, by which root to know it, and one secret.
//!
//! One line of text, `belay1.` and base64url of id, secret, root digest and address. The secret is
//! shown once, by [`JoinToken::reveal`]; nothing else here prints it, errors least of all.

use uuid::Uuid;

use super::{base64url, from_base64url};
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};
use crate::domain::id::JoinId;

const PREFIX: &str = "belay1.";
const ID: usize = 16;
const SECRET: usize = 32;
const AUTHORITY: usize = 32;
const ADDRESS: usize = 256;

/// A single-use invitation with its secret.
#[derive(Clone)]
pub struct JoinToken {
    /// Its id; not secret.
    pub id: JoinId,
    /// 256 uniformly random bits: whoever has them may enroll.
    pub secret: [u8; SECRET],
    /// The broker's gRPC address, `https://HOST:PORT`, at most 256 bytes.
    pub addr: String,
    /// SHA-256 of the root certificate (DER): whom the new party talks to.
    pub authority: Digest,
}

impl JoinToken {
    /// The text, secret and all: for the one who was invited, and never for a log.
    pub fn reveal(&self) -> String {
        let bytes = [self.id.uuid().as_bytes(), &self.secret[..], &self.authority.0, self.addr.as_bytes()].concat();
        format!("{PREFIX}{}", base64url(&bytes))
    }

    /// SHA-256 of the secret: all of it that the broker keeps.
    pub fn secret_hash(&self) -> Digest {
        Digest::of(&self.secret)
    }
}

impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinToken").field("id", &self.id).field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl std::str::FromStr for JoinToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bytes = text.strip_prefix(PREFIX).and_then(from_base64url);
        let bytes = bytes.ok_or_else(|| wrong("copy the whole line, from `belay1.` to its end"))?;
        let cut = || wrong("it is incomplete; copy the whole line");
        let (id, rest) = bytes.split_first_chunk::<ID>().ok_or_else(cut)?;
        let (secret, rest) = rest.split_first_chunk::<SECRET>().ok_or_else(cut)?;
        let (authority, addr) = rest.split_first_chunk::<AUTHORITY>().ok_or_else(cut)?;
        let id = JoinId::from_uuid(Uuid::from_bytes(*id)).ok_or_else(|| wrong("its id is not one of ours"))?;
        let addr = std::str::from_utf8(addr).ok().filter(|addr| is_address(addr));
        let addr = addr.ok_or_else(|| wrong("its address is not `https://HOST:PORT`"))?;
        Ok(Self { id, secret: *secret, addr: addr.to_owned(), authority: Digest(*authority) })
    }
}

/// Whether `text` is `https://HOST:PORT` and nothing else: no user, path, query or fragment.
fn is_address(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else { return false };
    let (Some(host), Some(port)) = (uri.host(), uri.port_u16()) else { return false };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let good = match bare {
        Some(bare) => bare.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-'),
    };
    text.len() <= ADDRESS && port > 0 && good && text == format!("https://{host}:{port}")
}

/// Says nothing of the text: any part of it may be the secret.
fn wrong(why: &str) -> Error {
    Error::new(Code::Invalid, "malformed", format!("the join token is not valid: {why}")).on("join_token")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::entropy::Entropy;
    use crate::domain::time::Timestamp;

    fn token(addr: &str) -> JoinToken {
        let mut entropy = Entropy::from_seed([3; 32]);
        let id = JoinId::mint(Timestamp::from_seconds(1_795_000_000), &mut entropy);
        JoinToken { id, secret: entropy.take(), addr: addr.to_owned(), authority: Digest::of(b"root") }
    }

    #[test]
    fn a_join_token_reads_back() {
        for addr in ["https://broker.example:8443", "https://127.0.0.1:1", "https://[::1]:65535"] {
            let made = token(addr);
            let read: JoinToken = made.reveal().parse().unwrap();
            assert_eq!((read.id, read.secret, read.authority), (made.id, made.secret, made.authority));
            assert_eq!((read.addr.as_str(), read.reveal()), (addr, made.reveal()));
            assert_eq!(read.secret_hash(), Digest::of(&made.secret));
        }
    }

    #[test]
    fn only_an_https_address_is_taken() {
        let long = format!("https://{}:1", "a".repeat(250));
        for addr in [
            "", "https://h", "https://h:", "https://h:0", "https://h:70000", "https://h:01", "http://h:1",
            "HTTPS://h:1", "https://h:1/", "https://h:1/x", "https://h:1?q", "https://h:1#f", "https://u@h:1",
            "https://:1", "https://h h:1", "https://[::1:1", "https://[x]:1", "https://%68:1", "https://a!b:1", "h:1",
            "https://h:1\n", &long,
        ] {
            assert!(token(addr).reveal().parse::<JoinToken>().is_err(), "{addr:?}");
        }
    }

    #[test]
    fn a_damaged_join_token_is_refused_without_telling_it() {
        let text = token("https://h:1").reveal();
        let twins = [
            text[..40].to_owned(),
            text.replace("belay1.", "belay2."),
            text[7..].to_owned(),
            format!("{text}="),
            format!("{text}\n"),
            format!(" {text}"),
            format!("belay1.{}", "A".repeat(150)),
            "belay1.".to_owned(),
            String::new(),
            "A".repeat(1 << 20),
        ];
        for twin in twins {
            let error = twin.parse::<JoinToken>().unwrap_err();
            assert!(twin.len() < 20 || !error.message.contains(&twin[8..20]), "{error}");
        }
    }

    #[test]
    fn debug_hides_the_secret() {
        let token = JoinToken { secret: *b"0123456789abcdef0123456789abcdef", ..token("https://h:1") };
        let shown = format!("{token:?} {token:#?}");
        assert!(!shown.contains("secret") && !shown.contains("48, 49") && !shown.contains("0123456789"), "{shown}");
    }
}
