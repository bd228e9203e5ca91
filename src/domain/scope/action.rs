//! Action patterns: a dotted name, `name.*` for everything below it, or `*`.

/// Which actions are meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// `*`
    Any,
    /// `issues.*`, kept with its dot: `issues.`
    Below(String),
    /// `issues.read`
    Exact(String),
}

impl Action {
    /// Reads a pattern; none if it is malformed.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        let (names, below) = match text.strip_suffix(".*") {
            Some(names) => (names, true),
            None => (text, false),
        };
        let good =
            |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if !names.split('.').all(good) {
            return None;
        }
        Some(if below { Self::Below(format!("{names}.")) } else { Self::Exact(names.to_owned()) })
    }

    /// Whether every action that `child` means is meant by this pattern.
    pub fn covers(&self, child: &Self) -> bool {
        match (self, child) {
            (Self::Any, _) => true,
            (Self::Below(prefix), Self::Below(below)) => below.starts_with(prefix.as_str()),
            (Self::Below(_), Self::Exact(name)) => self.allows(name),
            (Self::Exact(ours), Self::Exact(theirs)) => ours == theirs,
            (Self::Below(_), Self::Any) | (Self::Exact(_), Self::Any | Self::Below(_)) => false,
        }
    }

    /// Whether this pattern means the action of this name.
    pub fn allows(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Below(prefix) => name.len() > prefix.len() && name.starts_with(prefix.as_str()),
            Self::Exact(ours) => ours == name,
        }
    }

    /// What both mean: one of two patterns that meet always covers the other.
    pub fn meet<'a>(&'a self, other: &'a Self) -> Option<&'a Self> {
        match (self.covers(other), other.covers(self)) {
            (true, _) => Some(other),
            (_, true) => Some(self),
            _ => None,
        }
    }
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Below(prefix) => write!(f, "{prefix}*"),
            Self::Exact(name) => f.write_str(name),
        }
    }
}
