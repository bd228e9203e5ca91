//! SIGHUP: what a production broker takes over while it runs, what it keeps, and that an error changes nothing.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::support::process::Broker;
use crate::support::production::{Page, Place, write_private};

/// How often the log says this.
fn said(place: &Place, words: &str) -> usize {
    std::fs::read_to_string(place.at("serve.log")).unwrap().matches(words).count()
}

fn hangup(broker: &Broker) {
    kill_process(Pid::from_raw(broker.pid().cast_signed()).unwrap(), Signal::HUP).unwrap();
}

/// Sends SIGHUP and waits until the log says this once more.
async fn reload(broker: &Broker, place: &Place, words: &str) {
    let before = said(place, words);
    hangup(broker);
    for _ in 0..1000 {
        if said(place, words) > before {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{}", std::fs::read_to_string(place.at("serve.log")).unwrap());
}

const TAKEN: &str = "\"the configuration was read again\"";
const REFUSED: &str = "the configuration was not read again";

/// A connection to the pages that believes the broker's CA and these certificates.
async fn connect(broker: &Broker, pages: &[&Page]) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(broker.authority().into()).unwrap();
    pages.iter().for_each(|page| roots.add(page.der.clone().into()).unwrap());
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let socket = TcpStream::connect(broker.http.trim_start_matches("https://")).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect("127.0.0.1".try_into().unwrap(), socket).await.unwrap()
}

/// The certificate that a new connection is shown.
async fn shown(broker: &Broker, pages: &[&Page]) -> Vec<u8> {
    let stream = connect(broker, pages).await;
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

/// Asks for a page on a connection that stays open.
async fn is_served(stream: &mut TlsStream<TcpStream>) {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nok\n") {
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read_buf(&mut answer)).await.unwrap().unwrap();
        assert_ne!(read, 0, "{:?}", String::from_utf8_lossy(&answer));
    }
}

#[tokio::test]
async fn a_replaced_certificate_counts_for_new_connections_and_ends_no_old_one() {
    let place = Place::initialised("");
    let first = place.certificate("page");
    place.configure(&first.lines());
    let broker = Broker::start_production(place.home());
    assert_eq!(shown(&broker, &[&first]).await, first.der);
    let mut old = connect(&broker, &[&first]).await;
    is_served(&mut old).await;
    let channel = broker.channel_as(&place.at("operator")).await.unwrap();

    let second = place.certificate("page");
    assert_eq!(shown(&broker, &[&first]).await, first.der, "nothing was asked for yet");
    reload(&broker, &place, TAKEN).await;
    assert_eq!(shown(&broker, &[&second]).await, second.der);
    is_served(&mut old).await;
    let mut agents = belay::wire::v1::agents_client::AgentsClient::new(channel);
    agents.list(belay::wire::v1::ListAgentsRequest::default()).await.unwrap();

    // Without one of its own the pages present what the broker's authority issued, and back again.
    place.configure("");
    reload(&broker, &place, TAKEN).await;
    let own = shown(&broker, &[]).await;
    assert!(own != first.der && own != second.der);
    place.configure(&second.lines());
    reload(&broker, &place, TAKEN).await;
    assert_eq!(shown(&broker, &[&second]).await, second.der);
    is_served(&mut old).await;
}

#[tokio::test]
async fn a_reload_with_an_error_keeps_all_of_the_old() {
    let place = Place::initialised("");
    let page = place.certificate("page");
    place.configure(&page.lines());
    let broker = Broker::start_production(place.home());
    let (pem, key) = (std::fs::read_to_string(&page.certificate).unwrap(), std::fs::read_to_string(&page.key).unwrap());
    let good = std::fs::read_to_string(place.at("belay.toml")).unwrap();
    let other = place.certificate("other");
    let other_pem = std::fs::read_to_string(&other.certificate).unwrap();
    let other_key = std::fs::read_to_string(&other.key).unwrap();

    let halves = [
        (other_pem.as_str(), key.as_str(), good.clone()),
        (&pem, &other_key, good.clone()),
        (&other_pem[..other_pem.len() / 2], &other_key, good.clone()),
        (&other_pem, &other_key[..other_key.len() / 2], good.clone()),
        ("", &other_key, good.clone()),
        (&other_pem, "", good.clone()),
        // A certificate that is good counts for nothing beside a configuration that is not.
        (&other_pem, &other_key, good[..good.len() / 2].to_owned()),
        (&other_pem, &other_key, String::new()),
        (&other_pem, &other_key, good.clone() + "names = ['new.example'"),
        (&other_pem, &other_key, good.clone() + "names = ['new.example']\ndrain = '0s'"),
        (&other_pem, &other_key, good.clone() + "trust = 'x'"),
    ];
    for (at, (half_pem, half_key, config)) in halves.iter().enumerate() {
        std::fs::write(&page.certificate, half_pem).unwrap();
        write_private(&page.key, half_key);
        std::fs::write(place.at("belay.toml"), config).unwrap();
        reload(&broker, &place, REFUSED).await;
        assert_eq!(shown(&broker, &[&page, &other]).await, page.der, "{at}");
        assert_eq!(said(&place, REFUSED), at + 1, "each is told");
    }
    std::fs::remove_file(place.at("belay.toml")).unwrap();
    reload(&broker, &place, REFUSED).await;
    assert_eq!(said(&place, TAKEN), 0);
    let log = std::fs::read_to_string(place.at("serve.log")).unwrap();
    let secret = key.lines().nth(1).unwrap();
    assert!(!log.contains(secret) && !log.contains("PRIVATE KEY"));
    assert_eq!(broker.run(&["status"]).ok()["ready"], true);

    std::fs::write(place.at("belay.toml"), &good).unwrap();
    write_private(&page.key, &other_key);
    std::fs::write(&page.certificate, &other_pem).unwrap();
    reload(&broker, &place, TAKEN).await;
    assert_eq!(shown(&broker, &[&other]).await, other.der);
}

#[tokio::test]
async fn names_and_log_levels_change_and_what_needs_a_restart_is_named() {
    let place = Place::initialised("");
    let broker = Broker::start_production(place.home());
    let before = shown(&broker, &[]).await;
    place.configure("names = ['new.example']\nlog = 'off'\ndrain = '1s'");
    // Its own line is still logged, or is not: what comes after it tells.
    let invited = async || {
        for _ in 0..1000 {
            if shown(&broker, &[]).await != before {
                return broker.run(&["agent", "register", "a", "--owner", "o", "--purpose", "p"]).ok();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the listeners did not get a certificate for the new name");
    };
    hangup(&broker);
    let invited = invited().await;
    let certificate = shown(&broker, &[]).await;
    assert!(certificate.windows(11).any(|name| name == b"new.example"));
    let token: belay::format::join::JoinToken = invited["join_token"].as_str().unwrap().parse().unwrap();
    let port = broker.addr.rsplit(':').next().unwrap();
    assert_eq!(token.addr, format!("https://new.example:{port}"));
    let quiet = std::fs::read_to_string(place.at("serve.log")).unwrap();
    broker.run(&["agent", "show", "nobody"]);
    assert_eq!(std::fs::read_to_string(place.at("serve.log")).unwrap(), quiet, "`log` is off and something is logged");

    let fixed = place.needed().replace("test.example", "other.example").replace("/data'", "/other'");
    std::fs::write(place.at("belay.toml"), fixed + "snapshot_every = 7\nissuer = 'https://other.example'").unwrap();
    reload(&broker, &place, "change only by a restart").await;
    assert_eq!(said(&place, "\"keys\":\"trust_domain, issuer, data, snapshot_every\""), 1);
    let status = broker.run(&["status"]).ok();
    assert_eq!((&status["trust_domain"], &status["ready"]), (&"test.example".into(), &true.into()));
    assert!(!place.at("other").exists());
}

#[tokio::test]
async fn a_storm_of_hangups_is_harmless() {
    let place = Place::initialised("");
    let broker = Broker::start_production(place.home());
    let agent = broker.agent("coder");
    let size = broker.run(&["status"]).ok()["seq"].as_u64().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| (0..2000).for_each(|_| hangup(&broker)));
        for _ in 0..3 {
            broker.run_as(&agent, &["task", "start", "testing"]).ok();
        }
    });
    reload(&broker, &place, TAKEN).await;
    assert_eq!(
        broker.run(&["status"]).ok()["seq"].as_u64().unwrap(),
        size + 3,
        "a reload that changes nothing is no event"
    );
    assert_eq!(said(&place, REFUSED), 0);
}
