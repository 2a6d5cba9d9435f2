// Twin: src/nn/exact/linear.rs. Integers of 14 bits, split in two, times weights of 8, scaled back to Q15; bias and GELU follow.
//
// A workgroup of 8 x 16 invocations makes a tile of 64 x 64, each invocation 8 x 4 of it in registers: one sum for the upper parts of its
// inputs and one for the lower.

struct Params {
    rows: u32,
    // Numbers in a row of `out`, divided by four.
    quads: u32,
    // Numbers in a row of inputs, divided by four.
    depth: u32,
    // 1 if GELU follows.
    gelu: u32,
}

// What a sum of a column is multiplied by, beside the row's step, and how many bits are dropped then; what is added.
struct Column {
    step: u32,
    bias: i32,
    shift: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// Four inputs each: upper and lower parts, 128 upper + lower.
@group(0) @binding(1) var<storage, read> quantised: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> steps: array<u32>;
// [panels of PANEL columns][depth][PANEL], four signed bytes each; what is beyond the columns is 0.
@group(0) @binding(3) var<storage, read> weights: array<u32>;
@group(0) @binding(4) var<storage, read> columns: array<Column>;
@group(0) @binding(5) var<storage, read> gelu_table: array<i32>;
@group(0) @binding(6) var<storage, read_write> out: array<vec4<i32>>;

const TILE: u32 = 64u;
// Words of four inputs.
const SLICE: u32 = 8u;
// One more than the tile, so that a column of stores falls into different banks.
const PITCH: u32 = 65u;
// Columns of a panel of weights.
const PANEL: u32 = 32u;

var<workgroup> tile_x: array<vec2<u32>, SLICE * PITCH>;
var<workgroup> tile_w: array<u32, SLICE * PITCH>;

fn products(x: u32, w: vec4<u32>) -> vec4<i32> {
    return vec4<i32>(dot4I8Packed(x, w.x), dot4I8Packed(x, w.y), dot4I8Packed(x, w.z), dot4I8Packed(x, w.w));
}

fn gelu_of(u: i32) -> i32 {
    let a = min(magnitude(u), 0x3ffffu);
    let here = gelu_table[a >> 9u];
    let rise = gelu_table[(a >> 9u) + 1u] - here;
    return max(u, 0) - (here + ((rise * i32(a & 511u) + 256) >> 9u));
}

fn store(row: u32, column: u32, upper: vec4<i32>, lower: vec4<i32>) {
    if row >= params.rows || column >= 4u * params.quads {
        return;
    }
    let step = steps[row];
    var values = (upper << vec4<u32>(7u)) + lower;
    for (var i = 0u; i < 4u; i++) {
        let by = columns[column + i];
        values[i] = multiply_shift(values[i], step * by.step, by.shift) + by.bias;
        if params.gelu == 1u {
            values[i] = gelu_of(values[i]);
        }
    }
    out[row * params.quads + column / 4u] = values;
}

@compute @workgroup_size(128)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tiles_across = (4u * params.quads + TILE - 1u) / TILE;
    let tiles_down = (params.rows + TILE - 1u) / TILE;
    let index = workgroup_index(group, groups);
    if index >= tiles_across * tiles_down {
        return;
    }
    let first_row = (index / tiles_across) * TILE;
    let first_column = (index % tiles_across) * TILE;
    let across = (lane % 8u) * 8u;
    let down = (lane / 8u) * 4u;

    var u0a = vec4<i32>(); var u0b = vec4<i32>(); var l0a = vec4<i32>(); var l0b = vec4<i32>();
    var u1a = vec4<i32>(); var u1b = vec4<i32>(); var l1a = vec4<i32>(); var l1b = vec4<i32>();
    var u2a = vec4<i32>(); var u2b = vec4<i32>(); var l2a = vec4<i32>(); var l2b = vec4<i32>();
    var u3a = vec4<i32>(); var u3b = vec4<i32>(); var l3a = vec4<i32>(); var l3b = vec4<i32>();

    for (var first = 0u; first < params.depth; first += SLICE) {
        workgroupBarrier();
        let k = lane % SLICE;
        for (var i = lane / SLICE; i < TILE; i += 128u / SLICE) {
            var x = vec2<u32>();
            if first_row + i < params.rows && first + k < params.depth {
                x = quantised[(first_row + i) * params.depth + first + k];
            }
            tile_x[k * PITCH + i] = x;
        }
        // Beside each other stand columns here.
        let column = lane % TILE;
        for (var i = lane / TILE; i < SLICE; i += 128u / TILE) {
            var w = 0u;
            if first_column + column < 4u * params.quads && first + i < params.depth {
                let panel = (first_column + column) / PANEL;
                w = weights[(panel * params.depth + first + i) * PANEL + column % PANEL];
            }
            tile_w[i * PITCH + column] = w;
        }
        workgroupBarrier();

        for (var k = 0u; k < SLICE; k++) {
            let at = k * PITCH + across;
            let wa = vec4<u32>(tile_w[at], tile_w[at + 1u], tile_w[at + 2u], tile_w[at + 3u]);
            let wb = vec4<u32>(tile_w[at + 4u], tile_w[at + 5u], tile_w[at + 6u], tile_w[at + 7u]);
            let from_row = k * PITCH + down;
            let x0 = tile_x[from_row];
            u0a += products(x0.x, wa); u0b += products(x0.x, wb); l0a += products(x0.y, wa); l0b += products(x0.y, wb);
            let x1 = tile_x[from_row + 1u];
            u1a += products(x1.x, wa); u1b += products(x1.x, wb); l1a += products(x1.y, wa); l1b += products(x1.y, wb);
            let x2 = tile_x[from_row + 2u];
            u2a += products(x2.x, wa); u2b += products(x2.x, wb); l2a += products(x2.y, wa); l2b += products(x2.y, wb);
            let x3 = tile_x[from_row + 3u];
            u3a += products(x3.x, wa); u3b += products(x3.x, wb); l3a += products(x3.y, wa); l3b += products(x3.y, wb);
        }
    }

    let row = first_row + down;
    let column = first_column + across;
    store(row, column, u0a, l0a); store(row, column + 4u, u0b, l0b);
    store(row + 1u, column, u1a, l1a); store(row + 1u, column + 4u, u1b, l1b);
    store(row + 2u, column, u2a, l2a); store(row + 2u, column + 4u, u2b, l2b);
    store(row + 3u, column, u3a, l3a); store(row + 3u, column + 4u, u3b, l3b);
}
