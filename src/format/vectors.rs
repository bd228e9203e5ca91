//! Published test vectors, looked for beside the checkout; they are not part of it.

use std::path::PathBuf;

/// Where `name` lies, or nothing after saying that `test` is skipped.
///
/// # Panics
/// It is absent where `BELAY_REQUIRE=all` asks for every test to run.
pub(crate) fn vectors(test: &str, name: &str) -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors");
    let path = std::env::var_os("BELAY_VECTORS").map_or_else(beside, PathBuf::from).join(name);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var("BELAY_REQUIRE").as_deref() != Ok("all"), "{test} needs {}", path.display());
    println!("skipped: {test} needs {}", path.display());
    None
}
