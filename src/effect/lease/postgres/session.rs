//! Connections to one server, a few at a time, kept warm. Nothing runs beside them: whoever uses one drives it.

use std::future::poll_fn;
use std::sync::{Mutex, PoisonError};

use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::tls::NoTls;
use tokio_postgres::{Client, Error};

use super::super::Failure;
use super::CONNECT;
use super::address::Address;
use super::job::{Job, Stopped};
use super::tls::Tls;

/// One connection.
pub(super) struct Session {
    client: Client,
    line: BoxFuture<'static, Result<(), Error>>,
}

impl Session {
    /// Connects, within [`CONNECT`].
    pub(super) async fn open(address: &Address) -> Result<Self, Failure> {
        let opened = async {
            match &address.authorities {
                None => {
                    let (client, line) = address.config.connect(NoTls).await?;
                    Ok(Self { client, line: Box::pin(line) })
                }
                Some(file) => {
                    let tls = Tls::trusting(file).map_err(Trouble::Ours)?;
                    let (client, line) = address.config.connect(tls).await?;
                    Ok(Self { client, line: Box::pin(line) })
                }
            }
        };
        match tokio::time::timeout(CONNECT, opened).await {
            Ok(Ok(session)) => Ok(session),
            Ok(Err(Trouble::Ours(failure))) => Err(failure),
            Ok(Err(Trouble::Theirs(error))) => Err(away(&error)),
            Err(_) => Err(Failure::away("the server cannot be reached: it does not answer in time")),
        }
    }

    /// Does something with it. The line carries what the work sends and waits for.
    pub(super) async fn run(&mut self, job: &Job<'_>) -> Result<Vec<String>, Stopped> {
        let Self { client, line } = self;
        let work = job.done(client);
        tokio::pin!(work);
        let mut over = false;
        poll_fn(|cx| {
            over = over || line.as_mut().poll(cx).is_ready();
            work.as_mut().poll(cx)
        })
        .await
    }
}

enum Trouble {
    Ours(Failure),
    Theirs(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Theirs(error)
    }
}

/// Connections for one sort of work.
pub(super) struct Lanes {
    most: usize,
    permits: Semaphore,
    idle: Mutex<Vec<Session>>,
}

/// A connection that was waited for. Dropped, it is closed.
pub(super) struct Lane<'a> {
    lanes: &'a Lanes,
    _permit: SemaphorePermit<'a>,
    pub session: Session,
    /// Whether it was open before: it may have been closed by the server since.
    pub warm: bool,
}

impl Lanes {
    pub(super) fn new(most: usize) -> Self {
        Self { most, permits: Semaphore::new(most), idle: Mutex::default() }
    }

    /// Opens connections until so many are, or as many as there may be: whoever needs one then waits for none. Where
    /// none can be opened, whoever needs one hears why.
    pub(super) async fn open(&self, address: &Address, wanted: usize) {
        while self.count() < wanted.min(self.most) {
            let Ok(_permit) = self.permits.try_acquire() else { return };
            let Ok(session) = Session::open(address).await else { return };
            self.idle().push(session);
        }
    }

    /// How many are open, or being opened.
    pub(super) fn count(&self) -> usize {
        self.idle().len() + self.most - self.permits.available_permits()
    }

    pub(super) async fn lane(&self, address: &Address) -> Result<Lane<'_>, Failure> {
        let permit = self.permits.acquire().await.map_err(|_| Failure::away("the connections are closed"))?;
        let warm = self.idle().pop();
        let (session, warm) = match warm {
            Some(session) => (session, true),
            None => (Session::open(address).await?, false),
        };
        Ok(Lane { lanes: self, _permit: permit, session, warm })
    }

    /// Closes those that nobody uses.
    pub(super) fn forget(&self) {
        self.idle().clear();
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane<'_> {
    /// Keeps it for the next.
    pub(super) fn keep(self) {
        self.lanes.idle().push(self.session);
    }
}

/// What the server, or the way to it, says: of a statement, never its text.
pub(super) fn away(error: &Error) -> Failure {
    match error.as_db_error() {
        // Refused at the door: the address is wrong, or the server is not up yet.
        Some(refusal) => Failure::away(format!("the server lets nobody in: {}", refusal.message())),
        None => {
            let why = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
            Failure::away(format!("the server cannot be reached: {why}"))
        }
    }
}
