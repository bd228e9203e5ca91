//! How long an answer through a plain Envoy goes on: Envoy asks when a request begins, and ends what is open then at the
//! maximum that `deploy/envoy/belay.yaml` sets.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::routing::get;
use futures_util::stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::support::envoy::{Envoy, NEEDED, envoy, sample};
use crate::support::front::Front;
use crate::support::http::{self, request};
use crate::support::{needs, within};

/// What `deploy/envoy/belay.yaml` sets, and what `docs/ENFORCEMENT.md` says of it.
const MAXIMUM: (&str, &str) = ("max_stream_duration: 60s", "outlives a cut by 60 s at most");
/// How late an end may be seen on a machine that is busy.
const SLACK: Duration = Duration::from_secs(30);

/// A service with one answer that never ends by itself: events, numbered.
struct Endless {
    port: u16,
    told: Arc<AtomicUsize>,
}

impl Endless {
    async fn start() -> Self {
        let told: Arc<AtomicUsize> = Arc::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, count) = (listener.local_addr().unwrap().port(), Arc::clone(&told));
        let events = async move || {
            let events = stream::unfold(Arc::clone(&count), async |count| {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let event = format!("data: {}\n\n", count.fetch_add(1, Ordering::SeqCst) + 1);
                Some((Ok::<_, Infallible>(event), count))
            });
            ([("content-type", "text/event-stream")], Body::from_stream(events))
        };
        let service = axum::Router::new().route("/orders/events", get(events)).fallback(async || "done\n");
        tokio::spawn(async move { axum::serve(listener, service).await });
        Self { port, told }
    }
}

/// An answer that is still coming.
struct Coming {
    stream: TlsStream<TcpStream>,
    came: String,
}

impl Coming {
    /// Reads until an event after this one has come; false if the answer ends before.
    async fn goes_on_after(&mut self, event: usize) -> bool {
        let mut some = [0; 4096];
        loop {
            // The last line may be cut off.
            let whole = self.came.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
            let last =
                whole.rsplit("data: ").next().and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
            if last.is_some_and(|last| last > event) {
                return true;
            }
            match timeout(SLACK, self.stream.read(&mut some)).await.expect("nothing more comes, and no end") {
                Ok(read) if read > 0 => self.came.push_str(std::str::from_utf8(&some[..read]).unwrap()),
                _ => return false,
            }
        }
    }
}

/// Deploy's configuration with this maximum. It may wait longer for an answer than it does there: nothing here is about
/// a broker that is slow.
async fn before(service: u16, front: &Front, maximum: Duration, program: &Path) -> Envoy {
    let port = front.broker.addr.rsplit(':').next().unwrap();
    let own = |name: &str| front.pep.join(name).display().to_string();
    Envoy::with(program, |at| {
        let admin = "admin: { address: { socket_address: { address: 127.0.0.1, port_value: 0 } } }\n";
        let configuration = sample(&[
            ("/etc/envoy/tls/server.pem", at("server.pem")),
            ("/etc/envoy/tls/server.key", at("server.key")),
            ("/etc/envoy/belay/ca.pem", own("ca.pem")),
            ("/etc/envoy/belay/cert.pem", own("cert.pem")),
            ("/etc/envoy/belay/key.pem", own("key.pem")),
            ("address: 0.0.0.0, port_value: 8443", "address: 127.0.0.1, port_value: 0".to_owned()),
            ("address: 127.0.0.1, port_value: 8080", format!("address: 127.0.0.1, port_value: {service}")),
            ("address: belay.example.com, port_value: 7440", format!("address: 127.0.0.1, port_value: {port}")),
            ("belay.example.com", "localhost".to_owned()),
            (" timeout: 0.5s", " timeout: 10s".to_owned()),
            (" timeout: 2s", " timeout: 10s".to_owned()),
            ("connect_timeout: 1s", "connect_timeout: 10s".to_owned()),
            (MAXIMUM.0, format!("max_stream_duration: {}s", maximum.as_secs())),
        ]);
        format!("{admin}{configuration}")
    })
    .await
}

/// Lives through it with this maximum; false if it was over before there was anything to see.
async fn lives_until(maximum: Duration, program: &Path) -> bool {
    let (front, service) = (Front::usual().await, Endless::start().await);
    let envoy = before(service.port, &front, maximum, program).await;
    let bearer = front.bearer();
    let ask = |path: &str| {
        let headers = [("host", "orders.example"), ("authorization", bearer.as_str())];
        request(&format!("GET {path}"), &headers, "")
    };
    let client = || front.client(&envoy.own);
    within("the first request", async || match http::exchange(envoy.port, client(), &ask("/orders/7")).await {
        Ok(reply) if reply.status == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;

    let begun = Instant::now();
    let mut stream = http::connect(envoy.port, client()).await.unwrap();
    stream.write_all(ask("/orders/events").as_bytes()).await.unwrap();
    let mut coming = Coming { stream, came: String::new() };
    let began = coming.goes_on_after(0).await;
    front.broker.run(&["revoke", &front.grant, "--reason", "testing"]).ok();
    let refused = http::exchange(envoy.port, client(), &ask("/orders/7")).await.unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (403, "grant_revoked"), "{refused:?}");
    // It was told after the cut, and came: Envoy has not asked again.
    let goes_on = began && coming.goes_on_after(service.told.load(Ordering::SeqCst)).await;

    let end = timeout(maximum + SLACK, coming.goes_on_after(usize::MAX)).await;
    assert_eq!(end, Ok(false), "it goes on beyond its maximum of {maximum:?}");
    assert!(begun.elapsed() >= maximum, "something else ended it after {:?}: {}", begun.elapsed(), coming.came);
    goes_on
}

#[tokio::test]
async fn a_stream_through_envoy_outlives_a_cut_until_its_maximum_and_no_longer() {
    let test = "a_stream_through_envoy_outlives_a_cut_until_its_maximum_and_no_longer";
    let docs = include_str!("../../docs/ENFORCEMENT.md");
    assert!(docs.contains(MAXIMUM.1), "docs/ENFORCEMENT.md does not state the maximum");
    assert!(sample(&[]).contains(MAXIMUM.0), "deploy/envoy/belay.yaml has no maximum, or another");
    let program = envoy();
    if !needs(test, NEEDED, program.is_some()) {
        return;
    }
    let program = program.unwrap();
    // On a machine that is busy the time may be over before the cut: then once more, with more of it.
    for seconds in [3, 15, 60] {
        if lives_until(Duration::from_secs(seconds), &program).await {
            return;
        }
    }
    panic!("no stream was open at its cut");
}
