//! The one error type. Every variant names the place and, where there is one, the remedy.

use std::io::ErrorKind;
use std::path::PathBuf;

/// The result of everything fallible in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong. Display says what and where; [`Error::remedy`] says what to do about it.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused a file operation.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or folder concerned.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },

    /// A row of a JSON Lines file does not fit.
    #[error("{file}:{line}: {field}: {problem}")]
    Row {
        /// The file as the user named it (`-` for standard input).
        file: String,
        /// The line, counted from 1.
        line: usize,
        /// The field concerned.
        field: String,
        /// What is wrong with it.
        problem: String,
        /// What to do about it.
        remedy: String,
    },

    /// A whole file does not fit: a config, a model, a subnet state.
    #[error("{file}: {field}: {problem}")]
    File {
        /// The file as the user named it.
        file: String,
        /// The field, key or section concerned.
        field: String,
        /// What is wrong with it.
        problem: String,
        /// What to do about it.
        remedy: String,
    },

    /// A tensor in a model file is missing, has another shape, or lies outside the file.
    #[error("{file}: tensor {tensor}: {problem}")]
    Tensor {
        /// The model file.
        file: String,
        /// The tensor's name.
        tensor: String,
        /// What is wrong with it.
        problem: String,
    },

    /// A model could not be brought.
    #[error("model {model}: {problem}")]
    Model {
        /// The model's name.
        model: String,
        /// What is wrong.
        problem: String,
        /// What to do about it.
        remedy: String,
    },

    /// A device cannot do what was asked, or stopped doing it.
    #[error("device {device}: {problem}")]
    Device {
        /// The adapter's name, or the choice that found none.
        device: String,
        /// What is wrong.
        problem: String,
        /// What to do about it.
        remedy: String,
    },

    /// A device, or the budget that it was given, has no room for what is asked.
    #[error("device {device}: {problem}")]
    Memory {
        /// The device's name.
        device: String,
        /// What it has no room for.
        problem: String,
        /// What to do about it.
        remedy: String,
    },

    /// A device computes other numbers than it must.
    #[error("device {device}: self-test: {kernel}: {problem}")]
    SelfTest {
        /// The device's name.
        device: String,
        /// The kernel, or what is made of several of them.
        kernel: String,
        /// What came out wrong.
        problem: String,
        /// What to do about it.
        remedy: String,
    },

    /// A kernel was called in a way that its declaration does not allow: a bug in this crate.
    #[error("kernel {kernel}: {problem}")]
    Kernel {
        /// The kernel's name.
        kernel: &'static str,
        /// What is wrong.
        problem: String,
    },

    /// An argument or a combination of arguments makes no sense.
    #[error("{argument}: {problem}")]
    Usage {
        /// The argument concerned.
        argument: String,
        /// What is wrong with it.
        problem: String,
        /// What to do about it.
        remedy: String,
    },
}

impl Error {
    /// Wraps an operating system error with the path it is about.
    pub fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    /// What the user can do about it, where anything can be said.
    pub fn remedy(&self) -> Option<&str> {
        match self {
            Self::Io { source, .. } => operating_system(source.kind()),
            Self::Tensor { .. } => Some(
                "the file is damaged or is not the model that config.json describes: fetch it again, or name another folder",
            ),
            Self::Kernel { .. } => Some("this is a bug in tauscore: please report it with the command that led here"),
            Self::Row { remedy, .. }
            | Self::File { remedy, .. }
            | Self::Model { remedy, .. }
            | Self::Device { remedy, .. }
            | Self::Memory { remedy, .. }
            | Self::SelfTest { remedy, .. }
            | Self::Usage { remedy, .. } => (!remedy.is_empty()).then_some(remedy.as_str()),
        }
    }
}

/// What to do about a refusal of the operating system, for those that users meet.
fn operating_system(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::NotFound => Some("check the path: nothing is there"),
        ErrorKind::IsADirectory => Some("it is a folder: name a file"),
        ErrorKind::NotADirectory => Some("it is a file, or lies under one: name a folder"),
        ErrorKind::PermissionDenied => Some("ask for the right to use it, or name another place"),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Some("make room, or name another place"),
        ErrorKind::InvalidData => Some("the file is not text, or is damaged"),
        _ => None,
    }
}
