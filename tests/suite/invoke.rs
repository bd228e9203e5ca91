//! What a call is held to beside its tool, action and resource: its arguments, where it goes, and the policies.

use belay::broker::Authorized;
use belay::cedar::Set;
use belay::domain::agent::Role;
use belay::domain::decide::{Approve, Attempt, Caller, RequestGrant, judge_call};
use belay::domain::event::Body;
use belay::domain::grant::Grant;
use belay::domain::scope::{Args, Call, Scopes};
use belay::domain::time::Span;
use belay::store::Sqlite;
use belay::wire::v1;
use belay::wire::v1::decisions_client::DecisionsClient;
use tonic::Code;

use crate::support::calls::{Acting, refused};
use crate::support::office::{Office, asked, at_once};
use crate::support::process::Broker;

const BANK: &str = r#"
[[tool]]
name = "bank"
owner = "team-finance"
destinations = ["https://bank.example/api"]
[[tool.action]]
name = "pay"
risk = "write"
[[tool.action]]
name = "close"
risk = "destructive"
[[resource]]
path = "bank:account/*"
sensitivity = "internal"
"#;

const OPERATORS: &str = include_str!("../../deploy/policies/operators.cedar");
const THERE: &str = "https://bank.example/api/v1";

/// An agent with a grant and a token for everything of the bank, from before there was a catalog.
struct Teller {
    office: Office,
    ana: Caller,
    grant: Grant,
    token: String,
    _directory: tempfile::TempDir,
}

impl Teller {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let office = Office::open(Box::new(Sqlite::open(directory.path()).unwrap()), directory.path()).await;
        let ana = office.world.agent("ana").await;
        let task = office.world.task(&ana).await;
        let grant = office.world.grant(&ana, task.id, &["bank:*@account/**"]).await.unwrap();
        let token = office.token(&ana, grant.id).await;
        office.world.apply_catalog(BANK).await;
        Self { office, ana, grant, token, _directory: directory }
    }

    /// Puts these policies for agents in force.
    async fn policies(&self, agents: &str) {
        let files = [("agents.cedar", agents), ("operators.cedar", OPERATORS)];
        let files: Vec<_> = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        self.office.world.apply_policies(Set::load(&files).unwrap()).await;
    }

    fn asks(&self, caller: &Caller, call: Call) -> Authorized {
        at_once(self.office.broker.authorize(&asked(caller), &self.token, call)).unwrap()
    }

    /// The decision and the code of a call with these arguments.
    fn says(&self, action: &str, args: &str) -> (&'static str, &'static str) {
        let verdict = self.asks(&self.ana, call(action, args)).verdict;
        (verdict.decision(), verdict.reasons[0].code)
    }
}

fn call(action: &str, args: &str) -> Call {
    let call = Call::parse("bank", action, "account/1").unwrap().with_args(Args::parse(args).unwrap());
    call.with_destination(THERE).unwrap()
}

#[tokio::test]
async fn arguments_that_are_none_are_refused_before_a_call_is_decided() {
    let broker = Broker::start();
    let ana = Acting::with(&broker, &broker.enroll_agent("ana").await).await;
    let operator = broker.channel().await;
    let (_, _, token) = ana.granted().await;
    let good = v1::AuthorizeRequest {
        token,
        tool: "db".into(),
        action: "read".into(),
        resource: "orders".into(),
        ..Default::default()
    };
    let size = broker.log_size(&operator).await;
    let mut decisions = DecisionsClient::new(ana.0.clone());
    let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(16), "]".repeat(16));
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(65 * 1024));
    for args in [
        " ", "[]", "null", "1", "\"a\"", "{", "{}{}", "{\"a\":1,}", "{a:1}", r#"{"a":1,"a":1}"#,
        r#"{"a":{"b":1,"b":2}}"#, r#"{"a":NaN}"#, r#"{"a":Infinity}"#, r#"{"a":1e999}"#, r#"{"a":01}"#,
        r#"{"a":"\ud800"}"#, &deep, &long,
    ] {
        let request = v1::AuthorizeRequest { args: args.to_owned(), ..good.clone() };
        let what = format!("{args:.60}");
        let refusal = refused(&what, decisions.authorize(request).await, Code::InvalidArgument, "malformed", 2);
        assert_eq!(refusal.field.as_deref(), Some("args"), "{what}");
    }
    for destination in ["a b", "\u{430}.example", "a\n", &"x".repeat(513)] {
        let request = v1::AuthorizeRequest { destination: destination.to_owned(), ..good.clone() };
        let refusal = refused(destination, decisions.authorize(request).await, Code::InvalidArgument, "malformed", 2);
        assert_eq!(refusal.field.as_deref(), Some("destination"), "{destination}");
    }
    assert_eq!(broker.log_size(&operator).await, size);
    let with = v1::AuthorizeRequest { args: r#"{"a":[1,{"b":null}]}"#.into(), destination: "db:5432".into(), ..good };
    let decided = decisions.authorize(with).await.unwrap().into_inner();
    assert_eq!(decided.decision, "allow", "{decided:?}");
    let policy = decided.policy.unwrap();
    assert_eq!((policy.version, policy.policies), (1, vec!["dev-agents-request-anything".to_owned()]));
}

#[tokio::test]
async fn a_call_is_held_to_the_arguments_of_its_scope_and_told_what_they_must_be() {
    let teller = Teller::new().await;
    let task = teller.grant.task;
    let scope = r#"bank:pay@account/1{"args":{"amount":{"max":100},"to":{"eq":"DE1"}},"closed":true}"#;
    let grant = teller.office.world.grant(&teller.ana, task, &[scope]).await.unwrap();
    let teller = Teller { token: teller.office.token(&teller.ana, grant.id).await, grant, ..teller };
    assert_eq!(teller.says("pay", r#"{"amount":100,"to":"DE1"}"#), ("allow", "in_scope"));
    for (args, must) in [
        (r#"{"amount":100.01,"to":"DE1"}"#, "`amount` must be at most 100"),
        (r#"{"amount":"1","to":"DE1"}"#, "`amount` must be a number"),
        (r#"{"amount":1,"to":"US2"}"#, "`to` must be \"DE1\""),
        (r#"{"to":"DE1"}"#, "`amount` must be given"),
        (r#"{"amount":1,"to":"DE1","cc":"x"}"#, "`cc` must not be given"),
    ] {
        let verdict = teller.asks(&teller.ana, call("pay", args)).verdict;
        assert_eq!((verdict.decision(), verdict.reasons[0].code), ("deny", "out_of_scope"), "{args}");
        assert_eq!(verdict.reasons[0].message, must);
    }
    teller.office.world.task(&teller.ana).await;
    // The log has a digest of the arguments, and nowhere the arguments.
    let log = teller.office.world.ledger.entries(0, 1000).unwrap();
    let made: Vec<_> = log.iter().filter(|(_, entry, _)| matches!(entry.body, Body::Invoked(_))).collect();
    assert_eq!(made.len(), 6);
    for (_, entry, _) in made {
        let Body::Invoked(invocation) = &entry.body else { panic!() };
        assert!(invocation.args.is_some() && invocation.call.as_ref().unwrap().args.is_empty(), "{invocation:?}");
        assert_eq!(invocation.call.as_ref().unwrap().destination.as_deref(), Some(THERE));
        assert!(!format!("{entry:?}").contains("US2"));
    }
}

#[tokio::test]
async fn a_tool_with_destinations_goes_nowhere_else() {
    let teller = Teller::new().await;
    let to = |destination: Option<&str>| {
        let call = Call::parse("bank", "pay", "account/1").unwrap();
        let call = destination.map_or(call.clone(), |there| call.with_destination(there).unwrap());
        let verdict = teller.asks(&teller.ana, call).verdict;
        (verdict.allowed, verdict.reasons[0].code)
    };
    assert_eq!(to(Some(THERE)), (true, "in_scope"));
    for wrong in [None, Some("https://bank.example.evil.example/api"), Some("https://bank.example/other"), Some("@@")] {
        assert_eq!(to(wrong), (false, "destination_denied"), "{wrong:?}");
    }
}

#[tokio::test]
async fn what_needs_humans_steps_up_and_passes_under_a_grant_that_they_approved() {
    let teller = Teller::new().await;
    let world = &teller.office.world;
    let verdict = teller.asks(&teller.ana, call("close", "{}")).verdict;
    assert_eq!((verdict.decision(), verdict.allowed, verdict.needs), ("step_up", false, 1));
    assert_eq!((verdict.reasons[0].code, verdict.decided.version), ("approval_needed", 1));
    assert!(verdict.reasons[0].message.contains("1 human has to approve `bank:close@account/1`"), "{verdict:?}");
    assert_eq!(teller.says("pay", "{}"), ("allow", "in_scope"));
    // Whoever is not known to hold the credential is told the same.
    let aud = world.operator("aud", &[Role::Auditor]).await;
    let asked = teller.asks(&aud, call("close", "{}"));
    assert_eq!((asked.verdict.decision(), asked.proven), ("step_up", false));

    let bea = world.operator("bea", &[Role::Approver]).await;
    let wish = RequestGrant {
        task: teller.grant.task,
        scopes: Scopes::parse(&["bank:close@account/1"]).unwrap(),
        audience: None,
        ttl: Span::minutes(5),
        limits: Default::default(),
        narrow: false,
        token: false,
    };
    let waiting = world.submit(&teller.ana, wish).await.unwrap();
    let approval = waiting.approval.unwrap();
    let reason = "seen".parse().unwrap();
    let approve = Approve { id: approval.id, digest: approval.digest, reason, scopes: None, ttl: None };
    world.submit(&bea, approve).await.unwrap();
    let token = teller.office.token(&teller.ana, waiting.grant.id).await;
    // What humans had to approve is in the log before anybody hears of it.
    let holder = crate::support::office::asked(&teller.ana);
    let made = teller.office.broker.authorize(&holder, &token, call("close", "{}")).await.unwrap();
    assert_eq!((made.verdict.decision(), made.verdict.reasons[0].code), ("allow", "in_scope"));
    let (_, entry, _) = world.ledger.entries(world.ledger.checkpoint().0 - 1, 1).unwrap().remove(0);
    assert!(matches!(entry.body, Body::Invoked(invoked) if invoked.id == made.id));
}

#[tokio::test]
async fn policies_see_the_call_as_it_is_and_count_from_the_moment_they_are_applied() {
    let teller = Teller::new().await;
    let permit = "@id(\"all\") permit (principal is Agent, action, resource is Tool);";
    let version = |number: u64, verdict: &belay::domain::decide::Verdict| assert_eq!(verdict.decided.version, number);
    for (at, (condition, good, bad)) in [
        (r#"context.numbers.getTag("n").lessThan(decimal("5.0"))"#, r#"{"n":4.99}"#, r#"{"n":5}"#),
        (r#"context.args.hasTag("to") && context.args.getTag("to") == "DE1""#, r#"{"to":"DE1"}"#, "{}"),
        (r#"context.attestation == "mtls" && context.action == "pay""#, "{}", ""),
        (r#"context.destination == "https://bank.example/api/v1""#, "{}", ""),
        (r#"context.radius.internal == 1 && context.unions.agent.internal == 1"#, "{}", ""),
        (r#"context.unions.task.score >= 4 && context.unions.owner.score == 4 && context.depth == 0"#, "{}", ""),
        (r#"context.seconds > 600 && context.purpose == "testing" && !(context has subject)"#, "{}", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let guard = match at {
            0 => r#"context.numbers.hasTag("n") && "#,
            3 => "context has destination && ",
            _ => "",
        };
        let forbid = format!(
            "@id(\"bar\") forbid (principal, action == Action::\"invoke\", resource) unless {{ {guard}{condition} }};"
        );
        teller.policies(&format!("{permit}\n{forbid}")).await;
        let verdict = teller.asks(&teller.ana, call("pay", good)).verdict;
        assert!(verdict.allowed, "{condition}: {verdict:?}");
        assert_eq!(verdict.decided.policies, ["all"]);
        version(at as u64 + 2, &verdict);
        if !bad.is_empty() {
            let verdict = teller.asks(&teller.ana, call("pay", bad)).verdict;
            assert_eq!((verdict.decision(), verdict.reasons[0].code), ("deny", "policy_denied"), "{condition}");
            assert_eq!(verdict.decided.policies, ["bar"]);
            let message = &verdict.reasons[0].message;
            assert!(message.contains("`bar`") && message.contains(&format!("version {}", at + 2)), "{message}");
            assert!(!message.contains("DE1") && !message.contains("5.0"), "never the text: {message}");
        }
    }
    // Without a policy that permits it nothing is.
    teller.policies("@id(\"no\") permit (principal is Agent, action == Action::\"request\", resource is Tool);").await;
    assert_eq!(teller.says("pay", "{}"), ("deny", "policy_denied"));
}

#[tokio::test]
async fn a_policy_that_cannot_be_evaluated_denies_the_call() {
    let teller = Teller::new().await;
    let permit = "@id(\"all\") permit (principal is Agent, action, resource is Tool);";
    let overflow = "@id(\"sum\") forbid (principal, action == Action::\"invoke\", resource) when \
                    { context.seconds * 9223372036854775807 == 1 };";
    teller.policies(&format!("{permit}\n{overflow}")).await;
    let verdict = teller.asks(&teller.ana, call("pay", "{}")).verdict;
    assert_eq!((verdict.decision(), verdict.reasons[0].code), ("deny", "policy_denied"));
    assert!(verdict.reasons[0].message.ends_with("policy `sum` could not be evaluated"), "{verdict:?}");
    let numbers = "@id(\"few\") forbid (principal, action == Action::\"invoke\", resource) when \
                   { context.numbers.hasTag(\"n\") && context.numbers.getTag(\"n\").greaterThan(decimal(\"5.0\")) };";
    teller.policies(&format!("{permit}\n{numbers}")).await;
    assert_eq!(teller.says("pay", r#"{"n":5}"#), ("allow", "in_scope"));
    assert_eq!(teller.says("pay", r#"{"n":1e30}"#), ("deny", "policy_denied"));
}

#[tokio::test]
async fn a_call_is_judged_for_a_grant_as_it_is_for_its_token() {
    let teller = Teller::new().await;
    let now = teller.office.world.ledger.now();
    for (action, args) in [("pay", "{}"), ("close", "{}"), ("open", "{}")] {
        let (call, told) = (call(action, args), teller.says(action, args));
        let dry = teller
            .office
            .world
            .ledger
            .view(|view| judge_call(&view, now, view.grant(teller.grant.id).unwrap(), Attempt::of(&call, true)));
        assert_eq!((dry.decision(), dry.reasons[0].code), told);
    }
}

#[test]
fn the_command_takes_arguments_from_the_line_and_from_a_file() {
    let broker = Broker::start();
    let ana = broker.agent("ana");
    let task = broker.run_as(&ana, &["task", "start", "testing"]).ok()["task"]["id"].as_str().unwrap().to_owned();
    let scope = r#"bank:pay@a{"args":{"amount":{"max":100}}}"#;
    let granted = broker.run_as(&ana, &["grant", "request", "--task", &task, "--scope", scope, "--token"]).ok();
    let token = granted["token"]["token"].as_str().or(granted["token"].as_str()).unwrap().to_owned();
    let (file, token_file) = (broker.home.join("args.json"), broker.home.join("token"));
    std::fs::write(&file, "{\"amount\": 100}\n").unwrap();
    std::fs::write(&token_file, token).unwrap();
    let (file, token) = (format!("@{}", file.display()), format!("@{}", token_file.display()));
    let pay = |args: &[&str]| {
        let call = ["authorize", "--token", &token, "--tool", "bank", "--action", "pay", "--resource", "a"];
        broker.run_as(&ana, &[&call[..], args].concat())
    };
    let allowed = pay(&["--args", &file, "--destination", "bank.example", "--idempotency-key", "k"]).ok();
    assert_eq!((&allowed["decision"], &allowed["policy"]["version"]), (&"allow".into(), &1.into()), "{allowed}");
    let denied = pay(&["--args", "{\"amount\":100.01}"]);
    assert_eq!(denied.code, 3, "{denied:?}");
    assert!(denied.stdout.contains("`amount` must be at most 100"), "{denied:?}");
    for wrong in [&["--args", "{"][..], &["--args", "[]"], &["--args", "@/none"], &["--destination", "a b"]] {
        assert_eq!(pay(wrong).code, 2, "{wrong:?}");
    }
    assert_eq!(pay(&["--args", "-", "--token", "-"]).code, 2);
}
