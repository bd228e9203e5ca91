//! One thing to do on one connection.

use std::time::Duration;

use tokio_postgres::{Client, Error};

use super::super::Failure;
use super::{estate, statement};
use crate::domain::time::{Span, Timestamp};
use crate::measure::Stopwatch;

/// How long sessions are waited for that were told to end.
const PARTING: Duration = Duration::from_secs(8);
/// How long letting somebody in again may take, by the server's clock: less than an attempt.
const RESUMING: Duration = Duration::from_secs(5);

/// What to do. All but [`Job::Create`] may be done again.
pub(super) enum Job<'a> {
    /// These, one after the other.
    Run(Vec<String>),
    /// This, for the first value of every row.
    Column(String),
    /// This, and then no session of that name remains, nor anybody who could do as it: says its number, if it has one.
    Empty(String, &'a str),
    /// No session of who had this number remains: says how many there were.
    Again(u32),
    /// Lets a role of this name in again.
    Enable(&'a str),
    /// Makes a role.
    Create(Creation<'a>),
}

/// A role to be.
pub(super) struct Creation<'a> {
    pub name: &'a str,
    pub verifier: &'a str,
    pub template: &'a str,
    pub mark: &'a str,
    /// How long its making may still take, and how long it lives.
    pub left: &'a (dyn Fn() -> (Span, Span) + Send + Sync),
}

/// Why something was not done.
pub(super) enum Stopped {
    By(Error),
    Because(Failure),
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::By(error)
    }
}

impl Job<'_> {
    pub(super) async fn done(&self, client: &Client) -> Result<Vec<String>, Stopped> {
        match self {
            Self::Run(texts) => {
                for text in texts {
                    client.batch_execute(text).await?;
                }
            }
            Self::Column(query) => return Ok(statement::column(client, query).await?),
            Self::Empty(text, name) => {
                client.batch_execute(text).await?;
                let number = statement::number(client, name).await?;
                if let Some(number) = number {
                    emptied(client, number).await?;
                    client.batch_execute(&estate::desert(name)).await?;
                }
                return Ok(number.iter().map(ToString::to_string).collect());
            }
            Self::Again(number) => return Ok(vec![emptied(client, *number).await?.to_string()]),
            Self::Enable(name) => {
                let since = Stopwatch::start();
                let now = statement::clock(client).await?;
                let left = RESUMING.saturating_sub(since.elapsed()).as_millis();
                let deadline = now.saturating_add(i64::try_from(left).unwrap_or(0));
                client.batch_execute(&statement::enable(name, deadline)).await?;
            }
            Self::Create(Creation { name, verifier, template, mark, left }) => {
                let now = statement::clock(client).await?;
                // Asked after the clock was read: a pause between the two takes time away, and gives none.
                let (making, living) = left();
                let deadline = now.saturating_add(making.as_millis());
                let until = Timestamp::from_millis(now).plus(living).to_string();
                client.batch_execute(&statement::create(name, verifier, &until, template, deadline, mark)).await?;
            }
        }
        Ok(Vec::new())
    }
}

/// Tells every session of a role to end, until none remains; says how many there were at most.
async fn emptied(client: &Client, number: u32) -> Result<u64, Stopped> {
    let since = Stopwatch::start();
    let mut pause = Duration::from_millis(1);
    let mut found = 0;
    loop {
        let told = statement::terminate(client, number).await?;
        if told == 0 {
            return Ok(found);
        }
        found = told.max(found);
        if since.elapsed() > PARTING {
            let why = "its sessions were told to end, and some have not";
            return Err(Stopped::Because(Failure::refused(why)));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}
