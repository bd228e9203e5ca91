//! The elevated grant: more than an agent may have alone, asked of a human.

use anyhow::{Context, Result, ensure};

use super::acts::{Act, Call, Held, held, text};
use super::stage::{Said, Stage};

/// What there is, and how bad: the tools of the story, where reaching them leads, and which request is which call.
const CATALOG: &str = r#"
[[tool]]
name = "github"
owner = "team-web"
[[tool.action]]
name = "issues.*"
risk = "write"
[[tool.action]]
name = "branch.delete"
risk = "destructive"

[[tool]]
name = "deploy"
owner = "team-ops"
[[tool.action]]
name = "run"
risk = "write"

[[tool]]
name = "shop"
owner = "team-shop"
[[tool.action]]
name = "read"
risk = "read"
[[tool.action]]
name = "cancel"
risk = "write"

[[resource]]
path = "github:repo/acme/*"
sensitivity = "internal"
[[resource]]
path = "deploy:production"
sensitivity = "restricted"

[[edge]]
from = "github:branch.delete@repo/acme/web"
to = "deploy:production"

[[route]]
host = "shop.example"
method = "GET"
path = "/orders/{id}"
call = "shop:read@orders/{id}"
[[route]]
host = "shop.example"
method = "DELETE"
path = "/orders/{id}"
call = "shop:cancel@orders/{id}"
"#;

const SCOPE: &str = "github:branch.delete@repo/acme/web";
/// What the elevated grant is for.
pub const ELEVATED: Call = ["github", "branch.delete", "repo/acme/web"];
/// The agent asks twice for the same thing.
const KEY: &str = "clean-up";
const APPROVER: &str = "ana";

pub async fn catalog(stage: &Stage) -> Act<()> {
    let file = stage.file("catalog.toml", CATALOG)?;
    let applied = stage.run(None, &["catalog", "apply", &file, "--yes"], "").await?.done()?;
    let catalog = &applied["catalog"];
    ensure!(catalog["version"] == 1 && catalog["edges"] == 1, "it is another catalog: {catalog}");
    Ok(((), format!("{} tools, {} resources, {} edge", catalog["tools"], catalog["resources"], catalog["edges"])))
}

pub async fn approver(stage: &Stage) -> Act<()> {
    let added = stage.run(None, &["operator", "add", APPROVER, "--role", "approver"], "").await?.done()?;
    let out = stage.identity(APPROVER).display().to_string();
    let enroll = ["operator", "enroll", "--join-token", "-", "--out", &out];
    stage.run(None, &enroll, text(&added, "/join_token")?).await?.done()?;
    Ok(((), format!("{APPROVER}, approver")))
}

/// The grant that waits, and its approval.
pub struct Pending {
    grant: String,
    approval: String,
}

pub async fn pending(stage: &Stage, task: &str) -> Act<Pending> {
    let said = ask(stage, task).await?;
    ensure!(said.exit == 4, "expected exit 4, got {}: {}", said.exit, said.out);
    ensure!(said.out["grant"]["state"] == "pending", "it does not wait: {}", said.out["grant"]);
    ensure!(said.out.get("token").is_none(), "a token came before the approval");
    let grant = text(&said.out, "/grant/id")?.to_owned();
    let early = stage.run(Some("planner"), &["token", "issue", "--grant", &grant], "").await?;
    let reason = early.refused()?;
    ensure!(reason == "awaits_approval", "it was refused for another reason: `{reason}`");
    let approval = text(&said.out, "/approval/id")?.to_owned();
    Ok((Pending { grant, approval }, format!("{SCOPE}: pending, and no token: {reason}")))
}

pub async fn shown(stage: &Stage, pending: &Pending) -> Act<()> {
    let shown = stage.run(Some(APPROVER), &["approval", "show", &pending.approval], "").await?.done()?;
    let (request, adds) = (&shown["approval"]["request"], &shown["approval"]["radius"]["adds"]);
    ensure!(request["requester"] == "planner" && request["scopes"][0] == SCOPE, "it shows another request: {request}");
    // Not the branch alone: whoever can delete it reaches what is deployed from it.
    ensure!(adds["restricted"] == 1, "it does not show where that leads: {adds}");
    let detail = format!("adds a score of {}: {} restricted, by 1 edge", adds["score"], adds["restricted"]);
    Ok(((), detail))
}

pub async fn approved(stage: &Stage, pending: &Pending) -> Act<()> {
    let words = ["approval", "approve", &pending.approval, "--ttl", "5m", "--reason", "the branch is merged", "--yes"];
    let own = stage.run(Some("planner"), &words, "").await?;
    ensure!(own.exit == 3, "an agent approved its own request: {}", own.out);
    let approved = stage.run(Some(APPROVER), &words, "").await?.done()?;
    let approval = &approved["approval"];
    ensure!(
        approval["state"] == "approved" && approval["given"][0]["by"] == APPROVER,
        "it is not approved: {approval}"
    );
    Ok(((), format!("by {APPROVER}, for 5 min at most; planner itself may not")))
}

pub async fn issued(stage: &Stage, task: &str, pending: &Pending) -> Act<Held> {
    let granted = ask(stage, task).await?.done()?;
    ensure!(granted["grant"]["id"] == pending.grant.as_str(), "it is another grant: {}", granted["grant"]);
    let token = held(&granted["token"])?;
    let again = held(&ask(stage, task).await?.done()?["token"])?;
    ensure!(again.is(&token), "the same request got a second token");
    Ok((token, "the same request again: the token, once".to_owned()))
}

pub async fn cut(stage: &Stage, pending: &Pending) -> Act<()> {
    let words = ["revoke", &pending.grant, "--reason", "done"];
    let revoked = stage.run(None, &words, "").await?.done()?;
    ensure!(revoked["cut"]["grants"] == 1 && revoked["cut"]["tokens"] == 1, "it did not cut it: {}", revoked["cut"]);
    Ok(((), "1 grant and 1 token cut, final".to_owned()))
}

async fn ask(stage: &Stage, task: &str) -> Result<Said> {
    let words =
        ["grant", "request", "--task", task, "--scope", SCOPE, "--ttl", "10m", "--token", "--idempotency-key", KEY];
    stage.run(Some("planner"), &words, "").await.context("asking for the elevated grant")
}
