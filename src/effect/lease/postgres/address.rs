//! Where a PostgreSQL server is, from a URL that an operator gave: a secret, so nothing of it stands in an error.

use std::path::{Path, PathBuf};

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use zeroize::Zeroizing;

use crate::domain::error::Error;

/// Certificates of authorities, where Debian and most others have them.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// No statement waits longer for another, or takes longer. Names are looked up where nobody but the server's owner
/// puts any.
const SETTINGS: &str =
    "-c statement_timeout=10s -c lock_timeout=5s -c idle_in_transaction_session_timeout=15s -c search_path=pg_catalog";

/// How a server is reached.
pub(super) struct Address {
    pub config: Config,
    /// The file of authorities that vouch for the server; none where it is on this machine and no TLS was asked for.
    pub authorities: Option<PathBuf>,
}

impl Address {
    /// Reads `postgresql://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=require&sslrootcert=FILE`.
    ///
    /// # Errors
    /// It is not such a URL, or would send the password over a network in the clear.
    pub(super) fn parse(url: &str) -> Result<Self, Error> {
        let wrong = |why: &str| Error::malformed("url", "…", why);
        if !(url.starts_with("postgresql://") || url.starts_with("postgres://")) {
            return Err(wrong("it begins with postgresql://"));
        }
        let (url, root) = apart(url);
        // What the parser says may quote the password.
        let mut config: Config =
            url.parse().map_err(|_| wrong("expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=require"))?;
        if config.get_user().is_none() || config.get_dbname().is_none() || config.get_hosts().is_empty() {
            return Err(wrong("it names a user, a host and a database"));
        }
        if !config.get_hostaddrs().is_empty() {
            return Err(wrong("it names no hostaddr: which server that is, no certificate says"));
        }
        if config.get_hosts().len() > 1 || config.get_ports().len() > 1 {
            return Err(wrong("it names one host: of several, what ends a lease may reach another than what made it"));
        }
        let mode = config.get_ssl_mode();
        let tls = mode == SslMode::Require || root.is_some();
        if !tls && !config.get_hosts().iter().all(is_here) {
            return Err(wrong("sslmode has to be at least `require` for a server that is not on this machine"));
        }
        let options = config.get_options().map_or(SETTINGS.to_owned(), |own| format!("{own} {SETTINGS}"));
        config.options(options).application_name("belay").connect_timeout(super::CONNECT);
        config.ssl_mode(if tls { SslMode::Require } else { SslMode::Disable });
        Ok(Self { config, authorities: tls.then(|| root.unwrap_or_else(|| AUTHORITIES.into())) })
    }

    /// Which server and database it is.
    pub(super) fn place(&self) -> String {
        let host = match self.config.get_hosts().first() {
            Some(Host::Tcp(name)) => name.to_ascii_lowercase(),
            Some(Host::Unix(path)) => path.display().to_string(),
            None => String::new(),
        };
        let port = self.config.get_ports().first().copied().unwrap_or(5432);
        format!("{host} {port} {}", self.config.get_dbname().unwrap_or_default())
    }

    /// The URL for whoever leases.
    pub(super) fn url_for(&self, username: &str, password: &str) -> Zeroizing<String> {
        let config = &self.config;
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let database = encoded(config.get_dbname().unwrap_or_default());
        let host = match config.get_hosts().first() {
            Some(Host::Tcp(name)) if name.contains(':') => Ok(format!("[{name}]:{port}")),
            Some(Host::Tcp(name)) => Ok(format!("{name}:{port}")),
            Some(Host::Unix(path)) => Err(path.clone()),
            None => Ok(format!("localhost:{port}")),
        };
        let tls = if self.authorities.is_some() { "sslmode=require" } else { "" };
        Zeroizing::new(match host {
            Ok(host) if tls.is_empty() => format!("postgresql://{username}:{password}@{host}/{database}"),
            Ok(host) => format!("postgresql://{username}:{password}@{host}/{database}?{tls}"),
            Err(path) => {
                let path = encoded(&path.display().to_string());
                format!("postgresql://{username}:{password}@/{database}?host={path}&port={port}")
            }
        })
    }
}

/// The URL without `sslrootcert`, and what that said; `sslmode=verify-*` is what this client does with `require`.
fn apart(url: &str) -> (Zeroizing<String>, Option<PathBuf>) {
    let Some((base, query)) = url.split_once('?') else { return (Zeroizing::new(url.to_owned()), None) };
    let (mut kept, mut root) = (Vec::new(), None);
    for part in query.split('&') {
        match part.split_once('=') {
            Some(("sslrootcert", path)) => root = Some(PathBuf::from(decoded(path))),
            Some(("sslmode", "verify-ca" | "verify-full")) => kept.push("sslmode=require"),
            _ => kept.push(part),
        }
    }
    (Zeroizing::new(format!("{base}?{}", kept.join("&"))), root)
}

fn is_here(host: &Host) -> bool {
    match host {
        Host::Unix(path) => Path::new(path).is_absolute(),
        Host::Tcp(name) => {
            name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
    }
}

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(url: &str) -> String {
        Address::parse(url).err().map(|error| error.message).unwrap_or_default()
    }

    #[test]
    fn a_password_does_not_cross_a_network_in_the_clear() {
        for here in [
            "postgresql://u:p@localhost/d",
            "postgresql://u:p@127.0.0.1:1/d",
            "postgres://u:p@[::1]/d",
            "postgresql://u:p@/d?host=/run/postgresql",
        ] {
            assert!(Address::parse(here).is_ok_and(|address| address.authorities.is_none()), "{here}: {}", why(here));
        }
        for open in ["postgresql://u:p@db.example/d", "postgresql://u:p@10.0.0.1/d?sslmode=prefer"] {
            assert!(why(open).contains("sslmode has to be at least `require`"), "{open}: {}", why(open));
        }
        for mode in ["require", "verify-ca", "verify-full"] {
            let address = Address::parse(&format!("postgresql://u:p@db.example/d?sslmode={mode}")).unwrap();
            assert_eq!(address.config.get_ssl_mode(), SslMode::Require);
            assert_eq!(address.authorities.unwrap(), PathBuf::from(AUTHORITIES));
        }
        let own = Address::parse("postgresql://u:p@localhost/d?sslrootcert=%2Fetc%2Fca.pem").unwrap();
        assert_eq!((own.config.get_ssl_mode(), own.authorities.unwrap()), (SslMode::Require, "/etc/ca.pem".into()));
    }

    #[test]
    fn a_url_leads_to_one_server_and_to_the_one_that_is_verified() {
        for several in ["postgresql://u:p@localhost:1,localhost:2/d", "postgresql://u:p@localhost,[::1]/d"] {
            assert!(why(several).contains("it names one host"), "{several}: {}", why(several));
        }
        for elsewhere in ["postgresql://u:p@localhost/d?hostaddr=10.0.0.1", "postgresql://u:p@/d?hostaddr=127.0.0.1"] {
            assert!(Address::parse(elsewhere).is_err(), "{elsewhere}");
        }
        assert!(why("postgresql://u:p@localhost/d?hostaddr=10.0.0.1").contains("no hostaddr"));
        let of = |url: &str| Address::parse(url).unwrap().place();
        assert_eq!(of("postgresql://u:p@LOCALHOST/d"), of("postgres://v:q@localhost:5432/d"));
        for other in ["postgresql://u@localhost:1/d", "postgresql://u@localhost/e", "postgresql://u@127.0.0.1/d"] {
            assert_ne!(of(other), of("postgresql://u@localhost/d"), "{other}");
        }
    }

    #[test]
    fn a_url_that_is_refused_is_not_repeated() {
        for wrong in [
            "", "hunter2", "mysql://u:hunter2@h/d", "postgresql://u:hunter2@h:port/d", "postgresql://u:hunter2@/d",
            "postgresql://localhost/d", "postgresql://u:hunter2@localhost", "postgresql://u:hunter2@h/d?hunter2=1",
        ] {
            let why = why(wrong);
            assert!(!why.is_empty() && !why.contains("hunter2"), "{wrong}: {why}");
        }
    }

    #[test]
    fn whoever_leases_is_told_where() {
        let of = |url: &str| Address::parse(url).unwrap().url_for("me", "secret").to_string();
        assert_eq!(of("postgresql://u:p@localhost:77/d"), "postgresql://me:secret@localhost:77/d");
        assert_eq!(of("postgresql://u:p@[::1]:7/d%20b"), "postgresql://me:secret@[::1]:7/d%20b");
        assert_eq!(of("postgresql://u@/d?host=/run/pg&port=6"), "postgresql://me:secret@/d?host=%2Frun%2Fpg&port=6");
        assert_eq!(of("postgresql://u@h/d?sslmode=require"), "postgresql://me:secret@h:5432/d?sslmode=require");
    }
}
