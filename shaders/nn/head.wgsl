// Twin: src/nn/head.rs. The head's logits, tile by tile and never kept: for each scored row and each split of the vocabulary their
// maximum, the sum of e^(logit - maximum), and the target's logit where the split holds it.
//
// A workgroup takes 64 rows and one split. Splits are counted from the vocabulary's start, so no bit depends on the rows beside
// a row nor on how the table is parted.

// Words of a split; the host has the same number.
const SPLIT: u32 = 2048u;

struct Params {
    // Scored rows.
    rows: u32,
    // The words [first, first + words) of the vocabulary are bound as `weights`; `first` is a multiple of SPLIT.
    first: u32,
    words: u32,
    depth: u32,
    format: u32,
    // Splits of the whole vocabulary.
    splits: u32,
}

struct Scored {
    // Row of `x`.
    row: u32,
    // Word whose logit is wanted.
    target_word: u32,
}

struct Partial {
    largest: f32,
    // Of e^(logit - largest).
    sum: f32,
    // The target's logit; 0 where it is in another split.
    wanted: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> scored: array<Scored>;
@group(0) @binding(3) var<storage, read> weights: array<u32>;
// [rows][splits]
@group(0) @binding(4) var<storage, read_write> partials: array<Partial>;

// Eight invocations share a row; each has seen its own columns.
var<workgroup> shared_partials: array<Partial, 512>;

// Takes eight neighbouring logits into `partial`; the first is of word `word` and `count` of them exist.
fn take(partial: Partial, a: vec4<f32>, b: vec4<f32>, word: u32, count: u32, wanted: u32) -> Partial {
    var logits = array<f32, 8>(a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w);
    var taken = partial;
    for (var i = 0u; i < count; i++) {
        taken.largest = max(taken.largest, logits[i]);
    }
    taken.sum *= exp(partial.largest - taken.largest);
    for (var i = 0u; i < count; i++) {
        taken.sum += exp(logits[i] - taken.largest);
        if word + i == wanted {
            taken.wanted = logits[i];
        }
    }
    return taken;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let splits_bound = (params.words + SPLIT - 1u) / SPLIT;
    let tiles_down = (params.rows + TILE - 1u) / TILE;
    let index = workgroup_index(group, groups);
    if index >= splits_bound * tiles_down {
        return;
    }
    let first_row = (index / splits_bound) * TILE;
    let split = index % splits_bound;
    let end = min((split + 1u) * SPLIT, params.words);
    let across = (lane % 8u) * 8u;
    let down = (lane / 8u) * 8u;

    var p: array<Partial, 8>;
    var wanted: array<u32, 8>;
    for (var i = 0u; i < 8u; i++) {
        p[i] = Partial(-3.0e38, 0.0, 0.0);
        wanted[i] = scored[min(first_row + down + i, params.rows - 1u)].target_word;
    }

    for (var first_word = split * SPLIT; first_word < end; first_word += TILE) {
        clear_sums();
        for (var first_k = 0u; first_k < params.depth; first_k += SLICE) {
            workgroupBarrier();
            let k = lane % SLICE;
            for (var i = 0u; i < TILE; i += 4u) {
                let row = i + lane / SLICE;
                var value = 0.0;
                if first_row + row < params.rows && first_k + k < params.depth {
                    value = x[scored[first_row + row].row * params.depth + first_k + k];
                }
                tile_x[k * PITCH + row] = value;
            }
            let word = first_word + lane;
            load_weights(params.format, word, first_k, params.depth, lane, word < params.words);
            workgroupBarrier();
            add_slice(down, across);
        }
        let word = first_word + across;
        if word < end {
            let count = min(8u, end - word);
            let at = params.first + word;
            p[0] = take(p[0], s0a, s0b, at, count, wanted[0]);
            p[1] = take(p[1], s1a, s1b, at, count, wanted[1]);
            p[2] = take(p[2], s2a, s2b, at, count, wanted[2]);
            p[3] = take(p[3], s3a, s3b, at, count, wanted[3]);
            p[4] = take(p[4], s4a, s4b, at, count, wanted[4]);
            p[5] = take(p[5], s5a, s5b, at, count, wanted[5]);
            p[6] = take(p[6], s6a, s6b, at, count, wanted[6]);
            p[7] = take(p[7], s7a, s7b, at, count, wanted[7]);
        }
    }

    for (var i = 0u; i < 8u; i++) {
        shared_partials[(down + i) * 8u + lane % 8u] = p[i];
    }
    workgroupBarrier();
    let row = first_row + lane;
    if row >= params.rows {
        return;
    }
    var whole = Partial(-3.0e38, 0.0, 0.0);
    for (var i = 0u; i < 8u; i++) {
        whole.largest = max(whole.largest, shared_partials[lane * 8u + i].largest);
    }
    for (var i = 0u; i < 8u; i++) {
        let part = shared_partials[lane * 8u + i];
        whole.sum += part.sum * exp(part.largest - whole.largest);
        // At most one of them is not 0.
        whole.wanted += part.wanted;
    }
    partials[row * params.splits + params.first / SPLIT + split] = whole;
}
