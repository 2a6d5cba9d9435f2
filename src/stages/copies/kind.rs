//! In what way a copy differs from its source.
#![deny(clippy::float_arithmetic)]

use std::collections::HashMap;

use super::text::{WORDS, of_words};

/// Words of an excerpt at most.
const EXCERPT: usize = 40;

/// In what way a copy differs from its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Word for word; capitals, punctuation, markup and invisible characters apart.
    Exact,
    /// In another order.
    Shuffled,
    /// The whole source and more.
    Padded,
    /// A part of the source and little else.
    Subset,
    /// Some of its words changed.
    Edited,
    /// Most of it in other words.
    Paraphrase,
}

impl Kind {
    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Shuffled => "shuffled",
            Self::Padded => "padded",
            Self::Subset => "subset",
            Self::Edited => "edited",
            Self::Paraphrase => "paraphrase",
        }
    }
}

/// Compares a copy's words with its source's: its kind, and the longest run of words that both have.
pub(super) fn compare(copy: &[String], source: &[String]) -> (Kind, String) {
    if copy == source {
        return (Kind::Exact, copy[..copy.len().min(EXCERPT)].join(" "));
    }
    let places = |words: &[String]| -> HashMap<u64, u32> {
        let mut places = HashMap::new();
        for (words, at) in words.windows(WORDS).zip(0..) {
            places.entry(of_words(words)).or_insert(at);
        }
        places
    };
    let (own, theirs) = (places(copy), places(source));
    let mut shared: Vec<(u32, u32)> =
        own.iter().filter_map(|(shingle, at)| Some((*at, *theirs.get(shingle)?))).collect();
    shared.sort_unstable();
    let ordered = longest_ascent(shared.iter().map(|(_, at)| *at));
    let excerpt = longest_run(&shared).map_or_else(String::new, |(start, words)| {
        copy[start..(start + words).min(start + EXCERPT).min(copy.len())].join(" ")
    });
    let count = shared.len();
    // Of the source, and of the copy; in a passage of k changed words up to k + 2 shingles are lost.
    let (kept, taken) = (4 * count >= 3 * theirs.len(), 4 * count >= 3 * own.len());
    let kind = if count > 0 && 5 * ordered < 4 * count {
        Kind::Shuffled
    } else if kept && 20 * copy.len() > 21 * source.len() {
        Kind::Padded
    } else if taken && 20 * source.len() > 21 * copy.len() {
        Kind::Subset
    } else if 3 * count < theirs.len().min(own.len()) {
        Kind::Paraphrase
    } else {
        Kind::Edited
    };
    (kind, excerpt)
}

/// The length of the longest subsequence that ascends.
fn longest_ascent(numbers: impl Iterator<Item = u32>) -> usize {
    // The least number that an ascent of each length can end with.
    let mut ends: Vec<u32> = Vec::new();
    for number in numbers {
        let at = ends.partition_point(|end| *end < number);
        match ends.get_mut(at) {
            Some(end) => *end = number,
            None => ends.push(number),
        }
    }
    ends.len()
}

/// Where the longest run of shingles that follow each other in both texts starts in the copy, and how many words it has.
fn longest_run(shared: &[(u32, u32)]) -> Option<(usize, usize)> {
    let runs = shared.chunk_by(|a, b| a.0 + 1 == b.0 && a.1 + 1 == b.1);
    // The first of equally long ones.
    let longest = runs.rev().max_by_key(|run| run.len())?;
    Some((longest[0].0 as usize, longest.len() + WORDS - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn kinds_are_told_apart() {
        let source: String = (0..60).map(|index| format!("w{index} ")).collect();
        let cut = |range: std::ops::Range<usize>| words(&source)[range].join(" ");
        for (kind, copy) in [
            (Kind::Exact, source.clone()),
            (Kind::Padded, format!("now some words that come before {source}")),
            (Kind::Subset, cut(20..50)),
            (Kind::Shuffled, [cut(40..60), cut(20..40), cut(0..20)].join(" ")),
            (Kind::Edited, source.replace("w20 ", "other ").replace("w45 ", "one ")),
            (Kind::Paraphrase, source.replace("2 ", "two ").replace("5 ", "five ").replace("8 ", "eight ")),
        ] {
            assert_eq!(compare(&words(&copy), &words(&source)).0, kind, "{copy}");
        }
    }

    #[test]
    fn excerpts_are_the_longest_common_run() {
        let (kind, excerpt) = compare(&words("a b c x d e f g y"), &words("d e f g z a b c"));
        assert_eq!((kind, excerpt.as_str()), (Kind::Shuffled, "d e f g"));
        assert_eq!(compare(&words("p q r"), &words("s t u v")), (Kind::Paraphrase, String::new()));
        assert_eq!(compare(&words("yes"), &words("yes")), (Kind::Exact, "yes".to_owned()));
    }
}
