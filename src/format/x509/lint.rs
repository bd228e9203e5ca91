//! Reads what was built and holds it against its profile, by a parser that did not write it. Whatever
//! the profile does not name is refused: an extension too many is as wrong as one missing.

use std::collections::HashSet;
use std::net::IpAddr;

use x509_parser::certificate::{TbsCertificate, X509Certificate};
use x509_parser::extensions::{
    BasicConstraints, CRLDistributionPoints, DistributionPointName, ExtendedKeyUsage, GeneralName, KeyUsage,
    ParsedExtension, X509Extension,
};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ED25519,
    OID_X509_COMMON_NAME, OID_X509_ORGANIZATION_NAME,
};
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo, X509Name, X509Version};

use super::extension::{UnderGrant, oid};
use super::profile::{ExtendedUsage, Names, Signature, Usage};
use super::{Issuer, KeyType, Plan};
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};
use crate::domain::name::{Name, TrustDomain};
use crate::domain::time::Timestamp;

/// Holds a TBSCertificate (DER) against its plan and the plan's profile.
///
/// # Errors
/// `certificate_profile`, naming the first rule that it breaks.
pub fn lint(tbs: &[u8], plan: &Plan, issuer: Issuer<'_>) -> Result<(), Error> {
    let parsed = TbsCertificate::from_der(tbs);
    parsed
        .map_err(|why| why.to_string())
        .and_then(|(rest, tbs)| {
            hold(rest.is_empty(), "bytes follow it")?;
            rules(&tbs, plan, issuer)
        })
        .map_err(|rule| broken(plan, &rule))
}

/// Holds a finished certificate (DER) against its plan, and its signature against its issuer's key.
///
/// # Errors
/// `certificate_profile`, naming the first rule that it breaks.
pub fn check(der: &[u8], plan: &Plan, issuer: Issuer<'_>) -> Result<(), Error> {
    let whole = || -> Result<X509Certificate<'_>, String> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|why| why.to_string())?;
        hold(rest.is_empty(), "bytes follow it")?;
        hold(
            certificate.signature_algorithm == certificate.tbs_certificate.signature,
            "it names two signature algorithms",
        )?;
        let verified = match issuer {
            Issuer::Itself => certificate.verify_signature(None),
            Issuer::Authority(above) => certificate.verify_signature(Some(parse(above)?.public_key())),
        };
        verified.map_err(|_| "its signature is not its issuer's".to_owned())?;
        Ok(certificate)
    };
    let certificate = whole().map_err(|rule| broken(plan, &rule))?;
    lint(certificate.tbs_certificate.as_ref(), plan, issuer)
}

/// When a certificate (DER) ends.
///
/// # Errors
/// It is not a certificate.
pub fn not_after(der: &[u8]) -> Result<Timestamp, Error> {
    let parsed = parse(der).map_err(unreadable)?;
    Ok(Timestamp::from_seconds(parsed.validity().not_after.timestamp()))
}

/// The public key (SubjectPublicKeyInfo, DER) that a certificate (DER) is for.
///
/// # Errors
/// It is not a certificate.
pub fn spki(der: &[u8]) -> Result<Vec<u8>, Error> {
    Ok(parse(der).map_err(unreadable)?.public_key().raw.to_vec())
}

fn unreadable(why: String) -> Error {
    Error::new(Code::Internal, "certificate_parse", format!("a certificate cannot be read: {why}"))
}

/// The kind of a SubjectPublicKeyInfo (DER), if it is one that any profile may allow.
pub(super) fn key_type(spki: &[u8]) -> Option<KeyType> {
    let (rest, spki) = SubjectPublicKeyInfo::from_der(spki).ok()?;
    let algorithm = &spki.algorithm;
    let curve = algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
    let found = match curve {
        Some(curve) if algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY && curve == OID_EC_P256 => KeyType::P256,
        Some(curve) if algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY && curve == OID_NIST_EC_P384 => KeyType::P384,
        None if algorithm.algorithm == OID_SIG_ED25519 && algorithm.parameters.is_none() => KeyType::Ed25519,
        _ => return None,
    };
    let shape = (spki.subject_public_key.data.len(), spki.subject_public_key.data.first());
    let whole = match found {
        KeyType::P256 => shape == (65, Some(&4)),
        KeyType::P384 => shape == (97, Some(&4)),
        KeyType::Ed25519 => shape.0 == 32,
    };
    (rest.is_empty() && whole).then_some(found)
}

type Rule = Result<(), String>;

fn hold(rule: bool, otherwise: &str) -> Rule {
    if rule { Ok(()) } else { Err(otherwise.to_owned()) }
}

fn broken(plan: &Plan, rule: &str) -> Error {
    let (whose, profile) = (&plan.spiffe_id, &plan.profile.name);
    Error::new(
        Code::Internal,
        "certificate_profile",
        format!("the certificate of `{whose}` does not fit profile {profile}: {rule}"),
    )
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, String> {
    X509Certificate::from_der(der).map(|(_, parsed)| parsed).map_err(|why| why.to_string())
}

fn rules(tbs: &TbsCertificate<'_>, plan: &Plan, issuer: Issuer<'_>) -> Rule {
    let parsed = match issuer {
        Issuer::Itself => None,
        Issuer::Authority(der) => Some(parse(der)?),
    };
    let above = parsed.as_ref().map_or(tbs, |certificate| &certificate.tbs_certificate);
    hold(tbs.version == X509Version::V3, "it is not version 3")?;
    hold(tbs.issuer_uid.is_none() && tbs.subject_uid.is_none(), "it has a unique identifier")?;
    hold(significant(tbs.raw_serial()) == significant(plan.id.uuid().as_bytes()), "its serial number is not its id")?;
    signature(&tbs.signature, &plan.profile.signature)?;
    hold(tbs.issuer.as_raw() == above.subject.as_raw(), "its issuer is not the name of its authority")?;
    subject(&tbs.subject, plan)?;
    validity(tbs, plan, above)?;
    hold(tbs.subject_pki.raw == plan.spki, "it is for another key")?;
    hold(
        key_type(tbs.subject_pki.raw).is_some_and(|found| plan.profile.keys.contains(&found)),
        "its key is of a kind that is not allowed",
    )?;
    trust_domain(plan, above)?;
    extensions(tbs, plan, above)
}

/// An integer without the zeros before it.
fn significant(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..]
}

fn signature(found: &AlgorithmIdentifier<'_>, wanted: &Signature) -> Rule {
    let wanted = match wanted {
        Signature::EcdsaWithSha256 => OID_SIG_ECDSA_WITH_SHA256,
    };
    hold(found.algorithm == wanted && found.parameters.is_none(), "its signature algorithm is another")
}

fn subject(found: &X509Name<'_>, plan: &Plan) -> Rule {
    let subject = &plan.profile.subject;
    let wanted = [(OID_X509_COMMON_NAME, &subject.common_name), (OID_X509_ORGANIZATION_NAME, &subject.organization)];
    let wanted = wanted.into_iter().filter_map(|(oid, value)| Some((oid, value.as_deref()?)));
    let found = found.iter_attributes().map(|part| (part.attr_type().clone(), part.as_str().unwrap_or("\0")));
    hold(found.eq(wanted), "its subject is another")
}

fn validity(tbs: &TbsCertificate<'_>, plan: &Plan, above: &TbsCertificate<'_>) -> Rule {
    let (from, to) = (tbs.validity.not_before.timestamp(), tbs.validity.not_after.timestamp());
    let wanted = (Timestamp::from_seconds(from), Timestamp::from_seconds(to));
    hold(wanted == (plan.not_before, plan.not_after), "its validity is not the one recorded")?;
    hold(from < to, "it ends before it begins")?;
    let longest = plan.profile.max_lifetime().as_millis() + plan.profile.backdate().as_millis();
    hold((to - from) * 1000 <= longest, "its validity is longer than allowed")?;
    hold(to <= above.validity.not_after.timestamp(), "its validity ends after its authority's")
}

/// The path of the SPIFFE ID is the profile's, and its trust domain that of the authority above.
fn trust_domain(plan: &Plan, above: &TbsCertificate<'_>) -> Rule {
    let path_at = |id: &str| id.find('/').unwrap_or(id.len());
    let rest = plan.spiffe_id.strip_prefix("spiffe://").ok_or("its SPIFFE ID is not one")?;
    let (domain, path) = rest.split_at(path_at(rest));
    hold(domain.parse::<TrustDomain>().is_ok(), "its SPIFFE ID is not one")?;
    let prefix = plan.profile.subject_alt_name.uri_path.as_str();
    let name = path.strip_prefix(prefix).ok_or("the path of its SPIFFE ID is another profile's")?;
    hold(
        if prefix.is_empty() { name.is_empty() } else { name.parse::<Name>().is_ok() },
        "the path of its SPIFFE ID is another profile's",
    )?;
    let above = above.subject_alternative_name().ok().flatten();
    let same = above.is_some_and(|names| {
        names.value.general_names.iter().any(|name| match name {
            GeneralName::URI(id) => id.strip_prefix("spiffe://").is_some_and(|rest| &rest[..path_at(rest)] == domain),
            _ => false,
        })
    });
    hold(same, "its authority is of another trust domain")
}

fn extensions(tbs: &TbsCertificate<'_>, plan: &Plan, above: &TbsCertificate<'_>) -> Rule {
    let profile = plan.profile;
    let mut wanted = HashSet::from(["SAN", "key usage", "basic constraints"]);
    wanted.extend(profile.subject_key_identifier.then_some("subject key identifier"));
    wanted.extend(profile.authority_key_identifier.then_some("authority key identifier"));
    wanted.extend(profile.crl_distribution_point.then_some("CRL distribution point"));
    wanted.extend((!profile.extended_key_usage.usages.is_empty()).then_some("extended key usage"));
    wanted.extend(profile.grant_extension.is_some().then_some("grant extension"));
    for extension in tbs.extensions() {
        let name = known(extension, tbs, plan, above)?;
        hold(wanted.remove(name), &format!("it has an extension too many: {name}"))?;
    }
    wanted.into_iter().next().map_or(Ok(()), |name| Err(format!("it has no {name}")))
}

/// Holds one extension against the profile and says which it is.
fn known(
    extension: &X509Extension<'_>,
    tbs: &TbsCertificate<'_>,
    plan: &Plan,
    above: &TbsCertificate<'_>,
) -> Result<&'static str, String> {
    let profile = plan.profile;
    let (name, critical, right) = match extension.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(found) => {
            // RFC 5280 section 4.2.1.6: critical where the subject is empty.
            ("SAN", tbs.subject.iter().next().is_none(), alternative_names(&found.general_names, plan))
        }
        ParsedExtension::KeyUsage(found) => ("key usage", profile.key_usage.critical, *found == key_usage(plan)),
        ParsedExtension::ExtendedKeyUsage(found) => ("extended key usage", false, *found == extended_key_usage(plan)),
        ParsedExtension::BasicConstraints(found) => {
            let rule = &profile.basic_constraints;
            let right = BasicConstraints { ca: rule.ca, path_len_constraint: rule.path_length.map(u32::from) };
            ("basic constraints", rule.critical, *found == right)
        }
        ParsedExtension::SubjectKeyIdentifier(found) => {
            ("subject key identifier", false, found.0 == &Digest::of(&plan.spki).0[..20])
        }
        ParsedExtension::AuthorityKeyIdentifier(found) => {
            let alone = found.authority_cert_issuer.is_none() && found.authority_cert_serial.is_none();
            let same = found.key_identifier.as_ref().map(|id| id.0) == key_identifier(above);
            ("authority key identifier", false, alone && same && found.key_identifier.is_some())
        }
        ParsedExtension::CRLDistributionPoints(found) => ("CRL distribution point", false, is_list(found, plan)),
        _ if extension.oid == oid() => (
            "grant extension",
            profile.grant_extension.as_ref().is_some_and(|rule| rule.critical),
            under(extension, plan),
        ),
        _ => return Err(format!("it has an unknown extension: {}", extension.oid)),
    };
    hold(right, &format!("its {name} is another"))?;
    hold(extension.critical == critical, &format!("its {name} is {}critical", if critical { "not " } else { "" }))?;
    Ok(name)
}

/// Exactly the one list that was planned, whole and of the authority itself.
fn is_list(found: &CRLDistributionPoints<'_>, plan: &Plan) -> bool {
    let [point] = &found.points[..] else { return false };
    let Some(DistributionPointName::FullName(names)) = &point.distribution_point else { return false };
    let [GeneralName::URI(url)] = &names[..] else { return false };
    point.reasons.is_none() && point.crl_issuer.is_none() && Some(*url) == plan.crl.as_deref()
}

/// Exactly the grant that was planned, held by whom the certificate names.
fn under(extension: &X509Extension<'_>, plan: &Plan) -> bool {
    let found = UnderGrant::decode(extension.value);
    let holder = found.as_ref().and_then(|under| under.claims.chain.last()).map(|link| link.agent.as_str());
    let named = plan.spiffe_id.rsplit_once('/').map(|(_, name)| name);
    found.is_some() && found == plan.under && holder == named
}

fn key_identifier<'a>(certificate: &TbsCertificate<'a>) -> Option<&'a [u8]> {
    certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    })
}

/// Exactly one URI, the SPIFFE ID, and then exactly the names that were asked for.
fn alternative_names(found: &[GeneralName<'_>], plan: &Plan) -> bool {
    let [GeneralName::URI(id), names @ ..] = found else { return false };
    let same = |(found, wanted): (&GeneralName<'_>, &String)| match (found, wanted.parse::<IpAddr>()) {
        (GeneralName::IPAddress(bytes), Ok(IpAddr::V4(wanted))) => *bytes == wanted.octets(),
        (GeneralName::IPAddress(bytes), Ok(IpAddr::V6(wanted))) => *bytes == wanted.octets(),
        (GeneralName::DNSName(name), Err(_)) => name == wanted,
        _ => false,
    };
    let allowed = plan.names.is_empty() == (plan.profile.subject_alt_name.names == Names::None);
    *id == plan.spiffe_id && allowed && names.len() == plan.names.len() && names.iter().zip(&plan.names).all(same)
}

fn key_usage(plan: &Plan) -> KeyUsage {
    // Bit 0 is the first named bit (RFC 5280 section 4.2.1.3).
    let flags = plan.profile.key_usage.usages.iter().fold(0, |flags, usage| {
        flags
            | match usage {
                Usage::DigitalSignature => 1,
                Usage::KeyCertSign => 1 << 5,
                Usage::CrlSign => 1 << 6,
            }
    });
    KeyUsage { flags }
}

fn extended_key_usage(plan: &Plan) -> ExtendedKeyUsage<'static> {
    let usages = &plan.profile.extended_key_usage.usages;
    ExtendedKeyUsage {
        any: false,
        server_auth: usages.contains(&ExtendedUsage::ServerAuth),
        client_auth: usages.contains(&ExtendedUsage::ClientAuth),
        code_signing: false,
        email_protection: false,
        time_stamping: false,
        ocsp_signing: false,
        other: Vec::new(),
    }
}
