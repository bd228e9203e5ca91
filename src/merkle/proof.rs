//! Checking a proof that a log gives: that a leaf is in it, that it only grew.
//!
//! Each pair of sizes has one length of proof. Another length is refused before anything is hashed.

use super::{Error, Hash, empty_root, node_hash};

/// Checks that the leaf at `index` is in the tree of `size` leaves under `root` (RFC 9162 section 2.1.3.2).
///
/// # Errors
/// `index` is not below `size`, the proof has not the one length it can have, or leads elsewhere.
pub fn verify_inclusion(leaf: Hash, index: u64, size: u64, proof: &[Hash], root: Hash) -> Result<(), Error> {
    if index >= size {
        return Err(Error::Range { at: index, size });
    }
    let (inner, border) = path(index, size);
    expect_length(proof, inner + border)?;
    let (below, above) = proof.split_at(inner);
    let subtree = fold_inner(leaf, index, below);
    if fold_left(subtree, above) == root { Ok(()) } else { Err(Error::Root) }
}

/// Checks that the tree of `size` leaves under `root` begins with the `old_size` leaves under `old_root`
/// (RFC 9162 section 2.1.4.2).
///
/// # Errors
/// `old_size` is above `size`, or zero, of which every tree is a continuation; the proof has not the one length
/// it can have, or leads elsewhere.
pub fn verify_consistency(old_size: u64, size: u64, proof: &[Hash], old_root: Hash, root: Hash) -> Result<(), Error> {
    if old_size == size {
        expect_length(proof, 0)?;
        let same = old_root == root && (size > 0 || root == empty_root());
        return if same { Ok(()) } else { Err(Error::Root) };
    }
    if old_size == 0 || old_size > size {
        return Err(Error::Range { at: old_size, size });
    }
    // The proof starts at the old tree's smallest perfect subtree, `level` above its last leaf. Where that is
    // the whole old tree, its root is known and is left out.
    let (inner, border) = path(old_size - 1, size);
    let level = old_size.trailing_zeros() as usize;
    let perfect = old_size.is_power_of_two();
    expect_length(proof, inner - level + border + usize::from(!perfect))?;
    let (seed, proof) = match proof {
        [first, rest @ ..] if !perfect => (*first, rest),
        _ => (old_root, proof),
    };
    let (below, above) = proof.split_at(inner - level);
    let at = (old_size - 1) >> level;
    let old = fold_left(fold_lefts(seed, at, below), above);
    let new = fold_left(fold_inner(seed, at, below), above);
    if old == old_root && new == root { Ok(()) } else { Err(Error::Root) }
}

/// How many hashes lead up from the leaf at `index` until its path meets the tree's right border, and how many
/// from there to the root.
fn path(index: u64, size: u64) -> (usize, usize) {
    let inner = u64::BITS - (index ^ (size - 1)).leading_zeros();
    let border = index.checked_shr(inner).unwrap_or(0).count_ones();
    (inner as usize, border as usize)
}

fn expect_length(proof: &[Hash], wanted: usize) -> Result<(), Error> {
    if proof.len() == wanted { Ok(()) } else { Err(Error::Length { wanted, given: proof.len() }) }
}

/// Up from `seed` at position `at` of its level: each hash joins from the side that the position says.
fn fold_inner(seed: Hash, at: u64, proof: &[Hash]) -> Hash {
    proof.iter().enumerate().fold(seed, |hash, (level, other)| match at >> level & 1 {
        0 => node_hash(hash, *other),
        _ => node_hash(*other, hash),
    })
}

/// The same, of only what lies to the left: the older tree.
fn fold_lefts(seed: Hash, at: u64, proof: &[Hash]) -> Hash {
    let lefts = proof.iter().enumerate().filter(|(level, _)| at >> level & 1 == 1);
    lefts.fold(seed, |hash, (_, left)| node_hash(*left, hash))
}

fn fold_left(seed: Hash, proof: &[Hash]) -> Hash {
    proof.iter().fold(seed, |hash, left| node_hash(*left, hash))
}
