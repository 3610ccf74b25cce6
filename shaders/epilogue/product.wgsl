// y = residual * acc, the bias added first where there is one: the gate of a gated MLP
fn finish(m: u32, n: u32, acc: Sum) {
    let at = sum_at(m, n);
    y_put(at, residual_at(at) * biased(n, acc));
}
