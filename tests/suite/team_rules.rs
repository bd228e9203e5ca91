//! Rules about who may hold something: they look at who receives it, not only at who hands it on.

use belay::cedar::Set;
use belay::domain::decide::{Attempt, RenewGrant, judge_call};
use belay::domain::scope::Call;
use belay::domain::time::Span;

use crate::support::panel::Panel;

/// What the tool is for is for the agents of one owner.
const RULE: &str = r#"@id("of-anas-team")
forbid (principal, action in [Action::"request", Action::"delegate", Action::"invoke"], resource == Tool::"db")
unless { context.holder in Owner::"owner-of-ana" };"#;

#[tokio::test]
async fn a_rule_about_a_team_is_not_dodged_by_handing_on() {
    let directory = tempfile::tempdir().unwrap();
    let panel = Panel::open(directory.path()).await;
    let read = &["db:read@orders/a"];
    let held = panel.ask(read).await.grant.id;
    let handed = panel.delegate(held, read, false).await.unwrap().grant.id;
    let mut files = Set::production().unwrap().files().to_vec();
    files.push(("team.cedar".to_owned(), RULE.to_owned()));
    panel.world.apply_policies(Set::load(&files).unwrap()).await;

    panel.ask(read).await;
    for own in [false, true] {
        let refused = panel.delegate(held, read, own).await.unwrap_err();
        assert!(refused.reason == "policy_denied" && refused.message.contains("`of-anas-team`"), "{refused}");
    }
    // What was handed on before is neither used nor renewed.
    let call = Call::parse("db", "read", "orders/a").unwrap();
    let now = panel.world.ledger.now();
    let allowed = |grant| {
        let attempt = Attempt::of(&call, true);
        panel.world.ledger.view(|view| judge_call(&view, now, view.grant(grant).unwrap(), attempt).allowed)
    };
    assert!(allowed(held) && !allowed(handed));
    let renew = |id| RenewGrant { id, ttl: Span::minutes(20) };
    panel.world.submit(&panel.ana, renew(held)).await.unwrap();
    assert_eq!(panel.world.submit(&panel.bob, renew(handed)).await.unwrap_err().reason, "policy_denied");
}
