//! Whether a validator's process grows with the rounds it judges. The only test of its binary, so that nothing else is counted.

mod common;

use common::{devices, package};
use tauscore::device::Device;
use tauscore::pipeline::judge::{Case, Judge, Judgement, Reading};

const ROUNDS: usize = 200;
/// What an allocator may keep, in MB: less than what it would be if each round kept its activations.
const SLACK_MB: u64 = 4;

/// The memory that this process holds, in MB; `None` where the system does not tell.
fn resident_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024 / 1_000_000)
}

#[test]
fn many_rounds_take_the_memory_of_a_few() {
    let words = ["one", "two", "three", "four", "five", "six", "seven"];
    let said = |at: usize| -> String {
        (0..1 + at % 7).map(|word| words[(at * 31 + word * word) % 7]).collect::<Vec<_>>().join(" ")
    };
    for device in std::iter::once(Device::cpu()).chain(devices()) {
        let name = device.name();
        // Software takes its time.
        let rounds = if device.is_software() { ROUNDS / 5 } else { ROUNDS };
        let judge = Judge::load(&device, &package().join("datasets/models/gguf-q4_1"), None).unwrap();
        let reading =
            Reading { judgement: Judgement::ReferenceGain, response_tokens: 96, reference_tokens: 96, share: true };
        let mut early = None;
        for round in 0..rounds {
            let texts: Vec<[String; 3]> = (0..4).map(|row| [said(round), said(round * 7 + row * 3), said(5)]).collect();
            let cases: Vec<Case<'_>> = texts
                .iter()
                .map(|[prompt, response, reference]| Case { prompt, response, reference: Some(reference) })
                .collect();
            let judged = judge.judge(&cases, &reading, &mut |_| {}).unwrap();
            assert!(judged.iter().all(Result::is_ok), "{name}: round {round} is judged");
            if round + 1 == rounds / 10 {
                early = Some((device.memory(), resident_mb()));
            }
        }
        let (memory, resident) = early.unwrap();
        let now = device.memory();
        println!("{name}: {memory:?}, then {now:?}; {resident:?} MB resident, then {:?}", resident_mb());
        // The batch of a round grows until the largest has come.
        assert!(now.most <= 2 * memory.most && now.now <= now.most, "{name}: {memory:?}, then {now:?}");
        let Some((before, after)) = resident.zip(resident_mb()) else {
            common::skip("no /proc/self/status on this system, the process's memory was not measured");
            continue;
        };
        assert!(after <= before + SLACK_MB, "{name}: {before} MB after a tenth of the rounds, {after} MB after all");
    }
}
