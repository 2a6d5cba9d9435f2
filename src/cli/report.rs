//! `tauscore report`: what a person looks at, as one HTML file.

use std::io::Write;
use std::path::PathBuf;

use super::{Console, Outcome, Status, write_json, write_text};
use crate::report::Report;
use crate::whole;

/// Options of `tauscore report`.
#[derive(Debug, clap::Args)]
pub(super) struct ReportArgs {
    /// A folder that `score` or `demo` wrote, a ledger, or a subnet's state
    #[arg(value_name = "DIR|LEDGER|STATE")]
    source: PathBuf,
    /// Where the page goes; `-` for standard output
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
}

pub(super) fn run(args: &ReportArgs, console: &Console, out: &mut dyn Write) -> Outcome {
    let page = Report::read(&args.source)?.to_html();
    if args.out.as_os_str() == "-" {
        write_text(out, &page)?;
        return Ok(Status::Good);
    }
    whole::write(&args.out, page.as_bytes())?;
    if console.json {
        write_json(out, &serde_json::json!({"out": args.out.display().to_string(), "bytes": page.len()}))?;
    } else {
        write_text(
            out,
            &format!("{}: {} KiB, to be opened in a browser\n", args.out.display(), page.len().div_ceil(1024)),
        )?;
    }
    Ok(Status::Good)
}
