// 11 symmetric levels: two digits d0 + 11 d1 in 7 bits, digit = code + 5.
// A chunk is 16 pairs = 112 bits and begins at a whole or a half word.
struct Chunk { w: vec4<u32> }  // from its first bit on

fn chunk_at(row: u32, chunk: u32, zero: f32) -> Chunk {
    let half_words = chunk * 7u;
    let first = row * params.row_words + half_words / 2u;
    let shift = 16u * (half_words % 2u);
    let a = word(first);
    let b = word(first + 1u);
    let c = word(first + 2u);
    let d = word(first + 3u);
    // A shift by 32 is undefined: the second part is shifted in two steps.
    return Chunk(vec4<u32>((a >> shift) | ((b << (31u - shift)) << 1u), (b >> shift) | ((c << (31u - shift)) << 1u),
                           (c >> shift) | ((d << (31u - shift)) << 1u), d >> shift));
}

fn codes_at(row: u32, chunk: u32) -> Codes {
    let c = chunk_at(row, chunk, 0.0);
    var q: Codes;
    for (var i = 0u; i < 8u; i++) {
        let bit = 14u * i;
        let index = bit / 32u;
        let at = bit % 32u;
        var v = c.w[index] >> at;
        if at > 18u { v |= c.w[min(index + 1u, 3u)] << (32u - at); }
        let low = v & 127u;
        let high = (v >> 7u) & 127u;
        // floor(v / 11) = v * 187 >> 11 for v < 128
        let low_one = (low * 187u) >> 11u;
        let high_one = (high * 187u) >> 11u;
        q.q[i] = vec4<i32>(vec4<u32>(low - 11u * low_one, low_one, high - 11u * high_one, high_one)) - 5;
    }
    return q;
}

// Pair `index` of a chunk less 5, which is c0 + 11 d1 with a code from -5 to 5.
fn pair_at(c: Chunk, index: u32) -> f32 {
    let bit = 7u * index;
    let word = c.w[bit / 32u];
    let shift = bit % 32u;
    if shift > 25u { return in_place((word >> shift) | (c.w[min(bit / 32u + 1u, 3u)] << (32u - shift)), 0u, 7u, 0u, 5.0); }
    if shift > 16u { return in_place(word >> 9u, shift - 9u, 7u, 0u, 5.0); }
    return in_place(word, shift, 7u, 0u, 5.0);
}

fn float_quad(c: Chunk, i: u32) -> vec4<f32> {
    let pairs = vec2<f32>(pair_at(c, 2u * i), pair_at(c, 2u * i + 1u));
    let ones = round(pairs * (1.0 / 11.0));  // the nearest multiple of 11 is at most 5 away
    let zeros = pairs - 11.0 * ones;         // never -0, which an integer code is not
    let codes = ones - 5.0;
    return vec4<f32>(zeros.x, codes.x, zeros.y, codes.y);
}
