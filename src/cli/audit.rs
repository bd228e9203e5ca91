//! `belay audit`: the log itself, which is the only record there is.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tonic::transport::Channel;

use super::calls::Calls;
use super::connect::{Global, answer};
use super::output::{Answer, given, pairs, parsed, rows, sparse};
use super::progress::Progress;
use super::tail::Tail;
use crate::client::Refusal;
use crate::wire::v1::audit_client::AuditClient;
use crate::wire::v1::{Event, ListEventsRequest, ShowEventRequest};

/// Events asked for at a time.
pub const PAGE: u32 = 500;
/// A page of the longest events fits.
pub const LARGEST_ANSWER: usize = 64 * 1024 * 1024;

/// What to read.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List events, oldest first
    #[command(after_help = "Example:\n  belay audit list --agent planner --kind grant_issued")]
    List(List),
    /// Follow the log: print what happens as it happens, until interrupted
    #[command(after_help = "Example:\n  belay audit tail --kind revoked -o json")]
    Tail(Tail),
    /// List tool calls, oldest first, each with what became of it
    #[command(after_help = "Example:\n  belay audit calls --agent planner --outcome none")]
    Calls(Calls),
    /// Show one event
    #[command(after_help = "Example:\n  belay audit show 42")]
    Show {
        /// Its sequence number
        seq: u64,
    },
}

/// Which events.
#[derive(Debug, Args)]
pub struct Filter {
    /// That touch this grant
    #[arg(long)]
    pub grant: Option<String>,
    /// That touch this agent
    #[arg(long)]
    pub agent: Option<String>,
    /// In the tree of this root grant
    #[arg(long, value_name = "ROOT")]
    pub tree: Option<String>,
    /// Of this kind, such as revoked
    #[arg(long)]
    pub kind: Option<String>,
    /// Caused by this actor, such as agent:planner
    #[arg(long)]
    pub actor: Option<String>,
    /// From this moment on (RFC 3339)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
}

/// Which events, and how many.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    filter: Filter,
    /// Behind this sequence number
    #[arg(long, value_name = "SEQ")]
    after: Option<u64>,
    /// At most so many [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

impl Command {
    /// Does it.
    pub async fn run(self, global: &Global) -> Answer {
        match self {
            Self::Tail(tail) => tail.run(global).await,
            Self::List(list) => list.run(global).await,
            Self::Calls(calls) => calls.run(global).await,
            Self::Show { seq } => {
                let event = answer(client(global).await?.show(ShowEventRequest { seq }).await)?;
                global.printer().print(&json!({ "events": [document(&event)] }), || table(&event))
            }
        }
    }
}

/// The audit of the broker, whose answers may be long.
pub async fn client(global: &Global) -> Result<AuditClient<Channel>, Refusal> {
    Ok(AuditClient::new(global.channel().await?).max_decoding_message_size(LARGEST_ANSWER))
}

impl List {
    async fn run(self, global: &Global) -> Answer {
        let (printer, mut audit) = (global.printer(), client(global).await?);
        let limit = self.limit.map_or(usize::MAX, |limit| limit as usize);
        let mut request = self.message();
        let (mut events, mut next) = (Vec::new(), None);
        let progress = Progress::of(&printer);
        while events.len() < limit && next != Some(0) {
            request.after = next.unwrap_or(request.after);
            request.limit = u32::try_from(limit - events.len()).map_or(PAGE, |left| left.min(PAGE));
            let page = answer(audit.list(request.clone()).await)?;
            events.extend(page.events);
            next = Some(page.next);
            if page.next > 0 {
                progress.say(format!("{} events found, {} looked at", events.len(), page.next));
            }
        }
        drop(progress);
        let document = json!({
            "events": events.iter().map(document).collect::<Vec<_>>(),
            "next": next.filter(|next| *next > 0),
        });
        printer.print(&sparse(document), || list_table(&events))
    }

    fn message(self) -> ListEventsRequest {
        let Filter { grant, agent, tree, kind, actor, since } = self.filter;
        let [grant, agent, tree, kind, actor, since] =
            [grant, agent, tree, kind, actor, since].map(Option::unwrap_or_default);
        ListEventsRequest { grant, agent, tree, kind, actor, since, after: self.after.unwrap_or_default(), limit: 0 }
    }
}

/// An event as a document.
pub fn document(event: &Event) -> Value {
    sparse(json!({
        "seq": event.seq,
        "at": event.at,
        "kind": event.kind,
        "actor": event.actor,
        "agent": given(&event.agent),
        "grant": given(&event.grant),
        "tree": given(&event.tree),
        "detail": given(&event.detail).map_or_else(|| json!({}), parsed),
        "request_id": given(&event.request_id),
        "summary": given(&event.summary),
        "leaf": given(&event.leaf),
    }))
}

/// Events as a table.
pub fn list_table(events: &[Event]) -> String {
    let row = |event: &Event| {
        let [at, kind, actor, summary] = [&event.at, &event.kind, &event.actor, &event.summary].map(Clone::clone);
        [event.seq.to_string(), at, kind, actor, summary]
    };
    rows(["SEQ", "AT", "KIND", "ACTOR", "WHAT"], events.iter().map(row))
}

fn table(event: &Event) -> String {
    pairs([
        ("seq", &event.seq.to_string()),
        ("at", &event.at),
        ("kind", &event.kind),
        ("actor", &event.actor),
        ("agent", &event.agent),
        ("what", &event.summary),
        ("grant", &event.grant),
        ("tree", &event.tree),
        ("request", &event.request_id),
        ("leaf", &event.leaf),
        ("detail", &format!("{:#}", parsed(&event.detail))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_holds_its_detail_as_json() {
        let event = Event { seq: 7, kind: "revoked".into(), detail: r#"{"a":1}"#.into(), ..Event::default() };
        let document = document(&event);
        assert_eq!((&document["seq"], &document["detail"]), (&json!(7), &json!({ "a": 1 })));
        assert!(document.get("grant").is_none());
    }
}
