//! Resource patterns: a `/`-path of names, `*` for one part, `**` for any tail.

/// Which resources are meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Vec<Segment>);

/// One part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// A name, compared byte for byte.
    Name(String),
    /// `*`: exactly one segment.
    One,
    /// `**`: one or more segments, at the end only.
    Rest,
}

impl Path {
    /// Reads a pattern; none if it is malformed.
    pub fn parse(text: &str) -> Option<Self> {
        let good = |b: u8| b.is_ascii_alphanumeric() || b"._~-:@+=,".contains(&b);
        let parts: Vec<&str> = text.split('/').collect();
        let last = parts.len() - 1;
        let segment = |(at, part): (usize, &&str)| match *part {
            "*" => Some(Segment::One),
            "**" if at == last => Some(Segment::Rest),
            "" | "." | ".." | "**" => None,
            name if name.bytes().all(good) => Some(Segment::Name(name.to_owned())),
            _ => None,
        };
        parts.iter().enumerate().map(segment).collect::<Option<Vec<_>>>().map(Self)
    }

    /// Its parts: at least one.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// Whether it names one resource alone.
    pub fn is_concrete(&self) -> bool {
        self.0.iter().all(|segment| matches!(segment, Segment::Name(_)))
    }

    /// Whether every resource that `child` means is meant by this pattern.
    pub fn covers(&self, child: &Self) -> bool {
        covers(&self.0, &child.0)
    }

    /// Whether this pattern means the resource at this path.
    pub fn allows(&self, path: &str) -> bool {
        let mut names = path.split('/');
        for segment in &self.0 {
            let Some(name) = names.next() else { return false };
            match segment {
                Segment::Rest => return true,
                Segment::One => {}
                Segment::Name(ours) if ours == name => {}
                Segment::Name(_) => return false,
            }
        }
        names.next().is_none()
    }

    /// What both mean, which is one pattern again; none if they have nothing in common.
    pub fn meet(&self, other: &Self) -> Option<Self> {
        meet(&self.0, &other.0).map(Self)
    }
}

fn covers(parent: &[Segment], child: &[Segment]) -> bool {
    match (parent, child) {
        ([Segment::Rest], child) => !child.is_empty(),
        ([], []) => true,
        ([one, parent @ ..], [two, child @ ..]) => {
            let here = match (one, two) {
                (Segment::One, Segment::One | Segment::Name(_)) => true,
                (Segment::Name(ours), Segment::Name(theirs)) => ours == theirs,
                _ => false,
            };
            here && covers(parent, child)
        }
        _ => false,
    }
}

fn meet(one: &[Segment], two: &[Segment]) -> Option<Vec<Segment>> {
    match (one, two) {
        ([], []) => Some(Vec::new()),
        ([Segment::Rest], rest) | (rest, [Segment::Rest]) => (!rest.is_empty()).then(|| rest.to_vec()),
        ([first, one @ ..], [second, two @ ..]) => {
            let here = match (first, second) {
                (Segment::One, other) | (other, Segment::One) => other,
                (ours, theirs) if ours == theirs => ours,
                _ => return None,
            };
            let mut found = vec![here.clone()];
            found.extend(meet(one, two)?);
            Some(found)
        }
        _ => None,
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let part = |segment: &Segment| match segment {
            Segment::Name(name) => name.clone(),
            Segment::One => "*".to_owned(),
            Segment::Rest => "**".to_owned(),
        };
        f.write_str(&self.0.iter().map(part).collect::<Vec<_>>().join("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::Path;

    #[test]
    fn what_two_patterns_share_is_one_pattern() {
        let meets = [
            ("a/**", "*/b", Some("a/b")),
            ("**", "a/*", Some("a/*")),
            ("a/*", "*/b", Some("a/b")),
            ("a/*/c", "a/b/**", Some("a/b/c")),
            ("a/**", "a", None),
            ("a/b", "a/c", None),
            ("*", "a/b", None),
            ("*/**", "**", Some("*/**")),
        ];
        for (one, two, both) in meets {
            let [one, two] = [one, two].map(|text| Path::parse(text).unwrap());
            assert_eq!(one.meet(&two).map(|path| path.to_string()).as_deref(), both, "{one} {two}");
            assert_eq!(one.meet(&two), two.meet(&one), "{one} {two}");
        }
    }
}
