// Lifts the integer contract (codes_at, scale_bits_at) to the float contract, once for all integer formats.
// SCALE_QUADS: so many quads of a chunk, from its beginning, surely share a scale; 0 where a quad does not.
fn quad_scales(row: u32, k: u32) -> vec4<f32> {
    let last = params.cols - 1u;
    if SCALE_QUADS > 0u { return vec4<f32>(scale_at(row, min(k, last))); }
    return vec4<f32>(scale_at(row, min(k, last)), scale_at(row, min(k + 1u, last)),
                     scale_at(row, min(k + 2u, last)), scale_at(row, min(k + 3u, last)));
}

fn weights_at(row: u32, chunk: u32) -> Weights {
    let c = float_codes_at(row, chunk);
    var w: Weights;
    if SCALE_QUADS < 8u {
        for (var i = 0u; i < 8u; i++) { w.v[i] = c.v[i] * quad_scales(row, chunk * CHUNK + 4u * i); }
    } else {
        let s = scale_at(row, chunk * CHUNK);
        w.v[0] = c.v[0] * s;
        w.v[1] = c.v[1] * s;
        w.v[2] = c.v[2] * s;
        w.v[3] = c.v[3] * s;
        w.v[4] = c.v[4] * s;
        w.v[5] = c.v[5] * s;
        w.v[6] = c.v[6] * s;
        w.v[7] = c.v[7] * s;
    }
    return w;
}

fn bits_at(row: u32, chunk: u32) -> Bits {
    let c = codes_at(row, chunk);
    var b: Bits;
    for (var i = 0u; i < 8u; i++) {
        for (var e = 0u; e < 4u; e++) {
            let k = min(chunk * CHUNK + select(0u, 4u * i + e, SCALE_QUADS < 8u), params.cols - 1u);
            b.b[i][e] = scaled_bits(c.q[i][e], scale_bits_at(row, k));
        }
    }
    return b;
}
