// Twin: src/nn/exact/pool.rs. One workgroup a sequence: the sum of its tokens, scaled to unit length.

struct Params {
    sequences: u32,
    // Numbers in a row, divided by four.
    quads: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> hidden: array<vec4<i32>>;
// Sequence i holds the tokens [starts[i], starts[i + 1]).
@group(0) @binding(2) var<storage, read> starts: array<u32>;
// Four signed numbers of 16 bits each, the lower halves first.
@group(0) @binding(3) var<storage, read_write> embeddings: array<vec2<u32>>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let sequence = workgroup_index(group, groups);
    if sequence >= params.sequences {
        return;
    }
    begin_row(lane);
    let start = starts[sequence];
    let end = starts[sequence + 1u];
    for (var i = 0u; i < HELD; i++) {
        let quad = lane + 64u * i;
        if quad < params.quads {
            var sum = vec4<i32>();
            for (var token = start; token < end; token++) {
                sum += hidden[token * params.quads + quad];
            }
            held[i] = sum;
        }
    }
    let reciprocal = scale_row(params.quads, lane);
    for (var i = 0u; i < HELD; i++) {
        let quad = lane + 64u * i;
        if quad < params.quads {
            let unit = round_shift4(held[i] * reciprocal.factor, u32(16 + reciprocal.exponent));
            let halves = vec4<u32>(clamp(unit, vec4<i32>(-32768), vec4<i32>(32767))) & vec4<u32>(0xffffu);
            embeddings[sequence * params.quads + quad] =
                vec2<u32>(halves.x | (halves.y << 16u), halves.z | (halves.w << 16u));
        }
    }
}
