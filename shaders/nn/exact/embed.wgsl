// Twin: src/nn/exact/embed.rs. One workgroup a token: LayerNorm of the word's row plus the position's row.

struct Params {
    tokens: u32,
    // Numbers in a row, divided by four.
    quads: u32,
    // The rows [first, first + rows) of the word table are bound as `words`.
    first: u32,
    rows: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read> positions: array<u32>;
// Four signed numbers of 16 bits each, the lower halves first.
@group(0) @binding(3) var<storage, read> words: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read> places: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read> norm: array<vec4<i32>>;
@group(0) @binding(6) var<storage, read_write> hidden: array<vec4<i32>>;
@group(0) @binding(7) var<storage, read_write> quantised: array<vec2<u32>>;
@group(0) @binding(8) var<storage, read_write> steps: array<u32>;

fn unpack_halves(halves: vec2<u32>) -> vec4<i32> {
    let signed = vec2<i32>(halves);
    let lower = (signed << vec2<u32>(16u)) >> vec2<u32>(16u);
    let upper = signed >> vec2<u32>(16u);
    return vec4<i32>(lower.x, upper.x, lower.y, upper.y);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let token = workgroup_index(group, groups);
    if token >= params.tokens {
        return;
    }
    let id = ids[token];
    if id < params.first || id - params.first >= params.rows {
        return;
    }
    begin_row(lane);
    for (var i = 0u; i < HELD; i++) {
        let quad = lane + 64u * i;
        if quad < params.quads {
            let word = unpack_halves(words[(id - params.first) * params.quads + quad]);
            held[i] = word + unpack_halves(places[positions[token] * params.quads + quad]);
        }
    }
    norm_row(token, params.quads, lane);
}
