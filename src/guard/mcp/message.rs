//! One JSON-RPC message of an MCP session, taken apart strictly and put together again.
//!
//! What is passed on is what was decided: the parts that were read, in their own words, and nothing that was not read.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Wants an answer.
    Request {
        /// Of the sender's choice.
        id: Id,
        /// `tools/call`, …
        method: String,
        /// The text of its parameters; empty: none.
        params: String,
    },
    /// Wants none.
    Notification {
        /// `notifications/…`
        method: String,
        /// The text of its parameters; empty: none.
        params: String,
    },
    /// Answers a request.
    Response {
        /// Of the request.
        id: Id,
        /// The text of the result, or of the error.
        answer: Result<String, String>,
    },
}

/// The id of a request: its JSON text in one form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Id(String);

/// Why a line is no message, as the error that answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMessage {
    /// Of JSON-RPC.
    pub code: i32,
    /// One line.
    pub message: &'static str,
}

/// Members that a message may have. One that is there twice, or another, makes it none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire<'a> {
    jsonrpc: String,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: Option<String>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

impl Message {
    /// Reads a line.
    ///
    /// # Errors
    /// It is not JSON, a list of messages, or not a message of JSON-RPC 2.0 with each member once and no others.
    pub fn read(line: &[u8]) -> Result<Self, NoMessage> {
        let no = |code, message| NoMessage { code, message };
        let Ok(text) = std::str::from_utf8(line) else { return Err(no(-32700, "the line is not UTF-8")) };
        // Some readers end a line at more than a line feed: what is one message here would be several there.
        let ends = |c: char| (c.is_control() && c != '\t') || matches!(c, '\u{2028}' | '\u{2029}');
        if text.contains(ends) {
            return Err(no(-32700, "a line holds no control character, nor another end of a line"));
        }
        if serde_json::from_str::<&RawValue>(text).is_err() {
            return Err(no(-32700, "the line is not JSON"));
        }
        if text.trim_start().starts_with('[') {
            return Err(no(-32600, "send one message at a time, not a list of them"));
        }
        let shape = "a message has jsonrpc, id, method and params, or jsonrpc, id and result or error, each once";
        let wire: Wire<'_> = serde_json::from_str(text).map_err(|_| no(-32600, shape))?;
        if wire.jsonrpc != "2.0" {
            return Err(no(-32600, "its jsonrpc has to be \"2.0\""));
        }
        let id = wire.id.map(|raw| Id::read(raw.get())).transpose();
        let id = id.map_err(|()| no(-32600, "an id is a string or a whole number"))?;
        let params = wire.params.map_or_else(String::new, |raw| raw.get().to_owned());
        match (wire.method, id, wire.result, wire.error) {
            (Some(method), Some(id), None, None) => Ok(Self::Request { id, method, params }),
            (Some(method), None, None, None) => Ok(Self::Notification { method, params }),
            (None, Some(id), Some(result), None) if params.is_empty() => {
                Ok(Self::Response { id, answer: Ok(result.get().to_owned()) })
            }
            (None, Some(id), None, Some(error)) if params.is_empty() => {
                Ok(Self::Response { id, answer: Err(error.get().to_owned()) })
            }
            _ => Err(no(-32600, shape)),
        }
    }
}

impl std::fmt::Display for Message {
    /// One line of JSON.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(r#"{"jsonrpc":"2.0""#)?;
        if let Self::Request { id, .. } | Self::Response { id, .. } = self {
            write!(f, r#","id":{}"#, id.0)?;
        }
        match self {
            Self::Request { method, params, .. } | Self::Notification { method, params } => {
                write!(f, r#","method":{}"#, Value::from(method.as_str()))?;
                if !params.is_empty() {
                    write!(f, r#","params":{params}"#)?;
                }
            }
            Self::Response { answer: Ok(result), .. } => write!(f, r#","result":{result}"#)?,
            Self::Response { answer: Err(error), .. } => write!(f, r#","error":{error}"#)?,
        }
        f.write_str("}")
    }
}

impl Id {
    /// Reads the text of a string or a whole number.
    fn read(text: &str) -> Result<Self, ()> {
        match serde_json::from_str(text) {
            Ok(id @ Value::String(_)) => Ok(Self(id.to_string())),
            Ok(Value::Number(id)) if id.is_i64() || id.is_u64() => Ok(Self(id.to_string())),
            _ => Err(()),
        }
    }

    /// The id that a member of some params is.
    pub fn of(value: &Value) -> Option<Self> {
        Self::read(&value.to_string()).ok()
    }

    /// An id of this process's own.
    pub fn own(text: &str) -> Self {
        Self(Value::from(text).to_string())
    }

    /// As a JSON value.
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

/// The answer to what was no message: it has no id that could be trusted.
pub fn refused(no: NoMessage) -> String {
    json!({ "jsonrpc": "2.0", "id": null, "error": { "code": no.code, "message": no.message } }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(line: &str) -> i32 {
        Message::read(line.as_bytes()).expect_err(line).code
    }

    /// CR is white space to JSON, and an end of the line to who reads with universal newlines.
    #[test]
    fn a_line_is_one_message_to_every_reader() {
        let hidden = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"delete_all","arguments":{}}}"#;
        for end in ["\r", "\u{b}", "\u{c}", "\u{85}", "\u{2028}", "\u{2029}"] {
            let line = format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"_meta":{{"x":{end}{hidden}{end}}}}}}}"#
            );
            assert_eq!(Message::read(line.as_bytes()).map_err(|no| no.code).unwrap_err(), -32700, "{end:?}");
        }
        assert!(Message::read(hidden.as_bytes()).is_ok());
    }

    #[test]
    fn a_message_is_passed_on_in_its_own_words() {
        for line in [
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"n":1.0e2}}}"#,
            r#"{"jsonrpc":"2.0","id":"x","method":"ping"}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"no"}}"#,
        ] {
            assert_eq!(Message::read(line.as_bytes()).unwrap().to_string(), line);
        }
    }

    #[test]
    fn what_two_could_read_differently_is_no_message() {
        for line in [
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}"#,
            r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":[1],"method":"ping"}"#,
            r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
            r#"{"id":1,"method":"ping"}"#,
            r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#,
            r#"{"jsonrpc":"2.0"}"#,
            "7",
        ] {
            assert_eq!(code(line), -32600, "{line}");
        }
        for line in ["", "{", "nonsense", r#"{"jsonrpc":"2.0"}{}"#] {
            assert_eq!(code(line), -32700, "{line}");
        }
        assert_eq!(Message::read(&[0xff]).unwrap_err().code, -32700);
    }
}
