//! Copies are found whatever is done to hide them, and only copies are. Answers are those of four real models to school
//! mathematics questions (`datasets/gsm8k`), whose numbers agree because they are right; six in a row make a long one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what cannot be read must fail the test")]

mod common;

use std::collections::BTreeMap;

use common::{devices, package};
use serde_json::Value;
use tauscore::device::{Device, Noise};
use tauscore::stages::copies::{Answer, Finding, Kind, NOBODY, Question, Source, compare, copies};

const BITS: u32 = 14;
const MODELS: [&str; 4] = ["6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"];

/// A prompt, its reference, and what the models answered.
#[derive(Clone, Default)]
struct Task {
    known: Vec<String>,
    answers: Vec<String>,
}

fn rows(name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(package().join("datasets/gsm8k").join(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The 240 questions.
fn questions() -> Vec<Task> {
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let mut tasks: BTreeMap<String, Task> = BTreeMap::new();
    for row in rows("references.jsonl") {
        tasks.entry(text(&row, "prompt_id")).or_default().known.push(text(&row, "reference"));
    }
    for row in rows("round.jsonl") {
        let task = tasks.get_mut(&text(&row, "prompt_id")).unwrap();
        if let Some(at) = MODELS.iter().position(|model| row["miner"] == *model) {
            task.known.extend(row["prompt"].as_str().map(str::to_owned));
            task.answers.resize(MODELS.len(), String::new());
            task.answers[at] = text(&row, "response");
        }
    }
    tasks.into_values().collect()
}

/// Forty tasks with long answers.
fn long() -> Vec<Task> {
    let join = |six: &[Task]| Task {
        known: six.iter().flat_map(|task| task.known.clone()).collect(),
        answers: (0..MODELS.len())
            .map(|model| six.iter().map(|task| task.answers[model].clone()).collect::<Vec<_>>().join("\n"))
            .collect(),
    };
    questions().chunks_exact(6).map(join).collect()
}

/// As a stage takes it: miners by their place.
fn asked(tasks: &[Task]) -> Vec<Question<'_>> {
    tasks
        .iter()
        .map(|task| Question {
            known: task.known.iter().map(String::as_str).collect(),
            answers: task.answers.iter().zip(0..).map(|(text, miner)| Answer { text, miner }).collect(),
        })
        .collect()
}

fn found(tasks: &[Task]) -> Vec<Vec<Finding>> {
    copies(&Device::cpu(), &asked(tasks), &[], BITS).unwrap()
}

fn is_copy(finding: &Finding) -> bool {
    finding.bits() >= f64::from(BITS)
}

fn sentences(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.trim().is_empty()).collect()
}

/// Some of the words changed: about one in `every`.
fn changed(text: &str, every: u32, change: impl Fn(&str) -> String) -> String {
    let mut noise = Noise::new(u64::from(every));
    let words = text.split(' ').map(|word| if noise.below(every) == 0 { change(word) } else { word.to_owned() });
    words.collect::<Vec<_>>().join(" ")
}

/// Two letters inside of a word in each other's place.
fn typo(word: &str) -> String {
    let mut letters: Vec<char> = word.chars().collect();
    if letters.len() > 3 {
        letters.swap(1, 2);
    }
    letters.into_iter().collect()
}

fn look_alike(letter: char) -> char {
    let pairs =
        [('a', '\u{430}'), ('e', '\u{435}'), ('o', '\u{3bf}'), ('p', '\u{440}'), ('c', '\u{441}'), ('i', '\u{456}')];
    pairs.iter().find(|(latin, _)| *latin == letter).map_or(letter, |(_, other)| *other)
}

fn in_words(word: &str) -> String {
    let names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
    match word.parse::<usize>() {
        Ok(number) if number < 10 => names[number].to_owned(),
        _ => word.to_owned(),
    }
}

/// What a copycat makes of a victim's answer and of somebody else's.
type Trick = fn(&str, &str) -> String;

const TRICKS: [(&str, Trick); 22] = [
    ("nothing", |text, _| text.to_owned()),
    ("capitals", |text, _| text.to_uppercase()),
    ("no punctuation", |text, _| text.replace([',', '.', ';', ':', '!', '?'], "")),
    ("invisible characters", |text, _| text.chars().flat_map(|letter| [letter, '\u{200b}']).collect()),
    ("directions and joiners", |text, _| changed(text, 2, |word| format!("\u{202a}{word}\u{200d}\u{2060}"))),
    ("lookalikes", |text, _| text.chars().map(look_alike).collect()),
    ("full width letters", |text, _| {
        let wide = |letter: char| {
            if letter.is_ascii_alphabetic() { char::from_u32(letter as u32 + 0xfee0).unwrap() } else { letter }
        };
        text.chars().map(wide).collect()
    }),
    ("accents", |text, _| {
        text.chars().flat_map(|letter| if letter == 'e' { vec!['e', '\u{301}'] } else { vec![letter] }).collect()
    }),
    ("markdown", |text, _| changed(text, 3, |word| format!("**{word}**"))),
    ("tags", |text, _| sentences(text).iter().map(|line| format!("<p class=\"x\">{line}</p>\n")).collect()),
    ("marks of a list", |text, _| {
        sentences(text).iter().zip(1..).map(|(line, number)| format!("{number}. {line}\n")).collect()
    }),
    ("spaces", |text, _| text.split(' ').collect::<Vec<_>>().join("  \u{a0}\n")),
    ("numbers in words", |text, _| text.split(' ').map(in_words).collect::<Vec<_>>().join(" ")),
    ("sentences in another order", |text, _| sentences(text).into_iter().rev().collect::<Vec<_>>().join("\n")),
    ("half of it", |text, _| {
        let all = sentences(text);
        all[..all.len().div_ceil(2)].join("\n")
    }),
    ("every other sentence", |text, _| sentences(text).into_iter().step_by(2).collect::<Vec<_>>().join("\n")),
    ("as much again of one's own", |text, _| {
        format!(
            "Here is what I think about all of this, step by step and with care. {} {text}",
            "So let us see. ".repeat(30)
        )
    }),
    ("a mosaic of two", |text, other| {
        let (own, theirs) = (sentences(text), sentences(other));
        [&own[..own.len() / 2], &theirs[theirs.len() / 2..]].concat().join("\n")
    }),
    ("other words here and there", |text, _| changed(text, 8, |_| "whatever".to_owned())),
    ("typing errors", |text, _| changed(text, 6, typo)),
    ("hidden in brackets", |text, _| sentences(text).iter().map(|line| format!("<{line}>\n")).collect()),
    ("modifiers and fillers", |text, _| {
        let every = |(index, letter): (usize, char)| {
            if index % 4 == 3 { vec![letter, '\u{2b9}', '\u{3fffe}', '\u{640}'] } else { vec![letter] }
        };
        text.chars().enumerate().flat_map(every).collect()
    }),
];

#[test]
fn every_trick_is_seen_through() {
    let tasks = long();
    for (trick, disguise) in TRICKS {
        let planted: Vec<Task> = tasks
            .iter()
            .zip(0..)
            .map(|(task, index)| {
                let (victim, other) = (index % 4, (index + 1) % 4);
                let mut planted = task.clone();
                planted.answers.push(disguise(&task.answers[victim], &task.answers[other]));
                planted
            })
            .collect();
        let (mut seen, mut named) = (0, 0);
        for (findings, index) in found(&planted).iter().zip(0_usize..) {
            let (honest, copy) = findings.split_at(4);
            assert!(honest.iter().filter(|finding| is_copy(finding)).count() <= 1, "{trick}: {honest:?}");
            seen += usize::from(is_copy(&copy[0]));
            let sources: &[usize] = if trick.contains("two") { &[index % 4, (index + 1) % 4] } else { &[index % 4] };
            named += usize::from(sources.iter().any(|source| copy[0].source == Some(Source::Answer(*source))));
        }
        assert!(seen >= 39, "{trick}: only {seen} of 40 are seen");
        assert!(named >= 39, "{trick}: only of {named} in 40 the right source is named");
    }
}

#[test]
fn agreement_is_no_copy() {
    for (what, tasks) in [("single answers", questions()), ("long answers", long())] {
        let all: Vec<Finding> = found(&tasks).concat();
        let called = all.iter().filter(|finding| is_copy(finding)).count();
        assert!(called * 100 <= all.len(), "{what}: {called} of {} are called copies", all.len());
    }
}

#[test]
fn short_answers_are_no_copies() {
    for text in ["42", "Yes.", "It is 18 dollars.", "The capital of France is Paris.", "A: 5"] {
        let task = Task { known: vec!["A question?".into()], answers: vec![text.to_owned(); 30] };
        for finding in &found(&[task])[0] {
            assert!(!is_copy(finding), "{text}: {finding:?}");
        }
    }
}

/// Two of many say the same, and nobody else anything like it.
#[test]
fn a_phrase_that_two_of_many_say_is_no_copy() {
    let others =
        |count: usize| (0..count).map(|index| format!("number {index} says something of its own, w{index} x{index}"));
    for (text, among) in
        [("Paris, on the Seine.", 40), ("It is eighteen dollars.", 256), ("She earns 18 dollars.", 1000)]
    {
        let mut task = Task { known: vec![], answers: others(among).collect() };
        task.answers.extend([text.to_owned(), text.to_owned()]);
        let finding = found(&[task])[0][among + 1];
        assert!(!is_copy(&finding), "{text}, {among} others: {finding:?}");
    }
    let bank: Vec<String> = others(20_000).chain(["Paris, on the Seine.".to_owned()]).collect();
    let bank: Vec<Answer<'_>> = bank.iter().map(|text| Answer { text, miner: NOBODY }).collect();
    let task = Task { known: vec![], answers: vec!["Paris, on the Seine.".to_owned()] };
    let finding = copies(&Device::cpu(), &asked(&[task]), &bank, BITS).unwrap()[0][0];
    assert!(!is_copy(&finding), "in an earlier round: {finding:?}");
}

/// Who comes first with all the words that there are makes nobody a copycat.
#[test]
fn a_dictionary_is_nobodys_source() {
    let tasks = long();
    let before = found(&tasks).concat().iter().filter(|finding| is_copy(finding)).count();
    for size in [4, 12, 39] {
        let mut flooded = tasks.clone();
        for (task, index) in flooded.iter_mut().zip(0_usize..) {
            let others = (1..=size).map(|step| tasks[(index + step) % tasks.len()].answers[step % 4].as_str());
            task.answers.insert(0, others.collect::<Vec<_>>().join("\n"));
        }
        let called =
            found(&flooded).iter().flat_map(|findings| &findings[1..]).filter(|finding| is_copy(finding)).count();
        assert!(
            called <= before + 1,
            "{size} answers in one: {called} honest ones are called copies, {before} without it"
        );
    }
}

/// What is put around a stolen text does not hide it.
#[test]
fn padding_without_end_hides_nothing() {
    let task = long()[0].clone();
    let noise: String = (0..300_000).map(|index| format!("n{index} ")).collect();
    let mut padded = task.clone();
    padded.answers.push(format!("{} {noise}", task.answers[2]));
    let finding = found(&[padded])[0][4];
    assert!(is_copy(&finding) && finding.source == Some(Source::Answer(2)), "{finding:?}");
}

#[test]
fn ones_own_words_come_back_from_no_copycat() {
    let text = long()[0].answers[0].clone();
    let bank = [Answer { text: &text, miner: 0 }, Answer { text: &text, miner: 1 }];
    let task = Task { known: vec![], answers: vec![text.clone()] };
    assert!(
        !is_copy(&copies(&Device::cpu(), &asked(std::slice::from_ref(&task)), &bank, BITS).unwrap()[0][0]),
        "he was first"
    );
    let bank = [Answer { text: &text, miner: 1 }, Answer { text: &text, miner: 0 }];
    let late = copies(&Device::cpu(), &asked(&[task]), &bank, BITS).unwrap()[0][0];
    assert_eq!(late.source, Some(Source::Earlier(0)), "he copied then, and does so now");
}

#[test]
fn what_cannot_be_compared_is_no_copy() {
    let hostile = ["", " \n", "...", "\u{200b}", "\u{feff}\u{301}", "1 2 3 4 5 6", "a", "\u{6211}\u{5011}"];
    let mut answers: Vec<String> = hostile.iter().chain(&hostile).map(|text| (*text).to_owned()).collect();
    answers.push("x".repeat(300_000));
    answers.push("word ".repeat(100_000));
    for finding in &found(&[Task { known: vec![String::new()], answers }])[0] {
        assert!(!is_copy(finding), "{finding:?}");
    }
    assert!(found(&[]).is_empty(), "no prompt");
    assert_eq!(found(&[Task::default()]), [vec![]], "nobody answered");
    let alone = Task { answers: vec!["the only answer that there is to this".into()], ..Task::default() };
    assert_eq!(found(&[alone]), [vec![Finding::default()]], "nobody to copy");
}

#[test]
fn what_everybody_may_quote_is_no_evidence() {
    let mut task = long()[0].clone();
    let quoted = task.answers[0].clone();
    task.answers.push(quoted.clone());
    assert!(is_copy(&found(&[task.clone()])[0][4]), "a copy");
    task.known.push(quoted);
    assert!(!is_copy(&found(&[task])[0][4]), "of the prompt or the reference");
}

#[test]
fn the_first_is_the_originator() {
    let tasks = long();
    let edited = |text: &str| changed(text, 40, |_| "whatever".to_owned());
    for task in &tasks[..8] {
        let mut task = task.clone();
        let first = task.answers[2].clone();
        let second = edited(&first);
        // A copy of the first, a copy of that copy, and the first once more.
        task.answers.extend([second.clone(), second, first]);
        let found = &found(&[task])[0];
        for at in 4..7 {
            assert_eq!(found[at].source, Some(Source::Answer(2)), "{at}: {found:?}");
            assert!(is_copy(&found[at]), "{found:?}");
        }
        assert!(!is_copy(&found[2]), "the first owes nobody anything");
    }
}

#[test]
fn most_may_copy_one() {
    for task in &long()[..8] {
        let mut task = task.clone();
        let victim = task.answers[1].clone();
        // Eight of twelve: some of them with other words, each with its own.
        task.answers.extend(TRICKS[..4].iter().map(|(_, disguise)| disguise(&victim, &victim)));
        task.answers.extend((20..24).map(|every| changed(&victim, every, |_| format!("word{every}"))));
        for (finding, at) in found(&[task])[0].iter().zip(0..).skip(4) {
            assert!(is_copy(finding), "{at}: {finding:?}");
        }
    }
}

#[test]
fn a_familiar_pair_is_told_from_short_answers_too() {
    // The same short copy, by somebody who copies everywhere and by somebody who does not.
    let tasks = questions();
    let mut short: Vec<Task> = tasks.clone();
    for (task, index) in short.iter_mut().zip(0..) {
        task.answers.push(task.answers[0].clone());
        task.answers.push(if index < 5 { task.answers[0].clone() } else { format!("I cannot tell, number {index}.") });
    }
    let found = found(&short);
    let mut more = 0;
    for findings in &found[..5] {
        assert!(findings[4].evidence >= findings[5].evidence, "{findings:?}");
        more += usize::from(findings[4].evidence > findings[5].evidence);
    }
    assert!(more >= 4, "what is known of a pair counts");
    let named = found.iter().filter(|findings| findings[4].source == Some(Source::Answer(0))).count();
    assert!(named * 100 >= 98 * found.len(), "the source is whom he copies elsewhere: {named}");
}

#[test]
fn earlier_rounds_are_searched() {
    let tasks = long();
    let (past, present) = tasks.split_at(30);
    let bank: Vec<Answer<'_>> = past
        .iter()
        .flat_map(|task| task.answers.iter().zip([0, 1, 2, NOBODY]).map(|(text, miner)| Answer { text, miner }))
        .collect();
    let mut planted = present.to_vec();
    for (task, index) in planted.iter_mut().zip(0..) {
        // Miner 4 hands in what miner 1 said in another round, miner 5 what somebody said who has left; both a little changed.
        task.answers.push(changed(&past[index].answers[1], 9, |_| "whatever".to_owned()));
        task.answers.push(changed(&past[index].answers[3], 9, |_| "whatever".to_owned()));
    }
    let with = copies(&Device::cpu(), &asked(&planted), &bank, BITS).unwrap();
    for (findings, index) in with.iter().zip(0..) {
        assert_eq!(findings[4].source, Some(Source::Earlier(4 * index + 1)), "{findings:?}");
        assert_eq!(findings[5].source, Some(Source::Earlier(4 * index + 3)), "{findings:?}");
        assert!(findings[4..].iter().all(is_copy) && !findings[..4].iter().any(is_copy), "{findings:?}");
    }
    // One's own words are no copy.
    let mut own = present.to_vec();
    for (task, past) in own.iter_mut().zip(past) {
        task.answers[1].clone_from(&past.answers[1]);
    }
    let own = copies(&Device::cpu(), &asked(&own), &bank, BITS).unwrap();
    for (findings, index) in own.iter().zip(0..) {
        assert_ne!(findings[1].source, Some(Source::Earlier(4 * index + 1)), "{findings:?}");
    }
    // What others said to the same question is like it, as it was then.
    assert!(own.iter().filter(|findings| is_copy(&findings[1])).count() <= 1, "{own:?}");
}

#[test]
fn nothing_depends_on_company_or_device() {
    let mut tasks = long();
    for (task, index) in tasks.iter_mut().zip(0..) {
        let disguised = TRICKS[index % TRICKS.len()].1(&task.answers[0], &task.answers[1]);
        task.answers.push(disguised);
    }
    let all = found(&tasks);
    let reversed: Vec<Task> = tasks.iter().rev().cloned().collect();
    let mut again = found(&reversed);
    again.reverse();
    assert_eq!(all, again, "the order of prompts");
    for device in devices() {
        assert_eq!(copies(&device, &asked(&tasks), &[], BITS).unwrap(), all, "{}", device.name());
    }
}

#[test]
fn kinds_and_excerpts_are_those_of_the_tricks() {
    let task = &long()[3];
    let (text, other) = (&task.answers[0], &task.answers[1]);
    let kinds: BTreeMap<&str, Kind> =
        TRICKS.iter().map(|(trick, disguise)| (*trick, compare(&disguise(text, other), text).0)).collect();
    for (trick, kind) in [
        ("lookalikes", Kind::Exact),
        ("marks of a list", Kind::Exact),
        ("sentences in another order", Kind::Shuffled),
        ("half of it", Kind::Subset),
        ("as much again of one's own", Kind::Padded),
        ("other words here and there", Kind::Edited),
    ] {
        assert_eq!(kinds[trick], kind, "{trick}");
    }
    let (_, excerpt) = compare(&format!("and so {text}"), text);
    assert!(excerpt.split(' ').count() == 40, "an excerpt has at most forty words: {excerpt}");
}
