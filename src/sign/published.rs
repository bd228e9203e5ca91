//! Signs what the broker publishes of the ends of credentials: made from what is durable, anew whenever it is asked for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{KeyRing, internal, random};
use crate::domain::crl::RevocationList;
use crate::domain::error::Error;
use crate::domain::status::StatusList;
use crate::format::{status_list, x509};

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

    /// Signs a status list with the token key `kid`: a compact JWS of a type of its own.
    ///
    /// # Errors
    /// There is no such key, or it is not for tokens.
    pub fn sign_status_list(&self, kid: &str, list: &StatusList) -> Result<String, Error> {
        let pair = self.tokens.get(kid);
        let pair = pair.ok_or_else(|| internal("token_key", format!("token key `{kid}` is not here")))?;
        let mut text = status_list::signing_input(list, kid);
        let signature = pair.sign(&random(), text.as_bytes());
        let signature =
            signature.map_err(|_| internal("sign", format!("the status list `{}` could not be signed", list.url)))?;
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut text);
        Ok(text)
    }
}
