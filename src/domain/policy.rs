//! What an operator's role may do. One fixed table until policies are data; every right goes through it.

use super::agent::Role;

/// Something an operator may be allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Register, invite and retire agents.
    ManageAgents,
    /// Add and remove operators.
    ManageOperators,
    /// Rotate signing keys.
    ManageKeys,
    /// Halt an agent or a grant, and let it go on.
    Suspend,
    /// Cut grants, credentials, tasks and names.
    Revoke,
    /// See agents, tasks, grants and the status.
    Read,
    /// Read the audit.
    ReadAudit,
    /// Ask what a credential would be answered.
    Ask,
}

/// The roles that carry each right. A right that is not here, nobody has.
const RIGHTS: &[(Right, &[Role])] = &[
    (Right::ManageAgents, &[Role::Admin]),
    (Right::ManageOperators, &[Role::Admin]),
    (Right::ManageKeys, &[Role::Admin]),
    (Right::Suspend, &[Role::Admin, Role::Responder]),
    (Right::Revoke, &[Role::Admin, Role::Responder]),
    (Right::Read, &Role::ALL),
    (Right::ReadAudit, &[Role::Admin, Role::Responder, Role::Auditor]),
    (Right::Ask, &Role::ALL),
];

/// Whether one of `roles` carries `right`.
pub fn permits(roles: &[Role], right: Right) -> bool {
    RIGHTS.iter().any(|(known, carriers)| *known == right && roles.iter().any(|role| carriers.contains(role)))
}

impl Right {
    /// The words for it in a refusal: "may not …".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ManageAgents => "manage agents",
            Self::ManageOperators => "manage operators",
            Self::ManageKeys => "manage keys",
            Self::Suspend => "suspend or resume",
            Self::Revoke => "revoke",
            Self::Read => "read",
            Self::ReadAudit => "read the audit",
            Self::Ask => "ask for decisions",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_role_means_no_right() {
        for (right, _) in RIGHTS {
            assert!(!permits(&[], *right), "{right:?}");
        }
    }

    #[test]
    fn only_an_admin_manages() {
        for role in [Role::Approver, Role::Responder, Role::Auditor] {
            assert!(!permits(&[role], Right::ManageAgents) && !permits(&[role], Right::ManageOperators));
        }
        assert!(!permits(&[Role::Auditor], Right::Revoke) && !permits(&[Role::Approver], Right::ReadAudit));
    }
}
