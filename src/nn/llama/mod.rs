//! Causal language models of the Llama family: what a checkpoint holds, ready to be brought to a device.

use super::packed::PackedMatrix;

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
