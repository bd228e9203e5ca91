//! How a child reaches beyond its parent, and what became of what was asked for.

/// The one field of a scope that no parent allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Widening {
    /// The scope that was asked for.
    pub scope: String,
    /// Where it widens: `tool`, `action`, `resource`, `closed`, `args.NAME` or `args.NAME.BOUND`.
    pub field: String,
    /// In what way, next to the nearest parent.
    pub why: String,
    pub(super) near: u8,
}

impl std::fmt::Display for Widening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { scope, field, why, .. } = self;
        write!(f, "scope `{scope}` widens `{field}`: {why}")
    }
}

/// What narrowing made of one scope that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The scope that was asked for.
    pub wanted: String,
    /// The scopes that are left of it; none if it is gone.
    pub became: Vec<String>,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.became[..] {
            [] => write!(f, "scope `{}` is gone", self.wanted),
            became => write!(f, "scope `{}` became `{}`", self.wanted, became.join("` and `")),
        }
    }
}
