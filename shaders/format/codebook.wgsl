// Codes that index a table of 2^BITS values: the first words of `scales`. A value counts as it is (SCALE_FIXED), times a
// power of two (SCALE_EXPONENT) or times a real scale.

// value * 2^exponent, rounded to nearest even once, by integer arithmetic.
fn shifted_bits(value: u32, exponent: i32) -> u32 {
    let sign = value & 0x80000000u;
    var mantissa = value & 0x7fffffu;
    var biased = i32((value >> 23u) & 0xffu);
    if biased == 0 {
        if mantissa == 0u { return sign; }
        let up = 23u - firstLeadingBit(mantissa);
        mantissa = (mantissa << up) & 0x7fffffu;
        biased = 1 - i32(up);
    }
    if biased == 255 { return value; }  // OCP codes may be infinite or NaN
    biased += exponent;
    if biased >= 255 { return sign | 0x7f800000u; }
    if biased >= 1 { return sign | (u32(biased) << 23u) | mantissa; }
    let down = u32(1 - biased);
    if down > 24u { return sign; }
    let full = mantissa | 0x800000u;
    let kept = full >> down;
    let rest = full & ((1u << down) - 1u);
    let half_way = 1u << (down - 1u);
    return sign | (kept + select(0u, 1u, rest > half_way || (rest == half_way && (kept & 1u) == 1u)));
}

fn power(exponent: i32) -> f32 { return bitcast<f32>(u32(exponent + 127) << 23u); }

// Factor of the group of record `index`, which `word` holds, in f32; in two steps because exponents reach beyond f32's.
fn factors_of(word: u32, index: u32, b: Biases) -> vec2<f32> {
    if SCALE == SCALE_FIXED { return vec2<f32>(1.0); }
    if SCALE != SCALE_EXPONENT { return vec2<f32>(bitcast<f32>(scale_bits_of(word, index, b)), 1.0); }
    let exponent = exponent_of(word, index, b.offset);
    if exponent >= 128 { return vec2<f32>(bitcast<f32>(0x7fc00000u | params.zero)); }
    let first = clamp(exponent, -126, 127);
    return vec2<f32>(power(first), power(clamp(exponent - first, -126, 127)));
}

fn factors_at(row: u32, k: u32) -> vec2<f32> {
    if SCALE == SCALE_FIXED { return vec2<f32>(1.0); }
    let index = scale_index(row, k);
    return factors_of(record_word(index), index, biases());
}

fn weights_at(row: u32, chunk: u32) -> Weights {
    let c = chunk_codes(row * params.row_words + chunk * BITS);
    var w: Weights;
    var f = factors_at(row, chunk * CHUNK);
    for (var i = 0u; i < 8u; i++) {
        let k = min(chunk * CHUNK + 4u * i, params.cols - 1u);
        if SCALE_QUADS > 0u {
            if i > 0u && SCALE_QUADS < 8u { f = factors_at(row, k); }
            w.v[i] = quad_values(c.q[i]) * f.x * f.y;
        } else {
            for (var e = 0u; e < 4u; e++) {
                f = factors_at(row, min(chunk * CHUNK + 4u * i + e, params.cols - 1u));
                w.v[i][e] = bitcast<f32>(scale_word(u32(c.q[i][e]))) * f.x * f.y;
            }
        }
    }
    return w;
}

fn bits_at(row: u32, chunk: u32) -> Bits {
    let c = chunk_codes(row * params.row_words + chunk * BITS);
    var b: Bits;
    for (var i = 0u; i < 8u; i++) {
        for (var e = 0u; e < 4u; e++) {
            let k = min(chunk * CHUNK + select(0u, 4u * i + e, SCALE_QUADS < 8u), params.cols - 1u);
            let value = scale_word(u32(c.q[i][e]));
            if SCALE == SCALE_FIXED {
                b.b[i][e] = value;
            } else if SCALE == SCALE_EXPONENT {
                let exponent = exponent_at(row, k);
                b.b[i][e] = select(shifted_bits(value, exponent), 0x7fc00000u, exponent >= 128);
            } else {
                b.b[i][e] = bitcast<u32>(bitcast<f32>(value) * scale_at(row, k));
            }
        }
    }
    return b;
}
