//! A Llama model out of a GGUF file. Rows of queries and keys are in neighbouring pairs there already.

use std::path::Path;

use super::pack::pack;
use super::{Claims, LlamaConfig, LlamaModel, Names, Tensors};
use crate::nn::gguf::{Gguf, Value};
use crate::nn::packed::PackedMatrix;
use crate::{Error, Result};

const NAMES: Names = Names {
    embedding: "token_embd.weight",
    norm: "output_norm.weight",
    head: "output.weight",
    layer: "blk.",
    attention_norm: ".attn_norm.weight",
    query: ".attn_q.weight",
    key: ".attn_k.weight",
    value: ".attn_v.weight",
    output: ".attn_output.weight",
    feed_forward_norm: ".ffn_norm.weight",
    gate: ".ffn_gate.weight",
    up: ".ffn_up.weight",
    down: ".ffn_down.weight",
};

/// What `general.architecture` must say; the model's own keys begin with it.
const ARCHITECTURE: &str = "llama";

const VOCABULARY: &str = "llama.vocab_size";
const HIDDEN: &str = "llama.embedding_length";
const INTERMEDIATE: &str = "llama.feed_forward_length";
const LAYERS: &str = "llama.block_count";
const HEADS: &str = "llama.attention.head_count";
const KEY_VALUE_HEADS: &str = "llama.attention.head_count_kv";
const KEY_LENGTH: &str = "llama.attention.key_length";
const VALUE_LENGTH: &str = "llama.attention.value_length";
const POSITIONS: &str = "llama.context_length";
const ROTARY_BASE: &str = "llama.rope.freq_base";
const ROTARY_LENGTH: &str = "llama.rope.dimension_count";
const SCALING: &str = "llama.rope.scaling.type";
const SCALING_FACTOR: &str = "llama.rope.scaling.factor";
const EPSILON: &str = "llama.attention.layer_norm_rms_epsilon";

/// All keys of the model that are understood.
const KEYS: [&str; 14] = [
    VOCABULARY,
    HIDDEN,
    INTERMEDIATE,
    LAYERS,
    HEADS,
    KEY_VALUE_HEADS,
    KEY_LENGTH,
    VALUE_LENGTH,
    POSITIONS,
    ROTARY_BASE,
    ROTARY_LENGTH,
    SCALING,
    SCALING_FACTOR,
    EPSILON,
];

pub(super) fn open(path: &Path) -> Result<LlamaModel> {
    let mut gguf = Gguf::open(path)?;
    let config = config(&gguf)?;
    let tied = gguf.shape(NAMES.head).is_none();
    LlamaModel::read(config, &NAMES, tied, &mut gguf)
}

fn config(gguf: &Gguf) -> Result<LlamaConfig> {
    let architecture = gguf.text("general.architecture")?;
    if architecture != ARCHITECTURE {
        let problem = format!("{architecture:?} is not supported, {ARCHITECTURE:?} is");
        return Err(gguf.refuse("general.architecture", &problem));
    }
    // Experts, windows, scales and other things that change what is computed all have keys of their own.
    let prefix = format!("{ARCHITECTURE}.");
    if let Some(key) = gguf.keys().find(|key| key.starts_with(&prefix) && !KEYS.contains(key) && !off(gguf, key)) {
        return Err(gguf.refuse(key, "it is not understood, and may change what the model computes"));
    }
    let scaling = match gguf.value(SCALING) {
        None => "none",
        Some(_) => gguf.text(SCALING)?,
    };
    let factor = gguf.float(SCALING_FACTOR, Some(1.0))?;
    match scaling {
        "none" => {}
        "linear" if factor == 1.0 => {}
        "linear" => return Err(gguf.refuse(SCALING_FACTOR, &format!("{factor} is not supported, 1 is"))),
        other => return Err(gguf.refuse(SCALING, &format!("{other:?} is not supported; none is"))),
    }
    let heads = gguf.integer(HEADS, None)?;
    // The vocabulary has as many tokens as the table has rows, where it is not said.
    let rows = gguf.shape(NAMES.embedding).and_then(|shape| shape.first()).map(|rows| *rows as u64);
    let length = match gguf.value(KEY_LENGTH) {
        None => None,
        Some(_) => Some(gguf.integer(KEY_LENGTH, None)?),
    };
    let claims = Claims {
        vocabulary: (VOCABULARY, gguf.integer(VOCABULARY, rows)?),
        hidden: (HIDDEN, gguf.integer(HIDDEN, None)?),
        intermediate: (INTERMEDIATE, gguf.integer(INTERMEDIATE, None)?),
        layers: (LAYERS, gguf.integer(LAYERS, None)?),
        heads: (HEADS, heads),
        key_value_heads: (KEY_VALUE_HEADS, gguf.integer(KEY_VALUE_HEADS, Some(heads))?),
        head: (KEY_LENGTH, length),
        positions: (POSITIONS, gguf.integer(POSITIONS, None)?),
        rotary_base: (ROTARY_BASE, gguf.float(ROTARY_BASE, Some(10_000.0))?),
        epsilon: (EPSILON, gguf.float(EPSILON, None)?),
    };
    let config = claims.check().map_err(|(key, problem)| gguf.refuse(key, &problem))?;
    for key in [VALUE_LENGTH, ROTARY_LENGTH] {
        let found = gguf.integer(key, Some(config.head as u64))?;
        if found != config.head as u64 {
            return Err(gguf.refuse(key, &format!("{found} is not supported beside heads of {}", config.head)));
        }
    }
    Ok(config)
}

/// Whether `key` switches something off that is not computed here.
fn off(gguf: &Gguf, key: &str) -> bool {
    match key.strip_prefix(ARCHITECTURE) {
        Some(".expert_count" | ".expert_used_count" | ".attention.sliding_window") => {
            gguf.value(key) == Some(&Value::Integer(0))
        }
        Some(".attention.causal") => gguf.value(key) == Some(&Value::Bool(true)),
        Some(".rope.scale_linear") => gguf.value(key) == Some(&Value::Float(1.0)),
        _ => false,
    }
}

impl Tensors for Gguf {
    fn matrix(&mut self, tensor: &str, shape: [usize; 2]) -> Result<PackedMatrix> {
        let (kind, bytes) = self.read(tensor, &shape)?;
        pack(kind, shape, &bytes).map_err(|problem| refuse(self, tensor, problem))
    }

    fn turned(&mut self, tensor: &str, shape: [usize; 2], _: usize) -> Result<PackedMatrix> {
        self.matrix(tensor, shape)
    }

    fn gains(&mut self, tensor: &str, length: usize) -> Result<Vec<f32>> {
        let (kind, bytes) = self.read(tensor, &[length])?;
        let gains = pack(kind, [1, length], &bytes).map_err(|problem| refuse(self, tensor, problem))?;
        Ok(gains.row(0))
    }

    fn finish(&self) -> Result<()> {
        match self.unread() {
            None => Ok(()),
            Some(tensor) => Err(refuse(self, tensor, "it is no part of a Llama model".into())),
        }
    }
}

fn refuse(gguf: &Gguf, tensor: &str, problem: String) -> Error {
    Error::Tensor { file: gguf.name().into(), tensor: tensor.escape_debug().to_string(), problem }
}
