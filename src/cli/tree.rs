//! A grant tree, nested as a document and drawn for people.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::grant;
use crate::wire::v1::Grant;

/// The grant with `"children":[…]` in it, and so on down. `descendants` has parents before children.
pub fn nested(root: &Grant, descendants: &[Grant]) -> Value {
    let mut children: HashMap<&str, Vec<Value>> = HashMap::new();
    // From the last to the first, so that each is whole before its parent takes it.
    for grant in descendants.iter().rev() {
        let node = with(grant, children.remove(grant.id.as_str()));
        children.entry(grant.parent.as_str()).or_default().push(node);
    }
    with(root, children.remove(root.id.as_str()))
}

fn with(grant: &Grant, children: Option<Vec<Value>>) -> Value {
    let mut node = grant::document(grant);
    let mut children = children.unwrap_or_default();
    children.reverse();
    node["children"] = json!(children);
    node
}

/// A nested grant as a small picture: one line a grant, children below their parent.
pub fn draw(node: &Value) -> String {
    let mut lines = vec![label(node)];
    below(node, "", &mut lines);
    lines.join("\n")
}

fn below(node: &Value, margin: &str, lines: &mut Vec<String>) {
    let children = node["children"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (at, child) in children.iter().enumerate() {
        let (branch, next) = if at + 1 == children.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        lines.push(format!("{margin}{branch}{}", label(child)));
        below(child, &format!("{margin}{next}"), lines);
    }
}

fn label(node: &Value) -> String {
    let text = |key: &str| node[key].as_str().unwrap_or_default();
    let scopes: Vec<_> = node["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mark = if text("state") == "active" { '●' } else { '✗' };
    format!("{mark} {} {} {} {}", text("agent"), text("state"), text("id"), scopes.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(id: &str, parent: &str) -> Grant {
        Grant { id: id.into(), parent: parent.into(), agent: id.into(), state: "active".into(), ..Grant::default() }
    }

    #[test]
    fn children_nest_in_order_at_any_depth() {
        let tree = nested(&grant("a", ""), &[grant("b", "a"), grant("c", "a"), grant("d", "b"), grant("e", "d")]);
        let names = |node: &Value| -> Vec<String> {
            node["children"].as_array().unwrap().iter().map(|child| child["id"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names(&tree), ["b", "c"]);
        assert_eq!(names(&tree["children"][0]), ["d"]);
        assert_eq!(names(&tree["children"][0]["children"][0]), ["e"]);
        assert!(names(&tree["children"][1]).is_empty());
    }

    #[test]
    fn a_tree_is_drawn_with_its_branches() {
        let picture = draw(&nested(&grant("a", ""), &[grant("b", "a"), grant("d", "b"), grant("c", "a")]));
        let shape: Vec<_> = picture.lines().map(|line| line.split('●').next().unwrap()).collect();
        assert_eq!(shape, ["", "├─ ", "│  └─ ", "└─ "]);
    }
}
