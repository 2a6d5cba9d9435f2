//! Embeddings against PyTorch, and the law that neither batch nor order changes a bit.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot be set up must fail, and says how close it was"
)]

mod common;

use common::{devices, floats, ids, json, model, package, shared, worst};
use serde_json::Value;
use tauscore::device::Device;
use tauscore::nn::{Precision, Rows};
use tauscore::stages::encode::Encoder;

/// A token sequence and the embedding that PyTorch gives it.
type Golden = (Vec<u32>, Vec<f32>);

/// Compares with PyTorch and says by how much it is off.
fn check(what: &str, encoder: &Encoder, golden: &[Golden], tolerance: f32) {
    let sequences: Vec<&[u32]> = golden.iter().map(|(ids, _)| ids.as_slice()).collect();
    let embeddings = encoder.encode(&sequences).unwrap();
    let right: Vec<f32> = golden.iter().flat_map(|(_, embedding)| embedding).copied().collect();
    let off = worst(&embeddings, &right);
    eprintln!("{what}: {} sequences, off by at most {off:e}", golden.len());
    assert!(off <= tolerance, "{what}: off by {off:e}, allowed is {tolerance:e}");
}

fn minilm(limit: u32) -> Option<Vec<Golden>> {
    let reference = shared("reference/minilm.json")?;
    let (key_ids, key_embedding) = (format!("ids_{limit}"), format!("embedding_{limit}"));
    let rows = reference["rows"].as_array().unwrap().iter();
    let rows: Vec<Golden> = rows
        .filter(|row| row.get(&key_ids).is_some_and(Value::is_array))
        .map(|row| (ids(&row[&key_ids]), floats(&row[&key_embedding])))
        .collect();
    assert!(!rows.is_empty(), "there are rows for {limit}");
    Some(rows)
}

#[test]
fn minilm_equals_torch_on_the_cpu() {
    let (Some(model), Some(short), Some(long)) = (model(), minilm(256), minilm(512)) else { return };
    check("CPU, 256", &Encoder::load(&Device::cpu(), &model, None).unwrap(), &short, 1e-5);
    check("CPU, 512", &Encoder::load(&Device::cpu(), &model, Some(512)).unwrap(), &long, 1e-5);
}

#[test]
fn minilm_equals_torch_on_every_adapter() {
    let (Some(model), Some(mut rows)) = (model(), minilm(256)) else { return };
    // Software adapters are slow: every kind of text, but of the long ones only a few.
    let mut long = 0;
    rows.retain(|(ids, _)| {
        long += usize::from(ids.len() > 64);
        ids.len() <= 64 || long % 4 == 1
    });
    for device in devices() {
        check(&device.name(), &Encoder::load(&device, &model, None).unwrap(), &rows, 2e-5);
    }
}

/// The random-weight models that a script in the tree makes: other sizes, CLS pooling, f16 and bf16 weights.
const TINY: [&str; 4] = ["f32-mean", "f16-cls", "bf16-relu", "f32-cased"];

#[test]
fn other_models_equal_torch_on_every_device() {
    for device in std::iter::once(Device::cpu()).chain(devices()) {
        for name in TINY {
            let folder = package().join("datasets/models").join(name);
            let golden = json(&format!("datasets/models/{name}/golden.json"));
            let embedder = common::embedder(&device, &folder, Precision::F32);
            assert_eq!(embedder.max_tokens() as u64, golden["limit"].as_u64().unwrap(), "{name}: limit");
            let rows = golden["rows"].as_array().unwrap();
            let texts: Vec<&str> = rows.iter().map(|row| row["text"].as_str().unwrap()).collect();
            let (tokens, embeddings) = embedder.embed(&texts).unwrap();
            for (index, row) in rows.iter().enumerate() {
                assert_eq!(tokens[index].ids, ids(&row["ids"]), "{name}: ids of row {index}");
                assert_eq!(tokens[index].truncated, row["truncated"].as_bool().unwrap(), "{name}: row {index} cut");
                let Rows::F32(found) = embeddings.row(index) else { panic!("{name}: not floats") };
                let off = worst(&found, &floats(&row["embedding"]));
                assert!(off <= 1e-5, "{name} on {}: row {index} is off by {off:e}", device.name());
            }
        }
    }
}

fn bits(embeddings: &[f32]) -> Vec<u32> {
    embeddings.iter().map(|value| value.to_bits()).collect()
}

/// Lengths around every block and tile, in an order that mixes them.
fn sequences() -> Vec<Vec<u32>> {
    let lengths = [2, 63, 64, 65, 3, 128, 129, 200, 48, 2, 100, 31, 33, 7];
    (0_u32..)
        .zip(lengths)
        .map(|(seed, length)| (0..length).map(|at| 1000 + (seed * 7919 + at * 104_729) % 20_000).collect())
        .collect()
}

/// Alone, in any batch and in any order: the same bits.
fn batching_changes_nothing(device: &Device, take: usize) {
    let Some(model) = model() else { return };
    let encoder = Encoder::load(device, &model, None).unwrap();
    let sequences: Vec<Vec<u32>> = sequences().into_iter().take(take).collect();
    let together: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
    let all = bits(&encoder.encode(&together).unwrap());
    let width = encoder.width();
    for (index, sequence) in together.iter().enumerate() {
        let alone = bits(&encoder.encode(&[sequence]).unwrap());
        assert_eq!(alone, all[index * width..][..width], "sequence {index} of {} tokens, alone", sequence.len());
    }
    let backwards: Vec<&[u32]> = together.iter().rev().copied().collect();
    let turned = bits(&encoder.encode(&backwards).unwrap());
    let chunks: Vec<&[u32]> = turned.chunks(width).rev().collect();
    assert_eq!(chunks.concat(), all, "in reverse order");
    // So many that they take several batches.
    let many = together.len() * if device.is_cpu() { 5 } else { 2 };
    let many: Vec<&[u32]> = together.iter().cycle().take(many).copied().collect();
    let repeated = bits(&encoder.encode(&many).unwrap());
    for (index, row) in repeated.chunks(width).enumerate() {
        let first = index % together.len();
        assert_eq!(row, &all[first * width..][..width], "repetition {index} in a larger batch");
    }
}

#[test]
fn batching_changes_no_bit_on_the_cpu() {
    batching_changes_nothing(&Device::cpu(), usize::MAX);
}

#[test]
fn batching_changes_no_bit_on_any_adapter() {
    for device in devices() {
        batching_changes_nothing(&device, 4);
    }
}

#[test]
fn sequences_that_do_not_fit_are_refused() {
    let folder = package().join("datasets/models/f32-mean");
    let encoder = Encoder::load(&Device::cpu(), &folder, None).unwrap();
    let long = vec![5; encoder.max_tokens() + 1];
    for (sequence, problem) in
        [(&[][..], "no token"), (&long, "the limit is"), (&[5, 100_000], "beyond the vocabulary")]
    {
        let error = encoder.encode(&[&[5], sequence]).unwrap_err().to_string();
        assert!(error.contains("sequence 1") && error.contains(problem), "{error}");
    }
    assert!(encoder.encode(&[]).unwrap().is_empty(), "nothing in, nothing out");
}
