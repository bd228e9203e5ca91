//! What a client showed to somebody else's proxy: its header fields, and the credential in them.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::domain::error::{Code, Error};
use crate::wire::{envoy, ext_mcp, v1};

/// The ticket of the call that is made.
pub(super) const TICKET: &str = "x-belay-ticket";
/// What a proxy tells the service behind it begins so; what a client sends under such a name is a forgery.
pub(super) const OURS: &str = "x-belay-";

/// The header fields of a request, each name as often as it came. Names are in lower case.
pub(super) struct Headers(Vec<(String, Vec<u8>)>);

impl From<&axum::http::HeaderMap> for Headers {
    fn from(map: &axum::http::HeaderMap) -> Self {
        Self(map.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect())
    }
}

impl From<&envoy::HttpRequest> for Headers {
    fn from(request: &envoy::HttpRequest) -> Self {
        let joined = request.headers.iter().map(|(name, value)| (name.to_lowercase(), value.clone().into_bytes()));
        let raw = request.header_map.iter().flat_map(|map| &map.headers);
        let raw = raw.map(|one| (one.key.to_lowercase(), [one.value.as_bytes(), &one.raw_value].concat()));
        Self(joined.chain(raw).collect())
    }
}

impl From<&[ext_mcp::McpHeader]> for Headers {
    fn from(headers: &[ext_mcp::McpHeader]) -> Self {
        Self(headers.iter().map(|one| (one.key.to_lowercase(), one.value.clone())).collect())
    }
}

impl Headers {
    /// The value of a field that is given once; none if it is not there.
    ///
    /// # Errors
    /// It is there twice, or is no text.
    pub fn one(&self, name: &str) -> Result<Option<&str>, Error> {
        let mut found = self.0.iter().filter(|(known, _)| known == name);
        let Some((_, value)) = found.next() else { return Ok(None) };
        if found.next().is_some() {
            return Err(refused(format!("the header `{name}` is there twice; send it once")));
        }
        let text = std::str::from_utf8(value).map_err(|_| refused(format!("the header `{name}` is no text")))?;
        Ok(Some(text.trim_matches([' ', '\t'])))
    }

    /// The same for a field that is never a list: proxies join what comes twice by a comma.
    ///
    /// # Errors
    /// As [`Headers::one`], or it holds a comma.
    pub fn single(&self, name: &str) -> Result<Option<&str>, Error> {
        match self.one(name)? {
            Some(value) if value.contains(',') => {
                Err(refused(format!("the header `{name}` is there twice; send it once")))
            }
            value => Ok(value.filter(|value| !value.is_empty())),
        }
    }

    /// The names, in lower case; one that came twice, twice.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }
}

/// What a client showed, as it came.
#[derive(Default)]
pub(super) struct Shown {
    /// The token; empty if there was none.
    pub token: String,
    /// The DPoP proof that came with it.
    pub proof: Option<String>,
    /// The ticket of this call; empty if there was none.
    pub ticket: String,
}

impl Shown {
    /// What the header fields say.
    ///
    /// # Errors
    /// A field is there twice, the scheme is not known, or its proof is missing.
    pub fn of(headers: &Headers) -> Result<Self, Error> {
        let ticket = headers.single(TICKET)?.unwrap_or_default().to_owned();
        let proof = headers.single("dpop")?;
        let Some(authorization) = headers.single("authorization")? else {
            return Ok(Self { ticket, ..Self::default() });
        };
        let (scheme, token) = authorization.split_once(' ').unwrap_or((authorization, ""));
        let token = token.trim_matches(' ');
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(refused(
                "the header `authorization` holds no token; send `Bearer TOKEN` or `DPoP TOKEN`".to_owned(),
            ));
        }
        let proof = match (scheme.to_ascii_lowercase().as_str(), proof) {
            // A proof beside a bearer's token proves nothing of it: what is bound to a key says `DPoP`.
            ("bearer", _) => None,
            ("dpop", Some(proof)) => Some(proof.to_owned()),
            ("dpop", None) => {
                return Err(refused("the scheme `DPoP` needs a proof; send it in the header `dpop`".to_owned()));
            }
            _ => return Err(refused("the scheme is neither `Bearer` nor `DPoP`".to_owned())),
        };
        Ok(Self { token: token.to_owned(), proof, ticket })
    }

    /// The question that these credentials are shown for, of a request with this method and URL.
    pub fn asks(self, method: &str, url: &str) -> v1::AuthorizeRequest {
        let url = url.split(['?', '#']).next().unwrap_or_default().to_owned();
        let dpop = self.proof.map(|proof| v1::DpopProof { proof, method: method.to_owned(), url });
        v1::AuthorizeRequest { token: self.token, redeem: self.ticket, dpop, ..Default::default() }
    }
}

/// The certificate (DER) that a proxy passes on as PEM, URL-encoded or not; empty if it passes on none.
///
/// # Errors
/// It is no certificate.
pub(super) fn certificate(pem: &str) -> Result<Vec<u8>, Error> {
    if pem.is_empty() {
        return Ok(Vec::new());
    }
    let wrong = || refused("the client's certificate cannot be read; pass it on as URL-encoded PEM".to_owned());
    let pem = unescaped(pem).ok_or_else(wrong)?;
    let first = CertificateDer::pem_slice_iter(&pem).next();
    Ok(first.and_then(Result::ok).ok_or_else(wrong)?.to_vec())
}

/// The bytes of a percent-encoded text; none if it is cut off. A `+` stays one: it is base64 here.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                digit()? * 16 + digit()?
            }
            other => other,
        });
    }
    Some(bytes)
}

fn refused(message: String) -> Error {
    Error::new(Code::Unauthenticated, "credential_malformed", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&str, &str)]) -> Headers {
        Headers(fields.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect())
    }

    fn shown(fields: &[(&str, &str)]) -> Result<Shown, &'static str> {
        Shown::of(&headers(fields)).map_err(|error| error.reason)
    }

    #[test]
    fn a_credential_is_shown_once() {
        let good = shown(&[("authorization", "bEaReR a.b.c"), ("x-belay-ticket", "t.u.v")]).unwrap();
        assert_eq!((good.token.as_str(), good.proof, good.ticket.as_str()), ("a.b.c", None, "t.u.v"));
        assert_eq!(shown(&[]).unwrap().token, "");
        let bound = shown(&[("authorization", "DPoP a.b.c"), ("dpop", "p.q.r")]).unwrap();
        assert_eq!((bound.token.as_str(), bound.proof.as_deref()), ("a.b.c", Some("p.q.r")));
        for wrong in [
            &[("authorization", "Bearer a"), ("authorization", "Bearer b")][..],
            &[("authorization", "Bearer a,Bearer b")],
            &[("authorization", "Bearer a, b")],
            &[("authorization", "Bearer")],
            &[("authorization", "Bearer a b")],
            &[("authorization", "Basic YTpi")],
            &[("authorization", "DPoP a")],
            &[("authorization", "DPoP a"), ("dpop", "p,q")],
            &[("authorization", "Bearer a"), ("dpop", "p"), ("dpop", "q")],
            &[("authorization", "Bearer a"), ("x-belay-ticket", "t,u")],
        ] {
            assert_eq!(shown(wrong).map(|_| ()), Err("credential_malformed"), "{wrong:?}");
        }
    }

    #[test]
    fn a_proof_proves_nothing_beside_a_bearers_token() {
        assert_eq!(shown(&[("authorization", "Bearer a"), ("dpop", "p")]).unwrap().proof, None);
    }

    #[test]
    fn the_url_of_a_proof_ends_before_the_query() {
        let asked =
            shown(&[("authorization", "DPoP a"), ("dpop", "p")]).unwrap().asks("GET", "https://a.example/b?c#d");
        assert_eq!(asked.dpop.unwrap().url, "https://a.example/b");
    }

    #[test]
    fn a_certificate_comes_as_pem_in_either_form() {
        let key = rcgen::KeyPair::generate().unwrap();
        let made = rcgen::CertificateParams::new(vec!["a.example".into()]).unwrap().self_signed(&key).unwrap();
        let pem = made.pem();
        let escaped = pem.replace('\n', "%0A").replace(' ', "%20").replace('=', "%3d");
        for form in [pem.as_str(), &escaped] {
            assert_eq!(certificate(form).unwrap(), made.der().to_vec());
        }
        assert!(certificate("").unwrap().is_empty());
        for wrong in ["x", "%", "%2", "%zz", "-----BEGIN%20CERTIFICATE-----", &key.serialize_pem()] {
            assert_eq!(certificate(wrong).unwrap_err().reason, "credential_malformed", "{wrong:.20}");
        }
    }
}
