//! The evaluation criteria: one TOML file, public, versioned and hashed. Each stage owns its section.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::stages::novelty;
use crate::stages::score::ScoreConfig;
use crate::{Error, Result};

/// The version of the file's schema that this build reads.
const SCHEMA: u32 = 1;

/// The criteria. Every key has a default; an unknown key is an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Version of this schema: 1.
    pub schema_version: u32,
    /// `[encoder]`.
    pub encoder: EncoderConfig,
    /// `[novelty]`.
    pub novelty: NoveltyConfig,
    /// `[loss]`.
    pub loss: LossConfig,
    /// `[score]`.
    pub score: ScoreConfig,
}

/// `[encoder]` of the criteria.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EncoderConfig {
    /// A known model's name, or a folder with `config.json`, `tokenizer.json` and `model.safetensors`.
    pub model: String,
    /// In which arithmetic it runs.
    pub precision: Precision,
    /// The most tokens of a text; the model's own limit if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<usize>,
}

/// In which arithmetic an encoder runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats: any model; results differ in the last digits between devices.
    #[default]
    F32,
}

/// `[novelty]` of the criteria.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NoveltyConfig {
    /// How many of the most similar earlier responses the mean is over.
    pub nearest: usize,
}

/// `[loss]` of the criteria.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossConfig {
    /// What accuracy is measured by.
    pub kind: LossKind,
}

/// What accuracy is measured by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    /// 1 - cosine of the embeddings of response and reference.
    #[default]
    Embedding,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            schema_version: SCHEMA,
            encoder: EncoderConfig::default(),
            novelty: NoveltyConfig::default(),
            loss: LossConfig::default(),
            score: ScoreConfig::default(),
        }
    }
}

impl Default for EncoderConfig {
    fn default() -> Self {
        Self { model: "all-MiniLM-L6-v2".into(), precision: Precision::default(), max_tokens: None }
    }
}

impl Default for NoveltyConfig {
    fn default() -> Self {
        Self { nearest: 1 }
    }
}

impl Config {
    /// Reads a criteria file.
    ///
    /// # Errors
    /// [`Error::File`] naming file and key.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, error))?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Parses criteria; errors call the text `file`.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn parse(text: &str, file: &str) -> Result<Self> {
        let refuse = |field: String, problem: String, remedy: String| Error::File {
            file: file.to_owned(),
            field,
            problem,
            remedy,
        };
        let config: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            let remedy = "`tauscore config` prints every key with its default".into();
            refuse(format!("line {line}"), error.message().replace('\n', " "), remedy)
        })?;
        if config.schema_version != SCHEMA {
            let problem = format!("{} is not known; this build reads {SCHEMA}", config.schema_version);
            return Err(refuse("schema_version".into(), problem, "use the build that the file was written for".into()));
        }
        match config.check() {
            Err(Error::Usage { argument, problem, remedy }) => Err(refuse(argument, problem, remedy)),
            other => other.map(|()| config),
        }
    }

    /// Checks the ranges of all sections.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key.
    pub fn check(&self) -> Result<()> {
        novelty::check(self.novelty.nearest)?;
        self.score.check()
    }

    /// The criteria as TOML, every key spelt out: what the digest is over.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }

    /// BLAKE3 of [`Config::to_toml`], in hexadecimal.
    pub fn digest(&self) -> String {
        blake3::hash(self.to_toml().as_bytes()).to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_survives_a_round_trip() {
        let config = Config::default();
        let again = Config::parse(&config.to_toml(), "x").expect("it reads what it writes");
        assert_eq!(again, config, "the same criteria");
        assert_eq!(again.digest(), config.digest(), "the same digest");
        assert_eq!(Config::parse("", "x").expect("empty is all defaults"), config, "an empty file is the default");
    }

    #[test]
    fn mistakes_are_named_with_their_line_or_key() {
        for (text, place) in [
            ("schema_version = 2", "schema_version"),
            ("[score]\n\nacuracy_power = 2", "line 3: unknown field `acuracy_power`"),
            ("[novelty]\nnearest = 0", "novelty.nearest"),
            ("[score]\nnovelty_saturation = 2.0", "score.novelty_saturation"),
            ("[encoder]\nprecision = \"f8\"", "f8"),
            ("[score\n", "line 1"),
        ] {
            let error = Config::parse(text, "criteria.toml").expect_err(text).to_string();
            assert!(error.starts_with("criteria.toml: ") && error.contains(place), "{error} names {place}");
            assert!(!error.contains('\n'), "one line: {error}");
        }
    }
}
