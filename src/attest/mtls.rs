//! Client certificates: whom one names, once TLS has checked its chain, its time and that the peer holds its key.
//!
//! A certificate speaks for exactly one party of this trust domain, and at most under one grant of it. What it says in its subject decides nothing.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::domain::agent::Kind;
use crate::domain::decide::Presenter;
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};
use crate::domain::id::CertificateId;
use crate::domain::name::{Name, TrustDomain};
use crate::domain::time::Timestamp;
use crate::format::spiffe::SpiffeId;
use crate::format::x509::UnderGrant;

/// The agent, operator or enforcement point that `leaf`, a client certificate (DER) which TLS accepted, names.
///
/// # Errors
/// `certificate_refused`: it names no party, more than one, or one of another trust domain or kind, a grant
/// that cannot be read or is held by another, or it has not one of our serial numbers.
pub fn present(leaf: &[u8], trust_domain: &TrustDomain) -> Result<(Kind, Presenter), Error> {
    let (rest, certificate) = X509Certificate::from_der(leaf).map_err(|_| refused("it cannot be read"))?;
    if !rest.is_empty() {
        return Err(refused("bytes follow it"));
    }
    let (kind, name) = party(&certificate, trust_domain)?;
    let grant = match UnderGrant::of(&certificate).map_err(refused)?.map(|under| under.claims) {
        None => None,
        Some(claims) if kind == Kind::Agent && claims.chain.last().is_some_and(|link| link.agent == name) => {
            Some(claims.grant)
        }
        Some(_) => return Err(refused("the grant that it names is held by another")),
    };
    let serial: Option<[u8; 16]> = certificate.raw_serial().try_into().ok();
    let id = serial.and_then(|serial| CertificateId::from_uuid(uuid::Uuid::from_bytes(serial)));
    let presenter = Presenter {
        kind,
        name,
        grant,
        certificate: id.ok_or_else(|| refused("its serial number is not one that this broker gives"))?,
        thumbprint: Digest::of(leaf),
        key_hash: Digest::of(certificate.public_key().raw),
        not_after: Timestamp::from_seconds(certificate.validity().not_after.timestamp()),
    };
    Ok((kind, presenter))
}

fn party(certificate: &X509Certificate<'_>, trust_domain: &TrustDomain) -> Result<(Kind, Name), Error> {
    let names = certificate.subject_alternative_name().map_err(|_| refused("its subjectAltName cannot be read"))?;
    let [GeneralName::URI(uri)] = names.as_ref().map_or(&[][..], |names| &names.value.general_names[..]) else {
        return Err(refused("it has not exactly one name, a SPIFFE ID"));
    };
    let id: SpiffeId = uri.parse().map_err(|error: Error| refused(&error.message))?;
    if id.trust_domain() != trust_domain {
        return Err(refused(&format!("`{id}` is of another trust domain than `{trust_domain}`")));
    }
    match id.party() {
        Some((kind @ (Kind::Agent | Kind::Operator | Kind::Pep), name)) => Ok((kind, name)),
        _ => Err(refused(&format!("`{id}` is neither an agent, an operator nor an enforcement point"))),
    }
}

fn refused(why: &str) -> Error {
    Error::new(Code::Unauthenticated, "certificate_refused", format!("the client certificate is refused: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::entropy::Entropy;
    use rcgen::{CertificateParams, KeyPair, PublicKeyData as _, SanType, SerialNumber};

    fn serial() -> CertificateId {
        CertificateId::mint(Timestamp::from_seconds(1_795_000_000), &mut Entropy::from_seed([1; 32]))
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    fn certificate(names: Vec<SanType>, serial: &[u8], key: &KeyPair) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.serial_number = Some(SerialNumber::from_slice(serial));
        params.not_after = rcgen::date_time_ymd(2031, 2, 3);
        params.self_signed(key).unwrap().der().to_vec()
    }

    fn show(names: Vec<SanType>, serial: &[u8]) -> Result<(Kind, Presenter), Error> {
        present(&certificate(names, serial, &KeyPair::generate().unwrap()), &"td.example".parse().unwrap())
    }

    #[test]
    fn an_identity_certificate_presents_its_party() {
        let key = KeyPair::generate().unwrap();
        for (path, kind) in [("agent", Kind::Agent), ("operator", Kind::Operator)] {
            let der =
                certificate(vec![uri(&format!("spiffe://td.example/{path}/ana"))], serial().uuid().as_bytes(), &key);
            let presenter = Presenter {
                kind,
                grant: None,
                name: "ana".parse().unwrap(),
                certificate: serial(),
                thumbprint: Digest::of(&der),
                key_hash: Digest::of(&key.subject_public_key_info()),
                not_after: Timestamp::from_seconds(1_927_843_200),
            };
            assert_eq!(present(&der, &"td.example".parse().unwrap()).unwrap(), (kind, presenter));
        }
    }

    #[test]
    fn a_certificate_names_exactly_one_party_of_ours() {
        let agent = || uri("spiffe://td.example/agent/ana");
        let other = [
            vec![],
            vec![agent(), agent()],
            vec![agent(), uri("spiffe://td.example/agent/bob")],
            vec![agent(), SanType::DnsName("ana.example".try_into().unwrap())],
            vec![SanType::DnsName("ana.example".try_into().unwrap())],
            vec![SanType::IpAddress([127, 0, 0, 1].into())],
            vec![uri("spiffe://other.example/agent/ana")],
            vec![uri("spiffe://TD.example/agent/ana")],
            vec![uri("spiffe://td.example/server/ana")],
            vec![uri("spiffe://td.example/agent/ana/2")],
            vec![uri("spiffe://td.example/agent/")],
            vec![uri("spiffe://td.example/agent/Ana")],
            vec![uri("spiffe://td.example")],
            vec![uri("https://td.example/agent/ana")],
        ];
        for names in other {
            let shown = format!("{names:?}");
            let error = show(names, serial().uuid().as_bytes()).unwrap_err();
            assert_eq!((error.code, error.reason), (Code::Unauthenticated, "certificate_refused"), "{shown}");
        }
    }

    #[test]
    fn a_serial_is_one_that_we_give() {
        let name = || vec![uri("spiffe://td.example/agent/ana")];
        let id = serial().uuid();
        assert!(show(name(), id.as_bytes()).is_ok());
        let fourth = uuid::Builder::from_random_bytes([1; 16]).into_uuid();
        for other in
            [&id.as_bytes()[..15], &[id.as_bytes(), &[0][..]].concat(), &[1], fourth.as_bytes(), &[0; 16], &[0xff; 16]]
        {
            assert_eq!(show(name(), other).unwrap_err().reason, "certificate_refused", "{other:?}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let der = certificate(
            vec![uri("spiffe://td.example/agent/ana")],
            serial().uuid().as_bytes(),
            &KeyPair::generate().unwrap(),
        );
        let trailing = [&der[..], &[0]].concat();
        for bytes in [&[][..], b"-----BEGIN CERTIFICATE-----", &der[..der.len() - 1], &trailing] {
            assert!(present(bytes, &"td.example".parse().unwrap()).is_err());
        }
    }
}
