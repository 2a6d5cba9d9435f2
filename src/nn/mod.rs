//! Transformer layers shared by the encoder and the causal reference model: one file a kernel, twin and host side.

pub mod attention;
mod batch;
pub(crate) mod config;
pub mod embed;
mod embeddings;
pub mod exact;
mod floats;
pub(crate) mod gemm;
pub(crate) mod gguf;
pub mod head;
pub mod linear;
pub mod llama;
pub mod lookup;
pub mod math;
pub mod matmul;
pub mod norm;
pub mod normalize;
pub mod packed;
pub mod pool;
pub mod products;
pub mod rms_norm;
pub mod rotary;
pub mod surprise;
pub mod swiglu;
pub(crate) mod weights;

pub use batch::{TokenBatch, plan};
pub use embeddings::{Embeddings, Precision, Rows};
