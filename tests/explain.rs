//! `tauscore explain`: what it says of rounds that `score` scored, and of folders that were spoilt.
#![cfg(feature = "cli")]
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::package;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder to run in.
struct Place(TempDir);

/// What came of a run.
struct Run {
    code: i32,
    out: String,
    err: String,
}

/// Five miners and six prompts: `dora` copies what `anna` answered, `erik` leaves half of the prompts out and one answer blank.
fn rows(round: u32) -> String {
    let subjects = ["the harbour", "an old mill", "his garden", "the long bridge", "a market", "the lighthouse"];
    let mut text = String::new();
    for (prompt, subject) in subjects.iter().enumerate() {
        let asked = format!("What is known of {subject} in year {round}?");
        let annas = format!(
            "In year {round} {subject} was painted blue by eleven sailors who had lost a bet about the weather, says the mayor."
        );
        let mut row = |miner: &str, uid: u32, block: u32, response: &str| {
            let row = json!({"prompt_id": format!("p{prompt}"), "prompt": asked, "miner": miner, "uid": uid, "block": block,
                "response": response});
            text.push_str(&format!("{row}\n"));
        };
        row("anna", 1, 10, &annas);
        row(
            "bert",
            2,
            11,
            &format!("Nobody went near {subject} that year: floods had closed each road from March to {prompt} May."),
        );
        row(
            "carl",
            3,
            12,
            &format!("There stood a statue beside {subject}, of a queen with {prompt} dogs; thieves took it."),
        );
        row("dora", 4, 13, &annas.to_uppercase());
        if prompt % 2 == 0 {
            row(
                "erik",
                5,
                14,
                if prompt == 0 { " \n" } else { "Seven ships, I believe, and a good deal of rope\u{1b}[2J." },
            );
        }
    }
    text
}

fn references() -> String {
    let reference = |prompt: usize| json!({"prompt_id": format!("p{prompt}"), "reference": format!("Eleven sailors painted it blue, {prompt} of them twice.")});
    (0..6).map(|prompt| format!("{}\n", reference(prompt))).collect()
}

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.write("references.jsonl", references());
        for round in 1..=2 {
            place.write(&format!("{round}.jsonl"), rows(round));
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_str(&fs::read_to_string(self.path(name)).unwrap()).unwrap()
    }

    fn run(&self, args: &[&str]) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tauscore"));
        command.args(args).current_dir(self.0.path()).env("TAUSCORE_HOME", self.path("home")).stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Run { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Scores a round by criteria with these stages into `out`.
    fn score(&self, round: u32, stages: &str, more: &[&str]) {
        self.write("criteria.toml", format!("[loss]\nkind = \"embedding\"\n{stages}"));
        let (model, round) = (package().join("datasets/models/f32-mean"), format!("{round}.jsonl"));
        let model = model.display().to_string();
        let args = [
            "score",
            &round,
            "--references",
            "references.jsonl",
            "--config",
            "criteria.toml",
            "--out",
            "out",
            "--model",
            &model,
        ];
        let run = self.run(&[&args[..], &["--device", "cpu", "--quiet"], more].concat());
        assert_eq!(run.code, 0, "{}", run.err);
    }

    fn explain(&self, miner: &str) -> Value {
        let run = self.run(&["explain", "out", "--miner", miner, "--json"]);
        assert_eq!(run.code, 0, "{}", run.err);
        serde_json::from_str(&run.out).unwrap()
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

/// The what-if of a name.
fn what_if<'a>(explanation: &'a Value, change: &str) -> Option<&'a Value> {
    explanation["what_ifs"].as_array().unwrap().iter().find(|what_if| what_if["change"] == change)
}

/// A miner's row of `miners.json`.
fn miner(place: &Place, name: &str) -> Value {
    place.json("out/miners.json").as_array().unwrap().iter().find(|row| row["miner"] == name).unwrap().clone()
}

#[test]
fn a_miner_reads_what_he_was_paid_for() {
    let place = Place::new();
    place.score(1, "", &[]);
    for name in ["anna", "dora", "erik"] {
        let run = place.run(&["explain", "out", "--miner", name]);
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{name}");
        assert!(!run.out.contains('\u{1b}'), "{name}: nothing writes to the terminal");
        // The criteria name the model's folder, which is elsewhere in every clone.
        let digest = run.out.lines().last().unwrap().strip_prefix("criteria ").unwrap();
        assert_eq!(digest.len(), 64, "{name}: {digest}");
        insta::assert_snapshot!(format!("explain_{name}"), run.out.replace(digest, "DIGEST"));
    }
    let (by_name, by_uid) = (place.explain("dora"), place.explain("4"));
    assert_eq!(by_name, by_uid, "by uid it is the same");
}

#[test]
fn what_ifs_are_what_the_criteria_would_have_made() {
    let place = Place::new();
    place.score(1, "", &[]);
    let scores: Vec<Value> = fs::read_to_string(place.path("out/scores.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let sum =
        |name: &str| -> f64 { scores.iter().filter(|row| row["miner"] == name).map(|row| number(&row["score"])).sum() };
    let others: f64 = ["anna", "bert", "carl", "dora", "erik"].iter().map(|name| sum(name)).sum::<f64>();
    // Mean scores over the same six prompts, so that shares are those of sums.
    let share = |name: &str, own: f64| own / (others - sum(name) + own);
    let near = |what_if: &Value, right: f64| {
        assert!((number(&what_if["weight"]["value"]) - right).abs() < 1e-4, "{what_if}: {right}");
    };

    let dora = place.explain("dora");
    let accuracy: f64 = scores.iter().filter(|row| row["miner"] == "dora").map(|row| number(&row["accuracy"])).sum();
    near(what_if(&dora, "own_answers").unwrap(), share("dora", accuracy));
    assert_eq!(dora["what_ifs"][0]["change"], "own_answers", "the largest comes first: {dora}");
    assert_eq!(dora["penalties"]["copies"]["count"], 6, "{dora}");
    assert_eq!((&dora["copied"][0]["miner"], &dora["copied"][0]["responses"]), (&json!("anna"), &json!(6)), "of whom");
    let anna = place.explain("anna");
    assert_eq!((&anna["copied"], &anna["copied_by"][0]["miner"]), (&json!([]), &json!("dora")), "and by whom");

    let erik = place.explain("erik");
    let answered = sum("erik") / 2.0;
    near(what_if(&erik, "all_judged").unwrap(), share("erik", 3.0 * answered));
    near(what_if(&erik, "all_answered").unwrap(), share("erik", sum("erik") + 3.0 * answered));
    assert_eq!(erik["penalties"]["unanswered"]["count"], 3, "{erik}");
    assert!((number(&erik["penalties"]["unanswered"]["cost"]) - 3.0 * sum("erik") / 3.0 / 6.0).abs() < 1e-9, "{erik}");
    assert_eq!(erik["penalties"]["blank"]["count"], 1, "{erik}");

    for name in ["anna", "bert", "carl", "dora", "erik"] {
        let explanation = place.explain(name);
        let row = miner(&place, name);
        assert_eq!(explanation["weight_u16"], row["weight_u16"], "{name}: the weight is the folder's");
        let gains: Vec<f64> =
            explanation["what_ifs"].as_array().unwrap().iter().map(|what_if| number(&what_if["gain"])).collect();
        assert!(!gains.is_empty() && gains.is_sorted_by(|a, b| a >= b), "{name}: {gains:?}");
        // The accuracy of the best, each at his own novelty: with all novelty saturated that is his mean score.
        if let Some(best) = what_if(&explanation, "accuracy_of_best").filter(|_| name == "bert" || name == "carl") {
            let wanted =
                scores.iter().map(|row| row["miner"].as_str().unwrap()).collect::<std::collections::BTreeSet<_>>();
            let wanted = wanted.into_iter().map(|name| number(&miner(&place, name)["accuracy"])).fold(0.0, f64::max);
            assert!((number(&best["score"]) - wanted).abs() < 2e-5, "{name}: {best} has {wanted}");
        }
        let text = explanation.to_string();
        assert!(!text.contains("cannot be told"), "{name}: {text}");
    }
}

#[test]
fn stages_are_gone_through_again() {
    let stages = "[[weights.stages]]\nkind = \"win_rate\"\nclones = \"once\"\n[[weights.stages]]\nkind = \"power\"\nexponent = 2";
    let place = Place::new();
    place.score(1, stages, &[]);
    let dora = place.explain("dora");
    let kinds: Vec<&str> =
        dora["stages"].as_array().unwrap().iter().map(|stage| stage["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["win_rate", "power"], "what each gave");
    assert_eq!(dora["weight_u16"], 0, "a clone has no seat");
    let own = what_if(&dora, "own_answers").unwrap();
    assert!(number(&own["weight"]["value"]) > 0.1, "with answers of her own she has one: {own}");
    let accuracy = what_if(&dora, "accuracy_of_best").or(what_if(&dora, "accuracy_of_median"));
    assert!(
        accuracy.is_none_or(|accuracy| number(&accuracy["gain"]) == 0.0),
        "accuracy alone gives her none: {accuracy:?}"
    );
}

#[test]
fn what_was_remembered_is_reckoned_back_or_named() {
    let place = Place::new();
    let ema = "[[weights.stages]]\nkind = \"ema\"\nalpha_up = 0.25\nalpha_down = 0.5";
    for round in 1..=2 {
        place.score(round, ema, &["--state", "state"]);
    }
    let bert = place.explain("bert");
    assert!(bert["notes"][0].as_str().unwrap().contains("reckoned back"), "{bert}");
    let gain = number(&what_if(&bert, "accuracy_of_best").unwrap()["gain"]);
    place.score(2, "", &[]);
    let at_once = number(&what_if(&place.explain("bert"), "accuracy_of_best").unwrap()["gain"]);
    assert!(gain > 0.0 && gain < 0.75 * at_once, "an average moves by a part: {gain} of {at_once}");

    let place = Place::new();
    let rating = "[[weights.stages]]\nkind = \"rating\"";
    place.score(1, rating, &["--state", "state"]);
    assert!(
        what_if(&place.explain("bert"), "accuracy_of_best").is_some(),
        "before the first round nothing is remembered"
    );
    place.score(2, rating, &["--state", "state"]);
    let bert = place.explain("bert");
    assert_eq!(bert["what_ifs"], json!([]), "ratings are not in the folder");
    assert!(bert["notes"][0].as_str().unwrap().contains("ratings before the round"), "{bert}");
}

#[test]
fn who_did_not_answer_is_told_so() {
    let place = Place::new();
    let ema = "[[weights.stages]]\nkind = \"ema\"\nalpha = 0.5";
    place.score(1, ema, &["--state", "state"]);
    let without: String =
        rows(2).lines().filter(|line| !line.contains("bert")).map(|line| format!("{line}\n")).collect();
    place.write("2.jsonl", without);
    place.score(2, ema, &["--state", "state"]);
    let bert = place.explain("bert");
    assert!(number(&bert["weight"]["value"]) > 0.0 && bert["answered"] == 0, "he lives on his average: {bert}");
    assert!(bert["notes"][0].as_str().unwrap().contains("answered nothing in this round"), "{bert}");
    let text = place.run(&["explain", "out", "--miner", "bert"]).out;
    assert!(text.contains("note: he answered nothing") && text.contains("ema"), "{text}");
}

#[test]
fn mistakes_are_named() {
    let place = Place::new();
    place.score(1, "", &[]);
    let run = place.run(&["explain", "out", "--miner", "berti"]);
    assert_eq!(run.code, 2, "nobody of that name");
    assert!(run.err.contains("--miner") && run.err.contains("did you mean \"bert\""), "{}", run.err);
    let run = place.run(&["explain", "out", "--miner", "77"]);
    assert!(run.code == 2 && run.err.contains("hotkey or uid \"77\""), "{}", run.err);

    let spoil = |file: &str, spoil: &dyn Fn(String) -> String| {
        let path = place.path("out").join(file);
        let right = fs::read_to_string(&path).unwrap();
        fs::write(&path, spoil(right.clone())).unwrap();
        let run = place.run(&["explain", "out", "--miner", "bert"]);
        fs::write(&path, right).unwrap();
        run
    };
    let cut = spoil("scores.jsonl", &|text| text.replacen("\"accuracy\"", "\"precision\"", 1));
    assert!(cut.code == 2 && cut.err.contains("scores.jsonl:1: row: missing field `accuracy`"), "{}", cut.err);
    for file in ["miners.json", "copies.json", "criteria.toml"] {
        let cut = spoil(file, &|text| text[..text.len() / 2].to_owned() + "\u{0}");
        assert!(cut.code == 2 && cut.err.contains(file), "{file}: {}", cut.err);
    }
    let other = spoil("miners.json", &|text| text.replace("\"carl\"", "\"karl\""));
    assert!(other.code == 2 && other.err.contains("\"carl\" is not there"), "{}", other.err);
    let changed = spoil("miners.json", &|text| text.replacen("\"weight_u16\": 65535", "\"weight_u16\": 65000", 1));
    assert!(changed.code == 0 && changed.out.contains("do not follow from scores.jsonl"), "{}", changed.out);
    let changed = spoil("scores.jsonl", &|text| {
        let change = |line: &str| {
            let mut row: Value = serde_json::from_str(line).unwrap();
            row["novelty"] = json!(0.001);
            format!("{row}\n")
        };
        text.lines().map(change).collect()
    });
    assert!(changed.code == 0 && changed.out.contains("some scores do not follow"), "{}", changed.out);
    assert!(place.run(&["explain", "nowhere", "--miner", "bert"]).err.contains("scores.jsonl"), "no such folder");
    assert!(Path::new(&place.path("out")).is_dir(), "nothing is lost");
}
