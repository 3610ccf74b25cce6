// y = acc, plus the bias where there is one
fn finish(m: u32, n: u32, acc: f32) {
    y[m * params.y_stride + params.y_offset + n] = biased(n, acc);
}
