//! The integer model: what the encoder in integers computes with.

/// An encoder in integers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IntegerModel {
    /// Numbers in a token's row.
    pub hidden: usize,
    /// Attention heads.
    pub heads: usize,
    /// `[vocabulary][hidden]`, Q14.
    pub word: Vec<i16>,
    /// `[positions][hidden]`, Q14, the row of token type 0 added.
    pub position: Vec<i16>,
    /// The norm of the embeddings' sum.
    pub embedding_norm: IntegerNorm,
    /// The layers, from the first.
    pub layers: Vec<IntegerLayer>,
    /// 514 entries: what GELU lacks to `max(u, 0)` at every 64th, Q15.
    pub gelu: Vec<i32>,
}

/// A LayerNorm in integers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IntegerNorm {
    /// `[hidden]`, Q16, times the square root of `hidden`.
    pub gain: Vec<i32>,
    /// `[hidden]`, Q15.
    pub bias: Vec<i32>,
}

/// A transformer layer in integers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IntegerLayer {
    /// Makes queries, scaled so that query times key is the logarithm to base 2 of a weight.
    pub query: IntegerLinear,
    /// Makes keys.
    pub key: IntegerLinear,
    /// Makes values.
    pub value: IntegerLinear,
    /// Follows attention.
    pub attention_output: IntegerLinear,
    /// Widens; GELU follows.
    pub intermediate: IntegerLinear,
    /// Narrows.
    pub output: IntegerLinear,
    /// After attention.
    pub attention_norm: IntegerNorm,
    /// After the feed-forward part.
    pub output_norm: IntegerNorm,
}

/// A linear layer in integers: the weight of input `k` on output `c` is `weights[c][k] * steps[c] / 2^shift`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IntegerLinear {
    /// Rows of `weights`.
    pub outputs: usize,
    /// Columns of `weights`.
    pub inputs: usize,
    /// The power of two that steps are divided by.
    pub shift: u32,
    /// `[outputs]`.
    pub steps: Vec<u32>,
    /// `[outputs]`, Q15.
    pub bias: Vec<i32>,
    /// `[outputs][inputs]`, from -127 to 127.
    pub weights: Vec<i8>,
}
