//! Tokens that are bound to a key, at a service that checks them by itself.

use std::sync::Arc;
use std::time::Duration;

use belay::domain::decide::{IssueKeyToken, IssueToken};
use belay::domain::feed::{Message, Said};
use belay::domain::time::{Span, Timestamp};
use belay::format::dpop::{Draft, Received, signed, thumbprint};
use belay::verifier::{Answer, Shown, Verifier};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};

use crate::support::office::Office;
use crate::support::world::store;

const PLACE: &str = "https://orders.example/v1/orders";

struct Key(EcdsaKeyPair);

impl Key {
    fn new() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap())
    }

    fn proof(&self, id: &str, token: &str, issued_at: Timestamp) -> String {
        let draft = Draft { id, method: "GET", url: PLACE, issued_at, token: Some(token), nonce: None };
        let input = draft.signing_input(self.0.public_key().as_ref()).unwrap();
        signed(&input, self.0.sign(&SystemRandom::new(), input.as_bytes()).unwrap().as_ref())
    }
}

fn word(answer: &Answer) -> &'static str {
    match answer {
        Answer::Valid(_) => "valid",
        Answer::Invalid(error) | Answer::Unavailable(error) => error.reason,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offline_verifier_takes_a_proof_once_and_no_token_without_one() {
    let directory = tempfile::tempdir().unwrap();
    let office = Office::open(Box::new(store(directory.path())), directory.path()).await;
    tokio::spawn(Arc::clone(office.broker.feed()).run());
    let ana = office.world.agent("ana").await;
    let task = office.world.task(&ana).await;
    let grant = office.world.grant(&ana, task.id, &["db:read@**"]).await.unwrap().id;
    let (key, thief) = (Key::new(), Key::new());
    let issue = IssueToken { grant, audience: None };
    let command = IssueKeyToken { issue, key: thumbprint(key.0.public_key().as_ref()) };
    let answer = office.world.submit(&ana, command).await.unwrap();
    let token = office.broker.sign_token(answer).unwrap().token;

    // A service that has begun, and was up to date ten seconds later.
    let mut subscription = office.broker.feed().subscribe(&"gateway".parse().unwrap(), None).unwrap();
    let mut verifier = Verifier::new(Duration::from_secs(60));
    let began = Duration::from_secs(100);
    for (nonce, at) in [(b"one", began), (b"two", began + Duration::from_secs(10))] {
        verifier.beat(nonce.to_vec(), at);
        subscription.beat(nonce.to_vec()).unwrap();
        loop {
            let message = subscription.next().await.unwrap();
            let is_echo = matches!(message.said, Said::Echo(_));
            verifier.apply(Message::clone(&message)).unwrap();
            if is_echo {
                break;
            }
        }
    }

    let (start, audience) = (office.world.ledger.now(), office.broker.origin().issuer.clone());
    let at = |shown: Shown<'_>, seconds: u64| {
        let now = start.plus(Span::seconds(i64::try_from(seconds).unwrap()));
        word(&verifier.check(&token, &audience, shown, now, began + Duration::from_secs(seconds)))
    };
    let after = |seconds| start.plus(Span::seconds(seconds)).whole_seconds();
    let show =
        |proof: &str, method: &str, url: &str, seconds| at(Shown::Proof(Received { proof, method, url }), seconds);
    let early = key.proof("early", &token, after(4));
    assert_eq!(show(&early, "GET", PLACE, 4), "dpop_invalid", "another process may have taken it before");
    let certificate = ana.presenter().unwrap().thumbprint;
    assert_eq!(at(Shown::Certificate(&certificate), 10), "dpop_required");
    assert_eq!(at(None.into(), 10), "dpop_required");
    let good = key.proof("good", &token, after(10));
    assert_eq!(show(&good, "POST", PLACE, 10), "dpop_invalid");
    assert_eq!(show(&good, "GET", "https://orders.example/v1", 10), "dpop_invalid");
    assert_eq!(show(&good, "GET", "orders", 10), "malformed");
    assert_eq!(show(&good, "GET", PLACE, 10), "valid", "what was refused for another reason is not used up");
    assert_eq!(show(&good, "GET", PLACE, 11), "dpop_replayed");
    assert_eq!(show(&thief.proof("good", &token, after(10)), "GET", PLACE, 10), "possession");
    assert_eq!(show(&key.proof("other", "another token", after(10)), "GET", PLACE, 10), "dpop_invalid");
    assert_eq!(show(&key.proof("old", &token, after(6)), "GET", PLACE, 14), "valid");

    // What is bound to a certificate is not proven by a key.
    let plain = office.token(&ana, grant).await;
    let proof = key.proof("plain", &plain, after(10));
    let shown = Shown::Proof(Received { proof: &proof, method: "GET", url: PLACE });
    let answer = verifier.check(&plain, &audience, shown, after(10), began + Duration::from_secs(10));
    assert_eq!(word(&answer), "possession");
    // A feed that is too old lets nothing through, and uses nothing up.
    let late = key.proof("late", &token, after(61));
    assert_eq!(show(&late, "GET", PLACE, 61), "feed_stale");
}
