//! `belay agent`: who may ask for authority at all.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::connect::{Global, answer};
use super::enroll::{self, Enroll};
use super::output::{Answer, given, pairs, rows, sparse};
use super::{NO_REASON, lifetime};
use crate::client::Refusal;
use crate::domain::agent::Kind;
use crate::wire::v1::agents_client::AgentsClient;
use crate::wire::v1::{Agent, ChangeAgentRequest, InviteRequest, InvitedAgent, Label};
use crate::wire::v1::{ListAgentsRequest, RegisterAgentRequest, ShowAgentRequest};

/// What to do with agents.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Register an agent and print its join token: single use, ten minutes
    #[command(after_help = "Example:\n  belay agent register planner --owner team-web --purpose 'plans releases'")]
    Register(Register),
    /// Print a new join token for a registered agent
    #[command(after_help = "Example:\n  belay agent invite planner")]
    Invite {
        /// The agent
        name: String,
    },
    /// Turn a join token into an identity; the key is made here and never leaves
    #[command(after_help = "Example:\n  belay agent enroll --join-token @join.txt --out ./planner")]
    Enroll(Enroll),
    /// Replace the identity by a new one, with a new key
    #[command(after_help = "Example:\n  belay agent renew --identity ./planner")]
    Renew,
    /// List all agents
    #[command(after_help = "Example:\n  belay agent list")]
    List,
    /// Show one agent
    #[command(after_help = "Example:\n  belay agent show planner")]
    Show {
        /// The agent
        name: String,
    },
    /// Halt an agent and everything it holds, until it is resumed
    #[command(after_help = "Example:\n  belay agent suspend planner --reason 'acts strangely'")]
    Suspend(Change),
    /// Let a suspended agent go on
    #[command(after_help = "Example:\n  belay agent resume planner --reason 'was a false alarm'")]
    Resume(Change),
    /// End an agent for good
    #[command(after_help = "Example:\n  belay agent retire planner --reason 'replaced by planner2'")]
    Retire(Change),
}

/// An agent to be.
#[derive(Debug, Args)]
pub struct Register {
    /// Its name: a-z, 0-9, `.`, `_` and `-`
    name: String,
    /// The person or team answerable for it
    #[arg(long, value_name = "OWNER")]
    owner: String,
    /// What it is for
    #[arg(long, value_name = "PURPOSE")]
    purpose: String,
    /// What it may ever hold: `tool:action@resource`
    #[arg(long, value_name = "SCOPE", num_args = 1..)]
    ceiling: Vec<String>,
    /// The longest life of any grant it gets, such as 1h
    #[arg(long, value_name = "DURATION", value_parser = lifetime)]
    max_ttl: Option<i64>,
    /// A label
    #[arg(long, value_name = "KEY=VALUE", num_args = 1.., value_parser = label)]
    label: Vec<Label>,
}

/// Whom to change, and why.
#[derive(Debug, Args)]
pub struct Change {
    /// The agent
    name: String,
    /// Why, for the audit
    #[arg(long, default_value = NO_REASON)]
    reason: String,
}

impl Command {
    /// Does it.
    pub async fn run(self, global: &Global) -> Answer {
        let agents = async || Ok::<_, Refusal>(AgentsClient::new(global.channel().await?));
        let changed = match self {
            Self::Enroll(enroll) => return enroll.run(global, Kind::Agent).await,
            Self::Renew => return enroll::renew(global).await,
            Self::Register(register) => {
                return invited(global, answer(agents().await?.register(register.request()).await)?);
            }
            Self::Invite { name } => {
                return invited(global, answer(agents().await?.invite(InviteRequest { name }).await)?);
            }
            Self::List => return list(global, &answer(agents().await?.list(ListAgentsRequest {}).await)?.agents),
            Self::Show { name } => agents().await?.show(ShowAgentRequest { name }).await,
            Self::Suspend(change) => agents().await?.suspend(change.request()).await,
            Self::Resume(change) => agents().await?.resume(change.request()).await,
            Self::Retire(change) => agents().await?.retire(change.request()).await,
        };
        let agent = answer(changed)?;
        global.printer().print(&json!({ "agent": document(&agent) }), || table(&agent))
    }
}

impl Register {
    fn request(self) -> RegisterAgentRequest {
        RegisterAgentRequest {
            name: self.name,
            owner: self.owner,
            purpose: self.purpose,
            ceiling: self.ceiling,
            max_ttl_ms: self.max_ttl.unwrap_or_default(),
            labels: self.label,
        }
    }
}

impl Change {
    fn request(self) -> ChangeAgentRequest {
        ChangeAgentRequest { name: self.name, reason: self.reason }
    }
}

/// An agent as a document.
pub fn document(agent: &Agent) -> Value {
    let labels: Map<_, _> = agent.labels.iter().map(|label| (label.key.clone(), json!(label.value))).collect();
    sparse(json!({
        "id": agent.id,
        "name": agent.name,
        "spiffe_id": agent.spiffe_id,
        "owner": agent.owner,
        "purpose": agent.purpose,
        "status": agent.status,
        "ceiling": (!agent.ceiling.is_empty()).then_some(&agent.ceiling),
        "max_ttl_ms": (agent.max_ttl_ms > 0).then_some(agent.max_ttl_ms),
        "labels": (!labels.is_empty()).then_some(labels),
        "created_at": given(&agent.created_at),
    }))
}

fn invited(global: &Global, invited: InvitedAgent) -> Answer {
    let agent = invited.agent.unwrap_or_default();
    let document = json!({
        "agent": document(&agent),
        "join_token": invited.join_token,
        "join_expires_at": invited.join_expires_at,
    });
    global.printer().print(&document, || {
        let hint = format!("belay agent enroll --join-token - --out ./{}", agent.name);
        pairs([
            ("agent", &agent.name),
            ("spiffe id", &agent.spiffe_id),
            ("join token", &invited.join_token),
            ("valid until", &invited.join_expires_at),
            ("next", &hint),
        ])
    })
}

fn list(global: &Global, agents: &[Agent]) -> Answer {
    let document = json!({ "agents": agents.iter().map(document).collect::<Vec<_>>() });
    global.printer().print(&document, || {
        let row = |agent: &Agent| [&agent.name, &agent.status, &agent.owner, &agent.purpose].map(Clone::clone);
        rows(["NAME", "STATUS", "OWNER", "PURPOSE"], agents.iter().map(row))
    })
}

fn table(agent: &Agent) -> String {
    pairs([
        ("agent", &agent.name),
        ("id", &agent.id),
        ("spiffe id", &agent.spiffe_id),
        ("owner", &agent.owner),
        ("purpose", &agent.purpose),
        ("status", &agent.status),
        ("ceiling", &agent.ceiling.join(", ")),
        ("created", &agent.created_at),
    ])
}

fn label(text: &str) -> Result<Label, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok(Label { key: key.to_owned(), value: value.to_owned() }),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_has_the_keys_that_scripts_read() {
        let agent = Agent { name: "planner".into(), status: "active".into(), ..Agent::default() };
        let document = document(&agent);
        for key in ["id", "name", "spiffe_id", "owner", "purpose", "status"] {
            assert!(document.get(key).is_some(), "{key}");
        }
        assert!(document.get("ceiling").is_none() && document.get("max_ttl_ms").is_none());
    }

    #[test]
    fn a_label_is_a_key_and_a_value() {
        assert_eq!(label("a=b=c").unwrap(), Label { key: "a".into(), value: "b=c".into() });
        assert!(label("a").is_err() && label("=b").is_err());
    }
}
