//! Random subnets, and how they go on from epoch to epoch.

use tauscore::device::Noise;
use tauscore::matrix::Csr;
use tauscore::stages::yuma::{ActivityCutoff, ConsensusMode, Epoch, EpochConsensus, Fields, Hyperparameters, State};

/// How far the values of a random subnet go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limits {
    /// As far as the chain lets them.
    Chain,
    /// As far as their types go, with repeated uids in rows.
    Types,
}

/// The blocks between epochs of random subnets.
const TEMPO: u16 = 100;

/// One of the values where something changes, or any.
fn edge(noise: &mut Noise) -> u16 {
    match noise.below(12) {
        0 | 1 => 0,
        2 => 1,
        3 => u16::MAX - 1,
        4 | 5 => u16::MAX,
        6 | 7 => 32_767,
        _ => noise.bits() as u16,
    }
}

fn any_u64(noise: &mut Noise) -> u64 {
    u64::from(noise.bits()) << 32 | u64::from(noise.bits())
}

/// A row with about one in `sparsity` of the columns, often out of order.
pub fn row(noise: &mut Noise, columns: u32, sparsity: u32, limits: Limits) -> Vec<(u16, u16)> {
    let mut uids: Vec<u16> = (0..columns as u16).filter(|_| noise.below(sparsity) == 0).collect();
    for _ in 0..if noise.below(2) == 0 { uids.len() / 2 } else { 0 } {
        let places = [noise.below(uids.len() as u32), noise.below(uids.len() as u32)];
        uids.swap(places[0] as usize, places[1] as usize);
    }
    if limits == Limits::Types && noise.below(8) == 0 && !uids.is_empty() {
        uids.push(uids[noise.below(uids.len() as u32) as usize]);
    }
    uids.into_iter().map(|uid| (uid, edge(noise))).collect()
}

/// Rows of which some are empty, and in half of the matrices many a row repeats the one above.
fn matrix(noise: &mut Noise, rows: usize, columns: u32, limits: Limits) -> Csr<u16> {
    let mut matrix = Csr::with_capacity(rows, 0);
    let (sparsity, copied, empty) = ([1, 1, 2, 4][noise.below(4) as usize], noise.below(2) == 0, 3 + noise.below(20));
    let mut above = Vec::new();
    for _ in 0..rows {
        if noise.below(empty) == 0 {
            above.clear();
        } else if !copied || noise.below(2) == 0 {
            above = row(noise, columns, sparsity, limits);
        }
        for &(column, value) in &above {
            matrix.push(column, value);
        }
        matrix.end_row();
    }
    matrix
}

fn hyperparameters(noise: &mut Noise, n: usize, limits: Limits) -> Hyperparameters {
    let bond_rule = noise.below(3);
    let mut rates = [edge(noise), edge(noise)];
    if limits == Limits::Chain {
        rates.sort_unstable();
    }
    Hyperparameters {
        epoch_consensus: EpochConsensus::Yuma,
        tempo: TEMPO,
        activity_cutoff: match noise.below(8) {
            0 => ActivityCutoff::Blocks(1),
            1 => ActivityCutoff::Blocks(50),
            2..5 => ActivityCutoff::Factor(noise.below(14_000)),
            _ => ActivityCutoff::Blocks(5000),
        },
        max_allowed_validators: edge(noise) % 80,
        kappa: match noise.below(3) {
            // A whole number of fifteenths, which three, five or fifteen equal stakes reach to the last bit.
            0 => 4369 * noise.below(16) as u16,
            // Otherwise mostly majorities that can be had.
            _ => edge(noise) >> noise.below(3),
        },
        bonds_penalty: edge(noise),
        bonds_moving_average: if limits == Limits::Types && noise.below(4) == 0 {
            any_u64(noise)
        } else {
            noise.below(1_000_001).into()
        },
        yuma3: bond_rule > 0,
        liquid_alpha: bond_rule > 1 || noise.below(8) == 0,
        alpha_low: rates[0],
        alpha_high: rates[1],
        alpha_sigmoid_steepness: edge(noise) as i16,
        liquid_alpha_consensus_mode: [ConsensusMode::Auto, ConsensusMode::Previous, ConsensusMode::Current]
            [noise.below(3) as usize],
        stake_threshold: u64::from(noise.below(3)),
        tao_weight: if noise.below(4) == 0 { any_u64(noise) } else { Hyperparameters::default().tao_weight },
        owner_uid: (noise.below(2) == 0).then(|| noise.below(n as u32) as u16),
        ..Hyperparameters::default()
    }
}

/// A subnet of `n` uids with anything that a valid state may have: ties in stake and in whole rows, rows in any order, bonds
/// outside the subnet, vectors that are too short.
pub fn random(noise: &mut Noise, n: usize, limits: Limits) -> State {
    let hyper = hyperparameters(noise, n, limits);
    let weights = matrix(noise, n, n as u32, limits);
    let outside = n as u32 + noise.below(4);
    let bonds = matrix(noise, n, outside, limits);
    // From two levels, where nearly all are equal, to more than the whole supply in rao.
    let stake_bits = [1, 2, 31, 54][noise.below(4) as usize];
    let stake = |noise: &mut Noise| match limits {
        Limits::Types if noise.below(9) == 0 => u64::MAX,
        _ => any_u64(noise) >> (64 - stake_bits),
    };
    let known = n - if noise.below(4) == 0 { noise.below(1 + n as u32) as usize } else { 0 };
    State::new(Fields {
        block: 1000,
        last_mechanism_step_block: [0, 950, 899][noise.below(3) as usize],
        rao_emission: any_u64(noise) >> noise.below(64),
        hyper,
        stake: (0..n).map(|_| stake(noise)).collect(),
        tao_stake: (noise.below(3) == 0).then(|| (0..n).map(|_| stake(noise)).collect()),
        validator_permit: (0..n).map(|_| noise.below(3) > 0).collect(),
        last_update: (0..known).map(|_| 900 + u64::from(noise.below(100))).collect(),
        block_at_registration: (0..n - noise.below(2) as usize)
            .map(|_| if noise.below(3) > 0 { 0 } else { 880 + u64::from(noise.below(100)) })
            .collect(),
        weights,
        bonds,
        stored_consensus: (0..noise.below(2 * n as u32)).map(|_| edge(noise)).collect(),
        commit_block: (noise.below(2) == 0).then(|| {
            (0..n)
                .map(|_| match noise.below(3) {
                    0 => Some(850 + u64::from(noise.below(100))),
                    1 => Some(u64::MAX),
                    _ => None,
                })
                .collect()
        }),
        ..Fields::default()
    })
    .expect("a valid state")
}

/// The subnet a tempo later: some validators have set new weights, some stakes have moved, and now and then a uid has gone to
/// somebody else, which leaves zeros where others had weighed it (YUMA §13.4).
pub fn later(noise: &mut Noise, state: &State, epoch: &Epoch) -> State {
    let mut state = state.clone();
    state.advance(epoch).expect("the same subnet");
    let n = state.n();
    let mut fields = state.into_fields();
    fields.last_mechanism_step_block = fields.block;
    fields.block += u64::from(TEMPO);
    for uid in 0..n {
        let now = fields.block - u64::from(noise.below(TEMPO.into()));
        if noise.below(2) == 0 {
            if let Some(update) = fields.last_update.get_mut(uid) {
                *update = now;
            }
            if noise.below(2) == 0 {
                let sparsity = 1 + noise.below(2);
                fields.weights.set_row(uid, &row(noise, n as u32, sparsity, Limits::Chain));
            }
        }
        if noise.below(4) == 0 {
            fields.stake[uid] = fields.stake[uid] / 2 + fields.stake[(uid + 1) % n] / 2;
        }
        if noise.below(12) == 0 {
            fields.validator_permit[uid] = false;
            fields.weights.set_row(uid, &[]);
            fields.bonds.set_row(uid, &[]);
            for blocks in [&mut fields.last_update, &mut fields.block_at_registration] {
                if let Some(block) = blocks.get_mut(uid) {
                    *block = now;
                }
            }
            fields.weights.map_in_place(|_, column, value| if usize::from(column) == uid { 0 } else { value });
        }
    }
    State::new(fields).expect("a valid state")
}
