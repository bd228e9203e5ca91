//! A call that humans have to approve: a grant for exactly it is asked for, waited for, used once, and given back.
//!
//! The request has a name that follows from the call. So the same call finds the same request again, after a restart of
//! the guard too, and what was approved is done once.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Sleep;
use tonic::transport::Channel;

use super::super::access::issue;
use super::Session;
use super::message::Message;
use super::request::{Allowed, Denied};
use crate::client::Refusal;
use crate::domain::digest::Digest;
use crate::domain::error::Code;
use crate::wire::v1::approvals_client::ApprovalsClient;
use crate::wire::v1::grants_client::GrantsClient;
use crate::wire::v1::{
    Approval, AuthorizeRequest, ChangeGrantRequest, GrantResponse, RequestGrantRequest, ShowApprovalRequest,
    ShowGrantRequest,
};

/// Looks at first so often, …
const FIRST: Duration = Duration::from_millis(100);
/// … and then ever less.
const LAST: Duration = Duration::from_secs(1);
/// Times that the same call is approved in one task.
const MOST: usize = 1000;

/// What is asked for.
struct Wish {
    request: RequestGrantRequest,
    /// What its name is made of.
    name: Digest,
}

impl Session {
    /// Asks for, waits for and uses an approval of this very call.
    pub(super) async fn approved(
        &self,
        method: &str,
        params: &str,
        schema: &str,
        denied: Denied,
    ) -> Result<Allowed, Denied> {
        let channel = self.authority.access().channel.clone();
        let asking = self.asking(method, params, schema, "");
        let mut wish = self.wish(&channel, method, params, &denied).await?;
        let begun = tokio::time::sleep(self.wait);
        tokio::pin!(begun);
        for time in 0..MOST {
            wish.request.idempotency_key = format!("guard-{time}-{}", wish.name);
            let granted = self.granted(&channel, &wish, params, &denied, begun.as_mut()).await?;
            let grant = granted.grant.unwrap_or_default();
            match grant.state.as_str() {
                "active" => {
                    let token = issue(&channel, &grant.id).await.map_err(|refusal| self.refused(refusal))?;
                    let asking = AuthorizeRequest {
                        token,
                        idempotency_key: wish.request.idempotency_key.clone() + "-use",
                        ..asking.clone()
                    };
                    match self.hold(asking).await {
                        // It was made before, by a guard that did not come to give it back.
                        Err(denied) if denied.code() == "limit_reached" => self.used_up(&grant.id).await,
                        decided => return decided.map(|allowed| allowed.once(grant.id)),
                    }
                }
                "denied" => {
                    let approval = granted.approval.map(|approval| approval.id).unwrap_or_default();
                    let why = "a human was asked about this very call, and denied it";
                    return Err(Denied::new("approval_denied", why).with_approval(&approval));
                }
                "pending" => return Err(pending(&denied, granted.approval)),
                // It was used, or is over: this is another call like it.
                _ => {}
            }
        }
        Err(Denied::new("approval_denied", "this call was approved too often in one task"))
    }

    /// A grant that humans gave for one call is not needed any more.
    pub(super) async fn used_up(&self, grant: &str) {
        let mut grants = GrantsClient::new(self.authority.access().channel.clone());
        let change = ChangeGrantRequest { id: grant.to_owned(), reason: "used once, as it was approved".to_owned() };
        if let Err(status) = grants.complete(change).await {
            tracing::warn!("grant {grant} was not given back: {}", Refusal::from(status));
        }
    }

    /// The request for a grant that covers this call and no other.
    async fn wish(&self, channel: &Channel, method: &str, params: &str, denied: &Denied) -> Result<Wish, Denied> {
        let mut grants = GrantsClient::new(channel.clone());
        let shown = grants.show(ShowGrantRequest { id: denied.grant.clone(), tree: false }).await;
        let shown = shown.map_err(|status| self.refused(status.into()))?;
        let grant = shown.into_inner().grant.unwrap_or_default();
        let scope = format!("{}{}", denied.call, exactly(method, params).ok_or_else(|| denied.clone())?);
        let name = Digest::of(format!("{}\n{}\n{scope}", grant.task, self.server).as_bytes());
        let request = RequestGrantRequest {
            task: grant.task,
            scopes: vec![scope],
            audience: grant.audience,
            limits: vec!["max_calls=1".to_owned(), "max_depth=1".to_owned()],
            ..RequestGrantRequest::default()
        };
        Ok(Wish { request, name })
    }

    /// The grant once it does not wait any more, or the time is up. A broker that is away for a while is waited for too.
    async fn granted(
        &self,
        channel: &Channel,
        wish: &Wish,
        params: &str,
        denied: &Denied,
        mut until: Pin<&mut Sleep>,
    ) -> Result<GrantResponse, Denied> {
        let (mut pause, mut steps) = (FIRST, 0_u64);
        loop {
            let asked = self.request_grant(channel, wish).await;
            match &asked {
                Ok(granted) if !is_pending(granted) => return Ok(granted.clone()),
                Ok(_) => {}
                Err(refusal) if refusal.code == Code::Unavailable => {}
                // It may not even be asked for.
                Err(refusal) => return Err(Denied::new(&refusal.reason, &refusal.message)),
            }
            let approval = asked.as_ref().ok().and_then(|granted| granted.approval.clone()).unwrap_or_default().id;
            loop {
                steps += 1;
                let shown = denied.clone().with_approval(&approval);
                self.progress(params, steps, &format!("waiting for a human: {}", shown.text())).await;
                tokio::select! {
                    () = until.as_mut() => return asked.map_err(|refusal| self.refused(refusal)),
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(LAST),
                }
                if approval.is_empty() || !still(channel, &approval).await {
                    break;
                }
            }
        }
    }

    async fn request_grant(&self, channel: &Channel, wish: &Wish) -> Result<GrantResponse, Refusal> {
        let mut grants = GrantsClient::new(channel.clone());
        Ok(grants.request(wish.request.clone()).await?.into_inner())
    }

    /// Tells a client that wants to know that something goes on.
    async fn progress(&self, params: &str, steps: u64, message: &str) {
        let params: Value = serde_json::from_str(params).unwrap_or_default();
        let token = &params["_meta"]["progressToken"];
        if token.is_string() || token.is_number() {
            let params = json!({ "progressToken": token, "progress": steps, "message": message }).to_string();
            self.say(Message::Notification { method: "notifications/progress".to_owned(), params }).await;
        }
    }
}

/// Humans did not decide in time. They still may: the same call finds out.
fn pending(denied: &Denied, approval: Option<Approval>) -> Denied {
    let why =
        "a human has been asked, and has not decided yet; make the same call again later: it finds the same request";
    Denied::new(denied.code(), why).with_approval(&approval.unwrap_or_default().id)
}

/// Whether an approval still waits. One that nobody remembers was over long before.
async fn still(channel: &Channel, id: &str) -> bool {
    let mut approvals = ApprovalsClient::new(channel.clone());
    match approvals.show(ShowApprovalRequest { id: id.to_owned() }).await {
        Ok(shown) => matches!(shown.into_inner().state.as_str(), "pending" | "queued"),
        Err(status) => Refusal::from(status).code != Code::NotFound,
    }
}

fn is_pending(granted: &GrantResponse) -> bool {
    granted.grant.as_ref().is_some_and(|grant| grant.state == "pending")
}

/// The constraints that these arguments alone meet, in their own words. The arguments of a tool's call are a part of the
/// params; those of any other method are the params, as the broker takes them.
fn exactly(method: &str, params: &str) -> Option<String> {
    type Members<'a> = BTreeMap<String, &'a RawValue>;
    let mut args: Members<'_> = if params.is_empty() { Members::new() } else { serde_json::from_str(params).ok()? };
    if method == "tools/call" {
        let arguments = args.remove("arguments").map_or("{}", RawValue::get);
        args = serde_json::from_str(arguments).ok()?;
    } else {
        args.remove("_meta");
    }
    let args = args.iter().map(|(name, value)| format!("{}:{{\"eq\":{}}}", Value::from(name.as_str()), value.get()));
    Some(format!("{{\"args\":{{{}}},\"closed\":true}}", args.collect::<Vec<_>>().join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::scope::{Args, Call, Scope};

    #[test]
    fn what_is_asked_for_covers_this_call_and_no_other() {
        let call = |args: &str| Call::parse("bank", "transfer", "mcp").unwrap().with_args(Args::parse(args).unwrap());
        let args = r#"{"to":"a b","amount":1.50,"tags":["x",{"y":null}]}"#;
        let scope = format!(
            "bank:transfer@mcp{}",
            exactly("tools/call", &format!(r#"{{"name":"t","arguments":{args}}}"#)).unwrap()
        );
        let scope: Scope = scope.parse().unwrap();
        assert!(scope.allows(&call(args)));
        for other in [
            "{}",
            r#"{"to":"a b","amount":1.51,"tags":["x",{"y":null}]}"#,
            r#"{"to":"a b","amount":1.5}"#,
            r#"{"to":"a b","amount":1.5,"tags":["x",{"y":null}],"more":1}"#,
        ] {
            assert!(!scope.allows(&call(other)), "{other}");
        }
        // Of any other method the params are the arguments.
        let read = exactly("resources/read", r#"{"_meta":{"n":1},"uri":"file:///a"}"#).unwrap();
        assert_eq!(read, r#"{"args":{"uri":{"eq":"file:///a"}},"closed":true}"#);
        assert_eq!(exactly("prompts/list", "").unwrap(), r#"{"args":{},"closed":true}"#);
        let none: Scope = format!("bank:list@mcp{}", exactly("tools/call", "{}").unwrap()).parse().unwrap();
        let plain = Call::parse("bank", "list", "mcp").unwrap();
        assert!(none.allows(&plain) && !none.allows(&plain.clone().with_args(Args::parse(r#"{"a":1}"#).unwrap())));
    }
}
