//! Tokens: every claim is decided and recorded here; the signature comes after.

use super::place::place;
use super::{Context, Decide, Decision, Presenter};
use crate::domain::MAX_TOKEN;
use crate::domain::confirmation::Confirmation;
use crate::domain::cut::Target;
use crate::domain::digest::Digest;
use crate::domain::error::Error;
use crate::domain::event::Body;
use crate::domain::exposure::longest_under;
use crate::domain::grant::{Grant, Link, Token};
use crate::domain::id::{GrantId, TokenId};
use crate::domain::key::Purpose;
use crate::domain::name::{Audience, Line};
use crate::domain::prepared::Prepared;
use crate::domain::time::Timestamp;
use crate::domain::view::View;

/// Asks for a token under a grant that the caller holds.
#[derive(Debug)]
pub struct IssueToken {
    /// Which grant.
    pub grant: GrantId,
    /// For whom; the grant's audience if none is named.
    pub audience: Option<Audience>,
}

/// The same, bound to a key that the caller proved to hold, and not to its certificate.
#[derive(Debug)]
pub struct IssueKeyToken {
    /// What is asked for.
    pub issue: IssueToken,
    /// The JWK thumbprint of the key.
    pub key: Digest,
}

/// A token to be signed.
#[derive(Debug)]
pub enum TokenAnswer {
    /// Recorded just now.
    New(Box<Prepared<Token>>),
    /// Recorded before: its event, at this sequence, is signed again.
    Again(TokenId, u64),
}

impl Decide for IssueToken {
    type Answer = TokenAnswer;
    const VERB: &'static str = "token.issue";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<TokenAnswer>, Error> {
        let (_, presenter) = ctx.agent()?;
        self.bound(ctx, Confirmation::Certificate(presenter.thumbprint))
    }
}

impl Decide for IssueKeyToken {
    type Answer = TokenAnswer;
    const VERB: &'static str = IssueToken::VERB;

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<TokenAnswer>, Error> {
        self.issue.bound(ctx, Confirmation::Key(self.key))
    }
}

impl IssueToken {
    fn bound(&self, ctx: &mut Context<'_>, confirmation: Confirmation) -> Result<Decision<TokenAnswer>, Error> {
        let (agent, presenter) = ctx.agent()?;
        let grant = ctx.own_grant(self.grant, &agent.name).map_err(|error| error.on("grant"))?;
        ctx.is_live(grant)?;
        if let Some((id, _)) = ctx.replayed::<Self>()?.and_then(|made| made.token) {
            let token = again(ctx, id)?.ok_or_else(|| {
                Error::denied("token_over", format!("token `{id}` is over; take a new idempotency key"))
            })?;
            return Ok(Decision::new(Vec::new(), token));
        }
        if let Some(audience) = self.audience.as_ref().filter(|audience| **audience != grant.audience) {
            let message = format!("audience `{audience}` is not that of grant `{}`, `{}`", grant.id, grant.audience);
            return Err(Error::denied("audience_widened", message).on("audience"));
        }
        ctx.not_all_frozen(&grant.scopes)?;
        let mut events = Vec::new();
        let token = issue_to(ctx, &mut events, grant, presenter, confirmation)?;
        Ok(Decision::new(events, token))
    }
}

/// Adds the event of a token under `grant`, which may itself be new in this request.
pub(super) fn issue(
    ctx: &mut Context<'_>,
    events: &mut Vec<Body>,
    grant: &Grant,
    presenter: &Presenter,
) -> Result<TokenAnswer, Error> {
    issue_to(ctx, events, grant, presenter, Confirmation::Certificate(presenter.thumbprint))
}

/// The same, bound to what is named.
fn issue_to(
    ctx: &mut Context<'_>,
    events: &mut Vec<Body>,
    grant: &Grant,
    presenter: &Presenter,
    confirmation: Confirmation,
) -> Result<TokenAnswer, Error> {
    let origin = ctx.origin()?;
    let id = TokenId::mint(ctx.now, ctx.entropy);
    ctx.not_cut(Target::Token(id))?;
    // A token does not outlive the certificate that asked for it, bound to that or not, and holds whole seconds.
    let longest = longest_under(&ctx.view, grant).map(|longest| ctx.now.plus(longest));
    let expires_at =
        longest.into_iter().fold(grant.expires_at.min(presenter.not_after), Timestamp::min).whole_seconds();
    if expires_at <= ctx.now {
        let message = format!("grant `{}` has less than a second left; renew it first", grant.id);
        return Err(Error::denied("too_short", message));
    }
    let status = Some(place(ctx)?);
    let key = ctx.signer(Purpose::Token)?;
    let chain = chain(&ctx.view, grant);
    let root = chain.first().map_or(&grant.agent, |link| &link.agent);
    let token = Token {
        id,
        issuer: origin.issuer.clone(),
        subject: match &grant.subject {
            Some(subject) => subject.clone(),
            None => ctx.view.spiffe_id(crate::domain::agent::Kind::Agent, root).parse::<Line>()?,
        },
        audience: grant.audience.clone(),
        issued_at: ctx.now.whole_seconds(),
        expires_at,
        grant: grant.id,
        task: grant.task,
        scopes: grant.scopes.clone(),
        seq: ctx.next_seq() + events.len() as u64,
        epoch: origin.epoch.clone(),
        chain,
        confirmation,
        key_hash: presenter.key_hash,
        kid: key.kid.clone(),
        status,
    };
    if token.weight() > MAX_TOKEN {
        let why = "its scopes and chain do not fit a token; delegate less, or from nearer to the root";
        return Err(Error::denied("token_too_large", format!("grant `{}` gets no token: {why}", grant.id)));
    }
    events.push(Body::TokenIssued { token: token.clone() });
    Ok(TokenAnswer::New(Box::new(Prepared::recorded(token))))
}

/// The token again, while it and its signing key last, for the same holder key.
pub(super) fn again(ctx: &Context<'_>, id: TokenId) -> Result<Option<TokenAnswer>, Error> {
    let Some(token) = ctx.view.token(&id).filter(|token| ctx.now < token.expires_at) else { return Ok(None) };
    if ctx.view.cut(&Target::Token(id)).is_some() || ctx.view.is_tainted(&token.kid) {
        return Ok(None);
    }
    match ctx.caller.presenter() {
        Some(presenter) if presenter.key_hash == token.key_hash => Ok(Some(TokenAnswer::Again(id, token.seq))),
        _ => Err(Error::denied(
            "other_key",
            format!("token `{id}` was issued for another key of this agent; ask for a new one"),
        )),
    }
}

/// Root first. Everything above a new grant is in the view; the grant itself may not be yet.
pub(super) fn chain(view: &View<'_>, grant: &Grant) -> Vec<Link> {
    let link = |grant: &Grant| Link {
        grant: grant.id,
        agent: grant.agent.clone(),
        owner: grant.owner.clone(),
        subject: grant.subject.clone(),
    };
    let mut chain = vec![link(grant)];
    chain.extend(grant.parent.into_iter().flat_map(|parent| view.ancestry(parent)).map(link));
    chain.reverse();
    chain
}
