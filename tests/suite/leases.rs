//! Leases in a real PostgreSQL: what they are good for, and what ends them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::postgres::{Postgres, READER, WRITER, user_of};
use crate::support::process::Broker;

/// A broker with a backend `orders`, and an agent with grants for it.
struct Rig {
    postgres: Postgres,
    broker: Broker,
    agent: PathBuf,
    task: String,
}

impl Rig {
    /// None where PostgreSQL is not installed.
    fn new(test: &str) -> Option<Self> {
        let postgres = Postgres::start(test)?;
        let broker = Broker::start();
        add(&broker, &postgres.broker_url()).unwrap();
        let agent = broker.agent("coder");
        let started = broker.run_as(&agent, &["task", "start", "count orders"]).ok();
        let task = text(&started["task"]["id"]);
        Some(Self { postgres, broker, agent, task })
    }

    fn grant(&self, more: &[&str]) -> String {
        let scopes = [format!("orders:lease@{READER}"), format!("orders:lease@{WRITER}")];
        let mut arguments =
            vec!["grant", "request", "--task", &self.task, "--scope", &scopes[0], "--scope", &scopes[1]];
        arguments.extend(more);
        text(&self.broker.run_as(&self.agent, &arguments).ok()["grant"]["id"])
    }

    fn lease(&self, grant: &str, role: &str, more: &[&str]) -> Value {
        let mut arguments = vec!["lease", "issue", "--grant", grant, "--backend", "orders", "--role", role];
        arguments.extend(more);
        self.broker.run_as(&self.agent, &arguments).ok()
    }

    fn revoke(&self, target: &str) -> Value {
        self.broker.run(&["revoke", target, "--reason", "testing"]).ok()
    }

    fn listed(&self, lease: &str) -> Value {
        listed(&self.broker, lease)
    }

    /// Waits until a lease is as it is to be, in the log.
    fn until(&self, lease: &str, status: &str) -> Value {
        until(&self.broker, lease, status, Duration::from_secs(20))
    }
}

fn add(broker: &Broker, url: &str) -> Result<Value, Value> {
    let file = broker.home.join("orders.url");
    std::fs::write(&file, url).unwrap();
    let url = format!("@{}", file.display());
    let ran = broker
        .run(&["backend", "add", "orders", "--kind", "postgres", "--url", &url, "--role", READER, "--role", WRITER]);
    std::fs::remove_file(file).unwrap();
    if ran.code == 0 { Ok(ran.ok()) } else { Err(ran.err(ran.code)) }
}

fn listed(broker: &Broker, lease: &str) -> Value {
    let all = broker.run(&["lease", "list", "--all"]).ok();
    all["leases"].as_array().unwrap().iter().find(|one| one["id"] == lease).cloned().unwrap_or(Value::Null)
}

fn until(broker: &Broker, lease: &str, status: &str, patience: Duration) -> Value {
    let since = Instant::now();
    loop {
        let found = listed(broker, lease);
        if found["status"] == status {
            return found;
        }
        assert!(since.elapsed() < patience, "{found}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value}")).to_owned()
}

fn id(issued: &Value) -> String {
    text(&issued["lease"]["id"])
}

fn url(issued: &Value) -> String {
    text(&issued["secret"]["url"])
}

const GONE: Duration = Duration::from_secs(10);

#[test]
fn a_lease_is_good_for_what_its_role_may_and_no_more() {
    let Some(rig) = Rig::new("a_lease_is_good_for_what_its_role_may_and_no_more") else { return };
    let grant = rig.grant(&[]);
    let issued = rig.lease(&grant, READER, &["--ttl", "5m"]);
    let url = url(&issued);
    assert_eq!(rig.postgres.try_at(&url, "SELECT count(*) FROM orders").unwrap(), "2");
    for beyond in
        ["INSERT INTO orders VALUES (3, 'x')", "SELECT * FROM salaries", "CREATE ROLE other", "CREATE TABLE t (a int)"]
    {
        let said = rig.postgres.try_at(&url, beyond).unwrap_err();
        assert!(said.contains("permission denied") || said.contains("must be"), "{beyond}: {said}");
    }
    let user = user_of(&url);
    assert_eq!(
        (issued["secret"]["username"].as_str(), issued["lease"]["backend"].as_str()),
        (Some(user.as_str()), Some("orders"))
    );
    let ends = rig.postgres.query(&format!(
        "SELECT rolvaliduntil - now() < '5 min' AND rolvaliduntil > now() FROM pg_roles WHERE rolname = '{user}'"
    ));
    assert_eq!(ends, "t");
    let status = rig.broker.run(&["status"]).ok();
    assert_eq!((&status["live"]["leases"], &status["debt"]), (&json!(1), &json!({ "open": 0, "left": 0 })));
    let listed = rig.listed(&id(&issued));
    assert_eq!((&listed["status"], &listed["wanted"]), (&json!("made"), &json!("live")));
    // The server saw no password, in its log of all statements neither.
    let log = std::fs::read_to_string(rig.postgres.log()).unwrap();
    assert!(log.contains(&user) && !log.contains(&text(&issued["secret"]["password"])));
    let writer = rig.lease(&grant, WRITER, &[]);
    rig.postgres.try_at(&self::url(&writer), "INSERT INTO orders VALUES (3, 'x')").unwrap();
}

#[test]
fn what_the_grant_does_not_allow_is_not_leased() {
    let Some(rig) = Rig::new("what_the_grant_does_not_allow_is_not_leased") else { return };
    let scope = format!("orders:lease@{READER}");
    let requested = rig
        .broker
        .run_as(&rig.agent, &["grant", "request", "--task", &rig.task, "--scope", &scope, "--limit", "max_calls=1"])
        .ok();
    let grant = text(&requested["grant"]["id"]);
    let ask = |backend: &str, role: &str, key: &str| {
        let arguments =
            ["lease", "issue", "--grant", &grant, "--backend", backend, "--role", role, "--idempotency-key", key];
        rig.broker.run_as(&rig.agent, &arguments)
    };
    assert_eq!(ask("orders", WRITER, "a").err(3)["detail"]["reason"], "out_of_scope");
    assert_eq!(ask("orders", "postgres", "b").err(3)["detail"]["reason"], "role_not_leased");
    assert_eq!(ask("other", READER, "c").err(5)["detail"]["field"], "backend");
    // A lease is one call of the chain, and a retry is the same call.
    let first = ask("orders", READER, "d").ok();
    let again = ask("orders", READER, "d").ok();
    assert_ne!(id(&first), id(&again));
    assert_eq!(ask("orders", READER, "e").err(3)["detail"]["reason"], "limit_reached");
    let operator = rig.broker.run(&["lease", "issue", "--grant", &grant, "--backend", "orders", "--role", READER]);
    assert_eq!(operator.err(3)["detail"]["reason"], "agents_only");
}

#[test]
fn a_retry_ends_the_lease_whose_secret_may_not_have_arrived() {
    let Some(rig) = Rig::new("a_retry_ends_the_lease_whose_secret_may_not_have_arrived") else { return };
    let grant = rig.grant(&[]);
    let first = rig.lease(&grant, READER, &["--idempotency-key", "one"]);
    let second = rig.lease(&grant, READER, &["--idempotency-key", "one"]);
    assert_ne!(url(&first), url(&second));
    rig.until(&id(&first), "ended");
    assert!(rig.postgres.try_at(&url(&first), "SELECT 1").is_err());
    assert_eq!(rig.postgres.try_at(&url(&second), "SELECT 1").unwrap(), "1");
}

#[test]
fn a_revoke_ends_sessions_in_the_middle_of_a_query_and_leaves_the_siblings() {
    let Some(rig) = Rig::new("a_revoke_ends_sessions_in_the_middle_of_a_query_and_leaves_the_siblings") else { return };
    let (grant, sibling) = (rig.grant(&[]), rig.grant(&[]));
    let (lease, other) = (rig.lease(&grant, WRITER, &[]), rig.lease(&sibling, WRITER, &[]));
    rig.postgres.try_at(&url(&lease), "CREATE TABLE notes (a int); INSERT INTO notes VALUES (7)").unwrap();
    let mut sleeping = rig.postgres.session(&url(&lease), "SELECT pg_sleep(600)");
    let mut disguised = rig.postgres.session(&url(&lease), &format!("SET ROLE \"{WRITER}\"; SELECT pg_sleep(600)"));
    let mut beside = rig.postgres.session(&url(&other), "SELECT pg_sleep(600)");
    let revoked = rig.revoke(&grant);
    assert_eq!(revoked["cut"]["leases"], 1);
    let effects = revoked["effects"].as_array().unwrap();
    assert!(effects.iter().any(|one| one["credential"] == lease["lease"]["id"]), "{revoked}");
    assert!(sleeping.is_over(GONE) && disguised.is_over(GONE), "a session goes on");
    rig.until(&id(&lease), "ended");
    let user = user_of(&url(&lease));
    assert!(!rig.postgres.has_role(&user) && rig.postgres.sessions(&user) == 0);
    assert!(rig.postgres.try_at(&url(&lease), "SELECT 1").is_err());
    // What it made is not lost: it belongs to the role that the lease was made from.
    let owner = rig
        .postgres
        .query("SELECT tableowner || ' ' || (SELECT a FROM notes) FROM pg_tables WHERE tablename = 'notes'");
    assert_eq!(owner, format!("{WRITER} 7"));
    assert!(!beside.is_over(Duration::from_millis(300)), "a sibling's session was ended");
    assert_eq!(rig.postgres.try_at(&url(&other), "SELECT count(*) FROM orders").unwrap(), "2");
}

#[test]
fn a_lease_alone_can_be_revoked() {
    let Some(rig) = Rig::new("a_lease_alone_can_be_revoked") else { return };
    let grant = rig.grant(&[]);
    let (one, two) = (rig.lease(&grant, READER, &[]), rig.lease(&grant, READER, &[]));
    let revoked = rig.broker.run_as(&rig.agent, &["revoke", &id(&one), "--reason", "done"]).ok();
    assert_eq!(
        (&revoked["known"], &revoked["cut"]["leases"], &revoked["cut"]["grants"]),
        (&json!(true), &json!(1), &json!(0))
    );
    rig.until(&id(&one), "ended");
    assert!(rig.postgres.try_at(&url(&one), "SELECT 1").is_err());
    assert!(rig.postgres.try_at(&url(&two), "SELECT 1").is_ok());
    let again = rig.revoke(&id(&one));
    assert_eq!((&again["revocation"]["id"], &again["cut"]["leases"]), (&revoked["revocation"]["id"], &json!(1)));
}

#[test]
fn a_lease_ends_with_its_time_and_with_its_backend() {
    let Some(rig) = Rig::new("a_lease_ends_with_its_time_and_with_its_backend") else { return };
    let grant = rig.grant(&[]);
    let brief = rig.lease(&grant, READER, &["--ttl", "2s"]);
    let mut session = rig.postgres.session(&url(&brief), "SELECT pg_sleep(600)");
    let long = rig.lease(&grant, READER, &[]);
    assert!(session.is_over(Duration::from_secs(15)), "a session outlives its lease");
    rig.until(&id(&brief), "ended");
    assert!(rig.postgres.try_at(&url(&long), "SELECT 1").is_ok());
    rig.broker.run(&["backend", "remove", "orders", "--reason", "moved"]).ok();
    let refused =
        rig.broker.run_as(&rig.agent, &["lease", "issue", "--grant", &grant, "--backend", "orders", "--role", READER]);
    assert_eq!(refused.err(5)["detail"]["field"], "backend");
    rig.until(&id(&long), "ended");
    assert!(rig.postgres.leased().is_empty());
}

#[test]
fn what_is_suspended_lets_nobody_in_and_what_is_resumed_the_same_secret() {
    let Some(rig) = Rig::new("what_is_suspended_lets_nobody_in_and_what_is_resumed_the_same_secret") else { return };
    let grant = rig.grant(&[]);
    let lease = rig.lease(&grant, READER, &[]);
    let mut session = rig.postgres.session(&url(&lease), "SELECT pg_sleep(600)");
    rig.broker.run(&["grant", "suspend", &grant, "--reason", "looking"]).ok();
    rig.until(&id(&lease), "halted");
    assert!(session.is_over(GONE));
    assert!(rig.postgres.try_at(&url(&lease), "SELECT 1").unwrap_err().contains("not permitted to log in"));
    rig.broker.run(&["grant", "resume", &grant, "--reason", "looked"]).ok();
    rig.until(&id(&lease), "made");
    assert_eq!(rig.postgres.try_at(&url(&lease), "SELECT 1").unwrap(), "1");
    rig.broker.run(&["grant", "suspend", &grant, "--reason", "looking"]).ok();
    rig.until(&id(&lease), "halted");
    rig.revoke(&grant);
    rig.until(&id(&lease), "ended");
}

#[test]
fn a_cut_outlives_a_target_that_is_away_and_a_broker_that_dies() {
    let Some(mut rig) = Rig::new("a_cut_outlives_a_target_that_is_away_and_a_broker_that_dies") else { return };
    let grant = rig.grant(&[]);
    let lease = rig.lease(&grant, READER, &[]);
    rig.postgres.stop();
    let revoked = rig.revoke(&grant);
    assert_eq!((&revoked["final"], &revoked["effects"][0]["state"]), (&json!(true), &json!("pending")));
    // The grant is over at once, whatever the target says.
    let refused =
        rig.broker.run_as(&rig.agent, &["lease", "issue", "--grant", &grant, "--backend", "orders", "--role", READER]);
    assert_eq!(refused.err(3)["detail"]["reason"], "grant_revoked");
    let since = Instant::now();
    while rig.listed(&id(&lease))["trouble"].is_null() {
        assert!(since.elapsed() < GONE, "{}", rig.listed(&id(&lease)));
        std::thread::sleep(Duration::from_millis(50));
    }
    let owed = rig.listed(&id(&lease));
    assert_eq!((&owed["status"], &owed["wanted"]), (&json!("made"), &json!("gone")), "{owed}");
    assert!(text(&owed["trouble"]).contains("cannot be reached"), "{owed}");
    assert_eq!(rig.broker.run(&["status"]).ok()["debt"]["open"], 1);
    // Trying again and again is not written down again and again.
    let events = |broker: &Broker| {
        broker.run(&["audit", "list", "--kind", "lease_changed"]).ok()["events"].as_array().unwrap().len()
    };
    let written = events(&rig.broker);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(events(&rig.broker), written);
    rig.broker.kill();
    let home = rig.broker.home.clone();
    rig.broker.replace(Broker::start_in(&home, &[]));
    assert_eq!(rig.listed(&id(&lease))["status"], "made");
    rig.postgres.start_again();
    let back = Instant::now();
    let ended = until(&rig.broker, &id(&lease), "ended", Duration::from_secs(10));
    println!("ended {} ms after the target was back", back.elapsed().as_millis());
    assert!(ended["trouble"].is_null(), "{ended}");
    assert!(!rig.postgres.has_role(&user_of(&url(&lease))));
    assert_eq!(rig.broker.run(&["status"]).ok()["debt"]["open"], 0);
    let shown = rig.broker.run(&["revocation", "show", &text(&revoked["revocation"]["id"])]).ok();
    assert_eq!((&shown["states"]["enforced"]["leases"], &shown["terminal"]), (&json!(1), &json!(true)), "{shown}");
}

#[test]
fn roles_of_ours_that_nobody_leases_are_found_and_those_of_others_are_not_touched() {
    let Some(mut rig) = Rig::new("roles_of_ours_that_nobody_leases_are_found_and_those_of_others_are_not_touched")
    else {
        return;
    };
    let grant = rig.grant(&[]);
    let lease = rig.lease(&grant, READER, &[]);
    let mark = rig.postgres.query(&format!(
        "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = '{}'",
        user_of(&url(&lease))
    ));
    let stray = "belay_01m826b20gfdtagbpvxzh7napv";
    let (foreign, unmarked) = ("belay_01m826b20ged4sa18zrmrkb2kr", "belay_01m826b20gfdtagbpvxzh7napw");
    let elsewhere = "belay_reports";
    rig.postgres
        .try_at(
            &rig.postgres.url("broker"),
            &format!(
                "CREATE ROLE {foreign} LOGIN; COMMENT ON ROLE {foreign} IS '{mark}.example';
         CREATE ROLE {unmarked} LOGIN; CREATE ROLE {elsewhere} LOGIN; COMMENT ON ROLE {elsewhere} IS '{mark}';
         CREATE ROLE {stray} LOGIN; COMMENT ON ROLE {stray} IS '{mark}'"
            ),
        )
        .unwrap();
    rig.broker.kill();
    let home = rig.broker.home.clone();
    rig.broker.replace(Broker::start_in(&home, &[]));
    let since = Instant::now();
    while rig.postgres.has_role(stray) {
        assert!(since.elapsed() < GONE, "it is still there");
        std::thread::sleep(Duration::from_millis(50));
    }
    for kept in [foreign, unmarked, elsewhere, &user_of(&url(&lease))] {
        assert!(rig.postgres.has_role(kept), "{kept}");
    }
    assert!(rig.postgres.try_at(&url(&lease), "SELECT 1").is_ok());
}

#[test]
fn what_an_agent_made_runs_with_nobody_elses_rights_when_it_is_over() {
    let Some(mut rig) = Rig::new("what_an_agent_made_runs_with_nobody_elses_rights_when_it_is_over") else { return };
    let grant = rig.grant(&[]);
    let lease = rig.lease(&grant, WRITER, &[]);
    let made = "CREATE TABLE trap (a int); CREATE VIEW peek AS SELECT * FROM orders;
         CREATE RULE pass AS ON INSERT TO trap DO INSTEAD INSERT INTO orders VALUES (9, 'rule');
         GRANT INSERT ON trap TO PUBLIC; GRANT SELECT ON peek TO PUBLIC;
         CREATE FUNCTION serve() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT current_user::text'";
    rig.postgres.try_at(&url(&lease), made).unwrap();
    rig.postgres.account("passer", "");
    let passer = rig.postgres.url("passer");
    assert_eq!(rig.postgres.try_at(&passer, "SELECT public.serve()").unwrap(), user_of(&url(&lease)));
    assert_eq!(rig.postgres.try_at(&passer, "SELECT count(*) FROM peek").unwrap(), "2");
    rig.revoke(&grant);
    rig.until(&id(&lease), "ended");
    assert_eq!(rig.postgres.try_at(&passer, "SELECT public.serve()").unwrap(), "passer");
    assert!(rig.postgres.try_at(&passer, "SELECT count(*) FROM peek").unwrap_err().contains("permission denied"));
    rig.postgres.try_at(&passer, "INSERT INTO trap VALUES (1)").unwrap();
    assert_eq!(rig.postgres.query("SELECT count(*) FROM orders"), "2");
    // Of what nobody knows of, nothing goes to anybody: it is left without a way in and without rights. One that
    // cannot be dropped keeps no other.
    let kept = rig.lease(&rig.grant(&[]), READER, &[]);
    let mark = rig.postgres.query(&format!(
        "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = '{}'",
        user_of(&url(&kept))
    ));
    let (owner, empty) = ("belay_01m826b20gfdtagbpvxzh7napv", "belay_01m826b20gfdtagbpvxzh7napw");
    for stray in [owner, empty] {
        rig.postgres.query(&format!(
            "CREATE ROLE {stray} LOGIN; COMMENT ON ROLE {stray} IS '{mark}'; GRANT \"{WRITER}\" TO {stray}"
        ));
    }
    rig.postgres.query(&format!(
        "CREATE FUNCTION own() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT current_user::text';
         ALTER FUNCTION own() OWNER TO {owner}"
    ));
    rig.broker.kill();
    let home = rig.broker.home.clone();
    rig.broker.replace(Broker::start_in(&home, &[]));
    let since = Instant::now();
    while rig.postgres.has_role(empty) {
        assert!(since.elapsed() < GONE, "it is still there");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(rig.postgres.query("SELECT proowner::regrole FROM pg_proc WHERE proname = 'own'"), owner);
    let left = format!(
        "SELECT rolcanlogin, (SELECT count(*) FROM pg_auth_members m WHERE m.member = r.oid) FROM pg_roles r \
         WHERE rolname = '{owner}'"
    );
    assert_eq!(rig.postgres.query(&left), "f|0");
}

#[test]
fn what_it_owns_elsewhere_is_said_and_nobody_can_use_it_meanwhile() {
    let Some(rig) = Rig::new("what_it_owns_elsewhere_is_said_and_nobody_can_use_it_meanwhile") else { return };
    let grant = rig.grant(&[]);
    let lease = rig.lease(&grant, READER, &[]);
    let user = user_of(&url(&lease));
    rig.postgres.query("CREATE DATABASE attic");
    rig.postgres
        .try_at(
            &rig.postgres.admin_url().replace("/shop", "/attic"),
            &format!("CREATE TABLE box (a int); ALTER TABLE box OWNER TO {user}"),
        )
        .unwrap();
    rig.revoke(&grant);
    let left = rig.until(&id(&lease), "halted");
    assert!(text(&left["trouble"]).contains("another database"), "{left}");
    assert!(rig.postgres.try_at(&url(&lease), "SELECT 1").is_err());
    assert_eq!(rig.broker.run(&["status"]).ok()["debt"], json!({ "open": 0, "left": 1 }));
    rig.postgres
        .try_at(&rig.postgres.admin_url().replace("/shop", "/attic"), &format!("REASSIGN OWNED BY {user} TO postgres"))
        .unwrap();
    rig.until(&id(&lease), "ended");
    assert!(!rig.postgres.has_role(&user));
}

#[test]
fn an_account_that_lacks_a_right_is_told_which() {
    let Some(postgres) = Postgres::start("an_account_that_lacks_a_right_is_told_which") else { return };
    let broker = Broker::start();
    let why = |url: &str| text(&add(&broker, url).unwrap_err()["message"]);
    postgres.account("plain", "");
    assert!(why(&postgres.url("plain")).contains("ALTER ROLE plain CREATEROLE"));
    postgres.account("maker", "CREATEROLE");
    postgres.query(&format!("GRANT \"{READER}\", \"{WRITER}\" TO maker WITH ADMIN OPTION"));
    let unable = why(&postgres.url("maker"));
    assert!(unable.contains("GRANT pg_signal_backend TO maker"), "{unable}");
    postgres.query("GRANT pg_signal_backend TO maker");
    postgres.query(&format!("REVOKE \"{WRITER}\" FROM maker"));
    let unable = why(&postgres.url("maker"));
    assert!(unable.contains(WRITER) && unable.contains("TO maker") && !unable.contains(READER), "{unable}");
    postgres.query(&format!(
        "GRANT \"{WRITER}\" TO maker WITH ADMIN OPTION; DROP OWNED BY \"{READER}\"; DROP ROLE \"{READER}\""
    ));
    assert!(why(&postgres.url("maker")).contains(&format!("role `{READER}` does not exist")));
    postgres.query(&format!("CREATE ROLE \"{READER}\" CREATEROLE"));
    assert!(why(&postgres.url("maker")).contains("would outlive a cut"));
    postgres.query(&format!("ALTER ROLE \"{READER}\" NOCREATEROLE LOGIN"));
    assert!(why(&postgres.url("maker")).contains("may log in"));
    postgres.query(&format!("ALTER ROLE \"{READER}\" NOLOGIN; GRANT pg_read_server_files TO \"{READER}\""));
    assert!(why(&postgres.url("maker")).contains("touches files"));
    postgres.query(&format!(
        "REVOKE pg_read_server_files FROM \"{READER}\"; CREATE ROLE between; CREATE ROLE handed;
         GRANT between TO \"{READER}\"; GRANT handed TO between WITH ADMIN OPTION"
    ));
    assert!(why(&postgres.url("maker")).contains("ADMIN OPTION"));
    postgres.query("DROP ROLE between");
    postgres.query(&format!("GRANT \"{READER}\" TO maker WITH ADMIN OPTION"));
    assert!(why(&postgres.url("maker").replace("s3cret", "hunter2")).contains("password authentication failed"));
    let added = add(&broker, &postgres.url("maker")).unwrap();
    assert_eq!((&added["backend"]["ok"], &added["backend"]["findings"]), (&json!(true), &json!([])));
    assert_eq!(broker.run(&["backend", "check", "orders"]).ok()["backend"]["ok"], true);
    // Nothing is left of what was tried.
    assert_eq!(postgres.leased(), Vec::<String>::new());
    postgres.query("REVOKE pg_signal_backend FROM maker");
    let checked = broker.run(&["backend", "check", "orders"]);
    assert_eq!(checked.code, 1, "{checked:?}");
    assert!(checked.stdout.contains("pg_signal_backend"), "{checked:?}");
    let again = add(&broker, &postgres.url("maker")).unwrap_err();
    assert_eq!(again["detail"]["reason"], "backend_exists");
}

#[test]
fn a_superuser_does_as_well() {
    let Some(postgres) = Postgres::start("a_superuser_does_as_well") else { return };
    let broker = Broker::start();
    assert_eq!(add(&broker, &postgres.admin_url()).unwrap()["backend"]["ok"], true);
}

#[test]
fn a_password_does_not_leave_this_machine_in_the_clear() {
    let broker = Broker::start();
    let refused = add(&broker, "postgresql://u:hunter2@db.example/orders").unwrap_err();
    assert!(text(&refused["message"]).contains("sslmode") && !refused.to_string().contains("hunter2"), "{refused}");
}
