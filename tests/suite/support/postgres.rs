//! A PostgreSQL server of a test's own, from the installed programs: on the loopback, in a temporary directory, gone
//! with the test.

use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use super::needs;

/// The role to lease from that only reads; its name has to be quoted.
pub const READER: &str = "app.read-only";
/// The role to lease from that writes, and makes tables.
pub const WRITER: &str = "app-writer";
/// The password of every account that the fixture makes.
pub const PASSWORD: &str = "s3cret-of-the-fixture";
const LONG: Duration = Duration::from_secs(30);

/// A running server, or one that was stopped by the test. It has a database `shop` with a table `orders`.
pub struct Postgres {
    programs: PathBuf,
    user: Option<(u32, u32)>,
    directory: TempDir,
    port: u16,
    server: Option<Child>,
}

/// A session: the client program, in the middle of a query or waiting for one.
pub struct Session(Child);

impl Postgres {
    /// A server for `test`, with two roles to lease from; none where PostgreSQL is not installed, which is said.
    pub fn start(test: &str) -> Option<Self> {
        let found = programs();
        if !needs(test, "PostgreSQL (initdb, postgres, psql)", found.is_some()) {
            return None;
        }
        let mut server = Self::initialised(found.unwrap());
        server.start_again();
        server.query("CREATE DATABASE shop");
        server.query(&format!(
            "CREATE TABLE orders (id int, item text); INSERT INTO orders VALUES (1, 'rope'), (2, 'belt');
             CREATE TABLE salaries (name text, amount int);
             CREATE ROLE \"{READER}\" NOLOGIN; GRANT SELECT ON orders TO \"{READER}\";
             CREATE ROLE \"{WRITER}\" NOLOGIN; GRANT SELECT, INSERT ON orders TO \"{WRITER}\";
             GRANT CREATE ON SCHEMA public TO \"{WRITER}\";"
        ));
        Some(server)
    }

    fn initialised(programs: PathBuf) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let user = geteuid().is_root().then(unprivileged);
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let home = directory.path().join("pg");
        std::fs::create_dir(&home).unwrap();
        let secret = home.join("password");
        std::fs::write(&secret, PASSWORD).unwrap();
        if let Some((uid, gid)) = user {
            [&home, &secret].iter().for_each(|path| chown(path, Some(uid), Some(gid)).unwrap());
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Self { programs, user, directory, port, server: None };
        let made = server
            .as_user("initdb")
            .arg("-D")
            .arg(home.join("data"))
            .args(["-U", "postgres", "--auth=scram-sha-256", "--no-sync", "-E", "UTF8", "--locale=C"])
            .arg(format!("--pwfile={}", secret.display()))
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        server
    }

    /// Starts it, on the port that it always has, and waits until it answers.
    pub fn start_again(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.log()).unwrap();
        let mut command = self.as_user("postgres");
        command.arg("-D").arg(self.home().join("data")).arg("-k").arg(self.home());
        for setting in ["listen_addresses=127.0.0.1", "log_statement=all", "log_connections=on"] {
            command.args(["-c", setting]);
        }
        command.args(["-p", &self.port.to_string()]).stdout(Stdio::null()).stderr(log);
        self.server = Some(command.spawn().unwrap());
        let since = Instant::now();
        while self.ask("postgres", "SELECT 1").is_err() {
            assert!(since.elapsed() < LONG, "{}", std::fs::read_to_string(self.log()).unwrap());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops it, as a machine that loses its power would.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = kill_process(pid(&server), Signal::QUIT);
            server.wait().unwrap();
        }
    }

    /// Its log, with every statement that it was told.
    pub fn log(&self) -> PathBuf {
        self.directory.path().join("server.log")
    }

    /// Where it is, for its superuser.
    pub fn admin_url(&self) -> String {
        self.url("postgres")
    }

    /// Where it is, for an account with the fixture's password.
    pub fn url(&self, account: &str) -> String {
        format!("postgresql://{account}:{PASSWORD}@127.0.0.1:{}/shop", self.port)
    }

    /// An account as an operator would make it for a broker: no superuser, able to lease both roles and no others.
    pub fn broker_url(&self) -> String {
        self.account("broker", "CREATEROLE");
        self.query(&format!(
            "GRANT \"{READER}\", \"{WRITER}\" TO broker WITH ADMIN OPTION; GRANT pg_signal_backend TO broker"
        ));
        self.url("broker")
    }

    /// The same server and password, for an account that is not there.
    pub fn broker_url_with(&self, account: &str) -> String {
        self.url(&account.replace(' ', "%20"))
    }

    /// An account with these attributes, and nothing granted.
    pub fn account(&self, name: &str, attributes: &str) {
        self.query(&format!("CREATE ROLE {name} LOGIN {attributes} PASSWORD '{PASSWORD}'"));
    }

    /// Asks as the superuser: the values of the answer, a row a line.
    pub fn query(&self, query: &str) -> String {
        let database = if query.starts_with("CREATE DATABASE") { "postgres" } else { "shop" };
        self.ask(database, query).unwrap_or_else(|said| panic!("{query}: {said}"))
    }

    fn ask(&self, database: &str, query: &str) -> Result<String, String> {
        ask(&self.programs, &self.admin_url().replace("/shop", &format!("/{database}")), query)
    }

    /// Asks at this URL: the answer, or what the server said.
    pub fn try_at(&self, url: &str, query: &str) -> Result<String, String> {
        ask(&self.programs, url, query)
    }

    /// The client program.
    pub fn client(&self) -> PathBuf {
        self.programs.join("psql")
    }

    /// A session at this URL that runs `query`, as far as the server has begun it.
    pub fn session(&self, url: &str, query: &str) -> Session {
        let before = self.sessions(&user_of(url));
        let mut child = psql(&self.programs, url)
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        writeln!(child.stdin.as_mut().unwrap(), "{query};").unwrap();
        let since = Instant::now();
        while self.sessions(&user_of(url)) <= before {
            assert!(since.elapsed() < LONG, "no session began");
            std::thread::sleep(Duration::from_millis(10));
        }
        Session(child)
    }

    /// Sessions of those who came in by this name.
    pub fn sessions(&self, user: &str) -> usize {
        self.query(&format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{user}'")).parse().unwrap()
    }

    /// Whether there is a role of that name.
    pub fn has_role(&self, name: &str) -> bool {
        self.query(&format!("SELECT count(*) FROM pg_roles WHERE rolname = '{name}'")) == "1"
    }

    /// The roles of ours.
    pub fn leased(&self) -> Vec<String> {
        let names = self.query("SELECT rolname FROM pg_roles WHERE rolname LIKE 'belay\\_%' ORDER BY 1");
        names.lines().map(ToOwned::to_owned).collect()
    }

    fn home(&self) -> PathBuf {
        self.directory.path().join("pg")
    }

    /// A program of the server's, which refuses to run as root.
    fn as_user(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let Some((uid, gid)) = self.user else {
            let mut command = Command::new(program);
            command.current_dir("/");
            return command;
        };
        let mut command = Command::new("setpriv");
        command.args([&format!("--reuid={uid}"), &format!("--regid={gid}"), "--clear-groups"]).arg(program);
        command.current_dir("/");
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Session {
    /// Whether the client has lost its session, within `wait`.
    pub fn is_over(&mut self, wait: Duration) -> bool {
        let since = Instant::now();
        loop {
            // It ends by itself only when its next statement finds the session gone, or the one that runs is ended.
            if self.0.try_wait().unwrap().is_some() {
                return true;
            }
            if since.elapsed() > wait {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The name in a URL.
pub fn user_of(url: &str) -> String {
    url.split("://").nth(1).unwrap().split(':').next().unwrap().to_owned()
}

fn psql(programs: &Path, url: &str) -> Command {
    let mut command = Command::new(programs.join("psql"));
    command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url]).env("PGCONNECT_TIMEOUT", "5");
    command
}

fn ask(programs: &Path, url: &str, query: &str) -> Result<String, String> {
    let ran = psql(programs, url).args(["-c", query]).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if ran.status.success() { Ok(text(&ran.stdout)) } else { Err(text(&ran.stderr)) }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap()
}

/// Where the programs are.
fn programs() -> Option<PathBuf> {
    let told = Command::new("pg_config").arg("--bindir").output().ok().filter(|ran| ran.status.success());
    let told = told.map(|ran| PathBuf::from(String::from_utf8_lossy(&ran.stdout).trim()));
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|all| all.filter_map(|one| Some(one.ok()?.path().join("bin"))).collect())
        .unwrap_or_default();
    versions.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = told.into_iter().chain(versions.into_iter().rev()).chain(std::env::split_paths(&path));
    let whole = |at: &PathBuf| ["initdb", "postgres", "psql"].iter().all(|name| at.join(name).exists());
    candidates.into_iter().find(whole)
}

/// User and group of somebody who is not root: `postgres`, or `nobody`.
fn unprivileged() -> (u32, u32) {
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let of = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let field = |at| line.split(':').nth(at)?.parse().ok();
        Some((field(2)?, field(3)?))
    };
    of("postgres").or_else(|| of("nobody")).expect("there is somebody who is not root")
}
