// Twin: src/nn/rotary.rs. One invocation a pair of neighbours: turns queries and keys by their positions' angles, in place.

struct Params {
    tokens: u32,
    // Heads at the front of a row that are turned.
    heads: u32,
    // Pairs in a head.
    pairs: u32,
    // Numbers in a row.
    pitch: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> positions: array<u32>;
// [positions][pairs]: cosine and sine.
@group(0) @binding(2) var<storage, read> turns: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> projected: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = workgroup_index(group, groups) * 64u + lane;
    let in_row = params.heads * params.pairs;
    if index >= params.tokens * in_row {
        return;
    }
    let token = index / in_row;
    let pair = index % in_row;
    let turn = turns[positions[token] * params.pairs + pair % params.pairs];
    let at = token * params.pitch + 2u * pair;
    let x = projected[at];
    let y = projected[at + 1u];
    projected[at] = x * turn.x - y * turn.y;
    projected[at + 1u] = x * turn.y + y * turn.x;
}
