//! Text to embeddings: tokenizer and encoder of one model.

use std::path::Path;

use crate::device::Device;
use crate::nn::{Embeddings, Rows};
use crate::stages::encode::{Encoder, ExactEncoder};
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
        let tokenizer = tokenizer(folder, encoder.max_tokens(), encoder.vocabulary())?;
        Ok(Self { tokenizer, encoder })
    }

    /// The encoder.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// Texts to give to [`Embedder::embed`] at a time: enough to fill the device's batches, little enough that memory stays flat
    /// and progress is seen, however long the round is.
    pub fn chunk(&self) -> usize {
        chunk(self.encoder.device())
    }

    /// Tokenises and embeds `texts`: one token list and one unit row each, in order.
    ///
    /// # Errors
    /// [`Error::Device`] if the device fails.
    pub fn embed<T: AsRef<str> + Sync>(&self, texts: &[T]) -> Result<(Vec<Tokens>, Embeddings)> {
        let tokens = self.tokenizer.encode_all(texts)?;
        let sequences: Vec<&[u32]> = tokens.iter().map(|text| text.ids.as_slice()).collect();
        let rows = Rows::F32(self.encoder.encode(&sequences)?);
        Ok((tokens, Embeddings { width: self.encoder.width(), rows }))
    }
}

/// A model's tokenizer, and its encoder in integers on a device.
#[derive(Debug)]
pub struct ExactEmbedder {
    tokenizer: Tokenizer,
    encoder: ExactEncoder,
}

impl ExactEmbedder {
    /// Loads the model in `folder` onto `device`, converting it to integers where that has not been done. `max_tokens` overrides the
    /// model's own limit.
    ///
    /// # Errors
    /// As [`Embedder::load`]; [`Error::File`] if the model is not one for integers, with the reason.
    pub fn load(device: &Device, folder: &Path, max_tokens: Option<usize>) -> Result<Self> {
        let encoder = ExactEncoder::load(device, folder, max_tokens)?;
        let tokenizer = tokenizer(folder, encoder.max_tokens(), encoder.vocabulary())?;
        Ok(Self { tokenizer, encoder })
    }

    /// The encoder.
    pub fn encoder(&self) -> &ExactEncoder {
        &self.encoder
    }

    /// As [`Embedder::chunk`].
    pub fn chunk(&self) -> usize {
        chunk(self.encoder.device())
    }

    /// Tokenises and embeds `texts`: one token list and [`ExactEncoder::width`] integers each, Q15 and of unit length, in order.
    ///
    /// # Errors
    /// [`Error::Device`] if the device fails.
    pub fn embed<T: AsRef<str> + Sync>(&self, texts: &[T]) -> Result<(Vec<Tokens>, Vec<i16>)> {
        let tokens = self.tokenizer.encode_all(texts)?;
        let sequences: Vec<&[u32]> = tokens.iter().map(|text| text.ids.as_slice()).collect();
        let embeddings = self.encoder.encode(&sequences)?;
        Ok((tokens, embeddings))
    }
}

/// Texts to embed at a time.
fn chunk(device: &Device) -> usize {
    if device.is_cpu() { 256 } else { 2048 }
}

/// The tokenizer in `folder`, for a model with so many words.
fn tokenizer(folder: &Path, max_tokens: usize, vocabulary: usize) -> Result<Tokenizer> {
    let path = folder.join("tokenizer.json");
    let tokenizer = Tokenizer::open(&path, max_tokens as u32)?;
    if tokenizer.id_bound() as usize > vocabulary {
        return Err(Error::File {
            file: path.display().to_string(),
            field: "vocab".into(),
            problem: format!("it has ids up to {}, the model knows {vocabulary}", tokenizer.id_bound() - 1),
            remedy: "tokenizer.json and model.safetensors must be of the same model".into(),
        });
    }
    Ok(tokenizer)
}
