//! Text to token ids, and token counts to batches.
//!
//! A model's `tokenizer.json` may carry a truncation and a padding of its own (MiniLM's cuts and pads to 128); both
//! are switched off here. Texts are cut at the limit that the caller gives, the special tokens around them kept, as
//! transformers cuts them, and nothing is ever padded. Causal language models have a [`ChatTokenizer`].

mod chat;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

pub use chat::ChatTokenizer;

use crate::{Error, Result};

/// The largest `tokenizer.json` that is read, in bytes.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// One text's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// The ids, special tokens included, at most the limit's number.
    pub ids: Vec<u32>,
    /// Whether the text was longer than the limit.
    pub truncated: bool,
    /// How many tokens there were before cutting, special tokens included.
    pub total: u32,
}

/// A model's tokenizer with a limit.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    file: String,
    max_tokens: u32,
    id_bound: u32,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Tokenizer")
            .field("file", &self.file)
            .field("max_tokens", &self.max_tokens)
            .field("id_bound", &self.id_bound)
            .finish()
    }
}

impl Tokenizer {
    /// Reads `path`, a `tokenizer.json` or a folder with one. `max_tokens` limits every text, special tokens included.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be read, else as [`Tokenizer::from_bytes`].
    pub fn open(path: &Path, max_tokens: u32) -> Result<Self> {
        let path: PathBuf = if path.is_dir() { path.join("tokenizer.json") } else { path.to_path_buf() };
        let bytes = std::fs::metadata(&path).map_err(|error| Error::io(&path, error))?.len();
        let file = path.display().to_string();
        if bytes > MAX_FILE_BYTES {
            return Err(unfit(&file, "tokenizer", format!("has {bytes} bytes, more than {MAX_FILE_BYTES}")));
        }
        let bytes = std::fs::read(&path).map_err(|error| Error::io(&path, error))?;
        Self::from_bytes(&bytes, &file, max_tokens)
    }

    /// Takes the text of a `tokenizer.json`; errors call it `file`.
    ///
    /// # Errors
    /// [`Error::File`] where it is not a tokenizer or cannot encode, [`Error::Usage`] where `max_tokens` leaves no
    /// room for the special tokens.
    pub fn from_bytes(bytes: &[u8], file: &str, max_tokens: u32) -> Result<Self> {
        check_template(bytes, file)?;
        let mut inner = guarded(file, || tokenizers::Tokenizer::from_bytes(bytes))?;
        guarded(file, || inner.with_truncation(None).map(|_| ()))?;
        inner.with_padding(None);
        let id_bound = inner.get_vocab(true).into_values().max().map_or(0, |largest| largest.saturating_add(1));
        let mut tokenizer = Self { inner, file: file.to_owned(), max_tokens: u32::MAX, id_bound };
        let special = tokenizer.encode("")?.total;
        if max_tokens < special.max(1) {
            return Err(Error::Usage {
                argument: "--max-tokens".to_owned(),
                problem: format!("{max_tokens} is too few: the special tokens alone are {special}"),
                remedy: format!("give at least {}", special + 1),
            });
        }
        tokenizer.max_tokens = max_tokens;
        Ok(tokenizer)
    }

    /// The limit, in tokens, special tokens included.
    pub fn max_tokens(&self) -> u32 {
        self.max_tokens
    }

    /// Every id is smaller than this: what a model's embedding table must have rows for.
    pub fn id_bound(&self) -> u32 {
        self.id_bound
    }

    /// Encodes one text.
    ///
    /// # Errors
    /// [`Error::File`] where the tokenizer has no token for a part of the text, not even an unknown one.
    pub fn encode(&self, text: &str) -> Result<Tokens> {
        let encoding = guarded(&self.file, || self.inner.encode_fast(text, true))?;
        let (ids, special) = (encoding.get_ids(), encoding.get_special_tokens_mask());
        let total = u32::try_from(ids.len())
            .map_err(|_| unfit(&self.file, "text", "has more than 4,294,967,295 tokens".to_owned()))?;
        if total <= self.max_tokens {
            return Ok(Tokens { ids: ids.to_vec(), truncated: false, total });
        }
        // Only the last special tokens are put back after the cut; those in front are in front of it anyway.
        let after = special.iter().rev().take_while(|&&mask| mask == 1).count();
        let kept = (self.max_tokens as usize).saturating_sub(after);
        let mut kept_ids = Vec::with_capacity(kept + after);
        kept_ids.extend_from_slice(ids.get(..kept).unwrap_or_default());
        kept_ids.extend_from_slice(ids.get(ids.len().saturating_sub(after)..).unwrap_or_default());
        Ok(Tokens { ids: kept_ids, truncated: true, total })
    }

    /// Encodes many texts in parallel, in their order.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`], for the first text concerned.
    pub fn encode_all<T: AsRef<str> + Sync>(&self, texts: &[T]) -> Result<Vec<Tokens>> {
        let all: Vec<Result<Tokens>> = texts.par_iter().map(|text| self.encode(text.as_ref())).collect();
        all.into_iter().collect()
    }
}

fn unfit(file: &str, field: &str, problem: String) -> Error {
    Error::File {
        file: file.to_owned(),
        field: field.to_owned(),
        problem,
        remedy: "fetch the model again, or name a folder with another tokenizer.json".to_owned(),
    }
}

/// Runs code of the tokenizers crate on a file that may be hostile: its errors and its panics become errors.
fn guarded<T>(file: &str, call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(unfit(file, "tokenizer", error.to_string())),
        Err(_) => Err(unfit(file, "tokenizer", "its parts contradict each other".to_owned())),
    }
}

/// Refuses templates that name special tokens which they do not define: the tokenizers crate would panic on them.
fn check_template(bytes: &[u8], file: &str) -> Result<()> {
    let json: serde_json::Value = serde_json::from_slice(bytes)
        .map_err(|error| unfit(file, "tokenizer", format!("is not valid JSON: {error}")))?;
    let mut waiting: Vec<&serde_json::Value> = json.get("post_processor").into_iter().collect();
    while let Some(processor) = waiting.pop() {
        if let Some(parts) = processor.get("processors").and_then(serde_json::Value::as_array) {
            waiting.extend(parts);
        }
        let defined = processor.get("special_tokens");
        for template in ["single", "pair"] {
            for piece in processor.get(template).and_then(serde_json::Value::as_array).into_iter().flatten() {
                let name = piece.pointer("/SpecialToken/id").and_then(serde_json::Value::as_str);
                if let Some(name) = name
                    && defined.and_then(|tokens| tokens.get(name)).is_none()
                {
                    return Err(unfit(file, "post_processor", format!("uses {name:?} and does not define it")));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// A small tokenizer with every trap of the real one: truncation and padding of its own, [CLS] and [SEP].
    fn small() -> Value {
        json!({
            "version": "1.0",
            "truncation": {"max_length": 4, "strategy": "LongestFirst", "stride": 0},
            "padding": {"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
                        "pad_type_id": 0, "pad_token": "[PAD]"},
            "added_tokens": [{"id": 2, "special": true, "content": "[SEP]", "single_word": false, "lstrip": false,
                              "rstrip": false, "normalized": false}],
            "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                           "strip_accents": null, "lowercase": true},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                           {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [1], "tokens": ["[CLS]"]},
                                   "[SEP]": {"id": "[SEP]", "ids": [2], "tokens": ["[SEP]"]}}
            },
            "decoder": null,
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                      "max_input_chars_per_word": 100,
                      "vocab": {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3, "a": 4, "b": 5, "##b": 6}}
        })
    }

    fn build(json: &Value, max_tokens: u32) -> Result<Tokenizer> {
        Tokenizer::from_bytes(json.to_string().as_bytes(), "tokenizer.json", max_tokens)
    }

    #[test]
    fn texts_are_cut_at_the_limit_and_never_padded() {
        let tokenizer = build(&small(), 5).expect("a tokenizer");
        assert_eq!((tokenizer.max_tokens(), tokenizer.id_bound()), (5, 7), "limits");
        for (text, ids, total) in [
            ("", vec![1, 2], 2),
            ("a", vec![1, 4, 2], 3),
            ("A b ab", vec![1, 4, 5, 4, 2], 6),
            ("a b c", vec![1, 4, 5, 3, 2], 5),
            ("b b b b b b b b b b", vec![1, 5, 5, 5, 2], 12),
            // A special token in the text itself is not one of those around it.
            ("b b [SEP] [SEP] [SEP]", vec![1, 5, 5, 2, 2], 7),
        ] {
            let tokens = tokenizer.encode(text).expect("encoded");
            assert_eq!(tokens, Tokens { truncated: total > 5, ids, total }, "{text:?}");
        }
        let tight = build(&small(), 2).expect("room for the special tokens");
        assert_eq!(tight.encode("a b").expect("encoded").ids, [1, 2], "nothing but special tokens");
        assert!(matches!(build(&small(), 1), Err(Error::Usage { .. })), "no room");
        let texts: Vec<String> = (0..300).map(|n| "a ".repeat(n % 9)).collect();
        let one_by_one: Vec<Tokens> = texts.iter().map(|text| tokenizer.encode(text).expect("encoded")).collect();
        assert_eq!(tokenizer.encode_all(&texts).expect("encoded"), one_by_one, "in parallel, in order");
    }

    #[test]
    fn a_text_of_many_tokens_is_counted_in_full() {
        let tokenizer = build(&small(), 256).expect("a tokenizer");
        let tokens = tokenizer.encode(&"ab ".repeat(30_000)).expect("encoded");
        assert_eq!((tokens.total, tokens.ids.len(), tokens.truncated), (60_002, 256, true), "the counts");
        assert_eq!(tokens.ids.last(), Some(&2), "the last special token is kept");
    }

    #[test]
    fn what_is_not_a_tokenizer_is_refused() {
        let change = |pointer: &str, value: Value| {
            let mut json = small();
            *json.pointer_mut(pointer).expect("it is there") = value;
            json
        };
        for json in [
            json!({}),
            json!([]),
            change("/model/type", json!("Unheard")),
            change("/model/vocab", json!(7)),
            change("/model/unk_token", json!("nowhere")),
            change("/post_processor/special_tokens", json!({})),
            json!({"post_processor": {"type": "Sequence", "processors": [change("/model", json!(0))["post_processor"]]}}),
        ] {
            let outcome = build(&json, 8).and_then(|tokenizer| tokenizer.encode("x y"));
            assert!(matches!(outcome, Err(Error::File { .. })), "{outcome:?} for {json}");
        }
        let error = build(&change("/post_processor/special_tokens", json!({})), 8).expect_err("undefined");
        assert!(error.to_string().contains("[CLS]"), "the token is named: {error}");
        let gone = Tokenizer::open(Path::new("/nowhere"), 8);
        assert!(matches!(gone, Err(Error::Io { .. })), "{gone:?}");
    }

    proptest! {
        #[test]
        fn no_text_and_no_damaged_file_panics(text in any::<String>(), at in any::<prop::sample::Index>(), byte: u8) {
            let whole = small().to_string().into_bytes();
            let tokenizer = Tokenizer::from_bytes(&whole, "tokenizer.json", 6).expect("a tokenizer");
            let tokens = tokenizer.encode(&text).expect("encoded");
            prop_assert!(tokens.ids.len() <= 6 && tokens.ids.iter().all(|&id| id < tokenizer.id_bound()));
            let mut damaged = whole;
            let at = at.index(damaged.len());
            damaged[at] = byte;
            if let Ok(tokenizer) = Tokenizer::from_bytes(&damaged, "tokenizer.json", 6) {
                let _ = tokenizer.encode(&text);
            }
        }
    }
}
