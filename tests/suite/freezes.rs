//! Freezes: what matches is void at once, for as long as it lasts, whoever holds it and whenever it was granted.

use belay::domain::agent::Role;
use belay::domain::catalog::Sensitivity;
use belay::domain::decide::{
    Approve, Attempt, Caller, Delegate, IssueToken, RenewGrant, RequestGrant, SetFreeze, SetTaskStatus, Thaw,
    TokenAnswer, judge,
};
use belay::domain::error::{Code, Error};
use belay::domain::freeze::{Freeze, MAX_FREEZES};
use belay::domain::grant::{Credential, Grant};
use belay::domain::id::{TaskId, TokenId};
use belay::domain::scope::{Call, Scopes};
use belay::domain::time::Span;

use crate::support::process::Broker;
use crate::support::world::{Hands, World};

const CATALOG: &str = r#"
[[tool]]
name = "db"
owner = "data"
[[tool.action]]
name = "select"
risk = "read"
[[tool.action]]
name = "write.*"
risk = "write"
[[tool.action]]
name = "drop"
risk = "destructive"
[[resource]]
path = "db:prod/**"
sensitivity = "confidential"
[[resource]]
path = "db:dev/**"
sensitivity = "internal"
"#;

/// A planner with a grant, a coder below it, and a responder.
struct Shop {
    world: World,
    planner: Caller,
    ops: Caller,
    task: TaskId,
    root: Grant,
    _directory: tempfile::TempDir,
}

impl Shop {
    async fn open(scopes: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let world = World::open(directory.path(), Hands::new()).await;
        let planner = world.agent("planner").await;
        world.agent("coder").await;
        let ops = world.operator("ops", &[Role::Responder]).await;
        world.apply_catalog(CATALOG).await;
        let task = world.task(&planner).await.id;
        let root = world.grant(&planner, task, scopes).await.unwrap();
        Self { world, planner, ops, task, root, _directory: directory }
    }

    async fn freeze(&self, scope: &str, sensitivity: Option<Sensitivity>) -> Freeze {
        let command = SetFreeze { scope: scope.parse().unwrap(), sensitivity, reason: "code freeze".parse().unwrap() };
        self.world.submit(&self.ops, command).await.unwrap()
    }

    async fn thaw(&self, freeze: &Freeze) {
        let command = Thaw { id: freeze.id, reason: "over".parse().unwrap() };
        assert!(self.world.submit(&self.ops, command).await.unwrap().thawed.is_some());
    }

    async fn token(&self) -> Result<TokenId, Error> {
        match self.world.submit(&self.planner, IssueToken { grant: self.root.id, audience: None }).await? {
            TokenAnswer::New(token) => Ok(token.get().id),
            TokenAnswer::Again(..) => panic!("it is new"),
        }
    }

    /// What a call with this token is answered: the word, and the line.
    fn said(&self, token: TokenId, action: &str, resource: &str) -> (&'static str, String) {
        let call = Call::parse("db", action, resource).unwrap();
        let now = self.world.ledger.now();
        let attempt = Attempt::of(&call, true);
        let verdict = self.world.ledger.view(|view| judge(&view, now, Credential::Token(token), Some(attempt)));
        let reason = verdict.reasons.into_iter().next().unwrap();
        assert_eq!(verdict.allowed, reason.code == "in_scope");
        (reason.code, reason.message)
    }

    async fn request(&self, scopes: &[&str]) -> Result<Grant, Error> {
        self.world.grant(&self.planner, self.task, scopes).await
    }
}

/// S5 (Replit and SaaStr, July 2025): a freeze of production was ignored by the agent that had its access already.
#[tokio::test]
async fn a_freeze_voids_what_was_issued_before_it_and_leaves_reads_alone() {
    let shop = Shop::open(&["db:select@**", "db:write.*@**"]).await;
    let token = shop.token().await.unwrap();
    assert_eq!(shop.said(token, "write.row", "prod/orders").0, "in_scope");

    let freeze = shop.freeze("db:write.*@prod/**", None).await;
    // The token that is out already, at once; and it is told which freeze it was.
    let (code, message) = shop.said(token, "write.row", "prod/orders");
    assert_eq!(code, "frozen");
    assert!(message.contains(&freeze.id.to_string()) && message.contains("code freeze"), "{message}");
    assert_eq!(shop.said(token, "select", "prod/orders").0, "in_scope", "reads go on");
    assert_eq!(shop.said(token, "write.row", "dev/orders").0, "in_scope", "elsewhere writes go on");
    // A new one under the same grant is worth no more.
    let another = shop.token().await.unwrap();
    assert_eq!(shop.said(another, "write.row", "prod/orders").0, "frozen");
    // Nor is anything new, of its own or handed on.
    let refused = shop.request(&["db:select@**", "db:write.row@prod/orders"]).await.unwrap_err();
    assert_eq!((refused.code, refused.reason, refused.field), (Code::Denied, "frozen", Some("scope")));
    assert!(refused.message.contains(&freeze.id.to_string()), "{refused}");
    let refused = shop.world.delegate(&shop.planner, shop.root.id, "coder", &["db:write.row@prod/**"]).await;
    assert_eq!(refused.unwrap_err().reason, "frozen");
    shop.request(&["db:select@prod/**"]).await.unwrap();
    shop.world.delegate(&shop.planner, shop.root.id, "coder", &["db:write.row@dev/**"]).await.unwrap();

    shop.thaw(&freeze).await;
    assert_eq!(shop.said(token, "write.row", "prod/orders").0, "in_scope", "what is not over may be used again");
    shop.request(&["db:write.row@prod/orders"]).await.unwrap();
}

#[tokio::test]
async fn what_is_frozen_whole_is_not_issued_renewed_or_handed_on() {
    let shop = Shop::open(&["db:write.*@prod/**"]).await;
    let freeze = shop.freeze("db:*@prod/**", None).await;
    assert_eq!(shop.token().await.unwrap_err().reason, "frozen");
    let renew = || RenewGrant { id: shop.root.id, ttl: Span::minutes(20) };
    assert_eq!(shop.world.submit(&shop.planner, renew()).await.unwrap_err().reason, "frozen");
    let wish = RequestGrant {
        task: shop.task,
        scopes: Scopes::parse(&["db:write.row@prod/a"]).unwrap(),
        audience: None,
        ttl: Span::minutes(5),
        token: true,
        limits: Default::default(),
        narrow: false,
    };
    assert_eq!(shop.world.submit(&shop.planner, wish).await.unwrap_err().reason, "frozen");
    assert_eq!(shop.world.state(shop.root.id), Some("active"), "it is void, and not over");
    shop.thaw(&freeze).await;
    shop.token().await.unwrap();
    shop.world.submit(&shop.planner, renew()).await.unwrap();
}

#[tokio::test]
async fn a_freeze_by_sensitivity_takes_the_unknown_for_the_most_sensitive() {
    let shop = Shop::open(&["db:select@**"]).await;
    let token = shop.token().await.unwrap();
    let freeze = shop.freeze("db:*@**", Some(Sensitivity::Confidential)).await;
    assert_eq!(shop.said(token, "select", "prod/orders").0, "frozen");
    assert_eq!(shop.said(token, "select", "dev/orders").0, "in_scope");
    assert_eq!(shop.said(token, "select", "nowhere/orders").0, "frozen");
    shop.request(&["db:select@dev/**"]).await.unwrap();
    for scope in ["db:select@prod/a", "db:select@nowhere/**", "db:select@**"] {
        assert_eq!(shop.request(&[scope]).await.unwrap_err().reason, "frozen", "{scope}");
    }
    shop.thaw(&freeze).await;
    assert_eq!(shop.said(token, "select", "nowhere/orders").0, "in_scope");
}

#[tokio::test]
async fn what_waits_for_approval_waits_on_while_it_is_frozen() {
    let shop = Shop::open(&["db:select@**"]).await;
    let ana = shop.world.operator("ana", &[Role::Approver]).await;
    let command = Delegate {
        parent: shop.root.id,
        to: "coder".parse().unwrap(),
        scopes: Scopes::parse(&["db:drop@prod/a"]).unwrap(),
        audience: None,
        ttl: Span::minutes(5),
        own: true,
        limits: Default::default(),
        narrow: false,
    };
    let granted = shop.world.submit(&shop.planner, command).await.unwrap();
    let approval = granted.approval.unwrap();
    let approve = || Approve {
        id: approval.id,
        digest: approval.digest,
        reason: "testing".parse().unwrap(),
        scopes: None,
        ttl: None,
    };
    let freeze = shop.freeze("db:drop@**", None).await;
    let refused = shop.world.submit(&ana, approve()).await.unwrap_err();
    assert_eq!((refused.code, refused.reason), (Code::Conflict, "frozen"));
    assert_eq!(shop.world.state(granted.grant.id), Some("pending"));
    shop.thaw(&freeze).await;
    shop.world.submit(&ana, approve()).await.unwrap();
    assert_eq!(shop.world.state(granted.grant.id), Some("active"));
}

#[tokio::test]
async fn a_freeze_outlives_a_restart_and_needs_a_responder() {
    let directory = tempfile::tempdir().unwrap();
    let (hands, freeze, token);
    {
        hands = Hands::new();
        let world = World::open(directory.path(), hands.clone()).await;
        let (planner, ops) = (world.agent("planner").await, world.operator("ops", &[Role::Responder]).await);
        let auditor = world.operator("audit", &[Role::Auditor]).await;
        let task = world.task(&planner).await;
        let root = world.grant(&planner, task.id, &["db:*@**"]).await.unwrap();
        let answer = world.submit(&planner, IssueToken { grant: root.id, audience: None }).await.unwrap();
        let TokenAnswer::New(new) = answer else { panic!("it is new") };
        token = new.get().id;
        let set = || SetFreeze { scope: "db:*@a".parse().unwrap(), sensitivity: None, reason: "x".parse().unwrap() };
        for caller in [&planner, &auditor] {
            assert_eq!(world.submit(caller, set()).await.unwrap_err().code, Code::Denied);
        }
        freeze = world.submit(&ops, set()).await.unwrap().id;
        let thaw = || Thaw { id: freeze, reason: "x".parse().unwrap() };
        assert_eq!(world.submit(&auditor, thaw()).await.unwrap_err().code, Code::Denied);
        for _ in 1..MAX_FREEZES {
            world.submit(&ops, set()).await.unwrap();
        }
        assert_eq!(world.submit(&ops, set()).await.unwrap_err().reason, "too_many_freezes");
    }
    let world = World::open(directory.path(), hands).await;
    let call = Call::parse("db", "read", "a").unwrap();
    let now = world.ledger.now();
    let attempt = Attempt::of(&call, true);
    let verdict = world.ledger.view(|view| judge(&view, now, Credential::Token(token), Some(attempt)));
    assert_eq!(verdict.reasons[0].code, "frozen");
}

#[tokio::test]
async fn a_suspended_task_halts_all_under_it_until_it_is_resumed() {
    let shop = Shop::open(&["db:select@**"]).await;
    let token = shop.token().await.unwrap();
    let child = shop.world.delegate(&shop.planner, shop.root.id, "coder", &["db:select@dev/**"]).await.unwrap();
    let set = |suspended| SetTaskStatus { id: shop.task, suspended, reason: "looking into it".parse().unwrap() };
    assert_eq!(shop.world.submit(&shop.planner, set(true)).await.unwrap_err().code, Code::Denied);
    for _ in 0..2 {
        assert!(shop.world.submit(&shop.ops, set(true)).await.unwrap().suspended);
    }
    assert_eq!(shop.said(token, "select", "dev/a").0, "task_suspended");
    assert_eq!(shop.world.state(child.id), Some("suspended"));
    assert_eq!(shop.request(&["db:select@dev/a"]).await.unwrap_err().reason, "task_suspended");
    assert_eq!(shop.token().await.unwrap_err().reason, "task_suspended");
    let other = shop.world.task(&shop.planner).await;
    shop.world.grant(&shop.planner, other.id, &["db:select@dev/a"]).await.unwrap();

    assert!(!shop.world.submit(&shop.ops, set(false)).await.unwrap().suspended);
    assert_eq!(shop.said(token, "select", "dev/a").0, "in_scope");
    shop.request(&["db:select@dev/a"]).await.unwrap();
    shop.world.hands.turn(Span::hours(2));
    assert_eq!(shop.world.submit(&shop.ops, set(true)).await.unwrap_err().reason, "task_ended");
}

#[test]
fn the_command_line_freezes_lists_and_thaws() {
    let broker = Broker::start();
    let planner = broker.agent("planner");
    let task = broker.run_as(&planner, &["task", "start", "work"]).ok();
    let task = task["task"]["id"].as_str().unwrap().to_owned();
    let request = ["grant", "request", "--task", &task, "--scope", "db:write@prod/a"];
    let frozen = broker
        .run(&["freeze", "--scope", "db:*@prod/**", "--where", "sensitivity >= confidential", "--reason", "x"])
        .ok();
    let id = frozen["freeze"]["id"].as_str().unwrap().to_owned();
    assert_eq!(frozen["freeze"]["sensitivity"], "confidential");
    assert_eq!(broker.run_as(&planner, &request).err(3)["detail"]["field"], "scope");
    assert_eq!(broker.run(&["freeze", "list"]).ok()["freezes"][0]["id"], id.as_str());
    assert!(broker.run(&["thaw", &id]).ok()["freeze"]["thawed_at"].is_string());
    assert_eq!(broker.run(&["freeze", "list"]).ok()["freezes"].as_array().map(Vec::len), Some(0));
    broker.run_as(&planner, &request).ok();
    let state = |verb: &str| broker.run(&["task", verb, &task, "--reason", "x"]).ok()["task"]["state"].clone();
    assert_eq!([state("suspend"), state("resume")], ["suspended", "active"]);
    for wrong in [
        &["freeze", "--scope", "db:*@**"][..],
        &["freeze", "--reason", "x"],
        &["freeze", "--scope", "db:*@**", "--reason", "x", "--where", "size>3"],
    ] {
        broker.run(wrong).err(2);
    }
}
