//! The evaluation criteria: one TOML file, public, versioned and hashed. Each stage owns its section.

mod diff;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::data::Match;
use crate::models;
pub use crate::nn::Precision;
use crate::pipeline::judge::{Judgement, Reading};
use crate::stages::loss::Matcher;
use crate::stages::novelty::{self, Against};
use crate::stages::score::ScoreConfig;
use crate::stages::weights::WeightsConfig;
use crate::{Error, Result};
pub use diff::Difference;

/// The version of the file's schema that this build reads.
const SCHEMA: u32 = 1;

/// The most tokens of a response, and of a reference, that a language model judges if nothing is said.
const TOKENS: usize = 96;

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
    /// `[copies]`.
    pub copies: CopiesConfig,
    /// `[loss]`.
    pub loss: LossConfig,
    /// `[score]`.
    pub score: ScoreConfig,
    /// `[weights]`.
    #[serde(skip_serializing_if = "WeightsConfig::is_default")]
    pub weights: WeightsConfig,
}

/// `[encoder]` of the criteria.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EncoderConfig {
    /// A known model's name, or a folder with `config.json`, `tokenizer.json` and `model.safetensors`.
    pub model: String,
    /// In which arithmetic it runs, and texts are compared.
    pub precision: Precision,
    /// What it must be made of: the SHA-256, in hexadecimal, of the integer model's file or, in f32, of `model.safetensors`. If left
    /// out, that of a known model; any other model is taken as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The most tokens of a text; the model's own limit if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<usize>,
}

/// `[novelty]` of the criteria.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NoveltyConfig {
    /// What a response is compared with.
    pub against: Against,
    /// How many of the most similar responses the mean is over or, with [`Against::Batch`], which of them counts.
    pub nearest: usize,
}

/// `[copies]` of the criteria.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CopiesConfig {
    /// Evidence, in bits, from which on a response counts as a copy and loses novelty; from twice as much on it has none left. 0 looks
    /// for no copies.
    pub bits: u32,
}

/// `[loss]` of the criteria.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossConfig {
    /// What accuracy is measured by.
    pub kind: LossKind,
    /// With [`LossKind::Exact`]: how answers are compared. As numbers if left out.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    pub compare: Option<Match>,
    /// With [`Match::Regex`]: what finds the answer in a response and in its reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// With [`LossKind::Logits`] and [`LossKind::Logprobs`]: how many tokens the miners' model knows, which is how many logits a row has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<usize>,
    /// With kinds that a language model judges: a known one's name, a GGUF file, or a folder. [`models::DEFAULT_LANGUAGE_MODEL`] if
    /// left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The SHA-256, in hexadecimal, of that model's file of weights. If left out, that of a known model; any other model is taken as
    /// it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The most tokens of a response that a language model judges: 96 if left out. [`LossKind::Lm`] takes all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_tokens: Option<usize>,
    /// The most tokens of a reference that a language model judges: 96 if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference_tokens: Option<usize>,
    /// With kinds that compare losses: the distance from the median of a prompt's responses, in nats per token, from which on accuracy
    /// is 0 or 1. 0.3 if left out; with [`LossKind::ExplainedSum`] in nats, 28.8 if left out. With [`LossKind::MutualGain`] the sum's is as many
    /// times as large as a response's tokens may be many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
    /// With [`LossKind::Contrast`]: what cosines are divided by. 0.1 if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// With kinds that compare losses: how many robust standard deviations a response's own loss may lie above the median of the
    /// prompt's responses before it is worth nothing. 6 if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate: Option<f64>,
}

/// What accuracy is measured by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    /// How much the response helps a language model to foretell the reference's tokens, against the prompt's other responses.
    ReferenceGain,
    /// The lesser of [`LossKind::ReferenceGain`] and [`LossKind::ExplainedSum`]: response and reference have to explain each other.
    #[default]
    MutualGain,
    /// How much the reference helps it to foretell the response's tokens, against the prompt's other responses.
    Explained,
    /// The same, summed over the response's tokens: longer responses may gain more.
    ExplainedSum,
    /// How much the prompt helps it to foretell the response's tokens, against the prompt's other responses.
    Information,
    /// How well it foretells the response's tokens: fluency, not worth.
    Lm,
    /// 1 - cosine of the embeddings of response and reference.
    Embedding,
    /// How well the response's embedding tells its own reference from the round's other ones (van den Oord et al. 2018, InfoNCE).
    Contrast,
    /// 0 if the response gives the reference's answer, else 1.
    Exact,
    /// The cross-entropy of the logits that came with the response, against the reference's tokens.
    Logits,
    /// The same of the likeliest tokens' log-probabilities.
    Logprobs,
}

impl LossKind {
    /// All of them, by the names that they have in criteria.
    pub const ALL: [(&'static str, Self); 11] = [
        ("reference_gain", Self::ReferenceGain),
        ("mutual_gain", Self::MutualGain),
        ("explained", Self::Explained),
        ("explained_sum", Self::ExplainedSum),
        ("information", Self::Information),
        ("lm", Self::Lm),
        ("embedding", Self::Embedding),
        ("contrast", Self::Contrast),
        ("exact", Self::Exact),
        ("logits", Self::Logits),
        ("logprobs", Self::Logprobs),
    ];

    /// What a language model compares for it; `None` for kinds that need none.
    pub fn judgement(self) -> Option<Judgement> {
        match self {
            Self::ReferenceGain => Some(Judgement::ReferenceGain),
            Self::MutualGain => Some(Judgement::MutualGain),
            Self::Explained | Self::ExplainedSum => Some(Judgement::Explained),
            Self::Information => Some(Judgement::Information),
            Self::Lm => Some(Judgement::Response),
            Self::Embedding | Self::Contrast | Self::Exact | Self::Logits | Self::Logprobs => None,
        }
    }

    /// Whether it compares embeddings.
    pub fn embeds(self) -> bool {
        matches!(self, Self::Embedding | Self::Contrast)
    }

    /// Whether it needs references.
    pub fn needs_reference(self) -> bool {
        self.judgement().is_none_or(Judgement::needs_reference)
    }
}

impl std::str::FromStr for LossKind {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|(known, _)| *known == name);
        known.map(|(_, kind)| kind).ok_or("no kind of loss has this name")
    }
}

impl LossConfig {
    /// What finds answers, with [`LossKind::Exact`].
    ///
    /// # Errors
    /// As [`Matcher::new`].
    pub fn matcher(&self) -> Result<Matcher> {
        Matcher::new(self.compare.unwrap_or_default(), self.pattern.as_deref())
    }

    /// The vocabulary, with a kind that needs it.
    ///
    /// # Errors
    /// [`Error::Usage`] if it is missing or no vocabulary's size.
    pub fn vocabulary(&self) -> Result<usize> {
        let refuse = |problem: String| Error::Usage {
            argument: "loss.vocabulary".into(),
            problem,
            remedy: "give how many logits the miners' model has for a token".into(),
        };
        match self.vocabulary {
            Some(vocabulary) if (1..=1 << 24).contains(&vocabulary) => Ok(vocabulary),
            Some(vocabulary) => Err(refuse(format!("{vocabulary} is not between 1 and 2^24"))),
            None => Err(refuse("it is missing, and this kind of loss needs it".into())),
        }
    }

    /// The language model, with a kind that needs one.
    pub fn model(&self) -> &str {
        self.model.as_deref().unwrap_or(models::DEFAULT_LANGUAGE_MODEL)
    }

    /// What the language model must be made of: what is said, else what is known of it.
    pub fn pin(&self) -> Option<&str> {
        self.sha256.as_deref().or_else(|| models::pinned_language(self.model()))
    }

    /// How the language model reads, with a kind that needs one.
    pub fn reading(&self) -> Option<Reading> {
        Some(Reading {
            judgement: self.kind.judgement()?,
            response_tokens: self.response_tokens.unwrap_or(TOKENS),
            reference_tokens: self.reference_tokens.unwrap_or(TOKENS),
            share: true,
        })
    }

    /// See [`LossConfig::clip`].
    pub fn clip(&self) -> f64 {
        let per_token = 0.3;
        let otherwise = if self.kind == LossKind::ExplainedSum { per_token * TOKENS as f64 } else { per_token };
        self.clip.unwrap_or(otherwise)
    }

    /// See [`LossConfig::temperature`].
    pub fn temperature(&self) -> f64 {
        self.temperature.unwrap_or(0.1)
    }

    /// See [`LossConfig::gate`].
    pub fn gate(&self) -> f64 {
        self.gate.unwrap_or(6.0)
    }

    /// Checks the ranges.
    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |key: &str, problem: String, remedy: &str| {
            Err(Error::Usage { argument: format!("loss.{key}"), problem, remedy: remedy.into() })
        };
        for (key, value) in [("clip", self.clip()), ("gate", self.gate()), ("temperature", self.temperature())] {
            if !(value > 0.0 && value <= 1e6) {
                return refuse(
                    key,
                    format!("{value} is not above 0 and at most 1000000"),
                    "leave it out for the default",
                );
            }
        }
        for (key, value) in [("response_tokens", self.response_tokens), ("reference_tokens", self.reference_tokens)] {
            if value.is_some_and(|value| !(1..=1 << 20).contains(&value)) {
                return refuse(key, "it is not between 1 and 2^20".into(), "leave it out for the default, 96");
            }
        }
        check_digest("loss.sha256", self.sha256.as_deref())?;
        self.matcher()?;
        let needed = matches!(self.kind, LossKind::Logits | LossKind::Logprobs) || self.vocabulary.is_some();
        if needed { self.vocabulary().map(drop) } else { Ok(()) }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            schema_version: SCHEMA,
            encoder: EncoderConfig::default(),
            novelty: NoveltyConfig::default(),
            copies: CopiesConfig::default(),
            loss: LossConfig::default(),
            score: ScoreConfig::default(),
            weights: WeightsConfig::default(),
        }
    }
}

impl Default for EncoderConfig {
    fn default() -> Self {
        Self { model: models::DEFAULT_MODEL.into(), precision: Precision::default(), sha256: None, max_tokens: None }
    }
}

impl EncoderConfig {
    /// What the encoder must be made of: what is said, else what is known of the model.
    pub fn pin(&self) -> Option<&str> {
        self.sha256.as_deref().or_else(|| models::pinned(&self.model, self.precision))
    }
}

fn check_digest(key: &str, said: Option<&str>) -> Result<()> {
    match said {
        Some(said) if said.len() != 64 || !said.bytes().all(|byte| byte.is_ascii_hexdigit()) => Err(Error::Usage {
            argument: key.into(),
            problem: format!("{said:?} is not a SHA-256: 64 hexadecimal digits"),
            remedy: "leave it out: `score` writes the one that it finds into its criteria.toml".into(),
        }),
        _ => Ok(()),
    }
}

impl Default for NoveltyConfig {
    fn default() -> Self {
        Self { against: Against::Earlier, nearest: 1 }
    }
}

impl Default for CopiesConfig {
    fn default() -> Self {
        Self { bits: 14 }
    }
}

impl CopiesConfig {
    fn check(&self) -> Result<()> {
        if self.bits <= 1_000_000 {
            return Ok(());
        }
        Err(Error::Usage {
            argument: "copies.bits".into(),
            problem: format!("{} is above 1000000", self.bits),
            remedy: "14 is the default, 0 looks for no copies".into(),
        })
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
        check_digest("encoder.sha256", self.encoder.sha256.as_deref())?;
        novelty::check(self.novelty.nearest)?;
        self.copies.check()?;
        self.loss.check()?;
        self.score.check()?;
        self.weights.check()
    }

    /// The criteria with what is known of the model filled in, and with what the kind of loss takes if nothing is said.
    pub fn effective(&self) -> Self {
        let mut effective = self.clone();
        if self.loss.kind == LossKind::Exact {
            effective.loss.compare.get_or_insert_default();
        }
        if self.loss.kind == LossKind::Contrast {
            effective.loss.temperature = Some(self.loss.temperature());
        }
        if let Some(reading) = self.loss.reading() {
            let loss = &mut effective.loss;
            loss.model = Some(self.loss.model().to_owned());
            loss.sha256 = self.loss.pin().map(str::to_ascii_lowercase);
            loss.response_tokens = Some(reading.response_tokens);
            loss.reference_tokens = Some(reading.reference_tokens);
            loss.clip = Some(self.loss.clip());
            loss.gate = Some(self.loss.gate());
        }
        effective.encoder.sha256 = self.encoder.pin().map(str::to_ascii_lowercase);
        effective
    }

    /// The criteria in effect as TOML, every key spelt out: what the digest is over.
    pub fn to_toml(&self) -> String {
        toml::to_string(&self.effective()).unwrap_or_default()
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
        assert_eq!(again, config.effective(), "the same criteria");
        assert_eq!(again.digest(), config.digest(), "the same digest");
        assert_eq!(Config::parse("", "x").expect("empty is all defaults"), config, "an empty file is the default");
    }

    #[test]
    fn a_known_model_is_pinned_as_its_precision_needs() {
        let pin = |text: &str| Config::parse(text, "x").expect("legal").encoder.pin().map(str::to_owned);
        let known = |precision| models::pinned(models::DEFAULT_MODEL, precision).map(str::to_owned);
        assert!(known(Precision::Exact).is_some() && known(Precision::Exact) != known(Precision::F32), "two digests");
        assert_eq!(pin(""), known(Precision::Exact), "the default");
        assert_eq!(pin("[encoder]\nprecision = \"f32\""), known(Precision::F32), "in floats");
        assert_eq!(pin("[encoder]\nmodel = \"folder\""), None, "nothing is known of a folder");
        let said = "0123456789abcdef".repeat(4);
        assert_eq!(pin(&format!("[encoder]\nsha256 = \"{said}\"")), Some(said), "what is said counts");
    }

    #[test]
    fn kinds_of_loss_have_the_names_that_criteria_have() {
        for (name, kind) in LossKind::ALL {
            let config = Config::parse(&format!("[loss]\nkind = \"{name}\"\nvocabulary = 9"), "x").expect(name);
            assert_eq!(config.loss.kind, kind, "{name}");
        }
        let exact = Config::parse("[loss]\nkind = \"exact\"", "x").expect("legal");
        assert!(exact.to_toml().contains("match = \"number\""), "what is hashed says how answers are compared");
    }

    #[test]
    fn mistakes_are_named_with_their_line_or_key() {
        for (text, place) in [
            ("schema_version = 2", "schema_version"),
            ("[score]\n\nacuracy_power = 2", "line 3: unknown field `acuracy_power`"),
            ("[novelty]\nnearest = 0", "novelty.nearest"),
            ("[copies]\nbits = 1000001", "copies.bits"),
            ("[score]\nnovelty_saturation = 2.0", "score.novelty_saturation"),
            ("[encoder]\nprecision = \"f8\"", "f8"),
            ("[encoder]\nsha256 = \"8834\"", "encoder.sha256"),
            ("[loss]\nkind = \"exact\"\nmatch = \"regex\"", "loss.pattern"),
            ("[loss]\npattern = \"x\"", "loss.pattern"),
            ("[loss]\nkind = \"logits\"", "loss.vocabulary"),
            ("[loss]\nvocabulary = 0", "loss.vocabulary"),
            ("[loss]\nmatch = \"regex\"\npattern = \"(\"", "loss.pattern"),
            ("[score\n", "line 1"),
            ("[weights]\nstage = []", "unknown field `stage`"),
            (
                "[[weights.stages]]\nkind = \"normalise\"\n\n[[weights.stages]]\nkind = \"softmax\"\nheat = 1",
                "weights.stages[1]: unknown field `heat`",
            ),
            ("[[weights.stages]]\nkind = \"softmax\"\ntemperature = 0", "weights.stages[0].temperature"),
        ] {
            let error = Config::parse(text, "criteria.toml").expect_err(text).to_string();
            assert!(error.starts_with("criteria.toml: ") && error.contains(place), "{error} names {place}");
            assert!(!error.contains('\n'), "one line: {error}");
        }
    }
}
