// BITS-wide fields of a little-endian bit stream, sign-extended (FIELD_SIGNED) or not; BITS words hold one chunk.
// The words are vectors: an array in a value, reached into by an index that is a constant only after inlining, is copied to
// memory at every call, and a driver takes long to do away with hundreds of such copies.
const_assert BITS <= 8u;
struct Fields { low: vec4<u32>, high: vec4<u32> }

// Word `i` of a chunk, 0 past its end.
fn loaded(first: u32, i: u32) -> u32 {
    if i >= BITS { return 0u; }
    return word(first + i);
}

fn load_fields(first: u32) -> Fields {
    if BITS == 8u { return Fields(four_words(first), four_words(first + 4u)); }
    if BITS == 4u { return Fields(four_words(first), vec4<u32>()); }
    return Fields(vec4<u32>(loaded(first, 0u), loaded(first, 1u), loaded(first, 2u), loaded(first, 3u)),
                  vec4<u32>(loaded(first, 4u), loaded(first, 5u), loaded(first, 6u), 0u));
}

fn word_of(f: Fields, i: u32) -> u32 {
    if i >= 4u { return f.high[i - 4u]; }
    return f.low[i];
}

// Fields in the upper bits of words as numbers.
fn extended(upper: vec4<u32>) -> vec4<i32> {
    if FIELD_SIGNED { return bitcast<vec4<i32>>(upper) >> vec4<u32>(32u - BITS); }
    return bitcast<vec4<i32>>(upper >> vec4<u32>(32u - BITS));
}
