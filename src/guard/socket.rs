//! The private socket of a command that runs under a grant: what it may ask for, in lines of JSON.
//!
//! `{"op":"token"}`, `{"op":"authorize","tool","action","resource","args"?,"destination"?,"ticket"?}` and
//! `{"op":"lease","backend","role","ticket"?}` each get one line: the answer, or `{"error":{"code","message"}}`. The key
//! stays with `belay run`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::{Authority, failed};
use crate::client::{Refusal, made_up_key};
use crate::domain::error::Error;
use crate::wire::v1::decisions_client::DecisionsClient;
use crate::wire::v1::leases_client::LeasesClient;
use crate::wire::v1::{AuthorizeRequest, IssueLeaseRequest};

/// Bytes of one line: the largest arguments of a call, and room for the rest.
const LONGEST: u64 = 96 * 1024;
/// Connections at once.
const MOST: usize = 64;
/// After a connection that could not be taken.
const PAUSE: Duration = Duration::from_millis(50);

/// A socket in a directory of its own, gone when this is dropped.
pub(super) struct Socket {
    listener: UnixListener,
    directory: tempfile::TempDir,
}

/// What is asked for. Each takes its own members, each once, and no others.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Op {
    Token,
    Authorize,
    Lease,
}

#[derive(Deserialize)]
struct Asked {
    op: Op,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    #[serde(rename = "op")]
    _op: Op,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Authorize<'a> {
    #[serde(rename = "op")]
    _op: Op,
    tool: String,
    action: String,
    resource: String,
    /// In the asker's own words.
    #[serde(borrow, default)]
    args: Option<&'a RawValue>,
    #[serde(default)]
    destination: String,
    #[serde(default)]
    ticket: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lease {
    #[serde(rename = "op")]
    _op: Op,
    backend: String,
    role: String,
    #[serde(default)]
    ticket: String,
}

impl Socket {
    /// Listens where nobody else can come.
    ///
    /// # Errors
    /// There is no directory to be made.
    pub fn open() -> Result<Self, Refusal> {
        use std::os::unix::fs::PermissionsExt as _;
        let wrong = |error: std::io::Error| failed("no_socket", format!("cannot make a socket: {error}"));
        let only_us = |mode| std::fs::Permissions::from_mode(mode);
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute());
        let place = runtime.unwrap_or_else(std::env::temp_dir);
        let directory = tempfile::Builder::new().prefix("belay-run-").permissions(only_us(0o700)).tempdir_in(place);
        let directory = directory.map_err(wrong)?;
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).map_err(wrong)?;
        std::fs::set_permissions(&path, only_us(0o600)).map_err(wrong)?;
        Ok(Self { listener, directory })
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        Path::new(self.directory.path()).join("socket")
    }

    /// Answers for as long as it is polled.
    pub async fn serve(&self, authority: &Arc<Authority>, grant: &str) {
        let mut tasks = JoinSet::new();
        loop {
            while tasks.try_join_next().is_some() {}
            if tasks.len() >= MOST {
                tasks.join_next().await;
            }
            let Ok((stream, _)) = self.listener.accept().await else {
                // There may be no file left to open: it is not asked again at once.
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let ours = rustix::process::getuid().as_raw();
            if stream.peer_cred().is_ok_and(|peer| peer.uid() == ours) {
                tasks.spawn(talk(stream, Arc::clone(authority), grant.to_owned()));
            }
        }
    }
}

async fn talk(stream: UnixStream, authority: Arc<Authority>, grant: String) {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let Ok(length) = (&mut read).take(LONGEST + 1).read_until(b'\n', &mut line).await else { return };
        let too_long = u64::try_from(length).map_or(true, |length| length > LONGEST);
        if length == 0 {
            return;
        }
        let answer = match too_long {
            true => Err(Error::malformed("line", "…", "it has more than 96 KiB").into()),
            false => answer(&line, &authority, &grant).await,
        };
        let mut answer =
            answer.unwrap_or_else(|refusal| json!({ "error": { "code": refusal.reason, "message": refusal.message } }));
        if let Some(answer) = answer.as_object_mut() {
            answer.retain(|_, value| !matches!(value, Value::String(text) if text.is_empty()));
        }
        if write.write_all(format!("{answer}\n").as_bytes()).await.is_err() || too_long {
            return;
        }
    }
}

async fn answer(line: &[u8], authority: &Authority, grant: &str) -> Result<Value, Refusal> {
    let access = authority.access();
    Ok(match read::<Asked>(line)?.op {
        Op::Token => {
            let Token { _op } = read(line)?;
            json!({ "token": access.token, "grant": grant })
        }
        Op::Authorize => {
            let Authorize { _op, tool, action, resource, args, destination, ticket } = read(line)?;
            let (token, args) = (access.token.clone(), args.map_or("", RawValue::get).to_owned());
            let call =
                AuthorizeRequest { token, tool, action, resource, args, destination, ticket, ..Default::default() };
            let decided = DecisionsClient::new(access.channel.clone()).authorize(call).await?.into_inner();
            let reasons = decided.reasons.iter().map(|one| json!({ "code": one.code, "message": one.message }));
            json!({ "decision": decided.decision, "id": decided.id, "reasons": reasons.collect::<Vec<_>>(),
                "ticket": decided.ticket })
        }
        Op::Lease => {
            let Lease { _op, backend, role, ticket } = read(line)?;
            let idempotency_key = made_up_key();
            let lease =
                IssueLeaseRequest { grant: grant.to_owned(), backend, role, ttl_ms: 0, idempotency_key, ticket };
            let issued = LeasesClient::new(access.channel.clone()).issue(lease).await?.into_inner();
            let (lease, secret) = (issued.lease.unwrap_or_default(), issued.secret.unwrap_or_default());
            json!({ "id": lease.id, "expires_at": lease.expires_at, "username": secret.username,
                "password": secret.password, "url": secret.url })
        }
    })
}

/// A list is no object with the members in some order.
fn read<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, Refusal> {
    if line.trim_ascii_start().first() != Some(&b'{') {
        return Err(Error::malformed("line", "…", "expected an object with an `op`").into());
    }
    serde_json::from_slice(line).map_err(|error| Error::malformed("line", "…", &error.to_string()).into())
}
