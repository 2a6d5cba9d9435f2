//! Text to embeddings: tokenizer and encoder of one model.

use std::path::Path;

use crate::device::Device;
use crate::stages::encode::{Embeddings, Encoder};
use crate::stages::tokens::{Tokenizer, Tokens};
use crate::{Error, Result};

/// A model's tokenizer, and its encoder on a device.
#[derive(Debug)]
pub struct Embedder {
    tokenizer: Tokenizer,
    encoder: Encoder,
}

impl Embedder {
    /// Loads the model in `folder` onto `device`. `max_tokens` overrides the model's own limit.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Tensor`] naming the file and what does not fit; [`Error::Device`] if the device has no
    /// room.
    pub fn load(device: &Device, folder: &Path, max_tokens: Option<usize>) -> Result<Self> {
        let encoder = Encoder::load(device, folder, max_tokens)?;
        let tokenizer = Tokenizer::open(&folder.join("tokenizer.json"), encoder.max_tokens() as u32)?;
        if tokenizer.id_bound() as usize > encoder.vocabulary() {
            return Err(Error::File {
                file: folder.join("tokenizer.json").display().to_string(),
                field: "vocab".into(),
                problem: format!(
                    "it has ids up to {}, the model knows {}",
                    tokenizer.id_bound() - 1,
                    encoder.vocabulary()
                ),
                remedy: "tokenizer.json and model.safetensors must be of the same model".into(),
            });
        }
        Ok(Self { tokenizer, encoder })
    }

    /// The encoder.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// Texts to give to [`Embedder::embed`] at a time: enough to fill the device's batches, little enough that memory stays flat
    /// and progress is seen, however long the round is.
    pub fn chunk(&self) -> usize {
        if self.encoder.device().is_cpu() { 256 } else { 2048 }
    }

    /// Tokenises and embeds `texts`: one token list and one unit row each, in order.
    ///
    /// # Errors
    /// [`Error::Device`] if the device fails.
    pub fn embed<T: AsRef<str> + Sync>(&self, texts: &[T]) -> Result<(Vec<Tokens>, Embeddings)> {
        let tokens = self.tokenizer.encode_all(texts)?;
        let sequences: Vec<&[u32]> = tokens.iter().map(|text| text.ids.as_slice()).collect();
        let embeddings = self.encoder.encode(&sequences)?;
        Ok((tokens, embeddings))
    }
}
