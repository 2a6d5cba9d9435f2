// Twin: src/stages/yuma/device/earnings.rs. One workgroup a row: validator trust, what is left of its weights under consensus
// (YUMA 7.2), and what its bonds earn from incentive (8.A.e, 8.B.d and e).

struct Params {
    count: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> problems: array<Problem>;
@group(0) @binding(2) var<storage, read> rows: array<Row>;
@group(0) @binding(3) var<storage, read> stakes: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> consensus: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read> incentive: array<vec2<u32>>;
@group(0) @binding(6) var<storage, read> weights: array<vec2<u32>>;
@group(0) @binding(7) var<storage, read> averages: array<vec2<u32>>;
@group(0) @binding(8) var<storage, read_write> validators: array<vec4<u32>>;

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
    var left = ZERO;
    var earned = ZERO;
    for (var column = lane; column < problem.columns; column += 64u) {
        let uid = problem.first_uid + column;
        left = add(left, smaller(weight_at(weights[first + column]), consensus[uid]));
        earned = add(earned, multiply_shares(averages[first + column], incentive[uid]));
    }
    let trust = wide_sum_over_workgroup(left, lane);
    var earnings = wide_sum_over_workgroup(earned, lane);
    if lane == 0u {
        if (problem.flags & YUMA3) != 0u {
            earnings = multiply(earnings, stakes[index].xy);
        }
        validators[problem.first_uid + row.uid] = vec4<u32>(trust, earnings);
    }
}
