//! `tauscore devices`: what could run the kernels.

use std::io::Write;

use super::table::table;
use super::{Console, Outcome, Status, write_json, write_text};
use crate::device::{AdapterKind, adapters};

pub(super) fn run(console: &Console, out: &mut dyn Write) -> Outcome {
    let adapters = adapters();
    let threads = rayon::current_num_threads();
    if console.json {
        write_json(out, &serde_json::json!({"cpu": {"threads": threads}, "adapters": adapters}))?;
        return Ok(Status::Good);
    }
    let mut rows = vec![[
        "CPU".to_owned(),
        "cpu".to_owned(),
        "twins".to_owned(),
        format!("{threads} threads"),
        String::new(),
        String::new(),
        String::new(),
        String::new(),
        String::new(),
        String::new(),
    ]];
    for adapter in &adapters {
        let pci = if adapter.pci.is_empty() { String::new() } else { format!(" @ {}", adapter.pci) };
        rows.push([
            adapter.name.clone(),
            format!("{:?}", adapter.kind).to_lowercase(),
            adapter.backend.clone(),
            adapter.driver.clone(),
            format!("{}{pci}", adapter.id),
            format!("{} MiB", adapter.binding_bytes >> 20),
            format!("{} KiB / {}", adapter.workgroup_bytes >> 10, adapter.workgroup_invocations),
            format!("{}-{}", adapter.subgroups[0], adapter.subgroups[1]),
            adapter.features.join(" "),
            adapter.variant().to_string(),
        ]);
    }
    let head =
        ["name", "kind", "backend", "driver", "id", "binding ", "workgroup ", "subgroup ", "features", "variant"];
    write_text(out, &table(head, &rows))?;
    let hardware = adapters.iter().find(|adapter| adapter.kind != AdapterKind::Software);
    let auto = hardware.map_or("the CPU (no hardware adapter)", |adapter| &adapter.name);
    write_text(out, &format!("\n--device auto takes {auto}\n"))?;
    if cfg!(not(feature = "gpu")) {
        console.note("this build has no GPU support");
    }
    Ok(Status::Good)
}
