//! The command as a user runs it: files, streams, exit codes and everything that it says to a human.
#![cfg(feature = "cli")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up must fail")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::package;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder to run in, with an empty model store: what a test leaves behind goes with it.
struct Place {
    folder: TempDir,
}

/// What came of a run.
struct Run {
    code: i32,
    out: String,
    err: String,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    fn rows(&self, name: &str) -> Vec<Value> {
        self.read(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// All names in the folder, hidden ones included.
    fn names(&self) -> Vec<String> {
        names(self.folder.path())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tauscore"));
        command.args(args).current_dir(self.folder.path());
        command.env("TAUSCORE_HOME", self.path("home")).env("COLUMNS", "100").env_remove("TAUSCORE_HUB");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, args: &[&str]) -> Run {
        let output = self.command(args).output().unwrap();
        Run {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// A copy of the tiny model as `model`, where the integer form may be written beside it.
    fn copy_model(&self) {
        let model = PathBuf::from(model());
        fs::create_dir_all(self.path("model/1_Pooling")).unwrap();
        for name in names(&model) {
            // Not what other tests have converted.
            if model.join(&name).is_file() && name != "model.xq1" {
                fs::copy(model.join(&name), self.path("model").join(&name)).unwrap();
            }
        }
        fs::copy(model.join("1_Pooling/config.json"), self.path("model/1_Pooling/config.json")).unwrap();
    }

    /// `score` with the tiny model on the CPU.
    fn score(&self, args: &[&str]) -> Run {
        let model = model();
        // The default kind of loss needs a language model, which has tests of its own.
        let loss: &[&str] =
            if args.iter().any(|arg| ["--loss", "--config"].contains(arg)) { &[] } else { &["--loss", "embedding"] };
        self.run(&[&["score", "--model", &model, "--device", "cpu"], loss, args].concat())
    }

    /// As [`Place::score`], where nothing may go wrong.
    fn good_score(&self, args: &[&str]) -> Run {
        let run = self.score(args);
        assert_eq!(run.code, 0, "{args:?}: {}", run.err);
        run
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn model() -> String {
    package().join("datasets/models/f32-mean").display().to_string()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

/// Three miners, three prompts; carol copies alice one block later and leaves the last prompt out.
fn rows() -> Vec<Value> {
    let row = |prompt: u32, miner: &str, uid: u16, block: u64, response: &str| {
        json!({"prompt_id": format!("p{prompt}"), "prompt": format!("question {prompt}"), "miner": miner, "uid": uid,
            "block": block, "response": response, "unknown": [1, {"a": null}]})
    };
    vec![
        row(1, "carol", 4, 11, "the answer is seven"),
        row(1, "alice", 2, 10, "the answer is seven"),
        row(1, "bob", 3, 10, "a banana, I think"),
        row(2, "bob", 3, 20, "four"),
        row(2, "alice", 2, 21, "it must be twelve of them"),
        row(2, "carol", 4, 22, "it must be twelve of them"),
        row(3, "alice", 2, 30, "nobody knows"),
        row(3, "bob", 3, 31, "x y z"),
    ]
}

fn references() -> Vec<Value> {
    (1..=4)
        .map(|prompt| json!({"prompt_id": format!("p{prompt}"), "reference": format!("seven or {prompt}")}))
        .collect()
}

/// A place with `round.jsonl` and `references.jsonl`.
fn place() -> Place {
    let place = Place::new();
    place.write("round.jsonl", lines(&rows()));
    place.write("references.jsonl", lines(&references()));
    place
}

const ROUND: [&str; 3] = ["round.jsonl", "--references", "references.jsonl"];

#[test]
fn score_writes_what_it_documents() {
    let place = place();
    let run = place.good_score(&[&ROUND[..], &["--out", "out"]].concat());
    assert_eq!(
        names(&place.path("out")),
        ["copies.json", "criteria.toml", "miners.json", "scores.jsonl", "similarity.json", "weights.json"],
        "the files"
    );
    assert_eq!(place.names(), ["out", "references.jsonl", "round.jsonl"], "and nothing beside them");
    assert!(run.err.contains("device: CPU"), "it says where it runs: {}", run.err);
    assert!(run.err.contains("1 references are to prompts that nobody answered"), "p4: {}", run.err);

    let scores = place.rows("out/scores.jsonl");
    assert_eq!(scores.len(), rows().len(), "one row a response");
    for (row, given) in scores.iter().zip(rows()) {
        let documented = [
            "accuracy",
            "chars",
            "copy_evidence",
            "copy_kind",
            "copy_of",
            "excerpt",
            "loss",
            "miner",
            "nearest",
            "novelty",
            "prompt_id",
            "score",
            "score_u16",
            "tokens",
            "truncated",
        ];
        assert_eq!(keys(row), documented, "the fields of a score");
        assert_eq!((&row["prompt_id"], &row["miner"]), (&given["prompt_id"], &given["miner"]), "input order is kept");
        assert_eq!(row["chars"], given["response"].as_str().unwrap().chars().count(), "characters");
        assert_eq!(row["truncated"], false, "nothing is longer than 48 tokens");
        assert!(row["tokens"].as_u64().unwrap() >= 3, "[CLS], a token, [SEP]: {row}");
        let first = ["alice", "bob", "alice"][given["prompt_id"].as_str().unwrap()[1..].parse::<usize>().unwrap() - 1];
        let first =
            row["prompt_id"] == "p2" && row["miner"] == "bob" || row["prompt_id"] != "p2" && row["miner"] == first;
        assert_eq!(row["nearest"].is_null(), first, "who came first has nobody before him: {row}");
        if first {
            assert_eq!(row["novelty"], 1.0, "nothing before: {row}");
        } else {
            assert_eq!(
                keys(&row["nearest"]),
                ["excerpt", "miner", "prompt_id", "similarity"],
                "the fields of a neighbour"
            );
            assert_eq!(row["nearest"]["prompt_id"], row["prompt_id"], "without history only the same prompt counts");
        }
    }
    for copy in [0, 5] {
        let near = &scores[copy]["nearest"];
        assert_eq!(near["miner"], "alice", "carol copies alice: {near}");
        assert_eq!(near["similarity"].as_f64(), Some(1.0), "byte for byte: {near}");
        assert_eq!(near["excerpt"], scores[copy]["excerpt"], "and both begin alike");
        assert_eq!(near["excerpt"], rows()[copy]["response"], "as they were handed in");
        assert_eq!(scores[copy]["novelty"].as_f64(), Some(0.0), "a copy is not novel");
    }

    let miners = place.json("out/miners.json");
    let documented = [
        "accuracy",
        "accuracy_interval",
        "copies",
        "miner",
        "novelty",
        "prompts",
        "score",
        "uid",
        "weight",
        "weight_u16",
    ];
    for miner in miners.as_array().unwrap() {
        assert_eq!(keys(miner), documented, "the fields of a miner");
    }
    let by_name: BTreeMap<&str, &Value> =
        miners.as_array().unwrap().iter().map(|miner| (miner["miner"].as_str().unwrap(), miner)).collect();
    assert_eq!(by_name["carol"]["prompts"], 2, "carol left one out");
    assert_eq!(by_name["carol"]["uid"], 4, "the uid of the rows");
    let best = &miners[0];
    assert_eq!(best["weight_u16"], 65_535, "the best first, upscaled to the top");
    assert_eq!(miners[2]["miner"], "carol", "the copycat last");
    let total: f64 = by_name.values().map(|miner| miner["weight"].as_f64().unwrap()).sum();
    assert!((total - 1.0).abs() < 1e-12, "weights are shares: {total}");

    let weights = place.json("out/weights.json");
    assert_eq!(keys(&weights), ["by_hotkey", "by_uid", "u16"], "the fields of the weights");
    assert_eq!(weights["u16"]["uids"], json!([2, 3, 4]), "uids in order");
    for (index, name) in ["alice", "bob", "carol"].into_iter().enumerate() {
        let (miner, uid) = (by_name[name], (index + 2).to_string());
        assert_eq!(weights["by_hotkey"][name], miner["weight"], "{name} by hotkey");
        assert_eq!(weights["by_uid"][&uid], miner["weight"], "{name} by uid");
        assert_eq!(weights["u16"]["values"][index], miner["weight_u16"], "{name} in the row");
    }

    // The criteria say by what was scored, and are criteria again.
    let config = place.run(&["config", "--config", "out/criteria.toml", "--json"]);
    let config: Value = serde_json::from_str(&config.out).unwrap();
    assert_eq!(config["criteria"]["encoder"]["model"], model(), "the model of the command line");
    assert_eq!(config["criteria"]["encoder"]["sha256"], digest("exact"), "and what it was found to be made of");
    assert!(run.out.contains(config["digest"].as_str().unwrap()), "the digest is told: {}", run.out);
}

#[test]
fn score_sums_up_in_json() {
    let place = place();
    let run = place.good_score(&[&ROUND[..], &["--out", "out", "--json"]].concat());
    let summary: Value = serde_json::from_str(&run.out).unwrap();
    let documented = [
        "copies",
        "criteria",
        "embedding_seconds",
        "epoch",
        "ledger",
        "miners",
        "out",
        "prompts",
        "responses",
        "skipped",
        "tokens",
    ];
    assert_eq!(keys(&summary), documented, "the summary's fields");
    let counts = ["responses", "prompts", "miners", "skipped", "epoch"].map(|key| summary[key].clone());
    assert_eq!(counts, [json!(8), json!(3), json!(3), json!(0), Value::Null], "the counts");
    assert_eq!(run.out.lines().count(), 1, "one line");
    for line in run.err.lines() {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(event["event"].is_string(), "an event a line: {line}");
    }
    let stages = ["embedding", "novelty", "copies", "accuracy"];
    for stage in stages {
        assert!(run.err.contains(&format!("\"ended\",\"stage\":\"{stage}\"")), "{stage} ended: {}", run.err);
    }
}

#[test]
fn every_way_in_gives_the_same_scores() {
    let place = place();
    place.good_score(&[&ROUND[..], &["--out", "plain"]].concat());
    let right = place.read("plain/scores.jsonl");
    let check = |what: &str, out: &str| assert_eq!(place.read(&format!("{out}/scores.jsonl")), right, "{what}");

    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(lines(&rows()).as_bytes()).unwrap();
    place.write("round.jsonl.gz", packed.finish().unwrap());
    place.good_score(&["round.jsonl.gz", "--references", "references.jsonl", "--out", "gzip"]);
    check("gzip", "gzip");

    let aliases: String = lines(&rows()).replace("\"miner\"", "\"hotkey\"").replace("\"prompt_id\"", "\"task_id\"");
    place.write("aliases.jsonl", aliases);
    place.write("answers.jsonl", lines(&references()).replace("\"reference\"", "\"response\""));
    place.good_score(&["aliases.jsonl", "--references", "answers.jsonl", "--out", "aliases"]);
    check("hotkey, task_id, and response in a reference row", "aliases");

    let mut inline = rows();
    for row in &mut inline {
        row["reference"] = format!("seven or {}", &row["prompt_id"].as_str().unwrap()[1..]).into();
    }
    place.write("inline.jsonl", lines(&inline));
    place.good_score(&["inline.jsonl", "--out", "inline"]);
    check("references in the rows", "inline");

    place.write("windows.jsonl", format!("\u{feff}{}", lines(&rows()).replace('\n', "\r\n\r\n")));
    place.good_score(&["windows.jsonl", "--references", "references.jsonl", "--out", "windows"]);
    check("a byte order mark, Windows line ends and blank lines", "windows");

    place.write("part1.jsonl", lines(&rows()[..3]));
    place.write("part2.jsonl", lines(&rows()[3..]));
    place.good_score(&["part1.jsonl", "part2.jsonl", "--references", "references.jsonl", "--out", "parts"]);
    check("two files", "parts");

    let model = model();
    let args = [
        "score",
        "-",
        "--references",
        "references.jsonl",
        "--model",
        &model,
        "--loss",
        "embedding",
        "--device",
        "cpu",
        "--out",
        "stdin",
    ];
    let mut child = place.command(&args).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines(&rows()).as_bytes()).unwrap();
    assert!(child.wait_with_output().unwrap().status.success(), "from standard input");
    check("standard input", "stdin");
}

/// What is wrong, and a file that has it.
fn bad_rounds() -> Vec<(&'static str, String)> {
    let good = r#"{"prompt_id":"p","miner":"a","response":"r","reference":"x"}"#;
    let second = |row: &str| format!("{good}\n{row}\n");
    vec![
        ("not JSON", second("prompt_id: p")),
        ("cut off", second(r#"{"prompt_id":"p","miner":"b""#)),
        ("a list around the rows", format!("[{good}]\n")),
        ("no prompt_id", second(r#"{"miner":"b","response":"r"}"#)),
        ("no miner", second(r#"{"prompt_id":"p","response":"r"}"#)),
        ("no response", second(r#"{"prompt_id":"p","miner":"b"}"#)),
        ("an empty miner", second(r#"{"prompt_id":"p","miner":"","response":"r"}"#)),
        ("a response that is a number", second(r#"{"prompt_id":"p","miner":"b","response":7}"#)),
        ("a uid that is too large", second(r#"{"prompt_id":"p","miner":"b","response":"r","uid":65536}"#)),
        ("a block with a fraction", second(r#"{"prompt_id":"p","miner":"b","response":"r","block":1.5}"#)),
        ("a block in one row only", second(r#"{"prompt_id":"p","miner":"b","response":"r","block":1}"#)),
        ("the same miner twice", second(r#"{"prompt_id":"p","miner":"a","response":"other"}"#)),
        ("another reference", second(r#"{"prompt_id":"p","miner":"b","response":"r","reference":"y"}"#)),
        ("NaN", second(r#"{"prompt_id":"p","miner":"b","response":"r","embedding":[NaN]}"#)),
        ("an embedding of zeros", second(r#"{"prompt_id":"p","miner":"b","response":"r","embedding":[0,0]}"#)),
        ("an alias that contradicts", second(r#"{"prompt_id":"p","miner":"b","hotkey":"c","response":"r"}"#)),
        ("a key twice", second(r#"{"prompt_id":"p","miner":"b","miner":"b","response":"r"}"#)),
        ("no row", "\n\n".to_owned()),
    ]
}

#[test]
fn a_bad_row_is_one_line_with_place_and_remedy() {
    let place = Place::new();
    let mut said = String::new();
    for (what, text) in bad_rounds() {
        place.write("bad.jsonl", text);
        let run = place.score(&["bad.jsonl", "--out", "out"]);
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{what}: {}", run.err);
        let told: Vec<&str> = run.err.lines().collect();
        assert_eq!(told.len(), 2, "{what}: one line and its help: {}", run.err);
        assert!(told[0].starts_with("error: bad.jsonl:"), "{what}: the file is named: {}", told[0]);
        assert!(told[1].starts_with("  help: "), "{what}: a remedy: {}", told[1]);
        assert_eq!(place.names(), ["bad.jsonl"], "{what}: nothing is written");
        said.push_str(&format!("# {what}\n{}", run.err));
    }
    insta::assert_snapshot!("bad_rows", said);
}

#[cfg(unix)] // Other systems word their own errors otherwise.
#[test]
fn mistakes_on_the_command_line_are_told_with_a_remedy() {
    let place = place();
    place.write("no_reference.jsonl", "{\"prompt_id\":\"p\",\"miner\":\"a\",\"response\":\"r\"}\n");
    place.write("unknown_key.toml", "[score]\n\nacuracy_power = 2\n");
    place.write("bad_value.toml", "[novelty]\nnearest = 99\n");
    place.write("tokens.toml", "[encoder]\nmax_tokens = 1\n");
    place.write("sha256.toml", "[encoder]\nsha256 = \"8834\"\n");
    place.write("not_gzip.jsonl.gz", lines(&rows()));
    let vector = |length: usize| {
        json!({"prompt_id": "p", "miner": "a", "response": "r", "reference": "x",
        "embedding": vec![1; length]})
    };
    place.write("vectors.jsonl", lines(&[vector(3)]));
    place.write("ones.jsonl", lines(&[vector(96)]));
    place.write("state.json", "{\"n\": 1}");
    place.write("texts.jsonl", "{\"text\":\"seven\"}\n");
    let long = "seven and ".repeat(30);
    place.write("pairs.jsonl", lines(&[json!({"prompt": "?", "response": long, "reference": "seven"})]));
    fs::create_dir(place.path("folder")).unwrap();
    let model = model();
    let judge = package().join("datasets/models/gguf-q4_1").display().to_string();
    let cases: &[&[&str]] = &[
        &["score", "missing.jsonl", "--out", "out"],
        &["score", "folder", "--out", "out"],
        &["score", "not_gzip.jsonl.gz", "--out", "out"],
        &["score", "-", "-", "--out", "out"],
        &["score", "round.jsonl", "--references", "missing.jsonl", "--out", "out"],
        &["score", "round.jsonl", "--config", "unknown_key.toml", "--out", "out"],
        &["score", "round.jsonl", "--config", "bad_value.toml", "--out", "out"],
        &["score", "round.jsonl", "--config", "missing.toml", "--out", "out"],
        &["score", "round.jsonl", "--config", "sha256.toml", "--out", "out"],
        &["score", "no_reference.jsonl", "--model", &model, "--device", "cpu", "-q", "--out", "out"],
        &["score", "vectors.jsonl", "--model", &model, "--loss", "embedding", "--device", "cpu", "-q", "--out", "out"],
        &["score", "ones.jsonl", "--model", &model, "--loss", "embedding", "--device", "cpu", "-q", "--out", "out"],
        &["score", "round.jsonl", "--metagraph", "missing.json", "--out", "out"],
        &["score", "round.jsonl", "--metagraph", "state.json", "--out", "out"],
        &["score", "round.jsonl", "--metagraph", "round.jsonl", "--out", "out"],
        &["score", "round.jsonl", "--out", "round.jsonl"],
        &["score", "round.jsonl", "--out", "round.jsonl/under/a/file"],
        &["score", "round.jsonl", "--out", "."],
        &["embed", "texts.jsonl", "--model", "nonsense", "--device", "cpu", "-q"],
        &["embed", "texts.jsonl", "--model", "folder", "--device", "cpu", "-q"],
        &["embed", "texts.jsonl", "--offline", "--device", "cpu", "-q"],
        &["embed", "missing.jsonl"],
        &["embed", "round.jsonl", "--model", &model, "--device", "cpu", "-q"],
        &["embed", "round.jsonl", "--model", &model, "--device", "cpu", "-q", "--max-tokens", "1"],
        &["embed", "round.jsonl", "--model", &model, "--device", "cpu", "-q", "--max-tokens", "99999999999"],
        &[
            "embed",
            "texts.jsonl",
            "--model",
            &model,
            "--device",
            "cpu",
            "--threads",
            "1",
            "-q",
            "--memory-budget",
            "50kB",
        ],
        &[
            "loss",
            "pairs.jsonl",
            "--model",
            &judge,
            "--device",
            "cpu",
            "--threads",
            "1",
            "-q",
            "--memory-budget",
            "150KiB",
        ],
        &[
            "loss",
            "pairs.jsonl",
            "--model",
            &judge,
            "--device",
            "cpu",
            "--threads",
            "1",
            "-q",
            "--memory-budget",
            "700kB",
            "--kind",
            "lm",
        ],
        &["loss", "pairs.jsonl", "--kind", "embedding", "--match", "text"],
        &["loss", "pairs.jsonl", "--kind", "exact", "--model", &model],
        &["loss", "pairs.jsonl", "--kind", "lm", "--precision", "f32"],
        &["loss", "pairs.jsonl", "--kind", "exact", "--match", "text", "--pattern", "x"],
        &["loss", "pairs.jsonl", "--kind", "exact", "-q"],
        &["loss", "pairs.jsonl", "--kind", "logits"],
        &["loss", "pairs.jsonl", "--kind", "logits", "--vocabulary", "9"],
        &["loss", "pairs.jsonl", "--kind", "contrast", "--temperature", "0"],
        &["loss", "pairs.jsonl", "--kind", "embedding", "--device", "cpu", "-q", "--model", &judge],
        &["eval", "--sts", "missing.jsonl"],
        &["eval", "--sts", "round.jsonl"],
        &["epoch", "missing.json"],
        &["epoch", "state.json"],
        &["epoch", "round.jsonl"],
        &["epoch", "folder"],
        &["config", "--config", "folder"],
        &["models", "verify"],
        &["models", "verify", "nonsense"],
        &["models", "fetch", "nonsense"],
        &["models", "remove", "nonsense"],
        &["models", "convert", "nonsense"],
        &["models", "convert", "folder"],
        &["models", "convert", &model, "--out", "missing/model.xq1"],
        &["models", "convert", &model, "--out", "folder"],
    ];
    let before = place.names();
    let mut said = String::new();
    for args in cases {
        let run = place.run(args);
        let shown = args.join(" ").replace(&model, "MODEL").replace(&judge, "JUDGE");
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{shown}: {}", run.err);
        let told: Vec<&str> = run.err.lines().collect();
        assert_eq!(told.len(), 2, "{shown}: one line and its help: {}", run.err);
        assert!(told[0].starts_with("error: ") && told[1].starts_with("  help: "), "{shown}: {}", run.err);
        assert_eq!(place.names(), before, "{shown}: nothing is written");
        let home = place.path("home").display().to_string();
        let told = run.err.replace(&model, "MODEL").replace(&judge, "JUDGE").replace(&home, "HOME");
        said.push_str(&format!("$ tauscore {shown}\n{told}"));
    }
    insta::assert_snapshot!("mistakes", said);
    let run = place.run(&["config", "--config", "unknown_key.toml", "--json"]);
    let error: Value = serde_json::from_str(&run.err).unwrap();
    assert_eq!((run.code, keys(&error)), (2, vec!["error", "help"]), "with --json the error is JSON: {error}");
}

#[test]
fn usage_errors_are_claps_and_end_in_two() {
    let place = place();
    for args in [
        &["score"][..],
        &["score", "round.jsonl"],
        &["score", "round.jsonl", "--out", "out", "--epoch", "state.json"],
        &["score", "round.jsonl", "--out", "out", "--loss", "nonsense"],
        &["--threads", "0", "config"],
        &["config", "-q", "-v"],
        &["nonsense"],
        &["eval"],
        &["eval", "folder"],
        &["eval", "folder", "--sts", "round.jsonl"],
        &["eval", "--quality", "quality.csv"],
        &["eval", "--copies", "round.jsonl"],
        &["eval", "folder", "--copies", "round.jsonl", "--responses", "round.jsonl"],
        &["eval", "folder", "--quality", "quality.csv", "--references", "round.jsonl"],
        &["eval", "folder", "--quality", "quality.csv", "--resamples", "0"],
        &["eval", "--sts", "round.jsonl", "--precision", "f8"],
        &["embed", "round.jsonl", "--precision", "f8"],
        &["embed", "round.jsonl", "--max-tokens", "-1"],
    ] {
        let run = place.run(args);
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{args:?}: {}", run.err);
        assert!(run.err.starts_with("error: "), "{args:?}: {}", run.err);
    }
    let run = place.run(&[]);
    assert_eq!((run.code, run.err.contains("Usage: tauscore")), (2, true), "no command: its usage");
}

#[test]
fn every_command_explains_itself() {
    let place = Place::new();
    let mut said = String::new();
    for command in [
        "",
        "score",
        "embed",
        "loss",
        "demo",
        "epoch",
        "emission",
        "eval",
        "devices",
        "doctor",
        "bench",
        "models",
        "models fetch",
        "models list",
        "models verify",
        "models convert",
        "models remove",
        "config",
        "verify",
        "prove",
        "criteria adopt",
        "explain",
        "audit",
        "report",
    ] {
        let args: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
        let run = place.run(&args);
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{command} --help");
        said.push_str(&format!("$ tauscore {}\n{}\n", args.join(" "), run.out));
    }
    insta::assert_snapshot!("help", said);
    let run = place.run(&["--version"]);
    assert_eq!(run.out, format!("tauscore {}\n", env!("CARGO_PKG_VERSION")), "the version");
}

#[test]
fn exact_answers_are_right_or_wrong() {
    let place = place();
    let mut answers = rows();
    for (row, response) in
        answers.iter_mut().zip(["A: 1.", "$1.00", "eleven, 11", "2", "#### 2\nin 5 steps", "", "1", "3"])
    {
        row["response"] = json!(response);
    }
    place.write("round.jsonl", lines(&answers));
    place.good_score(&[&ROUND[..], &["--loss", "exact", "--out", "out"]].concat());
    let scores = place.rows("out/scores.jsonl");
    let column = |key: &str| scores.iter().map(|row| row[key].as_f64().unwrap()).collect::<Vec<_>>();
    assert_eq!(column("loss"), [0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0], "the references are 1, 2 and 3");
    assert_eq!(column("accuracy"), column("loss").iter().map(|loss| 1.0 - loss).collect::<Vec<_>>(), "right or wrong");
    let wrong = scores.iter().filter(|row| row["loss"] == 1.0);
    assert!(wrong.clone().all(|row| row["score_u16"] == 0), "a wrong answer is worth nothing");
    let criteria = place.read("out/criteria.toml");
    assert!(criteria.contains("kind = \"exact\"\nmatch = \"number\""), "what was compared is kept: {criteria}");

    let regex = "[loss]\nkind = \"exact\"\nmatch = \"regex\"\npattern = \"(?:or|A:) (\\\\w+)\"";
    place.write("regex.toml", regex);
    place.good_score(&[&ROUND[..], &["--config", "regex.toml", "--out", "by_pattern"]].concat());
    let right: Vec<usize> = (0..8).filter(|at| place.rows("by_pattern/scores.jsonl")[*at]["loss"] == 0.0).collect();
    assert_eq!(right, [0], "the one that the pattern finds");

    let mut by_prompt = references();
    by_prompt[0]["match"] = json!("text");
    by_prompt[1]["pattern"] = json!("(in|or)");
    place.write("references.jsonl", lines(&by_prompt));
    place.good_score(&[&ROUND[..], &["--loss", "exact", "--out", "by_prompt"]].concat());
    let right: Vec<usize> = (0..8).filter(|at| place.rows("by_prompt/scores.jsonl")[*at]["loss"] == 0.0).collect();
    assert_eq!(right, [7], "by text, by a pattern, and as the criteria say");
    by_prompt[1]["pattern"] = json!("(");
    place.write("references.jsonl", lines(&by_prompt));
    let run = place.score(&[&ROUND[..], &["--loss", "exact", "--out", "none"]].concat());
    assert!(run.code == 2 && run.err.contains("prompt \"p2\": loss.pattern: "), "{}", run.err);

    let mut without = references();
    without[1]["reference"] = json!("seven");
    place.write("references.jsonl", lines(&without));
    let run = place.score(&[&ROUND[..], &["--loss", "exact", "--out", "none"]].concat());
    assert_eq!((run.code, place.path("none").exists()), (2, false), "refused before anything is computed");
    assert!(
        run.err.contains("prompt \"p2\": its reference gives no answer") && run.err.contains("`match`"),
        "{}",
        run.err
    );
}

#[test]
fn a_round_in_parts_gives_the_files_of_the_whole() {
    let place = place();
    let round = rows();
    place.good_score(&["round.jsonl", "--references", "references.jsonl", "--out", "whole"]);
    let mut measured = Vec::new();
    for part in 0..3 {
        let rows: Vec<Value> = round.iter().skip(part).step_by(3).cloned().collect();
        let [rounds, file, out] = ["jsonl", "measured", "out"].map(|end| format!("part{part}.{end}"));
        place.write(&rounds, lines(&rows));
        place.good_score(&[&rounds, "--references", "references.jsonl", "--save-measured", &file, "--out", &out]);
        measured.extend(["--measured".to_owned(), file]);
    }
    let measured: Vec<&str> = measured.iter().map(String::as_str).collect();
    let run = place.good_score(&[&ROUND[..], &measured, &["--out", "merged"]].concat());
    assert!(run.err.contains("0 tokens of distinct texts embedded"), "{}", run.err);
    for file in ["scores.jsonl", "miners.json", "copies.json", "weights.json", "similarity.json", "criteria.toml"] {
        let [whole, merged] = ["whole", "merged"].map(|folder| place.read(&format!("{folder}/{file}")));
        assert_eq!(whole, merged, "{file}");
    }

    let run = place.score(&[&ROUND[..], &["--measured", "round.jsonl", "--out", "none"]].concat());
    assert!(run.code == 2 && run.err.contains("round.jsonl: header"), "{}", run.err);
    let run = place.score(&[&ROUND[..], &["--save-measured", "no/such", "--out", "none"]].concat());
    assert!(run.code == 2 && run.err.contains("there is no folder no"), "{}", run.err);
    let run = place.score(&[&ROUND[..], &measured[..2], &["--max-tokens", "8", "--out", "none"]].concat());
    assert!(run.code == 2 && run.err.contains("max_tokens") && run.err.contains("8 here"), "{}", run.err);
}

/// The arrays that ship, as three miners would send them.
#[test]
fn logits_that_came_with_responses_are_judged() {
    let place = Place::new();
    let golden: Value =
        serde_json::from_slice(&fs::read(package().join("datasets/logits/losses.json")).unwrap()).unwrap();
    fs::create_dir_all(place.path("round/sent")).unwrap();
    for name in ["f32.npy", "bf16.safetensors", "likeliest_f16.safetensors"] {
        fs::copy(package().join("datasets/logits").join(name), place.path("round/sent").join(name)).unwrap();
    }
    let mut broken = fs::read(place.path("round/sent/f32.npy")).unwrap();
    let end = broken.len();
    broken[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    place.write("round/sent/nan.npy", broken);
    let row = |miner: &str, response: &str, key: &str, file: &str| json!({"prompt_id": "p", "miner": miner, "response": response, key: format!("sent/{file}")});
    let sent = [
        row("alice", "one thing", "logits", "f32.npy"),
        row("bob", "", "logits", "bf16.safetensors"),
        row("carol", "quite another", "logits", "nan.npy"),
        row("dave", "something else", "logprobs", "likeliest_f16.safetensors"),
    ];
    place.write("round/round.jsonl", lines(&sent));
    let reference = json!({"prompt_id": "p", "reference": "right", "tokens": golden["tokens"]});
    place.write("references.jsonl", lines(&[reference]));
    let criteria = |kind: &str| {
        format!("[loss]\nkind = \"{kind}\"\nvocabulary = {}\n[score]\nnovelty_power = 0.0", golden["vocabulary"])
    };
    let mean = |name: &str| {
        let losses = golden["losses"][name].as_array().unwrap();
        losses.iter().map(|loss| loss.as_f64().unwrap()).sum::<f64>() / losses.len() as f64
    };
    let args = ["round/round.jsonl", "--references", "references.jsonl", "--config", "criteria.toml", "--out", "out"];

    place.write("criteria.toml", criteria("logits"));
    let run = place.good_score(&args);
    let scores = place.rows("out/scores.jsonl");
    for (row, name) in scores.iter().zip(["f32.npy", "bf16.safetensors"]) {
        let [loss, accuracy] = ["loss", "accuracy"].map(|key| row[key].as_f64().unwrap());
        assert!((loss - mean(name)).abs() < 1e-12, "{name}: {loss}, PyTorch {}", mean(name));
        assert!((accuracy - (-loss).exp()).abs() < 1e-12 && row.get("fault").is_none(), "{row}");
        assert!(row["score_u16"].as_u64().unwrap() > 0, "an empty text is no matter where logits are judged: {row}");
    }
    for (row, fault) in scores[2..].iter().zip(["row 5: number 300 is NaN", "no logits came with it"]) {
        assert_eq!((&row["fault"], &row["loss"]), (&json!(fault), &json!(100.0)), "{row}");
        assert_eq!((row["accuracy"].as_f64(), row["score_u16"].as_u64()), (Some(0.0), Some(0)), "the worst: {row}");
    }
    let warned = "what came with 2 responses cannot be judged, and they are worth nothing: the first is carol's to prompt \"p\": row 5";
    assert!(run.err.contains(warned), "{}", run.err);

    place.write("criteria.toml", criteria("logprobs"));
    place.good_score(&args);
    let scores = place.rows("out/scores.jsonl");
    let loss = scores[3]["loss"].as_f64().unwrap();
    assert!((loss - mean("likeliest_f16.safetensors")).abs() < 1e-12, "{loss}");
    assert_eq!(scores[0]["fault"], "no logprobs came with it", "{}", scores[0]);

    fs::remove_file(place.path("round/sent/bf16.safetensors")).unwrap();
    place.write("criteria.toml", criteria("logits"));
    let run = place.score(&args);
    assert_eq!(run.code, 2, "a file that is not there is the validator's to find");
    assert!(run.err.contains("round.jsonl:2: logits: ") && run.err.contains("bf16.safetensors"), "{}", run.err);
    place.write("criteria.toml", "[loss]\nkind = \"logits\"\nvocabulary = 200");
    let run = place.score(&args);
    assert!(run.code == 2 && run.err.contains("lies beyond the vocabulary of 200"), "{}", run.err);
}

#[test]
fn the_ranking_is_a_table() {
    let place = place();
    let run = place.good_score(&[&ROUND[..], &["--out", "out", "-q"]].concat());
    assert_eq!(run.err, "", "-q says nothing on standard error");
    let digest = run.out.lines().find(|line| line.starts_with("criteria ")).unwrap();
    // The digest holds the model's path.
    insta::assert_snapshot!("ranking", run.out.replace(digest, "criteria DIGEST"));
}

#[test]
fn a_hotkey_cannot_write_to_the_terminal() {
    let place = place();
    let mut changed = rows();
    for row in &mut changed {
        if row["miner"] == "carol" {
            row["miner"] = json!("carol\n\u{1b}[2J");
        }
    }
    place.write("round.jsonl", lines(&changed));
    place.write("state.json", state().to_string());
    let run = place.good_score(&[&ROUND[..], &["--out", "out", "--metagraph", "state.json"]].concat());
    assert!(run.out.contains(r"carol\n\u{1b}[2J"), "spelt out in the table: {:?}", run.out);
    assert!(run.err.contains(r"carol\n\u{1b}[2J is not registered"), "and in warnings: {:?}", run.err);
    assert!(!run.out.contains('\u{1b}') && !run.err.contains('\u{1b}'), "never as they are");
    assert!(place.rows("out/scores.jsonl").iter().any(|row| row["miner"] == "carol\n\u{1b}[2J"), "files keep the name");
}

#[test]
fn bad_rows_can_be_left_out() {
    let place = place();
    let mut text = lines(&rows());
    text.insert_str(0, "{\"prompt_id\":\"p1\"}\nnonsense\n");
    place.write("some_bad.jsonl", &text);
    let args = ["some_bad.jsonl", "--references", "references.jsonl", "--skip-bad", "--out", "out"];
    let run = place.score(&args);
    assert_eq!(run.code, 0, "as asked for: {}", run.err);
    assert!(run.err.contains("2 rows were left out"), "counted: {}", run.err);
    let listed: Vec<&str> = run.err.lines().filter(|line| line.starts_with("warning: left out: ")).collect();
    assert_eq!(
        listed,
        [
            "warning: left out: some_bad.jsonl:1: miner: is missing",
            "warning: left out: some_bad.jsonl:2: row: is not a JSON object"
        ],
        "each is listed"
    );
    place.good_score(&[&ROUND[..], &["--out", "right"]].concat());
    assert_eq!(place.read("out/scores.jsonl"), place.read("right/scores.jsonl"), "the good rows are scored as ever");
    let run = place.score(&[&args[..], &["--json"]].concat());
    let summary: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!((run.code, &summary["skipped"]), (0, &json!(2)), "counted in JSON");

    place.write("all_bad.jsonl", "nonsense\n{}\n");
    let run = place.score(&["all_bad.jsonl", "--skip-bad", "--out", "none"]);
    assert_eq!(run.code, 2, "a round of which nothing is left cannot be scored");
    assert!(run.err.contains("all_bad.jsonl: rows: all 2 are bad") && !place.path("none").exists(), "{}", run.err);
}

#[test]
fn a_foreign_folder_is_refused_before_anything_else_and_left_alone() {
    let place = place();
    fs::create_dir(place.path("mine")).unwrap();
    place.write("mine/scores.jsonl", "precious");
    place.write("mine/thesis.txt", "precious");
    // The model is not there: whoever looks at the folder only at the end would complain of that.
    let run = place.run(&["score", "round.jsonl", "--offline", "--device", "cpu", "--out", "mine"]);
    assert_eq!(run.code, 2, "refused");
    assert!(run.err.contains("--out: mine holds thesis.txt, which is not tauscore's"), "{}", run.err);
    assert_eq!(names(&place.path("mine")), ["scores.jsonl", "thesis.txt"], "the files are there");
    assert_eq!(place.read("mine/scores.jsonl"), "precious", "and untouched");
    assert_eq!(place.names(), ["mine", "references.jsonl", "round.jsonl"], "nothing beside it");
}

#[test]
fn a_second_run_replaces_the_first() {
    let place = place();
    let state = state();
    place.write("state.json", state.to_string());
    let first = [&ROUND[..], &["--out", "a/b/out", "--epoch", "state.json", "--validator", "0"]].concat();
    place.good_score(&first);
    assert!(place.path("a/b/out/epoch.json").exists(), "an epoch was asked for");
    place.write("one.jsonl", lines(&rows()[..2]));
    place.good_score(&["one.jsonl", "--references", "references.jsonl", "--out", "a/b/out/"]);
    assert_eq!(names(&place.path("a/b/out")).len(), 6, "the earlier epoch is gone with the earlier result");
    assert_eq!(place.rows("a/b/out/scores.jsonl").len(), 2, "the second result");
    assert_eq!(names(&place.path("a/b")), ["out"], "nothing beside it");
    fs::create_dir(place.path("empty")).unwrap();
    place.good_score(&[&ROUND[..], &["--out", "empty"]].concat());
    assert_eq!(names(&place.path("empty")).len(), 6, "an empty folder is taken");
}

/// A subnet of two validators and the three miners.
fn state() -> Value {
    json!({
        "n": 5, "netuid": 7, "hotkeys": ["large", "small", "alice", "bob", "carol"],
        "block": 1000, "rao_emission": 1_000_000_000, "stake": [600, 400, 0, 0, 0],
        "validator_permit": [1, 1, 0, 0, 0], "last_update": [900, 990, 0, 0, 0],
        "block_at_registration": [0, 0, 0, 0, 0],
        "weights": {"i": [0, 1, 1], "j": [4, 2, 3], "w": [65535, 65535, 65535]}
    })
}

#[test]
fn the_epoch_is_run_with_the_rounds_row_in_the_validators_place() {
    let place = place();
    place.write("state.json", state().to_string());
    let args = [&ROUND[..], &["--out", "out", "--epoch", "state.json", "--validator", "large"]].concat();
    let run = place.good_score(&args);
    assert!(run.out.contains("validator trust"), "the epoch is shown: {}", run.out);
    assert!(run.out.contains("criteria.toml, epoch.json"), "the file is named: {}", run.out);
    let epoch = place.json("out/epoch.json");
    assert_eq!(epoch["validator"], 0, "large is uid 0");

    // By hand: the row in the state, submitted in the state's block.
    let weights = place.json("out/weights.json");
    let mut state = state();
    let values: Vec<Value> = weights["u16"]["values"].as_array().unwrap().clone();
    state["weights"] = json!({"i": [0, 0, 0, 1, 1], "j": [2, 3, 4, 2, 3],
        "w": [values[0], values[1], values[2], 65535, 65535]});
    state["last_update"][0] = json!(1000);
    place.write("by_hand.json", state.to_string());
    let run = place.run(&["epoch", "by_hand.json"]);
    let by_hand: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(epoch["chain"], by_hand["chain"], "as if the row had been submitted");
    assert!(epoch["chain"]["incentive"][2].as_u64().unwrap() > 0, "alice earns");

    place.good_score(&[&ROUND[..], &["--out", "by_uid", "--epoch", "state.json", "--validator", "0"]].concat());
    assert_eq!(place.json("by_uid/epoch.json"), epoch, "by uid or by hotkey");
    // Before any model is looked for.
    for validator in ["nobody", "5", "-1", "99999999999999999999"] {
        let validator = format!("--validator={validator}");
        let run = place.run(&["score", "round.jsonl", "--offline", "--out", "no", "--epoch", "state.json", &validator]);
        assert_eq!(run.code, 2, "{validator}");
        assert!(run.err.starts_with("error: --validator: ") && run.err.lines().count() == 2, "{}", run.err);
        assert!(!place.path("no").exists(), "{validator}: nothing is written");
    }
}

#[test]
fn the_metagraph_gives_uids_by_hotkey() {
    let place = place();
    let mut state = state();
    state["hotkeys"] = json!(["large", "carol", "bob", "alice", "stranger"]);
    place.write("state.json", state.to_string());
    let mut changed = rows();
    for row in &mut changed {
        row.as_object_mut().unwrap().remove("uid");
        if row["miner"] == "carol" {
            row["miner"] = json!("unregistered");
        }
    }
    place.write("round.jsonl", lines(&changed));
    let run = place.good_score(&[&ROUND[..], &["--out", "out", "--metagraph", "state.json"]].concat());
    let weights = place.json("out/weights.json");
    assert_eq!(weights["u16"]["uids"], json!([2, 3]), "alice and bob, sorted");
    assert_eq!(weights["by_uid"]["3"], weights["by_hotkey"]["alice"], "alice is uid 3 here");
    let warned: Vec<&str> = run.err.lines().filter(|line| line.starts_with("warning: ")).collect();
    assert_eq!(warned.len(), 1, "{}", run.err);
    assert!(warned[0].contains("unregistered is not registered in the subnet"), "{}", warned[0]);
    let miners = place.json("out/miners.json");
    let lost = miners.as_array().unwrap().iter().find(|miner| miner["miner"] == "unregistered").unwrap();
    assert!(lost.get("uid").is_none(), "no uid: {lost}");

    // A uid that the rows say wrongly is overruled, and told.
    place.write("round.jsonl", lines(&rows()));
    let run = place.good_score(&[&ROUND[..], &["--out", "out", "--metagraph", "state.json"]].concat());
    assert!(run.err.contains("alice has uid 3 in the subnet, not 2 as the rows say"), "{}", run.err);
    assert_eq!(place.json("out/weights.json")["u16"]["uids"], json!([1, 2, 3]), "the subnet's uids");

    // A state without hotkeys can give no uid: saying nothing would send weights to whatever uid the rows say.
    state.as_object_mut().unwrap().remove("hotkeys");
    place.write("state.json", state.to_string());
    let run = place.score(&[&ROUND[..], &["--out", "none", "--metagraph", "state.json"]].concat());
    assert_eq!(run.code, 2, "refused");
    assert!(run.err.contains("state.json: hotkeys: "), "{}", run.err);
}

#[test]
fn history_counts_as_answered_before() {
    let place = place();
    let earlier = [
        json!({"prompt_id": "old", "miner": "stranger", "response": "nobody knows"}),
        json!({"prompt_id": "old", "miner": "bob", "response": "a banana, I think"}),
    ];
    place.write("earlier.jsonl", lines(&earlier));
    place.good_score(&[&ROUND[..], &["--out", "without"]].concat());
    place.good_score(&[&ROUND[..], &["--out", "with", "--history", "earlier.jsonl"]].concat());
    let (without, with) = (place.rows("without/scores.jsonl"), place.rows("with/scores.jsonl"));
    let alice = &with[6];
    assert_eq!(without[6]["novelty"], 1.0, "alone she is the first");
    assert_eq!(alice["novelty"].as_f64(), Some(0.0), "a stranger said it in an earlier round: {alice}");
    let near = &alice["nearest"];
    assert_eq!(
        (&near["miner"], &near["prompt_id"], &near["history"], &near["excerpt"]),
        (&json!("stranger"), &json!("old"), &json!(true), &json!("nobody knows")),
        "he is named"
    );
    let bob = &with[2];
    assert!(bob["novelty"].as_f64().unwrap() > 0.5, "his own history does not count against bob: {bob}");
}

#[test]
fn blank_answers_score_nothing_and_an_empty_row_is_told() {
    let place = place();
    let mut changed = rows();
    changed[6]["response"] = json!(" \n\t");
    place.write("round.jsonl", lines(&changed));
    place.good_score(&[&ROUND[..], &["--out", "out"]].concat());
    let row = &place.rows("out/scores.jsonl")[6];
    assert_eq!(
        (&row["score"], &row["score_u16"], &row["chars"]),
        (&json!(0.0), &json!(0), &json!(3)),
        "a blank answer"
    );

    for row in &mut changed {
        row["response"] = json!("");
    }
    place.write("round.jsonl", lines(&changed));
    let run = place.good_score(&[&ROUND[..], &["--out", "out"]].concat());
    assert!(
        run.err.contains("warning: every score is 0: the weight row is empty and must not be submitted"),
        "{}",
        run.err
    );
    assert_eq!(place.json("out/weights.json")["u16"]["values"], json!([0, 0, 0]), "nobody earns");
}

#[test]
fn embed_gives_a_line_a_text() {
    let place = Place::new();
    let long = "seven ".repeat(60);
    let texts = ["the answer is seven", "", &long, "ünïcödé 漢字 \u{1F600}", "the answer is seven"];
    place.write("texts.jsonl", lines(&texts.map(|text| json!({"text": text, "other": 1}))));
    let model = model();
    let args = ["embed", "texts.jsonl", "--model", &model, "--device", "cpu", "--json"];
    let run = place.run(&args);
    assert_eq!(run.code, 0, "{}", run.err);
    let rows: Vec<Value> = run.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), texts.len(), "a line a text");
    for (row, text) in rows.iter().zip(texts) {
        assert_eq!(keys(row), ["embedding", "ids", "tokens", "truncated"], "the fields");
        assert_eq!(row["truncated"], text == long, "{text:?} cut");
        assert_eq!(row["ids"].as_array().unwrap().len() as u64, row["tokens"].as_u64().unwrap(), "{text:?} counted");
        let embedding: Vec<i64> = row["embedding"].as_array().unwrap().iter().map(|x| x.as_i64().unwrap()).collect();
        let length = embedding.iter().map(|x| x * x).sum::<i64>().isqrt();
        assert_eq!(embedding.len(), 96, "the model's width");
        assert!((32_736..=32_800).contains(&length), "{text:?}: a length of about 32768, not {length}");
    }
    assert_eq!(rows[1]["tokens"], 2, "an empty text is [CLS] and [SEP]");
    assert_eq!(rows[2]["tokens"], 48, "cut at the model's limit");
    assert_eq!(rows[0], rows[4], "the same text, the same bits");
    assert_ne!(rows[0], rows[1], "another text, another line");
    let done: Value = serde_json::from_str(run.err.lines().last().unwrap()).unwrap();
    assert_eq!(keys(&done), ["event", "seconds", "texts", "tokens"], "the last event");
    let tokens: u64 = rows.iter().map(|row| row["tokens"].as_u64().unwrap()).sum();
    assert_eq!(
        (&done["event"], &done["texts"], &done["tokens"]),
        (&json!("done"), &json!(5), &json!(tokens)),
        "{done}"
    );

    let run = place.run(&[&args[..], &["--max-tokens", "4"]].concat());
    let cut: Value = serde_json::from_str(run.out.lines().next().unwrap()).unwrap();
    assert_eq!((&cut["tokens"], &cut["truncated"]), (&json!(4), &json!(true)), "cut where asked");

    place.write("texts.jsonl", "{\"text\":\"a\"}\n{\"text\":5}\n{\"txt\":\"b\"}\n{\"text\":\"c\"}\n");
    let run = place.run(&["embed", "texts.jsonl", "--model", &model, "--device", "cpu"]);
    assert_eq!(run.code, 2, "a bad line ends it");
    assert!(run.err.contains("error: texts.jsonl:2: text: is an integer, not a string"), "{}", run.err);
    let run = place.run(&["embed", "texts.jsonl", "--model", &model, "--device", "cpu", "--skip-bad"]);
    assert_eq!((run.code, run.out.lines().count()), (0, 2), "left out: {}", run.err);
    assert!(run.err.contains("warning: left out: texts.jsonl:3: text: is missing"), "{}", run.err);
    place.write("texts.jsonl", "");
    let run = place.run(&["embed", "texts.jsonl", "--model", &model, "--device", "cpu"]);
    assert_eq!((run.code, run.out.as_str()), (0, ""), "no text, no line: {}", run.err);
}

#[test]
fn embed_in_integers_converts_the_model_once_and_gives_the_same_on_and_on() {
    let place = Place::new();
    place.write("texts.jsonl", lines(&["the answer is seven", "ünïcödé", ""].map(|text| json!({"text": text}))));
    place.copy_model();
    let embed = |precision: &[&str]| {
        let run = place.run(&[&["embed", "texts.jsonl", "--model", "model", "--device", "cpu"], precision].concat());
        assert_eq!(run.code, 0, "{}", run.err);
        (run.out, run.err.matches("converting the model to integers").count())
    };
    let first = embed(&[]);
    assert_eq!(first.1, 1, "integers are what is asked for by default, and that it takes a while is told");
    assert!(place.path("model/model.xq1").is_file(), "the integer model is kept beside the checkpoint");
    assert_eq!(embed(&["--precision", "exact"]), (first.0.clone(), 0), "read as it was converted");
    let (first, (floats, _)) = (first.0, embed(&["--precision", "f32"]));
    for (exact, float) in first.lines().zip(floats.lines()) {
        let [exact, float]: [Value; 2] = [exact, float].map(|line| serde_json::from_str(line).unwrap());
        for key in ["ids", "tokens", "truncated"] {
            assert_eq!(exact[key], float[key], "{key}");
        }
        let integers: Vec<f64> =
            exact["embedding"].as_array().unwrap().iter().map(|x| x.as_i64().unwrap() as f64).collect();
        let numbers = common::floats(&float["embedding"]);
        let cosine: f64 = integers.iter().zip(&numbers).map(|(a, b)| a * f64::from(*b)).sum::<f64>() / 32_768.0;
        assert!((cosine - 1.0).abs() < 0.02, "the same direction, cosine {cosine}");
    }
    // What is there is trusted as little as any file.
    fs::write(place.path("model/model.xq1"), [0; 100]).unwrap();
    let run = place.run(&["embed", "texts.jsonl", "--model", "model", "--device", "cpu", "--precision", "exact"]);
    assert!(run.code == 2 && run.err.contains("model.xq1"), "{}", run.err);
}

/// The first 240 answers of the four real models with what they should be: the correct ones should be the more alike.
fn answers() -> String {
    let read = |name: &str| -> Vec<Value> {
        let text = fs::read_to_string(package().join("datasets/gsm8k").join(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let by_prompt = |rows: Vec<Value>| -> BTreeMap<String, Value> {
        rows.into_iter().map(|row| (row["prompt_id"].as_str().unwrap().to_owned(), row)).collect()
    };
    let (references, truth) = (by_prompt(read("references.jsonl")), by_prompt(read("truth.jsonl")));
    let pairs = read("round.jsonl").into_iter().filter_map(|row| {
        let prompt = row["prompt_id"].as_str().unwrap();
        let correct = truth[prompt]["correct"].get(row["miner"].as_str().unwrap())?.as_bool().unwrap();
        Some(json!({"a": row["response"], "b": references[prompt]["reference"], "score": u8::from(correct)}))
    });
    lines(&pairs.take(240).collect::<Vec<_>>())
}

/// Expected values are those of `scipy.stats.spearmanr` 1.17.1 over cosines from PyTorch in f64 and, for integers, over the dot
/// products of what `embed` prints.
#[test]
fn eval_finds_the_rank_correlation_that_others_find() {
    let place = Place::new();
    place.copy_model();
    place.write("answers.jsonl", answers());
    // The model's weights are random. Another driver's rounding may swap two neighbours of 240; the two precisions differ by more.
    for (precision, expected, tolerance) in [("exact", 0.1433645785152756, 1e-12), ("f32", 0.14210367632956517, 3e-4)] {
        let run =
            place.run(&["eval", "--sts", "answers.jsonl", "--model", "model", "--precision", precision, "--json"]);
        assert_eq!(run.code, 0, "{}", run.err);
        let report: Value = serde_json::from_str(&run.out).unwrap();
        assert_eq!(keys(&report), ["device", "model", "precision", "sts"], "the report's fields");
        let sts = &report["sts"];
        assert_eq!(keys(sts), ["pairs", "seconds", "spearman", "tokens", "truncated"], "the measure's fields");
        let found = sts["spearman"].as_f64().unwrap();
        assert!((found - expected).abs() <= tolerance, "{precision}: {found} where {expected} is right");
        let counts = ["pairs", "tokens", "truncated"].map(|key| sts[key].as_u64().unwrap());
        assert_eq!(counts, [240, 480 * 48, 480], "every text is longer than 48 tokens and is cut");
        assert!(run.err.contains("480 texts were longer"), "and that is told: {}", run.err);
    }
    // Everything is cut to [CLS] and [SEP]: one similarity for all.
    let args = ["eval", "--sts", "answers.jsonl", "--model", "model", "--max-tokens", "2"];
    assert!(place.run(&args).out.contains("undefined"), "in words");
    let report: Value = serde_json::from_str(&place.run(&[&args[..], &["--json"]].concat()).out).unwrap();
    assert_eq!(report["sts"]["spearman"], Value::Null, "without an order there is no number");

    let Some(model) = common::model() else { return };
    let pairs = package().join("datasets/examples/pairs.jsonl").display().to_string();
    for precision in ["exact", "f32"] {
        let model = model.display().to_string();
        let run = place.run(&["eval", "--sts", &pairs, "--model", &model, "--precision", precision, "--device", "cpu"]);
        assert_eq!(
            (run.code, run.out.as_str()),
            (0, "sts: 24 pairs, Spearman's rank correlation 0.7123\n"),
            "{precision}"
        );
    }
}

/// Scores of six miners and twelve prompts, of whom `m5` and `m4` copy `m0`: `m5` always, `m4` every third time. `m3` leaves two prompts out.
fn scored() -> Vec<Value> {
    let mut rows = Vec::new();
    for (miner, prompt) in (0..6_u32).flat_map(|miner| (0..12_u32).map(move |prompt| (miner, prompt))) {
        if miner == 3 && prompt < 2 {
            continue;
        }
        let noise = f64::from((miner * 7 + prompt * prompt * 5 + miner * prompt) % 11) / 11.0;
        let copy = miner == 5 || miner == 4 && prompt % 3 == 0;
        rows.push(json!({
            "prompt_id": format!("p{prompt}"),
            "miner": format!("m{miner}"),
            "novelty": 1.0 - noise / 2.0,
            "nearest": null,
            "loss": 0.5,
            "accuracy": (noise + f64::from(miner)) / 7.0,
            "score": noise * f64::from(miner) / 6.0,
            "chars": 100 + 40 * miner + 30 * (prompt % 5),
            "copy_evidence": noise + if copy { 0.6 } else { 0.0 },
            "copy_of": if copy && prompt != 6 || miner == 1 && prompt == 1 { json!("m0") } else { Value::Null },
        }));
    }
    rows
}

fn known_copies() -> String {
    let copy = |prompt: u32, miner: &str, kind: &str| json!({"prompt_id": format!("p{prompt}"), "miner": miner, "victim": "m0", "kind": kind, "response": "x"});
    let all = (0..12).map(|prompt| copy(prompt, "m5", "exact"));
    lines(&all.chain((0..12).step_by(3).map(|prompt| copy(prompt, "m4", "shuffle"))).collect::<Vec<_>>())
}

const QUALITY: &str = "mode,miner,win_rate,avg_length,judge\n\
    open,m0,9.5,1000,-1\nopen,m1,1.0,900,-2\nclosed,m2,12,800,3.5\nclosed,\"m3\",20.0,7,1e1\nopen,m4,15,7,7\nopen,m9,15,7,7\n";

/// A folder of scores, what is known of them, and the texts that were scored.
fn scored_place() -> Place {
    let place = Place::new();
    fs::create_dir(place.path("scored")).unwrap();
    place.write("scored/scores.jsonl", lines(&scored()));
    place.write("quality.csv", QUALITY);
    place.write("copies.jsonl", known_copies());
    let text = |row: &Value| {
        let chars = row["chars"].as_u64().unwrap() as usize;
        let words = format!("{} the {}", row["miner"], row["prompt_id"]).repeat(12);
        words.chars().cycle().take(chars).collect::<String>()
    };
    let round = scored().into_iter().map(|row| {
        json!({"prompt_id": row["prompt_id"], "miner": row["miner"], "response": text(&row), "reference": "the p1 of m3 the m0"})
    });
    place.write("round.jsonl", lines(&round.collect::<Vec<_>>()));
    place
}

const EVAL: [&str; 8] =
    ["eval", "scored", "--quality", "quality.csv", "--copies", "copies.jsonl", "--responses", "round.jsonl"];

#[test]
fn eval_reports_quality_and_copies() {
    let place = scored_place();
    let run = place.run(&EVAL);
    assert_eq!(run.code, 0, "{}", run.err);
    insta::assert_snapshot!("eval", format!("{}{}", run.err, run.out));

    let json = [&EVAL[..], &["--json", "-q"]].concat();
    let run = place.run(&json);
    let report: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(keys(&report), ["copies", "quality"], "a key for each thing measured");
    assert_eq!(
        [&report["quality"]["without_quality"], &report["quality"]["without_scores"]],
        [&json!(["m5"]), &json!(["m9"])],
        "who is left out"
    );
    assert_eq!(report["quality"]["unanswered"], 2, "m3's");
    let columns: Vec<&Value> =
        report["quality"]["columns"].as_array().unwrap().iter().map(|column| &column["quality"]).collect();
    assert_eq!(columns, ["win_rate", "judge"], "the columns of numbers, without the length");
    // Expected values are those of scipy 1.17.1 and scikit-learn 1.9.1 over the same rows.
    for (path, expected) in [
        ("/quality/columns/0/accuracy/spearman/value", 0.7999999999999999),
        ("/quality/columns/0/score/spearman/value", 0.6),
        ("/quality/columns/0/novelty/spearman/value", -0.49999999999999994),
        ("/quality/columns/0/novelty/given_length/value", 0.140028008402801),
        ("/quality/columns/1/log_length/spearman/value", 0.7999999999999999),
        ("/quality/columns/0/rouge_l/spearman/value", -0.19999999999999998),
        ("/copies/all/any_length/auc/value", 0.9076086956521738),
        ("/copies/all/any_length/true_positives/value", 0.5),
        ("/copies/all/long/auc/value", 0.8271604938271605),
        ("/copies/by_kind/shuffle/any_length/auc/value", 0.9402173913043478),
        ("/copies/miner_auc/value", 1.0),
        ("/copies/all/victim_named", 0.875),
        ("/copies/verdict/false_positives", 0.021739130434782608),
    ] {
        let found = report.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path}: {report}"));
        assert!((found - expected).abs() < 1e-12, "{path}: {found} where {expected} is right");
    }

    // Neither the order of rows nor that of other keys counts.
    let mut rows = scored();
    rows.reverse();
    rows.swap(3, 40);
    place.write("scored/scores.jsonl", lines(&rows));
    assert_eq!(place.run(&json).out, run.out, "the same report");
}

#[test]
fn eval_reads_what_score_wrote() {
    let place = place();
    place.good_score(&[&ROUND[..], &["--out", "out"]].concat());
    place.write("quality.csv", "miner,quality\nalice,3\nbob,2\ncarol,1\n");
    let args =
        ["eval", "out", "--quality", "quality.csv", "--responses", "round.jsonl", "--references", "references.jsonl"];
    let run = place.run(&[&args[..], &["--json"]].concat());
    assert_eq!((run.code, run.err.as_str()), (0, ""), "no warning");
    let report: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(keys(&report), ["quality"], "nothing else was asked");
    assert_eq!(report["quality"]["unanswered"], 1, "carol's");
    let miners = report["quality"]["miners"].as_array().unwrap();
    let known = place.json("out/miners.json");
    for miner in miners {
        let found = known.as_array().unwrap().iter().find(|known| known["miner"] == miner["miner"]).unwrap();
        let mean = found["accuracy"].as_f64().unwrap() * found["prompts"].as_f64().unwrap() / 3.0;
        let accuracy = miner["accuracy"]["value"].as_f64().unwrap();
        assert!((accuracy - mean).abs() < 1e-12, "an unanswered prompt counts 0: {miner} beside {found}");
    }
}

#[test]
fn eval_says_what_is_wrong_with_its_files() {
    let row = |miner: &str, rest: &str| {
        format!(
            "{{\"prompt_id\":\"p\",\"miner\":{miner:?},\"novelty\":1,\"accuracy\":0.5,\"score\":0.5,\"chars\":1{rest}}}\n"
        )
    };
    let bare: String = ["m0", "m1", "m2"].map(|miner| row(miner, "")).concat();
    let some = format!("{}{}", row("m0", ",\"copy_evidence\":1"), row("m5", ""));
    let quality = |text: &'static str| ("quality.csv", text.as_bytes().to_vec());
    let scores = |text: &str| ("scored/scores.jsonl", text.as_bytes().to_vec());
    let copies = |text: &str| ("copies.jsonl", text.as_bytes().to_vec());
    let round = |text: &str| ("round.jsonl", text.as_bytes().to_vec());
    let cases = [
        ("no rows", scores("\n")),
        ("no JSON", scores("prompt_id,miner\n")),
        ("no accuracy", scores("{\"prompt_id\":\"p\",\"miner\":\"m\",\"novelty\":1}\n")),
        ("an accuracy that is text", scores(&row("m0", "").replace("0.5", "\"0.5\""))),
        ("an accuracy twice", scores(&row("m0", ",\"accuracy\":1"))),
        ("a count with a fraction", scores(&row("m0", "").replace("\"chars\":1", "\"chars\":1.5"))),
        ("a count below 0", scores(&row("m0", "").replace("\"chars\":1", "\"chars\":-1"))),
        ("no finite evidence", scores(&row("m0", ",\"copy_evidence\":1e999"))),
        ("evidence that is text", scores(&row("m0", ",\"copy_evidence\":\"much\""))),
        ("the same pair twice", scores(&format!("{bare}{}", row("m1", "")))),
        ("an empty table", quality("")),
        ("a header alone", quality("miner,win_rate\n")),
        ("no column miner", quality("name,win_rate\nm0,1\n")),
        ("a column twice", quality("miner,a,a\nm0,1,2\n")),
        ("no numbers", quality("miner,mode,avg_length\nm0,x,1\nm1,nan,2\n")),
        ("a number missing", quality("miner,a\nm0,1\nm1,\nm2,3\n")),
        ("no finite number", quality("miner,a\nm0,1\nm1,inf\nm2,3\n")),
        ("a cell too many", quality("miner,a\nm0,1\nm1,2,3\n")),
        ("a nameless miner", quality("miner,a\nm0,1\n,2\n")),
        ("a miner twice", quality("miner,a\nm0,1\nm1,2\nm0,2\n")),
        ("two miners in common", quality("miner,a\nm0,1\nm1,2\nx,2\ny,2\n")),
        ("no UTF-8", ("quality.csv", b"miner,a\nm0,1\nm\xff,2\n".to_vec())),
        ("half a gzip stream", ("quality.csv", b"\x1f\x8b\x08\x00\x00".to_vec())),
        ("no copies", copies("")),
        ("a copy without a miner", copies("{\"prompt_id\":\"p1\"}\n")),
        ("a victim that is a number", copies("{\"prompt_id\":\"p1\",\"miner\":\"m5\",\"victim\":3}\n")),
        ("a copy twice", copies(&known_copies().repeat(2))),
        ("copies of another round", copies("{\"prompt_id\":\"q\",\"miner\":\"m5\"}\n")),
        (
            "nobody honest",
            copies(&(0..6).map(|m| format!("{{\"prompt_id\":\"p7\",\"miner\":\"m{m}\"}}\n")).collect::<String>()),
        ),
        ("another round", round("{\"prompt_id\":\"p0\",\"miner\":\"m0\",\"response\":\"x\"}\n")),
    ];
    let mut said = String::new();
    for (what, (name, bytes)) in cases {
        let place = scored_place();
        place.write(name, bytes);
        let run = place.run(&EVAL);
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{what}: {}", run.err);
        let told: Vec<&str> = run.err.lines().collect();
        assert_eq!(told.len(), 2, "{what}: one line and its help: {}", run.err);
        assert!(
            told[0].starts_with("error: ") && told[0].contains(name.trim_start_matches("scored/")),
            "{what}: {}",
            run.err
        );
        assert!(told[1].starts_with("  help: "), "{what}: {}", run.err);
        said.push_str(&format!("# {what}\n{}", run.err.replace('\\', "/")));
    }
    let place = scored_place();
    let texts = place.read("round.jsonl").replace("\"reference\"", "\"other\"");
    place.write("round.jsonl", texts);
    let run = place.run(&EVAL);
    assert!(run.err.starts_with("error: round.jsonl:1: reference: prompt \"p0\" has none"), "{}", run.err);
    place.write("round.jsonl", "{\"prompt_id\":\"p\",\"miner\":\"m0\",\"response\":\"x\"}\n");
    let run = place.run(&EVAL);
    assert!(run.err.contains("\"m0\" has no response to prompt \"p0\" among --responses"), "{}", run.err);
    let copies = ["eval", "scored", "--copies", "copies.jsonl"];
    for (rows, told) in [
        (bare, "error: scored/scores.jsonl: copy_evidence: no row has it\n  help: score the round again"),
        (some, "error: scored/scores.jsonl:2: copy_evidence: is missing\n  help: score the whole round again"),
    ] {
        place.write("scored/scores.jsonl", rows);
        let run = place.run(&copies);
        assert!(run.code == 2 && run.err.starts_with(told), "{}", run.err);
    }
    place.write("scored/scores.jsonl", lines(&scored()));
    place.write("copies.jsonl", known_copies() + "{\"prompt_id\":\"p99\",\"miner\":\"m5\"}\n");
    let run = place.run(&copies);
    assert_eq!(
        (run.code, run.err.as_str()),
        (0, "warning: left out: known copies without a scored response (1)\n"),
        "told"
    );
    let run = place.run(&["eval", "nowhere", "--quality", "quality.csv"]);
    assert!(run.code == 2 && run.err.contains("scores.jsonl"), "no such folder: {}", run.err);
    insta::assert_snapshot!("eval_mistakes", said);
}

/// The SHA-256 of what the tiny model's encoder is made of.
fn digest(precision: &str) -> &'static str {
    match precision {
        "exact" => "264752a8c2eb365259f0089386a5ae1fd09e840709f9580927864d969f6d97e5",
        _ => "357b39fb8ac8637c0111993b353fa5f84da99faa7e94070f058ade61c5707d0b",
    }
}

#[test]
fn a_model_is_what_the_criteria_pin() {
    let place = place();
    let model = model();
    let criteria = |precision: &str, sha256: &str| {
        let text = format!(
            "[encoder]\nmodel = {model:?}\nprecision = \"{precision}\"\nsha256 = \"{sha256}\"\n[loss]\nkind = \"embedding\"\n"
        );
        place.write("criteria.toml", text);
    };
    let args = [&["score", "--device", "cpu", "--config", "criteria.toml", "--out", "out"], &ROUND[..]].concat();
    for (precision, other) in [("exact", "f32"), ("f32", "exact")] {
        criteria(precision, digest(precision));
        let run = place.run(&args);
        assert_eq!(run.code, 0, "{precision}: {}", run.err);
        assert!(place.read("out/criteria.toml").contains(digest(precision)), "{precision}: it stays");
        // The pin goes with the precision that it was for, and the other one's digest takes its place.
        let run = place.run(&[&args[..], &["--precision", other]].concat());
        assert_eq!(run.code, 0, "{other} on the command line: {}", run.err);
        let found = place.read("out/criteria.toml");
        assert!(found.contains(digest(other)) && found.contains(&format!("precision = \"{other}\"")), "{found}");

        criteria(precision, digest(other));
        fs::remove_dir_all(place.path("out")).unwrap();
        let run = place.run(&args);
        let told: Vec<&str> = run.err.lines().collect();
        assert_eq!(run.code, 2, "{precision}: {}", run.err);
        let [.., problem, help] = told[..] else { panic!("{}", run.err) };
        assert!(problem.contains(digest(precision)) && problem.contains(digest(other)), "both are named: {problem}");
        assert!(help.starts_with("  help: ") && help.contains("sha256"), "a remedy: {help}");
        assert!(!place.path("out").exists(), "{precision}: nothing is written");
    }
    let pinned = |args: &[&str]| {
        let run = place.run(&[&["config", "--json"], args].concat());
        serde_json::from_str::<Value>(&run.out).unwrap()["criteria"]["encoder"]["sha256"].clone()
    };
    assert_eq!(pinned(&[]), "8834ceaa3b0b3f723ffed6fb37cf2743fd1086a2cff75cd8a022c0d94315f365", "the default model");
    place.write("criteria.toml", "[encoder]\nprecision = \"f32\"\n");
    let floats = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db";
    assert_eq!(pinned(&["--config", "criteria.toml"]), floats, "the default model in floats");
    place.write("criteria.toml", "[encoder]\nmodel = \"folder\"\n");
    assert_eq!(pinned(&["--config", "criteria.toml"]), Value::Null, "another model");
}

#[test]
fn criteria_survive_being_printed() {
    let place = Place::new();
    let printed = place.run(&["config"]);
    assert_eq!((printed.code, printed.err.as_str()), (0, ""), "printed");
    place.write("criteria.toml", &printed.out);
    let again = place.run(&["config", "--config", "criteria.toml"]);
    assert_eq!(again.out, printed.out, "read back, it is the same, digest included");
    insta::assert_snapshot!("criteria", printed.out);
    place.write("criteria.toml", printed.out.replace("nearest = 1", "nearest = 3"));
    let other = place.run(&["config", "--config", "criteria.toml", "--json"]);
    let other: Value = serde_json::from_str(&other.out).unwrap();
    assert_eq!(other["criteria"]["novelty"]["nearest"], 3, "a changed key");
    assert!(!printed.out.contains(other["digest"].as_str().unwrap()), "another digest");
    place.write("criteria.toml", "schema_version = 1\n[novelty]\nnearby = 3\n");
    let refused = place.run(&["config", "--config", "criteria.toml"]);
    assert!(refused.err.starts_with("error: criteria.toml: line 3: unknown field `nearby`"), "{}", refused.err);
}

#[test]
fn devices_are_listed() {
    let place = Place::new();
    let run = place.run(&["devices", "--json"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let devices: Value = serde_json::from_str(&run.out).unwrap();
    assert!(devices["cpu"]["threads"].as_u64().unwrap() > 0, "the CPU is always there: {devices}");
    for adapter in devices["adapters"].as_array().unwrap() {
        assert!(adapter["name"].is_string() && adapter["binding_bytes"].as_u64().unwrap() > 0, "{adapter}");
    }
    let run = place.run(&["--threads", "1", "devices"]);
    assert!(run.out.contains("1 threads") && run.out.contains("--device auto takes "), "{}", run.out);
    let run = place.run(&["embed", "-", "--model", &model(), "--device", "no such adapter"]);
    assert_eq!(run.code, 2, "no such adapter");
    assert!(run.err.contains("error: device no such adapter: ") && run.err.contains("\n  help: "), "{}", run.err);
}

#[test]
fn the_doctor_finds_the_cpu_well() {
    // Adapters are proved by tests/kernels.rs: walking them once more here would only cost minutes on software drivers.
    let place = Place::new();
    let run = place.run(&["doctor", "--device", "cpu", "--json"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let rows: Vec<Value> = run.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), tauscore::KERNELS.len() + 1, "a row a kernel, and one for the known answers");
    assert!(rows.iter().all(|row| row["kept"] == true && row["samples"].as_u64().unwrap() > 0), "{}", run.out);
    // Nothing is fetched for what is recorded of models, and that it was left out is said.
    assert!(!place.path("home").exists(), "looking creates nothing");
    let said: Vec<Value> = run.err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let warnings: Vec<&str> = said.iter().filter_map(|said| said["message"].as_str()).collect();
    for (warning, what) in warnings.iter().zip(["recorded vectors", "recorded losses"]) {
        assert!(warning.contains(&format!("{what} were left out: ")), "{}", run.err);
        assert!(warning.contains("tauscore models fetch"), "{}", run.err);
    }
    assert_eq!(warnings.len(), 2, "{}", run.err);
}

#[test]
fn the_doctor_embeds_every_recorded_vector_where_the_model_is() {
    let Some(folder) = common::model() else { return };
    let place = Place::new();
    let store = place.path("home/models/all-MiniLM-L6-v2");
    fs::create_dir_all(store.join("1_Pooling")).unwrap();
    for name in names(&folder) {
        if folder.join(&name).is_file() {
            fs::copy(folder.join(&name), store.join(&name)).unwrap();
        }
    }
    fs::copy(folder.join("1_Pooling/config.json"), store.join("1_Pooling/config.json")).unwrap();
    let run = place.run(&["doctor", "--device", "cpu"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let row = run.out.lines().find(|line| line.contains("encoder, exact")).unwrap_or_else(|| panic!("{}", run.out));
    let cells: Vec<&str> = row.split_whitespace().rev().take(2).collect();
    assert_eq!(cells, ["kept", "40"], "{row}");
    assert!(run.err.contains("embedding 40 recorded vectors: CPU"), "{}", run.err);
    // Another integer model in its place is not held to the recordings, and is no wrong device either.
    fs::copy(PathBuf::from(model()).join("config.json"), store.join("config.json")).unwrap();
    let run = place.run(&["doctor", "--device", "cpu"]);
    assert!(run.code == 0 && run.err.contains("recorded vectors were left out: "), "{}", run.err);
}

#[test]
fn the_doctor_holds_the_language_model_to_recorded_losses() {
    // Of the store of the tests: another model is not what was recorded.
    let Some(file) = common::language_model().filter(|file| file.to_string_lossy().contains("SmolLM2-135M")) else {
        return;
    };
    let place = Place::new();
    let store = place.path("home/models/SmolLM2-135M-Instruct");
    fs::create_dir_all(&store).unwrap();
    let folder = if file.is_dir() { file.as_path() } else { file.parent().unwrap() };
    for name in names(folder) {
        fs::copy(folder.join(&name), store.join(&name)).unwrap();
    }
    let run = place.run(&["doctor", "--device", "cpu", "--json"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let rows: Vec<Value> = run.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let row = rows.iter().find(|row| row["check"] == "language model").unwrap_or_else(|| panic!("{}", run.out));
    let worst = row["largest_difference"].as_f64().unwrap();
    assert!(row["kept"] == true && row["tokens"] == 22 && worst > 0.0 && worst < 1e-3, "{row}");

    // One bit of it changed: it is not held to the recordings, and is no wrong device either.
    let weights = fs::read_dir(&store).unwrap().map(|entry| entry.unwrap().path());
    let weights = weights.into_iter().find(|path| path.extension().is_some_and(|end| end == "gguf")).unwrap();
    let mut bytes = fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&weights, bytes).unwrap();
    let run = place.run(&["doctor", "--device", "cpu"]);
    assert!(run.code == 0 && run.err.contains("recorded losses were left out: "), "{}", run.err);
    assert!(!run.out.contains("language model"), "{}", run.out);
}

#[test]
fn an_empty_store_says_so() {
    let place = Place::new();
    let run = place.run(&["models", "list", "--json"]);
    let list: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!((run.code, &list[0]["state"]), (0, &json!("missing")), "{list}");
    assert!(!place.path("home").exists(), "looking creates nothing");
    let run = place.run(&["models", "list"]);
    let home = place.path("home").display().to_string();
    insta::assert_snapshot!("models", run.out.replace(&home, "HOME"));
    let run = place.run(&["models", "remove", "all-MiniLM-L6-v2"]);
    assert_eq!((run.code, run.out.as_str()), (0, "all-MiniLM-L6-v2: was not there\n"), "nothing to remove");
    // A model's folder with half of its files is not taken for a model.
    fs::create_dir_all(place.path("home/models/all-MiniLM-L6-v2")).unwrap();
    let run = place.run(&["models", "list"]);
    assert!(run.out.contains("DAMAGED"), "{}", run.out);
    let run = place.run(&["models", "verify"]);
    assert!(run.code == 2 && run.err.contains("models fetch all-MiniLM-L6-v2 --force"), "{}", run.err);
}

#[test]
fn a_model_is_converted_whole_and_its_ranges_are_told() {
    let place = Place::new();
    let model = model();
    let run = place.run(&["models", "convert", &model, "--out", "tiny.xq1"]);
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{}", run.out);
    let written = fs::read(place.path("tiny.xq1")).unwrap();
    let digest = "264752a8c2eb365259f0089386a5ae1fd09e840709f9580927864d969f6d97e5";
    assert_eq!(run.out, format!("tiny.xq1: {} bytes, sha256 {digest}\n", written.len()), "what it prints");
    let run = place.run(&["models", "convert", &model, "--out", "again.xq1", "--json"]);
    let value: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(keys(&value), ["bytes", "file", "model", "ranges", "sha256"], "{value}");
    assert_eq!(
        (value["sha256"].as_str(), fs::read(place.path("again.xq1")).unwrap() == written),
        (Some(digest), true),
        "the same"
    );
    let ranges = value["ranges"].as_array().unwrap();
    assert!(
        ranges.len() > 15 && ranges.iter().all(|range| range["bound"].as_u64() <= range["limit"].as_u64()),
        "{value}"
    );
    let run = place.run(&["models", "convert", &model, "--out", "again.xq1", "-v"]);
    insta::assert_snapshot!("ranges", run.err);
    // Beside the checkpoint, where nothing else is named; and a model that XQ1 is not for leaves nothing behind.
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        fs::create_dir_all(place.path("own")).unwrap();
        fs::copy(Path::new(&model).join(file), place.path("own").join(file)).unwrap();
    }
    assert_eq!(place.run(&["models", "convert", "own"]).code, 0, "in its folder");
    assert!(fs::read(place.path("own/model.xq1")).unwrap() == written, "the same bytes");
    let relu = package().join("datasets/models/bf16-relu").display().to_string();
    let run = place.run(&["models", "convert", &relu, "--out", "relu.xq1"]);
    assert!(run.code == 2 && run.err.contains("config.json: hidden_act: "), "{}", run.err);
    assert!(!place.path("relu.xq1").exists(), "nothing is written");
}

#[test]
fn recorded_epochs_are_checked() {
    let place = Place::new();
    let mut text = String::new();
    let recorded = fs::File::open(package().join("datasets/yuma/tiny_agree_yuma2.json.gz")).unwrap();
    flate2::read::GzDecoder::new(recorded).read_to_string(&mut text).unwrap();
    place.write("recorded.json", &text);
    let files = ["real_sn15_b4769998_yuma2", "la_steepness_-200", "sim_case05_yuma2"]
        .map(|name| package().join(format!("datasets/yuma/{name}.json.gz")).display().to_string());
    let run = place.run(&["epoch", "--check", "recorded.json", &files[0], &files[1], &files[2]]);
    assert_eq!(run.code, 0, "as the chain has it: {}", run.err);
    assert!(run.out.lines().last().unwrap().ends_with("mismatching 0"), "{}", run.out.lines().last().unwrap());

    let mut value: Value = serde_json::from_str(&text).unwrap();
    let incentive = value.pointer_mut("/epochs/0/chain/incentive").expect("recorded results");
    let last = incentive.as_array_mut().unwrap().last_mut().unwrap();
    *last = json!(last.as_u64().unwrap() ^ 1);
    place.write("tampered.json", value.to_string());
    let run = place.run(&["epoch", "--check", "tampered.json"]);
    assert_eq!(run.code, 1, "one bit is found: {}", run.err);
    assert!(run.out.contains("\"mismatches\":[\"chain.incentive["), "and named: {}", run.out);
    let run = place.run(&["epoch", "--check", "--json", "tampered.json"]);
    let summary: Value = serde_json::from_str(run.out.lines().last().unwrap()).unwrap();
    assert_eq!((run.code, &summary["mismatching"]), (1, &json!(1)), "with --json every line is JSON: {summary}");
}

#[test]
fn the_mechanisms_of_a_subnet_are_computed_together() {
    let place = Place::new();
    let file = |mechid: u8, netuid: u16| {
        let mut state = state();
        (state["mechid"], state["netuid"]) = (json!(mechid), json!(netuid));
        state.to_string()
    };
    place.write("m0.json", file(0, 7));
    place.write("m1.json", file(1, 7));
    place.write("other.json", file(1, 8));
    let run = place.run(&["epoch", "--mechanisms", "--split", "21845,43690", "m0.json", "m1.json"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let lines: Vec<Value> = run.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(keys(&lines[0]), ["chain", "epoch", "name", "rao_emission"], "an epoch and its part of the pot");
    assert_eq!((&lines[0]["name"], &lines[0]["rao_emission"]), (&json!("m0"), &json!("333333334")), "the remainder");
    assert_eq!((&lines[1]["name"], &lines[1]["rao_emission"]), (&json!("m1"), &json!("666666666")), "two thirds");
    let together = &lines[2];
    assert_eq!(keys(together), ["aggregate", "mechanisms", "name", "netuid"], "all together");
    assert_eq!((lines.len(), &together["mechanisms"], &together["netuid"]), (3, &json!(2), &json!(7)), "last");
    let server = |chain: &Value, uid: usize| chain["server_emission"][uid].as_str().unwrap().parse::<u64>().unwrap();
    for uid in 0..5 {
        let sum = server(&lines[0]["chain"], uid) + server(&lines[1]["chain"], uid);
        assert_eq!(server(&together["aggregate"], uid), sum, "uid {uid}");
    }
    for (args, said) in [
        (&["other.json"][..], "error: other.json: netuid: 8, where mechanism 0 has 7"),
        (&["m0.json"], "error: m0.json: mechid: 0, where mechanism 1 is expected"),
        (&["m1.json", "--split", "65535"], "error: --split: 1 shares that sum to 65535, for 2 mechanisms"),
        (&["m1.json", "--split", "1,2"], "error: --split: 2 shares that sum to 3, for 2 mechanisms"),
    ] {
        let run = place.run(&[&["epoch", "--mechanisms", "m0.json"], args].concat());
        assert_eq!((run.code, run.out.as_str(), run.err.lines().count()), (2, "", 2), "{args:?}: {}", run.err);
        assert_eq!(run.err.lines().next(), Some(said), "{args:?}");
    }
}

#[test]
fn the_emission_schedule_is_told() {
    let place = Place::new();
    let run = place.run(&[
        "emission",
        "--issuance",
        "20999999374151231",
        "--alpha-issuance",
        "1000000000000000",
        "--root-tao",
        "5000000000000000",
    ]);
    assert_eq!((run.code, run.err.as_str()), (0, ""), "it runs");
    insta::assert_snapshot!("emission", run.out);
    let run = place.run(&["emission", "--issuance", "10499999999999999", "--alpha-issuance", "0", "--json"]);
    let told: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(told["emission"], "1000000000", "amounts are strings");
    assert_eq!(told["next_halving"], json!({"issuance": "10500000000000000", "blocks": 1}), "the next block's");
    let periods = told["schedule"].as_array().unwrap();
    assert_eq!((periods.len(), &periods[1]["issuance"]), (30, &json!("10500000999999999")), "by whole blocks");
    assert_eq!(
        (&periods[1]["threshold"], &periods[1]["until"]),
        (&json!("10500000000000000"), &json!(10_500_000)),
        "of 1"
    );
    let (subnet, dividend) = (&told["subnet"], &told["subnet"]["dividends"]["validator"]);
    assert_eq!((&subnet["owner"], &subnet["server"]), (&json!("179995422"), &json!("410002288")), "the default cut");
    let rao = |key: &str| dividend[key].as_str().unwrap().parse::<u64>().unwrap();
    assert_eq!((rao("dividend"), rao("take") + rao("stakers")), (360 * 410_002_288, 360 * 410_002_288), "an epoch's");
    let run = place.run(&["emission", "--issuance", "21000000000000000"]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(run.out.starts_with("21000000000000000 rao issued: 0 rao a block"), "as the chain: {}", run.out);
    for issuance in ["-5", "1.5", "1e15", "many", "18446744073709551616"] {
        let run = place.run(&["emission", "--issuance", issuance]);
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{issuance}");
        assert!(
            run.err.starts_with(&format!("error: invalid value '{issuance}' for '--issuance <RAO>'")),
            "{}",
            run.err
        );
    }
}

#[test]
fn whoever_reads_only_the_head_is_no_error() {
    let place = Place::new();
    let text = format!("{}\n", json!({"text": "the answer is seven"}));
    place.write("texts.jsonl", text.repeat(3000));
    let model = model();
    let mut child =
        place.command(&["embed", "texts.jsonl", "--model", &model, "--device", "cpu", "-q"]).spawn().unwrap();
    let mut head = [0; 64];
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut head).unwrap();
    drop(out);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "a broken pipe is success");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "and nothing to tell");
}

/// The forecast of `small`'s row, which weighs alice, carol and itself.
const FORECAST: [&str; 6] = ["forecast", "state.json", "--validator", "small", "--device", "cpu"];

/// Its last weights are old enough for new ones.
fn forecast_state() -> Value {
    let mut state = state();
    state["last_update"][1] = json!(900);
    state
}

fn forecast_place() -> Place {
    let place = place();
    place.write("state.json", forecast_state().to_string());
    place.write("row.json", "{\"uids\": [2, 4, 1], \"weights\": [65535, 30000, 1000]}");
    place
}

#[test]
fn a_forecast_is_the_epoch_with_the_row_beside_todays() {
    let place = forecast_place();
    let run = place.run(&[&FORECAST[..], &["--weights", "row.json", "-q"]].concat());
    assert_eq!(run.code, 0, "{}", run.err);
    insta::assert_snapshot!("forecast", run.out);

    let run = place.run(&[&FORECAST[..], &["--weights", "row.json", "--json"]].concat());
    let found: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(found["admission"], json!({"taken": true, "stored": [[2, 65535], [4, 30000], [1, 1000]]}), "taken");
    let mut submitted = forecast_state();
    submitted["weights"] = json!({"i": [0, 1, 1, 1], "j": [4, 2, 4, 1], "w": [65535, 65535, 30000, 1000]});
    submitted["last_update"][1] = json!(1000);
    for (name, state) in [("today", forecast_state()), ("forecast", submitted)] {
        place.write("epoch.json", state.to_string());
        let chain = serde_json::from_str::<Value>(&place.run(&["epoch", "epoch.json"]).out).unwrap()["chain"].clone();
        for key in keys(&found[name]) {
            assert_eq!(found[name][key], chain[key][1], "{name}: {key}");
        }
        if name == "forecast" {
            assert_eq!(found["consensus"], chain["consensus"], "consensus on everybody");
        }
    }
}

#[test]
fn what_the_chain_would_refuse_is_named_and_ends_in_one() {
    let place = forecast_place();
    let demands: &[(&[&str], &str)] = &[
        (&["--weights-rate-limit", "101"], "SettingWeightsTooFast"),
        (&["--weights-version-key", "3", "--version-key", "2"], "IncorrectWeightVersionKey"),
        (&["--min-allowed-weights", "4"], "WeightVecLengthIsLow"),
        (&["--weights", "beyond.json"], "UidVecContainInvalidOne"),
        (&["--weights", "twice.json"], "DuplicateUids"),
    ];
    place.write("beyond.json", "[[5, 1]]");
    place.write("twice.json", "[[2, 1], [2, 2]]");
    for (demand, name) in demands {
        let row: &[&str] = if demand[0] == "--weights" { &[] } else { &["--weights", "row.json"] };
        let run = place.run(&[&FORECAST[..], row, *demand, &["--json"]].concat());
        let found: Value = serde_json::from_str(&run.out).unwrap();
        assert_eq!((run.code, &found["admission"]["refusal"]), (1, &json!(name)), "{}", run.out);
        assert_eq!(
            found["forecast"].is_null(),
            row.is_empty(),
            "{name}: no epoch takes a row on nobody or twice on one"
        );
        let run = place.run(&[&FORECAST[..], row, *demand].concat());
        assert!(run.out.contains(&format!("would refuse the row: {name}: ")), "{}", run.out);
    }
}

#[test]
fn a_row_is_read_in_every_shape() {
    let place = forecast_place();
    let run = |file: &str| place.run(&[&FORECAST[..], &["--weights", file, "-q"]].concat());
    let right = run("row.json").out;
    for (name, row) in [
        ("values", json!({"uids": [2, 4, 1], "values": [65535, 30000, 1000]})),
        ("u16", json!({"by_uid": {"9": 1}, "u16": {"uids": [2, 4, 1, 3], "values": [65535, 30000, 1000, 0]}})),
        ("pairs", json!([[2, 65535], [4, 30000], [1, 1000]])),
        ("scaled", json!([[2, 6.5535], [4, 3], [1, 0.1]])),
    ] {
        place.write("shape.json", row.to_string());
        assert_eq!(run("shape.json").out, right, "{name}");
    }
    // Maps, whose order is not that of the file: the results do not depend on it here.
    for row in [json!({"1": 1000, "2": 65535, "4": 30000}), json!({"small": 0.1, "alice": 6.5535, "carol": 3.0})] {
        place.write("shape.json", row.to_string());
        assert_eq!(run("shape.json").out, right, "{row}");
    }
}

#[test]
fn a_sweep_answers_every_combination() {
    let place = forecast_place();
    place.write("rows.jsonl", "{\"name\": \"alice\", \"uids\": [2], \"weights\": [1]}\n\n[[3, 1]]\n");
    let sweep = ["--sweep", "kappa=0..65535:32767", "--sweep", "rows.jsonl", "--sweep", "yuma3=true,false", "--json"];
    let run = place.run(&[&FORECAST[..], &sweep, &["--weights", "row.json"]].concat());
    assert_eq!(run.code, 0, "{}", run.err);
    let lines: Vec<Value> = run.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3 * 3 * 2, "three of kappa, three rows, two of yuma3");
    let asked: Vec<String> =
        lines.iter().take(4).map(|line| format!("{} {}", line["row"].as_str().unwrap(), line["hyper"])).collect();
    let first = "{\"kappa\":0,\"yuma3\":true}";
    let right = [
        format!("--weights {first}"),
        format!("alice {first}"),
        format!("3 {first}"),
        "--weights {\"kappa\":0,\"yuma3\":false}".into(),
    ];
    assert_eq!(asked, right, "the last spec runs first, after the rows");
    for line in &lines {
        let mut state = forecast_state();
        state["hyper"] = line["hyper"].clone();
        place.write("asked.json", state.to_string());
        place.write(
            "asked_row.json",
            match line["row"].as_str().unwrap() {
                "alice" => "[[2, 1]]".to_owned(),
                "3" => "[[3, 1]]".to_owned(),
                _ => place.read("row.json"),
            },
        );
        let args =
            ["forecast", "asked.json", "--validator", "1", "--device", "cpu", "--weights", "asked_row.json", "--json"];
        let alone: Value = serde_json::from_str(&place.run(&args).out).unwrap();
        for key in keys(&alone["forecast"]) {
            assert_eq!(line[key], alone["forecast"][key], "{line}: {key}");
        }
    }
    let run = place.run(&[&FORECAST[..], &["--sweep", "bonds_penalty=0,65535", "-q"]].concat());
    assert!(run.code == 0 && run.out.contains("the 2 of 2 that pay best"), "without a row, today's: {}", run.out);
}

#[cfg(unix)] // Other systems word their own errors otherwise.
#[test]
fn mistakes_in_a_forecast_are_told_with_a_remedy() {
    let place = forecast_place();
    for (name, row) in [
        ("negative.json", "{\"2\": -1}"),
        ("nobody.json", "{\"mallory\": 1}"),
        ("unequal.json", "{\"uids\": [1, 2], \"weights\": [1]}"),
        ("missing.json", "{\"uids\": [1]}"),
        ("text.json", "\"row\""),
        ("triple.json", "[[1, 2, 3]]"),
        ("huge.json", "[[2, 1e300]]"),
    ] {
        place.write(name, row);
    }
    place.write("rows.jsonl", "[[2, 1]]\n[[2, \"one\"]]\n");
    place.write("beyond.jsonl", "[[2, 1]]\n[[2, 1], [5, 1]]\n");
    place.write("twice.jsonl", "[[2, 1], [3, 1], [2, 1]]\n");
    place.write("empty.jsonl", "\n");
    let rows = ["negative", "nobody", "unequal", "missing", "text", "triple", "huge", "nothing"];
    let weights = rows.map(|row| vec!["--weights".to_owned(), format!("{row}.json")]);
    let specs = [
        "rows.jsonl",
        "beyond.jsonl",
        "twice.jsonl",
        "empty.jsonl",
        "nothing.jsonl",
        "kapa=1",
        "kappa=65536",
        "kappa=1..0",
        "kappa=0..9:0",
        "kappa=a..b",
        "yuma3=maybe",
        "owner_uid=5",
        "bonds_moving_average=0..9999999999",
    ];
    let sweeps = specs.map(|spec| vec!["--sweep".to_owned(), spec.to_owned()]);
    let mut said = String::new();
    for args in weights.iter().chain(&sweeps) {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let run = place.run(&[&FORECAST[..], &args].concat());
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{args:?}: {}", run.err);
        let told: Vec<&str> = run.err.lines().filter(|line| !line.starts_with("device: ")).collect();
        assert_eq!(told.len(), 2, "{args:?}: one line and its help: {}", run.err);
        said.push_str(&format!("$ tauscore forecast {}\n{}\n", args.join(" "), told.join("\n")));
    }
    insta::assert_snapshot!("forecast_mistakes", said);
    let run = place.run(&[&FORECAST[..5], &["cpu"]].concat());
    assert!(run.code == 2 && run.err.contains("--weights"), "neither a row nor a sweep: {}", run.err);
}

/// A tiny language model with random weights.
fn language() -> String {
    package().join("datasets/models/gguf-mixed/model.gguf").display().to_string()
}

#[test]
fn losses_of_pairs_are_printed_in_order_and_sharing_changes_no_byte() {
    let place = Place::new();
    let pair = |prompt: &str, response: &str| json!({"prompt": prompt, "response": response, "reference": "the total"});
    let pairs =
        [pair("What?", "the others"), pair("Who?", "x <|im_end|> y"), pair("What?", ""), pair("What?", "the others")];
    place.write("pairs.jsonl", lines(&pairs));
    let model = language();
    for (kind, compared) in
        [("reference_gain", true), ("mutual_gain", true), ("explained", true), ("information", true), ("lm", false)]
    {
        let args = ["loss", "pairs.jsonl", "--model", &model, "--device", "cpu", "--kind", kind, "--token-losses"];
        let run = place.run(&args);
        assert_eq!(run.code, 0, "{kind}: {}", run.err);
        let rows: Vec<Value> = run.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(rows.len(), 4, "{kind}: a line a pair");
        assert_eq!(rows[0], rows[3], "{kind}: equal pairs");
        for (row, pair) in rows.iter().zip(&pairs) {
            let losses = common::floats(&row["token_losses"]);
            assert_eq!(row["tokens"], losses.len(), "{kind}: {row}");
            let empty = pair["response"] == "";
            assert_eq!(row["surprise"].is_null(), empty, "{kind}: {row}");
            assert_eq!(losses.is_empty(), empty && !kind.ends_with("_gain"), "{kind}: {row}");
            let mean = |losses: &[f32]| losses.iter().copied().map(f64::from).sum::<f64>() / losses.len() as f64;
            if losses.is_empty() {
                assert!(row["loss"].is_null(), "{kind}: {row}");
            } else if compared {
                let baseline = common::floats(&row["baseline_losses"]);
                assert_eq!(baseline.len(), losses.len(), "{kind}: the same tokens");
                assert!((row["loss"].as_f64().unwrap() - (mean(&losses) - mean(&baseline))).abs() < 1e-6, "{row}");
                assert_eq!(row["gain"].as_f64(), row["loss"].as_f64().map(|loss| -loss), "{row}");
            } else {
                assert!((row["loss"].as_f64().unwrap() - mean(&losses)).abs() < 1e-6, "{row}");
                assert_eq!(row.get("gain"), None, "{row}");
            }
        }
        let unshared = place.run(&[&args[..], &["--no-prefix-sharing"]].concat());
        assert_eq!(unshared.out, run.out, "{kind}: to the byte");
    }
    let run = place.run(&["loss", "pairs.jsonl", "--model", &model, "--device", "cpu", "--kind", "lm", "--json"]);
    let done: Value = serde_json::from_str(run.err.lines().last().unwrap()).unwrap();
    assert_eq!((&done["event"], &done["pairs"]), (&json!("done"), &json!(4)), "{done}");
}

/// The same responses as a round and as pairs. Two texts and two references come twice, and arrays with each.
#[test]
fn kinds_without_a_language_model_say_of_pairs_what_they_say_of_a_round() {
    let place = Place::new();
    place.copy_model();
    let golden: Value =
        serde_json::from_slice(&fs::read(package().join("datasets/logits/losses.json")).unwrap()).unwrap();
    for name in ["f32.npy", "bf16.npy", "likeliest_f16.safetensors"] {
        fs::copy(package().join("datasets/logits").join(name), place.path(name)).unwrap();
    }
    let given = [
        ("p1", "alice", "the answer is seven", Some("f32.npy")),
        ("p1", "bob", "a banana, I think", Some("bf16.npy")),
        ("p2", "alice", "it must be Twelve.", None),
        ("p3", "carol", "a banana, I think", Some("f32.npy")),
        ("p2", "carol", "a banana, I think", None),
        ("p3", "bob", "", None),
    ];
    let reference = |prompt: &str| if prompt == "p2" { "it must be twelve" } else { "seven, the answer is" };
    let (mut round, mut pairs) = (Vec::new(), Vec::new());
    for (prompt, miner, response, logits) in given {
        let logprobs = logits.map(|_| "likeliest_f16.safetensors");
        round.push(json!({"prompt_id": prompt, "miner": miner, "response": response, "logits": logits,
            "logprobs": logprobs}));
        pairs.push(json!({"prompt": prompt, "response": response, "reference": reference(prompt), "logits": logits,
            "logprobs": logprobs, "tokens": golden["tokens"]}));
    }
    place.write("round.jsonl", lines(&round));
    place.write("pairs.jsonl", lines(&pairs));
    let of_prompt = |prompt| json!({"prompt_id": prompt, "reference": reference(prompt), "tokens": golden["tokens"]});
    place.write("references.jsonl", lines(&["p1", "p2", "p3"].map(of_prompt)));
    let model: &[&str] = &["--model", "model"];
    for (kind, options, criteria) in [
        ("embedding", model, ""),
        ("embedding", &["--model", "model", "--precision", "f32", "--max-tokens", "4"], "[encoder]"),
        ("contrast", model, ""),
        ("contrast", &["--model", "model", "--temperature", "0.5"], "temperature = 0.5"),
        ("exact", &["--match", "text"], "match = \"text\""),
        (
            "exact",
            &["--match", "regex", "--pattern", r"(?i)\w+en|twelve"],
            "match = \"regex\"\npattern = '(?i)\\w+en|twelve'",
        ),
        ("logits", &["--vocabulary", "301"], "vocabulary = 301"),
        ("logprobs", &["--vocabulary", "301"], "vocabulary = 301"),
    ] {
        let encoder = if criteria == "[encoder]" { "precision = \"f32\"\nmax_tokens = 4" } else { "" };
        let loss = if encoder.is_empty() { criteria } else { "" };
        place.write(
            "criteria.toml",
            format!("[encoder]\nmodel = \"model\"\n{encoder}\n[loss]\nkind = \"{kind}\"\n{loss}\n"),
        );
        let run = place
            .run(&[&["score", "--device", "cpu", "--config", "criteria.toml", "--out", "out"], &ROUND[..]].concat());
        assert_eq!(run.code, 0, "{kind}: {}", run.err);
        let scores = place.rows("out/scores.jsonl");
        // The store is empty: no other model is asked for.
        let args = ["loss", "pairs.jsonl", "--kind", kind, "--device", "cpu", "--offline", "--token-losses"];
        let run = place.run(&[&args[..], options].concat());
        assert_eq!(run.code, 0, "{kind}: {}", run.err);
        let rows: Vec<Value> = run.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(rows.len(), scores.len(), "{kind}: a line a pair");
        for (row, score) in rows.iter().zip(&scores) {
            assert_eq!(row["loss"], score["loss"], "{kind}, to the bit: {row}");
            assert_eq!(row.get("fault"), score.get("fault"), "{kind}: {row}");
            match kind {
                "exact" => assert_eq!(keys(row), ["loss", "tokens"], "no tokens: {row}"),
                "embedding" | "contrast" => {
                    assert_eq!(keys(row), ["loss", "similarity", "tokens"], "{row}");
                    assert_eq!(row["tokens"], score["tokens"], "{row}");
                    let similarity = row["similarity"].as_f64().unwrap();
                    let loss = row["loss"].as_f64().unwrap();
                    assert!(kind == "contrast" || (similarity + loss - 1.0).abs() < 1e-12, "{row}");
                }
                _ if row.get("fault").is_some() => assert_eq!(keys(row), ["fault", "loss", "tokens"], "{row}"),
                _ => {
                    let losses = row["token_losses"].as_array().unwrap();
                    assert_eq!((losses.len(), row["tokens"].as_u64()), (6, Some(6)), "{row}");
                    let mean = losses.iter().map(|loss| loss.as_f64().unwrap()).sum::<f64>() / 6.0;
                    assert!((mean - row["loss"].as_f64().unwrap()).abs() < 1e-12, "{row}");
                }
            }
        }
        let losses: Vec<f64> = rows.iter().map(|row| row["loss"].as_f64().unwrap()).collect();
        assert!(losses.iter().any(|loss| *loss != losses[0]), "{kind} tells them apart: {losses:?}");
        if kind == "contrast" {
            // The shares that two references have of one text; the one that comes twice counts once.
            let shares = (-losses[3]).exp() + (-losses[4]).exp();
            assert!((shares - 1.0).abs() < 1e-12, "{shares}");
        }
    }
}

#[test]
fn a_kind_of_loss_asks_for_no_model_but_its_own() {
    let place = Place::new();
    place.write("pairs.jsonl", lines(&[json!({"prompt": "What?", "response": "so 7", "reference": "it is 7.0"})]));
    let run = |kind: &str| place.run(&["loss", "pairs.jsonl", "--kind", kind, "--device", "cpu", "--offline"]);
    for (kind, model) in [
        ("reference_gain", "SmolLM2-135M-Instruct"),
        ("lm", "SmolLM2-135M-Instruct"),
        ("embedding", "all-MiniLM-L6-v2"),
        ("contrast", "all-MiniLM-L6-v2"),
    ] {
        let run = run(kind);
        assert!(run.code == 2 && run.err.contains(model), "{kind}: {}", run.err);
    }
    let exact = run("exact");
    assert_eq!((exact.code, exact.out.as_str()), (0, "{\"loss\":0.0,\"tokens\":null}\n"), "{}", exact.err);
    assert!(!exact.err.contains("device"), "nor for a device: {}", exact.err);
}

#[test]
fn pairs_that_cannot_be_judged_are_named_or_left_out() {
    let place = Place::new();
    let long = "much too long ".repeat(400);
    place.write(
        "pairs.jsonl",
        lines(&[
            json!({"prompt": "What?", "response": "this"}),
            json!({"prompt": "What?", "response": long}),
            json!({"prompt": "What?"}),
        ]),
    );
    let model = language();
    let args = ["loss", "pairs.jsonl", "--model", &model, "--device", "cpu", "-q"];
    let run = place.run(&[&args[..], &["--kind", "reference_gain"]].concat());
    assert_eq!((run.code, run.out.as_str()), (2, ""), "{}", run.err);
    assert!(run.err.starts_with("error: pairs.jsonl:1: reference: is missing"), "{}", run.err);
    let run = place.run(&[&args[..], &["--kind", "lm"]].concat());
    assert!(run.err.starts_with("error: pairs.jsonl:3: response: is missing"), "{}", run.err);
    let run = place.run(&[&args[..6], &["--kind", "lm", "--skip-bad"]].concat());
    assert_eq!((run.code, run.out.lines().count()), (0, 1), "the good one: {}", run.err);
    assert!(
        run.err.contains("pairs.jsonl:2: response: it takes") && run.err.contains("the model reads 512"),
        "{}",
        run.err
    );
}

#[test]
fn score_is_by_mutual_gain_if_nothing_else_is_said() {
    let place = place();
    let mut blank = rows();
    blank[7]["response"] = json!("  ");
    place.write("round.jsonl", lines(&blank));
    let (encoder, judge) = (model(), language());
    let criteria = |pin: &str| format!("[encoder]\nmodel = {encoder:?}\n[loss]\nmodel = {judge:?}\n{pin}");
    place.write("criteria.toml", criteria(""));
    let args = [&["score", "--device", "cpu", "--config", "criteria.toml", "--out", "out"], &ROUND[..]].concat();
    let run = place.run(&args);
    assert_eq!(run.code, 0, "{}", run.err);
    let scores = place.rows("out/scores.jsonl");
    let of = |prompt: &str, miner: &str| {
        let found = scores.iter().find(|row| row["prompt_id"] == prompt && row["miner"] == miner).unwrap();
        (found["loss"].as_f64().unwrap(), found["accuracy"].as_f64().unwrap(), found["score"].as_f64().unwrap())
    };
    assert_eq!(of("p1", "carol").0, of("p1", "alice").0, "equal texts, equal losses");
    assert_eq!(of("p1", "carol").1, of("p1", "alice").1, "and equal accuracies");
    // Two distinct texts stand on either side of their median, and the lesser of two accuracies counts.
    let both = of("p1", "alice").1 + of("p1", "bob").1;
    assert!(both > 0.0 && both < 1.0 + 1e-12, "{scores:?}");
    place.good_score(
        &[&["--config", "criteria.toml", "--loss", "reference_gain", "--out", "one_way"], &ROUND[..]].concat(),
    );
    let one_way = place.rows("one_way/scores.jsonl");
    for (mutual, gain) in scores.iter().zip(&one_way) {
        assert_eq!(mutual["loss"], gain["loss"], "the loss is that of the reference");
        assert!(mutual["accuracy"].as_f64() <= gain["accuracy"].as_f64(), "{mutual} {gain}");
    }
    assert!(scores.iter().zip(&one_way).any(|(mutual, gain)| mutual["accuracy"] != gain["accuracy"]), "it is another");
    assert_eq!((of("p3", "bob").1, of("p3", "bob").2), (0.0, 0.0), "a blank answer");
    assert_eq!(of("p3", "alice").1, 0.5, "alone, and so the median");

    let kept = place.read("out/criteria.toml");
    for line in ["kind = \"mutual_gain\"", "clip = 0.3", "gate = 6.0", "response_tokens = 96", "reference_tokens = 96"]
    {
        assert!(kept.contains(line), "{line} in {kept}");
    }
    let pin = kept.split("[loss]").nth(1).unwrap().lines().find(|line| line.starts_with("sha256 = ")).unwrap();
    place.write("criteria.toml", criteria(pin));
    assert_eq!(place.run(&args).code, 0, "the pinned model");
    place.write("criteria.toml", criteria(&format!("sha256 = \"{}\"", "0".repeat(64))));
    let run = place.run(&args);
    assert_eq!(run.code, 2, "another model");
    assert!(run.err.contains("gguf-mixed/model.gguf: sha256: it is ") && run.err.contains("mean 0000"), "{}", run.err);

    // A language model reads the prompt, which not every round tells.
    let untold: Vec<Value> = rows()
        .into_iter()
        .map(|mut row| {
            row.as_object_mut().unwrap().remove("prompt");
            row
        })
        .collect();
    place.write("round.jsonl", lines(&untold));
    place.write("criteria.toml", criteria(""));
    let run = place.run(&args);
    assert!(run.code == 2 && run.err.contains("prompt \"p1\": its text is not known"), "{}", run.err);
}

/// A metagraph as `btcli --json subnets metagraph` prints it, of ten uids of which 0 is the owner's.
fn metagraph(minimum: u16, limit: u16) -> String {
    let keys = |letter: &str| (0..10).map(|uid| format!("{letter}{uid}")).collect::<Vec<_>>();
    json!({
        "netuid": 3, "num_uids": 10, "hotkeys": keys("h"), "coldkeys": keys("c"), "owner_hotkey": "h0", "owner_coldkey": "c0",
        "min_allowed_weights": minimum, "max_weights_limit": limit, "block": 7,
    })
    .to_string()
}

/// Four miners who earned something, one who did not, and one who has left.
const EARNED: &str = r#"[{"miner":"h4","weight_u16":65535},{"miner":"h5","weight_u16":40000},{"miner":"h7","weight_u16":30000},
    {"miner":"h9","weight_u16":9000},{"miner":"h8","weight_u16":0},{"miner":"stranger","weight_u16":500}]"#;

#[test]
fn weights_are_previewed_and_written_in_every_form() {
    let place = Place::new();
    place.write("miners.json", EARNED);
    place.write("m.json", metagraph(1, 65_535));
    for sdk in ["9", "10", "11"] {
        for (form, right) in [
            ("uid", r#"{"4":65535,"5":40000,"7":30000,"9":9000}"#),
            ("hotkey", r#"{"h4":65535,"h5":40000,"h7":30000,"h9":9000}"#),
            ("u16", r#"{"uids":[4,5,7,9],"values":[65535,40000,30000,9000]}"#),
        ] {
            let run = place.run(&[
                "weights",
                "miners.json",
                "--sdk",
                sdk,
                "--metagraph",
                "m.json",
                "-o",
                "w.json",
                "--format",
                form,
            ]);
            assert_eq!((run.code, place.read("w.json").trim()), (0, right), "SDK {sdk} {form}: {}", run.err);
            assert!(run.out.starts_with(&format!("SDK {sdk} would send 4 of 10 uids\n")), "{}", run.out);
            let gone = "1 miner is not in the metagraph and gets nothing, 0.34 % of the row: stranger";
            assert_eq!(run.err, format!("warning: {gone}\n"), "nothing else to say");
        }
    }
    assert_eq!(place.names(), ["m.json", "miners.json", "w.json"], "nothing is left behind");
}

#[test]
fn weights_in_a_trap_are_not_written() {
    let place = Place::new();
    place.write("miners.json", EARNED);
    place.write("m.json", metagraph(1, 13_107));
    let of = |more: &[&str]| {
        place.run(
            &[&["weights", "miners.json", "--sdk", "11", "--metagraph", "m.json", "-q", "-o", "w.json"], more].concat(),
        )
    };
    let run = of(&[]);
    assert_eq!(run.code, 1, "a finding: {}", run.err);
    insta::assert_snapshot!(run.err, @r"
    error: the row: must not be sent as it is: uniform
      help: mend what the warnings say, or have it written as it is with --allow uniform
    ");
    assert!(!place.path("w.json").exists(), "not written");
    let run = of(&["--allow", "uniform", "--json"]);
    assert_eq!(run.code, 0, "allowed: {}", run.err);
    assert_eq!(place.read("w.json"), "{\"4\":65535,\"5\":65535,\"7\":65535,\"9\":65535}\n", "all alike");
    let found: Value = serde_json::from_str(&run.out).unwrap();
    let traps: Vec<&str> =
        found["traps"].as_array().unwrap().iter().map(|trap| trap["name"].as_str().unwrap()).collect();
    assert_eq!(traps, ["uniform", "over_limit"], "both are told");
    assert_eq!(found["written"], "w.json", "and where it went");
}

#[test]
fn a_row_below_the_minimum_is_refused_padded_or_burned() {
    let place = Place::new();
    place.write("miners.json", EARNED);
    place.write("m.json", metagraph(8, 65_535));
    let of = |sdk: &str, policy: &str| {
        let args = ["weights", "miners.json", "--sdk", sdk, "--metagraph", "m.json", "-o", "w.json", "--format", "u16"];
        let run = place.run(&[&args[..], &["--below-minimum", policy]].concat());
        let written = place.path("w.json").exists().then(|| place.json("w.json")["values"].clone());
        let _ = fs::remove_file(place.path("w.json"));
        (run.code, written, run.err)
    };
    let (code, written, error) = of("11", "error");
    assert_eq!((code, written), (1, None), "SDK 11 sends nothing");
    let said = "error: SDK 11: sends nothing: ChainError: Subnet 3 requires at least 8 weights; only 4 are nonzero";
    assert!(error.contains(said), "{error}");
    let (code, written, error) = of("10", "error");
    assert_eq!((code, written), (1, None), "SDK 10 would pad");
    assert!(error.contains("warning: padded: 4 weights where the subnet wants 8: every one of the 10 uids"), "{error}");
    assert!(error.contains("as it is with --below-minimum pad"), "{error}");
    let padded = json!([1, 1, 1, 1, 65_535, 40_001, 1, 30_001, 1, 9001]);
    for sdk in ["9", "10", "11"] {
        let (code, written, error) = of(sdk, "pad");
        assert_eq!((code, written), (0, Some(padded.clone())), "SDK {sdk} pads: {error}");
        let (code, written, error) = of(sdk, "burn");
        // Half of the eight weights are missing, so half of the row goes to uid 0.
        let burned = json!([65_535, 1, 1, 1, 29_715, 18_137, 13_603, 4081]);
        assert_eq!((code, written), (0, Some(burned)), "SDK {sdk}: {error}");
        assert!(
            error.contains("4 of 8 weights were earned by nobody: 50.00 % of the row goes to uid 0 (h0)"),
            "{error}"
        );
        assert!(error.contains("the least weight there is goes to uids 1, 2, 3"), "{error}");
    }
}

/// `lium-io#1123`: the uid to burn at had passed to a miner, who was paid.
#[test]
fn lium_io_1123_nothing_is_burned_at_a_uid_of_somebody_else() {
    let place = Place::new();
    place.write("miners.json", EARNED);
    place.write("m.json", metagraph(8, 65_535).replace("[\"c0\"", "[\"c9\""));
    let args =
        ["weights", "miners.json", "--sdk", "11", "--metagraph", "m.json", "-o", "w.json", "--below-minimum", "burn"];
    for uid in [&[][..], &["--burn-uid", "0"]] {
        let run = place.run(&[&args[..], uid].concat());
        assert_eq!(run.code, 2, "{}", run.err);
        assert!(run.err.contains("uid 0 belongs to coldkey c9, and the subnet to c0: it would be paid"), "{}", run.err);
        assert!(!place.path("w.json").exists(), "not written");
    }
}

#[test]
fn weights_come_from_scores_and_from_mappings_too() {
    let place = Place::new();
    place.write("m.json", metagraph(1, 65_535));
    let row = |prompt: &str, miner: &str, score: u16| {
        let score = f64::from(score) / 65_535.0;
        json!({"prompt_id": prompt, "miner": miner, "novelty": 1.0, "accuracy": 1.0, "score": score, "chars": 1})
            .to_string()
    };
    // h2 answered one prompt of two.
    place.write("scores.jsonl", [row("p", "h1", 60_000), row("q", "h1", 20_000), row("p", "h2", 20_000)].join("\n"));
    place.write("by_hotkey.json", r#"{"h1": 0.5, "h2": 0.125}"#);
    place.write("by_uid.json", r#"{"1": 4, "2": 1}"#);
    place.write(
        "weights.json",
        r#"{"by_hotkey": {"h1": 0.5, "h2": 0.125}, "by_uid": {}, "u16": {"uids": [], "values": []}}"#,
    );
    for file in ["scores.jsonl", "by_hotkey.json", "by_uid.json", "weights.json"] {
        let run = place.run(&["weights", file, "--sdk", "11", "--metagraph", "m.json", "-o", "w.json"]);
        assert_eq!((run.code, place.read("w.json").trim()), (0, r#"{"1":65535,"2":16384}"#), "{file}: {}", run.err);
    }
    for (text, said) in [
        (r#"{"h1": -1}"#, "bad.json: h1: is no weight, a number from 0 up"),
        (r#"[{"miner": "h1"}]"#, "bad.json: [0].weight_u16: is no weight"),
        ("[{}]", "bad.json: [0].miner: is missing"),
        ("NaN", "bad.json: (file): expected value at line 1"),
        (r#"{"h1": 1, "1": 2}"#, "MINERS: \"1\" and \"h1\" are both uid 1"),
    ] {
        place.write("bad.json", text);
        let run = place.run(&["weights", "bad.json", "--sdk", "11", "--metagraph", "m.json"]);
        assert!(run.code == 2 && run.err.contains(said), "{text}: {} {}", run.code, run.err);
    }
}

#[test]
fn recorded_calls_are_run_and_compared() {
    let place = Place::new();
    let recorded = package().join("datasets/weights/cases.json.gz").display().to_string();
    for (python, numpy) in [("3.11", "2.0"), ("3.12", "2.4")] {
        let run = place.run(&["weights", "--cases", &recorded, "--python", python, "--numpy", numpy]);
        assert_eq!((run.code, run.err.as_str()), (0, "cases 167, differing 0\n"), "Python {python}, NumPy {numpy}");
        assert_eq!(run.out.lines().count(), 167, "a line each");
    }
    let case = |id: &str, weights: Value, expect: Value| {
        let mut case = json!({
            "id": id, "api": "conform", "n": 4, "min_allowed_weights": 1, "max_weight_limit_u16": 65_535, "weights_form": "mapping",
            "uids": {"range": 2}, "weights": weights, "unknown": [],
        });
        if !expect.is_null() {
            case["expect"] = expect;
        }
        case
    };
    let nan = json!(["nan", 1]);
    let file = json!({"cases": [
        case("good", json!(["1e-45", "5e-46"]), Value::Null),
        case("bad", nan, json!({"error": "all_zero"})),
    ]});
    place.write("cases.json", file.to_string());
    let run = place.run(&["weights", "--cases", "cases.json"]);
    assert_eq!(run.code, 1, "a difference");
    assert_eq!(
        run.out,
        "{\"id\":\"good\",\"uids\":[0,1],\"values\":[65535,32768]}\n{\"id\":\"bad\",\"error\":\"not_finite_or_negative\"}\n",
        "with and without what is expected"
    );
    insta::assert_snapshot!(run.err, @r"
    warning: case bad differs from what the file says came out: BittensorError: Weights must be finite and non-negative.
    cases 1, differing 1
    ");
}

/// A round of its own: so many prompts, each answered by these miners with forty words that nobody else would say.
fn unusual(number: u64, miners: &[&str]) -> Vec<Value> {
    let mut rows = Vec::new();
    for prompt in 0..3 {
        for (miner, place) in miners.iter().zip(0..) {
            let mut noise = number * 1000 + prompt * 100 + place + 1;
            let words = (0..40).map(|_| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                format!("{:x}", noise >> 40)
            });
            rows.push(json!({"prompt_id": format!("r{number}p{prompt}"), "prompt": "say something", "miner": miner, "reference": "no",
                "block": number * 1000 + prompt * 10 + place, "response": words.collect::<Vec<_>>().join(" ")}));
        }
    }
    rows
}

/// The files of a folder of results, in bytes.
fn results(folder: &Path) -> Vec<(String, Vec<u8>)> {
    names(folder).into_iter().map(|name| (name.clone(), fs::read(folder.join(name)).unwrap())).collect()
}

#[test]
fn a_state_is_as_good_as_the_files_of_earlier_rounds() {
    for precision in ["exact", "f32"] {
        let place = Place::new();
        for number in 1..=3 {
            place.write(&format!("{number}.jsonl"), lines(&unusual(number, &["alice", "bob"])));
        }
        // The last round has what others said before.
        let mut last = unusual(3, &["alice", "bob"]);
        let (first, second) = (unusual(1, &["alice", "bob"]), unusual(2, &["alice", "bob"]));
        last[1]["response"] = first[0]["response"].clone();
        last[2]["response"] = second[3]["response"].clone();
        place.write("3.jsonl", lines(&last));
        let with = |round: &str, more: &[&str]| {
            place.good_score(&[&[round, "--precision", precision, "--out", "out"], more].concat());
            results(&place.path("out"))
        };
        let plain = with("3.jsonl", &["--history", "1.jsonl", "--history", "2.jsonl"]);
        with("1.jsonl", &["--state", "state"]);
        with("2.jsonl", &["--state", "state"]);
        let kept = with("3.jsonl", &["--state", "state"]);
        assert_eq!(kept, plain, "{precision}: to the byte");
        assert_eq!(
            with("3.jsonl", &["--state", "state"]),
            plain,
            "{precision}: scored again, it is not compared with itself"
        );
        let copies = place.json("out/copies.json");
        assert_eq!(copies.as_array().unwrap().len(), 2, "{precision}: both copied each other: {copies}");
        assert_eq!(place.json("out/weights.json")["by_uid"], json!({}), "{precision}: nobody said a uid");
        let run = place.run(&["--json", "state", "show", "state"]);
        let size = &serde_json::from_str::<Value>(&run.out).unwrap()["size"];
        assert_eq!((&size["recorded"], &size["responses"]), (&json!(3), &json!(18)), "{precision}: {}", run.out);
    }
}

/// A moving average needs a memory: `--state` is one, by hotkey.
#[test]
fn averages_go_on_from_round_to_round_in_a_state() {
    let place = Place::new();
    // Right answers are all alike: novelty must not count.
    place.write(
        "criteria.toml",
        "[score]\nnovelty_power = 0.0\n\n[loss]\nkind = \"exact\"\nmatch = \"text\"\n\n[[weights.stages]]\nkind = \"ema\"\nalpha = 0.25\nstart = \"first\"\nunqueried = \"keep\"\n",
    );
    let round = |number: u64, right: &[&str], wrong: &[&str]| {
        let mut rows = unusual(number, &[right, wrong].concat());
        for row in &mut rows {
            row["reference"] = json!("yes");
            if right.contains(&row["miner"].as_str().unwrap()) {
                row["response"] = json!("yes");
            }
        }
        place.write(&format!("{number}.jsonl"), lines(&rows));
    };
    let averages = |number: u64| -> Vec<(String, f64)> {
        let file = format!("{number}.jsonl");
        place.good_score(&[&file, "--config", "criteria.toml", "--state", "state", "--out", "out"]);
        let miners = place.json("out/miners.json");
        let of = |row: &Value| (row["miner"].as_str().unwrap().to_owned(), row["stages"][0]["value"].as_f64().unwrap());
        let mut averages: Vec<_> = miners.as_array().unwrap().iter().map(of).collect();
        averages.sort_by(|a, b| a.0.cmp(&b.0));
        averages
    };
    let expect = |found: Vec<(String, f64)>, right: &[(&str, f64)]| {
        assert_eq!(found.len(), right.len(), "{found:?}");
        for ((name, value), (miner, wanted)) in found.iter().zip(right) {
            assert!(name == miner && (value - wanted).abs() < 1e-9, "{found:?} where {right:?} is right");
        }
    };
    round(1, &["alice"], &["bob"]);
    expect(averages(1), &[("alice", 1.0), ("bob", 0.0)]);
    // Alice is not asked, and keeps what she has; bob is right once: a quarter.
    round(2, &["bob"], &["carol"]);
    expect(averages(2), &[("alice", 1.0), ("bob", 0.25), ("carol", 0.0)]);
    expect(averages(2), &[("alice", 1.0), ("bob", 0.25), ("carol", 0.0)]);
    round(3, &["carol"], &["alice"]);
    expect(averages(3), &[("alice", 0.75), ("bob", 0.25), ("carol", 0.25)]);
    // Another policy: who is not asked is forgotten, for good, and scored again the round forgets nobody else.
    let criteria = place.read("criteria.toml").replace("keep", "zero");
    place.write("criteria.toml", criteria);
    round(4, &["alice"], &["bob"]);
    for _ in 0..2 {
        expect(averages(4), &[("alice", 0.8125), ("bob", 0.1875)]);
    }
    round(5, &["carol"], &["bob"]);
    expect(averages(5), &[("bob", 0.140625), ("carol", 1.0)]);
    let run = place.run(&["--json", "state", "show", "state"]);
    assert!(run.code == 0 && run.out.contains("\"recorded\":5"), "scored again, it counts once: {}", run.out);
}

#[test]
fn dippy_70_an_answer_that_comes_again_under_a_new_hotkey_is_a_copy() {
    let place = Place::new();
    place.write("1.jsonl", lines(&unusual(1, &["author", "other"])));
    let mut again = unusual(1, &["fresh", "other"]);
    for (row, place) in again.iter_mut().zip(0..) {
        row["prompt_id"] = json!(format!("again {}", place / 2));
        row["block"] = json!(9_000 + place);
    }
    place.write("2.jsonl", lines(&again));
    place.good_score(&["1.jsonl", "--state", "state", "--out", "out"]);
    place.good_score(&["2.jsonl", "--state", "state", "--out", "out"]);
    let scores = place.rows("out/scores.jsonl");
    for row in scores {
        match row["miner"].as_str().unwrap() {
            "fresh" => assert_eq!(row["copy_of"], "author", "he says what somebody else said in another round: {row}"),
            _ => assert!(row["copy_of"].is_null(), "who says again what he said himself copies nobody: {row}"),
        }
    }
    // The same miner under a new name, once somebody says so.
    place.good_score(&["1.jsonl", "--state", "swapped", "--out", "out"]);
    let run = place.run(&["state", "swap", "swapped", "--from", "author", "--to", "fresh"]);
    assert_eq!(run.code, 0, "{}", run.err);
    place.good_score(&["2.jsonl", "--state", "swapped", "--out", "out"]);
    assert!(place.rows("out/scores.jsonl").iter().all(|row| row["copy_of"].is_null()), "he copies nobody now");
}

#[test]
fn a_state_in_use_or_out_of_turn_is_refused_before_anything_is_scored() {
    let place = Place::new();
    for number in 1..=2 {
        place.write(&format!("{number}.jsonl"), lines(&unusual(number, &["alice", "bob"])));
        place.good_score(&[&format!("{number}.jsonl"), "--state", "state", "--out", "out"]);
    }
    let late = place.score(&["1.jsonl", "--state", "state", "--out", "late"]);
    assert_eq!(late.code, 2, "{}", late.err);
    assert!(late.err.contains("this round is number 1 of 2"), "{}", late.err);
    let store = tauscore::state::Store::open(&place.path("state")).unwrap();
    let busy = place.score(&["2.jsonl", "--state", "state", "--out", "late"]);
    assert_eq!(busy.code, 2, "{}", busy.err);
    assert!(busy.err.contains("in use by another process") && busy.err.contains("help"), "{}", busy.err);
    drop(store);
    assert!(!place.path("late").exists(), "no results");
    let missing = place.run(&["state", "show", "nowhere"]);
    assert_eq!(missing.code, 2, "nothing is made by looking: {}", missing.err);
    place.write("state/state.redb", "half a file");
    let damaged = place.score(&["2.jsonl", "--state", "state", "--out", "late"]);
    assert!(damaged.code == 2 && damaged.err.contains("state.redb"), "{}", damaged.err);
}

#[test]
fn a_score_that_is_killed_leaves_a_state_to_go_on_from() {
    let place = Place::new();
    let (mut killed, mut took) = (0, std::time::Duration::from_millis(500));
    for number in 1..=12_u64 {
        let name = format!("{number}.jsonl");
        place.write(&name, lines(&unusual(number, &["alice", "bob"])));
        let model = model();
        let args = [
            "score",
            "--model",
            &model,
            "--device",
            "cpu",
            "--loss",
            "embedding",
            &name,
            "--state",
            "state",
            "--out",
            "out",
        ];
        // Killed in one part of its time after the other, then left alone: the same command goes on.
        let mut child = place.command(&args).spawn().unwrap();
        std::thread::sleep(took.mul_f64(number as f64 / 12.0));
        killed += u64::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        let began = std::time::Instant::now();
        let run = place.run(&args);
        took = began.elapsed();
        assert_eq!(run.code, 0, "{}", run.err);
        let store = tauscore::state::Store::open(&place.path("state")).unwrap();
        assert_eq!(store.size().unwrap().recorded, number, "each round once");
    }
    assert!(killed > 5, "only {killed} of 12 were still running");
}

#[test]
fn a_metagraph_comes_in_and_is_shown() {
    let place = Place::new();
    let dump = package().join("datasets/metagraph/v11.json").display().to_string();
    let run = place.run(&["state", "import", &dump, "-o", "state.json"]);
    assert_eq!(
        (run.code, run.out.as_str()),
        (0, "state.json: 6 neurons at block 5000000, 2 rows of weights\n"),
        "{}",
        run.err
    );
    let shown = place.run(&["state", "show", "state.json"]);
    insta::assert_snapshot!("state_show", shown.out);
    assert_eq!(place.run(&["state", "show", &dump]).out, shown.out, "what can be imported can be shown");
    let json: Value = serde_json::from_str(&place.run(&["--json", "state", "show", "state.json"]).out).unwrap();
    assert_eq!(json["neurons"][3]["rao_stake"], "16125000000", "amounts are texts");
    assert_eq!(json["hyper"]["max_weights_limit"], 21_845, "{}", json["hyper"]);

    let lite = package().join("datasets/metagraph/v10_lite.json").display().to_string();
    let run = place.run(&["state", "import", &lite, "--rao-emission", "5"]);
    assert!(run.code == 0 && run.err.contains("no weights"), "{}", run.err);
    assert_eq!(serde_json::from_str::<Value>(&run.out).unwrap()["rao_emission"], "5", "as it was said");
    let bare = package().join("datasets/metagraph/v10_unsynchronised.json").display().to_string();
    let run = place.run(&["state", "import", &bare]);
    assert!(run.code == 2 && run.err.contains("v10_unsynchronised.json: S: missing"), "{}", run.err);

    place.write("round.jsonl", lines(&unusual(1, &["hotkey_3", "hotkey_2"])));
    place.good_score(&["round.jsonl", "--metagraph", &dump, "--state", "state", "--out", "out"]);
    assert_eq!(keys(&place.json("out/weights.json")["by_uid"]), ["2", "3"], "uids are looked up in the dump itself");
    insta::assert_snapshot!("state_show_kept", place.run(&["state", "show", "state"]).out);
}

// The record.

/// A throwaway hotkey's file and address, as bittensor's wallets wrote them.
fn hotkey(place: &Place) -> String {
    let file = package().join("datasets/signatures/bittensor_wallet_4.json");
    let known: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let key = known["keys"].as_array().unwrap().iter().find(|key| key["scheme"] == "sr25519").unwrap();
    place.write("hotkey.json", key["key_file"].as_str().unwrap());
    key["address"].as_str().unwrap().to_owned()
}

/// Three rounds of the same prompts, each a thousand blocks later.
fn recorded_place() -> Place {
    let place = place();
    for later in 0..3_u64 {
        let rows: Vec<Value> = rows()
            .into_iter()
            .map(|mut row| {
                row["block"] = (row["block"].as_u64().unwrap() + 1000 * later).into();
                row["response"] = format!("{} ({later})", row["response"].as_str().unwrap()).into();
                row
            })
            .collect();
        place.write(&format!("round{later}.jsonl"), lines(&rows));
    }
    place
}

/// `score` of one of these rounds into `ledger`.
fn record(place: &Place, round: u64, more: &[&str]) -> Run {
    let round = format!("round{round}.jsonl");
    let args =
        [&[round.as_str(), "--references", "references.jsonl", "--out", "out", "--ledger", "ledger"], more].concat();
    place.good_score(&args)
}

#[test]
fn a_ledger_is_written_verified_proved_and_replayed() {
    let place = recorded_place();
    let address = hotkey(&place);
    place.write("state.json", state().to_string());
    let signed = ["--sign", "hotkey.json"];
    let epoch = ["--epoch", "state.json", "--validator", "large"];
    let run = record(&place, 0, &[&signed[..], &epoch].concat());
    assert!(run.out.lines().last().unwrap().starts_with("ledger: entry 1, "), "{}", run.out);
    let again = record(&place, 0, &[&signed[..], &epoch].concat());
    assert_eq!(run.out.lines().last(), again.out.lines().last(), "the same round again is the same entry");
    record(&place, 1, &[&signed[..], &epoch, &["--history", "round0.jsonl"]].concat());
    assert_eq!(place.names().iter().filter(|name| name.starts_with('.')).count(), 0, "nothing is left behind");

    let run = place.run(&["verify", "ledger", "--allow", &address]);
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
    assert!(
        run.out.starts_with("ledger: 2 entries, 2 of them signed; 2 rounds of 16 responses, 2 epochs\n"),
        "{}",
        run.out
    );
    assert!(run.out.ends_with("Everything holds: chain, digests, signatures, weights and epochs.\n"), "{}", run.out);
    let stranger = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";
    let run = place.run(&["verify", "ledger", "--allow", stranger]);
    assert_eq!(run.code, 1, "{}", run.err);
    assert!(
        run.out.contains(&format!("FINDING entry 1: signer: expected one of those allowed, found {address}")),
        "{}",
        run.out
    );
    let json: Value = serde_json::from_str(&place.run(&["verify", "ledger", "--entry", "2", "--json"]).out).unwrap();
    assert_eq!(
        (&json["verified"]["findings"], &json["entry"]["signature_holds"]),
        (&json!([]), &json!(true)),
        "{json}"
    );
    let (head, criteria) =
        (json["entry"]["digest"].as_str().unwrap(), json["entry"]["head"]["criteria"].as_str().unwrap());
    assert_eq!(Some(criteria), json["verified"]["criteria"].as_str(), "in force");
    assert_eq!(
        criteria,
        blake3::hash(place.read("out/criteria.toml").as_bytes()).to_string(),
        "of the file that was written"
    );

    // Scored again, from the texts.
    let again = ["verify", "ledger", "--recompute", "--references", "references.jsonl", "--device", "cpu", "--round"];
    let run = place.run(&[&again[..], &["round0.jsonl"]].concat());
    assert!(run.code == 0 && run.out.contains("entry 1 scored again is the same"), "{}{}", run.out, run.err);
    let run = place.run(&[&again[..], &["round1.jsonl", "--history", "round0.jsonl"]].concat());
    assert!(run.code == 0 && run.out.contains("entry 2 scored again is the same"), "{}{}", run.out, run.err);
    let run = place.run(&[&again[..], &["round1.jsonl"]].concat());
    assert!(run.code == 1 && run.out.contains("entry 2: history: expected 1 earlier rounds"), "{}", run.out);
    let run = place.run(&[&again[..], &["round2.jsonl"]].concat());
    assert!(run.code == 2 && run.err.contains("no entry is of this round"), "{}", run.err);
    let run = place.run(&[&again[..], &["round2.jsonl", "--entry", "1"]].concat());
    assert!(run.code == 1 && run.out.contains("entry 1: response of alice to \"p1\": expected"), "{}", run.out);
    place.write("others.jsonl", lines(&[json!({"prompt_id": "p1", "reference": "a banana"})]));
    let run =
        place.run(&["verify", "ledger", "--recompute", "--references", "others.jsonl", "--round", "round0.jsonl"]);
    assert_eq!(run.code, 2, "without all references nothing can be scored: {}", run.err);

    // A miner's proof.
    let run = place.run(&["prove", "ledger", "--hotkey", "carol", "--entry", "2", "--out", "proof.json"]);
    assert!(
        run.code == 0 && run.out.contains("2 responses and the weight of carol in entry 2"),
        "{}{}",
        run.out,
        run.err
    );
    assert!(!place.read("proof.json").contains("alice"), "it says nothing of others");
    let proof = ["verify", "--proof", "proof.json", "--root"];
    let run = place.run(&[&proof[..], &[head, "--round", "round1.jsonl", "--allow", &address]].concat());
    assert!(run.code == 0 && run.out.contains("Everything holds"), "{}{}", run.out, run.err);
    let run = place.run(&[&proof[..], &[head, "--round", "round2.jsonl"]].concat());
    assert!(run.code == 1 && run.out.contains("text to \"p1\": expected"), "other texts: {}", run.out);
    let run = place.run(&[&proof[..], &[criteria]].concat());
    assert!(run.code == 1 && run.out.contains("the head of entry 2: expected"), "another root: {}", run.out);
    let mut changed = place.json("proof.json");
    changed["weight"]["weight"] = json!(65_535);
    place.write("proof.json", changed.to_string());
    let run = place.run(&[&proof[..], &[head]].concat());
    assert!(run.code == 1 && run.out.contains("the weight: expected"), "{}", run.out);
    let run = place.run(&["prove", "ledger", "--hotkey", "dave"]);
    assert!(run.code == 2 && run.err.contains("\"dave\" is not in any entry of the 2"), "{}", run.err);

    // Tampered with.
    let mut bytes = fs::read(place.path("ledger")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    place.write("tampered", &bytes);
    let run = place.run(&["verify", "tampered"]);
    assert!(run.code == 1 && run.out.contains("FINDING entry 1: bytes: "), "{}", run.out);
    let run = place.run(&["prove", "tampered", "--hotkey", "carol"]);
    assert!(run.code == 2 && run.err.contains("what does not verify proves nothing"), "{}", run.err);
    let run = place.run(&["verify", "round0.jsonl"]);
    assert!(run.code == 2 && run.err.contains("it does not begin as a ledger does"), "{}", run.err);
}

#[test]
fn criteria_change_in_a_ledger_by_a_step_of_their_own() {
    let place = recorded_place();
    let model = model();
    let criteria = |more: &str| {
        format!(
            "[encoder]\nmodel = {model:?}\n[loss]\nkind = \"embedding\"\n{more}[[weights.stages]]\nkind = \"ema\"\nalpha = 0.5\n"
        )
    };
    place.write("old.toml", criteria(""));
    place.write("new.toml", criteria("[score]\nnovelty_power = 2.0\n"));
    let with = |config: &'static str| ["--config", config, "--state", "kept"];
    record(&place, 0, &with("old.toml"));
    // What it is scored by has the encoder's digest filled in, as the file in the results has.
    fs::copy(place.path("out/criteria.toml"), place.path("old.toml")).unwrap();
    record(&place, 1, &with("old.toml"));
    let run = place.run(&["verify", "ledger"]);
    assert_eq!(run.code, 0, "averages go on from round to round: {}", run.out);
    let pinned = place.read("old.toml").replace("novelty_power = 1.0", "novelty_power = 2.0");
    place.write("new.toml", pinned);

    let args = ["round2.jsonl", "--references", "references.jsonl", "--out", "out", "--ledger", "ledger"];
    let run = place.score(&[&args[..], &with("new.toml")].concat());
    assert!(run.code == 2 && run.err.contains("tauscore criteria adopt"), "{}", run.err);
    let run = place.run(&["criteria", "adopt", "ledger", "new.toml", "--averages", "reset"]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(run.out.contains("by its owner's decision alone; averages and ratings begin anew"), "{}", run.out);
    let run = place.run(&["criteria", "adopt", "ledger", "new.toml", "--averages", "keep"]);
    assert!(run.code == 2 && run.err.contains("these are the criteria in force"), "{}", run.err);
    record(&place, 2, &with("new.toml"));
    let run = place.run(&["verify", "ledger"]);
    assert!(run.code == 0 && run.out.starts_with("ledger: 4 entries"), "{}", run.out);
    assert!(!run.out.contains("note: "), "averages began anew, as the change says: {}", run.out);
    let run = place.run(&["verify", "ledger", "--entry", "3"]);
    assert!(run.out.contains("criteria changed from "), "{}", run.out);
    let run = place.run(&["report", "ledger", "-o", "report.html"]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(place.read("report.html").contains("carol"), "the miners are in it");
}

#[test]
fn what_a_ledger_cannot_take_is_refused_before_anything_is_scored() {
    let place = recorded_place();
    hotkey(&place);
    let run =
        place.score(&["round0.jsonl", "--references", "references.jsonl", "--out", "out", "--sign", "hotkey.json"]);
    assert!(run.code == 2 && run.err.contains("there is none") && run.err.contains("--ledger"), "{}", run.err);
    record(&place, 1, &["--netuid", "3"]);
    for (args, text) in [
        (&["--netuid", "4"][..], "the ledger is of subnet 3.0, and the round of 4.0"),
        (&["--netuid", "3"], "its last entry is of block 1031, and the round of 31"),
    ] {
        let args =
            [&["round0.jsonl", "--references", "references.jsonl", "--out", "no", "--ledger", "ledger"], args].concat();
        let run = place.score(&args);
        assert!(run.code == 2 && run.err.contains(text) && run.err.contains("help: "), "{}", run.err);
        assert!(!place.path("no").exists(), "nothing is written");
    }
    let run = place.run(&["criteria", "adopt", "nothing", "round0.jsonl", "--averages", "keep"]);
    assert_eq!(run.code, 2, "{}", run.err);
}
