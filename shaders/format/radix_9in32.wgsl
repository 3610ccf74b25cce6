// Nine base-11 digits in a word, least significant first; every group has ceil(len / 9) words of its
// own and one word of metadata: f16 minimum (low half), f16 scale (high half).
// value = round(round(LEVEL[digit] * scale) + minimum)
const POWER: array<u32, 9> = array<u32, 9>(1u, 11u, 121u, 1331u, 14641u, 161051u, 1771561u, 19487171u, 214358881u);

// The product's bits pass through an `or` with a run-time zero, so that no compiler fuses the following
// add into one rounding.
fn rounded(product: f32) -> f32 { return bitcast<f32>(bitcast<u32>(product) | params.zero); }

fn bits_at(row: u32, chunk: u32) -> Bits {
    let words_per_group = (params.group + 8u) / 9u;
    var b: Bits;
    var loaded = 0xffffffffu;
    var word = 0u;
    var scale = 0.0;
    var minimum = 0.0;
    var group = 0xffffffffu;
    for (var i = 0u; i < 8u; i++) {
        for (var e = 0u; e < 4u; e++) {
            let k = chunk * CHUNK + 4u * i + e;
            let g = k / params.group;
            let position = k - g * params.group;
            if g != group {
                group = g;
                let meta_word = scales[row * params.groups_per_row + g];
                minimum = bitcast<f32>(half_bits(meta_word & 0xffffu));
                scale = bitcast<f32>(half_bits(meta_word >> 16u));
            }
            let at = row * params.row_words + g * words_per_group + position / 9u;
            if at != loaded { loaded = at; word = codes[at]; }
            let digit = (word / POWER[position % 9u]) % 11u;
            b.b[i][e] = bitcast<u32>(rounded(bitcast<f32>(LEVEL[digit]) * scale) + minimum);
        }
    }
    return b;
}
