//! One verdict: the same call is decided the same, whoever translated it and through whichever door it came.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::support::cases::{Case, Parts};
use crate::support::hall::{DOORS, Hall};
use crate::support::property;

/// A call under a grant, and what has to be said of it.
type Row = (&'static str, &'static str, &'static str, &'static str, &'static str);

/// Under which grant, the call, its arguments, its destination, the code. Those that a request or a message makes as well
/// are asked about in all these ways.
const CALLS: &[Row] = &[
    ("wide", "files:read@a/b", "", "", "in_scope"),
    ("wide", "files:read@a/b", "", "https://files.example", "in_scope"),
    ("wide", "files:read@a/b", r#"{"q":"x y&z=%é","r":""}"#, "https://files.example", "in_scope"),
    ("wide", "files:read@a/b", r#"{"folder":"a","name":"b"}"#, "", "in_scope"),
    ("wide", "files:read@a/b", r#"{"folder":"a","name":"b"}"#, "https://mcp.example", "in_scope"),
    ("wide", "files:write@a/b/c", r#"{"n":[1,{"x":null}],"t":true}"#, "https://files.example", "in_scope"),
    ("wide", "bank:pay@accounts/1", r#"{"amount":5000}"#, "https://bank.example", "in_scope"),
    ("wide", "box:open@a", "", "", "in_scope"),
    ("wide", "files:search@mcp", r#"{"q":"x"}"#, "", "approval_needed"),
    // Out of scope, by tool, action, resource, argument and one too many.
    ("wide", "mail:send@a", "", "", "out_of_scope"),
    ("narrow", "files:write@a/b", "{}", "https://files.example", "out_of_scope"),
    ("narrow", "files:read@b/b", "", "https://files.example", "out_of_scope"),
    ("narrow", "files:read@b/b", r#"{"folder":"b","name":"b"}"#, "", "out_of_scope"),
    ("narrow", "files:read@a/b", r#"{"folder":"a","name":"b"}"#, "", "in_scope"),
    ("narrow", "files:read@a/b/c", "", "", "out_of_scope"),
    ("narrow", "bank:pay@accounts/1", r#"{"amount":50,"to":"x@acme.com"}"#, "https://bank.example", "in_scope"),
    ("narrow", "bank:pay@accounts/1", r#"{"amount":51,"to":"x@acme.com"}"#, "https://bank.example", "out_of_scope"),
    ("narrow", "bank:pay@accounts/1", r#"{"amount":50,"to":"x@acme.example"}"#, "https://bank.example", "out_of_scope"),
    ("narrow", "bank:pay@accounts/1", r#"{"amount":50}"#, "https://bank.example", "out_of_scope"),
    (
        "narrow",
        "bank:pay@accounts/1",
        r#"{"amount":50,"bcc":"y@acme.com","to":"x@acme.com"}"#,
        "https://bank.example",
        "out_of_scope",
    ),
    // Where it goes.
    ("wide", "bank:pay@accounts/1", "", "https://else.example", "destination_denied"),
    ("wide", "bank:pay@accounts/1", "", "", "destination_denied"),
    // What is frozen, what humans have to approve, what a policy forbids.
    ("wide", "files:write@frozen/a", "", "https://files.example", "frozen"),
    ("wide", "files:write@frozen", "", "https://files.example", "in_scope"),
    ("wide", "files:wipe@a/b", "", "https://files.example", "approval_needed"),
    ("wide", "files:wipe@a/b", "", "", "approval_needed"),
    ("wide", "gone:do@a", "", "", "in_scope"),
    ("wide", "bank:pay@accounts/1", r#"{"amount":5000.1}"#, "https://bank.example", "policy_denied"),
    ("wide", "bank:pay@accounts/1", r#"{"amount":5001}"#, "https://bank.example", "policy_denied"),
    // Limits: with room, spent, too much at once, and what does not add up.
    ("ample", "files:read@a/b", "", "https://files.example", "in_scope"),
    ("ample", "files:read@a/b", r#"{"folder":"a","name":"b"}"#, "", "in_scope"),
    ("spent", "files:read@a/b", "", "https://files.example", "limit_reached"),
    ("spent", "files:read@a/b", r#"{"folder":"a","name":"b"}"#, "", "limit_reached"),
    ("spent", "bank:pay@accounts/1", "", "https://else.example", "destination_denied"),
    ("summed", "bank:pay@accounts/1", r#"{"amount":100.01}"#, "https://bank.example", "limit_reached"),
    ("summed", "bank:pay@accounts/1", r#"{"amount":"1"}"#, "https://bank.example", "limit_argument"),
    ("summed", "bank:pay@accounts/1", "", "https://bank.example", "limit_argument"),
    ("summed", "bank:pay@accounts/1", r#"{"amount":0}"#, "https://bank.example", "in_scope"),
    // Whatever the grant was good for.
    ("cut", "files:read@a/b", "", "https://files.example", "grant_revoked"),
    ("cut", "files:read@a/b", r#"{"folder":"a","name":"b"}"#, "", "grant_revoked"),
    ("halted", "files:read@a/b", "", "https://files.example", "grant_suspended"),
    ("halted", "mail:send@a", "", "", "grant_suspended"),
    // Sessions: whoever may call anything of the tool.
    ("wide", "files:mcp.initialize@mcp", "", "", "in_scope"),
    ("narrow", "files:mcp.tools.list@mcp", "", "", "in_scope"),
    ("narrow", "files:mcp.tools.list@mcp", "", "https://mcp.example", "in_scope"),
    ("narrow", "bank:mcp.notifications.initialized@mcp", "", "", "in_scope"),
    ("narrow", "box:mcp.ping@mcp", "", "", "out_of_scope"),
    ("summed", "files:mcp.ping@mcp", "", "", "out_of_scope"),
    ("spent", "files:mcp.ping@mcp", "", "", "in_scope"),
    ("cut", "files:mcp.ping@mcp", "", "", "grant_revoked"),
    ("narrow", "files:mcp.resources.read@mcp", r#"{"uri":"file:///a"}"#, "", "out_of_scope"),
    ("wide", "files:mcp.resources.read@mcp", r#"{"uri":"file:///a"}"#, "", "in_scope"),
    ("wide", "bank:mcp.prompts.get@mcp", "", "", "destination_denied"),
    ("wide", "bank:mcp.prompts.get@mcp", "", "https://mcp.example", "in_scope"),
];

/// Requests that make no call: none but requests say them. Method, address, body, the code.
const REQUESTS: &[(&str, &str, &str, &str)] = &[
    ("GET", "files.example/", "", "route_unknown"),
    ("GET", "files.example/read", "", "route_unknown"),
    ("DELETE", "files.example/read/a/b", "", "route_unknown"),
    ("get", "files.example/read/a/b", "", "route_unknown"),
    ("GET", "files.example/write/a/b", "", "route_unknown"),
    ("GET", "elsewhere.example/read/a/b", "", "route_unknown"),
    ("GET", "a.files.example/read/a/b", "", "route_unknown"),
    ("GET", "files.example/read/a/../b", "", "route_malformed"),
    ("GET", "files.example/read/a%2fb", "", "route_malformed"),
    ("GET", "files.example/read//a", "", "route_malformed"),
    ("GET", "files.example/read/a?q=1&Q=2", "", "route_malformed"),
    ("GET", "files.example/read/*", "", "route_malformed"),
    ("GET", "files.example/read/a?q=x%00y", "", "route_malformed"),
    ("POST", "files.example/write/a?n=1", r#"{"n":1}"#, "route_malformed"),
    ("POST", "files.example/write/a", "", "body_malformed"),
    ("POST", "files.example/write/a", "[]", "body_malformed"),
    ("POST", "files.example/write/a", r#"{"n":1,"n":2}"#, "body_malformed"),
    ("POST", "files.example/write/a", r#"{"n":1"#, "body_malformed"),
    ("POST", "mcp.example/files", "{}", "body_malformed"),
    ("POST", "mcp.example/files", r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, "body_malformed"),
    ("POST", "mcp.example/files", r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, "body_malformed"),
    ("POST", "mcp.example/files?x=1", r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, "route_malformed"),
    ("POST", "mcp.example/files", r#"{"jsonrpc":"2.0","id":1,"method":"a.b"}"#, "method_unknown"),
];

/// Messages that make no call: server, method, params, the code. By HTTP they say the same.
const MESSAGES: &[(&str, &str, &str, &str)] = &[
    ("files", "tools.list", "", "method_unknown"),
    ("files", "tools//list", "", "method_unknown"),
    ("files", "tools/call", "", "body_malformed"),
    ("files", "tools/call", r#"{"arguments":{}}"#, "body_malformed"),
    ("files", "tools/call", r#"{"name":"x","arguments":[]}"#, "body_malformed"),
    ("files", "tools/call", r#"{"name":"x","Name":"y"}"#, "body_malformed"),
    ("files", "tools/call", r#"{"name":"mcp.ping"}"#, "method_unknown"),
    ("files", "tools/call", r#"{"name":"a b"}"#, "method_unknown"),
    ("files", "tools/call", r#"{"name":"read_file","arguments":{"folder":"a"}}"#, "route_malformed"),
    ("files", "tools/call", r#"{"name":"read_file","arguments":{"folder":"a","name":"../b"}}"#, "route_malformed"),
    ("files", "resources/read", "[]", "body_malformed"),
    // A name that no route gives a call is a call by that name: out of scope, but a call.
    ("box", "tools/call", r#"{"name":"shake"}"#, "out_of_scope"),
];

fn decision(code: &str) -> &'static str {
    match code {
        "in_scope" => "allow",
        "approval_needed" => "step_up",
        _ => "deny",
    }
}

/// How often each door was gone through.
type Doors = BTreeMap<&'static str, usize>;

/// Holds every door to what is expected; how many there were.
fn held(hall: &Hall, doors: &mut Doors, case: &Case, code: &str) -> usize {
    let rulings = hall.rulings(case, true);
    let expected = (decision(code).to_owned(), code.to_owned());
    for (door, ruling) in &rulings {
        assert_eq!(ruling, &expected, "{door}: {case:?}");
        *doors.entry(door).or_default() += 1;
    }
    rulings.len()
}

#[test]
fn every_door_says_the_same_of_a_call() {
    let hall = Hall::open();
    let mut doors = Doors::new();
    for (under, call, args, destination, code) in CALLS {
        let case = Case::of(under, Parts::new(call, args, destination));
        held(&hall, &mut doors, &case, code);
    }
    for (method, url, body, code) in REQUESTS {
        assert!(held(&hall, &mut doors, &Case::of_http("wide", method, url, body), code) > 0);
        // Whoever has no good credential hears of that, and of no route.
        held(&hall, &mut doors, &Case::of_http("cut", method, url, body), "grant_revoked");
    }
    for (state, code) in [("truncated", "body_truncated"), ("withheld", "body_needed"), ("not_json", "body_malformed")]
    {
        let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        for (url, body) in [("files.example/write/a", r#"{"n":1}"#), ("mcp.example/files", ping)] {
            held(&hall, &mut doors, &Case::of_http("wide", "POST", url, body).with_body(state), code);
        }
        // Where no body is read, none is needed.
        held(&hall, &mut doors, &Case::of_http("wide", "GET", "files.example/read/a", "").with_body(state), "in_scope");
    }
    for (server, method, params, code) in MESSAGES {
        assert!(held(&hall, &mut doors, &Case::of_mcp("wide", server, method, params), code) > 0);
        let params = if params.is_empty() { String::new() } else { format!(r#","params":{params}"#) };
        let message = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}"{params}}}"#);
        if *server == "files" {
            held(&hall, &mut doors, &Case::of_http("wide", "POST", "mcp.example/files", &message), code);
        }
    }
    // A door that nothing goes through would agree with all.
    assert!(doors.len() == DOORS.len() && doors.values().all(|count| *count >= 8), "{doors:?}");
    println!("{doors:?}");
}

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "frozen", "x.y", "a-b:c@d+e=f,g~h", "_"]).prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        prop::sample::select(vec!["", "x@acme.com", "x@acme.com.evil.example", "é ü", "a&b=c%20+d", "\u{0}\n"])
            .prop_map(str::to_owned),
        any::<String>().prop_map(|text| text.chars().take(12).collect()),
    ];
    let amount = prop::sample::select(vec![json!(0), json!(49.5), json!(50), json!(51), json!(100.01), json!(6000)]);
    prop_oneof![
        6 => text.prop_map(Value::String),
        6 => amount,
        1 => Just(json!(-1)),
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::Bool),
        1 => Just(json!({ "deep": [1, { "er": "x" }] })),
    ]
}

/// Calls, most of them such that a request or a message can make them.
fn calls() -> impl Strategy<Value = Case> {
    let under =
        prop::sample::select(vec!["wide", "wide", "wide", "narrow", "narrow", "ample", "spent", "summed", "cut"]);
    let what = prop_oneof![
        4 => Just(("files", "read", "https://files.example")),
        3 => Just(("files", "write", "https://files.example")),
        1 => Just(("files", "wipe", "https://files.example")),
        6 => Just(("bank", "pay", "https://bank.example")),
        1 => Just(("box", "open", "")),
        1 => Just(("mail", "send", "")),
        1 => Just(("files", "search", "")),
        1 => Just(("files", "mcp.tools.list", "")),
        1 => Just(("files", "mcp.resources.read", "")),
        1 => Just(("bank", "mcp.notifications.cancelled", "")),
    ];
    let place = (proptest::collection::vec(name(), 1..4), 0..6u8);
    let named = prop::sample::select(vec!["amount", "amount", "to", "q", "folder"]).prop_map(str::to_owned);
    let args = proptest::collection::btree_map(named, value(), 0..3);
    (under, what, place, args, 0..8u8).prop_map(|(under, (tool, action, goes), (place, form), args, goes_to)| {
        let mut args: Map<String, Value> = args.into_iter().collect();
        let session = action.starts_with("mcp.") && action != "mcp.resources.read";
        if session {
            args.clear();
        }
        let resource = match (tool, form) {
            _ if action.starts_with("mcp.") => "mcp".to_owned(),
            ("files", 0) => "mcp".to_owned(),
            ("files", 1..=3) if action == "read" && goes_to > 3 => {
                let [folder, file] = [place[0].clone(), place[place.len() - 1].clone()];
                let place = format!("{folder}/{file}");
                args.insert("folder".to_owned(), folder.into());
                args.insert("name".to_owned(), file.into());
                place
            }
            ("bank", 0..=4) => format!("accounts/{}", place[0]),
            _ => place.join("/"),
        };
        let destination = match goes_to {
            0 => "https://mcp.example",
            1 => "https://else.example",
            2..=5 if resource != "mcp" => goes,
            _ => "",
        };
        let destination = (!destination.is_empty()).then(|| destination.to_owned());
        Case::of(under, Parts { tool: tool.into(), action: action.into(), resource, args, destination })
    })
}

#[test]
fn every_door_says_the_same_of_any_call() {
    let hall = Hall::open();
    let cases = std::env::var("BELAY_CASES").ok().map_or(150, |cases| cases.parse().unwrap());
    let tally = std::cell::RefCell::new(BTreeMap::<String, (u32, usize)>::new());
    property::check(cases, &calls(), |case| {
        let rulings = hall.rulings(&case, false);
        let (first, ruling) = &rulings[0];
        for (door, other) in &rulings[1..] {
            prop_assert_eq!(ruling, other, "{} and {}: {:?}", first, door, case);
        }
        let mut tally = tally.borrow_mut();
        let (count, ways) = tally.entry(ruling.1.clone()).or_default();
        (*count, *ways) = (*count + 1, *ways + rulings.len());
        Ok(())
    });
    let tally = tally.into_inner();
    println!("{tally:?}");
    // Calls that are all denied alike would prove nothing, nor would calls that one door alone knows.
    assert!(tally.len() >= 5 && tally.contains_key("in_scope") && tally.contains_key("out_of_scope"), "{tally:?}");
    assert!(tally.values().all(|(count, ways)| *ways >= 8 * *count as usize), "{tally:?}");
}
