//! Identities that the broker gives operators itself: the first one's, a lost one's, a development broker's.
//!
//! Whoever can run this holds the master key, and could sign anything.

use std::path::Path;

use super::file::shown;
use crate::attest::{csr, mtls};
use crate::broker::{Asked, Broker, OwnIdentity};
use crate::client::{Identity, identity};
use crate::domain::agent::{Kind, Operator, Role};
use crate::domain::decide::{AddOperator, presentable};
use crate::domain::error::{Code, Error};
use crate::domain::name::Name;
use crate::domain::time::{IDENTITY_LIFE, Span, Timestamp};

const DEV: &str = "dev";

/// Sees to it that `home/operator` holds an identity that this broker accepts for a good while yet.
pub(super) async fn development(broker: &Broker, home: &Path) -> Result<(), Error> {
    let name: Name = DEV.parse()?;
    let directory = home.join("operator");
    added(broker, &name, &Role::FIRST, DEV).await?;
    let later = broker.ledger().now().plus(Span::millis(IDENTITY_LIFE.as_millis() / 2));
    if !is_good(broker, &name, &directory, later) {
        give(broker, &name, &directory, DEV).await?;
        tracing::info!(directory = %directory.display(), "the development operator has a new identity");
    }
    Ok(())
}

/// The operator of this name, added with these roles if there is none; `why` is the request's id in the log.
pub(super) async fn added(broker: &Broker, name: &Name, roles: &[Role], why: &'static str) -> Result<Operator, Error> {
    if let Some(operator) = broker.ledger().view(|view| view.operator(name).cloned()) {
        return Ok(operator);
    }
    // Nobody joins with this secret: it is forgotten at once.
    let secret_hash = broker.join_secret().hash();
    let command = AddOperator { name: name.clone(), roles: roles.to_vec(), secret_hash };
    Ok(broker.submit(&Asked::broker(why), command).await?.0)
}

/// A new identity for an operator, in place of what `directory` holds.
pub(super) async fn give(
    broker: &Broker,
    name: &Name,
    directory: &Path,
    why: &'static str,
) -> Result<Timestamp, Error> {
    let (key, request) = identity::request(None)?;
    let spki = csr::prove(&request)?.spki;
    let own = OwnIdentity { kind: Kind::Operator, name: name.clone(), spki, names: Vec::new(), why };
    let issued = broker.own_identity(own).await?;
    Identity::save(directory, &issued.der, &key, &broker.authorities(), true)?;
    Ok(issued.identity.not_after)
}

/// Whether `directory` holds an identity of this operator that this broker still accepts at `then`.
pub(super) fn is_good(broker: &Broker, name: &Name, directory: &Path, then: Timestamp) -> bool {
    let Ok(identity) = Identity::load(directory) else { return false };
    let signer = broker.authority();
    let ours = identity.authorities().iter().any(|ca| ca.as_ref() == signer.as_slice());
    let Ok((Kind::Operator, presenter)) = mtls::present(identity.certificate(), &broker.origin().trust_domain) else {
        return false;
    };
    ours && presenter.name == *name && broker.ledger().view(|view| presentable(&view, &presenter, then).is_ok())
}

/// Whether an identity knows this broker by an authority that it has, or ever had.
fn is_of(identity: &Identity, broker: &Broker) -> bool {
    broker.ledger().view(|view| {
        let ours = |ca: &[u8]| view.keys().any(|key| key.certificate.as_deref() == Some(ca));
        identity.authorities().iter().any(|ca| ours(ca.as_ref()))
    })
}

/// Refuses to write over an identity that is not this operator's of this broker: nobody could bring it back.
pub(super) fn may_replace(broker: &Broker, name: &Name, directory: &Path) -> Result<(), Error> {
    let whose = Identity::load(directory).ok().filter(|identity| {
        let presented = mtls::present(identity.certificate(), &broker.origin().trust_domain);
        let same = presented.is_ok_and(|(kind, presenter)| kind == Kind::Operator && presenter.name == *name);
        same && is_of(identity, broker)
    });
    if whose.is_some() || !directory.join("cert.pem").exists() {
        return Ok(());
    }
    let message = format!("{} holds another identity; choose another directory with --out", shown(directory));
    Err(Error::new(Code::Conflict, "identity_exists", message))
}
