// Twin: src/stages/loss/cosine.rs. One workgroup a pair of unit rows: 1 - their dot product.

struct Params {
    pairs: u32,
    width: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> responses: array<f32>;
@group(0) @binding(2) var<storage, read> references: array<f32>;
@group(0) @binding(3) var<storage, read_write> losses: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let pair = workgroup_index(group, groups);
    if pair >= params.pairs {
        return;
    }
    let start = pair * params.width;
    var products = 0.0;
    for (var i = lane; i < params.width; i += 64u) {
        products += responses[start + i] * references[start + i];
    }
    let cosine = sum_over_workgroup(products, lane);
    if lane == 0u {
        losses[pair] = 1.0 - cosine;
    }
}
