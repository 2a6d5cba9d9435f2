//! Whether a response gives the reference's answer: as a text, as a number, or as what a pattern finds.
//!
//! Both texts are brought to their answer by the same rules, and the loss is 0 if the two are equal, else 1. A text without an
//! answer is never right.
//!
//! - [`Match::Text`]: the whole text, or the content of its last `\boxed{..}`; normalised.
//! - [`Match::Number`]: the number in the last `\boxed{..}`; else the one of the last line `#### 42`; else the last one of all.
//! - [`Match::Regex`]: what the pattern's last match finds, its first group if that took part, else all of it; normalised.
//!
//! *Normalised* is a text in Unicode's NFKC, without case, white space collapsed, without quotes, brackets, emphasis and closing marks
//! around it; articles stay. If that is one number, the number counts.
//!
//! *Numbers* are equal by value, as strings of decimal digits of any length, never as floats: `+1,000.50`, `$1000.5` and `1.0005e3` are
//! the same. Currency signs and `%` are dropped (50 % is 50, not 0.5); `\frac{3}{4}` is 3/4, and fractions are equal as written
//! (3/4 is neither 6/8 nor 0.75). The point is the decimal point. Groups of three are joined by commas or no-break spaces. A minus
//! counts where nothing that it could be taken from stands before it. What follows a cased letter is a name (x2, CO2), what has two points a
//! version or a date (1.2.3): neither is a number.
//!
//! The task `gsm8k` of lm-evaluation-harness compares text: there `18.00` and `1e3` are not 18 and 1000, `16-3` ends with `-3`, and a name's
//! digits are a number. Its `strict-match` takes the first `####` number, its `flexible-extract` the last number, without `\boxed`.
#![deny(clippy::float_arithmetic)]

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use super::known;
use crate::{Error, Result};

/// A pattern may compile to this many bytes.
const LARGEST_PATTERN: usize = 1 << 20;

/// Where an answer is looked for: in as many bytes at a text's end. Finding all matches of a pattern takes a time that may grow with the
/// square of the text.
const SEARCHED: usize = 16 << 10;

/// An exponent beyond this is no number's.
const LARGEST_EXPONENT: i32 = 400;

/// Marks that may stand around an answer, before it and behind it.
const AROUND: [char; 24] = [
    '"', '\'', '`', '*', '_', '(', ')', '[', ']', '{', '}', '<', '>', '«', '»', '‹', '›', '“', '”', '„', '‘', '’',
    '「', '」',
];

/// Marks that may stand before it only, and behind it only.
const BEFORE: [char; 2] = ['¿', '¡'];
const BEHIND: [char; 8] = ['.', ',', ';', ':', '!', '?', '。', '、'];

const CURRENCY: [char; 8] = ['$', '€', '£', '¥', '₹', '₩', '¢', '฿'];

/// What joins groups of three digits: a comma, and the no-break spaces.
const SEPARATORS: [char; 4] = [',', '\u{a0}', '\u{202f}', '\u{2009}'];

/// How a response's answer is compared with the reference's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Match {
    /// As normalised text.
    Text,
    /// As the last number.
    #[default]
    Number,
    /// As what a pattern finds.
    Regex,
}

/// Finds the answer of a text.
#[derive(Clone, Debug)]
pub struct Matcher {
    by: Match,
    pattern: Option<Regex>,
}

impl Matcher {
    /// A matcher by `by`; `pattern` goes with [`Match::Regex`] alone.
    ///
    /// # Errors
    /// [`Error::Usage`] naming `loss.pattern` if it is missing, not needed, no pattern, or too large.
    pub fn new(by: Match, pattern: Option<&str>) -> Result<Self> {
        let refuse = |problem: String, remedy: &str| Error::Usage {
            argument: "loss.pattern".into(),
            problem,
            remedy: remedy.into(),
        };
        let pattern = match (by, pattern) {
            (Match::Regex, Some(pattern)) => {
                let built = RegexBuilder::new(pattern).size_limit(LARGEST_PATTERN).build();
                // The message of the crate draws the place on lines of its own.
                let one_line = |error: regex::Error| error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
                Some(built.map_err(|error| refuse(one_line(error), "write it as the Rust crate `regex` reads it"))?)
            }
            (Match::Regex, None) => {
                return Err(refuse(
                    "it is missing, and match is \"regex\"".into(),
                    "give the pattern that finds answers",
                ));
            }
            (_, Some(_)) => {
                return Err(refuse("match is not \"regex\"".into(), "set match = \"regex\", or leave the pattern out"));
            }
            (_, None) => None,
        };
        Ok(Self { by, pattern })
    }

    /// The answer that `text` gives, in the form in which answers are compared; `None` if it gives none.
    pub fn answer(&self, text: &str) -> Option<String> {
        match (self.by, &self.pattern) {
            (Match::Text, _) => normalised(boxed(text).unwrap_or(text)),
            (Match::Number, _) => number(text),
            (Match::Regex, None) => None,
            (Match::Regex, Some(pattern)) => normalised(found(pattern, text)?),
        }
    }

    /// 0 if `response` gives `answer`, a reference's [`Matcher::answer`]; else 1.
    pub fn loss(&self, answer: &str, response: &str) -> f64 {
        if self.answer(response).as_deref() == Some(answer) { 0.0 } else { 1.0 }
    }
}

/// What the last match of `pattern` at the end of `text` finds.
fn found<'t>(pattern: &Regex, text: &'t str) -> Option<&'t str> {
    // What lies before still counts for anchors and boundaries.
    let mut at = tail(text);
    let mut last = None;
    while let Some(found) = pattern.find_at(text, at) {
        last = Some(found.start());
        at = if found.is_empty() { found.end() + next_char(text, found.end()) } else { found.end() };
        if at > text.len() {
            break;
        }
    }
    let captures: Captures<'t> = pattern.captures_at(text, last?)?;
    captures.get(1).or_else(|| captures.get(0)).map(|found| found.as_str())
}

/// How many bytes the character at `at` has; 1 at the end.
fn next_char(text: &str, at: usize) -> usize {
    text[at..].chars().next().map_or(1, char::len_utf8)
}

/// Where the searched end of a text begins.
fn tail(text: &str) -> usize {
    text.ceil_char_boundary(text.len().saturating_sub(SEARCHED))
}

/// What stands in the last `\boxed{..}` that is closed.
fn boxed(text: &str) -> Option<&str> {
    const MARK: &str = "\\boxed{";
    let text = &text[tail(text)..];
    let mut end = text.len();
    while let Some(at) = text[..end].rfind(MARK) {
        let inner = &text[at + MARK.len()..];
        let mut depth = 1_u32;
        for (length, character) in inner.char_indices() {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Some(&inner[..length]);
            }
        }
        // Whatever opens before this and holds it is open as well; only what is closed before it can count.
        end = at;
    }
    None
}

/// A text as it is compared; `None` if it is blank.
fn normalised(text: &str) -> Option<String> {
    // Before NFKC makes spaces of those that join digits.
    if let Some(number) = whole_number(&plain(text)) {
        return Some(number);
    }
    let compatible: String = text.nfkc().collect();
    // Folded as upper case and then lower case is, character by character: ß is ss, final sigma is sigma.
    let folded: String =
        plain(&compatible).chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).nfkc().collect();
    let collapsed = folded.split_whitespace().collect::<Vec<_>>().join(" ");
    let behind = |character: char| AROUND.contains(&character) || BEHIND.contains(&character) || character == ' ';
    let before = |character: char| AROUND.contains(&character) || BEFORE.contains(&character) || character == ' ';
    let bare = collapsed.trim_end_matches(behind).trim_start_matches(before);
    if bare.is_empty() {
        // Nothing but marks: then they are the answer.
        return (!collapsed.is_empty()).then_some(collapsed);
    }
    Some(whole_number(bare).unwrap_or_else(|| bare.to_owned()))
}

/// A text without the LaTeX around words, digits and fractions, and with the digits and marks of full width and all
/// dashes that stand for a minus in ASCII.
fn plain(text: &str) -> Cow<'_, str> {
    static WORDS: LazyLock<Regex> =
        LazyLock::new(|| known(r"\\(?:text|textbf|mathrm|mathbf|operatorname)\{([^{}]*)\}"));
    static FRACTION: LazyLock<Regex> = LazyLock::new(|| known(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}"));
    static SPACES: LazyLock<Regex> = LazyLock::new(|| known(r"\\[,!;:]|\{,\}"));
    let mut text = Cow::Borrowed(text);
    if text.contains('\\') || text.contains("{,}") {
        let words = WORDS.replace_all(&text, "$1");
        let fractions = FRACTION.replace_all(&words, "$1/$2");
        // Thin spaces join groups of digits, and `{,}` is a comma that is not followed by a space.
        let spaces = SPACES.replace_all(&fractions, |found: &Captures<'_>| match &found[0] {
            "{,}" => ",",
            "\\!" => "",
            _ => "\u{2009}",
        });
        text = Cow::Owned(spaces.replace("\\$", "$").replace("\\%", "%"));
    }
    if text.is_ascii() {
        return text;
    }
    let ascii = |character: char| match character {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(character as u32 - 0xfee0).unwrap_or(character),
        '\u{2212}' | '\u{2013}' => '-',
        '\u{2044}' => '/',
        other => other,
    };
    Cow::Owned(text.chars().map(ascii).collect())
}

/// The number that a text gives as its answer.
fn number(text: &str) -> Option<String> {
    if let Some(boxed) = boxed(text) {
        return last_number(boxed);
    }
    let end = &text[tail(text)..];
    let marked = end.rsplit('\n').filter_map(|line| line.trim().strip_prefix("####"));
    marked.filter_map(|line| whole_number(plain(line).trim())).next().or_else(|| last_number(end))
}

fn last_number(text: &str) -> Option<String> {
    numbers(&plain(text).chars().collect::<Vec<_>>()).pop().map(|number| number.value)
}

/// The value of a text that is one number and, but for what goes with one, nothing else.
fn whole_number(text: &str) -> Option<String> {
    let goes_with_one = |character: &char| {
        character.is_whitespace()
            || CURRENCY.contains(character)
            || AROUND.contains(character)
            || "%.,;:!?".contains(*character)
    };
    let characters: Vec<char> = text.chars().collect();
    let mut numbers = numbers(&characters);
    let number = numbers.pop().filter(|_| numbers.is_empty())?;
    let around = characters[..number.start].iter().chain(&characters[number.end..]);
    around.into_iter().all(goes_with_one).then_some(number.value)
}

/// A number in a list of characters.
struct Number {
    /// Where it begins, sign and currency included.
    start: usize,
    end: usize,
    /// Its value: digits without leading zeros, without a fraction's trailing ones, without a plus.
    value: String,
}

/// All numbers of `text`, which is [`plain`].
fn numbers(text: &[char]) -> Vec<Number> {
    let digit = |at: usize| text.get(at).is_some_and(char::is_ascii_digit);
    let digits = |mut at: usize| {
        while digit(at) {
            at += 1;
        }
        at
    };
    let is = |at: usize, character: char| text.get(at) == Some(&character);
    let mut numbers = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let begins = digit(at) || is(at, '.') && digit(at + 1);
        if !begins {
            at += 1;
            continue;
        }
        let first = at;
        let in_name = first.checked_sub(1).is_some_and(|at| text[at].is_lowercase() || text[at].is_uppercase());
        let mut end = digits(first);
        let mut whole: String = text[first..end].iter().collect();
        let separator = text.get(end).copied().filter(|next| SEPARATORS.contains(next));
        if let Some(separator) = separator
            && (1..=3).contains(&whole.len())
            && !whole.starts_with('0')
        {
            while is(end, separator) && digits(end + 1) == end + 4 {
                whole.extend(&text[end + 1..end + 4]);
                end += 4;
            }
        }
        let mut fraction = String::new();
        let mut points = 0;
        while is(end, '.') && digit(end + 1) {
            let next = digits(end + 1);
            fraction = text[end + 1..next].iter().collect();
            points += 1;
            end = next;
        }
        let mut exponent = 0;
        if is(end, 'e') || is(end, 'E') {
            let signed = end + 1 + usize::from(is(end + 1, '-') || is(end + 1, '+'));
            let next = digits(signed);
            let written: String = text[end + 1..next.max(end + 1)].iter().collect();
            let parsed = written.parse::<i32>().ok().filter(|exponent| exponent.abs() <= LARGEST_EXPONENT);
            if let Some(parsed) = parsed.filter(|_| next > signed) {
                (exponent, end) = (parsed, next);
            }
        }
        at = end;
        if points > 1 || in_name {
            continue;
        }
        let mut value = decimal(&whole, &fraction, exponent);
        // A fraction as written; 1/2/2024 has none.
        let under = digits(end + 1);
        let in_row = first > 0 && is(first - 1, '/');
        if is(end, '/') && !in_row && under > end + 1 && !is(under, '/') && !(is(under, '.') && digit(under + 1)) {
            let denominator: String = text[end + 1..under].iter().collect();
            value = format!("{value}/{}", decimal(&denominator, "", 0));
            at = under;
        }
        let (start, negative) = sign(text, first);
        if negative && value != "0" {
            value.insert(0, '-');
        }
        numbers.push(Number { start, end: at, value });
    }
    numbers
}

/// Where a number whose first digit stands at `first` begins, and whether a minus stands before it.
fn sign(text: &[char], first: usize) -> (usize, bool) {
    let before = |at: usize| at.checked_sub(1).and_then(|before| text.get(before)).copied();
    let currency = |character: char| CURRENCY.contains(&character);
    let mut start = first;
    // `-$5`, `-$ 5` and `$-5`.
    let mut spaces = start;
    while before(spaces) == Some(' ') {
        spaces -= 1;
    }
    if before(spaces).is_some_and(currency) {
        start = spaces - 1;
    }
    let signed = before(start).filter(|sign| ['-', '+'].contains(sign));
    let taken_from =
        |character: char| character.is_alphanumeric() || [')', ']', '}', '-', '+', '%'].contains(&character);
    match signed {
        Some(sign) if !before(start - 1).is_some_and(taken_from) => (start - 1, sign == '-'),
        _ => (start, false),
    }
}

/// whole.fraction * 10^exponent, in the shortest digits that are exactly that.
fn decimal(whole: &str, fraction: &str, exponent: i32) -> String {
    let digits = format!("{whole}{fraction}");
    let point = whole.len() as i64 + i64::from(exponent);
    let (whole, fraction) = if point <= 0 {
        (String::new(), format!("{}{digits}", "0".repeat(point.unsigned_abs() as usize)))
    } else if point as usize >= digits.len() {
        let zeros = "0".repeat(point as usize - digits.len());
        (digits + &zeros, String::new())
    } else {
        (digits[..point as usize].to_owned(), digits[point as usize..].to_owned())
    };
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    let whole = if whole.is_empty() { "0" } else { whole };
    if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn by(by: Match) -> Matcher {
        Matcher::new(by, None).expect("legal")
    }

    fn answer(of: Match, text: &str) -> Option<String> {
        by(of).answer(text)
    }

    #[test]
    fn numbers_are_equal_by_value() {
        for (text, value) in [
            ("42", "42"),
            ("The answer is 42.", "42"),
            ("A: +42 apples", "42"),
            ("first 1, then 2", "2"),
            ("1,000", "1000"),
            ("$1,234,567.50", "1234567.5"),
            ("1\u{202f}000 km", "1000"),
            ("1,23", "23"),
            ("1234,567", "567"),
            ("(1,2,3)", "3"),
            ("007", "7"),
            ("0.50", "0.5"),
            (".5", "0.5"),
            ("5.", "5"),
            ("-0.0", "0"),
            ("50%", "50"),
            ("50 \\%", "50"),
            ("-$5", "-5"),
            ("$-5", "-5"),
            ("- 5", "5"),
            ("−5", "-5"),
            ("x = -5", "-5"),
            ("16-3", "3"),
            ("16 - 3", "3"),
            ("(16)-3", "3"),
            ("pages 3–5", "5"),
            ("gpt-4", "4"),
            ("1.0005e3", "1000.5"),
            ("2E-3", "0.002"),
            ("12e2", "1200"),
            ("3/4", "3/4"),
            ("-3/4 of it", "-3/4"),
            ("on 1/2/2024", "2024"),
            ("48/2=<<48/2=24>>24", "24"),
            ("18 kg of CO2", "18"),
            ("7 in version 1.2.3", "7"),
            ("答案是18。", "18"),
            ("１８", "18"),
            ("**18**", "18"),
            ("so \\boxed{1{,}000} of 7", "1000"),
            ("\\boxed{\\frac{3}{4}}", "3/4"),
            ("\\boxed{18\\text{ eggs in } \\{2\\}}, 3", "2"),
            ("\\boxed{5} but \\boxed{6", "5"),
            ("#### 42\nThat took 3 steps", "42"),
            ("#### $1,000.\nAnd 7", "1000"),
            ("#### 1. First\nso it is 9", "9"),
            ("#### 1\n#### 2\n3", "2"),
            ("123456789012345678901234567890.10", "123456789012345678901234567890.1"),
        ] {
            assert_eq!(answer(Match::Number, text).as_deref(), Some(value), "{text:?}");
        }
        for text in ["", "none", "x2", "1.2.3", "\\boxed{none} 5", "½"] {
            assert_eq!(answer(Match::Number, text), None, "{text:?} gives no number");
        }
    }

    #[test]
    fn texts_are_equal_when_normalised() {
        for (left, right) in [
            ("Paris", " paris.\n"),
            ("\"The  Eiffel\tTower\"", "the eiffel tower"),
            ("Straße", "STRASSE"),
            ("Σίσυφος", "ΣΊΣΥΦΟΣ"),
            ("ﬁne", "fine"),
            ("café", "cafe\u{301}"),
            ("**Paris**!", "Paris"),
            ("It is \\boxed{\\text{Paris}}", "paris"),
            ("42", "42.0"),
            ("(1,000)", "$1000"),
            ("50 %", "50"),
            ("¿Dónde?", "dónde"),
        ] {
            assert!(answer(Match::Text, left).is_some(), "{left:?} is an answer");
            assert_eq!(answer(Match::Text, left), answer(Match::Text, right), "{left:?} and {right:?}");
        }
        for (left, right) in
            [("the tower", "tower"), ("Paris", "Paris, France"), ("-5", "5"), ("?", "!"), ("2 of 3", "3"), ("C", "C#")]
        {
            assert_ne!(answer(Match::Text, left), answer(Match::Text, right), "{left:?} and {right:?}");
        }
        assert_eq!(answer(Match::Text, " \n"), None, "blank is no answer");
    }

    #[test]
    fn a_pattern_finds_its_last_match() {
        let find = |pattern: &str, text: &str| Matcher::new(Match::Regex, Some(pattern)).expect("legal").answer(text);
        assert_eq!(find(r"A: (\w+)", "A: one\nA: Two"), Some("two".into()), "the last, its group");
        assert_eq!(find(r"[A-D]\b", "A or B"), Some("b".into()), "no group: all of it");
        assert_eq!(find(r"x(\d)?", "x1 x"), Some("x".into()), "a group that took no part");
        assert_eq!(find(r"(?m)^#### (.*)$", "#### 1,000.\nend"), Some("1000".into()), "one number counts as a number");
        assert_eq!(find(r"é*", "aé"), None, "an empty match is no answer");
        assert_eq!(find(r"\d", "none"), None, "nothing found");
        let long = format!("5{}", "é".repeat(SEARCHED));
        assert_eq!(find(r"\d", &long), None, "beyond what is searched");
        assert_eq!(find(r"\A.", &long), None, "the start of what is searched is not the start of the text");
    }

    #[test]
    fn what_cannot_be_a_pattern_is_refused() {
        for (of, pattern, problem) in [
            (Match::Regex, None, "it is missing"),
            (Match::Number, Some("x"), "match is not \"regex\""),
            (Match::Regex, Some("(x"), "unclosed group"),
            (Match::Regex, Some(r"\w{9999}"), "size limit"),
        ] {
            let error = Matcher::new(of, pattern).expect_err("illegal").to_string();
            assert!(error.starts_with("loss.pattern: ") && error.contains(problem), "{error}");
            assert!(!error.contains('\n'), "one line: {error}");
        }
    }

    /// Labels of the data set's own authors.
    #[test]
    fn the_last_number_tells_right_answers_from_wrong_ones() {
        let rows = |name: &str| -> Vec<Value> {
            let path = format!("{}/datasets/gsm8k/{name}.jsonl", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(path).expect("the data set");
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
        };
        let text = |row: &Value, key: &str| row[key].as_str().expect("a string").to_owned();
        let matcher = by(Match::Number);
        let key = |row: &Value| text(row, "prompt_id");
        let references: BTreeMap<String, String> =
            rows("references").iter().map(|row| (key(row), text(row, "reference"))).collect();
        let truth: BTreeMap<String, Value> = rows("truth").into_iter().map(|row| (key(&row), row)).collect();
        let (mut right, mut judged) = (0, 0);
        for row in rows("round") {
            let Some(correct) = truth[&key(&row)]["correct"][text(&row, "miner")].as_bool() else { continue };
            let answer = matcher.answer(&references[&key(&row)]).expect("a number in every reference");
            let loss = matcher.loss(&answer, &text(&row, "response"));
            assert_eq!(loss, if correct { 0.0 } else { 1.0 }, "{row}");
            right += usize::from(correct);
            judged += 1;
        }
        assert_eq!((right, judged), (370, 960), "56, 93, 88 and 133 of 240");
    }

    proptest! {
        #[test]
        fn any_text_agrees_with_its_own_answer(text in "\\PC{0,80}", digits in "[-+$0-9.,eE/%#{}\\\\ boxed\n-]{0,60}") {
            for text in [&text, &digits] {
                for of in [Match::Text, Match::Number] {
                    if let Some(found) = answer(of, text) {
                        prop_assert_eq!(by(of).loss(&found, text), 0.0);
                    }
                }
                if let Some(number) = answer(Match::Number, text) {
                    prop_assert_eq!(answer(Match::Number, &number), Some(number), "a number is its own answer");
                }
            }
        }

        #[test]
        fn a_number_may_be_written_in_many_ways(value in 0_u64.., cents in 0_u32..100, negative: bool) {
            let sign = if negative { "-" } else { "" };
            let digits = value.to_string();
            let mut grouped = String::new();
            for (at, digit) in digits.chars().enumerate() {
                if at > 0 && (digits.len() - at) % 3 == 0 {
                    grouped.push(',');
                }
                grouped.push(digit);
            }
            let plain = format!("{sign}{digits}.{cents:02}");
            let right = answer(Match::Number, &plain);
            prop_assert!(right.is_some());
            for text in [
                format!("{sign}${grouped}.{cents:02}0."),
                format!("3 and {sign}0{digits}.{cents:02} in all"),
                format!("{sign}{digits}{cents:02}e-2"),
                format!("\\boxed{{{sign}{grouped}.{cents:02}\\%}}, not 7"),
            ] {
                prop_assert_eq!(&answer(Match::Number, &text), &right, "{}", text);
            }
        }
    }
}
