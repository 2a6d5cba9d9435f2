// Twin: src/stages/novelty/products.rs. products[query][candidate] = the sum of the products of two rows of signed numbers of 16
// bits, modulo 2^32.
//
// A workgroup of 8 x 8 invocations makes a tile of 64 x 64, each invocation 8 x 8 of it in registers. Numbers are unpacked once,
// on their way into workgroup memory.

struct Params {
    queries: u32,
    candidates: u32,
    // Words in a row, two numbers each.
    words: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [queries][words]
@group(0) @binding(1) var<storage, read> queries: array<u32>;
// [candidates][words]
@group(0) @binding(2) var<storage, read> candidates: array<u32>;
@group(0) @binding(3) var<storage, read_write> products: array<i32>;

const TILE: u32 = 64u;
// Words of a row that are taken at once.
const SLICE: u32 = 8u;
// One more than the tile, so that a column of stores falls into different banks.
const PITCH: u32 = 65u;

var<workgroup> tile_queries: array<i32, 2u * SLICE * PITCH>;
var<workgroup> tile_candidates: array<i32, 2u * SLICE * PITCH>;

fn store(query: u32, candidate: u32, sums: vec4<i32>) {
    if query >= params.queries {
        return;
    }
    for (var i = 0u; i < 4u; i++) {
        if candidate + i < params.candidates {
            products[query * params.candidates + candidate + i] = sums[i];
        }
    }
}

// The two signed numbers of a word, the lower one first.
fn halves(word: u32) -> vec2<i32> {
    return vec2<i32>(bitcast<i32>(word << 16u) >> 16u, bitcast<i32>(word) >> 16u);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tiles_across = (params.candidates + TILE - 1u) / TILE;
    let tiles_down = (params.queries + TILE - 1u) / TILE;
    let index = workgroup_index(group, groups);
    if index >= tiles_across * tiles_down {
        return;
    }
    let first_query = (index / tiles_across) * TILE;
    let first_candidate = (index % tiles_across) * TILE;
    let across = (lane % 8u) * 8u;
    let down = (lane / 8u) * 8u;

    var s0a = vec4<i32>(); var s0b = vec4<i32>();
    var s1a = vec4<i32>(); var s1b = vec4<i32>();
    var s2a = vec4<i32>(); var s2b = vec4<i32>();
    var s3a = vec4<i32>(); var s3b = vec4<i32>();
    var s4a = vec4<i32>(); var s4b = vec4<i32>();
    var s5a = vec4<i32>(); var s5b = vec4<i32>();
    var s6a = vec4<i32>(); var s6b = vec4<i32>();
    var s7a = vec4<i32>(); var s7b = vec4<i32>();

    for (var first = 0u; first < params.words; first += SLICE) {
        workgroupBarrier();
        // Rows lie along the words: 8 neighbours fetch 32 bytes of one row.
        let k = lane % SLICE;
        for (var i = lane / SLICE; i < TILE; i += 64u / SLICE) {
            var of_query = vec2<i32>();
            if first_query + i < params.queries && first + k < params.words {
                of_query = halves(queries[(first_query + i) * params.words + first + k]);
            }
            tile_queries[2u * k * PITCH + i] = of_query.x;
            tile_queries[(2u * k + 1u) * PITCH + i] = of_query.y;
            var of_candidate = vec2<i32>();
            if first_candidate + i < params.candidates && first + k < params.words {
                of_candidate = halves(candidates[(first_candidate + i) * params.words + first + k]);
            }
            tile_candidates[2u * k * PITCH + i] = of_candidate.x;
            tile_candidates[(2u * k + 1u) * PITCH + i] = of_candidate.y;
        }
        workgroupBarrier();

        for (var k = 0u; k < 2u * SLICE; k++) {
            let at = k * PITCH + across;
            let ca = vec4<i32>(tile_candidates[at], tile_candidates[at + 1u], tile_candidates[at + 2u], tile_candidates[at + 3u]);
            let cb = vec4<i32>(tile_candidates[at + 4u], tile_candidates[at + 5u], tile_candidates[at + 6u], tile_candidates[at + 7u]);
            let from_row = k * PITCH + down;
            let q0 = tile_queries[from_row]; s0a += q0 * ca; s0b += q0 * cb;
            let q1 = tile_queries[from_row + 1u]; s1a += q1 * ca; s1b += q1 * cb;
            let q2 = tile_queries[from_row + 2u]; s2a += q2 * ca; s2b += q2 * cb;
            let q3 = tile_queries[from_row + 3u]; s3a += q3 * ca; s3b += q3 * cb;
            let q4 = tile_queries[from_row + 4u]; s4a += q4 * ca; s4b += q4 * cb;
            let q5 = tile_queries[from_row + 5u]; s5a += q5 * ca; s5b += q5 * cb;
            let q6 = tile_queries[from_row + 6u]; s6a += q6 * ca; s6b += q6 * cb;
            let q7 = tile_queries[from_row + 7u]; s7a += q7 * ca; s7b += q7 * cb;
        }
    }

    let query = first_query + down;
    let candidate = first_candidate + across;
    store(query, candidate, s0a); store(query, candidate + 4u, s0b);
    store(query + 1u, candidate, s1a); store(query + 1u, candidate + 4u, s1b);
    store(query + 2u, candidate, s2a); store(query + 2u, candidate + 4u, s2b);
    store(query + 3u, candidate, s3a); store(query + 3u, candidate + 4u, s3b);
    store(query + 4u, candidate, s4a); store(query + 4u, candidate + 4u, s4b);
    store(query + 5u, candidate, s5a); store(query + 5u, candidate + 4u, s5b);
    store(query + 6u, candidate, s6a); store(query + 6u, candidate + 4u, s6b);
    store(query + 7u, candidate, s7a); store(query + 7u, candidate + 4u, s7b);
}
