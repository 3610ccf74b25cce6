// Four fields at a time where none straddles two words: BITS is 1, 2, 4 or 8, and a quad lies in one word.
fn quad_word(f: Fields, i: u32) -> u32 { return word_of(f, i * BITS / 8u); }

// Where in that word the fields of quad i begin.
fn quad_places(i: u32) -> vec4<u32> { return vec4<u32>((4u * BITS * i) % 32u) + BITS * vec4<u32>(0u, 1u, 2u, 3u); }

fn four_fields(f: Fields, i: u32) -> vec4<i32> {
    return extended(vec4<u32>(quad_word(f, i)) << (vec4<u32>(32u - BITS) - quad_places(i)));
}
