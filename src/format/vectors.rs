//! Published test vectors, looked for beside the checkout; they are not part of it. And how their cases are counted.

use std::path::{Path, PathBuf};

/// A case that we judge otherwise than its authors, and why.
pub(crate) type Difference = (&'static str, &'static str);

/// Where `name` lies, or nothing after saying that `test` is skipped.
///
/// # Panics
/// The vectors are there and this one is not, where `BELAY_REQUIRE=all` asks for every test to run.
pub(crate) fn vectors(test: &str, name: &str) -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors");
    let root = std::env::var_os("BELAY_VECTORS").map_or_else(beside, PathBuf::from);
    let path = root.join(name);
    if path.exists() {
        return Some(path);
    }
    let required = std::env::var("BELAY_REQUIRE").as_deref() == Ok("all") && root.is_dir();
    assert!(!required, "{test} needs {}", path.display());
    println!("skipped: {test} needs {}", path.display());
    None
}

/// Every file below `folder`, in order.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries.into_iter().flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// What is in each PEM block of `bytes`; bytes that are not PEM are taken as they are.
#[cfg(feature = "broker")]
pub(crate) fn pem(bytes: &[u8]) -> Vec<Vec<u8>> {
    let blocks: Result<Vec<_>, _> = x509_parser::pem::Pem::iter_from_buffer(bytes).collect();
    let contents: Vec<_> = blocks.into_iter().flatten().map(|block| block.contents).collect();
    if contents.is_empty() { vec![bytes.to_vec()] } else { contents }
}

/// Counts cases, names those that fail, and fails at the end if any did.
pub(crate) struct Tally {
    test: &'static str,
    differences: &'static [Difference],
    met: Vec<&'static str>,
    passed: usize,
    failed: Vec<String>,
}

impl Tally {
    /// A count for the test `test`.
    pub(crate) fn new(test: &'static str, differences: &'static [Difference]) -> Self {
        Self { test, differences, met: Vec::new(), passed: 0, failed: Vec::new() }
    }

    /// The same, where the cases that differ are not there to be judged.
    pub(crate) fn without_differences(self) -> Self {
        Self { differences: &[], ..self }
    }

    /// A case that passed if `found` is what was `expected`.
    pub(crate) fn case<T: PartialEq + std::fmt::Debug>(&mut self, case: &str, found: &T, expected: &T) {
        if found == expected {
            self.passed += 1;
        } else {
            self.failed.push(format!("{case}: {found:?} and not {expected:?}"));
        }
    }

    /// A case that its authors call `valid` or not, of the kind `kind`, under which a difference may be listed.
    pub(crate) fn judge(&mut self, case: &str, kind: &str, accepted: bool, valid: bool) {
        match self.differences.iter().find(|(listed, _)| *listed == kind) {
            Some((listed, _)) if accepted != valid => {
                self.met.push(listed);
                self.passed += 1;
            }
            _ => self.case(case, &accepted, &valid),
        }
    }

    /// Says how many passed and failed.
    ///
    /// # Panics
    /// One failed, fewer than `least` passed, or a difference is listed that there is not.
    pub(crate) fn end(mut self, least: usize) {
        for (listed, why) in self.differences {
            match self.met.iter().filter(|met| *met == listed).count() {
                0 => self.failed.push(format!("{listed} is listed as a difference and is none: strike it out")),
                times => println!("{}: {times} differ by intent, {listed}: {why}", self.test),
            }
        }
        for case in &self.failed {
            println!("{}: FAILED {case}", self.test);
        }
        println!("{}: {} passed, {} failed", self.test, self.passed, self.failed.len());
        assert!(self.failed.is_empty(), "{}: {:#?}", self.test, self.failed);
        assert!(self.passed >= least, "{}: only {} cases; there should be {least}", self.test, self.passed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(test: impl FnOnce(&mut Tally) + std::panic::UnwindSafe, least: usize) -> bool {
        std::panic::catch_unwind(|| {
            let mut tally = Tally::new("a tally on trial", &[("odd", "because")]);
            test(&mut tally);
            tally.end(least);
        })
        .is_ok()
    }

    #[test]
    fn a_count_of_cases_fails_for_a_failure_for_too_few_and_for_a_stale_difference() {
        let odd = |tally: &mut Tally| tally.judge("1", "odd", false, true);
        assert!(ends(odd, 1));
        assert!(!ends(odd, 2));
        assert!(!ends(|tally| tally.judge("1", "odd", true, true), 1));
        assert!(!ends(|tally| (odd(tally), tally.judge("2", "even", false, true)).1, 1));
        assert!(!ends(|tally| (odd(tally), tally.case("2", &1, &2)).1, 1));
    }
}
