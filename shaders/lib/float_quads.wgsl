// Codes of a chunk as floats, quad by quad.
fn float_codes_at(row: u32, chunk: u32) -> Weights {
    let c = chunk_at(row, chunk, zero_at(row, chunk));
    return Weights(array<vec4<f32>, 8>(float_quad(c, 0u), float_quad(c, 1u), float_quad(c, 2u), float_quad(c, 3u),
                                       float_quad(c, 4u), float_quad(c, 5u), float_quad(c, 6u), float_quad(c, 7u)));
}
