// Twin: src/nn/pool.rs. One invocation an element of `pooled`: the mean over a sequence's tokens, or its first token.

struct Params {
    sequences: u32,
    width: u32,
    // 0: mean, 1: first token ([CLS]).
    mode: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> hidden: array<f32>;
// Sequence i holds the tokens [starts[i], starts[i + 1]).
@group(0) @binding(2) var<storage, read> starts: array<u32>;
@group(0) @binding(3) var<storage, read_write> pooled: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let element = workgroup_index(group, groups) * 64u + lane;
    if element >= params.sequences * params.width {
        return;
    }
    let sequence = element / params.width;
    let column = element % params.width;
    let start = starts[sequence];
    let end = starts[sequence + 1u];
    if params.mode == 1u {
        pooled[element] = hidden[start * params.width + column];
        return;
    }
    var sum = 0.0;
    for (var token = start; token < end; token++) {
        sum += hidden[token * params.width + column];
    }
    pooled[element] = sum / f32(end - start);
}
