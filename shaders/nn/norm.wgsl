// Twin: src/nn/norm.rs. One workgroup a row: LayerNorm(x + residual) * gain + bias.

struct Params {
    rows: u32,
    width: u32,
    epsilon: f32,
    // 1 if `residual` is added, 0 if it is only bound to fill its place.
    residual: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> residual: array<f32>;
@group(0) @binding(3) var<storage, read> gain: array<f32>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read_write> normed: array<f32>;

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

    var sum = 0.0;
    for (var i = lane; i < params.width; i += 64u) {
        var value = x[start + i];
        if params.residual == 1u {
            value += residual[start + i];
        }
        // Each invocation reads back only what it wrote itself.
        normed[start + i] = value;
        sum += value;
    }
    let mean = sum_over_workgroup(sum, lane) / f32(params.width);

    var squares = 0.0;
    for (var i = lane; i < params.width; i += 64u) {
        let centred = normed[start + i] - mean;
        squares += centred * centred;
    }
    let scale = 1.0 / sqrt(sum_over_workgroup(squares, lane) / f32(params.width) + params.epsilon);

    for (var i = lane; i < params.width; i += 64u) {
        normed[start + i] = (normed[start + i] - mean) * scale * gain[i] + bias[i];
    }
}
