// Twin: src/nn/rms_norm.rs. One workgroup a row: hidden += x, then normed = hidden / sqrt(mean square + epsilon) * gain.

struct Params {
    rows: u32,
    width: u32,
    epsilon: f32,
    // 1 if `x` is added, 0 if it is only bound to fill its place.
    add: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> gain: array<f32>;
@group(0) @binding(3) var<storage, read_write> hidden: array<f32>;
@group(0) @binding(4) var<storage, read_write> normed: array<f32>;

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
        var value = hidden[start + i];
        if params.add == 1u {
            value += x[start + i];
            // Each invocation reads back only what it wrote itself.
            hidden[start + i] = value;
        }
        squares += value * value;
    }
    let scale = 1.0 / sqrt(sum_over_workgroup(squares, lane) / f32(params.width) + params.epsilon);
    for (var i = lane; i < params.width; i += 64u) {
        normed[start + i] = hidden[start + i] * scale * gain[i];
    }
}
