// The fields of a chunk.
fn chunk_codes(first: u32) -> Codes {
    let f = load_fields(first);
    return Codes(array<vec4<i32>, 8>(four_fields(f, 0u), four_fields(f, 1u), four_fields(f, 2u), four_fields(f, 3u),
                                     four_fields(f, 4u), four_fields(f, 5u), four_fields(f, 6u), four_fields(f, 7u)));
}
