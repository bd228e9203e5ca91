//! `belay audit tail`: the log as it grows, until one is interrupted or may not read it any more.

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::audit::{Filter, document};
use super::connect::{Global, answer};
use super::output::{Answer, Outcome, failed, visible};
use crate::client::Refusal;
use crate::domain::error::{Code, Error};
use crate::wire::v1::audit_client::AuditClient;
use crate::wire::v1::{Event, TailEventsRequest};

/// Which events.
#[derive(Debug, Args)]
pub struct Tail {
    #[command(flatten)]
    filter: Filter,
    /// From this sequence number on [default: what happens from now on]
    #[arg(long, value_name = "SEQ")]
    from: Option<u64>,
}

impl Tail {
    /// Does it. An interrupt is how it is meant to end.
    pub async fn run(self, global: &Global) -> Answer {
        let interrupted = signal(SignalKind::interrupt());
        let mut interrupted =
            interrupted.map_err(|error| failed("signals", format!("cannot receive an interrupt: {error}")))?;
        tokio::select! {
            followed = self.follow(global) => followed,
            _ = interrupted.recv() => Ok(Outcome::Done),
        }
    }

    async fn follow(self, global: &Global) -> Answer {
        let printer = global.printer();
        let mut audit = AuditClient::new(global.channel().await?);
        let mut events = answer(audit.tail(self.message()).await)?;
        let mut last = None;
        loop {
            match events.message().await {
                Ok(Some(event)) => {
                    if !printer.item(&document(&event), || line(&event))? {
                        return Ok(Outcome::Done);
                    }
                    last = Some(event.seq);
                }
                Ok(None) => {
                    let lost = Error::new(Code::Unavailable, "stream_ended", "the broker ended the stream");
                    return Err(resumable(lost.into(), last));
                }
                Err(status) => return Err(resumable(status.into(), last)),
            }
        }
    }

    fn message(self) -> TailEventsRequest {
        let after = self.from.map(|from| from.saturating_sub(1));
        let Filter { grant, agent, tree, kind, actor, since } = self.filter;
        let [grant, agent, tree, kind, actor, since] =
            [grant, agent, tree, kind, actor, since].map(Option::unwrap_or_default);
        TailEventsRequest { grant, agent, tree, kind, actor, since, after }
    }
}

/// A stream that broke off can be taken up again without a gap.
fn resumable(mut refusal: Refusal, last: Option<u64>) -> Refusal {
    if let (Code::Unavailable, Some(last)) = (refusal.code, last) {
        refusal.message = format!("{}; go on with --from {}", refusal.message, last.saturating_add(1));
    }
    refusal
}

fn line(event: &Event) -> String {
    let Event { seq, at, kind, actor, summary, .. } = event;
    visible(&format!("{seq:>6}  {at}  {kind:<20}  {actor:<20}  {summary}")).replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_broke_off_says_where_to_go_on() {
        let lost = || Refusal::from(Error::new(Code::Unavailable, "stopping", "the broker is stopping"));
        assert_eq!(resumable(lost(), Some(41)).message, "the broker is stopping; go on with --from 42");
        assert_eq!(resumable(lost(), None).message, "the broker is stopping");
        let denied = Refusal::from(Error::denied("role", "may not"));
        assert_eq!(resumable(denied, Some(41)).message, "may not");
    }

    #[test]
    fn an_event_is_one_line_that_does_not_steer_the_terminal() {
        let event = Event { seq: 7, summary: "a\u{1b}[2J\nb".into(), ..Event::default() };
        let line = line(&event);
        assert!(!line.contains('\u{1b}') && !line.contains('\n') && line.starts_with("     7  "), "{line:?}");
    }
}
