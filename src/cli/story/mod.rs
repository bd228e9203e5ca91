//! `belay try`: the whole story on a throw-away broker, with real agent processes over real mTLS.
//!
//! Every actor is this same binary run as a process of its own, with its own identity directory. A step
//! that does not do exactly what it says ends the story with exit 1. The broker and its directory are
//! gone afterwards, however it ends.

mod acts;
pub(super) mod cluster;
mod elevated;
mod envoy;
mod guarded;
mod leased;
mod notes;
mod proxied;
pub(super) mod stage;

use std::time::Instant;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use self::stage::Stage;
use super::output::{Answer, Outcome, Printer, failed, note};
use super::tree;

/// Nothing to choose.
#[derive(Debug, Args)]
pub struct Command {
    /// Be the MCP server of the story
    #[arg(long, hide = true)]
    notes: bool,
}

/// Prints the steps as they are done.
struct Teller {
    printer: Printer,
    steps: usize,
}

/// What a step is called, for programs and for people.
type Title = (&'static str, &'static str);

impl Command {
    /// Tells it. An interrupt ends it like a failed step: the broker is stopped and its directory removed.
    pub async fn run(self, printer: Printer) -> Answer {
        if self.notes {
            // It ends when its client goes away, however that goes.
            return Ok(notes::serve().map_or(Outcome::Failed, |()| Outcome::Done));
        }
        let mut teller = Teller { printer, steps: 0 };
        teller.say("A throw-away broker, two agents, two humans. Each step is a real process over mTLS.\n");
        let begun = now();
        let told = tokio::select! {
            told = tell(&mut teller) => told,
            () = interrupted() => return Err(failed("interrupted", "interrupted; the broker is stopped".into())),
        };
        if told.is_err() {
            return Ok(Outcome::Failed);
        }
        let seconds = begun.elapsed().as_secs_f32();
        teller.say(&format!(
            "\nAll {} steps did what they say, in {seconds:.1} s. Next: belay serve --dev",
            teller.steps
        ));
        Ok(Outcome::Done)
    }
}

async fn tell(teller: &mut Teller) -> Result<()> {
    let stage =
        teller.step(("broker_ready", "a broker starts, with its own CA and an empty log"), Stage::open()).await?;
    let told = scenes(teller, &stage).await;
    if told.is_err() {
        note(&stage.last_words());
    }
    told?;
    teller.step(("broker_stopped", "the broker drains and stops"), stage.close()).await
}

async fn scenes(teller: &mut Teller, stage: &Stage) -> Result<()> {
    let cast = gather(teller, stage).await?;
    within(teller, stage, &cast).await?;
    leased::play(teller, stage, &cast.task).await?;
    guarded::play(teller, stage, &cast.task).await?;
    elevated(teller, stage, &cast).await?;
    proxied::play(teller, stage, &cast.task).await?;
    teller.picture("before", &acts::tree(stage, &cast.root).await?);
    let title = ("revoked", "an operator revokes the root: one event, and it is over");
    teller.step(title, acts::revoke(stage, &cast.root)).await?;
    teller.picture("after", &acts::tree(stage, &cast.root).await?);
    afterwards(teller, stage, &cast).await
}

/// Two agents, a task, a grant, a delegation, a token each.
async fn gather(teller: &mut Teller, stage: &Stage) -> Result<acts::Cast> {
    teller
        .step(("planner_enrolled", "agent `planner` enrolls; its key never leaves it"), acts::enroll(stage, "planner"))
        .await?;
    teller.step(("coder_enrolled", "agent `coder` enrolls"), acts::enroll(stage, "coder")).await?;
    let task = teller.step(("task_started", "planner declares a task with a deadline"), acts::start(stage)).await?;
    let (root, planner) =
        teller.step(("grant_issued", "planner gets a grant and a token for it"), acts::request(stage, &task)).await?;
    let child =
        teller.step(("delegated", "planner delegates a narrower part to coder"), acts::delegate(stage, &root)).await?;
    let coder = teller.step(("coder_token", "coder issues a token of its own"), acts::issue(stage, &child)).await?;
    Ok(acts::Cast { task, root, child, planner, coder })
}

/// What the credentials allow, and what they do not.
async fn within(teller: &mut Teller, stage: &Stage, cast: &acts::Cast) -> Result<()> {
    let title = ("planner_acts", "planner's token is accepted");
    teller.step(title, acts::allowed(stage, "planner", &cast.planner, acts::PLANNED)).await?;
    let title = ("coder_acts", "coder acts inside its scope");
    teller.step(title, acts::allowed(stage, "coder", &cast.coder, acts::INSIDE)).await?;
    let title = ("outside_denied", "a call outside the scope is denied");
    teller.step(title, acts::denied(stage, "coder", &cast.coder, acts::OUTSIDE, "out_of_scope")).await?;
    let title = ("stolen_refused", "planner's token is worthless in coder's hands");
    teller.step(title, acts::stolen(stage, "coder", &cast.planner)).await?;
    teller.step(("widening_refused", "a wider delegation is refused"), acts::widen(stage, &cast.root)).await
}

/// More than an agent may have alone: a human is asked, sees where it leads, and approves less.
async fn elevated(teller: &mut Teller, stage: &Stage, cast: &acts::Cast) -> Result<()> {
    let title = ("catalog_applied", "an operator says what there is, and where it leads");
    teller.step(title, elevated::catalog(stage)).await?;
    teller.step(("approver_enrolled", "a second human enrolls, to approve"), elevated::approver(stage)).await?;
    let title = ("elevated_pending", "planner asks for something destructive, and waits");
    let pending = teller.step(title, elevated::pending(stage, &cast.task)).await?;
    let title = ("elevated_shown", "ana sees what it would add, and why");
    teller.step(title, elevated::shown(stage, &pending)).await?;
    teller.step(("elevated_approved", "she approves, for less time"), elevated::approved(stage, &pending)).await?;
    let title = ("elevated_issued", "planner resumes, and gets its token");
    let token = teller.step(title, elevated::issued(stage, &cast.task, &pending)).await?;
    let title = ("elevated_used", "it is accepted");
    teller.step(title, acts::allowed(stage, "planner", &token, elevated::ELEVATED)).await?;
    teller.step(("elevated_cut", "one revoke, and it is over"), elevated::cut(stage, &pending)).await?;
    let title = ("elevated_refused", "it is refused now");
    teller.step(title, acts::denied(stage, "planner", &token, elevated::ELEVATED, "grant_revoked")).await
}

/// Each credential that was accepted before is presented again; nothing grows back.
async fn afterwards(teller: &mut Teller, stage: &Stage, cast: &acts::Cast) -> Result<()> {
    let title = ("planner_cut", "planner's token is refused now");
    teller.step(title, acts::denied(stage, "planner", &cast.planner, acts::PLANNED, "grant_revoked")).await?;
    let title = ("coder_cut", "so is coder's, which nobody named");
    teller.step(title, acts::denied(stage, "coder", &cast.coder, acts::INSIDE, "grant_revoked")).await?;
    let title = ("nothing_grows_back", "nobody delegates, issues or renews below the cut");
    teller.step(title, acts::regrow(stage, cast)).await?;
    let events = teller.step(("audited", "the log tells who did what"), acts::audit(stage, cast)).await?;
    events.iter().for_each(|event| teller.say(&format!("      {event}")));
    teller.step(("explained", "and for whom, by which chain"), acts::why(stage, cast)).await?;
    teller.step(("nothing_live", "nothing is live; the log has a size and a root"), acts::status(stage)).await
}

impl Teller {
    /// Runs one step and says how it went. The act answers with what it made and what it saw.
    async fn step<T>(&mut self, (id, title): Title, act: impl Future<Output = Result<(T, String)>>) -> Result<T> {
        let begun = now();
        let done = act.await;
        let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (ok, detail) = match &done {
            Ok((_, detail)) => (true, detail.clone()),
            Err(error) => (false, format!("{error:#}")),
        };
        self.steps += 1;
        self.print(&document(id, ok, ms, &detail), || line(title, ok, ms, &detail));
        done.map(|(made, _)| made)
    }

    fn picture(&self, when: &str, node: &Value) {
        let drawn: Vec<_> = tree::draw(node).lines().map(|line| format!("      {line}")).collect();
        self.say(&format!("\n      the grant tree, {when} the cut\n{}\n", drawn.join("\n")));
    }

    /// Says something to people; programs get the steps alone.
    fn say(&self, text: &str) {
        if self.printer.is_for_people() {
            self.print(&Value::Null, || text.to_owned());
        }
    }

    /// A story that nobody reads any more, or that has no such field, is told to its end all the same.
    fn print(&self, document: &Value, line: impl FnOnce() -> String) {
        if let Err(refusal) = self.printer.item(document, line) {
            self.printer.fail(&refusal);
        }
    }
}

fn document(id: &str, ok: bool, ms: u64, detail: &str) -> Value {
    json!({ "step": id, "ok": ok, "ms": ms, "detail": detail })
}

fn line(title: &str, ok: bool, ms: u64, detail: &str) -> String {
    format!("  {} {title:<58} {ms:>5} ms  {detail}", if ok { '✓' } else { '✗' })
}

#[expect(clippy::disallowed_methods, reason = "a stopwatch for whoever watches; nothing is decided by it")]
fn now() -> Instant {
    Instant::now()
}

async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::output::Format;
    use super::*;

    #[test]
    fn a_step_is_one_line_with_its_keys() {
        let expected = json!({ "step": "revoked", "ok": true, "ms": 7, "detail": "2 grants" });
        assert_eq!(document("revoked", true, 7, "2 grants"), expected);
        let line = line("it is over", false, 1, "why");
        assert!(line.contains('✗') && !line.contains('\n'));
    }

    #[tokio::test]
    async fn a_step_that_fails_ends_the_story() {
        let mut teller = Teller { printer: Printer::new(Format::Json, None), steps: 0 };
        let refused: Result<()> = teller.step(("a", "b"), async { Err(anyhow::anyhow!("no")) }).await;
        assert!(refused.is_err());
    }
}
