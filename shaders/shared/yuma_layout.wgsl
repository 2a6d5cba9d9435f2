// How a batch of epochs lies on the device. Host: src/stages/yuma/device/layout.rs.
//
// A problem is one epoch: one uid a miner (its columns), and of the validators those who have weights or bonds (its rows). A
// matrix is dense, row by row, the problems one after the other; a vector over uids likewise.

struct Problem {
    // The stake that a weight may miss and still be consensus, SUM u - kappa (signed), and the sum of all votes, SUM u.
    minority: vec2<u32>,
    votes: vec2<u32>,
    penalty: vec2<u32>,
    // What bonds keep from epoch to epoch, at most 1.
    kept: vec2<u32>,
    // Liquid alpha.
    low: vec2<u32>,
    high: vec2<u32>,
    slope: vec2<u32>,
    // Bonds in miners registered before this block count.
    before: vec2<u32>,
    rao: vec2<u32>,
    columns: u32,
    rows: u32,
    first_uid: u32,
    first_row: u32,
    first_cell: u32,
    first_registered: u32,
    first_previous: u32,
    // How many validators have active stake.
    voters: u32,
    flags: u32,
    spare: u32,
}

// Flags of a problem.
const YUMA3: u32 = 1u;
const LIQUID: u32 = 2u;
// Liquid alpha compares with the previous epoch's consensus.
const PREVIOUS: u32 = 4u;

struct Row {
    // Weights on miners registered before this block count.
    limit: vec2<u32>,
    problem: u32,
    uid: u32,
    // Entries of the pool, each column | value << 16, as submitted and as stored.
    weights: u32,
    weights_length: u32,
    bonds: u32,
    bonds_length: u32,
    // Whether a weight on itself counts.
    own: u32,
    spare: u32,
}

// Marks in the high word of a weight (a share, so only the lowest bit is its own): the entry is there, if only with zero; and
// liquid alpha does not see it.
const PRESENT: u32 = 0x80000000u;
const HIDDEN: u32 = 0x40000000u;
// Mark on an old bond, whose value is in the low half: liquid alpha does not see it.
const HIDDEN_BOND: u32 = 0x10000u;
// Mark on a new bond, which is 0 where there is none, else 1 + 65535ths: rows stay in the order of submission.
const SUBMITTED: u32 = 0x80000000u;
// Mark in the high word of a reference consensus: liquid alpha is in use.
const IN_USE: u32 = 0x80000000u;

fn weight_at(word: vec2<u32>) -> vec2<u32> {
    return vec2<u32>(word.x, word.y & 1u);
}

// Between the weight and the weight under consensus, by the penalty; the cut is floored below zero, so rounded up.
fn weight_for_bonds(weight: vec2<u32>, consensus: vec2<u32>, penalty: vec2<u32>) -> vec2<u32> {
    if !below(consensus, weight) || is_zero(penalty) {
        return weight;
    }
    if penalty.y != 0u {
        return consensus;
    }
    let excess = subtract(weight, consensus);
    if excess.y != 0u {
        return subtract(weight, penalty);
    }
    let cut = multiply_words(excess.x, penalty.x);
    return subtract(weight, add(vec2<u32>(cut.y, 0u), vec2<u32>(u32(cut.x != 0u), 0u)));
}
