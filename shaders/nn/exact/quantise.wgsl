// Twin: src/nn/exact/quantise.rs. One workgroup a row: inputs of a matrix product, and the row's step.

struct Params {
    rows: u32,
    // Numbers in a row, divided by four.
    quads: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<i32>>;
@group(0) @binding(2) var<storage, read_write> quantised: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> steps: array<u32>;

var<workgroup> row_largest: atomic<u32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = workgroup_index(group, groups);
    if row >= params.rows {
        return;
    }
    if lane == 0u {
        atomicStore(&row_largest, 0u);
    }
    workgroupBarrier();
    var largest = 0u;
    for (var quad = lane; quad < params.quads; quad += 64u) {
        largest = max(largest, largest_of(x[row * params.quads + quad]));
    }
    atomicMax(&row_largest, largest);
    workgroupBarrier();
    let by = step_14(atomicLoad(&row_largest));
    for (var quad = lane; quad < params.quads; quad += 64u) {
        quantised[row * params.quads + quad] = split(count_14(x[row * params.quads + quad], by));
    }
    if lane == 0u {
        steps[row] = by.size;
    }
}
