//! Signs what the broker publishes of the ends of credentials: made from what is durable, anew whenever it is asked for.

use super::{KeyRing, internal, random};
use crate::domain::crl::RevocationList;
use crate::domain::error::Error;
use crate::format::x509;

impl KeyRing {
    /// Signs a revocation list (DER) with the key of the authority that it is of, and looks once more at what came of it.
    ///
    /// # Errors
    /// The authority is not here: it was tainted, or all that it signed is over.
    pub fn sign_crl(&self, list: &RevocationList) -> Result<Vec<u8>, Error> {
        let authority = self.authority(&list.authority)?;
        let tbs = x509::build_crl(list, &authority.certificate)?;
        let signature = authority.pair.sign(&random(), &tbs);
        let signature = signature
            .map_err(|_| internal("sign", format!("the revocation list `{}` could not be signed", list.url)))?;
        let der = x509::assemble(&tbs, signature.as_ref());
        x509::check_crl(&der, list, &authority.certificate)?;
        Ok(der)
    }
}
