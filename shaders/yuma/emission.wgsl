// Twin: src/stages/yuma/device/emission.rs. One workgroup a problem: dividends, the shares of the pot, and everything as the chain
// stores it (YUMA 8.A.e, 9 and 10).

struct Params {
    count: u32,
}

struct Outcome {
    server: vec2<u32>,
    validator: vec2<u32>,
    combined: vec2<u32>,
    // In 65535ths, two to a word: consensus and incentive, dividends and validator trust.
    miner: u32,
    voter: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> problems: array<Problem>;
// The share of each uid where nobody earned anything.
@group(0) @binding(2) var<storage, read> fallback: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read> consensus: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read> incentive: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read> validators: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read_write> outcomes: array<Outcome>;

// A share of the sum; all zeros where the sum is zero.
fn over(value: vec2<u32>, sum: vec2<u32>) -> vec2<u32> {
    if is_zero(value) {
        return ZERO;
    }
    return divide_shares(value, sum);
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
    let problem = problems[index];
    var part = ZERO;
    for (var column = lane; column < problem.columns; column += 64u) {
        part = add(part, validators[problem.first_uid + column].zw);
    }
    let earnings = wide_sum_over_workgroup(part, lane);
    part = ZERO;
    for (var column = lane; column < problem.columns; column += 64u) {
        let uid = problem.first_uid + column;
        part = add(part, add(incentive[uid], over(validators[uid].zw, earnings)));
    }
    let sum = wide_sum_over_workgroup(part, lane);
    for (var column = lane; column < problem.columns; column += 64u) {
        let uid = problem.first_uid + column;
        let dividends = over(validators[uid].zw, earnings);
        var server = over(incentive[uid], sum);
        var validator = over(dividends, sum);
        var combined = over(add(incentive[uid], dividends), sum);
        if is_zero(sum) {
            validator = fallback[uid];
            combined = fallback[uid];
        }
        outcomes[uid].server = part_of(server, problem.rao);
        outcomes[uid].validator = part_of(validator, problem.rao);
        outcomes[uid].combined = part_of(combined, problem.rao);
        outcomes[uid].miner = to_proportion(consensus[uid]) | (to_proportion(incentive[uid]) << 16u);
        outcomes[uid].voter = to_proportion(dividends) | (to_proportion(validators[uid].xy) << 16u);
    }
}
