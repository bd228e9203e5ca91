//! Names and texts that people and agents choose. Parsed once, compared byte for byte.

use serde::{Deserialize, Serialize};

use super::error::Error;

/// The name of an agent or operator: 1 to 63 of `a-z 0-9 . _ -`, first a letter or digit.
///
/// Lower case only and a valid SPIFFE path segment, so that no two names are twins in another form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// One line of text that a person reads: purpose, reason, owner, subject. 1 to 256 characters, none of
/// which is a control, a bidirectional override or invisible.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Line(String);

/// Whom a token is meant for: a URI or a logical name without spaces, at most 256 bytes of printable ASCII.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Audience(String);

/// A SPIFFE trust domain: 1 to 255 of `a-z 0-9 . - _` (SPIFFE-ID section 2.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(String);

macro_rules! texts {
    ($($name:ident $field:literal $check:ident;)*) => {$(
        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self, Error> {
                if text.is_empty() {
                    return Err(Error::missing($field));
                }
                match $check(text) {
                    Ok(()) => Ok(Self(text.to_owned())),
                    Err(why) => Err(Error::malformed($field, text, why)),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self, Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

texts! {
    Name "name" name;
    Line "text" line;
    Audience "audience" audience;
    TrustDomain "trust_domain" trust_domain;
}

fn name(text: &str) -> Result<(), &'static str> {
    let good = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    if text.len() > 63 {
        return Err("at most 63 characters");
    }
    if !text.bytes().all(good) || !text.as_bytes()[0].is_ascii_alphanumeric() {
        return Err("use a-z, 0-9, `.`, `_` and `-`, beginning with a letter or digit");
    }
    Ok(())
}

fn line(text: &str) -> Result<(), &'static str> {
    if text.chars().nth(256).is_some() {
        return Err("at most 256 characters");
    }
    if text.chars().any(|c| c.is_control() || is_invisible(c)) {
        return Err("control, bidirectional and invisible characters are refused");
    }
    if text.trim() != text {
        return Err("it begins or ends with a space");
    }
    Ok(())
}

/// Characters by which a text reads differently from what it is (Unicode TR 36, section 2.10): all that are
/// ignored where they are shown (`Default_Ignorable_Code_Point`), and those that are only blank.
pub fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

fn audience(text: &str) -> Result<(), &'static str> {
    if text.len() > 256 {
        return Err("at most 256 bytes");
    }
    if !text.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\' && b != b'*' && b != b'#') {
        return Err("use printable ASCII without spaces, quotes, `\\`, `*` and `#`");
    }
    Ok(())
}

fn trust_domain(text: &str) -> Result<(), &'static str> {
    let good = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    if text.len() > 255 {
        Err("at most 255 characters")
    } else if !text.bytes().all(good) {
        Err("use a-z, 0-9, `.`, `_` and `-`")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_twins() {
        for good in ["a", "planner", "ci-bot.2", "0x_y"] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        let long = "a".repeat(64);
        for wrong in ["", "Planner", " a", "a ", "a/b", "-a", ".", "..", "pl\u{430}nner", "a\0", "a*", "%61", &long] {
            assert!(wrong.parse::<Name>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn texts_hide_nothing() {
        assert!("review PR #42 — für Müller".parse::<Line>().is_ok());
        for wrong in ["", " ", "a\nb", "a\u{202e}b", "a\u{200b}b", "tab\there", &"x".repeat(257)] {
            assert!(wrong.parse::<Line>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn texts_hold_nothing_that_is_not_seen() {
        let unseen = [
            '\u{ad}', '\u{34f}', '\u{115f}', '\u{1160}', '\u{17b4}', '\u{180b}', '\u{180e}', '\u{200d}', '\u{2028}',
            '\u{2064}', '\u{2800}', '\u{3164}', '\u{fe00}', '\u{fe0f}', '\u{feff}', '\u{ffa0}', '\u{1d173}',
            '\u{e0001}', '\u{e0100}', '\u{e01ef}',
        ];
        for c in unseen {
            for text in [format!("a{c}b"), format!("{c}a"), format!("a{c}"), c.to_string()] {
                assert!(text.parse::<Line>().is_err(), "{:?}", c.escape_unicode().to_string());
            }
        }
        for seen in ["한글", "\u{1100}\u{1161}", "ខ្មែរ", "⠿", "日本語", "👍", "e\u{301}", "\u{1d15e}", "\u{e000}"]
        {
            assert!(seen.parse::<Line>().is_ok(), "{seen:?}");
        }
    }

    #[test]
    fn audiences_are_one_word() {
        assert!("https://tool.example/mcp".parse::<Audience>().is_ok());
        for wrong in ["", "a b", "*", "https://x/#f", "a\"b", &"x".repeat(257)] {
            assert!(wrong.parse::<Audience>().is_err(), "{wrong:?}");
        }
    }
}
