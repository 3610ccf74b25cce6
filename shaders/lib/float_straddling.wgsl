// Codes of a quad as floats, made of the fields of words where they are: where some straddle two words.
fn float_field(f: Fields, index: u32, zero: f32) -> f32 {
    let bit = index * BITS;
    let word = word_of(f, bit / 32u);
    let shift = bit % 32u;
    let half_range = select(0u, 1u << (BITS - 1u), CODE == CODE_SIGNED);
    let over = select(zero, f32(half_range), CODE == CODE_SIGNED);
    if shift + BITS > 32u {
        let joined = (word >> shift) | (word_of(f, min(bit / 32u + 1u, BITS - 1u)) << (32u - shift));
        return in_place(joined, 0u, BITS, half_range, over);
    }
    if shift >= 16u { return in_place(word >> 16u, shift - 16u, BITS, half_range, over); }
    return in_place(word, shift, BITS, half_range, over);
}

fn float_quad(c: Chunk, i: u32) -> vec4<f32> {
    return vec4<f32>(float_field(c.f, 4u * i, c.zero), float_field(c.f, 4u * i + 1u, c.zero),
                     float_field(c.f, 4u * i + 2u, c.zero), float_field(c.f, 4u * i + 3u, c.zero));
}
