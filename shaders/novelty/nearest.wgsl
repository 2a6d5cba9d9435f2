// Twin: src/stages/novelty/nearest.rs. One workgroup a query: folds a block of similarities into its running list of the
// NEAREST most similar candidates. Order is total: higher key first, then the lower candidate index, so the list does not
// depend on how candidates are cut into blocks or visited. Keys are integers, whatever the similarities are.

// Length of the running list; the host sets it.
const NEAREST: u32 = 1u;
const LANES: u32 = 64u;
const NOBODY: u32 = 0xffffffffu;

struct Params {
    queries: u32,
    // Candidates in this block, and the index of the first of them.
    candidates: u32,
    first: u32,
    // 1 if the similarities are floats.
    floats: u32,
}

struct Query {
    // Candidates [start, end) may be compared with, save those of the same owner.
    start: u32,
    end: u32,
    owner: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [queries][candidates]: integers, or the bits of floats.
@group(0) @binding(1) var<storage, read> similarities: array<i32>;
@group(0) @binding(2) var<storage, read> queries: array<Query>;
@group(0) @binding(3) var<storage, read> owners: array<u32>;
// [queries][NEAREST], NOBODY where the list is shorter.
@group(0) @binding(4) var<storage, read_write> best_key: array<i32>;
@group(0) @binding(5) var<storage, read_write> best_candidate: array<u32>;

var<workgroup> list_key: array<i32, LANES * NEAREST>;
var<workgroup> list_candidate: array<u32, LANES * NEAREST>;

// The bits of floats as integers of the same order: negative floats, which grow downwards, are turned round.
fn key_of(bits: i32) -> i32 {
    return select(bits, bits ^ 0x7fffffff, params.floats == 1u && bits < 0);
}

fn comes_first(key: i32, candidate: u32, other_key: i32, other_candidate: u32) -> bool {
    if candidate == NOBODY || other_candidate == NOBODY {
        return candidate < other_candidate;
    }
    return key > other_key || (key == other_key && candidate < other_candidate);
}

// Puts a candidate into the list of `lane`, which stays in order.
fn insert(lane: u32, key: i32, candidate: u32) {
    var moving_key = key;
    var moving_candidate = candidate;
    for (var i = lane * NEAREST; i < lane * NEAREST + NEAREST; i++) {
        if comes_first(moving_key, moving_candidate, list_key[i], list_candidate[i]) {
            let displaced_key = list_key[i];
            let displaced_candidate = list_candidate[i];
            list_key[i] = moving_key;
            list_candidate[i] = moving_candidate;
            moving_key = displaced_key;
            moving_candidate = displaced_candidate;
        }
    }
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = workgroup_index(group, groups);
    if row >= params.queries {
        return;
    }
    for (var i = 0u; i < NEAREST; i++) {
        list_key[lane * NEAREST + i] = 0;
        list_candidate[lane * NEAREST + i] = NOBODY;
        if lane == 0u {
            list_key[i] = best_key[row * NEAREST + i];
            list_candidate[i] = best_candidate[row * NEAREST + i];
        }
    }
    let query = queries[row];
    let start = max(query.start, params.first);
    let end = min(query.end, params.first + params.candidates);
    for (var candidate = start + lane; candidate < end; candidate += LANES) {
        let column = candidate - params.first;
        if owners[column] != query.owner {
            insert(lane, key_of(similarities[row * params.candidates + column]), candidate);
        }
    }
    for (var stride = LANES / 2u; stride > 0u; stride >>= 1u) {
        workgroupBarrier();
        if lane < stride {
            for (var i = (lane + stride) * NEAREST; i < (lane + stride + 1u) * NEAREST; i++) {
                insert(lane, list_key[i], list_candidate[i]);
            }
        }
    }
    workgroupBarrier();
    if lane < NEAREST {
        best_key[row * NEAREST + lane] = list_key[lane];
        best_candidate[row * NEAREST + lane] = list_candidate[lane];
    }
}
