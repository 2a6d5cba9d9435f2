//! What `score` found, and what else is known of a round's miners and responses: the two sides of `eval`.

use std::collections::HashMap;

use super::lines::Lines;
use super::row::{Fault, Key, Raw, short};
use super::{MAX_LINE_BYTES, Source};
use crate::{Error, Result};

/// The column of a quality table that is no quality: how long a miner's answers are, which is what quality is told from.
const LENGTH_COLUMN: &str = "avg_length";

/// What `score` wrote of a round, in an order that does not depend on the file's.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// The file as the user named it.
    pub file: String,
    /// Ids of the prompts, ascending. Never empty.
    pub prompts: Vec<String>,
    /// Names of the miners, ascending. Never empty.
    pub miners: Vec<String>,
    /// One for each response, by prompt and then by miner; no pair twice.
    pub rows: Vec<ScoreRow>,
}

/// What `score` wrote of a response.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreRow {
    /// Index into [`Scores::prompts`].
    pub prompt: u32,
    /// Index into [`Scores::miners`].
    pub miner: u32,
    /// In [0, 1].
    pub novelty: f64,
    /// In [0, 1].
    pub accuracy: f64,
    /// In [0, 1].
    pub score: f64,
    /// Characters of the response.
    pub chars: u32,
    /// How surely it is a copy, the larger the surer; finite. `None` where the row does not say.
    pub copy_evidence: Option<f64>,
    /// Whom the engine calls the originator.
    pub copy_of: Option<String>,
    /// The line in the file, from 1.
    pub line: usize,
}

impl Scores {
    /// The row of a prompt and a miner.
    pub fn row(&self, prompt_id: &str, miner: &str) -> Option<&ScoreRow> {
        let prompt = self.prompts.binary_search_by(|id| id.as_str().cmp(prompt_id)).ok()?;
        let miner = self.miners.binary_search_by(|name| name.as_str().cmp(miner)).ok()?;
        let at = self.rows.binary_search_by_key(&(prompt, miner), |row| (row.prompt as usize, row.miner as usize));
        self.rows.get(at.ok()?)
    }

    /// The error that `field` of a row is about.
    pub fn refuse(&self, row: &ScoreRow, field: &str, problem: String, remedy: &str) -> Error {
        let fault = Fault::new(field, problem, remedy.to_owned());
        fault.at(&self.file, row.line)
    }
}

/// A response that is known to be a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyRow {
    /// The prompt's id.
    pub prompt_id: String,
    /// Who copied.
    pub miner: String,
    /// Whose answer it was, where that is known.
    pub victim: Option<String>,
    /// How it was disguised, where that is known.
    pub kind: Option<String>,
    /// The line in the file, from 1.
    pub line: usize,
}

/// Responses that are known to be copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copies {
    /// The file as the user named it.
    pub file: String,
    /// In the file's order. Never empty; no pair of prompt and miner twice.
    pub rows: Vec<CopyRow>,
}

/// How good miners are known to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Quality {
    /// The file as the user named it.
    pub file: String,
    /// Their names, in the file's order, each once.
    pub miners: Vec<String>,
    /// The columns of numbers, in the file's order. Never empty.
    pub columns: Vec<QualityColumn>,
}

/// One measure of quality, the larger the better.
#[derive(Clone, Debug, PartialEq)]
pub struct QualityColumn {
    /// What the file calls it.
    pub name: String,
    /// A finite number for each of [`Quality::miners`].
    pub values: Vec<f64>,
}

/// Reads the prompt and the miner of a row and refuses a pair that was there before.
fn pair(raw: &mut Raw, seen: &mut HashMap<(String, String), usize>, line: usize) -> Result<(String, String), Fault> {
    let (prompt_id, _) = raw.id(Key::PromptId, Key::TaskId)?;
    let (miner, _) = raw.id(Key::Miner, Key::Hotkey)?;
    let pair = (prompt_id, miner);
    if let Some(first) = seen.insert(pair.clone(), line) {
        let problem = format!("{} stands with prompt {} already in line {first}", short(&pair.1), short(&pair.0));
        return Err(Fault::new(Key::Miner.name(), problem, "keep one row for each prompt and miner"));
    }
    Ok(pair)
}

fn no_rows(file: String) -> Error {
    Error::File {
        file,
        field: "rows".to_owned(),
        problem: "there are none".to_owned(),
        remedy: "give at least one row".to_owned(),
    }
}

/// The place of each of `names` in the order of names, and that order.
fn sorted(names: impl Iterator<Item = String>) -> (HashMap<String, u32>, Vec<String>) {
    let mut order: Vec<String> = names.collect();
    order.sort_unstable();
    order.dedup();
    (order.iter().cloned().zip(0..).collect(), order)
}

/// Reads a `scores.jsonl` of `score`, plain or gzip as for [`Round::read`](super::Round::read).
///
/// # Errors
/// [`Error::Row`] for the first bad row and for a broken gzip stream, [`Error::Io`] where the source cannot be read, [`Error::File`] if
/// there is no row.
pub fn read_scores(source: Source) -> Result<Scores> {
    let mut lines = Lines::open(source)?;
    let (mut seen, mut rows) = (HashMap::new(), Vec::new());
    lines.each(|line, bytes| {
        let mut raw = Raw::parse(bytes)?;
        let pair = pair(&mut raw, &mut seen, line)?;
        let row = ScoreRow {
            prompt: 0,
            miner: 0,
            novelty: raw.required_number(Key::Novelty)?,
            accuracy: raw.required_number(Key::Accuracy)?,
            score: raw.required_number(Key::Score)?,
            chars: raw.required_count(Key::Chars)?,
            copy_evidence: raw.optional_number(Key::CopyEvidence)?,
            copy_of: raw.optional_text(Key::CopyOf)?,
            line,
        };
        rows.push((pair, row));
        Ok(())
    })?;
    if rows.is_empty() {
        return Err(no_rows(lines.name));
    }
    drop(seen);
    let (prompt_at, prompts) = sorted(rows.iter().map(|((prompt_id, _), _)| prompt_id.clone()));
    let (miner_at, miners) = sorted(rows.iter().map(|((_, miner), _)| miner.clone()));
    let mut rows: Vec<ScoreRow> = rows
        .into_iter()
        .map(|((prompt_id, miner), row)| ScoreRow { prompt: prompt_at[&prompt_id], miner: miner_at[&miner], ..row })
        .collect();
    rows.sort_unstable_by_key(|row| (row.prompt, row.miner));
    Ok(Scores { file: lines.name, prompts, miners, rows })
}

/// Reads `{"prompt_id": ..., "miner": ..., "victim": ..., "kind": ...}` a line, the last two where they are known; plain or gzip as for
/// [`Round::read`](super::Round::read).
///
/// # Errors
/// As [`read_scores`].
pub fn read_copies(source: Source) -> Result<Copies> {
    let mut lines = Lines::open(source)?;
    let (mut seen, mut rows) = (HashMap::new(), Vec::new());
    lines.each(|line, bytes| {
        let mut raw = Raw::parse(bytes)?;
        let (prompt_id, miner) = pair(&mut raw, &mut seen, line)?;
        let [victim, kind] = [raw.optional_text(Key::Victim)?, raw.optional_text(Key::Kind)?];
        rows.push(CopyRow { prompt_id, miner, victim, kind, line });
        Ok(())
    })?;
    if rows.is_empty() { Err(no_rows(lines.name)) } else { Ok(Copies { file: lines.name, rows }) }
}

/// Reads a table of comma-separated values with a header row: a column `miner`, and those columns of numbers that say how good he is, the
/// larger the better. Columns without any number are passed over, and `avg_length`, which is no quality; plain or gzip as for
/// [`Round::read`](super::Round::read).
///
/// # Errors
/// [`Error::Row`] for the first row that does not fit, [`Error::Io`] where the source cannot be read, [`Error::File`] if there is no column
/// `miner` or none of numbers, or no row.
pub fn read_quality(source: Source) -> Result<Quality> {
    let mut lines = Lines::open(source)?;
    let file = lines.name.clone();
    let refuse = |field: &str, problem: String, remedy: &str| Error::File {
        file: file.clone(),
        field: field.to_owned(),
        problem,
        remedy: remedy.to_owned(),
    };
    let bytes = lines.rest(MAX_LINE_BYTES)?.ok_or_else(|| {
        refuse("rows", format!("longer than {} MiB", MAX_LINE_BYTES >> 20), "give one row for each miner")
    })?;
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::Headers).from_reader(bytes.as_slice());
    let head = reader.headers().map_err(|error| unreadable(&file, &error))?.clone();
    let mut names = HashMap::new();
    if let Some(name) = head.iter().find(|name| names.insert(*name, ()).is_some()) {
        return Err(refuse(name, "stands twice in the header".to_owned(), "keep one of the two columns"));
    }
    let Some(miner_column) = head.iter().position(|name| name == Key::Miner.name()) else {
        return Err(refuse(
            Key::Miner.name(),
            "there is no such column".to_owned(),
            "begin with a header row that names a column miner and columns of numbers, as in miner,win_rate",
        ));
    };
    let records = reader.records().collect::<Result<Vec<csv::StringRecord>, _>>();
    let records = records.map_err(|error| unreadable(&file, &error))?;
    if records.is_empty() {
        return Err(no_rows(file));
    }
    let mut seen = HashMap::new();
    let mut miners = Vec::with_capacity(records.len());
    for record in &records {
        let (miner, line) = (record.get(miner_column).unwrap_or_default(), line_of(record.position()));
        if miner.is_empty() {
            return Err(Fault::new(Key::Miner.name(), "is empty", "name the miner").at(&file, line));
        }
        if let Some(first) = seen.insert(miner, line) {
            let problem = format!("{} stands already in line {first}", short(miner));
            return Err(Fault::new(Key::Miner.name(), problem, "keep one row for each miner").at(&file, line));
        }
        miners.push(miner.to_owned());
    }
    let mut columns = Vec::new();
    for (at, name) in head.iter().enumerate().filter(|(at, name)| *at != miner_column && *name != LENGTH_COLUMN) {
        let cells = || records.iter().map(|record| (record, record.get(at).unwrap_or_default()));
        if cells().all(|(_, cell)| number(cell).is_none()) {
            continue;
        }
        let values = cells().map(|(record, cell)| {
            number(cell).ok_or_else(|| {
                let problem = format!("is {}, where other rows have a number", short(cell));
                let remedy = "give every miner a finite number, or leave the column out";
                Fault::new(name, problem, remedy).at(&file, line_of(record.position()))
            })
        });
        columns.push(QualityColumn { name: name.to_owned(), values: values.collect::<Result<_>>()? });
    }
    if columns.is_empty() {
        return Err(refuse(
            "columns",
            "none says how good a miner is".to_owned(),
            "give at least one column of numbers beside miner (and avg_length, which is no quality)",
        ));
    }
    Ok(Quality { file, miners, columns })
}

fn number(cell: &str) -> Option<f64> {
    cell.trim().parse().ok().filter(|number: &f64| number.is_finite())
}

fn line_of(position: Option<&csv::Position>) -> usize {
    position.map_or(1, |position| position.line() as usize)
}

/// What is wrong with a table's form.
fn unreadable(file: &str, error: &csv::Error) -> Error {
    let fault = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => Fault::new(
            "row",
            format!("has {len} cells, and the rows before it {expected_len}"),
            "give every row as many cells as the header has",
        ),
        csv::ErrorKind::Utf8 { .. } => Fault::new("row", "is not valid UTF-8", "save the file as UTF-8"),
        _ => Fault::new("row", error.to_string(), "save the table as comma-separated values"),
    };
    fault.at(file, line_of(error.position()))
}
