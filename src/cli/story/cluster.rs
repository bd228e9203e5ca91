//! A throw-away PostgreSQL server for the story, from the programs that are installed here, if they are.

use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};

const READY: Duration = Duration::from_secs(20);

/// Where PostgreSQL's programs are, and as whom its server runs: it refuses to be root.
pub struct Programs {
    bin: PathBuf,
    user: Option<(u32, u32)>,
}

/// A running server that listens on a socket in its own directory alone. Dropping it ends both.
pub struct Cluster {
    // Dropped in this order, after `drop` has ended the process: it writes to the directory.
    server: Child,
    programs: Programs,
    url: String,
    _home: TempDir,
}

impl Programs {
    /// What is installed; or why the story goes on without.
    pub async fn find() -> Result<Self, &'static str> {
        let told = Command::new("pg_config").arg("--bindir").output().await.ok().filter(|ran| ran.status.success());
        let told = told.map(|ran| PathBuf::from(String::from_utf8_lossy(&ran.stdout).trim()));
        let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let mut installed: Vec<_> = installed.map(|version| version.path().join("bin")).collect();
        installed.sort();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places = told.into_iter().chain(installed.into_iter().rev()).chain(std::env::split_paths(&path));
        let whole = |bin: &PathBuf| ["initdb", "postgres", "psql"].iter().all(|name| bin.join(name).is_file());
        let bin = places.into_iter().find(whole).ok_or("PostgreSQL is not installed here")?;
        let user =
            if geteuid().is_root() { Some(somebody().ok_or("nobody but root is here to run it")?) } else { None };
        Ok(Self { bin, user })
    }

    fn of_server(&self, program: &str) -> Command {
        let program = self.bin.join(program);
        let mut command = match self.user {
            None => Command::new(program),
            Some((uid, gid)) => {
                let mut command = Command::new("setpriv");
                command.args([&format!("--reuid={uid}"), &format!("--regid={gid}"), "--clear-groups"]).arg(program);
                command
            }
        };
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        command
    }
}

impl Cluster {
    /// Makes a server and waits until it answers.
    pub async fn start(programs: Programs) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("belay-pg-").tempdir().context("cannot make a directory")?;
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o755))?;
        let at = home.path().join("pg");
        std::fs::create_dir(&at)?;
        let (secret, password) = (at.join("password"), random()?);
        std::fs::write(&secret, &password)?;
        if let Some((uid, gid)) = programs.user {
            chown(&at, Some(uid), Some(gid))?;
            chown(&secret, Some(uid), Some(gid))?;
        }
        std::fs::set_permissions(&at, std::fs::Permissions::from_mode(0o700))?;
        let mut made = programs.of_server("initdb");
        made.arg("-D").arg(at.join("data")).args(["-U", "postgres", "--auth=scram-sha-256", "--no-sync"]);
        let made = made.arg(format!("--pwfile={}", secret.display())).output().await.context("cannot run initdb")?;
        ensure!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stderr).trim());
        let log = std::fs::File::create(home.path().join("server.log"))?;
        let mut server = programs.of_server("postgres");
        server.arg("-D").arg(at.join("data")).arg("-k").arg(&at).args(["-c", "listen_addresses="]).stderr(log);
        let server = server.spawn().context("cannot start postgres")?;
        let url = format!("postgresql://postgres:{password}@/postgres?host={}", at.display());
        let cluster = Self { server, programs, url, _home: home };
        let answers = async {
            while cluster.ask("SELECT 1").await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        ensure!(tokio::time::timeout(READY, answers).await.is_ok(), "postgres did not answer within {READY:?}");
        Ok(cluster)
    }

    /// Where it is, for its superuser.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Asks it as its superuser.
    pub async fn ask(&self, query: &str) -> Result<String> {
        let ran = self.client(&self.url, query).output().await.context("cannot run psql")?;
        if !ran.status.success() {
            bail!("{}", String::from_utf8_lossy(&ran.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&ran.stdout).trim().to_owned())
    }

    /// The client program at this URL, about to ask.
    pub fn client(&self, url: &str, query: &str) -> Command {
        let mut psql = Command::new(self.programs.bin.join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-c", query, "-d", url]).env("PGCONNECT_TIMEOUT", "5");
        psql.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        psql
    }
}

impl Drop for Cluster {
    /// Ends the server and waits for it, so that nothing writes to the directory while it is removed.
    fn drop(&mut self) {
        let id = self.server.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        // One that is gone has no id.
        let _ = id.map(|id| kill_process(id, Signal::QUIT));
        for _ in 0..500 {
            if !matches!(self.server.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn random() -> Result<String> {
    let mut bytes = [0; 24];
    std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).context("no random bytes")?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// User and group of `postgres`, or of `nobody`, where there is a program to become them.
fn somebody() -> Option<(u32, u32)> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|at| at.join("setpriv")).find(|program| Path::is_file(program))?;
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let of = |name: &str| {
        let fields: Vec<_> =
            users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|line| line[0] == name)?;
        Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
    };
    of("postgres").or_else(|| of("nobody"))
}
