//! DPoP proofs as they come: an agent's own, or one that an enforcement point saw.

use super::Edge;
use crate::broker::{Asked, ShownProof};
use crate::domain::decide::Caller;
use crate::domain::digest::Digest;
use crate::domain::error::Error;
use crate::format::dpop::Target;
use crate::wire::v1;

/// Where an agent's own proof goes when it asks about a call, alone or in a stream.
pub(super) const AUTHORIZE: &str = "/belay.v1.Decisions/Authorize";
/// The same when it asks about a token, …
pub(super) const VERIFY: &str = "/belay.v1.Tokens/Verify";
/// … and for one.
const ISSUE: &str = "/belay.v1.Tokens/Issue";
/// How gRPC calls.
const POST: &str = "POST";

impl Edge {
    /// The proof that came with a token. An enforcement point says which request it came with and is believed; an agent's
    /// own is for this very call of the broker, so that nobody can show one here that it was shown elsewhere.
    pub(super) fn proof<'a>(
        &self,
        asked: &Asked,
        said: Option<&'a v1::DpopProof>,
        rpc: &str,
    ) -> Result<Option<ShownProof<'a>>, Error> {
        let Some(v1::DpopProof { proof, method, url }) = said else { return Ok(None) };
        // Nothing of what was sent is repeated: a URL may hold secrets.
        let wrong = |why: &str| Error::malformed("dpop", "…", why);
        if proof.is_empty() {
            return Err(wrong("it has no proof"));
        }
        let place = Target::parse(url);
        match &asked.caller {
            Caller::Pep(_) if method.is_empty() => {
                Err(wrong("it has no method: say which request the proof came with"))
            }
            Caller::Pep(_) => {
                let place = place.ok_or_else(|| wrong("its url is not https://HOST/PATH"))?;
                Ok(Some(ShownProof { proof, method, places: vec![place] }))
            }
            Caller::Agent(_) => {
                let places = self.0.own_places(rpc);
                let is_ours = (method.is_empty() || method == POST)
                    && (url.is_empty() || place.is_some_and(|place| places.contains(&place)));
                match is_ours {
                    true => Ok(Some(ShownProof { proof, method: POST, places })),
                    false => {
                        Err(wrong("only an enforcement point says with which request a proof came; yours is this one"))
                    }
                }
            }
            _ => {
                let message = "only an agent and an enforcement point show a DPoP proof; leave it out";
                Err(Error::denied("proof_asserted", message).on("dpop"))
            }
        }
    }

    /// The key that a token is asked for. The request keeps its name instead of the proof: a retry has another proof and is
    /// the same request.
    pub(super) fn bound_to(&self, asked: &Asked, body: &mut v1::IssueTokenRequest) -> Result<Option<Digest>, Error> {
        let said = body.dpop.take();
        let Some(shown) = self.proof(asked, said.as_ref(), ISSUE)? else { return Ok(None) };
        let key = self.0.proven_key(&shown).map_err(|error| error.on("dpop"))?;
        body.dpop = Some(v1::DpopProof { proof: key.to_string(), ..Default::default() });
        Ok(Some(key))
    }
}
