//! Texts that say nothing of their own: loops, which a language model finds the likelier the longer they are, and echoes of the prompt, which
//! share its words with the reference.
#![deny(clippy::float_arithmetic)]

use std::collections::HashSet;

/// Words that are looked at together.
const RUN: usize = 3;

/// Texts with fewer runs cannot be loops.
const FEWEST: usize = 20;

/// Of all runs one in so many has to be new. Of 3,200 real answers (AlpacaEval) ten have fewer different ones, all of models caught in a loop,
/// and none is an echo.
const NEW: usize = 4;

/// Whether a response is a loop or an echo of its prompt. Case, and whatever stands between words, do not matter.
///
/// A loop has at least 20 runs of three words, of which fewer than a quarter are different ones. An echo has fewer than a quarter that the
/// prompt has not, and has at least three quarters of the prompt's.
pub fn is_hollow(response: &str, prompt: &str) -> bool {
    let (response, prompt) = (words(response), words(prompt));
    let runs: Vec<&[String]> = response.windows(RUN).collect();
    let (different, asked): (HashSet<&[String]>, HashSet<&[String]>) =
        (runs.iter().copied().collect(), prompt.windows(RUN).collect());
    let is_loop = runs.len() >= FEWEST && different.len() * NEW < runs.len();
    let own = runs.iter().filter(|run| !asked.contains(**run)).count();
    let kept = asked.intersection(&different).count();
    let is_echo = kept > 0 && own * NEW < runs.len() && (asked.len() - kept) * NEW <= asked.len();
    is_loop || is_echo
}

fn words(text: &str) -> Vec<String> {
    let words = text.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: &str = "When does the train to Leeds leave, and from which platform does it go?";

    #[test]
    fn loops_and_constant_texts_are() {
        for text in [
            "answer ".repeat(120),
            "The train leaves at noon. ".repeat(12),
            "the TRAIN, leaves\nat -- noon; The train leaves at noon. ".repeat(6),
            "列車は正午に出発します。".repeat(30),
            format!("It is seven. {}", "seven, seven, ".repeat(60)),
        ] {
            assert!(is_hollow(&text, ASKED), "{text}");
        }
    }

    #[test]
    fn echoes_are() {
        for text in [
            ASKED.to_owned(),
            ASKED.to_uppercase(),
            format!("{ASKED}\n{ASKED}"),
            format!("Q: {ASKED} A:"),
            "When does the train to Leeds leave, and from which platform?".to_owned(),
        ] {
            assert!(is_hollow(&text, ASKED), "{text}");
        }
    }

    #[test]
    fn answers_are_not() {
        let song = "Row, row, row your boat, gently down the stream. Merrily, merrily, merrily, merrily, life is but a dream. ";
        let list: String =
            (0..50).map(|number| format!("{number}. The number {number} is {}.\n", number * 7)).collect();
        for text in [
            String::new(),
            "yes ".repeat(20),
            song.repeat(3),
            list,
            "列車は正午に出発します".repeat(30),
            "the train to Leeds".to_owned(),
            "The train to Leeds leaves at noon, from platform two.".to_owned(),
            format!(
                "{ASKED} At noon, from platform two, unless it is a Sunday: then it is an hour later, from platform nine."
            ),
        ] {
            assert!(!is_hollow(&text, ASKED), "{text}");
        }
        assert!(!is_hollow("Leeds", "Leeds"), "too short to tell");
    }
}
