// Twin: src/nn/normalize.rs. One workgroup a row: x / |x|, and zeros for a row of zeros.

struct Params {
    rows: u32,
    width: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> unit: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = workgroup_index(group, groups);
    if row >= params.rows {
        return;
    }
    let start = row * params.width;
    var squares = 0.0;
    for (var i = lane; i < params.width; i += 64u) {
        squares += x[start + i] * x[start + i];
    }
    let length = max(sqrt(sum_over_workgroup(squares, lane)), 1e-12);
    for (var i = lane; i < params.width; i += 64u) {
        unit[start + i] = x[start + i] / length;
    }
}
