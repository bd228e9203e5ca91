//! Where something is, in an argument: paths below a prefix, hosts and mailboxes below a suffix.
//!
//! Both fail closed: a value that some reader might take for another place is in no place at all.

/// A path and what is below it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(String);

/// A host and what is below it at a dot; or, with `@`, the mailboxes of exactly that host. In lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Suffix(String);

impl Prefix {
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        match is_path(text) {
            true => Ok(Self(text.to_owned())),
            false => {
                Err("a prefix is a path without `.`, `..`, empty parts, `\\` or escapes, and without a `/` at its end")
            }
        }
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the text is this path, or one below it.
    pub fn allows(&self, text: &str) -> bool {
        is_path(text) && (text.strip_prefix(&self.0)).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Whether everything below `child` is below this.
    pub fn covers(&self, child: &Self) -> bool {
        self.allows(&child.0)
    }
}

/// Whether there is one way to read it: no part that means another place, in any common spelling.
fn is_path(text: &str) -> bool {
    // Twins of dots, slash and backslash, small, full-width, vertical and in `a/c`, turn into them where text is
    // normalised (NFKC).
    const TWINS: [char; 15] = [
        '\\', '\u{ff0e}', '\u{ff0f}', '\u{ff3c}', '\u{fe52}', '\u{fe68}', '\u{2024}', '\u{2025}', '\u{2026}',
        '\u{fe30}', '\u{fe19}', '\u{2100}', '\u{2101}', '\u{2105}', '\u{2106}',
    ];
    let part = |part: &str| !part.chars().all(|char| char == '.' || char.is_whitespace());
    text.strip_prefix('/').unwrap_or(text).split('/').all(part)
        && !text.contains(|char: char| char.is_control() || TWINS.contains(&char))
        && text.split('%').skip(1).all(is_harmless_escape)
}

/// Whether what follows a `%` stands for a character that means nothing in a path: no dot, slash, backslash or
/// control character, nothing beyond ASCII, and no `%` that would be read once more.
fn is_harmless_escape(rest: &str) -> bool {
    let byte = rest.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
    byte.is_some_and(|byte| (b' '..=b'~').contains(&byte) && !b"./\\%".contains(&byte) && !rest.starts_with('+'))
}

impl Suffix {
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        match is_host(text.strip_prefix('@').unwrap_or(text)) {
            true => Ok(Self(text.to_ascii_lowercase())),
            false => Err("a suffix is a host name, or `@` and a host name, in ASCII and without a dot at either end"),
        }
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the text is a host or a mailbox in this place.
    pub fn allows(&self, text: &str) -> bool {
        let (local, host) = match text.split_once('@') {
            Some((local, host)) => (Some(local), host),
            None => (None, text),
        };
        let host = host.to_ascii_lowercase();
        let here = match self.0.strip_prefix('@') {
            Some(ours) => local.is_some() && ours == host,
            None => is_within(&host, &self.0),
        };
        here && is_host(&host) && local.is_none_or(is_local)
    }

    /// Whether everything in `child` is in this.
    pub fn covers(&self, child: &Self) -> bool {
        match (self.0.strip_prefix('@'), child.0.strip_prefix('@')) {
            (Some(ours), Some(theirs)) => ours == theirs,
            (Some(_), None) => false,
            (None, theirs) => is_within(theirs.unwrap_or(&child.0), &self.0),
        }
    }
}

fn is_within(host: &str, ours: &str) -> bool {
    host.strip_suffix(ours).is_some_and(|below| below.is_empty() || below.ends_with('.'))
}

/// RFC 1123, section 2.1: labels of letters, digits and hyphens.
fn is_host(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(good) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// A plain local part: no quoting and no `%` or `!`, by which some servers pass mail on to another host.
fn is_local(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-=~'&".contains(&byte);
    text.len() <= 64 && text.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(good))
}

#[cfg(test)]
mod tests {
    use super::{Prefix, Suffix};

    #[test]
    fn a_prefix_ends_at_a_slash_and_no_spelling_leaves_it() {
        let prefix = |text: &str| Prefix::parse(text).unwrap();
        for (ours, value) in [
            ("/srv/data", "/srv/data"),
            ("/srv/data", "/srv/data/a b.txt"),
            ("docs", "docs/100%25.txt".replace("%25", "%20").as_str()),
            ("docs", "docs/..a"),
            ("docs", "docs/\u{e9}"),
        ] {
            assert!(prefix(ours).allows(value), "{ours} {value}");
        }
        for value in [
            "/srv/data2", "/srv/data/../x", "/srv/data/./x", "/srv/data//x", "/srv/data/", "/srv/data\\..\\x",
            "/srv/data/\0", "/srv/data/%2e%2e/x", "/srv/data/%2E./x", "/srv/data%2f..%2fx", "/srv/data/%5c",
            "/srv/data/%00", "/srv/data/%252e", "/srv/data/%c0%ae", "/srv/data/%u002e", "/srv/data/%", "/srv/data/%+2",
            "srv/data", "//srv/data", "/srv", "/SRV/data", "/srv/data/.. /x", "/srv/data/\u{ff0e}\u{ff0e}/x",
            "/srv/data/\u{fe30}/x", "/srv/data/\u{fe19}/x", "/srv/data/\u{2100}", "/srv/data/\u{2101}",
            "/srv/data/\u{2105}", "/srv/data/\u{2106}", "/srv/data/...", "",
        ] {
            assert!(!prefix("/srv/data").allows(value), "{value:?}");
        }
        for wrong in ["", "/", "a/", "a//b", ".", "..", "a/../b", "a\\b", "%2e"] {
            assert!(Prefix::parse(wrong).is_err(), "{wrong:?}");
        }
        assert!(prefix("a").covers(&prefix("a/b")) && !prefix("a/b").covers(&prefix("a")));
        assert!(!prefix("a").covers(&prefix("ab")) && !prefix("a").covers(&prefix("/a")));
    }

    #[test]
    fn a_suffix_begins_at_a_dot_and_takes_plain_hosts_and_mailboxes_alone() {
        let suffix = |text: &str| Suffix::parse(text).unwrap();
        for (ours, value) in [
            ("acme.com", "acme.com"),
            ("acme.com", "Mail.ACME.com"),
            ("Acme.com", "bob.b+tag@eu.acme.com"),
            ("@acme.com", "bob@acme.com"),
        ] {
            assert!(suffix(ours).allows(value), "{ours} {value}");
        }
        for value in [
            "evilacme.com", "acme.com.evil.com", "acme.com.", ".acme.com", "acme.com ", " acme.com", "acme.com\n",
            "bob@evil.com@acme.com", "bob@acme.com@evil.com", "bob@", "@acme.com", "acme.com@evil.com", "acme.com:80",
            "acme.com/", "https://acme.com", "evil.com/acme.com", "evil.com#.acme.com", "evil.com?.acme.com",
            "evil%acme.com@acme.com", "evil!bob@acme.com", "\"a b\"@acme.com", "a\u{441}me.com", "\u{430}@acme.com",
            "x..acme.com", "-x.acme.com", "<bob@acme.com>", "bob@acme.com,eve@evil.com", "x\0.acme.com", "",
            "bob@[127.0.0.1].acme.com", "evil.com\\.acme.com", "x_.acme.com",
        ] {
            assert!(!suffix("acme.com").allows(value), "{value:?}");
        }
        for value in ["acme.com", "bob@eu.acme.com", "bob@xacme.com", "@acme.com"] {
            assert!(!suffix("@acme.com").allows(value), "{value:?}");
        }
        for wrong in ["", "@", ".acme.com", "acme.com.", "a@b", "@@b", "b c", "\u{e9}", "-a"] {
            assert!(Suffix::parse(wrong).is_err(), "{wrong:?}");
        }
        for (parent, child) in [("acme.com", "eu.acme.com"), ("acme.com", "@acme.com"), ("acme.com", "@eu.acme.com")] {
            assert!(
                suffix(parent).covers(&suffix(child)) && !suffix(child).covers(&suffix(parent)),
                "{parent} {child}"
            );
        }
        assert!(!suffix("acme.com").covers(&suffix("xacme.com")));
    }
}
