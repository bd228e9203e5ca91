//! Upstream secrets: what a tool's own API asks for, put into calls on their way there. No agent ever has one.

use serde::{Deserialize, Serialize};

use super::catalog::Host;
use super::digest::Digest;
use super::error::Error;
use super::name::Name;
use super::time::Timestamp;
#[cfg(feature = "broker")]
use super::view::View;

/// Names of upstream secrets, removed ones included: each call looks through them.
pub const MOST_UPSTREAMS: usize = 256;
/// Bytes of a value, its prefix included.
pub const LONGEST_VALUE: usize = 8192;
/// Headers that belong to the connection or say where a message goes and ends (RFC 9110, 7.6.1): whoever sets one of
/// these says more than a secret.
const TAKEN: [&str; 12] = [
    "connection", "content-length", "expect", "host", "http2-settings", "keep-alive", "proxy-authenticate",
    "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding",
];

/// A secret for one tool's API at one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// Its name.
    pub name: Name,
    /// The tool whose calls it goes with, as in scopes.
    pub tool: Name,
    /// Where it goes: `host` or `host:port`.
    pub host: Host,
    /// The header that it goes in.
    pub header: Header,
    /// The blob that holds the value, sealed.
    pub sealed: Digest,
    /// Whether it was removed.
    pub removed: bool,
    /// When it was added.
    pub created_at: Timestamp,
}

/// The name of a header that may hold a secret, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Header(String);

impl Upstream {
    /// What its value is sealed for: another tool, host or header does not open it.
    pub fn sealed_for(&self) -> String {
        format!("{} {} {} {}", self.name, self.tool, self.host, self.header)
    }
}

#[cfg(feature = "broker")]
impl<'a> View<'a> {
    /// The secret that goes with a call of this tool to this place, if there is one.
    pub fn upstream_of(&self, tool: &str, destination: &str) -> Option<&'a Upstream> {
        let meant = |one: &&Upstream| !one.removed && one.tool.as_str() == tool && one.host.is_at(destination);
        self.upstreams().find(meant)
    }

    /// Every upstream secret, removed or not; one that this batch changed may come twice.
    pub fn upstreams(&self) -> impl Iterator<Item = &'a Upstream> + use<'a> {
        let (view, fresh) = (*self, self.layers().flat_map(|layer| layer.upstreams.keys()));
        self.base.tables.upstreams.keys().chain(fresh).filter_map(move |name| view.upstream(name))
    }
}

/// Holds if a value may stand in a header as it is.
///
/// # Errors
/// It is empty, too long, holds more than printable ASCII, or begins or ends with a space. The message does not show it.
pub fn is_value(value: &str) -> Result<(), Error> {
    let printable = value.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if printable && !value.is_empty() && value.len() <= LONGEST_VALUE && value.trim() == value {
        return Ok(());
    }
    let why = "expected 1 to 8192 printable ASCII characters, without a space at either end";
    Err(Error::malformed("value", "…", why))
}

impl std::str::FromStr for Header {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| Error::malformed("header", text, why);
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if text.is_empty() || text.len() > 128 || !text.bytes().all(token) {
            return Err(wrong("expected the name of a header"));
        }
        let name = text.to_ascii_lowercase();
        if TAKEN.contains(&name.as_str()) || name == "upgrade" || name.starts_with("x-belay-") {
            return Err(wrong("it belongs to the connection, to the message or to the broker; name another"));
        }
        Ok(Self(name))
    }
}

impl std::fmt::Display for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Header {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Header> for String {
    fn from(header: Header) -> Self {
        header.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_says_more_than_a_secret_is_refused() {
        for good in ["authorization", "X-Api-Key", "cookie", "private-token"] {
            assert_eq!(good.parse::<Header>().unwrap().to_string(), good.to_lowercase());
        }
        for wrong in [
            "",
            "Host",
            "content-length",
            "Connection",
            "transfer-encoding",
            "TE",
            "upgrade",
            "X-Belay-Agent",
            ":authority",
            "a b",
            "a:b",
            "a\r\nb",
            "\u{e4}",
            "proxy-authorization",
            &"x".repeat(129),
        ] {
            assert!(wrong.parse::<Header>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_value_is_printable_ascii_and_is_not_shown_when_it_is_not() {
        assert!(is_value("Bearer abc ~").is_ok() && is_value(&"x".repeat(LONGEST_VALUE)).is_ok());
        for wrong in ["", " a", "a ", "hunter2\n", "hunter2\r\nx: y", "hunter2\u{e4}", "hunter2\0", "a\tb"] {
            assert!(!is_value(wrong).unwrap_err().to_string().contains("hunter2"), "{wrong:?}");
        }
        assert!(is_value(&"x".repeat(LONGEST_VALUE + 1)).is_err());
    }
}
