//! Writes certificates. rcgen has no step between the bytes to be signed and the signature, so it is given
//! a key that keeps the bytes and signs nothing.

use std::cell::RefCell;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CrlDistributionPoint, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SignatureAlgorithm,
    SigningKey, SubjectPublicKeyInfo,
};
use rustls_pki_types::ServerName;

use super::extension;
use super::lint::key_type;
use super::profile::{ExtendedUsage, Names, Usage};
use super::{Issuer, Plan};
use crate::domain::error::{Code, Error};
use crate::domain::time::Timestamp;

/// AlgorithmIdentifier of ecdsa-with-SHA256 (RFC 5758 section 3.2), DER.
const ECDSA_WITH_SHA256: [u8; 12] = [0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// What precedes an uncompressed point in the SubjectPublicKeyInfo of a P-256 key (RFC 5480 section 2), DER.
const P256_SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The bytes to be signed for `plan` (TBSCertificate, DER). Not yet held against its profile: see [`super::lint`].
///
/// # Errors
/// The public key is of a kind that the profile does not allow, or `names` are malformed, missing, or too many.
pub fn build(plan: &Plan, issuer: Issuer<'_>) -> Result<Vec<u8>, Error> {
    to_be_signed(params(plan)?, &plan.spki, issuer)
}

/// The certificate of these bytes and their signature (RFC 5280 section 4.1), DER.
pub fn assemble(tbs: &[u8], signature: &[u8]) -> Vec<u8> {
    let mut bits = vec![0]; // no unused bits
    bits.extend_from_slice(signature);
    let body = [tbs, &ECDSA_WITH_SHA256, &tagged(0x03, &bits)].concat();
    tagged(0x30, &body)
}

/// The SubjectPublicKeyInfo (DER) of a P-256 key, given its uncompressed point.
pub fn p256_spki(point: &[u8]) -> Vec<u8> {
    [&P256_SPKI, point].concat()
}

/// One DER value: tag, shortest length (X.690 section 10.1), content.
pub(super) fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    let mut der = vec![tag];
    match significant {
        [] => der.push(0),
        [short @ 0..=127] => der.push(*short),
        long => {
            // A length has at most the bytes of a `usize`.
            der.push(0x80 | u8::try_from(long.len()).unwrap_or(u8::MAX));
            der.extend_from_slice(long);
        }
    }
    der.extend_from_slice(content);
    der
}

pub(super) fn params(plan: &Plan) -> Result<CertificateParams, Error> {
    let profile = plan.profile;
    let key = key_type(&plan.spki).filter(|found| profile.keys.contains(found));
    if key.is_none() {
        let why = format!(
            "the public key is not of a kind that a certificate of profile {} allows: {:?}",
            profile.name, profile.keys
        );
        return Err(Error::new(Code::Invalid, "malformed", why).on("public_key"));
    }
    let mut params = CertificateParams::default();
    params.serial_number = Some(plan.id.uuid().as_bytes().to_vec().into());
    params.not_before = moment(plan.not_before)?.into();
    params.not_after = moment(plan.not_after)?.into();
    params.distinguished_name = DistinguishedName::new();
    let subject =
        [(DnType::CommonName, &profile.subject.common_name), (DnType::OrganizationName, &profile.subject.organization)];
    for (kind, value) in subject {
        value.iter().for_each(|value| params.distinguished_name.push(kind.clone(), value.as_str()));
    }
    params.subject_alt_names = alternative_names(plan)?;
    params.key_usages = profile
        .key_usage
        .usages
        .iter()
        .map(|usage| match usage {
            Usage::DigitalSignature => KeyUsagePurpose::DigitalSignature,
            Usage::KeyCertSign => KeyUsagePurpose::KeyCertSign,
            Usage::CrlSign => KeyUsagePurpose::CrlSign,
        })
        .collect();
    params.extended_key_usages = profile
        .extended_key_usage
        .usages
        .iter()
        .map(|usage| match usage {
            ExtendedUsage::ClientAuth => ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedUsage::ServerAuth => ExtendedKeyUsagePurpose::ServerAuth,
        })
        .collect();
    params.is_ca = match (profile.basic_constraints.ca, profile.basic_constraints.path_length) {
        (false, _) => IsCa::ExplicitNoCa,
        (true, None) => IsCa::Ca(BasicConstraints::Unconstrained),
        (true, Some(length)) => IsCa::Ca(BasicConstraints::Constrained(length)),
    };
    params.use_authority_key_identifier_extension = profile.authority_key_identifier;
    let lists = plan.crl.iter().map(|url| CrlDistributionPoint { uris: vec![url.clone()] });
    params.crl_distribution_points = lists.collect();
    if let Some(under) = &plan.under {
        let mut extension = CustomExtension::from_oid_content(&extension::OID, under.encode());
        extension.set_criticality(profile.grant_extension.as_ref().is_some_and(|rule| rule.critical));
        params.custom_extensions.push(extension);
    }
    Ok(params)
}

fn alternative_names(plan: &Plan) -> Result<Vec<SanType>, Error> {
    match (&plan.profile.subject_alt_name.names, plan.names.first()) {
        (Names::Required, None) => return Err(Error::missing("names")),
        (Names::None, Some(name)) => {
            let why = format!("a certificate of profile {} has no names beside its SPIFFE ID", plan.profile.name);
            return Err(Error::malformed("names", name, &why));
        }
        _ => {}
    }
    let ascii = |text: &str, field| text.try_into().map_err(|_| Error::malformed(field, text, "use ASCII"));
    let mut names = vec![SanType::URI(ascii(&plan.spiffe_id, "spiffe_id")?)];
    for name in &plan.names {
        names.push(match ServerName::try_from(name.as_str()) {
            Ok(ServerName::DnsName(_)) => SanType::DnsName(ascii(name, "names")?),
            Ok(ServerName::IpAddress(address)) => SanType::IpAddress(std::net::IpAddr::from(address)),
            _ => return Err(Error::malformed("names", name, "expected a DNS name or an IP address")),
        });
    }
    Ok(names)
}

pub(super) fn moment(at: Timestamp) -> Result<SystemTime, Error> {
    let seconds =
        u64::try_from(at.seconds()).map_err(|_| Error::malformed("validity", &at.to_string(), "it is before 1970"))?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

pub(super) fn to_be_signed(params: CertificateParams, spki: &[u8], issuer: Issuer<'_>) -> Result<Vec<u8>, Error> {
    let failed = |why: rcgen::Error| {
        Error::new(Code::Internal, "certificate_build", format!("a certificate could not be built: {why}"))
    };
    let subject = SubjectPublicKeyInfo::from_der(spki).map_err(failed)?;
    let keeper = Keeper::of(&subject);
    let issuer = match issuer {
        Issuer::Itself => rcgen::Issuer::new(params.clone(), keeper),
        Issuer::Authority(der) => rcgen::Issuer::from_ca_cert_der(&der.into(), keeper).map_err(failed)?,
    };
    params.signed_by(&subject, &issuer).map_err(failed)?;
    Ok(issuer.key().take())
}

/// Stands where a signing key is expected, keeps what it should sign, and holds no private key.
pub(super) struct Keeper {
    /// A self-signed certificate and a revocation list take a key identifier from it; others take that of their issuer.
    public: Vec<u8>,
    message: RefCell<Vec<u8>>,
}

impl Keeper {
    pub fn of(public: &SubjectPublicKeyInfo) -> Self {
        Self { public: public.der_bytes().to_vec(), message: RefCell::default() }
    }

    /// What it was to sign.
    pub fn take(&self) -> Vec<u8> {
        self.message.take()
    }
}

impl PublicKeyData for Keeper {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for Keeper {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.message.replace(message.to_vec());
        Ok(Vec::new())
    }
}
