//! A login to a real database, leased under a grant, and an open session that dies with it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::Child;

use super::acts::{Act, text};
use super::cluster::{Cluster, Programs};
use super::stage::Stage;

const ROLE: &str = "reader";
const SCOPE: &str = "orders:lease@reader";
/// How soon a session is over.
const SOON: Duration = Duration::from_secs(10);

/// A lease, and a session that it opened.
pub struct Open {
    cluster: Cluster,
    grant: String,
    url: String,
    session: Child,
}

/// The lease; none where there is no PostgreSQL.
pub async fn lease(stage: &Stage, task: &str) -> Act<Option<Open>> {
    let programs = match Programs::find().await {
        Ok(programs) => programs,
        Err(why) => return Ok((None, format!("left out: {why}"))),
    };
    let cluster = Cluster::start(programs).await?;
    cluster.ask("CREATE ROLE reader NOLOGIN; GRANT pg_read_all_stats TO reader").await?;
    let add = ["backend", "add", "orders", "--kind", "postgres", "--url", "-", "--role", ROLE];
    stage.run(None, &add, cluster.url()).await?.done()?;
    let request = ["grant", "request", "--task", task, "--scope", SCOPE, "--ttl", "15m"];
    let granted = stage.run(Some("planner"), &request, "").await?.done()?;
    let grant = text(&granted, "/grant/id")?.to_owned();
    let issue = ["lease", "issue", "--grant", &grant, "--backend", "orders", "--role", ROLE];
    let issued = stage.run(Some("planner"), &issue, "").await?.done()?;
    let (url, user) = (text(&issued, "/secret/url")?.to_owned(), text(&issued, "/secret/username")?.to_owned());
    let session = cluster.client(&url, "SELECT pg_sleep(600)").spawn().context("cannot run psql")?;
    let query = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{user}' AND state = 'active'");
    let began = async {
        while cluster.ask(&query).await.is_ok_and(|count| count == "0") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    ensure!(tokio::time::timeout(SOON, began).await.is_ok(), "the session did not begin");
    Ok((Some(Open { cluster, grant, url, session }), format!("{user}, in the middle of a query")))
}

/// The cut: the session dies in the middle of its query, and nobody comes in by that name again.
pub async fn cut(stage: &Stage, mut open: Open) -> Act<()> {
    let begun = super::now();
    let revoked = stage.run(None, &["revoke", &open.grant, "--reason", "the session is too long"], "").await?.done()?;
    ensure!(revoked["cut"]["leases"] == 1, "it cut no lease: {}", revoked["cut"]);
    let ended = tokio::time::timeout(SOON, open.session.wait()).await.context("the session goes on")??;
    let millis = begun.elapsed().as_millis();
    ensure!(!ended.success(), "the session came to its own end");
    let again = open.cluster.client(&open.url, "SELECT 1").output().await?;
    ensure!(!again.status.success(), "its secret still opens the door");
    Ok(((), format!("the session is gone {millis} ms after the revoke was typed")))
}

/// The scene, where there is a database to play it in.
pub async fn play(teller: &mut super::Teller, stage: &Stage, task: &str) -> Result<()> {
    let title = ("leased", "planner leases a database login, and opens a session");
    if let Some(open) = teller.step(title, lease(stage, task)).await? {
        let title = ("lease_cut", "one revoke ends the session in the middle of its query");
        teller.step(title, cut(stage, open)).await?;
    }
    Ok(())
}
