//! The configuration: one TOML file, every key documented here, nothing unknown accepted.
//!
//! What is wrong is told in one line that names the key and what kind of value it has, never the value: a secret
//! may have been pasted where it does not belong.

mod check;
mod quotas;
mod read;
mod subject;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use check::{At, Checked, check};
pub use subject::SubjectIssuer;

use self::read::Keys;
use super::{data, file, log};
use crate::broker::PartyQuotas;
use crate::domain::error::{Code, Error};
use crate::domain::name::{Audience, TrustDomain};
use crate::ledger::SNAPSHOT_EVERY;

/// How a broker is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The SPIFFE trust domain: one deployment, one ledger. Fixed once the ledger has begun.
    pub trust_domain: TrustDomain,
    /// `iss` of every token: where verifiers find the keys. An `https` URL without query and fragment; default:
    /// `https://` and the trust domain. Fixed once the ledger has begun.
    pub issuer: Option<Audience>,
    /// Where the ledger and the master key are, made by `belay init` with mode 0700. Absolute: a relative path
    /// would mean another place for the service manager than for a shell. It may be a symbolic link.
    pub data: PathBuf,
    /// Where gRPC listens, with mutual TLS. Default: `127.0.0.1:7440`; port 0 picks one.
    pub grpc: SocketAddr,
    /// Where keys, trust bundle and health are read over HTTPS. Default: `127.0.0.1:7441`; port 0 picks one.
    pub http: SocketAddr,
    /// Further DNS names and IP addresses under which callers reach the broker, at most 16; join tokens send new
    /// agents to the first. Changed by a reload.
    pub names: Vec<String>,
    /// A certificate for the HTTPS pages in place of one of the broker's own authority: PEM, leaf first. Absolute;
    /// goes with `http_key`. Read again by a reload.
    pub http_certificate: Option<PathBuf>,
    /// Its key: PEM, not encrypted, mode 0600, or 0640 for a group that may read it.
    pub http_key: Option<PathBuf>,
    /// Events between snapshots: a start replays no more than that, or than there are live records. Default: 20000.
    pub snapshot_every: u64,
    /// How long one request may take, its message included: `1s` to `10m`. Default: `30s`.
    pub request_timeout: Duration,
    /// How long requests under way may take to finish once the broker is told to stop: `1s` to `10m`. Default:
    /// `10s`. Changed by a reload.
    pub drain: Duration,
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace` or `off`, or levels by module, as in
    /// `warn,belay::ledger=debug`. Default: `info`; `BELAY_LOG` comes first. Changed by a reload.
    pub log: String,
    /// The identity providers whose tokens say on whose behalf a task runs. Changed by a reload, which reads their
    /// keys again. Default: none, and a task runs on behalf of nobody.
    pub subject_issuer: Vec<SubjectIssuer>,
    /// How much each agent, owner and enforcement point may ask. Changed by a reload. A development broker has none.
    pub quotas: PartyQuotas,
}

/// Every key of a configuration file, and what its value has to be.
const KEYS: read::Known = &[
    ("trust_domain", "a SPIFFE trust domain: 1 to 160 of a-z, 0-9, `.`, `-` and `_`"),
    ("issuer", "a URL such as \"https://belay.example.com\", of at most 256 bytes, without user, query and fragment"),
    ("data", "the absolute path of a directory"),
    ("grpc", "an IP address and a port, as in \"0.0.0.0:7440\""),
    ("http", "an IP address and a port, as in \"0.0.0.0:7441\""),
    ("names", "a list of at most 16 different DNS names and IP addresses, without scheme, port or wildcard"),
    ("http_certificate", "the absolute path of a PEM file"),
    ("http_key", "the absolute path of a PEM file"),
    ("snapshot_every", "a whole number, at least 1"),
    ("request_timeout", "a number with its unit, from 1s to 10m, as in \"30s\""),
    ("drain", "a number with its unit, from 1s to 10m, as in \"10s\""),
    ("log", "error, warn, info, debug, trace or off, or levels by module, as in \"warn,belay::ledger=debug\""),
    ("subject_issuer", "a list of at most 16 tables, each as `[[subject_issuer]]` and the keys below it"),
    ("quotas", "one table, as `[quotas]` and the keys below it"),
];

const MOST_NAMES: usize = 16;
const LONGEST_DOMAIN: usize = 160;
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(600);

impl Config {
    /// What a broker of this trust domain with its data in this place is run with, where nothing else is said.
    pub fn new(trust_domain: TrustDomain, data: PathBuf) -> Self {
        Self {
            trust_domain,
            issuer: None,
            data,
            grpc: SocketAddr::from(([127, 0, 0, 1], 7440)),
            http: SocketAddr::from(([127, 0, 0, 1], 7441)),
            names: Vec::new(),
            http_certificate: None,
            http_key: None,
            snapshot_every: SNAPSHOT_EVERY,
            request_timeout: Duration::from_secs(30),
            drain: Duration::from_secs(10),
            log: "info".to_owned(),
            subject_issuer: Vec::new(),
            quotas: PartyQuotas::default(),
        }
    }

    /// Reads the configuration file at `path`.
    ///
    /// # Errors
    /// There is none, it is not a file, cannot be read or is empty; or as [`Config::parse`].
    pub fn load(path: &Path) -> Result<Self, Error> {
        let name = file::shown(path);
        let wrong = |why: String| Error::new(Code::Invalid, "configuration", format!("configuration {name}: {why}"));
        let (bytes, _) = file::read(path).map_err(wrong)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| wrong("it is not UTF-8 text".to_owned()))?;
        if text.trim().is_empty() {
            return Err(wrong("it is empty; `belay config sample` prints one to begin with".to_owned()));
        }
        Self::parse(text).map_err(|error| Error { message: wrong(error.message).message, ..error })
    }

    /// Reads a configuration from its text, touching nothing else.
    ///
    /// # Errors
    /// It is not TOML; a key is unknown, given twice, missing or of the wrong kind; or two keys contradict.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut keys = Keys::of(text)?;
        let path = |path: &PathBuf| path.is_absolute();
        let time = |time: &Duration| (SHORTEST..=LONGEST).contains(time);
        let domain = |domain: &TrustDomain| domain.as_str().len() <= LONGEST_DOMAIN;
        let default = Self::new(keys.needed("trust_domain", domain)?, keys.needed("data", path)?);
        let config = Self {
            issuer: keys.optional("issuer", is_url)?,
            grpc: keys.optional("grpc", |_| true)?.unwrap_or(default.grpc),
            http: keys.optional("http", |_| true)?.unwrap_or(default.http),
            names: keys.optional("names", |names: &Vec<String>| are_names(names))?.unwrap_or_default(),
            http_certificate: keys.optional("http_certificate", path)?,
            http_key: keys.optional("http_key", path)?,
            snapshot_every: keys.optional("snapshot_every", |n| *n > 0)?.unwrap_or(default.snapshot_every),
            request_timeout: keys.duration("request_timeout", time)?.unwrap_or(default.request_timeout),
            drain: keys.duration("drain", time)?.unwrap_or(default.drain),
            log: keys.optional("log", |levels: &String| log::levels(levels).is_some())?.unwrap_or(default.log.clone()),
            subject_issuer: subject::read(keys.tables("subject_issuer", subject::KEYS, subject::MOST)?)?,
            quotas: quotas::read(keys.table("quotas", quotas::KEYS)?)?,
            ..default
        };
        config.agrees()?;
        Ok(config)
    }

    /// Whether its keys go together.
    fn agrees(&self) -> Result<(), Error> {
        let refused = |field, message: &str| Err(Error::new(Code::Invalid, "configuration", message).on(field));
        if overlap(self.grpc, self.http) {
            return refused("http", "`grpc` and `http` are on one port; give each its own");
        }
        subject::agree(&self.subject_issuer, self.issuer()?.as_str())?;
        match (&self.http_certificate, &self.http_key) {
            (Some(_), None) => {
                refused("http_key", "`http_certificate` is given and `http_key` is not; give both or none")
            }
            (None, Some(_)) => {
                refused("http_certificate", "`http_key` is given and `http_certificate` is not; give both or none")
            }
            _ => Ok(()),
        }
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

/// Whether both cannot be listened on: an unspecified address takes the port on all addresses.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let same = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && same
}

fn is_url(issuer: &Audience) -> bool {
    let Ok(url) = issuer.as_str().parse::<http::Uri>() else { return false };
    let authority = url.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    url.scheme_str() == Some("https") && authority && !issuer.as_str().contains(['?', '#'])
}

fn are_names(names: &[String]) -> bool {
    // An address that is written in two ways is one; a DNS name has at least one letter.
    let name = |name: &String| match name.parse::<IpAddr>() {
        Ok(ip) => Some(ip.to_string()).filter(|_| !ip.is_unspecified()),
        Err(_) => rustls_pki_types::DnsName::try_from(name.as_str())
            .ok()
            .filter(|dns| dns.as_ref().contains(|c: char| c.is_ascii_alphabetic()) && !dns.as_ref().ends_with('.'))
            .map(|dns| dns.as_ref().to_ascii_lowercase()),
    };
    let known: Option<std::collections::BTreeSet<_>> = names.iter().map(name).collect();
    names.len() <= MOST_NAMES && known.is_some_and(|known| known.len() == names.len())
}
