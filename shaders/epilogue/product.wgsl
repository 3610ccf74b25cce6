// y = residual * acc, the bias added first where there is one: the gate of a gated MLP
fn finish(m: u32, n: u32, acc: f32) {
    let at = m * params.y_stride + params.y_offset + n;
    y[at] = residual[at] * biased(n, acc);
}
