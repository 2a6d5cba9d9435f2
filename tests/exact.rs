//! The encoder in integers: every integer of the recorded embeddings, and the same on every device, in any batch and order.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot be set up must fail, and says how much it saw"
)]

mod common;

use common::{devices, ids, json};
use serde_json::Value;
use tauscore::device::{Device, Noise};
use tauscore::nn::exact::{IntegerLayer, IntegerLinear, IntegerModel, IntegerNorm};
use tauscore::stages::encode::ExactEncoder;

/// A recorded sequence: its ids, its embedding, and digests of the rows after the embeddings' norm and after each layer.
struct Recorded {
    ids: Vec<u32>,
    embedding: Vec<i16>,
    hidden: Vec<String>,
}

fn recorded() -> Vec<Recorded> {
    let reference = json("datasets/reference/minilm_exact.json");
    let rows = reference["rows"].as_array().unwrap().iter();
    let numbers = |value: &Value| value.as_array().unwrap().iter().map(|x| x.as_i64().unwrap() as i16).collect();
    let texts = |value: &Value| value.as_array().unwrap().iter().map(|x| x.as_str().unwrap().to_owned()).collect();
    rows.map(|row| Recorded {
        ids: ids(&row["ids"]),
        embedding: numbers(&row["embedding"]),
        hidden: texts(&row["hidden"]),
    })
    .collect()
}

/// The digest that the recordings use: FNV's step over the bytes, from a start of its own.
fn digest(state: &[i32]) -> String {
    let bytes = state.iter().flat_map(|number| number.to_le_bytes());
    let hash =
        bytes.fold(0x1465_0fb0_739d_0383_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    format!("{hash:016x}")
}

/// The integer model of MiniLM; skipped, loudly, without the checkpoint.
fn minilm() -> Option<IntegerModel> {
    common::model().map(|folder| IntegerModel::convert(&folder).unwrap())
}

/// A model of random integers whose sizes are as a checked model's. It means nothing.
fn random_model(seed: u64, hidden: usize, heads: usize, inner: usize, layers: usize) -> IntegerModel {
    let mut noise = Noise::new(seed);
    let mut numbers =
        |count: usize, bits: u32| -> Vec<i32> { (0..count).map(|_| noise.bits() as i32 >> (32 - bits)).collect() };
    let mut norm = |gain: i32| IntegerNorm {
        gain: numbers(hidden, 17).iter().map(|x| x + gain).collect(),
        bias: numbers(hidden, 14),
    };
    let gain = (65_536.0 * (hidden as f64).sqrt()) as i32;
    let embedding_norm = norm(gain);
    let norms: Vec<[IntegerNorm; 2]> = (0..layers).map(|_| [norm(gain), norm(gain)]).collect();
    let mut linear = |outputs: usize, inputs: usize| IntegerLinear {
        outputs,
        inputs,
        shift: 22,
        steps: numbers(outputs, 13).iter().map(|x| (x + 5000) as u32).collect(),
        bias: numbers(outputs, 14),
        weights: numbers(outputs * inputs, 8).iter().map(|x| (*x).max(-127) as i8).collect(),
    };
    let layers = norms
        .into_iter()
        .map(|[attention_norm, output_norm]| IntegerLayer {
            query: linear(hidden, hidden),
            key: linear(hidden, hidden),
            value: linear(hidden, hidden),
            attention_output: linear(hidden, hidden),
            intermediate: linear(inner, hidden),
            output: linear(hidden, inner),
            attention_norm,
            output_norm,
        })
        .collect();
    let mut table = |rows: usize| numbers(rows * hidden, 12).iter().map(|x| *x as i16).collect();
    IntegerModel {
        hidden,
        heads,
        word: table(300),
        position: table(512),
        embedding_norm,
        layers,
        gelu: (0..514).map(|at: i32| (289 - at).max(0) * 11 + at % 3).collect(),
    }
}

/// The embeddings of sequences of at most `embedded` tokens, and the states of those of at most `followed`.
fn every_integer_is_as_recorded(encoder: &ExactEncoder, embedded: usize, followed: usize) {
    let rows: Vec<Recorded> = recorded().into_iter().filter(|row| row.ids.len() <= embedded).collect();
    let sequences: Vec<&[u32]> = rows.iter().map(|row| row.ids.as_slice()).collect();
    let found = encoder.encode(&sequences).unwrap();
    let width = encoder.width();
    for (index, row) in rows.iter().enumerate() {
        let differing = found[index * width..][..width].iter().zip(&row.embedding).filter(|(a, b)| a != b).count();
        assert_eq!(differing, 0, "{}: embedding {index} of {} tokens", encoder.device().name(), row.ids.len());
    }
    let mut looked = 0;
    for (index, row) in rows.iter().enumerate().filter(|(_, row)| row.ids.len() <= followed) {
        let found: Vec<String> = encoder.hidden_states(&row.ids).unwrap().iter().map(|state| digest(state)).collect();
        assert_eq!(found, row.hidden, "{}: rows of sequence {index}, layer by layer", encoder.device().name());
        looked += found.len();
    }
    eprintln!("{}: {} embeddings, {looked} states, no integer differs", encoder.device().name(), rows.len());
}

#[test]
fn minilm_is_as_recorded_on_the_cpu() {
    let Some(model) = minilm() else { return };
    every_integer_is_as_recorded(&ExactEncoder::new(&Device::cpu(), &model).unwrap(), usize::MAX, usize::MAX);
}

#[test]
fn minilm_is_as_recorded_on_every_adapter() {
    let Some(model) = minilm() else { return };
    for device in devices() {
        // Software adapters are slow, and one of them slower still; TAUSCORE_TEST_ALL spares none. A long sequence whose embedding
        // is right was right on the way.
        let all = std::env::var_os("TAUSCORE_TEST_ALL").is_some() || !device.name().contains("SwiftShader");
        let (embedded, followed) = if all { (usize::MAX, 64) } else { (40, 16) };
        every_integer_is_as_recorded(&ExactEncoder::new(&device, &model).unwrap(), embedded, followed);
    }
}

/// Sequences of random ids, with lengths around every block and tile.
fn sequences(noise: &mut Noise, vocabulary: usize, lengths: &[usize]) -> Vec<Vec<u32>> {
    lengths.iter().map(|length| (0..*length).map(|_| noise.below(vocabulary as u32)).collect()).collect()
}

fn batching_changes_nothing(encoder: &ExactEncoder, lengths: &[usize]) -> Vec<i16> {
    let mut noise = Noise::new(lengths.len() as u64);
    let together = sequences(&mut noise, encoder.vocabulary(), lengths);
    let all = encoder.encode(&together).unwrap();
    let width = encoder.width();
    for (index, sequence) in together.iter().enumerate() {
        let alone = encoder.encode(&[sequence]).unwrap();
        assert_eq!(alone, all[index * width..][..width], "sequence {index} of {} tokens, alone", sequence.len());
    }
    // Any order, and so many that they take several batches.
    let order: Vec<usize> = (0..3 * together.len()).map(|_| noise.below(together.len() as u32) as usize).collect();
    let mixed: Vec<&Vec<u32>> = order.iter().map(|index| &together[*index]).collect();
    for (row, index) in encoder.encode(&mixed).unwrap().chunks(width).zip(order) {
        assert_eq!(row, &all[index * width..][..width], "sequence {index} in another batch");
    }
    all
}

#[test]
fn minilm_gives_the_same_integers_alone_and_together_on_every_device() {
    let Some(model) = minilm() else { return };
    let cpu = ExactEncoder::new(&Device::cpu(), &model).unwrap();
    let lengths = [2, 65, 31, 7, 63, 64, 3, 128, 129, 511, 512, 2, 33];
    batching_changes_nothing(&cpu, &lengths);
    for device in devices() {
        let right = batching_changes_nothing(&cpu, &lengths[..4]);
        let found = batching_changes_nothing(&ExactEncoder::new(&device, &model).unwrap(), &lengths[..4]);
        assert!(found == right, "{}: other integers than the CPU's", device.name());
    }
}

#[test]
fn models_of_other_sizes_give_the_same_integers_on_every_device() {
    for (hidden, heads, inner, layers) in
        [(96, 3, 200, 3), (128, 2, 64, 2), (48, 4, 100, 1), (512, 4, 12, 1), (4, 1, 4, 0)]
    {
        let model = random_model(hidden as u64, hidden, heads, inner, layers);
        let lengths = [1, 2, 40, 66, 17, 130];
        let right = batching_changes_nothing(&ExactEncoder::new(&Device::cpu(), &model).unwrap(), &lengths);
        assert!(right.iter().any(|number| number.unsigned_abs() > 300), "the embeddings say something");
        for device in devices() {
            let found = batching_changes_nothing(&ExactEncoder::new(&device, &model).unwrap(), &lengths);
            assert!(found == right, "{}: other integers than the CPU's, hidden {hidden}", device.name());
        }
    }
}

#[test]
fn embeddings_are_of_unit_length() {
    let model = random_model(7, 96, 3, 200, 2);
    let encoder = ExactEncoder::new(&Device::cpu(), &model).unwrap();
    let found = encoder.encode(&sequences(&mut Noise::new(1), 300, &[2, 30, 500])).unwrap();
    for row in found.chunks(96) {
        let squares: i64 = row.iter().map(|x| i64::from(*x).pow(2)).sum();
        assert!((squares - (1 << 30)).abs() < 1 << 18, "{squares} is not the square of about 32768");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let good = random_model(1, 96, 3, 200, 1);
    let encoder = ExactEncoder::new(&Device::cpu(), &good).unwrap();
    for (sequence, problem) in
        [(vec![], "no token"), (vec![5; 513], "the limit is 512"), (vec![300], "beyond the vocabulary")]
    {
        let error = encoder.encode(&[vec![5], sequence]).unwrap_err().to_string();
        assert!(error.contains("sequence 1") && error.contains(problem), "{error}");
    }
    assert!(encoder.encode::<Vec<u32>>(&[]).unwrap().is_empty(), "nothing in, nothing out");

    type Spoil = fn(&mut IntegerModel);
    let spoilt: [(&str, Spoil); 9] = [
        ("multiple of 4 up to 1024", |model| model.hidden = 95),
        ("a head must be", |model| model.heads = 5),
        ("a head must be", |model| model.heads = 0),
        ("the word table", |model| model.word.truncate(100)),
        ("the position table", |model| model.position.clear()),
        ("the GELU table", |model| model.gelu.truncate(513)),
        ("part of layer 0", |model| model.layers[0].key.bias.truncate(95)),
        ("part of layer 0", |model| model.layers[0].output.shift = 64),
        ("norm", |model| model.embedding_norm.gain.clear()),
    ];
    for (problem, spoil) in spoilt {
        let mut model = good.clone();
        spoil(&mut model);
        let error = ExactEncoder::new(&Device::cpu(), &model).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
}
