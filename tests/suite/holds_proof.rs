//! What is held ends with what it was proven with: a certificate, a key, and that of the point that holds it.

use belay::client::{ProofKey, Refusal};
use belay::wire::v1;
use belay::wire::v1::decision_message::Said;
use belay::wire::v1::decisions_client::DecisionsClient;
use tonic::Code;

use crate::support::line::{Line, read};
use crate::support::post::{Post, der, id};
use crate::support::shop::kid;

const PLACE: &str = "https://127.0.0.1/v1/orders";

impl Post {
    fn revoke(&self, target: &str) {
        self.broker.run(&["revoke", target, "--reason", "testing"]).ok();
    }

    /// What a new call is told.
    async fn told(&self, call: v1::AuthorizeRequest) -> String {
        let told = DecisionsClient::new(self.gate.clone()).authorize(call).await.unwrap().into_inner();
        told.reasons[0].code.clone()
    }
}

#[tokio::test]
async fn a_held_call_ends_with_the_certificate_that_it_was_shown_with_and_with_that_of_who_holds_it() {
    let post = Post::new().await;
    let (_, grant, token) = post.granted(0, &[]).await;
    let under = post.broker.home.join("under");
    let crt = post.ana.certified(&grant, &under).await;
    let (_, his, bobs) = post.another("bob").await;
    let calls = [read("", "a", &der(&under)), post.call(&token, "a"), read(&his, "a", &bobs)];
    let (mut line, mut own) = (Line::open(&post.gate).await, Line::open(&post.ana.0).await);
    for (at, call) in calls.iter().enumerate() {
        assert_eq!(line.decided(at as u64, call.clone(), true).await.decision, "allow", "{at}");
    }
    assert_eq!(own.decided(0, read(&token, "a", &[]), true).await.decision, "allow");

    // A certificate under a grant, and then an identity. The grant lives on.
    for (at, certificate) in [(0, crt), (1, id(&post.certificate))] {
        assert!(line.is_silent(300).await);
        post.revoke(&certificate);
        let Said::Ended(ended) = line.hears(at).await else { panic!("{at} goes on") };
        let told = &ended.reasons[0];
        assert_eq!((told.code.as_str(), &ended.grant), ("certificate_revoked", &grant), "{at}: {told:?}");
        assert_eq!(post.told(calls[at as usize].clone()).await, told.code);
    }
    assert_eq!(post.broker.run(&["grant", "show", &grant]).ok()["grant"]["state"], "active");
    // The connection that shows it has no say any more.
    let over = Refusal::from(own.next().await.unwrap_err());
    assert_eq!(over.reason, "certificate_revoked");

    assert!(line.is_silent(500).await, "what was shown with another certificate goes on");
    post.revoke(&id(&der(&post.broker.home.join("gate"))));
    let over = line.next().await.unwrap_err();
    assert_eq!((over.code(), Refusal::from(over).reason.as_str()), (Code::Unauthenticated, "certificate_revoked"));
}

#[tokio::test]
async fn a_held_call_that_a_key_proved_ends_when_a_new_one_would_be_refused() {
    let post = Post::new().await;
    let (_, grant, _) = post.granted(0, &[]).await;
    let key = ProofKey::load_or_make(&post.broker.home.join("proof.pem")).unwrap();
    let issued = async || {
        let proof = key.prove("POST", &format!("{}/belay.v1.Tokens/Issue", post.broker.addr), None, None).unwrap();
        let dpop = Some(v1::DpopProof { proof, ..Default::default() });
        let request = v1::IssueTokenRequest { grant: grant.clone(), dpop, ..Default::default() };
        v1::tokens_client::TokensClient::new(post.ana.0.clone()).issue(request).await.unwrap().into_inner()
    };
    let call = |token: &v1::Token, presenter: &[u8]| {
        let proof = key.prove("GET", PLACE, Some(&token.token), Some(&token.dpop_nonce)).unwrap();
        let dpop = Some(v1::DpopProof { proof, method: "GET".to_owned(), url: PLACE.to_owned() });
        v1::AuthorizeRequest { dpop, ..read(&token.token, "a", presenter) }
    };
    let mut line = Line::open(&post.gate).await;
    let mut next = 0;
    let mut hold = async |line: &mut Line, call| {
        next += 1;
        assert_eq!(line.decided(next, call, true).await.decision, "allow");
        next
    };

    // Its holder is halted.
    let token = issued().await;
    let held = hold(&mut line, call(&token, &[])).await;
    post.broker.run(&["agent", "suspend", "ana"]).ok();
    assert_eq!(line.ended(held).await, post.told(call(&token, &[])).await);
    post.broker.run(&["agent", "resume", "ana"]).ok();

    // What signed its token is not trusted any more.
    let held = hold(&mut line, call(&token, &[])).await;
    post.broker.run(&["keys", "taint", "--reason", "testing", "--", &kid(&token.token)]).ok();
    let (ended, told) = (line.ended(held).await, post.told(call(&token, &[])).await);
    assert_eq!((ended.as_str(), told.starts_with("key_")), ("key_tainted", true), "{told}");

    // A certificate that was shown beside it counts, and one that was not does not.
    let token = issued().await;
    let alone = hold(&mut line, call(&token, &[])).await;
    let beside = hold(&mut line, call(&token, &post.certificate)).await;
    post.revoke(&id(&post.certificate));
    assert_eq!(line.ended(beside).await, "certificate_revoked");
    assert_eq!(post.told(call(&token, &post.certificate)).await, "certificate_revoked");
    assert_eq!(post.told(call(&token, &[])).await, "in_scope");
    assert!(line.is_silent(500).await);

    // Whoever it is: cut.
    post.revoke("agent:ana");
    assert_eq!(line.ended(alone).await, post.told(call(&token, &[])).await);
}
