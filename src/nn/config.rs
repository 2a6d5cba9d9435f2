//! What a model's folder says of itself: `config.json` and its neighbours, read here for every encoder;
//! how such a file is read, for every model.
//!
//! Here is checked what holds for any encoder of the BERT family. What one arithmetic cannot take is refused by its own encoder,
//! through [`ModelConfig::refuse`].

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::math::Activation;
use super::pool::Pooling;
use crate::{Error, Result};

/// The model's sizes and choices.
pub(crate) const CONFIG: &str = "config.json";

/// How tokens become one row; the mean where it is missing.
pub(crate) const POOLING: &str = "1_Pooling/config.json";

/// Where texts are cut; at the number of positions where it is missing.
const SENTENCE: &str = "sentence_bert_config.json";

/// The fewest tokens of a text: the special ones.
const SHORTEST: usize = 2;

/// An encoder of the BERT family, as its folder describes it.
#[derive(Debug)]
pub(crate) struct ModelConfig {
    folder: PathBuf,
    /// Known token ids.
    pub vocabulary: usize,
    /// Rows of the position table.
    pub positions: usize,
    /// Rows of the table of token types.
    pub token_types: usize,
    /// Numbers in a hidden row, and in an embedding.
    pub hidden: usize,
    /// Attention heads. Whether they divide a row into parts that can be computed is the encoder's to check.
    pub heads: usize,
    /// Numbers in a row under the activation.
    pub intermediate: usize,
    /// Layers.
    pub layers: usize,
    /// What a norm adds to the variance, 0 to 1.
    pub epsilon: f64,
    /// What follows the first feed-forward matrix.
    pub activation: Activation,
    /// How a text's tokens become one row.
    pub pooling: Pooling,
}

/// What of `config.json` matters here.
#[derive(Deserialize)]
struct Fields {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    type_vocab_size: Option<usize>,
    layer_norm_eps: Option<f64>,
    hidden_act: Option<String>,
    position_embedding_type: Option<String>,
}

/// What `1_Pooling/config.json` says, if it is there.
#[derive(Default, Deserialize)]
#[serde(default)]
struct PoolingFields {
    pooling_mode_cls_token: bool,
    pooling_mode_mean_tokens: bool,
    pooling_mode_max_tokens: bool,
    pooling_mode_mean_sqrt_len_tokens: bool,
    pooling_mode_weightedmean_tokens: bool,
    pooling_mode_lasttoken: bool,
}

/// What `sentence_bert_config.json` says, if it is there.
#[derive(Deserialize)]
struct SentenceFields {
    max_seq_length: Option<usize>,
}

impl ModelConfig {
    /// Reads and checks `config.json` and, where present, `1_Pooling/config.json` in `folder`.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::File`], naming the file and the field.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(CONFIG);
        let fields: Fields = read_json(&path)?.ok_or_else(|| Error::io(path, std::io::ErrorKind::NotFound.into()))?;
        let refuse = |field: &str, problem: String| {
            refuse(folder, CONFIG, field, problem, "tauscore encodes with BERT-family models: name the folder of one")
        };
        let positions = fields.position_embedding_type.as_deref().unwrap_or("absolute");
        for (field, found, right) in
            [("model_type", fields.model_type.as_str(), "bert"), ("position_embedding_type", positions, "absolute")]
        {
            if found != right {
                return Err(refuse(field, format!("{found:?} is not supported, {right:?} is")));
            }
        }
        let token_types = fields.type_vocab_size.unwrap_or(2);
        // Far above every published model and far below what overflows.
        let sizes = [
            ("vocab_size", fields.vocab_size, 1, 1 << 24),
            ("hidden_size", fields.hidden_size, 1, 1 << 16),
            ("num_hidden_layers", fields.num_hidden_layers, 1, 1 << 10),
            ("num_attention_heads", fields.num_attention_heads, 1, 1 << 10),
            ("intermediate_size", fields.intermediate_size, 1, 1 << 18),
            ("max_position_embeddings", fields.max_position_embeddings, SHORTEST, 1 << 20),
            ("type_vocab_size", token_types, 1, 1 << 10),
        ];
        for (field, value, least, largest) in sizes {
            if !(least..=largest).contains(&value) {
                return Err(refuse(field, format!("{value} is not between {least} and {largest}")));
            }
        }
        let epsilon = fields.layer_norm_eps.unwrap_or(1e-12);
        if !(0.0..=1.0).contains(&epsilon) {
            return Err(refuse("layer_norm_eps", format!("{epsilon} is not between 0 and 1")));
        }
        let activation = match fields.hidden_act.as_deref().unwrap_or("gelu") {
            "gelu" => Activation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" => Activation::GeluTanh,
            "relu" => Activation::Relu,
            other => {
                return Err(refuse("hidden_act", format!("{other:?} is not supported; gelu, gelu_new and relu are")));
            }
        };
        Ok(Self {
            folder: folder.to_owned(),
            vocabulary: fields.vocab_size,
            positions: fields.max_position_embeddings,
            token_types,
            hidden: fields.hidden_size,
            heads: fields.num_attention_heads,
            intermediate: fields.intermediate_size,
            layers: fields.num_hidden_layers,
            epsilon,
            activation,
            pooling: pooling(folder)?,
        })
    }

    /// The error for a `field` of the folder's `file` that an encoder cannot take.
    pub(crate) fn refuse(&self, file: &str, field: &str, problem: String, remedy: &str) -> Error {
        refuse(&self.folder, file, field, problem, remedy)
    }

    /// The length limit in tokens: what the caller asks for, else `sentence_bert_config.json`, else the number of positions.
    ///
    /// # Errors
    /// [`Error::Usage`] if more or less is asked for than the model takes; [`Error::Io`] or [`Error::File`] about the file.
    pub(crate) fn max_tokens(&self, asked: Option<usize>) -> Result<usize> {
        let positions = self.positions;
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
        let said = read_json::<SentenceFields>(&self.folder.join(SENTENCE))?;
        let said = said.and_then(|fields| fields.max_seq_length).unwrap_or(positions);
        if said < SHORTEST {
            let problem = format!("{said} is too few: the special tokens alone are {SHORTEST}");
            let remedy = "leave it out to use the model's positions, or override it with --max-tokens";
            return Err(self.refuse(SENTENCE, "max_seq_length", problem, remedy));
        }
        Ok(said.min(positions))
    }
}

/// The error for a `field` of the folder's `file`.
pub(crate) fn refuse(folder: &Path, file: &str, field: &str, problem: String, remedy: &str) -> Error {
    Error::File { file: folder.join(file).display().to_string(), field: field.into(), problem, remedy: remedy.into() }
}

/// The pooling that the folder names; the mean if it names none.
fn pooling(folder: &Path) -> Result<Pooling> {
    let Some(fields) = read_json::<PoolingFields>(&folder.join(POOLING))? else { return Ok(Pooling::Mean) };
    let others = fields.pooling_mode_max_tokens
        || fields.pooling_mode_mean_sqrt_len_tokens
        || fields.pooling_mode_weightedmean_tokens
        || fields.pooling_mode_lasttoken;
    match (fields.pooling_mode_cls_token, fields.pooling_mode_mean_tokens, others) {
        (true, false, false) => Ok(Pooling::Cls),
        (false, true, false) => Ok(Pooling::Mean),
        _ => {
            let problem = "it names no pooling, several, or one that is not supported".into();
            let remedy = "mean and CLS pooling are supported: name the folder of such a model";
            Err(refuse(folder, POOLING, "pooling_mode", problem, remedy))
        }
    }
}

/// The JSON in `path`, or `None` if there is no such file.
pub(crate) fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>> {
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
