// Codes of a chunk as floats: converted.
fn float_codes_at(row: u32, chunk: u32) -> Weights {
    let c = codes_at(row, chunk);
    return Weights(array<vec4<f32>, 8>(
        vec4<f32>(c.q[0]), vec4<f32>(c.q[1]), vec4<f32>(c.q[2]), vec4<f32>(c.q[3]),
        vec4<f32>(c.q[4]), vec4<f32>(c.q[5]), vec4<f32>(c.q[6]), vec4<f32>(c.q[7])));
}
