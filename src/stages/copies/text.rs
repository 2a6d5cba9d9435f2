//! Texts as they are compared: without what can be changed and read the same.
#![deny(clippy::float_arithmetic)]

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;
use unicode_security::confusable_detection::skeleton;

/// Words that are read of a text, and letters: what nobody reads who judges it, and what would only take time, is left out. A stolen
/// text behind so many words of something else is worth nothing to the thief.
pub(super) const READ: usize = 1 << 13;
pub(super) const LETTERS_READ: usize = 1 << 16;

/// Words of a shingle.
pub(super) const WORDS: usize = 3;

/// Letters of a shingle.
const LETTERS: usize = 5;

/// A text's shingles, as hashes: ascending, each once.
#[derive(Clone, Debug, Default)]
pub(super) struct Shingles {
    /// Of three words in a row; of all words if there are fewer.
    pub words: Vec<u64>,
    /// Of five letters in a row without what lies between words; of all letters if there are fewer.
    pub letters: Vec<u64>,
}

impl Shingles {
    /// Those of which two authors may be expected to differ: three words of which two are numbers are not among them, nor are letters
    /// that are all digits, because right numbers agree.
    ///
    /// Of each kind at most `most` are kept, those of the lowest hashes.
    pub fn telling(text: &str, most: usize) -> Self {
        let plain = as_it_looks(text);
        let letters = of_letters(&plain, |letters| letters.iter().any(|letter| letter.is_alphabetic()));
        let mut shingles = Self { words: telling_words(&words_of(&plain)), letters };
        shingles.words.truncate(most);
        shingles.letters.truncate(most);
        shingles
    }

    /// All of them.
    pub fn all(text: &str) -> Self {
        let plain = as_it_looks(text);
        let words = words_of(&plain);
        let three = words.windows(WORDS.min(words.len()).max(1)).map(of_words);
        Self { words: sorted(three.collect()), letters: of_letters(&plain, |_| true) }
    }
}

/// The shingles of words that [`Shingles::telling`] has.
pub(super) fn telling_words(words: &[String]) -> Vec<u64> {
    let is_number = |word: &&String| word.chars().all(|character| character.is_ascii_digit());
    let three = words.windows(WORDS.min(words.len()).max(1));
    sorted(three.filter(|words| words.iter().filter(is_number).count() < 2).map(of_words).collect())
}

/// Of letters and digits as they stand, markup and all, so that nothing can be hidden in it.
fn of_letters(plain: &str, keep: impl Fn(&[char]) -> bool) -> Vec<u64> {
    let letters: Vec<char> = plain.chars().filter(|letter| letter.is_alphanumeric()).take(LETTERS_READ).collect();
    let five = letters.windows(LETTERS.min(letters.len()).max(1)).filter(|letters| keep(letters));
    sorted(five.map(|letters| hash(letters.iter().map(|letter| *letter as u32))).collect())
}

/// The hash of words in a row.
pub(super) fn of_words(words: &[String]) -> u64 {
    // No word has a control character in it.
    hash(words.iter().flat_map(|word| word.chars().map(|letter| letter as u32).chain([0])))
}

fn sorted(mut hashes: Vec<u64>) -> Vec<u64> {
    hashes.sort_unstable();
    hashes.dedup();
    hashes
}

/// FNV-1a over letters, and a last stir (that of MurmurHash3), because lists are cut by the size of hashes.
fn hash(letters: impl Iterator<Item = u32>) -> u64 {
    let mut hash = letters.fold(0xcbf2_9ce4_8422_2325, |hash: u64, letter| {
        (hash ^ u64::from(letter)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// A text's words: letters as they look (compatibility forms, accents, lookalikes of other scripts and invisible characters
/// undone), in lower case, without markup and marks of lists; small numbers in words as digits.
pub(super) fn words(text: &str) -> Vec<String> {
    words_of(&as_it_looks(text))
}

fn words_of(plain: &str) -> Vec<String> {
    let plain = without_markup(plain);
    let mut words = Vec::new();
    let mut word = String::new();
    let mut characters = plain.chars().peekable();
    while words.len() < READ
        && let Some(character) = characters.next()
    {
        if character.is_alphanumeric() && !is_unspaced(character) {
            word.push(character);
            continue;
        }
        // Digits in groups are one number.
        let in_number = word.ends_with(|last: char| last.is_ascii_digit());
        if character == ',' && in_number && characters.peek().is_some_and(char::is_ascii_digit) {
            continue;
        }
        if !word.is_empty() {
            push(&mut words, std::mem::take(&mut word));
        }
        if is_unspaced(character) {
            words.push(character.to_string());
        }
    }
    if !word.is_empty() {
        push(&mut words, word);
    }
    words
}

/// Adds a word, a number as digits: "twenty" and "one" make 21.
fn push(words: &mut Vec<String>, word: String) {
    let Some(number) = number(&word) else {
        words.push(word);
        return;
    };
    match words.last_mut() {
        Some(tens) if (1..10).contains(&number) && TENS[2..].contains(&tens.as_str()) => {
            tens.truncate(1);
            tens.push_str(&number.to_string());
        }
        _ => words.push(number.to_string()),
    }
}

const TENS: [&str; 10] = ["0", "10", "20", "30", "40", "50", "60", "70", "80", "90"];

fn number(word: &str) -> Option<u32> {
    const SMALL: [&str; 20] = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
    ];
    const LARGE: [&str; 8] = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
    let index = |list: &[&str]| list.iter().position(|name| *name == word).map(|index| index as u32);
    index(&SMALL).or_else(|| index(&LARGE).map(|index| 10 * (index + 2)))
}

/// Letters of scripts that put no spaces between words: each is taken for a word.
fn is_unspaced(character: char) -> bool {
    character.is_alphanumeric()
        && matches!(character as u32, 0x0E00..=0x0EFF | 0x1000..=0x109F | 0x1780..=0x17FF | 0x3040..=0x30FF | 0x3400..=0x9FFF
        | 0xF900..=0xFAFF | 0x2_0000..=0x3_FFFF)
}

fn as_it_looks(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.nfkd() {
        if character.is_ascii() {
            // Lines matter to the marks of lists; other control characters are not seen.
            if !character.is_ascii_control() || matches!(character, '\n' | '\t') {
                plain.push(character.to_ascii_lowercase());
            }
        } else if !is_invisible(character) && !is_combining_mark(character) {
            push_look_alike(&mut plain, character);
        }
    }
    plain
}

/// Adds a letter, or the Latin one that it is drawn like.
fn push_look_alike(plain: &mut String, character: char) {
    let mut letters = [0; 4];
    let mut drawn = skeleton(character.encode_utf8(&mut letters)).peekable();
    if !character.is_alphanumeric() || drawn.peek().is_none_or(|letter| !letter.is_ascii_alphanumeric()) {
        plain.extend(character.to_lowercase());
        return;
    }
    // The table says of every upright stroke that it is an l.
    let upright = character.is_uppercase();
    plain.extend(drawn.map(|letter| if upright && letter == 'l' { 'i' } else { letter.to_ascii_lowercase() }));
}

/// Marks that are not drawn, or hardly: modifiers of letters, joiners, directions, fillers, selectors, tags, and controls beyond ASCII.
fn is_invisible(character: char) -> bool {
    matches!(character as u32, 0x80..=0x9F | 0xAD | 0x2B0..=0x2FF | 0x34F | 0x61C | 0x640 | 0x115F | 0x1160 | 0x17B4 | 0x17B5 | 0x180B..=0x180F
        | 0x200B..=0x200F | 0x202A..=0x202E | 0x2060..=0x206F | 0x3164 | 0xFE00..=0xFE0F | 0xFEFF | 0xFFA0
        | 0xFFF9..=0xFFFC | 0x1_D173..=0x1_D17A | 0xE_0000..=0xE_0FFF)
}

/// The beginning of a text on one line, for people: `most` characters, and an ellipsis where there are more. Blanks are drawn together, and
/// what is not drawn, or moves what is, becomes one replacement character.
pub fn excerpt(text: &str, most: usize) -> String {
    let mut line = String::new();
    let mut length = 0;
    for character in text.trim().chars() {
        let drawn = match character {
            _ if character.is_whitespace() => ' ',
            _ if character.is_control() || is_invisible(character) => char::REPLACEMENT_CHARACTER,
            _ => character,
        };
        if matches!(drawn, ' ' | char::REPLACEMENT_CHARACTER) && line.ends_with(drawn) {
            continue;
        }
        if length == most {
            line.push('…');
            break;
        }
        line.push(drawn);
        length += 1;
    }
    line
}

/// Takes out tags, entities, targets of links and marks of lists. Emphasis and headings vanish with all that is no word.
fn without_markup(text: &str) -> Cow<'_, str> {
    // Tags by their names and with few attributes, so that comparisons and arithmetic in brackets are left, and words cannot hide.
    const MARKUP: &str = r#"(?mx)
        </?(?:a|abbr|b|big|blockquote|body|br|center|code|div|em|font|h[1-6]|head|hr|html|i|img|li|ol|p|pre|s|small|span|strong|sub|sup
            |table|tbody|td|th|thead|tr|tt|u|ul)(?:\s+[a-z-]{1,12}\s*=\s*(?:"[^"<>\s]{0,40}"|'[^'<>\s]{0,40}')){0,3}\s*/?>
        | &(?:[a-z]{2,8}|\#[0-9]{1,6});
        | \]\([^()\s]{1,300}\)
        | ^[\ \t>]*(?:[-*+\u{2022}\u{2023}\u{25AA}\u{25CF}\u{25E6}]|\(?[0-9]{1,3}[.):]|\(?[a-z][.)]|\(?[ivx]{1,5}[.)])[\ \t]+"#;
    static PATTERN: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(MARKUP).ok());
    // It compiles, as the tests show; `None` is for the type.
    PATTERN.as_ref().map_or(Cow::Borrowed(text), |pattern| pattern.replace_all(text, " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_one_line_of_what_is_seen() {
        for (text, right) in [
            (" It is\n\n seven.\t", "It is seven."),
            ("a\u{1b}[31m\u{200b}\u{202e}b", "a\u{fffd}[31m\u{fffd}b"),
            ("\n \n", ""),
            ("żółć, 七", "żółć, 七"),
            ("abcdefghijklmnop", "abcdefghijkl…"),
            ("abcdefghijkl  ", "abcdefghijkl"),
            ("abcdefghijkl \n x", "abcdefghijkl…"),
        ] {
            assert_eq!(excerpt(text, 12), right, "{text:?}");
        }
    }

    fn read(text: &str) -> String {
        words(text).join(" ")
    }

    #[test]
    fn what_reads_the_same_is_the_same() {
        let plain = "the bank opened in 1998 it has three summaries";
        let plain = read(plain);
        assert_eq!(plain, "the bank opened in 1998 it has 3 summaries");
        for (trick, text) in [
            ("case and punctuation", "THE BANK, opened in 1998! It has: three summaries."),
            (
                "Cyrillic lookalikes",
                "Th\u{435} b\u{430}nk \u{43e}pen\u{435}d in 1998. \u{406}t has three summ\u{430}ries",
            ),
            ("Greek lookalikes", "the bank \u{3BF}pened in 1998, it has three summaries"),
            (
                "invisible characters",
                "the ba\u{200b}nk\u{2060} ope\u{ad}ned in\u{feff} 1998\u{e0041}, it h\u{200d}as three summaries",
            ),
            ("control characters", "the ba\u{1}nk opened in 1998\u{7f}, it has\u{85} three summaries"),
            (
                "full width and mathematical letters",
                "\u{ff54}\u{ff48}\u{ff45} \u{1d41b}\u{1d41a}\u{1d427}\u{1d424} opened in 1998, it has three summaries",
            ),
            (
                "accents and stacked marks",
                "th\u{e9} ba\u{300}\u{301}\u{302}nk \u{f6}pened in 1998, it has three summaries",
            ),
            ("markdown", "## The **bank**\n\n- opened in `1998`\n- it has *three* [summaries](some/where.html)"),
            (
                "tags and entities",
                "<p>The <b>bank</b>&nbsp;opened<br/>in 1998,</p> it has <a href=\"x\">three</a> summaries",
            ),
            ("lists by numbers", "1. the bank\n2. opened in 1998\n 3) it has\n(4) three summaries"),
            ("lists by letters", "a) the bank\nb. opened in 1998\niv) it has\n\u{2022} three summaries"),
            ("a number in digits", "the bank opened in 1998; it has 3 summaries"),
            ("digits in groups", "the bank opened in 1,998; it has 3 summaries"),
        ] {
            assert_eq!(read(text), plain, "{trick}");
        }
    }

    #[test]
    fn numbers_are_digits() {
        assert_eq!(read("Twenty-one of seventy, nine and ninety nine"), "21 of 79 and 99");
        assert_eq!(read("ten one, zero"), "10 1 0");
        assert_eq!(read("if 3 < 4 and <<3*4=12>>12"), "if 3 4 and 3 4 12 12");
    }

    #[test]
    fn scripts_without_spaces_have_a_word_a_letter() {
        assert_eq!(words("\u{6211}\u{5011} go").len(), 3);
    }

    #[test]
    fn texts_without_words_have_no_shingles() {
        for text in ["", " \n\t", "...", "\u{200b}\u{feff}"] {
            let shingles = Shingles::all(text);
            assert!(shingles.words.is_empty() && shingles.letters.is_empty(), "{text:?}");
        }
        assert_eq!(Shingles::all("Yes.").words.len(), 1);
        assert_eq!(Shingles::telling("16 - 3 - 4 = 9", 9).words.len(), 0);
        assert_eq!(Shingles::all("16 - 3 - 4 = 9").words.len(), 2);
    }

    #[test]
    fn nothing_hides_in_markup() {
        assert_eq!(
            read("<The bank opened in May> and <b class=\"x\">it</b> <said the=\"same\">"),
            "the bank opened in may and it said the same"
        );
        assert_eq!(read("a\u{2b9}b\u{30fb}c\u{640}d\u{3fffe}e"), "ab cd e");
        assert!(!Shingles::all("](hidden-in-the-target-of-a-link)").letters.is_empty());
    }

    #[test]
    fn so_much_is_read_of_a_text() {
        let long = "word ".repeat(3 * READ);
        assert_eq!(words(&long).len(), READ);
        let different: String = (0..200_000).map(|index| format!("{index} x ")).collect();
        assert!(Shingles::all(&different).letters.len() <= LETTERS_READ);
    }
}
