//! Laws of a scored round, each against an oracle that shares nothing with the code: f64 for novelty, integers for what
//! comes after the scores. What is scored in integers is the same to the last bit on every device, in any order and batch.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up must fail")]

mod common;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use common::{devices, model, package};
use tauscore::config::{Config, EncoderConfig, LossKind, Precision};
use tauscore::data::{Options, ReferenceRow, Round, Row, Source};
use tauscore::device::Device;
use tauscore::pipeline::{self, Copied, Embedder, Models, Outcome, ScoredMiner, ScoredResponse};
use tauscore::stages::novelty::Against;
use tauscore::stages::score::Unanswered;

const WIDTH: usize = 96;

/// What an f64 near 1 may be off by where the oracle rounds more than once.
const LAST_BIT: f64 = f64::EPSILON;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn new() -> Self {
        Self(7)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// In [-1, 1).
    fn number(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            let other = self.below(at + 1);
            items.swap(at, other);
        }
    }
}

fn tiny_folder() -> PathBuf {
    package().join("datasets/models/f32-mean")
}

fn tiny(device: &Device) -> Embedder {
    common::embedder(device, &tiny_folder(), Precision::Exact)
}

fn round(rows: Vec<Row>) -> Round {
    let ids: HashSet<String> = rows.iter().map(|row| row.prompt_id.clone()).collect();
    let references = ids.into_iter().map(|prompt_id| ReferenceRow {
        reference: format!("what is asked in {prompt_id}"),
        prompt_id,
        ..ReferenceRow::default()
    });
    Round::from_rows(rows, references, Options::default()).unwrap().0
}

/// The default criteria but for the kind of loss, which needs no language model here.
fn by_embedding() -> Config {
    let mut config = Config::default();
    config.loss.kind = LossKind::Embedding;
    config
}

fn score(embedder: &Embedder, round: &Round, history: &[Round], config: &Config) -> Outcome {
    pipeline::score(&mut Models::new(embedder, None), round, history, None, config, &mut |_| {}).unwrap()
}

fn nearest(k: usize) -> Config {
    let mut config = by_embedding();
    config.novelty.nearest = k;
    config
}

/// Directions around a few centres, some of them the very same: near neighbours, ties and strangers. In integers they are brought
/// to a length of 32768.
fn direction(random: &mut Random, precision: Precision, centres: &[Vec<f32>], given: &[Vec<f32>]) -> Vec<f32> {
    if !given.is_empty() && random.below(10) == 0 {
        return given[random.below(given.len())].clone();
    }
    let spread = [0.05, 0.5, 2.0][random.below(3)];
    let centre = &centres[random.below(centres.len())];
    let row: Vec<f32> = centre.iter().map(|x| x + spread * random.number()).collect();
    let scale = 32_768.0 / row.iter().map(|x| x * x).sum::<f32>().sqrt();
    match precision {
        Precision::Exact => row.iter().map(|x| (x * scale).round()).collect(),
        Precision::F32 => row,
    }
}

/// One prompt that more miners answer than a block holds, others with a few; blocks with many ties; shuffled.
fn embedded_rows(
    random: &mut Random,
    precision: Precision,
    centres: &[Vec<f32>],
    prompts: &[(&str, usize)],
) -> Vec<Row> {
    let (mut rows, mut given) = (Vec::new(), Vec::new());
    for (prompt, miners) in prompts {
        for miner in 0..*miners {
            let embedding = direction(random, precision, centres, &given);
            given.push(embedding.clone());
            rows.push(Row {
                prompt_id: (*prompt).to_owned(),
                miner: format!("miner{:05}", miner * 7919 % 100_003),
                response: format!("response {miner}"),
                block: Some(random.below(60) as u64),
                embedding: Some(embedding),
                ..Row::default()
            });
        }
    }
    random.shuffle(&mut rows);
    rows
}

/// Products of integers are exact in f64, and 1 is 2^30.
fn cosine(precision: Precision, a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    match precision {
        Precision::Exact => dot(a, b) / f64::from(1 << 30),
        Precision::F32 => dot(a, b) / (dot(a, a) * dot(b, b)).sqrt(),
    }
}

/// All that a row may be compared with, and how similar it is, by the rules and nothing else.
fn compared<'a>(precision: Precision, rows: &'a [Row], history: &'a [Row], at: usize) -> Vec<(f64, &'a Row)> {
    let row = &rows[at];
    let arrival = |row: &Row| (row.block, row.miner.clone());
    let before = rows
        .iter()
        .filter(|other| other.prompt_id == row.prompt_id && other.miner != row.miner && arrival(other) < arrival(row));
    let bank = history.iter().filter(|other| other.miner != row.miner);
    let of = |row: &'a Row| row.embedding.as_deref().unwrap();
    // Equal rows are alike to 1, however they are rounded.
    let similarity = |x: &[f32], y: &[f32]| if x == y { 1.0 } else { cosine(precision, x, y) };
    before.chain(bank).map(|other| (similarity(of(row), of(other)), other)).collect()
}

fn novelty_equals_brute_force(device: &Device, precision: Precision, ks: &[usize], tolerance: f64) {
    let mut random = Random::new();
    let centres: Vec<Vec<f32>> = (0..12).map(|_| (0..WIDTH).map(|_| random.number()).collect()).collect();
    let prompts = [("small", 3), ("large", 1100), ("middle", 90), ("one", 1)];
    let rows = embedded_rows(&mut random, precision, &centres, &prompts);
    // Half of the history's miners answer in the round as well; it alone is more than one block.
    let mut history = embedded_rows(&mut random, precision, &centres, &[("old", 700), ("older", 400)]);
    for (index, row) in history.iter_mut().enumerate() {
        if index % 2 == 0 {
            row.miner = format!("former_{index}");
        }
    }
    let (early, late) = history.split_at(500);
    let embedder = common::embedder(device, &tiny_folder(), precision);
    let bank = [round(early.to_vec()), round(late.to_vec())];
    for bank in [&bank[..], &[]] {
        let history = if bank.is_empty() { &[][..] } else { &history[..] };
        let mut right: Vec<Vec<(f64, &Row)>> =
            (0..rows.len()).map(|at| compared(precision, &rows, history, at)).collect();
        right.iter_mut().for_each(|list| list.sort_by(|a, b| b.0.total_cmp(&a.0)));
        assert_eq!(right.iter().any(Vec::is_empty), bank.is_empty(), "without history somebody is the first");
        for k in ks {
            let outcome = score(&embedder, &round(rows.clone()), bank, &nearest(*k));
            for ((row, list), found) in rows.iter().zip(&right).zip(&outcome.responses) {
                let count = list.len().min(*k);
                let mean = list[..count].iter().map(|(similarity, _)| similarity).sum::<f64>() / count.max(1) as f64;
                let novelty = if count == 0 { 1.0 } else { (1.0 - mean).clamp(0.0, 1.0) };
                let off = (found.novelty - novelty).abs();
                let what = format!("k = {k}, {} rows of history, {} to {}", history.len(), row.miner, row.prompt_id);
                assert!(off <= tolerance, "{what}: {} is off by {off:e} from {novelty}", found.novelty);
                assert_eq!(found.nearest.is_none(), count == 0, "{what}: a neighbour where there is any");
                let Some(near) = &found.nearest else { continue };
                let off = (near.similarity - list[0].0.min(1.0)).abs();
                assert!(off <= tolerance, "{what}: the nearest is off by {off:e}");
                let named = list
                    .iter()
                    .find(|(_, other)| other.miner == near.miner && other.prompt_id == near.prompt_id)
                    .unwrap_or_else(|| panic!("{what}: {} may not be compared with", near.miner));
                assert!(list[0].0 - named.0 <= 2.0 * tolerance, "{what}: {} is not the nearest", near.miner);
                assert_eq!(near.history, named.1.prompt_id.starts_with("old"), "{what}: which round it is of");
            }
        }
    }
}

#[test]
fn novelty_is_that_of_brute_force_on_the_cpu() {
    novelty_equals_brute_force(&Device::cpu(), Precision::Exact, &[1, 3, 16], LAST_BIT);
    novelty_equals_brute_force(&Device::cpu(), Precision::F32, &[1, 3, 16], 1e-6);
}

#[test]
fn novelty_is_that_of_brute_force_on_every_adapter() {
    for device in devices() {
        novelty_equals_brute_force(&device, Precision::Exact, &[3], LAST_BIT);
        novelty_equals_brute_force(&device, Precision::F32, &[3], 2e-6);
    }
}

/// Cosines of three answers are 0.8 (first, second), 0.6 (first, third) and 0.96; an earlier round had the second one.
#[test]
fn novelty_has_the_definitions_in_use() {
    let row = |prompt: &str, miner: &str, block: u64, [x, y]: [f32; 2]| {
        let mut embedding = vec![0.0; WIDTH];
        (embedding[0], embedding[1]) = (x, y);
        Row {
            prompt_id: prompt.into(),
            miner: miner.into(),
            block: Some(block),
            embedding: Some(embedding),
            ..Row::default()
        }
    };
    let rows = vec![row("p", "c", 3, [0.6, 0.8]), row("p", "a", 1, [1.0, 0.0]), row("p", "b", 2, [0.8, 0.6])];
    let earlier = [round(vec![row("old", "somebody", 1, [0.8, 0.6]), row("old", "a", 1, [1.0, 0.0])])];
    let embedder = common::embedder(&Device::cpu(), &tiny_folder(), Precision::F32);
    let novelties = |against: Against, k: usize, history: &[Round]| -> Vec<f64> {
        let mut config = nearest(k);
        config.novelty.against = against;
        score(&embedder, &round(rows.clone()), history, &config).responses.iter().map(|row| row.novelty).collect()
    };
    // Rows: the third, the first, the second.
    for (against, k, history, right) in [
        (Against::Earlier, 1, &[][..], [0.04, 1.0, 0.2]),
        (Against::Earlier, 2, &[], [0.22, 1.0, 0.2]),
        (Against::Earlier, 1, &earlier, [0.04, 0.2, 0.0]),
        (Against::Batch, 1, &[], [0.04, 0.2, 0.04]),
        (Against::Batch, 2, &[], [0.4, 0.4, 0.2]),
        (Against::Batch, 9, &earlier, [0.4, 0.4, 0.2]),
        (Against::History, 1, &earlier, [0.04, 0.2, 0.0]),
        (Against::History, 2, &earlier, [0.22, 0.2, 0.1]),
        (Against::History, 1, &[], [1.0, 1.0, 1.0]),
    ] {
        let found = novelties(against, k, history);
        let off = found.iter().zip(right).map(|(found, right)| (found - right).abs()).fold(0.0, f64::max);
        assert!(off < 1e-6, "{against:?}, {k}, {} earlier: {found:?} where {right:?} is right", history.len());
    }
}

#[test]
fn what_came_with_a_row_must_be_of_the_precision() {
    let row = |miner: &str, embedding: Vec<f32>| Row {
        prompt_id: "p".into(),
        miner: miner.into(),
        embedding: Some(embedding),
        ..Row::default()
    };
    let (mut integers, mut floats) = (vec![0.0; WIDTH], vec![0.0; WIDTH]);
    (integers[3], floats[3]) = (-32_768.0, -1.0);
    let embedder = tiny(&Device::cpu());
    let outcome =
        score(&embedder, &round(vec![row("a", integers.clone()), row("b", integers.clone())]), &[], &by_embedding());
    assert_eq!(outcome.responses[1].novelty, 0.0, "a row of integers is taken as it is");
    let error = |rows: Vec<Row>| {
        let refused =
            pipeline::score(&mut Models::new(&embedder, None), &round(rows), &[], None, &by_embedding(), &mut |_| {});
        let error = refused.expect_err("not what the encoder makes");
        assert!(error.remedy().is_some_and(|remedy| remedy.contains("precision = \"f32\"")), "{error}: the way out");
        error.to_string()
    };
    floats[4] = 0.5;
    let refused = error(vec![row("a", integers.clone()), row("b", floats.clone())]);
    assert!(refused.starts_with("rows:2: embedding: holds 0.5"), "{refused}");
    integers[3] = 1.0;
    let refused = error(vec![row("a", integers)]);
    assert!(refused.starts_with("rows:1: embedding: is a row of length 1,"), "{refused}");
    let embedder = common::embedder(&Device::cpu(), &tiny_folder(), Precision::F32);
    let outcome = score(&embedder, &round(vec![row("a", floats.clone()), row("b", floats)]), &[], &by_embedding());
    assert!(outcome.responses[1].novelty < 1e-6, "floats of any length go with the encoder in floats");
}

/// Rows as a validator has them: texts, blocks, uids.
fn text_rows(prompts: usize, miners: usize) -> Vec<Row> {
    let words = ["seven", "twelve", "banana", "answer", "nobody", "knows", "the", "is", "maybe", "four"];
    let mut random = Random::new();
    let mut rows = Vec::new();
    for prompt in 0..prompts {
        for miner in 0..miners {
            if random.below(6) == 0 {
                continue;
            }
            let length = random.below(20);
            let text: Vec<&str> = (0..length).map(|_| words[random.below(words.len())]).collect();
            rows.push(Row {
                prompt_id: format!("p{prompt}"),
                miner: format!("m{miner}"),
                response: text.join(" "),
                uid: Some(100 + miner as u16),
                block: Some((prompt * 10 + random.below(4)) as u64),
                ..Row::default()
            });
        }
    }
    rows
}

fn by_miner(outcome: &Outcome) -> BTreeMap<String, ScoredMiner> {
    outcome.miners.iter().map(|miner| (miner.miner.clone(), miner.clone())).collect()
}

fn by_pair<'a>(rows: &'a [Row], outcome: &'a Outcome) -> BTreeMap<(&'a str, &'a str), &'a ScoredResponse> {
    rows.iter().zip(&outcome.responses).map(|(row, scored)| ((&*row.prompt_id, &*row.miner), scored)).collect()
}

#[test]
fn the_order_of_rows_changes_nobodys_result() {
    let embedder = tiny(&Device::cpu());
    let rows = text_rows(40, 9);
    let outcome = score(&embedder, &round(rows.clone()), &[], &nearest(2));
    let mut random = Random::new();
    for turn in 0..3 {
        let mut shuffled = rows.clone();
        random.shuffle(&mut shuffled);
        let other = score(&embedder, &round(shuffled.clone()), &[], &nearest(2));
        assert_eq!(by_pair(&shuffled, &other), by_pair(&rows, &outcome), "turn {turn}: every response, bit by bit");
        for (name, miner) in by_miner(&outcome) {
            let now = &by_miner(&other)[&name];
            assert_eq!((now.tally, now.weight, now.uid), (miner.tally, miner.weight, miner.uid), "turn {turn}: {name}");
            // Means over prompts are summed in another order.
            assert!((now.novelty - miner.novelty).abs() < 1e-12, "turn {turn}: {name}'s novelty");
        }
    }
}

#[test]
fn a_late_copy_costs_only_the_copycat() {
    for precision in [Precision::Exact, Precision::F32] {
        a_late_copy(&common::embedder(&Device::cpu(), &tiny_folder(), precision));
    }
}

fn a_late_copy(embedder: &Embedder) {
    let rows: Vec<Row> = text_rows(20, 6).into_iter().filter(|row| !row.response.is_empty()).collect();
    let alone = score(embedder, &round(rows.clone()), &[], &by_embedding());
    // He stands first in the file, and his name comes before all others.
    let copies = rows.iter().filter(|row| row.miner == "m3").map(|row| Row {
        miner: "a copycat".into(),
        block: row.block.map(|block| block + 1),
        uid: None,
        ..row.clone()
    });
    let with: Vec<Row> = copies.chain(rows.iter().cloned()).collect();
    let outcome = score(embedder, &round(with.clone()), &[], &by_embedding());
    let (before, after) = (by_pair(&rows, &alone), by_pair(&with, &outcome));
    let mut copied = 0;
    for ((prompt, miner), scored) in &after {
        if *miner == "a copycat" {
            copied += 1;
            assert_eq!((scored.novelty, scored.score), (0.0, 0), "{prompt}: a copy is not novel and earns nothing");
            assert_eq!(scored.nearest.as_ref().map(|near| near.similarity), Some(1.0), "{prompt}: it is the same");
        } else if *miner == "m3" {
            let alone = before[&(*prompt, *miner)];
            assert_eq!(scored.copied.copy, None, "{prompt}: nobody takes the original for a copy");
            assert_eq!(kept(scored), kept(alone), "{prompt}: the original keeps everything");
        }
    }
    assert!(copied > 10, "there is something to see");
    assert_eq!(by_miner(&outcome)["m3"].tally, by_miner(&alone)["m3"].tally, "and what he earns");
}

/// All but the evidence: how rare a word is depends on who else answers.
fn kept(scored: &ScoredResponse) -> ScoredResponse {
    ScoredResponse { copied: Copied::default(), ..scored.clone() }
}

/// Scores, tallies and weights from the accuracies and novelties of an outcome, in integers wherever they are integers.
fn check_after_the_floats(rows: &[Row], outcome: &Outcome, config: &Config, prompts: u64) {
    let shape = &config.score;
    let (mut sums, mut answered) = (HashMap::<&str, u128>::new(), HashMap::<&str, u128>::new());
    for (row, scored) in rows.iter().zip(&outcome.responses) {
        assert!((0.0..=1.0).contains(&scored.accuracy) && (0.0..=1.0).contains(&scored.novelty), "{scored:?}");
        assert_eq!(scored.accuracy, (1.0 - scored.loss).clamp(0.0, 1.0), "accuracy from loss");
        let kept = 1.0 - scored.copied.certainty;
        let by_embeddings = if kept > 0.0 { scored.novelty / kept } else { 0.0 };
        let novelty = (by_embeddings / shape.novelty_saturation).min(1.0);
        let product = scored.accuracy.powf(shape.accuracy_power) * novelty.powf(shape.novelty_power) * kept;
        let right = if row.response.trim().is_empty() { 0.0 } else { product * 65_535.0 };
        let off = (f64::from(scored.score) - right).abs();
        assert!(off <= 0.5 + 1e-6, "{} to {}: {} is not {right}", row.miner, row.prompt_id, scored.score);
        *sums.entry(&row.miner).or_default() += u128::from(scored.score);
        *answered.entry(&row.miner).or_default() += 1;
    }
    let over = |miner: &str| match shape.unanswered {
        Unanswered::Zero => u128::from(prompts),
        Unanswered::Skip => answered[miner],
    };
    let mean = |miner: &str| (sums[miner] << 32) / over(miner);
    let best = outcome.miners.iter().map(|miner| mean(&miner.miner)).max().unwrap();
    assert!(best > 0, "somebody earns");
    for miner in &outcome.miners {
        let name = miner.miner.as_str();
        assert_eq!(u128::from(miner.tally.sum), sums[name], "{name}: sum of scores");
        assert_eq!(u128::from(miner.tally.prompts), over(name), "{name}: prompts that count");
        assert_eq!(miner.prompts as u128, answered[name], "{name}: prompts answered");
        // 65535 * mean / best to the nearest integer; the chain's fixed point may round a half either way.
        let exact = 65_535 * mean(name);
        let off = (u128::from(miner.weight) * best).abs_diff(exact);
        assert!(off * 2 <= best + (1 << 17), "{name}: weight {} for {}/{best}", miner.weight, mean(name));
    }
    assert!(outcome.miners.iter().any(|miner| miner.weight == 65_535), "the best gets all");
}

#[test]
fn what_comes_after_accuracy_and_novelty_is_recomputed() {
    let embedder = tiny(&Device::cpu());
    let rows = text_rows(30, 8);
    let of = round(rows.clone());
    for unanswered in [Unanswered::Zero, Unanswered::Skip] {
        for (accuracy_power, novelty_power, novelty_saturation) in
            [(1.0, 1.0, 1.0), (2.0, 0.5, 0.25), (0.0, 1.0, 0.5), (3.0, 0.0, 1.0)]
        {
            let mut config = by_embedding();
            config.score.accuracy_power = accuracy_power;
            config.score.novelty_power = novelty_power;
            config.score.novelty_saturation = novelty_saturation;
            config.score.unanswered = unanswered;
            check_after_the_floats(&rows, &score(&embedder, &of, &[], &config), &config, 30);
        }
    }
}

#[test]
fn an_unanswered_prompt_costs_or_does_not() {
    let embedder = tiny(&Device::cpu());
    let mut rows: Vec<Row> = text_rows(12, 5).into_iter().filter(|row| row.response.len() > 20).collect();
    // One who answers a single prompt, and well: with the reference.
    rows.push(Row {
        prompt_id: rows[0].prompt_id.clone(),
        miner: "rare".into(),
        response: format!("what is asked in {}", rows[0].prompt_id),
        block: Some(0),
        ..Row::default()
    });
    let of = round(rows.clone());
    let mut config = by_embedding();
    let zero = by_miner(&score(&embedder, &of, &[], &config));
    config.score.unanswered = Unanswered::Skip;
    let skip = by_miner(&score(&embedder, &of, &[], &config));
    assert_eq!(zero["rare"].tally.sum, skip["rare"].tally.sum, "the same answer");
    assert_eq!((zero["rare"].tally.prompts, skip["rare"].tally.prompts), (of.prompts().len() as u64, 1), "over what");
    assert_eq!(skip["rare"].weight, 65_535, "the mean of one good answer is the best mean");
    assert!(zero["rare"].weight < 65_535, "and a small one over all prompts");
}

/// Every `step`-th question of the demo's data, with its references.
fn demo(step: usize, miner: impl Fn(&str) -> bool) -> (Vec<Row>, Round) {
    let open = |name: &str| [Source::path(Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/gsm8k").join(name))];
    let (all, _) = Round::read(open("round.jsonl"), open("references.jsonl"), Options::default()).unwrap();
    let rows: Vec<Row> = all
        .responses()
        .iter()
        .filter(|row| (row.prompt as usize).is_multiple_of(step))
        .map(|row| {
            let (prompt, of) = (all.prompt_of(row).unwrap(), all.miner_of(row).unwrap());
            Row {
                prompt_id: prompt.id.clone(),
                reference: prompt.reference.clone(),
                miner: of.hotkey.as_str().to_owned(),
                response: row.text.clone(),
                block: row.block,
                ..Row::default()
            }
        })
        .filter(|row| miner(&row.miner))
        .collect();
    let round = Round::from_rows(rows.clone(), [], Options::default()).unwrap().0;
    (rows, round)
}

fn is_copycat(name: &str) -> bool {
    name.starts_with("copycat")
}

#[test]
fn copycats_end_last_and_originals_as_if_they_were_not_there() {
    let Some(model) = model() else { return };
    let embedder = common::embedder(&Device::cpu(), &model, Precision::Exact);
    let ((rows, all), (honest_rows, honest)) = (demo(4, |_| true), demo(4, |name| !is_copycat(name)));
    let with = score(&embedder, &all, &[], &by_embedding());
    let without = score(&embedder, &honest, &[], &by_embedding());
    let names = |outcome: &Outcome| outcome.ranking().iter().map(|miner| miner.miner.clone()).collect::<Vec<_>>();
    let (ranking, honest_ranking) = (names(&with), names(&without));
    assert_eq!(ranking[..4], honest_ranking[..], "the originals lead, in their own order");
    assert!(ranking[4..].iter().all(|name| is_copycat(name)), "and the copycats follow: {ranking:?}");
    let (scores, honest_scores) = (by_pair(&rows, &with), by_pair(&honest_rows, &without));
    let mut called = 0;
    for (pair, scored) in &honest_scores {
        if scored.copied.copy.is_some() || scores[pair].copied.copy.is_some() {
            called += 1;
            continue;
        }
        assert_eq!(kept(scores[pair]), kept(scored), "{pair:?} is scored as if there were no copycats");
    }
    assert!(
        called * 100 <= honest_scores.len(),
        "{called} of {} honest answers are called copies",
        honest_scores.len()
    );
    let miners = by_miner(&with);
    for (name, miner) in by_miner(&without) {
        let off = miners[&name].weight.abs_diff(miner.weight);
        assert!(off < 700, "{name} gets about the same weight: {off} of 65535 less or more");
    }
    let lowest = miners.values().filter(|miner| !is_copycat(&miner.miner)).map(|miner| miner.weight).min().unwrap();
    for miner in miners.values().filter(|miner| is_copycat(&miner.miner)) {
        assert!(miner.weight < lowest / 2, "{}: {} against {lowest}", miner.miner, miner.weight);
    }
}

fn equal_on(device: &Device, folder: &Path, precision: Precision, of: &Round) {
    let config = nearest(2);
    let right = score(&common::embedder(&Device::cpu(), folder, precision), of, &[], &config);
    let found = score(&common::embedder(device, folder, precision), of, &[], &config);
    if precision == Precision::Exact {
        assert_eq!(found.responses, right.responses, "{}: bit by bit", device.name());
        assert_eq!(found.miners, right.miners, "{}: bit by bit", device.name());
        return;
    }
    for (right, found) in right.responses.iter().zip(&found.responses) {
        let pairs = [(right.novelty, found.novelty), (right.loss, found.loss), (right.accuracy, found.accuracy)];
        for (right, found) in pairs {
            assert!((right - found).abs() <= 1e-4, "{}: {found} is not {right}", device.name());
        }
        assert_eq!((found.tokens, found.chars), (right.tokens, right.chars), "{}", device.name());
    }
    for (right, found) in right.miners.iter().zip(&found.miners) {
        let off = (right.score() - found.score()).abs();
        assert!(off <= 1e-4, "{}: {} is off by {off:e}", device.name(), right.miner);
    }
}

#[test]
fn every_adapter_scores_as_the_cpu_does() {
    for device in devices() {
        // Software adapters take long: twelve questions with the tiny model, two with the real one.
        let (tiny, step) = if device.is_software() { (20, 120) } else { (1, 4) };
        for precision in [Precision::Exact, Precision::F32] {
            equal_on(&device, &tiny_folder(), precision, &demo(tiny, |_| true).1);
        }
        if let Some(model) = model() {
            equal_on(&device, &model, Precision::Exact, &demo(step, |_| true).1);
        }
    }
}

/// The lines of `scores.jsonl` of a round.
fn lines(embedder: &Embedder, of: &Round) -> Vec<String> {
    lines_by(embedder, of, &by_embedding())
}

fn lines_by(embedder: &Embedder, of: &Round, config: &Config) -> Vec<String> {
    let outcome = score(embedder, of, &[], config);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    pipeline::write(&out, of, &outcome, config, None::<&()>).unwrap();
    std::fs::read_to_string(out.join("scores.jsonl")).unwrap().lines().map(str::to_owned).collect()
}

/// BLAKE3 of the lines of twelve of the demo's questions, scored with a tiny model.
const RECORDED: &str = "057506b4405bd721cca03648feeeb252451263de957f5970d5bd4fb811a5ef49";

#[test]
fn the_lines_of_a_round_are_as_recorded() {
    let lines = lines(&tiny(&Device::cpu()), &demo(20, |_| true).1);
    // Recorded on x86-64; whatever the machine, the text is this one.
    assert_eq!(blake3::hash(lines.concat().as_bytes()).to_hex().as_str(), RECORDED, "{} lines", lines.len());
}

/// The first prompts of a round of real answers that is kept beside the repository.
fn real_round(prompts: usize) -> Option<Vec<Row>> {
    let path = package().join("../shared/data");
    let read = |name: &str| std::fs::read_to_string(path.join(name)).ok();
    let (Some(rows), Some(references)) = (read("dev.jsonl"), read("dev_reference.jsonl")) else {
        common::skip(&format!("{} is not there", path.display()));
        return None;
    };
    let sources = |name: &str, text: String| [Source::reader(name, std::io::Cursor::new(text))];
    let all = Round::read(sources("rows", rows), sources("references", references), Options::default()).unwrap().0;
    let row = |response: &tauscore::data::Response| {
        let prompt = all.prompt_of(response).unwrap();
        Row {
            prompt_id: prompt.id.clone(),
            miner: all.miner_of(response).unwrap().hotkey.as_str().to_owned(),
            response: response.text.clone(),
            reference: prompt.reference.clone(),
            // By the order of the file, whatever order they are handed in.
            block: Some(response.line as u64),
            ..Row::default()
        }
    };
    let mut responses: Vec<_> = all.responses().iter().filter(|row| (row.prompt as usize) < prompts).collect();
    responses.sort_by_key(|row| row.prompt);
    Some(responses.into_iter().map(row).collect())
}

#[test]
fn a_real_round_is_the_same_to_the_byte_on_every_device_and_in_any_order() {
    let (Some(model), Some(rows)) = (model(), real_round(10)) else { return };
    let all = std::env::var_os("TAUSCORE_TEST_ALL").is_some();
    let round = |rows: &[Row]| Round::from_rows(rows.to_vec(), [], Options::default()).unwrap().0;
    let embedder = |device: &Device, limit: Option<usize>| {
        let config = EncoderConfig { max_tokens: limit, ..common::encoder(&model, Precision::Exact) };
        Embedder::load(device, &model, &config, &mut |_| {}).unwrap()
    };
    // In full it takes minutes where a software adapter embeds.
    let limit = (!all).then_some(24);
    let cpu = embedder(&Device::cpu(), limit);
    let right = lines(&cpu, &round(&rows));
    assert_eq!(right.len(), 320, "32 answers to each prompt");

    let mut shuffled: Vec<(Row, &String)> = rows.iter().cloned().zip(&right).collect();
    Random::new().shuffle(&mut shuffled);
    let (shuffled, moved): (Vec<Row>, Vec<&String>) = shuffled.into_iter().unzip();
    assert!(lines(&cpu, &round(&shuffled)).iter().eq(moved), "in another order every row keeps its line");
    // What is known of a pair of miners is counted over all prompts, so copies are left out here.
    let mut config = by_embedding();
    config.copies.bits = 0;
    let alone = rows.chunk_by(|a, b| a.prompt_id == b.prompt_id);
    let alone: Vec<String> = alone.flat_map(|rows| lines_by(&cpu, &round(rows), &config)).collect();
    assert!(alone == lines_by(&cpu, &round(&rows), &config), "each prompt in a round of its own");

    for device in devices() {
        // One software adapter is slower still.
        let prompts = if all || !device.name().contains("SwiftShader") { 10 } else { 1 };
        let part = round(&rows[..32 * prompts]);
        let right = if prompts == 10 { right.clone() } else { lines(&cpu, &part) };
        assert!(lines(&embedder(&device, limit), &part) == right, "{}: other bytes", device.name());
    }
}

#[test]
fn a_round_without_rows_to_compare_is_wholly_novel() {
    let rows: Vec<Row> = text_rows(5, 4).into_iter().filter(|row| row.miner == "m1").collect();
    let outcome = score(&tiny(&Device::cpu()), &round(rows), &[], &nearest(16));
    assert!(!outcome.responses.is_empty(), "there is something to see");
    for scored in &outcome.responses {
        assert_eq!((scored.novelty, &scored.nearest), (1.0, &None), "one miner alone copies nobody");
    }
    let miner = outcome.miners.first().expect("one miner");
    assert_eq!(miner.novelty, 1.0, "his mean");
}

#[test]
fn contrast_is_the_share_of_the_own_reference_among_all() {
    let row = |prompt: &str, miner: &str, response: &str| Row {
        prompt_id: prompt.into(),
        miner: miner.into(),
        response: response.into(),
        ..Row::default()
    };
    let rows = vec![row("p", "a", "one two"), row("q", "a", "three"), row("q", "b", "what is asked in q")];
    let embedder = tiny(&Device::cpu());
    let cosine_loss = |config: &Config| -> Vec<f64> {
        score(&embedder, &round(rows.clone()), &[], config).responses.iter().map(|row| row.loss).collect()
    };
    // The cosine to the own reference, and to the other prompt's.
    let own = cosine_loss(&by_embedding());
    let swapped = |prompt: &str| if prompt == "p" { "q" } else { "p" };
    let other_rows = rows.iter().map(|row| Row { prompt_id: swapped(&row.prompt_id).into(), ..row.clone() });
    let other: Vec<f64> = score(&embedder, &round(other_rows.collect()), &[], &by_embedding())
        .responses
        .iter()
        .map(|row| row.loss)
        .collect();
    let mut config = Config::default();
    config.loss.kind = LossKind::Contrast;
    config.loss.temperature = Some(0.05);
    let outcome = score(&embedder, &round(rows.clone()), &[], &config);
    for ((row, own), other) in outcome.responses.iter().zip(own).zip(other) {
        let share = 1.0 / (1.0 + ((own - other) / 0.05).exp());
        assert!((row.accuracy - share).abs() < 1e-9 && (row.loss + share.ln()).abs() < 1e-9, "{row:?}, {share}");
    }
}
