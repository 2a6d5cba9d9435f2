// A row of at most 1,024 numbers in the hands of a workgroup of 64: each invocation holds every 64th group of four. Sums and maxima are of
// integers, so that their order is free and atomics may make them.

const HELD: u32 = 4u;

var<private> held: array<vec4<i32>, HELD>;

var<workgroup> row_sum: atomic<i32>;
var<workgroup> row_largest: atomic<u32>;
var<workgroup> row_squares_high: atomic<u32>;
var<workgroup> row_squares_low: atomic<u32>;
var<workgroup> row_largest_normed: atomic<u32>;

// To be called once, before anything else here.
fn begin_row(lane: u32) {
    if lane == 0u {
        atomicStore(&row_sum, 0);
        atomicStore(&row_largest, 0u);
        atomicStore(&row_squares_high, 0u);
        atomicStore(&row_squares_low, 0u);
        atomicStore(&row_largest_normed, 0u);
    }
    workgroupBarrier();
}

// Replaces the row that is held, of 4 `quads` numbers, by its scaled numbers; returns the reciprocal length.
fn scale_row(quads: u32, lane: u32) -> Reciprocal {
    var largest = 0u;
    for (var i = 0u; i < HELD; i++) {
        if lane + 64u * i < quads {
            largest = max(largest, largest_of(held[i]));
        }
    }
    atomicMax(&row_largest, largest);
    workgroupBarrier();
    let scaling = scaling_of(atomicLoad(&row_largest));

    var high = 0u;
    var low = 0u;
    for (var i = 0u; i < HELD; i++) {
        if lane + 64u * i < quads {
            let numbers = scaled(held[i], scaling);
            held[i] = numbers;
            let squares = vec4<u32>(numbers * numbers);
            let uppers = squares >> vec4<u32>(16u);
            let lowers = squares & vec4<u32>(0xffffu);
            high += uppers.x + uppers.y + uppers.z + uppers.w;
            low += lowers.x + lowers.y + lowers.z + lowers.w;
        }
    }
    atomicAdd(&row_squares_high, high);
    atomicAdd(&row_squares_low, low);
    workgroupBarrier();
    return reciprocal_of(atomicLoad(&row_squares_high), atomicLoad(&row_squares_low));
}
