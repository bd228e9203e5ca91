//! Incidents that happened, lived through again on the real binary: each with a control run, of the same shape and without
//! the wrong, that has to pass. `docs/ENFORCEMENT.md` says what stopped each, and where that ends.

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

/// Three sub-agents of one lead, each with its part of the lead's grant.
async fn lead_and_three(mission: &Mission, limits: &[&str]) -> (Member, Held, Vec<(Member, Held)>) {
    let lead = mission.member("lead").await;
    let root = lead.root(&["bank:pay@**"], limits).await;
    let mut subs = Vec::new();
    for name in ["sub-1", "sub-2", "sub-3"] {
        let sub = mission.member(name).await;
        let held = lead.hands_on(&root, &sub, &["bank:pay@**"]).await;
        subs.push((sub, held));
    }
    (lead, root, subs)
}

/// All pay so much at once, each under a key of its own.
async fn together(mission: &Mission, subs: &[(Member, Held)], args: &str) -> Vec<v1::AuthorizeResponse> {
    let keys: Vec<String> = (1..=subs.len()).map(|at| format!("payment-{at}")).collect();
    let pays = subs.iter().zip(&keys).map(|((sub, held), key)| {
        mission.asks(&sub.shown, &held.token, Ask { call: "bank:pay@a", args, key, ..Ask::default() })
    });
    futures_util::future::join_all(pays).await
}

fn allowed(decided: &[v1::AuthorizeResponse]) -> Vec<usize> {
    (0..decided.len()).filter(|at| decided[*at].decision == "allow").collect()
}

/// S17: one payment that is too large is made of three that are not, by three sub-agents at once.
#[tokio::test]
async fn s17_slices_of_three_agents_at_once_are_summed_up_on_the_grant_above_them() {
    let mission = Mission::open().await;
    let (lead, root, subs) = lead_and_three(&mission, &["max_sum(amount)=10000"]).await;
    let nine = r#"{"amount":9000}"#;
    let decided = together(&mission, &subs, nine).await;
    let passed = allowed(&decided);
    assert_eq!(passed.len(), 1, "{decided:?}");
    let others: Vec<usize> = (0..3).filter(|at| *at != passed[0]).collect();
    assert!(others.iter().all(|at| code(&decided[*at]) == "limit_reached"), "{decided:?}");
    // It is in flight, and counts; what was denied cost nothing: there is room for exactly another thousand.
    let pay = async |at: usize, amount: &str, key: &str| {
        let (sub, held) = &subs[at];
        let args = format!(r#"{{"amount":{amount}}}"#);
        let ask = Ask { call: "bank:pay@a", args: &args, key, ..Ask::default() };
        mission.asks(&sub.shown, &held.token, ask).await
    };
    assert_eq!(code(&pay(others[0], "1000.01", "").await), "limit_reached");
    assert_eq!(code(&pay(others[0], "1000", "").await), "in_scope");
    // A retry is the payment that it was, and leaves room for nothing.
    let key = format!("payment-{}", passed[0] + 1);
    assert_eq!(pay(passed[0], "9000", &key).await.id, decided[passed[0]].id);
    for at in 0..3 {
        assert_eq!(code(&pay(at, "0.01", "").await), "limit_reached");
    }
    assert_eq!(mission.said(&lead, &root, "bank:pay@a", r#"{"amount":0.01}"#).await, "limit_reached");

    // That it was never made is believed of the enforcement point, once, and of nobody who gains by it.
    let payment = &decided[passed[0]].id;
    let own = report(&subs[passed[0]].0.acting.0, payment, "not_executed", "").await;
    refused("the agent's own word", own, Code::PermissionDenied, "peps_only", 3);
    assert_eq!(code(&pay(others[1], "9000", "").await), "limit_reached");
    assert!(mission.report(payment, "not_executed", "the bank was closed").await.unwrap().into_inner().refunded);
    let second = pay(others[1], "9000", "").await;
    assert_eq!(code(&second), "in_scope");
    assert!(!mission.report(&second.id, "done", "").await.unwrap().into_inner().refunded);
    assert_eq!(code(&pay(others[0], "0.01", "").await), "limit_reached");
}

/// S17, control: the same three with sums that are within the limit together.
#[tokio::test]
async fn s17_control_three_payments_within_the_limit_pass_at_once() {
    let mission = Mission::open().await;
    let (_, _, subs) = lead_and_three(&mission, &["max_sum(amount)=10000"]).await;
    let decided = together(&mission, &subs, r#"{"amount":3000}"#).await;
    assert_eq!(allowed(&decided), [0, 1, 2], "{decided:?}");
}

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

const SALES: &str = r#"
[[tool]]
name = "salesforce"
owner = "sales"
destinations = ["https://acme.my.salesforce.example"]
[[tool.action]]
name = "query"
risk = "read"
[[tool.action]]
name = "jobs.delete"
risk = "destructive"
[[resource]]
path = "salesforce:**"
sensitivity = "confidential"
"#;

/// S2 (Salesloft Drift, August 2025): tokens of an integration were stolen, and with them all objects were counted, then
/// taken away in bulk, and the jobs deleted.
#[tokio::test]
async fn s2_a_stolen_token_is_worth_nothing_and_its_holder_takes_no_more_than_was_meant() {
    let mission = Mission::over(SALES, "").await;
    let (drift, worker, thief) =
        (mission.member("drift").await, mission.member("worker").await, mission.member("thief").await);
    let scope = r#"salesforce:query@objects/*{"args":{"rows":{"min":1,"max":200}},"closed":true}"#;
    let limits = ["max_sum(rows)=500", "max_distinct_resources=1"];
    let held = drift.root(&[scope], &limits).await;
    let child = drift.hands_on(&held, &worker, &[scope]).await;
    let destination = "https://acme.my.salesforce.example";
    let ask = |call: &'static str, args: &'static str| Ask { call, args, destination, ..Ask::default() };
    let said = async |member: &Member, held: &Held, ask: Ask<'_>| {
        code(&mission.asks(&member.shown, &held.token, ask).await).to_owned()
    };
    // Control: what it is for.
    let case = ask("salesforce:query@objects/Case", r#"{"rows":200}"#);
    let first = mission.asks(&drift.shown, &held.token, case).await;
    assert_eq!(code(&first), "in_scope");
    mission.report(&first.id, "done", "200 rows").await.unwrap();
    assert_eq!(said(&worker, &child, case).await, "in_scope");

    // (a) The token from elsewhere: with the certificate of somebody else, with none, and to the broker itself.
    for shown in [thief.shown.as_slice(), &[]] {
        let stolen = mission.asks(shown, &held.token, case).await;
        assert_eq!((stolen.decision.as_str(), code(&stolen)), ("deny", "possession"), "{stolen:?}");
    }
    let asked = DecisionsClient::new(thief.acting.0.clone()).authorize(request(&[], &held.token, case)).await;
    assert_eq!(asked.unwrap().into_inner().decision, "deny");
    // (b) The other objects, then more of the one, by either: the budget is that of all of them.
    for call in ["Account", "Contact", "User", "Opportunity"].map(|object| format!("salesforce:query@objects/{object}"))
    {
        let count = Ask { call: &call, args: r#"{"rows":1}"#, destination, ..Ask::default() };
        assert_eq!(said(&drift, &held, count).await, "limit_reached", "{call}");
    }
    let bulk = ask("salesforce:query@objects/Case", r#"{"rows":50000}"#);
    assert_eq!(said(&drift, &held, bulk).await, "out_of_scope");
    assert_eq!(said(&drift, &held, ask("salesforce:query@objects/Case", "{}")).await, "out_of_scope");
    assert_eq!(
        said(&drift, &held, Ask { destination: "https://files.evil.example", ..case }).await,
        "destination_denied"
    );
    assert_eq!(said(&worker, &child, case).await, "limit_reached");
    assert_eq!(said(&worker, &child, ask("salesforce:query@objects/Case", r#"{"rows":100}"#)).await, "in_scope");
    assert_eq!(said(&drift, &held, ask("salesforce:query@objects/Case", r#"{"rows":1}"#)).await, "limit_reached");
    // (c) Nothing is wiped away.
    assert_eq!(said(&drift, &held, ask("salesforce:jobs.delete@jobs/1", "")).await, "out_of_scope");

    // The audit has what was tried and what became of what was allowed.
    mission.audited("invoked", |event| {
        event["summary"] == "deny salesforce:jobs.delete@jobs/1: out_of_scope" && event["agent"] == "drift"
    });
    let outcome = mission.audited("invocation_reported", |event| event["grant"] == held.grant.as_str());
    assert!(outcome["summary"].as_str().unwrap().contains(&first.id), "{outcome}");
    // Nobody is cut because a token turned up elsewhere: whoever reads of it does that.
    let stolen = mission
        .audited("invoked", |event| event["summary"].as_str().is_some_and(|summary| summary.ends_with(": possession")));
    assert!(stolen["actor"].as_str().unwrap().contains("gateway"), "{stolen}");
    let since = Instant::now();
    let cut = mission.broker.run(&["revoke", &held.task, "--reason", "a token turned up elsewhere"]).ok();
    let took = since.elapsed();
    assert_eq!(cut["final"], true, "{cut}");
    assert_eq!(said(&drift, &held, case).await, "task_revoked");
    assert_eq!(said(&worker, &child, case).await, "task_revoked");
    let again = drift.acting.issue(&held.grant).await;
    refused("a token below the cut", again, Code::PermissionDenied, "task_revoked", 3);
    println!("revoked in {} ms, by a command line that had to start", took.as_millis());
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

/// Six sub-agents, each with a subnet of its own, and the lead above them.
async fn scanners(mission: &Mission, limit: &str) -> (Member, Held, Vec<(Member, Held)>) {
    let lead = mission.member("lead").await;
    let root = lead.root(&["scan:host@**", "creds:test@**"], &[limit]).await;
    let mut subs = Vec::new();
    for (at, name) in ["sub-0", "sub-1", "sub-2", "sub-3", "sub-4", "sub-5"].into_iter().enumerate() {
        let sub = mission.member(name).await;
        let subnet = format!("scan:host@net-{at}/*");
        let held = lead.hands_on(&root, &sub, &[&subnet, "creds:test@**"]).await;
        subs.push((sub, held));
    }
    (lead, root, subs)
}

/// Each of the six scans seven hosts of its own, all at once: what was decided, by agent and host.
async fn scan(mission: &Mission, subs: &[(Member, Held)]) -> Vec<(usize, String, String)> {
    let calls = subs.iter().enumerate().flat_map(|(at, (sub, held))| {
        (0..7).map(move |host| async move {
            let call = format!("scan:host@net-{at}/h{host}");
            let said = mission.said(sub, held, &call, "").await;
            (at, call, said)
        })
    });
    futures_util::future::join_all(calls).await
}

/// S1 (GTG-1002, November 2025): an espionage campaign was cut into pieces, each of which looked innocent.
#[tokio::test]
async fn s1_six_agents_together_reach_no_more_than_their_mission_may() {
    let mission = Mission::open().await;
    let (lead, root, subs) = scanners(&mission, "max_distinct_resources=20").await;
    let scanned = scan(&mission, &subs).await;
    let (passed, stopped): (Vec<_>, Vec<_>) = scanned.iter().partition(|(_, _, said)| said == "in_scope");
    assert_eq!((passed.len(), stopped.len()), (20, 22), "{scanned:?}");
    assert!(stopped.iter().all(|(_, _, said)| said == "limit_reached"), "{scanned:?}");
    // What was reached goes on to be reachable; nothing new does, for any of them, by another tool neither.
    let (at, call, _) = passed[0];
    assert_eq!(mission.said(&subs[*at].0, &subs[*at].1, call, "").await, "in_scope");
    for (at, (sub, held)) in subs.iter().enumerate() {
        assert_eq!(mission.said(sub, held, &format!("creds:test@system-{at}"), "").await, "limit_reached");
    }
    // Nor by handing on once more.
    let deeper = subs[0].0.hands_on(&subs[0].1, &subs[1].0, &["creds:test@**"]).await;
    assert_eq!(mission.said(&subs[1].0, &deeper, "creds:test@system-9", "").await, "limit_reached");

    // Whoever watches sees one mission, and who of it.
    mission.audited("invoked", |event| event["summary"] == "deny creds:test@system-9: limit_reached");
    let denied: Vec<Value> =
        mission.audit("invoked").into_iter().filter(|event| event["tree"] == root.grant.as_str()).collect();
    for (sub, _) in &subs {
        assert!(denied.iter().any(|event| event["agent"] == sub.name), "{}: {denied:?}", sub.name);
    }
    // The responder halts it: nobody of the six goes on, and only a human takes it up again.
    let reason = ["--reason", "too many hosts"];
    mission.broker.run(&[&["task", "suspend", &root.task][..], &reason].concat()).ok();
    for (sub, held) in &subs {
        assert_eq!(mission.said(sub, held, call, "").await, "task_suspended", "{}", sub.name);
    }
    mission.broker.run_as(&lead.identity, &["task", "resume", &root.task]).err(3);
    mission.broker.run(&["task", "resume", &root.task]).ok();
    assert_eq!(mission.said(&subs[*at].0, &subs[*at].1, call, "").await, "in_scope");
    // Or ends it: with one command, for all of them, and for what they would have asked for next.
    let since = Instant::now();
    mission.broker.run(&[&["revoke", &root.task][..], &reason].concat()).ok();
    let took = since.elapsed();
    for (sub, held) in &subs {
        assert_eq!(mission.said(sub, held, call, "").await, "task_revoked", "{}", sub.name);
        sub.acting.issue(&held.grant).await.unwrap_err();
    }
    let request = ["grant", "request", "--task", &root.task, "--scope", "scan:host@net-9/*"];
    let next = mission.broker.run_as(&lead.identity, &request);
    assert!([3, 5].contains(&next.code), "{next:?}");
    println!("a mission of six was revoked in {} ms, by a command line that had to start", took.as_millis());
}

/// S1, control: the same load of an inventory whose owner said how much it is.
#[tokio::test]
async fn s1_control_a_declared_inventory_scans_all_its_hosts() {
    let mission = Mission::open().await;
    let (_, _, subs) = scanners(&mission, "max_distinct_resources=42").await;
    let scanned = scan(&mission, &subs).await;
    assert!(scanned.iter().all(|(_, _, said)| said == "in_scope"), "{scanned:?}");
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
