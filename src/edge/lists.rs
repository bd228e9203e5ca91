//! The pages by which others learn of the ends of credentials: revocation lists of certificates, and
//! status lists of tokens.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::metrics::Scrape;
use crate::domain::crl::SHARDS;
use crate::domain::error::{Code, Error};

/// How long a list may be kept on the way, seconds: so much is added to its age.
const KEPT: u32 = 5;

/// One list (RFC 5280; media type by RFC 2585 section 4.2).
pub(super) async fn crl(
    State(scrape): State<Arc<Scrape>>,
    Path((authority, file)): Path<(String, String)>,
) -> Response {
    // One list has one address: `+3.crl` and `03.crl` are none.
    let shard = file.strip_suffix(".crl").and_then(|text| text.parse::<u8>().ok().filter(|n| n.to_string() == text));
    let Some(shard) = shard else { return refused(&Error::not_found("revocation list", file.escape_debug())) };
    match scrape.broker().revocation_list(&authority, shard).await {
        Ok(der) => kept("application/pkix-crl", Bytes::from_owner(der)),
        Err(error) => refused(&error),
    }
}

/// Every list of every accepted authority in PEM, one after the other, for those who read one file.
pub(super) async fn crls(State(scrape): State<Arc<Scrape>>) -> Response {
    let mut text = String::new();
    for authority in scrape.broker().listing() {
        for shard in 0..SHARDS {
            match scrape.broker().revocation_list(&authority, shard).await {
                Ok(der) => pem(&mut text, &der),
                Err(error) => return refused(&error),
            }
        }
    }
    kept("application/x-pem-file", Bytes::from(text))
}

/// One status list (Token Status List, section 8.1).
pub(super) async fn status(State(scrape): State<Arc<Scrape>>, Path(name): Path<String>) -> Response {
    let number = name.parse::<u64>().ok().filter(|number| number.to_string() == name);
    let Some(number) = number else { return refused(&Error::not_found("status list", name.escape_debug())) };
    match scrape.broker().status_list(number).await {
        Ok(text) => kept("application/statuslist+jwt", Bytes::from_owner(text.as_bytes().to_vec())),
        Err(error) => refused(&error),
    }
}

/// Where the lists are.
pub(super) async fn directory(State(scrape): State<Arc<Scrape>>) -> Response {
    let mut lists = scrape.broker().revocation_lists().join("\n");
    lists.push('\n');
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], lists).into_response()
}

fn pem(text: &mut String, der: &[u8]) {
    text.push_str("-----BEGIN X509 CRL-----\n");
    let body = STANDARD.encode(der);
    let lines = (0..body.len()).step_by(64).filter_map(|at| body.get(at..body.len().min(at + 64)));
    for line in lines {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{line}");
    }
    text.push_str("-----END X509 CRL-----\n");
}

fn kept(media: &'static str, body: Bytes) -> Response {
    let cache = format!("public, max-age={KEPT}");
    ([(header::CONTENT_TYPE, media.to_owned()), (header::CACHE_CONTROL, cache)], body).into_response()
}

fn refused(error: &Error) -> Response {
    let status = match (error.code, error.reason) {
        (Code::NotFound, _) => StatusCode::NOT_FOUND,
        (_, "authority_over") => StatusCode::GONE,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, format!("{}: {}\n", error.reason, error.message)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_will_never_be_there_again_is_gone() {
        let status = |error: Error| refused(&error).status();
        assert_eq!(status(Error::new(Code::Conflict, "authority_over", "x")), StatusCode::GONE);
        assert_eq!(status(Error::not_found("revocation list", "x")), StatusCode::NOT_FOUND);
        assert_eq!(status(Error::new(Code::Internal, "sign", "x")), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn a_list_in_pem_has_whole_lines() {
        let mut text = String::new();
        pem(&mut text, &[7; 100]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!((lines[0], lines[4]), ("-----BEGIN X509 CRL-----", "-----END X509 CRL-----"));
        assert_eq!(STANDARD.decode(lines[1..4].concat()).unwrap(), [7; 100]);
        assert!(lines[1].len() == 64 && lines[2].len() == 64 && text.ends_with("-----\n"));
    }
}
