// The function of a sum of four columns.
fn activated(sum: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(activation(sum.x), activation(sum.y), activation(sum.z), activation(sum.w));
}
