use proptest::prelude::*;

use super::*;
use crate::domain::catalog::{Catalog, Draft, DraftTool};
use crate::domain::error::Error;

fn tool(name: &str) -> DraftTool {
    let (name, owner) = (name.to_owned(), "team".to_owned());
    DraftTool { name, owner, destinations: Vec::new(), ticket: false, action: Vec::new() }
}

/// A route written on one line: `GET HOST/PATH CALL`, `json POST HOST/PATH CALL`, `rpc POST HOST/PATH SERVER` or
/// `mcp SERVER TOOL CALL`.
fn draft(line: &str) -> DraftRoute {
    let words: Vec<&str> = line.split(' ').collect();
    let some = |word: &str| Some(word.to_owned());
    let on = |method: &str, place: &str| {
        let (host, path) = place.split_at(place.find('/').unwrap_or(place.len()));
        DraftRoute { method: some(method), host: some(host), path: some(path), ..DraftRoute::default() }
    };
    match words[..] {
        ["mcp", server, tool, call] => {
            DraftRoute { mcp: some(server), tool: some(tool), call: some(call), ..DraftRoute::default() }
        }
        ["rpc", method, place, server] => DraftRoute { mcp: some(server), ..on(method, place) },
        ["json", method, place, call] => DraftRoute { call: some(call), body: some("json"), ..on(method, place) },
        [method, place, call] => DraftRoute { call: some(call), ..on(method, place) },
        _ => panic!("{line}"),
    }
}

fn build(routes: &[&str]) -> Result<Catalog, Error> {
    let route = routes.iter().map(|line| draft(line)).collect();
    Catalog::build(Draft { tool: vec![tool("github"), tool("mail")], route, ..Draft::default() })
}

fn catalog(routes: &[&str]) -> Catalog {
    build(routes).unwrap_or_else(|error| panic!("{error}"))
}

/// `GET https://HOST/PATH`, with this body.
fn ask(catalog: &Catalog, method: &str, place: &str, body: Body<'_>) -> Result<String, &'static str> {
    let (host, path) = place.split_at(place.find('/').unwrap_or(place.len()));
    let call = catalog.http(&HttpRequest { method, scheme: "https", host, path, body }).map_err(|reason| {
        assert!(!reason.message.chars().any(char::is_control) && reason.message.len() < 800, "{}", reason.message);
        reason.code
    })?;
    Ok(if call.args.is_empty() { call.to_string() } else { format!("{call} {}", call.args) })
}

fn get(catalog: &Catalog, place: &str) -> Result<String, &'static str> {
    ask(catalog, "GET", place, Body::Withheld)
}

fn message(catalog: &Catalog, method: &str, params: &str) -> Result<String, &'static str> {
    let params = (!params.is_empty()).then_some(params);
    let call = catalog.mcp(&McpMessage { server: "github", method, params }).map_err(|reason| reason.code)?;
    Ok(if call.args.is_empty() { call.to_string() } else { format!("{call} {}", call.args) })
}

#[test]
fn a_request_is_the_call_of_the_route_that_says_most_of_it() {
    let catalog = catalog(&[
        "GET api.example/repos/{owner}/{repo} github:repo.read@repo/{owner}/{repo}",
        "GET api.example/repos/acme/{repo} github:own.read@repo/{repo}",
        "GET api.example/repos/{owner}/vault github:vault.read@vault/{owner}",
        "GET api.example/repos/{path...} github:any.read@any/{path...}",
        "DELETE api.example/repos/{owner}/{repo} github:repo.delete@repo/{owner}/{repo}",
        "GET api.example:8443/repos/{owner}/{repo} github:port.read@repo/{repo}/{owner}",
        "GET *.example/{path...} github:below.read@below/{path...}",
        "GET *.api.example/{path...} github:nearer.read@near/{path...}",
        "GET api.example/ github:root.read@root",
        "GET api.example/dir/ github:dir.read@dir",
        "GET [::1]/x github:six.read@six",
    ]);
    let same = |place: &str, call: &str| assert_eq!(get(&catalog, place).as_deref(), Ok(call), "{place}");
    same("api.example/repos/octo/web", "github:repo.read@repo/octo/web");
    same("API.Example:443/repos/octo/web", "github:repo.read@repo/octo/web");
    same("api.example/repos/%6fcto/we%62", "github:repo.read@repo/octo/web");
    same("api.example/repos/acme/vault", "github:own.read@repo/vault");
    same("api.example/repos/octo/vault", "github:vault.read@vault/octo");
    same("api.example/repos/octo/web/issues/7", "github:any.read@any/octo/web/issues/7");
    same("api.example:8443/repos/octo/web", "github:port.read@repo/web/octo");
    same("api.example:8080/repos/octo/web", "github:repo.read@repo/octo/web");
    same("api.example/elsewhere", "github:below.read@below/elsewhere");
    same("x.api.example/a", "github:nearer.read@near/a");
    same("y.x.api.example/a", "github:nearer.read@near/a");
    same("api.example/", "github:root.read@root");
    same("api.example/dir/", "github:dir.read@dir");
    same("api.example/dir", "github:below.read@below/dir");
    same("[::1]:8080/x", "github:six.read@six");
    assert_eq!(
        ask(&catalog, "DELETE", "api.example/repos/a/b", Body::Truncated).unwrap(),
        "github:repo.delete@repo/a/b"
    );
    let unknown = [
        "example/a", "api.example.evil/repos/a/b", "xapi.examplex/", "other/", "api.example/dir2/",
        "api.example/repos/a/b/", "[::1]/y", "api.example/repos/",
    ];
    for place in unknown {
        assert_eq!(get(&catalog, place), Err("route_unknown"), "{place}");
    }
    for method in ["get", "GET ", "POST", "HEAD", "", "*"] {
        assert_eq!(
            ask(&catalog, method, "api.example/repos/a/b", Body::Complete(b"")),
            Err("route_unknown"),
            "{method}"
        );
    }
}

#[test]
fn a_call_goes_where_the_request_went() {
    let catalog = catalog(&["GET api.example/{x} github:read@{x}"]);
    let go = |scheme, host| {
        let request = HttpRequest { method: "GET", scheme, host, path: "/a?q=1", body: Body::Withheld };
        catalog.http(&request).map(|call| call.destination.unwrap()).map_err(|reason| reason.code)
    };
    assert_eq!(go("https", "Api.Example").unwrap(), "https://api.example");
    assert_eq!(go("HTTP", "api.example:8080").unwrap(), "http://api.example:8080");
    for (scheme, host) in [("", "api.example"), ("ftp", "api.example"), ("https", ""), ("https", "evil@api.example")] {
        assert_eq!(go(scheme, host), Err("route_malformed"), "{scheme} {host}");
    }
}

/// What one reader repairs and another does not, and what is hidden from the eye.
const TWOFOLD: &[&str] = &[
    "..", ".", "%2e%2e", "%2E", ".%2e", "a%2fb", "a%2Fb", "a%5cb", "a\\b", "%00", "a%00", "%0a", "%20", "a b", "a;b",
    "a%3bb", "..;", "", "%", "%2", "%zz", "%252e", "%25", "a%252fb", "*", "**", "%2a", "{x}", "%7bx%7d", "\u{e9}",
    "%c3%a9", "%ff", "%e2%80%ae", "a\tb", "a\0b", "%7f", "a|b", "a\"b", "a'b", "a<b", "%u002f", "a%3fb",
];

#[test]
fn a_path_that_can_be_read_in_two_ways_calls_nothing() {
    let catalog = catalog(&[
        "GET api.example/repos/{owner}/{repo} github:read@repo/{owner}/{repo}",
        "GET api.example/{path...} github:read@any/{path...}",
        "GET api.example/unnamed/{part}/y github:read@unnamed",
    ]);
    for part in TWOFOLD {
        for place in [
            format!("api.example/repos/{part}/web"),
            format!("api.example/repos/acme/{part}/x"),
            format!("api.example/x/{part}/y"),
            format!("api.example/unnamed/{part}/y"),
        ] {
            assert_eq!(get(&catalog, &place), Err("route_malformed"), "{place:?}");
        }
        // At the end an empty part is a `/` at the end.
        let expected = if part.is_empty() { "route_unknown" } else { "route_malformed" };
        assert_eq!(get(&catalog, &format!("api.example/x/{part}")), Err(expected), "{part:?}");
    }
    let long = format!("/{}", "a/".repeat(4096));
    for path in ["", "*", "a", "//", "//a", "/a//", "https://api.example/a", "/a#b", "/a?x#y", "?x", &long] {
        let request = HttpRequest { method: "GET", scheme: "https", host: "api.example", path, body: Body::Withheld };
        assert_eq!(catalog.http(&request).map_err(|reason| reason.code), Err("route_malformed"), "{path:.20}");
    }
    // Readable, but more than a call can hold.
    assert_eq!(get(&catalog, &format!("api.example/x/{}", "a".repeat(600))), Err("route_malformed"));
}

#[test]
fn parameters_are_arguments_and_each_is_given_once() {
    let catalog = catalog(&[
        "GET api.example/search github:search@all",
        "json POST api.example/send mail:send@out",
        "POST api.example/blind mail:blind@out",
    ]);
    let found = |query: &str| get(&catalog, &format!("api.example/search?{query}"));
    assert_eq!(found("").unwrap(), "github:search@all");
    assert_eq!(
        found("q=a+b%2Bc%26d&page=2&flag").unwrap(),
        "github:search@all {\"flag\":\"\",\"page\":\"2\",\"q\":\"a b+c&d\"}"
    );
    assert_eq!(found("q=a=b?c/d").unwrap(), "github:search@all {\"q\":\"a=b?c/d\"}");
    for query in
        ["q=1&q=2", "q=1&%71=2", "q=1&Q=2", "=1", "&", "q=1&", "q=%", "q=%ff", "q=%00", "q=1;to=2", "q=\u{e9}", "q=a b"]
    {
        assert_eq!(found(query), Err("route_malformed"), "{query}");
    }
    let send = |query: &str, body: &str| {
        ask(&catalog, "POST", &format!("api.example/send{query}"), Body::Complete(body.as_bytes()))
    };
    assert_eq!(send("?dry=1", r#"{"to":"a@b","n":1.0}"#).unwrap(), r#"mail:send@out {"dry":"1","n":1,"to":"a@b"}"#);
    for (query, body) in [("?to=x", r#"{"to":"x"}"#), ("?To=x", r#"{"to":"x"}"#), ("", r#"{"to":"x","TO":"y"}"#)] {
        assert_eq!(send(query, body), Err("route_malformed"), "{query} {body}");
    }
    let long = format!(r#"{{"x":"{}"}}"#, "a".repeat(65_536 - 8));
    assert!(send("", &long).is_ok());
    assert_eq!(send("?y=1", &long), Err("body_malformed"), "together they are too much");
    for body in ["", "[]", "null", "{", "a=1", r#"{"a":1,"a":2}"#, r#"{"a":{"b":1,"\u0062":2}}"#, "{}{}", "\u{feff}{}"]
    {
        assert_eq!(send("", body), Err("body_malformed"), "{body}");
    }
    assert_eq!(ask(&catalog, "POST", "api.example/send", Body::Complete(b"{\"a\":\"\xff\"}")), Err("body_malformed"));
    let unread =
        [(Body::Truncated, "body_truncated"), (Body::Withheld, "body_needed"), (Body::NotJson, "body_malformed")];
    for (body, code) in unread {
        assert_eq!(ask(&catalog, "POST", "api.example/send", body), Err(code));
        assert_eq!(
            ask(&catalog, "POST", "api.example/blind", body).unwrap(),
            "mail:blind@out",
            "its body is not looked at"
        );
    }
}

#[test]
fn a_tool_call_is_its_server_and_name_or_what_a_route_says() {
    let catalog = catalog(&[
        "mcp github get/issue github:issues.read@repo/{owner}/{repo}/{number}",
        "mcp github read_tree github:tree.read@tree/{path...}",
        "mcp mail getIssue mail:x@y",
    ]);
    let called = |params: &str| message(&catalog, "tools/call", params);
    for twins in [r#""to":1,"To":2"#, r#""to":1," to":2"#, r#""reset":1,"re\u017fet":2"#, r#""key":1,"\u212aey":2"#] {
        assert_eq!(called(&format!(r#"{{"name":"a","arguments":{{{twins}}}}}"#)), Err("route_malformed"), "{twins}");
    }
    assert_eq!(called(r#"{"name":"getIssue"}"#).unwrap(), "github:getIssue@mcp");
    let said = r#"{"name":"issues.get-one","arguments":{"n":1},"_meta":{"a":1,"a":2}}"#;
    assert_eq!(called(said).unwrap(), r#"github:issues.get-one@mcp {"n":1}"#);
    let routed = called(r#"{"name":"get/issue","arguments":{"owner":"acme","repo":"web","number":7}}"#).unwrap();
    assert_eq!(routed, r#"github:issues.read@repo/acme/web/7 {"number":7,"owner":"acme","repo":"web"}"#);
    let tree = called(r#"{"name":"read_tree","arguments":{"path":"src/main.rs"}}"#).unwrap();
    assert_eq!(tree, r#"github:tree.read@tree/src/main.rs {"path":"src/main.rs"}"#);
    let numbered = |owner: &str, number: &str| {
        called(&format!(r#"{{"name":"get/issue","arguments":{{{owner}"repo":"web","number":{number}}}}}"#))
    };
    assert!(numbered(r#""owner":"acme","#, "1e2").unwrap().starts_with("github:issues.read@repo/acme/web/100 "));
    for owner in ["", r#""owner":null,"#, r#""owner":["a"],"#, r#""owner":{},"#, r#""owner":1.5,"#, r#""owner":true,"#]
    {
        assert_eq!(numbered(owner, "7"), Err("route_malformed"), "{owner}");
    }
    for number in ["7.5", "1e-1", "null", "[7]", "\"7/8\"", "\"\""] {
        assert_eq!(numbered(r#""owner":"acme","#, number), Err("route_malformed"), "{number}");
    }
    for owner in ["a/b", "..", ".", "", "*", "**", "a b", "a\\\\b", "%2e", "\\u0000", "\u{e9}", "{owner}"] {
        let said = format!(r#"{{"name":"get/issue","arguments":{{"owner":"{owner}","repo":"web","number":7}}}}"#);
        assert_eq!(called(&said), Err("route_malformed"), "{owner}");
    }
    for path in ["", "/", "/a", "a/", "a//b", "../x", "a/../b", "a/*", "**"] {
        let said = format!(r#"{{"name":"read_tree","arguments":{{"path":"{path}"}}}}"#);
        assert_eq!(called(&said), Err("route_malformed"), "{path}");
    }
    for name in
        ["", "a/b", "a:b", "a b", "*", "a.*", "a@b", ".", "a..b", "\u{430}", "mcp", "mcp.ping", "mcp.tools.list"]
    {
        assert_eq!(called(&format!(r#"{{"name":"{name}"}}"#)), Err("method_unknown"), "{name}");
    }
    for params in [
        "",
        "{}",
        "[]",
        "null",
        "{",
        r#"{"name":7}"#,
        r#"{"name":"a","name":"b"}"#,
        r#"{"name":"a","Name":"b"}"#,
        r#"{"name":"a","arguments":[]}"#,
        r#"{"name":"a","arguments":null}"#,
        r#"{"name":"a","arguments":{"x":1,"x":2}}"#,
        r#"{"name":"a","task":{}}"#,
    ] {
        assert_eq!(called(params), Err("body_malformed"), "{params}");
    }
}

#[test]
fn every_method_is_a_call_and_only_those_of_a_session_are_free() {
    let catalog = catalog(&[]);
    let made =
        |method: &str| catalog.mcp(&McpMessage { server: "github", method, params: Some(r#"{"uri":"x","_meta":{}}"#) });
    for method in [
        "initialize", "ping", "tools/list", "logging/setLevel", "notifications/initialized",
        "notifications/roots/list_changed",
    ] {
        let call = made(method).unwrap();
        assert!(is_session(&call) && call.args.is_empty(), "{call}");
        assert_eq!(call.to_string(), format!("github:mcp.{}@mcp", method.replace('/', ".")));
    }
    for method in [
        "resources/read", "prompts/get", "tools/call/x", "Initialize", "pings", "notifications", "tools", "tools/List",
        "tasks/result",
    ] {
        let call = made(method).unwrap();
        assert!(!is_session(&call), "{call}");
        assert_eq!(call.args.to_string(), r#"{"uri":"x"}"#);
    }
    for method in [
        "", "tools.list", "/ping", "ping/", "a//b", "*", "tools/*", "../ping", "a b", "ping\n", "notifications/a.b",
        "rpc:x", "p\u{456}ng",
    ] {
        assert_eq!(made(method).map_err(|reason| reason.code), Err("method_unknown"), "{method:?}");
    }
    for params in ["[]", "null", "{", r#"{"a":1,"a":2}"#] {
        assert_eq!(message(&catalog, "resources/read", params), Err("body_malformed"), "{params}");
        assert_eq!(message(&catalog, "ping", params), Err("body_malformed"), "{params}");
    }
    let elsewhere = crate::domain::scope::Call::parse("github", "mcp.ping", "repo").unwrap();
    assert!(!is_session(&elsewhere));
    assert!(catalog.mcp(&McpMessage { server: "Git Hub", method: "ping", params: None }).is_err());
}

#[test]
fn the_body_of_an_mcp_endpoint_is_one_message() {
    let catalog = catalog(&["rpc POST mcp.example/mcp github", "mcp github x github:mapped@{id}"]);
    let post = |body: &str| ask(&catalog, "POST", "mcp.example/mcp", Body::Complete(body.as_bytes()));
    let said = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"n":1}}}"#;
    assert_eq!(post(said).unwrap(), r#"github:a@mcp {"n":1}"#);
    assert_eq!(
        post(&said.replace("\"a\"", "\"x\"").replace("\"n\":1", "\"id\":9")).unwrap(),
        r#"github:mapped@9 {"id":9}"#
    );
    assert_eq!(
        post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).unwrap(),
        "github:mcp.notifications.initialized@mcp"
    );
    for body in [
        "",
        "[]",
        "7",
        r#"{"id":1,"method":"ping"}"#,
        r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
        r#"{"jsonrpc":2.0,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":["ping"]}"#,
        r#"{"jsonrpc":"2.0","method":"ping","method":"tools/call"}"#,
        r#"{"jsonrpc":"2.0","method":"ping","Method":"tools/call"}"#,
        &format!("[{said}]"),
        &format!("{said}{said}"),
        &said[..40],
        &format!("\u{feff}{said}"),
    ] {
        assert_eq!(post(body), Err("body_malformed"), "{body}");
    }
    for (body, code) in
        [(Body::Truncated, "body_truncated"), (Body::Withheld, "body_needed"), (Body::NotJson, "body_malformed")]
    {
        assert_eq!(ask(&catalog, "POST", "mcp.example/mcp", body), Err(code));
    }
    assert_eq!(ask(&catalog, "POST", "mcp.example/mcp?a=1", Body::Complete(said.as_bytes())), Err("route_malformed"));
    assert_eq!(post(r#"{"jsonrpc":"2.0","method":"rpc.discover"}"#), Err("method_unknown"));
}

#[test]
fn a_route_that_is_not_clear_is_refused() {
    let wrong = [
        ("GET api.example/x gitlab:read@x", "gitlab"),
        ("GET api.example/x github:read@repo/{id}", "{id}"),
        ("GET api.example/{id...} github:read@repo/{id}", "{id}"),
        ("GET api.example/{id} github:read@repo/{id...}", "{id...}"),
        ("GET api.example/{a}/{a} github:read@x", "twice"),
        ("GET api.example/{a...}/b github:read@x", "last"),
        ("GET api.example/x github:{id}@x", "no action"),
        ("GET api.example/x github:*@x", "no action"),
        ("GET api.example/x github:issues.*@x", "no action"),
        ("GET api.example/x github:read@*", "neither"),
        ("GET api.example/x github:read@**", "neither"),
        ("GET api.example/x github:read@a-{id}", "neither"),
        ("GET api.example/x github:read@../x", "neither"),
        ("GET api.example/x github:mcp.ping@mcp", "kept"),
        ("GET api.example/x github:mcp@mcp", "kept"),
        ("GET api.example/x github", "tool:action@resource"),
        ("GET api.example/x Git:read@x", "Git"),
        ("GET api.example/../x github:read@x", "neither"),
        ("GET api.example//x github:read@x", "neither"),
        ("GET api.example/x;y github:read@x", "neither"),
        ("GET api.example/%41 github:read@x", "neither"),
        ("GET api.example/* github:read@x", "neither"),
        ("GET api.example/{} github:read@x", "placeholder"),
        ("GET api.example/{a!} github:read@x", "placeholder"),
        ("GET api.example github:read@x", "begins with"),
        ("GET *.0.0.1/x github:read@x", "host"),
        ("GET */x github:read@x", "host"),
        ("GET a.*.b/x github:read@x", "host"),
        ("GET a.example:0x50/x github:read@x", "host"),
        ("GET /x github:read@x", "host"),
        ("GET u@a.example/x github:read@x", "host"),
        ("get api.example/x github:read@x", "capitals"),
        ("* api.example/x github:read@x", "capitals"),
        ("rpc POST api.example/x gitlab", "gitlab"),
        ("mcp gitlab x github:read@x", "gitlab"),
        ("mcp github x gitlab:read@x", "gitlab"),
        ("mcp github  github:read@x", "1 to 256"),
    ];
    for (line, named) in wrong {
        let error = build(&[line]).unwrap_err();
        assert_eq!(error.field, Some("route"), "{line}");
        assert!(error.message.contains(named) && error.message.lines().count() == 1, "{line}: {error}");
    }
    let good = draft("json POST api.example/x github:read@x");
    let (x, none) = (|| Some("github".to_owned()), || None);
    for form in [
        DraftRoute::default(),
        DraftRoute { call: none(), ..good.clone() },
        DraftRoute { host: none(), ..good.clone() },
        DraftRoute { mcp: x(), ..good.clone() },
        DraftRoute { mcp: x(), call: none(), ..good.clone() },
        DraftRoute { tool: x(), ..good.clone() },
        DraftRoute { body: x(), ..good.clone() },
        DraftRoute { mcp: x(), ..DraftRoute::default() },
        DraftRoute { tool: x(), call: good.call.clone(), ..DraftRoute::default() },
        DraftRoute { body: Some("json".to_owned()), ..draft("mcp github x github:read@x") },
        DraftRoute { method: x(), ..draft("mcp github x github:read@x") },
    ] {
        let draft = Draft { tool: vec![tool("github")], route: vec![form.clone()], ..Draft::default() };
        assert_eq!(Catalog::build(draft).unwrap_err().field, Some("route"), "{form}");
    }
}

#[test]
fn no_request_has_two_routes_that_say_as_much_of_it() {
    let twins = [
        ["GET a.b/x github:read@x", "GET a.b/x mail:read@y"],
        ["GET a.b/x github:read@x", "GET A.B/x github:read@x"],
        ["GET a.b/{x} github:read@{x}", "GET a.b/{y} github:read@{y}"],
        ["GET a.b/{x...} github:read@x", "GET a.b/{y...} github:read@x"],
        ["GET *.b/x github:read@x", "GET *.b/x github:write@x"],
        ["GET a.b:1/x github:read@x", "GET a.b:1/x github:write@x"],
        ["rpc POST a.b/x github", "json POST a.b/x github:read@x"],
        ["mcp github x github:read@x", "mcp github x github:write@x"],
    ];
    for twins in twins {
        let error = build(&twins).unwrap_err();
        assert_eq!((error.reason, error.field), ("malformed", Some("route")), "{twins:?}");
    }
    catalog(&[
        "GET a.b/x github:read@x", "GET a.b/x/ github:read@x", "GET a.b:1/x github:read@x", "POST a.b/x github:read@x",
    ]);
    catalog(&["mcp github x github:read@x", "mcp mail x github:read@x"]);
}

#[test]
fn routes_are_entries_of_a_catalog_like_others() {
    let one = catalog(&["GET a.b/x github:read@x", "rpc POST a.b/mcp github"]);
    let two = catalog(&["json GET a.b/x github:read@x", "mcp github a/b mail:send@{to}"]);
    assert_eq!(one.counts(), (2, 0, 0, 2));
    let said: Vec<String> = one.diff(&two).iter().map(ToString::to_string).collect();
    let expected = [
        "changed route GET a.b/x: github:read@x -> github:read@x, with the JSON body",
        "removed route POST a.b/mcp: MCP messages for github",
        "added route mcp github a/b: mail:send@{to}",
    ];
    assert_eq!(said, expected);
    let many: Vec<String> = (0..10_001).map(|at| format!("GET a.b/{}/{at}/{{x}} github:read@{{x}}", at % 7)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(get(&catalog(&many[..10_000]), "a.b/3/17/q").unwrap(), "github:read@q");
    assert!(build(&many).unwrap_err().message.contains("10000"));
}

/// Parts of paths, most of them plain.
fn parts(least: usize) -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec("[A-Za-z0-9_~:@+=,-][A-Za-z0-9._~:@+=,-]{0,6}", least..6)
}

/// The same part with some of its bytes escaped.
fn escaped(part: &str, which: u64) -> String {
    let byte = |(at, byte): (usize, u8)| {
        if which >> (at % 64) & 1 == 1 { format!("%{byte:02x}") } else { char::from(byte).to_string() }
    };
    part.bytes().enumerate().map(byte).collect()
}

proptest! {
    #[test]
    fn a_request_made_from_a_route_leads_back_to_its_values(values in parts(1), which in any::<u64>(), many in any::<bool>()) {
        let names: Vec<String> = (0..values.len()).map(|at| format!("{{p{at}}}")).collect();
        let names = if many { vec!["{p...}".to_owned()] } else { names };
        let catalog = catalog(&[
            &format!("GET a.b/lead/{} github:read@got/{}", names.join("/"), names.join("/")),
            "GET a.b/other/{x} github:read@{x}",
        ]);
        let sent: Vec<String> = values.iter().map(|value| escaped(value, which)).collect();
        prop_assert_eq!(get(&catalog, &format!("a.b/lead/{}", sent.join("/"))), Ok(format!("github:read@got/{}", values.join("/"))));
    }

    #[test]
    fn nothing_that_reads_in_two_ways_is_ever_routed(before in parts(0), at in 0..TWOFOLD.len(), after in parts(1), query in "(\\?[a-z]=[a-z])?") {
        let catalog = catalog(&["GET a.b/{all...} github:read@{all...}"]);
        let path: Vec<&str> = before.iter().map(String::as_str).chain([TWOFOLD[at]]).chain(after.iter().map(String::as_str)).collect();
        let path = format!("a.b/{}{query}", path.join("/"));
        prop_assert_eq!(get(&catalog, &path), Err("route_malformed"), "{}", path);
    }

    #[test]
    fn a_placeholder_is_one_part_whatever_stands_for_it(path in "(/|%2f|%2F|\\.\\.|%2e|\\\\|%5c|;|\\*|[a-c]|%61|%|\\?|&|=|#|//){1,9}", owner in "[a-c/.*%\\\\]{0,5}") {
        let catalog = catalog(&["GET a.b/r/{x}/{y} github:read@r/{x}/{y}", "mcp github t github:read@r/{x}"]);
        let request = HttpRequest { method: "GET", scheme: "https", host: "a.b", path: &format!("/r/{path}"), body: Body::Withheld };
        if let Ok(call) = catalog.http(&request) {
            prop_assert_eq!(call.resource.split('/').count(), 3);
            prop_assert!(call.resource.split('/').all(parts::is_name));
        }
        let params = serde_json::json!({ "name": "t", "arguments": { "x": owner } }).to_string();
        if let Ok(call) = catalog.mcp(&McpMessage { server: "github", method: "tools/call", params: Some(&params) }) {
            prop_assert_eq!(call.resource, format!("r/{owner}"));
            prop_assert!(parts::is_name(&owner));
        }
    }
}
