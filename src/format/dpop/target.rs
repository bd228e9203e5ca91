//! The URL that a proof is for: `htu`, compared without query and fragment (RFC 9449, section 4.3).

use std::net::Ipv6Addr;

const LONGEST: usize = 4096;

/// Where a request goes. Two spellings of one scheme, host and port are one; a path is compared as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    secure: bool,
    host: String,
    port: u16,
    path: String,
}

impl Target {
    /// Reads an absolute URL; none if it is not `https` or `http` with a host, or names a user.
    pub fn parse(url: &str) -> Option<Self> {
        if url.len() > LONGEST || !url.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
            return None;
        }
        let (scheme, rest) = url.split_once("://")?;
        let secure = scheme.eq_ignore_ascii_case("https");
        if !secure && !scheme.eq_ignore_ascii_case("http") {
            return None;
        }
        let rest = rest.find(['?', '#']).map_or(rest, |end| &rest[..end]);
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = authority_of(authority)?;
        let port = port.unwrap_or(if secure { 443 } else { 80 });
        Some(Self { secure, host, port, path: if path.is_empty() { "/" } else { path }.to_owned() })
    }
}

fn authority_of(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            (format!("[{}]", address.parse::<Ipv6Addr>().ok()?), port)
        }
        None => {
            let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            (Some(host.to_ascii_lowercase()).filter(|host| !host.is_empty() && host.bytes().all(plain))?, port)
        }
    };
    match port.strip_prefix(':') {
        None if port.is_empty() => Some((host, None)),
        Some(digits) if digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some((host, Some(digits.parse().ok().filter(|port| *port > 0)?)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_spellings_of_one_place_are_one_and_other_places_are_others() {
        let same = |one: &str, other: &str| Target::parse(one).unwrap() == Target::parse(other).unwrap();
        for (one, other) in [
            ("https://Orders.Example/a", "HTTPS://orders.example:443/a"),
            ("https://orders.example", "https://orders.example/"),
            ("https://orders.example/a?b=c", "https://orders.example/a#d"),
            ("http://orders.example/a", "http://orders.example:080/a"),
            ("https://[::1]:8443/a", "https://[0:0:0:0:0:0:0:1]:8443/a"),
        ] {
            assert!(same(one, other), "{one} {other}");
        }
        for other in [
            "http://orders.example/a",
            "https://orders.example:8443/a",
            "https://orders.example./a",
            "https://orders.example/A",
            "https://orders.example/a/",
            "https://orders.example//a",
            "https://orders.example/%61",
            "https://orders.example/x/../a",
            "https://orders.example.evil/a",
            "https://evil/a?https://orders.example/a",
        ] {
            assert!(!same("https://orders.example/a", other), "{other}");
        }
    }

    #[test]
    fn what_is_no_plain_url_is_none() {
        for wrong in [
            "", "orders.example/a", "//orders.example/a", "https:///a", "https://", "ftp://orders.example/a",
            "https://me@orders.example/a", "https://orders.example@evil/a", "https://orders.example:/a",
            "https://orders.example:0/a", "https://orders.example:65536/a", "https://orders.example:+1/a",
            "https://orders.example:443:443/a", "https://[::1/a", "https://[::1]x/a", "https://[x]/a",
            "https://orders.example\\@evil/a", "https://orders.example/a b", "https://örders.example/a",
            "https://orders.example/a\n", " https://orders.example/a", "https://orders%2eexample/a",
        ] {
            assert_eq!(Target::parse(wrong), None, "{wrong:?}");
        }
    }
}
