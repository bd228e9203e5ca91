//! Hosts of routes: `api.github.com`, `localhost:8080` or `*.example.com`.

use super::super::destination::authority_of;

/// The hosts that a route applies to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// A host; with a `.` before it, every host that ends so.
    pub(super) host: String,
    /// Without: any.
    pub(super) port: Option<u16>,
}

impl Place {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (below, rest) = text.strip_prefix("*.").map_or((false, text), |rest| (true, rest));
        let why = "a host is a name or an address, with a port or without, or *.example.com for all below it";
        let (host, port) = authority_of(rest).filter(|_| text.len() <= 255).ok_or(why)?;
        // Addresses have nothing below them: `*.0.0.1` would be hosts of everybody.
        let last = host.rsplit('.').next().unwrap_or_default();
        let is_address = host.starts_with('[') || !last.bytes().any(|byte| byte.is_ascii_alphabetic());
        if below && is_address {
            return Err(why.to_owned());
        }
        Ok(Self { host: if below { format!(".{host}") } else { host }, port })
    }
}

/// This host and each name above it as a route would have it, the nearest first.
pub(super) fn upwards(host: &str) -> impl Iterator<Item = &str> {
    let above = host.match_indices('.').map(|(at, _)| &host[at..]);
    std::iter::once(host).chain(above)
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", if self.host.starts_with('.') { "*" } else { "" }, self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}
