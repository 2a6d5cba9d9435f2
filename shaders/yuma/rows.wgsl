// Twin: src/stages/yuma/device/rows.rs. One workgroup a row: lays a validator's entries out by column, leaves out what does not
// count, and normalises the weights (YUMA 5 and 8.3).

struct Params {
    count: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> problems: array<Problem>;
@group(0) @binding(2) var<storage, read> rows: array<Row>;
@group(0) @binding(3) var<storage, read> pool: array<u32>;
// The block at which each uid was registered.
@group(0) @binding(4) var<storage, read> registered: array<vec2<u32>>;
// [rows][columns] of each problem.
@group(0) @binding(5) var<storage, read_write> weights: array<vec2<u32>>;
@group(0) @binding(6) var<storage, read_write> bonds: array<u32>;

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
    let row = rows[index];
    let problem = problems[row.problem];
    let first = problem.first_cell + (index - problem.first_row) * problem.columns;
    for (var column = lane; column < problem.columns; column += 64u) {
        weights[first + column] = ZERO;
        bonds[first + column] = 0u;
    }

    // Fewer than 2^15 values below 2^16: one word is enough.
    var sum = 0u;
    for (var entry = lane; entry < row.weights_length; entry += 64u) {
        let word = pool[row.weights + entry];
        let column = word & 0xffffu;
        if (column != row.uid || row.own != 0u) && below(registered[problem.first_registered + column], row.limit) {
            sum += word >> 16u;
        }
    }
    let whole = wide_sum_over_workgroup(vec2<u32>(sum, 0u), lane).x;

    // The zeros above come first.
    storageBarrier();
    workgroupBarrier();
    for (var entry = lane; entry < row.weights_length; entry += 64u) {
        let word = pool[row.weights + entry];
        let column = word & 0xffffu;
        if (column != row.uid || row.own != 0u) && below(registered[problem.first_registered + column], row.limit) {
            var share = ZERO;
            if whole != 0u {
                share = divide_integers(word >> 16u, whole);
            }
            weights[first + column] = vec2<u32>(share.x, share.y | PRESENT);
        }
    }
    for (var entry = lane; entry < row.bonds_length; entry += 64u) {
        let word = pool[row.bonds + entry];
        let column = word & 0xffffu;
        if column < problem.columns {
            if below(registered[problem.first_registered + column], problem.before) {
                bonds[first + column] = word >> 16u;
            }
        }
    }
}
