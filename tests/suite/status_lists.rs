//! Status lists: where a token says that its status is, and what is found there, by our reading and by others'.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use belay::broker::Asked;
use belay::domain::agent::{AgentStatus, Role};
use belay::domain::cut::Target;
use belay::domain::decide::{Caller, Revoke};
use belay::domain::id::TokenId;
use belay::domain::key::Purpose;
use belay::domain::status::{PLACES, StatusPlace, first};
use belay::domain::time::{GRACE, Span};
use belay::store::Sqlite;
use serde_json::Value;

use crate::support::calls::Acting;
use crate::support::office::{Office, asked};
use crate::support::process::Broker;
use crate::support::{block_on, needs};

const VALID: u8 = 0;
const INVALID: u8 = 1;
const SUSPENDED: u8 = 2;

async fn office(directory: &std::path::Path) -> (Office, Caller) {
    let office = Office::open(Box::new(Sqlite::open(directory).unwrap()), directory).await;
    let boss = office.world.operator("boss", &[Role::Admin]).await;
    (office, boss)
}

/// A token, by its id and place.
async fn issued(office: &Office, agent: &Caller, scope: &str) -> (TokenId, StatusPlace) {
    let task = office.world.task(agent).await.id;
    let grant = office.world.grant(agent, task, &[scope]).await.unwrap().id;
    let token = office.token(agent, grant).await;
    let claims = office.broker.check(&asked(agent), &token).claims.unwrap();
    (claims.id, claims.status.unwrap())
}

/// The payload of a JWT.
fn payload(text: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

fn unpacked(text: &str) -> Vec<u8> {
    let list = payload(text);
    assert_eq!(list["status_list"]["bits"], 2);
    let packed = URL_SAFE_NO_PAD.decode(list["status_list"]["lst"].as_str().unwrap()).unwrap();
    let mut bytes = Vec::new();
    flate2::read::ZlibDecoder::new(&packed[..]).read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len(), PLACES as usize / 4);
    bytes
}

async fn value(office: &Office, place: StatusPlace) -> u8 {
    let text = office.broker.status_list(place.list).await.unwrap();
    unpacked(&text)[place.index as usize / 4] >> (place.index % 4 * 2) & 3
}

/// Waits until the list says so: it is at most half a second behind.
async fn says(office: &Office, place: StatusPlace, wanted: u8, what: &str) {
    for _ in 0..100 {
        if value(office, place).await == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what}: {}, not {wanted}", value(office, place).await);
}

#[test]
fn a_list_says_of_each_token_what_would_be_said_of_it_here() {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let (office, boss) = office(directory.path()).await;
        let (ana, bob) = (office.world.agent("ana").await, office.world.agent("bob").await);
        let (mine, other) = (issued(&office, &ana, "db:read@**").await, issued(&office, &bob, "db:read@**").await);
        let third = issued(&office, &ana, "db:read@**").await;
        for (_, place) in [mine, other, third] {
            says(&office, place, VALID, "live").await;
        }
        office.world.set_agent("bob", AgentStatus::Suspended).await;
        says(&office, other.1, SUSPENDED, "halted").await;
        office.world.set_agent("bob", AgentStatus::Active).await;
        says(&office, other.1, VALID, "resumed").await;
        let cut = |target| Revoke { target, reason: "testing".parse().unwrap(), dry_run: false };
        office.world.submit(&boss, cut(Target::Token(mine.0))).await.unwrap();
        says(&office, mine.1, INVALID, "cut alone").await;
        assert_eq!((value(&office, other.1).await, value(&office, third.1).await), (VALID, VALID));
        office.world.submit(&boss, cut(Target::Agent("bob".parse().unwrap()))).await.unwrap();
        says(&office, other.1, INVALID, "cut by name").await;

        let kid = office.broker.accepted_keys(&[Purpose::Token]).remove(0).kid;
        office.broker.taint_key(&Asked::broker("test"), kid, "testing".parse().unwrap()).await.unwrap();
        says(&office, third.1, INVALID, "of a tainted key").await;
        let list = office.broker.status_list(third.1.list).await.unwrap();
        assert_eq!(office.broker.check(&asked(&ana), &*list).refusal.unwrap().0, "token_type", "a list is no token");
    });
}

#[test]
fn where_a_token_is_on_a_list_says_nothing_of_its_neighbours() {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let (office, _) = office(directory.path()).await;
        let ana = office.world.agent("ana").await;
        let task = office.world.task(&ana).await.id;
        let grant = office.world.grant(&ana, task, &["db:read@**"]).await.unwrap().id;
        let mut places = Vec::new();
        for _ in 0..400 {
            let token = office.token(&ana, grant).await;
            places.push(office.broker.check(&asked(&ana), &token).claims.unwrap().status.unwrap());
        }
        assert_eq!(places.iter().collect::<HashSet<_>>().len(), places.len(), "two tokens at one place");
        let list = first(office.world.ledger.now());
        assert!(places.iter().all(|place| place.list == list), "a list that is less than half full takes more");
        // By chance two are within a fiftieth of the list of each other one time in 25: of 399, 16; more than 50, never.
        let near = |span: u32| {
            let apart = places.windows(2).map(|two| two[0].index.abs_diff(two[1].index));
            apart.filter(|apart| *apart <= span).count()
        };
        assert!(near(PLACES / 50) < 50, "{} of 399 are near the one before", near(PLACES / 50));
        let rising = places.windows(2).filter(|two| two[0].index < two[1].index).count();
        assert!((120..280).contains(&rising), "{rising} of 399 lie behind the one before");
        let halves = places.iter().filter(|place| place.index < PLACES / 2).count();
        assert!((130..270).contains(&halves), "{halves} of 400 lie in the first half");
    });
}

#[test]
fn a_list_is_there_for_as_long_as_the_tokens_on_it() {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let (office, _) = office(directory.path()).await;
        let ana = office.world.agent("ana").await;
        let (_, early) = issued(&office, &ana, "db:read@**").await;
        assert!(office.broker.status_list(early.list).await.is_ok());
        assert_eq!(office.broker.status_list(early.list + 1).await.unwrap_err().reason, "not_found");
        office.world.hands.turn(Span::hours(1));
        let ana = Caller::Agent(office.world.identity(belay::domain::agent::Kind::Agent, "ana").await);
        let (_, late) = issued(&office, &ana, "db:read@**").await;
        assert_eq!(late.list, early.list + 1024, "the tokens of another hour are on other lists");
        office.world.hands.turn(GRACE);
        office.world.agent("bob").await;
        assert_eq!(office.broker.status_list(early.list).await.unwrap_err().reason, "not_found");
        let list = payload(&office.broker.status_list(late.list).await.unwrap());
        let now = office.world.ledger.now().seconds();
        assert_eq!(
            (list["iat"].as_i64(), list["exp"].as_i64(), list["ttl"].as_i64()),
            (Some(now), Some(now + 60), Some(15))
        );
        assert_eq!(list["sub"], format!("https://example.org/statuslists/{}", late.list));
    });
}

#[test]
fn status_lists_are_made_seldom_however_many_ask() {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let (office, _) = office(directory.path()).await;
        let ana = office.world.agent("ana").await;
        let (_, place) = issued(&office, &ana, "db:read@**").await;
        let since = std::time::Instant::now();
        let mut seen = HashSet::new();
        for asked in 0..2000 {
            // The log moves on all the while.
            if asked % 100 == 0 {
                office.world.agent(&format!("a{asked}")).await;
            }
            // Each signature is another one.
            seen.insert(office.broker.status_list(place.list).await.unwrap());
        }
        let most = since.elapsed().as_millis() / belay::effect::status::LAG.as_millis() + 1;
        assert!(seen.len() as u128 <= most, "{} lists in {:?}", seen.len(), since.elapsed());
    });
}

/// Reads a status list as a service would that shares no code with us: its name, key set and the place come on stdin.
const READER: &str = r#"
import base64, json, sys, zlib
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives import hashes
given = json.load(sys.stdin)
unpad = lambda text: base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
number = lambda text: int.from_bytes(unpad(text), "big")
header, payload, signature = given["list"].split(".")
head, body, raw = json.loads(unpad(header)), json.loads(unpad(payload)), unpad(signature)
assert head["typ"] == "statuslist+jwt" and head["alg"] == "ES256", head
key = next(key for key in given["keys"] if key["kid"] == head["kid"])
public = ec.EllipticCurvePublicNumbers(number(key["x"]), number(key["y"]), ec.SECP256R1()).public_key()
pair = [int.from_bytes(half, "big") for half in (raw[:32], raw[32:])]
public.verify(utils.encode_dss_signature(*pair), f"{header}.{payload}".encode(), ec.ECDSA(hashes.SHA256()))
assert body["sub"] == given["uri"], body["sub"]
assert body["iat"] < body["exp"] and body["ttl"] <= body["exp"] - body["iat"], body
bits = body["status_list"]["bits"]
packed = zlib.decompress(unpad(body["status_list"]["lst"]))
place = given["idx"] * bits
print(packed[place // 8] >> (place % 8) & (1 << bits) - 1)
"#;

fn read_by_python(given: &Value) -> u8 {
    let mut python = Command::new("python3");
    python.args(["-c", READER]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut python = python.spawn().unwrap();
    python.stdin.take().unwrap().write_all(given.to_string().as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "it does not read the list");
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn somebody_elses_reader_finds_the_status_of_a_token() {
    let python = Command::new("python3").args(["-c", "import cryptography"]).stderr(Stdio::null()).status();
    let found = python.is_ok_and(|status| status.success());
    if !needs("somebody_elses_reader_finds_the_status_of_a_token", "python3 with cryptography", found) {
        return;
    }
    let broker = Broker::start();
    let ana = Acting::with(&broker, &broker.enroll_agent("ana").await).await;
    let ((grant, _, token), (other, ..)) = (ana.granted().await, ana.granted().await);
    let status = payload(&token)["status"]["status_list"].clone();
    let uri = status["uri"].as_str().unwrap();
    let path = uri.strip_prefix("https://belay.dev").unwrap();
    let read = async || {
        let (code, headers, list) = broker.page(path).await;
        assert_eq!(code, "HTTP/1.1 200 OK");
        assert!(headers.contains("content-type: application/statuslist+jwt"), "{headers}");
        let keys: Value = serde_json::from_str(&broker.page("/.well-known/jwks.json").await.2).unwrap();
        read_by_python(&serde_json::json!({
            "list": list, "keys": keys["keys"], "uri": uri, "idx": status["idx"],
        }))
    };
    let settles = async |wanted: u8, what: &str| {
        let since = std::time::Instant::now();
        while read().await != wanted {
            assert!(since.elapsed() < Duration::from_secs(10), "{what}");
        }
        println!("{what}: {} ms", since.elapsed().as_millis());
    };
    settles(VALID, "valid").await;
    broker.run(&["revoke", &other, "--reason", "testing"]).ok();
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(read().await, VALID, "another's cut is not its own");
    broker.run(&["grant", "suspend", &grant]).ok();
    settles(SUSPENDED, "suspended").await;
    broker.run(&["grant", "resume", &grant]).ok();
    settles(VALID, "resumed").await;
    broker.run(&["revoke", &grant, "--reason", "testing"]).ok();
    settles(INVALID, "revoked").await;
    for path in ["0", "x", "01", "-1", "18446744073709551616"] {
        assert_eq!(broker.page(&format!("/statuslists/{path}")).await.0, "HTTP/1.1 404 Not Found", "{path}");
    }
}
