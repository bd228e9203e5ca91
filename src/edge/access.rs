//! Who may call what: one table, and the one place that reads it. A call without a row is refused.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tonic::Status;
use tonic::service::Routes;
use tracing::Instrument as _;

use super::drain::Drain;
use super::fault::Place;
use super::{metrics, quota};
use crate::attest::PeerCertificate;
use crate::broker::{Asked, Broker, UnderWay};
use crate::domain::agent::{AgentStatus, Kind, Operator};
use crate::domain::decide::{Caller, may, presentable};
use crate::domain::error::{Code, Error};
use crate::domain::name::Name;
use crate::domain::policy::Right;

/// Which callers a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The call, as `/package.Service/Method`.
    pub rpc: &'static str,
    /// Without any certificate.
    pub strangers: bool,
    /// Agents.
    pub agents: Agents,
    /// Operators.
    pub operators: Operators,
    /// Whoever holds a certificate under a grant: it is decided upon, and asks for nothing.
    pub holders: bool,
    /// Enforcement points.
    pub peps: bool,
}

/// Which agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agents {
    /// None.
    No,
    /// Those that may act.
    Active,
    /// Suspended and retired ones too: what only ends something is open to them.
    Any,
}

/// Which operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operators {
    /// None.
    No,
    /// All.
    Any,
    /// Those whom the policies give this right.
    With(Right),
    /// All, as far as the table goes: the turn asks the policies, with what it knows of the target.
    Decided,
}

const fn row(rpc: &'static str, agents: Agents, operators: Operators) -> Row {
    Row { rpc, strangers: false, agents, operators, holders: false, peps: false }
}

const fn open(rpc: &'static str) -> Row {
    Row { rpc, strangers: true, agents: Agents::Any, operators: Operators::Any, holders: false, peps: true }
}

const fn to_holders(row: Row) -> Row {
    Row { holders: true, ..row }
}

const fn to_peps(row: Row) -> Row {
    Row { peps: true, ..row }
}

/// The table. `every_rpc_is_in_the_access_table` holds it against the compiled descriptor.
pub const ACCESS: &[Row] = {
    use Agents::{Active, Any, No};
    use Operators::{Decided, With};
    use Right::{
        Ask, ManageAgents, ManageBackends, ManageCatalog, ManageKeys, ManageOperators, ManagePeps, ManagePolicy, Read,
        ReadAudit,
    };
    &[
        open("/belay.v1.Identity/Enroll"),
        to_peps(row("/belay.v1.Identity/Renew", Active, Operators::Any)),
        row("/belay.v1.Agents/Register", No, With(ManageAgents)),
        row("/belay.v1.Agents/Invite", No, With(ManageAgents)),
        row("/belay.v1.Agents/List", No, With(Read)),
        row("/belay.v1.Agents/Show", No, With(Read)),
        row("/belay.v1.Agents/Suspend", No, Decided),
        row("/belay.v1.Agents/Resume", No, Decided),
        row("/belay.v1.Agents/Retire", No, With(ManageAgents)),
        row("/belay.v1.Operators/Add", No, With(ManageOperators)),
        row("/belay.v1.Operators/Invite", No, With(ManageOperators)),
        row("/belay.v1.Operators/List", No, With(Read)),
        row("/belay.v1.Operators/Remove", No, With(ManageOperators)),
        row("/belay.v1.Peps/Register", No, With(ManagePeps)),
        row("/belay.v1.Peps/Invite", No, With(ManagePeps)),
        row("/belay.v1.Peps/List", No, With(Read)),
        row("/belay.v1.Peps/Retire", No, With(ManagePeps)),
        to_peps(row("/belay.v1.Feed/Subscribe", No, Operators::No)),
        row("/belay.v1.Tasks/Start", Active, Operators::No),
        row("/belay.v1.Tasks/End", Any, Decided),
        row("/belay.v1.Tasks/List", Active, With(Read)),
        row("/belay.v1.Tasks/Suspend", No, Decided),
        row("/belay.v1.Tasks/Resume", No, Decided),
        row("/belay.v1.Grants/Request", Active, Operators::No),
        row("/belay.v1.Grants/Delegate", Active, Operators::No),
        row("/belay.v1.Grants/Show", Active, With(Read)),
        row("/belay.v1.Grants/List", Active, With(Read)),
        row("/belay.v1.Grants/Renew", Active, Operators::No),
        row("/belay.v1.Grants/Complete", Any, Operators::No),
        row("/belay.v1.Grants/Suspend", No, Decided),
        row("/belay.v1.Grants/Resume", No, Decided),
        row("/belay.v1.Tokens/Issue", Active, Operators::No),
        to_peps(row("/belay.v1.Tokens/Verify", Active, With(Ask))),
        row("/belay.v1.Certificates/Issue", Active, Operators::No),
        row("/belay.v1.Backends/Add", No, With(ManageBackends)),
        row("/belay.v1.Backends/Check", No, With(ManageBackends)),
        row("/belay.v1.Backends/List", No, With(Read)),
        row("/belay.v1.Backends/Remove", No, With(ManageBackends)),
        row("/belay.v1.Upstreams/Add", No, With(ManageBackends)),
        row("/belay.v1.Upstreams/List", No, With(Read)),
        row("/belay.v1.Upstreams/Remove", No, With(ManageBackends)),
        row("/belay.v1.Leases/Issue", Active, Operators::No),
        row("/belay.v1.Leases/List", Active, With(Read)),
        to_peps(to_holders(row("/belay.v1.Decisions/Authorize", Active, With(Ask)))),
        to_peps(to_holders(row("/belay.v1.Decisions/Stream", Active, Operators::No))),
        to_peps(to_holders(row("/belay.v1.Decisions/Report", Active, Operators::No))),
        to_peps(to_holders(row("/belay.v1.Decisions/ListTools", Active, With(Ask)))),
        to_peps(row("/envoy.service.auth.v3.Authorization/Check", No, Operators::No)),
        to_peps(row("/agentgateway.dev.ext_mcp.ExtMcp/CheckRequest", No, Operators::No)),
        to_peps(row("/agentgateway.dev.ext_mcp.ExtMcp/CheckResponse", No, Operators::No)),
        row("/belay.v1.Catalogs/Apply", No, With(ManageCatalog)),
        row("/belay.v1.Catalogs/Show", No, With(Read)),
        row("/belay.v1.Policies/Apply", No, With(ManagePolicy)),
        row("/belay.v1.Policies/Show", No, With(Read)),
        row("/belay.v1.Policies/Explain", No, With(Ask)),
        row("/belay.v1.Radius/Get", Active, With(Read)),
        row("/belay.v1.Approvals/List", Active, With(Read)),
        row("/belay.v1.Approvals/Show", Active, With(Read)),
        row("/belay.v1.Approvals/Watch", No, With(Read)),
        row("/belay.v1.Approvals/Approve", No, Decided),
        row("/belay.v1.Approvals/Deny", No, Decided),
        row("/belay.v1.Revocations/Revoke", Any, Decided),
        row("/belay.v1.Revocations/Show", Any, With(Read)),
        row("/belay.v1.Revocations/Receipt", Any, With(Read)),
        row("/belay.v1.Freezes/Freeze", No, Decided),
        row("/belay.v1.Freezes/Thaw", No, Decided),
        row("/belay.v1.Freezes/List", No, With(Read)),
        row("/belay.v1.Audit/List", No, With(ReadAudit)),
        row("/belay.v1.Audit/Show", No, With(ReadAudit)),
        row("/belay.v1.Audit/Tail", No, With(ReadAudit)),
        row("/belay.v1.Audit/Why", No, With(ReadAudit)),
        row("/belay.v1.Audit/Calls", No, With(ReadAudit)),
        row("/belay.v1.Keys/List", No, With(Read)),
        row("/belay.v1.Keys/Rotate", No, With(ManageKeys)),
        row("/belay.v1.Keys/Taint", No, Decided),
        row("/belay.v1.Status/Get", No, With(Read)),
        to_holders(open("/grpc.health.v1.Health/Check")),
        to_holders(open("/grpc.health.v1.Health/Watch")),
    ]
};

/// The pages over HTTPS that are not for everybody: decisions, for enforcement points.
pub const PAGES: &[Row] = &[
    to_peps(row("/v1/authorize", Agents::No, Operators::No)),
    to_peps(row("/access/v1/evaluation", Agents::No, Operators::No)),
    to_peps(row("/access/v1/evaluations", Agents::No, Operators::No)),
];

/// The row of a page.
pub(super) fn page_of(path: &str) -> Option<&'static Row> {
    PAGES.iter().find(|row| row.rpc == path)
}

/// Who asks a page, if it is for them; they count as asking until what is beside them is dropped.
pub(super) fn page(
    broker: &Broker,
    path: &str,
    peer: Option<&PeerCertificate>,
) -> Result<(Asked, Option<UnderWay>), Error> {
    let row = page_of(path).ok_or_else(|| Error::denied("not_in_table", "there is no such page"));
    let admitted = row.and_then(|row| admit(broker, row, peer).map(|caller| (row, caller)));
    let (row, caller) = admitted.inspect_err(|error| metrics::not_admitted(error.reason))?;
    let counted = quota::enter(broker, row, &caller)?;
    Ok((Asked { caller, request_id: request_id(broker) }, counted))
}

/// Puts the table before every service.
pub(super) fn guard(routes: Routes, broker: Arc<Broker>, drain: Drain) -> Routes {
    Routes::from(routes.into_axum_router().layer(axum::middleware::from_fn_with_state((broker, drain), enter)))
}

async fn enter(State((broker, drain)): State<(Arc<Broker>, Drain)>, request: Request, next: Next) -> Response {
    let request_id = request_id(&broker);
    let rpc: String = request.uri().path().chars().take(80).collect();
    let span = tracing::info_span!("rpc", request_id, rpc);
    let answer = answer(broker, drain, request_id.clone(), rpc, request, next);
    tagged(run(answer.instrument(span.clone())).instrument(span).await, &request_id)
}

/// In a task of its own: a caller that hangs up cannot stop it half way, and a panic ends only it.
#[expect(clippy::disallowed_methods, reason = "the one place where a request gets its task; it ends by itself")]
async fn run(answer: impl Future<Output = Response> + Send + 'static) -> Response {
    tokio::spawn(answer).await.unwrap_or_else(|_| {
        // What it panicked with may hold what the caller sent: the hook has logged the place.
        Status::from(Error::new(Code::Internal, "panicked", "the broker failed on this request; report it")).into_http()
    })
}

async fn answer(
    broker: Arc<Broker>,
    drain: Drain,
    request_id: String,
    rpc: String,
    mut request: Request,
    next: Next,
) -> Response {
    let row = row_of(&rpc);
    let mut measured = metrics::Rpc::begin(row.as_ref().ok().map(|row| row.rpc));
    let peer = request.extensions().get::<PeerCertificate>();
    let response = match row.and_then(|row| admit(&broker, row, peer).map(|caller| (row, caller))) {
        Ok((row, caller)) => {
            tracing::debug!(caller = %caller.actor(), "admitted");
            let _counted = match quota::enter(&broker, row, &caller) {
                Ok(counted) => counted,
                Err(error) => return shed(error, measured),
            };
            request.extensions_mut().insert(Asked { caller, request_id });
            let _under_way = drain.begin();
            drain.response(next.run(drain.request(request)).await)
        }
        Err(error) => {
            metrics::not_admitted(error.reason);
            Status::from(error).into_http()
        }
    };
    measured.answered(&response);
    response
}

/// Who asks too much is told when to come back.
fn shed(error: Error, mut measured: metrics::Rpc) -> Response {
    let response = Status::from(error).into_http();
    measured.answered(&response);
    response
}

/// Who calls, if the table lets them.
fn admit(broker: &Broker, row: &Row, peer: Option<&PeerCertificate>) -> Result<Caller, Error> {
    Place::Access.reached();
    let named = peer.map(|peer| peer.present(&broker.origin().trust_domain)).transpose().map(Option::flatten);
    if row.strangers {
        // Nothing here rests on a certificate, and what was not checked does not stand in the log as an actor. But
        // a certificate under a grant is refused whatever it is not for, so that nobody builds on it.
        return match named {
            Ok(Some((_, presenter))) if presenter.grant.is_some() && !row.holders => Err(identities_only()),
            _ => Ok(Caller::Stranger),
        };
    }
    let caller = match named? {
        None => Caller::Stranger,
        Some((Kind::Agent, presenter)) if presenter.grant.is_some() => Caller::Holder(presenter),
        Some((Kind::Agent, presenter)) => Caller::Agent(presenter),
        Some((Kind::Operator, presenter)) => Caller::Operator(presenter),
        Some((Kind::Pep, presenter)) => Caller::Pep(presenter),
        Some((Kind::Server, _)) => {
            return Err(Error::new(Code::Unauthenticated, "certificate_refused", "a server does not call"));
        }
    };
    allowed(broker, row, &caller).map(|()| caller)
}

/// Whether the table still lets this caller: a call that goes on for long asks again.
pub(super) fn admitted(broker: &Broker, rpc: &str, caller: &Caller) -> Result<(), Error> {
    allowed(broker, row_of(rpc)?, caller)
}

fn row_of(rpc: &str) -> Result<&'static Row, Error> {
    let row = ACCESS.iter().find(|row| row.rpc == rpc);
    row.ok_or_else(|| Error::denied("not_in_table", format!("there is no call `{rpc}`")))
}

fn allowed(broker: &Broker, row: &Row, caller: &Caller) -> Result<(), Error> {
    let now = broker.ledger().now();
    broker.ledger().view(|view| match caller {
        Caller::Stranger => {
            let message = "this needs a client certificate; enroll first and name it with --identity DIR";
            Err(Error::new(Code::Unauthenticated, "no_certificate", message))
        }
        Caller::Broker => Err(Error::new(Code::Internal, "no_caller", "the broker does not call itself")),
        Caller::Holder(presenter) => {
            // What its grant is worth is the decision's to say, and to record.
            presentable(&view, presenter, now)?;
            if row.holders { Ok(()) } else { Err(identities_only()) }
        }
        Caller::Pep(presenter) => {
            presentable(&view, presenter, now)?;
            match view.pep(&presenter.name) {
                Some(pep) if pep.retired.is_none() && row.peps => Ok(()),
                Some(pep) if pep.retired.is_none() => {
                    let message = "an enforcement point asks for decisions and follows the feed, and nothing else";
                    Err(Error::denied("not_for_peps", message))
                }
                _ => {
                    let message = format!("enforcement point `{}` is not known here or was retired", presenter.name);
                    Err(Error::new(Code::Unauthenticated, "caller_unknown", message))
                }
            }
        }
        Caller::Agent(presenter) => {
            presentable(&view, presenter, now)?;
            let status = view.agent(&presenter.name).map(|agent| agent.status);
            match (row.agents, status) {
                (_, None) => Err(Error::new(
                    Code::Unauthenticated,
                    "caller_unknown",
                    format!("agent `{}` is not known here", presenter.name),
                )),
                (Agents::No, _) => Err(Error::denied("operators_only", "this needs an operator's identity")),
                (Agents::Any, _) | (Agents::Active, Some(AgentStatus::Active)) => Ok(()),
                (Agents::Active, Some(status)) => {
                    Err(Error::denied("agent_not_active", format!("agent `{}` is {status}", presenter.name)))
                }
            }
        }
        Caller::Operator(presenter) => {
            presentable(&view, presenter, now)?;
            let operator = view.operator(&presenter.name);
            match row.operators {
                Operators::With(right) => may(&view, &presenter.name, right, None),
                Operators::Any | Operators::Decided => is_there(operator, &presenter.name),
                Operators::No => {
                    is_there(operator, &presenter.name)?;
                    Err(Error::denied("agents_only", "this needs an agent's identity; name it with --identity DIR"))
                }
            }
        }
    })
}

/// No right is asked for, but who was removed is nobody.
fn is_there(operator: Option<&Operator>, name: &Name) -> Result<(), Error> {
    match operator.filter(|operator| !operator.removed) {
        Some(_) => Ok(()),
        None => {
            let message = format!("operator `{name}` is not known here or was removed");
            Err(Error::new(Code::Unauthenticated, "caller_unknown", message))
        }
    }
}

fn identities_only() -> Error {
    let message = "a certificate under a grant asks for nothing; present the identity of its holder";
    Error::denied("identities_only", message)
}

fn request_id(broker: &Broker) -> String {
    let seed = broker.ledger().seed();
    let bytes: [u8; 8] = std::array::from_fn(|at| seed[at]);
    format!("{:016x}", u64::from_be_bytes(bytes))
}

fn tagged(mut response: Response, request_id: &str) -> Response {
    if let Ok(value) = axum::http::HeaderValue::from_str(request_id) {
        response.headers_mut().insert("x-request-id", value);
    }
    response
}
