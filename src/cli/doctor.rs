//! `tauscore doctor`: does each adapter keep each kernel's promise? A validator proves his own card before he trusts it.

use std::io::Write;

use super::table::table;
use super::{Console, Outcome, Status, write_json, write_text};
use crate::KERNELS;
use crate::device::{Choice, Device, Parity, adapters, parity};

/// Options of `tauscore doctor`.
#[derive(Debug, clap::Args)]
pub(super) struct DoctorArgs {
    /// Check one device instead of all adapters
    #[arg(long, value_name = "DEVICE")]
    device: Option<Choice>,
}

pub(super) fn run(args: &DoctorArgs, console: &Console, out: &mut dyn Write) -> Outcome {
    let mut broken = 0;
    let mut opened = Vec::new();
    match &args.device {
        Some(choice) => opened.push(Device::open(choice)?),
        None => {
            for adapter in adapters() {
                match adapter.open() {
                    Ok(device) => opened.push(device),
                    Err(error) => {
                        broken += 1;
                        console.error(&error);
                    }
                }
            }
        }
    }
    if opened.is_empty() && broken == 0 {
        console.note("no adapter: kernels run as twins on the CPU, and there is nothing to compare them with");
    }
    let mut rows = Vec::new();
    for device in &opened {
        let variant = if device.is_cpu() { "twin".to_owned() } else { device.variant().to_string() };
        for kernel in KERNELS {
            let (mut worst, mut samples, mut failure) = (0.0_f64, 0, None);
            for sample in (kernel.samples)() {
                samples += 1;
                let about = sample.about;
                match parity::check(device, kernel, sample) {
                    Ok(verdict) => {
                        worst = worst.max(verdict.worst);
                        failure = failure.or(verdict.broken.map(|why| format!("{about}: {why}")));
                    }
                    Err(error) => failure = failure.or(Some(format!("{about}: {error}"))),
                }
            }
            broken += usize::from(failure.is_some());
            if console.json {
                write_json(
                    out,
                    &serde_json::json!({"device": device.name(), "variant": variant, "kernel": kernel.name,
                        "samples": samples, "worst_share_of_promise": worst, "kept": failure.is_none(), "failure": failure}),
                )?;
            }
            let promise = match kernel.parity {
                Parity::Exact => "exact".to_owned(),
                Parity::Close { absolute, relative } => format!("{absolute:.0e} + {relative:.0e} x"),
            };
            let used = if kernel.parity == Parity::Exact { String::new() } else { format!("{:.1} %", worst * 100.0) };
            let verdict = failure.map_or("kept".to_owned(), |why| format!("BROKEN: {why}"));
            rows.push([
                device.name(),
                variant.clone(),
                kernel.name.to_owned(),
                promise,
                samples.to_string(),
                used,
                verdict,
            ]);
        }
    }
    if !console.json {
        if !rows.is_empty() {
            write_text(out, &table(["device", "variant", "kernel", "promise", "samples ", "used ", "verdict"], &rows))?;
        }
        let word = if opened.is_empty() && broken == 0 {
            "nothing was checked".to_owned()
        } else if broken == 0 {
            "all promises kept".to_owned()
        } else {
            format!("{broken} broken")
        };
        write_text(out, &format!("{} kernels on {} devices: {word}\n", KERNELS.len(), opened.len()))?;
    }
    Ok(if broken == 0 { Status::Good } else { Status::Finding })
}
