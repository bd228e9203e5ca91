//! Writes revocation lists (RFC 5280 section 5), and reads them back before they are handed out.

use rcgen::{
    CertificateRevocationListParams, CrlDistributionPoint, CrlIssuingDistributionPoint, KeyIdMethod, RevocationReason,
    RevokedCertParams, SubjectPublicKeyInfo,
};
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use super::build::{Keeper, moment};
use super::spki;
use crate::domain::crl::{Listed, RevocationList, Why};
use crate::domain::error::{Code, Error};
use crate::domain::time::Timestamp;

/// The bytes to be signed for `list` (TBSCertList, DER) by the authority with this certificate (DER). It names its own
/// place in a critical extension, so that no list of other certificates is taken for it.
///
/// # Errors
/// The authority's certificate cannot be read, or is not one that signs lists.
pub fn build(list: &RevocationList, authority: &[u8]) -> Result<Vec<u8>, Error> {
    let failed = |why: rcgen::Error| broken(list, &why.to_string());
    let point = CrlDistributionPoint { uris: vec![list.url.clone()] };
    let params = CertificateRevocationListParams {
        this_update: moment(list.this_update)?.into(),
        next_update: moment(list.next_update)?.into(),
        crl_number: list.number.to_be_bytes().to_vec().into(),
        issuing_distribution_point: Some(CrlIssuingDistributionPoint { distribution_point: point, scope: None }),
        revoked_certs: list.entries.iter().map(entry).collect::<Result<_, Error>>()?,
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let public = SubjectPublicKeyInfo::from_der(&spki(authority)?).map_err(failed)?;
    let issuer = rcgen::Issuer::from_ca_cert_der(&authority.into(), Keeper::of(&public)).map_err(failed)?;
    params.signed_by(&issuer).map_err(failed)?;
    Ok(issuer.key().take())
}

fn entry((listed, since): &(Listed, Timestamp)) -> Result<RevokedCertParams, Error> {
    Ok(RevokedCertParams {
        serial_number: listed.id.uuid().as_bytes().to_vec().into(),
        revocation_time: moment(*since)?.into(),
        reason_code: Some(match listed.why {
            Why::Withdrawn => RevocationReason::PrivilegeWithdrawn,
            Why::Ceased => RevocationReason::CessationOfOperation,
            Why::Held => RevocationReason::CertificateHold,
        }),
        invalidity_date: None,
    })
}

/// Holds a finished list (DER) against what it was to say, and its signature against its authority's key.
///
/// # Errors
/// `crl_malformed`: it does not say that.
pub fn check(der: &[u8], list: &RevocationList, authority: &[u8]) -> Result<(), Error> {
    let (rest, read) = CertificateRevocationList::from_der(der).map_err(|why| broken(list, &why.to_string()))?;
    let (_, above) =
        x509_parser::certificate::X509Certificate::from_der(authority).map_err(|why| broken(list, &why.to_string()))?;
    read.verify_signature(above.public_key()).map_err(|_| broken(list, "its signature is not its authority's"))?;
    let serials = read.iter_revoked_certificates().map(|one| one.raw_serial());
    let wanted: Vec<_> = list.entries.iter().map(|(listed, _)| listed.id.uuid()).collect();
    let same = serials.map(significant).eq(wanted.iter().map(|id| significant(id.as_bytes())));
    let times = [Some(read.last_update()), read.next_update()].map(|at| at.map(|at| at.timestamp()));
    let planned = [list.this_update, list.next_update].map(|at| Some(at.seconds()));
    if rest.is_empty() && same && times == planned && read.issuer().as_raw() == above.subject().as_raw() {
        return Ok(());
    }
    Err(broken(list, "it does not say what it was to say"))
}

fn significant(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..]
}

fn broken(list: &RevocationList, why: &str) -> Error {
    Error::new(Code::Internal, "crl_malformed", format!("the revocation list `{}` could not be made: {why}", list.url))
}
