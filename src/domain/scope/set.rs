//! The scopes of one grant, and how they stand to those of another.

use serde::{Deserialize, Serialize};

use super::{Call, Difference, Scope, Widening};
use crate::domain::error::Error;
use crate::domain::{MAX_SCOPE_BYTES, MAX_SCOPES};

/// The scopes of one grant: at least one, at most [`MAX_SCOPES`], each once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<Scope>", into = "Vec<Scope>")]
pub struct Scopes(Vec<Scope>);

impl Scopes {
    /// The scopes in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Scope> {
        self.0.iter()
    }

    /// The scopes in order.
    pub fn as_slice(&self) -> &[Scope] {
        &self.0
    }

    /// The first scope of `child` that no scope here covers.
    pub fn first_uncovered<'c>(&self, child: &'c Scopes) -> Option<&'c Scope> {
        child.iter().find(|wanted| !self.covers(wanted))
    }

    fn covers(&self, wanted: &Scope) -> bool {
        self.iter().any(|ours| ours.covers(wanted))
    }

    /// Whether some scope allows `call`.
    pub fn allow(&self, call: &Call) -> bool {
        self.iter().any(|scope| scope.allows(call))
    }

    /// Whether some call may be allowed by both; see [`Scope::intersects`].
    pub fn intersects(&self, other: &Scopes) -> bool {
        self.iter().any(|ours| other.iter().any(|theirs| ours.intersects(theirs)))
    }

    /// `child` as it is within these scopes: what is covered stays as it is, and what leaves out constraints has
    /// those of every scope here that can take it, so that one scope may become several.
    ///
    /// # Errors
    /// A scope goes beyond every scope here: the field in which it goes beyond the nearest one.
    pub fn within(&self, child: &Scopes) -> Result<Scopes, Widening> {
        let mut found: Vec<Scope> = Vec::new();
        for wanted in child.iter() {
            let mut taken = Vec::new();
            if self.covers(wanted) {
                taken.push(wanted.clone());
            } else {
                let mut nearest: Option<Widening> = None;
                for inherited in self.iter().map(|ours| wanted.inherit(ours)) {
                    match inherited {
                        Ok(scope) => taken.push(scope),
                        Err(wider) if nearest.as_ref().is_none_or(|near| near.near < wider.near) => {
                            nearest = Some(wider)
                        }
                        Err(_) => {}
                    }
                }
                if let (true, Some(nearest)) = (taken.is_empty(), nearest) {
                    return Err(nearest);
                }
            }
            for scope in taken {
                if !found.contains(&scope) {
                    found.push(scope);
                }
            }
        }
        Self::try_from(found).map_err(|error| {
            let why = format!("with what is inherited, {}", error.message);
            Widening { scope: child.0[0].to_string(), field: "args".to_owned(), why, near: 4 }
        })
    }

    /// What is left of `wanted` within these scopes, and each scope that became another. What would not fit into
    /// one grant is gone, and said to be.
    pub fn narrow(&self, wanted: &Scopes) -> (Option<Scopes>, Vec<Difference>) {
        let (mut kept, mut differences) = (Kept::default(), Vec::new());
        for scope in wanted.iter() {
            let left = if self.covers(scope) { vec![scope.clone()] } else { meets(scope, self) };
            let left: Vec<Scope> = left.into_iter().filter(|scope| kept.take(scope)).collect();
            if left != [scope.clone()] {
                let became = left.iter().map(ToString::to_string).collect();
                differences.push(Difference { wanted: scope.to_string(), became });
            }
        }
        (kept.into_scopes(), differences)
    }

    /// What both allow; none if that is nothing. What would not fit into one grant is left out.
    pub fn meet(&self, other: &Scopes) -> Option<Scopes> {
        let mut kept = Kept::default();
        let all: Vec<Scope> = self.iter().flat_map(|scope| meets(scope, other)).collect();
        for scope in outermost(all) {
            kept.take(&scope);
        }
        kept.into_scopes()
    }

    /// Why no scope allows `call`: one line for whoever made it, next to the scope that is nearest.
    pub fn why_not(&self, call: &Call) -> String {
        let of = |nearer: &dyn Fn(&&Scope) -> bool| self.iter().filter(nearer).collect::<Vec<_>>();
        let tool = of(&|scope| scope.tool == call.tool);
        let action = of(&|scope| scope.tool == call.tool && scope.action.allows(&call.action));
        let here = of(&|scope| {
            scope.tool == call.tool && scope.action.allows(&call.action) && scope.resource.allows(&call.resource)
        });
        let refused = here.iter().map(|scope| scope.bounds.refusals(&call.args).collect::<Vec<_>>());
        match refused.min_by_key(Vec::len) {
            Some(refused) if refused.is_empty() => "it is allowed".to_owned(),
            Some(refused) => refused.into_iter().take(3).collect::<Vec<_>>().join("; "),
            None if !action.is_empty() => {
                format!(
                    "resource `{}` must be within {}",
                    call.resource,
                    some(action, |scope| scope.resource.to_string())
                )
            }
            None if !tool.is_empty() => {
                format!("action `{}` must be {}", call.action, some(tool, |scope| scope.action.to_string()))
            }
            None => {
                let every = of(&|_| true);
                format!("tool `{}` must be {}", call.tool, some(every, |scope| scope.tool.clone()))
            }
        }
    }

    /// Reads scopes from their text forms.
    ///
    /// # Errors
    /// None given, too many, one malformed, or one given twice.
    pub fn parse<S: AsRef<str>>(texts: &[S]) -> Result<Self, Error> {
        if texts.len() > MAX_SCOPES {
            return Err(Error::malformed("scope", &texts.len().to_string(), "a grant has at most 64 scopes"));
        }
        texts.iter().map(|text| text.as_ref().parse()).collect::<Result<Vec<Scope>, _>>()?.try_into()
    }
}

/// Up to four of the patterns, each once.
fn some(scopes: Vec<&Scope>, part: impl Fn(&Scope) -> String) -> String {
    let mut parts: Vec<String> = scopes.into_iter().map(|scope| format!("`{}`", part(scope))).collect();
    parts.sort();
    parts.dedup();
    let more = if parts.len() > 4 { " or others" } else { "" };
    parts.truncate(4);
    parts.join(" or ") + more
}

/// What `scope` and each of `others` have in common, without what lies within another of these.
fn meets(scope: &Scope, others: &Scopes) -> Vec<Scope> {
    outermost(others.iter().filter_map(|other| scope.meet(other)).collect())
}

fn outermost(scopes: Vec<Scope>) -> Vec<Scope> {
    let mut kept: Vec<Scope> = Vec::new();
    for scope in scopes {
        if !kept.iter().any(|other| other.covers(&scope)) {
            kept.retain(|other| !scope.covers(other));
            kept.push(scope);
        }
    }
    kept
}

/// Scopes as far as they fit into one grant.
#[derive(Default)]
struct Kept {
    scopes: Vec<Scope>,
    bytes: usize,
}

impl Kept {
    /// Whether the scope is in it now.
    fn take(&mut self, scope: &Scope) -> bool {
        if self.scopes.contains(scope) {
            return true;
        }
        let bytes = self.bytes + scope.to_string().len();
        let fits = self.scopes.len() < MAX_SCOPES && bytes <= MAX_SCOPE_BYTES;
        if fits {
            self.scopes.push(scope.clone());
            self.bytes = bytes;
        }
        fits
    }

    fn into_scopes(self) -> Option<Scopes> {
        (!self.scopes.is_empty()).then_some(Scopes(self.scopes))
    }
}

impl TryFrom<Vec<Scope>> for Scopes {
    type Error = Error;

    fn try_from(scopes: Vec<Scope>) -> Result<Self, Error> {
        if scopes.is_empty() {
            return Err(Error::missing("scope"));
        }
        if scopes.len() > MAX_SCOPES {
            return Err(Error::malformed("scope", &scopes.len().to_string(), "a grant has at most 64 scopes"));
        }
        let bytes: usize = scopes.iter().map(|scope| scope.to_string().len()).sum();
        if bytes > MAX_SCOPE_BYTES {
            // A token carries them all, and has to fit a header of an ordinary HTTP server.
            return Err(Error::malformed(
                "scope",
                &format!("{bytes} bytes"),
                "all scopes together have at most 8192 bytes",
            ));
        }
        let twice = scopes.iter().enumerate().find(|(at, scope)| scopes[..*at].contains(scope));
        match twice {
            Some((_, scope)) => Err(Error::malformed("scope", &scope.to_string(), "it is given twice")),
            None => Ok(Self(scopes)),
        }
    }
}

impl From<Scopes> for Vec<Scope> {
    fn from(scopes: Scopes) -> Self {
        scopes.0
    }
}

#[cfg(test)]
mod tests {
    use super::Scopes;

    #[test]
    fn sets_are_neither_empty_nor_doubled() {
        assert!(Scopes::parse::<&str>(&[]).is_err());
        assert!(Scopes::parse(&["pg:select@db", "pg:select@db"]).is_err());
        assert!(Scopes::parse(&["pg:a@b{\"closed\":true}", "pg:a@b {\"closed\": true}"]).is_err());
        assert!(Scopes::parse(&vec!["pg:select@db".to_owned(); 65]).is_err());
        assert!(serde_json::from_str::<Scopes>("[]").is_err());
    }
}
