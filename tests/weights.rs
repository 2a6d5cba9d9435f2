//! Declared stages of weights: the recipes that ship, held to their formulas on rounds worked by hand; the same bits everywhere; and what a
//! scored round makes of them.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

mod common;

use std::collections::BTreeMap;
use std::fs;

use common::package;
use tauscore::config::{Config, LossKind, Precision};
use tauscore::data::{Options, ReferenceRow, Round, Row};
use tauscore::device::Device;
use tauscore::pipeline::{self, Models, Outcome, Past};
use tauscore::progress::Event;
use tauscore::stages::weights::{self, Answer, Copying, Entrant, Memory, Rating, Table, Weighed};
use tauscore::stages::yuma::State;

/// The recipes that ship, by name.
fn recipes() -> BTreeMap<String, Config> {
    let entries = fs::read_dir(package().join("datasets/recipes")).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.extension().is_some_and(|end| end == "toml"));
    files.map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), Config::read(&path).unwrap())).collect()
}

/// A miner, the block of his first submission, and his scores by prompt.
type Line<'a> = (&'a str, u64, &'a [Option<u16>]);

/// What miners scored; the accuracies are the scores, unless given.
struct Sheet<'a> {
    prompts: &'a [&'a str],
    miners: &'a [Line<'a>],
}

impl Sheet<'_> {
    fn table(&self) -> Table {
        let entrant = |(hotkey, block, _): &Line<'_>| Entrant {
            hotkey: (*hotkey).to_owned(),
            block: Some(*block),
            ..Entrant::default()
        };
        let mut answers = Vec::new();
        for prompt in 0..self.prompts.len() {
            for (entrant, (_, _, scores)) in (0..).zip(self.miners) {
                if let Some(score) = scores[prompt] {
                    answers.push(Answer { prompt: prompt as u32, entrant, score, accuracy: score, novelty: 65_535 });
                }
            }
        }
        Table {
            entrants: self.miners.iter().map(entrant).collect(),
            prompts: self.prompts.iter().map(|id| (*id).to_owned()).collect(),
            answers,
            unanswered_is_zero: true,
            ..Table::default()
        }
    }
}

fn apply(recipe: &str, table: &Table, memory: &Memory) -> (Vec<u16>, Weighed) {
    let weighed = weights::apply(&recipes()[recipe].weights, table, memory).unwrap();
    (weights::quantise(&weighed.weights), weighed)
}

#[test]
fn every_recipe_is_criteria_and_survives_a_round_trip() {
    let recipes = recipes();
    assert_eq!(recipes.len(), 5, "{:?}", recipes.keys());
    for (name, config) in recipes {
        assert!(!config.weights.stages.is_empty(), "{name} declares stages");
        let again = Config::parse(&config.to_toml(), &name).unwrap();
        assert_eq!((&again.weights, again.digest()), (&config.weights, config.digest()), "{name}");
        assert_ne!(config.digest(), Config::default().digest(), "{name}: stages are part of what is hashed");
    }
}

#[test]
fn sn1_openvalidators_averages_whom_it_asks() {
    // Round 1: a 1.0, b 0.6; c is not asked. Averages .05 * r: .05, .03. Shares .625, .375: b has .6 of a's, 39321.
    let sheet =
        Sheet { prompts: &["p"], miners: &[("a", 1, &[Some(65_535)]), ("b", 1, &[Some(39_321)]), ("c", 1, &[None])] };
    let (row, weighed) = apply("sn1_openvalidators", &sheet.table(), &Memory::default());
    assert_eq!(row, [65_535, 39_321, 0], "round 1");
    assert!((weighed.weights[0] - 0.625).abs() < 1e-15, "shares: {:?}", weighed.weights);
    // Round 2: b 0.2, c 0.8; a is not asked and keeps .05. b: .05 * .2 + .95 * .03 = .0385, .77 of a's: 50461.95. c: .04, .8: 52428.
    let sheet =
        Sheet { prompts: &["p"], miners: &[("a", 1, &[None]), ("b", 1, &[Some(13_107)]), ("c", 1, &[Some(52_428)])] };
    let (row, weighed) = apply("sn1_openvalidators", &sheet.table(), &weighed.memory);
    assert_eq!(row, [65_535, 50_462, 52_428], "round 2");
    assert!((weighed.memory.averages["b"] - 0.0385).abs() < 1e-15, "averages are not rescaled: {:?}", weighed.memory);
}

#[test]
fn sn1_prompting_raises_to_its_power() {
    // r = 1, .8, .4 of the best: .8^9.364 = exp(9.364 * -.2231436) = .123747, 8109.76 of 65535; .4^9.364 = .00018780, 12.31.
    let sheet = Sheet {
        prompts: &["p"],
        miners: &[("a", 1, &[Some(32_765)]), ("b", 1, &[Some(26_212)]), ("c", 1, &[Some(13_106)])],
    };
    assert_eq!(apply("sn1_prompting", &sheet.table(), &Memory::default()).0, [65_535, 8110, 12], "powers");
}

#[test]
fn sn9_lets_the_earlier_win_until_its_advantage_has_decayed() {
    // Losses 1 - s: a (26214) .4 since block 0, b (26155) .39910 since block 7200, c 1 since block 0.
    let miners: &[Line<'_>] = &[("a", 0, &[Some(39_321)]), ("b", 7200, &[Some(39_380)]), ("c", 0, &[Some(0)])];
    let sheet = Sheet { prompts: &["p"], miners };
    // At block 7200 a's epsilon is .005 - .5 * .0049 = .00255: .4 * .99745 = .39898 < .39910, so a beats b. Win rates 1, 1/2, 0.
    // Softmax of these over .01: 1, e^-50, e^-100 up to the sum. Half of it: .5, 9.6e-23, 1.9e-44.
    let table = Table { block: Some(7200), ..sheet.table() };
    let (row, weighed) = apply("sn9_pretraining", &table, &Memory::default());
    assert_eq!(row, [65_535, 0, 0], "a has the advantage");
    let rates = &weighed.steps[0].values;
    assert_eq!(rates, &[Some(1.0), Some(0.5), Some(0.0)], "win rates");
    let shares: Vec<f64> = weighed.steps[1].values.iter().map(|value| value.unwrap()).collect();
    for (share, wanted) in shares.iter().zip([1.0, (-50.0_f64).exp(), (-100.0_f64).exp()]) {
        assert!((share / wanted - 1.0).abs() < 1e-12, "softmax: {shares:?}");
    }
    // At block 14400 a's epsilon is .0001: .4 * .9999 = .39996 > .39910, so b wins. New 0 (e^-50), 1, 0; averages .25, .5, 0: a has
    // exactly half of b's, 32767.5, and the half goes to the even 32768.
    let table = Table { block: Some(14_400), ..sheet.table() };
    let (row, weighed) = apply("sn9_pretraining", &table, &weighed.memory);
    assert_eq!(row, [32_768, 65_535, 0], "b has won, and a's average is half of his");
    // Who is not evaluated decays: b has .25 then, and a .125 + .5.
    let miners: &[Line<'_>] = &[("a", 0, &[Some(39_321)]), ("b", 7200, &[None]), ("c", 0, &[Some(0)])];
    let (_, weighed) = apply("sn9_pretraining", &Sheet { prompts: &["p"], miners }.table(), &weighed.memory);
    assert_eq!(weighed.weights[..2], [0.625, 0.25], "c does not reach 1e-40: {:?}", weighed.weights);
}

#[test]
fn templar_multiplies_rating_and_signs_and_burns_half() {
    // Ratings of old: ordinals near 34, 30 and 28; averages of signs .5, .9 and 1. A round in which nobody answers alone changes neither,
    // so final = 17, 27, 28: c, b, a. In a line from 2 to 1 they share as 2 : 1.5 : 1, and the owner has as much as all three: of the
    // largest, his, c has 2/4.5, b 1/3, a 1/4.5.
    let mut table = Sheet {
        prompts: &["p"],
        miners: &[("a", 1, &[None]), ("b", 1, &[None]), ("c", 1, &[None]), ("owner", 1, &[None])],
    }
    .table();
    table.entrants[3].coldkey = Some("5ExampleOwnerColdkey".into());
    table.entrants[3].uid = Some(0);
    table.owner_uid = Some(0);
    let mut memory = Memory::default();
    for (hotkey, mu, average) in [("a", 40.0, 0.5), ("b", 36.0, 0.9), ("c", 34.0, 1.0)] {
        memory.ratings.insert(hotkey.into(), Rating { mu, sigma: 2.0 });
        memory.averages.insert(hotkey.into(), average);
    }
    let (row, weighed) = apply("templar", &table, &memory);
    assert_eq!(row, [14_563, 21_845, 29_127, 65_535], "1/4.5, 1/3, 2/4.5 and the owner");
    assert_eq!(weighed.steps[3].values[..3], [Some(17.0), Some(27.0), Some(28.0)], "ordinal times average");
    assert_eq!(weighed.memory, memory, "nobody was there");

    // The first round of two newcomers. Signs: a +1, b -1 (0.4 is not above 0.5): averages .05 and -.05, the latter counts 0.
    // c^2 = 2 (s^2 + .1^2 + 7^2) with s = 25/3, and a's mu rises by half of (s^2 + .01) / c; his ordinal is above 0, so he has all that is
    // not burned.
    let sheet = Sheet {
        prompts: &["p"],
        miners: &[("a", 1, &[Some(60_000)]), ("b", 1, &[Some(26_214)]), ("owner", 1, &[None])],
    };
    let mut table = sheet.table();
    table.entrants[2] =
        Entrant { uid: Some(0), coldkey: Some("5ExampleOwnerColdkey".into()), ..table.entrants[2].clone() };
    table.owner_uid = Some(0);
    let (row, weighed) = apply("templar", &table, &Memory::default());
    assert_eq!(row, [65_535, 0, 65_535], "half and half");
    let variance = (25.0 / 3.0_f64).powi(2) + 0.01;
    let c = (2.0 * (variance + 49.0)).sqrt();
    assert!((weighed.memory.ratings["a"].mu - (25.0 + 0.5 * variance / c)).abs() < 1e-12, "{:?}", weighed.memory);
    assert!((weighed.memory.averages["b"] + 0.05).abs() < 1e-15, "{:?}", weighed.memory);

    table.entrants[2].coldkey = Some("5Somebody".into());
    let error = weights::apply(&recipes()["templar"].weights, &table, &memory).unwrap_err().to_string();
    assert!(error.contains("weights.stages[5].coldkey") && error.contains("5Somebody"), "{error}");
}

#[test]
fn affine_shares_each_set_among_those_whom_nobody_dominates() {
    // In the order of submission: a (.6, .4), b (.8, .2), c (.4, .2), by two prompts of each environment.
    // sat: b needs more than .6 + .2 * .4 = .68 and has it; c (.4) does not beat a. dyck: b needs more than .4 + min(.12, .1) = .5 and has
    // .2; c has .2 too. So c is dominated everywhere, b in {dyck}, a in {sat}.
    // {sat}: b has all of 2 / 2 = 1. {dyck}: a has 1. {both}, 2 * 2 / 1 = 4: a sqrt(.24) = .489898 comes first, b sqrt(.16) / 2 = .2:
    // 4 * .710102 = 2.840408 and 1.159592. Sums 3.840408 and 2.159592: b has 36852.55 of a's 65535.
    let miners: &[Line<'_>] = &[
        ("a", 10, &[Some(19_661), Some(32_767), Some(45_875), Some(32_767)]),
        ("b", 20, &[Some(13_107), Some(13_107), Some(65_535), Some(39_321)]),
        ("c", 30, &[Some(26_214), Some(0), Some(26_214), Some(26_214)]),
    ];
    let prompts = &["dyck:1", "dyck:2", "logic:sat:1", "logic:sat:2"];
    let (row, weighed) = apply("affine", &Sheet { prompts, miners }.table(), &Memory::default());
    assert!((f64::from(row[1]) - 36_852.55).abs() < 1.5, "a's scores are rounded to 16 bits: {row:?}");
    assert_eq!((row[0], row[2]), (65_535, 0), "a first, c dominated");
    assert!((weighed.steps[0].values[0].unwrap() - 3.840408).abs() < 1e-4, "{:?}", weighed.steps[0]);
    // One of two answers is less than nine tenths: no part in dyck, so only {sat} is left to b.
    let miners: &[Line<'_>] = &[miners[0], ("b", 20, &[Some(13_107), None, Some(65_535), Some(39_321)]), miners[2]];
    let (_, weighed) = apply("affine", &Sheet { prompts, miners }.table(), &Memory::default());
    let values: Vec<f64> = weighed.steps[0].values.iter().map(|value| value.unwrap()).collect();
    assert_eq!(values, [5.0, 1.0, 0.0], "both and dyck are a's");
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// A round of 200 miners, some of whom miss it, and 24 prompts in three environments.
fn seeded(random: &mut Random) -> Table {
    let entrant = |index: u64, random: &mut Random| Entrant {
        hotkey: format!("hotkey{index:03}"),
        uid: Some(index as u16),
        coldkey: Some(if index == 7 { "5ExampleOwnerColdkey".into() } else { format!("coldkey{}", index / 2) }),
        block: (random.below(10) > 0).then(|| 1_000_000 + random.below(20_000)),
    };
    let entrants: Vec<Entrant> = (0..200).map(|index| entrant(index, random)).collect();
    let there: Vec<bool> = entrants.iter().map(|_| random.below(8) > 0).collect();
    let mut answers = Vec::new();
    for prompt in 0..24 {
        for entrant in (0..200_u32).filter(|index| there[*index as usize]) {
            if random.below(12) > 0 {
                let mut number = || (random.below(65_536).max(random.below(65_536))) as u16;
                answers.push(Answer { prompt, entrant, score: number(), accuracy: number(), novelty: number() });
            }
        }
    }
    let copy = |random: &mut Random| Copying {
        entrant: random.below(200) as u32,
        of: random.below(200) as u32,
        answers: random.below(24) as u32,
    };
    let copies = (0..30).map(|_| copy(random)).collect();
    Table {
        entrants,
        prompts: (0..24).map(|prompt| format!("environment{}:{prompt:02}", prompt / 8)).collect(),
        answers,
        unanswered_is_zero: random.below(2) == 0,
        copies,
        block: Some(1_020_000),
        owner_uid: Some(7),
    }
}

/// All that the recipes do not use, and other settings of what they do.
const REST: &str = "
[[weights.stages]]
kind = \"pareto\"
environments = \"columns\"
decay = 0.7

[[weights.stages]]
kind = \"win_rate\"
over = \"prompts\"
column = \"accuracy\"
epsilon = 0.1
clones = \"once\"
copied_share = 0.3
combine = \"multiply\"

[[weights.stages]]
kind = \"rating\"
over = \"prompts\"
column = \"novelty\"
combine = \"multiply\"

[[weights.stages]]
kind = \"ema\"
alpha_up = 0.2
alpha_down = 0.6
start = \"first\"
unqueried = \"zero\"

[[weights.stages]]
kind = \"power\"
exponent = 0.37

[[weights.stages]]
kind = \"softmax\"
temperature = 0.3

[[weights.stages]]
kind = \"rank_decay\"
decay = 0.97

[[weights.stages]]
kind = \"limits\"
minimum = 0.00001
maximum = 0.02
below = \"minimum\"
";

#[test]
fn the_same_bits_on_every_machine() {
    let mut all = recipes();
    all.insert("rest".into(), Config::parse(REST, "rest").unwrap());
    let text = fs::read_to_string(package().join("datasets/recipes/golden.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_str(&text).unwrap();
    let rows = golden["rows"].as_array().unwrap();
    let mut found = Vec::new();
    for (name, config) in &all {
        let (mut random, mut memory, mut hasher) = (Random(7), Memory::default(), blake3::Hasher::new());
        for _ in 0..3 {
            let weighed = weights::apply(&config.weights, &seeded(&mut random), &memory).unwrap();
            for step in &weighed.steps {
                step.values.iter().for_each(|value| {
                    hasher.update(&value.map_or([0xff; 8], |value| value.to_bits().to_le_bytes()));
                });
            }
            weights::quantise(&weighed.weights).iter().for_each(|weight| {
                hasher.update(&weight.to_le_bytes());
            });
            assert!(weighed.weights.iter().all(|weight| weight.is_finite() && *weight >= 0.0), "{name}: weights");
            assert!(weighed.weights.iter().filter(|weight| **weight > 0.0).count() > 4, "{name}: it proves something");
            memory = weighed.memory;
        }
        hasher.update(serde_json::to_string(&memory).unwrap().as_bytes());
        found.push(serde_json::json!({ "recipe": name, "blake3": hasher.finalize().to_hex().to_string() }));
    }
    assert_eq!(&found, rows, "this machine computes other bits, or the stages have changed:\n{found:#?}");
}

/// Two miners and two prompts.
fn rows() -> Vec<Row> {
    let row = |prompt: &str, miner: &str, response: &str, block| Row {
        prompt_id: prompt.into(),
        miner: miner.into(),
        response: response.into(),
        block: Some(block),
        ..Row::default()
    };
    vec![
        row("p2", "a", "the capital of France is Paris, on the river Seine", 10),
        row("p2", "c", "bananas are yellow and grow in bunches in the tropics", 11),
        row("p1", "c", "water boils at a hundred degrees at the level of the sea", 12),
        row("p1", "a", "seven times eight is fifty six, as every child learns", 13),
    ]
}

fn round(rows: Vec<Row>) -> Round {
    let references =
        [("p1", "water boils at a hundred degrees at the level of the sea"), ("p2", "Paris, on the river Seine")];
    let references = references.map(|(id, reference)| ReferenceRow {
        prompt_id: id.into(),
        reference: reference.into(),
        ..ReferenceRow::default()
    });
    Round::from_rows(rows, references, Options::default()).unwrap().0
}

fn criteria(stages: &str) -> Config {
    let mut config = Config::parse(stages, "criteria.toml").unwrap();
    config.loss.kind = LossKind::Embedding;
    config
}

fn score(config: &Config, subnet: Option<&State>, memory: &Memory) -> (tauscore::Result<Outcome>, Vec<String>) {
    score_round(&round(rows()), config, subnet, memory)
}

fn score_round(
    round: &Round,
    config: &Config,
    subnet: Option<&State>,
    memory: &Memory,
) -> (tauscore::Result<Outcome>, Vec<String>) {
    let folder = package().join("datasets/models/f32-mean");
    let embedder = common::embedder(&Device::cpu(), &folder, Precision::Exact);
    let mut warnings = Vec::new();
    let past = Past { rounds: &[], memory };
    let mut listen = |event: Event| {
        if let Event::Warning { message } = event {
            warnings.push(message);
        }
    };
    let outcome = pipeline::score_after(past, &mut Models::new(&embedder, None), round, subnet, config, &mut listen);
    (outcome, warnings)
}

#[test]
fn without_stages_nothing_changes_and_a_plain_scale_changes_nothing() {
    let plain = score(&criteria(""), None, &Memory::default()).0.unwrap();
    assert!(plain.miners.iter().all(|miner| miner.stages.is_empty() && miner.weight > 0), "{:?}", plain.miners);
    assert!(!Config::default().to_toml().contains("[weights"), "the default criteria, and their digest, are as before");
    let scaled = score(&criteria("[[weights.stages]]\nkind = \"normalise\""), None, &Memory::default()).0.unwrap();
    let weights = |outcome: &Outcome| outcome.miners.iter().map(|miner| miner.weight).collect::<Vec<_>>();
    assert_eq!(weights(&scaled), weights(&plain), "the mean scores, max-upscaled");
    assert_eq!(scaled.miners[0].stages[0].kind, "normalise", "what the stage gave is told");
    let folder = tempfile::tempdir().unwrap();
    for (outcome, config, told) in [(&plain, "", false), (&scaled, "[[weights.stages]]\nkind = \"normalise\"", true)] {
        let out = folder.path().join(told.to_string());
        pipeline::write(&out, &round(rows()), outcome, &criteria(config), None::<&()>).unwrap();
        assert_eq!(fs::read_to_string(out.join("miners.json")).unwrap().contains("\"stages\""), told, "miners.json");
        let again = Config::read(&out.join("criteria.toml")).unwrap();
        assert_eq!(again.weights, criteria(config).weights, "criteria.toml has them");
    }
}

#[test]
fn the_remembered_and_the_owner_are_paid_too() {
    let config = criteria(
        "[[weights.stages]]\nkind = \"ema\"\nalpha = 0.5\n[[weights.stages]]\nkind = \"burn\"\nshare = 0.5\ncoldkey = \"ck-owner\"",
    );
    let state = serde_json::json!({
        "n": 4, "block": 50, "rao_emission": 0, "hyper": {"owner_uid": 2}, "hotkeys": ["c", "old", "owner", "a"],
        "coldkeys": ["ck-c", "ck-old", "ck-owner", "ck-a"], "stake": [0, 0, 0, 0], "validator_permit": [0, 0, 0, 0],
        "last_update": [0, 0, 0, 0], "block_at_registration": [0, 0, 0, 0], "weights": {"i": [], "j": [], "w": []}
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    fs::write(&path, state.to_string()).unwrap();
    let state = State::read(&path).unwrap();
    let mut memory = Memory::default();
    memory.averages.extend([("old".to_owned(), 0.25), ("gone".to_owned(), 0.25)]);
    let (outcome, _) = score(&config, Some(&state), &memory);
    let outcome = outcome.unwrap();
    let names: Vec<(&str, Option<u16>)> =
        outcome.miners.iter().map(|miner| (miner.miner.as_str(), miner.uid.map(|uid| uid.0))).collect();
    let wanted = [("a", Some(3)), ("c", Some(0)), ("old", Some(1)), ("owner", Some(2))];
    assert_eq!(names, wanted, "the round's, then the others; gone is no longer registered");
    assert_eq!(outcome.miners[3].weight, 65_535, "half of all");
    assert!(outcome.miners[2].weight > 0 && outcome.miners[2].prompts == 0, "{:?}", outcome.miners[2]);
    assert!(outcome.memory.averages.contains_key("gone"), "but not forgotten");
    assert_eq!(outcome.chain_row().len(), 4, "by uid");
    for miner in &outcome.miners {
        assert!(miner.novelty.is_finite() && miner.accuracy.is_finite(), "no NaN of nothing: {miner:?}");
    }

    let (outcome, warnings) = score(&config, None, &Memory::default());
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("weights.stages[1].uid"), "without a subnet nobody can be the owner: {error}");
    assert!(warnings.is_empty(), "and that is found before anything is computed: {warnings:?}");
    let (outcome, warnings) = score(&config, Some(&state), &Memory::default());
    assert!(
        outcome.is_ok() && warnings.iter().any(|text| text.contains("\"ema\"")),
        "a first round is told: {warnings:?}"
    );
}

#[test]
fn the_order_of_rows_changes_no_bit() {
    for (name, config) in recipes() {
        let mut random = Random(11);
        let table = seeded(&mut random);
        let forward = weights::apply(&config.weights, &table, &Memory::default()).unwrap();
        let mut copies = table.copies.clone();
        copies.reverse();
        let backward = Table { copies, ..table };
        let backward = weights::apply(&config.weights, &backward, &Memory::default()).unwrap();
        assert_eq!(forward, backward, "{name}");
    }
    let stages = "[[weights.stages]]\nkind = \"win_rate\"\nover = \"prompts\"\n[[weights.stages]]\nkind = \"softmax\"\ntemperature = 0.7";
    let weights = |rows: Vec<Row>| {
        let outcome = score_round(&round(rows), &criteria(stages), None, &Memory::default()).0.unwrap();
        outcome.miners.into_iter().map(|miner| (miner.miner, miner.weight, miner.stages)).collect::<Vec<_>>()
    };
    let backwards = rows().into_iter().rev().collect();
    let sorted = |rows| {
        let mut weights = weights(rows);
        weights.sort_by(|a, b| a.0.cmp(&b.0));
        weights
    };
    assert_eq!(sorted(rows()), sorted(backwards), "the file from its end");
}

/// Stages as criteria declare them.
fn declared(stages: &str) -> Config {
    Config::parse(stages, "criteria.toml").unwrap()
}

/// One round of one prompt after another, with what is remembered from one to the next; the values of the last stage, by miner.
fn rounds(config: &Config, rounds: &[&[Line<'_>]]) -> Vec<Vec<f64>> {
    let mut memory = Memory::default();
    let each = rounds.iter().map(|miners| {
        let weighed = weights::apply(&config.weights, &Sheet { prompts: &["p"], miners }.table(), &memory).unwrap();
        memory = weighed.memory;
        weighed.weights
    });
    each.collect()
}

/// `entrius/gittensor#1177`: averages were brought to a sum of 1 inside the average, so that a miner's history depended on who else was there.
#[test]
fn gittensor_1177_nothing_is_renormalised_inside_the_average() {
    let config = declared("[[weights.stages]]\nkind = \"ema\"\nalpha = 0.25\nstart = \"first\"\n");
    let few: [&[Line<'_>]; 2] = [
        &[("a", 0, &[Some(40_000)]), ("b", 0, &[Some(20_000)])],
        &[("a", 0, &[Some(60_000)]), ("b", 0, &[Some(20_000)])],
    ];
    let many: [&[Line<'_>]; 2] = [
        &[("a", 0, &[Some(40_000)]), ("b", 0, &[Some(20_000)]), ("c", 0, &[Some(65_535)])],
        &[("a", 0, &[Some(60_000)]), ("b", 0, &[Some(20_000)]), ("c", 0, &[Some(65_535)])],
    ];
    let (few, many) = (rounds(&config, &few), rounds(&config, &many));
    for (few, many) in few.iter().zip(&many) {
        assert_eq!(few[..], many[..2], "who else answered is no business of an average");
    }
    // 40000 and then 0.75 * 40000 + 0.25 * 60000 = 45000, of 65535 each; b stays what he is.
    let right = [[40_000.0, 20_000.0], [45_000.0, 20_000.0]];
    for (found, right) in few.iter().zip(right) {
        assert!(found.iter().zip(right).all(|(found, right)| (found * 65_535.0 - right).abs() < 1e-6), "{found:?}");
    }
}

/// `Swap-subnet#198`: 51.2 % were burned where 50 % were meant, as the share was taken before others were dropped.
#[test]
fn swap_subnet_198_what_is_burned_is_the_share_that_was_said() {
    let config = declared(
        "[[weights.stages]]\nkind = \"softmax\"\ntemperature = 0.3\n\n[[weights.stages]]\nkind = \"top_k\"\ntiers = [{ count = 3, share = 1.0 }]\n\n\
         [[weights.stages]]\nkind = \"burn\"\nshare = 0.5\ncoldkey = \"cold\"\n",
    );
    let miners: Vec<(String, u16)> = (0..40).map(|at| (format!("m{at:02}"), 1_000 + at * 1_531)).collect();
    let scores: Vec<[Option<u16>; 1]> = miners.iter().map(|(_, score)| [Some(*score)]).collect();
    let sheet: Vec<Line<'_>> =
        miners.iter().zip(&scores).map(|((name, _), scores)| (name.as_str(), 0, &scores[..])).collect();
    let mut table = Sheet { prompts: &["p"], miners: &sheet }.table();
    let owner = Entrant { hotkey: "owner".into(), uid: Some(7), coldkey: Some("cold".into()), ..Entrant::default() };
    table.entrants.push(owner);
    table.owner_uid = Some(7);
    let weighed = weights::apply(&config.weights, &table, &Memory::default()).unwrap();
    let row = weights::quantise(&weighed.weights);
    let total: u64 = row.iter().map(|weight| u64::from(*weight)).sum();
    let burned = f64::from(*row.last().unwrap()) / total as f64;
    assert!((burned - 0.5).abs() < 1e-4, "{burned} of the row as the chain gets it");
}

/// `NousResearch/finetuning-subnet#3`: an advantage of 2 % for ever is unfair to whoever improves on it later.
#[test]
fn finetuning_subnet_3_the_advantage_of_the_first_decays() {
    let config =
        declared("[[weights.stages]]\nkind = \"win_rate\"\nepsilon = 0.02\nepsilon_end = 0.0\ndecay_blocks = 1000\n");
    let miners: &[Line<'_>] = &[("a", 0, &[Some(40_000)]), ("b", 10, &[Some(40_100)])];
    let rates = |block| {
        let table = Table { block: Some(block), ..Sheet { prompts: &["p"], miners }.table() };
        weights::apply(&config.weights, &table, &Memory::default()).unwrap().weights
    };
    assert_eq!(rates(10), [1.0, 0.0], "at first an improvement of a thousandth is not enough");
    assert_eq!(rates(2000), [0.0, 1.0], "once the advantage has decayed it is");
}

/// coldint.io, "the calculative miner": losing copies of one's own model lifted its win rate.
#[test]
fn coldint_losing_clones_lift_nobodys_win_rate() {
    let config = declared("[[weights.stages]]\nkind = \"win_rate\"\nclones = \"once\"\n");
    let honest: &[Line<'_>] = &[("a", 0, &[Some(60_000)]), ("b", 0, &[Some(50_000)])];
    let crowd: &[Line<'_>] = &[
        ("a", 0, &[Some(60_000)]),
        ("b", 0, &[Some(50_000)]),
        ("clone1", 1, &[Some(49_000)]),
        ("clone2", 1, &[Some(48_000)]),
    ];
    let mut table = Sheet { prompts: &["p"], miners: crowd }.table();
    table.copies = [2, 3].map(|entrant| Copying { entrant, of: 1, answers: 1 }).to_vec();
    let with = weights::apply(&config.weights, &table, &Memory::default()).unwrap().weights;
    let alone = Sheet { prompts: &["p"], miners: honest }.table();
    let without = weights::apply(&config.weights, &alone, &Memory::default()).unwrap().weights;
    assert_eq!(with, [&without[..], &[0.0, 0.0]].concat(), "b's two clones change nothing and win nothing");
}

/// `macrocosm-os/mainframe#407` and `finetuning#117`: one unlucky round must not undo a miner; averages may fall more slowly than they rise.
#[test]
fn mainframe_407_finetuning_117_averages_may_fall_more_slowly_than_they_rise() {
    let config = declared("[[weights.stages]]\nkind = \"ema\"\nalpha_up = 0.5\nalpha_down = 0.05\nstart = \"first\"\n");
    let round = |score: u16| -> Vec<Option<u16>> { vec![Some(score)] };
    let (good, bad) = (round(60_000), round(0));
    let turns: [&[Line<'_>]; 3] = [&[("a", 0, &good)], &[("a", 0, &bad)], &[("a", 0, &good)]];
    let values: Vec<f64> = rounds(&config, &turns).iter().map(|values| values[0] * 65_535.0).collect();
    // 60000; .95 of it; and half of the way back.
    for (found, right) in values.iter().zip([60_000.0, 57_000.0, 58_500.0]) {
        assert!((found - right).abs() < 1e-6, "{values:?}");
    }
}
