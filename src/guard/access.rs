//! What calls are made with: a channel to the broker as the agent, and a token that is renewed before it ends.
//!
//! The token is bound to the agent's certificate. When that was renewed on disk, the channel is made anew with it, and the
//! token too.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tonic::transport::Channel;

use super::ended::{Ended, Meaning, meaning, of};
use super::{failed, unavailable};
use crate::client::{Identity, Refusal, client_config, connect, made_up_key};
use crate::domain::error::{Code, Error};
use crate::domain::time::Timestamp;
use crate::format::jwt;
use crate::wire::v1::grants_client::GrantsClient;
use crate::wire::v1::tokens_client::TokensClient;
use crate::wire::v1::{Grant, IssueTokenRequest, RenewGrantRequest, ShowGrantRequest};

/// Between two attempts to get a token, at least …
const SOON: Duration = Duration::from_millis(200);
/// … and at most.
const LATE: Duration = Duration::from_secs(5);
/// How often a file is looked at for a newer token.
const LOOK: Duration = Duration::from_secs(1);
/// For how long a token that the broker takes no more may be missing its successor.
const MISSING: Duration = Duration::from_secs(10);
/// More than any token is.
const LONGEST: u64 = 64 * 1024;

/// Where tokens come from.
#[derive(Clone)]
pub enum Source {
    /// They are issued under this grant of the agent's.
    Grant(String),
    /// This one, to its end. A secret.
    Token(String),
    /// Whatever a file holds: another program puts newer ones there.
    File(PathBuf),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Grant(grant) => write!(f, "Grant({grant})"),
            Self::Token(_) => f.write_str("Token(…)"),
            Self::File(path) => write!(f, "File({})", path.display()),
        }
    }
}

/// With what a call is made now.
#[derive(Clone)]
pub struct Access {
    /// To the broker, as the agent.
    pub channel: Channel,
    /// A secret.
    pub token: String,
    /// Counts channels: another one has another certificate.
    pub channels: u64,
    /// Counts tokens.
    pub tokens: u64,
}

/// Keeps an [`Access`] for as long as it may be had.
pub struct Authority {
    addr: String,
    identity: PathBuf,
    source: Source,
    /// Whether the grant is renewed, too.
    keep: bool,
    /// For how long the grant was given at first, in milliseconds: it is renewed for as long each time.
    ttl: std::sync::OnceLock<i64>,
    now: watch::Sender<Arc<Access>>,
    wishes: (mpsc::Sender<()>, tokio::sync::Mutex<mpsc::Receiver<()>>),
    certificate: std::sync::Mutex<Vec<u8>>,
    /// The grant as it was when the first token was issued under it.
    first: Option<Grant>,
}

/// For how long a token is good, and its grant, from now.
struct Life {
    token: Duration,
    grant: Duration,
}

impl Authority {
    /// Connects as the agent whose identity is in `identity`, and gets the first token. With `keep` the grant is renewed
    /// as well, for as long as it may be.
    ///
    /// # Errors
    /// There is no identity, the broker cannot be reached, or gives no token.
    pub async fn open(addr: &str, identity: &Path, source: Source, keep: bool) -> Result<Self, Refusal> {
        let (channel, certificate) = dial(addr, identity).await?;
        let access = Access { channel, token: String::new(), channels: 0, tokens: 0 };
        let (wish, wishes) = mpsc::channel(1);
        let (now, _) = watch::channel(Arc::new(access));
        let mut authority = Self {
            addr: addr.to_owned(),
            identity: identity.to_owned(),
            source,
            keep,
            ttl: std::sync::OnceLock::new(),
            now,
            wishes: (wish, tokio::sync::Mutex::new(wishes)),
            certificate: std::sync::Mutex::new(certificate),
            first: None,
        };
        authority.first = authority.get().await?;
        Ok(authority)
    }

    /// With what a call is made now.
    pub fn access(&self) -> Arc<Access> {
        Arc::clone(&self.now.borrow())
    }

    /// Sees each new [`Access`].
    pub fn changes(&self) -> watch::Receiver<Arc<Access>> {
        self.now.subscribe()
    }

    /// Asks for a new token before it is due, as the broker does not take this one any more.
    pub fn renew(&self, spent: &Access) {
        if self.access().tokens == spent.tokens {
            // One wish is as good as many.
            let _ = self.wishes.0.try_send(());
        }
    }

    /// Renews until the authority is over, and says why it is.
    pub async fn keep(&self) -> Ended {
        let mut wishes = self.wishes.1.lock().await;
        let mut life = self.life(self.first.as_ref());
        let end = tokio::time::sleep(life.grant);
        tokio::pin!(end);
        let mut pause = self.due(&life);
        let mut spent = false;
        loop {
            tokio::select! {
                biased;
                () = &mut end => return self.over(),
                () = tokio::time::sleep(pause) => {}
                _ = wishes.recv() => {
                    // Where nothing can be asked for, another token comes soon or not at all. Cuts of one that has
                    // ended are not heard of.
                    if !spent && !matches!(self.source, Source::Grant(_)) {
                        end.set(tokio::time::sleep(MISSING));
                    }
                    spent = true;
                }
            }
            let before = self.access().token.clone();
            let got = tokio::select! {
                biased;
                () = &mut end => return self.over(),
                got = self.get() => got,
            };
            match got {
                Ok(grant) => {
                    // The same token ends when it ends, however often it is read.
                    if grant.is_some() || self.access().token != before {
                        life = self.life(grant.as_ref());
                        end.set(tokio::time::sleep(life.grant));
                        spent = false;
                    }
                    pause = self.due(&life);
                }
                Err(refusal) if of(&refusal) == Meaning::Over => return over(&refusal.reason, &refusal.message),
                Err(refusal) => {
                    tracing::warn!(reason = refusal.reason, "no new token yet: {refusal}");
                    pause = (pause * 2).clamp(SOON, LATE);
                }
            }
        }
    }

    /// Its time is over.
    fn over(&self) -> Ended {
        match self.source {
            Source::Grant(_) => over("grant_expired", "the grant is over"),
            _ => over("token_expired", "the token is over, and no other took its place"),
        }
    }

    /// When to look for the next token.
    fn due(&self, life: &Life) -> Duration {
        match &self.source {
            Source::Grant(_) => (life.token * 2 / 3).max(SOON),
            Source::Token(_) => life.token.max(SOON),
            Source::File(_) => LOOK,
        }
    }

    /// Gets a token, and renews the grant if that is wanted; the grant as it is then, if it was asked for.
    async fn get(&self) -> Result<Option<Grant>, Refusal> {
        let before = self.access();
        let mut access = Access { tokens: before.tokens + 1, ..(*before).clone() };
        let stale = {
            let known = self.certificate.lock().map_err(|_| failed("poisoned", "a thread of the guard died"))?;
            Identity::load(&self.identity).is_ok_and(|identity| identity.certificate() != known.as_slice())
        };
        if stale {
            let (channel, certificate) = dial(&self.addr, &self.identity).await?;
            (access.channel, access.channels) = (channel, before.channels + 1);
            if let Ok(mut known) = self.certificate.lock() {
                *known = certificate;
            }
        }
        let mut grant = None;
        access.token = match &self.source {
            Source::Token(token) => token.clone(),
            Source::File(path) => read(path)?,
            Source::Grant(id) => {
                grant = Some(self.grant(&access.channel, id).await?);
                issue(&access.channel, id).await?
            }
        };
        if access.token != before.token || stale {
            self.now.send_replace(Arc::new(access));
        }
        Ok(grant)
    }

    async fn grant(&self, channel: &Channel, id: &str) -> Result<Grant, Refusal> {
        let mut grants = GrantsClient::new(channel.clone());
        let shown = grants.show(ShowGrantRequest { id: id.to_owned(), tree: false }).await?.into_inner();
        let grant = shown.grant.ok_or_else(|| failed("no_grant", "the broker showed no grant"))?;
        if meaning(&grant.reason) == Meaning::Over {
            let message = format!("grant `{id}` is {}", grant.state);
            return Err(Refusal { reason: grant.reason, ..Error::denied("over", message).into() });
        }
        if !self.keep {
            return Ok(grant);
        }
        let ttl_ms = *self.ttl.get_or_init(|| span(&grant.created_at, &grant.expires_at));
        let renewed = grants.renew(RenewGrantRequest { id: id.to_owned(), ttl_ms }).await;
        match renewed.map_err(Refusal::from) {
            Ok(renewed) => Ok(renewed.into_inner().grant.unwrap_or(grant)),
            // It lasts as long as it lasts.
            Err(refusal) if refusal.code == Code::Denied => Ok(grant),
            Err(refusal) => Err(refusal),
        }
    }

    /// By the broker's own clock: when it signed the token, and when token and grant end.
    fn life(&self, grant: Option<&Grant>) -> Life {
        let token = self.access().token.clone();
        let claims = jwt::parse(&token).map(|read| read.inspect()["claims"].clone()).unwrap_or_default();
        let [signed, ends] = ["iat", "exp"].map(|name| claims[name].as_u64().unwrap_or(0));
        let token = Duration::from_secs(ends.saturating_sub(signed));
        let until = grant.and_then(|grant| grant.expires_at.parse::<Timestamp>().ok());
        let since = i64::try_from(signed.saturating_mul(1000)).map(Timestamp::from_millis).ok();
        let left = until.zip(since).map(|(until, since)| until.since(since).as_millis());
        let grant = left.and_then(|left| u64::try_from(left).ok()).map_or(token, Duration::from_millis);
        Life { token, grant }
    }
}

/// A token under a grant.
///
/// # Errors
/// The broker gives none.
pub(super) async fn issue(channel: &Channel, grant: &str) -> Result<String, Refusal> {
    let request =
        IssueTokenRequest { grant: grant.to_owned(), idempotency_key: made_up_key(), ..IssueTokenRequest::default() };
    Ok(TokensClient::new(channel.clone()).issue(request).await?.into_inner().token)
}

async fn dial(addr: &str, identity: &Path) -> Result<(Channel, Vec<u8>), Refusal> {
    let identity = Identity::load(identity)?;
    let channel = connect(addr, client_config(&identity)?).await?;
    Ok((channel, identity.certificate().to_vec()))
}

pub(super) fn read(path: &Path) -> Result<String, Refusal> {
    use std::io::Read as _;
    let mut text = String::new();
    let file = std::fs::File::open(path).and_then(|file| file.take(LONGEST).read_to_string(&mut text));
    file.map_err(|error| unavailable(format!("cannot read the token in {}: {error}", path.display())))?;
    let token = text.trim_end_matches(['\n', '\r']);
    match token.is_empty() {
        true => Err(unavailable(format!("{} is empty; a token was expected", path.display()))),
        false => Ok(token.to_owned()),
    }
}

fn span(from: &str, to: &str) -> i64 {
    let at = |text: &str| text.parse::<Timestamp>().ok();
    at(from).zip(at(to)).map_or(0, |(from, to)| to.since(from).as_millis())
}

fn over(code: &str, message: &str) -> Ended {
    Ended::Cut { code: code.to_owned(), message: message.to_owned() }
}
