// Weights of a chunk before their scale: codes.
fn values_at(row: u32, chunk: u32) -> Weights {
    let c = codes_at(row, chunk);
    return Weights(array<vec4<f32>, 8>(
        vec4<f32>(c.q[0]), vec4<f32>(c.q[1]), vec4<f32>(c.q[2]), vec4<f32>(c.q[3]),
        vec4<f32>(c.q[4]), vec4<f32>(c.q[5]), vec4<f32>(c.q[6]), vec4<f32>(c.q[7])));
}
fn factors_of(word: u32, index: u32) -> vec2<f32> { return vec2<f32>(bitcast<f32>(scale_bits_of(word, index)), 1.0); }
fn factors_at(row: u32, k: u32) -> vec2<f32> { return vec2<f32>(scale_at(row, k), 1.0); }
