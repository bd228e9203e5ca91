//! What the server shows of its tools: pinned at first sight. A tool that is another one later is none.

use std::collections::BTreeMap;
use std::collections::hash_map::{Entry, HashMap};

use serde_json::Value;

use crate::domain::digest::Digest;

/// Tools of one server. More are not shown.
const MOST: usize = 4096;

/// The tools that the server has shown since it was started.
#[derive(Debug, Default)]
pub struct Pins {
    tools: HashMap<String, Pin>,
    /// How often the server said that its tools had changed.
    said: u64,
    /// How often it had said so when all of them were looked at last.
    seen: Option<u64>,
}

#[derive(Debug)]
struct Pin {
    schema: String,
    whole: Digest,
    changed: bool,
}

/// What is known of a tool.
#[derive(Debug, PartialEq, Eq)]
pub enum Known {
    /// `sha256:…` of its input schema.
    Same(String),
    /// It is not what it was at first.
    Changed,
    /// It was never shown.
    Never,
}

impl Pins {
    /// The server says that its tools changed.
    pub fn moved(&mut self) {
        self.said += 1;
    }

    /// How often it said so.
    pub fn said(&self) -> u64 {
        self.said
    }

    /// All tools were looked at, when the server had said so this often.
    pub fn looked(&mut self, said: u64) {
        self.seen = Some(said);
    }

    /// Whether all tools are as they were looked at, as far as the server says.
    pub fn are_fresh(&self) -> bool {
        self.seen == Some(self.said)
    }

    /// Takes note of a list of tools. One that is there twice in it is ambiguous: it counts as changed.
    pub fn see(&mut self, tools: &[Value]) {
        let mut here: HashMap<&str, usize> = HashMap::new();
        for tool in tools {
            let Some(name) = tool["name"].as_str() else { continue };
            let times = here.entry(name).or_default();
            *times += 1;
            let (schema, whole) = (schema(tool), whole(tool));
            if self.tools.len() >= MOST && !self.tools.contains_key(name) {
                tracing::warn!("the server shows more than {MOST} tools; the others are left out");
                return;
            }
            match self.tools.entry(name.to_owned()) {
                Entry::Vacant(new) => drop(new.insert(Pin { schema, whole, changed: false })),
                Entry::Occupied(mut old) => {
                    let pin = old.get_mut();
                    if pin.whole != whole || *times > 1 {
                        tracing::warn!(tool = name, "a tool is not what it was at first; it is not used any more");
                        pin.changed = true;
                    }
                }
            }
        }
    }

    /// What is known of a tool.
    pub fn known(&self, name: &str) -> Known {
        match self.tools.get(name) {
            None => Known::Never,
            Some(pin) if pin.changed => Known::Changed,
            Some(pin) => Known::Same(pin.schema.clone()),
        }
    }
}

/// `sha256:…` of the input schema of a tool, in its canonical form.
pub fn schema(tool: &Value) -> String {
    let digest = Digest::of(canonical(&tool["inputSchema"]).as_bytes());
    let hex = digest.to_string();
    format!("sha256:{hex}")
}

/// Of all that the server says of it, but what is for the transport.
fn whole(tool: &Value) -> Digest {
    let mut tool = tool.clone();
    if let Some(members) = tool.as_object_mut() {
        members.remove("_meta");
    }
    Digest::of(canonical(&tool).as_bytes())
}

/// JSON without white space, members sorted by their names.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let sorted: BTreeMap<&String, &Value> = members.iter().collect();
            let parts =
                sorted.into_iter().map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), canonical(value)));
            format!("{{{}}}", parts.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_tool_that_changed_stays_changed() {
        let first = json!({ "name": "send", "description": "a", "inputSchema": { "type": "object", "x": 1 } });
        let same = json!({ "inputSchema": { "x": 1, "type": "object" }, "name": "send", "description": "a" });
        let other = json!({ "name": "send", "description": "b", "inputSchema": { "type": "object", "x": 1 } });
        let mut pins = Pins::default();
        assert_eq!(pins.known("send"), Known::Never);
        pins.see(std::slice::from_ref(&first));
        pins.see(&[same]);
        assert_eq!(pins.known("send"), Known::Same(schema(&first)));
        pins.see(&[other]);
        pins.see(&[first]);
        assert_eq!(pins.known("send"), Known::Changed);
    }

    #[test]
    fn a_tool_that_is_listed_twice_is_none() {
        let one = json!({ "name": "send", "inputSchema": {} });
        let mut pins = Pins::default();
        pins.see(&[one.clone(), one]);
        assert_eq!(pins.known("send"), Known::Changed);
    }

    #[test]
    fn the_digest_of_a_schema_is_that_of_its_canonical_text() {
        // printf '{"a":[1,{"b":2,"c":"x"}],"type":"object"}' | sha256sum
        let tool = json!({ "inputSchema": { "type": "object", "a": [1, { "c": "x", "b": 2 }] } });
        let digest = Digest::of(br#"{"a":[1,{"b":2,"c":"x"}],"type":"object"}"#);
        let hex = digest.to_string();
        assert_eq!(schema(&tool), format!("sha256:{hex}"));
    }
}
