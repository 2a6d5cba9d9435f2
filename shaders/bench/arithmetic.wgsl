// Twin: src/device/ceiling.rs. Chains of multiply-adds in registers: what the device's arithmetic can do at most.

struct Params {
    invocations: u32,
    rounds: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// factor, summand
@group(0) @binding(1) var<storage, read> terms: array<f32>;
@group(0) @binding(2) var<storage, read_write> sums: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = workgroup_index(group, groups) * 64u + lane;
    if index >= params.invocations {
        return;
    }
    let factor = terms[0];
    let summand = vec4<f32>(terms[1]);
    // Eight chains, so that one multiply-add need not wait for another.
    var a = vec4<f32>(0.0); var b = vec4<f32>(1.0); var c = vec4<f32>(2.0); var d = vec4<f32>(3.0);
    var e = vec4<f32>(4.0); var f = vec4<f32>(5.0); var g = vec4<f32>(6.0); var h = vec4<f32>(7.0);
    for (var round = 0u; round < params.rounds; round++) {
        a = fma(a, vec4<f32>(factor), summand);
        b = fma(b, vec4<f32>(factor), summand);
        c = fma(c, vec4<f32>(factor), summand);
        d = fma(d, vec4<f32>(factor), summand);
        e = fma(e, vec4<f32>(factor), summand);
        f = fma(f, vec4<f32>(factor), summand);
        g = fma(g, vec4<f32>(factor), summand);
        h = fma(h, vec4<f32>(factor), summand);
    }
    let all = ((a + b) + (c + d)) + ((e + f) + (g + h));
    sums[index] = (all.x + all.y) + (all.z + all.w);
}
