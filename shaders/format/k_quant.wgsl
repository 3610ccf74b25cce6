// ggml's k-quants: 256 weights share a record of factors. K_RECORD 4 (q4_k, q5_k): d and dmin in binary16, then twelve
// bytes with eight 6-bit factors and eight 6-bit minimums; K_RECORD 6 (q6_k): sixteen int8 factors, then d.
// Products are exact in f32, so only the difference rounds.
fn record_byte(at: u32) -> u32 { return (scale_word(at / 4u) >> (8u * (at % 4u))) & 0xffu; }

fn half_at(at: u32) -> f32 { return bitcast<f32>(half_bits(record_byte(at) | (record_byte(at + 1u) << 8u))); }

// Factor and minimum of the 32 or 16 weights around column k.
fn factor_at(row: u32, k: u32) -> vec2<f32> {
    let record = row * params.groups_per_row + k / 256u;
    if K_RECORD == 6u {
        let byte = record * 18u;
        let factor = bitcast<i32>(record_byte(byte + (k % 256u) / 16u) << 24u) >> 24u;
        return vec2<f32>(half_at(byte + 16u) * f32(factor), 0.0);
    }
    let byte = record * 16u;
    let j = (k % 256u) / 32u;
    let table = byte + 4u;
    var factor = record_byte(table + j) & 63u;
    var minimum = record_byte(table + j + 4u) & 63u;
    if j >= 4u {
        let low = record_byte(table + j + 4u);
        factor = (low & 15u) | ((record_byte(table + j - 4u) >> 6u) << 4u);
        minimum = (low >> 4u) | ((record_byte(table + j) >> 6u) << 4u);
    }
    return vec2<f32>(half_at(byte) * f32(factor), half_at(byte + 2u) * f32(minimum));
}

fn weights_at(row: u32, chunk: u32) -> Weights {
    let c = chunk_codes(row * params.row_words + chunk * BITS);
    var w: Weights;
    var f = factor_at(row, chunk * CHUNK);
    for (var i = 0u; i < 8u; i++) {
        if i == 4u && K_RECORD == 6u { f = factor_at(row, chunk * CHUNK + 16u); }
        w.v[i] = vec4<f32>(c.q[i]) * f.x - f.y;
    }
    return w;
}

fn bits_at(row: u32, chunk: u32) -> Bits {
    let w = weights_at(row, chunk);
    var b: Bits;
    for (var i = 0u; i < 8u; i++) { b.b[i] = bitcast<vec4<u32>>(w.v[i]); }
    return b;
}
