// Twin: src/stages/yuma/device/consensus.rs. One invocation a column: the stake-weighted median of what validators with active
// stake give a miner, and what stake gives him under it (YUMA 6 and 7.3).

struct Params {
    count: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> problems: array<Problem>;
// (problem, first column): 64 columns each.
@group(0) @binding(2) var<storage, read> tiles: array<vec2<u32>>;
// (active stake, the same normalised again: the vote) of every row.
@group(0) @binding(3) var<storage, read> stakes: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> weights: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read_write> consensus: array<vec2<u32>>;
@group(0) @binding(6) var<storage, read_write> rank: array<vec2<u32>>;

// The smallest weight that together with all below it has more than the minority of the votes; the largest where none has.
fn median(problem: Problem, column: u32) -> vec2<u32> {
    // Weights above zero less one bit fit one word.
    var count = 0u;
    var supported = ZERO;
    var lowest = 0xffffffffu;
    var highest = 0u;
    for (var row = 0u; row < problem.rows; row++) {
        let weight = weight_at(weights[problem.first_cell + row * problem.columns + column]);
        let vote = stakes[problem.first_row + row].zw;
        if !is_zero(weight) && !is_zero(vote) {
            count += 1u;
            supported = add(supported, vote);
            lowest = min(lowest, weight.x - 1u);
            highest = max(highest, weight.x - 1u);
        }
    }
    let zeros = subtract(problem.votes, supported);
    if count == 0u || (count < problem.voters && signed_below(problem.minority, zeros)) {
        return ZERO;
    }

    // What the votes at or below the median have to exceed: not less than nothing, and less than all of them.
    var needed = subtract(problem.minority, zeros);
    if is_negative(needed) {
        needed = ZERO;
    }
    needed = smaller(needed, subtract(supported, vec2<u32>(1u, 0u)));

    // Both ends are weights that occur; each round takes one of them past the middle.
    while lowest < highest {
        let middle = lowest + (highest - lowest) / 2u;
        var held = ZERO;
        var largest_below = lowest;
        var smallest_above = highest;
        for (var row = 0u; row < problem.rows; row++) {
            let weight = weight_at(weights[problem.first_cell + row * problem.columns + column]);
            if !is_zero(weight) {
                let vote = stakes[problem.first_row + row].zw;
                let key = weight.x - 1u;
                if key <= middle {
                    held = add(held, vote);
                    if !is_zero(vote) {
                        largest_below = max(largest_below, key);
                    }
                } else if !is_zero(vote) {
                    smallest_above = min(smallest_above, key);
                }
            }
        }
        if below(needed, held) {
            highest = largest_below;
        } else {
            lowest = smallest_above;
        }
    }
    return add(vec2<u32>(lowest, 0u), vec2<u32>(1u, 0u));
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
    if column >= problem.columns {
        return;
    }
    let limit = median(problem, column);
    var sum = ZERO;
    for (var row = 0u; row < problem.rows; row++) {
        let weight = weight_at(weights[problem.first_cell + row * problem.columns + column]);
        sum = add(sum, multiply_shares(stakes[problem.first_row + row].xy, smaller(weight, limit)));
    }
    consensus[problem.first_uid + column] = limit;
    rank[problem.first_uid + column] = sum;
}
