//! The integer model: the conversion's bytes, its file, and the proof of its ranges.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{model, package};
use proptest::prelude::*;
use serde_json::{Value, json};
use tauscore::nn::exact::{IntegerLinear, IntegerModel, IntegerNorm};
use tempfile::TempDir;

/// What the specification says of all-MiniLM-L6-v2.
const MINILM: &str = "8834ceaa3b0b3f723ffed6fb37cf2743fd1086a2cff75cd8a022c0d94315f365";

fn folder(name: &str) -> PathBuf {
    package().join("datasets/models").join(name)
}

fn small() -> IntegerModel {
    IntegerModel::convert(&folder("f32-mean")).unwrap()
}

/// Where the bytes of layer 0's query begin in the file of [`small`].
const QUERY: usize = 40 + 2 * 96 * (288 + 64) + 8 * 96;

#[test]
fn minilm_has_the_bytes_of_the_specification() {
    let Some(folder) = model() else { return };
    let model = IntegerModel::convert(&folder).unwrap();
    assert_eq!(model.digest(), MINILM, "the digest");
    let bytes = model.to_bytes();
    assert_eq!(bytes.len(), 34_659_704, "the length");
    assert!(IntegerModel::from_bytes(&bytes, "MiniLM").unwrap() == model, "read again, it is another model");
    assert_eq!(
        (model.heads, model.vocabulary(), model.positions(), model.intermediate()),
        (12, 30_522, 512, 1_536),
        "sizes"
    );
    let linears = || model.layers.iter().flat_map(|layer| layer.linears());
    assert!(linears().all(|(_, linear)| (19..=25).contains(&linear.shift)), "shifts as the specification says");
}

/// Section 7 of the specification, which was computed by other hands. Ours are tighter by up to 8 %: of two ways to bound a
/// product, each row takes the better one, and the product with a norm's bias is taken as it is.
#[test]
fn the_ranges_of_minilm_are_those_of_the_specification() {
    let Some(folder) = model() else { return };
    let bounds = IntegerModel::convert(&folder).unwrap().ranges().unwrap();
    let power = |exponent: f64| exponent.exp2();
    let table = [
        ("sum of products", power(28.7)),
        ("step of a row", power(8.1)),
        ("product of steps", power(23.0)),
        ("hidden row", 30.8),
        ("query", 13.0),
        ("key", 51.0),
        ("value", 27.3),
        ("product of the steps of heads", power(25.4)),
        ("logit", power(13.7)),
        ("sum of mixed values", power(28.8 - 24.0)),
        ("intermediate", 64.0),
        ("residual", 2_627.0),
        ("sum of a residual", power(28.2 - 15.0)),
        ("pooled sum", power(28.0 - 15.0)),
    ];
    for (quantity, right) in table {
        let bound = bounds.iter().find(|bound| bound.quantity == quantity).unwrap_or_else(|| panic!("no {quantity}"));
        let real = bound.bound as f64 / power(bound.fraction.into());
        assert!((0.8..1.01).contains(&(real / right)), "{quantity}: {real}, the specification says {right}");
        assert!(bound.bound <= bound.limit.into(), "{quantity}: {bound}");
    }
}

#[test]
fn of_the_small_models_one_is_taken_and_three_are_refused_for_what_xq1_has_not() {
    let model = small();
    assert_eq!((model.hidden, model.heads, model.layers.len(), model.intermediate()), (96, 3, 3, 200), "sizes");
    for (name, field) in [("f16-cls", "pooling_mode"), ("bf16-relu", "hidden_act"), ("f32-cased", "layer_norm_eps")] {
        let error = IntegerModel::convert(&folder(name)).unwrap_err();
        assert!(error.to_string().contains(&format!("config.json: {field}: ")) && error.remedy().is_some(), "{error}");
    }
    // With its pooling left to the default, the one in f16 converts: another prefix, a head of 64.
    let copy = Copy::of("f16-cls");
    let model = IntegerModel::convert(copy.path()).unwrap();
    assert_eq!((model.hidden, model.heads), (64, 1), "sizes");
}

#[test]
fn every_weight_is_within_half_a_step_of_the_checkpoint() {
    let model = small();
    let tensors = Copy::of("f32-mean").tensors();
    for (index, layer) in model.layers.iter().enumerate() {
        for (name, linear) in layer.linears() {
            let tensor = match name {
                "query" | "key" | "value" => format!("attention.self.{name}"),
                "attention_output" => "attention.output.dense".to_owned(),
                other => format!("{other}.dense"),
            };
            let factor = if name == "query" { std::f64::consts::LOG2_E / 32_f64.sqrt() } else { 1.0 };
            let right = tensors.floats(&format!("encoder.layer.{index}.{tensor}.weight"));
            let unit = (-f64::from(linear.shift)).exp2();
            assert!(linear.steps.iter().any(|step| *step > 16_000), "{name}: the shift could be larger");
            for (at, (weight, right)) in linear.weights.iter().zip(right).enumerate() {
                let step = f64::from(linear.steps[at / linear.inputs]) * unit;
                let off = (f64::from(*weight) * step - f64::from(right) * factor).abs();
                assert!(off <= step * 0.500_001, "layer {index} {name} {at}: off by {off}, a step is {step}");
            }
        }
    }
}

#[test]
fn the_file_comes_back_as_it_was() {
    let model = small();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("model.xq1");
    fs::write(&path, "something old").unwrap();
    model.write(&path).unwrap();
    assert_eq!(IntegerModel::read(&path).unwrap(), model, "the model");
    assert_eq!(fs::read(&path).unwrap(), model.to_bytes(), "the bytes");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "nothing is left beside it");
    let error = model.write(&place.path().join("nowhere/model.xq1")).unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
    let error = IntegerModel::read(&place.path().join("nothing")).unwrap_err();
    assert!(error.to_string().contains("nothing"), "{error}");
}

#[test]
fn a_lying_file_is_refused_by_field() {
    let good = small().to_bytes();
    let step = QUERY + 24;
    let weights = step + 8 * 96;
    let word = |at: usize, value: u32| {
        let mut bytes = good.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        bytes
    };
    let cut = |bytes: usize| good[..good.len() - bytes].to_vec();
    let mut minus = good.clone();
    minus[weights + 96 + 5] = 0x80;
    let cases = [
        ("nothing", Vec::new(), "header: it ends 4 bytes too early"),
        ("three bytes", good[..3].to_vec(), "header: it ends 1 bytes too early"),
        ("another magic", word(0, 0x4655_4747), "header: it begins with 0x46554747"),
        ("MiniLM's magic", word(0, 0x3151_5858), "header: its sizes call for 34659704 bytes"),
        ("the 8-bit tier", word(4, 14), "header: bits of query times key: 14"),
        ("other rows", word(8, 16), "header: fraction bits: 16"),
        ("other values", word(12, 8), "header: value bits: 8"),
        ("no word", word(16, 0), "vocabulary: 0 is not between"),
        ("a vocabulary beyond all", word(16, u32::MAX), "vocabulary: 4294967295 is not between"),
        ("a word more", word(16, 289), "header: its sizes call for"),
        ("one position", word(20, 1), "positions: 1 is not between"),
        ("a row too wide for the mean", word(24, 1_024), "hidden: 1024 is not between"),
        ("no head", word(28, 0), "heads: 0 is not between"),
        ("heads that do not divide", word(28, 5), "heads: 5 heads do not divide 96"),
        ("heads too small", word(28, 6), "heads: 6 heads do not divide 96"),
        ("no wide row", word(32, 0), "intermediate: 0 is not between"),
        ("no layer", word(36, 0), "layers: 0 is not between"),
        ("a gain of -2^31", word(QUERY - 8 * 96, 1 << 31), "embedding_norm: a gain is -2^31"),
        ("a matrix of another size", word(QUERY, 97), "layer 0 query: its header is [97, 96, 8, "),
        ("weights of 4 bits", word(QUERY + 8, 4), "layer 0 query: its header is [96, 96, 4, "),
        ("no shift", word(QUERY + 12, 0), "layer 0 query: its shift 0 is not between"),
        ("a shift too far", word(QUERY + 12, 37), "layer 0 query: its shift 37 is not between"),
        ("inputs of 8 bits", word(QUERY + 16, 8), "layer 0 query: its header is"),
        ("something in the last word", word(QUERY + 20, 1), "layer 0 query: its header is"),
        ("a step of 0", word(step + 8, 0), "layer 0 query: the step 0 of row 2"),
        ("a step of 16 bits", word(step, 32_768), "layer 0 query: the step 32768 of row 0"),
        ("a weight of -128", minus, "layer 0 query: the weight in row 1, column 5 is -128"),
        ("another table", word(good.len() - 8 * 4, 1), "gelu: it is not the table"),
        ("a byte less", cut(1), "header: its sizes call for"),
        ("a byte more", [&good[..], b"!"].concat(), "header: its sizes call for"),
        // Weights that are too large by far: the proof is part of reading.
        ("a bias beyond all", word(step + 4 * 96, i32::MAX as u32), "layer 0 query: query can reach"),
        ("steps beyond all", word(QUERY + 12, 1), "layer 0 "),
    ];
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("model.xq1");
    for (what, bytes, problem) in cases {
        let error = IntegerModel::from_bytes(&bytes, "FILE").unwrap_err();
        assert!(error.to_string().starts_with(&format!("FILE: {problem}")), "{what}: {error}");
        assert!(error.remedy().is_some(), "{what}: a remedy");
        fs::write(&path, bytes).unwrap();
        let same = IntegerModel::read(&path).unwrap_err().to_string();
        assert_eq!(same, error.to_string().replace("FILE", &path.display().to_string()), "{what}: from the disk");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damaged_file_panics(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), header: bool) {
        let mut bytes = small().to_bytes();
        let end = if header { QUERY + 24 } else { bytes.len() };
        for (at, byte) in flips {
            let at = at.index(end);
            bytes[at] = byte;
        }
        if let Ok(model) = IntegerModel::from_bytes(&bytes, "FILE") {
            prop_assert_eq!(model.to_bytes(), bytes, "one file for one model");
        }
    }
}

/// A copy of a small model without its pooling, to be changed.
struct Copy(TempDir);

/// A safetensors file in its parts.
struct Tensors {
    header: Value,
    data: Vec<u8>,
}

impl Copy {
    fn of(name: &str) -> Self {
        let copy = Self(tempfile::tempdir().unwrap());
        for file in ["config.json", "model.safetensors"] {
            fs::copy(folder(name).join(file), copy.path().join(file)).unwrap();
        }
        copy
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn tensors(&self) -> Tensors {
        let bytes = fs::read(self.path().join("model.safetensors")).unwrap();
        let size = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        Tensors { header: serde_json::from_slice(&bytes[8..8 + size]).unwrap(), data: bytes[8 + size..].to_vec() }
    }

    /// Multiplies a tensor of f32.
    fn scale(&self, tensor: &str, factor: f32) {
        let mut tensors = self.tensors();
        let range = tensors.range(tensor);
        for bytes in tensors.data[range].as_chunks_mut().0 {
            *bytes = (f32::from_le_bytes(*bytes) * factor).to_le_bytes();
        }
        let header = tensors.header.to_string();
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &tensors.data].concat();
        fs::write(self.path().join("model.safetensors"), bytes).unwrap();
    }
}

impl Tensors {
    fn range(&self, tensor: &str) -> std::ops::Range<usize> {
        let offsets = &self.header[tensor]["data_offsets"];
        offsets[0].as_u64().unwrap() as usize..offsets[1].as_u64().unwrap() as usize
    }

    fn floats(&self, tensor: &str) -> Vec<f32> {
        self.data[self.range(tensor)].as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }
}

#[test]
fn weights_beyond_the_proof_are_refused_by_matrix() {
    let layer = "encoder.layer.1";
    let cases = [
        (format!("{layer}.attention.self.query.weight"), 1e4, "layer 1 key: product of the steps of heads can reach"),
        (format!("{layer}.attention.self.value.weight"), 100.0, "layer 1 value: value under the softmax can reach"),
        (format!("{layer}.output.dense.weight"), 1e3, "layer 1 output: "),
        (format!("{layer}.attention.output.dense.weight"), 2e4, "layer 1 attention_output: "),
        (format!("{layer}.intermediate.dense.weight"), 1e6, "layer 1 intermediate: "),
        (
            format!("{layer}.intermediate.dense.weight"),
            1e20,
            "encoder.layer.1.intermediate.dense.weight: its largest element",
        ),
        (format!("{layer}.output.LayerNorm.weight"), 1e7, "encoder.layer.1.output.LayerNorm.weight: element"),
        (format!("{layer}.output.LayerNorm.weight"), 1e3, "layer 2 "),
        (format!("{layer}.output.dense.bias"), 1e12, "encoder.layer.1.output.dense.bias: element"),
    ];
    for (tensor, factor, problem) in cases {
        let copy = Copy::of("f32-mean");
        copy.scale(&tensor, factor);
        let error = IntegerModel::convert(copy.path()).unwrap_err();
        assert!(error.remedy().is_some(), "{tensor} x {factor}: a remedy");
        let text = error.to_string().replace(&format!("{}/", copy.path().display()), "");
        assert!(text.starts_with(&format!("model.safetensors: {problem}")), "{tensor} x {factor}: {text}");
    }
    // Smaller weights are no harm, and zeros neither.
    for (tensor, factor) in [("intermediate.dense.weight", 1e-9), ("attention.self.key.weight", 0.0)] {
        let copy = Copy::of("f32-mean");
        copy.scale(&format!("{layer}.{tensor}"), factor);
        let model = IntegerModel::convert(copy.path()).unwrap();
        assert!(model.layers[1].linears().iter().any(|(_, linear)| linear.shift == 36), "{tensor}: the largest shift");
    }
    // Large words are kept in fewer bits: the norm behind them drops the scale.
    let copy = Copy::of("f32-mean");
    copy.scale("embeddings.word_embeddings.weight", 2048.0);
    let model = IntegerModel::convert(copy.path()).unwrap();
    assert!(model.word.iter().any(|value| value.unsigned_abs() > 16_000), "the bits are used");
    copy.scale("embeddings.word_embeddings.weight", 1e30);
    let error = IntegerModel::convert(copy.path()).unwrap_err().to_string();
    assert!(error.contains("embeddings.word_embeddings.weight: "), "{error}");
}

#[test]
fn a_config_that_does_not_fit_is_refused_by_field() {
    for (field, value) in [
        ("model_type", json!("gpt2")),
        ("hidden_act", json!("gelu_new")),
        ("position_embedding_type", json!("relative_key")),
        ("layer_norm_eps", json!(-1.0)),
        ("vocab_size", json!(0)),
        ("hidden_size", json!(1_024)),
        ("num_attention_heads", json!(0)),
        ("num_attention_heads", json!(6)),
        ("num_hidden_layers", json!(0)),
        ("max_position_embeddings", json!(65_536)),
        ("intermediate_size", json!(0)),
        ("type_vocab_size", json!(0)),
    ] {
        let copy = Copy::of("f32-mean");
        let path = copy.path().join("config.json");
        let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        config[field] = value.clone();
        fs::write(&path, config.to_string()).unwrap();
        let error = IntegerModel::convert(copy.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("config.json: {field}: ")), "{field} = {value}: {error}");
    }
}

/// The specification's UNIT and LN, plain, for a row that need not be centred.
fn norm(x: &[i32], norm: &IntegerNorm) -> Vec<i32> {
    let n = x.len() as i64;
    let mean = (x.iter().map(|x| i64::from(*x)).sum::<i64>() + n / 2).div_euclid(n);
    let x: Vec<i64> = x.iter().map(|x| i64::from(*x) - mean).collect();
    let largest = x.iter().map(|x| x.abs()).max().unwrap();
    let s = 64 - largest.leading_zeros() as i32 - 15;
    let c: Vec<i64> =
        x.iter().map(|x| if s > 0 { (x + (1 << (s - 1))) >> s } else { x << -s }.clamp(-32_767, 32_767)).collect();
    let sum: i64 = c.iter().map(|c| c * c).sum();
    let e = (64 - sum.leading_zeros() as i32 - 31).div_euclid(2);
    let m = if e < 0 { sum << 2 } else { sum >> (2 * e) };
    let r = 65_535.min((1 << 31) / m.isqrt());
    let scaled = c.iter().zip(&norm.gain).zip(&norm.bias).map(|((c, gain), bias)| {
        let product = i128::from(c * r) * i128::from(*gain);
        ((product + (1 << (31 + e))) >> (32 + e)) as i32 + bias
    });
    scaled.collect()
}

/// QUANT14 and LINEAR.
fn linear(x: &[i32], linear: &IntegerLinear) -> Vec<i64> {
    let largest = x.iter().map(|x| x.abs()).max().unwrap();
    let step = ((largest + 8_127) / 8_128).max(1);
    let inverse = (1 << 18) / step;
    let a: Vec<i64> = x.iter().map(|x| ((x * inverse + (1 << 17)) >> 18).into()).collect();
    let rows = linear.weights.chunks(linear.inputs).zip(&linear.steps).zip(&linear.bias);
    rows.map(|((row, weight_step), bias)| {
        let sum: i64 = row.iter().zip(&a).map(|(weight, a)| i64::from(*weight) * a).sum();
        ((sum * i64::from(step) * i64::from(*weight_step) + (1 << (linear.shift - 1))) >> linear.shift)
            + i64::from(*bias)
    })
    .collect()
}

/// Rows that point where a matrix is largest: none passes the bound, and they come near it.
#[test]
fn bounds_hold_for_the_worst_rows_and_are_tight() {
    let model = small();
    let mut single = model.clone();
    single.layers.truncate(1);
    let bounds = single.ranges().unwrap();
    let layer = &single.layers[0];
    for (quantity, matrix) in [("query", &layer.query), ("key", &layer.key), ("value", &layer.value)] {
        let bound = bounds.iter().find(|bound| bound.quantity == quantity).unwrap().bound;
        let mut worst = 0;
        for row in matrix.weights.chunks(matrix.inputs) {
            for sign in [-1, 1] {
                let x: Vec<i32> = row
                    .iter()
                    .zip(&model.embedding_norm.gain)
                    .map(|(weight, gain)| sign * i32::from(*weight) * (gain >> 8))
                    .collect();
                let y = linear(&norm(&x, &model.embedding_norm), matrix);
                worst = worst.max(y.iter().map(|y| u128::from(y.unsigned_abs())).max().unwrap());
            }
        }
        assert!(worst <= bound, "{quantity}: {worst} passes the bound {bound}");
        assert!(worst * 10 >= bound * 9, "{quantity}: {worst} is far below the bound {bound}");
    }
}
