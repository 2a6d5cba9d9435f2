// Sums over a workgroup of 64 in a fixed order, so that the same row gives the same bits in every batch.

var<workgroup> reduction: array<f32, 64>;

fn sum_over_workgroup(value: f32, lane: u32) -> f32 {
    // The previous sum may still be read by others.
    workgroupBarrier();
    reduction[lane] = value;
    for (var stride = 32u; stride > 0u; stride >>= 1u) {
        workgroupBarrier();
        if lane < stride {
            reduction[lane] += reduction[lane + stride];
        }
    }
    workgroupBarrier();
    return reduction[0];
}
