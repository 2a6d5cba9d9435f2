//! The file: a header, and entries one behind the other, each with its length before it and a check after it.
//!
//! An append is on the disk before the header counts it, and the header is on the disk before [`Ledger::append`] returns. Killed at any moment, the
//! file is the old ledger, or the new one, or the old one with an unfinished append behind it, which the next [`Ledger::open`] completes or
//! removes: nobody was told that it was there. Every byte is covered: the header and each entry by a check, entries by the chain, their number by
//! the header, so that a ledger that lost its last entry does not pass for a shorter one.

use std::fs::{File, TryLockError};
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use borsh::{BorshDeserialize, BorshSerialize};

use super::{Body, CriteriaChanged, Digest, Entry, Head, Place, Recording, Signer};
use crate::{Error, Result, whole};

/// What the file begins with.
pub const MAGIC: &[u8; 16] = b"tauscore ledger\n";
/// The version of the format.
const VERSION: u32 = 1;
/// Bytes of the header: magic, summary, check.
const HEADER: u64 = (MAGIC.len() + SUMMARY + CHECK) as u64;
const SUMMARY: usize = 60;
const CHECK: usize = 8;
/// Bytes around an entry: its length and its check.
const FRAME: u64 = (size_of::<u32>() + CHECK) as u64;

/// What the header says of the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) struct Summary {
    version: u32,
    /// How many there are.
    pub(super) entries: u64,
    /// Where they end.
    pub(super) end: u64,
    /// Where the last one begins.
    last: u64,
    /// Its digest.
    pub(super) head: Digest,
}

/// A ledger that is open for appending. While one is, no other process can append to it.
#[derive(Debug)]
pub struct Ledger {
    file: File,
    path: PathBuf,
    summary: Summary,
    last: Option<Entry>,
    repaired: Option<String>,
}

impl Drop for Ledger {
    /// Closing the file is not enough: a process that was started meanwhile may hold it for a moment longer.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

fn check(parts: &[&[u8]]) -> [u8; CHECK] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let mut check = [0; CHECK];
    check.copy_from_slice(&hasher.finalize().as_bytes()[..CHECK]);
    check
}

impl Summary {
    const EMPTY: Self = Self { version: VERSION, entries: 0, end: HEADER, last: 0, head: Digest([0; 32]) };

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        // A vector takes whatever it is given.
        let _ = self.serialize(&mut bytes);
        let check = check(&[&bytes]);
        bytes.extend(check);
        bytes
    }

    /// Reads a header; `None` within where its check does not hold.
    fn read(file: &mut impl Read, path: &Path) -> Result<Option<Self>> {
        let mut bytes = Vec::new();
        file.take(HEADER).read_to_end(&mut bytes).map_err(|error| Error::io(path, error))?;
        if !bytes.starts_with(MAGIC) {
            let problem = "it does not begin as a ledger does";
            return Err(refuse(path, "header", problem, "name a file that `score --ledger` wrote"));
        }
        let Some((summary, found)) = bytes.split_last_chunk::<CHECK>() else { return Ok(None) };
        if bytes.len() as u64 != HEADER || *found != check(&[summary]) {
            return Ok(None);
        }
        let summary = Self::try_from_slice(&summary[MAGIC.len()..]).ok();
        match summary {
            Some(summary) if summary.version != VERSION => {
                let problem = format!("the version is {}, and this build reads {VERSION}", summary.version);
                Err(refuse(path, "header", &problem, "use the version of tauscore that wrote it"))
            }
            summary => Ok(summary),
        }
    }
}

fn refuse(path: &Path, field: &str, problem: &str, remedy: &str) -> Error {
    Error::File {
        file: path.display().to_string(),
        field: field.into(),
        problem: problem.into(),
        remedy: remedy.into(),
    }
}

/// What stands where an entry should.
#[derive(Debug)]
pub(super) enum Frame {
    /// An entry's bytes; whether the check after them holds.
    Entry(Vec<u8>, bool),
    /// Fewer bytes than an entry's length says, or than a length has; so many.
    Cut(u64),
}

/// Reads a ledger from its beginning to its end.
#[derive(Debug)]
pub(super) struct Reader {
    file: BufReader<File>,
    path: PathBuf,
    /// Where the next entry begins.
    pub(super) at: u64,
    /// Bytes of the file.
    pub(super) length: u64,
    /// What the header says, if it is whole.
    pub(super) summary: Option<Summary>,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let failed = |error| Error::io(path, error);
        let file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut file = BufReader::with_capacity(1 << 20, file);
        let summary = Summary::read(&mut file, path)?;
        Ok(Self { file, path: path.to_owned(), at: HEADER.min(length), length, summary })
    }

    /// What comes next, from where the last one ended; `None` at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<Frame>> {
        let left = self.length - self.at;
        if left == 0 {
            return Ok(None);
        }
        if left < FRAME {
            return Ok(Some(Frame::Cut(left)));
        }
        let mut prefix = [0; 4];
        self.read(&mut prefix)?;
        let bytes = u32::from_le_bytes(prefix);
        if left - FRAME < u64::from(bytes) {
            return Ok(Some(Frame::Cut(left)));
        }
        let mut entry = vec![0; bytes as usize];
        let mut found = [0; CHECK];
        self.read(&mut entry)?;
        self.read(&mut found)?;
        self.at += FRAME + u64::from(bytes);
        let holds = found == check(&[&prefix, &entry]);
        Ok(Some(Frame::Entry(entry, holds)))
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.file.read_exact(bytes).map_err(|error| Error::io(&self.path, error))
    }

    fn seek(&mut self, at: u64) -> Result<()> {
        self.at = at;
        self.file.seek(SeekFrom::Start(at)).map(drop).map_err(|error| Error::io(&self.path, error))
    }
}

impl Ledger {
    /// Opens a ledger for appending, or makes an empty one. What an interrupted append left is completed or removed ([`Ledger::repaired`]).
    ///
    /// # Errors
    /// [`Error::Usage`] while another process has it open; [`Error::File`] if it is no ledger, or is damaged: `verify` tells where;
    /// [`Error::Io`] if it cannot be read or written.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |error| Error::io(path, error);
        if !path.try_exists().map_err(failed)? {
            whole::write(path, &Summary::EMPTY.bytes())?;
        }
        let file = File::options().read(true).write(true).open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Usage {
                    argument: path.display().to_string(),
                    problem: "another process has the ledger open".into(),
                    remedy: "wait until it is done, or name another ledger".into(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let mut ledger = Self { file, path: path.to_owned(), summary: Summary::EMPTY, last: None, repaired: None };
        let mut reader = Reader::open(path)?;
        match reader.summary {
            Some(summary) => ledger.resume(&mut reader, summary)?,
            None => ledger.rescue(&mut reader)?,
        }
        Ok(ledger)
    }

    /// Goes on from a whole header.
    fn resume(&mut self, reader: &mut Reader, summary: Summary) -> Result<()> {
        if reader.length < summary.end {
            let problem = format!("{} bytes are missing at its end", summary.end - reader.length);
            return Err(self.damaged(summary.entries, &problem));
        }
        if summary.entries > 0 {
            reader.seek(summary.last)?;
            let entry = self.entry(reader, summary.entries)?;
            if entry.head.digest() != summary.head || reader.at != summary.end {
                return Err(self.damaged(summary.entries, "it is not the one that the header names"));
            }
            self.last = Some(entry);
        } else {
            reader.seek(summary.end)?;
        }
        self.summary = summary;
        if reader.length > summary.end {
            self.complete(reader)?;
        }
        Ok(())
    }

    /// Takes over what was appended whole and removes the rest: nobody was told of either.
    fn complete(&mut self, reader: &mut Reader) -> Result<()> {
        while let Some(Frame::Entry(bytes, true)) = reader.next()? {
            let Ok(entry) = Entry::try_from_slice(&bytes) else { break };
            if (entry.head.number, entry.head.previous) != self.next() || entry.head.body != entry.body.digest() {
                break;
            }
            self.count(entry, self.summary.end, reader.at);
        }
        let rest = reader.length - self.summary.end;
        let failed = |error| Error::io(&self.path, error);
        self.file.set_len(self.summary.end).map_err(failed)?;
        self.write_header()?;
        let removed = format!("{rest} bytes of an append that was interrupted were removed");
        let completed = format!("entry {} was there whole and is counted now", self.summary.entries);
        self.repaired = Some(if rest > 0 { removed } else { completed });
        Ok(())
    }

    /// Makes a header anew from entries that are all there.
    fn rescue(&mut self, reader: &mut Reader) -> Result<()> {
        let mut summary = Summary::EMPTY;
        if reader.length < HEADER {
            return Err(self.refuse("header", "it is cut off"));
        }
        while reader.at < reader.length {
            let (began, number) = (reader.at, summary.entries + 1);
            let entry = self.entry(reader, number)?;
            if (entry.head.number, entry.head.previous) != (number, summary.head) {
                return Err(self.damaged(number, "it does not follow from the one before it"));
            }
            summary = Summary { entries: number, end: reader.at, last: began, head: entry.head.digest(), ..summary };
            self.last = Some(entry);
        }
        self.summary = summary;
        self.write_header()?;
        self.repaired = Some(format!("the header was damaged; it was made anew from {} entries", summary.entries));
        Ok(())
    }

    /// The entry that the reader stands before.
    fn entry(&self, reader: &mut Reader, number: u64) -> Result<Entry> {
        match reader.next()? {
            Some(Frame::Entry(bytes, true)) => Entry::try_from_slice(&bytes)
                .ok()
                .filter(|entry| entry.head.body == entry.body.digest())
                .ok_or_else(|| self.damaged(number, "it does not say what its head says")),
            Some(Frame::Entry(_, false)) => Err(self.damaged(number, "its bytes are not those that were written")),
            _ => Err(self.damaged(number, "it is cut off")),
        }
    }

    fn damaged(&self, entry: u64, problem: &str) -> Error {
        self.refuse(&format!("entry {entry}"), problem)
    }

    fn refuse(&self, field: &str, problem: &str) -> Error {
        let remedy =
            "`tauscore verify` tells all that is wrong with it; go on from a copy that verifies, or begin another";
        refuse(&self.path, field, problem, remedy)
    }

    /// What was done to bring it into order after an interrupted append, if anything.
    pub fn repaired(&self) -> Option<&str> {
        self.repaired.as_deref()
    }

    /// How many entries there are.
    pub fn entries(&self) -> u64 {
        self.summary.entries
    }

    /// The last one.
    pub fn last(&self) -> Option<&Entry> {
        self.last.as_ref()
    }

    /// The digest of the criteria in force; `None` in an empty ledger.
    pub fn criteria(&self) -> Option<Digest> {
        self.last.as_ref().map(|last| last.head.criteria)
    }

    /// The number of the next entry, and which one it follows.
    fn next(&self) -> (u64, Digest) {
        (self.summary.entries + 1, self.summary.head)
    }

    /// Checks that a round at `place`, scored by `criteria`, may follow. Whoever scores for long asks before.
    ///
    /// # Errors
    /// [`Error::Usage`] if the ledger is of another subnet or of other criteria.
    pub fn check(&self, place: Place, criteria: Digest) -> Result<()> {
        let Some(last) = &self.last else { return Ok(()) };
        let refuse = |problem: String, remedy: &str| {
            Err(Error::Usage { argument: self.path.display().to_string(), problem, remedy: remedy.into() })
        };
        let Head { netuid, mechanism, block, criteria: current, .. } = last.head;
        if (netuid, mechanism) != (place.netuid, place.mechanism) {
            let (of, is) = (format!("{netuid}.{mechanism}"), format!("{}.{}", place.netuid, place.mechanism));
            return refuse(
                format!("the ledger is of subnet {of}, and the round of {is}"),
                "keep one ledger for each mechanism of a subnet",
            );
        }
        if place.block < block {
            let problem = format!("its last entry is of block {block}, and the round of {}", place.block);
            return refuse(problem, "append rounds in the order of their blocks");
        }
        if current != criteria {
            return refuse(
                format!("its criteria are {current}, and the round is scored by {criteria}"),
                "adopt the new ones first (`tauscore criteria adopt`): scores by different criteria are never mixed silently",
            );
        }
        Ok(())
    }

    /// Whether the last entry is a change of criteria after which averages and ratings begin anew.
    pub fn begins_anew(&self) -> bool {
        matches!(
            self.last,
            Some(Entry { body: Body::CriteriaChanged(CriteriaChanged { keeps_memory: false, .. }), .. })
        )
    }

    /// Appends a scored round.
    ///
    /// # Errors
    /// As [`Ledger::check`] and [`Ledger::append`].
    pub fn record(&mut self, place: Place, recording: &Recording<'_>, signer: Option<&Signer>) -> Result<Head> {
        let criteria = Digest::of_criteria(recording.config);
        self.check(place, criteria)?;
        // Scored again right after it was recorded as the first, it is to be the same entry.
        let first = match &self.last {
            None => true,
            Some(last) => last.head.number == 1 && recording.is_of(last),
        };
        self.append(place, criteria, recording.body(first), signer)
    }

    /// Appends an entry, signed where there is a `signer`, and returns its head. Once that has happened it is on the disk. The same body at the
    /// same place, twice in a row, counts once.
    ///
    /// # Errors
    /// As [`Signer::sign`]; [`Error::Usage`] if the entry is larger than 4 GiB; [`Error::Io`] if it cannot be written, and then the ledger is as it was.
    pub fn append(&mut self, place: Place, criteria: Digest, body: Body, signer: Option<&Signer>) -> Result<Head> {
        let head = Head::new(self.next(), place, criteria, &body, signer.map(Signer::public));
        if let Some(Entry { head: last, .. }) = &self.last
            && (Head { number: last.number, previous: last.previous, ..head.clone() }) == *last
        {
            return Ok(last.clone());
        }
        let signature = signer.map(|signer| signer.sign(head.message().as_bytes())).transpose()?;
        let entry = Entry { head: head.clone(), body, signature };
        self.write(entry)?;
        Ok(head)
    }

    fn write(&mut self, entry: Entry) -> Result<()> {
        let mut frame = vec![0; size_of::<u32>()];
        let _ = entry.serialize(&mut frame);
        let bytes = u32::try_from(frame.len() - size_of::<u32>()).map_err(|_| Error::Usage {
            argument: "--ledger".into(),
            problem: "the entry is larger than 4 GiB".into(),
            remedy: "score the round in parts".into(),
        })?;
        frame[..size_of::<u32>()].copy_from_slice(&bytes.to_le_bytes());
        let check = check(&[&frame]);
        frame.extend(check);
        let began = self.summary.end;
        let written = self
            .file
            .seek(SeekFrom::Start(began))
            .and_then(|_| self.file.write_all(&frame))
            .and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // A full disk: what is there of it must not stay behind the entries.
            let _ = self.file.set_len(began);
            return Err(Error::io(&self.path, error));
        }
        self.count(entry, began, began + frame.len() as u64);
        self.write_header()
    }

    /// Counts an entry that lies between two offsets.
    fn count(&mut self, entry: Entry, began: u64, end: u64) {
        let Summary { version, entries, .. } = self.summary;
        let head = entry.head.digest();
        self.summary = Summary { version, entries: entries + 1, end, last: began, head };
        self.last = Some(entry);
    }

    fn write_header(&mut self) -> Result<()> {
        let bytes = self.summary.bytes();
        let written = self.file.seek(SeekFrom::Start(0)).and_then(|_| self.file.write_all(&bytes));
        written.and_then(|()| self.file.sync_data()).map_err(|error| Error::io(&self.path, error))
    }
}
