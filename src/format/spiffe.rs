//! SPIFFE IDs, read strictly (SPIFFE-ID, section 2): compared byte for byte, never normalised.
//!
//! An id in upper case, with a port, a percent-escape or a trailing slash is refused: another reader
//! might see another party in it.

use crate::domain::agent::Kind;
use crate::domain::error::Error;
use crate::domain::name::{Name, TrustDomain};

const SCHEME: &str = "spiffe://";
const LONGEST: usize = 2048;

/// A SPIFFE ID: `spiffe://TRUST_DOMAIN` and a path, which may be empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    path: String,
}

impl SpiffeId {
    /// The id of a party of ours.
    pub fn of(trust_domain: &TrustDomain, kind: Kind, name: &Name) -> Self {
        Self { trust_domain: trust_domain.clone(), path: format!("/{kind}/{name}") }
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The path with its leading slash; empty for a trust domain's own id.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The party that the path names, if it has the form of our names: `/KIND/NAME`.
    pub fn party(&self) -> Option<(Kind, Name)> {
        let (kind, name) = self.path.strip_prefix('/')?.split_once('/')?;
        Some((kind.parse().ok()?, name.parse().ok()?))
    }
}

impl std::fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{SCHEME}{}{}", self.trust_domain, self.path)
    }
}

impl std::str::FromStr for SpiffeId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| Error::malformed("spiffe_id", text, why);
        if text.len() > LONGEST {
            return Err(wrong("at most 2048 bytes"));
        }
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| wrong("it begins with `spiffe://`, in lower case"))?;
        let (domain, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        let trust_domain =
            domain.parse().map_err(|_| wrong("a trust domain is 1 to 255 of a-z, 0-9, `.`, `_` and `-`"))?;
        if !path.is_empty() && !path[1..].split('/').all(is_segment) {
            return Err(wrong(
                "a path is `/`-separated parts of a-z, A-Z, 0-9, `.`, `_` and `-`; no empty part, `.` or `..`",
            ));
        }
        Ok(Self { trust_domain, path: path.to_owned() })
    }
}

fn is_segment(part: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !matches!(part, "" | "." | "..") && part.bytes().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_no_twins() {
        for good in ["spiffe://td", "spiffe://td/agent/planner", "spiffe://a.b-c_d/X/...", "spiffe://td/agent/a/b"] {
            assert_eq!(good.parse::<SpiffeId>().unwrap().to_string(), good);
        }
        let long = format!("spiffe://td/{}", "a".repeat(2037));
        let domain = format!("spiffe://{}/a", "a".repeat(256));
        for wrong in [
            "", "spiffe://", "spiffe:///a", "SPIFFE://td/a", "spiffe://TD/a", "spiffe://td:1/a", "spiffe://u@td/a",
            "spiffe://td/", "spiffe://td/a/", "spiffe://td//a", "spiffe://td/.", "spiffe://td/../a", "spiffe://td/%61",
            "spiffe://td/a?b", "spiffe://td/a#b", "https://td/a", "spiffe://td/\u{430}", " spiffe://td", &long,
            &domain,
        ] {
            assert!(wrong.parse::<SpiffeId>().is_err(), "{wrong:.60}");
        }
    }

    #[test]
    fn a_party_is_a_kind_and_a_name() {
        let party = |path: &str| format!("spiffe://td{path}").parse::<SpiffeId>().unwrap().party();
        assert_eq!(party("/agent/planner"), Some((Kind::Agent, "planner".parse().unwrap())));
        for other in ["", "/agent", "/agent/a/b", "/agent/Planner", "/admin/a", "/a/agent/b"] {
            assert_eq!(party(other), None, "{other}");
        }
    }
}
