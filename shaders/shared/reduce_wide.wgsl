// Sums of two words over a workgroup of 64. They are modulo 2^64, so their order does not matter.

var<workgroup> wide_reduction: array<vec2<u32>, 64>;

fn wide_sum_over_workgroup(value: vec2<u32>, lane: u32) -> vec2<u32> {
    // The previous sum may still be read by others.
    workgroupBarrier();
    wide_reduction[lane] = value;
    for (var stride = 32u; stride > 0u; stride >>= 1u) {
        workgroupBarrier();
        if lane < stride {
            wide_reduction[lane] = add(wide_reduction[lane], wide_reduction[lane + stride]);
        }
    }
    workgroupBarrier();
    return wide_reduction[0];
}
