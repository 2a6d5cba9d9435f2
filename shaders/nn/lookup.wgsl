// Twin: src/nn/lookup.rs. One invocation a number of `hidden`: rows of a packed table.

struct Params {
    tokens: u32,
    width: u32,
    // The rows [first, first + rows) of the table are bound as `weights`.
    first: u32,
    rows: u32,
    // How they lie in their words.
    format: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read> weights: array<u32>;
@group(0) @binding(3) var<storage, read_write> hidden: array<f32>;

// Number `column` of the row that starts at word `start`.
fn number(start: u32, column: u32) -> f32 {
    let i = column % 32u;
    switch params.format {
        case FORMAT_F16: {
            return half_float((weights[start + column / 2u] >> (column % 2u * 16u)) & 0xffffu);
        }
        case FORMAT_BF16: {
            return bitcast<f32>((weights[start + column / 2u] >> (column % 2u * 16u)) << 16u);
        }
        case FORMAT_Q8: {
            let block = start + column / 32u * 9u;
            let word = bitcast<i32>(weights[block + 1u + i / 4u]);
            return bitcast<f32>(weights[block]) * f32((word << (24u - i % 4u * 8u)) >> 24u);
        }
        case FORMAT_Q4: {
            let block = start + column / 32u * 5u;
            let scale_and_least = half_floats(weights[block]);
            let byte = i % 16u;
            let count = (weights[block + 1u + byte / 4u] >> (byte % 4u * 8u + i / 16u * 4u)) & 15u;
            return scale_and_least.x * f32(count) + scale_and_least.y;
        }
        default: {
            return bitcast<f32>(weights[start + column]);
        }
    }
}

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
    let id = ids[element / params.width];
    if id < params.first || id - params.first >= params.rows {
        return;
    }
    let start = (id - params.first) * row_words(params.format, params.width);
    hidden[element] = number(start, element % params.width);
}
