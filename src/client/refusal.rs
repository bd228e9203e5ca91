//! What a client is told when it does not get what it asked for.
//!
//! The same in every case: the broker refused, it could not be reached or believed, or something on
//! this side was wrong. One table turns a gRPC status into a [`Code`].

use std::time::Duration;

use tonic::Status;
use tonic_types::StatusExt;

use crate::domain::error::{Code, Error};

/// A refusal as a client sees it. `message` is one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The kind, which decides the exit code.
    pub code: Code,
    /// A stable word for programs: the broker's, or one of this side's.
    pub reason: String,
    /// What was wrong and what to do.
    pub message: String,
    /// The field of the request that was wrong, where the broker named one.
    pub field: Option<String>,
    /// The broker's id of the request, to find it in its log.
    pub request_id: Option<String>,
    /// How long to wait before the same may be asked again, where the broker said it.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal made on this side.
    pub(super) fn new(code: Code, reason: &str, message: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), message: message.into(), field: None, request_id: None, retry_after: None }
    }

    /// The connector's refusal that tonic buried in `error`, if that is what failed.
    pub(super) fn within(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        std::iter::successors(Some(error), |error| error.source())
            .find_map(|error| error.downcast_ref::<Self>())
            .cloned()
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let field = error.field.map(Into::into);
        let retry_after = error.retry_after.and_then(|pause| u64::try_from(pause.as_millis()).ok());
        let retry_after = retry_after.map(Duration::from_millis);
        Self {
            code: error.code,
            reason: error.reason.into(),
            message: error.message,
            field,
            request_id: None,
            retry_after,
        }
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        if let Some(local) = std::error::Error::source(&status).and_then(Self::within) {
            return local;
        }
        let (code, reason) = classify(&status);
        // What arrives goes to a terminal: it may not move the cursor or start a line of its own.
        let message = status.message().chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
        let mut refusal = Self::new(code, reason, message);
        let id = status.metadata().get("x-request-id").and_then(|id| id.to_str().ok());
        refusal.request_id = id.map(str::to_owned);
        refusal.retry_after = status.get_details_retry_info().and_then(|info| info.retry_delay);
        if let Some(mut info) = status.get_details_error_info() {
            refusal.field = info.metadata.remove("field");
            if !info.reason.is_empty() {
                refusal.reason = info.reason;
            }
        }
        refusal
    }
}

/// The table. The word is used where the broker gave none of its own.
fn classify(status: &Status) -> (Code, &'static str) {
    use tonic::Code as Grpc;
    // A status that no broker sent has its cause attached: the connection broke or the wait ended.
    let lost = std::error::Error::source(status).is_some();
    match status.code() {
        Grpc::Unknown | Grpc::Cancelled if lost => (Code::Unavailable, "connection_lost"),
        // tonic answers OutOfRange to a message over the size limit.
        Grpc::InvalidArgument | Grpc::OutOfRange => (Code::Invalid, "invalid"),
        Grpc::Unauthenticated => (Code::Unauthenticated, "unauthenticated"),
        Grpc::PermissionDenied => (Code::Denied, "denied"),
        Grpc::NotFound => (Code::NotFound, "not_found"),
        Grpc::AlreadyExists | Grpc::Aborted => (Code::Conflict, "conflict"),
        Grpc::ResourceExhausted => (Code::Exhausted, "exhausted"),
        Grpc::Unavailable | Grpc::DeadlineExceeded => (Code::Unavailable, "unavailable"),
        _ => (Code::Internal, "internal"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    #[test]
    fn every_status_has_its_code() {
        use tonic::Code as Grpc;
        let table = [
            (Grpc::InvalidArgument, Code::Invalid),
            (Grpc::OutOfRange, Code::Invalid),
            (Grpc::Unauthenticated, Code::Unauthenticated),
            (Grpc::PermissionDenied, Code::Denied),
            (Grpc::NotFound, Code::NotFound),
            (Grpc::AlreadyExists, Code::Conflict),
            (Grpc::Aborted, Code::Conflict),
            (Grpc::ResourceExhausted, Code::Exhausted),
            (Grpc::Unavailable, Code::Unavailable),
            (Grpc::DeadlineExceeded, Code::Unavailable),
            (Grpc::Unknown, Code::Internal),
            (Grpc::Cancelled, Code::Internal),
            (Grpc::Internal, Code::Internal),
            (Grpc::Unimplemented, Code::Internal),
            (Grpc::FailedPrecondition, Code::Internal),
            (Grpc::DataLoss, Code::Internal),
        ];
        for (grpc, code) in table {
            assert_eq!(Refusal::from(Status::new(grpc, "why")).code, code, "{grpc:?}");
        }
    }

    #[test]
    fn the_brokers_word_field_and_request_id_arrive() {
        let metadata = [("field".to_owned(), "scopes".to_owned())];
        let details = ErrorDetails::with_error_info("scope_widened", "belay", metadata);
        let mut status = Status::with_error_details(tonic::Code::PermissionDenied, "wider than its parent", details);
        status.metadata_mut().insert("x-request-id", "r-1".parse().unwrap());
        let refusal = Refusal::from(status);
        assert_eq!((refusal.code, refusal.reason.as_str()), (Code::Denied, "scope_widened"));
        assert_eq!((refusal.field.as_deref(), refusal.request_id.as_deref()), (Some("scopes"), Some("r-1")));
        assert_eq!(refusal.to_string(), "wider than its parent");
    }

    #[test]
    fn a_message_cannot_drive_the_terminal() {
        assert_eq!(Refusal::from(Status::not_found("no\n\x1b[2Jagent")).message, "no  [2Jagent");
    }

    #[test]
    fn a_connection_that_broke_is_unavailable_not_a_defect() {
        let status = Status::from_error(Box::new(std::io::Error::other("broken pipe")));
        assert_eq!(Refusal::from(status).code, Code::Unavailable);
    }
}
