// f32, f16 and bf16: raw bits, FLOAT_KIND 0, 1, 2. Rows are padded to whole words.
fn pair_bits(word: u32) -> vec2<u32> {
    if FLOAT_KIND == 1u { return vec2<u32>(half_bits(word & 0xffffu), half_bits(word >> 16u)); }
    return vec2<u32>(word << 16u, word & 0xffff0000u);
}

fn bits_at(row: u32, chunk: u32) -> Bits {
    var b: Bits;
    if FLOAT_KIND == 0u {
        let first = row * params.row_words + chunk * CHUNK;
        for (var i = 0u; i < 8u; i++) {
            let at = first + 4u * i;
            b.b[i] = vec4<u32>(codes[at], codes[at + 1u], codes[at + 2u], codes[at + 3u]);
        }
    } else {
        let first = row * params.row_words + chunk * (CHUNK / 2u);
        for (var i = 0u; i < 8u; i++) {
            let at = first + 2u * i;
            b.b[i] = vec4<u32>(pair_bits(codes[at]), pair_bits(codes[at + 1u]));
        }
    }
    return b;
}
