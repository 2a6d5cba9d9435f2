//! Whether a ledger says what it was written to say, and whether its weights and epochs follow from its scores: all of it in integers, or in
//! floats that have the same bits everywhere.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use borsh::BorshDeserialize;
use rayon::prelude::*;
use serde::Serialize;
use serde_json::Value;

use super::file::{Frame, Reader};
use super::{Body, CriteriaChanged, Digest, Entry, Epoch, Proposal, PublicKey, Round, record, recount};
use crate::Result;
use crate::config::Config;
use crate::stages::weights::{self, Memory, Weighing};
use crate::stages::yuma::{self, State};

/// Bytes of entries that are looked at side by side.
const BATCH: usize = 32 << 20;

/// Differences that are named of one part of an entry.
const NAMED: usize = 8;

/// A discrepancy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The entry's number by its place, from 1; 0 for what is of no entry.
    pub entry: u64,
    /// What of it.
    pub field: String,
    /// What should be there.
    pub expected: String,
    /// What is.
    pub found: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.entry {
            0 => write!(formatter, "ledger: ")?,
            entry => write!(formatter, "entry {entry}: ")?,
        }
        write!(formatter, "{}: expected {}, found {}", self.field, self.expected, self.found)
    }
}

impl Finding {
    /// One of an entry, by its number, or of none (0).
    pub fn new(entry: u64, field: impl Into<String>, expected: impl ToString, found: impl ToString) -> Self {
        Self { entry, field: field.into(), expected: expected.to_string(), found: found.to_string() }
    }
}

/// What to hold a ledger to, beyond itself.
#[derive(Clone, Debug, Default)]
pub struct Demands {
    /// Whose signatures count, if every entry has to be signed.
    pub signers: Option<Vec<PublicKey>>,
    /// An entry that must be there: a head that was noted elsewhere.
    pub head: Option<Digest>,
}

/// What a ledger holds, and what is wrong with it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verified {
    /// Entries that could be read.
    pub entries: u64,
    /// Rounds among them.
    pub rounds: u64,
    /// Their responses.
    pub responses: u64,
    /// Epochs that were computed again.
    pub epochs: u64,
    /// Entries with a signature that holds.
    pub signed: u64,
    /// The digest of the last one: what the ledger is told by.
    pub head: Digest,
    /// The digest of the criteria in force.
    pub criteria: Digest,
    /// Every discrepancy.
    pub findings: Vec<Finding>,
    /// What is no discrepancy, but worth knowing.
    pub notes: Vec<String>,
}

/// What a memory went on to.
struct Remembered {
    /// Of which entry.
    entry: u64,
    round: Digest,
    before: Memory,
    after: Memory,
}

/// The state of the walk between two entries.
struct Walk {
    number: u64,
    /// The digest of the entry before; `None` behind one that could not be read.
    previous: Option<Digest>,
    place: Option<(u16, u8)>,
    criteria: Digest,
    config: Option<Arc<Config>>,
    remembered: Option<Remembered>,
    resets: bool,
}

/// An entry on its way through the walk.
struct Item {
    number: u64,
    entry: Option<Entry>,
    /// The criteria that it was scored by.
    config: Option<Arc<Config>>,
    findings: Vec<Finding>,
    /// Whether it has a signature that holds.
    signed: bool,
    weighing: Option<Weighing>,
}

/// Verifies a ledger from its first byte to its last. `each` is given every entry that can be read.
///
/// # Errors
/// [`Error::File`](crate::Error::File) if it is no ledger or of another version; [`Error::Io`](crate::Error::Io) if it cannot be read.
pub fn verify(path: &Path, demands: &Demands, mut each: impl FnMut(Entry)) -> Result<Verified> {
    let mut reader = Reader::open(path)?;
    let (mut verified, mut walk) = (Verified::default(), Walk::new());
    let (mut rest, mut demanded) = (None, false);
    while rest.is_none() {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while bytes < BATCH && rest.is_none() {
            match reader.next()? {
                Some(Frame::Entry(entry, holds)) => {
                    bytes += entry.len() + size_of::<Item>();
                    batch.push((entry, holds));
                }
                Some(Frame::Cut(left)) => rest = Some(left),
                None => rest = Some(0),
            }
        }
        let decoded: Vec<Option<Entry>> =
            batch.par_iter().map(|(bytes, _)| Entry::try_from_slice(bytes).ok()).collect();
        let mut items: Vec<Item> =
            decoded.into_iter().zip(&batch).map(|(entry, (_, holds))| walk.follow(entry, *holds)).collect();
        drop(batch);
        items.par_iter_mut().for_each(|item| item.examine(demands));
        for mut item in items {
            walk.remember(&mut item, &mut verified.notes);
            verified.count(&item);
            if item.entry.is_some() && demands.head == Some(verified.head) {
                demanded = true;
                verified.notes.push(format!("the head that was demanded is entry {}", item.number));
            }
            verified.findings.append(&mut item.findings);
            if let Some(entry) = item.entry {
                each(entry);
            }
        }
    }
    verified.end(&reader, &walk, rest.unwrap_or_default());
    if let Some(head) = demands.head.filter(|_| !demanded) {
        verified.findings.push(Finding::new(0, "head", format!("an entry {head}"), "none"));
    }
    Ok(verified)
}

impl Verified {
    fn count(&mut self, item: &Item) {
        let Some(entry) = &item.entry else { return };
        self.entries += 1;
        if let Some(round) = entry.body.round() {
            self.rounds += 1;
            self.responses += round.table.answers.len() as u64;
            self.epochs += u64::from(round.epoch.is_some());
        }
        self.signed += u64::from(item.signed);
        self.head = entry.head.digest();
        self.criteria = entry.head.criteria;
    }

    /// What only the end tells.
    fn end(&mut self, reader: &Reader, walk: &Walk, rest: u64) {
        let mut add = |field: &str, expected: String, found: String| {
            self.findings.push(Finding::new(0, field, expected, found));
        };
        match reader.summary {
            None => add("header", "a header that its check holds for".into(), "other bytes".into()),
            Some(summary) => {
                if summary.entries != walk.number {
                    add("entries", summary.entries.to_string(), walk.number.to_string());
                }
                if let Some(last) = walk.previous.filter(|last| summary.entries == walk.number && *last != summary.head)
                {
                    add("head", summary.head.to_string(), last.to_string());
                }
                if summary.end != reader.length {
                    let found =
                        format!("{} (an append may have been interrupted: the next one mends that)", reader.length);
                    add("length", format!("{} bytes", summary.end), found);
                }
            }
        }
        if rest > 0 {
            let found = format!("{rest} bytes that are less than its length says");
            self.findings.push(Finding::new(walk.number + 1, "length", "a whole entry", found));
        }
    }
}

impl Walk {
    fn new() -> Self {
        let (previous, criteria) = (Some(Digest::default()), Digest::default());
        Self { number: 0, previous, place: None, criteria, config: None, remembered: None, resets: false }
    }

    /// Checks how an entry follows from those before it.
    fn follow(&mut self, entry: Option<Entry>, holds: bool) -> Item {
        self.number += 1;
        let number = self.number;
        let mut findings = Vec::new();
        let mut add = |field: &str, expected: String, found: String| {
            findings.push(Finding::new(number, field, expected, found));
        };
        if !holds {
            let found = if entry.is_some() { "other bytes" } else { "bytes that are no entry" };
            add("bytes", "those that the check behind them holds for".into(), found.into());
        }
        let Some(entry) = entry else {
            if holds {
                add("bytes", "an entry of this version".into(), "something else".into());
            }
            // What it named is not known; the next one is held to what it says itself.
            self.previous = None;
            return Item { number, entry: None, config: self.config.clone(), findings, signed: false, weighing: None };
        };
        let head = &entry.head;
        if head.number != number {
            add("number", number.to_string(), head.number.to_string());
        }
        if let Some(previous) = self.previous.filter(|previous| *previous != head.previous) {
            add("previous", previous.to_string(), head.previous.to_string());
        }
        let place = (head.netuid, head.mechanism);
        if *self.place.get_or_insert(place) != place {
            let name = |(netuid, mechanism): (u16, u8)| format!("{netuid}.{mechanism}");
            add("subnet", self.place.map(name).unwrap_or_default(), name(place));
        }
        self.previous = Some(head.digest());

        let adopts = match &entry.body {
            Body::Round(round) => {
                if round.criteria.is_some() && number > 1 {
                    add("criteria", "those in force".into(), "other ones, without a change that says so".into());
                }
                round.criteria.as_ref().filter(|_| number == 1)
            }
            Body::CriteriaChanged(change) => {
                if change.from != self.criteria {
                    add("criteria.from", self.criteria.to_string(), change.from.to_string());
                }
                if change.to != head.criteria {
                    add("criteria.to", head.criteria.to_string(), change.to.to_string());
                }
                Some(&change.criteria)
            }
        };
        if let Some(text) = adopts {
            self.criteria = Digest::of(text.as_bytes());
            self.config = match Config::parse(text, "criteria") {
                Ok(config) => Some(Arc::new(config)),
                Err(error) => {
                    add("criteria", "criteria that this build reads".into(), error.to_string());
                    None
                }
            };
        } else if number == 1 {
            add("criteria", "their text in the first entry".into(), "none".into());
        }
        if head.criteria != self.criteria {
            add("criteria", self.criteria.to_string(), head.criteria.to_string());
        }
        Item { number, entry: Some(entry), config: self.config.clone(), findings, signed: false, weighing: None }
    }

    /// Checks that what the weights remember goes from round to round as it was left.
    fn remember(&mut self, item: &mut Item, notes: &mut Vec<String>) {
        let Some(entry) = &item.entry else {
            self.remembered = None;
            return;
        };
        let round = match &entry.body {
            Body::CriteriaChanged(CriteriaChanged { keeps_memory, .. }) => {
                self.resets |= !keeps_memory;
                return;
            }
            Body::Round(round) => round,
        };
        let Some(weighing) = item.weighing.take() else {
            self.remembered = None;
            return;
        };
        let (number, memory) = (item.number, &round.memory);
        if std::mem::take(&mut self.resets) {
            if !memory.is_empty() {
                let found = format!("what {} hotkeys had under the criteria before", memory.hotkeys().count());
                item.findings.push(Finding::new(number, "memory", "none: the change of criteria says so", found));
            }
        } else if let Some(last) = &self.remembered {
            // The last round again goes on from what was before it.
            let expected = if last.round == round.round { &last.before } else { &last.after };
            if memory.is_empty() && !expected.is_empty() {
                notes.push(format!(
                    "entry {number} begins anew, though entry {} left averages or ratings of {} hotkeys",
                    last.entry,
                    expected.hotkeys().count()
                ));
            } else if let Some(difference) = difference(expected, memory) {
                match difference {
                    Ok(renamed) => notes.push(format!("entry {number} goes on under other hotkeys: {renamed}")),
                    Err((hotkey, expected, found)) => {
                        item.findings.push(Finding::new(number, format!("memory of {hotkey}"), expected, found));
                    }
                }
            }
        }
        let (before, after) = (memory.clone(), weighing.memory);
        self.remembered = Some(Remembered { entry: number, round: round.round, before, after });
    }
}

/// Where two memories differ: in names alone, or in a hotkey's numbers.
fn difference(expected: &Memory, found: &Memory) -> Option<Result<String, (String, String, String)>> {
    if expected == found {
        return None;
    }
    let known = |memory: &Memory, hotkey: &str| {
        let rating = memory.ratings.get(hotkey).map(|rating| (rating.mu.to_bits(), rating.sigma.to_bits()));
        (memory.averages.get(hotkey).map(|average| average.to_bits()), rating)
    };
    let mut hotkeys: Vec<&str> = expected.hotkeys().chain(found.hotkeys()).collect();
    hotkeys.sort_unstable();
    hotkeys.dedup();
    let differs = |hotkey: &&str| known(expected, hotkey) != known(found, hotkey);
    let (mut gone, mut new) = (Vec::new(), Vec::new());
    for hotkey in hotkeys.into_iter().filter(differs) {
        match (known(expected, hotkey), known(found, hotkey)) {
            (before, (None, None)) => gone.push((before, hotkey)),
            ((None, None), after) => new.push((after, hotkey)),
            (before, after) => {
                return Some(Err((hotkey.to_owned(), format!("{before:?} (bits)"), format!("{after:?}"))));
            }
        }
    }
    gone.sort_unstable();
    new.sort_unstable();
    if gone.iter().map(|(numbers, _)| numbers).eq(new.iter().map(|(numbers, _)| numbers)) {
        let pairs = gone.iter().zip(&new).map(|((_, from), (_, to))| format!("{from} is now {to}"));
        return Some(Ok(pairs.collect::<Vec<_>>().join(", ")));
    }
    let left = |list: &[(_, &str)]| match list {
        [] => "none".to_owned(),
        list => list.iter().map(|(_, hotkey)| *hotkey).take(NAMED).collect::<Vec<_>>().join(", "),
    };
    Some(Err((gone.first().or(new.first())?.1.to_owned(), left(&gone), left(&new))))
}

impl Entry {
    /// Whether it has a signature, and that is its signer's.
    pub fn signature_holds(&self) -> bool {
        let (Some(signer), Some(signature)) = (&self.head.signer, &self.signature) else { return false };
        signer.verify(self.head.message().as_bytes(), signature)
    }
}

impl Item {
    /// Checks what an entry says by itself.
    fn examine(&mut self, demands: &Demands) {
        let Some(entry) = &self.entry else { return };
        let (number, head) = (self.number, &entry.head);
        self.signed = entry.signature_holds();
        let findings = &mut self.findings;
        let mut add = |field: &str, expected: &dyn ToString, found: &dyn ToString| {
            findings.push(Finding::new(number, field, expected.to_string(), found.to_string()));
        };
        match (&head.signer, &entry.signature) {
            (Some(signer), Some(_)) if !self.signed => {
                add("signature", &format!("one by {signer}"), &"one that is not");
            }
            (Some(signer), None) => add("signature", &format!("one by {signer}"), &"none"),
            (None, Some(_)) => add("signature", &"none, as the head names no signer", &"one"),
            _ => {}
        }
        if let Some(signers) = &demands.signers
            && !head.signer.is_some_and(|signer| signers.contains(&signer))
        {
            let found = head.signer.map_or("none".to_owned(), |signer| signer.to_string());
            add("signer", &"one of those allowed", &found);
        }
        let body = entry.body.digest();
        if body != head.body {
            add("body", &head.body, &body);
        }
        let named = [("responses", head.responses), ("scores", head.scores), ("weights", head.weights)];
        for ((field, expected), found) in named.into_iter().zip(entry.body.roots()) {
            if expected != found {
                add(field, &expected, &found);
            }
        }
        match (&entry.body, &self.config) {
            (Body::Round(round), Some(config)) => self.weighing = replay(number, round, config, findings),
            (Body::CriteriaChanged(CriteriaChanged { from, to, vote: Some(vote), .. }), _) => {
                let proposal = Proposal { from: *from, to: *to, netuid: head.netuid, mechanism: head.mechanism };
                match recount(&proposal, &vote.voters, vote.kappa, &vote.approvals) {
                    Ok(tally) if tally == vote.tally => {}
                    Ok(tally) => add("tally", &format!("{tally:?}"), &format!("{:?}", vote.tally)),
                    Err(error) => add("approvals", &"ones that count", &error),
                }
            }
            _ => {}
        }
    }
}

/// Computes weights and epoch again.
fn replay(number: u64, round: &Round, config: &Config, findings: &mut Vec<Finding>) -> Option<Weighing> {
    let mut add = |field: String, expected: String, found: String| {
        findings.push(Finding::new(number, field, expected, found));
    };
    let lengths = [
        ("texts", round.table.answers.len(), round.texts.len()),
        ("weights", round.table.entrants.len(), round.weights.len()),
    ];
    for (field, expected, found) in lengths {
        if expected != found {
            add(field.into(), format!("{expected} of them"), found.to_string());
        }
    }
    if round.step != record::step(config) {
        add("step".into(), record::step(config).to_string(), round.step.to_string());
    }
    let weighing = match weights::weigh(&config.weights, &round.table, &round.memory) {
        Ok(weighing) => weighing,
        Err(error) => {
            add("table".into(), "one that can be weighed".into(), error.to_string());
            return None;
        }
    };
    let pairs = round.table.entrants.iter().zip(&weighing.row).zip(&round.weights);
    for ((entrant, expected), found) in pairs.filter(|((_, expected), found)| expected != found).take(NAMED) {
        add(format!("weight of {}", entrant.hotkey), expected.to_string(), found.to_string());
    }
    if let Some(epoch) = &round.epoch
        && let Err((field, expected, found)) = replay_epoch(epoch, &round.chain_row())
    {
        add(field, expected, found);
    }
    Some(weighing)
}

/// Computes an epoch again; the first place where it differs.
fn replay_epoch(epoch: &Epoch, row: &[(u16, u16)]) -> Result<(), (String, String, String)> {
    let unreadable = |expected: &str, problem: String| ("epoch".to_owned(), expected.to_owned(), problem);
    let state = serde_json::from_str::<State>(&epoch.state)
        .map_err(|error| unreadable("a subnet's state", error.to_string()))?;
    let state = state
        .with_submitted(epoch.validator, row)
        .map_err(|error| unreadable("a state that takes the row", error.to_string()))?;
    let expected = serde_json::to_value(yuma::Epoch::new(&state)).unwrap_or_default();
    let found: Value =
        serde_json::from_str(&epoch.chain).map_err(|error| unreadable("what the chain stores", error.to_string()))?;
    first_difference("epoch".into(), &expected, &found).map_or(Ok(()), Err)
}

/// Where two values first differ, and both there.
fn first_difference(place: String, expected: &Value, found: &Value) -> Option<(String, String, String)> {
    match (expected, found) {
        (Value::Object(left), Value::Object(right)) => {
            let mut keys: Vec<&String> = left.keys().chain(right.keys()).collect();
            keys.sort_unstable();
            keys.dedup();
            let value = |map: &serde_json::Map<String, Value>, key: &str| map.get(key).cloned().unwrap_or_default();
            keys.into_iter()
                .find_map(|key| first_difference(format!("{place}.{key}"), &value(left, key), &value(right, key)))
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => left
            .iter()
            .zip(right)
            .enumerate()
            .find_map(|(at, (left, right))| first_difference(format!("{place}[{at}]"), left, right)),
        _ => (expected != found).then(|| (place, shown(expected), shown(found))),
    }
}

/// A value as a finding shows it.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 100 { text } else { format!("{}...", text.chars().take(97).collect::<String>()) }
}
