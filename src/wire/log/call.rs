//! Tool calls and what became of them, as they are stored.

use super::decode::{Decoded, digest, maybe, text, time, wrong};
use super::encode::decided_if_any;
use super::{DecodeError, pb};
use crate::domain::error::Error;
use crate::domain::event::{Invocation, Report};
use crate::domain::invocation::TicketGiven;
use crate::domain::limits::Charge;
use crate::domain::scope::{Call, Decimal};
use crate::domain::upstream::Upstream;

impl From<&Invocation> for pb::Invocation {
    fn from(invocation: &Invocation) -> Self {
        #[rustfmt::skip]
        let Invocation {
            id, credential, grant, tree, agent, call, args, allowed, reasons, proven, decided, charged, ticket, redeems,
        } = invocation;
        Self {
            id: id.to_string(),
            credential: credential.as_ref().map(ToString::to_string),
            grant: grant.as_ref().map(ToString::to_string),
            tree: tree.as_ref().map(ToString::to_string),
            agent: agent.as_ref().map(ToString::to_string),
            call: call.as_ref().map(Into::into),
            allowed: *allowed,
            reasons: reasons.clone(),
            proven: *proven,
            args: args.map(|digest| digest.0.into()),
            decided: decided_if_any(decided),
            charged: charged.as_ref().map(Into::into),
            ticket: ticket.as_ref().map(|TicketGiven { kid, expires_at }| pb::TicketGiven {
                kid: kid.clone(),
                expires_at: expires_at.millis(),
            }),
            redeems: redeems.as_ref().map(ToString::to_string),
        }
    }
}

impl From<&Charge> for pb::Charge {
    fn from(Charge { sums }: &Charge) -> Self {
        let sum =
            |(argument, amount): &(String, Decimal)| pb::Sum { argument: argument.clone(), amount: amount.to_string() };
        Self { sums: sums.iter().map(sum).collect() }
    }
}

impl From<&Call> for pb::Call {
    fn from(Call { tool, action, resource, args, destination }: &Call) -> Self {
        debug_assert!(args.is_empty(), "arguments may hold secrets: an event holds their digest");
        Self {
            tool: tool.clone(),
            action: action.clone(),
            resource: resource.clone(),
            destination: destination.clone(),
        }
    }
}

impl TryFrom<pb::Invocation> for Invocation {
    type Error = DecodeError;
    fn try_from(body: pb::Invocation) -> Decoded<Self> {
        Ok(Self {
            id: text("invoked.id", &body.id)?,
            credential: maybe("invoked.credential", body.credential.as_deref())?,
            grant: maybe("invoked.grant", body.grant.as_deref())?,
            tree: maybe("invoked.tree", body.tree.as_deref())?,
            agent: maybe("invoked.agent", body.agent.as_deref())?,
            call: body.call.as_ref().map(call).transpose()?,
            allowed: body.allowed,
            reasons: body.reasons,
            proven: body.proven,
            args: body.args.map(|bytes| digest("invoked.args", &bytes)).transpose()?,
            decided: body.decided.map(Into::into).unwrap_or_default(),
            charged: body.charged.map(TryInto::try_into).transpose()?,
            ticket: body
                .ticket
                .map(|pb::TicketGiven { kid, expires_at }| TicketGiven { kid, expires_at: time(expires_at) }),
            redeems: maybe("invoked.redeems", body.redeems.as_deref())?,
        })
    }
}

impl TryFrom<pb::Charge> for Charge {
    type Error = DecodeError;
    fn try_from(body: pb::Charge) -> Decoded<Self> {
        let sum = |sum: pb::Sum| match Decimal::parse(&sum.amount).filter(|amount| *amount >= Decimal::zero()) {
            Some(amount) => Ok((sum.argument, amount)),
            None => Err(wrong("invoked.charged", format!("`{}` is no number of 0 or more", sum.amount.escape_debug()))),
        };
        Ok(Self { sums: body.sums.into_iter().map(sum).collect::<Decoded<_>>()? })
    }
}

fn call(call: &pb::Call) -> Decoded<Call> {
    let wrong = |error: Error| wrong("invoked.call", error.message);
    let read = Call::parse(&call.tool, &call.action, &call.resource).map_err(wrong)?;
    call.destination.iter().try_fold(read, |call, destination| call.with_destination(destination)).map_err(wrong)
}

impl From<&Report> for pb::InvocationReported {
    fn from(Report { id, outcome, detail, grant, tree, agent, refunded }: &Report) -> Self {
        Self {
            id: id.to_string(),
            outcome: outcome.to_string(),
            detail: detail.as_ref().map(ToString::to_string),
            grant: grant.as_ref().map(ToString::to_string),
            tree: tree.as_ref().map(ToString::to_string),
            agent: agent.as_ref().map(ToString::to_string),
            refunded: *refunded,
        }
    }
}

impl TryFrom<pb::InvocationReported> for Report {
    type Error = DecodeError;
    fn try_from(body: pb::InvocationReported) -> Decoded<Self> {
        Ok(Self {
            id: text("invocation_reported.id", &body.id)?,
            outcome: text("invocation_reported.outcome", &body.outcome)?,
            detail: maybe("invocation_reported.detail", body.detail.as_deref())?,
            grant: maybe("invocation_reported.grant", body.grant.as_deref())?,
            tree: maybe("invocation_reported.tree", body.tree.as_deref())?,
            agent: maybe("invocation_reported.agent", body.agent.as_deref())?,
            refunded: body.refunded,
        })
    }
}

impl From<&Upstream> for pb::Upstream {
    fn from(Upstream { name, tool, host, header, sealed, removed, created_at }: &Upstream) -> Self {
        debug_assert!(!removed, "an event holds a record as it was new");
        Self {
            name: name.to_string(),
            tool: tool.to_string(),
            host: host.to_string(),
            header: header.to_string(),
            sealed: sealed.0.into(),
            created_at: created_at.millis(),
        }
    }
}

impl TryFrom<pb::Upstream> for Upstream {
    type Error = DecodeError;
    fn try_from(body: pb::Upstream) -> Decoded<Self> {
        Ok(Self {
            name: text("upstream_added.name", &body.name)?,
            tool: text("upstream_added.tool", &body.tool)?,
            host: text("upstream_added.host", &body.host)?,
            header: text("upstream_added.header", &body.header)?,
            sealed: digest("upstream_added.sealed", &body.sealed)?,
            removed: false,
            created_at: time(body.created_at),
        })
    }
}
