//! Constraints on arguments: what they allow, how a child stands to its parent, and what is refused.

use belay::domain::scope::{Args, Call, Scope, Scopes};

fn scope(args: &str) -> Scope {
    format!("bank:send@**{{\"args\":{args}}}").parse().unwrap_or_else(|error| panic!("{error}"))
}

fn call(args: &str) -> Call {
    Call::parse("bank", "send", "accounts/1").unwrap().with_args(Args::parse(args).unwrap())
}

fn scopes(texts: &[&str]) -> Scopes {
    Scopes::parse(texts).unwrap()
}

fn texts(scopes: &Scopes) -> Vec<String> {
    scopes.iter().map(ToString::to_string).collect()
}

#[test]
fn a_constraint_allows_what_it_says_and_nothing_next_to_it() {
    let cases = [
        (r#"{"eq":1}"#, "1.0", "1.0000000000000000001"),
        (r#"{"eq":null}"#, "null", "0"),
        (r#"{"eq":{"a":[1,"x"]}}"#, r#"{"a":[1e0,"x"]}"#, r#"{"a":["x",1]}"#),
        (r#"{"in":["A","B"]}"#, r#""B""#, r#""b""#),
        (r#"{"in":[1,"1"],"eq":"1"}"#, r#""1""#, "1"),
        (r#"{"max":98.7}"#, "98.70", "98.70000000000000001"),
        (r#"{"max":100}"#, "-1e300", r#""50""#),
        (r#"{"min":0,"max":0}"#, "-0.0", "null"),
        (r#"{"min":9007199254740993}"#, "9007199254740993", "9007199254740992"),
        (r#"{"prefix":"/srv/data"}"#, r#""/srv/data/x""#, r#""/srv/data2""#),
        (r#"{"prefix":"a"}"#, r#""a/b""#, r#""a/%2e%2e/b""#),
        (r#"{"suffix":"acme.com"}"#, r#""bob@EU.acme.com""#, r#""bob@evilacme.com""#),
        (r#"{"suffix":"@acme.com"}"#, r#""bob@acme.com""#, r#""bob@eu.acme.com""#),
        (r#"{"glob":"a*"}"#, r#""a\n""#, r#"["a"]"#),
        (r#"{"glob":["a*","*b"]}"#, r#""ab""#, r#""a""#),
        (r#"{"max_len":2}"#, "\"\\ud83d\\ude00\u{e9}\"", r#""abc""#),
        (r#"{"max_len":1}"#, "[null]", "[1,2]"),
        (r#"{"max_len":9}"#, r#""""#, "5"),
    ];
    for (constraint, allowed, denied) in cases {
        let scope = scope(&format!("{{\"x\":{constraint}}}"));
        assert!(scope.allows(&call(&format!("{{\"x\":{allowed}}}"))), "{constraint} {allowed}");
        assert!(!scope.allows(&call(&format!("{{\"x\":{denied}}}"))), "{constraint} {denied}");
        assert!(!scope.allows(&call("{}")), "{constraint} has to be given");
    }
}

#[test]
fn an_argument_is_given_unless_it_is_optional_and_others_are_not_when_it_is_closed() {
    let any = scope(r#"{"x":{}}"#);
    assert!(any.allows(&call(r#"{"x":null,"y":1}"#)) && !any.allows(&call(r#"{"y":1}"#)));
    let optional = scope(r#"{"x":{"max":1,"optional":true}}"#);
    assert!(optional.allows(&call("{}")) && !optional.allows(&call(r#"{"x":null}"#)));
    let closed: Scope = r#"bank:send@**{"args":{"x":{"optional":true}},"closed":true}"#.parse().unwrap();
    assert!(
        closed.allows(&call("{}")) && closed.allows(&call(r#"{"x":1}"#)) && !closed.allows(&call(r#"{"x":1,"y":1}"#))
    );
    let nothing: Scope = r#"bank:send@**{"closed":true}"#.parse().unwrap();
    assert!(nothing.allows(&call("{}")) && !nothing.allows(&call(r#"{"x":null}"#)));
}

#[test]
fn a_scope_has_one_text_in_printable_ascii() {
    let forms = [
        ("bank:send@** {\n \"closed\" : true ,\"args\":{ } } ", r#"bank:send@**{"closed":true}"#),
        ("bank:send@**{}", "bank:send@**"),
        (r#"bank:send@**{"args":{"b":{"max":1e2},"a":{}}}"#, r#"bank:send@**{"args":{"a":{},"b":{"max":100}}}"#),
        (
            r#"bank:send@**{"args":{"x":{"in":["é b",1.0]}}}"#,
            r#"bank:send@**{"args":{"x":{"in":[1,"\u00e9\u0020b"]}}}"#,
        ),
        (r#"bank:send@**{"args":{"x":{"in":["A","A"]}}}"#, r#"bank:send@**{"args":{"x":{"eq":"A"}}}"#),
        (r#"bank:send@**{"args":{"x":{"in":[1,5,9],"max":5}}}"#, r#"bank:send@**{"args":{"x":{"in":[1,5]}}}"#),
        (r#"bank:send@**{"args":{"x":{"suffix":"ACME.com"}}}"#, r#"bank:send@**{"args":{"x":{"suffix":"acme.com"}}}"#),
        (r#"bank:send@**{"args":{"x":{"glob":["a**","*","a*"]}}}"#, r#"bank:send@**{"args":{"x":{"glob":"a*"}}}"#),
    ];
    for (text, form) in forms {
        let scope: Scope = text.parse().unwrap();
        assert_eq!(scope.to_string(), form);
        assert_eq!(form.parse::<Scope>().unwrap(), scope);
        assert!(form.bytes().all(|byte| byte.is_ascii_graphic()), "{form}");
    }
}

#[test]
fn constraints_that_are_not_wholly_understood_are_refused() {
    let deep = format!("{{\"x\":{{\"eq\":{}{}}}}}", "[".repeat(20), "]".repeat(20));
    let grows = format!("{{\"x\":{{\"eq\":\"{}\"}}}}", "\u{e9}".repeat(400));
    let long = format!("{{\"x\":{{\"eq\":\"{}\"}}}}", "a".repeat(2048));
    let args = [
        "[]", "1", "null", r#"{"x":1}"#, r#"{"x":null}"#, r#"{"x":{"eql":1}}"#, r#"{"x":{"in":[]}}"#,
        r#"{"x":{"in":1}}"#, r#"{"x":{"max":"1"}}"#, r#"{"x":{"max":null}}"#, r#"{"x":{"max":1e999}}"#,
        r#"{"x":{"min":2,"max":1}}"#, r#"{"x":{"max":1,"max":2}}"#, r#"{"x":{},"x":{}}"#, r#"{"x":{"prefix":""}}"#,
        r#"{"x":{"suffix":""}}"#, r#"{"x":{"suffix":"a@b"}}"#, r#"{"x":{"prefix":"a/../b"}}"#,
        r#"{"x":{"glob":"\\*"}}"#, r#"{"x":{"glob":[]}}"#, r#"{"x":{"glob":[1]}}"#, r#"{"x":{"max_len":-1}}"#,
        r#"{"x":{"max_len":1.5}}"#, r#"{"x":{"optional":false}}"#, r#"{"x":{"optional":1}}"#,
        r#"{"x":{"eq":1,"in":[2]}}"#, r#"{"x":{"eq":5,"max":1}}"#, r#"{"x":{"max":5,"prefix":"a"}}"#, r#"{"":{}}"#,
        &deep, &grows, &long,
    ];
    let whole = [
        r#"{"args":{}"#, r#"{"args":{}} x"#, r#"{"args":{},"args":{}}"#, r#"{"closed":false}"#, r#"{"closed":1}"#,
        r#"{"open":true}"#, r#"{"Args":{}}"#, "{}{}", "{\"args\":{}}\u{a0}", "{\"\u{202e}\":1}",
    ];
    let args = args.iter().map(|args| format!("{{\"args\":{args}}}"));
    for json in args.chain(whole.map(str::to_owned)) {
        let error = format!("bank:send@**{json}").parse::<Scope>().expect_err(&json);
        assert_eq!((error.reason, error.field), ("malformed", Some("scope")), "{json}");
        assert!(!error.message.contains('\n') && error.message.len() < 500, "{error}");
    }
}

#[test]
fn a_widening_names_the_exact_field() {
    let parent = r#"bank:send.*@accounts/*{"args":{"amount":{"max":100,"min":1},"to":{"in":["A","B"]},"cc":{"suffix":"acme.com","optional":true},"note":{"glob":"a*"},"path":{"prefix":"docs"},"list":{"max_len":3}},"closed":true}"#;
    let cases = [
        ("mail:send.x@accounts/1", "tool", "mail is not bank"),
        ("bank:*@accounts/1", "action", "* is not within send.*"),
        ("bank:send.x@accounts/**", "resource", "accounts/** is not within accounts/*"),
        (r#"{"amount":{"max":500}}"#, "args.amount.max", "500 is over 100"),
        (r#"{"amount":{"min":0.5}}"#, "args.amount.min", "0.5 is under 1"),
        (r#"{"amount":{"eq":100.5}}"#, "args.amount.eq", "100.5 must be at most 100"),
        (r#"{"to":{"in":["A","C"]}}"#, "args.to.in", r#""C" must be one of "A", "B""#),
        (r#"{"to":{"glob":"C*"}}"#, "args.to", "with what it inherits, no listed value passes the other bounds"),
        (r#"{"to":{"optional":true}}"#, "args.to.optional", "it may not be left out"),
        (r#"{"cc":{"suffix":"evilacme.com"}}"#, "args.cc.suffix", r#""evilacme.com" is not within "acme.com""#),
        (r#"{"note":{"glob":"*a"}}"#, "args.note.glob", r#""*a" is not within "a*""#),
        (r#"{"path":{"prefix":"docs2"}}"#, "args.path.prefix", r#""docs2" is not within "docs""#),
        (r#"{"list":{"max_len":4}}"#, "args.list.max_len", "4 is over 3"),
        (r#"{"other":{"optional":true}}"#, "args.other", "no such argument may be given"),
    ];
    for (child, field, why) in cases {
        let text =
            if child.starts_with('{') { format!("bank:send.x@accounts/1{{\"args\":{child}}}") } else { child.into() };
        let widening = scopes(&[parent]).within(&scopes(&[&text])).unwrap_err();
        assert_eq!((&*widening.field, &*widening.why), (field, why), "{child}");
        assert_eq!(widening.to_string(), format!("scope `{}` widens `{field}`: {why}", widening.scope));
    }
    let closed = r#"bank:send.x@accounts/1{"closed":true}"#;
    assert_eq!(scopes(&[parent]).within(&scopes(&[closed])).unwrap_err().field, "args.amount");
}

#[test]
fn what_a_child_leaves_out_it_inherits_from_every_parent_that_can_take_it() {
    let one = r#"bank:send@**{"args":{"amount":{"max":100}},"closed":true}"#;
    let two = r#"bank:*@**{"args":{"amount":{"max":5},"to":{"eq":"A"}}}"#;
    let within =
        |parents: &[&str], child| scopes(parents).within(&scopes(&[child])).map(|found| texts(&found)).unwrap();
    let small = r#"bank:send@a{"args":{"amount":{"min":1}}}"#;
    assert!(!one.parse::<Scope>().unwrap().covers(&small.parse().unwrap()), "covering is strict");
    assert_eq!(within(&[one], "bank:send@a"), [r#"bank:send@a{"args":{"amount":{"max":100}},"closed":true}"#]);
    assert_eq!(within(&[one], small), [r#"bank:send@a{"args":{"amount":{"max":100,"min":1}},"closed":true}"#]);
    assert_eq!(
        within(&[one, two], "bank:send@a"),
        [
            r#"bank:send@a{"args":{"amount":{"max":100}},"closed":true}"#,
            r#"bank:send@a{"args":{"amount":{"max":5},"to":{"eq":"A"}}}"#
        ]
    );
    let covered = r#"bank:send@a{"args":{"amount":{"eq":7}},"closed":true}"#;
    assert_eq!(within(&[one, two], covered), [covered], "what is covered stays as it is");
    assert_eq!(within(&[one, "bank:*@**"], "bank:send@a"), ["bank:send@a"]);
}

#[test]
fn narrowing_says_what_became_of_what_was_wanted() {
    let parent = scopes(&[r#"bank:send@**{"args":{"amount":{"max":100}}}"#, "mail:read@inbox/*"]);
    let wanted = scopes(&[
        r#"bank:*@a{"args":{"amount":{"max":500}}}"#,
        "mail:read@inbox/1",
        "mail:delete@inbox/1",
        r#"bank:send@b{"args":{"amount":{"min":101}}}"#,
    ]);
    let (left, differences) = parent.narrow(&wanted);
    let became = r#"bank:send@a{"args":{"amount":{"max":100}}}"#;
    assert_eq!(texts(&left.unwrap()), [became, "mail:read@inbox/1"]);
    let said: Vec<String> = differences.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            format!(r#"scope `bank:*@a{{"args":{{"amount":{{"max":500}}}}}}` became `{became}`"#),
            "scope `mail:delete@inbox/1` is gone".to_owned(),
            r#"scope `bank:send@b{"args":{"amount":{"min":101}}}` is gone"#.to_owned(),
        ]
    );
    assert_eq!(parent.narrow(&scopes(&["git:push@**"])).0, None);
}

#[test]
fn a_denial_says_what_to_change() {
    let held = scopes(&[
        r#"bank:send@accounts/*{"args":{"amount":{"max":100},"to":{"suffix":"acme.com"},"cc":{"optional":true}},"closed":true}"#,
        "bank:read@accounts/*",
    ]);
    let why = |args: &str| held.why_not(&call(args));
    assert_eq!(why(r#"{"amount":1,"to":"eve@evil.com"}"#), "`to` must end with `acme.com`");
    assert_eq!(why(r#"{"amount":500,"to":"acme.com"}"#), "`amount` must be at most 100");
    assert_eq!(why(r#"{"amount":"1","to":"acme.com"}"#), "`amount` must be a number");
    assert_eq!(why(r#"{"to":"acme.com","bcc":1}"#), "`amount` must be given; `bcc` must not be given");
    let other = |tool: &str, action: &str, resource: &str| held.why_not(&Call::parse(tool, action, resource).unwrap());
    assert_eq!(other("bank", "close", "accounts/1"), "action `close` must be `read` or `send`");
    assert_eq!(other("bank", "read", "keys/1"), "resource `keys/1` must be within `accounts/*`");
    assert_eq!(other("git", "push", "x"), "tool `git` must be `bank`");
    let odd = why("{\"amount\":1,\"to\":\"acme.com\",\"\u{202e}\\n\":1}");
    assert_eq!(odd, "`\\u202e\\u000a` must not be given");
}
