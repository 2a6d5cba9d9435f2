// Fills `tile_w` from a packed matrix, which the shader binds as `weights`: expanded here, so that memory sees it quantised.

// Numbers [first_k, first_k + 16) of row `row`, put into column `lane` of the tile. What lies beyond `depth` is 0; `present` says
// whether the row exists. `first_k` is a multiple of 16.
fn load_weights(format: u32, row: u32, first_k: u32, depth: u32, lane: u32, present: bool) {
    let start = row * row_words(format, depth);
    if !present {
        for (var k = 0u; k < SLICE; k++) {
            tile_w[k * PITCH + lane] = 0.0;
        }
        return;
    }
    switch format {
        case FORMAT_F16, FORMAT_BF16: {
            for (var k = 0u; k < SLICE; k += 2u) {
                var two = vec2<f32>();
                if first_k + k < depth {
                    let word = weights[start + (first_k + k) / 2u];
                    if format == FORMAT_F16 {
                        two = half_floats(word);
                    } else {
                        two = vec2<f32>(bitcast<f32>(word << 16u), bitcast<f32>(word & 0xffff0000u));
                    }
                }
                tile_w[k * PITCH + lane] = two.x;
                tile_w[(k + 1u) * PITCH + lane] = two.y;
            }
        }
        case FORMAT_Q8: {
            let block = start + first_k / 32u * 9u;
            let scale = bitcast<f32>(weights[block]);
            let half = first_k % 32u / 4u;
            for (var i = 0u; i < 4u; i++) {
                let word = bitcast<i32>(weights[block + 1u + half + i]);
                for (var byte = 0u; byte < 4u; byte++) {
                    let count = f32((word << (24u - byte * 8u)) >> 24u);
                    tile_w[(i * 4u + byte) * PITCH + lane] = scale * count;
                }
            }
        }
        case FORMAT_Q4: {
            let block = start + first_k / 32u * 5u;
            let scale_and_least = half_floats(weights[block]);
            // The lower four bits of the bytes are the first half of the block.
            let nibble = first_k % 32u / 16u * 4u;
            for (var i = 0u; i < 4u; i++) {
                let word = weights[block + 1u + i];
                for (var byte = 0u; byte < 4u; byte++) {
                    let count = f32((word >> (byte * 8u + nibble)) & 15u);
                    tile_w[(i * 4u + byte) * PITCH + lane] = scale_and_least.x * count + scale_and_least.y;
                }
            }
        }
        default: {
            for (var k = 0u; k < SLICE; k++) {
                var value = 0.0;
                if first_k + k < depth {
                    value = bitcast<f32>(weights[start + first_k + k]);
                }
                tile_w[k * PITCH + lane] = value;
            }
        }
    }
}
