//! The configuration: one TOML file, every key documented here, nothing unknown accepted.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use crate::domain::error::{Code, Error};
use crate::domain::name::{Audience, TrustDomain};
use crate::ledger::SNAPSHOT_EVERY;

/// How a broker is run.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The SPIFFE trust domain: one deployment, one ledger. Fixed once the ledger has begun.
    pub trust_domain: TrustDomain,
    /// `iss` of every token. Default: `https://` and the trust domain. Fixed once the ledger has begun.
    pub issuer: Option<Audience>,
    /// Where the ledger and the master key are. Made with mode 0700 if it is not there.
    pub data: PathBuf,
    /// Where gRPC listens, with mutual TLS.
    #[serde(default = "grpc")]
    pub grpc: SocketAddr,
    /// Where keys, trust bundle and health are read over HTTPS.
    #[serde(default = "http")]
    pub http: SocketAddr,
    /// Further DNS names and IP addresses under which callers reach the broker.
    #[serde(default)]
    pub names: Vec<String>,
    /// Events between snapshots: a start replays no more than that, or than there are live records.
    #[serde(default = "snapshot_every")]
    pub snapshot_every: u64,
}

fn grpc() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7440))
}

fn http() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7441))
}

fn snapshot_every() -> u64 {
    SNAPSHOT_EVERY
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// It is not TOML, a key is unknown, missing or of the wrong type, or both listeners share an address.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let config: Self = toml::from_str(text).map_err(|error| {
            let line = 1 + error.span().map_or(0, |span| text[..span.start].matches('\n').count());
            let why = error.message().lines().collect::<Vec<_>>().join(", ");
            Error::new(Code::Invalid, "configuration", format!("configuration, line {line}: {why}"))
        })?;
        if config.grpc == config.http && config.grpc.port() != 0 {
            let message = format!("`grpc` and `http` are both {}; give each its own port", config.grpc);
            return Err(Error::new(Code::Invalid, "configuration", message).on("http"));
        }
        if config.snapshot_every == 0 {
            return Err(Error::new(Code::Invalid, "configuration", "`snapshot_every` is 0; it is at least 1")
                .on("snapshot_every"));
        }
        Ok(config)
    }

    /// `iss` of tokens.
    ///
    /// # Errors
    /// The trust domain is too long to make one.
    pub fn issuer(&self) -> Result<Audience, Error> {
        match &self.issuer {
            Some(issuer) => Ok(issuer.clone()),
            None => format!("https://{}", self.trust_domain).parse(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_sample_is_a_configuration() {
        let sample = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/belay.toml")).unwrap();
        let config = Config::parse(&sample).unwrap();
        assert_eq!(config.trust_domain.as_str(), "agents.example.com");
        assert_eq!(config.issuer().unwrap().as_str(), "https://belay.example.com:7441");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = [
            ("", "trust_domain"),
            ("trust_domain = 'x'\ndata = '/d'\nissuerr = 'y'", "issuerr"),
            ("trust_domain = 'X'\ndata = '/d'", "line 1"),
            ("trust_domain = 'x'\ndata = 7", "line 2"),
            ("trust_domain = 'x'\ndata = '/d'\ngrpc = 'nowhere'", "line 3"),
            ("trust_domain = 'x'\ndata = '/d'\ngrpc = '127.0.0.1:1'\nhttp = '127.0.0.1:1'", "both"),
            ("trust_domain = 'x'\ndata = '/d'\nsnapshot_every = 0", "snapshot_every"),
            ("trust_domain = 'x'\ntrust_domain = 'x'\ndata = '/d'", "line 2"),
        ];
        for (text, named) in wrong {
            let error = Config::parse(text).unwrap_err();
            assert!(error.message.contains(named) && !error.message.contains('\n'), "{text}: {error}");
        }
    }
}
