//! What comes from the server: answers to whoever waits for them, and requests of its own.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Session;
use super::message::{Id, Message};
use super::stdio::Line;

/// Requests of the server that are looked at, or that the client has, at once.
const MOST: usize = 64;

impl Session {
    /// Takes what comes, until nothing comes any more.
    pub(super) async fn relay(self: Arc<Self>, mut lines: mpsc::Receiver<Line>) {
        let mut tasks = JoinSet::new();
        while let Some(line) = lines.recv().await {
            while tasks.try_join_next().is_some() {}
            let Line::Whole(line) = line else {
                tracing::warn!("the server sent a line of more than 16 MiB; it is dropped");
                continue;
            };
            match Message::read(&line) {
                Ok(Message::Response { id, answer }) => self.answered(&id, answer),
                Ok(Message::Notification { method, params }) => self.told(method, params).await,
                Ok(Message::Request { id, method, params }) => {
                    // A server that asks faster than it hears the answers waits.
                    if tasks.len() >= MOST {
                        tasks.join_next().await;
                    }
                    let session = Arc::clone(&self);
                    tasks.spawn(async move { session.wanted(id, method, params).await });
                }
                // Its text is not shown: it may hold anything.
                Err(no) => tracing::warn!("the server sent what is no message, and is dropped: {}", no.message),
            }
        }
    }

    fn answered(&self, id: &Id, answer: Result<String, String>) {
        match self.state(|state| state.asked.remove(id)) {
            // Whoever asked may have gone.
            Some(asked) => drop(asked.send(answer)),
            None => tracing::warn!("the server answered what nobody waits for; it is dropped"),
        }
    }

    async fn told(&self, method: String, params: String) {
        if method == "notifications/tools/list_changed" {
            self.state(|state| state.pins.moved());
        }
        // It says something and can do nothing.
        match method.starts_with("notifications/") {
            true => self.say(Message::Notification { method, params }).await,
            false => tracing::warn!("the server sent a notification that MCP does not have; it is dropped"),
        }
    }

    /// The server wants something of the client: to sample its model, to ask its human, to see its roots.
    async fn wanted(&self, id: Id, method: String, params: String) {
        let refused = match self.may(&method, &params, String::new()).await {
            Ok(_) => {
                let why = self.state(|state| match state.wanted.len() {
                    _ if state.wanted.contains_key(&id) => Some("this id is taken by a request that has no answer yet"),
                    MOST.. => Some("64 requests have no answer yet; wait for some of them"),
                    _ => state.wanted.insert(id.clone(), ()).and(None),
                });
                let Some(why) = why else { return self.say(Message::Request { id, method, params }).await };
                json!({ "code": -32600, "message": why })
            }
            Err(denied) => denied.error(),
        };
        self.pass(&Message::Response { id, answer: Err(refused.to_string()) }).await;
    }
}
