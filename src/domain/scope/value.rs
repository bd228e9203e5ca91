//! JSON read strictly and written in one form: exact numbers, each member once.
//!
//! `serde_json` rounds numbers and keeps the last of two members with one name, so a text is taken apart level by
//! level, and every number is read from its own characters.

use std::collections::BTreeMap;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::decimal::Decimal;

/// Levels of lists and objects within each other.
const DEEPEST: usize = 16;

/// A JSON value; numbers are exact.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number.
    Number(Decimal),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Value>),
    /// An object.
    Object(BTreeMap<String, Value>),
}

impl Value {
    /// Reads one JSON text. The error says why it is none, without a word of the text but names of members.
    pub(super) fn parse(json: &str) -> Result<Self, String> {
        read(serde_json::from_str(json).map_err(|error| error.to_string())?, DEEPEST)
    }
}

/// The members that one node of a map has room for, whether they are there or not.
const NODE: usize = 11;

/// Bytes of memory that the members of an object take, about.
pub(super) fn weight_of(members: &BTreeMap<String, Value>) -> usize {
    let slots = members.len().next_multiple_of(NODE) * size_of::<(String, Value)>();
    slots + members.iter().map(|(name, value)| piece(name.len()) + value.heap()).sum::<usize>()
}

/// What is allocated for so many bytes.
fn piece(bytes: usize) -> usize {
    bytes.max(16) + 16
}

impl Value {
    /// Bytes of memory that it takes beside its own place.
    fn heap(&self) -> usize {
        match self {
            Self::Null | Self::Bool(_) => 0,
            Self::Number(_) => piece(0),
            Self::Text(text) => piece(text.len()),
            Self::List(items) => piece(items.len() * size_of::<Self>()) + items.iter().map(Self::heap).sum::<usize>(),
            Self::Object(members) => weight_of(members),
        }
    }
}

fn read(raw: &RawValue, room: usize) -> Result<Value, String> {
    let text = raw.get();
    let wrong = |error: serde_json::Error| error.to_string();
    let below = || room.checked_sub(1).ok_or_else(|| format!("it is nested deeper than {DEEPEST} levels"));
    Ok(match text.as_bytes().first() {
        Some(b'{') => {
            let (room, Members(members)) = (below()?, serde_json::from_str(text).map_err(wrong)?);
            let member = |(name, raw)| Ok((name, read(raw, room)?));
            Value::Object(members.into_iter().map(member).collect::<Result<_, String>>()?)
        }
        Some(b'[') => {
            let (room, items) = (below()?, serde_json::from_str::<Vec<&RawValue>>(text).map_err(wrong)?);
            Value::List(items.into_iter().map(|raw| read(raw, room)).collect::<Result<_, _>>()?)
        }
        Some(b'"') => Value::Text(serde_json::from_str(text).map_err(wrong)?),
        Some(b'n') => Value::Null,
        Some(b't' | b'f') => Value::Bool(text == "true"),
        _ => Value::Number(Decimal::parse(text).ok_or("a number has more than 64 digits, or is too far from 1")?),
    })
}

/// The text of each member of a JSON object, not looked into. The error says why it is none.
pub(in crate::domain) fn members(json: &str) -> Result<BTreeMap<String, &str>, String> {
    let Members(members) = serde_json::from_str(json).map_err(|error| error.to_string())?;
    Ok(members.into_iter().map(|(name, raw)| (name, raw.get())).collect())
}

/// The members of an object, each once.
struct Members<'a>(BTreeMap<String, &'a RawValue>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_map(Once).map(Self)
    }
}

struct Once;

impl<'de> Visitor<'de> for Once {
    type Value = BTreeMap<String, &'de RawValue>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object with each member once")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut found = BTreeMap::new();
        while let Some((name, value)) = members.next_entry::<String, &RawValue>()? {
            let shown = shown(&name);
            if found.insert(name, value).is_some() {
                return Err(A::Error::custom(format!("member `{shown}` is given twice")));
            }
        }
        Ok(found)
    }
}

/// A text of a stranger within a message: printable ASCII, and not much of it.
pub(super) fn shown(text: &str) -> String {
    let mut shown = String::new();
    text.chars().take(64).for_each(|char| escape(&mut shown, char));
    if text.chars().nth(64).is_some() { shown + "..." } else { shown }
}

fn escape(out: &mut String, char: char) {
    match char {
        '"' | '\\' => out.extend(['\\', char]),
        '!'..='~' => out.push(char),
        _ => char.encode_utf16(&mut [0; 2]).iter().for_each(|unit| *out += &format!("\\u{unit:04x}")),
    }
}

/// RFC 8785, section 3.2.2.2.
fn escape_least(out: &mut String, char: char) {
    match char {
        '\n' => *out += "\\n",
        '\t' => *out += "\\t",
        '\r' => *out += "\\r",
        '\u{8}' => *out += "\\b",
        '\u{c}' => *out += "\\f",
        '"' | '\\' | '\0'..='\x1f' => escape(out, char),
        _ => out.push(char),
    }
}

impl Value {
    /// The one form of the value with its strings as they are (RFC 8785, but for numbers): for digests.
    pub(super) fn canonical(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, escape_least);
        out
    }

    fn write(&self, out: &mut String, escape: fn(&mut String, char)) {
        let string = |out: &mut String, text: &str| {
            out.push('"');
            text.chars().for_each(|char| escape(out, char));
            out.push('"');
        };
        match self {
            Self::Null => *out += "null",
            Self::Bool(value) => *out += if *value { "true" } else { "false" },
            Self::Number(number) => *out += &number.to_string(),
            Self::Text(text) => string(out, text),
            Self::List(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    *out += if at == 0 { "" } else { "," };
                    item.write(out, escape);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (at, (name, value)) in members.iter().enumerate() {
                    *out += if at == 0 { "" } else { "," };
                    string(out, name);
                    out.push(':');
                    value.write(out, escape);
                }
                out.push('}');
            }
        }
    }
}

impl std::fmt::Display for Value {
    /// The one form of the value in printable ASCII without spaces: no white space, members sorted.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = String::new();
        self.write(&mut out, escape);
        f.write_str(&out)
    }
}

#[cfg(test)]
mod tests {
    use super::Value;

    #[test]
    fn a_value_has_one_form() {
        let forms = [
            (r#" { "b" : [ 1.0 , 1e1, null ] , "a" : true } "#, r#"{"a":true,"b":[1,10,null]}"#),
            ("\"a b\\u00e9\\ud83d\\ude00\\n\\\"\\\\\\/\"", r#""a\u0020b\u00e9\ud83d\ude00\u000a\"\\/""#),
            (r#"9007199254740993.10"#, "9007199254740993.1"),
            ("{}", "{}"),
            ("[]", "[]"),
        ];
        for (text, form) in forms {
            let value = Value::parse(text).unwrap();
            assert_eq!(value.to_string(), form);
            assert_eq!(Value::parse(form).unwrap(), value);
            assert_eq!(Value::parse(&value.canonical()).unwrap(), value);
        }
        let value = Value::parse(r#""a b\u00e9\n\u0001\/\"""#).unwrap();
        assert_eq!(value.canonical(), "\"a b\u{e9}\\n\\u0001/\\\"\"");
    }

    #[test]
    fn a_member_is_given_once_at_every_level_and_depth_ends() {
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(Value::parse(&deep(16)).is_ok());
        for wrong in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"[{"x":{"a":1,"b":2,"a":3}}]"#,
            r#"{"a":1e400}"#,
            "{} {}",
            "",
            "\u{feff}{}",
            r#"{"a":NaN}"#,
            r#""\ud800""#,
            "01",
            "[1,]",
            "tru",
            "truex",
            &deep(17),
            &deep(100_000),
        ] {
            let why = Value::parse(wrong).unwrap_err();
            assert!(!why.contains('\n') && !why.is_empty(), "{wrong:.40}");
        }
    }
}
