// Weights of a chunk before their scale: values of the table.
fn values_at(row: u32, chunk: u32) -> Weights {
    let c = chunk_codes(row * params.row_words + chunk * BITS);
    return Weights(array<vec4<f32>, 8>(
        quad_values(c.q[0]), quad_values(c.q[1]), quad_values(c.q[2]), quad_values(c.q[3]),
        quad_values(c.q[4]), quad_values(c.q[5]), quad_values(c.q[6]), quad_values(c.q[7])));
}
