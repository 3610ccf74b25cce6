// 11 symmetric levels: two digits d0 + 11 d1 in 7 bits, digit = code + 5.
// A chunk is 16 pairs = 112 bits and begins at a whole or a half word.
fn codes_at(row: u32, chunk: u32) -> Codes {
    let half_words = chunk * 7u;
    let first = row * params.row_words + half_words / 2u;
    let shift = 16u * (half_words % 2u);
    var w: array<u32, 4>;
    let a = word(first);
    let b = word(first + 1u);
    let c = word(first + 2u);
    let d = word(first + 3u);
    // A shift by 32 is undefined: the second part is shifted in two steps.
    w[0] = (a >> shift) | ((b << (31u - shift)) << 1u);
    w[1] = (b >> shift) | ((c << (31u - shift)) << 1u);
    w[2] = (c >> shift) | ((d << (31u - shift)) << 1u);
    w[3] = d >> shift;
    var q: Codes;
    for (var i = 0u; i < 8u; i++) {
        let bit = 14u * i;
        let index = bit / 32u;
        let at = bit % 32u;
        var v = w[index] >> at;
        if at > 18u { v |= w[min(index + 1u, 3u)] << (32u - at); }
        let low = v & 127u;
        let high = (v >> 7u) & 127u;
        // floor(v / 11) = v * 187 >> 11 for v < 128
        let low_one = (low * 187u) >> 11u;
        let high_one = (high * 187u) >> 11u;
        q.q[i] = vec4<i32>(vec4<u32>(low - 11u * low_one, low_one, high - 11u * high_one, high_one)) - 5;
    }
    return q;
}
