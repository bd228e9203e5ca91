//! S18: what destroys is asked for by an agent whose hook is gone, crashes, or fails, and over a tool that the hook is not
//! there for. As [`super::incidents`], with control runs.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::mission::apply;
use crate::support::postgres::{Postgres, READER};
use crate::support::process::Broker;

/// A login that only reads, and one that deletes; the tools of an MCP server; and the shell.
const CATALOG: &str = r#"
[[tool]]
name = "orders"
owner = "data"
ticket = true
[[tool.action]]
name = "lease"
risk = "read"
[[tool]]
name = "shop"
owner = "data"
[[tool.action]]
name = "count"
risk = "read"
[[tool.action]]
name = "wipe"
risk = "destructive"
[[tool.action]]
name = "mcp.*"
risk = "read"
[[tool]]
name = "claude"
owner = "ops"
[[tool.action]]
name = "bash"
risk = "write"
[[resource]]
path = "orders:app.read-only"
sensitivity = "internal"
[[resource]]
path = "orders:wiper"
sensitivity = "restricted"
[[resource]]
path = "shop:**"
sensitivity = "internal"
[[resource]]
path = "claude:**"
sensitivity = "internal"
"#;

const POLICY: &str = r#"
@id("what-is-restricted-needs-a-human")
forbid (principal, action in [Action::"request", Action::"delegate", Action::"invoke"], resource == Tool::"orders")
when { context.sensitivity_level >= 3 && context.approvals < 1 };

@id("known-commands-alone")
forbid (principal, action == Action::"invoke", resource == Tool::"claude")
when { context.approvals < 1 }
unless { context.args.hasTag("command") && ["sh ./work.sh count"].contains(context.args.getTag("command")) };
"#;

const WIPER: &str = "orders:lease@wiper";
/// What whoever counts is told.
const COUNTED: [&str; 3] = ["in_scope", "leased", "2"];
/// What whoever wipes is told: when it asks; when it leases without a ticket, and with the ticket of another call; when it
/// leases another role without a ticket; and by the database, when it takes the login of that role for it.
const REFUSED: [&str; 5] = [
    "approval_needed",
    "ticket_required",
    "ticket_other_call",
    "ticket_required",
    "ERROR:  permission denied for table orders",
];

/// Orders in a database, a broker that leases logins to it, and an agent with a project.
struct Shop {
    postgres: Postgres,
    broker: Broker,
    coder: PathBuf,
    project: PathBuf,
    task: String,
    grant: String,
}

/// A call of a tool: its name, and its input.
struct Made(&'static str, Value);

/// How a hook is spoilt, what does it, and what is called then.
type Spoilt<'a> = (&'a str, &'a dyn Fn(&Shop), &'a [Made]);

fn bash(what: &str) -> Made {
    Made("Bash", json!({ "command": format!("sh ./work.sh {what}") }))
}

fn mcp(what: &'static str) -> Made {
    Made(what, json!({}))
}

impl Shop {
    /// None where PostgreSQL is not installed.
    fn open(test: &str) -> Option<Self> {
        let postgres = Postgres::start(test)?;
        let broker = Broker::start();
        let url = broker.home.join("orders.url");
        std::fs::write(&url, postgres.broker_url()).unwrap();
        postgres.query("CREATE ROLE wiper NOLOGIN; GRANT SELECT, DELETE ON orders TO wiper");
        postgres.query("GRANT wiper TO broker WITH ADMIN OPTION");
        let url = format!("@{}", url.display());
        let add =
            ["backend", "add", "orders", "--kind", "postgres", "--url", &url, "--role", READER, "--role", "wiper"];
        broker.run(&add).ok();
        let coder = broker.agent("coder");
        let task = text(&broker.run_as(&coder, &["task", "start", "count orders"]).ok()["task"]["id"]);
        // From before anybody called any of it dangerous: each call is asked about all the same.
        let reader = format!("orders:lease@{READER}");
        let request =
            ["grant", "request", "--task", &task, "--scope", "claude:bash@shell", "shop:*@mcp", &reader, WIPER];
        let grant = text(&broker.run_as(&coder, &request).ok()["grant"]["id"]);
        apply(&broker, CATALOG, POLICY);
        let project = broker.home.join("project");
        std::fs::create_dir(&project).unwrap();
        std::fs::copy(script("work.sh"), project.join("work.sh")).unwrap();
        let shop = Self { postgres, broker, coder, project, task, grant };
        shop.put_in_place();
        Some(shop)
    }

    fn settings(&self) -> PathBuf {
        self.project.join(".claude/settings.json")
    }

    fn put_in_place(&self) {
        let dir = self.project.to_str().unwrap();
        self.broker.run_as(&self.coder, &["guard", "init", "claude", "--dir", dir, "--grant", &self.grant]).ok();
    }

    /// The settings with each hook's group changed.
    fn spoil(&self, change: impl Fn(&mut Value)) {
        let mut settings = self.hooks();
        settings["hooks"]["PreToolUse"].as_array_mut().unwrap().iter_mut().for_each(change);
        std::fs::write(self.settings(), settings.to_string()).unwrap();
    }

    fn hooks(&self) -> Value {
        std::fs::read(self.settings()).map_or(Value::Null, |text| serde_json::from_slice(&text).unwrap())
    }

    /// Calls a tool as coding agents do: what a hook refuses is not called, and what the hook has asked about only if
    /// somebody says yes. A hook that says nothing, or is not there, is in nobody's way.
    ///
    /// What the tool was told, or the hook's reason.
    fn calls(&self, Made(tool, input): &Made, yes: bool) -> Result<Vec<String>, String> {
        let name = if *tool == "Bash" { "Bash".to_owned() } else { format!("mcp__shop__{tool}") };
        let said = json!({
            "hook_event_name": "PreToolUse", "tool_use_id": "toolu_1", "tool_name": name, "tool_input": input,
            "cwd": self.project,
        });
        let settings = self.hooks();
        for group in settings["hooks"]["PreToolUse"].as_array().into_iter().flatten() {
            let matcher = text(&group["matcher"]);
            for handler in group["hooks"].as_array().unwrap().iter().filter(|_| matcher == "*" || matcher == name) {
                let command = text(&handler["command"]);
                let (mut code, mut out, mut err) = self.hook(&command, &said);
                // A machine that does much else at once: nothing was decided yet.
                for _ in 0..3 {
                    if err.contains("not decided within 4 s") {
                        (code, out, err) = self.hook(&command, &said);
                    }
                }
                let told = serde_json::from_str::<Value>(&out).unwrap_or_default()["hookSpecificOutput"].clone();
                match (code, told["permissionDecision"].as_str()) {
                    (Some(2), _) => return Err(err),
                    (Some(0), Some("deny")) => return Err(text(&told["permissionDecisionReason"])),
                    (Some(0), Some("ask")) if !yes => return Err(text(&told["permissionDecisionReason"])),
                    _ => {}
                }
            }
        }
        match *tool {
            "Bash" => {
                let mut shell = self.tool("sh", &self.grant);
                assert!(shell.args(["-c", &text(&input["command"])]).output().unwrap().status.success());
            }
            tool => drop(self.asks_server(self.tool("sh", &self.grant).arg(script("shop.sh")), tool)),
        }
        Ok(self.told())
    }

    fn hook(&self, command: &str, said: &Value) -> (Option<i32>, String, String) {
        let mut hook = Command::new("sh");
        hook.args(["-c", command]).current_dir(&self.project).env_remove("BELAY_GRANT");
        let mut hook = hook.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // One that has ended does not read it.
        let _ = hook.stdin.take().unwrap().write_all(said.to_string().as_bytes());
        let ended = hook.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (ended.status.code(), text(ended.stdout), text(ended.stderr))
    }

    /// A program with all that a tool of the agent's needs for its work.
    fn tool(&self, program: &str, grant: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.project).env("PROGRAM", env!("CARGO_BIN_EXE_belay"));
        command.env("ADDR", &self.broker.addr).env("IDENTITY", &self.coder).env("GRANT", grant);
        command.env("PSQL", self.postgres.client()).env("WORK", self.project.join("work.sh"));
        command.env("NOTES", self.notes()).env("BELAY_HOME", &self.broker.home);
        command
    }

    /// Calls a tool of the server that this starts: its result.
    fn asks_server(&self, command: &mut Command, tool: &str) -> Value {
        let log = std::fs::File::create(self.broker.home.join("server.log")).unwrap();
        let mut server = Server(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn().unwrap());
        let params = json!({ "name": tool }).to_string();
        let message = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
        writeln!(server.0.stdin.as_mut().unwrap(), "{message}").unwrap();
        let mut answer = String::new();
        BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut answer).unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{tool}: {answer:?}"));
        answer["result"].clone()
    }

    /// The same through the guard of that server: its result, and what the tool was told.
    fn guarded(&self, tool: &str) -> (Value, Vec<String>) {
        let mut guard = self.tool(env!("CARGO_BIN_EXE_belay"), &self.grant);
        guard.args(["--addr", &self.broker.addr, "--identity"]).arg(&self.coder);
        guard.args(["guard", "mcp", "--tool", "shop", "--grant", &self.grant, "--wait", "0s"]);
        for name in ["PROGRAM", "ADDR", "IDENTITY", "GRANT", "PSQL", "WORK", "NOTES"] {
            guard.args(["--env", name]);
        }
        let result = self.asks_server(guard.args(["--", "sh"]).arg(script("shop.sh")), tool);
        (result, self.told())
    }

    fn notes(&self) -> PathBuf {
        self.broker.home.join("notes")
    }

    /// What the tool was told since this was asked last: codes of the broker, and the words of the database.
    fn told(&self) -> Vec<String> {
        let notes = std::fs::read_to_string(self.notes()).unwrap_or_default();
        let _ = std::fs::remove_file(self.notes());
        let told = |line: &str| match serde_json::from_str::<Value>(line) {
            Ok(said) if said["decision"].is_string() => {
                assert_eq!(said["ticket"].is_string(), said["decision"] == "allow", "{line}");
                text(&said["reasons"][0]["code"])
            }
            Ok(said) if said["error"].is_object() => text(&said["error"]["detail"]["reason"]),
            Ok(said) if said["lease"].is_object() => "leased".to_owned(),
            _ => line.to_owned(),
        };
        notes.lines().map(told).collect()
    }

    /// Nothing is gone, and nobody ever had a login that deletes.
    fn is_whole(&self, how: &str) {
        assert_eq!(self.postgres.query("SELECT count(*) FROM orders"), "2", "{how}");
        let leases = self.broker.run(&["lease", "list", "--all"]).ok();
        let roles: Vec<_> = leases["leases"].as_array().unwrap().iter().map(|lease| lease["role"].clone()).collect();
        assert!(!roles.is_empty() && roles.iter().all(|role| role == READER), "{how}: {roles:?}");
    }
}

/// Ended with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/support/mcp").join(name)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// S18: S4 once more, where the hook that would have asked is gone, crashes or fails, and through a tool of an MCP server.
#[test]
fn s18_without_its_hook_what_destroys_is_refused_for_want_of_a_ticket() {
    let Some(shop) = Shop::open("s18_without_its_hook_what_destroys_is_refused_for_want_of_a_ticket") else { return };
    // Control: with the hook in place what is allowed redeems its ticket, and does its work.
    for call in [bash("count"), mcp("count")] {
        assert_eq!(shop.calls(&call, false), Ok(COUNTED.map(str::to_owned).to_vec()), "{}", call.0);
    }
    // What destroys is asked about, and not called. Whoever says yes at the terminal approves nothing.
    for call in [bash("wipe"), mcp("wipe")] {
        let why = shop.calls(&call, false).unwrap_err();
        assert!(why.contains("(approval_needed)"), "{}: {why}", call.0);
        assert_eq!(shop.told(), Vec::<String>::new(), "it was called");
        assert_eq!(shop.calls(&call, true), Ok(REFUSED.map(str::to_owned).to_vec()), "{}", call.0);
    }
    shop.is_whole("in place");

    let gone = |shop: &Shop| std::fs::remove_file(shop.settings()).unwrap();
    let killed = |shop: &Shop| shop.spoil(|group| group["hooks"][0]["command"] = json!("kill -9 $$"));
    let failed = |shop: &Shop| shop.spoil(|group| group["hooks"][0]["command"] = json!("exit 1"));
    let shells = |shop: &Shop| shop.spoil(|group| group["matcher"] = json!("Bash"));
    let all: [Spoilt<'_>; 4] = [
        ("deleted", &gone, &[bash("wipe"), mcp("wipe")]),
        ("crashing", &killed, &[bash("wipe"), mcp("wipe")]),
        ("ending with 1", &failed, &[bash("wipe"), mcp("wipe")]),
        ("there for the shell alone", &shells, &[mcp("wipe")]),
    ];
    for (how, spoil, calls) in all {
        shop.put_in_place();
        spoil(&shop);
        for call in calls {
            assert_eq!(shop.calls(call, false), Ok(REFUSED.map(str::to_owned).to_vec()), "{how}: {}", call.0);
            shop.is_whole(how);
        }
    }

    // In front of the server there may be a guard as well, which is no hook: the server does not hear of it.
    let (result, told) = shop.guarded("wipe");
    assert!(result["isError"] == true && result.to_string().contains("(approval_needed)"), "{result}");
    assert_eq!(told, Vec::<String>::new());
    let (result, told) = shop.guarded("count");
    assert_eq!(
        (&result["content"][0]["text"], told),
        (&json!("done"), COUNTED.map(str::to_owned).to_vec()),
        "{result}"
    );
    shop.is_whole("guarded");

    // Control: the same tool does what it is for once a human let that pass.
    let pending = shop.broker.run_as(&shop.coder, &["grant", "request", "--task", &shop.task, "--scope", WIPER]);
    assert_eq!(pending.code, 4, "{pending:?}");
    let pending: Value = serde_json::from_str(&pending.stdout).unwrap();
    shop.broker.run(&["approval", "approve", &text(&pending["approval"]["id"]), "--reason", "they are old"]).ok();
    let mut work = shop.tool("sh", &text(&pending["grant"]["id"]));
    assert!(work.args(["./work.sh", "wipe"]).output().unwrap().status.success());
    assert_eq!(shop.told(), ["in_scope", "leased", "rope", "belt"]);
    assert_eq!(shop.postgres.query("SELECT count(*) FROM orders"), "0");
}
