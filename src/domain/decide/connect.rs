//! Whose connections are taken, and kept: a certificate by which nothing could come of any call opens none.

use super::{Presenter, presentable};
use crate::domain::agent::Kind;
use crate::domain::error::{Code, Error};
use crate::domain::grant::GrantState;
use crate::domain::time::Timestamp;
use crate::domain::view::View;

/// Whether a connection that shows this certificate is of any use. Who is halted may connect and is told so at each
/// call, and a retired agent may still give back what it holds. When it expires is for the handshake's clock to say.
///
/// # Errors
/// `certificate_unknown`: the ledger does not know it. Else why everything under it is over.
pub fn connectable(view: &View<'_>, presenter: &Presenter, now: Timestamp) -> Result<(), Error> {
    match presentable(view, presenter, now) {
        Err(error) if error.reason != "certificate_expired" => return Err(error),
        _ => {}
    }
    let name = &presenter.name;
    let gone = match presenter.kind {
        Kind::Operator => view.operator(name).is_none_or(|operator| operator.removed),
        Kind::Pep => view.pep(name).is_none_or(|pep| pep.retired.is_some()),
        Kind::Agent => view.agent(name).is_none(),
        Kind::Server => false,
    };
    if gone {
        let message = format!("{} `{name}` is not known here or was removed", presenter.kind);
        return Err(Error::new(Code::Unauthenticated, "caller_unknown", message));
    }
    let Some(grant) = presenter.grant else { return Ok(()) };
    let (state, reason) = view
        .standing(grant, now)
        .map_or((GrantState::Expired, "grant_expired"), |standing| (standing.state, standing.reason));
    if state.is_ended() {
        let message = format!("certificate `{}` is under grant `{grant}`, which is {state}", presenter.certificate);
        return Err(Error::new(Code::Unauthenticated, reason, message));
    }
    Ok(())
}
