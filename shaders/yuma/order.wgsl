// Twin: src/stages/yuma/device/order.rs. One invocation a row that does not ascend: marks the entries that liquid alpha does not
// see, those behind one with a larger column (YUMA 8.C).

struct Params {
    count: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> problems: array<Problem>;
@group(0) @binding(2) var<storage, read> rows: array<Row>;
// The rows to look at.
@group(0) @binding(3) var<storage, read> unsorted: array<u32>;
@group(0) @binding(4) var<storage, read> pool: array<u32>;
@group(0) @binding(5) var<storage, read> registered: array<vec2<u32>>;
@group(0) @binding(6) var<storage, read> consensus: array<vec2<u32>>;
@group(0) @binding(7) var<storage, read_write> weights: array<vec2<u32>>;
@group(0) @binding(8) var<storage, read_write> bonds: array<u32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let place = workgroup_index(group, groups) * 64u + lane;
    if place >= params.count {
        return;
    }
    let index = unsorted[place];
    let row = rows[index];
    let problem = problems[row.problem];
    let first = problem.first_cell + (index - problem.first_row) * problem.columns;

    // In between the extremes of the penalty rows are sorted anyway.
    var next = 0u;
    if is_zero(problem.penalty) || equal(problem.penalty, ONE) {
        for (var entry = 0u; entry < row.weights_length; entry++) {
            let column = pool[row.weights + entry] & 0xffffu;
            let word = weights[first + column];
            let dropped = !is_zero(problem.penalty) && !is_zero(weight_at(word))
                && is_zero(consensus[problem.first_uid + column]);
            if (word.y & PRESENT) != 0u && !dropped {
                if column >= next {
                    next = column + 1u;
                } else {
                    weights[first + column] = vec2<u32>(word.x, word.y | HIDDEN);
                }
            }
        }
    }
    next = 0u;
    for (var entry = 0u; entry < row.bonds_length; entry++) {
        let column = pool[row.bonds + entry] & 0xffffu;
        // Columns outside the subnet count as registered at block 0.
        var counts = !is_zero(problem.before);
        if column < problem.columns {
            counts = below(registered[problem.first_registered + column], problem.before);
        }
        if counts {
            if column >= next {
                next = column + 1u;
            } else if column < problem.columns {
                bonds[first + column] |= HIDDEN_BOND;
            }
        }
    }
}
