// y = f(gate) * up, biases added before where there are some: the gated MLP by one product, of which W has the rows of the
// gate and then as many of up; n is a row of the former. For kernels where an invocation owns both sums.
const GATED: bool = true;

fn finish_gated(m: u32, n: u32, gate: Sum, up: Sum) {
    y_put(sum_at(m, n), activated(biased(n, gate)) * biased(n + params.rows / 2u, up));
}

fn finish(m: u32, n: u32, acc: Sum) {}
