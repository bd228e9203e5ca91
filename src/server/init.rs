//! `belay init`: makes a broker's data directory, its keys and its first operator, or gives an operator of a broker
//! that is stopped a new identity.
//!
//! The store's lock says that no broker runs, and keeps one from starting meanwhile. An init that is interrupted
//! can be run again, until the first operator has its identity.

use std::path::PathBuf;

use anyhow::Context as _;

use super::data::{self, State};
use super::{Config, file, harden, operator};
use crate::broker::Broker;
use crate::cedar::Set;
use crate::domain::agent::{Operator, Role};
use crate::domain::error::{Code, Error};
use crate::domain::name::Name;
use crate::domain::time::Timestamp;

/// What to make.
#[derive(Clone, Debug)]
pub struct Init {
    /// The configuration that the broker will run with.
    pub config: Config,
    /// The first operator; or, to recover, the one that gets a new identity.
    pub operator: Name,
    /// Its roles if it is added; none given means all four.
    pub roles: Vec<Role>,
    /// The directory for its identity.
    pub out: PathBuf,
    /// Whether this is about a broker that is there already.
    pub recover: bool,
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// The operator.
    pub operator: Operator,
    /// When its identity ends.
    pub until: Timestamp,
}

/// Makes it.
///
/// # Errors
/// There is a broker already (or none, to recover), it runs, or a file cannot be written.
pub fn init(init: &Init) -> anyhow::Result<Made> {
    harden::hide_memory();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.context("starting the runtime")?.block_on(run(init))
}

async fn run(init: &Init) -> anyhow::Result<Made> {
    let Config { data, .. } = &init.config;
    may_begin(init, data::state(data)?)?;
    data::make(data)?;
    let store = super::store(data)?;
    // Only now nobody else changes it.
    let (store, is_empty) = super::is_empty(store)?;
    let state = match data::state(data)? {
        _ if is_empty => State::Empty,
        State::Keyless => State::Made,
        state => state,
    };
    may_begin(init, state)?;
    if state == State::Empty {
        data::begin(data)?;
    }
    let broker = super::open(&init.config, store, init.config.grpc, Set::production).await?;
    let made = identity(init, &broker).await;
    let ledger = std::sync::Arc::clone(broker.ledger());
    tokio::task::spawn_blocking(move || ledger.close()).await.context("closing the ledger")?;
    let made = made?;
    if !init.recover {
        data::finish(data)?;
    }
    Ok(made)
}

async fn identity(init: &Init, broker: &Broker) -> Result<Made, Error> {
    let name = &init.operator;
    let other = broker.ledger().view(|view| view.operators().map(|operator| operator.name.clone()).find(|n| n != name));
    if let Some(other) = other.filter(|_| !init.recover) {
        let message = format!("this init was begun for operator `{other}`; run it again with --operator {other}");
        return Err(Error::new(Code::Conflict, "init_begun", message));
    }
    operator::may_replace(broker, name, &init.out)?;
    let why = if init.recover { "recover" } else { "init" };
    let roles = if init.roles.is_empty() { &Role::FIRST[..] } else { &init.roles };
    let operator = operator::added(broker, name, roles, why).await?;
    if operator.removed {
        let message = format!("operator `{name}` was removed, and names are not given again; recover another name");
        return Err(Error::new(Code::Conflict, "operator_removed", message));
    }
    if !init.roles.is_empty() && init.roles.iter().any(|role| !operator.roles.contains(role)) {
        let message =
            format!("operator `{name}` is there without these roles; leave --role away, or recover another name");
        return Err(Error::new(Code::Conflict, "operator_exists", message));
    }
    let until = operator::give(broker, name, &init.out, why).await?;
    Ok(Made { operator, until })
}

fn may_begin(init: &Init, state: State) -> Result<(), Error> {
    let data = file::shown(&init.config.data);
    match (init.recover, state) {
        (_, State::Keyless) | (false, State::Empty | State::Unfinished) | (true, State::Made) => Ok(()),
        (false, State::Made) => {
            let message = format!(
                "{data} is a broker's data directory already; for an operator's new identity use --recover NAME"
            );
            Err(Error::new(Code::Conflict, "initialised", message).on("data"))
        }
        (true, State::Unfinished) => {
            let message = format!("init was interrupted in {data}; run it again without --recover");
            Err(Error::new(Code::Invalid, "init_unfinished", message).on("data"))
        }
        (true, State::Empty) => Err(data::not_made(&init.config.data)),
    }
}
