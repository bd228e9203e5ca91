//! Decisions over a stream: the same as single ones, and what goes on for long is ended when it may not any more.

use belay::wire::v1;
use belay::wire::v1::decision_message::Said;
use belay::wire::v1::decision_request::Said as Asks;
use belay::wire::v1::decisions_client::DecisionsClient;
use tonic::Code;

use crate::support::line::{Line, read};
use crate::support::post::{Post, der};

#[tokio::test]
async fn a_stream_decides_as_the_single_call_does() {
    let post = Post::new().await;
    let (_, grant, token) = post.granted(0, &[]).await;
    let mut line = Line::open(&post.gate).await;
    let mut decisions = DecisionsClient::new(post.gate.clone());
    let other = v1::AuthorizeRequest { action: "write".into(), ..post.call(&token, "a") };
    let bare = v1::AuthorizeRequest { presenter: Vec::new(), ..post.call(&token, "a") };
    let elsewhere = der(&post.broker.enroll_agent("bob").await);
    let calls = [post.call(&token, "a"), other, bare, read(&token, "a", &elsewhere), post.call("none", "a")];
    let mut seen = Vec::new();
    for (id, call) in calls.into_iter().enumerate() {
        let over_stream = line.decided(id as u64, call.clone(), id % 2 == 0).await;
        let single = decisions.authorize(call).await.unwrap().into_inner();
        let said = |one: v1::AuthorizeResponse| (one.decision, one.reasons, one.grant, one.possession, one.call);
        seen.push(single.reasons[0].code.clone());
        assert_eq!(said(over_stream), said(single));
    }
    assert_eq!(seen[..2], ["in_scope", "out_of_scope"]);
    // What is no request is refused, and the stream goes on.
    let wrong = v1::AuthorizeRequest { args: "[".into(), ..post.call(&token, "a") };
    let report = v1::ReportRequest { invocation: "inv_x".into(), outcome: "done".into(), ..Default::default() };
    for (id, said) in [(10, Asks::Authorize(Box::new(wrong))), (11, Asks::Report(report))] {
        line.says(id, said, false).await;
        let Said::Refused(refusal) = line.hears(id).await else { panic!("{id} was accepted") };
        assert_eq!(refusal.code, Code::InvalidArgument as u32);
    }
    assert_eq!(line.decided(12, post.call(&token, "a"), false).await.grant, grant);
}

#[tokio::test]
async fn what_is_held_is_ended_when_it_would_not_be_allowed_any_more_and_nothing_else_is() {
    let post = Post::new().await;
    let mut line = Line::open(&post.gate).await;
    let mut own = Line::open(&post.ana.0).await;
    let (_, _, token) = post.granted(0, &[]).await;
    let beside = line.decided(0, post.call(&token, "beside"), true).await;
    assert_eq!(beside.decision, "allow");
    let mut id = 0;
    let mut hold = async |line: &mut Line, own: &mut Line, token: &str, resource: &str| {
        id += 1;
        assert_eq!(line.decided(id, post.call(token, resource), true).await.decision, "allow");
        assert_eq!(own.decided(id, read(token, resource, &[]), true).await.decision, "allow");
        id
    };
    type Cut<'a> = Box<dyn Fn(&str, &str) -> i32 + 'a>;
    let run = |arguments: &[&str]| post.broker.run(arguments).code;
    let (_, _, short) = post.granted(1500, &[]).await;
    let id = hold(&mut line, &mut own, &short, "a").await;
    for line in [&mut line, &mut own] {
        let code = line.ended(id).await;
        assert!(["grant_expired", "token_expired"].contains(&code.as_str()), "{code}");
    }
    // A freeze comes last: nothing that it touches is granted any more.
    let cuts: [(&str, Cut<'_>); 4] = [
        ("grant_revoked", Box::new(|_, grant| run(&["revoke", grant, "--reason", "testing"]))),
        ("grant_suspended", Box::new(|_, grant| run(&["grant", "suspend", grant]))),
        ("task_ended", Box::new(|task, _| post.broker.run_as(&post.ana_at, &["task", "end", task]).code)),
        ("frozen", Box::new(|_, _| run(&["freeze", "--scope", "db:read@cold/**", "--reason", "testing"]))),
    ];
    for (code, cut) in cuts {
        let (task, grant, token) = post.granted(0, &[]).await;
        let resource = if code == "frozen" { "cold/1" } else { "a" };
        let id = hold(&mut line, &mut own, &token, resource).await;
        assert_eq!(cut(&task, &grant), 0, "{code}");
        assert_eq!([line.ended(id).await, own.ended(id).await], [code, code]);
    }
    assert!(line.is_silent(500).await, "what is beside all that goes on");
    // Its agent suspended: at an enforcement point it is ended, and a stream of its own is over.
    assert_eq!(run(&["agent", "suspend", "ana"]), 0);
    assert_eq!(line.ended(0).await, "agent_suspended");
    assert_eq!(own.next().await.unwrap_err().code(), Code::PermissionDenied);
    // The enforcement point retired: its stream is over.
    assert_eq!(run(&["pep", "retire", "gate"]), 0);
    assert_eq!(line.next().await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_hold_is_not_ended_by_its_own_charge_and_is_over_once_it_is_reported() {
    let post = Post::new().await;
    let mut line = Line::open(&post.gate).await;
    let (_, grant, token) = post.granted(0, &["max_calls=1"]).await;
    let held = line.decided(1, post.call(&token, "a"), true).await;
    assert_eq!(held.decision, "allow");
    assert_eq!(line.decided(2, post.call(&token, "a"), true).await.reasons[0].code, "limit_reached");
    // The log moves, and time goes by.
    post.ana.task().await;
    assert!(line.is_silent(700).await);
    let report = |id: &str| {
        let [invocation, outcome] = [id, "not_executed"].map(str::to_owned);
        Asks::Report(v1::ReportRequest { invocation, outcome, detail: String::new() })
    };
    line.says(3, report(&held.id), false).await;
    let Said::Reported(reported) = line.hears(3).await else { panic!("not reported") };
    assert!(reported.refunded);
    // The number is free again, and the limit has room: what is ended is the second alone.
    assert_eq!(line.decided(1, post.call(&token, "a"), true).await.decision, "allow");
    post.broker.run(&["revoke", &grant, "--reason", "testing"]).ok();
    assert_eq!(line.ended(1).await, "grant_revoked");
    assert!(line.is_silent(300).await);
}

#[tokio::test]
async fn a_stream_holds_a_thousand_and_twenty_four_calls_and_says_when_it_is_full() {
    let post = Post::new().await;
    let mut line = Line::open(&post.gate).await;
    let (_, grant, token) = post.granted(0, &[]).await;
    let mut first = String::new();
    for id in 0..1024 {
        let decided = line.decided(id, post.call(&token, "a"), true).await;
        assert_eq!(decided.decision, "allow");
        first = if id == 0 { decided.id } else { first };
    }
    let refused = async |line: &mut Line, id: u64| {
        line.says(id, Asks::Authorize(Box::new(post.call(&token, "a"))), true).await;
        let Said::Refused(refusal) = line.hears(id).await else { panic!("{id} is held") };
        refusal.reason.unwrap().code
    };
    assert_eq!(refused(&mut line, 2000).await, "too_many_held");
    assert_eq!(refused(&mut line, 7).await, "malformed", "a number that is taken");
    assert_eq!(line.decided(2001, post.call(&token, "a"), false).await.decision, "allow", "others are decided");
    let report = v1::ReportRequest { invocation: first, outcome: "done".into(), ..Default::default() };
    line.says(2002, Asks::Report(report), false).await;
    assert!(matches!(line.hears(2002).await, Said::Reported(_)));
    assert_eq!(line.decided(2003, post.call(&token, "a"), true).await.decision, "allow", "there is room for one");
    post.broker.run(&["revoke", &grant, "--reason", "testing"]).ok();
    let mut ended = std::collections::BTreeSet::new();
    for _ in 0..1024 {
        let message = line.next().await.unwrap().unwrap();
        assert!(matches!(message.said, Some(Said::Ended(_))), "{message:?}");
        ended.insert(message.id);
    }
    assert_eq!((ended.len(), ended.contains(&0), ended.contains(&2003)), (1024, false, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_not_read_holds_up_nobody() {
    let post = Post::new().await;
    let (_, grant, token) = post.granted(0, &[]).await;
    let deaf = Line::open(&post.gate).await;
    let mut said = 0;
    // Until nothing more is taken from it: its answers wait for somebody who reads them.
    while tokio::time::timeout(
        std::time::Duration::from_secs(2),
        deaf.says(said, Asks::Authorize(Box::new(post.call(&token, "a"))), said < 500),
    )
    .await
    .is_ok()
    {
        said += 1;
        assert!(said < 100_000, "it is never full");
    }
    let channel = post.broker.channel_as(&post.broker.home.join("gate")).await.unwrap();
    let mut line = Line::open(&channel).await;
    assert_eq!(line.decided(1, post.call(&token, "a"), true).await.decision, "allow");
    assert_eq!(post.ana.decided(&token).await, "in_scope");
    post.broker.run(&["revoke", &grant, "--reason", "testing"]).ok();
    assert_eq!(line.ended(1).await, "grant_revoked");
    assert_eq!(post.ana.decided(&token).await, "grant_revoked");
}
