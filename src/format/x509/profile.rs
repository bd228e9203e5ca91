//! Certificate profiles: data in `certs/`, compiled in, read strictly.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::domain::agent::Kind;
use crate::domain::time::Span;

/// What one kind of certificate holds. A field that a file lacks, or has beyond these, is an error.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its name, that of its file.
    pub name: String,
    pub(super) signature: Signature,
    pub(super) keys: Vec<KeyType>,
    max_lifetime_seconds: i64,
    backdate_seconds: i64,
    pub(super) subject_key_identifier: bool,
    pub(super) authority_key_identifier: bool,
    /// Whether it names the revocation list that it would be on.
    pub crl_distribution_point: bool,
    pub(super) subject: Subject,
    pub(super) subject_alt_name: SubjectAltName,
    pub(super) key_usage: KeyUsage,
    pub(super) extended_key_usage: ExtendedKeyUsage,
    pub(super) basic_constraints: BasicConstraints,
    /// Only a credential under a grant has one.
    pub(super) grant_extension: Option<GrantExtension>,
}

/// What kind of public key a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum KeyType {
    /// ECDSA on NIST P-256.
    #[serde(rename = "P-256")]
    P256,
    /// ECDSA on NIST P-384.
    #[serde(rename = "P-384")]
    P384,
    /// EdDSA on Curve25519 (RFC 8410).
    Ed25519,
}

#[derive(Debug, Deserialize)]
pub(super) enum Signature {
    #[serde(rename = "ecdsa-with-SHA256")]
    EcdsaWithSha256,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Subject {
    pub common_name: Option<String>,
    pub organization: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SubjectAltName {
    /// What the SPIFFE ID's path begins with, before a name; empty for the trust domain itself.
    pub uri_path: String,
    pub names: Names,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Names {
    None,
    Required,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyUsage {
    pub critical: bool,
    pub usages: Vec<Usage>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) enum Usage {
    #[serde(rename = "digitalSignature")]
    DigitalSignature,
    #[serde(rename = "keyCertSign")]
    KeyCertSign,
    #[serde(rename = "cRLSign")]
    CrlSign,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExtendedKeyUsage {
    pub usages: Vec<ExtendedUsage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum ExtendedUsage {
    #[serde(rename = "clientAuth")]
    ClientAuth,
    #[serde(rename = "serverAuth")]
    ServerAuth,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BasicConstraints {
    pub critical: bool,
    pub ca: bool,
    pub path_length: Option<u8>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantExtension {
    pub critical: bool,
}

static PEP: LazyLock<Profile> = LazyLock::new(|| compiled_in(include_str!("../../../certs/pep.toml")));
static AGENT: LazyLock<Profile> = LazyLock::new(|| compiled_in(include_str!("../../../certs/agent.toml")));
static OPERATOR: LazyLock<Profile> = LazyLock::new(|| compiled_in(include_str!("../../../certs/operator.toml")));
static SERVER: LazyLock<Profile> = LazyLock::new(|| compiled_in(include_str!("../../../certs/server.toml")));
static GRANT: LazyLock<Profile> = LazyLock::new(|| compiled_in(include_str!("../../../certs/grant.toml")));
static AUTHORITY: LazyLock<Profile> = LazyLock::new(|| compiled_in(include_str!("../../../certs/authority.toml")));

fn compiled_in(text: &str) -> Profile {
    toml::from_str(text).expect("the profiles are compiled in, and a test reads each")
}

impl Profile {
    /// The profile of identities of this kind.
    pub fn of(kind: Kind) -> &'static Self {
        match kind {
            Kind::Agent => &AGENT,
            Kind::Operator => &OPERATOR,
            Kind::Server => &SERVER,
            Kind::Pep => &PEP,
        }
    }

    /// The profile of credentials under a grant.
    pub fn grant() -> &'static Self {
        &GRANT
    }

    /// The profile of the authority that signs all others.
    pub fn authority() -> &'static Self {
        &AUTHORITY
    }

    /// The longest life, counted from the moment of issue.
    pub fn max_lifetime(&self) -> Span {
        Span::seconds(self.max_lifetime_seconds)
    }

    /// How long before its issue a certificate begins to be valid, for clocks that are behind.
    pub fn backdate(&self) -> Span {
        Span::seconds(self.backdate_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_is_read_and_bears_its_own_name() {
        for (kind, life) in [(Kind::Agent, 24), (Kind::Operator, 24), (Kind::Server, 24)] {
            let profile = Profile::of(kind);
            assert_eq!(profile.name, kind.as_str());
            assert_eq!(profile.subject_alt_name.uri_path, format!("/{kind}/"));
            assert_eq!((profile.max_lifetime(), profile.backdate()), (Span::hours(life), Span::seconds(60)));
            assert!(!profile.basic_constraints.ca && profile.grant_extension.is_none());
        }
        let grant = Profile::grant();
        assert_eq!((grant.name.as_str(), grant.subject_alt_name.uri_path.as_str()), ("grant", "/agent/"));
        assert_eq!((grant.max_lifetime(), grant.backdate()), (Span::hours(24), Span::seconds(60)));
        assert!(!grant.basic_constraints.ca && grant.grant_extension.as_ref().is_some_and(|found| !found.critical));
        assert_eq!(Profile::authority().name, "authority");
        assert_eq!(Profile::authority().max_lifetime(), Span::hours(365 * 24));
    }

    #[test]
    fn a_profile_with_a_field_too_many_or_too_few_is_refused() {
        let text = include_str!("../../../certs/agent.toml");
        assert!(toml::from_str::<Profile>(text).is_ok());
        for broken in
            [format!("typo = 1\n{text}"), format!("{text}pathlen = 0\n"), text.replace("backdate_seconds = 60", "")]
        {
            assert!(toml::from_str::<Profile>(&broken).is_err(), "{broken}");
        }
    }
}
