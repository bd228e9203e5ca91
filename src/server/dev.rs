//! The operator of a development broker: all roles, its identity in the home directory.

use std::path::Path;

use crate::attest::{csr, mtls};
use crate::broker::{Asked, Broker, OwnIdentity};
use crate::client::{Identity, identity};
use crate::domain::agent::{Kind, Role};
use crate::domain::decide::{AddOperator, presentable};
use crate::domain::error::Error;
use crate::domain::name::Name;
use crate::domain::time::{IDENTITY_LIFE, Span};

const NAME: &str = "dev";
const ALL: [Role; 4] = [Role::Admin, Role::Approver, Role::Responder, Role::Auditor];

/// Sees to it that `home/operator` holds an identity that this broker accepts for a good while yet.
pub(super) async fn operator(broker: &Broker, home: &Path) -> Result<(), Error> {
    let name: Name = NAME.parse()?;
    let directory = home.join("operator");
    if broker.ledger().view(|view| view.operator(&name).is_none()) {
        // Nobody joins with this secret: it is forgotten at once.
        let command = AddOperator { name: name.clone(), roles: ALL.to_vec(), secret_hash: broker.join_secret().hash() };
        broker.submit(&Asked::broker("dev"), command).await?;
    }
    if is_good(broker, &directory) {
        return Ok(());
    }
    let (key, request) = identity::request(None)?;
    let own = OwnIdentity { kind: Kind::Operator, name, spki: csr::prove(&request)?.spki, names: Vec::new() };
    let issued = broker.own_identity(own).await?;
    Identity::save(&directory, &issued.der, &key, &broker.authorities(), true)?;
    tracing::info!(directory = %directory.display(), "the development operator has a new identity");
    Ok(())
}

/// Whether the identity on disk is this broker's, and more than half of its life is left.
fn is_good(broker: &Broker, directory: &Path) -> bool {
    let Ok(identity) = Identity::load(directory) else { return false };
    let ours = identity.authorities().iter().any(|ca| ca.as_ref() == broker.authority().as_slice());
    let Ok((Kind::Operator, presenter)) = mtls::present(identity.certificate(), &broker.origin().trust_domain) else {
        return false;
    };
    let later = broker.ledger().now().plus(Span::millis(IDENTITY_LIFE.as_millis() / 2));
    ours && broker.ledger().view(|view| presentable(&view, &presenter, later).is_ok())
}
