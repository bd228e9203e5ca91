use proptest::prelude::*;

use super::*;

/// RFC 6962 section 2.1, word for word.
fn mth(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            node_hash(mth(left), mth(right))
        }
    }
}

/// RFC 6962 section 2.1.1.
fn path(at: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() < 2 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
    let (mut below, sibling) =
        if at < left.len() { (path(at, left), mth(right)) } else { (path(at - left.len(), right), mth(left)) };
    below.push(sibling);
    below
}

/// RFC 6962 section 2.1.2.
fn subproof(old: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
    if old == leaves.len() {
        return if whole { Vec::new() } else { vec![mth(leaves)] };
    }
    let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
    let (mut below, sibling) = if old <= left.len() {
        (subproof(old, left, whole), mth(right))
    } else {
        (subproof(old - left.len(), right, false), mth(left))
    };
    below.push(sibling);
    below
}

fn leaves(count: usize) -> Vec<Hash> {
    (0..count).map(|at| leaf_hash(&at.to_be_bytes())).collect()
}

fn grown(leaves: &[Hash]) -> Frontier {
    leaves.iter().fold(Frontier::default(), |mut tree, leaf| {
        tree.push(*leaf);
        tree
    })
}

#[test]
fn hashes_are_those_of_rfc_6962() {
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let leaf = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d";
    let eight = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328";
    assert_eq!(Frontier::default().root().to_string(), empty);
    assert_eq!(leaf_hash(b"").to_string(), leaf);
    // The eight leaves of certificate-transparency's own test tree.
    let inputs: [&[u8]; 8] = [
        &[],
        &[0x00],
        &[0x10],
        &[0x20, 0x21],
        &[0x30, 0x31],
        &[0x40, 0x41, 0x42, 0x43],
        &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
        &[0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f],
    ];
    assert_eq!(grown(&inputs.map(leaf_hash)).root().to_string(), eight);
}

#[test]
fn the_frontier_has_the_root_of_the_whole_tree() {
    let leaves = leaves(300);
    for size in 0..=leaves.len() {
        let tree = grown(&leaves[..size]);
        assert_eq!((tree.size(), tree.root()), (size as u64, mth(&leaves[..size])), "{size}");
    }
}

#[test]
fn the_empty_log_is_consistent_with_itself_alone() {
    let leaf = leaf_hash(b"");
    assert_eq!(verify_consistency(0, 0, &[], empty_root(), empty_root()), Ok(()));
    assert_eq!(verify_consistency(0, 0, &[], leaf, leaf), Err(Error::Root));
    assert_eq!(verify_consistency(0, 1, &[], empty_root(), leaf), Err(Error::Range { at: 0, size: 1 }));
}

#[test]
fn a_frontier_is_read_back_whole_or_not_at_all() {
    let tree = grown(&leaves(11));
    let mut json = serde_json::to_value(&tree).unwrap();
    assert_eq!(serde_json::from_value::<Frontier>(json.clone()).unwrap(), tree);
    json["size"] = 12.into();
    let refused = serde_json::from_value::<Frontier>(json).unwrap_err().to_string();
    assert_eq!(refused, "a tree of 12 leaves has 2 peaks, not 3");
}

proptest! {
    #[test]
    fn every_leaf_is_proven_and_no_other(size in 1usize..70, at in any::<proptest::sample::Index>(), bit in 0u8..8) {
        let (leaves, at) = (leaves(size), at.index(size));
        let (root, mut proof) = (mth(&leaves), path(at, &leaves));
        let check = |leaf, at: usize, proof: &[Hash]| verify_inclusion(leaf, at as u64, size as u64, proof, root);
        prop_assert_eq!(check(leaves[at], at, &proof), Ok(()));
        prop_assert!(check(leaf_hash(b"x"), at, &proof).is_err());
        prop_assert!((0..size + 2).all(|other| other == at || check(leaves[at], other, &proof).is_err()));
        for hash in 0..proof.len() {
            proof[hash].0[0] ^= 1 << bit;
            prop_assert_eq!(check(leaves[at], at, &proof), Err(Error::Root));
            proof[hash].0[0] ^= 1 << bit;
        }
        proof.push(root);
        prop_assert!(check(leaves[at], at, &proof).is_err());
    }

    #[test]
    fn a_log_that_grew_is_proven_and_one_that_changed_is_not(size in 1usize..70, old in any::<proptest::sample::Index>()) {
        let (leaves, old) = (leaves(size), old.index(size) + 1);
        let (old_root, root, proof) = (mth(&leaves[..old]), mth(&leaves), subproof(old, &leaves, true));
        let check = |proof: &[Hash], old_root, root| verify_consistency(old as u64, size as u64, proof, old_root, root);
        prop_assert_eq!(check(&proof, old_root, root), Ok(()));
        prop_assert!(check(&proof, leaf_hash(b"x"), root).is_err());
        prop_assert!(check(&proof, old_root, leaf_hash(b"x")).is_err());
        prop_assert!(check(&[&proof[..], &[root]].concat(), old_root, root).is_err());
        prop_assert!(proof.is_empty() || check(&proof[1..], old_root, root).is_err());
    }
}
