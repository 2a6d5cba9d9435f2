// Twin: src/nn/attention.rs. Softmax attention over packed sequences, one pass over the keys (online softmax).
//
// A workgroup takes one tile (at most 64 queries of one sequence) and one head; an invocation takes one query. Keys are
// visited in ascending order from the sequence's own start, be that in a prefix that it shares with others, and in parts that are
// counted from there: so neither neighbours in the batch nor sharing change a bit.

// Width of a head; the host sets it.
const HEAD: u32 = 32u;
const HEAD_VECTORS: u32 = (HEAD + 3u) / 4u;
// Keys held in workgroup memory at a time.
const KEYS: u32 = min(32u, 256u / HEAD_VECTORS);

struct Params {
    tiles: u32,
    // Heads of queries.
    heads: u32,
    // Heads of keys and of values: each serves heads / shared_heads of queries.
    shared_heads: u32,
    // 1 if a token sees only itself and what stands before it.
    causal: u32,
    scale: f32,
}

// A tile of queries: tokens [start, start + length) are the sequence, its queries [first, first + 64) are meant. Before its tokens
// stand those of its prefix, [prefix_start, prefix_start + prefix_length).
struct Tile {
    start: u32,
    length: u32,
    first: u32,
    prefix_start: u32,
    prefix_length: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [tokens][query | key | value][their heads][HEAD]
@group(0) @binding(1) var<storage, read> projected: array<f32>;
@group(0) @binding(2) var<storage, read> tiles: array<Tile>;
@group(0) @binding(3) var<storage, read_write> mixed: array<f32>;

var<workgroup> keys: array<vec4<f32>, KEYS * HEAD_VECTORS>;
var<workgroup> values: array<vec4<f32>, KEYS * HEAD_VECTORS>;

// Four neighbours from `at` on, of which the first `count` exist.
fn load(at: u32, count: u32) -> vec4<f32> {
    if count >= 4u {
        return vec4<f32>(projected[at], projected[at + 1u], projected[at + 2u], projected[at + 3u]);
    }
    var loaded = vec4<f32>();
    for (var i = 0u; i < count; i++) {
        loaded[i] = projected[at + i];
    }
    return loaded;
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
    let width = params.heads * HEAD;
    let shared_width = params.shared_heads * HEAD;
    let pitch = width + 2u * shared_width;
    let key_at = width + head / (params.heads / params.shared_heads) * HEAD;
    let query = tile.first + lane;
    let present = query < tile.length;
    let query_at = (tile.start + min(query, tile.length - 1u)) * pitch + head * HEAD;
    // Keys that this query sees, and that any query of the tile sees.
    var seen = tile.prefix_length + tile.length;
    var all_seen = seen;
    if params.causal == 1u {
        seen = tile.prefix_length + min(query + 1u, tile.length);
        all_seen = tile.prefix_length + min(tile.first + 64u, tile.length);
    }

    var q: array<vec4<f32>, HEAD_VECTORS>;
    var sum: array<vec4<f32>, HEAD_VECTORS>;
    for (var d = 0u; d < HEAD_VECTORS; d++) {
        q[d] = load(query_at + d * 4u, HEAD - d * 4u) * params.scale;
        sum[d] = vec4<f32>();
    }
    var largest = -3.0e38;
    var total = 0.0;
    var scores: array<f32, KEYS>;

    for (var first = 0u; first < all_seen; first += KEYS) {
        let count = min(KEYS, all_seen - first);
        workgroupBarrier();
        for (var i = lane; i < count * HEAD_VECTORS; i += 64u) {
            let d = i % HEAD_VECTORS;
            let key = first + i / HEAD_VECTORS;
            var token = tile.prefix_start + key;
            if key >= tile.prefix_length {
                token = tile.start + key - tile.prefix_length;
            }
            let at = token * pitch + key_at + d * 4u;
            keys[i] = load(at, HEAD - d * 4u);
            values[i] = load(at + shared_width, HEAD - d * 4u);
        }
        workgroupBarrier();
        if first >= seen {
            continue;
        }
        let own = min(count, seen - first);

        var tile_largest = largest;
        for (var key = 0u; key < own; key++) {
            var products = vec4<f32>();
            for (var d = 0u; d < HEAD_VECTORS; d++) {
                products += q[d] * keys[key * HEAD_VECTORS + d];
            }
            let score = (products.x + products.y) + (products.z + products.w);
            scores[key] = score;
            tile_largest = max(tile_largest, score);
        }
        let shrink = exp(largest - tile_largest);
        largest = tile_largest;
        total *= shrink;
        for (var d = 0u; d < HEAD_VECTORS; d++) {
            sum[d] *= shrink;
        }
        for (var key = 0u; key < own; key++) {
            let weight = exp(scores[key] - largest);
            total += weight;
            for (var d = 0u; d < HEAD_VECTORS; d++) {
                sum[d] += weight * values[key * HEAD_VECTORS + d];
            }
        }
    }

    if present {
        let at = (tile.start + query) * width + head * HEAD;
        for (var d = 0u; d < HEAD_VECTORS; d++) {
            let mean = sum[d] / total;
            for (var i = 0u; i < min(4u, HEAD - d * 4u); i++) {
                mixed[at + d * 4u + i] = mean[i];
            }
        }
    }
}
