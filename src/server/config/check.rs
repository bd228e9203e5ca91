//! What a configuration names, looked at before anything is opened: data directory, certificate, keys, addresses.

use std::net::SocketAddr;

use super::{Config, data};
use crate::domain::error::{Code, Error};
use crate::ledger::{Clock as _, SystemClock};
use crate::server::{certificate, listen, subject};

/// What a broker of this configuration would find.
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// The gRPC listener.
    pub grpc: At,
    /// The HTTPS listener.
    pub http: At,
    /// The data directory.
    pub data: data::State,
}

/// Where it would listen.
#[derive(Clone, Copy, Debug)]
pub struct At {
    /// The address.
    pub addr: SocketAddr,
    /// Whether nothing listens there now; a broker that runs already does.
    pub is_free: bool,
}

/// Checks everything that a start would, and opens nothing for longer than it takes to look.
///
/// # Errors
/// What would stop the start, except that a port is taken or `belay init` has not been run.
pub fn check(config: &Config) -> Result<Checked, Error> {
    let data = data::state(&config.data)?;
    certificate::given(config, SystemClock.read().wall)?;
    subject::issuers(config)?;
    Ok(Checked { grpc: at("grpc", config.grpc)?, http: at("http", config.http)?, data })
}

fn at(key: &'static str, addr: SocketAddr) -> Result<At, Error> {
    match listen::bind(key, addr) {
        Ok(_) => Ok(At { addr, is_free: true }),
        Err(error) if error.code == Code::Conflict => Ok(At { addr, is_free: false }),
        Err(error) => Err(error),
    }
}
