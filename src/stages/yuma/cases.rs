//! Files of epochs: reference vectors, a state, or one case a line, all as [`Case`]s that can be run and checked.

use std::path::Path;

use serde_json::{Map, Value};

use super::decode::{self, Flaw};
use super::device::epochs;
use super::output::Epoch;
use super::state::State;
use crate::Result;
use crate::data::read_text;
use crate::device::Device;

/// A subnet followed over one or more epochs.
///
/// An epoch's inputs are the previous one's with permits, bonds and consensus as that epoch left them, and over these whatever the
/// file lists.
#[derive(Clone, Debug)]
pub struct Case {
    /// The case's name; where the file gives none, the file's own (with the line, where there are several).
    pub name: String,
    n: Option<usize>,
    epochs: Vec<Listed>,
    place: Place,
}

/// One epoch as a file lists it.
#[derive(Clone, Debug, Default)]
struct Listed {
    /// Where the inputs stand in the file; empty where they are the whole of it.
    field: String,
    inputs: Value,
    raw: Option<Value>,
    chain: Option<Value>,
}

/// Where a case was read from, for errors.
#[derive(Clone, Debug)]
struct Place {
    file: String,
    line: Option<usize>,
}

impl Place {
    fn error(&self, flaw: Flaw) -> crate::Error {
        match self.line {
            Some(line) => flaw.in_row(&self.file, line),
            None => flaw.in_file(&self.file),
        }
    }
}

/// What one epoch of a case came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The epoch's number within its case, from 0.
    pub index: usize,
    /// The epoch as computed here.
    pub epoch: Epoch,
    /// Where it was checked, the fields that differ from the file's, `chain.` or `raw.` in front; `None` where the file has nothing
    /// to compare with, or nobody asked.
    pub mismatches: Option<Vec<String>>,
}

/// What to do with each epoch besides computing it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Keep every intermediate result.
    pub raw: bool,
    /// Compare with what the file says came out.
    pub check: bool,
}

impl Case {
    /// Reads every case of a file, plain or packed with gzip: reference vectors (`epochs`), a state, or JSON Lines of
    /// `{"name", "n", "in"}`, each line a case of one epoch. `-` is standard input.
    pub fn read(path: &Path) -> Result<Vec<Self>> {
        let file = path.display().to_string();
        let text = read_text(path)?;
        let mut values = Vec::new();
        let mut stream = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
        // Counted as far as the stream has come.
        let (mut line, mut counted) = (1, 0);
        loop {
            let blank = text[stream.byte_offset()..].bytes().take_while(u8::is_ascii_whitespace).count();
            let start = stream.byte_offset() + blank;
            line += text.as_bytes()[counted..start].iter().filter(|&&byte| byte == b'\n').count();
            counted = start;
            match stream.next() {
                Some(Ok(value)) => values.push((line, value)),
                Some(Err(error)) => {
                    let flaw = Flaw::new("(file)", error.to_string(), "write JSON: one object, or one to a line");
                    return Err(flaw.in_file(&file));
                }
                None => break,
            }
        }
        if values.is_empty() {
            return Err(Flaw::new("(file)", "empty", "write JSON: one object, or one to a line").in_file(&file));
        }
        let several = values.len() > 1;
        values
            .into_iter()
            .map(|(line, value)| {
                let place = Place { file: file.clone(), line: several.then_some(line) };
                Self::from_value(value, place.clone(), path).map_err(|flaw| place.error(flaw))
            })
            .collect()
    }

    fn from_value(mut value: Value, place: Place, path: &Path) -> Result<Self, Flaw> {
        let object = decode::object(&value, "(file)")?;
        let n = object.get("n").map(|n| decode::integer::<u64>(n, "n")).transpose()?.map(|n| n as usize);
        let name = match (object.get("name"), place.line) {
            (Some(name), _) => {
                name.as_str().ok_or_else(|| Flaw::new("name", "not a string", "write a string"))?.to_owned()
            }
            (None, Some(line)) => format!("{}:{line}", stem(path)),
            (None, None) => stem(path),
        };
        let epochs = if let Some(epochs) = object.get("epochs") {
            let mut listed = Vec::new();
            for (index, epoch) in decode::array(epochs, "epochs")?.iter().enumerate() {
                let field = format!("epochs[{index}]");
                let epoch = decode::object(epoch, &field)?;
                listed.push(Listed::from_object(epoch).map_err(|flaw| flaw.within(&field))?.within(&field));
            }
            listed
        } else if object.contains_key("in") {
            vec![Listed::from_object(object)?]
        } else {
            if let Some(object) = value.as_object_mut() {
                object.remove("name");
            }
            vec![Listed { inputs: value, ..Listed::default() }]
        };
        Ok(Self { name, n, epochs, place })
    }

    /// The number of epochs.
    pub fn len(&self) -> usize {
        self.epochs.len()
    }

    /// Whether there is no epoch.
    pub fn is_empty(&self) -> bool {
        self.epochs.is_empty()
    }

    /// Computes the epochs one after the other, each from the one before. Ends after the first error.
    pub fn run(&self, options: Options) -> impl Iterator<Item = Result<Outcome>> {
        let mut previous: Option<State> = None;
        let mut failed = false;
        self.epochs.iter().enumerate().map_while(move |(index, listed)| {
            if failed {
                return None;
            }
            let outcome = self.step(&mut previous, index, listed, options);
            failed = outcome.is_err();
            Some(outcome)
        })
    }

    fn step(&self, previous: &mut Option<State>, index: usize, listed: &Listed, options: Options) -> Result<Outcome> {
        let mut state = self.inputs(previous.as_ref(), listed)?;
        let compare_raw = options.check && listed.raw.is_some();
        let epoch = if options.raw || compare_raw { Epoch::with_raw(&state) } else { Epoch::new(&state) };
        state.advance(&epoch)?;
        *previous = Some(state);
        Ok(listed.outcome(index, epoch, options))
    }

    /// An epoch's inputs: what the file lists, over what the epoch before left.
    fn inputs(&self, previous: Option<&State>, listed: &Listed) -> Result<State> {
        let inputs = match previous {
            Some(state) => state.overlaid(&listed.inputs),
            None => State::from_value(&listed.inputs, self.n),
        };
        inputs.map_err(|flaw| self.place.error(if listed.field.is_empty() { flaw } else { flaw.within(&listed.field) }))
    }

    /// Computes the epochs of many cases on a device, all of the same number in one batch: for each case its outcomes.
    ///
    /// A device gives what the chain stores. Intermediate results, where asked for, are computed on the host beside it, and are
    /// compared only then.
    pub fn run_on(device: &Device, cases: &[Self], options: Options) -> Result<Vec<Vec<Outcome>>> {
        let mut previous: Vec<Option<State>> = vec![None; cases.len()];
        let mut outcomes = vec![Vec::new(); cases.len()];
        for index in 0..cases.iter().map(Self::len).max().unwrap_or(0) {
            let listed: Vec<(usize, &Listed)> = cases
                .iter()
                .map(|case| case.epochs.get(index))
                .enumerate()
                .filter_map(|(c, l)| Some((c, l?)))
                .collect();
            let inputs = listed.iter().map(|&(case, listed)| cases[case].inputs(previous[case].as_ref(), listed));
            let states = inputs.collect::<Result<Vec<State>>>()?;
            let epochs = epochs(device, &states)?;
            for ((&(case, listed), mut state), mut epoch) in listed.iter().zip(states).zip(epochs) {
                if options.raw {
                    epoch.raw = Epoch::with_raw(&state).raw;
                }
                state.advance(&epoch)?;
                previous[case] = Some(state);
                outcomes[case].push(listed.outcome(index, epoch, options));
            }
        }
        Ok(outcomes)
    }
}

impl Listed {
    fn from_object(object: &Map<String, Value>) -> Result<Self, Flaw> {
        let missing = || Flaw::new("in", "missing", "every epoch needs its inputs");
        let inputs = object.get("in").ok_or_else(missing)?.clone();
        let expected = |key: &str| object.get(key).filter(|value| !value.is_null()).cloned();
        Ok(Self { field: "in".into(), inputs, raw: expected("raw"), chain: expected("chain") })
    }

    fn within(mut self, outer: &str) -> Self {
        self.field = format!("{outer}.{}", self.field);
        self
    }

    fn outcome(&self, index: usize, mut epoch: Epoch, options: Options) -> Outcome {
        let mismatches = options.check.then(|| self.mismatches(&epoch)).flatten();
        if !options.raw {
            epoch.raw = None;
        }
        Outcome { index, epoch, mismatches }
    }

    /// The fields in which an epoch differs; `None` where there is nothing to compare.
    fn mismatches(&self, epoch: &Epoch) -> Option<Vec<String>> {
        if self.chain.is_none() && (self.raw.is_none() || epoch.raw.is_none()) {
            return None;
        }
        let mut found = Vec::new();
        if let Some(chain) = &self.chain {
            compare(chain, &to_value(epoch), "chain", &mut found);
        }
        if let (Some(expected), Some(raw)) = (&self.raw, &epoch.raw) {
            compare(expected, &to_value(raw.as_ref()), "raw", &mut found);
        }
        Some(found)
    }
}

/// Plain data as a JSON value; null is never equal to what a file lists.
fn to_value(data: &impl serde::Serialize) -> Value {
    serde_json::to_value(data).unwrap_or(Value::Null)
}

/// Collects where `ours` lacks or changes something that `expected` has. What only `ours` has is no difference. Of an array only the
/// first place is named.
fn compare(expected: &Value, ours: &Value, field: &str, found: &mut Vec<String>) {
    match (expected, ours) {
        (Value::Object(expected), Value::Object(ours)) => {
            for (key, value) in expected {
                compare(value, ours.get(key).unwrap_or(&Value::Null), &format!("{field}.{key}"), found);
            }
        }
        (Value::Array(expected), Value::Array(ours)) => {
            if expected.len() != ours.len() {
                found.push(field.to_owned());
            } else if let Some(place) = expected.iter().zip(ours).position(|(expected, ours)| !equal(expected, ours)) {
                found.push(format!("{field}[{place}]"));
            }
        }
        _ if equal(expected, ours) => {}
        _ => found.push(field.to_owned()),
    }
}

/// Equal, where numbers may stand as numbers or as decimal strings.
fn equal(expected: &Value, ours: &Value) -> bool {
    match (expected, ours) {
        (Value::String(text), Value::Number(number)) | (Value::Number(number), Value::String(text)) => {
            number.to_string() == *text
        }
        (Value::Bool(truth), Value::Number(number)) => number.as_u64() == Some(u64::from(*truth)),
        _ => expected == ours,
    }
}

/// A file's name without folders and endings.
pub(crate) fn stem(path: &Path) -> String {
    let name = path.file_name().map_or_else(|| path.to_string_lossy(), |name| name.to_string_lossy());
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let name = [".json", ".jsonl", ".ndjson"].iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name);
    name.to_owned()
}
