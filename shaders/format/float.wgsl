// f32, f16 and bf16: raw bits, FLOAT_KIND 0, 1, 2. Rows are padded to whole words.
fn pair_bits(pair: u32) -> vec2<u32> {
    if FLOAT_KIND == 1u { return vec2<u32>(half_bits(pair & 0xffffu), half_bits(pair >> 16u)); }
    return vec2<u32>(pair << 16u, pair & 0xffff0000u);
}

fn bits_at(row: u32, chunk: u32) -> Bits {
    var b: Bits;
    if FLOAT_KIND == 0u {
        let first = row * params.row_words + chunk * CHUNK;
        for (var i = 0u; i < 8u; i++) {
            b.b[i] = four_words(first + 4u * i);
        }
    } else {
        let first = row * params.row_words + chunk * (CHUNK / 2u);
        for (var i = 0u; i < 8u; i += 2u) {
            let w = four_words(first + 2u * i);
            b.b[i] = vec4<u32>(pair_bits(w.x), pair_bits(w.y));
            b.b[i + 1u] = vec4<u32>(pair_bits(w.z), pair_bits(w.w));
        }
    }
    return b;
}
