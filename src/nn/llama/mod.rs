//! Causal language models of the Llama family: what a checkpoint holds, ready to be brought to a device.
//!
//! `from_gguf` and `from_safetensors` read the two kinds of checkpoint; what is common to both is here. Every tensor of a
//! file must be one that the decoder uses: a bias or a factor that nobody reads would make it another model.

mod from_gguf;
mod from_safetensors;
mod pack;

use std::path::{Path, PathBuf};

use super::packed::PackedMatrix;
use crate::{Error, Result};

/// Sizes of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaConfig {
    /// Known token ids.
    pub vocabulary: usize,
    /// Numbers in a hidden row.
    pub hidden: usize,
    /// Numbers in a row between the feed-forward matrices.
    pub intermediate: usize,
    /// Layers.
    pub layers: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and of values; they divide `heads`.
    pub key_value_heads: usize,
    /// Numbers in a head, even.
    pub head: usize,
    /// The most tokens of a sequence.
    pub positions: usize,
    /// Base of the rotary frequencies: pair i of a head turns by position / base^(2 i / head).
    pub rotary_base: f64,
    /// What a norm adds to the mean square.
    pub epsilon: f32,
}

/// A model's weights. Rows of `query` and `key` are in the order in which rotary pairs are neighbours (2 i, 2 i + 1).
#[derive(Clone, Debug)]
pub struct LlamaModel {
    /// Sizes.
    pub config: LlamaConfig,
    /// `[vocabulary][hidden]`.
    pub embedding: PackedMatrix,
    /// The layers, in order.
    pub layers: Vec<LlamaLayer>,
    /// Gains of the last norm, `[hidden]`.
    pub norm: Vec<f32>,
    /// `[vocabulary][hidden]`; `None` where the embedding is the head too.
    pub head: Option<PackedMatrix>,
}

/// One layer's weights.
#[derive(Clone, Debug)]
pub struct LlamaLayer {
    /// Gains of the norm before attention, `[hidden]`.
    pub attention_norm: Vec<f32>,
    /// `[heads * head][hidden]`.
    pub query: PackedMatrix,
    /// `[key_value_heads * head][hidden]`.
    pub key: PackedMatrix,
    /// `[key_value_heads * head][hidden]`.
    pub value: PackedMatrix,
    /// `[hidden][heads * head]`.
    pub output: PackedMatrix,
    /// Gains of the norm before the feed-forward matrices, `[hidden]`.
    pub feed_forward_norm: Vec<f32>,
    /// `[intermediate][hidden]`.
    pub gate: PackedMatrix,
    /// `[intermediate][hidden]`.
    pub up: PackedMatrix,
    /// `[hidden][intermediate]`.
    pub down: PackedMatrix,
}

/// The largest head that is taken.
const LARGEST_HEAD: usize = 256;

/// A model's checkpoint: one GGUF file, or a folder of safetensors with its config.
pub(crate) enum Checkpoint {
    /// The GGUF file.
    Gguf(PathBuf),
    /// The folder.
    Safetensors(PathBuf),
}

impl Checkpoint {
    /// What lies at `path`: a `.gguf` file, a folder with one of them, or a folder with a `config.json`.
    ///
    /// # Errors
    /// [`Error::Io`] where nothing is there, [`Error::File`] for a folder without a model and one with several.
    pub(crate) fn find(path: &Path) -> Result<Self> {
        let metadata = std::fs::metadata(path).map_err(|error| Error::io(path, error))?;
        if !metadata.is_dir() {
            return Ok(Self::Gguf(path.to_owned()));
        }
        let refuse = |problem: String| Error::File {
            file: path.display().to_string(),
            field: "model".into(),
            problem,
            remedy: "name a .gguf file, a folder with one, or a folder with config.json and model.safetensors".into(),
        };
        let mut found = Vec::new();
        for entry in std::fs::read_dir(path).map_err(|error| Error::io(path, error))? {
            let entry = entry.map_err(|error| Error::io(path, error))?.path();
            if entry.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf")) {
                found.push(entry);
            }
        }
        match found.as_slice() {
            [file] => Ok(Self::Gguf(file.clone())),
            [] if path.join(super::config::CONFIG).is_file() => Ok(Self::Safetensors(path.to_owned())),
            [] => Err(refuse("there is neither a .gguf file nor a config.json in the folder".into())),
            several => Err(refuse(format!("there are {} .gguf files in the folder, not one", several.len()))),
        }
    }
}

impl Checkpoint {
    /// The files that hold its weights, by name: several where safetensors come in parts.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder cannot be listed.
    pub(crate) fn weights(&self) -> Result<Vec<PathBuf>> {
        let folder = match self {
            Self::Gguf(file) => return Ok(vec![file.clone()]),
            Self::Safetensors(folder) => folder,
        };
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(|error| Error::io(folder, error))? {
            let entry = entry.map_err(|error| Error::io(folder, error))?.path();
            if entry.extension().is_some_and(|end| end == "safetensors") {
                files.push(entry);
            }
        }
        files.sort();
        Ok(files)
    }
}

/// What a checkpoint calls its tensors.
struct Names {
    embedding: &'static str,
    norm: &'static str,
    head: &'static str,
    /// What stands before the number of a layer; the names of its tensors follow it.
    layer: &'static str,
    attention_norm: &'static str,
    query: &'static str,
    key: &'static str,
    value: &'static str,
    output: &'static str,
    feed_forward_norm: &'static str,
    gate: &'static str,
    up: &'static str,
    down: &'static str,
}

/// Where tensors come from.
trait Tensors {
    /// Reads the matrix of `[rows, columns]`, in the order of rows that [`LlamaModel`] has.
    fn matrix(&mut self, tensor: &str, shape: [usize; 2]) -> Result<PackedMatrix>;

    /// As [`Tensors::matrix`], for queries or keys: heads of `head` rows that are turned in pairs.
    fn turned(&mut self, tensor: &str, shape: [usize; 2], head: usize) -> Result<PackedMatrix>;

    /// Reads the gains of a norm.
    fn gains(&mut self, tensor: &str, length: usize) -> Result<Vec<f32>>;

    /// Refuses what was not read.
    fn finish(&self) -> Result<()>;
}

impl LlamaModel {
    /// Bytes of its weights, as packed.
    pub(crate) fn bytes(&self) -> u64 {
        let layers = self.layers.iter().flat_map(|layer| {
            let LlamaLayer { query, key, value, output, gate, up, down, .. } = layer;
            [query, key, value, output, gate, up, down].map(|matrix| matrix.words.len())
        });
        let tables = [&self.embedding].into_iter().chain(&self.head).map(|matrix| matrix.words.len());
        let norms = (2 * self.layers.len() + 1) * self.config.hidden;
        4 * (layers.chain(tables).sum::<usize>() + norms) as u64
    }

    /// Reads a `.gguf` file, a folder with exactly one, or a folder with `config.json` and `model.safetensors` (or its
    /// parts, with `model.safetensors.index.json`).
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::File`] for a config that is damaged, or says what this decoder does not compute;
    /// [`Error::Tensor`] for a tensor that is missing, of another shape or type, not finite, or of no use.
    pub fn open(path: &Path) -> Result<Self> {
        match Checkpoint::find(path)? {
            Checkpoint::Gguf(file) => from_gguf::open(&file),
            Checkpoint::Safetensors(folder) => from_safetensors::open(&folder),
        }
    }

    /// Reads every tensor; the head only where it is not `tied` to the embedding.
    fn read(config: LlamaConfig, names: &Names, tied: bool, tensors: &mut dyn Tensors) -> Result<Self> {
        let LlamaConfig { vocabulary, hidden, intermediate, heads, key_value_heads, head, .. } = config;
        let (queries, keys) = (heads * head, key_value_heads * head);
        let embedding = tensors.matrix(names.embedding, [vocabulary, hidden])?;
        let mut layers = Vec::new();
        for layer in 0..config.layers {
            let name = |tensor: &str| format!("{}{layer}{tensor}", names.layer);
            layers.push(LlamaLayer {
                attention_norm: tensors.gains(&name(names.attention_norm), hidden)?,
                query: tensors.turned(&name(names.query), [queries, hidden], head)?,
                key: tensors.turned(&name(names.key), [keys, hidden], head)?,
                value: tensors.matrix(&name(names.value), [keys, hidden])?,
                output: tensors.matrix(&name(names.output), [hidden, queries])?,
                feed_forward_norm: tensors.gains(&name(names.feed_forward_norm), hidden)?,
                gate: tensors.matrix(&name(names.gate), [intermediate, hidden])?,
                up: tensors.matrix(&name(names.up), [intermediate, hidden])?,
                down: tensors.matrix(&name(names.down), [hidden, intermediate])?,
            });
        }
        let norm = tensors.gains(names.norm, hidden)?;
        let head = if tied { None } else { Some(tensors.matrix(names.head, [vocabulary, hidden])?) };
        tensors.finish()?;
        Ok(Self { config, embedding, layers, norm, head })
    }
}

/// A config as a file gives it, before it is checked; what a field is called there stands beside it.
struct Claims {
    vocabulary: (&'static str, u64),
    hidden: (&'static str, u64),
    intermediate: (&'static str, u64),
    layers: (&'static str, u64),
    heads: (&'static str, u64),
    key_value_heads: (&'static str, u64),
    /// A hidden row is parted among the heads where there is no number.
    head: (&'static str, Option<u64>),
    positions: (&'static str, u64),
    rotary_base: (&'static str, f64),
    epsilon: (&'static str, f64),
}

impl Claims {
    /// Checks every size before anything is made of it. The error is a field and what is wrong with it.
    fn check(self) -> Result<LlamaConfig, (&'static str, String)> {
        // Far above every published model of this family and far below what overflows.
        let size = |(field, value): (&'static str, u64), largest: usize| match usize::try_from(value) {
            Ok(value) if (1..=largest).contains(&value) => Ok(value),
            _ => Err((field, format!("{value} is not between 1 and {largest}"))),
        };
        let hidden = size(self.hidden, 1 << 16)?;
        let heads = size(self.heads, 1 << 10)?;
        let key_value_heads = size(self.key_value_heads, 1 << 10)?;
        if !heads.is_multiple_of(key_value_heads) {
            let problem = format!("{key_value_heads} heads of keys do not divide {heads} heads of queries");
            return Err((self.key_value_heads.0, problem));
        }
        let head = match self.head {
            (field, Some(value)) => size((field, value), LARGEST_HEAD)?,
            (_, None) if hidden.is_multiple_of(heads) => hidden / heads,
            (_, None) => return Err((self.heads.0, format!("{heads} heads do not divide {hidden}"))),
        };
        if head > LARGEST_HEAD || !head.is_multiple_of(2) {
            let field = if self.head.1.is_some() { self.head.0 } else { self.heads.0 };
            return Err((field, format!("heads of {head} are not supported; even ones up to {LARGEST_HEAD} are")));
        }
        let (field, rotary_base) = self.rotary_base;
        if !(1.0..=1e12).contains(&rotary_base) {
            return Err((field, format!("{rotary_base} is not between 1 and 1e12")));
        }
        let (field, epsilon) = self.epsilon;
        if !(0.0..=1.0).contains(&epsilon) {
            return Err((field, format!("{epsilon} is not between 0 and 1")));
        }
        Ok(LlamaConfig {
            vocabulary: size(self.vocabulary, 1 << 24)?,
            hidden,
            intermediate: size(self.intermediate, 1 << 18)?,
            layers: size(self.layers, 1 << 10)?,
            heads,
            key_value_heads,
            head,
            positions: size(self.positions, 1 << 24)?,
            rotary_base,
            epsilon: epsilon as f32,
        })
    }
}
