//! The edges of time: an end is exclusive, everywhere and to the millisecond, and tokens hold whole seconds.

use belay::domain::decide::{Caller, IssueToken, RenewGrant, SetGrantStatus, TokenAnswer, judge};
use belay::domain::error::Error;
use belay::domain::grant::Credential;
use belay::domain::grant::{Grant, Status};
use belay::domain::id::{GrantId, TokenId};
use belay::domain::time::{Span, Timestamp};

use crate::support::world::{Hands, NOW, World};

struct Scene {
    world: World,
    planner: Caller,
    grant: Grant,
    _directory: tempfile::TempDir,
}

/// A grant of fifteen minutes, begun 700 ms behind a whole second.
async fn scene() -> Scene {
    let directory = tempfile::tempdir().unwrap();
    let world = World::open(directory.path(), Hands::new()).await;
    world.hands.turn(Span::millis(700));
    let planner = world.agent("planner").await;
    world.agent("coder").await;
    let task = world.task(&planner).await;
    let grant = world.grant(&planner, task.id, &["db:read@**"]).await.unwrap();
    Scene { world, planner, grant, _directory: directory }
}

impl Scene {
    /// Turns the clock to this moment.
    fn at(&self, moment: Timestamp) {
        self.world.hands.turn(moment.since(self.world.ledger.now()));
        assert_eq!(self.world.ledger.now(), moment);
    }

    async fn token(&self) -> Result<(TokenId, Timestamp), Error> {
        let issue = IssueToken { grant: self.grant.id, audience: None };
        match self.world.submit(&self.planner, issue).await? {
            TokenAnswer::New(token) => Ok((token.get().id, token.get().expires_at)),
            TokenAnswer::Again(..) => panic!("no key was given"),
        }
    }

    async fn renew(&self, id: GrantId) -> Result<Grant, Error> {
        let renewed = self.world.submit(&self.planner, RenewGrant { id, ttl: Span::minutes(15) }).await;
        renewed.map(|granted| granted.grant)
    }

    fn verdict(&self, token: TokenId) -> &'static str {
        let now = self.world.ledger.now();
        self.world.ledger.view(|view| judge(&view, now, Credential::Token(token), None).reasons[0].code)
    }
}

#[tokio::test]
async fn a_grant_lives_to_its_last_millisecond_and_not_one_longer() {
    let scene = scene().await;
    let end = scene.grant.expires_at;
    assert_eq!(end, Timestamp::from_millis(NOW + 700).plus(Span::minutes(15)));
    scene.at(end.minus(Span::millis(1)));
    assert_eq!(scene.world.state(scene.grant.id), Some("active"));
    let child = scene.world.delegate(&scene.planner, scene.grant.id, "coder", &["db:read@orders"]).await.unwrap();
    assert_eq!(child.expires_at, end, "a child of the last millisecond has one millisecond");

    scene.at(end);
    assert_eq!((scene.world.state(scene.grant.id), scene.world.state(child.id)), (Some("expired"), Some("expired")));
    let late = scene.world.delegate(&scene.planner, scene.grant.id, "coder", &["db:read@orders"]).await;
    assert_eq!(late.unwrap_err().reason, "grant_expired");
    assert_eq!(scene.renew(scene.grant.id).await.unwrap_err().reason, "grant_expired");
    assert_eq!(scene.token().await.unwrap_err().reason, "grant_expired");
}

#[tokio::test]
async fn a_grant_renewed_in_its_last_millisecond_goes_on() {
    let scene = scene().await;
    scene.at(scene.grant.expires_at.minus(Span::millis(1)));
    let renewed = scene.renew(scene.grant.id).await.unwrap();
    assert_eq!(renewed.expires_at, scene.world.ledger.now().plus(Span::minutes(15)));
    scene.at(scene.grant.expires_at);
    assert_eq!(scene.world.state(scene.grant.id), Some("active"));
}

#[tokio::test]
async fn a_token_ends_at_the_whole_second_before_its_grant() {
    let scene = scene().await;
    let (token, end) = scene.token().await.unwrap();
    assert_eq!(end, scene.grant.expires_at.minus(Span::millis(700)));
    scene.at(end.minus(Span::millis(1)));
    assert_eq!(scene.verdict(token), "in_scope");
    scene.at(end);
    assert_eq!((scene.verdict(token), scene.world.state(scene.grant.id)), ("token_expired", Some("active")));
    // No whole second is left: a token that is over when it is issued is not issued.
    assert_eq!(scene.token().await.unwrap_err().reason, "too_short");
    scene.renew(scene.grant.id).await.unwrap();
    assert_eq!(scene.verdict(token), "token_expired", "renewing a grant renews no token");
    scene.token().await.unwrap();
}

#[tokio::test]
async fn a_certificate_ends_its_tokens_and_then_its_holder() {
    let scene = scene().await;
    let not_after = scene.planner.presenter().unwrap().not_after;
    scene.at(not_after.minus(Span::seconds(90)));
    let task = scene.world.task(&scene.planner).await;
    let grant = scene.world.grant(&scene.planner, task.id, &["db:read@**"]).await.unwrap();
    assert!(grant.expires_at > not_after);
    let scene = Scene { grant, ..scene };
    let (token, end) = scene.token().await.unwrap();
    assert_eq!(end, not_after.whole_seconds());
    scene.at(end);
    assert_eq!(scene.verdict(token), "token_expired");
    scene.renew(scene.grant.id).await.unwrap();
    scene.at(not_after);
    assert_eq!(scene.renew(scene.grant.id).await.unwrap_err().reason, "certificate_expired");
}

#[tokio::test]
async fn what_was_given_back_stays_completed_when_its_task_ends_by_time() {
    let scene = scene().await;
    let deadline = scene.world.ledger.view(|view| view.task(&scene.grant.task).unwrap().expires_at);
    scene.at(deadline.minus(Span::millis(1)));
    // A grant beside it, so that the end of the task is seen.
    let beside = scene.world.grant(&scene.planner, scene.grant.task, &["db:read@**"]).await.unwrap();
    let back = scene.world.grant(&scene.planner, scene.grant.task, &["db:read@**"]).await.unwrap();
    let complete = SetGrantStatus { id: back.id, status: Status::Completed, reason: "done".parse().unwrap() };
    scene.world.submit(&scene.planner, complete).await.unwrap();
    scene.at(deadline);
    assert_eq!((scene.world.state(back.id), scene.world.state(beside.id)), (Some("completed"), Some("expired")));
    assert!(scene.world.grant(&scene.planner, scene.grant.task, &["db:read@**"]).await.is_err());
}
