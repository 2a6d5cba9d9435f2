//! Every refusal with its file, line and field; and no bytes that panic.

use std::io::{Cursor, Write};

use proptest::prelude::*;

use super::*;

const SKIP: Options = Options { skip_bad: true };
const STRICT: Options = Options { skip_bad: false };

fn read(rows: impl Into<Vec<u8>>, references: impl Into<Vec<u8>>, options: Options) -> Result<(Round, Vec<Error>)> {
    let references: Vec<u8> = references.into();
    let references = (!references.is_empty()).then(|| Source::reader("ref.jsonl", Cursor::new(references)));
    Round::read([Source::reader("round.jsonl", Cursor::new(rows.into()))], references, options)
}

fn good(rows: &str, references: &str) -> Round {
    let (round, skipped) = read(rows, references, STRICT).expect("the round is good");
    assert!(skipped.is_empty(), "nothing was skipped");
    round
}

/// Reads rows of which one is bad and checks the place, the field and a part of the problem; then that skipping it
/// leaves `kept` responses.
#[track_caller]
fn refuses(rows: impl Into<Vec<u8>>, references: &str, place: (&str, usize, &str), part: &str, kept: usize) {
    let rows = rows.into();
    check(&read(rows.clone(), references, STRICT).expect_err("a bad row is refused"), place, part);
    match read(rows, references, SKIP) {
        Ok((round, skipped)) => {
            assert_eq!(round.responses().len(), kept, "what is left");
            assert_eq!(skipped.len(), 1, "one row is skipped: {skipped:?}");
            check(&skipped[0], place, part);
        }
        Err(error) => {
            assert_eq!(kept, 0, "rows are left: {error}");
            assert!(matches!(error, Error::File { .. }), "the round is empty: {error:?}");
            assert!(error.to_string().contains(part), "the error quotes the first one: {error}");
        }
    }
}

#[track_caller]
fn check(error: &Error, place: (&str, usize, &str), part: &str) {
    let Error::Row { file, line, field, problem, .. } = error else { panic!("not a row error: {error:?}") };
    assert_eq!((file.as_str(), *line, field.as_str()), place, "the place: {error}");
    assert!(problem.contains(part), "{problem:?} says {part:?}");
    assert!(error.remedy().is_some(), "there is a remedy");
}

const GOOD: &str = r#"{"prompt_id":"p","prompt":"ask","miner":"a","response":"one"}"#;

#[test]
fn rows_become_a_round() {
    let round = good(
        concat!(
            "\u{feff}{\"prompt_id\":\"p\",\"miner\":\"a\",\"response\":\"one\",\"uid\":3,\"block\":10,\"other\":[1,{}]}\r\n",
            "\r\n  \n",
            "{\"task_id\":\"p\",\"prompt\":\"ask\",\"hotkey\":\"b\",\"response\":\"\",\"uid\":null,\"block\":9}\n",
            "{\"prompt_id\":-7,\"task_id\":\"-7\",\"miner\":18446744073709551615,\"response\":\"x\",\"embedding\":[3,4.0]}"
        ),
        concat!(
            "{\"prompt_id\":\"p\",\"reference\":\"right\",\"prompt\":\"ask\"}\n",
            "{\"prompt_id\":-7,\"response\":\"as response\",\"tokens\":[5,0],\"pattern\":\"x\"}\n",
            "{\"prompt_id\":\"nobody\",\"reference\":\"unused\"}"
        ),
    );
    let rule = Some(Rule { compare: Match::Regex, pattern: Some("x".into()) });
    assert_eq!(
        round.prompts(),
        [
            Prompt {
                id: "p".into(),
                text: Some("ask".into()),
                reference: Some("right".into()),
                tokens: None,
                rule: None
            },
            Prompt {
                id: "-7".into(),
                text: None,
                reference: Some("as response".into()),
                tokens: Some(vec![5, 0]),
                rule
            },
        ],
        "prompts"
    );
    let names: Vec<_> = round.miners().iter().map(|miner| (miner.hotkey.as_str(), miner.uid)).collect();
    assert_eq!(names, [("a", Some(Uid(3))), ("b", None), ("18446744073709551615", None)], "miners");
    let responses: Vec<_> = round.responses().iter().map(|r| (r.prompt, r.miner, r.block, r.line)).collect();
    assert_eq!(responses, [(0, 0, Some(10), 1), (0, 1, Some(9), 4), (1, 2, None, 5)], "responses");
    assert_eq!(round.responses()[2].embedding.as_deref(), Some([3.0_f32, 4.0].as_slice()), "as it came");
    assert_eq!((round.embedding_length(), round.unused_references()), (Some(2), 1), "counts");
    assert_eq!(round.arrivals(), [vec![1, 0], vec![2]], "by block");
    assert_eq!(round.files(), ["round.jsonl", "ref.jsonl"], "files");
    let first = &round.responses()[0];
    assert_eq!(round.prompt_of(first).map(|prompt| prompt.id.as_str()), Some("p"), "the response's prompt");
    assert_eq!(round.miner_of(first).map(|miner| miner.hotkey.as_str()), Some("a"), "the response's miner");
}

#[test]
fn arrivals_of_one_block_go_by_hotkey_and_without_blocks_by_order() {
    let rows: String = ["c 5", "a 5", "b 4"]
        .iter()
        .map(|row| row.split_once(' ').expect("two words"))
        .map(|(miner, block)| {
            format!("{{\"prompt_id\":1,\"miner\":\"{miner}\",\"response\":\"\",\"block\":{block}}}\n")
        })
        .collect();
    assert_eq!(good(&rows, "").arrivals(), [vec![2, 1, 0]], "b first, then a before c");
    let rows = rows.replace("\"block\"", "\"ignored\"");
    assert_eq!(good(&rows, "").arrivals(), [vec![0, 1, 2]], "input order");
}

#[test]
fn what_is_not_json_is_refused() {
    let line = |second: &str| format!("{GOOD}\n\n{second}\n");
    for (bad, part) in [
        ("{", "not valid JSON"),
        ("{\"prompt_id\":1}}", "not valid JSON"),
        ("{\"a\":1} {\"b\":2}", "not valid JSON"),
        ("null", "not a JSON object"),
        ("[{}]", "not a JSON object"),
        ("prompt_id,miner", "not a JSON object"),
        ("{\"unknown\":NaN}", "not finite"),
    ] {
        refuses(line(bad), "", ("round.jsonl", 3, "row"), part, 1);
    }
    let deep = format!("{{\"unknown\":{}", "[".repeat(100_000));
    refuses(line(&deep), "", ("round.jsonl", 3, "row"), "EOF while parsing", 1);
    let mut bytes = line("").into_bytes();
    bytes.extend_from_slice(b"{\"prompt_id\":\"\xff\"}");
    refuses(bytes, "", ("round.jsonl", 4, "row"), "UTF-8 at byte 15", 1);
    refuses(
        line("{\"miner\":\"b\",\"response\":\"\\ud800\"}"),
        "",
        ("round.jsonl", 3, "response"),
        "not valid JSON",
        1,
    );
    let long = format!("{GOOD}\n{{\"x\":\"{}\"}}\n{}", "y".repeat(MAX_LINE_BYTES), GOOD.replace("\"a\"", "\"b\""));
    refuses(long, "", ("round.jsonl", 2, "row"), "longer than 16 MiB", 2);
}

#[test]
fn fields_that_are_missing_or_ill_typed_are_refused() {
    for (bad, field, part) in [
        (r#"{"miner":"b","response":""}"#, "prompt_id", "missing"),
        (r#"{"prompt_id":null,"miner":"b","response":""}"#, "prompt_id", "missing"),
        (r#"{"prompt_id":1.5,"miner":"b","response":""}"#, "prompt_id", "fraction"),
        (r#"{"prompt_id":18446744073709551616,"miner":"b","response":""}"#, "prompt_id", "too large"),
        (r#"{"prompt_id":true,"miner":"b","response":""}"#, "prompt_id", "a boolean"),
        (r#"{"prompt_id":"","miner":"b","response":""}"#, "prompt_id", "is empty"),
        (r#"{"task_id":"","miner":"b","response":""}"#, "task_id", "is empty"),
        (r#"{"prompt_id":"p","task_id":"q","miner":"b","response":""}"#, "task_id", "prompt_id is \"p\""),
        (r#"{"prompt_id":"p","response":""}"#, "miner", "missing"),
        (r#"{"prompt_id":"p","hotkey":"","response":""}"#, "hotkey", "is empty"),
        (r#"{"prompt_id":"p","hotkey":{"a":{}},"response":""}"#, "hotkey", "an object"),
        (r#"{"prompt_id":"p","miner":"b","hotkey":"c","response":""}"#, "hotkey", "miner is \"b\""),
        (r#"{"prompt_id":"p","miner":"b"}"#, "response", "missing"),
        (r#"{"prompt_id":"p","miner":"b","response":7}"#, "response", "an integer"),
        (r#"{"prompt_id":"p","miner":"b","response":"","response":""}"#, "response", "twice"),
        (r#"{"prompt_id":"p","miner":"b","response":"","prompt":[]}"#, "prompt", "a list"),
        (r#"{"prompt_id":"p","miner":"b","response":"","reference":1}"#, "reference", "an integer"),
        (r#"{"prompt_id":"p","miner":"b","response":"","uid":65536}"#, "uid", "65535"),
        (r#"{"prompt_id":"p","miner":"b","response":"","uid":-1}"#, "uid", "65535"),
        (r#"{"prompt_id":"p","miner":"b","response":"","uid":"1"}"#, "uid", "a string"),
        (r#"{"prompt_id":"p","miner":"b","response":"","uid":NaN}"#, "uid", "not finite"),
        (r#"{"prompt_id":"p","miner":"b","response":"","block":-1}"#, "block", "not a block number"),
        (r#"{"prompt_id":"p","miner":"b","response":"","block":1.0}"#, "block", "fraction"),
        (r#"{"prompt_id":"p","miner":"b","response":"","embedding":"AAAA"}"#, "embedding", "a string"),
        (r#"{"prompt_id":"p","miner":"b","response":"","embedding":[]}"#, "embedding", "is empty"),
        (r#"{"prompt_id":"p","miner":"b","response":"","embedding":[0,-0.0]}"#, "embedding", "all zero"),
        (r#"{"prompt_id":"p","miner":"b","response":"","embedding":[1,NaN]}"#, "embedding", "not finite"),
        (r#"{"prompt_id":"p","miner":"b","response":"","embedding":[-Infinity]}"#, "embedding", "not finite"),
        (r#"{"prompt_id":"p","miner":"b","response":"","embedding":[1,1e39]}"#, "embedding[1]", "finite"),
        (r#"{"prompt_id":"p","miner":"b","response":"","embedding":[1,1e999]}"#, "embedding", "out of range"),
        (r#"{"prompt_id":"p","miner":"b","response":"","embedding":[1,null,"x"]}"#, "embedding[1]", "finite"),
        (r#"{"prompt_id":"p","miner":"b","response":"","embedding":[[1,[2]],{"a":{}}]}"#, "embedding[0]", "finite"),
        (r#"{"prompt_id":"p","miner":"b","response":"","logits":["x"]}"#, "logits", "a list"),
        (r#"{"prompt_id":"p","miner":"b","response":"","logits":""}"#, "logits", "not the name of a file"),
        (r#"{"prompt_id":"p","miner":"b","response":"","logits":"/etc/passwd"}"#, "logits", "not the name of a file"),
        (r#"{"prompt_id":"p","miner":"b","response":"","logprobs":"a/../../b"}"#, "logprobs", "not the name of a file"),
        (r#"{"prompt_id":"p","miner":"b","response":"","logprobs":"a\u0000b"}"#, "logprobs", "not the name of a file"),
    ] {
        refuses(format!("{GOOD}\n{bad}"), "", ("round.jsonl", 2, field), part, 1);
    }
}

#[test]
fn rows_that_contradict_each_other_are_refused() {
    let row = |prompt: &str, miner: &str, more: &str| {
        format!("{{\"prompt_id\":\"{prompt}\",\"miner\":\"{miner}\",\"response\":\"\"{more}}}\n")
    };
    for (first, second, field, part) in [
        (row("p", "a", ""), row("p", "a", ""), "miner", "round.jsonl:1"),
        (row("p", "a", ",\"uid\":1"), row("p", "b", ",\"uid\":1"), "uid", "belongs to \"a\" in round.jsonl:1"),
        (row("p", "a", ",\"uid\":1"), row("q", "a", ",\"uid\":2"), "uid", "has uid 1 in round.jsonl:1"),
        (row("p", "a", ",\"prompt\":\"x\""), row("p", "b", ",\"prompt\":\"y\""), "prompt", "round.jsonl:1"),
        (row("p", "a", ",\"reference\":\"x\""), row("p", "b", ",\"reference\":\"y\""), "reference", "round.jsonl:1"),
        (row("p", "a", ",\"block\":1"), row("p", "b", ""), "block", "missing, but in round.jsonl:1"),
        (row("p", "a", ""), row("p", "b", ",\"block\":1"), "block", "given, but in round.jsonl:1"),
        (
            row("p", "a", ",\"embedding\":[1]"),
            row("p", "b", ",\"embedding\":[1,2]"),
            "embedding",
            "round.jsonl:1 has 1",
        ),
    ] {
        refuses(format!("{first}{second}"), "", ("round.jsonl", 2, field), part, 1);
    }
    // An alias is named as the row spells it.
    let twice = format!("{}{}", row("p", "a", ""), row("p", "a", "").replace("miner", "hotkey"));
    refuses(twice, "", ("round.jsonl", 2, "hotkey"), "round.jsonl:1", 1);
    // Prompts may differ in whether they have blocks, and a miner may give its uid only once.
    let rows = row("p", "a", ",\"block\":1,\"uid\":4") + &row("q", "a", "") + &row("p", "b", ",\"block\":1");
    assert_eq!(good(&rows, "").miners()[0].uid, Some(Uid(4)), "the uid is kept");
}

#[test]
fn references_are_checked() {
    let rows = r#"{"prompt_id":"p","prompt":"ask","miner":"a","response":"one","reference":"right"}"#;
    for (bad, field, part) in [
        (r#"{"prompt_id":"p","reference":"wrong"}"#, "reference", "round.jsonl:1"),
        (r#"{"prompt_id":"p","response":"wrong"}"#, "response", "round.jsonl:1"),
        (r#"{"prompt_id":"p","reference":"right","prompt":"other"}"#, "prompt", "round.jsonl:1"),
        (r#"{"prompt_id":"p"}"#, "reference", "missing"),
        (r#"{"prompt_id":"p","reference":1}"#, "reference", "an integer"),
        (r#"{"reference":"right"}"#, "prompt_id", "missing"),
        (r#"{"task_id":"","reference":"right"}"#, "task_id", "empty"),
        (r#"{"prompt_id":"p","reference":"right""#, "row", "not valid JSON"),
        (r#"{"prompt_id":"p","reference":"right","tokens":[]}"#, "tokens", "is empty"),
        (r#"{"prompt_id":"p","reference":"right","tokens":"1"}"#, "tokens", "a string"),
        (r#"{"prompt_id":"p","reference":"right","tokens":[1,-1]}"#, "tokens[1]", "no token's id"),
        (r#"{"prompt_id":"p","reference":"right","tokens":[16777216]}"#, "tokens[0]", "no token's id"),
        (r#"{"prompt_id":"p","reference":"right","tokens":[0.5]}"#, "tokens[0]", "no token's id"),
        (r#"{"prompt_id":"p","reference":"right","tokens":[7,7]}"#, "tokens", "differs from that of an earlier row"),
        (r#"{"prompt_id":"p","reference":"right","match":"digits"}"#, "match", "is \"digits\""),
        (r#"{"prompt_id":"p","reference":"right","match":"regex"}"#, "pattern", "missing"),
        (r#"{"prompt_id":"p","reference":"right","match":"text","pattern":"x"}"#, "pattern", "takes none"),
        (r#"{"prompt_id":"p","reference":"right","match":"text"}"#, "match", "differs from that"),
    ] {
        let references =
            format!("{{\"prompt_id\":\"p\",\"reference\":\"right\",\"tokens\":[7],\"match\":\"number\"}}\n{bad}");
        refuses(rows, &references, ("ref.jsonl", 2, field), part, 1);
    }
    let references = "{\"prompt_id\":\"p\",\"reference\":\"x\"}\n{\"prompt_id\":\"p\",\"reference\":\"y\"}";
    refuses(GOOD, references, ("ref.jsonl", 2, "reference"), "ref.jsonl:1", 1);
}

#[test]
fn a_row_left_out_leaves_nothing_behind() {
    let rows = concat!(
        r#"{"prompt_id":"ghost","prompt":"x","miner":"ghost","response":"","uid":1,"embedding":[0]}"#,
        "\n",
        r#"{"prompt_id":"p","miner":"a","response":"","uid":1}"#,
        "\n",
        r#"{"prompt_id":"other","miner":"other","response":"","uid":1}"#,
    );
    let (round, skipped) = read(rows, "", SKIP).expect("one row is good");
    assert_eq!((round.prompts().len(), round.miners().len(), skipped.len()), (1, 1, 2), "no ghosts");
}

#[test]
fn an_empty_round_is_an_error() {
    for rows in ["", "\n \r\n", "\u{feff}"] {
        let error = read(rows, "", STRICT).expect_err("no rows");
        let Error::File { file, field, .. } = &error else { panic!("{error:?}") };
        assert_eq!((file.as_str(), field.as_str()), ("round.jsonl", "rows"), "the place");
    }
    assert!(matches!(Round::read([], [], STRICT), Err(Error::Usage { .. })), "no file");
    let twice = Round::read([Source::path("-")], [Source::path("-")], STRICT);
    assert!(matches!(twice, Err(Error::Usage { .. })), "standard input twice");
    let gone = Round::read([Source::path("/nowhere/round.jsonl")], [], STRICT);
    assert!(matches!(gone, Err(Error::Io { .. })), "no such file");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("writing to memory");
    encoder.finish().expect("writing to memory")
}

/// Gives one byte at a time, as a slow pipe may.
struct Slow(Cursor<Vec<u8>>);

impl Read for Slow {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(1);
        self.0.read(&mut buffer[..length])
    }
}

#[test]
fn gzip_is_told_by_name_and_by_its_first_bytes() {
    let plain = good(GOOD, "");
    let zipped = gzip(GOOD.as_bytes());
    assert_eq!(read(zipped.clone(), "", STRICT).expect("by its bytes").0, plain, "the same round");
    let slow = Source::reader("round.jsonl", Slow(Cursor::new(zipped.clone())));
    assert_eq!(Round::read([slow], [], STRICT).expect("slowly").0, plain, "the same round");
    let folder = tempfile::tempdir().expect("a folder");
    for (name, bytes) in [("round.jsonl.gz", &zipped), ("round.data", &zipped), ("plain", &GOOD.as_bytes().to_vec())] {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        let (round, _) = Round::read([Source::path(&path)], [], STRICT).expect("by its name");
        assert_eq!(round.responses(), plain.responses(), "{name}");
    }
    // Two members one after the other are one file, as `cat a.gz b.gz` makes it.
    let mut two = gzip(format!("{GOOD}\n").as_bytes());
    two.extend(gzip(GOOD.replace("\"a\"", "\"b\"").as_bytes()));
    assert_eq!(read(two, "", STRICT).expect("two members").0.responses().len(), 2, "both are read");
}

#[test]
fn a_broken_gzip_stream_is_an_error_even_when_skipping() {
    let rows: String = (0..2000).map(|n| GOOD.replace("\"a\"", &format!("\"{n}\"")) + "\n").collect();
    let whole = gzip(rows.as_bytes());
    for cut in [2, 10, whole.len() / 2, whole.len() - 1] {
        for options in [STRICT, SKIP] {
            let error = read(whole[..cut].to_vec(), "", options).expect_err("a cut stream");
            let Error::Row { file, field, line, .. } = &error else { panic!("{error:?}") };
            assert_eq!((file.as_str(), field.as_str()), ("round.jsonl", "gzip"), "the place");
            assert!(*line >= 1, "a line is named");
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("plain.gz");
    std::fs::write(&path, GOOD).expect("written");
    assert!(matches!(Round::read([Source::path(&path)], [], SKIP), Err(Error::Row { .. })), "named .gz, but plain");
}

#[test]
fn rows_in_memory_meet_the_same_checks() {
    let row = |miner: &str| Row { prompt_id: "p".into(), miner: miner.into(), response: "x".into(), ..Row::default() };
    let reference = ReferenceRow { prompt_id: "p".into(), reference: "r".into(), ..ReferenceRow::default() };
    let (round, _) = Round::from_rows([row("a"), row("b")], [reference], STRICT).expect("good rows");
    assert_eq!(round.prompts()[0].reference.as_deref(), Some("r"), "the reference");
    let error = Round::from_rows([row("a"), row("a")], [], STRICT).expect_err("twice");
    check(&error, ("rows", 2, "miner"), "rows:1");
    let error = Round::from_rows([row("a"), row("")], [], STRICT).expect_err("no name");
    check(&error, ("rows", 2, "miner"), "empty");
    let nan = Row { embedding: Some(vec![f32::NAN]), ..row("a") };
    check(&Round::from_rows([nan], [], STRICT).expect_err("NaN"), ("rows", 1, "embedding[0]"), "finite");
    for size in [f32::MAX, f32::from_bits(1)] {
        let row = Row { embedding: Some(vec![size, 0.0]), ..row("a") };
        let (round, _) = Round::from_rows([row], [], STRICT).expect("finite");
        assert_eq!(round.responses()[0].embedding.as_deref(), Some([size, 0.0].as_slice()), "{size}");
    }
}

#[test]
fn texts_are_read_one_a_line() {
    let source = |text: &str| Source::reader("texts.jsonl", Cursor::new(text.as_bytes().to_vec()));
    let (texts, _) = read_texts(source("{\"text\":\"a\"}\n\n{\"text\":\"\",\"id\":7}"), STRICT).expect("good");
    assert_eq!(texts, [Text { text: "a".into(), line: 1 }, Text { text: String::new(), line: 3 }], "texts");
    assert!(read_texts(source(""), STRICT).expect("nothing").0.is_empty(), "an empty file is legal");
    let bad = "{\"text\":\"a\"}\n{\"text\":1}\n{}\n{\"text\":\"b\"}";
    check(&read_texts(source(bad), STRICT).expect_err("bad"), ("texts.jsonl", 2, "text"), "an integer");
    let (texts, skipped) = read_texts(source(bad), SKIP).expect("skipped");
    assert_eq!((texts.len(), skipped.len()), (2, 2), "two each");
    check(&skipped[1], ("texts.jsonl", 3, "text"), "missing");
    let mut stream = Texts::open(source(bad), STRICT).expect("open");
    assert!(stream.next().is_some_and(|text| text.is_ok()), "the first text");
    assert!(stream.next().is_some_and(|text| text.is_err()), "the bad row");
    assert!(stream.next().is_none(), "the end");
}

#[test]
fn answers_are_prompts_of_their_own() {
    let source = |text: &str| Source::reader("folder/pairs.jsonl", Cursor::new(text.as_bytes().to_vec()));
    let good = r#"{"prompt":"q","response":"","reference":"r","tokens":[3],"match":"text","logits":"a.npy"}"#;
    let bare = r#"{"prompt":"q","response":"x","prompt_id":7}"#;
    let (round, _) = Round::read_answers(source(&format!("{good}\n\n{bare}\n{bare}")), false, STRICT).expect("good");
    let ids: Vec<&str> = round.prompts().iter().map(|prompt| prompt.id.as_str()).collect();
    assert_eq!(ids, ["folder/pairs.jsonl:1", "folder/pairs.jsonl:3", "folder/pairs.jsonl:4"], "named by line");
    let (prompt, response) = (&round.prompts()[0], &round.responses()[0]);
    assert_eq!((prompt.text.as_deref(), prompt.reference.as_deref()), (Some("q"), Some("r")), "the texts");
    assert_eq!(prompt.tokens.as_deref(), Some([3].as_slice()), "the tokens");
    assert_eq!(prompt.rule, Some(Rule { compare: Match::Text, pattern: None }), "the rule");
    assert_eq!(response.logits.as_deref(), Some(Path::new("folder/a.npy")), "beside the file");
    assert_eq!((round.prompts()[1].tokens.as_ref(), round.prompts()[1].rule.as_ref()), (None, None), "of its own row");

    let blank = r#"{"prompt":"q","response":"x","reference":" "}"#;
    for (bad, field, part) in [
        (bare, "reference", "is missing, and this kind of loss needs one"),
        (blank, "reference", "is missing"),
        (r#"{"response":"x","reference":"r"}"#, "prompt", "is missing"),
        (r#"{"prompt":"q","reference":"r"}"#, "response", "is missing"),
        (r#"{"prompt":"q","response":"x","reference":"r","tokens":[]}"#, "tokens", "is empty"),
        (r#"{"prompt":"q","response":"x","reference":"r","logits":"../a"}"#, "logits", "not the name of a file"),
    ] {
        let text = format!("{good}\n{bad}\n{good}");
        let error = Round::read_answers(source(&text), true, STRICT).expect_err(bad);
        check(&error, ("folder/pairs.jsonl", 2, field), part);
        let (round, skipped) = Round::read_answers(source(&text), true, SKIP).expect("skipped");
        assert_eq!((round.responses().len(), skipped.len()), (2, 1), "{bad}");
    }
    assert!(Round::read_answers(source(blank), false, STRICT).is_ok(), "a kind that needs none");
}

#[test]
fn pairs_are_read_one_a_line() {
    let source = |text: &str| Source::reader("pairs.jsonl", Cursor::new(text.as_bytes().to_vec()));
    let good = r#"{"a":"x","b":"","score":-2,"other":[1]}"#;
    let pairs = read_pairs(source(&format!("{good}\n\n{}", r#"{"score":4.25,"b":"z","a":"y"}"#))).expect("good");
    let pair = |a: &str, b: &str, score| Pair { a: a.into(), b: b.into(), score };
    assert_eq!(pairs, [pair("x", "", -2.0), pair("y", "z", 4.25)], "pairs");
    for (bad, field, part) in [
        (r#"{"b":"","score":1}"#, "a", "is missing"),
        (r#"{"a":"","b":null,"score":1}"#, "b", "is missing"),
        (r#"{"a":"","b":[],"score":1}"#, "b", "is a list, not a string"),
        (r#"{"a":"","b":""}"#, "score", "is missing"),
        (r#"{"a":"","b":"","score":"1"}"#, "score", "is a string, not a number"),
        (r#"{"a":"","b":"","score":NaN}"#, "score", "not finite"),
        (r#"{"a":"","b":"","score":1e999}"#, "score", "number out of range"),
        (r#"{"a":"","a":"","b":"","score":1}"#, "a", "stands twice"),
        ("x,y,1", "row", "is not a JSON object"),
    ] {
        let error = read_pairs(source(&format!("{good}\n{bad}\n"))).expect_err(bad);
        check(&error, ("pairs.jsonl", 2, field), part);
    }
    for without_order in ["", good, &format!("{good}\n{good}")] {
        let error = read_pairs(source(without_order)).expect_err("no order").to_string();
        assert!(error.starts_with("pairs.jsonl: score: ") && error.contains("no two of them"), "{error}");
    }
}

/// Rows that are nearly right, so that the checks behind the parser are reached as well.
fn near_row() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        Just("null"),
        Just("true"),
        Just("\"\""),
        Just("\"a\""),
        Just("\"b\""),
        Just("0"),
        Just("1"),
        Just("65535"),
        Just("70000"),
        Just("-1"),
        Just("1.5"),
        Just("1e40"),
        Just("1e400"),
        Just("NaN"),
        Just("[1,2]"),
        Just("[0,0]"),
        Just("[1]"),
        Just("[]"),
        Just("{}"),
        Just("\"\\ud800\""),
        Just("\"\\u0000\""),
        Just("[[[]]]"),
        Just("]"),
    ];
    let key = prop::sample::select(vec![
        "prompt_id",
        "task_id",
        "prompt",
        "miner",
        "hotkey",
        "response",
        "reference",
        "uid",
        "block",
        "embedding",
        "text",
        "a",
        "b",
        "score",
        "other",
    ]);
    prop::collection::vec((key, value), 0..8).prop_map(|fields| {
        let fields: Vec<_> = fields.into_iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
        format!("{{{}}}\n", fields.join(","))
    })
}

fn holds(round: &Round) {
    let mut seen = std::collections::HashSet::new();
    for response in round.responses() {
        assert!(round.prompt_of(response).is_some(), "the prompt's index fits");
        assert!(round.miner_of(response).is_some(), "the miner's index fits");
        assert!(seen.insert((response.prompt, response.miner)), "no pair twice");
        if let Some(embedding) = &response.embedding {
            assert_eq!(Some(embedding.len()), round.embedding_length(), "one length");
            assert!(embedding.iter().all(|x| x.is_finite()), "finite: {embedding:?}");
            assert!(embedding.iter().any(|x| *x != 0.0), "with a direction: {embedding:?}");
        }
    }
    for prompt in 0..round.prompts().len() {
        let mut blocks = round.responses().iter().filter(|r| r.prompt as usize == prompt).map(|r| r.block.is_some());
        let first = blocks.next().expect("every prompt has a response");
        assert!(blocks.all(|block| block == first), "blocks in all rows of a prompt or in none");
    }
    for miner in 0..round.miners().len() {
        assert!(round.responses().iter().any(|r| r.miner as usize == miner), "every miner has a response");
    }
    assert_eq!(round.arrivals().iter().map(Vec::len).sum::<usize>(), round.responses().len(), "each arrives once");
}

proptest! {
    #[test]
    fn no_bytes_panic(rows in prop::collection::vec(any::<u8>(), 0..400), skip_bad: bool) {
        let _ = read(rows.clone(), rows.clone(), Options { skip_bad });
        let _ = read(gzip(&rows), "", Options { skip_bad });
        let mut damaged = gzip(GOOD.as_bytes());
        for (at, byte) in rows.iter().enumerate().take(4) {
            let length = damaged.len();
            damaged[(at * 97 + usize::from(*byte)) % length] ^= *byte;
        }
        let _ = read(damaged, "", Options { skip_bad });
        let _ = read_texts(Source::reader("t", Cursor::new(rows.clone())), Options { skip_bad });
        let source = || Source::reader("p", Cursor::new(rows.clone()));
        let _ = read_pairs(source());
        let _ = read_copies(source());
        let _ = read_scores(source());
        let _ = read_quality(source());
        let table = [b"miner,a\n".as_slice(), &rows].concat();
        let _ = read_quality(Source::reader("q", Cursor::new(table)));
    }

    #[test]
    fn near_rows_give_a_sound_round_or_an_error(
        rows in prop::collection::vec(near_row(), 0..30),
        references in prop::collection::vec(near_row(), 0..5),
        skip_bad: bool,
    ) {
        if let Ok((round, skipped)) = read(rows.concat(), references.concat(), Options { skip_bad }) {
            holds(&round);
            prop_assert!(skip_bad || skipped.is_empty());
        }
    }
}
