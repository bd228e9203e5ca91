//! Patterns of text: `*` is any run of characters, `?` is one, every other character is itself.

/// A pattern in its one form: runs of wildcards hold their `?` first and at most one `*`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Glob(String);

/// Characters of a pattern: with those of a text they bound the work of one match.
const LONGEST: usize = 256;

/// Characters of a text that is looked at.
const LONGEST_TEXT: usize = 4096;

impl Glob {
    /// Reads a pattern.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.chars().count() > LONGEST {
            return Err("a glob has at most 256 characters");
        }
        if text.contains('\\') {
            return Err("a glob has no `\\`: `*` and `?` cannot be escaped");
        }
        let (mut form, mut star) = (String::new(), false);
        for char in text.chars() {
            match char {
                '*' => star = true,
                '?' => form.push('?'),
                _ => {
                    form.extend(std::mem::take(&mut star).then_some('*'));
                    form.push(char);
                }
            }
        }
        form.extend(star.then_some('*'));
        Ok(Self(form))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern means this text. One of more than 4,096 characters it never does, not even as `*`: a call
    /// must not be able to keep a decision busy, and what is refused is never more than what is covered.
    pub fn allows(&self, text: &str) -> bool {
        text.chars().nth(LONGEST_TEXT).is_none() && self.runs(text, |ours, theirs| ours == '?' || ours == theirs)
    }

    /// Whether every text of `child` is one of this pattern's: a `*` of the child lies only under a `*` here.
    pub fn covers(&self, child: &Self) -> bool {
        self.runs(&child.0, |ours, theirs| match theirs {
            '*' => false,
            '?' => ours == '?',
            _ => ours == '?' || ours == theirs,
        })
    }

    /// Matches with `*` as any run; only the last one that was passed can have to take more.
    fn runs(&self, text: &str, is: impl Fn(char, char) -> bool) -> bool {
        let (ours, theirs): (Vec<char>, Vec<char>) = (self.0.chars().collect(), text.chars().collect());
        let (mut at, mut read, mut star) = (0, 0, None);
        while read < theirs.len() {
            match (ours.get(at), star) {
                (Some('*'), _) => {
                    star = Some((at, read));
                    at += 1;
                }
                (Some(our), _) if is(*our, theirs[read]) => (at, read) = (at + 1, read + 1),
                (_, Some((place, taken))) => {
                    star = Some((place, taken + 1));
                    (at, read) = (place + 1, taken + 1);
                }
                (_, None) => return false,
            }
        }
        ours[at..].iter().all(|our| *our == '*')
    }
}

#[cfg(test)]
mod tests {
    use super::Glob;

    fn glob(text: &str) -> Glob {
        Glob::parse(text).unwrap()
    }

    #[test]
    fn a_pattern_means_whole_texts() {
        for (pattern, text) in [
            ("*", ""),
            ("a*", "a"),
            ("a*b", "axxbb"),
            ("?", "\u{1f600}"),
            ("*a*b*", "xxaxxbxx"),
            ("a?c", "abc"),
            ("", ""),
            ("[a]", "[a]"),
            ("*?", "x"),
            ("**a", "ba"),
        ] {
            assert!(glob(pattern).allows(text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("", "a"), ("a", "ab"), ("a*b", "axxbc"), ("?", ""), ("??", "a"), ("a", "A"), ("*a", "ab")]
        {
            assert!(!glob(pattern).allows(text), "{pattern} {text}");
        }
        assert_eq!(glob("a*?*?b**").as_str(), "a??*b*");
        assert!(Glob::parse("a\\*").is_err() && Glob::parse(&"a".repeat(257)).is_err());
    }

    #[test]
    fn a_text_that_is_too_long_is_meant_by_no_pattern() {
        for pattern in ["*", "a*", "*a?a*a"] {
            assert!(glob(pattern).allows(&"a".repeat(4096)), "{pattern}");
            assert!(!glob(pattern).allows(&"a".repeat(4097)), "{pattern}");
        }
    }

    #[test]
    fn a_pattern_covers_what_lies_under_its_stars() {
        for (parent, child) in [("*", "a*"), ("a*", "ab*c"), ("a?*", "a?"), ("*b", "*ab"), ("a*a", "aba"), ("?*", "a*")]
        {
            assert!(glob(parent).covers(&glob(child)), "{parent} {child}");
        }
        for (parent, child) in [("a*", "*"), ("?", "*"), ("a?", "a*"), ("ab", "a?"), ("a*a", "a"), ("?*", "*")] {
            assert!(!glob(parent).covers(&glob(child)), "{parent} {child}");
        }
    }
}
