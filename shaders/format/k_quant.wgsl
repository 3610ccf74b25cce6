// ggml's k-quants: 256 weights share a record of factors. K_RECORD 4 (q4_k, q5_k): d and dmin in binary16, then twelve
// bytes with eight 6-bit factors and eight 6-bit minimums; K_RECORD 6 (q6_k): sixteen int8 factors, then d.
struct Record { w: vec4<u32>, d: vec2<f32> }  // the bytes of all factors in order, d and dmin

fn half_at(word: u32) -> f32 { return bitcast<f32>(half_bits(word & 0xffffu)); }

fn record_of(index: u32) -> Record {
    if K_RECORD == 4u {
        let head = scale_word(4u * index);
        let factors = vec4<u32>(scale_word(4u * index + 1u), scale_word(4u * index + 2u), scale_word(4u * index + 3u), 0u);
        return Record(factors, vec2<f32>(half_at(head), half_at(head >> 16u)));
    }
    // 18 bytes begin at a whole or a half word. A shift by 32 is undefined: the second part is shifted in two steps.
    let first = (18u * index) / 4u;
    let shift = 16u * (index % 2u);
    let a = vec4<u32>(scale_word(first), scale_word(first + 1u), scale_word(first + 2u), scale_word(first + 3u));
    let last = scale_word(first + 4u);
    let b = vec4<u32>(a.yzw, last);
    return Record((a >> vec4<u32>(shift)) | ((b << vec4<u32>(31u - shift)) << vec4<u32>(1u)), vec2<f32>(half_at(last >> shift), 0.0));
}

// Factor and minimum of number j of the eights of a record (K_RECORD 4) or of its sixteenths.
fn factor_of(r: Record, j: u32) -> vec2<f32> {
    let shift = 8u * (j % 4u);
    if K_RECORD == 6u {
        let word = select(select(r.w.x, r.w.y, j >= 4u), select(r.w.z, r.w.w, j >= 12u), j >= 8u);
        return vec2<f32>(r.d.x * f32(bitcast<i32>(word << (24u - shift)) >> 24u), 0.0);
    }
    let factor = r.w.x >> shift;
    let minimum = r.w.y >> shift;
    let low = r.w.z >> shift;
    let upper = j >= 4u;
    let f = select(factor & 63u, (low & 15u) | ((factor >> 2u) & 48u), upper);
    let m = select(minimum & 63u, ((low >> 4u) & 15u) | ((minimum >> 2u) & 48u), upper);
    return r.d * vec2<f32>(f32(f), f32(m));
}

fn weights_at(row: u32, chunk: u32) -> Weights {
    let r = record_of(row * params.groups_per_row + chunk / 8u);
    let j = (chunk % 8u) * (CHUNK / K_GROUP);
    let first = factor_of(r, j);
    var last = first;
    if K_GROUP < CHUNK { last = factor_of(r, j + 1u); }
    let c = float_codes_at(row, chunk);
    return Weights(array<vec4<f32>, 8>(
        c.v[0] * first.x - first.y, c.v[1] * first.x - first.y, c.v[2] * first.x - first.y, c.v[3] * first.x - first.y,
        c.v[4] * last.x - last.y, c.v[5] * last.x - last.y, c.v[6] * last.x - last.y, c.v[7] * last.x - last.y));
}

// Products are exact in f32, so only the difference rounds.
fn bits_at(row: u32, chunk: u32) -> Bits {
    let w = weights_at(row, chunk);
    var b: Bits;
    for (var i = 0u; i < 8u; i++) { b.b[i] = bitcast<vec4<u32>>(w.v[i]); }
    return b;
}
