//! Certificate requests (PKCS #10, RFC 2986): proof that whoever asks holds the key.
//!
//! Nothing is copied from a request but its public key. Its subject is passed over, since the certificate's
//! is ours to choose; whatever else it asks for is refused by name rather than silently left out.

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension, X509Extension};
use x509_parser::oid_registry::{
    OID_PKCS9_CHALLENGE_PASSWORD, OID_PKCS9_EXTENSION_REQUEST, OID_X509_EXT_BASIC_CONSTRAINTS,
    OID_X509_EXT_EXTENDED_KEY_USAGE, OID_X509_EXT_KEY_USAGE, OID_X509_EXT_SUBJECT_ALT_NAME,
};
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Version;

use super::der;
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};

const LONGEST: usize = 16 * 1024;

/// The start of a SubjectPublicKeyInfo up to the key itself, and the key's length (RFC 5480, RFC 8410).
/// A key has exactly one of these forms: named curve, uncompressed point.
const KEYS: [(&[u8], usize); 3] = [(P256, 65), (P384, 97), (ED25519, 32)];
const P256: &[u8] =
    b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
const P384: &[u8] = b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00";
const ED25519: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";

/// A public key whose holder asked for a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenKey {
    /// The SubjectPublicKeyInfo (DER).
    pub spki: Vec<u8>,
    /// The URIs that the request names as subject alternative names.
    pub asks: Vec<String>,
}

impl ProvenKey {
    /// SHA-256 of the SubjectPublicKeyInfo: which key, wherever keys are compared.
    pub fn key_hash(&self) -> Digest {
        Digest::of(&self.spki)
    }

    /// Whether the request fits an identity of `spiffe_id`: it names that or nothing.
    ///
    /// # Errors
    /// `csr_asks`: it names another, or more than one.
    pub fn may_have(&self, spiffe_id: &str) -> Result<(), Error> {
        match self.asks.as_slice() {
            [] => Ok(()),
            [asked] if asked == spiffe_id => Ok(()),
            [asked] => Err(asks(asked, &format!("this identity is `{spiffe_id}`; ask for that or for none"))),
            [_, asked, ..] => Err(asks(asked, "a certificate holds one SPIFFE ID; ask for one or none")),
        }
    }
}

/// The key that `der` is signed with, and what it asks for.
///
/// # Errors
/// `csr_malformed`, `csr_key` for a kind of key that is not taken, `csr_signature`, and `csr_asks` for
/// anything asked for but URI names. All on the field `csr`.
pub fn prove(der: &[u8]) -> Result<ProvenKey, Error> {
    let single = shape(der).ok_or_else(|| malformed("send one PKCS #10 request in DER, at most 16 KiB"))?;
    let (_, request) =
        X509CertificationRequest::from_der(der).map_err(|_| malformed("it is not a PKCS #10 request"))?;
    let info = &request.certification_request_info;
    if info.version != X509Version::V1 {
        return Err(malformed("its version is not 1"));
    }
    is_strong(info.subject_pki.raw)?;
    request.verify_signature().map_err(|_| {
        refused(
            "csr_signature",
            "the certificate request is not signed by the key that it holds; make it with that key",
        )
    })?;
    if !single {
        return Err(malformed("an attribute of it has not exactly one value"));
    }
    Ok(ProvenKey { spki: info.subject_pki.raw.to_vec(), asks: names(&request)? })
}

/// Whether `der` is one DER element with the parts of a request and none besides; within, whether each
/// attribute has one value.
fn shape(der: &[u8]) -> Option<bool> {
    let parts = der::inside(der).filter(|parts| der.len() <= LONGEST && parts.len() == 3)?;
    let info = der::inside(parts[0])?;
    let single = |attribute: &&[u8]| {
        let parts = der::inside(attribute)?;
        let values = der::inside(parts.get(1)?)?;
        Some(parts.len() == 2 && values.len() == 1)
    };
    Some(der::inside(info.get(3)?)?.iter().all(|attribute| single(attribute) == Some(true)))
}

fn is_strong(spki: &[u8]) -> Result<(), Error> {
    let kind = KEYS.iter().find(|(prefix, length)| spki.len() == prefix.len() + length && spki.starts_with(prefix));
    let Some((prefix, _)) = kind else {
        return Err(refused(
            "csr_key",
            "the certificate request's key is not accepted; use ECDSA P-256 or P-384, or Ed25519",
        ));
    };
    let key = &spki[prefix.len()..];
    let compressed = *prefix != ED25519 && key[0] != 4;
    if compressed || (*prefix == ED25519 && has_small_order(key)) {
        return Err(refused(
            "csr_key",
            "the certificate request's key is weak or compressed; make a new one, ECDSA P-256 at best",
        ));
    }
    Ok(())
}

/// Whether an Ed25519 key is one for which anybody can make signatures: its order divides 8.
fn has_small_order(key: &[u8]) -> bool {
    const EIGHTH: [u8; 32] = *b"\x26\xe8\x95\x8f\xc2\xb2\x27\xb0\x45\xc3\xf4\x89\xf2\xef\x98\xf0\
        \xd5\xdf\xac\x05\xd3\xc6\x33\x39\xb1\x38\x02\x88\x6d\x53\xfc\x05";
    const OTHER_EIGHTH: [u8; 32] = *b"\xc7\x17\x6a\x70\x3d\x4d\xd8\x4f\xba\x3c\x0b\x76\x0d\x10\x67\x0f\
        \x2a\x20\x53\xfa\x2c\x39\xcc\xc6\x4e\xc7\xfd\x77\x92\xac\x03\x7a";
    let (last, rest) = key.split_last().map_or((0, key), |(last, rest)| (last & 0x7f, rest));
    // y is 0 or 1, or p − 1, p or p + 1, which begin with ec, ed and ee; the sign of x does not matter.
    let near_zero = last == 0 && rest[0] <= 1 && rest[1..].iter().all(|byte| *byte == 0);
    let near_p = last == 0x7f && (0xec..=0xee).contains(&rest[0]) && rest[1..].iter().all(|byte| *byte == 0xff);
    let eighth = [EIGHTH, OTHER_EIGHTH].iter().any(|known| last == known[31] && rest == &known[..31]);
    near_zero || near_p || eighth
}

fn names(request: &X509CertificationRequest<'_>) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    for (at, attribute) in request.certification_request_info.iter_attributes().enumerate() {
        let ParsedCriAttribute::ExtensionRequest(requested) = attribute.parsed_attribute() else {
            let challenge = attribute.oid == OID_PKCS9_CHALLENGE_PASSWORD;
            let name = if challenge { "challengePassword".to_owned() } else { format!("attribute {}", attribute.oid) };
            return Err(asks(&name, "leave it out"));
        };
        if attribute.oid != OID_PKCS9_EXTENSION_REQUEST || at > 0 {
            return Err(asks("extensionRequest", "it is given twice"));
        }
        for (at, extension) in requested.extensions.iter().enumerate() {
            if requested.extensions[..at].iter().any(|before| before.oid == extension.oid) {
                return Err(asks(&extension_name(extension), "it is given twice"));
            }
            found.extend(uris(extension)?);
        }
    }
    Ok(found)
}

fn uris(extension: &X509Extension<'_>) -> Result<Vec<String>, Error> {
    if extension.oid != OID_X509_EXT_SUBJECT_ALT_NAME {
        return Err(asks(&extension_name(extension), "the broker sets it; leave it out"));
    }
    let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
        return Err(malformed("its subjectAltName cannot be read"));
    };
    let uri = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => Ok((*uri).to_owned()),
        other => Err(asks(&other.to_string(), "only one URI name, its SPIFFE ID, is taken")),
    };
    names.general_names.iter().map(uri).collect()
}

fn extension_name(extension: &X509Extension<'_>) -> String {
    let oid = &extension.oid;
    let known = [
        (OID_X509_EXT_BASIC_CONSTRAINTS, "basicConstraints"),
        (OID_X509_EXT_KEY_USAGE, "keyUsage"),
        (OID_X509_EXT_EXTENDED_KEY_USAGE, "extKeyUsage"),
        (OID_X509_EXT_SUBJECT_ALT_NAME, "subjectAltName"),
    ];
    let name = known.iter().find(|(known, _)| known == oid).map(|(_, name)| (*name).to_owned());
    name.unwrap_or_else(|| format!("extension {oid}"))
}

fn malformed(why: &str) -> Error {
    refused("csr_malformed", &format!("the certificate request cannot be read: {why}"))
}

/// What was asked for is the caller's text: it is cut and escaped.
fn asks(what: &str, why: &str) -> Error {
    Error { reason: "csr_asks", ..Error::malformed("csr", what, why) }
}

fn refused(reason: &'static str, message: &str) -> Error {
    Error::new(Code::Invalid, reason, message).on("csr")
}

#[cfg(test)]
mod tests;
