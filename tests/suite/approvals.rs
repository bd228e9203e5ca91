//! Who may decide what waits for humans, how many of them, and how much of it.

use belay::domain::agent::Role;
use belay::domain::approval::ApprovalState;
use belay::domain::decide::{
    Approve, Caller, IssueToken, RemoveOperator, RequestGrant, StartTask, TokenAnswer, missing,
};
use belay::domain::digest::Digest;
use belay::domain::policy::Mode;
use belay::domain::scope::Scopes;
use belay::domain::time::Span;

use crate::support::panel::{ONE, Panel, TWO, approve, request};

#[tokio::test]
async fn what_needs_a_human_waits_until_one_approves() {
    let directory = tempfile::tempdir().unwrap();
    let panel = Panel::open(directory.path()).await;
    let granted = panel.ask(ONE).await;
    let approval = granted.approval.clone().unwrap();
    assert_eq!((granted.state.as_str(), panel.grant_state(&approval)), ("pending", "pending"));
    // Who asks for humans is named, not who would let it pass with them.
    assert_eq!((approval.needed, approval.decided.policies.as_slice()), (1, &["dangerous-needs-one".to_owned()][..]));
    let issue = IssueToken { grant: granted.grant.id, audience: None };
    assert_eq!(panel.world.submit(&panel.ana, issue).await.unwrap_err().reason, "awaits_approval");
    let delegated = panel.delegate(granted.grant.id, &["db:read@orders/a"], false).await.unwrap_err();
    assert_eq!(delegated.reason, "awaits_approval");

    panel.world.hands.turn(Span::minutes(10));
    let voted = panel.approve(&panel.bea, &approval).await.unwrap();
    assert_eq!((voted.state, voted.missing), (ApprovalState::Approved, 0));
    let now = panel.world.ledger.now();
    let grant = panel.world.ledger.view(|view| view.grant(granted.grant.id).cloned()).unwrap();
    // Its time begins when it is approved.
    assert_eq!(
        (panel.grant_state(&approval), grant.expires_at, grant.approvals),
        ("active", now.plus(Span::minutes(15)), 1)
    );
    panel.world.submit(&panel.ana, IssueToken { grant: granted.grant.id, audience: None }).await.unwrap();
}

#[tokio::test]
async fn the_token_of_what_waited_is_issued_once_per_key() {
    let directory = tempfile::tempdir().unwrap();
    let panel = Panel::open(directory.path()).await;
    let wish = || RequestGrant { token: true, ..request(panel.task.id, ONE) };
    let ask =
        async |panel: &Panel, wish| panel.world.submit_once(&panel.ana, wish, Some(("k", b"body"))).await.unwrap();
    let first = ask(&panel, wish()).await;
    assert!(first.token.is_none() && first.approval.is_some());
    assert_eq!(ask(&panel, wish()).await.grant.id, first.grant.id);
    let (one, two, three) = (wish(), wish(), wish());
    let panel = panel.restarted(directory.path()).await;
    panel.approve(&panel.bea, &first.approval.unwrap()).await.unwrap();
    let Some(TokenAnswer::New(token)) = ask(&panel, one).await.token else { panic!("no token") };
    let id = token.get().id;
    let panel = panel.restarted(directory.path()).await;
    for wish in [two, three] {
        let again = ask(&panel, wish).await;
        assert!(matches!(again.token, Some(TokenAnswer::Again(same, _)) if same == id), "{again:?}");
    }
}

#[tokio::test]
async fn a_key_of_what_waited_lasts_as_long_as_what_became_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let panel = Panel::open(directory.path()).await;
    let wish = || RequestGrant { ttl: Span::hours(5), ..request(panel.task.id, ONE) };
    let ask = async || panel.world.submit_once(&panel.ana, wish(), Some(("k", b"body"))).await.unwrap();
    let first = ask().await;
    panel.approve(&panel.bea, &first.approval.unwrap()).await.unwrap();
    // Longer than the approval is remembered.
    panel.world.hands.turn(Span::hours(4));
    panel.world.agent("eva").await;
    assert_eq!(ask().await.grant.id, first.grant.id);
}

#[tokio::test]
async fn a_quorum_is_of_different_humans() {
    let directory = tempfile::tempdir().unwrap();
    let panel = Panel::open(directory.path()).await;
    let approval = panel.wait(TWO).await;
    assert_eq!(approval.needed, 2);
    let voted = panel.approve(&panel.bea, &approval).await.unwrap();
    assert_eq!((voted.state, voted.missing, panel.grant_state(&approval)), (ApprovalState::Pending, 1, "pending"));
    panel.refuses(&panel.bea, &approval, "already_given").await;
    let panel = panel.restarted(directory.path()).await;
    panel.refuses(&panel.bea, &approval, "already_given").await;
    panel.approve(&panel.carl, &approval).await.unwrap();
    assert_eq!(panel.grant_state(&approval), "active");
    let error = panel.approve(&panel.dan, &approval).await.unwrap_err();
    assert_eq!(error.reason, "approval_decided");
    let known = panel.known(approval.id);
    assert_eq!(known.given.iter().map(|vote| vote.by.as_str()).collect::<Vec<_>>(), ["bea", "carl"]);
}

#[tokio::test]
async fn nobody_decides_its_own_request() {
    let directory = tempfile::tempdir().unwrap();
    let panel = Panel::open(directory.path()).await;
    let approver = [Role::Approver];
    // Operators who bear the names of the agents, and of the human whom the task serves.
    let [ana, bob] = [panel.world.operator("ana", &approver).await, panel.world.operator("bob", &approver).await];
    let approval = panel.wait(ONE).await;
    panel.refuses(&ana, &approval, "own_request").await;
    assert_eq!(panel.deny(&ana, approval.id).await.unwrap_err().reason, "own_request");
    assert!(approval.asked.iter().all(|(name, _)| name.as_str() != "ana"), "{:?}", approval.asked);
    panel.approve(&bob, &approval).await.unwrap();

    // Delegated: neither who hands it on nor who is to hold it, within a parent or of its own.
    let parent = approval.grant.unwrap();
    let held = panel.delegate(parent, &["db:own@secrets/a"], true).await.unwrap().approval.unwrap();
    assert_eq!((held.requester.as_str(), held.holder.as_str(), held.chain.len()), ("ana", "bob", 1));
    for party in [&ana, &bob] {
        panel.refuses(party, &held, "own_request").await;
    }

    for subject in ["bea", "mail:Bea@example.org", "https://login.example/users/bea", "oidc|bea"] {
        let subject = Some(subject.parse().unwrap());
        let start = StartTask { purpose: "testing".parse().unwrap(), subject, ttl: Span::hours(1), envelope: None };
        let task = panel.world.submit(&panel.ana, start).await.unwrap().task;
        let served = panel.world.submit(&panel.ana, request(task.id, ONE)).await.unwrap().approval.unwrap();
        panel.refuses(&panel.bea, &served, "own_request").await;
    }
}

#[tokio::test]
async fn only_an_entitled_human_decides() {
    let directory = tempfile::tempdir().unwrap();
    let panel = Panel::open(directory.path()).await;
    let admin = panel.world.operator("ada", &[Role::Admin]).await;
    let approval = panel.wait(ONE).await;
    panel.refuses(&admin, &approval, "not_entitled").await;
    for who in [&panel.ana, &panel.bob, &Caller::Broker, &Caller::Stranger] {
        panel.refuses(who, &approval, "operators_only").await;
        assert_eq!(panel.deny(who, approval.id).await.unwrap_err().reason, "operators_only");
    }
    remove(&panel, "bea").await;
    panel.refuses(&panel.bea, &approval, "caller_unknown").await;
    // A role that the policies give no right any more.
    let without = ["agents", "approvals", "radius"].map(policy);
    panel.world.apply_policies(set(&without)).await;
    panel.refuses(&panel.carl, &approval, "not_entitled").await;
    panel.world.apply_policies(belay::cedar::Set::production().unwrap()).await;
    panel.approve(&panel.carl, &approval).await.unwrap();
}

#[tokio::test]
async fn the_vote_of_who_is_removed_does_not_count() {
    let directory = tempfile::tempdir().unwrap();
    let panel = Panel::open(directory.path()).await;
    let approval = panel.wait(TWO).await;
    panel.approve(&panel.bea, &approval).await.unwrap();
    remove(&panel, "bea").await;
    let now = panel.world.ledger.now();
    let left = panel.world.ledger.view(|view| missing(&view, view.approval(&approval.id).unwrap(), now));
    assert_eq!(left, 2);
    let voted = panel.approve(&panel.carl, &approval).await.unwrap();
    assert_eq!((voted.missing, panel.grant_state(&approval)), (1, "pending"));
    panel.approve(&panel.dan, &approval).await.unwrap();
    assert_eq!(panel.grant_state(&approval), "active");
}

#[tokio::test]
async fn only_what_was_shown_is_approved() {
    let directory = tempfile::tempdir().unwrap();
    let panel = Panel::open(directory.path()).await;
    let [approval, other] = [panel.wait(ONE).await, panel.wait(ONE).await];
    assert_ne!(approval.digest, other.digest);
    for digest in [other.digest, Digest([0; 32]), Digest::of(approval.digest.0.as_slice())] {
        let wrong = Approve { digest, ..approve(&approval) };
        assert_eq!(panel.world.submit(&panel.bea, wrong).await.unwrap_err().reason, "approval_changed");
    }
    assert_eq!(panel.grant_state(&approval), "pending");
}

#[tokio::test]
async fn the_latest_end_and_what_it_hangs_on_are_shown_and_hold() {
    let directory = tempfile::tempdir().unwrap();
    let panel = Panel::open(directory.path()).await;
    let eva = panel.world.agent_within("eva", None, Some(Span::minutes(30))).await;
    let task = panel.world.task_of(&eva, Span::hours(6)).await;
    let approval = panel.world.submit(&eva, request(task.id, ONE)).await.unwrap().approval.unwrap();
    let latest = approval.expires_at.plus(Span::minutes(30));
    assert_eq!((approval.renewable_until, approval.mode, approval.parent), (Some(latest), Mode::Root, None));
    panel.world.hands.turn(Span::minutes(59));
    panel.approve(&panel.bea, &approval).await.unwrap();
    let until = panel.world.ledger.view(|view| view.grant(approval.grant.unwrap()).unwrap().renewable_until);
    assert_eq!(until, panel.world.ledger.now().plus(Span::minutes(30)));
    assert!(until <= latest);

    let parent = panel.ask(&["db:read@orders/a"]).await.grant;
    let below = panel.delegate(parent.id, ONE, true).await.unwrap().approval.unwrap();
    assert_eq!((below.mode, below.parent), (Mode::Own, Some(parent.id)));
    assert_eq!(below.renewable_until, Some(parent.renewable_until));
    let panel = panel.restarted(directory.path()).await;
    assert_eq!(panel.known(below.id), below);
}

#[tokio::test]
async fn who_may_approve_is_asked_with_all_that_it_reaches_and_the_votes_so_far() {
    let directory = tempfile::tempdir().unwrap();
    let panel = Panel::open(directory.path()).await;
    let text = "@id(\"wide\") forbid (principal == Operator::\"bea\", action == Action::\"approve\", resource) \
        when { context.radius.score >= 4 };\n\
        @id(\"second\") forbid (principal == Operator::\"dan\", action == Action::\"approve\", resource) \
        when { context.approvals < 1 };";
    let mut files = belay::cedar::Set::production().unwrap().files().to_vec();
    files.push(("more.cedar".to_owned(), text.to_owned()));
    panel.world.apply_policies(set(&files)).await;
    let first = panel.wait(ONE).await;
    panel.approve(&panel.carl, &first).await.unwrap();
    // It adds nothing any more, and reaches as much as before.
    let again = panel.wait(ONE).await;
    assert_eq!((again.adds.score, again.radius.score), (0, 4));
    panel.refuses(&panel.bea, &again, "not_entitled").await;
    let two = panel.wait(TWO).await;
    let asked: Vec<&str> = two.asked.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(asked, ["carl", "dan"]);
    panel.refuses(&panel.dan, &two, "not_entitled").await;
    panel.approve(&panel.carl, &two).await.unwrap();
    panel.approve(&panel.dan, &two).await.unwrap();
    assert_eq!(panel.grant_state(&two), "active");
}

#[tokio::test]
async fn an_approver_may_narrow_and_never_widen() {
    let directory = tempfile::tempdir().unwrap();
    let panel = Panel::open(directory.path()).await;
    let wide = &["db:own@vault/*", "db:drop@orders/a"];
    let approval = panel.wait(wide).await;
    let less = |scopes: &[&str], ttl: Option<Span>| Approve {
        scopes: (!scopes.is_empty()).then(|| Scopes::parse(scopes).unwrap()),
        ttl,
        ..approve(&approval)
    };
    for wider in [&["db:own@**"][..], &["db:drop@orders/b"], &["db:*@secrets/a"], &["db:own@vault/a", "x:y@z"]] {
        let error = panel.world.submit(&panel.bea, less(wider, None)).await.unwrap_err();
        assert_eq!((error.reason, error.field), ("approval_widens", Some("scope")), "{error}");
    }
    let error = panel.world.submit(&panel.bea, less(&[], Some(Span::minutes(16)))).await.unwrap_err();
    assert_eq!((error.reason, error.field), ("approval_widens", Some("ttl")), "{error}");

    // What is left is what all of them allow, whenever they said so.
    let first = less(&["db:own@vault/*"], Some(Span::minutes(5)));
    let (second, third) = (less(&["db:drop@orders/a"], None), less(&["db:own@vault/b", "db:drop@orders/a"], None));
    panel.world.submit(&panel.bea, first).await.unwrap();
    let panel = panel.restarted(directory.path()).await;
    assert_eq!(panel.world.submit(&panel.carl, second).await.unwrap_err().reason, "nothing_left");
    panel.world.submit(&panel.carl, third).await.unwrap();
    let now = panel.world.ledger.now();
    let grant = panel.world.ledger.view(|view| view.grant(approval.grant.unwrap()).cloned()).unwrap();
    assert_eq!(grant.scopes, Scopes::parse(&["db:own@vault/b"]).unwrap());
    assert_eq!((grant.expires_at, grant.renewable_until), (now.plus(Span::minutes(5)), grant.expires_at));
}

#[tokio::test]
async fn one_denial_is_the_end_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let panel = Panel::open(directory.path()).await;
    let approval = panel.wait(TWO).await;
    panel.approve(&panel.bea, &approval).await.unwrap();
    let denied = panel.deny(&panel.carl, approval.id).await.unwrap();
    assert_eq!((denied.state, panel.grant_state(&approval)), (ApprovalState::Denied, "denied"));
    panel.refuses(&panel.dan, &approval, "approval_decided").await;
    assert_eq!(panel.deny(&panel.dan, approval.id).await.unwrap_err().reason, "approval_decided");
    let known = panel.known(approval.id);
    assert_eq!((known.given.len(), known.denied.unwrap().by.as_str()), (1, "carl"));
}

async fn remove(panel: &Panel, name: &str) {
    let command = RemoveOperator { name: name.parse().unwrap(), reason: "testing".parse().unwrap() };
    panel.world.submit(&Caller::Broker, command).await.unwrap();
}

fn policy(name: &str) -> (String, String) {
    let path = format!("{}/deploy/policies/{name}.cedar", env!("CARGO_MANIFEST_DIR"));
    (format!("{name}.cedar"), std::fs::read_to_string(path).unwrap())
}

fn set(files: &[(String, String)]) -> belay::cedar::Set {
    belay::cedar::Set::load(files).unwrap()
}
