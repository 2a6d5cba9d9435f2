//! ROUGE-L: how many words of two texts stand in the same order.

use std::collections::HashMap;

/// The F1 of the longest common subsequence of the two texts' words, 0 to 1 ([Lin 2004](https://aclanthology.org/W04-1013/)). Words are runs
/// of `a` to `z` and `0` to `9` of the lower-cased text; without any the result is 0.
pub fn rouge_l(left: &str, right: &str) -> f64 {
    let (left, right) = (left.to_lowercase(), right.to_lowercase());
    let (left, right) = (words(&left), words(&right));
    let total = left.len() + right.len();
    let (short, long) = if left.len() <= right.len() { (left, right) } else { (right, left) };
    if short.is_empty() { 0.0 } else { (2 * common_subsequence(&short, &long)) as f64 / total as f64 }
}

fn words(text: &str) -> Vec<&str> {
    let apart = |c: char| !matches!(c, 'a'..='z' | '0'..='9');
    text.split(apart).filter(|word| !word.is_empty()).collect()
}

/// How long the longest common subsequence is, by bits of one number as long as `short`: a row of the table of lengths is where it rises
/// (Hyyrö 2004, "Bit-parallel LCS-length computation revisited").
fn common_subsequence(short: &[&str], long: &[&str]) -> usize {
    let mut places: HashMap<&str, Vec<(usize, u64)>> = HashMap::new();
    for (at, word) in short.iter().enumerate() {
        let (block, bit) = (at / 64, 1 << (at % 64));
        let blocks = places.entry(word).or_default();
        match blocks.last_mut() {
            Some((last, bits)) if *last == block => *bits |= bit,
            _ => blocks.push((block, bit)),
        }
    }
    // A zero where the length rises.
    let mut rows = vec![u64::MAX; short.len().div_ceil(64)];
    for word in long {
        let Some(blocks) = places.get(word) else { continue };
        let mut blocks = blocks.iter().peekable();
        let mut carry = false;
        for (at, row) in rows.iter_mut().enumerate() {
            let bits = blocks.next_if(|(block, _)| *block == at).map_or(0, |(_, bits)| *bits);
            let used = *row & bits;
            let (sum, over) = row.overflowing_add(used);
            let (sum, over_again) = sum.overflowing_add(u64::from(carry));
            carry = over || over_again;
            *row = sum | (*row & !bits);
        }
    }
    // Bits beyond the last word never match and are never cleared, but a carry may run through them.
    let inside = |at: usize| if (at + 1) * 64 <= short.len() { u64::MAX } else { (1 << (short.len() % 64)) - 1 };
    rows.iter().enumerate().map(|(at, row)| (!row & inside(at)).count_ones() as usize).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values are those of `benches/peers/gain_dev.py`.
    #[test]
    fn rouge_l_is_that_of_the_script() {
        let numbers = |step: usize| (0..400).map(|i| (i * step % 97).to_string()).collect::<Vec<_>>().join(" ");
        let cases = [
            ("the cat sat", "The cat, sat!", 1.0),
            ("a b c d", "d c b a", 0.25),
            ("Paris is the capital of France.", "The capital of France is Paris", 0.6666666666666666),
            ("x\u{212a}y \u{130}x", "xky i x", 1.0),
            ("", "a", 0.0),
            ("\u{e9}\u{e9} ?", "a", 0.0),
            ("a", "a", 1.0),
        ];
        for (left, right, expected) in cases {
            for (left, right) in [(left, right), (right, left)] {
                assert_eq!(rouge_l(left, right), expected, "{left:?} {right:?}");
            }
        }
        assert_eq!(rouge_l(&numbers(7), &numbers(11)), 0.115, "over several blocks of bits");
        assert_eq!(rouge_l(&numbers(7), &numbers(7)), 1.0, "all of them");
    }

    /// Beside the table of lengths that the bits stand for.
    #[test]
    fn bits_count_what_the_table_counts() {
        let mut noise = crate::device::Noise::new(3);
        for length in [1, 2, 63, 64, 65, 127, 128, 200] {
            for letters in [1, 2, 20] {
                let mut draw =
                    |count| -> Vec<String> { (0..count).map(|_| noise.below(letters).to_string()).collect() };
                let (left, right) = (draw(length), draw(length + 37));
                let mut row = vec![0; left.len() + 1];
                for word in &right {
                    let mut diagonal = 0;
                    for at in 0..left.len() {
                        let above = row[at + 1];
                        row[at + 1] = if left[at] == *word { diagonal + 1 } else { above.max(row[at]) };
                        diagonal = above;
                    }
                }
                let words = |list: &[String]| list.join(" ");
                let expected = (2 * row[left.len()]) as f64 / (left.len() + right.len()) as f64;
                assert_eq!(rouge_l(&words(&left), &words(&right)), expected, "{length} of {letters}");
            }
        }
    }
}
