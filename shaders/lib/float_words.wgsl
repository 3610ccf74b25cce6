// Codes of a quad as floats, made of the fields of its word where they are: where none straddles two words.
fn float_quad(c: Chunk, i: u32) -> vec4<f32> {
    let places = quad_places(i);
    let word = vec4<u32>(quad_word(c.f, i));
    if CODE == CODE_SIGN {  // its bit becomes the sign of one
        return bitcast<vec4<f32>>(((word << (vec4<u32>(31u) - places)) & vec4<u32>(0x80000000u)) ^ vec4<u32>(0xbf800000u));
    }
    let half_range = select(0u, 1u << (BITS - 1u), CODE == CODE_SIGNED);
    let over = select(c.zero, f32(half_range), CODE == CODE_SIGNED);
    // In the lower half of the word, as a mantissa reaches no further.
    return four_in_place(word >> (places & vec4<u32>(16u)), places & vec4<u32>(15u), BITS, half_range, over);
}
