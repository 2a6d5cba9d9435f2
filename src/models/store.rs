//! Where models lie, and whether what lies there is whole.

use std::fmt::Write as _;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcetera::BaseStrategy;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::fetch::{FetchOptions, Progress};
use super::{KNOWN, Kind, Known, NEEDED_FILES, Pinned};
use crate::nn::llama::Checkpoint;
use crate::{Error, Result};

const MANIFEST: &str = "manifest.json";
const MANIFEST_SCHEMA: u32 = 1;
const MAX_MANIFEST_BYTES: u64 = 1 << 16;
const DEFAULT_HUB: &str = "https://huggingface.co";

/// The folder that tauscore keeps its files in: `TAUSCORE_HOME`, else `tauscore` in the platform's cache folder.
///
/// # Errors
/// [`Error::Usage`] where neither is known.
pub fn home() -> Result<PathBuf> {
    let named = std::env::var_os("TAUSCORE_HOME").filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = match named {
        Some(folder) => folder,
        None => etcetera::base_strategy::choose_native_strategy()
            .map(|strategy| strategy.cache_dir().join("tauscore"))
            .map_err(|error| Error::Usage {
                argument: "TAUSCORE_HOME".to_owned(),
                problem: format!("is not set, and there is no home folder: {error}"),
                remedy: "set TAUSCORE_HOME to a folder that can be written".to_owned(),
            })?,
    };
    std::path::absolute(&folder).map_err(|error| Error::io(&folder, error))
}

/// Known models and the folder they are kept in.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) known: &'static [Known],
    pub(super) models: PathBuf,
    /// The model hub's address, without a slash at its end.
    pub(super) hub: String,
    /// How pip may be called, each a program and its first arguments.
    pub(super) pips: Vec<Vec<String>>,
}

/// What the store says of one known model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The model's name.
    pub name: &'static str,
    /// Where it lies, or would lie.
    pub folder: PathBuf,
    /// Whether it is there.
    pub state: State,
}

/// Whether a model is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing is there.
    Missing,
    /// All files have the right size, and their digests were right when they were fetched.
    Ready {
        /// The size of all files together.
        bytes: u64,
        /// Where they came from.
        from: String,
    },
    /// Something is there that is not the model.
    Damaged {
        /// What is wrong with it.
        problem: String,
    },
}

/// Written last into a model's folder: what was fetched.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    schema: u32,
    model: String,
    from: String,
    files: Vec<ManifestFile>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ManifestFile {
    path: String,
    bytes: u64,
    sha256: String,
}

impl Store {
    /// The store in [`home`]; `TAUSCORE_HUB` names another model hub (or a mirror of it) by its address.
    ///
    /// # Errors
    /// As [`home`].
    pub fn from_env() -> Result<Self> {
        let mut store = Self::at(&home()?);
        if let Ok(hub) = std::env::var("TAUSCORE_HUB")
            && !hub.is_empty()
        {
            store.hub = hub.trim_end_matches('/').to_owned();
        }
        Ok(store)
    }

    /// The store in another folder.
    pub fn at(home: &Path) -> Self {
        let command = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        Self {
            known: KNOWN,
            models: home.join("models"),
            hub: DEFAULT_HUB.to_owned(),
            pips: vec![command(&["python3", "-m", "pip"]), command(&["pip3"]), command(&["python", "-m", "pip"])],
        }
    }

    /// Finds a model of a kind. A known name means the store, wherever the command runs, and is fetched where it is
    /// missing, unless `offline`; anything else is a path, which is used as it is: of a folder with [`NEEDED_FILES`], or for
    /// a language model also of a `.gguf` file or a folder with one.
    ///
    /// # Errors
    /// [`Error::Model`] for an unknown name, a model of another kind, a missing or damaged model and a failed fetch,
    /// [`Error::File`] for a folder in which a file is missing.
    pub fn resolve(
        &self,
        name_or_path: &str,
        kind: Kind,
        offline: bool,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<PathBuf> {
        let Some(known) = self.find(name_or_path) else {
            return self.resolve_path(name_or_path, kind);
        };
        if known.kind != kind {
            let names: Vec<_> = self.known.iter().filter(|known| known.kind == kind).map(|known| known.name).collect();
            return Err(Error::Model {
                model: known.name.to_owned(),
                problem: format!("is {}, and {} is called for", known.kind.described(), kind.described()),
                remedy: format!("name {}, or {}", names.join(", "), kind.files()),
            });
        }
        match self.state(known) {
            State::Ready { .. } => Ok(self.folder(known)),
            State::Damaged { problem } => Err(damaged(known, &problem)),
            State::Missing if offline => {
                let here = if Path::new(name_or_path).is_dir() {
                    format!(" (./{name_or_path} for the one here)")
                } else {
                    String::new()
                };
                Err(Error::Model {
                    model: known.name.to_owned(),
                    problem: format!("is not in {}, and --offline forbids to fetch it", self.models.display()),
                    remedy: format!(
                        "run `tauscore models fetch {}` where there is a network, or name a folder{here}",
                        known.name
                    ),
                })
            }
            State::Missing => Ok(self.fetch(known.name, FetchOptions::default(), progress)?.folder),
        }
    }

    fn resolve_path(&self, name_or_path: &str, kind: Kind) -> Result<PathBuf> {
        let path = Path::new(name_or_path);
        let needed: &[&str] = match kind {
            Kind::Encoder => &NEEDED_FILES,
            Kind::LanguageModel if !path.exists() => &[],
            Kind::LanguageModel => match Checkpoint::find(path)? {
                Checkpoint::Gguf(_) => return Ok(path.to_path_buf()),
                // The weights may be in parts.
                Checkpoint::Safetensors(_) => &["config.json", "tokenizer.json"],
            },
        };
        if path.is_dir() {
            for needed in needed {
                if !path.join(needed).is_file() {
                    return Err(Error::File {
                        file: path.join(needed).display().to_string(),
                        field: "model".to_owned(),
                        problem: "is missing from the model's folder".to_owned(),
                        remedy: format!("a model's folder has {}", NEEDED_FILES.join(", ")),
                    });
                }
            }
            return Ok(path.to_path_buf());
        }
        let problem = if path.exists() {
            "is a file, not a model's folder"
        } else if name_or_path.contains(std::path::is_separator) {
            match kind {
                Kind::Encoder => "there is no such folder",
                Kind::LanguageModel => "there is no such file or folder",
            }
        } else {
            match kind {
                Kind::Encoder => "there is neither a known model nor a folder of that name",
                Kind::LanguageModel => "there is neither a known model nor a file or folder of that name",
            }
        };
        Err(self.unknown(name_or_path, problem, Some(kind)))
    }

    /// Every known model and whether it is there. Sizes are checked, digests are not.
    pub fn list(&self) -> Vec<Stored> {
        let stored = |known: &Known| Stored { name: known.name, folder: self.folder(known), state: self.state(known) };
        self.known.iter().map(stored).collect()
    }

    /// Reads every file of a model and compares its digest; returns how many bytes were read.
    ///
    /// # Errors
    /// [`Error::Model`] where the name is unknown, the model is not there, or a file is not what it was.
    pub fn verify(&self, name: &str) -> Result<u64> {
        let known = self.named(name)?;
        match self.state(known) {
            State::Ready { .. } => {}
            State::Damaged { problem } => return Err(damaged(known, &problem)),
            State::Missing => {
                return Err(Error::Model {
                    model: known.name.to_owned(),
                    problem: format!("is not in {}", self.models.display()),
                    remedy: format!("run `tauscore models fetch {}`", known.name),
                });
            }
        }
        let folder = self.folder(known);
        let mut bytes = 0;
        for file in known.files {
            let found = digest(&file.under(&folder)).map_err(|error| Error::io(file.under(&folder), error))?;
            if found != file.sha256 {
                return Err(damaged(known, &format!("{} has sha256 {found}, not {}", file.path, file.sha256)));
            }
            bytes += file.bytes;
        }
        Ok(bytes)
    }

    /// Removes a model and what broken fetches of it left behind; returns whether there was anything under its name.
    ///
    /// # Errors
    /// [`Error::Model`] where the name is unknown, [`Error::Io`] where the folder cannot be removed.
    pub fn remove(&self, name: &str) -> Result<bool> {
        let known = self.named(name)?;
        if !self.models.is_dir() {
            return Ok(false);
        }
        let lock = self.lock(known, &mut |_| {})?;
        if lock.is_some() {
            self.clean(known);
        }
        let folder = self.folder(known);
        if fs::symlink_metadata(&folder).is_err() {
            return Ok(false);
        }
        // Out of its place at once, so that nobody finds half of it.
        let aside = self.aside(known)?;
        fs::rename(&folder, aside.path().join("old")).map_err(|error| Error::io(&folder, error))?;
        let path = aside.path().to_path_buf();
        aside.close().map_err(|error| Error::io(path, error))?;
        Ok(true)
    }

    pub(super) fn find(&self, name: &str) -> Option<&'static Known> {
        self.known.iter().find(|known| known.is_called(name))
    }

    pub(super) fn named(&self, name: &str) -> Result<&'static Known> {
        self.find(name).ok_or_else(|| self.unknown(name, "is not a known model", None))
    }

    /// The error for a name that is unknown; where a `kind` is called for, a path of one would do as well.
    fn unknown(&self, name: &str, problem: &str, kind: Option<Kind>) -> Error {
        let fits = |known: &&Known| kind.is_none_or(|kind| known.kind == kind);
        let names: Vec<_> = self.known.iter().filter(fits).map(|known| known.name).collect();
        let path = kind.map_or_else(String::new, |kind| format!(", or {}", kind.files()));
        Error::Model {
            model: name.to_owned(),
            problem: problem.to_owned(),
            remedy: format!("name one of {}{path}", names.join(", ")),
        }
    }

    pub(super) fn folder(&self, known: &Known) -> PathBuf {
        self.models.join(known.name)
    }

    /// The quick check that every use makes.
    pub(super) fn state(&self, known: &Known) -> State {
        let folder = self.folder(known);
        match fs::symlink_metadata(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return State::Missing,
            Err(error) => return State::Damaged { problem: error.to_string() },
            Ok(_) => {}
        }
        match check_sizes(known, &folder) {
            Ok(from) => State::Ready { bytes: known.files.iter().map(|file| file.bytes).sum(), from },
            Err(problem) => State::Damaged { problem },
        }
    }

    /// Makes this process the only one that changes a model, until the file is dropped or the process ends. `None`
    /// where the file system has no locks: then temporary names alone keep processes apart.
    pub(super) fn lock(&self, known: &Known, progress: &mut dyn FnMut(Progress)) -> Result<Option<File>> {
        let path = self.models.join(format!(".{}.lock", known.name));
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&path).map_err(|error| Error::io(&path, error))?;
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::Error(_)) => return Ok(None),
                Err(TryLockError::WouldBlock) => {
                    if !told {
                        progress(Progress::Waiting);
                        told = true;
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }

    /// A temporary folder in the store, so that what is in it can be renamed into place.
    pub(super) fn aside(&self, known: &Known) -> Result<tempfile::TempDir> {
        tempfile::Builder::new()
            .prefix(&partial_prefix(known))
            .tempdir_in(&self.models)
            .map_err(|error| Error::io(&self.models, error))
    }

    /// Removes temporary folders of processes that died. Only for whoever holds the lock: then none is alive.
    pub(super) fn clean(&self, known: &Known) {
        let prefix = partial_prefix(known);
        for entry in fs::read_dir(&self.models).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                // What cannot be removed does no harm: its name is never taken for a model's.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

impl Pinned {
    /// Its place under a folder.
    pub(super) fn under(&self, folder: &Path) -> PathBuf {
        self.path.split('/').fold(folder.to_path_buf(), |path, part| path.join(part))
    }
}

fn partial_prefix(known: &Known) -> String {
    format!(".{}.partial-", known.name)
}

fn damaged(known: &Known, problem: &str) -> Error {
    Error::Model {
        model: known.name.to_owned(),
        problem: format!("is damaged: {problem}"),
        remedy: format!("run `tauscore models fetch {} --force`", known.name),
    }
}

/// Checks the manifest and every file's size; gives what the manifest says of the origin, or what is wrong.
fn check_sizes(known: &Known, folder: &Path) -> Result<String, String> {
    let mut text = String::new();
    File::open(folder.join(MANIFEST))
        .and_then(|file| file.take(MAX_MANIFEST_BYTES).read_to_string(&mut text))
        .map_err(|error| format!("{MANIFEST}: {error}"))?;
    let manifest: Manifest = serde_json::from_str(&text).map_err(|error| format!("{MANIFEST}: {error}"))?;
    if manifest.schema != MANIFEST_SCHEMA || manifest.model != known.name {
        return Err(format!("{MANIFEST} is of another model or version"));
    }
    for file in known.files {
        if !manifest.files.iter().any(|listed| listed.path == file.path && listed.sha256 == file.sha256) {
            return Err(format!("{MANIFEST} does not list {} with the digest that is wanted", file.path));
        }
        match fs::metadata(file.under(folder)) {
            Err(error) => return Err(format!("{}: {error}", file.path)),
            Ok(metadata) if !metadata.is_file() => return Err(format!("{} is not a file", file.path)),
            Ok(metadata) if metadata.len() != file.bytes => {
                return Err(format!("{} has {} bytes, not {}", file.path, metadata.len(), file.bytes));
            }
            Ok(_) => {}
        }
    }
    Ok(manifest.from)
}

/// Writes the manifest, last of all.
pub(super) fn write_manifest(known: &Known, folder: &Path, from: &str) -> Result<()> {
    let manifest = Manifest {
        schema: MANIFEST_SCHEMA,
        model: known.name.to_owned(),
        from: from.to_owned(),
        files: known
            .files
            .iter()
            .map(|file| ManifestFile { path: file.path.to_owned(), bytes: file.bytes, sha256: file.sha256.to_owned() })
            .collect(),
    };
    let path = folder.join(MANIFEST);
    let write = || {
        let file = File::create_new(&path)?;
        serde_json::to_writer_pretty(&file, &manifest)?;
        file.sync_all()
    };
    write().map_err(|error| Error::io(&path, error))?;
    sync_folder(folder);
    Ok(())
}

/// Asks the system to write a folder's entries to disk, where it can be asked.
pub(super) fn sync_folder(folder: &Path) {
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}

/// A file's sha256 in hexadecimal.
pub(crate) fn digest(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 17];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hexadecimal(hasher)),
            Ok(length) => hasher.update(buffer.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A text's sha256 in hexadecimal.
pub(crate) fn digest_of_text(text: &str) -> String {
    hexadecimal(Sha256::new_with_prefix(text))
}

/// A finished digest in hexadecimal.
pub(super) fn hexadecimal(hasher: Sha256) -> String {
    hasher.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
