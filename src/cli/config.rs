//! `tauscore config`: the effective criteria and their digest.

use std::io::Write;
use std::path::PathBuf;

use super::{Console, Outcome, Status, criteria, write_json, write_text};

/// Options of `tauscore config`.
#[derive(Debug, clap::Args)]
pub(super) struct ConfigArgs {
    /// A criteria file; the defaults if left out
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn run(args: &ConfigArgs, console: &Console, out: &mut dyn Write) -> Outcome {
    let config = criteria(args.config.as_deref())?;
    if console.json {
        write_json(out, &serde_json::json!({"digest": config.digest(), "criteria": config.effective()}))?;
    } else {
        write_text(out, &format!("# digest (BLAKE3 of what follows): {}\n{}", config.digest(), config.to_toml()))?;
    }
    Ok(Status::Good)
}
