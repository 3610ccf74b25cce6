// The value of each of four codes, from the table before the scales.
fn prepare(lane: u32) {}
fn quad_values(c: vec4<i32>) -> vec4<f32> {
    return vec4<f32>(bitcast<f32>(scale_word(u32(c.x))), bitcast<f32>(scale_word(u32(c.y))),
                     bitcast<f32>(scale_word(u32(c.z))), bitcast<f32>(scale_word(u32(c.w))));
}
