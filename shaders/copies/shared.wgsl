// Twin: src/stages/copies/shared.rs. One invocation a pair of answers: the weights of the shingles that both have. Shingles are
// numbers; an answer's list ascends, so two lists are walked through side by side.

const LANES: u32 = 64u;

struct Params {
    pairs: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [answers + 1]: where each answer's list starts, and the end of the last one.
@group(0) @binding(1) var<storage, read> starts: array<u32>;
// The lists, end to end.
@group(0) @binding(2) var<storage, read> shingles: array<u32>;
// [shingles that there are].
@group(0) @binding(3) var<storage, read> weights: array<u32>;
// [pairs][2].
@group(0) @binding(4) var<storage, read> pairs: array<vec2<u32>>;
// [pairs].
@group(0) @binding(5) var<storage, read_write> sums: array<u32>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let pair = workgroup_index(group, groups) * LANES + lane;
    if pair >= params.pairs {
        return;
    }
    let both = pairs[pair];
    var left = starts[both.x];
    let left_end = starts[both.x + 1u];
    var right = starts[both.y];
    let right_end = starts[both.y + 1u];
    var sum = 0u;
    while left < left_end && right < right_end {
        let a = shingles[left];
        let b = shingles[right];
        if a == b {
            sum += weights[a];
        }
        left += u32(a <= b);
        right += u32(b <= a);
    }
    sums[pair] = sum;
}
