//! What the tests stand on: a ledger whose clock they turn, and the real binary.

pub mod aftermath;
pub mod atlas;
pub mod backend;
pub mod book;
pub mod calls;
pub mod cases;
pub mod data;
pub mod elevated;
pub mod envoy;
pub mod estate;
pub mod faulty;
pub mod front;
pub mod gate;
pub mod hall;
pub mod history;
pub mod http;
pub mod line;
pub mod lockstep;
pub mod memory;
pub mod mission;
pub mod model;
pub mod nginx;
pub mod office;
pub mod panel;
pub mod post;
pub mod postgres;
pub mod process;
pub mod production;
pub mod property;
pub mod provider;
pub mod proxies;
pub mod questions;
pub mod sentry;
pub mod shop;
pub mod steps;
pub mod till;
pub mod town;
pub mod world;

/// Looks for something outside that a test needs. Without it the test is skipped, in words; where
/// `BELAY_REQUIRE=all` is set, its absence fails the test.
pub fn needs(test: &str, what: &str, found: bool) -> bool {
    let required = std::env::var("BELAY_REQUIRE").is_ok_and(|value| value == "all");
    assert!(found || !required, "{test} needs {what}, and BELAY_REQUIRE=all is set");
    if !found {
        println!("skipped: {test} needs {what}");
    }
    found
}

/// Whether a program is there and runs with these arguments.
pub fn there(program: &str, arguments: &[&str]) -> bool {
    use std::process::{Command, Stdio};
    let quiet = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}

/// Asks again until it comes out so, for ten seconds.
pub async fn within<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    let since = std::time::Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(why) => assert!(since.elapsed() < std::time::Duration::from_secs(10), "{what}: {why}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// The same for what no package brings, a privilege or a running system: where it is lacking, the test says so and
/// passes, whatever `BELAY_REQUIRE` says.
pub fn may_use(test: &str, what: &str, found: bool) -> bool {
    if !found {
        println!("skipped: {test} needs {what}");
    }
    found
}

/// Runs what a test does to its end; its tasks share this thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Compiles a library of `tests/suite/support`, to be loaded before all others.
pub fn compile(source: &str, library: &std::path::Path) {
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/support").join(source);
    let mut compiler = std::process::Command::new("cc");
    compiler
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-pthread", "-o"])
        .arg(library)
        .arg(source)
        .arg("-ldl");
    let compiled = compiler.output().unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
}
