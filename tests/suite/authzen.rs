//! AuthZEN 1.0: the same decisions in its own words.

use serde_json::{Value, json};

use crate::support::front::Front;
use crate::support::http::{Reply, request};
use crate::support::within;

const JSON: (&str, &str) = ("content-type", "application/json");

async fn post(front: &Front, page: &str, body: &str) -> Reply {
    let headers = [JSON, ("x-request-id", "bfe9eb29-ab87")];
    front.page(Some(&front.pep), &request(&format!("POST /access/v1/{page}"), &headers, body)).await
}

async fn evaluated(front: &Front, page: &str, body: &Value) -> Value {
    let reply = post(front, page, &body.to_string()).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("x-request-id"), Some("bfe9eb29-ab87"));
    reply.json()
}

fn subject(front: &Front, id: &str) -> Value {
    json!({ "type": "agent", "id": id, "properties": {
        "token": front.token, "certificate": front.certificate(), "role": "admin",
    }})
}

fn question(front: &Front, action: &str, args: &Value) -> Value {
    json!({
        "subject": subject(front, "ana"),
        "action": { "name": action, "properties": { "role": "admin" } },
        "resource": { "type": "orders", "id": "orders/7", "properties": { "owner": "ana" } },
        "context": { "args": args, "time": "2026-11-23T06:00:00Z" },
        "unknown": [1, 2],
    })
}

#[tokio::test]
async fn a_question_is_decided_by_the_grant_and_by_nothing_that_its_asker_claims() {
    let front = Front::usual().await;
    let decide =
        async |action: &str, args: Value| evaluated(&front, "evaluation", &question(&front, action, &args)).await;
    let allowed = decide("read", json!({})).await;
    assert_eq!(allowed["decision"], true, "{allowed}");
    assert!(allowed["context"]["id"].as_str().unwrap().starts_with("inv_"), "{allowed}");
    assert_eq!(decide("refund", json!({ "amount": 100 })).await["decision"], true);
    for (action, args, code) in [
        ("refund", json!({ "amount": 100.01 }), "out_of_scope"),
        ("refund", json!({}), "out_of_scope"),
        ("close", json!({}), "out_of_scope"),
    ] {
        let denied = decide(action, args).await;
        assert_eq!((&denied["decision"], &denied["context"]["reasons"][0]["code"]), (&json!(false), &json!(code)));
    }
    // A number is read exactly, not as a float.
    let text = question(&front, "refund", &json!({ "amount": 0 })).to_string();
    let exact = text.replace(r#""amount":0"#, r#""amount":100.00000000000000000001"#);
    assert_ne!(exact, text);
    let denied = post(&front, "evaluation", &exact).await.json();
    assert_eq!(denied["decision"], false, "{denied}");

    for (id, decision) in [("", true), ("ana", true), ("bob", false), ("spiffe://belay.dev/agent/bob", false)] {
        let mut asked = question(&front, "read", &json!({}));
        asked["subject"] = subject(&front, id);
        let answer = evaluated(&front, "evaluation", &asked).await;
        assert_eq!(answer["decision"], decision, "{id}: {answer}");
    }
    let mut stolen = question(&front, "read", &json!({}));
    stolen["subject"]["properties"]["certificate"] = json!("");
    assert_eq!(evaluated(&front, "evaluation", &stolen).await["decision"], false);
    stolen["subject"] = json!({ "type": "agent", "id": "ana" });
    let unshown = evaluated(&front, "evaluation", &stolen).await;
    assert_eq!(unshown["context"]["reasons"][0]["code"], "no_credential", "{unshown}");
    assert_eq!(unshown["decision"], false);
}

#[tokio::test]
async fn several_questions_are_answered_as_far_as_they_are_asked_for() {
    let front = Front::usual().await;
    let [read, close] = ["read", "close"].map(|name| json!({ "action": { "name": name } }));
    let base = question(&front, "read", &json!({}));
    let ask = async |items: Value, semantic: Option<&str>| {
        let mut body = base.clone();
        body["evaluations"] = items;
        if let Some(semantic) = semantic {
            body["options"] = json!({ "evaluations_semantic": semantic });
        }
        let answer = evaluated(&front, "evaluations", &body).await;
        let answers = answer["evaluations"].as_array().unwrap_or_else(|| panic!("{answer}")).clone();
        answers.iter().map(|answer| answer["decision"].as_bool().unwrap()).collect::<Vec<_>>()
    };
    let mixed = json!([read, close, read]);
    assert_eq!(ask(mixed.clone(), None).await, [true, false, true]);
    assert_eq!(ask(mixed.clone(), Some("execute_all")).await, [true, false, true]);
    assert_eq!(ask(mixed.clone(), Some("deny_on_first_deny")).await, [true, false]);
    assert_eq!(ask(mixed, Some("permit_on_first_permit")).await, [true]);
    assert_eq!(ask(json!([close, read, close]), Some("permit_on_first_permit")).await, [false, true]);
    // One that is none does not take the others along.
    assert_eq!(ask(json!([{ "action": { "name": 1 } }, read]), None).await, [false, true]);
    // Without any it is one question.
    for none in [json!([]), Value::Null] {
        let mut body = base.clone();
        body["evaluations"] = none;
        assert_eq!(evaluated(&front, "evaluations", &body).await["decision"], true);
    }
}

#[tokio::test]
async fn a_question_that_is_none_is_refused_and_never_answered() {
    let front = Front::usual().await;
    let good = question(&front, "read", &json!({}));
    let without = |part: &str| {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(part);
        body.to_string()
    };
    let with = |part: &str, value: Value| {
        let mut body = good.clone();
        body[part] = value;
        body.to_string()
    };
    let twice = good.to_string().replacen('{', r#"{"action":{"name":"read"},"#, 1);
    let many = json!({ "evaluations": vec![json!({}); 101] }).to_string();
    for (page, body) in [
        ("evaluation", String::new()),
        ("evaluation", "[]".to_owned()),
        ("evaluation", "{".to_owned()),
        ("evaluation", without("subject")),
        ("evaluation", without("action")),
        ("evaluation", without("resource")),
        ("evaluation", with("subject", json!({ "type": "agent" }))),
        ("evaluation", with("subject", json!({ "type": "agent", "id": 7 }))),
        ("evaluation", with("action", json!({ "name": 1 }))),
        ("evaluation", with("action", json!("read"))),
        ("evaluation", with("resource", json!({ "type": "orders" }))),
        ("evaluation", with("resource", json!({ "type": "orders", "id": "orders/7", "properties": [] }))),
        ("evaluation", with("context", json!("now"))),
        ("evaluation", with("context", json!({ "args": [1] }))),
        ("evaluation", twice),
        ("evaluations", many),
        ("evaluations", json!({ "evaluations": {} }).to_string()),
        (
            "evaluations",
            with("options", json!({ "evaluations_semantic": "any" })).replacen('{', r#"{"evaluations":[{}],"#, 1),
        ),
    ] {
        let reply = post(&front, page, &body).await;
        assert_eq!(reply.status, 400, "{body}: {reply:?}");
        assert!(!reply.body.contains("decision") && !reply.body.contains(&front.token), "{reply:?}");
        assert_eq!(reply.header("x-request-id"), Some("bfe9eb29-ab87"));
    }
    let plain = request("POST /access/v1/evaluation", &[("content-type", "text/plain")], &good.to_string());
    assert_eq!(front.page(Some(&front.pep), &plain).await.status, 400);
    let large = post(&front, "evaluation", &with("context", json!({ "more": "x".repeat(1 << 20) }))).await;
    assert_eq!(large.status, 413, "{large:?}");
    let told = front.page(None, &request("GET /.well-known/authzen-configuration", &[], "")).await.json();
    let issuer = told["policy_decision_point"].as_str().unwrap().to_owned();
    assert_eq!(told["access_evaluation_endpoint"], format!("{issuer}/access/v1/evaluation"));
    assert_eq!(told["access_evaluations_endpoint"], format!("{issuer}/access/v1/evaluations"));
}

#[tokio::test]
async fn a_question_about_another_than_the_tokens_holder_is_denied_and_recorded() {
    let front = Front::usual().await;
    let about = |subject: Value| {
        let mut asked = question(&front, "read", &json!({}));
        asked["subject"] = subject;
        asked
    };
    let user = json!({ "type": "user", "id": "ana", "properties": subject(&front, "")["properties"] });
    let mut stolen = subject(&front, "bob");
    stolen["properties"]["certificate"] = json!("");
    let mut expected = Vec::new();
    for (page, subject, code) in [
        ("evaluation", subject(&front, "bob"), "subject_mismatch"),
        ("evaluation", user, "subject_unknown"),
        // Whoever does not hold the token hears nothing of whose it is.
        ("evaluation", stolen, "possession"),
        ("evaluations", subject(&front, "bob"), "subject_mismatch"),
    ] {
        let mut body = about(subject);
        if page == "evaluations" {
            body["evaluations"] = json!([{}]);
        }
        let answer = evaluated(&front, page, &body).await;
        let answer = if page == "evaluations" { answer["evaluations"][0].clone() } else { answer };
        assert_eq!((&answer["decision"], &answer["context"]["reasons"][0]["code"]), (&json!(false), &json!(code)));
        let holder = if code == "possession" { Value::Null } else { json!("ana") };
        expected.push((answer["context"]["id"].clone(), holder, json!(code)));
    }
    within("refusals are recorded", async || {
        let told = front.broker.run(&["audit", "calls"]).ok();
        let calls = told["calls"].as_array().unwrap().iter();
        let seen: Vec<_> =
            calls.map(|call| (call["id"].clone(), call["agent"].clone(), call["reasons"][0].clone())).collect();
        if seen == expected { Ok(()) } else { Err(format!("{told} is not {expected:?}")) }
    })
    .await;
}
