// Twin: src/nn/exact/norm.rs. One workgroup a row: LayerNorm(x + residual).

struct Params {
    rows: u32,
    // Numbers in a row, divided by four.
    quads: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<i32>>;
@group(0) @binding(2) var<storage, read> residual: array<vec4<i32>>;
@group(0) @binding(3) var<storage, read> norm: array<vec4<i32>>;
@group(0) @binding(4) var<storage, read_write> hidden: array<vec4<i32>>;
@group(0) @binding(5) var<storage, read_write> quantised: array<vec2<u32>>;
@group(0) @binding(6) var<storage, read_write> steps: array<u32>;

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
    begin_row(lane);
    for (var i = 0u; i < HELD; i++) {
        let quad = lane + 64u * i;
        if quad < params.quads {
            held[i] = x[row * params.quads + quad] + residual[row * params.quads + quad];
        }
    }
    norm_row(row, params.quads, lane);
}
