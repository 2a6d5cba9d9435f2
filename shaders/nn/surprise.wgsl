// Twin: src/nn/surprise.rs. One invocation a scored row: -ln p(target) from what `nn/head` found of each split, in their order.

struct Params {
    rows: u32,
    splits: u32,
}

struct Partial {
    largest: f32,
    sum: f32,
    wanted: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> partials: array<Partial>;
@group(0) @binding(2) var<storage, read_write> losses: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = workgroup_index(group, groups) * 64u + lane;
    if row >= params.rows {
        return;
    }
    let start = row * params.splits;
    var largest = -3.0e38;
    for (var i = 0u; i < params.splits; i++) {
        largest = max(largest, partials[start + i].largest);
    }
    var sum = 0.0;
    var wanted = 0.0;
    for (var i = 0u; i < params.splits; i++) {
        let part = partials[start + i];
        sum += part.sum * exp(part.largest - largest);
        // At most one of them is not 0.
        wanted += part.wanted;
    }
    losses[row] = log(sum) + (largest - wanted);
}
