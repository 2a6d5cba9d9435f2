// Twin: src/nn/swiglu.rs. One invocation a number of `out`: silu(gate) * up.

struct Params {
    rows: u32,
    width: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [rows][gate | up][width]
@group(0) @binding(1) var<storage, read> inner: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let element = workgroup_index(group, groups) * 64u + lane;
    if element >= params.rows * params.width {
        return;
    }
    let at = element / params.width * 2u * params.width + element % params.width;
    let gate = inner[at];
    // Beyond 80 the quotient is the number itself, or as good as 0.
    out[element] = gate / (1.0 + exp(clamp(-gate, -80.0, 80.0))) * inner[at + params.width];
}
