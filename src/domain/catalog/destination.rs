//! Where calls go: `https://api.github.com/repos`, `db.internal:5432` or `db.internal`.
//!
//! Only what every reader of URLs reads alike is read at all. A name before an `@`, a backslash or a path that leads
//! upwards is taken by some for one place and by others for another.

use serde::{Deserialize, Serialize};

use crate::domain::error::Error;

/// A place that a call may go to. What it does not say, it leaves open.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Destination {
    scheme: Option<String>,
    host: String,
    port: Option<u16>,
    /// The parts of the path.
    path: Vec<String>,
}

impl Destination {
    /// Reads a URL, or a host with or without a port; none if it is neither, or could be read in two ways.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.len() > 2048 || !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
            return None;
        }
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(name(scheme, b"+.-")?), rest),
            None => (None, text),
        };
        let (authority, after) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if scheme.is_none() && !after.is_empty() {
            return None;
        }
        let (host, port) = authority_of(authority)?;
        let path = path(after.split(['?', '#']).next().unwrap_or_default())?;
        let port = port.or(match scheme.as_deref() {
            Some("http" | "ws") => Some(80),
            Some("https" | "wss") => Some(443),
            _ => None,
        });
        Some(Self { scheme, host, port, path })
    }

    /// Whether going there stays within this place.
    pub(super) fn allows(&self, going: &Self) -> bool {
        let same = |open: bool, equal: bool| open || equal;
        self.host == going.host
            && same(self.scheme.is_none(), self.scheme == going.scheme)
            && same(self.scheme.is_none() && self.port.is_none(), self.port == going.port)
            && going.path.starts_with(&self.path)
    }
}

/// A host, with a port or without, as it is written in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Host(String);

impl Host {
    /// Whether a call that goes there goes to this host. Without a port, that is one that says none, or that of HTTP or
    /// HTTPS.
    pub fn is_at(&self, destination: &str) -> bool {
        let (Some((host, port)), Some(going)) = (authority_of(&self.0), Destination::parse(destination)) else {
            return false;
        };
        let there = |port: Option<u16>| port.is_none_or(|port| matches!(port, 80 | 443));
        host == going.host && port.map_or_else(|| there(going.port), |port| going.port == Some(port))
    }
}

impl std::str::FromStr for Host {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong =
            || Error::malformed("host", text, "expected a host with or without a port, as in api.example.com:8443");
        let good = text.len() <= 256 && text.bytes().all(|byte| byte.is_ascii_graphic());
        authority_of(text).filter(|_| good).map(|_| Self(text.to_ascii_lowercase())).ok_or_else(wrong)
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Host {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Host> for String {
    fn from(host: Host) -> Self {
        host.0
    }
}

/// The host, in small letters, and the port of `host:port`; none if it is neither, or could be read in two ways.
pub(super) fn authority_of(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            let is_address = address.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':' || byte == b'.');
            let address =
                (is_address && address.contains(':')).then(|| format!("[{}]", address.to_ascii_lowercase()))?;
            (address, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => match text.split_once(':') {
            Some((host, port)) => (name(host, b".-_")?, Some(port)),
            None => (name(text, b".-_")?, None),
        },
    };
    if host.ends_with('.') || host.starts_with('.') || host.contains("..") {
        return None;
    }
    let is_number = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    match port {
        None => Some((host, None)),
        Some(port) if is_number(port) => Some((host, Some(port.parse().ok()?))),
        Some(_) => None,
    }
}

/// Letters and digits of either case, and these.
fn name(text: &str, others: &[u8]) -> Option<String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || others.contains(&byte);
    (!text.is_empty() && text.bytes().all(good)).then(|| text.to_ascii_lowercase())
}

/// The parts of a path; a `/` at its end adds none.
fn path(text: &str) -> Option<Vec<String>> {
    // Some servers take an escaped `/` or `.` for a plain one.
    let plain = text.to_ascii_lowercase().replace("%2f", "/").replace("%5c", "/").replace("%2e", ".");
    // Parameters behind a `;` are no part of the path to some, and an escaped `%` is an escape to who decodes twice.
    let twofold = plain.contains(';') || plain.contains("%3b") || plain.contains("%25");
    if twofold || plain.split('/').any(|part| part == "." || part == "..") {
        return None;
    }
    let text = text.strip_prefix('/').unwrap_or(text);
    let text = text.strip_suffix('/').unwrap_or(text);
    Some(if text.is_empty() { Vec::new() } else { text.split('/').map(str::to_owned).collect() })
}

#[cfg(test)]
mod tests {
    use super::{Destination, Host};

    fn allows(known: &str, going: &str) -> bool {
        let known = Destination::parse(known).unwrap_or_else(|| panic!("{known}"));
        Destination::parse(going).is_some_and(|going| known.allows(&going))
    }

    #[test]
    fn a_host_is_that_host_and_no_other_port_than_was_meant() {
        let is_at = |host: &str, going: &str| host.parse::<Host>().unwrap().is_at(going);
        for going in ["API.example.com", "https://api.example.com/x", "http://api.example.com", "api.example.com:443"] {
            assert!(is_at("api.Example.com", going), "{going}");
        }
        for going in
            ["api.example.com:8080", "https://api.example.com:8443", "example.com", "x.api.example.com", "", "a b"]
        {
            assert!(!is_at("api.example.com", going), "{going}");
        }
        assert!(is_at("127.0.0.1:18080", "http://127.0.0.1:18080/a") && !is_at("127.0.0.1:18080", "127.0.0.1"));
        for wrong in ["", "https://a", "a/b", "u@a", "a:b", "a:99999", ".a", "a..b", "a b"] {
            assert!(wrong.parse::<Host>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_destination_is_compared_by_its_parts_and_never_as_text() {
        let within = [
            ("https://api.github.com", "https://api.github.com/repos/acme/web?page=2"),
            ("https://api.github.com", "HTTPS://API.GitHub.com:443/"),
            ("https://api.github.com/repos", "https://api.github.com/repos"),
            ("https://api.github.com/repos/", "https://api.github.com/repos/acme"),
            ("http://[::1]:8080", "http://[::1]:8080/x"),
            ("db.internal", "db.internal:5432"),
            ("db.internal", "postgres://db.internal:5432/orders"),
            ("db.internal:5432", "postgres://db.internal:5432/orders"),
            ("https://x", "https://x/group%2Fproject"),
        ];
        for (known, going) in within {
            assert!(allows(known, going), "{known} {going}");
        }
        let beyond = [
            ("https://api.github.com", "https://api.github.com.evil.example/"),
            ("https://api.github.com", "https://api.github.com@evil.example/"),
            ("https://api.github.com", "https://evil.example/https://api.github.com"),
            ("https://api.github.com", "https://evil.example#https://api.github.com"),
            ("https://api.github.com", "https://evil.example\\@api.github.com"),
            ("https://api.github.com", "https://api.github.com\\.evil.example"),
            ("https://api.github.com", "http://api.github.com"),
            ("https://api.github.com", "https://api.github.com:8443"),
            ("https://api.github.com", "https://api.github.com."),
            ("https://api.github.com", "api.github.com"),
            ("https://api.github.com", "https://github.com"),
            ("https://api.github.com", ""),
            ("https://api.github.com/repos", "https://api.github.com/reposx"),
            ("https://api.github.com/repos", "https://api.github.com/repos/../user"),
            ("https://api.github.com/repos", "https://api.github.com/repos/%2e%2E/user"),
            ("https://api.github.com/repos", "https://api.github.com/repos/x%2f..%2f..%2fuser"),
            ("https://api.github.com/repos", "https://api.github.com"),
            ("https://api.github.com/repos", "https://api.github.com/repos/..;/user"),
            ("https://api.github.com/repos", "https://api.github.com/repos;x=1/user"),
            ("https://api.github.com/repos", "https://api.github.com/repos/..%3b/user"),
            ("https://api.github.com/repos", "https://api.github.com/repos/%252e%252e/user"),
            ("db.internal:5432", "db.internal"),
            ("db.internal:5432", "db.internal:5433"),
            ("db.internal", "xdb.internal"),
        ];
        for (known, going) in beyond {
            assert!(!allows(known, going), "{known} {going}");
        }
    }

    #[test]
    fn what_is_no_destination_is_refused() {
        for text in ["", " ", "https://", "https://a b", "a/b", "https://a:99999", "a:", "a:x", "*.a", "[x]", "//a"] {
            assert_eq!(Destination::parse(text), None, "{text:?}");
        }
    }
}
