// Twin: src/nn/matmul.rs. out[row][column] = activation(sum over k of x[row][k] * w[k][column] + bias[column]).

struct Params {
    rows: u32,
    columns: u32,
    depth: u32,
    // w[k][column] stands at k * depth_stride + column * column_stride; one of the two is 1.
    depth_stride: u32,
    column_stride: u32,
    // 1 if `bias` is added, 0 if it is only bound to fill its place.
    bias: u32,
    activation: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

fn store(row: u32, column: u32, sums: vec4<f32>) {
    if row >= params.rows {
        return;
    }
    var value = sums;
    if params.bias == 1u {
        for (var i = 0u; i < 4u; i++) {
            if column + i < params.columns {
                value[i] += bias[column + i];
            }
        }
    }
    value = activate(value, params.activation);
    let start = row * params.columns + column;
    for (var i = 0u; i < 4u; i++) {
        if column + i < params.columns {
            out[start + i] = value[i];
        }
    }
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tiles_across = (params.columns + TILE - 1u) / TILE;
    let tiles_down = (params.rows + TILE - 1u) / TILE;
    let index = workgroup_index(group, groups);
    if index >= tiles_across * tiles_down {
        return;
    }
    let first_row = (index / tiles_across) * TILE;
    let first_column = (index % tiles_across) * TILE;
    let across = (lane % 8u) * 8u;
    let down = (lane / 8u) * 8u;

    clear_sums();
    for (var first_k = 0u; first_k < params.depth; first_k += SLICE) {
        workgroupBarrier();
        // x lies along k: 16 neighbours fetch 64 bytes of one row.
        {
            let k = lane % SLICE;
            for (var i = 0u; i < TILE; i += 4u) {
                let row = i + lane / SLICE;
                var value = 0.0;
                if first_row + row < params.rows && first_k + k < params.depth {
                    value = x[(first_row + row) * params.depth + first_k + k];
                }
                tile_x[k * PITCH + row] = value;
            }
        }
        if params.column_stride == 1u {
            for (var k = 0u; k < SLICE; k++) {
                var value = 0.0;
                if first_column + lane < params.columns && first_k + k < params.depth {
                    value = w[(first_k + k) * params.depth_stride + first_column + lane];
                }
                tile_w[k * PITCH + lane] = value;
            }
        } else {
            let k = lane % SLICE;
            for (var i = 0u; i < TILE; i += 4u) {
                let column = i + lane / SLICE;
                var value = 0.0;
                if first_column + column < params.columns && first_k + k < params.depth {
                    value = w[(first_column + column) * params.column_stride + (first_k + k) * params.depth_stride];
                }
                tile_w[k * PITCH + column] = value;
            }
        }
        workgroupBarrier();

        add_slice(down, across);
    }

    let row = first_row + down;
    let column = first_column + across;
    store(row, column, s0a); store(row, column + 4u, s0b);
    store(row + 1u, column, s1a); store(row + 1u, column + 4u, s1b);
    store(row + 2u, column, s2a); store(row + 2u, column + 4u, s2b);
    store(row + 3u, column, s3a); store(row + 3u, column + 4u, s3b);
    store(row + 4u, column, s4a); store(row + 4u, column + 4u, s4b);
    store(row + 5u, column, s5a); store(row + 5u, column + 4u, s5b);
    store(row + 6u, column, s6a); store(row + 6u, column + 4u, s6b);
    store(row + 7u, column, s7a); store(row + 7u, column + 4u, s7b);
}
