//! What several tests need: the model, the adapters, recorded and random subnets, and how to skip loudly.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up must fail")]

pub mod gguf;
pub mod ledgers;
pub mod recordings;
pub mod subnets;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tauscore::config::{EncoderConfig, Precision};
use tauscore::device::{Adapter, Device, Noise, Variant, adapters};
use tauscore::models::{DEFAULT_LANGUAGE_MODEL, DEFAULT_MODEL, Kind, Store};
use tauscore::pipeline::Embedder;
use tauscore::stages::yuma::Epoch;

/// The folder of this package.
pub fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Says past the test's capture that something was not tested.
pub fn skip(what: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}");
}

/// The fetched default model. Without it the test is skipped, loudly, or fails under `TAUSCORE_REQUIRE_MODEL=1`.
pub fn model() -> Option<PathBuf> {
    let found = Store::from_env().and_then(|store| store.resolve(DEFAULT_MODEL, Kind::Encoder, true, &mut |_| {}));
    match found {
        Ok(folder) => Some(folder),
        Err(error) => {
            assert!(std::env::var_os("TAUSCORE_REQUIRE_MODEL").is_none(), "TAUSCORE_REQUIRE_MODEL is set: {error}");
            skip(&format!("no {DEFAULT_MODEL}; run `tauscore models fetch`"));
            None
        }
    }
}

/// The fetched default language model, or the one that `TAUSCORE_TEST_LANGUAGE_MODEL` names. Without it the test is skipped,
/// loudly, or fails under `TAUSCORE_REQUIRE_MODEL=1`.
pub fn language_model() -> Option<PathBuf> {
    let name = std::env::var("TAUSCORE_TEST_LANGUAGE_MODEL").unwrap_or_else(|_| DEFAULT_LANGUAGE_MODEL.into());
    let found = Store::from_env().and_then(|store| store.resolve(&name, Kind::LanguageModel, true, &mut |_| {}));
    match found {
        Ok(path) => Some(path),
        Err(error) => {
            assert!(std::env::var_os("TAUSCORE_REQUIRE_MODEL").is_none(), "TAUSCORE_REQUIRE_MODEL is set: {error}");
            skip(&format!("no {name}; run `tauscore models fetch`"));
            None
        }
    }
}

/// The criteria's `[encoder]` for the model in a folder.
pub fn encoder(folder: &Path, precision: Precision) -> EncoderConfig {
    EncoderConfig { model: folder.display().to_string(), precision, ..EncoderConfig::default() }
}

/// The model in a folder on a device.
pub fn embedder(device: &Device, folder: &Path, precision: Precision) -> Embedder {
    Embedder::load(device, folder, &encoder(folder, precision), &mut |_| {}).unwrap()
}

/// The adapters to test on. `TAUSCORE_REQUIRE_GPU=1` forbids having none; `TAUSCORE_TEST_ADAPTER` picks by name.
pub fn devices() -> Vec<Device> {
    opened(|adapter| vec![adapter.variant()])
}

/// The same, each in every variant that it runs.
pub fn variants() -> Vec<Device> {
    opened(|adapter| [Variant::Core, Variant::Int64].into_iter().filter(|variant| adapter.runs(*variant)).collect())
}

fn opened(variants: impl Fn(&Adapter) -> Vec<Variant>) -> Vec<Device> {
    let wanted = std::env::var("TAUSCORE_TEST_ADAPTER").unwrap_or_default().to_lowercase();
    let fits = |name: &str| name.to_lowercase().contains(&wanted);
    let devices: Vec<Device> = adapters()
        .into_iter()
        .filter(|adapter| fits(&adapter.name))
        .flat_map(|adapter| variants(&adapter).into_iter().map(move |variant| (adapter.clone(), variant)))
        .map(|(adapter, variant)| {
            adapter.open_as(variant).unwrap_or_else(|error| panic!("{} {variant}: {error}", adapter.name))
        })
        .collect();
    if devices.is_empty() {
        assert!(std::env::var_os("TAUSCORE_REQUIRE_GPU").is_none(), "TAUSCORE_REQUIRE_GPU: no adapter {wanted:?} here");
        skip("no adapter on this machine, no shader was run; install a Vulkan driver (mesa-vulkan-drivers)");
    }
    devices
}

/// A JSON file beside the repository, in the folder that only its developers and its CI have; `None`, loudly, without it.
pub fn shared(path: &str) -> Option<Value> {
    let path = package().join("../shared").join(path);
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(serde_json::from_str(&text).unwrap()),
        Err(_) => {
            skip(&format!("{} is not there", path.display()));
            None
        }
    }
}

/// A JSON file of this package.
pub fn json(path: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(package().join(path)).unwrap()).unwrap()
}

/// The sizes of a checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub vocabulary: usize,
    pub positions: usize,
    pub hidden: usize,
    pub heads: usize,
    pub inner: usize,
    pub layers: usize,
}

impl Sizes {
    /// Writes a checkpoint of random weights into `folder`: config.json and model.safetensors, in f32. It means nothing.
    pub fn checkpoint(self, folder: &Path, seed: u64) {
        let Self { vocabulary, positions, hidden, heads, inner, layers } = self;
        let config = json!({"model_type": "bert", "vocab_size": vocabulary, "hidden_size": hidden,
            "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": inner,
            "max_position_embeddings": positions, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_act": "gelu"});
        std::fs::write(folder.join("config.json"), config.to_string()).unwrap();

        let (mut header, mut data, mut noise) = (json!({}), Vec::new(), Noise::new(seed));
        // Numbers around `middle`, at most `spread` away.
        let mut put = |name: String, shape: &[usize], middle: f32, spread: f32| {
            let begin = data.len();
            let count = shape.iter().product();
            data.extend(noise.floats(count, spread).into_iter().flat_map(|number| (middle + number).to_le_bytes()));
            header[name] = json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()]});
        };
        for (name, rows) in [("word", vocabulary), ("position", positions), ("token_type", 2)] {
            put(format!("embeddings.{name}_embeddings.weight"), &[rows, hidden], 0.0, 0.1);
        }
        let mut norms = vec!["embeddings.LayerNorm".to_owned()];
        for layer in 0..layers {
            let at = |name: &str| format!("encoder.layer.{layer}.{name}");
            norms.extend([at("attention.output.LayerNorm"), at("output.LayerNorm")]);
            for (name, outputs, inputs) in [
                ("attention.self.query", hidden, hidden),
                ("attention.self.key", hidden, hidden),
                ("attention.self.value", hidden, hidden),
                ("attention.output.dense", hidden, hidden),
                ("intermediate.dense", inner, hidden),
                ("output.dense", hidden, inner),
            ] {
                put(at(name) + ".weight", &[outputs, inputs], 0.0, (inputs as f32).sqrt().recip());
                put(at(name) + ".bias", &[outputs], 0.0, 0.1);
            }
        }
        for norm in norms {
            put(norm.clone() + ".weight", &[hidden], 1.0, 0.2);
            put(norm + ".bias", &[hidden], 0.0, 0.1);
        }
        let header = header.to_string();
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
        std::fs::write(folder.join("model.safetensors"), bytes).unwrap();
    }
}

/// The numbers in a JSON array.
pub fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

/// The numbers in a JSON array.
pub fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|number| number.as_u64().unwrap() as u32).collect()
}

/// The largest difference of two vectors; NaN if any number is.
pub fn worst(found: &[f32], right: &[f32]) -> f32 {
    assert_eq!(found.len(), right.len(), "lengths");
    found
        .iter()
        .zip(right)
        .map(|(found, right)| (found - right).abs())
        .fold(0.0, |worst, difference| if difference.is_nan() || difference > worst { difference } else { worst })
}

/// The fields in which two epochs differ, with both their values; of intermediate results those that both have.
pub fn difference(found: &Epoch, right: &Epoch) -> String {
    fn fields(prefix: &str, [found, right]: [&Value; 2]) -> String {
        let Some(object) = right.as_object() else { return String::new() };
        let differing = object.iter().filter(|(key, value)| found[key.as_str()] != **value);
        differing.map(|(key, value)| format!("{prefix}{key}: {} where right is {value}\n", found[key])).collect()
    }
    let [found_stored, right_stored] = [found, right].map(|epoch| serde_json::to_value(epoch).unwrap());
    let [found_raw, right_raw] = [found, right].map(|epoch| serde_json::to_value(&epoch.raw).unwrap());
    let mut differences = fields("", [&found_stored, &right_stored]);
    if found.raw.is_some() {
        differences += &fields("raw ", [&found_raw, &right_raw]);
    }
    differences
}
