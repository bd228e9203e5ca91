//! Written before released: a token or certificate that anybody got is in the log, whatever the store did.

use std::collections::BTreeSet;

use belay::attest::{csr, mtls};
use belay::broker::Readers;
use belay::broker::{Asked, Broker, Foundation, idempotency};
use belay::client::identity;
use belay::domain::agent::Kind;
use belay::domain::decide::{Caller, IssueCertificate, IssueToken, RegisterAgent, RequestGrant, StartTask};
use belay::domain::error::{Code, Error};
use belay::domain::event::Body;
use belay::domain::id::{GrantId, TaskId};
use belay::domain::scope::Scopes;
use belay::domain::time::Span;
use belay::ledger::{Ledger, Seeds};

use crate::support::backend::Backend;
use crate::support::block_on;
use crate::support::faulty::{Control, Fault, Faulty, Stage};
use crate::support::world::Hands;
use crate::turn_contract::register;

/// A broker over a store that fails, an agent with a grant, and every credential that came out.
struct Trial {
    backend: Backend,
    broker: Broker,
    control: Control,
    planner: Asked,
    task: TaskId,
    grant: GrantId,
    /// Tokens by id, certificates by their bytes.
    released: BTreeSet<Vec<u8>>,
}

/// How a credential is asked for, and how many commits that takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Enroll,
    Renew,
    Token,
    GrantWithToken,
    Certificate,
}

const WAYS: [(Way, u64); 5] =
    [(Way::Token, 1), (Way::GrantWithToken, 1), (Way::Certificate, 2), (Way::Enroll, 2), (Way::Renew, 2)];

fn asked(caller: Caller) -> Asked {
    Asked { caller, request_id: "test".to_owned() }
}

/// A new key, proven.
fn key() -> Vec<u8> {
    csr::prove(&identity::request(None).unwrap().1).unwrap().spki
}

impl Trial {
    async fn new(backend: Backend) -> Self {
        let (store, control) = Faulty::over(backend.open());
        let foundation = Foundation {
            store,
            clock: Hands::new(),
            seeds: Seeds::fixed([4; 32]),
            snapshot_every: 1_000_000,
            trust_domain: "example.org".parse().unwrap(),
            issuer: "https://example.org".parse().unwrap(),
            address: "https://127.0.0.1:1".to_owned(),
            policies: belay::cedar::Set::dev,
        };
        let broker = Broker::open(foundation, &backend.directory()).await.unwrap();
        let join = invite(&broker, "planner").await;
        let der = broker.enroll(&asked(Caller::Stranger), &join, None, &key(), |_| Ok(())).await.unwrap().der;
        let (kind, presenter) = mtls::present(&der, &broker.origin().trust_domain).unwrap();
        assert_eq!(kind, Kind::Agent);
        let planner = asked(Caller::Agent(presenter));
        let start =
            StartTask { purpose: "testing".parse().unwrap(), subject: None, ttl: Span::hours(1), envelope: None };
        let task = broker.submit(&planner, start).await.unwrap().task.id;
        let grant = broker.submit(&planner, request(task, false)).await.unwrap().grant.id;
        Self { backend, broker, control, planner, task, grant, released: BTreeSet::from([der]) }
    }

    /// Asks for a credential, and keeps what comes.
    async fn ask(&mut self, way: Way) -> Result<(), Error> {
        let broker = &self.broker;
        let credential = match way {
            Way::Enroll => {
                let name = format!("agent-{}", self.control.commits());
                let join = invite(broker, &name).await;
                let key = key();
                let first = broker.enroll(&asked(Caller::Stranger), &join, None, &key, |_| Ok(())).await;
                if first.is_err() && broker.ledger().is_alive() {
                    // The same token and key again: a certificate all the same, and durable.
                    let again = broker.enroll(&asked(Caller::Stranger), &join, None, &key, |_| Ok(())).await.unwrap();
                    self.released.insert(again.der);
                }
                first?.der
            }
            Way::Certificate => {
                let (grant, key, planner) = (self.grant, key(), &self.planner);
                let issue = async || {
                    let once = idempotency::<IssueCertificate>(&format!("{:?}", &key[27..35]).replace(' ', ""), &key);
                    broker.issue_certificate(planner, grant, &key, |_| Ok(()), once.unwrap()).await
                };
                let first = issue().await;
                if broker.ledger().is_alive() {
                    // The same request again: the same bytes, or those of another serial if there were none.
                    let again = issue().await.unwrap();
                    assert!(first.as_ref().map_or(true, |first| first.der == again.der));
                    self.released.insert(again.der);
                    first?;
                    return Ok(());
                }
                first?.der
            }
            Way::Renew => broker.renew(&self.planner, &key(), |_| Ok(())).await?.der,
            Way::Token => {
                let answer = broker.submit(&self.planner, IssueToken { grant: self.grant, audience: None }).await?;
                broker.sign_token(answer)?.id.to_string().into_bytes()
            }
            Way::GrantWithToken => {
                let granted = broker.submit(&self.planner, request(self.task, true)).await?;
                broker.sign_token(granted.token.unwrap())?.id.to_string().into_bytes()
            }
        };
        assert!(self.released.insert(credential), "the same credential twice");
        Ok(())
    }

    /// Ends the broker: what the log holds, by a ledger that opens it anew.
    fn recorded(self) -> (BTreeSet<Vec<u8>>, BTreeSet<Vec<u8>>) {
        let Self { backend, broker, released, .. } = self;
        broker.ledger().close();
        drop(broker);
        let ledger =
            Ledger::open(backend.open(), Hands::new(), Seeds::fixed([9; 32]), 1_000_000, std::sync::Arc::new(Readers))
                .unwrap();
        let recorded = ledger.entries(0, u32::MAX).unwrap().into_iter().filter_map(|(_, entry, _)| match entry.body {
            Body::TokenIssued { token } => Some(token.id.to_string().into_bytes()),
            Body::CertificateSigned { der, .. } => Some(der),
            _ => None,
        });
        (released, recorded.collect())
    }
}

async fn invite(broker: &Broker, name: &str) -> belay::format::join::JoinToken {
    let secret = broker.join_secret();
    let command = RegisterAgent { secret_hash: secret.hash(), ..register(name) };
    let (_, join) = broker.submit(&Asked::broker("test"), command).await.unwrap();
    broker.join_token(&join, secret).parse().unwrap()
}

fn request(task: TaskId, token: bool) -> RequestGrant {
    let scopes = Scopes::parse(&["db:read@**"]).unwrap();
    RequestGrant {
        task,
        scopes,
        audience: None,
        ttl: Span::minutes(15),
        token,
        limits: Default::default(),
        narrow: false,
    }
}

#[test]
fn no_credential_is_released_before_its_event_is_durable() {
    for fault in Fault::ALL {
        for (way, commits) in WAYS {
            for at in 0..commits {
                block_on(async {
                    let mut trial = Trial::new(Backend::memory()).await;
                    trial.ask(way).await.unwrap();
                    // An enrolment is invited first.
                    trial.control.fail(at + u64::from(way == Way::Enroll), fault);
                    let outcome = trial.ask(way).await;
                    let context = format!("{fault:?} at commit {at} of {way:?}");
                    assert!(trial.control.has_failed(), "{context} was never reached");
                    if !fault.is_fatal() {
                        trial.ask(way).await.unwrap();
                    }
                    let (released, recorded) = trial.recorded();
                    assert!(released.len() >= 2, "{context}: nothing was released");
                    assert!(released.is_subset(&recorded), "{context}: a credential got out that is not in the log");
                    assert_eq!(outcome.is_ok(), fault == Fault::KeptUnknown, "{context}: {outcome:?}");
                    if let Err(error) = outcome {
                        assert_eq!(error.code, Code::Unavailable, "{context}: {error}");
                    }
                });
            }
        }
    }
}

#[test]
fn no_credential_is_released_while_its_commit_is_under_way() {
    for (way, _) in WAYS.into_iter().filter(|(way, _)| *way != Way::Enroll) {
        block_on(async {
            let mut trial = Trial::new(Backend::sqlite()).await;
            let control = trial.control.clone();
            control.hold(Stage::Commit);
            let mut credential = Box::pin(trial.ask(way));
            let wait = std::time::Duration::from_millis(30);
            assert!(tokio::time::timeout(wait, credential.as_mut()).await.is_err(), "{way:?} was not waited for");
            control.held().await;
            // The power fails here.
            control.fail(0, Fault::LostFatal);
            control.release();
            credential.as_mut().await.unwrap_err();
            drop(credential);
            let (released, recorded) = trial.recorded();
            assert_eq!(released, recorded, "{way:?}");
        });
    }
}
