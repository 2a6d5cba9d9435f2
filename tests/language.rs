//! Losses of causal language models against PyTorch, on every device.

mod common;

use std::path::PathBuf;

use tauscore::device::Device;
use tauscore::nn::llama::LlamaModel;
use tauscore::stages::language::{LanguageModel, Passage};

#[test]
fn smol() {
    let path = PathBuf::from(std::env::var("TAUSCORE_TEST_LANGUAGE_MODEL").expect("set"));
    let model = LlamaModel::open(&path).expect("opens");
    let text = std::fs::read_to_string("../shared/reference/smollm2.json").expect("there");
    let json: serde_json::Value = serde_json::from_str(&text).expect("json");
    let rows: Vec<(Vec<u32>, usize, Vec<f64>)> = json["rows"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| {
            let ids = row["ids"].as_array().expect("ids").iter().map(|id| id.as_u64().expect("id") as u32).collect();
            let nll = row["nll"].as_array().expect("nll").iter().map(|x| x.as_f64().expect("f")).collect();
            (ids, row["start"].as_u64().expect("start") as usize, nll)
        })
        .collect();
    let limit: usize = std::env::var("ROWS").ok().and_then(|r| r.parse().ok()).unwrap_or(usize::MAX);
    for device in std::iter::once(Device::cpu()).chain(common::variants()) {
        let began = std::time::Instant::now();
        let lm = LanguageModel::new(&device, &model).expect("loads");
        let rows: Vec<_> = rows.iter().take(if device.is_cpu() { usize::MAX } else { limit }).collect();
        let prefixes: Vec<&[u32]> = rows.iter().map(|(ids, start, _)| &ids[..*start]).collect();
        let passages: Vec<Passage<'_>> = rows
            .iter()
            .enumerate()
            .map(|(prefix, (ids, start, _))| {
                let tokens = &ids[*start..];
                Passage { prefix, tokens, scored: vec![0..tokens.len()] }
            })
            .collect();
        let began2 = std::time::Instant::now();
        let found = lm.losses(&prefixes, &passages, |_| {}).expect("runs");
        let n: usize = rows.iter().map(|r| r.0.len()).sum();
        let mut worst = 0.0_f64;
        for ((_, _, right), found) in rows.iter().zip(&found) {
            for (a, b) in right.iter().zip(found) {
                worst = worst.max((a - f64::from(*b)).abs());
            }
        }
        eprintln!(
            "{}: worst {worst:.2e}, load {:?}, {} tokens in {:?} = {:.0}/s",
            device.name(),
            began2 - began,
            n,
            began2.elapsed(),
            n as f64 / began2.elapsed().as_secs_f64()
        );
        // alone, without sharing
        let whole: Vec<Passage<'_>> = rows
            .iter()
            .map(|(ids, start, _)| Passage { prefix: 0, tokens: ids, scored: vec![*start..ids.len()] })
            .collect();
        let again = lm.losses(&[&[]], &whole, |_| {}).expect("runs");
        assert!(again == found, "same bits");
        assert!(worst < 1e-3);
    }
}
