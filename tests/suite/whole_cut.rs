//! One revoke against everything at once: what hangs below it ends, wherever it is, and nothing else does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use belay::domain::time::Timestamp;
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::{Value, json};
use tokio_postgres::Client;
use tonic::Code;

use crate::support::calls::refused;
use crate::support::estate::{Agent, Estate, Held, ROLES, SESSIONS, Session, administrator, left, until};

/// Everything that a grant holds works, at every door.
async fn works(estate: &Estate, held: &Held) {
    let name = held.agent.name;
    assert_eq!(held.agent.acting.decided(&held.token.1).await, "in_scope", "{name}");
    assert_eq!(estate.decided(held).await, ["in_scope", "in_scope"], "{name}");
    assert_eq!(estate.introspected(held).await, "active", "{name}");
    assert_eq!(estate.offline(held), "valid", "{name}");
    assert_eq!(held.holder.decided("").await, "in_scope", "{name}: its certificate, on the open connection");
    assert_eq!(estate.handshake(held).await, Ok(()), "{name}: its certificate, on a new connection");
    assert_eq!(held.issue("token").await.unwrap().into_inner().id, held.token.0, "{name}: a retry");
    held.renew().await.unwrap();
}

/// Nothing that a grant holds works, at any door that asks the broker.
async fn is_refused(estate: &Estate, held: &Held, other: &Agent) {
    let name = held.agent.name;
    assert_eq!(held.agent.acting.decided(&held.token.1).await, "grant_revoked", "{name}");
    assert_eq!(estate.decided(held).await, ["grant_revoked", "grant_revoked"], "{name}");
    assert_eq!(estate.introspected(held).await, "grant_revoked", "{name}");
    assert_eq!(held.holder.decided("").await, "grant_revoked", "{name}: its certificate, on the open connection");
    assert_eq!(estate.handshake(held).await, Err("tls_refused".to_owned()), "{name}: its certificate, on a new one");
    let denied = Code::PermissionDenied;
    for once in ["token", "another"] {
        refused((name, once), held.issue(once).await, denied, "grant_revoked", 3);
    }
    for once in ["lease", "another"] {
        refused((name, once), held.lease(once).await, denied, "grant_revoked", 3);
    }
    refused((name, "delegate"), held.delegate(other, "another").await, denied, "grant_revoked", 3);
    // A retry is told what became of what it made, and gets nothing to use.
    let again = held.delegate(other, "child").await.unwrap().into_inner();
    assert_eq!((again.grant.unwrap().state.as_str(), again.token), ("revoked", None), "{name}");
    refused((name, "renew"), held.renew().await, denied, "grant_revoked", 3);
    let (_, csr) = belay::client::identity::request(None).unwrap();
    refused((name, "certify"), held.agent.acting.certify(&held.grant, csr, "").await, denied, "grant_revoked", 3);
}

/// Waits until a session is in this state, by what the server says.
async fn is_in(admin: &Client, session: &Session, state: &str) {
    let query = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND state = $2 AND usename LIKE 'belay%'";
    until(state, Instant::now(), async || {
        admin.query_one(query, &[&session.pid, &state]).await.unwrap().get::<_, i64>(0) == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_revoke_ends_everything_below_it_and_nothing_else() {
    let test = "one_revoke_ends_everything_below_it_and_nothing_else";
    let Some(estate) = Estate::open(test).await else { return };
    let mut agents = Vec::new();
    for name in ["planner", "ana", "bob", "cyd", "dan"] {
        agents.push(estate.agent(name).await);
    }
    let [planner, ana, bob, cyd, dan] = &agents[..] else { unreachable!() };
    let root = estate.root(planner).await;
    let second = estate.child(&root, ana).await;
    let third = estate.child(&second, bob).await;
    let fourth = estate.child(&third, cyd).await;
    let sibling = estate.child(&root, dan).await;
    let (cut, kept) = ([&second, &third, &fourth], [&root, &sibling]);
    for held in cut.iter().chain(&kept) {
        works(&estate, held).await;
        assert!(held.session.answers().await, "{}", held.agent.name);
    }
    for held in cut {
        held.delegate(dan, "child").await.unwrap();
    }

    // One session does nothing, one is in the middle of a query, one in the middle of a transaction.
    let admin = administrator(&estate.postgres.admin_url()).await;
    let client = Arc::clone(&third.session.client);
    let asleep = tokio::spawn(async move { client.batch_execute("SELECT pg_sleep(600)").await });
    fourth.session.client.batch_execute("BEGIN; SELECT * FROM orders").await.unwrap();
    sibling.session.client.batch_execute("BEGIN; CREATE TEMPORARY TABLE kept (a int)").await.unwrap();
    for (held, state) in [(&second, "idle"), (&third, "active"), (&fourth, "idle in transaction")] {
        is_in(&admin, &held.session, state).await;
    }

    let since = Instant::now();
    let revoked = estate.boss.revoke(&second.grant).await.unwrap().into_inner();
    assert!(revoked.r#final && revoked.known);
    let died = revoked.cut.unwrap();
    assert_eq!((died.grants, died.tokens, died.certificates, died.leases), (6, 3, 3, 3));
    for held in cut {
        is_refused(&estate, held, dan).await;
        let name = held.agent.name;
        until(&format!("the verifier refuses {name}"), since, async || estate.offline(held) == "grant_revoked").await;
        until(&format!("the session of {name} is over"), since, async || held.session.is_over()).await;
        assert!(!held.session.answers().await);
    }
    assert!(asleep.await.unwrap().is_err(), "it slept for ten minutes");
    until("no role is left", since, async || left(&admin, ROLES, &cut).await == 0).await;
    assert_eq!(left(&admin, SESSIONS, &cut).await, 0);
    told_and_signed(&estate, &revoked.id, &cut, &kept).await;

    // Those beside it and above it are as they were.
    for held in kept {
        works(&estate, held).await;
        assert!(held.session.answers().await, "the session of {} was ended", held.agent.name);
        held.delegate(cyd, "child").await.unwrap();
    }
    sibling.session.client.batch_execute("INSERT INTO kept VALUES (1); COMMIT").await.unwrap();
    assert_eq!((left(&admin, ROLES, &kept).await, left(&admin, SESSIONS, &kept).await), (2, 2));
}

/// What `belay revocation show` says once all but the certificates is enforced, and the receipt for it.
async fn told_and_signed(estate: &Estate, id: &str, cut: &[&Held], kept: &[&Held]) {
    let show = || estate.broker.run(&["revocation", "show", id]).ok();
    let mut shown = show();
    until("leases and tokens are enforced", Instant::now(), async || {
        shown = show();
        let enforced = &shown["states"]["enforced"];
        (&enforced["leases"], &enforced["tokens"]) == (&json!(3), &json!(3))
    })
    .await;
    let count = |grants, tokens, certificates, leases| json!({ "grants": grants, "tokens": tokens, "certificates": certificates, "leases": leases });
    // Who reads lists of what is revoked has the next one within a minute.
    let states = json!({
        "enforced": count(6, 3, 0, 3), "pending": count(0, 0, 3, 0),
        "failed": count(0, 0, 0, 0), "expires": count(0, 0, 0, 0),
    });
    assert_eq!(shown["states"], states, "{shown}");
    assert_eq!((&shown["final"], &shown["terminal"]), (&json!(true), &json!(false)), "{shown}");
    let effects = |told: &Value| -> BTreeMap<String, (String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let all = told["effects"].as_array().unwrap().iter();
        all.map(|one| (text(&one["credential"]), (text(&one["kind"]), text(&one["state"])))).collect()
    };
    let told = effects(&shown);
    let [lease, token, grant] = ["lease", "token", "grant"].map(|kind| (kind.to_owned(), "enforced".to_owned()));
    let certificate = ("certificate".to_owned(), "pending".to_owned());
    for held in cut {
        let ids = [&held.lease, &held.token.0, &held.grant, &held.certificate];
        assert_eq!(ids.map(|id| &told[id]), [&lease, &token, &grant, &certificate], "{}", held.agent.name);
    }
    for held in kept {
        for id in [&held.lease, &held.token.0, &held.grant, &held.certificate] {
            assert!(!told.contains_key(id), "{}: {id}", held.agent.name);
        }
    }
    let moment = |value: &Value| value.as_str().unwrap().parse::<Timestamp>().unwrap();
    let at = moment(&shown["revocation"]["at"]);
    for pending in shown["effects"].as_array().unwrap().iter().filter(|one| one["state"] == "pending") {
        assert_eq!(moment(&pending["at"]).since(at).as_millis(), 60_000, "{pending}");
    }

    let receipt = estate.broker.run(&["revocation", "receipt", id]).ok()["receipt"].as_str().unwrap().to_owned();
    let claims = proven(estate, &receipt).await;
    assert_eq!((&claims["jti"], &claims["unlisted"]), (&json!(id), &json!(0)), "{claims}");
    assert_eq!(claims["target"], json!(cut[0].grant));
    assert_eq!(effects(&claims), told);
    let states = ["enforced", "pending", "failed", "expires"].map(|state| &claims["counts"][state]);
    assert_eq!(states, ["enforced", "pending", "failed", "expires"].map(|state| &shown["states"][state]));
}

/// What a receipt says, which a key that the broker publishes has signed.
async fn proven(estate: &Estate, receipt: &str) -> Value {
    let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
    let (input, signature) = receipt.rsplit_once('.').unwrap();
    let (header, payload) = input.split_once('.').unwrap();
    let header: Value = serde_json::from_slice(&bytes(header)).unwrap();
    assert_eq!((&header["typ"], &header["alg"]), (&json!("belay-revocation+jwt"), &json!("ES256")));
    let published: Value = serde_json::from_str(&estate.broker.page("/.well-known/jwks.json").await.2).unwrap();
    let key = published["keys"].as_array().unwrap().iter().find(|key| key["kid"] == header["kid"]).unwrap();
    let coordinate = |name: &str| bytes(key[name].as_str().unwrap());
    let point = [vec![4], coordinate("x"), coordinate("y")].concat();
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    key.verify(input.as_bytes(), &bytes(signature)).expect("no key of the broker's signed it");
    assert!(key.verify(&input.as_bytes()[1..], &bytes(signature)).is_err());
    serde_json::from_slice(&bytes(payload)).unwrap()
}
