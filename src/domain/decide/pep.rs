//! Enforcement points: registered with the audiences that they answer for, retired at once.

use super::{Context, Decide, Decision, agent::join};
use crate::domain::agent::{Join, Kind};
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};
use crate::domain::event::Body;
use crate::domain::id::PepId;
use crate::domain::name::{Audience, Line, Name};
use crate::domain::pep::{MAX_AUDIENCES, Pep, STALENESS};
use crate::domain::policy::Right;
use crate::domain::time::Span;

/// Registers an enforcement point and invites it.
#[derive(Debug)]
pub struct RegisterPep {
    /// Its name.
    pub name: Name,
    /// The audiences that it answers for; at least one.
    pub audiences: Vec<Audience>,
    /// How old its feed may be before it allows nothing.
    pub staleness: Span,
    /// SHA-256 of the join token's secret.
    pub secret_hash: Digest,
}

/// Retires an enforcement point for good: its certificate authenticates nobody from then on.
#[derive(Debug)]
pub struct RetirePep {
    /// Which.
    pub name: Name,
    /// Why.
    pub reason: Line,
}

impl Decide for RegisterPep {
    type Answer = (Pep, Join);
    const VERB: &'static str = "pep.register";

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Self::Answer>, Error> {
        ctx.operator(Right::ManagePeps)?;
        let audiences = self.audiences()?;
        let (least, most) = STALENESS;
        if self.staleness < least || self.staleness > most {
            let given = format!("{}ms", self.staleness.as_millis());
            return Err(Error::malformed("max_staleness", &given, "use 2s to 10m"));
        }
        if ctx.view.pep(&self.name).is_some() {
            let message = format!("enforcement point `{}` exists or existed; names are not given again", self.name);
            return Err(Error::new(Code::Conflict, "pep_exists", message).on("name"));
        }
        let pep = Pep {
            id: PepId::mint(ctx.now, ctx.entropy),
            name: self.name.clone(),
            audiences,
            staleness: self.staleness,
            retired: None,
            created_at: ctx.now,
        };
        let join = join(ctx, Kind::Pep, &self.name, self.secret_hash);
        Ok(Decision::new(vec![Body::PepRegistered { pep: pep.clone(), join: join.clone() }], (pep, join)))
    }
}

impl RegisterPep {
    /// Sorted, each once.
    fn audiences(&self) -> Result<Vec<Audience>, Error> {
        let mut audiences = self.audiences.clone();
        audiences.sort_unstable();
        audiences.dedup();
        match audiences.len() {
            0 => Err(Error::missing("audience")),
            1..=MAX_AUDIENCES => Ok(audiences),
            many => Err(Error::malformed("audience", &many.to_string(), "an enforcement point answers for at most 64")),
        }
    }
}

impl Decide for RetirePep {
    type Answer = Pep;
    const VERB: &'static str = "pep.retire";

    fn is_urgent(&self) -> bool {
        true
    }

    fn decide(&self, ctx: &mut Context<'_>) -> Result<Decision<Pep>, Error> {
        ctx.operator(Right::ManagePeps)?;
        let pep = ctx.view.pep(&self.name).ok_or_else(|| Error::not_found("enforcement point", &self.name))?;
        let retired = Pep { retired: pep.retired.or(Some(ctx.now)), ..pep.clone() };
        if pep.retired.is_some() {
            return Ok(Decision::new(Vec::new(), retired));
        }
        let event = Body::PepRetired { name: self.name.clone(), reason: self.reason.clone() };
        Ok(Decision::new(vec![event], retired))
    }
}
