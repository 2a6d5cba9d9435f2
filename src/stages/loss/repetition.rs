//! Texts that say the same over and over: a language model finds them likely, the longer the more.
#![deny(clippy::float_arithmetic)]

use std::collections::HashSet;

/// Words that are looked at together.
const RUN: usize = 3;

/// Texts with fewer runs tell nothing.
const FEWEST: usize = 20;

/// Of all runs one in so many has to be new. Of 3,200 real answers (AlpacaEval) 9 have fewer, all of them models caught in a loop.
const NEW: usize = 4;

/// Whether fewer than a quarter of a text's runs of three words are different ones. Case and whatever stands between words do not matter.
pub fn repeats(text: &str) -> bool {
    let words: Vec<String> = text
        .split(|character: char| !character.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    let runs = words.len().saturating_sub(RUN - 1);
    let different: HashSet<&[String]> = words.windows(RUN).collect();
    runs >= FEWEST && different.len() * NEW < runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loops_and_constant_texts_repeat() {
        assert!(repeats(&"answer ".repeat(120)), "one word");
        assert!(repeats(&"The train leaves at noon. ".repeat(12)), "a sentence");
        assert!(repeats(&"the TRAIN, leaves\nat -- noon; The train leaves at noon. ".repeat(6)), "in other dress");
        assert!(repeats(&"列車は正午に出発します。".repeat(30)), "a sentence without spaces");
        assert!(repeats(&format!("It is seven. {}", "seven, seven, ".repeat(60))), "after an answer");
    }

    #[test]
    fn answers_do_not() {
        assert!(!repeats(""), "nothing");
        assert!(!repeats(&"yes ".repeat(20)), "too short to tell");
        let song = "Row, row, row your boat, gently down the stream. Merrily, merrily, merrily, merrily, life is but a dream. ";
        assert!(!repeats(&song.repeat(3)), "a song of three verses");
        let list: String =
            (0..50).map(|number| format!("{number}. The number {number} is {}.\n", number * 7)).collect();
        assert!(!repeats(&list), "a list");
        assert!(
            !repeats(&"列車は正午に出発します".repeat(30)),
            "what has no words that can be told apart is left alone"
        );
    }
}
