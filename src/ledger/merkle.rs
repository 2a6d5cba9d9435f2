//! Merkle trees as RFC 6962 (2.1) shapes them: no leaf is doubled, and leaves and inner nodes are hashed for different purposes, so that no
//! node can be passed off as a leaf.

use super::Digest;

const NODE: &str = "tauscore 2026-11 ledger: inner node";

/// The root over leaves, which are digests already; that of no leaf is zeros.
pub fn root(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => Digest::default(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node(&root(left), &root(right))
        }
    }
}

/// What is needed, from the leaf upwards, to compute the root from the leaf at `index`; empty where there is no such leaf.
pub fn path(leaves: &[Digest], index: usize) -> Vec<Digest> {
    if leaves.len() < 2 || index >= leaves.len() {
        return Vec::new();
    }
    let middle = split(leaves.len());
    let (left, right) = leaves.split_at(middle);
    let (mut path, sibling) =
        if index < middle { (path(left, index), root(right)) } else { (path(right, index - middle), root(left)) };
    path.push(sibling);
    path
}

/// The root that a leaf at `index` of `count` leads to by its path; `None` where the path is of another tree.
pub fn climb(leaf: Digest, index: usize, count: usize, path: &[Digest]) -> Option<Digest> {
    match (count, path.split_last()) {
        (1, None) if index == 0 => Some(leaf),
        (2.., Some((sibling, below))) if index < count => {
            let middle = split(count);
            if index < middle {
                Some(node(&climb(leaf, index, middle, below)?, sibling))
            } else {
                Some(node(sibling, &climb(leaf, index - middle, count - middle, below)?))
            }
        }
        _ => None,
    }
}

/// How many of at least two leaves are on the left: the largest power of two below their number.
fn split(count: usize) -> usize {
    1 << (count - 1).ilog2()
}

fn node(left: &Digest, right: &Digest) -> Digest {
    Digest::of_value(NODE, &(left, right))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: u32) -> Vec<Digest> {
        (0..count).map(|leaf| Digest::of(&leaf.to_le_bytes())).collect()
    }

    #[test]
    fn every_leaf_climbs_to_the_root_and_nothing_else_does() {
        for count in 1..40 {
            let leaves = leaves(count);
            let root = root(&leaves);
            for (index, leaf) in leaves.iter().enumerate() {
                let path = path(&leaves, index);
                assert_eq!(climb(*leaf, index, leaves.len(), &path), Some(root), "leaf {index} of {count}");
                for other in (0..leaves.len()).filter(|other| *other != index) {
                    assert_ne!(climb(leaves[other], index, leaves.len(), &path), Some(root), "another leaf");
                    assert_ne!(climb(*leaf, other, leaves.len(), &path), Some(root), "another place");
                }
                for damaged in 0..path.len() {
                    let mut path = path.clone();
                    path[damaged].0[31] ^= 1;
                    assert_ne!(climb(*leaf, index, leaves.len(), &path), Some(root), "another path");
                }
                assert_eq!(climb(*leaf, index, leaves.len(), &[&path[..], &[root]].concat()), None, "too long a path");
            }
        }
    }

    #[test]
    fn the_shape_is_that_of_the_rfc() {
        let [a, b, c, d, e] = leaves(5).try_into().expect("five");
        let left = node(&node(&a, &b), &node(&c, &d));
        assert_eq!(root(&[a, b, c, d, e]), node(&left, &e), "the last one is not doubled");
        assert_eq!(root(&[a, b, c]), node(&node(&a, &b), &c), "three");
        assert_ne!(root(&[a, b]), root(&[b, a]), "order counts");
        assert_ne!(root(&leaves(2)), root(&leaves(3)), "number counts");
        assert_eq!((root(&[]), root(&[a])), (Digest::default(), a), "none and one");
    }
}
