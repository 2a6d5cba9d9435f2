// Twin: src/nn/exact/attention.rs. Softmax attention in integers over packed sequences.
//
// A workgroup takes one tile (at most 64 queries of one sequence) and one head; an invocation takes one query. The keys are swept three
// times: for the largest score, for the sum, for the weighted values. What a sweep computes is kept where all keys fit at once.

// Width of a head, a multiple of four; the host sets it.
const HEAD: u32 = 32u;
const QUADS: u32 = HEAD / 4u;
// Keys held in workgroup memory at a time.
const KEYS: u32 = min(64u, 512u / QUADS);

struct Params {
    tiles: u32,
    heads: u32,
}

// A tile of queries: tokens [start, start + length) are the sequence, its queries [first, first + 64) are meant.
struct Tile {
    start: u32,
    length: u32,
    first: u32,
    // Nothing is shared here.
    prefix_start: u32,
    prefix_length: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [tokens][query | key | value][heads][QUADS]
@group(0) @binding(1) var<storage, read> projected: array<vec4<i32>>;
@group(0) @binding(2) var<storage, read> tiles: array<Tile>;
@group(0) @binding(3) var<storage, read_write> mixed: array<vec4<i32>>;

var<workgroup> keys: array<u32, KEYS * QUADS>;
var<workgroup> key_steps: array<u32, KEYS>;
var<workgroup> values: array<vec4<i32>, KEYS * QUADS>;

// The step of the HEAD numbers from `at` on.
fn step_at(at: u32) -> Step {
    var largest = 0u;
    for (var d = 0u; d < QUADS; d++) {
        largest = max(largest, largest_of(projected[at + d]));
    }
    return step_8(largest);
}

// product steps / 2^14, halves rounded up, from parts of 7 bits: |product| <= 128 * 127^2 < 2^21.
fn score(product: i32, steps: u32) -> i32 {
    let upper = i32((steps >> 7u) & 127u);
    let lower = i32(steps & 127u);
    return product * i32(steps >> 14u) + ((product * upper + ((product * lower + 8192) >> 7u)) >> 7u);
}

fn exp2_of(distance: u32) -> u32 {
    let x = distance & 0xffffu;
    var t = 3491u - ((x * 452u) >> 16u);
    t = 15687u - ((x * t) >> 16u);
    t = 45415u - ((x * t) >> 16u);
    t = 65535u - ((x * t) >> 16u);
    return select(0u, t >> ((distance >> 16u) & 31u), distance < 0x110000u);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = workgroup_index(group, groups);
    if index >= params.tiles * params.heads {
        return;
    }
    let tile = tiles[index / params.heads];
    let head = index % params.heads;
    let across = params.heads * QUADS;
    let query = tile.first + lane;
    let query_at = (tile.start + min(query, tile.length - 1u)) * 3u * across + head * QUADS;

    let query_step = step_at(query_at);
    var q: array<u32, QUADS>;
    var sum: array<vec4<i32>, QUADS>;
    for (var d = 0u; d < QUADS; d++) {
        q[d] = pack_bytes(count_8(projected[query_at + d], query_step));
        sum[d] = vec4<i32>();
    }
    var largest = -0x7fffffff;
    var total = 0u;
    var inverse = 0u;
    var shift = 0u;
    // Scores; in the last sweep, where all keys fit, their powers of two.
    var scores: array<i32, KEYS>;
    let fits = tile.length <= KEYS;

    for (var sweep = 0u; sweep < 3u; sweep++) {
        for (var first = 0u; first < tile.length; first += KEYS) {
            let count = min(KEYS, tile.length - first);
            if sweep == 0u || !fits {
                workgroupBarrier();
                if lane < count {
                    let at = ((tile.start + first + lane) * 3u + 1u) * across + head * QUADS;
                    let by = step_at(at);
                    key_steps[lane] = by.size;
                    for (var d = 0u; d < QUADS; d++) {
                        keys[lane * QUADS + d] = pack_bytes(count_8(projected[at + d], by));
                    }
                }
                if sweep == 2u || fits {
                    for (var i = lane; i < count * QUADS; i += 64u) {
                        let at = ((tile.start + first + i / QUADS) * 3u + 2u) * across + head * QUADS + i % QUADS;
                        // Of 16 bits, as every checked model's are.
                        values[i] = (round_shift4(projected[at], 6u) << vec4<u32>(16u)) >> vec4<u32>(16u);
                    }
                }
                workgroupBarrier();
                for (var key = 0u; key < count; key++) {
                    var product = 0;
                    for (var d = 0u; d < QUADS; d++) {
                        product += dot4I8Packed(q[d], keys[key * QUADS + d]);
                    }
                    scores[key] = score(product, query_step.size * key_steps[key]);
                }
            }
            if sweep == 0u {
                for (var key = 0u; key < count; key++) {
                    largest = max(largest, scores[key]);
                }
            } else if sweep == 1u {
                for (var key = 0u; key < count; key++) {
                    let power = exp2_of(u32(largest - scores[key]));
                    total += power;
                    scores[key] = i32(power);
                }
            } else {
                for (var key = 0u; key < count; key++) {
                    var power = u32(scores[key]);
                    if !fits {
                        power = exp2_of(u32(largest - scores[key]));
                    }
                    let weight = i32(min((((power * inverse) >> shift) + 1u) >> 1u, 32767u));
                    for (var d = 0u; d < QUADS; d++) {
                        sum[d] += weight * values[key * QUADS + d];
                    }
                }
            }
        }
        if sweep == 1u {
            let bits = max(bit_length(total), 16u);
            inverse = 0x80000000u / max(total >> (bits - 16u), 0x8000u);
            shift = bits - 1u;
        }
    }

    if query < tile.length {
        let at = (tile.start + query) * across + head * QUADS;
        for (var d = 0u; d < QUADS; d++) {
            mixed[at + d] = round_shift4(sum[d], 9u);
        }
    }
}
