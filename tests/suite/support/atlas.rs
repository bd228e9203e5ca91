//! A small world of tools, scopes, catalogs and policies, and what each of them means, said simply.
//!
//! Nothing here asks the product: a scope is five values, a closure is walked by hand, a policy is an `if`.

use std::collections::BTreeSet;

/// A scope: tool, action, resource, the largest `n` that may be given, and whether no other argument may be.
pub type Piece = (&'static str, &'static str, &'static str, Option<i64>, bool);

/// What agents ask for. Patterns lie beyond every catalog here, and so does `r/5`.
pub const PIECES: [Piece; 18] = [
    ("t", "*", "**", None, false),
    ("u", "*", "**", None, false),
    ("t", "read", "r/0", None, false),
    ("t", "read", "r/1", None, false),
    ("t", "read", "r/2", None, false),
    ("t", "read", "r/3", Some(5), false),
    ("t", "read", "r/4", None, false),
    ("t", "read", "r/5", None, false),
    ("t", "read", "r/*", Some(5), true),
    ("t", "write", "r/1", None, false),
    ("t", "write", "r/1", Some(5), false),
    ("t", "write", "r/3", Some(1), true),
    ("t", "write", "r/*", Some(9), false),
    ("t", "admin", "r/0", None, false),
    ("t", "admin", "r/4", None, true),
    ("u", "read", "s/0", None, false),
    ("u", "read", "s/1", Some(1), false),
    ("u", "*", "s/1", None, false),
];

/// Name, owner, what it may ever hold, longest life in seconds (0: any).
pub const AGENTS: [(&str, &str, &[usize], i64); 4] = [
    ("anna", "red", &[], 0),
    ("bert", "red", &[0], 0),
    ("carl", "blue", &[8, 12, 15], 600),
    ("dora", "blue", &[0, 17], 1500),
];

/// Humans who may approve. One is a subject of tasks, and one bears the name of an agent.
pub const HUMANS: [&str; 4] = ["ann", "ben", "alice", "bert"];

pub const SUBJECTS: [Option<&str>; 3] = [None, Some("alice"), Some("bob")];

/// A call: tool, action, resource, `n` and `o` if they are given.
pub type Call = (&'static str, &'static str, &'static str, Option<i64>, bool);

pub fn universe() -> Vec<Call> {
    let mut calls = Vec::new();
    for (tool, paths) in [("t", &["r/0", "r/1", "r/2", "r/3", "r/4", "r/5"][..]), ("u", &["s/0", "s/1", "s/2"][..])] {
        for action in ["read", "write", "admin"] {
            for path in paths {
                for (n, o) in [(None, false), (Some(1), false), (Some(5), true), (Some(9), false), (Some(10), false)] {
                    calls.push((tool, action, *path, n, o));
                }
            }
        }
    }
    calls
}

pub fn allows(piece: &Piece, call: &Call) -> bool {
    let (tool, action, path, most, closed) = *piece;
    let named = most.is_none_or(|most| call.3.is_some_and(|n| n <= most));
    let other = call.4 || (most.is_none() && call.3.is_some());
    tool == call.0 && is(action, call.1) && lies(path, call.2) && named && !(closed && other)
}

/// Which calls of the universe these allow.
pub fn calls(pieces: &[usize]) -> BTreeSet<usize> {
    let any = |call: &Call| pieces.iter().any(|at| allows(&PIECES[*at], call));
    universe().iter().enumerate().filter(|(_, call)| any(call)).map(|(at, _)| at).collect()
}

pub fn text((tool, action, path, most, closed): &Piece) -> String {
    let args = most.map(|most| format!("\"args\":{{\"n\":{{\"max\":{most}}}}}"));
    let members: Vec<String> = args.into_iter().chain(closed.then(|| "\"closed\":true".to_owned())).collect();
    let json = if members.is_empty() { String::new() } else { format!("{{{}}}", members.join(",")) };
    format!("{tool}:{action}@{path}{json}")
}

fn is(pattern: &str, action: &str) -> bool {
    pattern == "*" || pattern == action
}

fn lies(pattern: &str, path: &str) -> bool {
    let below =
        pattern.strip_suffix("/*").is_some_and(|top| path.split_once('/').is_some_and(|(first, _)| first == top));
    pattern == "**" || pattern == path || below
}

/// A catalog: its resources with their sensitivity, 0 to 3, and its edges.
pub struct Map {
    resources: &'static [(&'static str, &'static str, usize)],
    edges: &'static [(&'static str, &'static str)],
}

pub const MAPS: [Map; 3] = [
    Map {
        resources: &[
            ("t", "r/0", 0),
            ("t", "r/1", 1),
            ("t", "r/2", 2),
            ("t", "r/3", 1),
            ("u", "s/0", 3),
            ("u", "s/1", 2),
        ],
        edges: &[("t:write@r/1", "u:s/0"), ("u:read@s/0", "u:s/1")],
    },
    Map {
        resources: &[("u", "s/1", 0), ("t", "r/3", 3), ("t", "r/1", 1), ("t", "r/4", 2), ("t", "r/0", 1)],
        edges: &[("t:admin@r/4", "t:r/3"), ("t:read@r/3", "u:s/1")],
    },
    Map { resources: &[("t", "r/0", 2), ("t", "r/2", 2), ("t", "r/4", 0)], edges: &[] },
];

const WEIGHT: [u64; 4] = [1, 4, 16, 64];
const WORD: [&str; 4] = ["public", "internal", "confidential", "restricted"];

impl Map {
    pub fn toml(&self) -> String {
        let tool = |name: &str| {
            format!("[[tool]]\nname = '{name}'\nowner = 'ops'\n[[tool.action]]\nname = '*'\nrisk = 'write'\n")
        };
        let mut text = tool("t") + &tool("u");
        for (tool, path, sensitivity) in self.resources {
            text += &format!("[[resource]]\npath = '{tool}:{path}'\nsensitivity = '{}'\n", WORD[*sensitivity]);
        }
        for (from, to) in self.edges {
            text += &format!("[[edge]]\nfrom = '{from}'\nto = '{to}'\n");
        }
        text
    }

    /// What these scopes, as tool, action and resource, reach, and whether it is more than that.
    pub fn reach(&self, scopes: &[(String, String, String)]) -> (BTreeSet<usize>, bool) {
        let mut held: Vec<(String, String, String)> = scopes.to_vec();
        let known = |scope: &(String, String, String)| {
            self.resources.iter().any(|(tool, path, _)| *tool == scope.0 && *path == scope.2)
        };
        let unbounded = !scopes.iter().all(known);
        let mut open = vec![false; self.edges.len()];
        loop {
            let opens = |from: &str| {
                let (tool, rest) = from.split_once(':').unwrap();
                let (action, path) = rest.split_once('@').unwrap();
                held.iter().any(|(t, a, p)| t == tool && is(a, action) && lies(p, path))
            };
            let next = (0..self.edges.len()).find(|at| !open[*at] && opens(self.edges[*at].0));
            let Some(next) = next else { break };
            open[next] = true;
            let (tool, path) = self.edges[next].1.split_once(':').unwrap();
            held.push((tool.to_owned(), "*".to_owned(), path.to_owned()));
        }
        let reached = |(tool, path, _): &&(&str, &str, usize)| held.iter().any(|(t, _, p)| t == tool && lies(p, path));
        let places = self.resources.iter().enumerate().filter(|(_, one)| reached(one));
        (places.map(|(at, _)| at).collect(), unbounded)
    }

    /// Score, how many of each sensitivity, and whether it is more than that.
    pub fn figures(&self, (places, unbounded): &(BTreeSet<usize>, bool)) -> Sum {
        let mut sum = (0, [0; 4], *unbounded);
        for at in places {
            let sensitivity = self.resources[*at].2;
            sum.0 += WEIGHT[sensitivity];
            sum.1[sensitivity] += 1;
        }
        sum
    }
}

pub type Sum = (u64, [u64; 4], bool);

/// Never, however many approve.
pub const NEVER: u8 = 99;

/// How many policies there are to choose from.
pub const POLICIES: usize = 3;

/// The policies, as they are applied.
pub fn policy(which: usize) -> String {
    let forbid = |when: &str, needed: u8| {
        let unless = if needed == NEVER { String::new() } else { format!(" && context.approvals < {needed}") };
        format!(
            "forbid (principal, action in [Action::\"request\", Action::\"delegate\"], resource) when {{ {when}{unless} }};\n"
        )
    };
    let admin = "[\"admin\", \"*\"].contains(context.action)";
    let write = "[\"write\", \"*\"].contains(context.action)";
    let rules: Vec<String> = match which {
        0 => vec![
            forbid(admin, 2),
            forbid("context.unions.task.score > 25", 1),
            forbid("context.unions.task.score > 90", 2),
        ],
        1 => vec![
            forbid(write, 1),
            forbid(admin, 1),
            forbid("context.unions.owner.score > 60", 1),
            forbid("context.unions.task.score > 100", NEVER),
        ],
        _ => vec![forbid("context.unions.agent.score > 40", 1), forbid("context.unions.subject.score > 80", 2)],
    };
    let permits = "permit (principal is Agent, action, resource is Tool);\n\
        permit (principal in Role::\"approver\", action == Action::\"approve\", resource is Tool);\n";
    rules.into_iter().fold(permits.to_owned(), |text, rule| text + &rule)
}

/// The same once more: how many humans for these actions, with task, agent, owner and subject at these scores.
pub fn needed(which: usize, actions: &[String], [task, agent, owner, subject]: [u64; 4]) -> u8 {
    let any = |word: &str| actions.iter().any(|action| action == word || action == "*");
    let most = |rules: &[(bool, u8)]| rules.iter().filter(|(holds, _)| *holds).map(|(_, needed)| *needed).max();
    let needed = match which {
        0 => most(&[(any("admin"), 2), (task > 25, 1), (task > 90, 2)]),
        1 => most(&[(any("write") || any("admin"), 1), (owner > 60, 1), (task > 100, NEVER)]),
        _ => most(&[(agent > 40, 1), (subject > 80, 2)]),
    };
    needed.unwrap_or(0)
}
