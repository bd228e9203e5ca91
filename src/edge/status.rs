//! One table from our errors to gRPC: the only place that names both.

use tonic::{Code as Rpc, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::domain::error::{Code, Error};

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let code = code_of(error.code);
        match code {
            Rpc::Internal => tracing::error!(reason = error.reason, "{error}"),
            // What is not well formed is quoted to whoever sent it, and to nobody else: it may be a secret out of place.
            Rpc::InvalidArgument => tracing::info!(reason = error.reason, field = error.field, "refused"),
            _ => tracing::info!(reason = error.reason, "refused: {error}"),
        }
        super::metrics::refused(error.reason);
        let metadata = error.field.map(|field| ("field".to_owned(), field.to_owned()));
        let mut details = ErrorDetails::with_error_info(
            error.reason,
            "belay",
            metadata.into_iter().collect::<std::collections::HashMap<_, _>>(),
        );
        if let Some(pause) = error.retry_after {
            let pause = u64::try_from(pause.as_millis()).unwrap_or_default();
            details.set_retry_info(Some(std::time::Duration::from_millis(pause)));
        }
        Status::with_error_details(code, error.message, details)
    }
}

/// The gRPC code of a kind of error.
pub(super) fn code_of(code: Code) -> Rpc {
    match code {
        Code::Invalid => Rpc::InvalidArgument,
        Code::Unauthenticated => Rpc::Unauthenticated,
        Code::Denied => Rpc::PermissionDenied,
        Code::NotFound => Rpc::NotFound,
        Code::Conflict => Rpc::AlreadyExists,
        Code::Exhausted => Rpc::ResourceExhausted,
        Code::Unavailable => Rpc::Unavailable,
        Code::Internal => Rpc::Internal,
    }
}
