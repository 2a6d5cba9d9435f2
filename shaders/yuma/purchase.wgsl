// Twin: src/stages/yuma/device/purchase.rs. One invocation a column of a problem under Yuma2: old bonds normalised, moved
// towards what stake buys, normalised again, and as stored (YUMA 8.A).

struct Params {
    count: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> problems: array<Problem>;
@group(0) @binding(2) var<storage, read> tiles: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read> stakes: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> consensus: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read> weights: array<vec2<u32>>;
@group(0) @binding(6) var<storage, read> bonds: array<u32>;
// Bonds after the epoch, columns normalised; and as stored.
@group(0) @binding(7) var<storage, read_write> averages: array<vec2<u32>>;
@group(0) @binding(8) var<storage, read_write> stored: array<u32>;

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
    if column >= problem.columns || (problem.flags & YUMA3) != 0u {
        return;
    }
    let limit = consensus[problem.first_uid + column];

    var old = 0u;
    var purchases = ZERO;
    for (var row = 0u; row < problem.rows; row++) {
        let at = problem.first_cell + row * problem.columns + column;
        old += bonds[at] & 0xffffu;
        let weight = weight_for_bonds(weight_at(weights[at]), limit, problem.penalty);
        let purchase = multiply_shares(weight, stakes[problem.first_row + row].xy);
        averages[at] = purchase;
        purchases = add(purchases, purchase);
    }

    let moved = subtract(ONE, problem.kept);
    var sum = ZERO;
    for (var row = 0u; row < problem.rows; row++) {
        let at = problem.first_cell + row * problem.columns + column;
        var average = ZERO;
        if !is_zero(purchases) {
            average = multiply_shares(moved, divide_shares(averages[at], purchases));
        }
        if old != 0u {
            let held = divide_integers(bonds[at] & 0xffffu, old);
            average = add(average, multiply_shares(problem.kept, held));
        }
        averages[at] = average;
        sum = add(sum, average);
    }

    var largest = ZERO;
    for (var row = 0u; row < problem.rows; row++) {
        let at = problem.first_cell + row * problem.columns + column;
        var share = ZERO;
        var there = 0u;
        if !is_zero(averages[at]) {
            share = divide_shares(averages[at], sum);
            there = 1u;
        }
        averages[at] = share;
        stored[at] = there;
        if below(largest, share) {
            largest = share;
        }
    }
    for (var row = 0u; row < problem.rows; row++) {
        let at = problem.first_cell + row * problem.columns + column;
        if stored[at] != 0u {
            stored[at] = 1u + to_proportion(divide_shares(averages[at], largest));
        }
    }
}
