// Twin: src/nn/embed.rs. One invocation an element of `hidden`.

struct Params {
    tokens: u32,
    width: u32,
    // The rows [first, first + rows) of the word table are bound as `words`.
    first: u32,
    rows: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read> positions: array<u32>;
@group(0) @binding(3) var<storage, read> words: array<f32>;
@group(0) @binding(4) var<storage, read> places: array<f32>;
@group(0) @binding(5) var<storage, read_write> hidden: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let element = workgroup_index(group, groups) * 64u + lane;
    if element >= params.tokens * params.width {
        return;
    }
    let token = element / params.width;
    let column = element % params.width;
    let id = ids[token];
    if id < params.first || id - params.first >= params.rows {
        return;
    }
    hidden[element] = words[(id - params.first) * params.width + column] + places[positions[token] * params.width + column];
}
