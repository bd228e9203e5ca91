//! Somebody else's MCP server, for the story: two tools over some notes.

use std::io::{BufRead as _, Write as _};

use serde_json::{Value, json};

/// Answers until its client goes away.
pub fn serve() -> std::io::Result<()> {
    for line in std::io::stdin().lock().lines() {
        let Ok(message) = serde_json::from_str::<Value>(&line?) else { continue };
        let Some(id) = message.get("id") else { continue };
        let answer = match result(&message) {
            Some(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
            None => {
                json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -32601, "message": "there is no such method" } })
            }
        };
        writeln!(std::io::stdout(), "{answer}")?;
    }
    Ok(())
}

fn result(message: &Value) -> Option<Value> {
    let tool = |name: &str, description: &str| {
        let note = json!({ "type": "object", "properties": { "note": { "type": "string" } }, "required": ["note"] });
        json!({ "name": name, "description": description, "inputSchema": note })
    };
    Some(match message["method"].as_str()? {
        "initialize" => json!({
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": { "tools": {} },
            "serverInfo": { "name": "notes", "version": "1" },
        }),
        "tools/list" => json!({ "tools": [tool("read_note", "reads one"), tool("delete_note", "deletes one")] }),
        "tools/call" => {
            let said = format!("{} of {}", message["params"]["name"], message["params"]["arguments"]["note"]);
            json!({ "content": [{ "type": "text", "text": said }] })
        }
        _ => return None,
    })
}
