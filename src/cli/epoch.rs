//! `tauscore epoch`: computes Yuma epochs from files, and checks them against what the files say came out.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::device::{Choice, Device};
use crate::stages::yuma::cases::{Case, Options, Outcome, stem};
use crate::stages::yuma::mechanism::{Aggregate, Subnet};
use crate::stages::yuma::{Epoch, Raw, State};
use crate::{Error, Result};

/// Computes the Yuma epoch of a subnet, to the bit as the chain does.
///
/// Prints one JSON line per epoch: name, epoch and `chain`, what the chain stores.
#[derive(Clone, Debug, clap::Args)]
pub struct EpochArgs {
    /// A subnet's state, reference vectors, or JSON Lines of {"name", "n", "in"}; plain or gzip; `-` for standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// Print every intermediate result as well, as fixed-point bits
    #[arg(long)]
    pub raw: bool,

    /// Compare with the results in the files and print a summary last; exit 1 if anything differs
    #[arg(long)]
    pub check: bool,

    /// Compute on this device, epochs of the same number in one batch: auto, gpu, or part of an adapter's name (see `devices`).
    /// Intermediate results are computed, and compared, only with --raw, on the CPU
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<Choice>,

    /// The files are the states of one subnet's mechanisms, in order; the first one's rao_emission is the subnet's pot. Print each
    /// one's epoch and then what they come to together
    #[arg(long, conflicts_with_all = ["raw", "check", "device"])]
    pub mechanisms: bool,

    /// The mechanisms' parts of the pot, in 65535ths [default: equal parts]
    #[arg(long, value_name = "S0,S1,..", value_delimiter = ',', requires = "mechanisms")]
    pub split: Option<Vec<u16>>,
}

/// What one epoch prints.
#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    epoch: usize,
    /// The mechanism's part of the pot, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    rao_emission: Option<String>,
    chain: &'a Epoch,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<&'a Raw>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    mismatches: &'a [String],
}

/// What a subnet's mechanisms print last.
#[derive(Serialize)]
struct Together<'a> {
    name: String,
    netuid: u16,
    mechanisms: usize,
    aggregate: &'a Aggregate,
}

/// Runs the command and returns its exit status: 0, or 1 where a check found a difference. With `json` its summary is
/// JSON as well.
pub fn run(args: &EpochArgs, json: bool, out: &mut dyn Write) -> Result<u8> {
    if args.mechanisms {
        return mechanisms(&args.files, args.split.as_deref(), out).map(|()| 0);
    }
    let options = Options { raw: args.raw, check: args.check };
    let (mut checked, mut mismatching) = (0_usize, 0_usize);
    let device = args.device.as_ref().map(Device::open).transpose()?.filter(|device| !device.is_cpu());
    let mut print = |case: &Case, outcome: Outcome| {
        if let Some(mismatches) = &outcome.mismatches {
            checked += 1;
            mismatching += usize::from(!mismatches.is_empty());
        }
        let line = Line {
            name: &case.name,
            epoch: outcome.index,
            rao_emission: None,
            chain: &outcome.epoch,
            raw: outcome.epoch.raw.as_deref(),
            mismatches: outcome.mismatches.as_deref().unwrap_or_default(),
        };
        write_line(out, &line)
    };
    if let Some(device) = device {
        let cases = args.files.iter().map(|file| Case::read(file)).collect::<Result<Vec<_>>>()?.concat();
        for (case, outcomes) in cases.iter().zip(Case::run_on(&device, &cases, options)?) {
            outcomes.into_iter().try_for_each(|outcome| print(case, outcome))?;
        }
    } else {
        for file in &args.files {
            for case in Case::read(file)? {
                case.run(options).try_for_each(|outcome| print(&case, outcome?))?;
            }
        }
    }
    if !args.check {
        return Ok(0);
    }
    if checked == 0 {
        return Err(Error::Usage {
            argument: "--check".into(),
            problem: "no file has results to compare with".into(),
            remedy: "give files whose epochs have \"chain\" or \"raw\", or leave out --check".into(),
        });
    }
    if json {
        writeln!(out, "{}", serde_json::json!({"epochs": checked, "mismatching": mismatching}))
            .map_err(output_error)?;
    } else {
        writeln!(out, "epochs {checked}, mismatching {mismatching}").map_err(output_error)?;
    }
    Ok(u8::from(mismatching > 0))
}

/// Prints the epochs of one subnet's mechanisms, and what they come to together.
fn mechanisms(files: &[PathBuf], split: Option<&[u16]>, out: &mut dyn Write) -> Result<()> {
    if let Some(split) = split {
        // The chain ignores such a list; whoever types one means something else.
        let (length, sum) = (split.len(), split.iter().copied().map(u32::from).sum::<u32>());
        if length != files.len() || sum != u32::from(u16::MAX) {
            return Err(Error::Usage {
                argument: "--split".into(),
                problem: format!("{length} shares that sum to {sum}, for {} mechanisms", files.len()),
                remedy: "give one share for each file, 65535 in all".into(),
            });
        }
    }
    let states = files.iter().map(|file| Ok((file.display().to_string(), State::read(file)?)));
    let subnet = Subnet::new(states.collect::<Result<_>>()?, split)?;
    let epoch = subnet.epoch();
    for ((file, state), chain) in files.iter().zip(subnet.mechanisms()).zip(&epoch.mechanisms) {
        let rao_emission = Some(state.rao_emission.to_string());
        write_line(out, &Line { name: &stem(file), epoch: 0, rao_emission, chain, raw: None, mismatches: &[] })?;
    }
    let (name, netuid) = (files.first().map(|file| stem(file)), subnet.mechanisms().first().map(|state| state.netuid));
    let (mechanisms, aggregate) = (epoch.mechanisms.len(), &epoch.aggregate);
    write_line(
        out,
        &Together { name: name.unwrap_or_default(), netuid: netuid.unwrap_or_default(), mechanisms, aggregate },
    )
}

fn write_line(out: &mut dyn Write, line: &impl Serialize) -> Result<()> {
    serde_json::to_writer(&mut *out, line).map_err(|error| output_error(error.into()))?;
    out.write_all(b"\n").map_err(output_error)
}

fn output_error(source: std::io::Error) -> Error {
    Error::io(Path::new("(output)"), source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dataset(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/yuma").join(name)
    }

    fn epoch(files: Vec<PathBuf>, raw: bool, check: bool) -> (Result<u8>, String) {
        let mut out = Vec::new();
        let status =
            run(&EpochArgs { files, raw, check, device: None, mechanisms: false, split: None }, false, &mut out);
        (status, String::from_utf8(out).expect("UTF-8"))
    }

    #[test]
    fn a_check_ends_in_its_summary() {
        let files = vec![dataset("tiny_agree_yuma2.json.gz"), dataset("tiny_agree_yuma3la.json.gz")];
        let (status, out) = epoch(files, true, true);
        assert_eq!(status.expect("it runs"), 0, "no difference");
        assert_eq!(out.lines().last(), Some("epochs 10, mismatching 0"), "the summary");
        let first: serde_json::Value = serde_json::from_str(out.lines().next().expect("a line")).expect("JSON");
        assert_eq!(first["name"], "tiny_agree_yuma2", "the case's name");
        assert!(first["raw"]["weights_norm"]["xsum"].is_string(), "raw as asked for");
        assert!(first.get("mismatches").is_none(), "nothing to tell");
    }

    #[test]
    fn a_device_prints_the_same() {
        let files = [dataset("tiny_agree_yuma2.json.gz"), dataset("la_unsorted_rows_bp65535_o1.json.gz")];
        let cases = files.iter().map(|file| Case::read(file).expect("a recording")).collect::<Vec<_>>().concat();
        let options = Options { raw: true, check: true };
        let on_device = Case::run_on(&Device::cpu(), &cases, options).expect("the CPU does not fail");
        for (case, outcomes) in cases.iter().zip(on_device) {
            assert_eq!(outcomes.len(), case.len(), "every epoch");
            for (found, right) in outcomes.into_iter().zip(case.run(options)) {
                let right = right.expect("it runs");
                assert_eq!(found.epoch, right.epoch, "{} epoch {}", case.name, right.index);
                assert_eq!(found.mismatches, Some(vec![]), "{} epoch {}", case.name, right.index);
            }
        }
    }

    #[test]
    fn a_changed_result_is_found_and_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("changed.jsonl");
        let row = |incentive: &str| {
            format!(
                "{{\"n\":2,\"in\":{{\"block\":10,\"rao_emission\":100,\"stake\":[5,\"0\"],\"validator_permit\":[1,0],\
                 \"last_update\":[9,9],\"block_at_registration\":[0,0],\"weights\":{{\"i\":[0],\"j\":[1],\"w\":[65535]}}}},\
                 \"chain\":{{\"incentive\":{incentive}}}}}\n"
            )
        };
        std::fs::write(&file, format!("{}\n{}", row("[0,65535]"), row("[0,65534]"))).expect("written");
        let (status, out) = epoch(vec![file], false, true);
        assert_eq!(status.expect("it runs"), 1, "a finding");
        let lines: Vec<&str> = out.lines().collect();
        assert!(
            lines[0].starts_with("{\"name\":\"changed:1\",\"epoch\":0,\"chain\":{\"active\":[1,1]"),
            "{}",
            lines[0]
        );
        assert!(lines[1].ends_with("\"mismatches\":[\"chain.incentive[1]\"]}"), "{}", lines[1]);
        assert_eq!(lines[2], "epochs 2, mismatching 1", "the summary");
    }

    #[test]
    fn a_check_of_nothing_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("state.json");
        std::fs::write(
            &file,
            "{\"block\":1,\"rao_emission\":1,\"stake\":[],\"validator_permit\":[],\"last_update\":[],\
             \"block_at_registration\":[],\"weights\":{\"i\":[],\"j\":[],\"w\":[]}}",
        )
        .expect("written");
        let (status, out) = epoch(vec![file.clone()], false, false);
        assert_eq!((status.expect("an empty subnet is a subnet"), out.lines().count()), (0, 1), "one line");
        assert!(matches!(epoch(vec![file], false, true).0, Err(Error::Usage { .. })), "nothing to compare with");
    }
}
