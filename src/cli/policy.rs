//! `belay policy`: what may be done. `check` and `test` need no broker.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::connect::{Global, answer};
use super::output::{Answer, Outcome, given, pairs, rows, sparse};
use super::{files, lifetime, weights};
use crate::cedar::cases::{self, CaseResult};
use crate::cedar::{MAX_BYTES, Set};
use crate::client::Refusal;
use crate::domain::digest::Digest;
use crate::wire::v1::policies_client::PoliciesClient;
use crate::wire::v1::{ApplyPolicyRequest, ExplainRequest, ExplainResponse, PolicyFile, PolicySet, ShowPolicyRequest};

/// Bytes of an answer with a policy set in it.
const LARGEST_ANSWER: usize = 2 * MAX_BYTES;
/// Bytes of a file of cases.
const LARGEST_CASES: usize = 16 << 20;

const EXPLAIN: &str = "Example:
  belay policy explain --agent coder --scope 'github:issues.read@repo/acme/web'";

/// What to do with policies.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check policies here, without a broker
    #[command(after_help = "Example:\n  belay policy check ./policies")]
    Check {
        /// Directories with *.cedar files, or files
        #[arg(required = true, value_name = "DIR|FILE")]
        paths: Vec<PathBuf>,
    },
    /// Put another policy set in force, whole or not at all
    #[command(after_help = "Example:\n  belay policy apply ./policies --dry-run")]
    Apply(Apply),
    /// Show the policies in force
    #[command(after_help = "Example:\n  belay policy show --text")]
    Show {
        /// Their text, file by file
        #[arg(long)]
        text: bool,
    },
    /// Put questions with expected answers to policies, without a broker: exit 1 if one is answered otherwise
    #[command(after_help = "Example:\n  belay policy test ./tests.toml --policies ./policies")]
    Test {
        /// The cases, as TOML
        file: PathBuf,
        /// Whose answers: directories with *.cedar files, or files [default: what a new broker starts with]
        #[arg(long, num_args = 1.., value_name = "DIR|FILE")]
        policies: Vec<PathBuf>,
    },
    /// Ask what would be answered, and by which policies: exit 0 allows, 3 denies, 4 needs humans; nothing is recorded
    #[command(after_help = EXPLAIN)]
    Explain(Box<Explain>),
}

/// A policy set to be.
#[derive(Debug, Args)]
pub struct Apply {
    /// Directories with *.cedar files, or files
    #[arg(required = true, value_name = "DIR|FILE")]
    paths: Vec<PathBuf>,
    /// Only say whether it could be
    #[arg(long)]
    dry_run: bool,
    /// Even if no operator could apply others afterwards
    #[arg(long)]
    force: bool,
    /// Only if the set in force is of this version
    #[arg(long, value_name = "VERSION")]
    over: Option<u64>,
}

/// A question that nobody has asked.
#[derive(Debug, Args)]
pub struct Explain {
    /// Who asks
    #[arg(long, required_unless_present_any = ["parent", "grant"])]
    agent: Option<String>,
    /// What it should allow: `tool:action@resource`
    #[arg(long, num_args = 1.., value_name = "SCOPE", required_unless_present = "grant")]
    scope: Vec<String>,
    /// Under which task [default: one that has just begun]
    #[arg(long, conflicts_with_all = ["parent", "grant"])]
    task: Option<String>,
    /// Part of which grant
    #[arg(long, value_name = "GRANT", requires = "to", conflicts_with = "grant")]
    parent: Option<String>,
    /// To whom it is handed on
    #[arg(long, value_name = "AGENT", requires = "parent")]
    to: Option<String>,
    /// For how long [default: 15m]
    #[arg(long, value_name = "DURATION", value_parser = lifetime)]
    ttl: Option<i64>,
    /// Instead: a call under this grant
    #[arg(long, requires_all = ["tool", "action", "resource"], conflicts_with_all = ["scope", "ttl"])]
    grant: Option<String>,
    /// The tool of the call
    #[arg(long, requires = "grant")]
    tool: Option<String>,
    /// What it is to do
    #[arg(long, requires = "grant")]
    action: Option<String>,
    /// To what
    #[arg(long, requires = "grant")]
    resource: Option<String>,
    /// With which arguments: a JSON object
    #[arg(long, value_name = "JSON", requires = "grant")]
    args: Option<String>,
    /// Where it goes
    #[arg(long, requires = "grant")]
    destination: Option<String>,
}

impl Command {
    /// Does it.
    pub async fn run(self, global: &Global) -> Answer {
        match self {
            Self::Check { paths } => check(global, &paths),
            Self::Test { file, policies } => test(global, &file, &policies),
            Self::Apply(apply) => apply.run(global).await,
            Self::Show { text } => show(global, text).await,
            Self::Explain(explain) => {
                let explained = answer(client(global).await?.explain(explain.message()).await)?;
                global.printer().print(&explained_document(&explained), || explained_table(&explained))?;
                Ok(outcome(&explained.outcome))
            }
        }
    }
}

async fn client(global: &Global) -> Result<PoliciesClient<tonic::transport::Channel>, Refusal> {
    Ok(PoliciesClient::new(global.channel().await?).max_decoding_message_size(LARGEST_ANSWER))
}

fn check(global: &Global, paths: &[PathBuf]) -> Answer {
    let set = Set::load(&files::policies(paths, MAX_BYTES)?)?;
    let ids: Vec<&str> = set.ids().collect();
    let digest = Digest::of(&set.to_bytes()).to_string();
    let document = json!({ "policy": { "digest": digest, "policies": ids.len(), "ids": ids } });
    global.printer().print(&document, || {
        pairs([("digest", &digest), ("policies", &ids.len().to_string()), ("ids", &ids.join("\n"))])
    })
}

fn test(global: &Global, file: &std::path::Path, policies: &[PathBuf]) -> Answer {
    let text = files::text(file, LARGEST_CASES)?;
    let set = match policies {
        [] => Set::production()?,
        paths => Set::load(&files::policies(paths, MAX_BYTES)?)?,
    };
    let cases = cases::run(&set, &text)?;
    let passed = cases.iter().filter(|case| case.passed).count();
    let failed = cases.len() - passed;
    let document = json!({
        "passed": passed,
        "failed": failed,
        "cases": cases.iter().map(case).collect::<Vec<_>>(),
    });
    global.printer().print(&document, || {
        let row = |case: &CaseResult| {
            let word = if case.passed { "ok" } else { "FAILED" };
            let by = [case.by.join(", "), case.errors.join("; ")].into_iter().filter(|text| !text.is_empty());
            [
                word.to_owned(),
                case.expected.clone(),
                case.got.clone(),
                by.collect::<Vec<_>>().join("; "),
                case.name.clone(),
            ]
        };
        let table = rows(["", "EXPECTED", "GOT", "BY", "CASE"], cases.iter().map(row));
        format!("{table}\n{passed} passed, {failed} failed")
    })?;
    Ok(if failed == 0 { Outcome::Done } else { Outcome::Failed })
}

fn case(case: &CaseResult) -> Value {
    let CaseResult { name, expected, got, by, errors, passed } = case;
    json!({ "name": name, "expected": expected, "got": got, "by": by, "errors": errors, "passed": passed })
}

impl Apply {
    async fn run(self, global: &Global) -> Answer {
        let files = files::policies(&self.paths, MAX_BYTES)?;
        let files = files.into_iter().map(|(name, text)| PolicyFile { name, text }).collect();
        let request = ApplyPolicyRequest { files, dry_run: self.dry_run, force: self.force, over: self.over };
        let applied = answer(client(global).await?.apply(request).await)?;
        let document = json!({ "policy": document(&applied), "dry_run": self.dry_run.then_some(true) });
        global.printer().print(&sparse(document), || table(&applied))
    }
}

async fn show(global: &Global, text: bool) -> Answer {
    let shown = answer(client(global).await?.show(ShowPolicyRequest {}).await)?;
    if text {
        let file = |file: &PolicyFile| format!("// {}\n{}", file.name, file.text.trim_end());
        return global.printer().text(&shown.files.iter().map(file).collect::<Vec<_>>().join("\n\n"));
    }
    let mut document = document(&shown);
    document["files"] = shown.files.iter().map(|file| json!({ "name": file.name, "text": file.text })).collect();
    global.printer().print(&json!({ "policy": document }), || table(&shown))
}

fn document(set: &PolicySet) -> Value {
    sparse(json!({ "version": set.version, "digest": given(&set.digest), "policies": set.policies }))
}

fn table(set: &PolicySet) -> String {
    let names: Vec<&str> = set.files.iter().map(|file| file.name.as_str()).collect();
    pairs([
        ("version", &set.version.to_string()),
        ("digest", &set.digest),
        ("policies", &set.policies.to_string()),
        ("files", &names.join(", ")),
    ])
}

impl Explain {
    fn message(self) -> ExplainRequest {
        ExplainRequest {
            agent: self.agent.unwrap_or_default(),
            scopes: self.scope,
            task: self.task.unwrap_or_default(),
            grant: self.parent.or(self.grant).unwrap_or_default(),
            to: self.to.unwrap_or_default(),
            ttl_ms: self.ttl.unwrap_or_default(),
            tool: self.tool.unwrap_or_default(),
            action: self.action.unwrap_or_default(),
            resource: self.resource.unwrap_or_default(),
            args: self.args.unwrap_or_default(),
            destination: self.destination.unwrap_or_default(),
        }
    }
}

/// Only the word `allow` allows.
fn outcome(word: &str) -> Outcome {
    match word {
        "allow" => Outcome::Done,
        "step_up" => Outcome::Pending,
        _ => Outcome::Denied,
    }
}

fn explained_document(explained: &ExplainResponse) -> Value {
    let reasons = explained.reasons.iter().map(|reason| json!({ "code": reason.code, "message": reason.message }));
    sparse(json!({
        "outcome": explained.outcome,
        "needed": explained.needed,
        "policy": explained.policy.as_ref().map(weights::policy),
        "reasons": reasons.collect::<Vec<_>>(),
        "radius": explained.radius.as_ref().map(weights::weight),
    }))
}

fn explained_table(explained: &ExplainResponse) -> String {
    let why: Vec<&str> = explained.reasons.iter().map(|reason| reason.message.as_str()).collect();
    let needed = if explained.needed == 0 { String::new() } else { explained.needed.to_string() };
    let policy = explained.policy.clone().unwrap_or_default();
    let weight = explained.radius.unwrap_or_default();
    let summed = |figures: Option<crate::wire::v1::Figures>| weights::summed(&figures.unwrap_or_default());
    pairs([
        ("outcome", &explained.outcome),
        ("approvals", &needed),
        ("why", &why.join("; ")),
        ("policies", &policy.policies.join(", ")),
        ("version", &policy.version.to_string()),
        ("reaches", &summed(weight.radius)),
        ("adds", &summed(weight.adds)),
        ("task then", &summed(weight.task)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_allow_is_exit_0() {
        assert_eq!(outcome("allow"), Outcome::Done);
        assert_eq!(outcome("step_up"), Outcome::Pending);
        for other in ["deny", "", "Allow"] {
            assert_eq!(outcome(other), Outcome::Denied, "{other}");
        }
    }
}
