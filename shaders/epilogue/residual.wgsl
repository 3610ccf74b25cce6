// y = residual + (acc + bias), the bias where HAS_BIAS
fn finish(m: u32, n: u32, acc: f32) {
    var value = acc;
    if HAS_BIAS { value += bias[params.y_offset + n]; }
    let at = m * params.y_stride + params.y_offset + n;
    y[at] = residual[at] + value;
}
