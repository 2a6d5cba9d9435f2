//! Puts rows together to a round, each checked against those before it.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use super::lines::{Lines, Step};
use super::row::{Fault, Key, Raw, missing, short};
use super::{Hotkey, Miner, Options, Prompt, ReferenceRow, Response, Round, Row, Source, Uid};
use crate::{Error, Result};

#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    file: u32,
    line: usize,
}

/// The spelling that a row used for the fields that have two.
#[derive(Clone, Copy)]
pub(super) struct Names {
    prompt_id: &'static str,
    miner: &'static str,
    reference: &'static str,
}

impl Default for Names {
    fn default() -> Self {
        Self { prompt_id: "prompt_id", miner: "miner", reference: "reference" }
    }
}

/// Where a prompt's parts were first seen, for the errors that name both lines.
#[derive(Clone, Copy)]
struct Origin {
    text: Option<Place>,
    reference: Option<Place>,
    first: Place,
    has_block: bool,
}

pub(super) struct Builder {
    options: Options,
    skipped: Vec<Error>,
    prompts: Vec<Prompt>,
    origins: Vec<Origin>,
    prompt_index: HashMap<String, u32>,
    miners: Vec<Miner>,
    miner_index: HashMap<String, u32>,
    uid_origins: HashMap<u16, (u32, Place)>,
    pairs: HashMap<(u32, u32), Place>,
    responses: Vec<Response>,
    files: Vec<String>,
    embedding: Option<(usize, Place)>,
    unused_references: usize,
}

impl Builder {
    pub(super) fn new(options: Options) -> Self {
        Self {
            options,
            skipped: Vec::new(),
            prompts: Vec::new(),
            origins: Vec::new(),
            prompt_index: HashMap::new(),
            miners: Vec::new(),
            miner_index: HashMap::new(),
            uid_origins: HashMap::new(),
            pairs: HashMap::new(),
            responses: Vec::new(),
            files: Vec::new(),
            embedding: None,
            unused_references: 0,
        }
    }

    pub(super) fn open(&mut self, name: String) -> Result<()> {
        if u32::try_from(self.files.len()).is_err() {
            return Err(Error::Usage {
                argument: name,
                problem: "too many files".to_owned(),
                remedy: "concatenate them".to_owned(),
            });
        }
        self.files.push(name);
        Ok(())
    }

    pub(super) fn place(&self, line: usize) -> Place {
        Place { file: u32::try_from(self.files.len().saturating_sub(1)).unwrap_or(u32::MAX), line }
    }

    fn file_name(&self, place: Place) -> &str {
        self.files.get(place.file as usize).map_or("", String::as_str)
    }

    fn name(&self, place: Place) -> String {
        format!("{}:{}", self.file_name(place), place.line)
    }

    pub(super) fn settle(&mut self, place: Place, outcome: Result<(), Fault>) -> Result<()> {
        if let Err(fault) = outcome {
            let error = fault.at(self.file_name(place), place.line);
            if !self.options.skip_bad {
                return Err(error);
            }
            self.skipped.push(error);
        }
        Ok(())
    }

    pub(super) fn read_all(
        &mut self,
        source: Source,
        admit: impl Fn(&mut Self, Place, &[u8]) -> Result<(), Fault>,
    ) -> Result<()> {
        let mut lines = Lines::open(source)?;
        self.open(lines.name.clone())?;
        loop {
            let (line, outcome) = match lines.next()? {
                Step::End => return Ok(()),
                Step::Fault(line, fault) => (line, Err(fault)),
                Step::Line(line, bytes) => (line, admit(self, self.place(line), bytes)),
            };
            self.settle(self.place(line), outcome)?;
        }
    }

    pub(super) fn admit_line(&mut self, place: Place, bytes: &[u8]) -> Result<(), Fault> {
        let mut raw = Raw::parse(bytes)?;
        let (prompt_id, prompt_id_name) = raw.id(Key::PromptId, Key::TaskId)?;
        let (miner, miner_name) = raw.id(Key::Miner, Key::Hotkey)?;
        let row = Row {
            prompt_id,
            prompt: raw.optional_text(Key::Prompt)?,
            miner,
            response: raw.required_text(Key::Response)?,
            reference: raw.optional_text(Key::Reference)?,
            uid: raw.uid()?,
            block: raw.block()?,
            embedding: raw.embedding()?,
            logits: raw.optional_text(Key::Logits)?,
            logprobs: raw.optional_text(Key::Logprobs)?,
        };
        self.admit(place, row, Names { prompt_id: prompt_id_name, miner: miner_name, ..Names::default() })
    }

    pub(super) fn admit_reference_line(&mut self, place: Place, bytes: &[u8]) -> Result<(), Fault> {
        let mut raw = Raw::parse(bytes)?;
        let (prompt_id, prompt_id_name) = raw.id(Key::PromptId, Key::TaskId)?;
        let prompt = raw.optional_text(Key::Prompt)?;
        let (reference, reference_name) = match raw.optional_text(Key::Reference)? {
            Some(reference) => (reference, Key::Reference.name()),
            None => match raw.optional_text(Key::Response)? {
                Some(response) => (response, Key::Response.name()),
                None => return Err(missing(Key::Reference)),
            },
        };
        let row = ReferenceRow { prompt_id, prompt, reference, tokens: raw.tokens()?, rule: raw.rule()? };
        let names = Names { prompt_id: prompt_id_name, reference: reference_name, ..Names::default() };
        self.admit_reference(place, row, names)
    }

    /// A response with its prompt and perhaps its reference.
    pub(super) fn admit_answer_line(&mut self, place: Place, bytes: &[u8], referenced: bool) -> Result<(), Fault> {
        let mut raw = Raw::parse(bytes)?;
        let row = Row {
            prompt_id: self.name(place),
            prompt: Some(raw.required_text(Key::Prompt)?),
            miner: Key::Response.name().to_owned(),
            response: raw.required_text(Key::Response)?,
            reference: raw.optional_text(Key::Reference)?,
            logits: raw.optional_text(Key::Logits)?,
            logprobs: raw.optional_text(Key::Logprobs)?,
            ..Row::default()
        };
        if referenced && row.reference.as_deref().is_none_or(|text| text.trim().is_empty()) {
            return Err(Fault::new(
                Key::Reference.name(),
                "is missing, and this kind of loss needs one",
                "give each row a reference, or choose --kind lm",
            ));
        }
        let (tokens, rule) = (raw.tokens()?, raw.rule()?);
        check_tokens(tokens.as_deref())?;
        self.admit(place, row, Names::default())?;
        if let Some(prompt) = self.prompts.last_mut() {
            (prompt.tokens, prompt.rule) = (tokens, rule);
        }
        Ok(())
    }

    /// Checks everything first and changes the round only then, so that a row left out leaves nothing behind.
    pub(super) fn admit(&mut self, place: Place, row: Row, names: Names) -> Result<(), Fault> {
        let Row { prompt_id, prompt, miner, response, reference, uid, block, embedding, logits, logprobs } = row;
        not_empty(&prompt_id, names.prompt_id)?;
        let Some(hotkey) = Hotkey::new(miner) else {
            return Err(empty(names.miner));
        };
        embedding.as_deref().map_or(Ok(()), check_embedding)?;
        let logits = logits.map(|path| self.beside(place, Key::Logits, &path)).transpose()?;
        let logprobs = logprobs.map(|path| self.beside(place, Key::Logprobs, &path)).transpose()?;
        let prompt_at = self.prompt_index.get(&prompt_id).copied();
        let miner_at = self.miner_index.get(hotkey.as_str()).copied();

        if let (Some(prompt), Some(miner)) = (prompt_at, miner_at)
            && let Some(&first) = self.pairs.get(&(prompt, miner))
        {
            return Err(Fault::new(
                names.miner,
                format!("{} answered prompt {} already in {}", short(&hotkey.0), short(&prompt_id), self.name(first)),
                "keep one row for each prompt and miner",
            ));
        }
        if let Some(uid) = uid {
            self.check_uid(uid, miner_at, &hotkey)?;
        }
        if let Some(at) = prompt_at {
            self.check_prompt(at, prompt.as_deref(), reference.as_deref(), names)?;
            self.check_block(at, block, &prompt_id)?;
        }
        if let (Some(embedding), Some((length, first))) = (&embedding, self.embedding)
            && embedding.len() != length
        {
            return Err(Fault::new(
                Key::Embedding.name(),
                format!("has {} numbers, but the one in {} has {length}", embedding.len(), self.name(first)),
                "give embeddings of one model only",
            ));
        }
        let new_prompt = index(self.prompts.len())?;
        let new_miner = index(self.miners.len())?;
        index(self.responses.len())?;

        let prompt_at = prompt_at.unwrap_or_else(|| {
            self.prompt_index.insert(prompt_id.clone(), new_prompt);
            self.prompts.push(Prompt { id: prompt_id, text: None, reference: None, tokens: None, rule: None });
            self.origins.push(Origin { text: None, reference: None, first: place, has_block: block.is_some() });
            new_prompt
        });
        self.fill_prompt(prompt_at, place, prompt, reference);
        let miner_at = miner_at.unwrap_or_else(|| {
            self.miner_index.insert(hotkey.0.clone(), new_miner);
            self.miners.push(Miner { hotkey, uid: None });
            new_miner
        });
        if let Some(uid) = uid {
            self.uid_origins.entry(uid).or_insert((miner_at, place));
            if let Some(miner) = self.miners.get_mut(miner_at as usize) {
                miner.uid = Some(Uid(uid));
            }
        }
        self.pairs.insert((prompt_at, miner_at), place);
        if let (Some(embedding), None) = (&embedding, self.embedding) {
            self.embedding = Some((embedding.len(), place));
        }
        self.responses.push(Response {
            prompt: prompt_at,
            miner: miner_at,
            text: response,
            block,
            embedding,
            logits,
            logprobs,
            file: place.file,
            line: place.line,
        });
        Ok(())
    }

    pub(super) fn admit_reference(&mut self, place: Place, row: ReferenceRow, names: Names) -> Result<(), Fault> {
        let ReferenceRow { prompt_id, prompt, reference, tokens, rule } = row;
        not_empty(&prompt_id, names.prompt_id)?;
        check_tokens(tokens.as_deref())?;
        let Some(&at) = self.prompt_index.get(&prompt_id) else {
            self.unused_references += 1;
            return Ok(());
        };
        self.check_prompt(at, prompt.as_deref(), Some(&reference), names)?;
        let Some(known) = self.prompts.get(at as usize) else { return Ok(()) };
        let fields = [(Key::Tokens, differ(&tokens, &known.tokens)), (Key::Match, differ(&rule, &known.rule))];
        if let Some((key, _)) = fields.into_iter().find(|(_, differ)| *differ) {
            let problem = format!("differs from that of an earlier row for prompt {}", short(&prompt_id));
            return Err(Fault::new(key.name(), problem, "keep one of the two rows"));
        }
        self.fill_prompt(at, place, prompt, Some(reference));
        if let Some(prompt) = self.prompts.get_mut(at as usize) {
            prompt.tokens = tokens.or_else(|| prompt.tokens.take());
            prompt.rule = rule.or_else(|| prompt.rule.take());
        }
        Ok(())
    }

    /// The file that a row at `place` names: it lies in the folder of the row's file, or below.
    fn beside(&self, place: Place, key: Key, path: &str) -> Result<PathBuf, Fault> {
        let inside = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
        if path.is_empty() || path.contains('\0') || !Path::new(path).components().all(inside) {
            return Err(Fault::new(
                key.name(),
                format!("{} is not the name of a file in the folder of this one, or below it", short(path)),
                "give a relative path without `..`",
            ));
        }
        Ok(Path::new(self.file_name(place)).parent().unwrap_or(Path::new("")).join(path))
    }

    fn check_uid(&self, uid: u16, miner_at: Option<u32>, hotkey: &Hotkey) -> Result<(), Fault> {
        if let Some(&(owner, first)) = self.uid_origins.get(&uid)
            && miner_at != Some(owner)
        {
            let owner = self.miners.get(owner as usize).map_or("", |miner| miner.hotkey.as_str());
            return Err(Fault::new(
                Key::Uid.name(),
                format!("uid {uid} belongs to {} in {}, not to {}", short(owner), self.name(first), short(&hotkey.0)),
                "take uids and hotkeys from one metagraph, of one block",
            ));
        }
        let known = miner_at.and_then(|at| self.miners.get(at as usize)).and_then(|miner| miner.uid);
        if let Some(known) = known
            && known.0 != uid
        {
            let first = self.uid_origins.get(&known.0).map_or_else(String::new, |&(_, first)| self.name(first));
            return Err(Fault::new(
                Key::Uid.name(),
                format!("{} has uid {known} in {first}, not {uid}", short(&hotkey.0)),
                "take uids and hotkeys from one metagraph, of one block",
            ));
        }
        Ok(())
    }

    fn check_prompt(&self, at: u32, text: Option<&str>, reference: Option<&str>, names: Names) -> Result<(), Fault> {
        let (Some(prompt), Some(origin)) = (self.prompts.get(at as usize), self.origins.get(at as usize)) else {
            return Ok(());
        };
        let differs = |field: &str, new: Option<&str>, old: Option<&str>, first: Option<Place>| {
            let (Some(new), Some(old), Some(first)) = (new, old, first) else { return Ok(()) };
            if new == old {
                return Ok(());
            }
            Err(Fault::new(
                field,
                format!("differs from the one in {} for prompt {}", self.name(first), short(&prompt.id)),
                "give prompts that are not the same different ids",
            ))
        };
        differs(Key::Prompt.name(), text, prompt.text.as_deref(), origin.text)?;
        differs(names.reference, reference, prompt.reference.as_deref(), origin.reference)
    }

    fn check_block(&self, at: u32, block: Option<u64>, prompt_id: &str) -> Result<(), Fault> {
        let Some(origin) = self.origins.get(at as usize) else { return Ok(()) };
        if origin.has_block == block.is_some() {
            return Ok(());
        }
        let (here, there) = if block.is_some() { ("is given", "is not") } else { ("is missing", "is given") };
        Err(Fault::new(
            Key::Block.name(),
            format!("{here}, but in {} of prompt {} it {there}", self.name(origin.first), short(prompt_id)),
            "give a block in every row of a prompt or in none, so that arrivals can be compared",
        ))
    }

    fn fill_prompt(&mut self, at: u32, place: Place, text: Option<String>, reference: Option<String>) {
        let (Some(prompt), Some(origin)) = (self.prompts.get_mut(at as usize), self.origins.get_mut(at as usize))
        else {
            return;
        };
        if prompt.text.is_none() && text.is_some() {
            prompt.text = text;
            origin.text = Some(place);
        }
        if prompt.reference.is_none() && reference.is_some() {
            prompt.reference = reference;
            origin.reference = Some(place);
        }
    }

    pub(super) fn finish(self) -> Result<(Round, Vec<Error>)> {
        if self.responses.is_empty() {
            let (problem, remedy) = match self.skipped.first() {
                None => ("there is none".to_owned(), "give at least one row with a response"),
                Some(first) => (
                    format!("all {} are bad, the first of them: {first}", self.skipped.len()),
                    "repair the rows, or drop --skip-bad to see the first error in full",
                ),
            };
            return Err(Error::File {
                file: self.files.first().cloned().unwrap_or_default(),
                field: "rows".to_owned(),
                problem,
                remedy: remedy.to_owned(),
            });
        }
        let round = Round {
            prompts: self.prompts,
            miners: self.miners,
            responses: self.responses,
            files: self.files,
            embedding_length: self.embedding.map(|(length, _)| length),
            unused_references: self.unused_references,
        };
        Ok((round, self.skipped))
    }
}

fn index(length: usize) -> Result<u32, Fault> {
    match u32::try_from(length) {
        Ok(index) if index < u32::MAX => Ok(index),
        _ => Err(Fault::new("row", "is one more than 4,294,967,294", "split the round")),
    }
}

/// Whether both are there and not the same.
fn differ<T: PartialEq>(new: &Option<T>, old: &Option<T>) -> bool {
    new.is_some() && old.is_some() && new != old
}

fn not_empty(id: &str, field: &'static str) -> Result<(), Fault> {
    if id.is_empty() { Err(empty(field)) } else { Ok(()) }
}

fn empty(field: &'static str) -> Fault {
    Fault::new(field, "is empty", "give a name")
}

fn check_tokens(tokens: Option<&[u32]>) -> Result<(), Fault> {
    match tokens {
        Some([]) => Err(Fault::new(Key::Tokens.name(), "is empty", "give the reference's tokens, or leave them out")),
        _ => Ok(()),
    }
}

/// Refuses what has no direction.
fn check_embedding(embedding: &[f32]) -> Result<(), Fault> {
    let field = Key::Embedding.name();
    let remedy = "give finite numbers that are not all zero";
    if embedding.is_empty() {
        return Err(Fault::new(field, "is empty", remedy));
    }
    if let Some(at) = embedding.iter().position(|number| !number.is_finite()) {
        return Err(Fault::new(format!("{field}[{at}]"), "is not a finite f32 number", remedy));
    }
    if embedding.iter().all(|number| *number == 0.0) {
        return Err(Fault::new(field, "is all zero, and so has no direction", remedy));
    }
    Ok(())
}
