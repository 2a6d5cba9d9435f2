//! Tokens to losses: a causal language model of the Llama family, config-driven, on any device.
//!
//! Passages that continue the same prefix share it: its keys and values are computed once a batch. The bits of a loss depend on the
//! tokens before it and on the device alone: not on the batch, its order or its size, nor on what is shared. So batches are cut to
//! what the device allows and its budget leaves, and halved where there turns out to be less.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytemuck::{Pod, bytes_of};
use bytesize::ByteSize;

use crate::device::{Buffer, Call, Device, Download};
use crate::nn::attention::{self, Tile};
use crate::nn::head::{self, SPLIT, Scored};
use crate::nn::llama::{LlamaConfig, LlamaModel};
use crate::nn::packed::{Format, PackedMatrix};
use crate::nn::{linear, lookup, rms_norm, rotary, surprise, swiglu};
use crate::progress::Event;
use crate::{Error, Result};

/// The name of this stage in events.
pub const STAGE: &str = "judging";

/// Tokens that a budget must leave room for beside the weights.
const SMALLEST: usize = 128;

/// Bytes that a batch takes beside those of its tokens, at most: what its buffers are rounded up by.
const SLACK: u64 = 256;

/// Tokens that continue a prefix, some of which are scored.
#[derive(Clone, Debug)]
pub struct Passage<'a> {
    /// Which of the prefixes it continues.
    pub prefix: usize,
    /// What follows the prefix.
    pub tokens: &'a [u32],
    /// Which of `tokens` are scored, each given all that stands before it.
    pub scored: Vec<Range<usize>>,
}

impl Passage<'_> {
    /// How many of its tokens are scored.
    fn losses(&self) -> usize {
        self.scored.iter().map(Range::len).sum()
    }
}

/// A causal language model with its weights on a device.
#[derive(Debug)]
pub struct LanguageModel {
    device: Device,
    config: LlamaConfig,
    embedding: Table,
    /// `None` where the embedding is the head too.
    head: Option<Table>,
    layers: Vec<Layer>,
    norm: Buffer<f32>,
    space: Mutex<Space>,
    /// Tokens of a batch for which there was memory, where there was not enough for all that the device allows.
    halved: AtomicUsize,
}

/// What is kept from call to call.
#[derive(Debug, Default)]
struct Space {
    turns: Option<Turns>,
    workspace: Option<Workspace>,
}

/// A packed matrix in parts that fit a binding: first row, number of rows, words.
#[derive(Debug)]
struct Table {
    format: Format,
    parts: Vec<(usize, usize, Buffer<u32>)>,
}

/// Packed matrices of the same inputs, one below the other.
#[derive(Debug)]
struct Linear {
    inputs: usize,
    outputs: usize,
    parts: Vec<Part>,
}

/// Some outputs of a [`Linear`].
#[derive(Debug)]
struct Part {
    format: Format,
    first: usize,
    outputs: usize,
    weights: Buffer<u32>,
}

#[derive(Debug)]
struct Layer {
    attention_norm: Buffer<f32>,
    project: Linear,
    mix: Linear,
    feed_forward_norm: Buffer<f32>,
    widen: Linear,
    narrow: Linear,
}

/// `[positions][pairs][cosine | sine]`, as far as any passage has come.
#[derive(Debug)]
struct Turns {
    positions: usize,
    table: Buffer<[f32; 2]>,
}

/// One batch of at most `tokens` tokens, of which as many are scored; reused from batch to batch.
#[derive(Debug)]
struct Workspace {
    tokens: usize,
    ids: Buffer<u32>,
    positions: Buffer<u32>,
    tiles: Buffer<Tile>,
    scored: Buffer<Scored>,
    hidden: Buffer<f32>,
    normed: Buffer<f32>,
    projected: Buffer<f32>,
    mixed: Buffer<f32>,
    inner: Buffer<f32>,
    activated: Buffer<f32>,
    partials: Buffer<head::Partial>,
    losses: Buffer<f32>,
}

/// What one batch is made of.
#[derive(Default)]
struct Batch {
    ids: Vec<u32>,
    positions: Vec<u32>,
    tiles: Vec<Tile>,
    scored: Vec<Scored>,
    /// The passages in it, in order.
    passages: Vec<usize>,
}

impl LanguageModel {
    /// Brings `model` onto `device`.
    ///
    /// # Errors
    /// [`Error::Device`] if the device has no room.
    pub fn new(device: &Device, model: &LlamaModel) -> Result<Self> {
        Self::with_parts(device, model, device.limits().binding_bytes)
    }

    /// As [`LanguageModel::new`], with no part of a matrix larger than `binding_bytes`, as far as its rows allow.
    fn with_parts(device: &Device, model: &LlamaModel, binding_bytes: u64) -> Result<Self> {
        if let Some(left) = device.left() {
            let weights = model.bytes();
            let smallest = SMALLEST as u64 * token_bytes(&model.config) + turns_bytes(&model.config, SMALLEST) + SLACK;
            if weights + smallest > left {
                let (weights, needed) = (ByteSize(weights), device.memory().now + weights + smallest);
                return Err(beyond(device, &format!("the model's weights, {weights}, and {SMALLEST} tokens"), needed));
            }
        }
        let linear = |matrices: &[&PackedMatrix]| Linear::upload(device, matrices, binding_bytes);
        let layers = model.layers.iter().map(|layer| {
            Ok(Layer {
                attention_norm: device.upload(&layer.attention_norm)?,
                project: linear(&[&layer.query, &layer.key, &layer.value])?,
                mix: linear(&[&layer.output])?,
                feed_forward_norm: device.upload(&layer.feed_forward_norm)?,
                widen: linear(&[&layer.gate, &layer.up])?,
                narrow: linear(&[&layer.down])?,
            })
        });
        Ok(Self {
            device: device.clone(),
            config: model.config.clone(),
            embedding: Table::upload(device, &model.embedding, binding_bytes)?,
            head: model.head.as_ref().map(|head| Table::upload(device, head, binding_bytes)).transpose()?,
            layers: layers.collect::<Result<_>>()?,
            norm: device.upload(&model.norm)?,
            space: Mutex::default(),
            halved: AtomicUsize::new(usize::MAX),
        })
    }

    /// Ids below this are known.
    pub fn vocabulary(&self) -> usize {
        self.config.vocabulary
    }

    /// The most tokens of a prefix and what continues it.
    pub fn positions(&self) -> usize {
        self.config.positions
    }

    /// The device that the weights are on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The loss of each scored token, -ln p(token | what stands before it) in nats: for each passage those of its ranges, in order.
    /// `listen` is told how many tokens will go through the model, those of prefixes included, after each batch how many have, and of
    /// batches that had to be made smaller for want of memory.
    ///
    /// # Errors
    /// [`Error::Usage`] if a passage is too long, holds an unknown id, or scores a token with nothing before it or one that it
    /// has not; [`Error::Memory`] if there is no room for the longest passage; [`Error::Device`] if the device fails.
    pub fn losses(
        &self,
        prefixes: &[&[u32]],
        passages: &[Passage<'_>],
        mut listen: impl FnMut(Event),
    ) -> Result<Vec<Vec<f32>>> {
        let longest = self.check(prefixes, passages)?;
        let mut space = self.space();
        let limit = self.batch_tokens(&space, longest)?;
        let ready = space.turns.take().filter(|ready| ready.positions >= longest);
        let Turns { table, .. } = space.turns.insert(ready.map_or_else(|| self.turns(longest), Ok)?);
        let table = table.clone();
        let (batches, workspace) = self.room(&mut space.workspace, prefixes, passages, limit, &mut listen)?;

        let began = Instant::now();
        let total = batches.iter().map(|batch| batch.ids.len() as u64).sum();
        listen(Event::Began { stage: STAGE, total, unit: "tokens" });
        let mut losses = vec![Vec::new(); passages.len()];
        let mut settle = |batch: &Batch, download: Download<f32>| -> Result<()> {
            let mut found = download.wait()?.into_iter();
            for index in &batch.passages {
                losses[*index] = found.by_ref().take(passages[*index].losses()).collect();
            }
            Ok(())
        };
        // One batch is on its way back while the next is computed.
        let mut flying: Option<(&Batch, Download<f32>)> = None;
        let mut done = 0;
        for batch in &batches {
            let download = self.forward(&workspace, &table, batch)?;
            if let Some((batch, download)) = flying.replace((batch, download)) {
                settle(batch, download)?;
                done += batch.ids.len() as u64;
                listen(Event::Advanced { stage: STAGE, done });
            }
        }
        if let Some((batch, download)) = flying {
            settle(batch, download)?;
            listen(Event::Advanced { stage: STAGE, done: total });
        }
        listen(Event::Ended { stage: STAGE, seconds: began.elapsed().as_secs_f64() });
        // Where memory is short, other stages need it now.
        space.workspace = Some(workspace).filter(|_| self.device.budget().is_none());
        Ok(losses)
    }

    /// How many tokens [`LanguageModel::losses`] sends through the model, prefixes counted once a batch.
    ///
    /// # Errors
    /// As [`LanguageModel::losses`], but for what the device does.
    pub fn tokens(&self, prefixes: &[&[u32]], passages: &[Passage<'_>]) -> Result<u64> {
        let limit = self.batch_tokens(&self.space(), self.check(prefixes, passages)?)?;
        Ok(plan(prefixes, passages, limit).iter().map(|batch| batch.ids.len() as u64).sum())
    }

    fn space(&self) -> MutexGuard<'_, Space> {
        self.space.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tokens that one batch may hold, so that its largest activation fits a binding and all of it the budget. `longest` are the
    /// positions of the longest passage.
    fn batch_tokens(&self, space: &Space, longest: usize) -> Result<usize> {
        let (limits, config) = (self.device.limits(), &self.config);
        let widest =
            4 * (2 * config.intermediate).max((config.heads + 2 * config.key_value_heads) * config.head) as u64;
        // What weights cost to expand is shared by the tokens of a batch.
        let enough = if self.device.is_cpu() { 2 * limits.batch_tokens } else { limits.batch_tokens };
        let mut most = (limits.binding_bytes / widest).min(enough as u64);
        if let Some(left) = self.device.left() {
            // What is kept may go.
            let known = space.turns.as_ref().map_or(0, |turns| turns.positions);
            let kept = turns_bytes(config, known)
                + space.workspace.as_ref().map_or(0, |kept| kept.tokens as u64 * token_bytes(config));
            let fixed = turns_bytes(config, known.max(longest)) + SLACK;
            let fits = (left + kept).saturating_sub(fixed) / token_bytes(config);
            if fits < longest as u64 {
                let others = (self.device.memory().now).saturating_sub(kept);
                let needed = others + fixed + longest as u64 * token_bytes(config);
                return Err(beyond(
                    &self.device,
                    &format!("the model and its longest passage, {longest} tokens"),
                    needed,
                ));
            }
            most = most.min(fits);
        }
        Ok((most as usize).min(self.halved.load(Ordering::Relaxed)).max(1))
    }

    /// Batches of at most `limit` tokens and a workspace for them, be it the `kept` one; where there is no room for it, smaller ones.
    fn room(
        &self,
        kept: &mut Option<Workspace>,
        prefixes: &[&[u32]],
        passages: &[Passage<'_>],
        mut limit: usize,
        listen: &mut impl FnMut(Event),
    ) -> Result<(Vec<Batch>, Workspace)> {
        loop {
            let batches = plan(prefixes, passages, limit);
            let (largest, of) =
                batches.iter().map(|batch| (batch.size(), batch.passages.len())).max().unwrap_or((0, 0));
            // Where it takes several, they take the same room whatever is in them.
            let tokens = if batches.len() > 1 { largest.max(limit) } else { largest };
            if let Some(kept) = kept.take().filter(|kept| kept.tokens >= tokens) {
                return Ok((batches, kept));
            }
            match self.workspace(tokens) {
                Ok(workspace) => return Ok((batches, workspace)),
                Err(Error::Memory { device, problem, remedy }) => {
                    if of <= 1 && tokens == largest {
                        let problem = format!("the longest passage, {tokens} tokens, does not fit: {problem}");
                        return Err(Error::Memory { device, problem, remedy });
                    }
                    limit = tokens / 2;
                    self.halved.store(limit, Ordering::Relaxed);
                    let message = format!(
                        "device {device}: {problem}; going on with batches of {limit} tokens instead of {tokens}"
                    );
                    listen(Event::Warning { message });
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Refuses what cannot be computed; returns the most positions that are needed.
    fn check(&self, prefixes: &[&[u32]], passages: &[Passage<'_>]) -> Result<usize> {
        let mut longest = 0;
        for (index, passage) in passages.iter().enumerate() {
            let prefix = prefixes.get(passage.prefix).copied().unwrap_or_default();
            let length = prefix.len() + passage.tokens.len();
            longest = longest.max(length);
            let unknown = |ids: &[u32]| ids.iter().copied().find(|id| *id as usize >= self.config.vocabulary);
            let problem = if length > self.config.positions {
                format!("with its prefix it has {length} tokens, the model takes {}", self.config.positions)
            } else if let Some(id) = unknown(prefix).or_else(|| unknown(passage.tokens)) {
                format!("token id {id} is beyond the vocabulary of {}", self.config.vocabulary)
            } else if passage.scored.iter().any(|range| range.end > passage.tokens.len()) {
                "a token is scored that it has not".to_owned()
            } else if prefix.is_empty() && passage.scored.iter().any(|range| range.start == 0 && !range.is_empty()) {
                "its first token is scored, with nothing before it".to_owned()
            } else {
                continue;
            };
            let remedy = "use the model's own tokenizer, and shorter texts".into();
            return Err(Error::Usage { argument: format!("passage {index}"), problem, remedy });
        }
        Ok(longest)
    }

    fn turns(&self, longest: usize) -> Result<Turns> {
        let positions = turned(&self.config, longest);
        let table = self.device.upload(&rotary::turns(positions, self.config.head / 2, self.config.rotary_base))?;
        Ok(Turns { positions, table })
    }

    fn workspace(&self, tokens: usize) -> Result<Workspace> {
        let (device, config) = (&self.device, &self.config);
        let [hidden, normed, projected, mixed, inner, activated] = widths(config);
        Ok(Workspace {
            tokens,
            ids: device.zeros(tokens)?,
            positions: device.zeros(tokens)?,
            tiles: device.zeros(tokens)?,
            scored: device.zeros(tokens)?,
            hidden: device.zeros(tokens * hidden)?,
            normed: device.zeros(tokens * normed)?,
            projected: device.zeros(tokens * projected)?,
            mixed: device.zeros(tokens * mixed)?,
            inner: device.zeros(tokens * inner)?,
            activated: device.zeros(tokens * activated)?,
            partials: device.zeros(tokens * head::splits(config.vocabulary))?,
            losses: device.zeros(tokens)?,
        })
    }

    /// One batch: from token ids to losses, all on the device.
    fn forward(&self, workspace: &Workspace, turns: &Buffer<[f32; 2]>, batch: &Batch) -> Result<Download<f32>> {
        let (device, config) = (&self.device, &self.config);
        let (tokens, width, rows) = (batch.ids.len(), config.hidden, batch.scored.len());
        let (heads, shared_heads) = (config.heads, config.key_value_heads);
        let Workspace { hidden, normed, projected, mixed, inner, activated, partials, losses, .. } = workspace;
        device.write(&workspace.ids, 0, &batch.ids)?;
        device.write(&workspace.positions, 0, &batch.positions)?;
        device.write(&workspace.tiles, 0, &batch.tiles)?;
        device.write(&workspace.scored, 0, &batch.scored)?;
        let (ids, positions) = (workspace.ids.range(0..tokens), workspace.positions.range(0..tokens));
        let (tiles, scored) = (workspace.tiles.range(0..batch.tiles.len()), workspace.scored.range(0..rows));

        for (first, rows, part) in &self.embedding.parts {
            let params = lookup::Params {
                tokens: tokens as u32,
                width: width as u32,
                first: *first as u32,
                rows: *rows as u32,
                format: self.embedding.format as u32,
            };
            let bindings = &[ids, part.all(), hidden.range(0..tokens * width)];
            self.dispatch(&lookup::KERNEL, &[], &params, bindings, lookup::workgroups(tokens, width))?;
        }
        let (mixed_width, pitch) = (heads * config.head, (heads + 2 * shared_heads) * config.head);
        for (index, layer) in self.layers.iter().enumerate() {
            // What the layer before adds is where its heads were mixed, see below.
            self.norm(&layer.attention_norm, (index > 0).then_some(mixed), hidden, normed, tokens)?;
            self.linear(&layer.project, normed, projected, tokens)?;
            let params = rotary::Params {
                tokens: tokens as u32,
                heads: (heads + shared_heads) as u32,
                pairs: config.head as u32 / 2,
                pitch: pitch as u32,
            };
            let bindings = &[positions, turns.all(), projected.range(0..tokens * pitch)];
            let pairs = (heads + shared_heads) * config.head / 2;
            self.dispatch(&rotary::KERNEL, &[], &params, bindings, rotary::workgroups(tokens, pairs))?;
            let params = attention::Params {
                tiles: batch.tiles.len() as u32,
                heads: heads as u32,
                shared_heads: shared_heads as u32,
                causal: 1,
                scale: 1.0 / (config.head as f32).sqrt(),
            };
            let bindings = &[projected.range(0..tokens * pitch), tiles, mixed.range(0..tokens * mixed_width)];
            let workgroups = (batch.tiles.len() * heads) as u64;
            self.dispatch(&attention::KERNEL, &[config.head as u32], &params, bindings, workgroups)?;
            // The projections are used up: their buffer takes what is added to the hidden rows.
            self.linear(&layer.mix, mixed, projected, tokens)?;
            self.norm(&layer.feed_forward_norm, Some(projected), hidden, normed, tokens)?;
            self.linear(&layer.widen, normed, inner, tokens)?;
            let params = swiglu::Params { rows: tokens as u32, width: config.intermediate as u32 };
            let size = tokens * config.intermediate;
            let bindings = &[inner.range(0..2 * size), activated.range(0..size)];
            let workgroups = swiglu::workgroups(tokens, config.intermediate);
            self.dispatch(&swiglu::KERNEL, &[], &params, bindings, workgroups)?;
            // So is what was mixed.
            self.linear(&layer.narrow, activated, mixed, tokens)?;
        }
        self.norm(&self.norm, Some(mixed), hidden, normed, tokens)?;

        let head = self.head.as_ref().unwrap_or(&self.embedding);
        let splits = head::splits(config.vocabulary);
        for (first, words, part) in &head.parts {
            let params = head::Params {
                rows: rows as u32,
                first: *first as u32,
                words: *words as u32,
                depth: width as u32,
                format: head.format as u32,
                splits: splits as u32,
            };
            let bindings = &[normed.range(0..tokens * width), scored, part.all(), partials.range(0..rows * splits)];
            self.dispatch(&head::KERNEL, &[], &params, bindings, head::workgroups(rows, *words))?;
        }
        let params = surprise::Params { rows: rows as u32, splits: splits as u32 };
        let bindings = &[partials.range(0..rows * splits), losses.range(0..rows)];
        self.dispatch(&surprise::KERNEL, &[], &params, bindings, surprise::workgroups(rows))?;
        device.request(losses, 0..rows)
    }

    fn dispatch(
        &self,
        kernel: &'static crate::device::Kernel,
        constants: &[u32],
        params: &impl Pod,
        bindings: &[crate::device::Binding<'_>],
        workgroups: u64,
    ) -> Result<()> {
        self.device.dispatch(kernel, &Call { constants, params: bytes_of(params), bindings, workgroups })
    }

    fn linear(&self, linear: &Linear, x: &Buffer<f32>, out: &Buffer<f32>, rows: usize) -> Result<()> {
        for part in &linear.parts {
            let params = linear::Params {
                rows: rows as u32,
                columns: part.outputs as u32,
                depth: linear.inputs as u32,
                format: part.format as u32,
                pitch: linear.outputs as u32,
                first: part.first as u32,
            };
            let bindings = &[x.range(0..rows * linear.inputs), part.weights.all(), out.range(0..rows * linear.outputs)];
            self.dispatch(&linear::KERNEL, &[], &params, bindings, linear::workgroups(rows, part.outputs))?;
        }
        Ok(())
    }

    fn norm(
        &self,
        gain: &Buffer<f32>,
        x: Option<&Buffer<f32>>,
        hidden: &Buffer<f32>,
        normed: &Buffer<f32>,
        rows: usize,
    ) -> Result<()> {
        let width = self.config.hidden;
        let params = rms_norm::Params {
            rows: rows as u32,
            width: width as u32,
            epsilon: self.config.epsilon,
            add: u32::from(x.is_some()),
        };
        let size = rows * width;
        // Where nothing is added, something else that is only read fills the place.
        let x = x.map_or(gain.all(), |x| x.range(0..size));
        let bindings = &[x, gain.all(), hidden.range(0..size), normed.range(0..size)];
        self.dispatch(&rms_norm::KERNEL, &[], &params, bindings, rows as u64)
    }
}

impl Table {
    fn upload(device: &Device, matrix: &PackedMatrix, binding_bytes: u64) -> Result<Self> {
        let words = matrix.format.words(matrix.columns);
        // Whole splits of the vocabulary, and no more than a slow device takes a fraction of a second for.
        let splits = (binding_bytes / (4 * words * SPLIT) as u64).clamp(1, if device.is_cpu() { u64::MAX } else { 8 });
        let at_once = usize::try_from(splits).unwrap_or(usize::MAX).saturating_mul(SPLIT).min(matrix.rows);
        let mut parts = Vec::new();
        for (index, rows) in matrix.words.chunks(at_once * words).enumerate() {
            parts.push((index * at_once, rows.len() / words, device.upload(rows)?));
        }
        Ok(Self { format: matrix.format, parts })
    }
}

impl Linear {
    fn upload(device: &Device, matrices: &[&PackedMatrix], binding_bytes: u64) -> Result<Self> {
        let inputs = matrices.first().map_or(0, |matrix| matrix.columns);
        let mut outputs = 0;
        let mut parts: Vec<(Format, usize, Vec<u32>)> = Vec::new();
        for matrix in matrices {
            let words = matrix.format.words(inputs);
            let at_once = (binding_bytes / (4 * words) as u64).clamp(1, matrix.rows as u64) as usize;
            for rows in matrix.words.chunks(at_once * words) {
                match parts.last_mut() {
                    // What is packed alike goes in one call, as long as it fits.
                    Some((format, _, all))
                        if *format == matrix.format && 4 * (all.len() + rows.len()) as u64 <= binding_bytes =>
                    {
                        all.extend_from_slice(rows);
                    }
                    _ => parts.push((matrix.format, outputs, rows.to_vec())),
                }
                outputs += rows.len() / words;
            }
        }
        let parts = parts.into_iter().map(|(format, first, words)| {
            let outputs = words.len() / format.words(inputs);
            Ok(Part { format, first, outputs, weights: device.upload(&words)? })
        });
        Ok(Self { inputs, outputs, parts: parts.collect::<Result<_>>()? })
    }
}

/// Numbers that a token takes in each of the workspace's activations, in their order.
fn widths(config: &LlamaConfig) -> [usize; 6] {
    let mixed = config.heads * config.head;
    let projected = mixed + 2 * config.key_value_heads * config.head;
    // The third and the fourth take hidden rows too.
    let (projected, mixed) = (projected.max(config.hidden), mixed.max(config.hidden));
    [config.hidden, config.hidden, projected, mixed, 2 * config.intermediate, config.intermediate]
}

/// Bytes that a token takes in a batch, with what is copied to the host of this batch and of the one before.
fn token_bytes(config: &LlamaConfig) -> u64 {
    let numbers = widths(config).iter().sum::<usize>() + 3;
    let inputs = 2 * size_of::<u32>() + size_of::<Tile>() + size_of::<Scored>();
    (4 * numbers + inputs + head::splits(config.vocabulary) * size_of::<head::Partial>()) as u64
}

/// Positions whose turns are kept for so many.
fn turned(config: &LlamaConfig, longest: usize) -> usize {
    if longest == 0 { 0 } else { longest.next_power_of_two().min(config.positions) }
}

/// Bytes of those.
fn turns_bytes(config: &LlamaConfig, longest: usize) -> u64 {
    (turned(config, longest) * (config.head / 2) * size_of::<[f32; 2]>()) as u64
}

/// The budget is too small for `what`, for which all in all `needed` bytes would do.
fn beyond(device: &Device, what: &str, needed: u64) -> Error {
    let budget = ByteSize(device.budget().unwrap_or(u64::MAX));
    Error::Memory {
        device: device.name(),
        problem: format!("the memory budget of {budget} does not hold {what}, for which it takes {}", ByteSize(needed)),
        remedy: format!("allow --memory-budget {}MiB or more", needed.div_ceil(1 << 20)),
    }
}

/// Batches of at most `budget` tokens, or of a single passage: passages that share a prefix together, in their order.
fn plan(prefixes: &[&[u32]], passages: &[Passage<'_>], budget: usize) -> Vec<Batch> {
    let mut order: Vec<usize> = (0..passages.len()).filter(|index| passages[*index].losses() > 0).collect();
    order.sort_by_key(|index| passages[*index].prefix);
    let mut batches: Vec<Batch> = Vec::new();
    // Where the prefix of the last passage stands in the last batch.
    let mut placed: Option<(usize, u32)> = None;
    for index in order {
        let passage = &passages[index];
        let prefix = prefixes.get(passage.prefix).copied().unwrap_or_default();
        let shared = placed.is_some_and(|(which, _)| which == passage.prefix);
        let needed = passage.tokens.len() + if shared { 0 } else { prefix.len() };
        let full = |batch: &Batch| (batch.ids.len() + needed).max(batch.scored.len() + passage.losses()) > budget;
        if batches.last().is_none_or(full) {
            batches.push(Batch::default());
            placed = None;
        }
        let Some(batch) = batches.last_mut() else { continue };
        let at = match placed {
            Some((which, at)) if which == passage.prefix => at,
            _ => batch.place(prefix, 0, 0),
        };
        placed = Some((passage.prefix, at));
        let start = batch.place(passage.tokens, at, prefix.len() as u32);
        for token in passage.scored.iter().cloned().flatten() {
            // A token is foretold by the one before it.
            let row = if token > 0 { start + token as u32 - 1 } else { at + prefix.len() as u32 - 1 };
            batch.scored.push(Scored { row, target: passage.tokens[token] });
        }
        batch.passages.push(index);
    }
    batches
}

impl Batch {
    /// The tokens that its workspace is for. Whoever asks twice for a loss may score more than there are.
    fn size(&self) -> usize {
        self.ids.len().max(self.scored.len())
    }

    /// Adds tokens that continue what stands at `prefix_start`; returns where they stand.
    fn place(&mut self, tokens: &[u32], prefix_start: u32, prefix_length: u32) -> u32 {
        let (start, length) = (self.ids.len() as u32, tokens.len() as u32);
        self.ids.extend_from_slice(tokens);
        self.positions.extend(prefix_length..prefix_length + length);
        let tiles = attention::tiles(&[start, start + length]);
        self.tiles.extend(tiles.into_iter().map(|tile| Tile { prefix_start, prefix_length, ..tile }));
        start
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::device::adapters;

    /// Losses of `passages` after one prefix, with the warnings, on the device of `make`, which is told what the model's weights take.
    fn run(make: impl Fn(u64) -> Device, passages: &[Passage<'_>]) -> (Result<Vec<Vec<f32>>>, Vec<String>) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/models/gguf-q4_1");
        let model = LlamaModel::open(&path).expect("a model");
        let probe = Device::cpu();
        let weights = LanguageModel::new(&probe, &model).map(|_loaded| probe.memory().now).expect("the CPU has room");
        let model = LanguageModel::new(&make(weights), &model).expect("there is room for the weights");
        let (mut warnings, mut total) = (Vec::new(), 0);
        let found = model.losses(&[&[5, 6, 7]], passages, |event| match event {
            Event::Warning { message } => warnings.push(message),
            Event::Began { total: all, .. } => total = all,
            Event::Advanced { done, .. } => assert!(done <= total, "no more than {total}, which it began with"),
            _ => {}
        });
        if found.is_ok() {
            let again = model.losses(&[&[5, 6, 7]], passages, |event| {
                assert!(!matches!(event, Event::Warning { .. }), "what was too large is not tried again");
            });
            assert!(found.as_ref().ok() == again.as_ref().ok(), "the same a second time");
        }
        (found, warnings)
    }

    #[test]
    fn out_of_memory_halves_the_batch_and_says_so() {
        let tokens: Vec<u32> = (0..60).map(|at| (at * 37) % 289).collect();
        let every = |length: usize| Passage { prefix: 0, tokens: &tokens[..length], scored: vec![0..length; 1] };
        let passages: Vec<Passage<'_>> = (20..=60).step_by(4).map(every).collect();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/models/gguf-q4_1");
        let config = LlamaModel::open(&path).expect("a model").config;
        let rooms = |tokens: u64| tokens * token_bytes(&config) + turns_bytes(&config, 63) + 4096;
        let all =
            std::iter::once(Device::cpu()).chain(adapters().into_iter().filter_map(|adapter| adapter.open().ok()));
        for device in all {
            let name = device.name();
            let (right, warnings) = run(|_| device.clone(), &passages);
            let right = right.expect("there is memory enough");
            assert!(warnings.is_empty(), "{name}: {warnings:?}");
            for tokens in [300, 70] {
                let (found, warnings) = run(|weights| device.with_room(weights + rooms(tokens)), &passages);
                assert!(found.expect("smaller batches fit") == right, "{name}: other bits with {tokens} tokens");
                let last = warnings.last().expect("it is told");
                assert!(last.contains(&name) && last.contains("no room for") && last.contains("instead of"), "{last}");
            }
            let (found, _) = run(|weights| device.with_room(weights + rooms(20)), &passages);
            let error = found.expect_err("the longest passage does not fit").to_string();
            assert!(error.contains("the longest passage, 63 tokens, does not fit"), "{name}: {error}");
        }
    }
}
