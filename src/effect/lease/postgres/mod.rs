//! PostgreSQL: a lease is a role that may log in, granted from a template role.

mod address;
mod check;
mod estate;
mod job;
mod session;
mod statement;
mod tls;

use std::time::Duration;

use futures_util::future::BoxFuture;
use postgres_protocol::password::scram_sha_256;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;
use zeroize::Zeroizing;

use super::{Failure, Order, Parted, Probe, Secret, Target};
use crate::domain::error;
use crate::domain::id::LeaseId;
use crate::domain::lease::lease_of;
use crate::domain::name::{Name, TrustDomain};
use crate::domain::time::Span;
use address::Address;
use job::{Creation, Job, Stopped};
use session::Lanes;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long one operation may take in all; each of its statements has ten seconds by the server.
const ATTEMPT: Duration = Duration::from_secs(25);
/// Connections that end and halt, and connections that make: no making stands before a cut.
const LANES: (usize, usize) = (6, 3);

/// One PostgreSQL server, and a database on it.
pub struct Postgres {
    address: Address,
    ending: Lanes,
    making: Lanes,
    /// What stands on every role of ours.
    mark: String,
}

impl Postgres {
    /// The server at this URL, for the broker of a trust domain: others may lease in it too.
    ///
    /// # Errors
    /// The URL is not one, or would have the password sent over a network in the clear.
    pub fn at(url: &str, domain: &TrustDomain) -> Result<Self, error::Error> {
        let (ending, making) = (Lanes::new(LANES.0), Lanes::new(LANES.1));
        let mark = format!("leased by belay of {domain}");
        Ok(Self { address: Address::parse(url)?, ending, making, mark })
    }

    /// Does something on one of the connections, once more on a new one if that was closed meanwhile.
    async fn on(&self, lanes: &Lanes, job: &Job<'_>) -> Result<Vec<String>, Failure> {
        let late = || Failure::away(format!("the server did not answer within {} s", ATTEMPT.as_secs()));
        tokio::time::timeout(ATTEMPT, self.attempt(lanes, job)).await.unwrap_or_else(|_| Err(late()))
    }

    async fn attempt(&self, lanes: &Lanes, job: &Job<'_>) -> Result<Vec<String>, Failure> {
        loop {
            let mut lane = lanes.lane(&self.address).await?;
            let error = match lane.session.run(job).await {
                Ok(done) => {
                    lane.keep();
                    return Ok(done);
                }
                Err(Stopped::Because(failure)) => {
                    lane.keep();
                    return Err(failure);
                }
                Err(Stopped::By(error)) => error,
            };
            match error.as_db_error().map(|refusal| is_going(refusal.code())) {
                // Closed since it was used last, or told so only now.
                None | Some(true) if lane.warm => lanes.forget(),
                None | Some(true) => return Err(session::away(&error)),
                Some(false) => {
                    lane.keep();
                    return Err(said(&error));
                }
            }
        }
    }

    async fn create(&self, order: Order<'_>) -> Result<Secret, Failure> {
        let Order { username, role, password, left } = order;
        // The server gets no password, nor do its logs: only what a password is checked against.
        let verifier = Zeroizing::new(scram_sha_256(password.as_bytes()));
        let creation =
            Creation { name: username, verifier: &verifier, template: role.as_str(), mark: &self.mark, left };
        // A cut is quicker by what connecting takes, which is most of it.
        let (create, wanted) = (Job::Create(creation), self.ending.count() + 1);
        let (made, ()) = tokio::join!(self.on(&self.making, &create), self.ending.open(&self.address, wanted));
        made?;
        let url = self.address.url_for(username, password);
        Ok(Secret { username: username.to_owned(), password: Zeroizing::new(password.to_owned()), url })
    }

    /// Nobody comes in by this name, and no session is left. Its name may be taken for that.
    async fn disable(&self, username: &str, claim: bool) -> Result<Parted, Failure> {
        let text = statement::disable(username, claim.then_some(self.mark.as_str()));
        let number = self.on(&self.ending, &Job::Empty(text, username)).await?;
        Ok(Parted(number.first().and_then(|number| number.parse().ok())))
    }

    async fn look_again(&self, parted: Parted) -> Result<u64, Failure> {
        let Some(number) = parted.0 else { return Ok(0) };
        let found = self.on(&self.ending, &Job::Again(number)).await?;
        Ok(found.first().and_then(|found| found.parse().ok()).unwrap_or(0))
    }

    async fn take_away(&self, username: &str, role: Option<&Name>, hold: bool) -> Result<Parted, Failure> {
        let parted = self.disable(username, hold).await?;
        if hold {
            return Ok(parted);
        }
        let texts = vec![estate::disown(username), estate::drop_role(username, role.map(Name::as_str))];
        let dropped = self.on(&self.ending, &Job::Run(texts)).await;
        dropped.map(|_| parted).map_err(|failure| Failure { powerless: true, ..failure })
    }

    async fn list(&self) -> Result<Vec<LeaseId>, Failure> {
        let query = format!(
            "SELECT rolname FROM pg_catalog.pg_roles WHERE rolname LIKE 'belay\\_%' \
             AND pg_catalog.shobj_description(oid, 'pg_authid') = {}",
            statement::literal(&self.mark)
        );
        let names = self.on(&self.ending, &Job::Column(query)).await?;
        self.ending.open(&self.address, names.len()).await;
        Ok(names.iter().filter_map(|name| lease_of(name)).collect())
    }
}

/// The server is on its way down, up, or full: nothing is wrong with what it was asked.
fn is_going(code: &SqlState) -> bool {
    code.code().starts_with("57P") || code.code().starts_with("08") || code.code().starts_with("53")
}

/// What the server says, without what it was asked.
fn said(error: &Error) -> Failure {
    let Some(refusal) = error.as_db_error() else { return session::away(error) };
    if refusal.code().code() == statement::TOO_LATE {
        return Failure::refused("it was not made in time");
    }
    if *refusal.code() == SqlState::DUPLICATE_OBJECT || *refusal.code() == SqlState::UNIQUE_VIOLATION {
        return Failure::refused("its name is taken: it is over already");
    }
    if *refusal.code() == SqlState::DEPENDENT_OBJECTS_STILL_EXIST {
        return Failure::refused(
            "nobody can log in, but it owns something, or was given rights, in another database or with no template to \
             hand it to: REASSIGN OWNED BY and DROP OWNED BY it there",
        );
    }
    Failure::refused(format!("the server refuses: {}", refusal.message()))
}

impl Target for Postgres {
    fn check<'a>(&'a self, probes: &'a [Probe]) -> BoxFuture<'a, Vec<String>> {
        Box::pin(check::findings(self, probes))
    }

    fn make<'a>(&'a self, order: Order<'a>) -> BoxFuture<'a, Result<Secret, Failure>> {
        Box::pin(self.create(order))
    }

    fn halt<'a>(&'a self, username: &'a str) -> BoxFuture<'a, Result<Parted, Failure>> {
        Box::pin(self.disable(username, false))
    }

    fn resume<'a>(&'a self, username: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move { self.on(&self.ending, &Job::Enable(username)).await.map(drop) })
    }

    fn end<'a>(
        &'a self,
        username: &'a str,
        role: Option<&'a Name>,
        hold: bool,
    ) -> BoxFuture<'a, Result<Parted, Failure>> {
        Box::pin(self.take_away(username, role, hold))
    }

    fn again(&self, parted: Parted) -> BoxFuture<'_, Result<u64, Failure>> {
        Box::pin(self.look_again(parted))
    }

    fn place(&self) -> String {
        self.address.place()
    }

    fn ours(&self) -> BoxFuture<'_, Result<Vec<LeaseId>, Failure>> {
        Box::pin(self.list())
    }
}

/// How long a probe may take to be made, and lives.
const PROBE: (Span, Span) = (Span::seconds(10), Span::minutes(5));
