//! transparency-dev's cases for proofs: what is to hold holds, and what is not does not.

use base64::Engine as _;

use super::*;
use crate::format::vectors::{Tally, files, vectors};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Inclusion {
    leaf_idx: u64,
    tree_size: u64,
    root: String,
    leaf_hash: String,
    #[serde(flatten)]
    case: Case,
}

#[derive(Deserialize)]
struct Consistency {
    size1: u64,
    size2: u64,
    root1: String,
    root2: String,
    #[serde(flatten)]
    case: Case,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    proof: Option<Vec<String>>,
    desc: String,
    want_err: bool,
}

fn hash(text: &str) -> Option<Hash> {
    base64::engine::general_purpose::STANDARD.decode(text).unwrap().try_into().ok().map(Hash)
}

/// Some vectors hold a word where a hash would be ("don't care"): only its equality counts.
fn opaque(text: &str) -> Hash {
    hash(text).unwrap_or_else(|| leaf_hash(text.as_bytes()))
}

fn proof(case: &Case) -> Vec<Hash> {
    case.proof.iter().flatten().map(|text| opaque(text)).collect()
}

fn inclusion_holds(text: &str) -> (Case, bool) {
    let Inclusion { leaf_idx, tree_size, root, leaf_hash, case } = serde_json::from_str(text).unwrap();
    let check = |leaf| verify_inclusion(leaf, leaf_idx, tree_size, &proof(&case), opaque(&root)).is_ok();
    let holds = hash(&leaf_hash).is_some_and(check);
    (case, holds)
}

fn consistency_holds(text: &str) -> (Case, bool) {
    let Consistency { size1, size2, root1, root2, case } = serde_json::from_str(text).unwrap();
    let holds = verify_consistency(size1, size2, &proof(&case), opaque(&root1), opaque(&root2)).is_ok();
    (case, holds)
}

#[test]
fn proofs_are_judged_as_transparency_dev_judges_them() {
    for (test, folder, check) in [
        ("inclusion_proofs", "merkle/inclusion", inclusion_holds as fn(&str) -> _),
        ("consistency_proofs", "merkle/consistency", consistency_holds),
    ] {
        let Some(folder) = vectors(test, folder) else { return };
        let mut tally = Tally::new(test, &[]);
        let (mut valid, mut invalid) = (0, 0);
        for path in files(&folder) {
            let (case, holds) = check(&std::fs::read_to_string(&path).unwrap());
            tally.case(&format!("{}: {}", path.display(), case.desc), &holds, &!case.want_err);
            *if case.want_err { &mut invalid } else { &mut valid } += 1;
        }
        assert!(valid >= 5 && invalid >= 50, "{test}: {valid} valid, {invalid} invalid");
        tally.end(55);
    }
}
