// The float contract in terms of bits_at, for formats without integer codes.
fn weights_at(row: u32, chunk: u32) -> Weights {
    let b = bits_at(row, chunk);
    return Weights(array<vec4<f32>, 8>(
        bitcast<vec4<f32>>(b.b[0]), bitcast<vec4<f32>>(b.b[1]), bitcast<vec4<f32>>(b.b[2]), bitcast<vec4<f32>>(b.b[3]),
        bitcast<vec4<f32>>(b.b[4]), bitcast<vec4<f32>>(b.b[5]), bitcast<vec4<f32>>(b.b[6]), bitcast<vec4<f32>>(b.b[7])));
}
