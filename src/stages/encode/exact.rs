//! Tokens to embeddings in integers: the same bits on every device, in any batch and order.
#![deny(clippy::float_arithmetic)]

use std::path::Path;

use bytemuck::bytes_of;

use super::batches::{self, Batches, Workspaces};
use super::self_test;
use crate::device::{Binding, Buffer, Call, Device, Download};
use crate::nn::TokenBatch;
use crate::nn::attention::tiles;
use crate::nn::config::ModelConfig;
use crate::nn::exact::arithmetic::GELU_ENTRIES;
use crate::nn::exact::linear::Column;
use crate::nn::exact::model::MINILM_DIGEST;
use crate::nn::exact::row::{WIDEST, pack_halves, pack_norm, unpack_halves};
use crate::nn::exact::{IntegerLinear, IntegerModel, IntegerNorm, attention, embed, linear, norm, pool, quantise};
use crate::{Error, Result};

/// The most tokens of a text for which no number leaves its range.
const MOST_TOKENS: usize = 512;

/// Tokens of a batch that one thread of the CPU takes through all layers: so many that weights are worth their way to the core, so few that
/// activations stay near it, in a second-level cache for the most part.
const LANE_TOKENS: usize = 256;

/// An encoder in integers with its weights on a device.
#[derive(Debug)]
pub struct ExactEncoder {
    device: Device,
    digest: String,
    width: usize,
    heads: usize,
    inner: usize,
    vocabulary: usize,
    max_tokens: usize,
    /// The word table in parts that fit a binding: first row, number of rows, two numbers a word.
    words: Vec<(usize, usize, Buffer<u32>)>,
    places: Buffer<u32>,
    norm: Buffer<i32>,
    layers: Vec<Layer>,
    gelu: Buffer<i32>,
    workspaces: Workspaces<Workspace>,
}

#[derive(Debug)]
struct Linear {
    inputs: usize,
    outputs: usize,
    weights: Buffer<u32>,
    columns: Buffer<Column>,
}

#[derive(Debug)]
struct Layer {
    project: Linear,
    mix: Linear,
    attention_norm: Buffer<i32>,
    widen: Linear,
    narrow: Linear,
    output_norm: Buffer<i32>,
}

/// Inputs of a matrix product.
#[derive(Debug)]
struct Inputs {
    numbers: Buffer<[u32; 2]>,
    steps: Buffer<u32>,
}

/// Activations of one batch, reused from batch to batch.
#[derive(Debug)]
struct Workspace {
    hidden: Buffer<i32>,
    other: Buffer<i32>,
    projected: Buffer<i32>,
    inner: Buffer<i32>,
    /// As wide as `hidden`.
    narrow: Inputs,
    /// As wide as `inner`.
    wide: Inputs,
}

/// What is asked for of the rows between the layers: nothing, or a copy of each.
type Seen<'a> = Option<&'a mut Vec<Vec<i32>>>;

impl ExactEncoder {
    /// Brings `model` onto `device`, with the limit of tokens that `folder` says. `max_tokens` overrides it; 512 is the most. The
    /// device has to pass the [`self_test`] before, and with all-MiniLM-L6-v2 to embed a few recorded sequences.
    ///
    /// # Errors
    /// [`Error::SelfTest`] if the device computes other numbers than it must; [`Error::File`] naming the file and what does not fit; as
    /// [`ExactEncoder::new`].
    pub fn load(device: &Device, model: &IntegerModel, folder: &Path, max_tokens: Option<usize>) -> Result<Self> {
        self_test::run(device)?;
        let encoder = Self::new(device, model)?;
        if encoder.digest == MINILM_DIGEST {
            self_test::embed(&encoder)?;
        }
        let limit = ModelConfig::read(folder)?.max_tokens(max_tokens)?;
        Ok(Self { max_tokens: limit.min(encoder.max_tokens), ..encoder })
    }

    /// Brings `model` onto `device`, which is believed to compute what it must: [`self_test::run`] finds out.
    ///
    /// # Errors
    /// [`Error::Usage`] if the model's parts do not fit together or are beyond what the kernels take;
    /// [`Error::Device`] if the device has no room.
    pub fn new(device: &Device, model: &IntegerModel) -> Result<Self> {
        Self::with_parts(device, model, device.limits().binding_bytes)
    }

    /// As [`ExactEncoder::new`], with no part of the word table larger than `binding_bytes`.
    fn with_parts(device: &Device, model: &IntegerModel, binding_bytes: u64) -> Result<Self> {
        check_model(model)?;
        let width = model.hidden;
        let vocabulary = model.word.len() / width;
        let part = (binding_bytes / (2 * width as u64)).clamp(1, vocabulary as u64) as usize;
        let mut words = Vec::new();
        for (index, rows) in model.word.chunks(part * width).enumerate() {
            words.push((index * part, rows.len() / width, device.upload(&pack_halves(rows))?));
        }
        let norm = |norm: &IntegerNorm| device.upload(&pack_norm(&norm.gain, &norm.bias));
        let layers = model.layers.iter().map(|layer| {
            Ok(Layer {
                project: Linear::upload(device, &[&layer.query, &layer.key, &layer.value])?,
                mix: Linear::upload(device, &[&layer.attention_output])?,
                attention_norm: norm(&layer.attention_norm)?,
                widen: Linear::upload(device, &[&layer.intermediate])?,
                narrow: Linear::upload(device, &[&layer.output])?,
                output_norm: norm(&layer.output_norm)?,
            })
        });
        Ok(Self {
            device: device.clone(),
            digest: model.digest(),
            width,
            heads: model.heads,
            inner: model.layers.first().map_or(width, |layer| layer.intermediate.outputs),
            vocabulary,
            max_tokens: (model.position.len() / width).min(MOST_TOKENS),
            words,
            places: device.upload(&pack_halves(&model.position))?,
            norm: norm(&model.embedding_norm)?,
            layers: layers.collect::<Result<_>>()?,
            gelu: device.upload(&model.gelu)?,
            workspaces: Workspaces::new(device),
        })
    }

    /// [`IntegerModel::digest`] of the model.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Numbers in an embedding.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The most tokens of a text, special tokens included.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Ids below this are known.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// The device that the weights are on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Embeds token sequences: one row of [`ExactEncoder::width`] numbers each, Q15 and of unit length, in the given order.
    ///
    /// # Errors
    /// [`Error::Usage`] if a sequence is empty, too long or holds an unknown id; [`Error::Device`] if the device fails.
    pub fn encode<S: AsRef<[u32]>>(&self, sequences: &[S]) -> Result<Vec<i16>> {
        let sequences: Vec<&[u32]> = sequences.iter().map(AsRef::as_ref).collect();
        batches::check(&sequences, self.vocabulary, self.max_tokens)?;
        let batches = Batches::new(&self.device, &sequences, self.width, self.inner, Some(LANE_TOKENS));
        let words = batches.run(
            self.width / 2,
            &self.workspaces,
            |tokens| self.workspace(tokens),
            |workspace, tokens| self.forward(workspace, tokens, None),
        )?;
        Ok(words.into_iter().flat_map(unpack_halves).collect())
    }

    /// The rows of one sequence's tokens after the embeddings' norm and after each layer, `[tokens][width]`, Q15: to find the place
    /// where two devices part.
    ///
    /// # Errors
    /// As [`ExactEncoder::encode`].
    pub fn hidden_states(&self, sequence: &[u32]) -> Result<Vec<Vec<i32>>> {
        batches::check(&[sequence], self.vocabulary, self.max_tokens)?;
        let workspace = self.workspace(sequence.len())?;
        let mut states = Vec::new();
        self.forward(&workspace, &TokenBatch::pack([sequence]), Some(&mut states))?.wait()?;
        Ok(states)
    }

    fn workspace(&self, tokens: usize) -> Result<Workspace> {
        let device = &self.device;
        let inputs = |width: usize| -> Result<Inputs> {
            Ok(Inputs { numbers: device.zeros(tokens * width / 4)?, steps: device.zeros(tokens)? })
        };
        Ok(Workspace {
            hidden: device.zeros(tokens * self.width)?,
            other: device.zeros(tokens * self.width)?,
            projected: device.zeros(tokens * 3 * self.width)?,
            inner: device.zeros(tokens * self.inner)?,
            narrow: inputs(self.width)?,
            wide: inputs(self.inner)?,
        })
    }

    /// One batch: from token ids to unit rows, all on the device.
    fn forward(&self, workspace: &Workspace, batch: &TokenBatch, mut seen: Seen<'_>) -> Result<Download<u32>> {
        let device = &self.device;
        let (tokens, width, quads) = (batch.ids.len(), self.width, self.width as u32 / 4);
        let tiles = tiles(&batch.cu_seqlens);
        let ids = device.upload(&batch.ids)?;
        let positions = device.upload(&batch.positions())?;
        let starts = device.upload(&batch.cu_seqlens)?;
        let tile_list = device.upload::<u32>(bytemuck::cast_slice(&tiles))?;
        let Workspace { hidden, other, projected, inner, narrow, wide, .. } = workspace;
        let mut look = |hidden: &Buffer<i32>| -> Result<()> {
            if let Some(states) = &mut seen {
                states.push(device.request(hidden, 0..tokens * width)?.wait()?);
            }
            Ok(())
        };

        for (first, rows, part) in &self.words {
            let params = embed::Params { tokens: tokens as u32, quads, first: *first as u32, rows: *rows as u32 };
            let [numbers, steps] = narrow.bindings(tokens, width);
            device.dispatch(
                &embed::KERNEL,
                &Call {
                    constants: &[],
                    params: bytes_of(&params),
                    bindings: &[
                        ids.all(),
                        positions.all(),
                        part.all(),
                        self.places.all(),
                        self.norm.all(),
                        hidden.range(0..tokens * width),
                        numbers,
                        steps,
                    ],
                    workgroups: tokens as u64,
                },
            )?;
        }
        look(hidden)?;

        for layer in &self.layers {
            self.linear(&layer.project, narrow, projected, tokens, false)?;
            let params = attention::Params { tiles: tiles.len() as u32, heads: self.heads as u32 };
            device.dispatch(
                &attention::KERNEL,
                &Call {
                    constants: &[(width / self.heads) as u32],
                    params: bytes_of(&params),
                    bindings: &[
                        projected.range(0..tokens * 3 * width),
                        tile_list.all(),
                        other.range(0..tokens * width),
                    ],
                    workgroups: tiles.len() as u64 * self.heads as u64,
                },
            )?;
            self.quantise(other, narrow, tokens, width)?;
            // The wide buffer is free again: it takes the narrow results.
            self.linear(&layer.mix, narrow, projected, tokens, false)?;
            self.norm(&layer.attention_norm, projected, hidden, other, narrow, tokens)?;
            self.linear(&layer.widen, narrow, inner, tokens, true)?;
            self.quantise(inner, wide, tokens, self.inner)?;
            self.linear(&layer.narrow, wide, projected, tokens, false)?;
            self.norm(&layer.output_norm, projected, other, hidden, narrow, tokens)?;
            look(hidden)?;
        }

        let sequences = batch.sequences();
        let embeddings = device.zeros(sequences * width / 2)?;
        let params = pool::Params { sequences: sequences as u32, quads };
        device.dispatch(
            &pool::KERNEL,
            &Call {
                constants: &[],
                params: bytes_of(&params),
                bindings: &[hidden.range(0..tokens * width), starts.all(), embeddings.all()],
                workgroups: sequences as u64,
            },
        )?;
        device.request(&embeddings, 0..embeddings.len())
    }

    fn linear(&self, linear: &Linear, x: &Inputs, out: &Buffer<i32>, rows: usize, gelu: bool) -> Result<()> {
        let params = linear::Params {
            rows: rows as u32,
            quads: linear.outputs as u32 / 4,
            depth: linear.inputs as u32 / 4,
            gelu: u32::from(gelu),
        };
        let [numbers, steps] = x.bindings(rows, linear.inputs);
        let (weights, columns) = (linear.weights.all(), linear.columns.all());
        self.device.dispatch(
            &linear::KERNEL,
            &Call {
                constants: &[],
                params: bytes_of(&params),
                bindings: &[numbers, steps, weights, columns, self.gelu.all(), out.range(0..rows * linear.outputs)],
                workgroups: linear::workgroups(rows, linear.outputs),
            },
        )
    }

    fn quantise(&self, x: &Buffer<i32>, to: &Inputs, rows: usize, width: usize) -> Result<()> {
        let [numbers, steps] = to.bindings(rows, width);
        self.device.dispatch(
            &quantise::KERNEL,
            &Call {
                constants: &[],
                params: bytes_of(&quantise::Params { rows: rows as u32, quads: width as u32 / 4 }),
                bindings: &[x.range(0..rows * width), numbers, steps],
                workgroups: rows as u64,
            },
        )
    }

    fn norm(
        &self,
        norm: &Buffer<i32>,
        x: &Buffer<i32>,
        residual: &Buffer<i32>,
        out: &Buffer<i32>,
        inputs: &Inputs,
        rows: usize,
    ) -> Result<()> {
        let size = rows * self.width;
        let [numbers, steps] = inputs.bindings(rows, self.width);
        self.device.dispatch(
            &norm::KERNEL,
            &Call {
                constants: &[],
                params: bytes_of(&norm::Params { rows: rows as u32, quads: self.width as u32 / 4 }),
                bindings: &[x.range(0..size), residual.range(0..size), norm.all(), out.range(0..size), numbers, steps],
                workgroups: rows as u64,
            },
        )
    }
}

impl Inputs {
    fn bindings(&self, rows: usize, width: usize) -> [Binding<'_>; 2] {
        [self.numbers.range(0..rows * width / 4), self.steps.range(0..rows)]
    }
}

impl Linear {
    /// Layers of the same inputs, one below the other.
    fn upload(device: &Device, parts: &[&IntegerLinear]) -> Result<Self> {
        let weights: Vec<i8> = parts.iter().flat_map(|part| &part.weights).copied().collect();
        let columns: Vec<Column> = parts
            .iter()
            .flat_map(|part| {
                let columns = part.steps.iter().zip(&part.bias);
                columns.map(|(step, bias)| Column { step: *step, bias: *bias, shift: part.shift })
            })
            .collect();
        let (inputs, outputs) = (parts.first().map_or(0, |part| part.inputs), columns.len());
        Ok(Self {
            inputs,
            outputs,
            weights: device.upload(&linear::pack_weights(&weights, outputs, inputs))?,
            columns: device.upload(&columns)?,
        })
    }
}

/// Refuses a model whose parts do not fit together, or that the kernels do not take.
fn check_model(model: &IntegerModel) -> Result<()> {
    let refuse = |problem: String| {
        let remedy = "convert the model anew, or use the encoder in floats".into();
        Err(Error::Usage { argument: "integer model".into(), problem, remedy })
    };
    let width = model.hidden;
    if width == 0 || width > WIDEST || !width.is_multiple_of(4) {
        return refuse(format!("{width} numbers in a row; it must be a multiple of 4 up to {WIDEST}"));
    }
    let head = width.checked_div(model.heads).unwrap_or(0);
    if head * model.heads != width || head > attention::WIDEST_HEAD || !head.is_multiple_of(4) {
        let widest = attention::WIDEST_HEAD;
        return refuse(format!(
            "{} heads for {width} numbers; a head must be a multiple of 4 up to {widest}",
            model.heads
        ));
    }
    for (what, rows) in [("word", &model.word), ("position", &model.position)] {
        if rows.is_empty() || !rows.len().is_multiple_of(width) {
            return refuse(format!("the {what} table holds {} numbers, no rows of {width}", rows.len()));
        }
    }
    if model.gelu.len() != GELU_ENTRIES {
        return refuse(format!("the GELU table has {} entries in place of {GELU_ENTRIES}", model.gelu.len()));
    }
    let inner = model.layers.first().map_or(4, |layer| layer.intermediate.outputs);
    if inner == 0 || !inner.is_multiple_of(4) {
        return refuse(format!("{inner} numbers within the layers; it must be a multiple of 4"));
    }
    let norm = |norm: &IntegerNorm| norm.gain.len() == width && norm.bias.len() == width;
    let linear = |linear: &IntegerLinear, outputs: usize, inputs: usize| {
        (linear.outputs, linear.inputs) == (outputs, inputs)
            && [linear.steps.len(), linear.bias.len()] == [outputs; 2]
            && linear.weights.len() == outputs * inputs
            && (1..64).contains(&linear.shift)
    };
    if !norm(&model.embedding_norm) {
        return refuse("the embeddings' norm is of another width".into());
    }
    for (index, layer) in model.layers.iter().enumerate() {
        let fits = [&layer.query, &layer.key, &layer.value, &layer.attention_output]
            .iter()
            .all(|part| linear(part, width, width))
            && linear(&layer.intermediate, inner, width)
            && linear(&layer.output, width, inner)
            && norm(&layer.attention_norm)
            && norm(&layer.output_norm);
        if !fits {
            return refuse(format!("a part of layer {index} has other sizes than the rest of the model"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Noise;

    #[test]
    fn a_word_table_in_parts_gives_the_same_integers() {
        let mut noise = Noise::new(1);
        let mut rows = |count: usize| (0..count * 8).map(|_| (noise.bits() >> 22) as i16 - 512).collect();
        let model = IntegerModel {
            hidden: 8,
            heads: 2,
            word: rows(40),
            position: rows(9),
            embedding_norm: IntegerNorm { gain: vec![185_364; 8], bias: vec![100; 8] },
            layers: vec![],
            gelu: vec![0; GELU_ENTRIES],
        };
        let devices = crate::device::adapters().into_iter().filter_map(|adapter| adapter.open().ok());
        let ids: Vec<u32> = vec![39, 0, 1, 2, 20, 21, 3, 38, 7];
        for device in std::iter::once(Device::cpu()).chain(devices) {
            let whole = ExactEncoder::new(&device, &model).expect("it loads");
            let parts = ExactEncoder::with_parts(&device, &model, 2 * 8 * 3).expect("it loads in parts");
            assert!(whole.words.len() == 1 && parts.words.len() == 14, "{} parts", parts.words.len());
            let embed = |encoder: &ExactEncoder| encoder.encode(&[&ids]).expect("it encodes");
            assert_eq!(embed(&whole), embed(&parts), "on {}", device.name());
        }
    }
}
