//! What a validator keeps between rounds: moving averages and ratings, the history bank and coldkeys, in one file of a folder.
//!
//! Everything is keyed by hotkey. Uids are not stored at all: whoever takes one over inherits nothing, and a subnet may grow or shrink
//! without anything moving. The file is a [redb](https://docs.rs/redb) database; a round is one transaction, and [`Store::record`] returns
//! only once that is on the disk, so that a kill or a loss of power at any moment leaves the rounds acknowledged before it, whole.

mod bank;
mod leaf;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use bank::Kept;
pub use bank::digest;

use crate::data::Round;
use crate::nn::Embeddings;
use crate::stages::yuma::State;
use crate::{Error, Result};

/// The file in a state's folder.
pub const FILE: &str = "state.redb";

/// The version of the tables below.
const SCHEMA: u64 = 1;

/// What a new file is called until it is whole.
const UNFINISHED: &str = ".tauscore-state-";

/// Pages of the file that are held in memory, in bytes.
const CACHE: usize = 64 << 20;

/// `schema`, and `rounds`: how many have ever been recorded.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// The number of every round ever recorded, from 1, by its digest: 40 bytes a round.
const DIGESTS: TableDefinition<'_, &[u8; 32], u64> = TableDefinition::new("digests");
/// The bank: a round by its number, as JSON.
const ROUNDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rounds");
/// The embeddings of a round's responses, little-endian.
const EMBEDDINGS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("embeddings");
/// A kind of number (`averages`, `ratings`) and a hotkey, and what is known ([`leaf`]).
const MEMORY: TableDefinition<'_, (&str, &str), &str> = TableDefinition::new("memory");
/// What the last round replaced in [`MEMORY`]; empty where there was nothing.
const BEFORE: TableDefinition<'_, (&str, &str), &str> = TableDefinition::new("before");
/// Coldkeys by hotkey, as a subnet's state last had them.
const COLDKEYS: TableDefinition<'_, &str, &str> = TableDefinition::new("coldkeys");

/// How much of the past a round is compared with: older rounds make room for newer ones. The newest stays, whatever its size. One round more is
/// kept, so that the last can be scored again from the same past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Rounds at most.
    pub rounds: u64,
    /// Bytes at most, of texts and embeddings together.
    pub bytes: u64,
}

impl Default for Bounds {
    /// 100 rounds, 256 MiB.
    fn default() -> Self {
        Self { rounds: 100, bytes: 256 << 20 }
    }
}

/// Where a round stands among those that were recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Its number, from 1.
    pub number: u64,
    /// Whether it has been recorded already, as the last one. It may be scored again, from what was known before it, and counts once.
    pub again: bool,
}

/// What there is to keep of a round.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The round.
    pub round: &'a Round,
    /// Its [`digest`].
    pub digest: [u8; 32],
    /// What embedded it: embeddings are compared with those of the same encoder only.
    pub encoder: &'a str,
    /// The embeddings, and the row of each response.
    pub embeddings: (&'a Embeddings, &'a [u32]),
    /// The subnet, for its coldkeys.
    pub subnet: Option<&'a State>,
    /// Kinds and hotkeys of what is known no longer.
    pub forgotten: &'a [(&'a str, &'a str)],
}

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Size {
    /// Rounds that were ever recorded.
    pub recorded: u64,
    /// Rounds in the bank.
    pub rounds: u64,
    /// Responses in the bank.
    pub responses: u64,
    /// Bytes of them, embeddings included.
    pub bytes: u64,
}

/// See the module. While one is open, no other process can open the same folder.
#[derive(Debug)]
pub struct Store {
    database: Database,
    path: PathBuf,
    bounds: Bounds,
}

impl Store {
    /// Opens the state in `folder`, or makes an empty one there. After a kill the file is repaired; every checksum in it is verified.
    ///
    /// # Errors
    /// [`Error::Usage`] while another process has it open; [`Error::File`] if the file is damaged, or of another schema; [`Error::Io`] if
    /// it cannot be read or written.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        if !path.try_exists().map_err(|error| Error::io(&path, error))? {
            create(folder, &path)?;
        }
        let store = Self { database: open(&path)?, path, bounds: Bounds::default() };
        let schema = store.read(META)?.and_then(|table| table.get("schema").transpose()).transpose();
        let schema = schema.map_err(|error| store.failed(error))?.map(|schema| schema.value());
        if schema != Some(SCHEMA) {
            let problem =
                schema.map_or("missing".to_owned(), |schema| format!("{schema}, and this build reads {SCHEMA}"));
            return Err(Error::File {
                file: store.path.display().to_string(),
                field: "schema".into(),
                problem,
                remedy: "use the version of tauscore that wrote it, or another folder".into(),
            });
        }
        clear(folder);
        Ok(store)
    }

    /// The same state with another bound on its bank; what is beyond it goes when the next round is recorded.
    #[must_use]
    pub fn with_bounds(self, bounds: Bounds) -> Self {
        Self { bounds, ..self }
    }

    /// Opens the state in `folder`, where there is one.
    ///
    /// # Errors
    /// As [`Store::open`]; [`Error::Io`] if there is none.
    pub fn open_existing(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        fs::metadata(&path).map_err(|error| Error::io(&path, error))?;
        Self::open(folder)
    }

    /// The turn of a round that has not been recorded.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read.
    pub fn next(&self) -> Result<Turn> {
        Ok(Turn { number: self.recorded()? + 1, again: false })
    }

    /// Where a round stands, by its digest.
    ///
    /// # Errors
    /// [`Error::Usage`] if others were recorded after it: what was known before it is gone.
    pub fn turn(&self, digest: &[u8; 32]) -> Result<Turn> {
        let recorded = self.recorded()?;
        let number = match self.read(DIGESTS)? {
            Some(table) => table.get(digest).map_err(|error| self.failed(error))?.map(|number| number.value()),
            None => None,
        };
        match number {
            None => self.next(),
            Some(number) if number == recorded => Ok(Turn { number, again: true }),
            Some(number) => Err(Error::Usage {
                argument: "--state".into(),
                problem: format!(
                    "this round is number {number} of {recorded} in {}: it cannot be counted again",
                    self.path.display()
                ),
                remedy: "its results were written then; leave --state out to score it on its own".into(),
            }),
        }
    }

    /// What was known before a round: per kind and hotkey. What has never been recorded is as in `M::default()`.
    ///
    /// # Errors
    /// [`Error::File`] if what is stored is no `M`.
    pub fn memory<M: Serialize + DeserializeOwned + Default>(&self, turn: Turn) -> Result<M> {
        let mut known =
            serde_json::to_value(M::default()).map_err(|error| self.damaged("memory", &error.to_string()))?;
        let mut take = |kind: &str, hotkey: &str, text: &str| -> Result<()> {
            let Some(kinds) = known.as_object_mut() else { return Ok(()) };
            let of_kind = kinds.entry(kind).or_insert_with(|| Value::Object(Map::new()));
            let Some(of_kind) = of_kind.as_object_mut() else { return Ok(()) };
            if text.is_empty() {
                of_kind.remove(hotkey);
            } else {
                let leaf =
                    leaf::read(text).map_err(|problem| self.damaged(&format!("{kind} of {hotkey}"), &problem))?;
                of_kind.insert(hotkey.to_owned(), leaf);
            }
            Ok(())
        };
        self.each(MEMORY, &mut take)?;
        if turn.again {
            self.each(BEFORE, &mut take)?;
        }
        serde_json::from_value(known).map_err(|error| self.damaged("memory", &error.to_string()))
    }

    /// The bank as it was before a round, the oldest round first. Responses have the embeddings that `encoder` made of them, and none
    /// where another one did.
    ///
    /// # Errors
    /// [`Error::File`] if a stored round is none.
    pub fn history(&self, turn: Turn, encoder: &str) -> Result<Vec<Round>> {
        let Some(rounds) = self.read(ROUNDS)? else { return Ok(Vec::new()) };
        let Some(embeddings) = self.read(EMBEDDINGS)? else { return Ok(Vec::new()) };
        let sizes = sizes(&rounds, &embeddings, turn.number).map_err(|error| self.failed(error))?;
        let mut history = Vec::new();
        for (number, _) in &sizes[sizes.len() - held(&sizes, self.bounds)..] {
            let json = rounds.get(number).map_err(|error| self.failed(error))?;
            let numbers = embeddings.get(number).map_err(|error| self.failed(error))?;
            let (Some(json), Some(numbers)) = (json, numbers) else { continue };
            let round = Kept::parse(json.value()).and_then(|kept| kept.restore(numbers.value(), encoder));
            history.push(round.map_err(|problem| self.damaged(&format!("round {number}"), &problem))?);
        }
        Ok(history)
    }

    /// Coldkeys by hotkey, by ascending hotkey.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read.
    pub fn coldkeys(&self) -> Result<Vec<(String, String)>> {
        let Some(table) = self.read(COLDKEYS)? else { return Ok(Vec::new()) };
        let pairs = table.iter().map_err(|error| self.failed(error))?;
        let owned =
            pairs.map(|pair| pair.map(|(hotkey, coldkey)| (hotkey.value().to_owned(), coldkey.value().to_owned())));
        owned.collect::<Result<_, _>>().map_err(|error| self.failed(error))
    }

    /// How much is kept.
    ///
    /// # Errors
    /// [`Error::File`] if a stored round is none.
    pub fn size(&self) -> Result<Size> {
        let mut size = Size { recorded: self.recorded()?, rounds: 0, responses: 0, bytes: 0 };
        let (Some(rounds), Some(embeddings)) = (self.read(ROUNDS)?, self.read(EMBEDDINGS)?) else { return Ok(size) };
        for entry in rounds.iter().map_err(|error| self.failed(error))? {
            let (number, json) = entry.map_err(|error| self.failed(error))?;
            let kept = Kept::parse(json.value());
            let kept = kept.map_err(|problem| self.damaged(&format!("round {}", number.value()), &problem))?;
            size.rounds += 1;
            size.responses += kept.responses() as u64;
            size.bytes += json.value().len() as u64;
        }
        for entry in embeddings.iter().map_err(|error| self.failed(error))? {
            size.bytes += entry.map_err(|error| self.failed(error))?.1.value().len() as u64;
        }
        Ok(size)
    }

    /// Keeps a round in one transaction, which is on the disk when this returns: what is known after it, itself as the newest of the bank,
    /// and coldkeys. Whoever is neither in `memory` nor forgotten keeps what he has. Recorded again, the last round takes its own place: it counts once.
    ///
    /// # Errors
    /// [`Error::Usage`] naming kind and hotkey if a number is not finite, and as [`Store::turn`]; nothing is written then. [`Error::Io`] if
    /// it cannot be written.
    pub fn record(&self, record: Record<'_>, memory: &impl Serialize) -> Result<Turn> {
        let turn = self.turn(&record.digest)?;
        let leaves = leaf::leaves(memory)?;
        let (kept, numbers) = Kept::new(record);
        let json = serde_json::to_vec(&kept).map_err(|error| self.damaged("round", &error.to_string()))?;
        self.write(|transaction| {
            let mut meta = transaction.open_table(META)?;
            meta.insert("rounds", turn.number)?;
            transaction.open_table(DIGESTS)?.insert(&record.digest, turn.number)?;
            let mut known = transaction.open_table(MEMORY)?;
            let mut before = transaction.open_table(BEFORE)?;
            if turn.again {
                for entry in before.iter()? {
                    let (key, old) = entry?;
                    match old.value() {
                        "" => known.remove(key.value())?,
                        old => known.insert(key.value(), old)?,
                    };
                }
            }
            before.retain(|_, _| false)?;
            for key in record.forgotten {
                if let Some(old) = known.remove(key)? {
                    before.insert(key, old.value())?;
                }
            }
            for (kind, hotkey, leaf) in &leaves {
                let key = (kind.as_str(), hotkey.as_str());
                let old = known.insert(key, leaf.as_str())?;
                before.insert(key, old.as_ref().map_or("", |old| old.value()))?;
            }
            let mut coldkeys = transaction.open_table(COLDKEYS)?;
            for (hotkey, coldkey) in
                record.subnet.into_iter().flat_map(|subnet| subnet.hotkeys.iter().zip(&subnet.coldkeys))
            {
                coldkeys.insert(hotkey.as_str(), coldkey.as_str())?;
            }
            let mut rounds = transaction.open_table(ROUNDS)?;
            let mut embeddings = transaction.open_table(EMBEDDINGS)?;
            rounds.insert(turn.number, json.as_slice())?;
            embeddings.insert(turn.number, numbers.as_slice())?;
            // All but this one, which the next is compared with first of all.
            let sizes = sizes(&rounds, &embeddings, turn.number)?;
            for (number, _) in &sizes[..sizes.len() - held(&sizes, self.bounds)] {
                rounds.remove(number)?;
                embeddings.remove(number)?;
            }
            Ok(())
        })?;
        Ok(turn)
    }

    /// Lets a hotkey go on as another: what is known of `from`, and the responses that it gave, are `to`'s from now on, as after a hotkey
    /// swap on the chain. What `to` had gathered of its own is given up. Who is whose is never guessed: somebody has to say it.
    ///
    /// # Errors
    /// [`Error::Usage`] if nothing is known of `from`, if the two have different coldkeys, or if both answered in one round.
    pub fn swap(&self, from: &str, to: &str) -> Result<()> {
        let refuse = |problem: String, remedy: &str| {
            Err(Error::Usage { argument: "--from".into(), problem, remedy: remedy.into() })
        };
        let coldkeys = self.coldkeys()?;
        let owner = |hotkey: &str| coldkeys.iter().find(|pair| pair.0 == hotkey).map(|pair| pair.1.as_str());
        if let (Some(left), Some(right)) = (owner(from), owner(to))
            && left != right
        {
            let problem = format!("{from} is of coldkey {left}, and {to} of {right}");
            return refuse(problem, "a hotkey is swapped within its coldkey: check the two names");
        }
        let mut renamed = Vec::new();
        let mut kinds = BTreeSet::new();
        if let Some(rounds) = self.read(ROUNDS)? {
            for entry in rounds.iter().map_err(|error| self.failed(error))? {
                let (number, json) = entry.map_err(|error| self.failed(error))?;
                let number = number.value();
                let kept = Kept::parse(json.value());
                let mut kept = kept.map_err(|problem| self.damaged(&format!("round {number}"), &problem))?;
                match (kept.rename(from, to), kept.has(from)) {
                    (true, _) => renamed.push((number, kept)),
                    (false, true) => {
                        let problem = format!("{from} and {to} both answered in round {number}: they are two miners");
                        return refuse(problem, "check the two names");
                    }
                    (false, false) => {}
                }
            }
        }
        let mut known = owner(from).is_some() || !renamed.is_empty();
        self.each(MEMORY, &mut |kind, hotkey, _| {
            if hotkey == from || hotkey == to {
                kinds.insert(kind.to_owned());
                known |= hotkey == from;
            }
            Ok(())
        })?;
        if !known {
            return refuse(format!("nothing is known of {from}"), "name a hotkey that `tauscore state show` lists");
        }
        let renamed = renamed.iter().map(|(number, kept)| Ok((*number, serde_json::to_vec(kept)?)));
        let renamed: Vec<(u64, Vec<u8>)> = renamed
            .collect::<std::result::Result<_, serde_json::Error>>()
            .map_err(|error| self.damaged("round", &error.to_string()))?;
        self.write(|transaction| {
            let mut rounds = transaction.open_table(ROUNDS)?;
            for (number, json) in &renamed {
                rounds.insert(number, json.as_slice())?;
            }
            for definition in [MEMORY, BEFORE] {
                let mut table = transaction.open_table(definition)?;
                for kind in &kinds {
                    let leaf = table.remove((kind.as_str(), from))?.map(|leaf| leaf.value().to_owned());
                    match leaf {
                        Some(leaf) => table.insert((kind.as_str(), to), leaf.as_str())?,
                        None => table.remove((kind.as_str(), to))?,
                    };
                }
            }
            let mut coldkeys = transaction.open_table(COLDKEYS)?;
            let coldkey = coldkeys.remove(from)?.map(|coldkey| coldkey.value().to_owned());
            if let Some(coldkey) = coldkey {
                coldkeys.insert(to, coldkey.as_str())?;
            }
            Ok(())
        })
    }

    /// How many rounds were ever recorded.
    fn recorded(&self) -> Result<u64> {
        let Some(meta) = self.read(META)? else { return Ok(0) };
        Ok(meta.get("rounds").map_err(|error| self.failed(error))?.map_or(0, |rounds| rounds.value()))
    }

    /// One table as it is now; `None` before anything was written to it.
    fn read<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        table: TableDefinition<'_, K, V>,
    ) -> Result<Option<redb::ReadOnlyTable<K, V>>> {
        let transaction = self.database.begin_read().map_err(|error| self.failed(error))?;
        match transaction.open_table(table) {
            Ok(table) => Ok(Some(table)),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Hands on a table of kinds and hotkeys, row by row.
    fn each(
        &self,
        table: TableDefinition<'static, (&'static str, &'static str), &'static str>,
        take: &mut impl FnMut(&str, &str, &str) -> Result<()>,
    ) -> Result<()> {
        let Some(table) = self.read(table)? else { return Ok(()) };
        for entry in table.iter().map_err(|error| self.failed(error))? {
            let (key, text) = entry.map_err(|error| self.failed(error))?;
            take(key.value().0, key.value().1, text.value())?;
        }
        Ok(())
    }

    /// One transaction, on the disk when this returns; nothing of it if it fails.
    fn write(&self, change: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>) -> Result<()> {
        let mut transaction = self.database.begin_write().map_err(|error| self.failed(error))?;
        // Miners choose what is written. With two phases no content can pass for a commit that was not finished.
        transaction.set_two_phase_commit(true);
        change(&transaction).map_err(|error| self.failed(error))?;
        transaction.commit().map_err(|error| self.failed(error))
    }

    fn failed(&self, error: impl Into<redb::Error>) -> Error {
        failed(&self.path, error.into())
    }

    fn damaged(&self, field: &str, problem: &str) -> Error {
        damaged(&self.path, field, problem)
    }
}

/// The rounds before one, with their bytes, the oldest first.
fn sizes(
    rounds: &impl ReadableTable<u64, &'static [u8]>,
    embeddings: &impl ReadableTable<u64, &'static [u8]>,
    before: u64,
) -> Result<Vec<(u64, u64)>, redb::StorageError> {
    let pairs = rounds.range(..before)?.zip(embeddings.range(..before)?);
    pairs
        .map(|(json, numbers)| {
            let (json, numbers) = (json?, numbers?);
            Ok((json.0.value(), (json.1.value().len() + numbers.1.value().len()) as u64))
        })
        .collect()
}

/// How many of these rounds, the newest of them, are within bounds.
fn held(sizes: &[(u64, u64)], bounds: Bounds) -> usize {
    let mut bytes = 0_u64;
    let newest = sizes.iter().rev().zip(1..).take_while(|((_, size), rounds)| {
        bytes = bytes.saturating_add(*size);
        *rounds == 1 || *rounds <= bounds.rounds && bytes <= bounds.bytes
    });
    newest.count()
}

/// Opens a file that is there.
fn open(path: &Path) -> Result<Database> {
    // A file that something else has written to is refused by its checksums, instead of being trusted.
    let opened = Builder::new().set_cache_size(CACHE).set_check_integrity_on_open(true).open(path);
    opened.map_err(|error| failed(path, error.into()))
}

/// Makes an empty state beside its place and puts it there whole: a kill on the way leaves nothing half-made under its name.
fn create(folder: &Path, path: &Path) -> Result<()> {
    let io = |error| Error::io(folder, error);
    fs::create_dir_all(folder).map_err(io)?;
    let unfinished = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(folder).map_err(io)?;
    let made = Builder::new().set_cache_size(CACHE).create(unfinished.path());
    let database = made.map_err(|error| failed(path, error.into()))?;
    let store = Store { database, path: path.to_owned(), bounds: Bounds::default() };
    store.write(|transaction| {
        transaction.open_table(META)?.insert("schema", SCHEMA)?;
        Ok(())
    })?;
    drop(store);
    match unfinished.persist_noclobber(path) {
        Ok(_) => {}
        // Another process was faster; whether it is still there is found out on opening.
        Err(_) if path.exists() => {}
        Err(error) => return Err(io(error.error)),
    }
    sync(folder);
    folder.parent().into_iter().for_each(sync);
    Ok(())
}

/// Brings a folder's entries to the disk, where the platform can.
fn sync(folder: &Path) {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    // Windows opens no folders; it writes their entries through.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
}

/// Removes what kills during [`create`] left.
fn clear(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn damaged(path: &Path, field: &str, problem: &str) -> Error {
    Error::File {
        file: path.display().to_string(),
        field: field.into(),
        problem: problem.into(),
        remedy: "the file is damaged: put a copy of it in its place, or begin anew in another folder".into(),
    }
}

/// What the database says, with the file that it says it of.
fn failed(path: &Path, error: redb::Error) -> Error {
    match error {
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => Error::Usage {
            argument: "--state".into(),
            problem: format!("{} is in use by another process", path.display()),
            remedy: "wait for that one, or give each its own folder".into(),
        },
        redb::Error::Io(error) if error.kind() == ErrorKind::InvalidData => damaged(path, "(file)", &error.to_string()),
        redb::Error::Io(error) => Error::io(path, error),
        error => damaged(path, "(file)", &error.to_string()),
    }
}
