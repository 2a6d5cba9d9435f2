//! Text to embeddings: tokenizer and encoder of one model.

use std::path::{Path, PathBuf};

use crate::config::EncoderConfig;
use crate::device::Device;
use crate::models;
use crate::nn::exact::{IntegerModel, model};
use crate::nn::{Embeddings, Precision, Rows};
use crate::progress::Listener;
use crate::stages::encode::{Encoder, ExactEncoder};
use crate::stages::tokens::{Tokenizer, Tokens};
use crate::{Error, Result};

/// A model folder's tokenizer.
pub(super) const TOKENIZER: &str = "tokenizer.json";

/// A model's tokenizer, and its encoder on a device.
#[derive(Debug)]
pub struct Embedder {
    tokenizer: Tokenizer,
    encoder: Either,
    digest: String,
    tokenizer_digest: String,
}

/// The encoder in either precision.
#[derive(Debug)]
enum Either {
    Exact(Box<ExactEncoder>),
    F32(Box<Encoder>),
}

impl Embedder {
    /// Loads the model in `folder` onto `device`, in the precision and with the limit of tokens that `config` says. Which folder
    /// `config` means is for [`Store::resolve`](models::Store::resolve) to say. What is not there in integers yet is converted,
    /// which `listen` is told.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Tensor`] naming the file and what does not fit, be it that the model is not the one that
    /// `config` pins ([`EncoderConfig::pin`]) or has no form in integers; [`Error::Device`] if the device has no room.
    pub fn load(device: &Device, folder: &Path, config: &EncoderConfig, listen: Listener<'_>) -> Result<Self> {
        let (encoder, file, digest) = match config.precision {
            Precision::Exact => {
                let integers = IntegerModel::of_folder(folder, listen)?;
                let encoder = ExactEncoder::load(device, &integers, folder, config.max_tokens)?;
                let digest = encoder.digest().to_owned();
                (Either::Exact(Box::new(encoder)), folder.join(model::FILE), digest)
            }
            Precision::F32 => {
                let encoder = Encoder::load(device, folder, config.max_tokens)?;
                let file = folder.join("model.safetensors");
                let digest = models::digest(&file).map_err(|error| Error::io(&file, error))?;
                (Either::F32(Box::new(encoder)), file, digest)
            }
        };
        check_pin(config, file, &digest)?;
        let (max_tokens, vocabulary) = match &encoder {
            Either::Exact(encoder) => (encoder.max_tokens(), encoder.vocabulary()),
            Either::F32(encoder) => (encoder.max_tokens(), encoder.vocabulary()),
        };
        let file = folder.join(TOKENIZER);
        let tokenizer_digest = models::digest(&file).map_err(|error| Error::io(&file, error))?;
        Ok(Self { tokenizer: tokenizer(&file, max_tokens, vocabulary)?, encoder, digest, tokenizer_digest })
    }

    /// In which arithmetic it embeds.
    pub fn precision(&self) -> Precision {
        match self.encoder {
            Either::Exact(_) => Precision::Exact,
            Either::F32(_) => Precision::F32,
        }
    }

    /// The SHA-256 of what the encoder is made of, in hexadecimal: of the integer model, or of `model.safetensors`. As `sha256`
    /// in [`EncoderConfig`] it makes criteria say which weights they mean.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The SHA-256 of `tokenizer.json`, in hexadecimal.
    pub fn tokenizer_digest(&self) -> &str {
        &self.tokenizer_digest
    }

    /// Numbers in an embedding.
    pub fn width(&self) -> usize {
        match &self.encoder {
            Either::Exact(encoder) => encoder.width(),
            Either::F32(encoder) => encoder.width(),
        }
    }

    /// The most tokens of a text, special tokens included.
    pub fn max_tokens(&self) -> usize {
        match &self.encoder {
            Either::Exact(encoder) => encoder.max_tokens(),
            Either::F32(encoder) => encoder.max_tokens(),
        }
    }

    /// The device that the weights are on.
    pub fn device(&self) -> &Device {
        match &self.encoder {
            Either::Exact(encoder) => encoder.device(),
            Either::F32(encoder) => encoder.device(),
        }
    }

    /// Texts to give to [`Embedder::embed`] at a time: enough to fill the device's batches, little enough that memory stays flat
    /// and progress is seen, however long the round is.
    pub fn chunk(&self) -> usize {
        if self.device().is_cpu() { 256 } else { 2048 }
    }

    /// Tokenises and embeds `texts`: one token list and one unit row each, in order.
    ///
    /// # Errors
    /// [`Error::Device`] if the device fails.
    pub fn embed<T: AsRef<str> + Sync>(&self, texts: &[T]) -> Result<(Vec<Tokens>, Embeddings)> {
        let tokens = self.tokenizer.encode_all(texts)?;
        let sequences: Vec<&[u32]> = tokens.iter().map(|text| text.ids.as_slice()).collect();
        let rows = match &self.encoder {
            Either::Exact(encoder) => Rows::Exact(encoder.encode(&sequences)?),
            Either::F32(encoder) => Rows::F32(encoder.encode(&sequences)?),
        };
        Ok((tokens, Embeddings { width: self.width(), rows }))
    }
}

/// Refuses a model with another digest than `config` pins.
fn check_pin(config: &EncoderConfig, file: PathBuf, found: &str) -> Result<()> {
    let Some(pin) = config.pin().filter(|pin| !pin.eq_ignore_ascii_case(found)) else { return Ok(()) };
    let remedy = match config.precision {
        Precision::Exact => {
            "name the model that the criteria mean, or leave `sha256` out of [encoder]; a damaged model.xq1 is made \
                             again once it is removed"
        }
        Precision::F32 => "name the model that the criteria mean, or leave `sha256` out of [encoder]",
    };
    Err(Error::File {
        file: file.display().to_string(),
        field: "sha256".into(),
        problem: format!("it is {found}, and the criteria, in precision {}, mean {pin}", config.precision),
        remedy: remedy.into(),
    })
}

/// The tokenizer in a file, for a model with so many words.
fn tokenizer(file: &Path, max_tokens: usize, vocabulary: usize) -> Result<Tokenizer> {
    let tokenizer = Tokenizer::open(file, max_tokens as u32)?;
    check_ids(file, tokenizer.id_bound(), vocabulary)?;
    Ok(tokenizer)
}

/// Refuses the tokenizer in `file`, all of whose ids are below `bound`, for a model with fewer words.
pub(super) fn check_ids(file: &Path, bound: u32, vocabulary: usize) -> Result<()> {
    if bound as usize <= vocabulary {
        return Ok(());
    }
    Err(Error::File {
        file: file.display().to_string(),
        field: "vocab".into(),
        problem: format!("the tokenizer has ids up to {}, the model knows {vocabulary}", bound - 1),
        remedy: "tokenizer and weights must be of the same model".into(),
    })
}
