//! Tokens to embeddings: a BERT-family encoder in f32, config-driven, on any device.
//!
//! An embedding's bits depend on its own tokens and on the device alone: not on the batch, its order or its size.

mod batches;
mod exact;

pub use exact::ExactEncoder;

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use batches::Batches;
use bytemuck::bytes_of;
use serde::Deserialize;

use crate::device::{Binding, Buffer, Call, Device, Download};
use crate::nn::math::Activation;
use crate::nn::pool::Pooling;
use crate::nn::weights::Weights;
use crate::nn::{self, TokenBatch};
use crate::{Error, Result};

/// What `config.json` says of a BERT-family encoder.
#[derive(Clone, Debug, Deserialize)]
struct Config {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    #[serde(default = "two")]
    type_vocab_size: usize,
    #[serde(default = "epsilon")]
    layer_norm_eps: f32,
    #[serde(default = "gelu")]
    hidden_act: String,
    #[serde(default = "absolute")]
    position_embedding_type: String,
}

fn two() -> usize {
    2
}

fn epsilon() -> f32 {
    1e-12
}

fn gelu() -> String {
    "gelu".into()
}

fn absolute() -> String {
    "absolute".into()
}

/// What `1_Pooling/config.json` says, if it is there.
#[derive(Default, Deserialize)]
#[serde(default)]
struct PoolingConfig {
    pooling_mode_cls_token: bool,
    pooling_mode_mean_tokens: bool,
    pooling_mode_max_tokens: bool,
    pooling_mode_mean_sqrt_len_tokens: bool,
    pooling_mode_weightedmean_tokens: bool,
    pooling_mode_lasttoken: bool,
}

/// What `sentence_bert_config.json` says, if it is there.
#[derive(Deserialize)]
struct SentenceConfig {
    max_seq_length: Option<usize>,
}

/// The fewest tokens of a text: the special ones.
const SHORTEST: usize = 2;

/// An encoder with its weights on a device.
#[derive(Debug)]
pub struct Encoder {
    device: Device,
    shape: Shape,
    /// The word table in parts that fit a binding: first row, number of rows, `[rows][width]`.
    words: Vec<(usize, usize, Buffer<f32>)>,
    /// Position rows with the row of token type 0 added: `[positions][width]`.
    places: Buffer<f32>,
    norm: Norm,
    layers: Vec<Layer>,
    workspace: Mutex<Option<Workspace>>,
}

/// Sizes and choices of an encoder.
#[derive(Clone, Debug)]
struct Shape {
    vocabulary: usize,
    width: usize,
    heads: usize,
    inner: usize,
    max_tokens: usize,
    epsilon: f32,
    activation: Activation,
    pooling: Pooling,
}

#[derive(Debug)]
struct Norm {
    gain: Buffer<f32>,
    bias: Buffer<f32>,
}

/// A matrix `[inputs][outputs]` and its bias.
#[derive(Debug)]
struct Linear {
    weight: Buffer<f32>,
    bias: Buffer<f32>,
    inputs: usize,
    outputs: usize,
}

#[derive(Debug)]
struct Layer {
    project: Linear,
    mix: Linear,
    attention_norm: Norm,
    widen: Linear,
    narrow: Linear,
    output_norm: Norm,
}

/// Activations of one batch, reused from batch to batch.
#[derive(Debug)]
struct Workspace {
    tokens: usize,
    hidden: Buffer<f32>,
    other: Buffer<f32>,
    projected: Buffer<f32>,
    inner: Buffer<f32>,
}

impl Encoder {
    /// Loads the encoder in `folder` (`config.json`, `model.safetensors` and, where present, `1_Pooling/config.json` and
    /// `sentence_bert_config.json`) onto `device`. `max_tokens` overrides the model's own limit.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Tensor`] naming the file and the field or tensor that does not fit;
    /// [`Error::Device`] if the device has no room.
    pub fn load(device: &Device, folder: &Path, max_tokens: Option<usize>) -> Result<Self> {
        Self::load_with(device, folder, max_tokens, device.limits().binding_bytes)
    }

    /// As [`Encoder::load`], with no part of the word table larger than `binding_bytes`.
    fn load_with(device: &Device, folder: &Path, max_tokens: Option<usize>, binding_bytes: u64) -> Result<Self> {
        let config = Config::read(&folder.join("config.json"))?;
        let shape = config.shape(folder, max_tokens)?;
        let mut weights = Weights::open(&folder.join("model.safetensors"))?;
        weights.choose_prefix(&["", "bert."], "embeddings.word_embeddings.weight");
        let (width, inner) = (shape.width, shape.inner);

        let table = weights.read("embeddings.word_embeddings.weight", &[shape.vocabulary, width])?;
        let part = (binding_bytes / (4 * width as u64)).clamp(1, shape.vocabulary as u64) as usize;
        let mut words = Vec::new();
        for (index, rows) in table.chunks(part * width).enumerate() {
            words.push((index * part, rows.len() / width, device.upload(rows)?));
        }
        drop(table);

        let mut places =
            weights.read("embeddings.position_embeddings.weight", &[config.max_position_embeddings, width])?;
        let types = weights.read("embeddings.token_type_embeddings.weight", &[config.type_vocab_size, width])?;
        for row in places.chunks_exact_mut(width) {
            for (place, kind) in row.iter_mut().zip(&types) {
                *place += kind;
            }
        }

        let mut load = Loader { device, weights: &mut weights };
        let norm = load.norm("embeddings.LayerNorm", width)?;
        let layers = (0..config.num_hidden_layers)
            .map(|index| {
                let at = |name: &str| format!("encoder.layer.{index}.{name}");
                let (query, key, value) =
                    (at("attention.self.query"), at("attention.self.key"), at("attention.self.value"));
                Ok(Layer {
                    project: load.linear(&[&query, &key, &value], width, width)?,
                    mix: load.linear(&[&at("attention.output.dense")], width, width)?,
                    attention_norm: load.norm(&at("attention.output.LayerNorm"), width)?,
                    widen: load.linear(&[&at("intermediate.dense")], width, inner)?,
                    narrow: load.linear(&[&at("output.dense")], inner, width)?,
                    output_norm: load.norm(&at("output.LayerNorm"), width)?,
                })
            })
            .collect::<Result<_>>()?;
        let places = device.upload(&places)?;
        Ok(Self { device: device.clone(), shape, words, places, norm, layers, workspace: Mutex::default() })
    }

    /// Numbers in an embedding.
    pub fn width(&self) -> usize {
        self.shape.width
    }

    /// The most tokens of a text, special tokens included.
    pub fn max_tokens(&self) -> usize {
        self.shape.max_tokens
    }

    /// Ids below this are known.
    pub fn vocabulary(&self) -> usize {
        self.shape.vocabulary
    }

    /// The device that the weights are on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Embeds token sequences: one row of [`Encoder::width`] numbers each, of unit length, in the given order.
    ///
    /// # Errors
    /// [`Error::Usage`] if a sequence is empty, too long or holds an unknown id; [`Error::Device`] if the device fails.
    pub fn encode(&self, sequences: &[&[u32]]) -> Result<Vec<f32>> {
        batches::check(sequences, self.shape.vocabulary, self.shape.max_tokens)?;
        let batches = Batches::new(sequences, batches::tokens(&self.device, self.shape.width, self.shape.inner));

        let mut workspace = self.workspace.lock().unwrap_or_else(PoisonError::into_inner);
        let workspace = match workspace.take() {
            Some(ready) if ready.tokens >= batches.largest => workspace.insert(ready),
            _ => workspace.insert(Workspace::new(&self.device, &self.shape, batches.largest)?),
        };
        batches.run(self.shape.width, |tokens| self.forward(workspace, tokens))
    }

    /// One batch: from token ids to unit rows, all on the device.
    fn forward(&self, workspace: &Workspace, batch: &TokenBatch) -> Result<Download<f32>> {
        let (device, shape) = (&self.device, &self.shape);
        let (tokens, width) = (batch.ids.len(), shape.width);
        let tiles = nn::attention::tiles(&batch.cu_seqlens);
        let ids = device.upload(&batch.ids)?;
        let positions = device.upload(&batch.positions())?;
        let starts = device.upload(&batch.cu_seqlens)?;
        let tile_list = device.upload::<u32>(bytemuck::cast_slice(&tiles))?;
        let Workspace { hidden, other, projected, inner, .. } = workspace;

        for (first, rows, part) in &self.words {
            let params = nn::embed::Params {
                tokens: tokens as u32,
                width: width as u32,
                first: *first as u32,
                rows: *rows as u32,
            };
            device.dispatch(
                &nn::embed::KERNEL,
                &Call {
                    constants: &[],
                    params: bytes_of(&params),
                    bindings: &[
                        ids.all(),
                        positions.all(),
                        part.all(),
                        self.places.all(),
                        other.range(0..tokens * width),
                    ],
                    workgroups: nn::embed::workgroups(tokens, width),
                },
            )?;
        }
        self.norm(&self.norm, other, None, hidden, tokens)?;

        for layer in &self.layers {
            self.linear(&layer.project, hidden, projected, tokens, Activation::None)?;
            let params = nn::attention::Params {
                tiles: tiles.len() as u32,
                heads: shape.heads as u32,
                scale: 1.0 / ((width / shape.heads) as f32).sqrt(),
            };
            device.dispatch(
                &nn::attention::KERNEL,
                &Call {
                    constants: &[(width / shape.heads) as u32],
                    params: bytes_of(&params),
                    bindings: &[
                        projected.range(0..tokens * 3 * width),
                        tile_list.all(),
                        other.range(0..tokens * width),
                    ],
                    workgroups: tiles.len() as u64 * shape.heads as u64,
                },
            )?;
            // The wide buffer is free again: it takes the narrow results.
            self.linear(&layer.mix, other, projected, tokens, Activation::None)?;
            self.norm(&layer.attention_norm, projected, Some(hidden), other, tokens)?;
            self.linear(&layer.widen, other, inner, tokens, shape.activation)?;
            self.linear(&layer.narrow, inner, projected, tokens, Activation::None)?;
            self.norm(&layer.output_norm, projected, Some(other), hidden, tokens)?;
        }

        let sequences = batch.sequences();
        let pooled = device.zeros(sequences * width)?;
        let params = nn::pool::Params { sequences: sequences as u32, width: width as u32, mode: shape.pooling as u32 };
        device.dispatch(
            &nn::pool::KERNEL,
            &Call {
                constants: &[],
                params: bytes_of(&params),
                bindings: &[hidden.range(0..tokens * width), starts.all(), pooled.all()],
                workgroups: nn::pool::workgroups(sequences, width),
            },
        )?;
        let unit = device.zeros(sequences * width)?;
        self.normalize(&pooled, &unit, sequences)?;
        device.request(&unit, 0..sequences * width)
    }

    fn linear(
        &self,
        linear: &Linear,
        x: &Buffer<f32>,
        out: &Buffer<f32>,
        rows: usize,
        activation: Activation,
    ) -> Result<()> {
        let params = nn::matmul::Params {
            rows: rows as u32,
            columns: linear.outputs as u32,
            depth: linear.inputs as u32,
            depth_stride: linear.outputs as u32,
            column_stride: 1,
            bias: 1,
            activation: activation as u32,
        };
        let (x, out) = (x.range(0..rows * linear.inputs), out.range(0..rows * linear.outputs));
        self.device.dispatch(
            &nn::matmul::KERNEL,
            &Call {
                constants: &[],
                params: bytes_of(&params),
                bindings: &[x, linear.weight.all(), linear.bias.all(), out],
                workgroups: nn::matmul::workgroups(rows, linear.outputs),
            },
        )
    }

    fn norm(
        &self,
        norm: &Norm,
        x: &Buffer<f32>,
        residual: Option<&Buffer<f32>>,
        out: &Buffer<f32>,
        rows: usize,
    ) -> Result<()> {
        let size = rows * self.shape.width;
        let params = nn::norm::Params {
            rows: rows as u32,
            width: self.shape.width as u32,
            epsilon: self.shape.epsilon,
            residual: u32::from(residual.is_some()),
        };
        let residual: Binding<'_> = residual.unwrap_or(x).range(0..size);
        self.device.dispatch(
            &nn::norm::KERNEL,
            &Call {
                constants: &[],
                params: bytes_of(&params),
                bindings: &[x.range(0..size), residual, norm.gain.all(), norm.bias.all(), out.range(0..size)],
                workgroups: rows as u64,
            },
        )
    }

    fn normalize(&self, x: &Buffer<f32>, unit: &Buffer<f32>, rows: usize) -> Result<()> {
        let params = nn::normalize::Params { rows: rows as u32, width: self.shape.width as u32 };
        self.device.dispatch(
            &nn::normalize::KERNEL,
            &Call {
                constants: &[],
                params: bytes_of(&params),
                bindings: &[x.all(), unit.all()],
                workgroups: rows as u64,
            },
        )
    }
}

impl Workspace {
    fn new(device: &Device, shape: &Shape, tokens: usize) -> Result<Self> {
        Ok(Self {
            tokens,
            hidden: device.zeros(tokens * shape.width)?,
            other: device.zeros(tokens * shape.width)?,
            projected: device.zeros(tokens * 3 * shape.width)?,
            inner: device.zeros(tokens * shape.inner)?,
        })
    }
}

/// Brings layers from the file to the device.
struct Loader<'a> {
    device: &'a Device,
    weights: &'a mut Weights,
}

impl Loader<'_> {
    fn norm(&mut self, name: &str, width: usize) -> Result<Norm> {
        Ok(Norm {
            gain: self.device.upload(&self.weights.read(&format!("{name}.weight"), &[width])?)?,
            bias: self.device.upload(&self.weights.read(&format!("{name}.bias"), &[width])?)?,
        })
    }

    /// Layers of the same sizes side by side, as one.
    fn linear(&mut self, names: &[&str], inputs: usize, outputs: usize) -> Result<Linear> {
        let pitch = names.len() * outputs;
        let (mut weight, mut bias) = (Vec::new(), Vec::new());
        for (index, name) in names.iter().enumerate() {
            let at = index * outputs;
            self.weights.read_transposed(&format!("{name}.weight"), [outputs, inputs], &mut weight, pitch, at)?;
            bias.extend(self.weights.read(&format!("{name}.bias"), &[outputs])?);
        }
        Ok(Linear { weight: self.device.upload(&weight)?, bias: self.device.upload(&bias)?, inputs, outputs: pitch })
    }
}

/// The length limit of the model in `folder`: what is asked for, else what the model says.
fn token_limit(folder: &Path, asked: Option<usize>) -> Result<usize> {
    Config::read(&folder.join("config.json"))?.max_tokens(folder, asked)
}

impl Config {
    fn read(path: &Path) -> Result<Self> {
        read_json(path)?.ok_or_else(|| Error::io(path, std::io::ErrorKind::NotFound.into()))
    }

    /// Checks what the config says and joins it with its neighbours in `folder`.
    fn shape(&self, folder: &Path, max_tokens: Option<usize>) -> Result<Shape> {
        let refuse = |field: &str, problem: String| Error::File {
            file: folder.join("config.json").display().to_string(),
            field: field.into(),
            problem,
            remedy: "tauscore encodes with BERT-family models: name the folder of one".into(),
        };
        if self.model_type != "bert" {
            return Err(refuse("model_type", format!("{:?} is not supported, \"bert\" is", self.model_type)));
        }
        if self.position_embedding_type != "absolute" {
            return Err(refuse(
                "position_embedding_type",
                format!("{:?} is not supported", self.position_embedding_type),
            ));
        }
        // Far above every published model and far below what overflows.
        let sizes = [
            ("vocab_size", self.vocab_size, 1, 1 << 24),
            ("hidden_size", self.hidden_size, 1, 1 << 16),
            ("num_hidden_layers", self.num_hidden_layers, 1, 1 << 10),
            ("num_attention_heads", self.num_attention_heads, 1, 1 << 10),
            ("intermediate_size", self.intermediate_size, 1, 1 << 18),
            ("max_position_embeddings", self.max_position_embeddings, SHORTEST, 1 << 20),
            ("type_vocab_size", self.type_vocab_size, 1, 1 << 10),
        ];
        for (field, value, least, largest) in sizes {
            if !(least..=largest).contains(&value) {
                return Err(refuse(field, format!("{value} is not between {least} and {largest}")));
            }
        }
        let head = self.hidden_size / self.num_attention_heads;
        if head * self.num_attention_heads != self.hidden_size || head > 256 {
            let heads = self.num_attention_heads;
            return Err(refuse(
                "num_attention_heads",
                format!("{heads} heads do not divide {} into at most 256 each", self.hidden_size),
            ));
        }
        if !(self.layer_norm_eps.is_finite() && self.layer_norm_eps >= 0.0) {
            return Err(refuse("layer_norm_eps", format!("{} is not a small positive number", self.layer_norm_eps)));
        }
        let activation = match self.hidden_act.as_str() {
            "gelu" => Activation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" => Activation::GeluTanh,
            "relu" => Activation::Relu,
            other => {
                return Err(refuse("hidden_act", format!("{other:?} is not supported; gelu, gelu_new and relu are")));
            }
        };
        let max_tokens = self.max_tokens(folder, max_tokens)?;
        Ok(Shape {
            vocabulary: self.vocab_size,
            width: self.hidden_size,
            heads: self.num_attention_heads,
            inner: self.intermediate_size,
            max_tokens,
            epsilon: self.layer_norm_eps,
            activation,
            pooling: pooling(&folder.join("1_Pooling").join("config.json"))?,
        })
    }

    /// The length limit: what the caller says, else `sentence_bert_config.json`, else the number of positions.
    fn max_tokens(&self, folder: &Path, asked: Option<usize>) -> Result<usize> {
        let positions = self.max_position_embeddings;
        if let Some(asked) = asked {
            if !(SHORTEST..=positions).contains(&asked) {
                return Err(Error::Usage {
                    argument: "--max-tokens".into(),
                    problem: format!("{asked} is not between {SHORTEST} and the model's {positions} positions"),
                    remedy: "leave it out to use the model's own limit".into(),
                });
            }
            return Ok(asked);
        }
        let path = folder.join("sentence_bert_config.json");
        let said = read_json::<SentenceConfig>(&path)?.and_then(|config| config.max_seq_length).unwrap_or(positions);
        if said < SHORTEST {
            return Err(Error::File {
                file: path.display().to_string(),
                field: "max_seq_length".into(),
                problem: format!("{said} is too few: the special tokens alone are {SHORTEST}"),
                remedy: "leave it out to use the model's positions, or override it with --max-tokens".into(),
            });
        }
        Ok(said.min(positions))
    }
}

/// The pooling that `path` names; the mean if there is no such file.
fn pooling(path: &Path) -> Result<Pooling> {
    let Some(config) = read_json::<PoolingConfig>(path)? else { return Ok(Pooling::Mean) };
    let others = config.pooling_mode_max_tokens
        || config.pooling_mode_mean_sqrt_len_tokens
        || config.pooling_mode_weightedmean_tokens
        || config.pooling_mode_lasttoken;
    match (config.pooling_mode_cls_token, config.pooling_mode_mean_tokens, others) {
        (true, false, false) => Ok(Pooling::Cls),
        (false, true, false) => Ok(Pooling::Mean),
        _ => Err(Error::File {
            file: path.display().to_string(),
            field: "pooling_mode".into(),
            problem: "it names no pooling, several, or one that is not supported".into(),
            remedy: "mean and CLS pooling are supported: name the folder of such a model".into(),
        }),
    }
}

/// The JSON in `path`, or `None` if there is no such file.
fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(path, error)),
    };
    serde_json::from_str(&text).map(Some).map_err(|error| Error::File {
        file: path.display().to_string(),
        field: key_before(&text, &error).unwrap_or("JSON").into(),
        problem: error.to_string(),
        remedy: "the file is damaged or belongs to another kind of model: name another folder".into(),
    })
}

/// The key whose value an error is about: the last one before the place where it was noticed. `None` for what is wrong
/// with the syntax or the whole.
fn key_before<'a>(text: &'a str, error: &serde_json::Error) -> Option<&'a str> {
    if !error.is_data() {
        return None;
    }
    let before: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let read = text.get(..before + error.column())?;
    let (keys, value) = read.rsplit_once("\":")?;
    // Behind the closing brace it is the object that lacks something.
    if value.trim_end().ends_with('}') { None } else { keys.rsplit_once('"').map(|(_, key)| key) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_table_in_parts_gives_the_same_bits() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/models/f32-mean");
        let devices = crate::device::adapters().into_iter().filter_map(|adapter| adapter.open().ok());
        let ids: Vec<u32> = (0..40).map(|at| at * 7).collect();
        for device in std::iter::once(Device::cpu()).chain(devices) {
            let whole = Encoder::load(&device, &folder, None).expect("it loads");
            let parts = Encoder::load_with(&device, &folder, None, 4 * 96 * 50).expect("it loads in parts");
            assert!(whole.words.len() == 1 && parts.words.len() > 3, "{} parts", parts.words.len());
            let embed = |encoder: &Encoder| encoder.encode(&[&ids]).expect("it encodes");
            assert_eq!(embed(&whole), embed(&parts), "on {}", device.name());
        }
    }
}
