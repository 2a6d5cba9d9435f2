//! The epoch on any device: many epochs in one submission, to the bit as [`Epoch::new`].
//!
//! The host does what is linear in uids: stake, permits and activity (YUMA §3 and §4). The device does everything that looks at
//! weights and bonds, in seven passes: rows laid out by column and normalised; consensus and rank; incentive; bonds (`purchase`
//! under Yuma2, `average` under Yuma3, before it `order` for the rows of liquid alpha that do not ascend); earnings; and the
//! emission, from which the results come back in 65535ths and rao. No result is read back in between.
//!
//! A row that a state shares with the one before it in the batch is uploaded once, as are registration blocks and stored consensus:
//! a what-if costs what it changes.

/// A shader of the epoch in both variants: the parts named, behind those that all share.
macro_rules! wgsl {
    (@ $words:literal, $($part:literal),+) => {
        concat!(
            include_str!("../../../../shaders/shared/grid.wgsl"),
            include_str!("../../../../shaders/shared/fixed.wgsl"),
            include_str!(concat!("../../../../shaders/", $words, ".wgsl")),
            $(include_str!(concat!("../../../../shaders/", $part, ".wgsl")),)+
        )
    };
    ($($part:literal),+) => {
        crate::device::Wgsl {
            core: wgsl!(@ "shared/words", $($part),+),
            int64: Some(wgsl!(@ "shared/words_int64", $($part),+)),
        }
    };
}

pub mod arithmetic;
pub mod average;
pub mod consensus;
pub mod earnings;
pub mod emission;
pub mod incentive;
mod layout;
pub mod order;
pub mod purchase;
pub mod rows;
mod samples;

use bytemuck::{Pod, Zeroable, bytes_of};
use rayon::prelude::*;

use self::layout::{Batch, Kept, LANES, LIQUID, Outcome, Packer, Params, Problem, SUBMITTED, YUMA3};
use super::epoch::proportions;
use super::{Epoch, State};
use crate::Result;
use crate::device::{Buffer, Call, Device, Download, Kernel};
use crate::fixed::I32F32;
use crate::matrix::Csr;

/// Cells that one submission holds: 24 bytes each on the device.
const CELLS: usize = 1 << 22;

/// Computes the epochs of many states, each exactly [`Epoch::new`] of it.
///
/// A few states are not for the device and are computed on the host instead: such as no chain can hold (uids repeated in a row,
/// stake of 2^63 rao and more, a moving average above 1), an empty subnet, more than 32,767 uids, and one whose rows times uids do
/// not fit one binding of the device.
///
/// # Errors
/// [`Error::Device`](crate::Error::Device) if the device fails.
pub fn epochs(device: &Device, states: &[State]) -> Result<Vec<Epoch>> {
    in_batches(device, states, true, CELLS)
}

/// As [`epochs`], but [`Epoch::bonds`] are left empty and never leave the device: they are nine tenths of what comes back, and a
/// what-if that asks who earns what does not look at them.
///
/// # Errors
/// As [`epochs`].
pub fn epochs_without_bonds(device: &Device, states: &[State]) -> Result<Vec<Epoch>> {
    in_batches(device, states, false, CELLS)
}

/// Computes the epochs, as many of them in one submission as have `room`.
fn in_batches(device: &Device, states: &[State], with_bonds: bool, room: usize) -> Result<Vec<Epoch>> {
    let largest = usize::try_from(device.limits().binding_bytes / 8).unwrap_or(usize::MAX).min(u32::MAX as usize / 4);
    let room = room.min(largest);
    let mut epochs = Vec::new();
    epochs.resize_with(states.len(), || None);

    let mut running: Option<Running> = None;
    let mut next = 0;
    while next < states.len() {
        let mut packer = Packer::default();
        let (mut members, mut on_host, mut taken) = (Vec::new(), Vec::new(), 0);
        while let Some(state) = states.get(next) {
            match Packer::size(state).filter(|size| *size <= largest) {
                Some(size) if !members.is_empty() && taken + size > room => break,
                Some(size) if packer.push(state) => {
                    taken += size;
                    members.push(next);
                }
                _ => on_host.push(next),
            }
            next += 1;
        }
        // While this batch runs, the host reads the one before and computes what is left to it.
        let started =
            if members.is_empty() { None } else { Some(Running::start(device, packer, members, with_bonds)?) };
        if let Some(running) = std::mem::replace(&mut running, started) {
            running.finish(states, &mut epochs)?;
        }
        for index in on_host {
            let mut epoch = Epoch::new(&states[index]);
            if !with_bonds {
                epoch.bonds = Csr::empty(states[index].n());
            }
            epochs[index] = Some(epoch);
        }
    }
    if let Some(running) = running {
        running.finish(states, &mut epochs)?;
    }
    Ok(epochs.into_iter().flatten().collect())
}

/// The weight that a bond is built from: `w + penalty (min(w, C) - w)`, the product floored (YUMA §8.1).
fn bought(weight: I32F32, consensus: I32F32, penalty: I32F32) -> I32F32 {
    weight.saturating_add(penalty.saturating_mul(weight.min(consensus).saturating_sub(weight)))
}

/// A batch on the device.
struct Buffers {
    batch: Counts,
    problems: Buffer<u32>,
    rows: Buffer<u32>,
    stakes: Buffer<u32>,
    pool: Buffer<u32>,
    registered: Buffer<u32>,
    previous: Buffer<u32>,
    fallback: Buffer<u32>,
    tiles: Buffer<u32>,
    unsorted: Buffer<u32>,
    weights: Buffer<u32>,
    bonds: Buffer<u32>,
    averages: Buffer<u32>,
    stored: Buffer<u32>,
    consensus: Buffer<u32>,
    rank: Buffer<u32>,
    incentive: Buffer<u32>,
    references: Buffer<u32>,
    validators: Buffer<u32>,
    outcomes: Buffer<u32>,
}

/// How many items the passes work on.
struct Counts {
    problems: usize,
    rows: usize,
    tiles: usize,
    unsorted: usize,
    modes: u32,
}

/// One pass.
struct Step<'a> {
    kernel: &'static Kernel,
    count: u32,
    workgroups: u64,
    bindings: Vec<&'a Buffer<u32>>,
}

impl Buffers {
    fn new(device: &Device, batch: &Batch) -> Result<Self> {
        fn upload<T: Pod + Zeroable>(device: &Device, values: &[T]) -> Result<Buffer<u32>> {
            // A shader's array has at least one element.
            let one = [T::zeroed()];
            device.upload(bytemuck::cast_slice(if values.is_empty() { &one } else { values }))
        }
        let zeros = |words: usize| device.zeros::<u32>(words);
        let (cells, uids) = (batch.cells.max(1), batch.fallback.len().max(1));
        let modes = batch
            .problems
            .iter()
            .fold(0, |modes, problem| modes | if problem.flags & YUMA3 != 0 { Counts::YUMA3 } else { Counts::YUMA2 });
        Ok(Self {
            batch: Counts {
                problems: batch.problems.len(),
                rows: batch.rows.len(),
                tiles: batch.tiles.len(),
                unsorted: batch.unsorted.len(),
                modes,
            },
            problems: upload(device, &batch.problems)?,
            rows: upload(device, &batch.rows)?,
            stakes: upload(device, &batch.stakes)?,
            pool: upload(device, &batch.pool)?,
            registered: upload(device, &batch.registered)?,
            previous: upload(device, &batch.previous)?,
            fallback: upload(device, &batch.fallback)?,
            tiles: upload(device, &batch.tiles)?,
            unsorted: upload(device, &batch.unsorted)?,
            weights: zeros(2 * cells)?,
            bonds: zeros(cells)?,
            averages: zeros(2 * cells)?,
            stored: zeros(cells)?,
            consensus: zeros(2 * uids)?,
            rank: zeros(2 * uids)?,
            incentive: zeros(2 * uids)?,
            references: zeros(2 * uids)?,
            validators: zeros(4 * uids)?,
            outcomes: zeros(size_of::<Outcome>() / 4 * uids)?,
        })
    }

    /// The passes, in order.
    fn steps(&self) -> Vec<Step<'_>> {
        let Self { problems, rows, stakes, pool, registered, tiles, unsorted, .. } = self;
        let Self { weights, bonds, averages, stored, .. } = self;
        let Self { consensus, rank, incentive, references, validators, .. } = self;
        let counts = &self.batch;
        let step = |kernel, count: usize, groups: usize, bindings: &[_]| Step {
            kernel,
            count: count as u32,
            workgroups: groups as u64,
            bindings: bindings.to_vec(),
        };
        let each = |kernel, count, bindings: &[_]| step(kernel, count, count, bindings);
        let mut steps = vec![
            each(&rows::KERNEL, counts.rows, &[problems, rows, pool, registered, weights, bonds]),
            each(&consensus::KERNEL, counts.tiles, &[problems, tiles, stakes, weights, consensus, rank]),
            each(
                &incentive::KERNEL,
                counts.problems,
                &[problems, &self.previous, consensus, rank, incentive, references, validators],
            ),
        ];
        if counts.unsorted > 0 {
            let bindings = [problems, rows, unsorted, pool, registered, consensus, weights, bonds];
            steps.push(step(&order::KERNEL, counts.unsorted, counts.unsorted.div_ceil(LANES), &bindings));
        }
        if counts.modes & Counts::YUMA2 != 0 {
            let bindings = [problems, tiles, stakes, consensus, weights, bonds, averages, stored];
            steps.push(each(&purchase::KERNEL, counts.tiles, &bindings));
        }
        if counts.modes & Counts::YUMA3 != 0 {
            let bindings = [problems, tiles, consensus, references, weights, bonds, averages, stored];
            steps.push(each(&average::KERNEL, counts.tiles, &bindings));
        }
        let bindings = [problems, rows, stakes, consensus, incentive, weights, averages, validators];
        steps.push(each(&earnings::KERNEL, counts.rows, &bindings));
        let bindings = [problems, &self.fallback, consensus, incentive, validators, &self.outcomes];
        steps.push(each(&emission::KERNEL, counts.problems, &bindings));
        steps
    }
}

impl Counts {
    const YUMA2: u32 = 1;
    const YUMA3: u32 = 2;
}

/// A batch that has been submitted.
struct Running {
    batch: Batch,
    kept: Vec<Kept>,
    members: Vec<usize>,
    outcomes: Download<u32>,
    stored: Option<Download<u32>>,
}

impl Running {
    fn start(device: &Device, packer: Packer<'_>, members: Vec<usize>, with_bonds: bool) -> Result<Self> {
        let Packer { batch, kept, .. } = packer;
        let buffers = Buffers::new(device, &batch)?;
        for Step { kernel, count, workgroups, bindings } in buffers.steps() {
            let bound: Vec<_> = bindings.iter().map(|buffer| buffer.all()).collect();
            let params = Params { count };
            let call = Call { constants: &[], params: bytes_of(&params), bindings: &bound, workgroups };
            device.dispatch(kernel, &call)?;
        }
        let outcomes = device.request(&buffers.outcomes, 0..buffers.outcomes.len())?;
        let stored = with_bonds.then(|| device.request(&buffers.stored, 0..buffers.stored.len())).transpose()?;
        Ok(Self { batch, kept, members, outcomes, stored })
    }

    /// Waits for the results and puts them together.
    fn finish(self, states: &[State], epochs: &mut [Option<Epoch>]) -> Result<()> {
        let outcomes: Vec<Outcome> = bytemuck::pod_collect_to_vec(&self.outcomes.wait()?);
        let stored = self.stored.map(Download::wait).transpose()?;
        let batch = &self.batch;
        let results: Vec<Epoch> = (self.kept, &self.members, &batch.problems)
            .into_par_iter()
            .map(|(kept, member, problem)| {
                let outcomes = &outcomes[problem.first_uid as usize..][..problem.columns as usize];
                epoch(batch, problem, &states[*member], kept, outcomes, stored.as_deref())
            })
            .collect();
        for (member, epoch) in self.members.into_iter().zip(results) {
            epochs[member] = Some(epoch);
        }
        Ok(())
    }
}

fn epoch(
    batch: &Batch,
    problem: &Problem,
    state: &State,
    kept: Kept,
    outcomes: &[Outcome],
    stored: Option<&[u32]>,
) -> Epoch {
    let bonds = match stored {
        Some(stored) => bonds(batch, problem, state, &kept.new_permit, stored),
        None => Csr::empty(state.n()),
    };
    Epoch {
        stake_weight: proportions(&kept.stake_norm),
        consensus: outcomes.iter().map(|outcome| outcome.miner as u16).collect(),
        incentive: outcomes.iter().map(|outcome| (outcome.miner >> 16) as u16).collect(),
        dividends: outcomes.iter().map(|outcome| outcome.voter as u16).collect(),
        validator_trust: outcomes.iter().map(|outcome| (outcome.voter >> 16) as u16).collect(),
        server_emission: outcomes.iter().map(|outcome| outcome.server).collect(),
        validator_emission: outcomes.iter().map(|outcome| outcome.validator).collect(),
        emission: outcomes.iter().map(|outcome| outcome.combined).collect(),
        bonds,
        active: kept.active,
        new_validator_permit: kept.new_permit,
        raw: None,
    }
}

/// The bonds of those with a permit, from the cells of their rows.
fn bonds(batch: &Batch, problem: &Problem, state: &State, permit: &[bool], stored: &[u32]) -> Csr<u16> {
    let columns = problem.columns as usize;
    let cells = &stored[problem.first_cell as usize..][..problem.cells()];
    let mut rows = batch.rows[problem.first_row as usize..][..problem.rows as usize].iter().zip(cells.chunks(columns));
    let mut next = rows.next();
    let mut bonds = Csr::with_capacity(columns, cells.len());
    // In between the extremes of the penalty rows are sorted, whatever bonds move at.
    let sorted = problem.penalty != I32F32::ZERO && problem.penalty != I32F32::ONE;
    for (uid, &permit) in permit.iter().enumerate() {
        if let Some((_, cells)) = next.filter(|(row, _)| row.uid as usize == uid) {
            next = rows.next();
            let mut put = |column: u16, cell: u32| {
                if cell != 0 {
                    bonds.push(column, ((cell & !SUBMITTED) - 1) as u16);
                }
            };
            let submitted = !sorted && problem.flags & LIQUID != 0 && cells.iter().any(|cell| cell & SUBMITTED != 0);
            if permit && submitted {
                for (column, _) in state.weights.row(uid) {
                    put(column, cells[usize::from(column)]);
                }
            } else if permit {
                for (column, &cell) in cells.iter().enumerate() {
                    put(column as u16, cell);
                }
            }
        }
        bonds.end_row();
    }
    bonds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::read_text;
    use crate::stages::yuma::state::parse;

    /// The first epoch of every recording in the repository.
    fn recordings() -> Vec<(std::path::PathBuf, State)> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/yuma");
        let mut recordings = Vec::new();
        for entry in std::fs::read_dir(folder).expect("the folder can be read") {
            let path = entry.expect("an entry").path();
            if !path.to_string_lossy().ends_with(".json.gz") || path.ends_with("ops.json.gz") {
                continue;
            }
            let case = parse(&read_text(&path).expect("a recording can be read")).expect("JSON");
            let n = case["n"].as_u64().map(|n| n as usize);
            let state = State::from_value(&case["epochs"][0]["in"], n).expect("a recording is a valid state");
            recordings.push((path, state));
        }
        assert!(recordings.len() > 20, "only {} recordings", recordings.len());
        recordings
    }

    #[test]
    fn what_chains_hold_is_computed_on_the_device() {
        for (path, state) in recordings() {
            assert!(Packer::size(&state).is_some(), "{}: of a size for the device", path.display());
            assert!(Packer::default().push(&state), "{}: packed", path.display());
        }
    }

    #[test]
    fn batches_of_any_size_give_the_same() {
        let mut states: Vec<State> = recordings().into_iter().map(|(_, state)| state).collect();
        // One of them no chain can hold, at either end of a batch.
        let mut fields = states[0].clone().into_fields();
        fields.hyper.bonds_moving_average = 2_000_000;
        let odd = State::new(fields).expect("a valid state");
        states.insert(7, odd.clone());
        states.push(odd);
        let right: Vec<Epoch> = states.iter().map(Epoch::new).collect();
        for room in [0, 1, 500, 3000, CELLS] {
            let found = in_batches(&Device::cpu(), &states, true, room).expect("the CPU does not fail");
            assert!(found == right, "room for {room}");
        }
        let found = epochs_without_bonds(&Device::cpu(), &states).expect("the CPU does not fail");
        for (found, right) in found.iter().zip(right) {
            assert_eq!(*found, Epoch { bonds: Csr::empty(right.active.len()), ..right }, "all but bonds");
        }
    }
}
