// Twin: src/stages/yuma/device/incentive.rs. One workgroup a problem: incentive, rank over the sum of all (YUMA 7.4), and the
// consensus that liquid alpha compares with (8.4).

struct Params {
    count: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> problems: array<Problem>;
// The previous epoch's consensus in 65535ths, where it is asked for.
@group(0) @binding(2) var<storage, read> previous: array<u32>;
@group(0) @binding(3) var<storage, read> consensus: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read> rank: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read_write> incentive: array<vec2<u32>>;
@group(0) @binding(6) var<storage, read_write> references: array<vec2<u32>>;
// (validator trust, earnings): zero for those who are no row.
@group(0) @binding(7) var<storage, read_write> validators: array<vec4<u32>>;

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
    let problem = problems[index];
    var part = ZERO;
    var some = 0u;
    for (var column = lane; column < problem.columns; column += 64u) {
        part = add(part, rank[problem.first_uid + column]);
        some |= u32(!is_zero(consensus[problem.first_uid + column]));
    }
    let sum = wide_sum_over_workgroup(part, lane);
    let any = wide_sum_over_workgroup(vec2<u32>(some, 0u), lane).x;
    let liquid = (problem.flags & LIQUID) != 0u && any != 0u;
    for (var column = lane; column < problem.columns; column += 64u) {
        let uid = problem.first_uid + column;
        var share = ZERO;
        if !is_zero(sum) {
            share = divide_shares(rank[uid], sum);
        }
        incentive[uid] = share;
        var reference = consensus[uid];
        if (problem.flags & PREVIOUS) != 0u {
            reference = from_proportion(previous[problem.first_previous + column]);
        }
        references[uid] = vec2<u32>(reference.x, reference.y | select(0u, IN_USE, liquid));
        validators[uid] = vec4<u32>(0u);
    }
}
