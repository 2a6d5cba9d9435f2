//! A Llama model out of a folder with `config.json` and safetensors, as transformers writes them. Rotary pairs are a half
//! of a head apart there.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::Dtype;
use serde::Deserialize;
use serde_json::Value;

use super::pack::{pack, pair};
use super::{Claims, LlamaConfig, LlamaModel, Names, Tensors};
use crate::nn::config::{CONFIG, read_json, refuse};
use crate::nn::gguf::TensorType;
use crate::nn::packed::PackedMatrix;
use crate::nn::weights::Weights;
use crate::{Error, Result};

const NAMES: Names = Names {
    embedding: "model.embed_tokens.weight",
    norm: "model.norm.weight",
    head: HEAD,
    layer: "model.layers.",
    attention_norm: ".input_layernorm.weight",
    query: ".self_attn.q_proj.weight",
    key: ".self_attn.k_proj.weight",
    value: ".self_attn.v_proj.weight",
    output: ".self_attn.o_proj.weight",
    feed_forward_norm: ".post_attention_layernorm.weight",
    gate: ".mlp.gate_proj.weight",
    up: ".mlp.up_proj.weight",
    down: ".mlp.down_proj.weight",
};

const HEAD: &str = "lm_head.weight";

/// Derived from the config, and stored by old versions of transformers all the same.
const DERIVED: &str = ".self_attn.rotary_emb.inv_freq";

/// All weights in one file.
const WHOLE: &str = "model.safetensors";
/// Which of several files has which tensor.
const INDEX: &str = "model.safetensors.index.json";
/// The most files.
const MOST_PARTS: usize = 1000;

const REMEDY: &str = "name the folder of a model of the Llama family, as transformers writes it";

/// What of `config.json` matters here.
#[derive(Deserialize)]
struct Fields {
    model_type: String,
    vocab_size: u64,
    hidden_size: u64,
    intermediate_size: u64,
    num_hidden_layers: u64,
    num_attention_heads: u64,
    num_key_value_heads: Option<u64>,
    head_dim: Option<u64>,
    max_position_embeddings: u64,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    /// Until version 4 of transformers.
    rope_scaling: Option<Rotary>,
    /// From version 5 on.
    rope_parameters: Option<Rotary>,
    hidden_act: Option<String>,
    tie_word_embeddings: Option<bool>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    sliding_window: Option<Value>,
    quantization_config: Option<Value>,
    partial_rotary_factor: Option<f64>,
}

/// How positions are turned into angles.
#[derive(Deserialize)]
struct Rotary {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    partial_rotary_factor: Option<f64>,
}

/// Which file has which tensor.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

pub(super) fn open(folder: &Path) -> Result<LlamaModel> {
    let path = folder.join(CONFIG);
    let fields: Fields = read_json(&path)?.ok_or_else(|| Error::io(&path, std::io::ErrorKind::NotFound.into()))?;
    let config = config(folder, &fields)?;
    let tied = fields.tie_word_embeddings.unwrap_or(false);
    LlamaModel::read(config, &NAMES, tied, &mut Parts::open(folder, tied)?)
}

fn config(folder: &Path, fields: &Fields) -> Result<LlamaConfig> {
    let no = |field: &str, problem: String| Err(refuse(folder, CONFIG, field, problem, REMEDY));
    let activation = fields.hidden_act.as_deref().unwrap_or("silu");
    for (field, found, right) in
        [("model_type", fields.model_type.as_str(), "llama"), ("hidden_act", activation, "silu")]
    {
        if found != right {
            return no(field, format!("{found:?} is not supported, {right:?} is"));
        }
    }
    for (field, set) in [
        ("attention_bias", fields.attention_bias == Some(true)),
        ("mlp_bias", fields.mlp_bias == Some(true)),
        ("sliding_window", fields.sliding_window.is_some()),
        ("quantization_config", fields.quantization_config.is_some()),
        ("partial_rotary_factor", fields.partial_rotary_factor.is_some_and(|factor| factor != 1.0)),
    ] {
        if set {
            return no(field, "models with it are not supported".into());
        }
    }
    let mut base = fields.rope_theta;
    for (field, rotary) in [("rope_scaling", &fields.rope_scaling), ("rope_parameters", &fields.rope_parameters)] {
        let Some(rotary) = rotary else { continue };
        let factor = rotary.factor.unwrap_or(1.0);
        let whole = rotary.partial_rotary_factor.unwrap_or(1.0) == 1.0;
        match rotary.rope_type.as_deref().unwrap_or("default") {
            "default" if whole => {}
            "linear" if whole && factor == 1.0 => {}
            other => return no(field, format!("{other:?} is not supported; plain rotary positions are")),
        }
        if let (Some(one), Some(other)) = (base, rotary.rope_theta)
            && one != other
        {
            return no(field, format!("its rope_theta {other} contradicts {one}"));
        }
        base = base.or(rotary.rope_theta);
    }
    let heads = fields.num_attention_heads;
    let claims = Claims {
        vocabulary: ("vocab_size", fields.vocab_size),
        hidden: ("hidden_size", fields.hidden_size),
        intermediate: ("intermediate_size", fields.intermediate_size),
        layers: ("num_hidden_layers", fields.num_hidden_layers),
        heads: ("num_attention_heads", heads),
        key_value_heads: ("num_key_value_heads", fields.num_key_value_heads.unwrap_or(heads)),
        head: ("head_dim", fields.head_dim),
        positions: ("max_position_embeddings", fields.max_position_embeddings),
        rotary_base: ("rope_theta", base.unwrap_or(10_000.0)),
        epsilon: ("rms_norm_eps", fields.rms_norm_eps.unwrap_or(1e-6)),
    };
    claims.check().or_else(|(field, problem)| no(field, problem))
}

/// The files of a checkpoint, and which of them has which tensor.
struct Parts {
    files: Vec<Weights>,
    /// From names to places in `files`; those that were read are taken out.
    places: BTreeMap<String, usize>,
    /// The file that knows which tensors there are.
    listed_in: String,
}

impl Parts {
    /// Opens `model.safetensors` or the files that the index names. Where the head is `tied`, a copy of it is left alone.
    fn open(folder: &Path, tied: bool) -> Result<Self> {
        let index: Option<Index> = read_json(&folder.join(INDEX))?;
        let (mut files, mut places) = (Vec::new(), BTreeMap::new());
        let whole = folder.join(WHOLE);
        let listed_in = if let Some(index) = index.filter(|_| !whole.is_file()) {
            let mut names: BTreeMap<String, usize> = BTreeMap::new();
            for (tensor, file) in index.weight_map {
                // A name and no path: what the folder says stays in the folder.
                if Path::new(&file).file_name() != Some(file.as_ref()) {
                    let problem = format!("{file:?} is no name of a file in this folder");
                    return Err(refuse(folder, INDEX, "weight_map", problem, REMEDY));
                }
                let place = match names.get(&file) {
                    Some(place) => *place,
                    None if files.len() == MOST_PARTS => {
                        let problem = format!("it names more than {MOST_PARTS} files");
                        return Err(refuse(folder, INDEX, "weight_map", problem, REMEDY));
                    }
                    None => {
                        files.push(Weights::open(&folder.join(&file))?);
                        names.insert(file, files.len() - 1);
                        files.len() - 1
                    }
                };
                places.insert(tensor, place);
            }
            folder.join(INDEX)
        } else {
            let weights = Weights::open(&whole)?;
            places.extend(weights.names().into_iter().map(|name| (name, 0)));
            files.push(weights);
            whole
        };
        places.retain(|tensor, _| !(tensor.ends_with(DERIVED) || tied && tensor == HEAD));
        Ok(Self { files, places, listed_in: listed_in.display().to_string() })
    }

    fn refuse(&self, tensor: &str, problem: &str) -> Error {
        Error::Tensor {
            file: self.listed_in.clone(),
            tensor: tensor.escape_debug().to_string(),
            problem: problem.into(),
        }
    }

    fn read(&mut self, tensor: &str, shape: &[usize]) -> Result<PackedMatrix> {
        let place = self.places.remove(tensor).ok_or_else(|| self.refuse(tensor, "it is missing"))?;
        let weights = self.files.get_mut(place).ok_or_else(|| Error::Tensor {
            file: self.listed_in.clone(),
            tensor: tensor.into(),
            problem: "its file is missing".into(),
        })?;
        let (dtype, bytes) = weights.read_bytes(tensor, shape)?;
        let kind = match dtype {
            Dtype::F32 => TensorType::F32,
            Dtype::F16 => TensorType::F16,
            Dtype::BF16 => TensorType::Bf16,
            other => {
                return Err(weights.refuse(tensor, format!("its type is {other:?}; f32, f16 and bf16 are understood")));
            }
        };
        let (rows, columns) = match shape {
            [rows, columns] => (*rows, *columns),
            _ => (1, shape.iter().product()),
        };
        pack(kind, [rows, columns], &bytes).map_err(|problem| weights.refuse(tensor, problem))
    }
}

impl Tensors for Parts {
    fn matrix(&mut self, tensor: &str, shape: [usize; 2]) -> Result<PackedMatrix> {
        self.read(tensor, &shape)
    }

    fn turned(&mut self, tensor: &str, shape: [usize; 2], head: usize) -> Result<PackedMatrix> {
        Ok(pair(&self.read(tensor, &shape)?, head))
    }

    fn gains(&mut self, tensor: &str, length: usize) -> Result<Vec<f32>> {
        Ok(self.read(tensor, &[length])?.row(0))
    }

    fn finish(&self) -> Result<()> {
        match self.places.keys().next() {
            None => Ok(()),
            Some(tensor) => Err(self.refuse(tensor, "it is no part of a Llama model")),
        }
    }
}
