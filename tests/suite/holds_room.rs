//! What is held has bounds: so many calls, so much memory and so many streams of one caller, whoever else holds what.

use belay::client::Refusal;
use belay::wire::v1;
use belay::wire::v1::decision_message::Said;
use belay::wire::v1::decision_request::Said as Asks;
use tonic::Code;

use crate::support::line::{LONG, Line, read};
use crate::support::post::Post;

/// What it is told of a call that is not held, and what to do.
fn full(refusal: v1::Refusal) -> String {
    let reason = refusal.reason.unwrap();
    assert_eq!((refusal.code, reason.code.as_str()), (Code::ResourceExhausted as u32, "too_many_held"), "{reason:?}");
    reason.message
}

#[tokio::test]
async fn an_agent_holds_a_thousand_and_twenty_four_calls_through_however_many_streams() {
    let post = Post::new().await;
    let (_, grant, token) = post.granted(0, &[]).await;
    let (bob, his, bobs) = post.another("bob").await;
    let (mut first, mut second) = (Line::open(&post.gate).await, Line::open(&post.gate).await);
    let mut own = Line::open(&post.ana.0).await;
    let mut invocation = String::new();
    for id in 0..1024 {
        let line = if id < 600 { &mut first } else { &mut own };
        let call = if id < 600 { post.call(&token, "a") } else { read(&token, "a", &[]) };
        let decided = line.decided(id, call, true).await;
        assert_eq!(decided.decision, "allow");
        invocation = if id == 0 { decided.id } else { invocation };
    }
    let said = "1024 calls of agent `ana` are held, as many as may be; report some";
    let (_, _, once) = post.granted(0, &["max_calls=1"]).await;
    for line in [&mut first, &mut second] {
        assert_eq!(full(line.not_held(5000, post.call(&once, "a")).await), said);
    }
    assert_eq!(full(own.not_held(5000, read(&once, "a", &[])).await), said);
    // Others hold theirs, through the same point too; and who holds all that it may still asks. What was not held was
    // not charged either.
    assert_eq!(second.decided(1, read(&his, "a", &bobs), true).await.decision, "allow");
    assert_eq!(Line::open(&bob.0).await.decided(1, read(&his, "a", &[]), true).await.decision, "allow");
    assert_eq!(second.decided(2, post.call(&once, "a"), false).await.decision, "allow");

    // One that is reported is room for one, on whichever stream; one that is denied takes none.
    first.done(5001, &invocation).await;
    for _ in 0..3 {
        assert_eq!(second.decided(3, post.call(&once, "a"), true).await.reasons[0].code, "limit_reached");
    }
    assert_eq!(second.decided(3, post.call(&token, "a"), true).await.decision, "allow");
    assert_eq!(full(own.not_held(5001, read(&token, "a", &[])).await), said);

    // The room of a stream that went away is there again, once the broker has heard of it.
    drop(first);
    let again = async {
        loop {
            own.says(5002, asks(read(&token, "a", &[])), true).await;
            match own.hears(5002).await {
                Said::Decided(decided) => break assert_eq!(decided.decision, "allow"),
                Said::Refused(refusal) => assert_eq!(full(refusal), said),
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::time::timeout(LONG, again).await.expect("a stream that is gone holds calls");
    post.broker.run(&["revoke", &grant, "--reason", "testing"]).ok();
    for _ in 600..1024 + 1 {
        let message = own.next().await.unwrap().unwrap();
        assert!(matches!(message.said, Some(Said::Ended(_))), "{message:?}");
    }
    assert_eq!(second.ended(3).await, "grant_revoked");
}

#[tokio::test]
async fn what_is_ended_is_held_no_longer() {
    let post = Post::new().await;
    let args = format!(r#"{{"a":"{}"}}"#, "x".repeat(60_000));
    let mut line = Line::open(&post.gate).await;
    // Three times as much as it may hold at once.
    for _ in 0..6 {
        let (_, grant, token) = post.granted(0, &[]).await;
        for id in 0..140 {
            let call = v1::AuthorizeRequest { args: args.clone(), ..post.call(&token, "a") };
            assert_eq!(line.decided(id, call, true).await.decision, "allow");
        }
        post.broker.run(&["revoke", &grant, "--reason", "testing"]).ok();
        for _ in 0..140 {
            let message = line.next().await.unwrap().unwrap();
            assert!(matches!(message.said, Some(Said::Ended(_))), "{message:?}");
        }
    }
}

fn asks(call: v1::AuthorizeRequest) -> Asks {
    Asks::Authorize(Box::new(call))
}

#[tokio::test]
async fn what_the_arguments_of_held_calls_take_is_bounded_by_memory_and_not_by_their_text() {
    let post = Post::new().await;
    let (_, _, token) = post.granted(0, &[]).await;
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(60_000));
    // As long a text, and some forty times the memory.
    let many = format!(r#"{{"a":[{}1]}}"#, "1,".repeat(30_000));
    let mut line = Line::open(&post.gate).await;
    let mut id = 0;
    for (args, expected) in [(long, 270..=280), (many, 3..=12)] {
        let call = || v1::AuthorizeRequest { args: args.clone(), ..post.call(&token, "a") };
        let mut held = Vec::new();
        let told = loop {
            id += 1;
            line.says(id, asks(call()), true).await;
            match line.hears(id).await {
                Said::Decided(decided) => held.push(decided.id),
                Said::Refused(refusal) => break full(refusal),
                other => panic!("{other:?}"),
            }
        };
        assert!(told.contains("16 MiB") && told.contains("fewer arguments"), "{told}");
        assert!(expected.contains(&held.len()), "{} are held", held.len());
        // A small one has room beside them.
        id += 1;
        let small = line.decided(id, post.call(&token, "a"), true).await;
        for (at, one) in held.iter().chain([&small.id]).enumerate() {
            line.done(1_000_000 + at as u64, one).await;
        }
    }
}

#[tokio::test]
async fn an_agent_has_so_many_streams_open_and_asks_on_beside_them() {
    let post = Post::new().await;
    let (_, _, token) = post.granted(0, &[]).await;
    let mut open = Vec::new();
    for _ in 0..128 {
        open.push(Line::open(&post.ana.0).await);
    }
    let told = Refusal::from(Line::try_open(&post.ana.0).await.err().unwrap());
    assert_eq!(told.reason, "too_many_streams");
    assert_eq!(told.message, "128 streams of agent `ana` are open, as many as may be; use one of them");
    assert_eq!(post.ana.decided(&token).await, "in_scope");
    assert_eq!(open[127].decided(1, read(&token, "a", &[]), true).await.decision, "allow");
    let (bob, ..) = post.another("bob").await;
    drop((Line::open(&bob.0).await, Line::open(&post.gate).await));
    open.pop();
    let again = async {
        while let Err(status) = Line::try_open(&post.ana.0).await {
            assert_eq!(Refusal::from(status).reason, "too_many_streams");
        }
    };
    tokio::time::timeout(LONG, again).await.expect("a stream that is gone is counted");
}
