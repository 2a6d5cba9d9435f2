// LayerNorm of the row that is held, written as it is and as inputs of the next matrix product. The bindings are the kernel's:
// `norm [width / 4][gain | bias]`, `hidden`, `quantised [rows][width / 4]` (split) and `steps [rows]`.

fn norm_row(row: u32, quads: u32, lane: u32) {
    var sum = 0;
    for (var i = 0u; i < HELD; i++) {
        if lane + 64u * i < quads {
            sum += held[i].x + held[i].y + held[i].z + held[i].w;
        }
    }
    atomicAdd(&row_sum, sum);
    workgroupBarrier();
    let mean = mean_of(atomicLoad(&row_sum), 4u * quads);
    for (var i = 0u; i < HELD; i++) {
        held[i] -= vec4<i32>(mean);
    }
    let reciprocal = scale_row(quads, lane);

    var largest = 0u;
    for (var i = 0u; i < HELD; i++) {
        let quad = lane + 64u * i;
        if quad < quads {
            let normed = gained4(held[i], reciprocal, norm[2u * quad], norm[2u * quad + 1u]);
            held[i] = normed;
            hidden[row * quads + quad] = normed;
            largest = max(largest, largest_of(normed));
        }
    }
    atomicMax(&row_largest_normed, largest);
    workgroupBarrier();
    let by = step_14(atomicLoad(&row_largest_normed));
    for (var i = 0u; i < HELD; i++) {
        let quad = lane + 64u * i;
        if quad < quads {
            quantised[row * quads + quad] = split(count_14(held[i], by));
        }
    }
    if lane == 0u {
        steps[row] = by.size;
    }
}
