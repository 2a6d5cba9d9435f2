//! How a batch of epochs lies on a device. Shader: `shaders/shared/yuma_layout.wgsl`.
//!
//! Matrices are dense over the validators that have weights or bonds: columns then lie side by side, as the column kernels want to
//! read them, without transposing anything or uniting two sparse structures. The order of submission matters in one place only
//! (`yuma/order`), and there the submitted row is still at hand.

use bytemuck::{Pod, Zeroable};

use crate::fixed::I32F32;
use crate::matrix::Csr;
use crate::stages::yuma::epoch::{Standing, fallback, standing};
use crate::stages::yuma::liquid::{LiquidAlpha, compares_with_stored};
use crate::stages::yuma::{EpochConsensus, State, bonds};

/// Flag of a [`Problem`]: bonds follow Yuma3.
pub(super) const YUMA3: u32 = 1;
/// Flag of a [`Problem`]: bonds may move at rates of their own.
pub(super) const LIQUID: u32 = 2;
/// Flag of a [`Problem`]: liquid alpha compares with the previous epoch's consensus.
pub(super) const PREVIOUS: u32 = 4;

/// Mark in the high word of a weight: the entry is there, if only with zero.
pub(super) const PRESENT: u64 = 1 << 63;
/// Mark in the high word of a weight: liquid alpha does not see it.
pub(super) const HIDDEN: u64 = 1 << 62;
/// Mark on an old bond: liquid alpha does not see it.
pub(super) const HIDDEN_BOND: u32 = 1 << 16;
/// Mark on a new bond: rows stay in the order of submission.
pub(super) const SUBMITTED: u32 = 1 << 31;
/// Mark in the high word of a reference consensus: liquid alpha is in use.
pub(super) const IN_USE: u64 = 1 << 63;

/// Columns of one workgroup of a column kernel, and invocations of every workgroup.
pub(super) const LANES: usize = 64;

/// The uniform of every kernel: how many items there are.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Params {
    pub count: u32,
}

/// One epoch.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Problem {
    pub minority: I32F32,
    pub votes: I32F32,
    pub penalty: I32F32,
    pub kept: I32F32,
    pub low: I32F32,
    pub high: I32F32,
    pub slope: I32F32,
    pub before: u64,
    pub rao: u64,
    pub columns: u32,
    pub rows: u32,
    pub first_uid: u32,
    pub first_row: u32,
    pub first_cell: u32,
    pub first_registered: u32,
    pub first_previous: u32,
    pub voters: u32,
    pub flags: u32,
    pub spare: u32,
}

/// One validator of an epoch.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Row {
    pub limit: u64,
    pub problem: u32,
    pub uid: u32,
    pub weights: u32,
    pub weights_length: u32,
    pub bonds: u32,
    pub bonds_length: u32,
    pub own: u32,
    pub spare: u32,
}

/// What comes back for every uid.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Outcome {
    pub server: u64,
    pub validator: u64,
    pub combined: u64,
    pub miner: u32,
    pub voter: u32,
}

impl Problem {
    pub fn cells(&self) -> usize {
        self.rows as usize * self.columns as usize
    }
}

/// A share without its marks.
pub(super) fn share(marked: u64) -> I32F32 {
    I32F32::from_bits((marked & 0x1_ffff_ffff) as i64)
}

/// A share with no marks yet.
pub(super) fn marked(share: I32F32) -> u64 {
    share.to_bits() as u64
}

/// Cuts `slice` into pieces of these lengths; what is left over is dropped.
pub(super) fn pieces<T>(mut slice: &mut [T], lengths: impl Iterator<Item = usize>) -> Vec<&mut [T]> {
    lengths
        .map_while(|length| {
            let (piece, rest) = std::mem::take(&mut slice).split_at_mut_checked(length)?;
            slice = rest;
            Some(piece)
        })
        .collect()
}

/// What a batch of epochs needs on the device.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    pub problems: Vec<Problem>,
    pub rows: Vec<Row>,
    /// Active stake and vote of every row.
    pub stakes: Vec<[I32F32; 2]>,
    pub pool: Vec<u32>,
    pub registered: Vec<u64>,
    pub previous: Vec<u32>,
    pub fallback: Vec<I32F32>,
    /// Problem and first column of every workgroup of a column kernel.
    pub tiles: Vec<[u32; 2]>,
    /// Rows whose order matters and which do not ascend.
    pub unsorted: Vec<u32>,
    pub cells: usize,
}

/// Where a row of a matrix lies in the pool.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u32,
    length: u32,
    ascends: bool,
}

/// What the host keeps of a state for when its results come back.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub active: Vec<bool>,
    pub stake_norm: Vec<I32F32>,
    pub new_permit: Vec<bool>,
}

/// The state packed last, whose rows are shared where the next one has the same.
#[derive(Debug)]
struct Last<'a> {
    state: &'a State,
    weights: Vec<Span>,
    bonds: Vec<Span>,
    first_registered: usize,
    first_previous: usize,
}

/// Packs states into a [`Batch`].
#[derive(Debug, Default)]
pub(super) struct Packer<'a> {
    pub batch: Batch,
    pub kept: Vec<Kept>,
    last: Option<Last<'a>>,
    stamps: Vec<u32>,
}

impl<'a> Packer<'a> {
    /// What a state takes at most, in elements of 8 bytes of the largest array, or `None` if it is not one for the device: see
    /// [`super::epochs`].
    pub fn size(state: &State) -> Option<usize> {
        let n = state.n();
        // Sums of so many values below 2^16 stay in the range, and weights so become shares.
        let null = state.hyper.epoch_consensus == EpochConsensus::Null;
        if null || n == 0 || n > 32_767 || state.hyper.bonds_moving_average > 1_000_000 {
            return None;
        }
        let (weights, bonds) = (state.weights.offsets(), state.bonds.offsets());
        let rows = (0..n).filter(|&row| weights[row] != weights[row + 1] || bonds[row] != bonds[row + 1]).count();
        let entries = (state.weights.len() + state.bonds.len()).div_ceil(2);
        Some((rows * n).max(entries).max(n * size_of::<Row>() / 8).max(size_of::<Problem>() / 8))
    }

    /// Adds a state, or returns `false` and leaves everything as it was if it is not one for the device.
    pub fn push(&mut self, state: &'a State) -> bool {
        let n = state.n();
        let standing = standing(state);
        let shares = standing.stake_norm.iter().chain(&standing.active_stake);
        if shares.into_iter().any(|share| !(I32F32::ZERO..=I32F32::ONE).contains(share)) {
            return false;
        }
        let before_this = self.batch.pool.len();
        let last = self.last.take().filter(|last| last.state.n() == n);
        let weights = self.spans(&state.weights, last.as_ref().map(|last| (&last.state.weights, &last.weights)), n);
        let bonds = self.spans(&state.bonds, last.as_ref().map(|last| (&last.state.bonds, &last.bonds)), n);
        let (Some(weights), Some(bonds)) = (weights, bonds) else {
            self.batch.pool.truncate(before_this);
            self.last = last;
            return false;
        };
        let (first_registered, first_previous) = self.vectors(state, &standing, last.as_ref());
        self.problem(state, &standing, &weights, &bonds, [first_registered, first_previous]);
        self.last = Some(Last { state, weights, bonds, first_registered, first_previous });
        let Standing { stake_norm, active, new_permit, .. } = standing;
        self.kept.push(Kept { active, stake_norm, new_permit });
        true
    }

    /// Puts a matrix's rows into the pool, save those that lie there already. `None` if an entry is repeated in its row.
    fn spans(&mut self, matrix: &Csr<u16>, last: Option<(&Csr<u16>, &Vec<Span>)>, n: usize) -> Option<Vec<Span>> {
        let (offsets, columns, values) = (matrix.offsets(), matrix.columns(), matrix.values());
        let mut spans = Vec::with_capacity(n);
        // Each row has a stamp of its own, so that nothing needs to be cleared in between.
        self.stamps.clear();
        self.stamps.resize(n, 0);
        for row in 0..n {
            let range = offsets[row] as usize..offsets[row + 1] as usize;
            let (columns, values) = (&columns[range.clone()], &values[range]);
            if let Some((last, spans_of_last)) = last {
                let range = last.offsets()[row] as usize..last.offsets()[row + 1] as usize;
                if columns == &last.columns()[range.clone()] && values == &last.values()[range] {
                    spans.push(spans_of_last[row]);
                    continue;
                }
            }
            let ascends = columns.is_sorted_by(|a, b| a < b);
            if !ascends {
                let stamp = row as u32 + 1;
                for &column in columns {
                    if let Some(stamped) = self.stamps.get_mut(usize::from(column))
                        && std::mem::replace(stamped, stamp) == stamp
                    {
                        return None;
                    }
                }
            }
            spans.push(Span { start: self.batch.pool.len() as u32, length: columns.len() as u32, ascends });
            let entry = |(&column, &value): (&u16, &u16)| u32::from(column) | u32::from(value) << 16;
            self.batch.pool.extend(columns.iter().zip(values).map(entry));
        }
        Some(spans)
    }

    /// Adds what is per uid, save what lies there already: where blocks of registration and previous consensus begin.
    fn vectors(&mut self, state: &State, standing: &Standing<'_>, last: Option<&Last<'a>>) -> (usize, usize) {
        let batch = &mut self.batch;
        let n = state.n();
        let first_registered = match last {
            Some(last) if last.state.block_at_registration == state.block_at_registration => last.first_registered,
            _ => {
                batch.registered.extend_from_slice(&standing.block_at_registration);
                batch.registered.len() - n
            }
        };
        let first_previous = match last {
            Some(last) if last.state.stored_consensus == state.stored_consensus => last.first_previous,
            _ => {
                let stored = state.stored_consensus.iter().copied().map(u32::from).chain(std::iter::repeat(0));
                batch.previous.extend(stored.take(n));
                batch.previous.len() - n
            }
        };
        batch.fallback.extend_from_slice(fallback(&standing.stake_norm, &standing.active_stake));
        (first_registered, first_previous)
    }

    fn problem(
        &mut self,
        state: &State,
        standing: &Standing<'_>,
        weights: &[Span],
        bonds: &[Span],
        [first_registered, first_previous]: [usize; 2],
    ) {
        let (n, hyper) = (state.n(), &state.hyper);
        let batch = &mut self.batch;
        let (problem, first_row) = (batch.problems.len() as u32, batch.rows.len());

        // Votes are active stake, normalised a second time.
        let mut vote = standing.active_stake.clone();
        I32F32::normalize(&mut vote);
        let votes: I32F32 = vote.iter().sum();
        let voters = vote.iter().filter(|&&vote| vote > I32F32::ZERO).count();

        let liquid = hyper.yuma3 && hyper.liquid_alpha;
        for uid in 0..n {
            let permit = standing.permit[uid] && weights[uid].length > 0;
            if !permit && bonds[uid].length == 0 {
                continue;
            }
            // One limit for what the weights and what open commits are too old for.
            let commit = state.commit_block.as_ref().and_then(|blocks| blocks[uid]).unwrap_or(u64::MAX);
            let limit = if permit { standing.last_update[uid].min(commit.saturating_add(1)) } else { 0 };
            let weights_of = if permit { weights[uid] } else { Span { ascends: true, ..Span::default() } };
            if liquid && !(weights_of.ascends && bonds[uid].ascends) {
                batch.unsorted.push(batch.rows.len() as u32);
            }
            batch.rows.push(Row {
                limit,
                problem,
                uid: uid as u32,
                weights: weights_of.start,
                weights_length: weights_of.length,
                bonds: bonds[uid].start,
                bonds_length: bonds[uid].length,
                own: u32::from(hyper.owner_uid.map(usize::from) == Some(uid)),
                spare: 0,
            });
            batch.stakes.push([standing.active_stake[uid], vote[uid]]);
        }
        batch.tiles.extend((0..n).step_by(LANES).map(|column| [problem, column as u32]));

        let alpha = LiquidAlpha::new(hyper.alpha_low, hyper.alpha_high, hyper.alpha_sigmoid_steepness);
        let previous = liquid && compares_with_stored(hyper, &state.stored_consensus);
        let flag = |set: bool, flag: u32| if set { flag } else { 0 };
        let described = Problem {
            minority: votes.saturating_sub(I32F32::from_proportion(hyper.kappa)),
            votes,
            penalty: I32F32::from_proportion(hyper.bonds_penalty),
            kept: I32F32::ONE.saturating_sub(bonds::moving_average_alpha(hyper.bonds_moving_average)),
            low: alpha.low,
            high: alpha.high,
            slope: alpha.slope,
            before: bonds::bonds_count_before(state.block, state.last_mechanism_step_block, hyper.tempo),
            rao: state.rao_emission,
            columns: n as u32,
            rows: (batch.rows.len() - first_row) as u32,
            first_uid: (batch.fallback.len() - n) as u32,
            first_row: first_row as u32,
            first_cell: batch.cells as u32,
            first_registered: first_registered as u32,
            first_previous: first_previous as u32,
            voters: voters as u32,
            flags: flag(hyper.yuma3, YUMA3) | flag(liquid, LIQUID) | flag(previous, PREVIOUS),
            spare: 0,
        };
        batch.cells += described.cells();
        batch.problems.push(described);
    }
}
