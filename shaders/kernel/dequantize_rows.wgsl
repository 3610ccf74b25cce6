// dequantize_rows: y[m, k] = code[m, k] * scale[m], the inverse of quantize.
// Partition: one invocation per i8x4 word.
fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let at = folded(group, groups) * WORKGROUP + lane;
    let row = at / params.x_stride;
    if row >= params.m { return; }
    let word = at - row * params.x_stride;
    let values = vec4<f32>(unpack4xI8(x[at])) * x_scale[row];
    for (var e = 0u; e < 4u; e++) {
        let k = 4u * word + e;
        if k < params.cols { y[row * params.y_stride + k] = values[e]; }
    }
}
