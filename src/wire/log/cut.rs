//! What stands about cuts and about whoever enforces them: enforcement points, freezes, leases, and what became of a
//! revocation.

use super::decode::{Decoded, count_of, digest, maybe, span, text, time};
use super::{DecodeError, pb};
use crate::domain::agent::Join;
use crate::domain::event::{CutCounts, LeaseChange, Settled};
use crate::domain::freeze::Freeze;
use crate::domain::lease::{Backend, Lease, LeaseStatus, Trouble};
use crate::domain::pep::Pep;

pub(super) fn registered(pep: &Pep, join: &Join) -> pb::PepRegistered {
    pb::PepRegistered { pep: Some(pep.into()), join: Some(join.into()) }
}

impl From<&Pep> for pb::Pep {
    fn from(Pep { id, name, audiences, staleness, retired, created_at }: &Pep) -> Self {
        debug_assert!(retired.is_none(), "an event holds a record as it was new");
        Self {
            id: id.to_string(),
            name: name.to_string(),
            audiences: audiences.iter().map(ToString::to_string).collect(),
            staleness: staleness.as_millis(),
            created_at: created_at.millis(),
        }
    }
}

impl TryFrom<pb::Pep> for Pep {
    type Error = DecodeError;
    fn try_from(pep: pb::Pep) -> Decoded<Self> {
        Ok(Self {
            id: text("pep.id", &pep.id)?,
            name: text("pep.name", &pep.name)?,
            audiences: pep.audiences.iter().map(|one| text("pep.audiences", one)).collect::<Decoded<_>>()?,
            staleness: span("pep.staleness", pep.staleness)?,
            retired: None,
            created_at: time(pep.created_at),
        })
    }
}

impl From<&Settled> for pb::RevocationSettled {
    fn from(Settled { id, enforced, expired, at }: &Settled) -> Self {
        Self { id: id.to_string(), enforced: counts(enforced), expired: counts(expired), at: at.millis() }
    }
}

impl TryFrom<pb::RevocationSettled> for Settled {
    type Error = DecodeError;
    fn try_from(body: pb::RevocationSettled) -> Decoded<Self> {
        Ok(Self {
            id: text("revocation_settled.id", &body.id)?,
            enforced: count_of("revocation_settled.enforced", &body.enforced)?,
            expired: count_of("revocation_settled.expired", &body.expired)?,
            at: time(body.at),
        })
    }
}

fn counts(CutCounts { grants, tokens, certificates, leases }: &CutCounts) -> Vec<u64> {
    vec![*grants, *tokens, *certificates, *leases]
}

impl From<&Freeze> for pb::Freeze {
    fn from(Freeze { id, scope, sensitivity, reason, by, at, thawed }: &Freeze) -> Self {
        debug_assert!(thawed.is_none(), "an event holds a record as it was new");
        Self {
            id: id.to_string(),
            scope: scope.to_string(),
            sensitivity: sensitivity.map(|least| least.to_string()),
            reason: reason.to_string(),
            by: by.to_string(),
            at: at.millis(),
        }
    }
}

impl TryFrom<pb::Freeze> for Freeze {
    type Error = DecodeError;
    fn try_from(body: pb::Freeze) -> Decoded<Self> {
        Ok(Self {
            id: text("frozen.id", &body.id)?,
            scope: text("frozen.scope", &body.scope)?,
            sensitivity: maybe("frozen.sensitivity", body.sensitivity.as_deref())?,
            reason: text("frozen.reason", &body.reason)?,
            by: text("frozen.by", &body.by)?,
            at: time(body.at),
            thawed: None,
        })
    }
}

impl From<&Backend> for pb::Backend {
    fn from(Backend { name, kind, roles, sealed, removed, created_at }: &Backend) -> Self {
        debug_assert!(!removed, "an event holds a record as it was new");
        Self {
            name: name.to_string(),
            kind: kind.to_string(),
            roles: roles.iter().map(ToString::to_string).collect(),
            sealed: sealed.0.into(),
            created_at: created_at.millis(),
        }
    }
}

impl TryFrom<pb::Backend> for Backend {
    type Error = DecodeError;
    fn try_from(body: pb::Backend) -> Decoded<Self> {
        Ok(Self {
            name: text("backend_added.name", &body.name)?,
            kind: text("backend_added.kind", &body.kind)?,
            roles: body.roles.iter().map(|role| text("backend_added.roles", role)).collect::<Decoded<_>>()?,
            sealed: digest("backend_added.sealed", &body.sealed)?,
            removed: false,
            created_at: time(body.created_at),
        })
    }
}

impl From<&Lease> for pb::Lease {
    fn from(lease: &Lease) -> Self {
        let Lease { id, grant, root, agent, backend, role, created_at, expires_at, status, kept, changed_at, trouble } =
            lease;
        let new = *status == LeaseStatus::Planned && !kept && changed_at == created_at && trouble.is_none();
        debug_assert!(new, "an event holds a record as it was new");
        Self {
            id: id.to_string(),
            grant: grant.to_string(),
            root: root.to_string(),
            agent: agent.to_string(),
            backend: backend.to_string(),
            role: role.to_string(),
            created_at: created_at.millis(),
            expires_at: expires_at.millis(),
        }
    }
}

impl TryFrom<pb::Lease> for Lease {
    type Error = DecodeError;
    fn try_from(body: pb::Lease) -> Decoded<Self> {
        Ok(Self {
            id: text("lease_issued.id", &body.id)?,
            grant: text("lease_issued.grant", &body.grant)?,
            root: text("lease_issued.root", &body.root)?,
            agent: text("lease_issued.agent", &body.agent)?,
            backend: text("lease_issued.backend", &body.backend)?,
            role: text("lease_issued.role", &body.role)?,
            created_at: time(body.created_at),
            expires_at: time(body.expires_at),
            status: LeaseStatus::Planned,
            kept: false,
            changed_at: time(body.created_at),
            trouble: None,
        })
    }
}

impl From<&LeaseChange> for pb::LeaseChanged {
    fn from(LeaseChange { id, grant, root, agent, status, trouble }: &LeaseChange) -> Self {
        let trouble = trouble
            .as_ref()
            .map(|Trouble { reason, failed }| pb::Trouble { reason: reason.to_string(), failed: *failed });
        Self {
            id: id.to_string(),
            grant: grant.to_string(),
            root: root.to_string(),
            agent: agent.to_string(),
            status: status.to_string(),
            trouble,
        }
    }
}

impl TryFrom<pb::LeaseChanged> for LeaseChange {
    type Error = DecodeError;
    fn try_from(body: pb::LeaseChanged) -> Decoded<Self> {
        let trouble = body.trouble.map(|pb::Trouble { reason, failed }| {
            Ok(Trouble { reason: text("lease_changed.trouble", &reason)?, failed })
        });
        Ok(Self {
            id: text("lease_changed.id", &body.id)?,
            grant: text("lease_changed.grant", &body.grant)?,
            root: text("lease_changed.root", &body.root)?,
            agent: text("lease_changed.agent", &body.agent)?,
            status: text("lease_changed.status", &body.status)?,
            trouble: trouble.transpose()?,
        })
    }
}
