//! Revocation lists: who is on them, why, for how long, and what a list says of itself.

use std::time::Duration;

use belay::broker::{Asked, Issued};
use belay::client::identity;
use belay::domain::agent::{AgentStatus, Kind, Role};
use belay::domain::crl::{self, KEPT};
use belay::domain::cut::Target;
use belay::domain::decide::{Caller, RemoveOperator, Revoke, SetGrantStatus};
use belay::domain::grant::Status;
use belay::domain::id::{CertificateId, GrantId};
use belay::domain::key::Purpose;
use belay::store::Sqlite;
use x509_parser::extensions::{DistributionPointName, GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::support::block_on;
use crate::support::office::{Office, asked};
use crate::support::process::Broker;

/// Reasons by RFC 5280 section 5.3.1.
const WITHDRAWN: u8 = 9;
const CEASED: u8 = 5;
const HELD: u8 = 6;

async fn office(directory: &std::path::Path) -> Office {
    Office::open(Box::new(Sqlite::open(directory).unwrap()), directory).await
}

async fn certificate(office: &Office, caller: &Caller, grant: GrantId) -> CertificateId {
    let spki = belay::attest::csr::prove(&identity::request(None).unwrap().1).unwrap().spki;
    let Issued { identity, .. } =
        office.broker.issue_certificate(&asked(caller), grant, &spki, |_| Ok(()), None).await.unwrap();
    identity.id
}

/// The reason that the list of a certificate gives for it.
async fn reason(office: &Office, id: CertificateId) -> Option<u8> {
    let kid = office.world.ledger.view(|view| view.certificate(&id).unwrap().authority.clone());
    let der = office.broker.revocation_list(&kid, crl::shard(id)).await.unwrap();
    let (_, list) = CertificateRevocationList::from_der(&der).unwrap();
    let mut found = list.iter_revoked_certificates().filter(|one| one.raw_serial() == id.uuid().as_bytes());
    let reason = found.next().map(|one| one.reason_code().unwrap().1.0);
    assert!(found.next().is_none(), "a serial number is on its list once");
    reason
}

/// Waits until the list says so: it is at most half a second behind.
async fn says(office: &Office, id: CertificateId, wanted: Option<u8>, what: &str) {
    for _ in 0..100 {
        if reason(office, id).await == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what}: {:?}, not {wanted:?}", reason(office, id).await);
}

async fn revoke(office: &Office, boss: &Caller, target: Target) {
    let revoke = Revoke { target, reason: "testing".parse().unwrap(), dry_run: false };
    office.world.submit(boss, revoke).await.unwrap();
}

async fn set(office: &Office, boss: &Caller, id: GrantId, status: Status) {
    let change = SetGrantStatus { id, status, reason: "testing".parse().unwrap() };
    office.world.submit(boss, change).await.unwrap();
}

#[test]
fn whatever_is_over_is_listed_with_its_reason_and_what_is_halted_leaves_again() {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let office = office(directory.path()).await;
        let boss = office.world.operator("boss", &[Role::Admin]).await;
        let (ana, bob) = (office.world.agent("ana").await, office.world.agent("bob").await);
        let task = office.world.task(&ana).await.id;
        let root = office.world.grant(&ana, task, &["db:read@**"]).await.unwrap().id;
        let child = office.world.delegate(&ana, root, "bob", &["db:read@a"]).await.unwrap().id;
        let (above, below) = (certificate(&office, &ana, root).await, certificate(&office, &bob, child).await);
        let alone = certificate(&office, &ana, root).await;
        let identity = bob.presenter().unwrap().certificate;
        for id in [above, below, alone, identity] {
            says(&office, id, None, "live").await;
        }

        // Halted: on hold, with all below, and back again. An identity is nobody's right to act: it is not halted.
        set(&office, &boss, root, Status::Suspended).await;
        says(&office, below, Some(HELD), "suspended above").await;
        set(&office, &boss, root, Status::Active).await;
        says(&office, below, None, "resumed").await;
        office.world.set_agent("bob", AgentStatus::Suspended).await;
        says(&office, below, Some(HELD), "of a suspended agent").await;
        assert_eq!(reason(&office, identity).await, None, "it may still give back what it holds");
        office.world.set_agent("bob", AgentStatus::Active).await;
        says(&office, below, None, "of a resumed agent").await;

        // Cut: alone, and by a name.
        revoke(&office, &boss, Target::Certificate(alone)).await;
        says(&office, alone, Some(WITHDRAWN), "cut").await;
        assert_eq!((reason(&office, above).await, reason(&office, below).await), (None, None));
        revoke(&office, &boss, Target::Agent("bob".parse().unwrap())).await;
        says(&office, below, Some(WITHDRAWN), "cut by name").await;
        assert_eq!(reason(&office, identity).await, None, "what was granted is cut, not who asked for it");

        // Over: given back, and whose holder is no more.
        set(&office, &ana, root, Status::Completed).await;
        says(&office, above, Some(CEASED), "given back").await;
        office.world.set_agent("bob", AgentStatus::Retired).await;
        says(&office, identity, Some(CEASED), "retired").await;
        let eve = office.world.operator("eve", &[Role::Auditor]).await.presenter().unwrap().certificate;
        says(&office, eve, None, "an operator").await;
        office
            .world
            .submit(&boss, RemoveOperator { name: "eve".parse().unwrap(), reason: "testing".parse().unwrap() })
            .await
            .unwrap();
        says(&office, eve, Some(CEASED), "removed").await;
    });
}

#[test]
fn an_entry_outlasts_its_certificate_by_more_than_one_list_and_then_leaves() {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let office = office(directory.path()).await;
        let boss = office.world.operator("boss", &[Role::Admin]).await;
        let ana = office.world.agent("ana").await;
        let task = office.world.task(&ana).await.id;
        let grant = office.world.grant(&ana, task, &["db:read@**"]).await.unwrap().id;
        let (cut, kept) = (certificate(&office, &ana, grant).await, certificate(&office, &ana, grant).await);
        revoke(&office, &boss, Target::Certificate(cut)).await;
        says(&office, cut, Some(WITHDRAWN), "cut").await;
        let end = office.world.ledger.view(|view| view.certificate(&cut).unwrap().not_after);
        office.world.hands.turn(end.plus(crl::LIFE).since(office.world.ledger.now()));
        // Something is recorded, and what is long over is collected.
        office.world.agent("carol").await;
        says(&office, cut, Some(WITHDRAWN), "a list after its end").await;
        assert_eq!(reason(&office, kept).await, None, "what ended by itself is no news");
        office.world.hands.turn(KEPT);
        office.world.agent("dave").await;
        says(&office, cut, None, "long over").await;
    });
}

#[test]
fn a_list_names_its_own_place_and_believes_no_later_than_a_minute() {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let office = office(directory.path()).await;
        let now = office.world.ledger.now();
        let [agents, operators] =
            [Purpose::Authority, Purpose::Operator].map(|purpose| office.broker.accepted_keys(&[purpose]).remove(0));
        for key in [&agents, &operators] {
            for shard in [0, 15] {
                let der = office.broker.revocation_list(&key.kid, shard).await.unwrap();
                let (rest, list) = CertificateRevocationList::from_der(&der).unwrap();
                assert!(
                    rest.is_empty() && list.version().unwrap().0 == 1 && list.iter_revoked_certificates().count() == 0
                );
                let (_, authority) = x509_parser::parse_x509_certificate(key.certificate.as_ref().unwrap()).unwrap();
                list.verify_signature(authority.public_key()).unwrap();
                let until = [list.last_update(), list.next_update().unwrap()].map(|at| at.timestamp() - now.seconds());
                assert_eq!(until, [-10, 60]);
                let mut place = None;
                for extension in list.extensions() {
                    match extension.parsed_extension() {
                        ParsedExtension::AuthorityKeyIdentifier(found) => {
                            let own = authority.extensions().iter().find_map(|one| match one.parsed_extension() {
                                ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
                                _ => None,
                            });
                            assert_eq!(found.key_identifier.as_ref().map(|id| id.0), own);
                        }
                        ParsedExtension::IssuingDistributionPoint(found) => {
                            assert!(extension.critical, "or a list of others would be taken for it");
                            let Some(DistributionPointName::FullName(names)) = &found.distribution_point else {
                                panic!("{found:?}")
                            };
                            let [GeneralName::URI(url)] = names[..] else { panic!("{names:?}") };
                            place = Some(url.to_owned());
                        }
                        ParsedExtension::CRLNumber(_) => {}
                        other => panic!("{other:?}"),
                    }
                }
                assert_eq!(place, Some(format!("https://example.org/crl/{}/{shard}.crl", key.kid)));
            }
            let beyond = office.broker.revocation_list(&key.kid, 16).await.unwrap_err();
            assert_eq!(beyond.reason, "not_found");
        }
        let token = office.broker.accepted_keys(&[Purpose::Token]).remove(0);
        assert_eq!(office.broker.revocation_list(&token.kid, 0).await.unwrap_err().reason, "not_found");
    });
}

#[test]
fn a_tainted_authority_lists_nothing_any_more() {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let office = office(directory.path()).await;
        let kid = office.broker.accepted_keys(&[Purpose::Authority]).remove(0).kid;
        assert!(office.broker.revocation_list(&kid, 3).await.is_ok());
        office.broker.taint_key(&Asked::broker("test"), kid.clone(), "testing".parse().unwrap()).await.unwrap();
        let refused = office.broker.revocation_list(&kid, 3).await.unwrap_err();
        assert_eq!(refused.reason, "authority_over", "whoever stole its key could sign an empty list just as well");
        let lists = office.broker.revocation_lists();
        assert!(lists.len() == 32 && lists.iter().all(|list| !list.contains(&kid)), "its successor has lists");
    });
}

#[test]
fn lists_are_made_seldom_however_many_ask() {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let office = office(directory.path()).await;
        let kid = office.broker.accepted_keys(&[Purpose::Authority]).remove(0).kid;
        let since = std::time::Instant::now();
        let mut seen = std::collections::BTreeSet::new();
        for asked in 0..2000 {
            // The log moves on all the while.
            if asked % 100 == 0 {
                office.world.agent(&format!("a{asked}")).await;
            }
            seen.insert(office.broker.revocation_list(&kid, 5).await.unwrap().to_vec());
        }
        let most = since.elapsed().as_millis() / belay::effect::crl::LAG.as_millis() + 1;
        assert!(seen.len() as u128 <= most, "{} lists in {:?}", seen.len(), since.elapsed());
    });
}

fn number(der: &[u8]) -> Vec<u8> {
    let (_, list) = CertificateRevocationList::from_der(der).unwrap();
    list.crl_number().unwrap().to_bytes_be()
}

#[tokio::test]
async fn the_numbers_of_lists_grow_from_start_to_start() {
    let home = tempfile::tempdir().unwrap();
    let mut numbers = Vec::new();
    for _ in 0..3 {
        let broker = Broker::start_in(home.path(), &[]);
        let (_, _, lists) = broker.page("/crl").await;
        let place = lists.lines().next().unwrap().split_once("//").unwrap().1.split_once('/').unwrap().1.to_owned();
        let (status, headers, der) = broker.file(&format!("/{place}")).await;
        assert_eq!(status, "HTTP/1.1 200 OK");
        assert!(headers.contains("content-type: application/pkix-crl") && headers.contains("max-age=5"), "{headers}");
        let number = number(&der);
        assert!(number.len() <= 20, "RFC 5280 section 5.2.3");
        numbers.push((number.len(), number, broker.log_size(&broker.channel().await).await));
    }
    assert!(numbers.is_sorted_by(|one, next| (one.0, &one.1) < (next.0, &next.1) && one.2 < next.2), "{numbers:?}");
}

#[tokio::test]
async fn a_list_has_one_address() {
    let broker = Broker::start();
    let (_, _, lists) = broker.page("/crl").await;
    let kid = lists.split('/').nth(4).unwrap();
    for path in ["16.crl", "03.crl", "+3.crl", "3", "3.crl.crl", "3.CRL", "-1.crl", ".crl"] {
        assert_eq!(broker.file(&format!("/crl/{kid}/{path}")).await.0, "HTTP/1.1 404 Not Found", "{path}");
    }
    assert_eq!(broker.page("/crl/nobody/3.crl").await.0, "HTTP/1.1 404 Not Found");
}

#[test]
fn an_identity_of_every_kind_names_its_list() {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let office = office(directory.path()).await;
        let (_, csr) = identity::request(None).unwrap();
        let spki = belay::attest::csr::prove(&csr).unwrap().spki;
        office.world.operator("eve", &[Role::Auditor]).await;
        office.world.agent("eve").await;
        for (kind, listed) in [(Kind::Operator, true), (Kind::Agent, true), (Kind::Server, false)] {
            let name = "eve".parse().unwrap();
            let names = if kind == Kind::Server { vec!["localhost".to_owned()] } else { Vec::new() };
            let own = belay::broker::OwnIdentity { kind, name, spki: spki.clone(), names, why: "test" };
            let issued = office.broker.own_identity(own).await.unwrap();
            let (_, read) = x509_parser::parse_x509_certificate(&issued.der).unwrap();
            let place = read.extensions().iter().find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::CRLDistributionPoints(found) => Some(format!("{found:?}")),
                _ => None,
            });
            let (kid, id) = (&issued.identity.authority, issued.identity.id);
            let url = format!("https://example.org/crl/{kid}/{}.crl", crl::shard(id));
            assert_eq!(place.is_some_and(|place| place.contains(&url)), listed, "{kind}");
        }
    });
}
