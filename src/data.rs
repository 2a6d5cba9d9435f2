//! The round: prompts, references and responses, validated once, on construction.
//!
//! A round comes from JSON Lines ([`Round::read`]) or from rows in memory ([`Round::from_rows`]). Whatever holds a
//! [`Round`] may rely on what is checked here: every index fits, every miner and every prompt has a response, no
//! (prompt, miner) pair comes twice, a uid belongs to one hotkey, arrivals of one prompt can be compared, and
//! embeddings are finite, not all zero and of one length.

mod builder;
mod lines;
mod results;
mod row;
#[cfg(test)]
mod tests;
mod text;

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

use self::builder::{Builder, Names};
use self::lines::{Lines, Step};
pub use self::results::{
    Copies, CopyRow, Quality, QualityColumn, ScoreRow, Scores, read_copies, read_quality, read_scores,
};
use self::row::{Fault, Key, Raw};
pub(crate) use self::text::{harmless, read_text};
use crate::{Error, Result};

/// The longest line that is read, in bytes. A longer one is a bad row, so that a file without line ends cannot fill
/// the memory.
pub const MAX_LINE_BYTES: usize = 16 << 20;

/// A miner's slot in the metagraph. It passes from owner to owner: state is keyed by [`Hotkey`], never by this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Uid(pub u16);

impl fmt::Display for Uid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A miner's name: the ss58 address of its hotkey, or any other name that is not empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Hotkey(String);

impl Hotkey {
    /// Takes a name; `None` where it is empty.
    pub fn new(name: impl Into<String>) -> Option<Self> {
        let name = name.into();
        (!name.is_empty()).then_some(Self(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Hotkey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl<'de> Deserialize<'de> for Hotkey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::new(name).ok_or_else(|| serde::de::Error::custom("a hotkey is not empty"))
    }
}

/// How a response's answer is compared with the reference's, where an answer is right or wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Match {
    /// As normalised text.
    Text,
    /// As the last number.
    #[default]
    Number,
    /// As what a pattern finds.
    Regex,
}

/// What one prompt's answers are compared by, whatever the criteria say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// How they are compared.
    pub compare: Match,
    /// What finds them, with [`Match::Regex`] alone.
    pub pattern: Option<String>,
}

/// A task that miners answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Its id, unique in the round.
    pub id: String,
    /// What was asked, where any row says it.
    pub text: Option<String>,
    /// The answer to measure by, where there is one.
    pub reference: Option<String>,
    /// The reference's tokens in the vocabulary of the miners' model, where its row has them. Never empty.
    pub tokens: Option<Vec<u32>>,
    /// What its answers are compared by, where the reference's row says it.
    pub rule: Option<Rule>,
}

/// Someone who answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Miner {
    /// The name that state is kept under.
    pub hotkey: Hotkey,
    /// The slot in the metagraph, where any row says it.
    pub uid: Option<Uid>,
}

/// What one miner answered to one prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// Index into [`Round::prompts`].
    pub prompt: u32,
    /// Index into [`Round::miners`].
    pub miner: u32,
    /// The answer. It may be empty.
    pub text: String,
    /// When it arrived, as a block number. Within one prompt all responses have it or none has.
    pub block: Option<u64>,
    /// An embedding that came with the row, as it came: finite, not all zero, [`Round::embedding_length`] numbers.
    pub embedding: Option<Vec<f32>>,
    /// The file of the logits that came with it: what the row says, from the folder of the row's file.
    pub logits: Option<PathBuf>,
    /// The file of the likeliest tokens' log-probabilities, likewise.
    pub logprobs: Option<PathBuf>,
    /// Index into [`Round::files`].
    pub file: u32,
    /// The line in that file, from 1; for rows in memory the row's number, from 1.
    pub line: usize,
}

/// How to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Collect bad rows and go on, instead of ending at the first one.
    pub skip_bad: bool,
}

/// One row, as [`Round::from_rows`] takes it from memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// The prompt's id; not empty.
    pub prompt_id: String,
    /// What was asked.
    pub prompt: Option<String>,
    /// The miner's hotkey; not empty.
    pub miner: String,
    /// What the miner answered.
    pub response: String,
    /// The prompt's reference.
    pub reference: Option<String>,
    /// The miner's uid.
    pub uid: Option<u16>,
    /// When the response arrived, as a block number.
    pub block: Option<u64>,
    /// The response's embedding; finite and not all zero.
    pub embedding: Option<Vec<f32>>,
    /// The file of its logits: a relative path without `..`, here from the folder that the program runs in.
    pub logits: Option<String>,
    /// The file of its log-probabilities, likewise.
    pub logprobs: Option<String>,
}

/// One reference, as [`Round::from_rows`] takes it from memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReferenceRow {
    /// The prompt's id; not empty.
    pub prompt_id: String,
    /// What was asked.
    pub prompt: Option<String>,
    /// The answer to measure by.
    pub reference: String,
    /// Its tokens in the vocabulary of the miners' model; not empty.
    pub tokens: Option<Vec<u32>>,
    /// What answers to it are compared by.
    pub rule: Option<Rule>,
}

/// Where lines come from.
pub struct Source {
    name: String,
    input: Input,
}

enum Input {
    Stdin,
    File(PathBuf),
    Reader(Box<dyn Read>),
}

impl Source {
    /// The file at `path`, or standard input where `path` is `-`. Nothing is opened yet.
    pub fn path(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        let input = if path.as_os_str() == "-" { Input::Stdin } else { Input::File(path.to_path_buf()) };
        Self { name: path.display().to_string(), input }
    }

    /// Any reader; errors call it `name`.
    pub fn reader(name: impl Into<String>, reader: impl Read + 'static) -> Self {
        Self { name: name.into(), input: Input::Reader(Box::new(reader)) }
    }

    /// What errors call it.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Source").field(&self.name).finish()
    }
}

/// Prompts, references and responses of one round, in the order in which they were read.
#[derive(Clone, Debug, PartialEq)]
pub struct Round {
    prompts: Vec<Prompt>,
    miners: Vec<Miner>,
    responses: Vec<Response>,
    files: Vec<String>,
    embedding_length: Option<usize>,
    unused_references: usize,
}

impl Round {
    /// Reads rows from `sources` and references from `references`, line by line, plain or gzip (told by the name's
    /// `.gz` or by the first bytes). Returns the round and, with [`Options::skip_bad`], one error for each row left
    /// out. References to prompts that nobody answered are counted and dropped.
    ///
    /// # Errors
    /// [`Error::Row`] for the first bad row (without `skip_bad`) and for a broken gzip stream (always), [`Error::Io`]
    /// where a file cannot be read, [`Error::File`] for a round without rows, [`Error::Usage`] where nothing is named
    /// or standard input is named twice.
    pub fn read(
        sources: impl IntoIterator<Item = Source>,
        references: impl IntoIterator<Item = Source>,
        options: Options,
    ) -> Result<(Self, Vec<Error>)> {
        let sources: Vec<Source> = sources.into_iter().collect();
        let references: Vec<Source> = references.into_iter().collect();
        if sources.is_empty() {
            return Err(Error::Usage {
                argument: "ROUND".to_owned(),
                problem: "no file is named".to_owned(),
                remedy: "name a JSON Lines file, or - for standard input".to_owned(),
            });
        }
        if sources.iter().chain(&references).filter(|source| matches!(source.input, Input::Stdin)).count() > 1 {
            return Err(Error::Usage {
                argument: "-".to_owned(),
                problem: "standard input is named twice".to_owned(),
                remedy: "give rows or references from a file".to_owned(),
            });
        }
        let mut builder = Builder::new(options);
        for source in sources {
            builder.read_all(source, Builder::admit_line)?;
        }
        for source in references {
            builder.read_all(source, Builder::admit_reference_line)?;
        }
        builder.finish()
    }

    /// Reads `{"prompt", "response", "reference"}` a line, plain or gzip as for [`Round::read`]: each line a prompt of its own, named after
    /// file and line, with one response, of one miner. The row may also have what a reference's row may (`tokens`, `match`, `pattern`) and a
    /// response's (`logits`, `logprobs`). With `referenced` every row must have a reference that is not blank.
    ///
    /// # Errors
    /// As [`Round::read`].
    pub fn read_answers(source: Source, referenced: bool, options: Options) -> Result<(Self, Vec<Error>)> {
        let mut builder = Builder::new(options);
        builder.read_all(source, |builder, place, bytes| builder.admit_answer_line(place, bytes, referenced))?;
        builder.finish()
    }

    /// Builds a round from rows in memory, with the same checks; errors call the place `rows:N` and `references:N`,
    /// counted from 1.
    ///
    /// # Errors
    /// As [`Round::read`], without those about files.
    pub fn from_rows(
        rows: impl IntoIterator<Item = Row>,
        references: impl IntoIterator<Item = ReferenceRow>,
        options: Options,
    ) -> Result<(Self, Vec<Error>)> {
        let mut builder = Builder::new(options);
        builder.open("rows".to_owned())?;
        for (index, row) in rows.into_iter().enumerate() {
            let place = builder.place(index + 1);
            let outcome = builder.admit(place, row, Names::default());
            builder.settle(place, outcome)?;
        }
        builder.open("references".to_owned())?;
        for (index, row) in references.into_iter().enumerate() {
            let place = builder.place(index + 1);
            let outcome = builder.admit_reference(place, row, Names::default());
            builder.settle(place, outcome)?;
        }
        builder.finish()
    }

    /// The prompts that were answered, in order of first appearance. Never empty.
    pub fn prompts(&self) -> &[Prompt] {
        &self.prompts
    }

    /// The miners who answered, in order of first appearance. Never empty.
    pub fn miners(&self) -> &[Miner] {
        &self.miners
    }

    /// The responses, in input order. Never empty.
    pub fn responses(&self) -> &[Response] {
        &self.responses
    }

    /// The names of the files read, as the user gave them.
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// The prompt that a response answers.
    pub fn prompt_of(&self, response: &Response) -> Option<&Prompt> {
        self.prompts.get(response.prompt as usize)
    }

    /// The miner who gave a response.
    pub fn miner_of(&self, response: &Response) -> Option<&Miner> {
        self.miners.get(response.miner as usize)
    }

    /// An error about what stands in a response's row.
    pub fn refuse(&self, row: &Response, field: &str, problem: String, remedy: &str) -> Error {
        Error::Row {
            file: self.files.get(row.file as usize).cloned().unwrap_or_default(),
            line: row.line,
            field: field.into(),
            problem,
            remedy: remedy.into(),
        }
    }

    /// How many numbers each embedding that came with a row has; `None` where no row has one.
    pub fn embedding_length(&self) -> Option<usize> {
        self.embedding_length
    }

    /// How many reference rows named a prompt that nobody answered.
    pub fn unused_references(&self) -> usize {
        self.unused_references
    }

    /// For each prompt the indices of its responses, earliest first: by block, or by input order where the prompt's
    /// rows have no block; equal blocks by hotkey.
    pub fn arrivals(&self) -> Vec<Vec<u32>> {
        let mut order = vec![Vec::new(); self.prompts.len()];
        for (index, response) in (0_u32..).zip(&self.responses) {
            if let Some(of_prompt) = order.get_mut(response.prompt as usize) {
                of_prompt.push(index);
            }
        }
        let key = |index: &u32| {
            let response = self.responses.get(*index as usize)?;
            let block = response.block?;
            Some((block, &self.miner_of(response)?.hotkey))
        };
        for of_prompt in &mut order {
            // A stable sort: without blocks all keys are `None`, and the input order stays.
            of_prompt.sort_by(|left, right| key(left).cmp(&key(right)));
        }
        order
    }
}

/// A text to embed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The text. It may be empty.
    pub text: String,
    /// The line it stands in, from 1.
    pub line: usize,
}

/// Reads `{"text": ...}` a line, one at a time. After an error it ends.
pub struct Texts {
    lines: Lines,
    options: Options,
    skipped: Vec<Error>,
    ended: bool,
}

impl Texts {
    /// Opens a source; plain or gzip as for [`Round::read`].
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be opened or its first bytes cannot be read.
    pub fn open(source: Source, options: Options) -> Result<Self> {
        Ok(Self { lines: Lines::open(source)?, options, skipped: Vec::new(), ended: false })
    }

    /// The rows left out so far, with [`Options::skip_bad`].
    pub fn skipped(&self) -> &[Error] {
        &self.skipped
    }

    fn step(&mut self) -> Result<Option<Text>> {
        loop {
            let outcome = match self.lines.next()? {
                Step::End => return Ok(None),
                Step::Fault(_, fault) => Err(fault),
                Step::Line(_, bytes) => Raw::parse(bytes).and_then(|mut raw| raw.required_text(Key::Text)),
            };
            match outcome {
                Ok(text) => return Ok(Some(Text { text, line: self.lines.line })),
                Err(fault) => {
                    let error = fault.at(&self.lines.name, self.lines.line);
                    if !self.options.skip_bad {
                        return Err(error);
                    }
                    self.skipped.push(error);
                }
            }
        }
    }
}

impl Iterator for Texts {
    type Item = Result<Text>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let step = self.step();
        self.ended = !matches!(step, Ok(Some(_)));
        step.transpose()
    }
}

impl fmt::Debug for Texts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Texts").field("name", &self.lines.name).field("line", &self.lines.line).finish()
    }
}

/// Reads all texts of a source and, with [`Options::skip_bad`], one error for each row left out. No row at all is
/// legal.
///
/// # Errors
/// [`Error::Row`] for the first bad row (without `skip_bad`) and for a broken gzip stream, [`Error::Io`] where the
/// source cannot be read.
pub fn read_texts(source: Source, options: Options) -> Result<(Vec<Text>, Vec<Error>)> {
    let mut texts = Texts::open(source, options)?;
    let mut all = Vec::new();
    while let Some(text) = texts.step()? {
        all.push(text);
    }
    Ok((all, texts.skipped))
}

/// Two texts and how alike people find them.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// One text. It may be empty.
    pub a: String,
    /// The other.
    pub b: String,
    /// The more alike, the larger; finite, on any scale.
    pub score: f64,
}

impl Pair {
    fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let mut raw = Raw::parse(bytes)?;
        let [a, b] = [raw.required_text(Key::A)?, raw.required_text(Key::B)?];
        Ok(Self { a, b, score: raw.required_number(Key::Score)? })
    }
}

/// Reads `{"a": ..., "b": ..., "score": ...}` a line, plain or gzip as for [`Round::read`]. Not all scores are the same: there is an
/// order to be found.
///
/// # Errors
/// [`Error::Row`] for the first bad row and for a broken gzip stream, [`Error::Io`] where the source cannot be read,
/// [`Error::File`] if no two scores differ.
pub fn read_pairs(source: Source) -> Result<Vec<Pair>> {
    let mut lines = Lines::open(source)?;
    let mut pairs = Vec::new();
    lines.each(|_, bytes| {
        pairs.push(Pair::parse(bytes)?);
        Ok(())
    })?;
    if pairs.windows(2).all(|pair| pair[0].score == pair[1].score) {
        return Err(Error::File {
            file: lines.name,
            field: "score".to_owned(),
            problem: format!("{} pairs, and no two of them with different scores", pairs.len()),
            remedy: "give pairs that people find differently alike".to_owned(),
        });
    }
    Ok(pairs)
}
