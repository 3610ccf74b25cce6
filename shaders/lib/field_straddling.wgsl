// Four fields at a time where some straddle two words.
fn upper_field(f: Fields, index: u32) -> u32 {
    let bit = index * BITS;
    let at = bit / 32u;
    let shift = bit % 32u;
    if shift + BITS <= 32u { return word_of(f, at) << (32u - BITS - shift); }
    // Its low part ends one word, its high part begins the next one.
    return ((word_of(f, at) >> shift) | (word_of(f, min(at + 1u, BITS - 1u)) << (32u - shift))) << (32u - BITS);
}

fn four_fields(f: Fields, i: u32) -> vec4<i32> {
    return extended(vec4<u32>(upper_field(f, 4u * i), upper_field(f, 4u * i + 1u),
                              upper_field(f, 4u * i + 2u), upper_field(f, 4u * i + 3u)));
}
