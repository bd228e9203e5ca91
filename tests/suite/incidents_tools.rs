//! Incidents that happened at the tool: what destroys, what was frozen, a server that is not what it was. As
//! [`super::incidents`], each with a control run.

use std::time::{Duration, Instant};

use belay::domain::digest::Digest;
use belay::wire::v1;
use belay::wire::v1::decision_message::Said as Told;
use belay::wire::v1::decision_request::Said as Asks;
use belay::wire::v1::decisions_client::DecisionsClient;
use serde_json::{Value, json};
use tonic::Code;

use crate::support::calls::refused;
use crate::support::mission::{Ask, Held, Member, Mission, code, report, request};

/// On a machine that does much else, too. What it takes on one that does not is in `docs/PERFORMANCE.md`.
const PATIENCE: Duration = Duration::from_secs(5);

const DATABASE: &str = r#"
[[tool]]
name = "db"
owner = "data"
[[tool.action]]
name = "select"
risk = "read"
[[tool.action]]
name = "write.*"
risk = "write"
[[resource]]
path = "db:prod/**"
sensitivity = "confidential"
[[resource]]
path = "db:dev/**"
sensitivity = "internal"
"#;

/// A call that the enforcement point holds; it waits for its end.
async fn held_call(
    mission: &Mission,
    member: &Member,
    held: &Held,
    call: &str,
) -> tonic::Streaming<v1::DecisionMessage> {
    let asked = request(&member.shown, &held.token, Ask { call, ..Ask::default() });
    let asked = v1::DecisionRequest { id: 1, said: Some(Asks::Authorize(Box::new(asked))), hold: true };
    let mut decisions = DecisionsClient::new(mission.gateway.clone());
    let mut told = decisions.stream(tokio_stream::once(asked)).await.unwrap().into_inner();
    match told.message().await.unwrap().unwrap().said {
        Some(Told::Decided(decided)) => assert_eq!(decided.decision, "allow", "{decided:?}"),
        other => panic!("{other:?}"),
    }
    told
}

/// S5 (Replit and SaaStr, July 2025): an agent with its access in hand wrote through a code freeze, and told that all was
/// well.
#[tokio::test]
async fn s5_a_freeze_voids_the_token_that_is_out_and_the_report_says_what_the_agent_does_not() {
    let mission = Mission::over(DATABASE, "").await;
    let coder = mission.member("coder").await;
    // Its calls are counted: what became of each is said once, by who asked about it.
    let held = coder.root(&["db:select@**", "db:write.*@**"], &["max_calls=1000"]).await;
    let said = async |call: &str| mission.said(&coder, &held, call, "").await;
    // Control: before the freeze each of them is allowed.
    for call in ["db:select@prod/people", "db:write.row@prod/people", "db:write.row@dev/people"] {
        assert_eq!(said(call).await, "in_scope", "{call}");
    }
    let ask = Ask { call: "db:write.row@prod/people", ..Ask::default() };
    let before = mission.asks(&coder.shown, &held.token, ask).await;
    let mut writes = held_call(&mission, &coder, &held, "db:write.row@prod/people").await;
    let mut reads = held_call(&mission, &coder, &held, "db:select@prod/people").await;

    let since = Instant::now();
    let frozen = mission.broker.run(&["freeze", "--scope", "db:write.*@prod/**", "--reason", "code freeze"]).ok();
    // The call that goes on ends; it is told why.
    let ended = tokio::time::timeout(PATIENCE, writes.message()).await.expect("it goes on").unwrap().unwrap();
    let took = since.elapsed();
    match ended.said {
        Some(Told::Ended(ended)) => assert_eq!(ended.reasons[0].code, "frozen", "{ended:?}"),
        other => panic!("{other:?}"),
    }
    // The token that is out, and a new one of the same grant: at once. Reads go on, and writes elsewhere.
    assert_eq!(said("db:write.row@prod/people").await, "frozen");
    let new = coder.acting.issue(&held.grant).await.unwrap().into_inner().token;
    assert_eq!(code(&mission.asks(&coder.shown, &new, ask).await), "frozen");
    for call in ["db:select@prod/people", "db:write.row@dev/people"] {
        assert_eq!(said(call).await, "in_scope", "{call}");
    }
    let read = tokio::time::timeout(Duration::from_millis(600), reads.message()).await;
    assert!(read.is_err(), "the read ended: {read:?}");
    // Nor is there a new grant for it.
    let task = held.task.as_str();
    let grant = ["grant", "request", "--task", task, "--scope", "db:write.row@prod/people"];
    assert_eq!(mission.broker.run_as(&coder.identity, &grant).err(3)["detail"]["reason"], "frozen");
    mission.broker.run_as(&coder.identity, &["grant", "request", "--task", task, "--scope", "db:select@prod/**"]).ok();
    // The agent cannot lift it.
    let thaw = ["thaw", frozen["freeze"]["id"].as_str().unwrap()];
    mission.broker.run_as(&coder.identity, &thaw).err(3);

    // "The tests passed": what became of the call says who was there, and no other word replaces it.
    mission.report(&before.id, "failed", "4000 rows were not written").await.unwrap();
    let claimed = report(&coder.acting.0, &before.id, "done", "the tests passed").await;
    refused("the agent's own word", claimed, Code::NotFound, "not_found", 5);
    let claimed = mission.report(&before.id, "done", "the tests passed").await;
    refused("another word", claimed, Code::AlreadyExists, "reported", 1);
    let reports = mission.audit("invocation_reported");
    assert_eq!(reports.len(), 1, "{reports:?}");
    let summary = reports[0]["summary"].as_str().unwrap();
    assert!(summary.contains(&before.id) && summary.contains("failed"), "{summary}");
    mission.audited("invoked", |event| event["summary"] == "deny db:write.row@prod/people: frozen");

    mission.broker.run(&thaw).ok();
    assert_eq!(said("db:write.row@prod/people").await, "in_scope");
    println!("a call that was held ended {} ms after the freeze was asked for", took.as_millis());
}

/// Instances to be destroyed, and a shell.
fn machines(instances: usize) -> String {
    let instance = |at| format!("[[resource]]\npath = \"aws:instances/i-{at:02}\"\nsensitivity = \"internal\"\n");
    let instances: String = (0..instances).map(instance).collect();
    format!(
        r#"
[[tool]]
name = "aws"
owner = "ops"
[[tool.action]]
name = "instances.describe"
risk = "read"
[[tool.action]]
name = "instances.terminate"
risk = "destructive"
[[tool.action]]
name = "users.delete"
risk = "admin"
[[tool]]
name = "shell"
owner = "ops"
[[tool.action]]
name = "run"
risk = "write"
[[resource]]
path = "aws:users/*"
sensitivity = "internal"
[[resource]]
path = "shell:host"
sensitivity = "internal"
{instances}"#
    )
}

/// What a shell is told is looked at, too: what is not known to be harmless is asked about.
const SHELL: &str = r#"
@id("known-commands-alone")
forbid (principal, action == Action::"invoke", resource == Tool::"shell")
when { context.approvals < 1 }
unless { context.args.hasTag("command") && ["ls", "git status"].contains(context.args.getTag("command")) };
"#;

/// S4 (Amazon Q for VS Code, July 2025): a prompt told an assistant to wipe machines, users and files.
#[tokio::test]
async fn s4_what_destroys_waits_for_a_human_who_sees_how_much_it_would() {
    let mission = Mission::open().await;
    let coder = mission.member("coder").await;
    // From before anybody called these verbs dangerous: each call is asked about all the same.
    let held = coder.root(&["aws:*@**", "shell:run@host"], &[]).await;
    mission.apply(&machines(41), SHELL);
    let said = async |held: &Held, call: &str, args: &str| {
        let decided = mission.asks(&coder.shown, &held.token, Ask { call, args, ..Ask::default() }).await;
        (decided.decision.clone(), code(&decided).to_owned())
    };
    let (step_up, allow) = (("step_up".into(), "approval_needed".into()), ("allow".into(), "in_scope".into()));
    // Control: looking is free, and so is a harmless command.
    assert_eq!(said(&held, "aws:instances.describe@instances/i-07", "").await, allow);
    assert_eq!(said(&held, "shell:run@host", r#"{"command":"git status"}"#).await, allow);
    for (call, args) in [
        ("aws:instances.terminate@instances/i-07", ""),
        ("aws:users.delete@users/ana", ""),
        ("shell:run@host", r#"{"command":"rm -rf /"}"#),
        ("shell:run@host", r#"{"command":"aws ec2 terminate-instances --instance-ids i-07"}"#),
        ("shell:run@host", r#"{"command":"git status; rm -rf /"}"#),
        ("shell:run@host", r#"{"cmd":"ls"}"#),
        ("shell:run@host", ""),
    ] {
        assert_eq!(said(&held, call, args).await, step_up, "{call} {args}");
    }

    // To go on, a grant is asked for: a human sees 41 machines before any is gone.
    let all = ["grant", "request", "--task", &held.task, "--scope", "aws:instances.terminate@instances/*"];
    let pending =
        mission.broker.run_as(&coder.identity, &[&all[..], &["--audience", "https://tools.example"]].concat());
    assert_eq!(pending.code, 4, "{pending:?}");
    let pending: Value = serde_json::from_str(&pending.stdout).unwrap();
    let (approval, grant) = (text(&pending["approval"]["id"]), text(&pending["grant"]["id"]));
    let shown = mission.broker.run(&["approval", "show", &approval]).ok()["approval"].clone();
    assert_eq!(shown["radius"]["internal"], 41, "{shown}");
    // Nobody is there: nothing of it can be used, and the agent does not approve itself.
    coder.acting.issue(&grant).await.unwrap_err();
    mission.broker.run_as(&coder.identity, &["approval", "approve", &approval, "--reason", "sure"]).err(3);
    assert_eq!(said(&held, "aws:instances.terminate@instances/i-07", "").await, step_up);
    mission.broker.run(&["approval", "deny", &approval, "--reason", "no change was announced"]).ok();
    coder.acting.issue(&grant).await.unwrap_err();

    // Control: what a human lets pass, passes, for that one machine, and is in the log before it is answered.
    let one = ["grant", "request", "--task", &held.task, "--scope", "aws:instances.terminate@instances/i-07"];
    let pending =
        mission.broker.run_as(&coder.identity, &[&one[..], &["--audience", "https://tools.example"]].concat());
    let pending: Value = serde_json::from_str(&pending.stdout).unwrap();
    mission.broker.run(&["approval", "approve", &text(&pending["approval"]["id"]), "--reason", "it is old"]).ok();
    let grant = text(&pending["grant"]["id"]);
    let token = coder.acting.issue(&grant).await.unwrap().into_inner().token;
    let approved = Held { grant, task: held.task.clone(), token };
    let ask = Ask { call: "aws:instances.terminate@instances/i-07", ..Ask::default() };
    let decided = mission.asks(&coder.shown, &approved.token, ask).await;
    assert_eq!(code(&decided), "in_scope");
    let recorded = mission.audit("invoked");
    assert!(recorded.iter().any(|event| event["summary"] == format!("allow {}: in_scope", ask.call)), "{recorded:?}");
    assert_eq!(said(&approved, "aws:instances.terminate@instances/i-08", "").await.1, "out_of_scope");
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// The input schema of a tool that sends mail, and its digest.
fn mail(pin: &str) -> String {
    format!(
        r#"
[[tool]]
name = "email"
owner = "office"
[[tool.action]]
name = "send"
risk = "write"
schema_digest = "{pin}"
[[resource]]
path = "email:**"
sensitivity = "internal"
[[route]]
mcp = "email"
tool = "send_mail"
call = "email:send@outbox"
"#
    )
}

/// S8 (postmark-mcp, September 2025): a server that had been harmless came with a hidden BCC.
#[tokio::test]
async fn s8_a_server_that_changed_and_a_recipient_that_was_added_are_refused() {
    let digest = |schema: &str| format!("sha256:{}", Digest::of(schema.as_bytes()));
    let (pinned, changed) = (digest(r#"{"to":"string"}"#), digest(r#"{"to":"string","bcc":"string"}"#));
    let mission = Mission::over(&mail(&pinned), "").await;
    let agent = mission.member("secretary").await;
    let held =
        agent.root(&[r#"email:send@outbox{"args":{"to":{"suffix":"@acme.com"},"text":{}},"closed":true}"#], &[]).await;
    // (a) What the server shows now is held against what was looked at, before any argument is.
    let message = async |arguments: Value, schema: &str| {
        let params = json!({ "name": "send_mail", "arguments": arguments }).to_string();
        let mcp = v1::McpRequest {
            server: "email".into(),
            method: "tools/call".into(),
            params,
            schema_digest: schema.to_owned(),
        };
        let (token, presenter) = (held.token.clone(), agent.shown.clone());
        let asked = v1::AuthorizeRequest { token, presenter, mcp: Some(mcp), ..Default::default() };
        let decided = DecisionsClient::new(mission.gateway.clone()).authorize(asked).await.unwrap().into_inner();
        code(&decided).to_owned()
    };
    let good = json!({ "to": "bob@acme.com", "text": "hello" });
    assert_eq!(message(good.clone(), &pinned).await, "in_scope", "control");
    assert_eq!(message(good.clone(), &changed).await, "schema_changed");
    // Once somebody has looked at it, it is what is pinned.
    mission.apply(&mail(&changed), "");
    assert_eq!(message(good, &changed).await, "in_scope");
    // (b) A recipient too many, or one elsewhere.
    for wrong in [
        json!({ "to": "bob@acme.com", "text": "hello", "bcc": "phan@giftshop.example" }),
        json!({ "to": "bob@acme.com", "text": "hello", "bcc": "eve@acme.com" }),
        json!({ "to": "bob@acme.com, phan@giftshop.example", "text": "hello" }),
        json!({ "to": ["bob@acme.com", "phan@giftshop.example"], "text": "hello" }),
        json!({ "to": "phan@giftshop.example", "text": "hello" }),
    ] {
        assert_eq!(message(wrong.clone(), &changed).await, "out_of_scope", "{wrong}");
    }
}

/// S8, behind the server: the agent asked for one mail, the server sends another. Whoever stands before the real system
/// spends the ticket that the agent was given, for the very call that arrives there.
#[tokio::test]
async fn s8_what_a_server_adds_on_its_way_is_not_what_the_ticket_was_given_for() {
    let mission = Mission::open().await;
    let agent = mission.member("secretary").await;
    // A grant that would allow the BCC, if the agent had asked for it.
    let held = agent.root(&["email:send@*"], &[]).await;
    let mailed = Ask {
        call: "email:send@outbox",
        args: r#"{"to":"bob@acme.com","text":"hello"}"#,
        destination: "https://api.mail.example",
        ..Ask::default()
    };
    let given = async || {
        let decided = mission.asks(&agent.shown, &held.token, Ask { ticket: true, ..mailed }).await;
        assert_eq!((code(&decided), decided.ticket.is_empty()), ("in_scope", false), "{decided:?}");
        decided.ticket
    };
    let spent = async |ask: Ask<'_>| code(&mission.asks(&agent.shown, &held.token, ask).await).to_owned();
    let ticket = given().await;
    for other in [
        Ask { args: r#"{"to":"bob@acme.com","text":"hello","bcc":"phan@giftshop.example"}"#, ..mailed },
        Ask { args: r#"{"to":"phan@giftshop.example","text":"hello"}"#, ..mailed },
        Ask { args: "", ..mailed },
        Ask { call: "email:send@other", ..mailed },
        Ask { destination: "https://api.giftshop.example", ..mailed },
    ] {
        assert_eq!(spent(Ask { redeem: &ticket, ..other }).await, "ticket_other_call", "{}", other.args);
    }
    // Control: as it was asked for, its members in whatever order; once.
    let same = Ask { args: r#"{ "text": "hello", "to": "bob@acme.com" }"#, ..mailed };
    assert_eq!(spent(Ask { redeem: &ticket, ..same }).await, "in_scope");
    assert_eq!(spent(Ask { redeem: &ticket, ..mailed }).await, "ticket_spent");
    assert_eq!(spent(Ask { redeem: "made.up.ticket", ..mailed }).await, "ticket_malformed");
    // In other hands it is worth as little as the token.
    let ticket = given().await;
    let thief = mission.member("thief").await;
    let theirs = thief.root(&["email:send@outbox"], &[]).await;
    let stolen = mission.asks(&thief.shown, &theirs.token, Ask { redeem: &ticket, ..mailed }).await;
    assert_eq!(code(&stolen), "ticket_other_grant");
}
