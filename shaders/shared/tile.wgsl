// A tile of 64 x 64 sums of products, made by a workgroup of 8 x 8 invocations, each 8 x 8 of it in registers. The shader fills
// `tile_x` and `tile_w` slice by slice; each sum runs over k in ascending order, so that a row gives the same bits whatever rows
// stand beside it.

const TILE: u32 = 64u;
const SLICE: u32 = 16u;
// One more than the tile, so that a column of stores falls into different banks.
const PITCH: u32 = 65u;

// [SLICE][PITCH]: number k of each row of x, and of each column of w.
var<workgroup> tile_x: array<f32, SLICE * PITCH>;
var<workgroup> tile_w: array<f32, SLICE * PITCH>;

// Row i of this invocation's part: columns 0 to 3, and 4 to 7.
var<private> s0a: vec4<f32>; var<private> s0b: vec4<f32>;
var<private> s1a: vec4<f32>; var<private> s1b: vec4<f32>;
var<private> s2a: vec4<f32>; var<private> s2b: vec4<f32>;
var<private> s3a: vec4<f32>; var<private> s3b: vec4<f32>;
var<private> s4a: vec4<f32>; var<private> s4b: vec4<f32>;
var<private> s5a: vec4<f32>; var<private> s5b: vec4<f32>;
var<private> s6a: vec4<f32>; var<private> s6b: vec4<f32>;
var<private> s7a: vec4<f32>; var<private> s7b: vec4<f32>;

fn clear_sums() {
    let zero = vec4<f32>();
    s0a = zero; s0b = zero; s1a = zero; s1b = zero; s2a = zero; s2b = zero; s3a = zero; s3b = zero;
    s4a = zero; s4b = zero; s5a = zero; s5b = zero; s6a = zero; s6b = zero; s7a = zero; s7b = zero;
}

// Adds the products of a slice. `down` and `across` are the first row and column of this invocation's part.
fn add_slice(down: u32, across: u32) {
    for (var k = 0u; k < SLICE; k++) {
        let at = k * PITCH + across;
        let wa = vec4<f32>(tile_w[at], tile_w[at + 1u], tile_w[at + 2u], tile_w[at + 3u]);
        let wb = vec4<f32>(tile_w[at + 4u], tile_w[at + 5u], tile_w[at + 6u], tile_w[at + 7u]);
        let from_row = k * PITCH + down;
        let x0 = tile_x[from_row]; s0a += x0 * wa; s0b += x0 * wb;
        let x1 = tile_x[from_row + 1u]; s1a += x1 * wa; s1b += x1 * wb;
        let x2 = tile_x[from_row + 2u]; s2a += x2 * wa; s2b += x2 * wb;
        let x3 = tile_x[from_row + 3u]; s3a += x3 * wa; s3b += x3 * wb;
        let x4 = tile_x[from_row + 4u]; s4a += x4 * wa; s4b += x4 * wb;
        let x5 = tile_x[from_row + 5u]; s5a += x5 * wa; s5b += x5 * wb;
        let x6 = tile_x[from_row + 6u]; s6a += x6 * wa; s6b += x6 * wb;
        let x7 = tile_x[from_row + 7u]; s7a += x7 * wa; s7b += x7 * wb;
    }
}
