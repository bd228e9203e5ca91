//! What a PEM file holds (RFC 7468), told in words when it is not what was expected. Never any of its content.

use std::path::Path;

use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::domain::error::Error;

const CUT_OFF: &str = "its certificate is cut off";

/// The certificates of a file: at least one, and nothing else.
///
/// # Errors
/// What it holds instead.
pub(super) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    only("CERTIFICATE", "a certificate", text)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let found = found.map_err(|error| match error {
        pem::Error::MissingSectionEnd { .. } => CUT_OFF.to_owned(),
        _ => "its certificate is damaged: not base64 between the marks".to_owned(),
    })?;
    match found.iter().all(|der| X509Certificate::from_der(der).is_ok_and(|(rest, _)| rest.is_empty())) {
        true if found.is_empty() => Err(CUT_OFF.to_owned()),
        true => Ok(found),
        false => Err("its certificate is damaged: not X.509 between the marks".to_owned()),
    }
}

/// The first certificate (DER) of a PEM file: its holder's, whatever stands behind it.
///
/// # Errors
/// It cannot be read, or holds something else.
pub fn leaf_of(path: &Path) -> Result<Vec<u8>, Error> {
    let wrong = |why: String| Error::malformed("presenter", &path.to_string_lossy(), &why);
    let text = std::fs::read(path).map_err(|error| wrong(format!("cannot read it: {error}")))?;
    let found = certificates(&text).map_err(wrong)?;
    Ok(found.first().map(|der| der.to_vec()).unwrap_or_default())
}

/// The private key of a file.
///
/// # Errors
/// What it holds instead.
pub(super) fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    only("PRIVATE KEY", "a private key", pem)?;
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| "its private key is damaged".to_owned())
}

/// Holds if every block's label ends like this, and there is one.
fn only(label: &str, expected: &str, pem: &[u8]) -> Result<(), String> {
    if pem.iter().all(u8::is_ascii_whitespace) {
        return Err("it is empty".to_owned());
    }
    let labels = labels(pem);
    match labels.iter().find(|found| *found != label && !(label == "PRIVATE KEY" && found.ends_with(" PRIVATE KEY"))) {
        Some(other) => Err(format!("it holds {}, expected {expected}", named(other))),
        None if labels.is_empty() => Err(format!("it is not PEM, expected {expected}")),
        None => Ok(()),
    }
}

/// What stands between `-----BEGIN ` and `-----`. Only what can be a label: a file may hold anything.
fn labels(pem: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(pem);
    let begun = text.lines().filter_map(|line| line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----"));
    let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == ' ';
    begun.filter(|label| label.len() <= 40 && label.chars().all(plain)).map(str::to_owned).collect()
}

fn named(label: &str) -> String {
    match label {
        "CERTIFICATE" => "a certificate".to_owned(),
        "X509 CRL" => "a revocation list (CRL)".to_owned(),
        "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => "a certificate request".to_owned(),
        "PUBLIC KEY" => "a public key".to_owned(),
        label if label.ends_with("PRIVATE KEY") => "a private key".to_owned(),
        label => format!("`{label}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_named() {
        let block = |label: &str| format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
        for (pem, why) in [
            (String::new(), "it is empty"),
            (" \n\n".to_owned(), "it is empty"),
            ("hunter2".to_owned(), "it is not PEM, expected a certificate"),
            (block("X509 CRL"), "it holds a revocation list (CRL), expected a certificate"),
            (block("EC PRIVATE KEY"), "it holds a private key, expected a certificate"),
            (block("CERTIFICATE REQUEST"), "it holds a certificate request, expected a certificate"),
            (block("OPENSSH THING"), "it holds `OPENSSH THING`, expected a certificate"),
            (block("a\u{1b}[2J"), "it is not PEM, expected a certificate"),
            (block("CERTIFICATE"), "its certificate is damaged: not X.509 between the marks"),
            (block("CERTIFICATE").replace("AAAA", "!!"), "its certificate is damaged: not base64 between the marks"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n".to_owned(), "its certificate is cut off"),
        ] {
            assert_eq!(certificates(pem.as_bytes()).unwrap_err(), why, "{pem:?}");
        }
    }

    #[test]
    fn what_is_no_private_key_is_named() {
        for (pem, why) in [
            ("", "it is empty"),
            ("hunter2", "it is not PEM, expected a private key"),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                "it holds a certificate, expected a private key",
            ),
            ("-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n", "its private key is damaged"),
        ] {
            assert_eq!(private_key(pem.as_bytes()).unwrap_err(), why, "{pem:?}");
        }
    }
}
