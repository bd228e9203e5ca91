//! How messages that hold a secret are shown: without it. The compiler asks for each that `proto/build.rs` names.

use std::fmt::{Debug, Formatter, Result};

use super::v1;

macro_rules! shown {
    ($($message:ident { $($field:ident),* })*) => {$(
        impl Debug for v1::$message {
            fn fmt(&self, f: &mut Formatter<'_>) -> Result {
                f.debug_struct(stringify!($message))$(.field(stringify!($field), &self.$field))*.finish_non_exhaustive()
            }
        }
    )*};
}

shown! {
    EnrollRequest {}
    InvitedAgent { agent, join_expires_at }
    InvitedOperator { operator, join_expires_at }
    Token { id, expires_at }
    VerifyTokenRequest {}
    AuthorizeRequest { tool, action, resource }
    StartTaskRequest { purpose, ttl_ms, idempotency_key }
    AddBackendRequest { name, kind, roles, replace }
    AddUpstreamRequest { name, tool, host, header, replace }
    LeaseSecret { username }
    IssueLeaseResponse { lease }
    IssueLeaseRequest { grant, backend, role, ttl_ms }
    AuthorizeResponse { decision, id, reasons, grant, possession, call }
    HttpRequest { method, host }
    McpRequest { server, method }
    DpopProof { method }
    InvitedPep { pep, join_expires_at }
}

impl Debug for super::envoy::HttpRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("HttpRequest").field("method", &self.method).field("host", &self.host).finish_non_exhaustive()
    }
}

impl Debug for super::envoy::HeaderValue {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("HeaderValue").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Debug for super::ext_mcp::McpHeader {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("McpHeader").field("key", &self.key).finish_non_exhaustive()
    }
}

macro_rules! mcp {
    ($($message:ident)*) => {$(
        impl Debug for super::ext_mcp::$message {
            fn fmt(&self, f: &mut Formatter<'_>) -> Result {
                let mut shown = f.debug_struct(stringify!($message));
                shown.field("service_names", &self.service_names).field("method", &self.method).finish_non_exhaustive()
            }
        }
    )*};
}

mcp! { McpRequest McpResponse }
