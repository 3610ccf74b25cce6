// y = f(acc), the bias added first where there is one
fn finish(m: u32, n: u32, acc: f32) {
    y[m * params.y_stride + params.y_offset + n] = activation(biased(n, acc));
}
