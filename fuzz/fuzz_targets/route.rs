//! A route and the requests on it: the first line may be one more route (METHOD HOST PATH CALL), the second is a request
//! (METHOD HOST PATH), all that follows its body.
#![no_main]

use belay::domain::catalog::{Body, Catalog, Draft, DraftRoute, DraftTool, HttpRequest, McpMessage, is_session};
use belay::domain::scope::{Call, Path};
use belay_fuzz::{is_fit_to_print, is_one_line};
use libfuzzer_sys::fuzz_target;

const TOOLS: [&str; 2] = ["github", "mail"];

fn tool(name: &str) -> DraftTool {
    let (name, owner) = (name.to_owned(), "team".to_owned());
    DraftTool { name, owner, destinations: Vec::new(), ticket: false, action: Vec::new() }
}

fn on(method: &str, host: &str, path: &str) -> DraftRoute {
    let some = |text: &str| Some(text.to_owned());
    DraftRoute { method: some(method), host: some(host), path: some(path), ..DraftRoute::default() }
}

fn routes() -> Vec<DraftRoute> {
    let some = |text: &str| Some(text.to_owned());
    let (call, tool) = (some("github:issues.read@repo/{owner}/{id}"), some("get issue"));
    vec![
        DraftRoute { call: some("github:read@repo/{owner}/{repo}"), ..on("GET", "a.example", "/repos/{owner}/{repo}") },
        DraftRoute { call: some("github:any@any/{path...}"), ..on("GET", "*.example", "/{path...}") },
        DraftRoute { call: some("mail:send@out"), body: some("json"), ..on("POST", "a.example", "/send") },
        DraftRoute { mcp: some("github"), ..on("POST", "a.example", "/mcp") },
        DraftRoute { mcp: some("github"), tool, call, ..DraftRoute::default() },
    ]
}

fn build(route: Vec<DraftRoute>) -> Option<Catalog> {
    let built = Catalog::build(Draft { tool: TOOLS.map(tool).to_vec(), route, ..Draft::default() });
    built.inspect_err(is_fit_to_print).ok()
}

/// What every call is, however it came about.
fn is_plain(call: &Call) {
    let again = Call::parse(&call.tool, &call.action, &call.resource).expect("a call is one when it is read again");
    assert_eq!(again.to_string(), call.to_string());
    assert!(Path::parse(&call.resource).is_some_and(|path| path.is_concrete()), "{call}");
    assert!(call.resource.split('/').all(|part| !matches!(part, "" | "." | "..")), "{call}");
}

fuzz_target!(|text: &str| {
    let (route, rest) = text.split_once('\n').unwrap_or(("", text));
    let (request, body) = rest.split_once('\n').unwrap_or((rest, ""));
    let written: Vec<&str> = route.splitn(4, ' ').collect();
    let more = match written[..] {
        [method, host, path, call] => vec![DraftRoute { call: Some(call.to_owned()), ..on(method, host, path) }],
        _ => Vec::new(),
    };
    let catalog = build(routes().into_iter().chain(more.clone()).collect()).or_else(|| build(routes()));
    let catalog = catalog.expect("the routes of this file are good");
    let asked: Vec<&str> = request.splitn(3, ' ').collect();
    if let [method, host, path] = asked[..] {
        for body in [Body::Complete(body.as_bytes()), Body::Truncated, Body::Withheld, Body::NotJson] {
            match catalog.http(&HttpRequest { method, scheme: "https", host, path, body }) {
                Ok(call) => {
                    is_plain(&call);
                    assert!(call.destination.as_ref().is_some_and(|going| going.starts_with("https://")), "{call}");
                    assert!(TOOLS.contains(&call.tool.as_str()), "{call}");
                    let resource = path.split('?').next().unwrap_or_default();
                    assert!(!resource.contains("..;") && !resource.to_ascii_lowercase().contains("%2f"), "{path}");
                }
                Err(reason) => is_one_line(&reason.message),
            }
        }
    }
    for (method, params) in [("tools/call", Some(body)), ("resources/read", Some(body)), (request, None)] {
        match catalog.mcp(&McpMessage { server: "github", method, params }) {
            Ok(call) => {
                is_plain(&call);
                assert!(method != "tools/call" || !is_session(&call), "{call}");
            }
            Err(reason) => is_one_line(&reason.message),
        }
    }
});
