//! Losses of causal language models: against PyTorch's, and the same bits however passages are put together.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

mod common;

use common::{devices, floats, ids, json, language_model, package};
use proptest::prelude::*;
use serde_json::Value;
use tauscore::device::Device;
use tauscore::nn::llama::LlamaModel;
use tauscore::pipeline::judge::{Case, Judge, Judgement, Reading};
use tauscore::progress::Event;
use tauscore::stages::language::{LanguageModel, Passage};

/// The models that are made here, one of them of each kind of packing.
const TINY: [&str; 10] = [
    "gguf-f32",
    "gguf-f16",
    "gguf-bf16",
    "gguf-q8_0",
    "gguf-q4_0",
    "gguf-q4_1",
    "gguf-mixed",
    "llama-f32",
    "llama-f16",
    "llama-bf16",
];

fn all_devices() -> Vec<Device> {
    std::iter::once(Device::cpu()).chain(devices()).collect()
}

fn tiny(device: &Device, name: &str) -> LanguageModel {
    LanguageModel::new(device, &LlamaModel::open(&package().join("datasets/models").join(name)).unwrap()).unwrap()
}

/// All of `tokens` from the second on, with nothing shared.
fn whole(tokens: &[u32]) -> Passage<'_> {
    Passage { prefix: 0, tokens, scored: std::iter::once(1..tokens.len()).filter(|range| !range.is_empty()).collect() }
}

fn worst(found: &[f32], right: &[f32]) -> f32 {
    assert_eq!(found.len(), right.len(), "a loss for each token");
    common::worst(found, right)
}

#[test]
fn every_packing_gives_pytorchs_losses_on_every_device() {
    for name in TINY {
        let golden = json(&format!("datasets/models/{name}/golden.json"));
        let rows: Vec<(Vec<u32>, Vec<f32>)> =
            golden["rows"].as_array().unwrap().iter().map(|row| (ids(&row["ids"]), floats(&row["nll"]))).collect();
        for device in all_devices() {
            let passages: Vec<Passage<'_>> = rows.iter().map(|(tokens, _)| whole(tokens)).collect();
            let found = tiny(&device, name).losses(&[&[]], &passages, |_| {}).unwrap();
            let off = rows.iter().zip(&found).map(|((_, right), found)| worst(found, right)).fold(0.0, f32::max);
            assert!(off < 2e-4, "{name} on {}: {off}", device.name());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bits_depend_on_nothing_but_the_tokens_before(
        prefixes in prop::collection::vec(prop::collection::vec(0_u32..289, 1..150), 1..4),
        passages in prop::collection::vec((0_usize..4, prop::collection::vec(0_u32..289, 1..200)), 1..12),
        rotation in 0_usize..12,
    ) {
        let model = tiny(&Device::cpu(), "gguf-q4_1");
        let shared: Vec<&[u32]> = prefixes.iter().map(Vec::as_slice).collect();
        let passage = |(prefix, tokens): &'_ (usize, Vec<u32>)| (prefix % prefixes.len(), tokens.clone());
        let passages: Vec<(usize, Vec<u32>)> = passages.iter().map(passage).collect();
        let scored = |tokens: &[u32]| std::iter::once(0..tokens.len()).collect();
        let all: Vec<Passage<'_>> =
            passages.iter().map(|(prefix, tokens)| Passage { prefix: *prefix, tokens, scored: scored(tokens) }).collect();
        let together = model.losses(&shared, &all, |_| {}).unwrap();

        let mut turned = all.clone();
        turned.rotate_left(rotation % all.len());
        let mut in_other_order = model.losses(&shared, &turned, |_| {}).unwrap();
        in_other_order.rotate_right(rotation % all.len());
        prop_assert!(in_other_order == together, "the order changes bits");
        for (passage, found) in all.iter().zip(&together) {
            let alone = model.losses(&shared, std::slice::from_ref(passage), |_| {}).unwrap();
            prop_assert!(alone[0] == *found, "company changes bits");
            let prefix = shared[passage.prefix];
            let tokens = [prefix, passage.tokens].concat();
            let unshared = Passage { prefix: 0, tokens: &tokens, scored: std::iter::once(prefix.len()..tokens.len()).collect() };
            let unshared = model.losses(&[&[]], &[unshared], |_| {}).unwrap();
            prop_assert!(unshared[0] == *found, "sharing changes bits");
        }
    }
}

#[test]
fn sharing_changes_no_bit_on_any_device() {
    let noise: Vec<u32> = (0..420_u32).map(|at| at.wrapping_mul(2_654_435_761) >> 8).map(|id| id % 289).collect();
    let (prefix, rest) = noise.split_at(70);
    for device in all_devices() {
        let model = tiny(&device, "gguf-mixed");
        let branches = [&rest[..1], &rest[1..64], &rest[64..129], &rest[129..]];
        let scored = |range: std::ops::Range<usize>| std::iter::once(range).collect::<Vec<_>>();
        let passages: Vec<Passage<'_>> =
            branches.iter().map(|tokens| Passage { prefix: 0, tokens, scored: scored(0..tokens.len()) }).collect();
        let shared = model.losses(&[prefix], &passages, |_| {}).unwrap();
        for (tokens, found) in branches.iter().zip(&shared) {
            let tokens = [prefix, tokens].concat();
            let alone = Passage { prefix: 0, tokens: &tokens, scored: scored(prefix.len()..tokens.len()) };
            assert!(model.losses(&[&[]], &[alone], |_| {}).unwrap()[0] == *found, "{}", device.name());
        }
    }
}

#[test]
fn what_cannot_be_computed_is_refused_by_name() {
    let model = tiny(&Device::cpu(), "gguf-f32");
    let long = vec![1; 4096];
    let scored = |range: std::ops::Range<usize>| std::iter::once(range).collect::<Vec<_>>();
    for (tokens, range, problem) in [
        (&[1, 2][..], 0..2, "its first token is scored, with nothing before it"),
        (&[1, 2], 1..3, "a token is scored that it has not"),
        (&[1, 70_000], 1..2, "token id 70000 is beyond the vocabulary"),
        (&long, 1..2, "with its prefix it has 4096 tokens"),
    ] {
        let error = model.losses(&[&[]], &[Passage { prefix: 0, tokens, scored: scored(range) }], |_| {}).unwrap_err();
        assert!(error.to_string().contains(problem), "{error}");
    }
    let nothing = Passage { prefix: 0, tokens: &[], scored: vec![] };
    assert_eq!(model.losses(&[&[]], &[nothing], |_| {}).unwrap(), [Vec::<f32>::new()], "nothing scored, nothing done");
}

/// Passages of as many tokens each after one prefix, all of which are scored.
fn alike(tokens: &[u32], length: usize) -> Vec<Passage<'_>> {
    tokens.chunks_exact(length).map(|tokens| Passage { prefix: 0, tokens, scored: vec![0..length; 1] }).collect()
}

fn noise(count: usize) -> Vec<u32> {
    (0..count as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 8) % 289).collect()
}

#[test]
fn ten_thousand_passages_take_the_memory_of_a_thousand() {
    let tokens = noise(10_000);
    // One adapter will do: the ledger is the same for all of them, and software takes its time.
    for device in all_devices().into_iter().take(2) {
        let most = |passages: usize| {
            let device = device.with_budget(Some(1 << 20));
            let model = tiny(&device, "gguf-q4_1");
            let found = model.losses(&[&[1, 2, 3]], &alike(&tokens[..passages], 1), |_| {}).unwrap();
            assert_eq!(found.len(), passages, "{}: a list for each", device.name());
            device.memory().most
        };
        let (few, many) = (most(1000), most(10_000));
        assert!(few == many && few > 15 << 16, "{}: {few} bytes, then {many}", device.name());
    }
}

#[test]
fn a_budget_is_kept_and_changes_no_bit() {
    let tokens = noise(400);
    let passages: Vec<Passage<'_>> = [1, 17, 64, 200].iter().flat_map(|length| alike(&tokens, *length)).collect();
    for device in all_devices() {
        let name = device.name();
        let (mut right, mut refused, mut kept) = (None, 0, 0);
        for budget in [None, Some(64 << 20), Some(3 << 20), Some(2 << 20), Some(1 << 20), Some(100_000)] {
            let device = device.with_budget(budget);
            let model = LlamaModel::open(&package().join("datasets/models/gguf-q4_1")).unwrap();
            let found = LanguageModel::new(&device, &model).and_then(|model| {
                model.losses(&[&[1, 2, 3]], &passages, |event| {
                    assert!(!matches!(event, Event::Warning { .. }), "{event:?}")
                })
            });
            match found {
                Ok(found) => {
                    assert!(right.get_or_insert_with(|| found.clone()) == &found, "{name}: other bits with {budget:?}");
                    assert!(budget.is_none_or(|budget| device.memory().most <= budget), "{name}: {budget:?}");
                    kept += 1;
                }
                Err(error) => {
                    let (text, remedy) = (error.to_string(), error.remedy().unwrap());
                    assert!(text.contains("does not hold the model") && text.contains("KiB"), "{text}");
                    assert!(
                        remedy.starts_with("allow --memory-budget ") && remedy.ends_with("MiB or more"),
                        "{remedy}"
                    );
                    refused += 1;
                }
            }
            assert_eq!(device.memory().now, 0, "{name}: all is given back with {budget:?}");
        }
        assert!(kept >= 3 && refused >= 1, "{name}: {kept} budgets hold it, {refused} do not");
    }
}

/// Losses of the real model as PyTorch computes them in f64 from the same weights.
#[test]
fn smollm2_gives_pytorchs_losses() {
    let Some(path) = language_model() else { return };
    let golden = json("datasets/reference/smollm2_losses.json");
    let rows = golden["rows"].as_array().unwrap();
    for device in all_devices() {
        let judge = Judge::load(&device, &path, golden["gguf_sha256"].as_str()).unwrap();
        // Software adapters take a minute for a thousand tokens: the shortest will do there.
        let fits = |row: &&Value| device.is_cpu() || row["ids"].as_array().unwrap().len() < 60;
        let rows: Vec<&Value> = rows.iter().filter(fits).take(if device.is_cpu() { usize::MAX } else { 3 }).collect();
        let text = |row: &'_ Value, field: &str| row[field].as_str().unwrap().to_owned();
        let texts: Vec<(String, String)> =
            rows.iter().map(|row| (text(row, "prompt"), text(row, "response"))).collect();
        let cases: Vec<Case<'_>> =
            texts.iter().map(|(prompt, response)| Case { prompt, response, reference: None }).collect();
        let reading =
            Reading { judgement: Judgement::Response, response_tokens: 96, reference_tokens: 96, share: true };
        let found = judge.judge(&cases, &reading, &mut |_| {}).unwrap();
        for (row, found) in rows.iter().zip(found) {
            let off = worst(&found.unwrap().token_losses, &floats(&row["nll"]));
            assert!(off < 1e-3, "{}: {off} in {}", device.name(), row["response"]);
        }
    }
}

#[test]
fn smollm2_gives_pytorchs_gains() {
    let Some(path) = language_model() else { return };
    let judge = Judge::load(&Device::cpu(), &path, None).unwrap();
    let golden = json("datasets/reference/smollm2_losses.json");
    let rows = golden["gains"].as_array().unwrap();
    let mean = |losses: &[f32]| losses.iter().copied().map(f64::from).sum::<f64>() / losses.len() as f64;
    for (judgement, judged, baseline, share) in [
        (Judgement::ReferenceGain, "nll_reference_given_response", "nll_reference", true),
        (Judgement::MutualGain, "nll_reference_given_response", "nll_reference", true),
        (Judgement::Explained, "nll_response_given_reference", "nll_response", true),
        (Judgement::Information, "nll_response", "nll_response_unprompted", false),
    ] {
        let cases: Vec<Case<'_>> = rows
            .iter()
            .map(|row| Case {
                prompt: row["prompt"].as_str().unwrap(),
                response: row["response"].as_str().unwrap(),
                reference: row["reference"].as_str(),
            })
            .collect();
        let reading = Reading { judgement, response_tokens: 96, reference_tokens: 96, share };
        for (row, found) in rows.iter().zip(judge.judge(&cases, &reading, &mut |_| {}).unwrap()) {
            let found = found.unwrap();
            let right = [judged, baseline].map(|field| floats(&row[field]));
            let off = worst(&found.token_losses, &right[0]).max(worst(&found.baseline, &right[1]));
            assert!(off < 1e-3, "{judgement:?}, {}: {off}", row["miner"]);
            let loss = mean(&right[0]) - mean(&right[1]);
            assert!((found.loss().unwrap() - loss).abs() < 1e-4, "{judgement:?}, {}", row["miner"]);
            let own = ["nll_response", "nll_response_given_reference"].map(|field| floats(&row[field]));
            let explained = (mean(&own[0]) - mean(&own[1])) * own[0].len() as f64;
            match found.explained {
                Some(found) => assert!((found - explained).abs() < 1e-2, "{judgement:?}, {}: {found}", row["miner"]),
                None => assert!(judgement != Judgement::MutualGain, "{} has tokens", row["miner"]),
            }
        }
    }
}
