//! The catalog file: what is refused and in which words, what an exchange would change, what is said of a call.

use std::fmt::Write as _;

use belay::broker::catalog::parse;
use belay::domain::catalog::{Body, Catalog, HttpRequest, Risk, Sensitivity};
use belay::domain::scope::{Action, Call, Path, Scopes};

const GITHUB: &str = r#"
[[tool]]
name = "github"
owner = "team-dev"
destinations = ["https://api.github.com"]
[[tool.action]]
name = "issues.*"
risk = "read"
[[tool.action]]
name = "issues.delete"
risk = "destructive"
[[tool.action]]
name = "workflows.write"
risk = "write"

[[resource]]
path = "github:repo/acme/*"
sensitivity = "internal"
[[resource]]
path = "github:repo/acme/vault"
sensitivity = "confidential"
"#;

const AWS: &str = r#"
[[tool]]
name = "aws"
owner = "team-ops"
[[resource]]
path = "aws:role/**"
sensitivity = "restricted"
[[edge]]
from = "github:workflows.write@repo/acme/web"
to = "aws:role/deploy"
"#;

fn tool(name: &str) -> String {
    format!("[[tool]]\nname = '{name}'\nowner = 'team'\n")
}

fn resource(path: &str) -> String {
    format!("[[resource]]\npath = '{path}'\nsensitivity = 'internal'\n")
}

fn edge(from: &str, to: &str) -> String {
    format!("[[edge]]\nfrom = '{from}'\nto = '{to}'\n")
}

fn good(text: &str) -> Catalog {
    parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// That this is refused, in one line that holds these words.
fn refused(text: &str, words: &[&str]) {
    let error = parse(text).err().unwrap_or_else(|| panic!("accepted:\n{text}")).to_string();
    assert!(!error.contains('\n') && error.len() < 600, "{error}");
    assert!(words.iter().all(|word| error.contains(word)), "{error}\nlacks one of {words:?}");
}

#[test]
fn a_catalog_is_read_whole() {
    let catalog = good(&[GITHUB, AWS].concat());
    assert_eq!(catalog.counts(), (2, 3, 1, 0));
    let github = catalog.tool("github").unwrap();
    assert_eq!((github.owner.as_str(), github.actions.len(), github.ticket), ("team-dev", 3, false));
    assert!(catalog.tool("gitlab").is_none());
    assert_eq!(good("").counts(), (0, 0, 0, 0));
}

#[test]
fn an_unknown_tool_is_refused_wherever_it_is_named() {
    refused(&resource("gitlab:repo"), &["resource `gitlab:repo`", "no tool `gitlab`"]);
    let known = tool("a") + &resource("a:x");
    refused(&(known.clone() + &edge("b:y@x", "a:x")), &["edge `b:y@x -> a:x`", "no tool `b`"]);
    refused(&(known.clone() + &edge("a:y@x", "b:x")), &["edge `a:y@x -> b:x`", "no tool `b`"]);
    refused(&(known + &edge("a:y@x", "a:z")), &["edge `a:y@x -> a:z`", "no [[resource]] covers a:z", "add"]);
}

#[test]
fn nothing_is_in_a_catalog_twice() {
    refused(&(tool("a") + &tool("b") + &tool("a")), &["tool `a`", "twice"]);
    let action = "[[tool.action]]\nname = 'x.*'\nrisk = 'read'\n";
    refused(&(tool("a") + action + action), &["action `a:x.*`", "twice"]);
    let all = tool("a") + &resource("a:x/*") + &resource("a:x/y") + &resource("a:x/*");
    refused(&all, &["resource `a:x/*`", "twice"]);
    let twice = resource("a:x") + &resource("a:x").replace("internal", "public");
    refused(&(tool("a") + &twice), &["resource `a:x`", "twice"]);
    let one = edge("a:y@x", "a:x");
    refused(&(tool("a") + &resource("a:x") + &one + &one), &["edge `a:y@x -> a:x`", "twice"]);
    good(&(tool("a") + &tool("b") + &resource("a:x") + &resource("b:x") + &one + &edge("a:z@x", "a:x")));
}

#[test]
fn a_malformed_entry_is_named_with_its_value() {
    for name in ["", "A", "a b", "a:b", "*", "a\u{430}", &"a".repeat(65)] {
        refused(&tool(name), &["tool"]);
    }
    refused("[[tool]]\nname = 'a'\nowner = ''\n", &["tool `a`", "owner"]);
    refused("[[tool]]\nname = 'a'\nowner = \"x\\u202ey\"\n", &["tool `a`", "owner"]);
    refused(&(tool("a") + "destinations = ['https://x@y']"), &["tool `a`", "https://x@y"]);
    for action in ["", "x*", "*.x", "x..y"] {
        refused(&(tool("a") + &format!("[[tool.action]]\nname = '{action}'\nrisk = 'read'\n")), &["action `a:"]);
    }
    let short = "[[tool.action]]\nname = 'x'\nrisk = 'read'\nschema_digest = 'sha256:ab'\n";
    refused(&(tool("a") + short), &["action `a:x`", "schema_digest"]);
    let digest = "sha256:".to_owned() + &"0a".repeat(32);
    good(&(tool("a") + &short.replace("sha256:ab", &digest)));
    refused(&(tool("a") + &short.replace("sha256:ab", &digest.to_uppercase())), &["schema_digest"]);
    for path in ["", "a", "a:", "a:x//y", "a:../x", "a:**/x", "a:/x", &format!("a:{}", "x".repeat(511))] {
        refused(&(tool("a") + &resource(path)), &["resource `"]);
    }
    for from in ["", "a", "a:x", "a:@x", "a:x@", "a:x@x?", "a:x@x{n<=1}", "a:x@x;n=1", "a:x@x[n=1]", "a:x@x "] {
        refused(&(tool("a") + &resource("a:x") + &edge(from, "a:x")), &["edge `"]);
    }
}

#[test]
fn an_error_in_the_file_names_its_line() {
    refused(&(tool("a") + "color = 'red'"), &["line 4", "color"]);
    refused("[[tool]]\nname = 'a'\nowner = \n", &["line 3"]);
    refused("[[resource]]\npath = 'a:x'\nsensitivity = 'secret'\n", &["line 3", "secret", "restricted"]);
    refused("[[tool]]\nname = 'a'\n", &["line 1", "owner"]);
    refused("[[tool]]\nname = 7\nowner = 'x'\n", &["line 2"]);
    refused("[[tools]]\nname = 'a'\n", &["tools"]);
    refused("\u{0}", &["line 1"]);
    refused("[[resource]]\npath = \"a\\nb:x\"\nsensitivity = 'public'\n", &["a\\nb:x", "no tool `a\\nb`"]);
    refused("tool = 'a'", &["line 1"]);
    refused(&("x=".to_owned() + &"[".repeat(100_000)), &["line 1"]);
}

#[test]
fn a_file_says_which_call_a_request_makes() {
    let route = "[[route]]\nhost = 'api.github.com'\nmethod = 'GET'\npath = '/repos/{owner}/{repo}/issues'\n\
                 call = 'github:issues.read@repo/{owner}/{repo}'\n";
    let catalog = good(&(GITHUB.to_owned() + route));
    let (path, body) = ("/repos/acme/web/issues?state=open", Body::Withheld);
    let request = HttpRequest { method: "GET", scheme: "https", host: "api.github.com", path, body };
    let call = catalog.http(&request).unwrap();
    assert_eq!(call.to_string(), "github:issues.read@repo/acme/web");
    assert_eq!(call.args.to_string(), r#"{"state":"open"}"#);
    assert!(catalog.destination_allowed(&call.tool, call.destination.as_deref()));
    let unknown = catalog.http(&HttpRequest { path: "/user", ..request }).unwrap_err();
    assert_eq!(unknown.code, "route_unknown");
    refused(&(GITHUB.to_owned() + route + route), &["route", "GET api.github.com/repos", "twice"]);
    refused(&(GITHUB.to_owned() + route + "tools = 'x'\n"), &["line", "tools"]);
    refused(&(GITHUB.to_owned() + &route.replace("/{repo}'", "/{name}'")), &["route", "{name}"]);
}

#[test]
fn edges_may_lead_in_a_circle() {
    let text = ["a", "b"].map(tool).concat() + &["a:x", "b:**", "b:x"].map(resource).concat();
    let circle = edge("a:go@x", "b:x") + &edge("b:go@x", "a:x") + &edge("b:go@**", "b:**") + &edge("a:go@*", "a:x");
    let catalog = good(&(text + &circle));
    let reach = catalog.reach(&Scopes::parse(&["a:go@x"]).unwrap());
    assert_eq!(reach.resources, [0, 1, 2]);
}

#[test]
fn a_hundred_thousand_resources_are_a_catalog_and_more_than_may_be_are_not() {
    let mut text = tool("a");
    for at in 0..100_000 {
        write!(text, "{}", resource(&format!("a:x/{}/{at}", at % 317))).unwrap();
    }
    let catalog = good(&text);
    assert_eq!(catalog.counts(), (1, 100_000, 0, 0));
    let reach = catalog.reach(&Scopes::parse(&["a:go@x/*/4711", "a:go@x/5/**"]).unwrap());
    assert_eq!(reach.resources.len(), 1 + 316);
    for at in 100_000..=200_000 {
        write!(text, "{}", resource(&format!("a:x/{at}"))).unwrap();
    }
    refused(&text, &["resource", "200001", "200000"]);
}

/// Each pattern alone is harmless; together they would be ten billion pairs.
#[test]
fn wildcards_that_meet_too_often_are_refused() {
    let mut text = tool("a") + &resource("a:**");
    for at in 0..5000 {
        write!(text, "{}", edge(&format!("a:go@*/{at}/**"), &format!("a:{at}/**"))).unwrap();
    }
    refused(&text, &["edge", "20000000"]);
}

#[test]
fn a_difference_is_one_line_for_each_entry() {
    let (old, new) = (good(GITHUB), good(&(GITHUB.replace("destructive", "admin").replace("vault", "safe") + AWS)));
    let lines: Vec<String> = old.diff(&new).iter().map(ToString::to_string).collect();
    let expected = [
        "added tool aws: owner team-ops, goes anywhere",
        "changed action github:issues.delete: destructive -> admin",
        "added resource aws:role/**: restricted",
        "added resource github:repo/acme/safe: confidential",
        "removed resource github:repo/acme/vault: confidential",
        "added edge github:workflows.write@repo/acme/web -> aws:role/deploy",
    ];
    assert_eq!(lines, expected);
    assert_eq!(new.diff(&new), []);
    assert_eq!(Catalog::default().diff(&new).len(), new.diff(&Catalog::default()).len());
}

#[test]
fn what_is_not_in_the_catalog_is_taken_to_be_the_worst() {
    let catalog = good(&[GITHUB, AWS].concat());
    let about = |tool: &str, action: &str, resource: &str| {
        let about = catalog.about(tool, &Action::parse(action).unwrap(), &Path::parse(resource).unwrap());
        (about.risk, about.sensitivity, about.catalogued)
    };
    use {Risk::*, Sensitivity::*};
    assert_eq!(about("github", "issues.read", "repo/acme/web"), (Read, Internal, true));
    assert_eq!(about("github", "issues.delete", "repo/acme/vault"), (Destructive, Confidential, true));
    assert_eq!(about("github", "issues.*", "repo/acme/*"), (Destructive, Confidential, true));
    assert_eq!(about("github", "*", "repo/acme/web"), (Admin, Internal, false));
    assert_eq!(about("github", "issues.read", "repo/acme/**"), (Read, Restricted, false));
    assert_eq!(about("github", "issues.read", "repo/other"), (Read, Restricted, false));
    assert_eq!(about("gitlab", "issues.read", "repo/acme/web"), (Admin, Restricted, false));
    assert_eq!(about("aws", "assume", "role/deploy"), (Admin, Restricted, false));
    let call = catalog.about_call(&Call::parse("github", "issues.read", "repo/acme/vault").unwrap());
    assert_eq!((call.risk, call.sensitivity, call.catalogued), (Read, Confidential, true));
    assert_eq!(call.owner.unwrap().as_str(), "team-dev");
}

#[test]
fn a_call_goes_only_where_its_tool_may() {
    let catalog = good(&[GITHUB, AWS].concat());
    assert!(catalog.destination_allowed("github", Some("https://api.github.com/repos")));
    assert!(!catalog.destination_allowed("github", Some("https://api.github.com.evil.example/")));
    assert!(!catalog.destination_allowed("github", None));
    assert!(catalog.destination_allowed("aws", None) && catalog.destination_allowed("aws", Some("anything")));
}
