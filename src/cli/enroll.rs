//! Enrolment and renewal, the same for agents, operators and enforcement points. The key is made here and never leaves.
//!
//! The key is on disk before the join token is spent: if the answer is lost, running the same command
//! again presents the same token with the same key, and gets the same certificate.

use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate, X509CertificationRequest};
use zeroize::Zeroizing;

use super::connect::{Global, answer};
use super::output::{Answer, failed, pairs, sparse};
use super::secret::Secret;
use super::{agent, operator, pep};
use crate::client::identity::{request, request_with};
use crate::client::{Identity, Refusal, client_config, connect, joining_config};
use crate::domain::agent::Kind;
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};
use crate::format::join::JoinToken;
use crate::wire::v1::identity_client::IdentityClient;
use crate::wire::v1::{EnrollRequest, EnrollResponse, RenewIdentityRequest};

/// A join token, and where its identity goes.
#[derive(Debug, Args)]
pub struct Enroll {
    /// The join token, `@FILE`, or `-` for stdin
    #[arg(long, value_name = "TOKEN|@FILE|-")]
    join_token: Secret,
    /// Where cert.pem, key.pem and ca.pem are written
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Enroll {
    /// Does it, for a party of this kind: a token for another is refused before it is spent.
    pub async fn run(self, global: &Global, kind: Kind) -> Answer {
        let join_token = self.join_token.read()?;
        let join: JoinToken = join_token.parse()?;
        let key = key_in(&self.out)?;
        let csr = request_with(&key, None)?;
        let channel = connect(&global.addr().unwrap_or(join.addr), joining_config(join.authority)?).await?;
        let message = EnrollRequest { join_token, csr: csr.clone(), kind: kind.to_string() };
        let enrolled = answer(IdentityClient::new(channel).enroll(message).await)?;
        if Digest::of(&enrolled.authority) != join.authority {
            let message = "the broker answered with a CA that the join token does not name";
            return Err(failed("wrong_authority", message.into()));
        }
        check(&enrolled.certificate, &enrolled.issuer, &enrolled.authorities, &csr)?;
        Identity::save(&self.out, &enrolled.certificate, &key, &enrolled.authorities, true)?;
        print(global, &enrolled, &self.out)
    }
}

/// Replaces the caller's identity by a new one, with a new key.
pub async fn renew(global: &Global) -> Answer {
    let dir = global.identity()?;
    let identity = Identity::load(&dir)?;
    let (key, csr) = request(None)?;
    let addr = global.addr_or_default();
    let channel = connect(&addr, client_config(&identity)?).await?;
    let renewed = answer(IdentityClient::new(channel).renew(RenewIdentityRequest { csr: csr.clone() }).await)?;
    check(&renewed.certificate, &renewed.issuer, &renewed.authorities, &csr)?;
    Identity::save(&dir, &renewed.certificate, &key, &renewed.authorities, true)?;
    print(global, &renewed, &dir)
}

/// The key that an earlier attempt left in `dir`, or a new one, on disk with mode 0600 before it is used.
///
/// # Errors
/// A certificate is there already, or a key cannot be kept there.
pub fn key_in(dir: &Path) -> Result<Zeroizing<String>, Refusal> {
    if dir.join("cert.pem").exists() {
        let message = format!("`{}` already holds an identity; choose another directory", dir.display());
        return Err(Error::new(Code::Conflict, "identity_exists", message).on("out").into());
    }
    let unusable = |error: io::Error| {
        Error::malformed("out", &dir.to_string_lossy(), &format!("cannot keep a key there: {error}"))
    };
    let path = dir.join("key.pem");
    if let Some(key) = earlier(&path).map_err(unusable)? {
        return Ok(key);
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(unusable)?;
    let (key, _) = request(None)?;
    // A key that is there only in part must not be taken for one: it gets its name when it is on disk.
    let part = dir.join(".key.pem.new");
    let _ = std::fs::remove_file(&part);
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part);
    let written = file.and_then(|mut file| file.write_all(key.as_bytes()).and_then(|()| file.sync_all()));
    written.and_then(|()| std::fs::rename(&part, &path)).map_err(unusable)?;
    Ok(key)
}

fn earlier(path: &Path) -> io::Result<Option<Zeroizing<String>>> {
    let mode = match std::fs::metadata(path) {
        Ok(found) => found.permissions().mode() & 0o777,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if mode & 0o077 != 0 {
        let message = format!("key.pem may be used by others (mode {mode:03o}); remove it and try again");
        return Err(io::Error::other(message));
    }
    std::fs::read_to_string(path).map(|key| Some(Zeroizing::new(key)))
}

/// Whether the certificate is for the key of this request, and signed by the CA that came with it (all DER).
///
/// # Errors
/// It is not, or no CA came by which the broker is known.
pub fn check(certificate: &[u8], issuer: &[u8], authorities: &[Vec<u8>], csr: &[u8]) -> Result<(), Refusal> {
    let wrong = |why: &str| failed("wrong_certificate", format!("the broker's certificate is not usable: {why}"));
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| wrong("it is not X.509"))?;
    let (_, issuer) = X509Certificate::from_der(issuer).map_err(|_| wrong("its CA is not X.509"))?;
    let (_, csr) = X509CertificationRequest::from_der(csr).map_err(|_| wrong("our request does not parse"))?;
    if certificate.public_key().raw != csr.certification_request_info.subject_pki.raw {
        return Err(wrong("it is for another key"));
    }
    if authorities.is_empty() {
        return Err(wrong("no CA comes with it"));
    }
    certificate.verify_signature(Some(issuer.public_key())).map_err(|_| wrong("its CA did not sign it"))
}

fn print(global: &Global, enrolled: &EnrollResponse, dir: &Path) -> Answer {
    let place = dir.display().to_string();
    global.printer().print(&document(enrolled), || {
        pairs([
            (enrolled.kind.as_str(), &enrolled.name),
            ("spiffe id", &enrolled.spiffe_id),
            ("identity", &place),
            ("until", &enrolled.expires_at),
        ])
    })
}

fn document(enrolled: &EnrollResponse) -> Value {
    sparse(json!({
        "agent": enrolled.agent.as_ref().map(agent::document),
        "operator": enrolled.operator.as_ref().map(operator::document),
        "pep": enrolled.pep.as_ref().map(pep::document),
        "spiffe_id": enrolled.spiffe_id,
        "expires_at": enrolled.expires_at,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, CertificateSigningRequestParams, Issuer, KeyPair};

    /// What a broker answers to this request; `trusted` is the CA that it claims to have signed with.
    fn signed(csr: &[u8], trusted: &KeyPair, signer: KeyPair) -> EnrollResponse {
        let authority = CertificateParams::default().self_signed(trusted).unwrap().der().to_vec();
        let issuer = Issuer::new(CertificateParams::default(), signer);
        let request = CertificateSigningRequestParams::from_der(&csr.to_vec().into()).unwrap();
        let certificate = request.signed_by(&issuer).unwrap().der().to_vec();
        EnrollResponse {
            certificate,
            authorities: vec![authority.clone()],
            issuer: authority,
            ..EnrollResponse::default()
        }
    }

    fn key() -> KeyPair {
        KeyPair::generate().unwrap()
    }

    #[test]
    fn a_certificate_is_taken_only_for_our_key_and_from_that_ca() {
        let (_, ours) = request(None).unwrap();
        let (_, others) = request(None).unwrap();
        let authority = key();
        let check = |sent: &EnrollResponse, csr: &[u8]| check(&sent.certificate, &sent.issuer, &sent.authorities, csr);
        let same = || KeyPair::from_pem(&authority.serialize_pem()).unwrap();
        check(&signed(&ours, &authority, same()), &ours).unwrap();
        let other_key = check(&signed(&others, &authority, same()), &ours).unwrap_err();
        assert!(other_key.message.contains("another key"), "{other_key}");
        let other_signer = check(&signed(&ours, &authority, key()), &ours).unwrap_err();
        assert!(other_signer.message.contains("did not sign"), "{other_signer}");
        assert!(check(&EnrollResponse::default(), &ours).is_err());
    }

    #[test]
    fn a_retry_uses_the_key_of_the_first_attempt() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("deep/er");
        let first = key_in(&dir).unwrap();
        assert_eq!(*key_in(&dir).unwrap(), *first);
        let mode = std::fs::metadata(dir.join("key.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_key_that_others_may_use_is_not_taken() {
        let home = tempfile::tempdir().unwrap();
        key_in(home.path()).unwrap();
        std::fs::set_permissions(home.path().join("key.pem"), std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(key_in(home.path()).unwrap_err().message.contains("mode 644"));
    }

    #[test]
    fn an_identity_is_not_written_over() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("cert.pem"), "x").unwrap();
        assert_eq!(key_in(home.path()).unwrap_err().code, Code::Conflict);
    }
}
