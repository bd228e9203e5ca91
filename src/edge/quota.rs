//! Quotas at the door: each request counts for who asks, but what only ends something, and health, always passes.

use super::access::Row;
use crate::broker::{Broker, UnderWay};
use crate::domain::decide::Caller;
use crate::domain::error::Error;

/// What no quota stands before: it ends or halts something, and its lane in the queue has bounds of its own.
pub const FREE: &[&str] = &[
    "/belay.v1.Agents/Suspend", "/belay.v1.Agents/Retire", "/belay.v1.Operators/Remove", "/belay.v1.Peps/Retire",
    "/belay.v1.Tasks/End", "/belay.v1.Tasks/Suspend", "/belay.v1.Grants/Complete", "/belay.v1.Grants/Suspend",
    "/belay.v1.Backends/Remove", "/belay.v1.Approvals/Deny", "/belay.v1.Revocations/Revoke",
    "/belay.v1.Freezes/Freeze", "/belay.v1.Keys/Taint", "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch",
];

/// Counts a request as under way until what this returns is dropped; nothing if it is free.
///
/// # Errors
/// `quota_exceeded`, with when to come back.
pub(super) fn enter(broker: &Broker, row: &Row, caller: &Caller) -> Result<Option<UnderWay>, Error> {
    if FREE.contains(&row.rpc) { Ok(None) } else { broker.enter(caller).map(Some) }
}

#[cfg(test)]
mod tests {
    use super::super::access::ACCESS;
    use super::*;

    #[test]
    fn what_is_free_is_in_the_access_table() {
        for free in FREE {
            assert!(ACCESS.iter().any(|row| row.rpc == *free), "{free}");
        }
    }
}
