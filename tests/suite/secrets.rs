//! Secrets stay where they belong: a whole story, told at the loudest log level, and then everything that
//! was left behind is searched for every secret that was used, in every form it might have.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use belay::domain::key::Purpose;
use belay::wire::v1;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;

use crate::support::data::{Data, scalar};
use crate::support::postgres::{PASSWORD, Postgres, READER};
use crate::support::process::{Broker, Ran, belay, ran};

/// A secret by name, and the texts and bytes by which it would be recognised.
struct Secret {
    name: String,
    forms: Vec<Vec<u8>>,
}

impl Secret {
    /// Every form of these bytes and of their first sixteen: raw, hexadecimal, base64 at each alignment, the
    /// numbers that `Debug` shows.
    fn of(name: &str, bytes: &[u8]) -> Self {
        let mut forms = Vec::new();
        for part in [bytes, &bytes[..16]] {
            let hex: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
            let numbers: Vec<_> = part.iter().map(ToString::to_string).collect();
            forms.extend([part.to_vec(), hex.to_uppercase().into(), hex.into(), numbers.join(", ").into()]);
            for offset in 0..3 {
                // Behind other bytes, base64 divides them elsewhere; what is shared with a neighbour is left out.
                let shifted = [&vec![0; offset], part].concat();
                let (from, until) = (offset.div_ceil(3) * 4, shifted.len() / 3 * 4);
                for alphabet in [STANDARD, URL_SAFE] {
                    forms.push(alphabet.encode(&shifted)[from..until].into());
                }
            }
        }
        Self { name: name.to_owned(), forms }
    }

    /// A secret that is a text: the text itself, and its bytes in every form.
    fn token(name: &str, text: &str) -> Self {
        let secret = text.rsplit(['.']).next().unwrap();
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(secret).unwrap();
        // A join token is id, secret, digest of the CA, address; of a JWT the signature is what others lack.
        let secret = if text.starts_with("belay1.") { &bytes[16..48] } else { &bytes[..] };
        let mut found = Self::of(name, secret);
        found.forms.push(text.into());
        found
    }

    /// A secret that is a text of its own: the whole text, and its bytes in every form.
    fn text(name: &str, text: &str) -> Self {
        let mut found = Self::of(name, text.as_bytes());
        found.forms.push(text.into());
        found
    }

    fn key(name: &str, directory: &Path) -> Self {
        let key = PrivateKeyDer::from_pem_file(directory.join("key.pem")).unwrap();
        Self::of(name, scalar(key.secret_der()))
    }
}

/// What was left behind, each with where.
struct Left(Vec<(String, Vec<u8>)>);

impl Left {
    fn add(&mut self, place: impl Into<String>, text: impl Into<Vec<u8>>) {
        self.0.push((place.into(), text.into()));
    }

    /// Where each secret is: its name, and the place. Forms are found by their first two bytes, since a loud
    /// log is megabytes.
    fn find(&self, secrets: &[Secret]) -> BTreeSet<(String, &str)> {
        let mut starting = vec![Vec::new(); 1 << 16];
        let at = |text: &[u8]| usize::from(text[0]) << 8 | usize::from(text[1]);
        for secret in secrets {
            secret.forms.iter().for_each(|form| starting[at(form)].push((secret.name.as_str(), form)));
        }
        let mut found = BTreeSet::new();
        for (place, text) in &self.0 {
            for (from, pair) in text.windows(2).enumerate() {
                let here = starting[at(pair)].iter().filter(|(_, form)| text[from..].starts_with(form));
                found.extend(here.map(|(name, _)| ((*name).to_owned(), place.as_str())));
            }
        }
        found
    }

    fn places(&self, text: &str) -> Vec<&str> {
        let known = Secret { name: String::new(), forms: vec![text.into()] };
        self.find(&[known]).into_iter().map(|(_, place)| place).collect()
    }
}

/// Runs a command line as `identity` with the log at its loudest.
fn loud(broker: &Broker, identity: &Path, arguments: &[&str]) -> Ran {
    let mut command = belay(&broker.home);
    command.env("BELAY_LOG", "trace").arg("--addr").arg(&broker.addr).arg("--identity").arg(identity);
    command.args(["-o", "json"]).args(arguments);
    ran(command)
}

/// The answer of a command that did what it was asked, and whose stderr joins what is searched.
fn told(broker: &Broker, left: &mut Left, identity: &Path, arguments: &[&str]) -> Value {
    let ran = loud(broker, identity, arguments);
    assert_eq!(ran.code, 0, "{arguments:?}: {ran:?}");
    left.add(format!("stderr of {:?}", &arguments[..2]), ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

/// A lease in a real database, where there is one: used, cut, and asked for where it cannot be made.
fn leased(broker: &Broker, planner: &Path, task: &str, left: &mut Left, secrets: &mut Vec<Secret>) -> bool {
    let Some(postgres) = Postgres::start("secrets_do_not_leak, of leases,") else { return false };
    let (operator, file) = (broker.home.join("operator"), tempfile::NamedTempFile::new().unwrap());
    std::fs::write(file.path(), postgres.broker_url()).unwrap();
    let url = format!("@{}", file.path().display());
    let add = ["backend", "add", "orders", "--kind", "postgres", "--role", READER, "--url", &url];
    told(broker, left, &operator, &add);
    let scope = format!("orders:lease@{READER}");
    let granted = told(broker, left, planner, &["grant", "request", "--task", task, "--scope", &scope]);
    let grant = granted["grant"]["id"].as_str().unwrap();
    let issue = ["lease", "issue", "--grant", grant, "--backend", "orders", "--role", READER];
    let issued = told(broker, left, planner, &issue);
    let password = issued["secret"]["password"].as_str().unwrap();
    secrets.push(Secret::text("the password of a lease", password));
    secrets.push(Secret::text("the password of a backend", PASSWORD));
    left.add("lease list", loud(broker, &operator, &["lease", "list", "--all"]).stdout);
    left.add(
        "the database's log",
        std::fs::read(postgres.log())
            .unwrap()
            .split(|byte| *byte == b'\n')
            .filter(|line| {
                // How the fixture made its own account is nobody's secret but its own.
                !line.windows(19).any(|part| part == b"CREATE ROLE broker ")
            })
            .collect::<Vec<_>>()
            .concat(),
    );
    let wrong = postgres.broker_url_with("no such account");
    std::fs::write(file.path(), wrong).unwrap();
    for arguments in [&add[..], &[&add[..], &["--replace"]].concat()] {
        let ran = loud(broker, &operator, arguments);
        assert_ne!(ran.code, 0);
        left.add("a backend refused", ran.stdout + &ran.stderr);
    }
    drop(postgres);
    let ran = loud(broker, planner, &issue);
    assert_eq!(ran.code, 7, "{ran:?}");
    left.add("a lease refused", ran.stdout + &ran.stderr);
    true
}

#[test]
fn secrets_do_not_leak() {
    let home = tempfile::tempdir().unwrap();
    let mut broker = Broker::start_in(home.path(), &[("BELAY_LOG", "trace")]);
    let (mut left, mut secrets) = (Left(Vec::new()), Vec::new());
    let operator = home.path().join("operator");
    secrets.push(Secret::key("the operator's key", &operator));

    // Two agents and a second operator join; what they are handed is secret, and goes nowhere else.
    let mut join = |kind: &str, name: &str, more: &[&str], left: &mut Left| -> PathBuf {
        let verb = if kind == "agent" { "register" } else { "add" };
        let joined = told(&broker, left, &operator, &[&[kind, verb, name], more].concat());
        let token = joined["join_token"].as_str().unwrap();
        let directory = home.path().join(name);
        told(&broker, left, &operator, &[kind, "enroll", "--join-token", token, "--out", directory.to_str().unwrap()]);
        secrets.push(Secret::token(&format!("the join token of {name}"), token));
        secrets.push(Secret::key(&format!("the key of {name}"), &directory));
        directory
    };
    let about = ["--owner", "team", "--purpose", "canary in the purpose"];
    let (planner, coder) = (join("agent", "planner", &about, &mut left), join("agent", "coder", &about, &mut left));
    join("operator", "ana", &["--role", "admin"], &mut left);

    let old = Secret::key("the old key of coder", &coder);
    told(&broker, &mut left, &coder, &["agent", "renew"]);
    secrets.extend([old, Secret::key("the new key of coder", &coder)]);
    let task = told(&broker, &mut left, &planner, &["task", "start", "testing"]);
    let task = task["task"]["id"].as_str().unwrap();
    let scope = ["--scope", "db:read@**"];
    let request = [&["grant", "request", "--task", task, "--token", "--idempotency-key", "k"], &scope[..]].concat();
    let granted = told(&broker, &mut left, &planner, &request);
    let grant = granted["grant"]["id"].as_str().unwrap();
    let token = granted["token"]["token"].as_str().unwrap().to_owned();
    let again = told(&broker, &mut left, &planner, &request)["token"]["token"].as_str().unwrap().to_owned();
    let delegate = [&["grant", "delegate", "--parent", grant, "--to", "coder"], &scope[..]].concat();
    let child = told(&broker, &mut left, &planner, &delegate)["grant"]["id"].as_str().unwrap().to_owned();
    let issued = told(&broker, &mut left, &coder, &["token", "issue", "--grant", &child]);
    let issued = issued["token"].as_str().unwrap().to_owned();
    for (name, text) in [("planner's token", &token), ("planner's token again", &again), ("coder's token", &issued)] {
        secrets.push(Secret::token(name, text));
    }

    // Used, well and badly: what is said about a secret does not repeat it.
    let call = ["--tool", "db", "--action", "read", "--resource", "orders"];
    let spoilt = format!("{}x", &token[..token.len() - 1]);
    let fresh = told(&broker, &mut left, &operator, &["agent", "invite", "coder"]);
    let fresh = fresh["join_token"].as_str().unwrap().to_owned();
    secrets.push(Secret::token("a join token that is spoilt", &fresh));
    let spoilt_join = format!("{}=", fresh);
    let out = home.path().join("nobody").to_str().unwrap().to_owned();
    let uses: [(&Path, Vec<&str>, i32); 8] = [
        (&planner, [&["authorize", "--token", &token], &call[..]].concat(), 0),
        (&coder, [&["authorize", "--token", &token], &call[..]].concat(), 3),
        (&planner, [&["authorize", "--token", &spoilt], &call[..]].concat(), 3),
        (&planner, vec!["token", "verify", &token], 0),
        (&planner, vec!["token", "verify", &spoilt], 3),
        (&coder, vec!["agent", "enroll", "--join-token", &spoilt_join, "--out", &out], 2),
        (&coder, vec!["token", "issue", "--grant", &token], 2),
        (&planner, vec!["authorize", "--token", &token, "--tool", "*", "--action", "x", "--resource", "y"], 2),
    ];
    for (identity, arguments, code) in uses {
        let ran = loud(&broker, identity, &arguments);
        assert_eq!(ran.code, code, "{arguments:?}: {ran:?}");
        left.add(format!("output of {:?}", arguments[0]), ran.stdout + &ran.stderr);
    }
    // A call ticket, spent and spent again; a secret of a tool's API, which nothing shows once it is held.
    let ticketed = [&["authorize", "--token", &issued], &call[..]].concat();
    let given = told(&broker, &mut left, &coder, &[&ticketed[..], &["--ticket"]].concat());
    let ticket = given["ticket"].as_str().unwrap().to_owned();
    secrets.push(Secret::token("a call ticket", &ticket));
    for code in [0, 3] {
        let ran = loud(&broker, &coder, &[&ticketed[..], &["--redeem", &ticket]].concat());
        assert_eq!(ran.code, code, "{ran:?}");
        left.add("a ticket spent", ran.stdout + &ran.stderr);
    }
    let (upstream, file) = ("upstream-secret-of-github-7f3a91", tempfile::NamedTempFile::new().unwrap());
    std::fs::write(file.path(), upstream).unwrap();
    secrets.push(Secret::text("an upstream secret", upstream));
    let value = format!("@{}", file.path().display());
    let add = ["upstream", "add", "github", "--tool", "github", "--host", "api.github.com", "--value", &value];
    told(&broker, &mut left, &operator, &[&add[..], &["--header", "authorization", "--prefix", "Bearer "]].concat());
    let ran = loud(&broker, &operator, &[&add[..], &["--header", "host", "--replace"]].concat());
    assert_eq!(ran.code, 2, "{ran:?}");
    left.add("an upstream secret refused", ran.stdout + &ran.stderr);
    told(&broker, &mut left, &operator, &["revoke", grant, "--reason", "testing"]);
    let backend = leased(&broker, &planner, task, &mut left, &mut secrets);
    let audit = told(&broker, &mut left, &operator, &["audit", "list"]);
    left.add("audit list", audit.to_string());
    let why = given["id"].as_str().unwrap();
    for arguments in [
        &["why", grant][..],
        &["why", why],
        &["audit", "calls"],
        &["upstream", "list"],
        &["agent", "list"],
        &["operator", "list"],
        &["grant", "list"],
        &["status"],
    ] {
        left.add(format!("{arguments:?}"), loud(&broker, &operator, arguments).stdout);
    }
    broker.kill();

    let data = Data::read(&home.path().join("dev"));
    secrets.push(Secret::of("the master key", data.master()));
    for purpose in [Purpose::Token, Purpose::Authority] {
        secrets.push(Secret::of(&format!("the {purpose} key"), scalar(&data.key(purpose).1)));
    }
    for cell in data.cells {
        left.add("a cell of the database", cell);
    }
    for file in std::fs::read_dir(home.path().join("dev")).unwrap().map(|file| file.unwrap().path()) {
        if file.file_name().unwrap() != "master.key" {
            left.add(file.display().to_string(), std::fs::read(&file).unwrap());
        }
    }
    let log = std::fs::read(home.path().join("serve.log")).unwrap();
    assert!(log.len() > 100_000, "the log is not at its loudest: {} bytes", log.len());
    left.add("serve.log", log);

    // The search finds what is there: a purpose in the log's records, a call in the broker's own log, and
    // every form of every secret where it was planted.
    let purpose = left.places("canary in the purpose");
    assert!(purpose.contains(&"a cell of the database") && purpose.contains(&"audit list"), "{purpose:?}");
    assert!(purpose.iter().any(|place| place.ends_with("ledger.db-wal")), "{purpose:?}");
    assert_eq!(left.places("/belay.v1.Tokens/Verify"), ["serve.log"]);
    for secret in &secrets {
        let planted = |(at, form): (usize, &Vec<u8>)| (format!("planted {at}"), [b"before", &form[..]].concat());
        let planted = Left(secret.forms.iter().enumerate().map(planted).collect());
        assert_eq!(planted.find(std::slice::from_ref(secret)).len(), secret.forms.len(), "{}", secret.name);
    }

    assert_eq!(secrets.len(), if backend { 20 } else { 18 });
    assert_eq!(left.find(&secrets), BTreeSet::new());
}

#[test]
fn messages_with_secrets_do_not_show_them() {
    let secret = || "hunter2".to_owned();
    let token = v1::Token { id: "tok_1".into(), token: secret(), expires_at: "soon".into(), ..Default::default() };
    let lease = v1::LeaseSecret { username: "belay_1".into(), password: secret(), url: secret() };
    let shown: [&dyn Debug; 18] = [
        &v1::EnrollRequest { join_token: secret(), csr: vec![1], ..Default::default() },
        &v1::InvitedAgent { join_token: secret(), join_expires_at: "soon".into(), ..Default::default() },
        &v1::InvitedOperator { join_token: secret(), join_expires_at: "soon".into(), ..Default::default() },
        &token,
        &v1::GrantResponse { token: Some(token.clone()), ..Default::default() },
        &v1::AddBackendRequest { name: "orders".into(), url: secret(), ..Default::default() },
        &lease,
        &v1::IssueLeaseResponse { secret: Some(lease.clone()), ..Default::default() },
        &v1::VerifyTokenRequest { token: secret(), presenter: Vec::new(), ..Default::default() },
        &v1::AuthorizeRequest { token: secret(), tool: "db".into(), ..Default::default() },
        &v1::AuthorizeRequest { redeem: secret(), args: secret(), ..Default::default() },
        &v1::AuthorizeResponse { ticket: secret(), ..Default::default() },
        &v1::IssueLeaseRequest { ticket: secret(), ..Default::default() },
        &v1::HttpRequest { path: secret(), body: b"hunter2".to_vec(), ..Default::default() },
        &v1::McpRequest { params: secret(), ..Default::default() },
        &v1::DpopProof { proof: secret(), url: secret(), ..Default::default() },
        &v1::InvitedPep { join_token: secret(), ..Default::default() },
        &v1::AddUpstreamRequest { name: "github".into(), value: secret(), ..Default::default() },
    ];
    for message in shown {
        let shown = format!("{message:?} {message:#?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    // What is not secret is still there to be read.
    assert!(format!("{token:?}").contains("tok_1") && format!("{:?}", shown[1]).contains("soon"));
}
