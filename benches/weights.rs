//! Weights of 2,500 miners on one thread, stage by stage and as the recipes that ship have them: `cargo bench --bench weights`.
//!
//! The scores are random, the blocks of submission all different (the costly case), and the tables hold one prompt, or `PROMPTS` of them. The
//! win rate is compared with counting pair by pair first.
#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up must fail")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use tauscore::config::Config;
use tauscore::stages::weights::{Answer, Entrant, Memory, Table, WeightsConfig, apply, quantise};

const MINERS: u32 = 2500;
const PROMPTS: u32 = 20;

/// SplitMix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn table(prompts: u32) -> Table {
    let mut state = 7;
    let entrant = |index: u32| Entrant {
        hotkey: format!("hotkey{index:05}"),
        uid: Some(index as u16),
        coldkey: Some("5ExampleOwnerColdkey".into()),
        block: Some(u64::from(index) * 7919 % 100_003),
    };
    let mut answers = Vec::new();
    for prompt in 0..prompts {
        for entrant in 0..MINERS {
            let mut number = || (random(&mut state) >> 48) as u16;
            answers.push(Answer { prompt, entrant, score: number(), accuracy: number(), novelty: number() });
        }
    }
    Table {
        entrants: (0..MINERS).map(entrant).collect(),
        prompts: (0..prompts).map(|prompt| format!("environment{}:{prompt:03}", 2 * prompt / prompts)).collect(),
        answers,
        unanswered_is_zero: true,
        owner_uid: Some(0),
        ..Table::default()
    }
}

fn stages(text: &str) -> WeightsConfig {
    Config::parse(text, "bench").unwrap().weights
}

/// Win rates pair by pair, with an advantage of `epsilon` for the earlier.
fn plainly(table: &Table, epsilon: f64) -> Vec<f64> {
    let losses: Vec<f64> = table.answers.iter().map(|row| 1.0 - f64::from(row.score) / 65_535.0).collect();
    let blocks: Vec<Option<u64>> = table.entrants.iter().map(|entrant| entrant.block).collect();
    let loss = |of: usize, against: usize| {
        if blocks[of] < blocks[against] { (1.0 - epsilon) * losses[of] } else { losses[of] }
    };
    let wins = |i: usize| (0..losses.len()).filter(|j| loss(i, *j) < loss(*j, i)).count();
    (0..losses.len()).map(|i| wins(i) as f64 / (losses.len() - 1) as f64).collect()
}

fn bench(criterion: &mut Criterion) {
    let (one, many, memory) = (table(1), table(PROMPTS), Memory::default());
    let win_rate = stages("[[weights.stages]]\nkind = \"win_rate\"\nepsilon = 0.005");
    assert_eq!(apply(&win_rate, &one, &memory).unwrap().weights, plainly(&one, 0.005), "the same win rates");
    criterion.bench_function("win rate, pair by pair", |bencher| bencher.iter(|| plainly(black_box(&one), 0.005)));

    let mut time = |name: &str, config: &WeightsConfig, table: &Table| {
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| quantise(&apply(black_box(config), black_box(table), &memory).unwrap().weights));
        });
    };
    time("win rate of means", &win_rate, &one);
    let by_prompt = stages("[[weights.stages]]\nkind = \"win_rate\"\nover = \"prompts\"\nepsilon = 0.005");
    time(&format!("win rate of {PROMPTS} prompts"), &by_prompt, &many);
    time("rating", &stages("[[weights.stages]]\nkind = \"rating\""), &one);
    for recipe in ["sn1_openvalidators", "sn1_prompting", "sn9_pretraining", "templar", "affine"] {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("datasets/recipes/{recipe}.toml"));
        time(&format!("{recipe}, {PROMPTS} prompts"), &Config::read(&file).unwrap().weights, &many);
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
