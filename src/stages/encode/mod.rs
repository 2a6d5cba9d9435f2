//! Tokens to embeddings: a BERT-family encoder in f32, config-driven, on any device.
//!
//! An embedding's bits depend on its own tokens and on the device alone: not on the batch, its order or its size.

mod batches;
mod exact;
pub mod self_test;

pub use exact::ExactEncoder;

use std::path::Path;

use batches::{Batches, Workspaces};
use bytemuck::bytes_of;

use crate::Result;
use crate::device::{Binding, Buffer, Call, Device, Download};
use crate::nn::config::{CONFIG, ModelConfig};
use crate::nn::math::Activation;
use crate::nn::weights::Weights;
use crate::nn::{self, TokenBatch};

/// The widest head of attention.
const WIDEST_HEAD: usize = 256;

/// An encoder with its weights on a device.
#[derive(Debug)]
pub struct Encoder {
    device: Device,
    config: ModelConfig,
    max_tokens: usize,
    /// The word table in parts that fit a binding: first row, number of rows, `[rows][width]`.
    words: Vec<(usize, usize, Buffer<f32>)>,
    /// Position rows with the row of token type 0 added: `[positions][width]`.
    places: Buffer<f32>,
    norm: Norm,
    layers: Vec<Layer>,
    workspaces: Workspaces<Workspace>,
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
    /// [`Error::File`](crate::Error::File) or [`Error::Tensor`](crate::Error::Tensor) naming the file and the field or tensor that
    /// does not fit; [`Error::Device`](crate::Error::Device) if the device has no room.
    pub fn load(device: &Device, folder: &Path, max_tokens: Option<usize>) -> Result<Self> {
        Self::load_with(device, folder, max_tokens, device.limits().binding_bytes)
    }

    /// As [`Encoder::load`], with no part of the word table larger than `binding_bytes`.
    fn load_with(device: &Device, folder: &Path, max_tokens: Option<usize>, binding_bytes: u64) -> Result<Self> {
        let config = ModelConfig::read(folder)?;
        check_heads(&config)?;
        let max_tokens = config.max_tokens(max_tokens)?;
        let mut weights = Weights::open(&folder.join("model.safetensors"))?;
        weights.choose_prefix(&["", "bert."], "embeddings.word_embeddings.weight");
        let (width, inner) = (config.hidden, config.intermediate);

        let table = weights.read("embeddings.word_embeddings.weight", &[config.vocabulary, width])?;
        let part = (binding_bytes / (4 * width as u64)).clamp(1, config.vocabulary as u64) as usize;
        let mut words = Vec::new();
        for (index, rows) in table.chunks(part * width).enumerate() {
            words.push((index * part, rows.len() / width, device.upload(rows)?));
        }
        drop(table);

        let mut places = weights.read("embeddings.position_embeddings.weight", &[config.positions, width])?;
        let types = weights.read("embeddings.token_type_embeddings.weight", &[config.token_types, width])?;
        for row in places.chunks_exact_mut(width) {
            for (place, kind) in row.iter_mut().zip(&types) {
                *place += kind;
            }
        }

        let mut load = Loader { device, weights: &mut weights };
        let norm = load.norm("embeddings.LayerNorm", width)?;
        let layers = (0..config.layers)
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
        Ok(Self {
            device: device.clone(),
            config,
            max_tokens,
            words,
            places,
            norm,
            layers,
            workspaces: Workspaces::new(device),
        })
    }

    /// Numbers in an embedding.
    pub fn width(&self) -> usize {
        self.config.hidden
    }

    /// The most tokens of a text, special tokens included.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Ids below this are known.
    pub fn vocabulary(&self) -> usize {
        self.config.vocabulary
    }

    /// The device that the weights are on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Embeds token sequences: one row of [`Encoder::width`] numbers each, of unit length, in the given order.
    ///
    /// # Errors
    /// [`Error::Usage`](crate::Error::Usage) if a sequence is empty, too long or holds an unknown id;
    /// [`Error::Device`](crate::Error::Device) if the device fails.
    pub fn encode(&self, sequences: &[&[u32]]) -> Result<Vec<f32>> {
        batches::check(sequences, self.config.vocabulary, self.max_tokens)?;
        // All threads share a batch: each product lays its weights out anew, which only many rows are worth.
        Batches::new(&self.device, sequences, self.config.hidden, self.config.intermediate, None).run(
            self.config.hidden,
            &self.workspaces,
            |tokens| Workspace::new(&self.device, &self.config, tokens),
            |workspace, tokens| self.forward(workspace, tokens),
        )
    }

    /// One batch: from token ids to unit rows, all on the device.
    fn forward(&self, workspace: &Workspace, batch: &TokenBatch) -> Result<Download<f32>> {
        let (device, config) = (&self.device, &self.config);
        let (tokens, width) = (batch.ids.len(), config.hidden);
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
                heads: config.heads as u32,
                shared_heads: config.heads as u32,
                causal: 0,
                scale: 1.0 / ((width / config.heads) as f32).sqrt(),
            };
            device.dispatch(
                &nn::attention::KERNEL,
                &Call {
                    constants: &[(width / config.heads) as u32],
                    params: bytes_of(&params),
                    bindings: &[
                        projected.range(0..tokens * 3 * width),
                        tile_list.all(),
                        other.range(0..tokens * width),
                    ],
                    workgroups: tiles.len() as u64 * config.heads as u64,
                },
            )?;
            // The wide buffer is free again: it takes the narrow results.
            self.linear(&layer.mix, other, projected, tokens, Activation::None)?;
            self.norm(&layer.attention_norm, projected, Some(hidden), other, tokens)?;
            self.linear(&layer.widen, other, inner, tokens, config.activation)?;
            self.linear(&layer.narrow, inner, projected, tokens, Activation::None)?;
            self.norm(&layer.output_norm, projected, Some(other), hidden, tokens)?;
        }

        let sequences = batch.sequences();
        let pooled = device.zeros(sequences * width)?;
        let params = nn::pool::Params { sequences: sequences as u32, width: width as u32, mode: config.pooling as u32 };
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
        let size = rows * self.config.hidden;
        let params = nn::norm::Params {
            rows: rows as u32,
            width: self.config.hidden as u32,
            epsilon: self.config.epsilon as f32,
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
        let params = nn::normalize::Params { rows: rows as u32, width: self.config.hidden as u32 };
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
    fn new(device: &Device, config: &ModelConfig, tokens: usize) -> Result<Self> {
        Ok(Self {
            hidden: device.zeros(tokens * config.hidden)?,
            other: device.zeros(tokens * config.hidden)?,
            projected: device.zeros(tokens * 3 * config.hidden)?,
            inner: device.zeros(tokens * config.intermediate)?,
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

/// Refuses a number of heads that the attention kernel does not take.
fn check_heads(config: &ModelConfig) -> Result<()> {
    let (hidden, heads) = (config.hidden, config.heads);
    if hidden.is_multiple_of(heads) && hidden / heads <= WIDEST_HEAD {
        return Ok(());
    }
    let problem = format!("{heads} heads do not divide {hidden} into at most {WIDEST_HEAD} each");
    Err(config.refuse(CONFIG, "num_attention_heads", problem, "name the folder of a model with such heads"))
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
