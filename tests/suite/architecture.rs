//! The map in `lib.rs` is the law: who may use whom, what the domain may not touch, how large a file may be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use belay::EDGES;

/// Lines of one production file.
const LONGEST_FILE: usize = 500;

/// A file of `src` without its comments and tests.
struct Source {
    /// As it is named in the tree.
    path: String,
    /// The modules it is in: `["domain", "decide", "grant"]`.
    module: Vec<String>,
    code: String,
    lines: usize,
}

/// Every file of `src`, apart from those that are a `#[cfg(test)] mod`.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = Vec::new();
    let mut sources = Vec::new();
    for path in files(&root.join("src")).into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "rs")) {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(root.join("src")).unwrap().with_extension("");
        let mut module: Vec<String> = name.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        module.pop_if(|last| last == "mod");
        let (code, test_modules) = production(&text);
        tests.extend(test_modules.into_iter().map(|test| [&module[..], &[test]].concat()));
        let path = path.strip_prefix(root).unwrap().display().to_string();
        sources.push(Source { path, module, code, lines: text.lines().count() });
    }
    sources.retain(|source| !tests.iter().any(|test| source.module.starts_with(test)));
    assert!(sources.len() > 100 && !tests.is_empty(), "this test has gone blind");
    sources
}

/// What is compiled into the product, and the modules in files of their own that are not.
fn production(text: &str) -> (String, Vec<String>) {
    let (mut code, mut tests) = (String::new(), Vec::new());
    let mut lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            code.extend([line, "\n"]);
            continue;
        }
        let item = lines.find(|line| !line.trim_start().starts_with("#[")).unwrap();
        match item.split_once("mod ").map(|(_, rest)| rest.trim_end()) {
            Some(name) if name.ends_with(';') => tests.push(name.trim_end_matches(';').to_owned()),
            Some(name) if name.ends_with('{') => {
                let end = format!("{}}}", &item[..item.len() - item.trim_start().len()]);
                lines.find(|line| *line == end).unwrap();
            }
            // Only modules are tests; anything else is held to the map like the rest.
            _ => code.extend([item, "\n"]),
        }
    }
    (code, tests)
}

/// The first segments of all paths below `root`: of `root::{a::b, c}` both `a` and `c`.
fn below(code: &str, root: &str) -> Vec<String> {
    let code: String = code.split_whitespace().collect::<Vec<_>>().join(" ");
    let prefix = format!("{root}::");
    let starts = code.match_indices(&prefix).filter(|(at, _)| !code[..*at].ends_with(is_of_name)).map(|(at, _)| at);
    starts.flat_map(|at| heads(code[at + prefix.len()..].trim_start())).collect()
}

fn heads(rest: &str) -> Vec<String> {
    let Some(group) = rest.strip_prefix('{') else { return vec![name(rest)] };
    let (mut depth, mut heads, mut fresh) = (0, Vec::new(), true);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            letter if fresh && is_of_name(letter) => {
                heads.push(name(&group[at..]));
                fresh = false;
            }
            _ => {}
        }
    }
    heads
}

fn name(text: &str) -> String {
    text.chars().take_while(|letter| is_of_name(*letter)).collect()
}

fn is_of_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// The top-level modules that a file reaches: by `crate::`, by the crate's name, or by `super`s that leave its own.
fn reached(module: &[String], code: &str) -> Vec<String> {
    let mut found = below(code, "crate");
    found.extend(below(code, "belay"));
    // Deep enough a chain ends at the root; a shorter one cannot leave the top-level module.
    let escape = vec!["super"; module.len()].join("::");
    found.extend(below(code, &escape));
    found
}

fn top_level() -> Vec<String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let entries = std::fs::read_dir(src).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = entries.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.retain(|name| name != "lib");
    names.sort();
    names
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let hidden = entry.file_name().to_str().is_some_and(|name| name == "target" || name == ".git");
        match entry.file_type().unwrap() {
            kind if kind.is_dir() && !hidden => found.extend(files(&entry.path())),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

#[test]
fn nobody_uses_what_the_map_does_not_allow() {
    let edges: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for source in sources().iter().filter(|source| source.module[0] != "lib") {
        let own = source.module[0].as_str();
        for used in reached(&source.module, &source.code) {
            seen += 1;
            let used = used.as_str();
            if used != own && used != "domain" && !edges[own].contains(&used) {
                wrong.push(format!("{} uses `{used}`, and `{own}` may not", source.path));
            }
        }
        if source.code.contains("#[path") || source.code.contains("{super::") || source.code.contains("crate as ") {
            wrong.push(format!("{} hides whom it uses", source.path));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen > 300, "{seen} uses: this test has gone blind");
}

#[test]
fn every_module_has_one_row_and_every_row_its_module() {
    let mut rows: Vec<&str> = EDGES.iter().map(|(name, _)| *name).collect();
    rows.sort_unstable();
    assert_eq!(rows, top_level());
}

#[test]
fn the_order_of_the_map_is_a_dependency_order() {
    let place = |name: &str| EDGES.iter().position(|(row, _)| *row == name);
    for (name, uses) in EDGES {
        for used in *uses {
            assert!(place(used) > place(name), "`{name}` may use `{used}`, which does not come after it");
        }
    }
    assert_eq!(EDGES.last(), Some(&("domain", &[][..])));
}

#[test]
fn the_domain_sees_neither_clock_nor_socket_nor_file() {
    let foreign = ["tokio", "tracing", "rand", "async", "await", "SystemTime", "Instant", "println", "eprintln"];
    let inside: Vec<Source> = sources().into_iter().filter(|source| source.module[0] == "domain").collect();
    assert!(inside.len() > 20);
    for source in &inside {
        let mut words = source.code.split(|letter| !is_of_name(letter));
        assert_eq!(words.find(|word| foreign.contains(word)), None, "{}", source.path);
        for part in below(&source.code, "std") {
            let outer = ["time", "fs", "net", "io", "env", "process", "thread", "os"].contains(&part.as_str());
            assert!(!outer, "{} uses std::{part}", source.path);
        }
        // What is shared is read only: a lock would be a state that no event shows.
        for part in below(&source.code, "std::sync") {
            assert_eq!(part, "Arc", "{}", source.path);
        }
    }
}

#[test]
fn only_a_decision_and_the_ledger_say_that_something_is_recorded() {
    let all = sources();
    let says: Vec<&Source> = all.iter().filter(|source| source.code.contains("::recorded(")).collect();
    assert!(says.len() >= 3);
    for source in says {
        let module: Vec<&str> = source.module.iter().map(String::as_str).collect();
        assert!(matches!(module[..], ["domain", "decide", ..] | ["ledger", ..]), "{}", source.path);
    }
}

#[test]
fn no_file_is_long_unfinished_or_without_a_subject() {
    for source in sources() {
        assert!(source.lines <= LONGEST_FILE, "{} has {} lines", source.path, source.lines);
        for word in ["todo!", "unimplemented!", "FIXME", "XXX"] {
            assert!(!source.code.contains(word), "{} holds {word}", source.path);
        }
        let parts = source.module.iter().map(String::as_str);
        let vague: Vec<&str> = parts
            .filter(|part| ["utils", "util", "common", "helpers", "helper", "manager", "types"].contains(part))
            .collect();
        assert!(vague.is_empty(), "{}", source.path);
    }
}

/// The order of a map's entries is nobody's, and a leaf is the hash of stored bytes.
#[test]
fn no_message_of_the_log_has_a_map() {
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/belay/log");
    let texts: Vec<String> = files(&proto).iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    assert!(texts.iter().any(|text| text.contains("message Entry")));
    for text in texts {
        let mut code = text.lines().map(|line| line.split("//").next().unwrap());
        assert!(!code.any(|line| line.replace(' ', "").contains("map<")));
    }
}

#[test]
fn the_repository_holds_no_private_key() {
    let kinds = ["", "EC ", "RSA ", "ENCRYPTED ", "OPENSSH "];
    let marks = kinds.map(|kind| format!("-----BEGIN {kind}PRIVATE KEY-----\n"));
    let holds = |text: &[u8]| marks.iter().any(|mark| String::from_utf8_lossy(text).contains(mark.as_str()));
    assert!(holds(format!("x\n{}MIG", marks[1]).as_bytes()));
    let all = files(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(all.iter().any(|path| path.ends_with("certs/agent.toml")));
    for path in all {
        let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
        assert!(!["key", "p12", "pfx", "p8", "jks"].contains(&kind), "{}", path.display());
        assert!(!holds(&std::fs::read(&path).unwrap()), "{}", path.display());
    }
}

/// The reader itself: each way in which a module can be named is seen, and a test's is not.
#[test]
fn every_way_to_name_a_module_is_seen() {
    let module = ["edge".to_owned(), "http".to_owned()];
    let seen = |code: &str| reached(&module, &production(code).0);
    assert_eq!(seen("use crate::store::Sqlite;"), ["store"]);
    assert_eq!(seen("use crate::{\n    sign::KeyRing,\n    ledger::{Ledger, turn},\n};"), ["sign", "ledger"]);
    assert_eq!(seen("let x = crate::wire::encode(&y); $crate::cli::run()"), ["wire", "cli"]);
    assert_eq!(seen("use super::super::store::Sqlite; use super::Edge;"), ["store"]);
    assert_eq!(seen("pub use belay::cli::Cli;"), ["cli"]);
    assert_eq!(seen("// use crate::store;\n/// [`crate::store`]\nuse my_crate::x;"), Vec::<String>::new());
    let test = "#[cfg(test)]\nmod tests {\n    use crate::store;\n}\nuse crate::sign;";
    assert_eq!(seen(test), ["sign"]);
    assert_eq!(production("#[cfg(test)]\npub(crate) mod sample;\n").1, ["sample"]);
    assert_eq!(seen("#[cfg(test)]\nuse crate::store;"), ["store"]);
}
