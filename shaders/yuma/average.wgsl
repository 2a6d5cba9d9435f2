// Twin: src/stages/yuma/device/average.rs. One invocation a column of a problem under Yuma3: old bonds moved towards the weights,
// each at its own rate where liquid alpha is in use, as stored, and normalised (YUMA 8.B to 8.D).

struct Params {
    count: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> problems: array<Problem>;
@group(0) @binding(2) var<storage, read> tiles: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read> consensus: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read> references: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read> weights: array<vec2<u32>>;
@group(0) @binding(6) var<storage, read> bonds: array<u32>;
// Bonds after the epoch, columns normalised; and as stored.
@group(0) @binding(7) var<storage, read_write> averages: array<vec2<u32>>;
@group(0) @binding(8) var<storage, read_write> stored: array<u32>;

// A bond after the epoch under liquid alpha.
fn liquid_bond(
    problem: Problem,
    word: vec2<u32>,
    bought: vec2<u32>,
    bond: u32,
    limit: vec2<u32>,
    reference: vec2<u32>,
) -> vec2<u32> {
    let held = from_proportion(bond & 0xffffu);
    // At a penalty of 1 a weight cut to nothing is no entry; in between a zero is none.
    var there = (word.y & PRESENT) != 0u;
    if equal(problem.penalty, ONE) {
        there = there && (is_zero(weight_at(word)) || !is_zero(limit));
    } else if !is_zero(problem.penalty) {
        there = !is_zero(bought);
    }
    if !there || (is_zero(bought) && is_zero(held)) {
        return ZERO;
    }
    var weight_seen = bought;
    if (word.y & HIDDEN) != 0u {
        weight_seen = ZERO;
    }
    var bond_seen = held;
    if (bond & HIDDEN_BOND) != 0u {
        bond_seen = ZERO;
    }
    let moved = rate(reference, weight_seen, bond_seen, problem.low, problem.high, problem.slope);
    let kept = multiply_shares(subtract(ONE, moved), held);
    return smaller(add(kept, multiply_shares(moved, bought)), ONE);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = workgroup_index(group, groups);
    if index >= params.count {
        return;
    }
    let tile = tiles[index];
    let problem = problems[tile.x];
    let column = tile.y + lane;
    if column >= problem.columns || (problem.flags & YUMA3) == 0u {
        return;
    }
    let limit = consensus[problem.first_uid + column];
    let reference = references[problem.first_uid + column];
    let liquid = (reference.y & IN_USE) != 0u;
    let moved = subtract(ONE, problem.kept);

    var sum = ZERO;
    for (var row = 0u; row < problem.rows; row++) {
        let at = problem.first_cell + row * problem.columns + column;
        let word = weights[at];
        let bought = weight_for_bonds(weight_at(word), limit, problem.penalty);
        var average = ZERO;
        var mark = 0u;
        if liquid {
            average = liquid_bond(problem, word, bought, bonds[at], limit, weight_at(reference));
            mark = SUBMITTED;
        } else {
            let held = from_proportion(bonds[at] & 0xffffu);
            average = add(multiply_shares(moved, bought), multiply_shares(problem.kept, held));
        }
        averages[at] = average;
        stored[at] = 0u;
        if !is_zero(average) {
            stored[at] = (1u + to_proportion(average)) | mark;
        }
        sum = add(sum, average);
    }
    for (var row = 0u; row < problem.rows; row++) {
        let at = problem.first_cell + row * problem.columns + column;
        if !is_zero(averages[at]) {
            averages[at] = divide_shares(averages[at], sum);
        }
    }
}
