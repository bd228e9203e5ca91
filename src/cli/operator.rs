//! `belay operator`: the people who register, revoke and read.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::NO_REASON;
use super::connect::{Global, answer};
use super::enroll::Enroll;
use super::output::{Answer, given, pairs, rows, sparse};
use crate::client::Refusal;
use crate::domain::agent::Kind;
use crate::wire::v1::RemoveOperatorRequest;
use crate::wire::v1::operators_client::OperatorsClient;
use crate::wire::v1::{AddOperatorRequest, InviteRequest, InvitedOperator, ListOperatorsRequest, Operator};

/// What to do with operators.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Add an operator and print its join token: single use, ten minutes
    #[command(after_help = "Example:\n  belay operator add ana --role admin --role auditor")]
    Add(Add),
    /// Print a new join token for an operator
    #[command(after_help = "Example:\n  belay operator invite ana")]
    Invite {
        /// The operator
        name: String,
    },
    /// Turn a join token into an identity; the key is made here and never leaves
    #[command(after_help = "Example:\n  belay operator enroll --join-token - --out ./ana")]
    Enroll(Enroll),
    /// List all operators
    #[command(after_help = "Example:\n  belay operator list")]
    List,
    /// Remove an operator at once, on open connections too
    #[command(after_help = "Example:\n  belay operator remove ana --reason 'left the team'")]
    Remove {
        /// The operator
        name: String,
        /// Why, for the audit
        #[arg(long, default_value = NO_REASON)]
        reason: String,
    },
}

/// An operator to be.
#[derive(Debug, Args)]
pub struct Add {
    /// Its name: a-z, 0-9, `.`, `_` and `-`
    name: String,
    /// What it may do; give it several times for several roles
    #[arg(long, required = true, value_delimiter = ',', value_name = "ROLE")]
    role: Vec<Role>,
}

/// What an operator may do.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Role {
    /// Registers agents and operators
    Admin,
    /// Decides approvals
    Approver,
    /// Suspends and revokes
    Responder,
    /// Reads everything
    Auditor,
    /// Revokes, whatever the policies say
    #[value(name = "break_glass")]
    BreakGlass,
}

impl Command {
    /// Does it.
    pub async fn run(self, global: &Global) -> Answer {
        let operators = async || Ok::<_, Refusal>(OperatorsClient::new(global.channel().await?));
        match self {
            Self::Enroll(enroll) => enroll.run(global, Kind::Operator).await,
            Self::Add(add) => invited(global, answer(operators().await?.add(add.request()).await)?),
            Self::Invite { name } => invited(global, answer(operators().await?.invite(InviteRequest { name }).await)?),
            Self::List => list(global, &answer(operators().await?.list(ListOperatorsRequest {}).await)?.operators),
            Self::Remove { name, reason } => {
                let removed = answer(operators().await?.remove(RemoveOperatorRequest { name, reason }).await)?;
                global.printer().print(&json!({ "operator": document(&removed) }), || list_table(&[removed]))
            }
        }
    }
}

impl Add {
    fn request(self) -> AddOperatorRequest {
        AddOperatorRequest { name: self.name, roles: self.role.iter().map(|role| role.word().to_owned()).collect() }
    }
}

impl Role {
    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Approver => "approver",
            Self::Responder => "responder",
            Self::Auditor => "auditor",
            Self::BreakGlass => "break_glass",
        }
    }
}

/// An operator as a document.
pub fn document(operator: &Operator) -> Value {
    sparse(json!({
        "name": operator.name,
        "roles": operator.roles,
        "status": operator.status,
        "created_at": given(&operator.created_at),
    }))
}

fn invited(global: &Global, invited: InvitedOperator) -> Answer {
    let operator = invited.operator.unwrap_or_default();
    let document = json!({
        "operator": document(&operator),
        "join_token": invited.join_token,
        "join_expires_at": invited.join_expires_at,
    });
    global.printer().print(&document, || {
        pairs([
            ("operator", &operator.name),
            ("roles", &operator.roles.join(", ")),
            ("join token", &invited.join_token),
            ("valid until", &invited.join_expires_at),
            ("next", &format!("belay operator enroll --join-token - --out ./{}", operator.name)),
        ])
    })
}

fn list(global: &Global, operators: &[Operator]) -> Answer {
    let document = json!({ "operators": operators.iter().map(document).collect::<Vec<_>>() });
    global.printer().print(&document, || list_table(operators))
}

fn list_table(operators: &[Operator]) -> String {
    let row = |operator: &Operator| [operator.name.clone(), operator.status.clone(), operator.roles.join(", ")];
    rows(["NAME", "STATUS", "ROLES"], operators.iter().map(row))
}
