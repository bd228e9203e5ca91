//! Other people's certificate requests and certificates: what each is answered, and that none is one of ours.

use std::path::Path;

use super::csr::prove;
use super::mtls::present;
use crate::format::vectors::{Tally, files, pem, vectors};

/// What the request in each file of cryptography's is answered: the reason of its refusal, or nothing if its key is
/// proven. A kind of key that is not taken is refused before its signature is looked at.
const REQUESTS: [(&str, &str); 26] = [
    // Its version is not 1, and PKCS #10 has no other.
    ("bad-version.pem", "csr_malformed"),
    ("basic_constraints.pem", "csr_key"),
    // A password that is a number.
    ("challenge-invalid.der", "csr_malformed"),
    ("challenge-multi-valued.der", "csr_key"),
    ("challenge-unstructured.pem", "csr_key"),
    ("challenge.pem", "csr_key"),
    ("dsa_sha1.der", "csr_key"),
    ("dsa_sha1.pem", "csr_key"),
    // P-256, SHA-256, asks for nothing: exactly what a request should be.
    ("ec_sha256.der", ""),
    ("ec_sha256.pem", ""),
    ("ec_sha256_old_header.pem", ""),
    ("freeipa-bad-critical.pem", "csr_key"),
    ("invalid_signature.pem", "csr_key"),
    // A length in more bytes than it needs, and an attribute without a value: no DER, no PKCS #10.
    ("long-form-attribute.pem", "csr_malformed"),
    ("rsa_md4.der", "csr_key"),
    ("rsa_md4.pem", "csr_key"),
    ("rsa_sha1.der", "csr_key"),
    ("rsa_sha1.pem", "csr_key"),
    ("rsa_sha256.der", "csr_key"),
    ("rsa_sha256.pem", "csr_key"),
    ("san_rsa_sha1.der", "csr_key"),
    ("san_rsa_sha1.pem", "csr_key"),
    ("two_basic_constraints.pem", "csr_key"),
    ("unsupported_extension.pem", "csr_key"),
    ("unsupported_extension_critical.pem", "csr_key"),
    ("zero-element-attribute.pem", "csr_malformed"),
];

/// Why no certificate of go-spiffe's names a party of `example.org`, their trust domain: which part of ours it lacks.
const SVIDS: [(&str, &str); 10] = [
    ("corrupt-cert.pem", "it cannot be read"),
    ("good-leaf-and-intermediate.pem", "neither an agent, an operator nor an enforcement point"),
    ("good-leaf-only.pem", "neither an agent, an operator nor an enforcement point"),
    ("wrong-intermediate-no-ca.pem", "neither an agent, an operator nor an enforcement point"),
    ("wrong-intermediate-no-key-cert-sign.pem", "neither an agent, an operator nor an enforcement point"),
    ("wrong-leaf-ca-true.pem", "neither an agent, an operator nor an enforcement point"),
    ("wrong-leaf-cert-sign.pem", "neither an agent, an operator nor an enforcement point"),
    ("wrong-leaf-crl-sign.pem", "neither an agent, an operator nor an enforcement point"),
    ("wrong-leaf-empty-id.pem", "exactly one name"),
    ("wrong-leaf-no-digital-signature.pem", "neither an agent, an operator nor an enforcement point"),
];

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// What `table` says of `name`; a file that it does not name fails.
fn listed(table: &[(&str, &'static str)], name: &str) -> &'static str {
    table.iter().find(|(file, _)| *file == name).map_or("a line in the table", |(_, expected)| expected)
}

#[test]
fn each_published_request_has_its_answer() {
    let test = "each_published_request_has_its_answer";
    let Some(folder) = vectors(test, "cryptography-x509/requests") else { return };
    let mut tally = Tally::new(test, &[]);
    for path in files(&folder) {
        let der = pem(&std::fs::read(&path).unwrap()).remove(0);
        let answer = prove(&der);
        if let Ok(proven) = &answer {
            tally.case(&format!("{} asks for nothing", name(&path)), &proven.asks.len(), &0);
        }
        let reason = answer.map_or_else(|error| error.reason, |_| "");
        tally.case(name(&path), &reason, &listed(&REQUESTS, name(&path)));
    }
    tally.end(REQUESTS.len() + 3);
}

/// Whatever lies in that folder, certificates and revocation lists too if there are any: no panic, and nobody of ours.
#[test]
fn no_published_file_presents_a_party() {
    let test = "no_published_file_presents_a_party";
    let Some(folder) = vectors(test, "cryptography-x509") else { return };
    let mut tally = Tally::new(test, &[]);
    for path in files(&folder) {
        for der in pem(&std::fs::read(&path).unwrap()) {
            for trust_domain in ["example.org", "example.com", "cryptography.io"] {
                let answer = present(&der, &trust_domain.parse().unwrap());
                let reason = answer.map_or_else(|error| error.reason, |_| "");
                tally.case(&path.display().to_string(), &reason, &"certificate_refused");
            }
        }
    }
    tally.end(78);
}

#[test]
fn an_identity_of_another_spiffe_issuer_is_nobody_here() {
    let test = "an_identity_of_another_spiffe_issuer_is_nobody_here";
    let Some(folder) = vectors(test, "go-spiffe/svid/x509svid/testdata") else { return };
    let mut tally = Tally::new(test, &[]);
    for path in files(&folder).into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "pem")) {
        let leaf = pem(&std::fs::read(&path).unwrap()).remove(0);
        let why = |trust_domain: &str| present(&leaf, &trust_domain.parse().unwrap()).map_err(|error| error.message);
        let expected = listed(&SVIDS, name(&path));
        let met = why("example.org").is_err_and(|message| message.contains(expected));
        tally.case(&format!("{}: {expected}", name(&path)), &met, &true);
        tally.case(&format!("{} in another trust domain", name(&path)), &why("td.example").is_err(), &true);
    }
    tally.end(2 * SVIDS.len());
}
